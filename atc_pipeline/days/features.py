"""Days are made by definitions: those made by others are not mixed, and only what has changed is made again.

What belongs here: comparing what a day was made by with what ``journeys.yaml`` says now. What does not: any table.
"""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from atc_pipeline.tables.store import Store

CALENDAR = "calendar"
SINCE = "calendar.starts_on"
"""The first day of all that a day stands on."""
_NAMED = 8


class OutdatedDayError(Exception):
    """A day that is needed was made by other definitions than those of today."""


class Definitions:
    """What the features of a portfolio are defined by, held against what days were made by."""

    def __init__(self, store: Store, wanted: Mapping[str, str], starts_on: date) -> None:
        """``wanted``: feature -> fingerprint, as of today's ``journeys.yaml``."""
        self.store, self.wanted, self.starts_on = store, wanted, starts_on
        self.with_history = {**wanted, SINCE: starts_on.isoformat()}
        """What a day is made by that stands on all days before it."""
        self._agreed: set[tuple[str, date]] = set()

    def changed(self, table: str, day: date) -> list[str]:
        """Return the features that the day was made without, or by other definitions.

        Raises OutdatedDayError where the time zone has changed: events then fall on other days; and where there is earlier history
        than when the day was made.
        """
        made_by = self.store.definitions(table, day)
        if not made_by:
            raise OutdatedDayError(
                f"{table} of {day} does not say what it was made by: materialize everything again from {self.starts_on} on"
            )
        since = made_by.get(SINCE, "")
        if since > self.starts_on.isoformat():
            raise OutdatedDayError(
                f"{table} of {day} knows nothing of the days before {since}: materialize everything again from {self.starts_on} on"
            )
        changed = [feature for feature, definition in self.wanted.items() if made_by.get(feature) != definition]
        if CALENDAR in changed:
            raise OutdatedDayError(
                f"{table} of {day} was made for another time zone: materialize everything again from {self.starts_on} on"
            )
        return changed

    def agrees(self, table: str, day: date) -> bool:
        """Return whether the day was made by these definitions, and by no others beside."""
        made_by = self.store.definitions(table, day)
        return {name: definition for name, definition in made_by.items() if name != SINCE} == dict(self.wanted)

    def require(self, table: str, days: Iterable[date]) -> None:
        """Raise OutdatedDayError, naming features and the remedy, unless these days (those that there are) agree with today."""
        for day in days:
            if (table, day) in self._agreed or not self.store.has(table, day):
                continue
            changed = self.changed(table, day)
            if changed:
                names = ", ".join(changed[:_NAMED]) + (f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else "")
                raise OutdatedDayError(
                    f"new or defined otherwise since {table} of {day} was made: {names}. "
                    f"Run the job catch_up from {self.starts_on} to {day}: it makes only these again"
                )
            self._agreed.add((table, day))

    def require_window(self, table: str, day: date, days_before: int) -> None:
        """Require agreement of a day and of those before it."""
        self.require(table, (day - timedelta(days=ago) for ago in range(days_before + 1)))
