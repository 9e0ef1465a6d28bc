"""A day of paths and movement: what it reads of which day, and from which day on there is anything to describe."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from atc_pipeline.days.catalog import tables
from atc_pipeline.days.paths import Described
from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.tables.store import MissingDayError
from resources.storage.memory import Memory

FIRST = date(2026, 1, 1)
JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-01}
channels: {email: {consent: none}, app: {consent: none}}
metrics: {revenue: {sum: revenue, of: Order Completed}}
measurement: {money: revenue, late_days: 1}
engagement: {response: [Link Clicked], touch: [Message Sent]}
journeys:
  - {id: tea, length_days: 9, queue: {where: "true"}, channels: [email], holdout: 0.5, goal: {event: Order Completed, within_days: 2}}
  - {id: news, length_days: 9, queue: {where: "true"}, channels: [app]}
"""
Rows = Sequence[Mapping[str, object]]
OURS = '{"library": {"name": "atc_pipeline"}}'


def at(number: int) -> date:
    """Return the day of that number, from 1."""
    return FIRST + timedelta(days=number - 1)


@pytest.fixture
def portfolio() -> Portfolio:
    """Two journeys, one of which has a goal, by channels of their own."""
    return resolve(parse_document(JOURNEYS, "journeys.yaml"))


def describe(portfolio: Portfolio, days: int, written: Mapping[tuple[str, int], Rows], entries_from: int = 1) -> Memory:
    """Describe so many days, of tables that are empty but for these rows; ``entries_from``: the first day that has entries."""
    store = Memory()
    step = Described(store, portfolio)
    made = ("path_", "journey_attribution", "journey_movement", "journey_alternatives", "journey_described", "journey_satisfaction")
    for number in range(1, days + 1):
        for name, table in tables(portfolio).items():
            if not name.startswith(made) and not (name == "journey_entries" and number < entries_from):
                rows = [{"date": at(number), **row} for row in written.get((name, number), [])]
                store.write(name, at(number), pl.DataFrame(rows, schema=table.schema))
        if number >= entries_from:
            for name, frame in step.make(at(number)).items():
                assert isinstance(frame, pl.DataFrame)
                assert frame.schema == tables(portfolio)[name].schema
                store.write(name, at(number), frame)
    return store


def event(customer: str, number: int, name: str, properties: str = "{}", context: str | None = None) -> Mapping[str, object]:
    """Return an event of a day."""
    happened = {"timestamp": datetime(2026, 1, number, tzinfo=UTC), "event_date": at(number)}
    return {"type": "track", "event": name, "user_id": customer, "properties": properties, "context": context, **happened}


def flight(customer: str, arm: str = "treated", **more: object) -> Mapping[str, object]:
    """Return what is remembered of somebody who entered the journey with a goal on the first day."""
    spell = {"customer_id": customer, "journey_id": "tea", "entered_on": FIRST, "times_entered": 1, "arm": arm}
    return {**spell, "held_out_by": None if arm == "treated" else "journey", **more}


def measured(customer: str, number: int, **more: object) -> Mapping[str, object]:
    """Return what is measured of a customer's day."""
    nothing = {"revenue.micro": 0, "responses.n": 0, "goal:Order Completed.n": 0, "sent:journeys": []}
    return {"customer_id": customer, "event_date": at(number), **nothing, **more}


def test_messages_are_told_once_every_response_has_come(portfolio: Portfolio) -> None:
    """Sent on the second day; a click on the fifth, which arrives on the sixth, answers one of them, and one on the sixth answers none."""
    sent = '{"journey_id": "tea", "step_day": 1}'
    messages = [event(customer, 2, "Message Sent", sent, OURS) for customer in ("ann", "bob")] + [event("cid", 2, "Message Sent", sent)]
    clicks = [measured("ann", 5, **{"responses.n": 1}), measured("bob", 6, **{"responses.n": 1})]
    store = describe(portfolio, 6, {("raw_events", 2): messages, ("customer_metrics", 6): clicks})
    assert store.read("journey_movement", at(5)).is_empty()
    told = store.read("journey_movement", at(6)).select("journey_id", "day_index", "sent", "responded")
    assert told.rows() == [("tea", 1, 2, 1)]


def test_first_entries_are_watched_until_the_days_of_the_goal_are_over(portfolio: Portfolio) -> None:
    """In it on the first day, two days for the goal and one for what comes late: told on the fourth, by arm, of whom only the lot parts."""
    entered = [
        flight("ann"), flight("bob"), flight("cid", "control"),
        flight("again", times_entered=2), flight("gone", ended_on=FIRST), flight("out", "control", held_out_by="policy"),
    ]  # fmt: skip
    bought = [measured("ann", 3, **{"goal:Order Completed.n": 1}), measured("cid", 1, **{"goal:Order Completed.n": 1})]
    store = describe(portfolio, 4, {("journey_state", 1): entered, ("customer_metrics", 4): bought})
    rows = store.read("journey_movement", at(4)).filter(pl.col("watched_treated") > 0)
    shown = ("day_index", "watched_treated", "watched_control", "advance_treated", "advance_control")
    assert rows.select(shown).rows() == [(1, 2, 1, 0.5, 0.0)]
    assert store.read("journey_movement", at(3))["watched_treated"].sum() == 0


def test_a_no_counts_on_a_channel_of_the_journey_one_is_in(portfolio: Portfolio) -> None:
    """By e-mail, and by all channels: both are told of the journey that sends e-mail; by the app alone it is not."""
    inside = [
        {"customer_id": name, "decision": "continue", "journey_id": "tea", "entered_on": FIRST, "arm": "treated"}
        for name in ("ann", "bob", "cid")
    ]
    noes = [
        event("ann", 2, "Unsubscribed", '{"channel": "email"}'),
        event("bob", 2, "Unsubscribed"),
        event("cid", 2, "Unsubscribed", '{"channel": "app"}'),
    ]
    days = {("journey_assignments", 1): inside, ("journey_assignments", 2): inside, ("raw_events", 2): noes}
    row = describe(portfolio, 2, days).read("journey_movement", at(2))
    assert row.select("journey_id", "day_index", "at_risk", "unsubscribed").rows() == [("tea", 2, 3, 2)]


def test_a_merge_ends_one_of_two_spells_of_a_journey(portfolio: Portfolio) -> None:
    """Both were in it; of the survivor one spell goes on, and the other ended: nobody is at risk for ever."""
    both = [
        {"customer_id": name, "decision": "continue", "journey_id": "tea", "entered_on": at(day), "arm": "treated"}
        for name, day in (("ann", 1), ("anon:v", 2))
    ]
    entries = {
        ("journey_entries", day): [{"customer_id": name, "journey_id": "tea", "arm": "treated"}]
        for name, day in (("ann", 1), ("anon:v", 2))
    }
    merged = {"id_type": "anonymous", "id": "v", "customer_id": "ann", "valid_from": at(3), "arm_id": "anon:v"}
    days = {("journey_assignments", 2): both, ("journey_state", 3): [flight("ann")], ("identity_map", 3): [merged], **entries}
    store = describe(portfolio, 3, days)
    ended = store.read("path_steps", at(3)).select("customer_id", "entered_on", "ended_reason")
    assert ended.rows() == [("ann", at(1), None), ("ann", at(2), "merged")]
    assert store.read("journey_movement", at(3)).filter(pl.col("interrupted") > 0)["day_index"].to_list() == [2]


def test_messages_sent_and_money_arrive_as_they_are_measured(portfolio: Portfolio) -> None:
    """Two messages of the journey, a response, and money: on the path, which it closes."""
    entered = [{"customer_id": "ann", "journey_id": "tea", "arm": "treated"}]
    told = measured("ann", 2, **{"sent:journeys": [{"journey_id": "tea", "n": 2}], "responses.n": 1})
    paid = measured("ann", 3, **{"revenue.micro": 12_500_000})
    store = describe(portfolio, 3, {("journey_entries", 1): entered, ("customer_metrics", 2): [told], ("customer_metrics", 3): [paid]})
    step = store.read("path_steps", at(3)).select("sent", "responses", "closed_on", "value")
    assert step.rows() == [(2, 1, at(3), 12.5)]
    credit = store.read("journey_attribution", at(3)).select("journey_id", "conversions_markov", "value_first")
    assert credit.rows() == [("tea", 1.0, 12.5)]


def test_an_older_lake_is_described_from_its_first_day_of_entries_on(portfolio: Portfolio) -> None:
    """The days before have none, and nothing is carried from them; after that none may be missing."""
    entered = [{"customer_id": "ann", "journey_id": "tea", "arm": "treated"}]
    store = describe(portfolio, 3, {("journey_entries", 2): entered}, entries_from=2)
    assert store.days("path_steps") == [at(2), at(3)]
    assert store.read("path_steps", at(3))["customer_id"].to_list() == ["ann"]
    gap = Memory()
    for number in (2, 3):
        for name in tables(portfolio):
            if store.has(name, at(number)) and not (name.startswith("path_") and number == 2):
                gap.write(name, at(number), store.read(name, at(number)))
    with pytest.raises(MissingDayError, match="path_steps has no data for 2026-01-02"):
        Described(gap, portfolio).make(at(3))
