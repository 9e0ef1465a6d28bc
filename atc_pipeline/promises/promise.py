"""What a promise is: what must hold of a table, in words, and how the rows that break it are found.

Rules compare frames that hold one or more days, told apart by ``date``; a ``yesterday`` frame is the same table one day earlier.
``absorbed`` has one row per ``date`` and customer of the day before who was ``absorbed`` by ``customer_id``.

What belongs here: what promises share. What does not: any promise (a module for each of the rooms that is promised about), running
them as checks (``assets.checks``), what one table looks like by itself (``tables``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from atc_pipeline.identity.map import absorbed_by
from atc_pipeline.identity.tables import IDENTITY_CHANGES
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.tables.store import Store

Find = Callable[[Store, Portfolio, Sequence[date]], pl.DataFrame]
"""Finds the rows of these days that break a promise: ``date`` and whatever tells the reader more."""

Source = Callable[[Store, Sequence[date]], pl.LazyFrame | None]
"""Reads what of a table belongs to these days; None where there is none of it at all."""


@dataclass(frozen=True)
class Promise:
    """What must hold of a table: its name, what it says, and what to do where it fails; how the rows that break it are found."""

    table: str
    name: str
    says: str
    find: Find
    is_blocking: bool = True
    is_error: bool = False
    """Whether it is red where it fails, though nothing waits for it; what blocks is red anyway."""


def table(name: str, shift: int = 0) -> Source:
    """Read a table of so many days before each."""
    return lambda store, days: store.scan(name, [day - timedelta(days=shift) for day in days])


def between(rule: Callable[..., pl.LazyFrame], *sources: Source) -> Find:
    """Apply a rule to these tables; where one has no day at all there is nothing to compare."""

    def find(store: Store, _: Portfolio, days: Sequence[date]) -> pl.DataFrame:
        frames = [source(store, days) for source in sources]
        return pl.DataFrame() if any(frame is None for frame in frames) else rule(*frames).collect()

    return find


def after_first_day(rule: Callable[..., pl.LazyFrame], of: str, *more: Source) -> Find:
    """Apply a rule between a day of a table, the day before, and other tables; the first day of the lake has no day before."""

    def find(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
        later = [day for day in days if day > portfolio.starts_on]
        return between(rule, table(of), table(of, shift=1), *more)(store, portfolio, later)

    return find


def absorbed_on(store: Store, days: Sequence[date]) -> pl.LazyFrame:
    """Read who was absorbed on these days."""
    changes = store.scan("identity_changes", days)
    return absorbed_by(pl.LazyFrame(schema=IDENTITY_CHANGES.schema) if changes is None else changes)


def day_before(of: str, schema: Mapping[str, pl.DataType]) -> Source:
    """Read the day before each; before the first day of the lake there was nothing."""

    def read(store: Store, days: Sequence[date]) -> pl.LazyFrame:
        before = table(of, shift=1)(store, days)
        return pl.LazyFrame(schema=schema) if before is None else before

    return read


def a_day_later(yesterday: pl.LazyFrame, absorbed: pl.LazyFrame) -> pl.LazyFrame:
    """Date yesterday's rows by the day after, under the names of those who absorbed their customers."""
    who = absorbed.select("date", pl.col("absorbed").alias("customer_id"), pl.col("customer_id").alias("survivor:"))
    return (
        yesterday.with_columns(pl.col("date").dt.offset_by("1d"))
        .join(who, on=["date", "customer_id"], how="left")
        .with_columns(customer_id=pl.coalesce("survivor:", "customer_id"))
        .drop("survivor:")
    )
