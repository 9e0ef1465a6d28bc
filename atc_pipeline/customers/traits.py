"""Traits: what each kind remembers of the events, and its value from that (SPEC 3).

What belongs here: one entry per kind. What does not: its keys and type (``journeys.kinds``), reading events (``activity``), carrying
memories from day to day (``profiles``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from atc_pipeline.customers.accumulators import Accumulator, sum_of, total
from atc_pipeline.journeys.portfolio import Trait
from atc_pipeline.rules.numbers import MICRO, quotient


@dataclass(frozen=True)
class Memory:
    """What a kind of trait remembers, by the trait's id and type; and its value from that, by the trait's id and the day."""

    accumulators: Callable[[str, pl.DataType], tuple[Accumulator, ...]]
    value: Callable[[str, date], pl.Expr]


def _number(id_: str) -> Accumulator:
    return Accumulator(f"{id_}.n", "add", pl.Int64())


def _tally(id_: str, _dtype: pl.DataType) -> tuple[Accumulator, ...]:
    return (Accumulator(f"{id_}.tally", "tally", pl.String()),)


def _average(id_: str, _today: date) -> pl.Expr:
    number = pl.col(f"{id_}.n")
    return pl.when(number > 0).then(total(id_) / (number * MICRO))


def _most_frequent(id_: str, _today: date) -> pl.Expr:
    numbers = pl.col(f"{id_}.tally").list.eval(pl.element().struct.field("n"))
    often = pl.col(f"{id_}.tally").list.get(numbers.list.arg_max(), null_on_oob=True).struct
    return pl.when(often.field("n") >= 2).then(often.field("value"))


def _values(id_: str, _today: date) -> pl.Expr:
    values = pl.col(f"{id_}.tally").list.eval(pl.element().struct.field("value"))
    return values.fill_null(pl.lit([], dtype=pl.List(pl.String())))


def _word(id_: str, _today: date) -> pl.Expr:
    return pl.col(f"{id_}.value")


KINDS: Mapping[str, Memory] = {
    "count": Memory(
        lambda id_, _: (_number(id_),),
        lambda id_, _: pl.col(f"{id_}.n").fill_null(0),
    ),
    "sum": Memory(
        lambda id_, _: sum_of(id_),
        lambda id_, _: quotient(total(id_), MICRO),
    ),
    "avg": Memory(
        lambda id_, _: (*sum_of(id_), _number(id_)),
        _average,
    ),
    "min": Memory(
        lambda id_, _: (Accumulator(f"{id_}.least", "least", pl.Int64()),),
        lambda id_, _: quotient(pl.col(f"{id_}.least"), MICRO),
    ),
    "max": Memory(
        lambda id_, _: (Accumulator(f"{id_}.greatest", "greatest", pl.Int64()),),
        lambda id_, _: quotient(pl.col(f"{id_}.greatest"), MICRO),
    ),
    "first": Memory(
        lambda id_, dtype: (Accumulator(id_, "earliest", dtype),),
        _word,
    ),
    "last": Memory(
        lambda id_, dtype: (Accumulator(id_, "latest", dtype),),
        _word,
    ),
    "most_frequent": Memory(
        _tally,
        _most_frequent,
    ),
    "unique_count": Memory(
        _tally,
        lambda id_, _: pl.col(f"{id_}.tally").list.len().fill_null(0),
    ),
    "unique_list": Memory(
        _tally,
        _values,
    ),
    "days_since_first": Memory(
        lambda id_, _: (Accumulator(f"{id_}.on", "least", pl.Date()),),
        lambda id_, today: days_since(f"{id_}.on", today),
    ),
    "days_since_last": Memory(
        lambda id_, _: (Accumulator(f"{id_}.on", "greatest", pl.Date()),),
        lambda id_, today: days_since(f"{id_}.on", today),
    ),
    "percentile": Memory(
        lambda _id, _dtype: (),
        lambda _id, _today: pl.lit(None),  # needs everybody: profiles.ranked
    ),
    "profile": Memory(
        lambda id_, dtype: (Accumulator(id_, "latest", dtype),),
        _word,
    ),
}


def of_trait(trait: Trait) -> tuple[Accumulator, ...]:
    """Return what a trait needs to be remembered; nothing for a percentile."""
    accumulators = KINDS[trait.kind].accumulators(trait.id, trait.dtype)
    return tuple(replace(accumulator, within_days=trait.within_days) for accumulator in accumulators)


def value_of(trait: Trait, today: date) -> pl.Expr:
    """Return a trait's value from what is remembered for it; null for a percentile, which needs everybody."""
    return KINDS[trait.kind].value(trait.id, today)


def days_since(column: str, today: date) -> pl.Expr:
    """Count the whole days since a date."""
    return (pl.lit(today) - pl.col(column)).dt.total_days()
