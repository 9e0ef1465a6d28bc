"""Questions to the tables: ``sql``, ``explain``, ``journey``, ``segments``. The lake is only read; ``--svg`` writes where it is told to.

What belongs here: these commands. What does not: what is said of a day (``explanation``), or how it is drawn (``pictures``).
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import duckdb
import polars as pl

from atc_pipeline.commands.command import Answer, Place, Refused
from atc_pipeline.escaping import plain
from atc_pipeline.explanation.reading import explained, matrix_of, path_of
from atc_pipeline.pictures import matrix, path
from resources.storage.warehouse import Warehouse

SHOWN_ROWS = 1000
"""Rows of an answer that are printed; of more, the first and the last."""


class Sql:
    """Runs a query."""

    name = "sql"
    help = "run a DuckDB query over the tables, also while runs are writing"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect a query."""
        parser.add_argument("query", help="for instance: select * from journey_assignments limit 5")

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Lay its answer out as a table."""
        warehouse = Warehouse(home=str(place.home), lake=place.lake.root)
        if not warehouse.tables():
            raise Refused(f"no tables in {warehouse.lake} yet: run make demo, or materialize the assets")
        try:
            return Answer(_shown(warehouse.query(asked.query)))
        except duckdb.Error as problem:
            raise Refused(f"{problem}\nTables: {', '.join(warehouse.tables())}") from problem


class Explain:
    """Tells a customer's day."""

    name = "explain"
    help = "tell why a customer is in this journey today, and in no other"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect a customer."""
        parser.add_argument("customer", help="a customer_id, also one that was merged into another since")
        parser.add_argument("--day", help="YYYY-MM-DD; the latest day decided, if left out")
        parser.add_argument("--all", action="store_true", help="say too why the customer is not queued for the other journeys")

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Tell it by the version of the portfolio that decided the day."""
        return Answer(explained(place.lake, place.portfolio_of, asked.customer, asked.day, with_others=asked.all))


class Walk:
    """Shows a customer's path."""

    name = "journey"
    help = "show a customer's path through micro-segments and journeys"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect a customer, and a stretch of days."""
        parser.add_argument("customer", help="a customer_id, also one that was merged into another since")
        _expect_days(parser)

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Tell or draw it."""
        walked = path_of(place.lake, place.portfolio_of, asked.customer, asked.first, asked.last)
        return Answer(path.tell(walked) if asked.svg is None else _drawn(path.draw(walked), asked.svg))


class Segments:
    """Shows the micro-segments."""

    name = "segments"
    help = "show the micro-segments over time: how large, and which journey serves most"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect a stretch of days."""
        _expect_days(parser)

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Tell or draw them."""
        rows, portfolio = matrix_of(place.lake, place.portfolio_of, asked.first, asked.last)
        is_told = asked.svg is None
        return Answer(_shown(matrix.summary(rows, portfolio)) if is_told else _drawn(matrix.draw(rows, portfolio), asked.svg))


def _expect_days(parser: ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", help="YYYY-MM-DD; the first day there is, if left out")
    parser.add_argument("--to", dest="last", help="YYYY-MM-DD; the latest day there is, if left out")
    parser.add_argument("--svg", type=Path, help="draw it into this file instead")


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
        raise Refused(f"--svg {file}: {problem.strerror}") from problem
    return f"drawn into {file}"
