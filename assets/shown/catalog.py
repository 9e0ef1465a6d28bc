"""What the catalog says of every table before a single run: what its rows are, its columns, their types, meaning and bounds.

What belongs here: definition metadata. What does not: facts of a day (``facts``), or anything that is said of one table only.
"""

from collections.abc import Sequence

import dagster as dg

from atc_pipeline.days.catalog import tables
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.tables.table import Table
from atc_pipeline.tables.words import meaning_of, range_of, type_of


def with_tables(assets: Sequence[dg.AssetsDefinition], portfolio: Portfolio) -> list[dg.AssetsDefinition]:
    """Describe each asset by its table; what the asset says of itself follows."""
    by_name = tables(portfolio)

    def described(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        if name not in by_name:
            raise LookupError(f"no tables.py of a room says what the table of the asset {name} is")
        table = by_name[name]
        description = "\n\n".join(text for text in (table.meaning, spec.description) if text)
        return spec.replace_attributes(description=description).merge_attributes(metadata={"dagster/column_schema": _columns(table)})

    return list(dg.map_asset_specs(described, assets))


def _columns(table: Table) -> dg.TableSchema:
    key = {"date", *table.key}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type=type_of(column.dtype),
                description=meaning_of(column),
                constraints=dg.TableColumnConstraints(
                    nullable=column.is_nullable,
                    other=[text for text in ("key" if column.name in key else "", range_of(column)) if text],
                ),
            )
            for column in table.columns
        ]
    )
