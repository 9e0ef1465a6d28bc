"""How things stand: what is closed, what is to be run and why, what runs, and what needs somebody.

What belongs here: the state as data, what of it needs attention, and its words. What does not: finding any of it out
(``atc_pipeline.commands.standing``).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime

from atc_pipeline.escaping import plain


@dataclass(frozen=True)
class Repair:
    """The first day to be run, why, and the command that does it."""

    first: date
    last: date
    why: str
    command: str


@dataclass(frozen=True)
class FileInUse:
    """The portfolio that runs."""

    version: str | None
    since: date | None
    """The first day of the latest days in a row that it decided; None where it has decided none."""
    refused: str | None
    """What is wrong with ``journeys.yaml``, where another version runs instead, or none."""


@dataclass(frozen=True)
class Undelivered:
    """Messages of a day and channel that were to be sent and did not arrive for certain."""

    day: date
    channel: str
    status: str
    messages: int
    will_be_tried: bool
    what_to_do: str


@dataclass(frozen=True)
class Today:
    """The day that runs."""

    day: date
    files: int
    decided_at: datetime | None
    is_behind: bool
    """Whether files have come since it was decided."""


@dataclass(frozen=True)
class Status:
    """How things stand."""

    closed: date | None
    """The latest day that was decided after it was over, and all days before it."""
    missing: Sequence[date]
    late: date | None
    """The day that should be closed by now, where it is not."""
    repair: Repair | None
    """What is to be run of the days that are over."""
    file: FileInUse
    undelivered: Sequence[Undelivered]
    ledger_problem: str | None
    running: str | None
    today: Today | None
    """None where today is no day of the calendar."""
    has_begun: bool

    @property
    def needs_attention(self) -> list[str]:
        """Name what somebody has to see to; nothing where all is well."""
        return [
            name
            for name, is_so in {
                "late": self.late is not None,
                "repair": self.repair is not None and self.running is None,
                "file": self.file.refused is not None,
                "undelivered": any(not row.will_be_tried for row in self.undelivered),
                "ledger": self.ledger_problem is not None,
            }.items()
            if is_so
        ]

    def json(self) -> str:
        """Return it for machines."""
        return json.dumps(asdict(self) | {"needs_attention": self.needs_attention}, default=str, indent=2)

    def text(self) -> str:
        """Return it for people, what needs them marked."""
        lines = [*self._days(), *self._file(), *self._messages(), f"running          {self.running or 'nothing'}", *self._today()]
        verdict = "Nothing needs you." if not self.needs_attention else f"Needs you: {', '.join(self.needs_attention)}."
        return "\n".join([*lines, "", verdict])

    def _days(self) -> Iterator[str]:
        yield f"closed through   {self.closed or 'no day yet'}"
        if not self.has_begun:
            yield "days             nothing was decided yet: run the first days (README)"
        if self.missing:
            shown = ", ".join(map(str, self.missing[:_SHOWN]))
            more = f" and {len(self.missing) - _SHOWN} more" if len(self.missing) > _SHOWN else ""
            yield f"missing          {len(self.missing)} days: {shown}{more}"
        if self.late is not None:
            yield f"! late           {self.late} should be decided by now"
        if self.repair is not None:
            yield f"! to be run      {self.repair.first}...{self.repair.last}: {plain(self.repair.why, None)}"
            yield f"                 {self.repair.command}"
            yield "                 or leave it to the sensor landing_zone, if that is on"

    def _file(self) -> Iterator[str]:
        since = f"since {self.file.since}" if self.file.since else "has decided no day yet"
        yield f"portfolio        {self.file.version or 'none'}, {since}"
        if self.file.refused is not None:
            first, *rest = self.file.refused.splitlines()
            yield f"! file refused   {plain(first, None)}"
            yield from (f"                 {plain(line, None)}" for line in rest)

    def _messages(self) -> Iterator[str]:
        if self.ledger_problem is not None:
            yield f"! ledger         {plain(self.ledger_problem, None)}"
        if not self.undelivered and self.ledger_problem is None:
            yield "messages         none is unknown or failed"
        for row in self.undelivered:
            mark = "messages        " if row.will_be_tried else "! messages      "
            yield f"{mark} {row.day} {plain(row.channel)}: {row.messages:,} {row.status}. {row.what_to_do}"

    def _today(self) -> Iterator[str]:
        if self.today is None:
            yield "today            is no day of the calendar"
            return
        decided = f"decided {self.today.decided_at:%H:%M} UTC" if self.today.decided_at else "not decided yet"
        behind = ", and files have come since" if self.today.is_behind and self.today.decided_at else ""
        yield f"today            {self.today.day}: {self.today.files:,} files, {decided}{behind}"


_SHOWN = 5
