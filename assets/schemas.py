"""What a table must look like: its schema for Pandera, and the rows that Pandera need look at.

Both are made of what is said of a table (``atc_pipeline.tables.table``). Pandera says which row fails which check, and holds all that it is
given: of tables of millions it is given what is doubtful, which nearly always is nothing (docs/adr/0048-doubtful.md).

What does not belong here: any table, running checks (``checks``).
"""

from collections.abc import Iterator, Sequence

import pandera.polars as pa
import polars as pl

from atc_pipeline.tables.table import Column, Table

ROWS_AT_ONCE = 2_000_000
"""Rows whose keys are compared at once."""


def doubtful(frame: pl.LazyFrame, table: Table) -> pl.LazyFrame | None:
    """Return the rows that fail a check of the schema: all where the columns are others, None where it is plain that none does.

    It holds few rows at a time, but where rows are not in the order of their key: then keys are compared each with each.
    """
    if frame.collect_schema() != table.schema:
        return frame
    key = ["date", *table.key]
    is_faulty = pl.any_horizontal(fault for column in table.columns for fault in _faults(column))
    if not _is_ascending(frame, key):
        return frame.filter(is_faulty | pl.struct(key).is_duplicated())
    return frame.filter(is_faulty) if frame.select(is_faulty.any()).collect(engine="streaming").item() else None


def _faults(column: Column) -> Iterator[pl.Expr]:
    """Yield what is true where a check fails; of a null that may be there, nothing is."""
    values = pl.col(column.name)
    if not column.is_nullable:
        yield values.is_null()
        if column.dtype.is_float():
            yield values.is_nan()
    if column.one_of is not None:
        yield ~values.is_in(column.one_of)
    if column.at_least is not None:
        yield values < column.at_least
    if column.at_most is not None:
        yield values > column.at_most


def _is_ascending(frame: pl.LazyFrame, key: Sequence[str]) -> bool:
    """Say whether each row is above the one before: then no key is there twice."""
    is_above = pl.lit(value=False)
    for name in reversed(key):
        here, before = pl.col(name), pl.col(name).shift()
        is_above = (here > before) | ((here == before) & is_above)
    rows = frame.select(pl.len()).collect().item()
    return all(
        frame.select(key).slice(max(first - 1, 0), ROWS_AT_ONCE + 1).collect().select(is_above.slice(1).all(ignore_nulls=False)).item()
        for first in range(0, rows, ROWS_AT_ONCE)
    )


def schema_of(table: Table) -> pa.DataFrameSchema:
    """Build the schema: exactly these columns and types in this order, no null where none may be, no key twice on a day."""
    return pa.DataFrameSchema(
        {
            column.name: pa.Column(column.dtype, checks=_checks(column), nullable=column.is_nullable, description=column.meaning)
            for column in table.columns
        },
        name=table.name,
        unique=["date", *table.key],
        strict=True,
        ordered=True,
    )


def _checks(column: Column) -> list[pa.Check]:
    checks = [] if column.one_of is None else [pa.Check.isin(column.one_of)]
    match (column.at_least, column.at_most):
        case (None, None):
            return checks
        case (least, None):
            return [*checks, pa.Check.ge(least)]
        case (None, most):
            return [*checks, pa.Check.le(most)]
        case (least, most):
            return [*checks, pa.Check.in_range(least, most)]
