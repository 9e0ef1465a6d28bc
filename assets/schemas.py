"""What a table must look like, for Pandera: its schema, made of what is said of it (``atc_pipeline.tables.table``).

The only module that knows Pandera, which costs seconds to import. What does not belong here: any table, running checks (``checks``).
"""

import pandera.polars as pa

from atc_pipeline.tables.table import Column, Table


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
