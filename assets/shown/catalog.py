"""What the catalog says of every table before a single run: its columns, types and meaning.

What belongs here: definition metadata. What does not: facts of a day (``facts``).
"""

from collections.abc import Sequence

import dagster as dg

from assets import schemas
from atc_pipeline.journeys.portfolio import Portfolio


def with_schemas(assets: Sequence[dg.AssetsDefinition], portfolio: Portfolio) -> list[dg.AssetsDefinition]:
    """Attach each table's column schema to its asset."""
    tables = schemas.tables(portfolio)

    def described(spec: dg.AssetSpec) -> dg.AssetSpec:
        table = tables.get(spec.key.to_user_string())
        return spec if table is None else spec.merge_attributes(metadata={"dagster/column_schema": _columns(table)})

    return list(dg.map_asset_specs(described, assets))


def _columns(table: schemas.Table) -> dg.TableSchema:
    key = {"date", *table.key}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                type=str(dtype) if not dtype.is_nested() else type(dtype).__name__,
                description=table.descriptions.get(name),
                constraints=dg.TableColumnConstraints(nullable=name in table.nullable, other=["key"] if name in key else None),
            )
            for name, dtype in table.columns.items()
        ]
    )
