"""What is remembered about a customer so that no day rereads history: accumulators, and how two of them merge.

An accumulator is a commutative monoid: any number of rows, in any order, merge to one (SPEC 3, "Cost"). ``activity`` fills
them per customer and event date, ``profiles`` merges them into the running state and into windows.

What belongs here: which accumulators a portfolio needs, their columns, and their merges. What does not: reading events.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import polars as pl

from atc_pipeline.journeys.portfolio import Portfolio, Trait
from atc_pipeline.rules import MICRO, quotient

Merge = Literal["add", "least", "greatest", "earliest", "latest", "decay"]
AT = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Accumulator:
    """One remembered quantity of a customer.

    ``add``, ``least`` and ``greatest`` are one column; ``earliest`` and ``latest`` are three (``.at``, ``.id``, ``.value``:
    the value of the first or last word, ties by message id); ``decay`` is a sum halved every ``half_life_days``.
    """

    name: str
    merge: Merge
    dtype: pl.DataType
    half_life_days: float = 1.0

    @property
    def is_word(self) -> bool:
        """True for the value of the first or last word said."""
        return self.merge in ("earliest", "latest")

    def columns(self) -> dict[str, pl.DataType]:
        """Columns and types of the daily rollup."""
        if self.is_word:
            return {f"{self.name}.at": AT, f"{self.name}.id": pl.String(), f"{self.name}.value": self.dtype}
        return {self.name: self.dtype}

    def state_columns(self) -> dict[str, pl.DataType]:
        """Columns and types of the running state: as in the rollup, but decayed sums are real numbers."""
        return {self.name: pl.Float64()} if self.merge == "decay" else self.columns()

    def gather(self, where: pl.Expr | None = None) -> Iterator[pl.Expr]:
        """Merge the rows of a group, those for which ``where`` holds, into one."""

        def column(name: str) -> pl.Expr:
            return pl.col(name) if where is None else pl.col(name).filter(where)

        if self.is_word:
            order = [column(f"{self.name}.at"), column(f"{self.name}.id")]
            for name in self.columns():
                ordered = column(name).sort_by(order, descending=self.merge == "latest", nulls_last=True)
                yield ordered.first().alias(name)
        elif self.merge == "least":
            yield column(self.name).min().alias(self.name)
        elif self.merge == "greatest":
            yield column(self.name).max().alias(self.name)
        else:
            yield column(self.name).sum().alias(self.name)

    def decayed(self, age_days: pl.Expr) -> pl.Expr:
        """Weigh a rollup's micro-weights by age, in whole 1e-12 units: the sum of a group then has no rounding order."""
        weight = pl.col(self.name) * (0.5 ** (age_days / self.half_life_days)) * MICRO
        return weight.round().cast(pl.Int64).alias(self.name)

    def absorb(self, new: str) -> Iterator[pl.Expr]:
        """Merge today's columns (the names with suffix ``new``) into the state of yesterday."""
        if self.is_word:
            at, said = pl.col(f"{self.name}.at"), pl.col(f"{self.name}.id")
            new_at, new_said = pl.col(f"{self.name}.at{new}"), pl.col(f"{self.name}.id{new}")
            if self.merge == "latest":
                is_newer = (new_at > at) | ((new_at == at) & (new_said > said))
            else:
                is_newer = (new_at < at) | ((new_at == at) & (new_said < said))
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
            kept = pl.col(self.name).fill_null(0.0) * 0.5 ** (1.0 / self.half_life_days)
            yield (kept + quotient(pl.col(f"{self.name}{new}").fill_null(0), MICRO**2)).alias(self.name)


def of_trait(trait: Trait) -> tuple[Accumulator, ...]:
    """Return what a trait needs to be remembered; nothing for a percentile."""
    match trait.kind:
        case "count":
            return (Accumulator(f"{trait.id}.n", "add", pl.Int64()),)
        case "sum":
            return (Accumulator(f"{trait.id}.total", "add", pl.Int64()),)
        case "avg":
            return (Accumulator(f"{trait.id}.total", "add", pl.Int64()), Accumulator(f"{trait.id}.n", "add", pl.Int64()))
        case "min":
            return (Accumulator(f"{trait.id}.least", "least", pl.Int64()),)
        case "max":
            return (Accumulator(f"{trait.id}.greatest", "greatest", pl.Int64()),)
        case "first":
            return (Accumulator(trait.id, "earliest", trait.dtype),)
        case "last" | "profile":
            return (Accumulator(trait.id, "latest", trait.dtype),)
        case "days_since_first":
            return (Accumulator(f"{trait.id}.on", "least", pl.Date()),)
        case "days_since_last":
            return (Accumulator(f"{trait.id}.on", "greatest", pl.Date()),)
        case _:
            return ()


def remembered(portfolio: Portfolio) -> list[Accumulator]:
    """Return all accumulators of the running state: everything without a window."""
    return [
        Accumulator("timezone", "latest", pl.String()),
        *(Accumulator(f"consent_{channel.id}", "latest", pl.Boolean()) for channel in portfolio.channels),
        *(Accumulator(f"interest_{topic.id}", "decay", pl.Int64(), portfolio.interest_half_life_days) for topic in portfolio.topics),
        *(Accumulator(f"intent_{intent.id}", "decay", pl.Int64(), intent.half_life_days) for intent in portfolio.intents),
        *engagement(portfolio),
        *(part for trait in portfolio.traits if trait.within_days is None for part in of_trait(trait)),
    ]


def engagement(portfolio: Portfolio) -> list[Accumulator]:
    """Return decayed touches and decayed responses, if the portfolio defines engagement."""
    if portfolio.engagement is None:
        return []
    half_life = portfolio.engagement.half_life_days
    return [Accumulator(f"engagement.{side}", "decay", pl.Int64(), half_life) for side in ("touches", "responses")]


def windowed(portfolio: Portfolio) -> list[tuple[Trait, int]]:
    """Return the traits that look back a number of days, with that number."""
    return [(trait, trait.within_days) for trait in portfolio.traits if trait.within_days is not None]


def goals(portfolio: Portfolio) -> list[Accumulator]:
    """Return one count per event that is some journey's goal."""
    events = sorted({journey.goal.event for journey in portfolio.journeys if journey.goal})
    return [Accumulator(goal_column(event), "add", pl.Int64()) for event in events]


def goal_column(event: str) -> str:
    """Name the rollup's count of a goal event."""
    return f"goal.{event}"


def rollup_schema(portfolio: Portfolio) -> dict[str, pl.DataType]:
    """Columns and types of ``customer_activity``."""
    accumulators = [
        *remembered(portfolio),
        *(part for trait, _ in windowed(portfolio) for part in of_trait(trait)),
        *goals(portfolio),
    ]
    keys = {"date": pl.Date(), "customer_id": pl.String(), "event_date": pl.Date(), "events": pl.Int64()}
    return keys | {name: dtype for accumulator in accumulators for name, dtype in accumulator.columns().items()}
