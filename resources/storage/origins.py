"""What each day of each table was made from, so that whoever looks sees which days to make again.

What belongs here: keeping and comparing that. What does not: starting anything.

Beside the lake, not in its files: those are the same bytes whatever the files in the landing zone are called and however often a day
was made; this is not. A stamp says by way of which files of the landing zone a table came about: it changes when those change, and
not when a column is defined anew.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple, TypedDict

from resources.storage.files import replacing
from resources.storage.landing import LandingZone
from resources.storage.mirror import bring

LANDING = "landing"
"""What a table stands on that was made from the landing zone itself."""


class Origin(TypedDict):
    """What a day of a table was made from."""

    stamp: str
    on: dict[str, str]
    """Stamps by ``<table>/<day>``, and the signature of the landing zone's day."""
    yesterday: str | None
    """The version of its own day before."""


_FIELDS = frozenset(Origin.__annotations__)


class Stale(NamedTuple):
    """A day of a table to be made again, and why."""

    day: date
    table: str
    why: str


class Origins:
    """One small JSON file a day: table -> Origin."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[date, tuple[tuple[int, int], Mapping[str, Origin] | None]] = {}
        self._now: dict[date, Mapping[str, Origin] | None] = {}

    def refresh(self) -> None:
        """Look at the files again, and at the bucket they are in; those that have not changed are not read again."""
        bring(self.root)
        self._now.clear()

    def of(self, day: date) -> Mapping[str, Origin]:
        """Return what is known of a day; nothing of one that was made before this was kept, or whose file is damaged."""
        return self._look(day) or {}

    def damage(self, day: date) -> str | None:
        """Say which file is damaged, so that nobody knows what the day was made from; None where none is."""
        return None if self._look(day) is not None else f"{self._path(day)} is damaged: nobody can say what it was made from"

    def _look(self, day: date) -> Mapping[str, Origin] | None:
        if day not in self._now:
            self._now[day] = self._load(day)
        return self._now[day]

    def _load(self, day: date) -> Mapping[str, Origin] | None:
        path = self._path(day)
        try:
            stat = path.stat()
        except FileNotFoundError:
            return {}
        facts = stat.st_mtime_ns, stat.st_ino
        if day not in self._read or self._read[day][0] != facts:
            self._read[day] = facts, _parsed(path.read_bytes())
        return self._read[day][1]

    def note(self, day: date, made: Mapping[str, str | None], read: Iterable[tuple[str, date]], landed: str | None, days_back: int) -> None:
        """Keep what tables of a day were made from: ``made``: table -> version of its own day before, if it stands on it.

        What lies further back than ``days_back`` is stood on by way of the days between.
        """
        on = {f"{table}/{at}": self._stamp(table, at) for table, at in sorted(read) if day - timedelta(days=days_back) <= at}
        if landed is not None:
            on[LANDING] = landed
        known = dict(self.of(day))
        for table, yesterday in made.items():
            stamp = hashlib.sha256(json.dumps([table, on]).encode()).hexdigest()[:16]
            known[table] = Origin(stamp=stamp, on=on, yesterday=yesterday)
        with replacing(self._path(day)) as unfinished:
            unfinished.write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")
        self._now[day] = known

    def stale(self, day: date, written: Mapping[str, Collection[date]], signature: Callable[[date], str] | None = None) -> Iterator[Stale]:
        """Yield what of a day is missing, or stands on what is no longer so; ``written``: the days of each table."""
        known, damage = self.of(day), self.damage(day)
        for table, days in written.items():
            if day not in days:
                yield Stale(day, table, "is missing")
                continue
            if damage is not None:
                yield Stale(day, table, f"is to be made again: {damage}")
                continue
            origin = known.get(table)
            if origin is None:
                continue  # made before this was kept: nobody can say
            for upstream, stamp in origin["on"].items():
                if upstream == LANDING:
                    if signature is not None and signature(day) != stamp:
                        yield Stale(day, table, "was made from other files than are in the landing zone now")
                elif stamp != (now := self._stamp(*_named(upstream))) and now:
                    yield Stale(day, table, f"stands on an older {upstream.replace('/', ' of ')}")

    def first_stale(
        self, over: Iterable[date], written: Mapping[str, Collection[date]], last_made: str, landing: LandingZone
    ) -> Stale | None:
        """Return the first day to be made again, or for the first time because files are there for it; None where there is none.

        ``over``: the days that are over, in order. ``last_made``: the table that is there of every day since the lake has begun.
        """
        begun = min(written[last_made])
        latest = max(max(days) for days in written.values())
        arrived = {day for day in landing.days() if day > latest and landing.news(day)}
        # A table that is new in this version has no earlier days, and need not have.
        since = {table: min(days) for table, days in written.items()}
        for day in (day for day in over if day >= begun):
            if day <= latest:
                expected = {table: days for table, days in written.items() if since[table] <= day}
                stale = next(self.stale(day, expected, landing.signature), None)
                if stale is not None:
                    return stale
            elif day in arrived:
                first = latest + timedelta(days=1)  # a day without files before it is a day too
                return Stale(first, last_made, "is missing" if first == day else f"is missing, and {day} has files")
        return None

    def _stamp(self, table: str, day: date) -> str:
        return self.of(day).get(table, Origin(stamp="", on={}, yesterday=None))["stamp"]

    def _path(self, day: date) -> Path:
        return self.root / f"{day}.json"


def _parsed(text: bytes) -> Mapping[str, Origin] | None:
    """Read a file; None where it is not what was written."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    is_whole = isinstance(document, dict) and all(isinstance(origin, dict) and origin.keys() >= _FIELDS for origin in document.values())
    return document if is_whole else None


def _named(upstream: str) -> tuple[str, date]:
    table, _, day = upstream.partition("/")
    return table, date.fromisoformat(day)
