"""A store in memory: for a stretch of days that nobody needs afterwards.

What belongs here: keeping frames by table and day, as the lake keeps files. What does not: what is in them.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta

import polars as pl

from atc_pipeline.tables.store import WrittenBy, require
from resources.storage.code import code_version


class Memory:
    """A ``Store`` that keeps every table of every day as a frame, or only the last days of it."""

    def __init__(self, *, days_kept: int | None = None, whole: Collection[str] = ()) -> None:
        """``days_kept``: of a table so many days are kept before the latest; all unless said, and all of those that are ``whole``.

        What was forgotten is as if it had never been written: whoever needs it is told so.
        """
        self._days_kept, self._whole = days_kept, frozenset(whole)
        self._frames: dict[str, dict[date, pl.DataFrame]] = {}
        self._definitions: dict[tuple[str, date], dict[str, str]] = {}
        self._written_by: dict[tuple[str, date], WrittenBy] = {}

    @property
    def place(self) -> str:
        """Return where it is, for messages."""
        return "memory"

    def days(self, table: str) -> list[date]:
        """Return the days written, in order."""
        return sorted(self._frames.get(table, {}))

    def has(self, table: str, day: date) -> bool:
        """Return whether the day was written."""
        return day in self._frames.get(table, {})

    def size(self, table: str, day: date) -> int:
        """Return the bytes that a day takes."""
        return int(self.read(table, day).estimated_size())

    def read(self, table: str, day: date) -> pl.DataFrame:
        """Return one day of a table. Raises MissingDayError where it was never written."""
        require(self, table, day)
        return self._frames[table][day]

    def lazy(self, table: str, day: date) -> pl.LazyFrame:
        """Return the same to be read lazily."""
        return self.read(table, day).lazy()

    def scan(self, table: str, days: Iterable[date], *, may_lack: bool = False) -> pl.LazyFrame | None:
        """Return those of the days that were written, the latest first; None if none was.

        The latest day says which columns there are; using one that an earlier day lacks raises ColumnNotFoundError, or with
        ``may_lack`` it has nulls.
        """
        frames = [self.lazy(table, day) for day in sorted(days, reverse=True) if self.has(table, day)]
        if not frames:
            return None
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
        """Replace a day of a table, with what its columns, and the table, were made by."""
        made = frame.lazy().collect()
        frames = self._frames.setdefault(table, {})
        frames[day] = made
        if self._days_kept is not None and table not in self._whole:
            for past in [past for past in frames if past < day - timedelta(days=self._days_kept)]:
                del frames[past]
        self._definitions[table, day] = dict(definitions or {})
        self._written_by[table, day] = WrittenBy(portfolio, code_version())

    def definitions(self, table: str, day: date) -> dict[str, str]:
        """Return what a day's columns were made by; nothing where nothing was told."""
        require(self, table, day)
        return self._definitions[table, day]

    def written_by(self, table: str, day: date) -> WrittenBy:
        """Return which portfolio and which code wrote a day."""
        require(self, table, day)
        return self._written_by[table, day]

    def note_read(self, table: str, days: Iterable[date]) -> None:
        """Count nothing: nobody asks a store in memory what was read."""
