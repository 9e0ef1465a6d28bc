"""A store over another one: what is written goes to the one above, what was not is read from the one below, which stays as it is.

What belongs here: choosing between two stores. What does not: keeping anything (``memory``, ``scratch``, ``lake``).
"""

from collections.abc import Iterable, Mapping
from datetime import date

import polars as pl

from atc_pipeline.tables.store import Store, WrittenBy


class Overlay:
    """A ``Store``: days that were written through it hide those below."""

    def __init__(self, below: Store, above: Store) -> None:
        self.below, self.above = below, above

    @property
    def place(self) -> str:
        """Return where it is, for messages."""
        return self.below.place

    def days(self, table: str) -> list[date]:
        """Return the days there are, in order."""
        return sorted({*self.below.days(table), *self.above.days(table)})

    def has(self, table: str, day: date) -> bool:
        """Return whether there is the day."""
        return self.above.has(table, day) or self.below.has(table, day)

    def size(self, table: str, day: date) -> int:
        """Return the bytes that a day takes."""
        return self._of(table, day).size(table, day)

    def lazy(self, table: str, day: date) -> pl.LazyFrame:
        """Read one day of a table lazily. Raises MissingDayError where it is in neither store."""
        return self._of(table, day).lazy(table, day)

    def scan(self, table: str, days: Iterable[date], *, may_lack: bool = False) -> pl.LazyFrame | None:
        """Read those of the days that there are, the latest first; None if there is none.

        The latest day says which columns there are, as of any store.
        """
        there = sorted({day for day in days if self.has(table, day)}, reverse=True)
        above = [day for day in there if self.above.has(table, day)]
        if len(above) in {0, len(there)}:
            return (self.above if above else self.below).scan(table, there, may_lack=may_lack)
        frames = [self._of(table, day).lazy(table, day) for day in there]
        columns = frames[0].collect_schema().names()
        return pl.concat(frames, how="diagonal").select(columns) if may_lack else pl.concat(frame.select(columns) for frame in frames)

    def write(
        self,
        table: str,
        day: date,
        frame: pl.DataFrame | pl.LazyFrame,
        definitions: Mapping[str, str] | None = None,
        portfolio: str | None = None,
    ) -> None:
        """Write a day to the store above."""
        self.above.write(table, day, frame, definitions, portfolio)

    def definitions(self, table: str, day: date) -> dict[str, str]:
        """Return what a day's columns were made by; nothing where nothing was said."""
        return self._of(table, day).definitions(table, day)

    def written_by(self, table: str, day: date) -> WrittenBy:
        """Return which portfolio and which code wrote a day."""
        return self._of(table, day).written_by(table, day)

    def note_read(self, table: str, days: Iterable[date]) -> None:
        """Count nothing: what is read for a trial is no origin of anything."""

    def _of(self, table: str, day: date) -> Store:
        return self.above if self.above.has(table, day) else self.below
