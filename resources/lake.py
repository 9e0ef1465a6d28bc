"""The lake: one Parquet file per table and day, whole or absent.

What belongs here: where tables live, reading and writing them. What does not: what is in them.
"""

import os
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl


class MissingDayError(Exception):
    """A table has no data for a day that is needed."""


class Lake(dg.ConfigurableResource):
    """Tables as ``<root>/<table>/date=<YYYY-MM-DD>/part.parquet``; readers never meet a half-written file or a lock."""

    root: str

    def path(self, table: str, day: date) -> Path:
        """Return where a table keeps a day."""
        return Path(self.root) / table / f"date={day}" / "part.parquet"

    def has(self, table: str, day: date) -> bool:
        """Return whether the day was written."""
        return self.path(table, day).exists()

    def days(self, table: str) -> list[date]:
        """Return the days written, in order."""
        folder = Path(self.root) / table
        return sorted(date.fromisoformat(path.parent.name.removeprefix("date=")) for path in folder.glob("date=*/part.parquet"))

    def write(self, table: str, day: date, frame: pl.DataFrame) -> pl.DataFrame:
        """Replace a day of a table in one step, and return the frame.

        The new file is complete and renamed over the old one: a process killed here leaves the old day or the new one.
        """
        path = self.path(table, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(".part.parquet.unfinished")
        frame.write_parquet(unfinished, compression="zstd")
        os.replace(unfinished, path)
        return frame

    def read(self, table: str, day: date) -> pl.DataFrame:
        """Read one day of a table.

        Raises MissingDayError, naming what to materialize, where the day was never written.
        """
        self._require(table, day)
        return pl.read_parquet(self.path(table, day), hive_partitioning=False)

    def scan(self, table: str, days: Iterable[date]) -> pl.LazyFrame | None:
        """Read those of the days that were written, lazily; None if none was.

        The latest day says which columns there are; collecting raises SchemaError where an earlier day lacks one.
        """
        paths = [path for day in sorted(days, reverse=True) if (path := self.path(table, day)).exists()]
        return pl.scan_parquet(paths, hive_partitioning=False, extra_columns="ignore") if paths else None

    def rolling(self, table: str, day: date, days_before: int) -> pl.LazyFrame:
        """Read a day, which must be there, and those written of the days before it, lazily."""
        self._require(table, day)
        window = self.scan(table, [day - timedelta(days=ago) for ago in range(days_before + 1)])
        assert window is not None  # the day itself is there
        return window

    def _require(self, table: str, day: date) -> None:
        if not self.has(table, day):
            raise MissingDayError(f"{table} has no data for {day} in {self.root}: materialize {table} for {day} first")
