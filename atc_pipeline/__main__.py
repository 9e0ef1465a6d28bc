"""Commands for people: ``sql`` asks the tables, ``explain`` tells one customer's day, ``journey`` their path, ``segments`` all of them,
``validate`` checks ``journeys.yaml``.

The lake is only read; ``--svg`` writes a picture where it is told to.
"""

import os
import sys
from pathlib import Path

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
import difflib
from collections.abc import Sequence
from datetime import date, timedelta

import duckdb
import polars as pl

from atc_pipeline.activation.messages import MESSAGES
from atc_pipeline.customers import remembered
from atc_pipeline.escaping import plain, terminal
from atc_pipeline.explanation.day import Day
from atc_pipeline.explanation.page import explain
from atc_pipeline.identity.map import arms
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.pictures import matrix, path
from resources.storage.home import WrongHomeError, home_of
from resources.storage.lake import Lake
from resources.storage.warehouse import Warehouse

SHOWN_ROWS = 1000
"""Rows of an answer that are printed; of more, the first and the last."""

_MOST_COMPARED = 20_000
"""How many customer ids are searched for similar ones: more take longer than anybody waits for a hint."""


class UnansweredError(Exception):
    """A question that cannot be answered, and what could be asked instead."""


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
    them = commands.add_parser("segments", help="show the micro-segments over time: how large, and which journey serves most")
    for command in (who, them):
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
        match asked.command:
            case "explain":
                said = explained(lake, asked.customer, asked.day, with_others=asked.all)
            case "journey":
                walked = path_of(lake, asked.customer, asked.first, asked.last)
                said = path.tell(walked) if asked.svg is None else _drawn(path.draw(walked), asked.svg)
            case "segments":
                rows, portfolio = matrix_of(lake, asked.first, asked.last), _journeys()
                said = _shown(matrix.summary(rows, portfolio)) if asked.svg is None else _drawn(matrix.draw(rows, portfolio), asked.svg)
            case _:
                said = answered(warehouse, asked.query)
    except (UnansweredError, JourneysError, WrongHomeError) as problem:
        print(terminal(str(problem)), file=sys.stderr)  # noqa: T201
        return 1
    print(terminal(said))  # noqa: T201
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


def _journeys() -> Portfolio:
    return load_portfolio(PROJECT / os.environ.get("ATC_JOURNEYS", "journeys.yaml"))


def explained(lake: Lake, customer: str, asked: str | None, *, with_others: bool) -> str:
    """Gather what the lake knows of the customer and the day, and tell it; of one who was merged into another, that one's."""
    day = _day(lake, asked)
    asked_for, customer = customer, _names(lake, customer, [day])["customer_id"].item()
    assignment = _rows(lake, "journey_assignments", day, customer)
    if assignment.is_empty():
        raise UnansweredError(_unknown(lake, customer, day))
    for table in ("customer_profiles", "micro_segment_memberships", "scored_candidates", "journey_state"):
        if not lake.has(table, day):
            raise UnansweredError(f"{table} has no data for {day}: materialize it first")
    yesterday = day - timedelta(days=1)
    state = _rows(lake, "journey_state", day, customer)
    page = explain(
        Day(
            customer_id=customer,
            today=day,
            portfolio=_journeys(),
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
            arm_id=_arm_id(lake, customer, day),
        ),
        with_others=with_others,
    )
    if customer == asked_for:
        return page
    return f"{plain(asked_for)} is customer {plain(customer)} on {day}: they are one person, whose day this is.\n\n{page}"


def _arm_id(lake: Lake, customer: str, day: date) -> str:
    """Return what a customer's lots are drawn by (SPEC 2): their own name, unless they were first known under another."""
    known = arms(lake.lazy("identity_map", day)).filter(customer_id=customer).collect() if lake.has("identity_map", day) else None
    return customer if known is None or known.is_empty() else str(known["arm_id"].item())


def path_of(lake: Lake, customer: str, first: str | None, last: str | None) -> path.Path:
    """Gather a customer's days; from the day they were merged into another one, that one's."""
    days = _stretch(lake, "journey_assignments", first, last)
    names = _names(lake, customer, days)
    portfolio = _journeys()
    assignments = _under(lake, "journey_assignments", names)
    if assignments.is_empty():
        raise UnansweredError(_unknown(lake, customer, days[-1]))
    return path.Path(
        customer_id=customer,
        first=days[0] if first else min(assignments["date"].to_list()),
        last=days[-1],
        portfolio=portfolio,
        names=names.join(assignments, on=["date", "customer_id"], how="semi"),
        memberships=_under(lake, "micro_segment_memberships", names),
        assignments=assignments,
        messages=_under(lake, "outbound_messages", names) if lake.days("outbound_messages") else pl.DataFrame(schema=MESSAGES),
        events=_goal_events(_under(lake, "customer_activity", names), portfolio),
    )


def _names(lake: Lake, customer: str, days: Sequence[date]) -> pl.DataFrame:
    """One row per day: who the customer is by the identity map of that day; themselves where it does not know better."""
    asked = pl.DataFrame({"date": days, "customer_id": customer})
    maps = lake.scan("identity_map", days)
    if maps is None:
        return asked
    kind, name = ("anonymous", customer.removeprefix("anon:")) if customer.startswith("anon:") else ("user", customer)
    known = maps.filter(pl.col("id_type") == kind, pl.col("id") == name).select("date", "customer_id").collect()
    return asked.update(known, on="date")


def _under(lake: Lake, table: str, names: pl.DataFrame) -> pl.DataFrame:
    """Read the rows of one customer, whatever they were called on each day."""
    found = lake.scan(table, names["date"], may_lack=True)
    if found is None:
        raise UnansweredError(f"{table} has no data for these days: materialize it first")
    theirs = found.filter(pl.col("customer_id").is_in(names["customer_id"].unique().to_list()))
    return theirs.join(names.lazy(), on=["date", "customer_id"], how="semi").collect()


def _goal_events(activity: pl.DataFrame, portfolio: Portfolio) -> pl.DataFrame:
    """One row per day and event that is some journey's goal, without any one of all events: how often it happened."""
    goals = sorted({journey.goal.event for journey in portfolio.journeys if journey.goal})
    columns = {name: event for event in goals if (name := remembered.goal_column(event)) in activity.columns} or {"events": "events"}
    counts = activity.unpivot(list(columns), index="event_date", variable_name="name", value_name="number")
    return counts.group_by(pl.col("event_date").alias("date"), pl.col("name").replace(columns)).agg(pl.col("number").sum())


def matrix_of(lake: Lake, first: str | None, last: str | None) -> pl.DataFrame:
    """Read the segment matrix of a stretch of days."""
    found = lake.scan("segment_matrix", _stretch(lake, "segment_matrix", first, last))
    rows = pl.DataFrame() if found is None else found.collect()
    if rows.is_empty():
        raise UnansweredError("nobody was in a micro-segment on these days")
    return rows


def _stretch(lake: Lake, table: str, first: str | None, last: str | None) -> list[date]:
    """Return the days of a table from the first asked for to the last; both must be there."""
    days = lake.days(table)
    if not days:
        raise UnansweredError(f"{table} is not in {lake.root} yet: run make demo, or materialize the assets")
    from_ = days[0] if first is None else _asked(days, "--from", first, f"{table} has no data for")
    to = days[-1] if last is None else _asked(days, "--to", last, f"{table} has no data for")
    if from_ > to:
        raise UnansweredError(f"--from {from_} is after --to {to}")
    return [day for day in days if from_ <= day <= to]


def _rows(lake: Lake, table: str, day: date, customer: str) -> pl.DataFrame:
    return lake.lazy(table, day).filter(pl.col("customer_id") == customer).collect()


def _day(lake: Lake, asked: str | None) -> date:
    days = lake.days("journey_assignments")
    if not days:
        raise UnansweredError(f"no decisions in {lake.root} yet: run make demo, or materialize the assets")
    if asked is None:
        return days[-1]
    return _asked(days, "--day", asked, "nothing was decided for")


def _asked(days: Sequence[date], option: str, asked: str, nothing: str) -> date:
    try:
        day = date.fromisoformat(asked)
    except ValueError:
        raise UnansweredError(f"{option} {asked}: expected a day such as {days[-1]}") from None
    if day not in days:
        nearest = min(days, key=lambda one: abs(one - day))
        raise UnansweredError(f"{nothing} {day}: the lake has {days[0]} to {days[-1]}, nearest {nearest}")
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
