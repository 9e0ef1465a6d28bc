"""Rows of numbered groups to one row per group: what the accumulators of its rows merge to.

Whoever merges numbers the groups first, from 0 on. A group is then a place in an array: sums and extremes are added up where they belong,
and what comes out stands in the order of the numbers, to be put beside other columns without a join.

What belongs here: merging the rows of a group, for every kind of accumulator. What does not: merging today into yesterday
(``accumulators``), and which of a customer's words about consent stand (``consent``).
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from atc_pipeline.customers import consent
from atc_pipeline.customers.accumulators import Accumulator

_NUMBERS = ("add", "decay", "least", "greatest")
_AT = {"least": np.minimum.at, "greatest": np.maximum.at}
_NOTHING = {"least": np.iinfo(np.int64).max, "greatest": np.iinfo(np.int64).min}
"""Stands for no value: none of ours is that large."""


def merged(facts: Sequence[pl.DataFrame], number: str, groups: int, accumulators: Iterable[Accumulator]) -> pl.DataFrame:
    """One row per group, in order: a sum without rows is 0, anything else null.

    ``facts``: frames with the column ``number`` (UInt32, below ``groups``) and the columns of some accumulators, null where a row adds
    nothing; a tally as in the rollup, or one value a row.
    """
    accumulators = list(accumulators)
    numbers = _numbers(facts, number, groups, {part.name: part.merge for part in accumulators if part.merge in _NUMBERS})
    columns: list[pl.Series | pl.Expr] = []
    for accumulator in accumulators:
        if accumulator.merge in _NOTHING:
            value = pl.lit(numbers[accumulator.name])
            is_there = value != _NOTHING[accumulator.merge]
            columns.append(pl.when(is_there).then(value).cast(accumulator.dtype).alias(accumulator.name))
        elif accumulator.merge in _NUMBERS:
            columns.append(numbers[accumulator.name])
        else:
            rows = _lists_and_words(facts, number, groups, accumulator)
            columns += _placed(rows, number, groups) if rows.height else _nulls(accumulator, groups)
    return pl.select(columns)


def tally(rows: pl.DataFrame, number: str, name: str) -> pl.DataFrame:
    """One row per group with a value left, in order: the tally of ``value``, each as often as its numbers ``n`` add up to."""
    values = rows["value"].unique().sort()
    if values.dtype == pl.String:
        places = rows["value"].cast(pl.Enum(values)).to_physical().to_numpy()
    else:
        places = np.searchsorted(values.to_physical().to_numpy(), rows["value"].to_physical().to_numpy())
    kinds = rows[number].to_numpy() * np.int64(values.len()) + places
    order = np.argsort(kinds)
    kinds = kinds[order]
    starts = np.flatnonzero(np.diff(kinds, prepend=-1))
    numbers, places = np.divmod(kinds[starts], values.len())
    counted = pl.DataFrame(
        {number: numbers.astype(np.uint32), "value": values.gather(places), "n": np.add.reduceat(rows["n"].to_numpy()[order], starts)}
    )
    left = counted.lazy().filter(pl.col("n") != 0).with_columns(pl.col(number).set_sorted())
    return left.group_by(number, maintain_order=True).agg(pl.struct("value", "n").alias(name)).collect()


def spread(facts: Sequence[pl.DataFrame], number: str, name: str) -> pl.DataFrame:
    """One row per row of ``facts`` and value of its tally: ``value`` (of type Null where there is none at all) and ``n``."""
    there = [rows.lazy() for rows in facts if name in rows.columns and rows[name].null_count() < rows.height]
    if not there:
        return pl.DataFrame(schema={number: pl.UInt32(), "value": pl.Null(), "n": pl.Int64()})
    rows = pl.concat([rows.select(number, name) for rows in there])
    return rows.explode(name, empty_as_null=False, keep_nulls=False).unnest(name).collect()


def places_of(numbers: pl.Series, groups: int) -> pl.Series:
    """Return in which row the number of each group is, null where it is in none: what to gather by."""
    rows = np.full(groups, -1)
    rows[numbers.to_numpy()] = np.arange(numbers.len())
    return pl.Series(rows).cast(pl.UInt32, strict=False)


def _placed(rows: pl.DataFrame, number: str, groups: int) -> list[pl.Series]:
    """Return the columns of a row for some groups as columns of all groups."""
    if rows.height == groups and rows[number].is_sorted():
        return rows.drop(number).get_columns()
    return rows.select(pl.exclude(number).gather(places_of(rows[number], groups))).get_columns()


def _nulls(accumulator: Accumulator, groups: int) -> list[pl.Expr]:
    return [pl.repeat(None, groups, dtype=dtype).alias(name) for name, dtype in accumulator.columns().items()]


def _numbers(facts: Sequence[pl.DataFrame], number: str, groups: int, merges: Mapping[str, str]) -> dict[str, pl.Series]:
    """Return the sums and extremes, by name; ``merges``: the way each is merged."""
    totals = {name: np.full(groups, _NOTHING.get(merge, 0)) for name, merge in merges.items()}
    sums: dict[str, pl.Series] = {}
    for rows in (rows for rows in facts if rows.height):
        wide = [name for name, dtype in rows.schema.items() if dtype == pl.Int128() and name in merges]
        if wide:  # NumPy has no integers of that size; only decayed sums are, and all of those are in one frame
            added = rows.lazy().select(number, *wide).group_by(number).agg(pl.col(wide).sum()).collect()
            sums |= {column.name: column.fill_null(0) for column in _placed(added, number, groups)}
        there = [name for name in rows.columns if name in merges and name not in wide]
        values = (pl.col(name).to_physical().cast(pl.Int64).fill_null(_NOTHING.get(merges[name], 0)) for name in there)
        filled = rows.select(number, *values)
        places = filled[number].to_numpy()
        for name in there:
            _AT.get(merges[name], np.add.at)(totals[name], places, filled[name].to_numpy())
    return {name: pl.Series(name, total) for name, total in totals.items()} | sums


def _lists_and_words(facts: Sequence[pl.DataFrame], number: str, groups: int, accumulator: Accumulator) -> pl.DataFrame:
    """One row per group in which there is a word or a value to tally, with what they merge to."""
    name, *rest = names = list(accumulator.columns())
    parts = [rows for rows in facts if name in rows.columns and any(rows[column].null_count() < rows.height for column in names)]
    if accumulator.merge == "tally":
        if not parts or isinstance(parts[0][name].dtype, pl.List):
            values = spread(parts, number, name)
        else:
            values = pl.concat(rows.select(number, value=name, n=pl.lit(1, dtype=pl.Int64)).drop_nulls("value") for rows in parts)
        return tally(values, number, name) if values.height else values
    is_there = consent.is_said(accumulator.name) if accumulator.merge == "consent" else pl.col(name).is_not_null()
    if not parts:
        return pl.DataFrame()
    rows = pl.concat(rows.select(number, name, *rest).filter(is_there) for rows in parts)
    if accumulator.is_word:
        return _word(rows, number, groups, accumulator)
    return consent.merged(rows.lazy(), [number], accumulator.name).collect()


def _word(rows: pl.DataFrame, number: str, groups: int, accumulator: Accumulator) -> pl.DataFrame:
    """One row per group: its first or last word, of several at the same time the one with the least or greatest id."""
    is_latest, limits = accumulator.merge == "latest", np.iinfo(np.int64)
    numbers, moments = rows[number].to_numpy(), rows[f"{accumulator.name}.at"].to_physical().to_numpy()
    best = np.full(groups, limits.min if is_latest else limits.max)
    (np.maximum if is_latest else np.minimum).at(best, numbers, moments)
    is_best = moments == best[numbers]
    rows, numbers = rows.filter(is_best), numbers[is_best]
    is_tied = np.bincount(numbers, minlength=groups)[numbers] > 1
    if not is_tied.any():
        return rows
    tied = rows.filter(is_tied).sort(f"{accumulator.name}.id", descending=is_latest).unique(number, keep="first", maintain_order=True)
    return pl.concat([rows.filter(~is_tied), tied])
