"""Commands for people: ``sql`` asks the tables, ``explain`` tells one customer's day; nothing is ever written."""

import argparse
import difflib
import os
import sys
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl

from atc_pipeline.explanation.page import Day, explain
from atc_pipeline.journeys.document import JourneysError
from resources.journeys import JourneysFile
from resources.lake import Lake
from resources.warehouse import Warehouse

PROJECT = Path(__file__).resolve().parent.parent

_MOST_COMPARED = 20_000
"""How many customer ids are searched for similar ones: more take longer than anybody waits for a hint."""


class UnansweredError(Exception):
    """A question that cannot be answered, and what could be asked instead."""


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m atc_pipeline", description="Ask the lake; nothing is ever written.")
    commands = parser.add_subparsers(dest="command", required=True)
    sql = commands.add_parser("sql", help="run a DuckDB query over the tables, also while runs are writing")
    sql.add_argument("query", help="for instance: select * from journey_assignments limit 5")
    why = commands.add_parser("explain", help="tell why a customer is in this journey today, and in no other")
    why.add_argument("customer", help="a customer_id")
    why.add_argument("--day", help="YYYY-MM-DD; the latest day decided, if left out")
    why.add_argument("--all", action="store_true", help="say too why the customer is not queued for the other journeys")
    asked = parser.parse_args(arguments)
    home = PROJECT / os.environ.get("ATC_HOME", ".atc")
    warehouse = Warehouse(home=str(home), lake=str(home / "lake"))
    try:
        if asked.command == "explain":
            print(explained(Lake(root=str(home / "lake")), asked.customer, asked.day, with_others=asked.all))  # noqa: T201
        else:
            print(answered(warehouse, asked.query))  # noqa: T201
    except (UnansweredError, JourneysError) as problem:
        print(problem, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def answered(warehouse: Warehouse, query: str) -> str:
    """Run a query and lay its answer out as a table."""
    if not warehouse.tables():
        raise UnansweredError(f"no tables in {warehouse.lake} yet: run make demo, or materialize the assets")
    try:
        answer = warehouse.query(query)
    except duckdb.Error as problem:
        raise UnansweredError(f"{problem}\nTables: {', '.join(warehouse.tables())}") from problem
    with pl.Config(
        tbl_rows=1000, tbl_cols=100, fmt_str_lengths=200, tbl_width_chars=250, tbl_hide_dataframe_shape=True, fmt_table_cell_list_len=20
    ):
        return str(answer)


def explained(lake: Lake, customer: str, asked: str | None, *, with_others: bool) -> str:
    """Gather what the lake knows of the customer and the day, and tell it."""
    day = _day(lake, asked)
    journeys = JourneysFile(path=str(PROJECT / os.environ.get("ATC_JOURNEYS", "journeys.yaml")))
    assignment = _rows(lake, "journey_assignments", day, customer)
    if assignment.is_empty():
        raise UnansweredError(_unknown(lake, customer, day))
    for table in ("customer_profiles", "micro_segment_memberships", "scored_candidates", "journey_state"):
        if not lake.has(table, day):
            raise UnansweredError(f"{table} has no data for {day}: materialize it first")
    yesterday = day - timedelta(days=1)
    state = _rows(lake, "journey_state", day, customer)
    return explain(
        Day(
            customer_id=customer,
            today=day,
            portfolio=journeys.load(),
            profile=_rows(lake, "customer_profiles", day, customer),
            memberships=_rows(lake, "micro_segment_memberships", day, customer),
            candidates=_rows(lake, "scored_candidates", day, customer),
            assignment=assignment,
            state=state,
            messages=_rows(lake, "outbound_messages", day, customer) if lake.has("outbound_messages", day) else None,
            yesterday=_rows(lake, "journey_assignments", yesterday, customer)
            if lake.has("journey_assignments", yesterday)
            else assignment.clear(),
            state_before=_rows(lake, "journey_state", yesterday, customer) if lake.has("journey_state", yesterday) else state.clear(),
            funnel=lake.read("journey_funnel", day) if lake.has("journey_funnel", day) else pl.DataFrame(),
        ),
        with_others=with_others,
    )


def _rows(lake: Lake, table: str, day: date, customer: str) -> pl.DataFrame:
    return lake.lazy(table, day).filter(pl.col("customer_id") == customer).collect()


def _day(lake: Lake, asked: str | None) -> date:
    days = lake.days("journey_assignments")
    if not days:
        raise UnansweredError(f"no decisions in {lake.root} yet: run make demo, or materialize the assets")
    if asked is None:
        return days[-1]
    try:
        day = date.fromisoformat(asked)
    except ValueError:
        raise UnansweredError(f"--day {asked}: expected a day such as {days[-1]}") from None
    if day not in days:
        nearest = min(days, key=lambda one: abs(one - day))
        raise UnansweredError(f"nothing was decided for {day}: the lake has {days[0]} to {days[-1]}, nearest {nearest}")
    return day


def _unknown(lake: Lake, customer: str, day: date) -> str:
    latest = lake.days("journey_assignments")[-1]
    later = _rows(lake, "customer_profiles", latest, customer) if lake.has("customer_profiles", latest) else pl.DataFrame()
    if later.height and later["first_seen_on"].item() > day:
        return f"customer {customer!r} was not known on {day}: first seen on {later['first_seen_on'].item()}"
    ids = lake.lazy("journey_assignments", day).select("customer_id").collect()["customer_id"]
    alike = ids.filter(ids.str.contains(customer.strip(), literal=True)).head(_MOST_COMPARED).to_list()
    alike += ids.filter(ids.str.len_chars() == len(customer)).head(_MOST_COMPARED).to_list()
    near = difflib.get_close_matches(customer, dict.fromkeys(alike), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {ids.len():,} customers, for instance {', '.join(ids.head(3))}"
    return f"customer {customer!r} is not known on {day}; {hint}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
