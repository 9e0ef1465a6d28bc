"""Commands for people: ``sql`` asks the tables, ``explain`` tells one customer's day, ``journey`` their path, ``segments`` all of them,
``validate`` checks ``journeys.yaml``.

The lake is only read; ``--svg`` writes a picture where it is told to.
"""

import os
import sys
from pathlib import Path

from atc_pipeline.explanation.reading import (
    UnansweredError,
    explained,
    matrix_of,
    path_of,
)
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.journeys.validation import validated

PROJECT = Path(__file__).resolve().parent.parent


def validate(file: str | None) -> int:
    """Say what a portfolio holds, or one line per problem; return the exit code. Without a file it is the one in use."""
    try:
        print(validated(Path(file) if file else PROJECT / os.environ.get("ATC_JOURNEYS", "journeys.yaml")))  # noqa: T201
    except JourneysError as problem:
        print(problem, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__" and sys.argv[1:2] == ["validate"] and not any(each.startswith("-") for each in sys.argv[2:]):
    sys.exit(validate(sys.argv[2] if sys.argv[2:] else None))  # before all that takes seconds to import
# ruff: noqa: E402
import argparse
from functools import partial

import duckdb
import polars as pl

from atc_pipeline.escaping import plain, terminal
from atc_pipeline.pictures import matrix, path
from resources.journeys import JourneysFile
from resources.storage.home import WrongHomeError, home_of
from resources.storage.lake import Lake
from resources.storage.warehouse import Warehouse

SHOWN_ROWS = 1000
"""Rows of an answer that are printed; of more, the first and the last."""


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m atc_pipeline", description="Ask the lake, which is only read.")
    commands = parser.add_subparsers(dest="command", required=True)
    sql = commands.add_parser("sql", help="run a DuckDB query over the tables, also while runs are writing")
    sql.add_argument("query", help="for instance: select * from journey_assignments limit 5")
    why = commands.add_parser("explain", help="tell why a customer is in this journey today, and in no other")
    why.add_argument("customer", help="a customer_id, also one that was merged into another since")
    why.add_argument("--day", help="YYYY-MM-DD; the latest day decided, if left out")
    why.add_argument("--all", action="store_true", help="say too why the customer is not queued for the other journeys")
    who = commands.add_parser("journey", help="show a customer's path through micro-segments and journeys")
    who.add_argument("customer", help="a customer_id, also one that was merged into another since")
    segments = commands.add_parser("segments", help="show the micro-segments over time: how large, and which journey serves most")
    for command in (who, segments):
        command.add_argument("--from", dest="first", help="YYYY-MM-DD; the first day there is, if left out")
        command.add_argument("--to", dest="last", help="YYYY-MM-DD; the latest day there is, if left out")
        command.add_argument("--svg", type=Path, help="draw it into this file instead")
    check = commands.add_parser("validate", help="check journeys.yaml: one line per problem, exit code 1")
    check.add_argument("file", nargs="?", help="another file than the one in use")
    asked = parser.parse_args(arguments)
    if asked.command == "validate":
        return validate(asked.file)
    try:
        home = home_of(os.environ, PROJECT)
        lake, warehouse = Lake(root=str(home / "lake")), Warehouse(home=str(home), lake=str(home / "lake"))
        journeys = JourneysFile(path=str(PROJECT / os.environ.get("ATC_JOURNEYS", "journeys.yaml")), home=str(home))
        of_day = partial(journeys.of_day, lake)
        match asked.command:
            case "explain":
                answer = explained(lake, of_day, asked.customer, asked.day, with_others=asked.all)
            case "journey":
                walked = path_of(lake, of_day, asked.customer, asked.first, asked.last)
                answer = path.tell(walked) if asked.svg is None else _drawn(path.draw(walked), asked.svg)
            case "segments":
                rows, portfolio = matrix_of(lake, of_day, asked.first, asked.last)
                answer = _shown(matrix.summary(rows, portfolio)) if asked.svg is None else _drawn(matrix.draw(rows, portfolio), asked.svg)
            case _:
                answer = answered(warehouse, asked.query)
    except (UnansweredError, JourneysError, WrongHomeError) as problem:
        print(terminal(str(problem)), file=sys.stderr)  # noqa: T201
        return 1
    print(terminal(answer))  # noqa: T201
    return 0


def answered(warehouse: Warehouse, query: str) -> str:
    """Run a query and lay its answer out as a table."""
    if not warehouse.tables():
        raise UnansweredError(f"no tables in {warehouse.lake} yet: run make demo, or materialize the assets")
    try:
        answer = warehouse.query(query)
    except duckdb.Error as problem:
        raise UnansweredError(f"{problem}\nTables: {', '.join(warehouse.tables())}") from problem
    return _shown(answer)


def _shown(table: pl.DataFrame) -> str:
    # What Polars would not lay out is not looked at: it shows the first and the last of so many rows.
    seen = table if table.height <= SHOWN_ROWS else pl.concat([table.head(SHOWN_ROWS // 2 + 1), table.tail(SHOWN_ROWS // 2)])
    seen = seen.with_columns(pl.col(pl.String).map_elements(plain, pl.String))
    with pl.Config(
        tbl_rows=SHOWN_ROWS,
        tbl_cols=100,
        fmt_str_lengths=200,
        tbl_width_chars=250,
        tbl_hide_dataframe_shape=True,
        fmt_table_cell_list_len=20,
    ):
        return str(seen)


def _drawn(svg: str, file: Path) -> str:
    try:
        file.write_text(svg, encoding="utf-8")
    except OSError as problem:
        raise UnansweredError(f"--svg {file}: {problem.strerror}") from problem
    return f"drawn into {file}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
