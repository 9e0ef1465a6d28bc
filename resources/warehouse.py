"""The SQL door: a DuckDB file that holds nothing but views over the lake, so that reading never locks out a run.

What belongs here: views, and running a query over them. What does not: the delivery ledger, and any data of its own.
"""

from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
from dagster_duckdb import DuckDBResource

from resources.unfinished import beside

HIDDEN = {"customer_profiles": "state"}
"""Columns that tables keep for themselves."""


class Warehouse(dg.ConfigurableResource):
    """``<home>/atc.duckdb``: one view per table of the lake, over all days written."""

    home: str
    lake: str

    @property
    def path(self) -> Path:
        """Return where the file is."""
        return Path(self.home) / "atc.duckdb"

    def tables(self) -> list[str]:
        """Return the tables that have at least one day, in order of name."""
        return sorted({path.parent.parent.name for path in Path(self.lake).glob("*/date=*/part.parquet")})

    def publish(self) -> list[str]:
        """Write the views anew under a temporary name and rename: whoever has the old file open keeps it. Return the tables."""
        unfinished = beside(self.path)
        tables = self.tables()
        with DuckDBResource(database=str(unfinished)).get_connection() as connection:
            create_views(connection, Path(self.lake).resolve(), tables)
        unfinished.replace(self.path)
        return tables

    def query(self, sql: str) -> pl.DataFrame:
        """Run one query over the views, in memory; no file is opened but the lake's. Raises duckdb.Error."""
        with DuckDBResource(database=":memory:").get_connection() as connection:
            create_views(connection, Path(self.lake).resolve(), self.tables())
            answer: pl.DataFrame = connection.sql(sql).pl()
            return answer


def create_views(connection: duckdb.DuckDBPyConnection, lake: Path, tables: list[str]) -> None:
    """Create one view per table: ``date`` is the partition, so that a query for some days opens those files only."""
    for table in tables:
        columns = f"* exclude ({HIDDEN[table]})" if table in HIDDEN else "*"
        files = str(lake / table / "date=*" / "part.parquet").replace("'", "''")
        connection.execute(
            f"create or replace view {table} as select {columns} "  # noqa: S608  # names of our own folders
            f"from read_parquet('{files}', hive_partitioning = true, union_by_name = true)"
        )
