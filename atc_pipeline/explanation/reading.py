"""What an explanation is made from: one customer's rows, gathered from the tables, or why there is no answer.

What belongs here: finding the day, the customer and their rows. What does not: what is said of them (``page``), drawing.
"""

import difflib
from collections.abc import Callable, Sequence
from datetime import date, timedelta

import polars as pl

from atc_pipeline.activation.tables import OUTBOUND_MESSAGES, RENDERED_MESSAGES
from atc_pipeline.customers import remembered
from atc_pipeline.escaping import plain
from atc_pipeline.explanation.day import Day
from atc_pipeline.explanation.page import explain
from atc_pipeline.identity.map import arms
from atc_pipeline.journeys.portfolio import Journey, Portfolio
from atc_pipeline.pictures import path
from atc_pipeline.rules.people import id_of
from atc_pipeline.tables.store import Store

_MOST_COMPARED = 20_000
"""How many customer ids are searched for similar ones: more take longer than anybody waits for a hint."""


class UnansweredError(Exception):
    """A question that cannot be answered, and what could be asked instead."""


PortfolioOf = Callable[[date], Portfolio]
"""Returns the version of the portfolio that decided a day."""


def explained(store: Store, portfolio_of: PortfolioOf, customer: str, asked: str | None, *, with_others: bool) -> str:
    """Gather what the lake knows of the customer and the day, and tell it; of one who was merged into another, that one's."""
    day = _choose_day(store, asked)
    asked_for, customer = customer, _name_by_day(store, customer, [day])["customer_id"].item()
    assignment = _read_rows(store, "journey_assignments", day, customer)
    if assignment.is_empty():
        raise UnansweredError(_explain_unknown(store, customer, day))
    for table in ("customer_profiles", "micro_segment_memberships", "scored_candidates", "journey_state"):
        if not store.has(table, day):
            raise UnansweredError(f"{table} has no data for {day}: materialize it first")
    yesterday = day - timedelta(days=1)
    state = _read_rows(store, "journey_state", day, customer)
    page = explain(
        Day(
            customer_id=customer,
            today=day,
            portfolio=portfolio_of(day),
            profile=_read_rows(store, "customer_profiles", day, customer),
            memberships=_read_rows(store, "micro_segment_memberships", day, customer),
            candidates=_read_rows(store, "scored_candidates", day, customer),
            assignment=assignment,
            state=state,
            messages=_read_rows(store, "outbound_messages", day, customer) if store.has("outbound_messages", day) else None,
            rendered=_read_rows(store, "rendered_messages", day, customer) if store.has("rendered_messages", day) else None,
            yesterday=_read_rows(store, "journey_assignments", yesterday, customer)
            if store.has("journey_assignments", yesterday)
            else assignment.clear(),
            state_before=_read_rows(store, "journey_state", yesterday, customer)
            if store.has("journey_state", yesterday)
            else state.clear(),
            funnel=store.lazy("journey_funnel", day).collect() if store.has("journey_funnel", day) else pl.DataFrame(),
            arm_id=_arm_id(store, customer, day),
            models=store.lazy("goal_models", day).collect() if store.has("goal_models", day) else None,
        ),
        with_others=with_others,
    )
    if customer == asked_for:
        return page
    return f"{plain(asked_for)} is customer {plain(customer)} on {day}: they are one person, whose day this is.\n\n{page}"


def known_as(store: Store, customer: str, day: date) -> str:
    """Return who a customer is on a day: of one who was merged into another, that one. Raises UnansweredError where nobody is."""
    name = str(_name_by_day(store, customer, [day])["customer_id"].item())
    if _read_rows(store, "journey_assignments", day, name).is_empty():
        raise UnansweredError(_explain_unknown(store, name, day))
    return name


def _arm_id(store: Store, customer: str, day: date) -> str:
    """Return what a customer's lots are drawn by (SPEC 2): their own name, unless they were first known under another."""
    known = arms(store.lazy("identity_map", day)).filter(customer_id=customer).collect() if store.has("identity_map", day) else None
    return customer if known is None or known.is_empty() else str(known["arm_id"].item())


def path_of(store: Store, portfolio_of: PortfolioOf, customer: str, first: str | None, last: str | None) -> path.Path:
    """Gather a customer's days; from the day they were merged into another one, that one's."""
    days = _choose_days(store, "journey_assignments", first, last)
    names = _name_by_day(store, customer, days)
    assignments = _read_under(store, "journey_assignments", names)
    if assignments.is_empty():
        raise UnansweredError(_explain_unknown(store, customer, days[-1]))
    journeys = [journey for day in days for journey in portfolio_of(day).journeys]
    return path.Path(
        customer_id=customer,
        first=days[0] if first else min(assignments["date"].to_list()),
        last=days[-1],
        called={journey.id: journey.name for journey in journeys},
        names=names.join(assignments, on=["date", "customer_id"], how="semi"),
        memberships=_read_under(store, "micro_segment_memberships", names),
        assignments=assignments,
        messages=_messages_under(store, names),
        events=_goal_events(_read_under(store, "customer_activity", names), journeys),
    )


def _name_by_day(store: Store, customer: str, days: Sequence[date]) -> pl.DataFrame:
    """One row per day: who the customer is by the identity map of that day; themselves where it does not know better."""
    asked = pl.DataFrame({"date": days, "customer_id": customer})
    maps = store.scan("identity_map", days)
    if maps is None:
        return asked
    id_type, named = id_of(customer)
    known = maps.filter(pl.col("id_type") == id_type, pl.col("id") == named).select("date", "customer_id").collect()
    return asked.update(known, on="date")


def _read_under(store: Store, table: str, names: pl.DataFrame) -> pl.DataFrame:
    """Read the rows of one customer, whatever they were called on each day."""
    rows = store.scan(table, names["date"], may_lack=True)
    if rows is None:
        raise UnansweredError(f"{table} has no data for these days: materialize it first")
    theirs = rows.filter(pl.col("customer_id").is_in(names["customer_id"].unique().to_list()))
    return theirs.join(names.lazy(), on=["date", "customer_id"], how="semi").collect()


def _messages_under(store: Store, names: pl.DataFrame) -> pl.DataFrame:
    """Read a customer's messages of these days, with the ``subject`` and ``text`` of those that were rendered."""
    if not store.days("outbound_messages"):
        return pl.DataFrame(schema={**OUTBOUND_MESSAGES.schema, "subject": pl.String(), "text": pl.String()})
    messages, key = _read_under(store, "outbound_messages", names), ["date", "idempotency_key"]
    has_said = any(store.has("rendered_messages", day) for day in names["date"])
    rendered = _read_under(store, "rendered_messages", names) if has_said else pl.DataFrame(schema=RENDERED_MESSAGES.schema)
    return messages.join(rendered.select(*key, "subject", "text"), on=key, how="left")


def _goal_events(activity: pl.DataFrame, journeys: Sequence[Journey]) -> pl.DataFrame:
    """One row per day and event that is some journey's goal, without any one of all events: how often it happened."""
    goals = sorted({journey.goal.event for journey in journeys if journey.goal})
    columns = {name: event for event in goals if (name := remembered.goal_column(event)) in activity.columns} or {"events": "events"}
    counts = activity.unpivot(list(columns), index="event_date", variable_name="name", value_name="number")
    return counts.group_by(pl.col("event_date").alias("date"), pl.col("name").replace(columns)).agg(pl.col("number").sum())


def matrix_of(store: Store, portfolio_of: PortfolioOf, first: str | None, last: str | None) -> tuple[pl.DataFrame, Portfolio]:
    """Read the segment matrix of a stretch of days, and the portfolio of its last day."""
    days = _choose_days(store, "segment_matrix", first, last)
    matrix = store.scan("segment_matrix", days)
    rows = pl.DataFrame() if matrix is None else matrix.collect()
    if rows.is_empty():
        raise UnansweredError("nobody was in a micro-segment on these days")
    return rows, portfolio_of(days[-1])


def _choose_days(store: Store, table: str, first: str | None, last: str | None) -> list[date]:
    """Return the days of a table from the first asked for to the last; both must be there."""
    days = store.days(table)
    if not days:
        raise UnansweredError(f"{table} is not in {store.place} yet: run make demo, or materialize the assets")
    from_ = days[0] if first is None else _parse_day(days, "--from", first, f"{table} has no data for")
    to = days[-1] if last is None else _parse_day(days, "--to", last, f"{table} has no data for")
    if from_ > to:
        raise UnansweredError(f"--from {from_} is after --to {to}")
    return [day for day in days if from_ <= day <= to]


def _read_rows(store: Store, table: str, day: date, customer: str) -> pl.DataFrame:
    return store.lazy(table, day).filter(pl.col("customer_id") == customer).collect()


def _choose_day(store: Store, asked: str | None) -> date:
    days = store.days("journey_assignments")
    if not days:
        raise UnansweredError(f"no decisions in {store.place} yet: run make demo, or materialize the assets")
    if asked is None:
        return days[-1]
    return _parse_day(days, "--day", asked, "nothing was decided for")


def _parse_day(days: Sequence[date], option: str, asked: str, nothing: str) -> date:
    try:
        day = date.fromisoformat(asked)
    except ValueError:
        raise UnansweredError(f"{option} {asked}: expected a day such as {days[-1]}") from None
    if day not in days:
        nearest = min(days, key=lambda known_day: abs(known_day - day))
        raise UnansweredError(f"{nothing} {day}: the lake has {days[0]} to {days[-1]}, nearest {nearest}")
    return day


def _explain_unknown(store: Store, customer: str, day: date) -> str:
    latest = store.days("journey_assignments")[-1]
    later = _read_rows(store, "customer_profiles", latest, customer) if store.has("customer_profiles", latest) else pl.DataFrame()
    if later.height and later["first_seen_on"].item() > day:
        return f"customer {customer!r} was not known on {day}: first seen on {later['first_seen_on'].item()}"
    ids = store.lazy("journey_assignments", day).select("customer_id").collect()["customer_id"]
    alike = ids.filter(ids.str.contains(customer.strip(), literal=True)).head(_MOST_COMPARED).to_list()
    alike += ids.filter(ids.str.len_chars() == len(customer)).head(_MOST_COMPARED).to_list()
    near = difflib.get_close_matches(customer, dict.fromkeys(alike), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {ids.len():,} customers, for instance {', '.join(ids.head(3))}"
    return f"customer {customer!r} is not known on {day}; {hint}"
