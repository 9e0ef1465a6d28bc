"""Entries: one for each start and each switch, with what was true then, and nothing of what is true later (SPEC 10)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from atc_pipeline.customers.tables import MICRO_SEGMENT_MEMBERSHIPS
from atc_pipeline.days.customers import Activity, Metrics
from atc_pipeline.days.decision import Decision
from atc_pipeline.days.step import write_day
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_QUEUES
from atc_pipeline.events.tables import RAW_EVENTS
from atc_pipeline.identity.tables import IDENTITY_MAP
from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.outcomes.tables import journey_entries
from resources.storage.memory import Memory

FIRST = date(2026, 3, 1)
LIFE = "engagement: {touch: [Sent], response: [Opened]}\npredictions: {order: Bought, value: revenue}"
HELLO = "id: hello, length_days: 9, queue: {where: 'true'}, goal: {event: Bought, within_days: 5}"


def day(number: int) -> date:
    """Return a day by its number, from 0."""
    return FIRST + timedelta(days=number)


def portfolio(*journeys: str, policy: str = "{prior_propensity: 0.07}", measurement: str = "{}", life: str = LIFE) -> Portfolio:
    """Return a portfolio of journeys, with metrics of two kinds."""
    listed = "".join(f"\n  - {{{journey}}}" for journey in journeys or (HELLO,))
    text = f"""
version: "7"
calendar: {{timezone: UTC, starts_on: {FIRST}}}
channels: {{app: {{consent: none}}}}
metrics: {{spend: {{sum: revenue, of: Bought}}, stars: {{avg: stars, of: Rated}}}}
measurement: {measurement}
{life}
policy: {policy}
journeys:{listed}
"""
    return resolve(parse_document(text, "journeys.yaml"))


class World:
    """Days in memory: what happened, who is queued for what, and what was decided."""

    def __init__(self, *customers: str) -> None:
        self.store, self.customers = Memory(), sorted(customers)
        self.events: dict[date, list[dict[str, Any]]] = {}
        self.people: dict[str, str] = {}
        self.segments: dict[str, Sequence[str]] = {}

    def happens(self, number: int, who: str, event: str, properties: str = "{}", at: int | None = None) -> None:
        """Say that an event arrives on a day; ``at``: the day on which it happened."""
        rows = self.events.setdefault(day(number), [])
        happened = day(number if at is None else at)
        rows.append(
            {"date": day(number), "message_id": f"{number}-{len(rows)}", "type": "track", "event": event, "user_id": who}
            | {
                "properties": properties,
                "timestamp": datetime(happened.year, happened.month, happened.day, 9, tzinfo=UTC),
                "event_date": happened,
            }
        )

    def decide(
        self,
        number: int,
        of: Portfolio,
        queued: Mapping[str, Sequence[str]],
        delivered: pl.DataFrame | None = None,
        versions: Mapping[str, Portfolio] | None = None,
    ) -> pl.DataFrame:
        """Make a day; return its entries."""
        today = day(number)
        events = pl.DataFrame(self.events.get(today, []), schema={name: RAW_EVENTS.schema[name] for name in _EVENT})
        lacking = [pl.lit(None, dtype).alias(name) for name, dtype in RAW_EVENTS.schema.items() if name not in _EVENT]
        self.store.write("raw_events", today, events.with_columns(lacking).select(*RAW_EVENTS.schema))
        known = [(today, "user", name, self.people.get(name, name), FIRST, name, True, None) for name in self.customers]
        there = sorted({self.people.get(name, name) for name in self.customers})
        self.store.write("identity_map", today, pl.DataFrame(known, schema=IDENTITY_MAP.schema, orient="row"))
        profiles = {"date": today, "customer_id": there, "preferred_channel": ["app" if name == "a" else None for name in there]}
        self.store.write("customer_profiles", today, pl.DataFrame(profiles).with_columns(pl.col("preferred_channel").cast(pl.String)))
        members = [(today, name, who, today) for who, names in self.segments.items() for name in names]
        self.store.write("micro_segment_memberships", today, pl.DataFrame(members, schema=MICRO_SEGMENT_MEMBERSHIPS.schema, orient="row"))
        waiting = sorted((today, journey, who, today, 0) for journey, names in queued.items() for who in names)
        self.store.write("journey_queues", today, pl.DataFrame(waiting, schema=JOURNEY_QUEUES.schema, orient="row"))
        find = (versions or {}).get
        for step in (Activity(self.store, of), Metrics(self.store, of), Decision(self.store, of, delivered, versions=find)):
            write_day(self.store, step, today)
        return self.store.read("journey_entries", today)


_EVENT = ("date", "message_id", "type", "event", "user_id", "properties", "timestamp", "event_date")


def test_a_start_and_a_switch_are_entries_and_nothing_else_is() -> None:
    """Neither staying in a journey nor being in none; each says which entry it is."""
    world, of = World("a", "b"), portfolio(HELLO, "id: rescue, length_days: 2, queue: {where: 'true'}, can_interrupt: true, priority: 90")
    key = ["customer_id", "journey_id", "decision", "entry_number"]
    assert world.decide(0, of, {"hello": ["a"]}).select(key).rows() == [("a", "hello", "start", 1)]
    assert world.decide(1, of, {"rescue": ["b"]}).select(key).rows() == [("b", "rescue", "start", 1)]
    assert world.decide(2, of, {"rescue": ["a"]}).select(key).rows() == [("a", "rescue", "switch", 1)]
    assert world.decide(3, of, {}).is_empty()


def test_another_entry_has_its_number() -> None:
    """As often as the customer has entered the journey, this time among them."""
    world, of = World("a"), portfolio("id: j, length_days: 1, queue: {where: 'true'}, reentry: {after_days: 1, from: entry}")
    assert [world.decide(number, of, {"j": ["a"]})["entry_number"].to_list() for number in range(3)] == [[1], [2], [3]]


def test_an_entry_says_what_was_true_of_the_file() -> None:
    """Holdouts and their versions, the variant and its share, the score's propensity, the window and when it has matured."""
    journey = f"{HELLO}, holdout: 0.9999, holdout_version: '2', variants: {{shares: {{x: 0.4, y: 0.6}}}}, measure: {{window_days: 8}}"
    of = portfolio(journey, policy="{holdout: 0.2, prior_propensity: 0.07}", measurement="{late_days: 4}")
    (row,) = World("a").decide(0, of, {"hello": ["a"]}).to_dicts()
    expected = {
        "arm": "control", "holdout": 0.9999, "holdout_version": "2", "policy_holdout": 0.2, "version": "7", "propensity": 0.07,
        "variant_probability": {"x": 0.4, "y": 0.6}[row["variant"]], "baseline": None, "propensity_source": "prior",
        "model_fitted_on": None, "window_days": 8, "matures_on": day(12), "goal_within_days": 5, "is_drawn": False, "options": 1,
        "selection_probability": 1.0, "portfolio": of.fingerprint,
    }  # fmt: skip
    assert row | expected == row
    assert row["held_out_by"] in {"policy", "journey"}


@pytest.mark.parametrize(
    ("journey", "measurement", "window"),
    [
        ("id: j, length_days: 9, queue: {where: 'true'}", "{}", 9),
        ("id: j, length_days: 9, queue: {where: 'true'}", "{window_days: 28}", 28),
        ("id: j, length_days: 9, queue: {where: 'true'}, goal: {event: Bought, within_days: 5}", "{window_days: 28}", 5),
        (
            "id: j, length_days: 9, queue: {where: 'true'}, goal: {event: Bought, within_days: 5}, measure: {window_days: 2}",
            "{window_days: 28}",
            2,
        ),
    ],
)
def test_the_window_is_the_journeys_or_the_goals_or_everybodys_or_as_long_as_it_runs(journey: str, measurement: str, window: int) -> None:
    """In this order; and it matures three days after unless the file says otherwise."""
    (row,) = World("a").decide(0, portfolio(journey, measurement=measurement), {"j": ["a"]}).to_dicts()
    assert (row["window_days"], row["matures_on"]) == (window, day(window + 3))


def test_an_entry_says_what_was_true_of_the_customer() -> None:
    """Micro-segments in order, and the preferred channel; of who is in none, nothing."""
    world = World("a", "b")
    world.segments = {"a": ["poor", "big"]}
    rows = world.decide(0, portfolio(), {"hello": ["a", "b"]})
    assert rows.select("customer_id", "segments", "preferred_channel").rows() == [("a", ["big", "poor"], "app"), ("b", [], None)]


def test_what_the_customer_was_worth_before_ends_with_the_day_of_the_entry() -> None:
    """It counts in the days up to the entry, that day included, what arrived by then, under whatever name."""
    world, of = World("a", "old"), portfolio(measurement="{before_days: 3}")
    world.happens(0, "a", "Bought", '{"revenue": 1}')
    world.happens(1, "old", "Bought", '{"revenue": 2.5}')
    world.happens(1, "a", "Rated", '{"stars": 4}')
    world.happens(2, "a", "Rated", '{"stars": 1}')
    world.happens(3, "a", "Bought", '{"revenue": 16}')
    world.happens(3, "a", "Bought", '{"revenue": 32}', at=0)
    world.happens(4, "a", "Bought", '{"revenue": 64}', at=3)
    for number in range(3):
        world.decide(number, of, {})
    world.people = {"old": "a"}
    (row,) = world.decide(3, of, {"hello": ["a"]}).to_dicts()
    names = ("spend_before", "stars_sum_before", "stars_count_before", "money_before", "responses_before")
    assert [row[name] for name in names] == [18.5, 5.0, 2.0, 18.5, 0.0]


@pytest.mark.parametrize(
    ("event", "on", "is_quiet"),
    [("Bought", 0, True), ("Bought", 1, False), ("Bought", 3, False), ("Opened", 1, False), ("Opened", 0, True), ("Sent", 3, True)],
)
def test_quiet_is_who_has_neither_answered_nor_ordered_lately(event: str, on: int, is_quiet: bool) -> None:
    """In the last three days here, the day of entry among them; an order that was worth nothing is an order."""
    world, of = World("a"), portfolio(life=f"{LIFE}\npaths: {{quiet_days: 3}}")
    world.happens(on, "a", event)
    for number in range(3):
        world.decide(number, of, {})
    assert world.decide(3, of, {"hello": ["a"]})["is_quiet"].to_list() == [is_quiet]


def test_nobody_is_quiet_where_nobody_could_be_seen_to_come_back() -> None:
    """A file without engagement and predictions says nothing of answers or orders."""
    of = portfolio("id: j, length_days: 2, queue: {where: 'true'}", life="")
    (row,) = World("a").decide(0, of, {"j": ["a"]}).to_dicts()
    assert (row["is_quiet"], row["preferred_channel"], row["goal_within_days"]) == (False, None, None)


def test_what_stands_is_the_entry_it_was() -> None:
    """A day decided again by another file: what was delivered is measured as its own version says, and everybody else by the new one."""
    of = portfolio(f"{HELLO}, variants: {{shares: {{x: 0.5, y: 0.5}}}}", policy="{explore: 0.5}")
    later = portfolio(
        f"{HELLO}, holdout: 0.9999, measure: {{window_days: 3}}", measurement="{late_days: 9}", policy="{prior_propensity: 0.5}"
    )
    world = World("a", "b")
    first = world.decide(0, of, {"hello": ["a", "b"]})
    delivered = world.store.read("journey_assignments", FIRST).filter(customer_id="a")
    again = world.decide(0, later, {"hello": ["a", "b"]}, delivered, {of.fingerprint: of})
    assert again.filter(customer_id="a").equals(first.filter(customer_id="a"))
    (other,) = again.filter(customer_id="b").to_dicts()
    assert (other["arm"], other["window_days"], other["matures_on"], other["propensity"]) == ("control", 3, day(12), 0.5)


def test_what_stands_of_a_version_that_is_gone_is_measured_as_the_file_says_now() -> None:
    """Nobody can say what it would have been; the lots are in the row."""
    of, later = portfolio(f"{HELLO}, variants: {{shares: {{x: 0.5, y: 0.5}}}}"), portfolio(f"{HELLO}, measure: {{window_days: 3}}")
    world = World("a")
    (first,) = world.decide(0, of, {"hello": ["a"]}).to_dicts()
    delivered = world.store.read("journey_assignments", FIRST)
    (row,) = world.decide(0, later, {"hello": ["a"]}, delivered).to_dicts()
    assert (row["window_days"], row["variant"], row["variant_probability"]) == (3, first["variant"], None)


def test_what_an_older_version_delivered_is_an_entry_all_the_same() -> None:
    """It did not keep among how many journeys it chose, nor whether by lot: both are null."""
    world, of = World("a"), portfolio()
    world.decide(0, of, {"hello": ["a"]})
    older = ["held_out_by", "variant", "is_drawn", "options"]
    delivered = world.store.read("journey_assignments", FIRST).with_columns(pl.lit(None).alias(name) for name in older)
    (row,) = world.decide(0, of, {"hello": ["a"]}, delivered.cast(JOURNEY_ASSIGNMENTS.schema)).to_dicts()
    assert [row[name] for name in ("arm", *older, "entry_number")] == ["treated", None, None, None, None, 1]


def test_a_day_without_entries_has_the_columns_of_others() -> None:
    """And one with some has them in the order of the table."""
    world, of = World("a"), portfolio()
    for queued in ({}, {"hello": ["a"]}):
        assert dict(world.decide(0, of, queued).schema) == dict(journey_entries(of).schema)
