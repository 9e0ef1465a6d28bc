"""Which days are to be run: for the first time, again, and through which day; and which are closed.

What belongs here: what the sensor, the schedule, the check of freshness and ``status`` ask alike. What does not: what a day was made
from (``origins``), starting a run (``assets.jobs``).
"""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.origins import Origins, Stale

LAST_MADE = "journey_assignments"
"""A lake in which nothing was ever decided has not begun."""
DECIDED_BY = time(7)
"""Until when, where the business is, the day just over is to be decided: two hours after the schedule runs it."""


class Days:
    """The days of the calendar up to today, as a lake and a landing zone have them now."""

    def __init__(
        self,
        lake: Lake,
        landing: LandingZone,
        tables: Collection[str],
        days: Sequence[date],
        today: date,
        origins: Origins | None = None,
    ) -> None:
        """``tables``: all that a day is made of. ``days``: those of the calendar that have begun, in order.

        ``origins``: what days were made from, kept by whoever looks again and again: what has not changed is not read again.
        """
        self.lake, self.landing, self.days, self.today = lake, landing, days, today
        self.origins = origins or lake.origins
        self.origins.refresh()
        self.written = {table: set(written) for table in tables if (written := lake.days(table))}

    @property
    def have_begun(self) -> bool:
        """Return whether anything was ever decided."""
        return LAST_MADE in self.written and bool(self.days)

    @property
    def over(self) -> list[date]:
        """Return the days that are over."""
        return [day for day in self.days if day < self.today]

    def first_stale(self, days: Sequence[date]) -> Stale | None:
        """Return the first of the days to be run, and why; a day without files waits for one that has some, or for the schedule."""
        return self.origins.first_stale(days, self.written, LAST_MADE, self.landing) if self.have_begun and days else None

    def missing(self) -> list[date]:
        """Return the days over that were not decided, since the first that was."""
        if not self.have_begun:
            return []
        decided = self.written[LAST_MADE]
        return [day for day in self.over if day >= min(decided) and day not in decided]

    def last_to_run(self) -> date:
        """Return the day through which a run goes: today once it has begun, with files or by having been run; else yesterday."""
        has_begun = self.today in self.written.get(LAST_MADE, ()) or bool(self.landing.news(self.today))
        return self.days[-1] if self.days[-1] != self.today or has_begun else self.days[-1] - timedelta(days=1)


def day_at(now: datetime, timezone: str) -> date:
    """Return which day it is where the business is."""
    return now.astimezone(ZoneInfo(timezone)).date()


def is_closed(lake: Lake, day: date, timezone: str) -> bool:
    """Return whether a day was decided after it was over, and not only while it ran."""
    ended = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(timezone))
    return lake.has(LAST_MADE, day) and lake.written_at(LAST_MADE, day) >= ended.astimezone(UTC)


def due_by(now: datetime, timezone: str) -> date:
    """Return the latest day that should be closed by now: the day just over, from ``DECIDED_BY`` on."""
    local = now.astimezone(ZoneInfo(timezone))
    return local.date() - timedelta(days=1 if local.time() >= DECIDED_BY else 2)


def command(first: date | str, last: date | str, selection: str = "*") -> str:
    """Return the command that makes these tables, or all, on these days."""
    days = f"--partition {first}" if first == last else f"--partition-range {first}...{last}"
    return f"dagster asset materialize -m atc_pipeline.definitions --select '{selection}' {days}"
