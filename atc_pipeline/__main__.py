"""Commands for people: ``python -m atc_pipeline sql "select ..."`` asks the tables; nothing is ever written."""

import argparse
import os
import sys
from pathlib import Path

import duckdb
import polars as pl

from resources.warehouse import Warehouse

PROJECT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m atc_pipeline", description="Ask the lake; nothing is ever written.")
    commands = parser.add_subparsers(dest="command", required=True)
    sql = commands.add_parser("sql", help="run a DuckDB query over the tables, also while runs are writing")
    sql.add_argument("query", help="for instance: select * from journey_assignments limit 5")
    asked = parser.parse_args(arguments)
    home = PROJECT / os.environ.get("ATC_HOME", ".atc")
    warehouse = Warehouse(home=str(home), lake=str(home / "lake"))
    if not warehouse.tables():
        print(f"no tables in {home / 'lake'} yet: run make demo, or materialize the assets", file=sys.stderr)  # noqa: T201
        return 1
    try:
        answer = warehouse.query(asked.query)
    except duckdb.Error as problem:
        print(f"{problem}\nTables: {', '.join(warehouse.tables())}", file=sys.stderr)  # noqa: T201
        return 1
    with pl.Config(
        tbl_rows=1000, tbl_cols=100, fmt_str_lengths=200, tbl_width_chars=250, tbl_hide_dataframe_shape=True, fmt_table_cell_list_len=20
    ):
        print(answer)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
