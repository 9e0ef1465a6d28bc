"""Spells go on from day to day, by one definition: which of a day's micro-segments or queues are as they should be, and which are not.

Each is recorded with its day as ``<definition>:<since>``: what it is defined by, and a fingerprint of what it was recorded with before
that and of the day from which on it is defined so. A day that stands on another day before than when it was made is told by that, too:
a queue that is built for earlier days is built again on later ones, as its waiting begins earlier.

What belongs here: comparing that, day by day. What does not: any definition (``customers.segments``, ``decision.queues``), or any table.
"""

import hashlib
from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl

from atc_pipeline.tables.store import Store

UNKNOWN = "?"
"""Recorded of what was made before this was kept, and stays as it is: nobody can say by which definition."""


class Spells:
    """What is recorded in each day of one table, held against what ``journeys.yaml`` says now."""

    def __init__(self, store: Store, table: str, named_by: str, wanted: Mapping[str, str], starts_on: date) -> None:
        """``named_by``: the column with the id. ``wanted``: id -> what it is defined by."""
        self.store, self.table, self.named_by, self.wanted, self.starts_on = store, table, named_by, wanted, starts_on

    def recorded(self, day: date) -> dict[str, str]:
        """Return what a day was made by; of one that does not say, that nobody knows it of what has rows there."""
        recorded = self.store.definitions(self.table, day)
        if recorded:
            return recorded
        there = self.store.lazy(self.table, day).select(pl.col(self.named_by).unique()).collect().to_series()
        return dict.fromkeys(there, UNKNOWN)

    def expected(self, day: date) -> dict[str, str]:
        """Return what a day is recorded with that is made now, on the day before as it is now."""
        before = self._before(day)
        return {name: _go_on(before.get(name, ""), definition, day) for name, definition in self.wanted.items()}

    def changed(self, day: date) -> list[str]:
        """Return what is to be made again, or for the first time, for the day to be as if it were made now.

        What nobody can say by which definition it was made counts as unchanged where nothing is known of the day before either.
        """
        before, recorded = self._before(day), self.recorded(day)
        trusted = {name for name in recorded if before.get(name, UNKNOWN) == UNKNOWN == recorded[name]}
        return [name for name, made_by in self.expected(day).items() if recorded.get(name) != made_by and name not in trusted]

    def _before(self, day: date) -> dict[str, str]:
        before = day - timedelta(days=1)
        return self.recorded(before) if day > self.starts_on and self.store.has(self.table, before) else {}


def _go_on(before: str, definition: str, day: date) -> str:
    """Return what is recorded of a day with what was recorded the day before: the same for as long as the definition is."""
    if before.partition(":")[0] == definition:
        return before
    return f"{definition}:{hashlib.sha256(f'{before} {day}'.encode()).hexdigest()[:8]}"
