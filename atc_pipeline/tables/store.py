"""Where a day's tables are read and written: a ``Store``, be it the lake, a scratch folder or memory.

A day of a step (``days``) is a function over a store; it never asks which one it is.

What belongs here: what a store is, and what is built on nothing but that. What does not: any store (``resources.storage``).
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import NamedTuple, Protocol

import polars as pl

Tables = Mapping[str, pl.DataFrame | pl.LazyFrame]
"""One day's tables by name; one that may be too large for memory is lazy."""


class MissingDayError(Exception):
    """A table has no data for a day that is needed."""


class DamagedDayError(Exception):
    """A day of a table is not what was written."""


class OlderDayError(Exception):
    """A day of a table was written without columns that are needed now."""


class WrittenBy(NamedTuple):
    """Which version of the portfolio, and of the code, wrote a day of a table; None where it does not say."""

    portfolio: str | None = None
    code: str | None = None


class Store(Protocol):
    """Tables by name and day, each day whole or absent."""

    @property
    def place(self) -> str:
        """Where it is, for messages."""

    def days(self, table: str) -> list[date]:
        """Return the days written, in order."""

    def has(self, table: str, day: date) -> bool:
        """Return whether the day was written."""

    def size(self, table: str, day: date) -> int:
        """Return how many bytes a day takes, packed as it is."""

    def lazy(self, table: str, day: date) -> pl.LazyFrame:
        """Read one day of a table lazily. Raises MissingDayError, naming what to materialize, where it was never written."""

    def scan(self, table: str, days: Iterable[date], *, may_lack: bool = False) -> pl.LazyFrame | None:
        """Read those of the days that were written, lazily; None if none was.

        The latest day says which columns there are; an earlier day that lacks one is an error when it is read, or with
        ``may_lack`` has nulls in it.
        """

    def write(
        self,
        table: str,
        day: date,
        frame: pl.DataFrame | pl.LazyFrame,
        definitions: Mapping[str, str] | None = None,
        portfolio: str | None = None,
    ) -> None:
        """Replace a day of a table in one step.

        ``definitions``: what its columns were made by; ``portfolio``: by which version of the portfolio. Both to be asked for again.
        """

    def definitions(self, table: str, day: date) -> dict[str, str]:
        """Return what a day's columns were made by, as told when it was written; nothing where nothing was told."""

    def written_by(self, table: str, day: date) -> WrittenBy:
        """Return which portfolio and which code wrote a day."""

    def note_read(self, table: str, days: Iterable[date]) -> None:
        """Count days as read that are held in memory from days before."""


def require(store: Store, table: str, day: date) -> None:
    """Raise MissingDayError, naming what to materialize, where the day was never written."""
    if not store.has(table, day):
        raise MissingDayError(f"{table} has no data for {day} in {store.place}: materialize {table} for {day} first")


def yesterday_of(store: Store, table: str, day: date, starts_on: date) -> pl.LazyFrame | None:
    """Read the day before; None on the first day of the lake.

    Raises MissingDayError where it was never written: state cannot skip a day.
    """
    return None if day <= starts_on else store.lazy(table, day - timedelta(days=1))


def window(store: Store, table: str, days: Iterable[date], since: date, *, may_lack: bool = False) -> pl.LazyFrame | None:
    """Read all of the days from ``since`` on, the first day of the lake; None if none is.

    Raises MissingDayError where one was never written: a shorter window would be a smaller number, in silence.
    """
    needed = sorted(day for day in days if day >= since)
    for day in needed:
        require(store, table, day)
    return store.scan(table, needed, may_lack=may_lack)


def with_columns(
    store: Store, table: str, day: date, columns: Mapping[str, pl.DataType], since: date, *, is_fixed: bool = False
) -> pl.LazyFrame:
    """Read one day of a table that must have these columns; more may be there. ``since``: the first day of the lake.

    Raises MissingDayError, or OlderDayError, naming the columns and the remedy: what ``journeys.yaml`` says now may not be what it
    said when the day was made. ``is_fixed``: the columns are the same for every ``journeys.yaml``, if not for every version of ours.
    """
    frame = store.lazy(table, day)
    lacking = list(_lacking(frame.collect_schema(), columns))
    if lacking:
        names = ", ".join(lacking[:_NAMED]) + (f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else "")
        if is_fixed:
            raise OlderDayError(
                f"{table} of {day} was written by an older version, without what this one needs: {names}. Materialize {table} again, "
                f"from the first day, {since}, to {day}"
            )
        raise OlderDayError(
            f"{table} of {day} was written without what journeys.yaml needs now: {names}. Run the job catch_up from the first day, "
            f"{since}, to {day}"
        )
    return frame


_NAMED = 8


def _lacking(known: Mapping[str, pl.DataType], columns: Mapping[str, pl.DataType], within: str = "") -> Iterator[str]:
    for name, dtype in columns.items():
        written = known.get(name)
        if written is None:
            yield f"{within}{name}"
        elif isinstance(dtype, pl.Struct) and isinstance(written, pl.Struct):
            yield from _lacking(pl.Schema(written.to_schema()), pl.Schema(dtype.to_schema()), f"{within}{name}.")
        elif written != dtype:
            yield f"{within}{name} (it is {written}, not {dtype})"
