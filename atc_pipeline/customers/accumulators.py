"""Accumulators: what is remembered of a quantity, and how two memories of it merge.

An accumulator is a commutative monoid: any number of rows, in any order, merge to one (SPEC 3, "Cost").

What belongs here: the columns they take, and how today is merged into yesterday. What does not: which ones a portfolio needs
(``remembered``), and how many rows merge to one (``merging``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import polars as pl

from atc_pipeline.customers import consent
from atc_pipeline.rules.numbers import MICRO, quotient
from atc_pipeline.tables.table import MOMENT

Merge = Literal["add", "least", "greatest", "earliest", "latest", "decay", "tally", "consent"]

LOW_BITS = 28
"""A sum of values is kept in two columns, ``.high`` and ``.low``: high * 2^28 + low micro-units. Values are below 1e17 of them, so
that 2.5e10 of them fit; in one Int64 it would be 92."""

LARGEST_HIGH = 2**62
"""Where a sum is no longer trusted to fit: half of an Int64."""


@dataclass(frozen=True)
class Accumulator:
    """One remembered quantity of a customer.

    ``add``, ``least`` and ``greatest`` are one column; ``earliest`` and ``latest`` are three (``.at``, ``.id``, ``.value``:
    the value of the first or last word, ties by message id); ``decay`` is a sum halved every ``half_life_days``; ``tally`` is
    a list of different values, sorted, each with its number; ``consent`` is what ``consent.columns`` says.

    A decayed sum is that of today, or of the day in the state's column ``on``: sums that are only compared with each other are
    kept as they were when the last of them was added to, so that no age makes nothing of them.
    """

    name: str
    merge: Merge
    dtype: pl.DataType
    half_life_days: float = 1.0
    within_days: int | None = None
    on: str | None = None

    @property
    def slides(self) -> bool:
        """True for a window that is kept up by taking away the day that leaves it: numbers can be, extremes and words cannot."""
        return self.within_days is not None and self.merge in ("add", "tally")

    @property
    def is_reread(self) -> bool:
        """True for a window that is merged anew every day, from the rollups it covers."""
        return self.within_days is not None and not self.slides

    @property
    def is_word(self) -> bool:
        """True for the value of the first or last word said."""
        return self.merge in ("earliest", "latest")

    def columns(self) -> dict[str, pl.DataType]:
        """Columns and types of the daily rollup."""
        if self.is_word:
            return {f"{self.name}.at": MOMENT, f"{self.name}.id": pl.String(), f"{self.name}.value": self.dtype}
        if self.merge == "tally":
            return {self.name: pl.List(pl.Struct({"value": self.dtype, "n": pl.Int64()}))}
        if self.merge == "consent":
            return consent.columns(self.name)
        return {self.name: self.dtype}

    def state_columns(self) -> dict[str, pl.DataType]:
        """Columns and types of the running state: as in the rollup, but decayed sums are real numbers."""
        return {self.name: pl.Float64()} if self.merge == "decay" else self.columns()

    def decayed(self, age_days: pl.Expr) -> pl.Expr:
        """Weigh a rollup's micro-weights by age, in whole 1e-12 units: the sum of a group then has no rounding order."""
        return (pl.col(self.name) * self.left(age_days) * MICRO).round().cast(pl.Int128).alias(self.name)

    def left(self, age_days: pl.Expr) -> pl.Expr:
        """Say what is left of 1 after so many days."""
        return 0.5 ** (age_days / self.half_life_days)

    def absorb(self, new: str) -> Iterator[pl.Expr]:
        """Merge today's columns (the names with suffix ``new``) into the state of yesterday."""
        if self.is_word:
            at, message_id = pl.col(f"{self.name}.at"), pl.col(f"{self.name}.id")
            new_at, new_message_id = pl.col(f"{self.name}.at{new}"), pl.col(f"{self.name}.id{new}")
            if self.merge == "latest":
                is_newer = (new_at > at) | ((new_at == at) & (new_message_id > message_id))
            else:
                is_newer = (new_at < at) | ((new_at == at) & (new_message_id < message_id))
            is_taken = new_at.is_not_null() & (at.is_null() | is_newer)
            for name in self.columns():
                yield pl.when(is_taken).then(f"{name}{new}").otherwise(name).alias(name)
        elif self.merge == "least":
            yield pl.min_horizontal(self.name, f"{self.name}{new}").alias(self.name)
        elif self.merge == "greatest":
            yield pl.max_horizontal(self.name, f"{self.name}{new}").alias(self.name)
        elif self.merge == "add":
            yield (pl.col(self.name).fill_null(0) + pl.col(f"{self.name}{new}").fill_null(0)).alias(self.name)
        else:
            kept, added = pl.col(self.name).fill_null(0.0), quotient(pl.col(f"{self.name}{new}").fill_null(0), MICRO**2)
            if self.on is None:
                yield (kept * 0.5 ** (1.0 / self.half_life_days) + added).alias(self.name)
            else:
                now = pl.max_horizontal(self.on, f"{self.on}{new}")
                parts = ((kept, self.on), (added, f"{self.on}{new}"))
                faded = (part * self.left((now - pl.col(on)).dt.total_days()) for part, on in parts)
                yield pl.sum_horizontal(faded).alias(self.name)  # where there is no day there is nothing to fade


def split(micro: pl.Expr, name: str) -> pl.Expr:
    """Return the part of a number of micro-units that the column ``name`` keeps: ``.high`` or ``.low``."""
    high: pl.Expr = micro // 2**LOW_BITS
    return high if name.endswith(".high") else micro - high * 2**LOW_BITS


def total(name: str) -> pl.Expr:
    """Return a sum that is kept in two columns, in micro-units, as the real number next to it: both parts are exact as such."""
    high, low = (pl.col(f"{name}.{part}").fill_null(0).cast(pl.Float64) for part in ("high", "low"))
    return high * float(2**LOW_BITS) + low


def sum_of(name: str) -> tuple[Accumulator, Accumulator]:
    """Return the two columns that a sum of values is kept in."""
    return Accumulator(f"{name}.high", "add", pl.Int64()), Accumulator(f"{name}.low", "add", pl.Int64())


def unsafe_sums(state: pl.DataFrame) -> list[str]:
    """Name the sums that have come near to what their columns can hold."""
    names = [name for name in state.columns if name.endswith((".high", ".low")) and state.schema[name] == pl.Int64()]
    if not names or state.is_empty():
        return []
    is_large = (pl.col(names) >= LARGEST_HIGH) | (pl.col(names) <= -LARGEST_HIGH)
    flags = state.select(is_large.any()).row(0)
    return [name for name, is_unsafe in zip(names, flags, strict=True) if is_unsafe]
