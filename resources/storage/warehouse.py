"""The SQL door: a DuckDB file that holds nothing but views over the lake, so that reading never locks out a run.

What belongs here: views, and running a query over them. What does not: the delivery ledger, and any data of its own.
"""

import json
import re
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
from dagster_duckdb import DuckDBResource

from resources.storage.files import replacing
from resources.storage.parts import MANIFEST, PART

HIDDEN = {"customer_profiles": "state"}
"""Columns that tables keep for themselves."""

_READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLE_FUNCTIONS = {"generate_series", "json_each", "json_tree", "parquet_metadata", "parquet_schema", "range", "read_parquet", "unnest"}
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?(?=[\s(])", re.IGNORECASE)


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
        there = (Path(self.lake).glob(f"*/date=*/{name}") for name in (PART, MANIFEST))
        return sorted({path.parent.parent.name for paths in there for path in paths})

    def publish(self) -> list[str]:
        """Write the views anew under a temporary name and rename: whoever has the old file open keeps it. Return the tables.

        DuckDB resolves a relative path from where its reader was started, so the views name the lake in full: whoever moves it
        finds them empty until the next run, and each says so.
        """
        tables = self.tables()
        lake = Path(self.lake).resolve()
        try:
            # Nobody else has this file, so what fails now fails again: no DuckDBResource, which tries for 100 seconds.
            with replacing(self.path) as unfinished, duckdb.connect(unfinished) as connection:
                create_views(connection, lake, tables)
                for table in tables:
                    comment = _text(f"All days of {table} in {lake}. Moved? The next run writes the views anew.")
                    connection.execute(f'comment on view "{table}" is {comment}')
                connection.execute("checkpoint")  # closing does it too, but keeps quiet about a disk that is full
        except (OSError, duckdb.Error) as problem:
            raise dg.Failure(
                f"{self.path}: cannot be written ({problem}). Is the disk full, or the folder read-only? The tables are written and what "
                "was sent is remembered; the views are as they were: when that is mended, the next run writes them anew",
                allow_retries=False,
            ) from None
        return tables

    def query(self, sql: str) -> pl.DataFrame:
        """Run one query over the views, in memory: it reads the lake, opens nothing else and writes nothing. Raises duckdb.Error."""
        lake = Path(self.lake).resolve()
        with DuckDBResource(database=":memory:").get_connection() as connection:
            create_views(connection, lake, self.tables())
            connection.execute(f"set allowed_directories = [{_text(str(lake))}, {_text(_name(lake))}]")
            connection.execute("set enable_external_access = false")
            connection.execute("set lock_configuration = true")
            _refuse_all_but_reading(connection, sql)
            answer: pl.DataFrame = connection.sql(sql).pl()
            return answer


def create_views(connection: duckdb.DuckDBPyConnection, lake: Path, tables: list[str]) -> None:
    """Create one view per table: of a query for some days, the other files say in their footers that they have none of it."""
    for table in tables:
        columns = f"* exclude ({HIDDEN[table]})" if table in HIDDEN else "*"
        # A pattern that finds days in one piece and in parts, whichever there are when it is asked: two would miss, or lack, one kind.
        files = _text(f"{_name(lake)}/{table}/date=*/**/{PART}")
        connection.execute(
            f'create or replace view "{table}" as select {columns} '  # noqa: S608  # names of our own folders
            f"from read_parquet({files}, hive_partitioning = false, union_by_name = true)"
        )


def _name(folder: Path) -> str:
    """Write a path as DuckDB's patterns name it."""
    return re.sub(r"([\[\]*?])", r"[\1]", str(folder))


def _text(value: str) -> str:
    quoted = value.replace("'", "''")
    return f"'{quoted}'"


def _refuse_all_but_reading(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse what could write: DuckDB lets a query write wherever it may read, and it may read the lake.

    A select, too, can hold a ``copy ... to`` (after ``with``), or call a table function that runs what a text says.
    """
    statements = duckdb.extract_statements(sql)
    if len(statements) == 1 and statements[0].type == duckdb.StatementType.EXPLAIN:  # "analyze" runs what it explains
        sql = _EXPLAIN.sub("", sql, count=1)
        statements = duckdb.extract_statements(sql)
    kinds = [statement.type for statement in statements]
    if kinds == [duckdb.StatementType.MULTI]:
        raise _refusal("pivot makes a type first: name the values, as in pivot t on x in ('a', 'b') using sum(y)")
    if kinds != [duckdb.StatementType.SELECT]:
        names = " and ".join(kind.name.lower().replace("_", " ") for kind in kinds) or "nothing"
        raise _refusal(f"one query that reads is expected (select, from, with, describe, explain), found {names}")
    answer = connection.execute("select json_serialize_sql($1)", [sql.strip().rstrip(";")]).fetchall()
    parts = [json.loads(answer[0][0])]
    while parts:
        part = parts.pop()
        parts += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        kind = str(part.get("type", "")) if isinstance(part, dict) else ""
        if kind.endswith("_NODE") and kind not in _READING:
            raise _refusal(f"{kind.removesuffix('_QUERY_NODE').removesuffix('_NODE').lower()} is no reading")
        if kind == "TABLE_FUNCTION" and (name := str(part["function"]["function_name"]).lower()) not in _TABLE_FUNCTIONS:
            raise _refusal(f"the table function {name} is none of {', '.join(sorted(_TABLE_FUNCTIONS))}")


def _refusal(reason: str) -> duckdb.PermissionException:
    return duckdb.PermissionException(f"The lake is only read: {reason}")
