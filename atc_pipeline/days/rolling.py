"""The last days of a table, kept in memory from one day to the next.

What belongs here: what is kept, and for how long. What does not: what is made of it.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import polars as pl

from atc_pipeline.tables.store import Store, require, with_columns


class Rolling:
    """The last days of a table, for a run that goes through days in order.

    Days are kept in memory from one to the next while their files are small: a year of daily runs over a window of 90
    days would otherwise open each file 90 times (measured: 120 ms a day for a window of 33,000 rows, 2 ms kept).
    """

    MOST_CHUNKS = 32
    LARGEST_KEPT = 64 * 2**20
    """Bytes of Parquet up to which days are kept; a larger window is scanned lazily, day by day."""

    def __init__(
        self,
        store: Store,
        table: str,
        days_before: int,
        columns: Mapping[str, pl.DataType],
        *,
        since: date,
        may_lack: bool = False,
        is_fixed: bool = False,
    ) -> None:
        """Keep these columns, of days from ``since`` on, the first day of the lake.

        ``may_lack``: days before the last one that were written before a column existed have nulls in it, else they are refused.
        ``is_fixed``: as of ``with_columns``.
        """
        self.store, self.table, self.days_before, self.columns, self.since = store, table, days_before, dict(columns), since
        self.may_lack, self.is_fixed = may_lack, is_fixed
        self._kept: pl.DataFrame | None = None
        self._until: date | None = None
        self._sizes: dict[date, int] = {}

    def until(self, day: date) -> pl.LazyFrame:
        """Read a day and the days before it, which must be there; some that are older may be among them.

        Raises MissingDayError, or OlderDayError where a day lacks a column it must have.
        """
        first = day - timedelta(days=self.days_before)
        window = [first + timedelta(days=number) for number in range(self.days_before + 1)]
        is_next = self._kept is not None and self._until == day - timedelta(days=1)
        new = [at for at in ([day] if is_next else window) if at >= self.since or at == day]
        for at in new:
            require(self.store, self.table, at)
        self.store.note_read(self.table, [at for at in window if at >= self.since])
        sizes = {at: self.store.size(self.table, at) for at in new}
        if is_next:
            sizes = {at: size for at, size in self._sizes.items() if at >= first} | sizes
        self._sizes = sizes
        if sum(sizes.values()) > self.LARGEST_KEPT:
            self._kept = None
            return self._scan(list(sizes))
        if self._kept is not None and is_next:
            # Days that are over are dropped now and then: to copy what is kept would cost more than to keep it (20 ms a day).
            kept = self._kept if self._kept.n_chunks() < self.MOST_CHUNKS else self._kept.filter(pl.col("date") >= first).rechunk()
            kept = kept.vstack(self._scan([day]).collect())
        else:
            kept = self._scan(list(sizes)).collect().rechunk()
        self._kept, self._until = kept, day
        return kept.lazy()

    def _scan(self, days: Sequence[date]) -> pl.LazyFrame:
        for day in days[-1:] if self.may_lack else days:
            with_columns(self.store, self.table, day, self.columns, self.since, is_fixed=self.is_fixed)
        rows = self.store.scan(self.table, days, may_lack=self.may_lack)
        assert rows is not None  # there is a day at least
        return rows.select(self.columns.keys())
