"""All days of a table, kept in memory from one day to the next.

What belongs here: what is kept, and for how long. What does not: what is made of it; a window of days (``rolling``).
"""

from collections.abc import Mapping
from datetime import date, timedelta
from itertools import pairwise

import polars as pl

from atc_pipeline.tables.store import MissingDayError, Store, with_columns


class Growing:
    """All days of a table up to a day, for a run that goes through days in order: each is read once, while all of them are small.

    A lake that is older than the table has no days of it before its first; after that none may be missing.
    """

    LARGEST_KEPT = 256 * 2**20
    """Bytes of Parquet up to which days are kept; more are scanned lazily, day by day."""

    def __init__(self, store: Store, table: str, columns: Mapping[str, pl.DataType], since: date) -> None:
        """Keep these columns; days that were written before there was one have nulls in it. ``since``: the first day of the lake."""
        self.store, self.table, self.columns, self.since = store, table, dict(columns), since
        self._kept: list[pl.DataFrame] = []
        self._days: list[date] = []
        self._bytes = 0

    def until(self, day: date) -> pl.LazyFrame:
        """Read a day and all before it. Raises MissingDayError, and OlderDayError where the day lacks a column."""
        with_columns(self.store, self.table, day, self.columns, self.since)
        is_next = self._days[-1:] == [day - timedelta(days=1)]
        days = [*self._days, day] if is_next else self._all_until(day)
        new = days[-1:] if is_next else days
        self.store.note_read(self.table, days)
        self._bytes = (self._bytes if is_next else 0) + sum(self.store.size(self.table, at) for at in new)
        if self._bytes > self.LARGEST_KEPT:
            self._kept, self._days = [], []
            return self._scan(days)
        if not is_next:
            self._kept = []
        self._kept.append(self._scan(new).collect().rechunk())
        self._days = days
        if len(self._kept) > _MOST_PARTS:
            self._kept = [pl.concat(self._kept, rechunk=True)]
        return pl.concat(self._kept).lazy()

    def _all_until(self, day: date) -> list[date]:
        days = [at for at in self.store.days(self.table) if self.since <= at <= day]
        for before, after in pairwise(days):
            if after - before > timedelta(days=1):
                missing = before + timedelta(days=1)
                raise MissingDayError(
                    f"{self.table} has no data for {missing} in {self.store.place}: materialize {self.table} for {missing} first"
                )
        return days

    def _scan(self, days: list[date]) -> pl.LazyFrame:
        rows = self.store.scan(self.table, days, may_lack=True)
        assert rows is not None  # there is a day at least
        return rows.select(self.columns.keys())


_MOST_PARTS = 32
