"""Traits: what each kind remembers of the events, and its value from that (SPEC 3).

What belongs here: one place per kind. What does not: reading events (``activity``), carrying memories from day to day (``profiles``).
"""

from dataclasses import replace
from datetime import date

import polars as pl

from atc_pipeline.customers import accumulators
from atc_pipeline.customers.accumulators import Accumulator, sum_of
from atc_pipeline.journeys.portfolio import Trait
from atc_pipeline.rules.numbers import MICRO, quotient


def of_trait(trait: Trait) -> tuple[Accumulator, ...]:
    """Return what a trait needs to be remembered; nothing for a percentile."""
    return tuple(replace(one, within_days=trait.within_days) for one in _of_kind(trait))


def _of_kind(trait: Trait) -> tuple[Accumulator, ...]:
    match trait.kind:
        case "count":
            return (Accumulator(f"{trait.id}.n", "add", pl.Int64()),)
        case "sum":
            return sum_of(trait.id)
        case "avg":
            return (*sum_of(trait.id), Accumulator(f"{trait.id}.n", "add", pl.Int64()))
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
        case "most_frequent" | "unique_count" | "unique_list":
            return (Accumulator(f"{trait.id}.tally", "tally", pl.String()),)
        case "percentile":
            return ()


def value_of(trait: Trait, today: date) -> pl.Expr:
    """Return a trait's value from what is remembered for it; null for a percentile, which needs everybody."""
    parts: tuple[Accumulator, ...] = of_trait(trait)
    match trait.kind:
        case "count":
            return pl.col(parts[0].name).fill_null(0)
        case "sum":
            return quotient(accumulators.total(trait.id), MICRO)
        case "avg":
            number = pl.col(parts[-1].name)
            return pl.when(number > 0).then(accumulators.total(trait.id) / (number * MICRO))
        case "min" | "max":
            return quotient(pl.col(parts[0].name), MICRO)
        case "first" | "last" | "profile":
            return pl.col(f"{trait.id}.value")
        case "days_since_first" | "days_since_last":
            return days_since(parts[0].name, today)
        case "most_frequent":
            often = pl.col(parts[0].name).list.get(_numbers(parts[0].name).list.arg_max(), null_on_oob=True).struct
            return pl.when(often.field("n") >= 2).then(often.field("value"))
        case "unique_count":
            return pl.col(parts[0].name).list.len().fill_null(0)
        case "unique_list":
            values = pl.col(parts[0].name).list.eval(pl.element().struct.field("value"))
            return values.fill_null(pl.lit([], dtype=pl.List(pl.String())))
        case "percentile":
            return pl.lit(None)


def _numbers(tally: str) -> pl.Expr:
    return pl.col(tally).list.eval(pl.element().struct.field("n"))


def days_since(column: str, today: date) -> pl.Expr:
    """Count the whole days since a date."""
    return (pl.lit(today) - pl.col(column)).dt.total_days()
