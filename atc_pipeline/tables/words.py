"""Tables in words: what the catalog and docs/tables.md say of a column, beside what it means.

What belongs here: types and bounds as people read them (Markdown). What does not: how either lays them out.
"""

import polars as pl

from atc_pipeline.escaping import markdown
from atc_pipeline.tables.table import Column

MOST_NAMED = 20
"""Of the words that a column may hold: a portfolio may have thousands of journeys."""


def type_of(dtype: pl.DataType) -> str:
    """Name a type, without the fields of a struct."""
    match dtype:
        case pl.Datetime():
            return f"Datetime({dtype.time_unit}, {dtype.time_zone})"
        case pl.List(inner=pl.DataType() as inner):
            return f"List({type_of(inner)})"
        case pl.Struct():
            return "Struct"
        case _:
            return str(dtype)


def range_of(column: Column) -> str:
    """Say between which numbers a value is; nothing where none is too small or too large."""
    match (column.at_least, column.at_most):
        case (None, None):
            return ""
        case (None, most):
            return f"at most {most}"
        case (least, None):
            return f"at least {least}"
        case (least, most):
            return f"{least} to {most}"


def meaning_of(column: Column) -> str:
    """Say what a column means, and of which words it holds one."""
    if column.one_of is None:
        return column.meaning
    named = [markdown(word) for word in column.one_of[:MOST_NAMED]]
    more = len(column.one_of) - len(named)
    return f"{column.meaning} One of: {', '.join(named)}{f' and {more:,} more' if more else ''}."
