"""What promises read before they apply a rule: the rows of a store that they find, and those that they must not.

What belongs here: few rows in a store in memory, by promise. What does not: the rules between frames (``test_broken_rows``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.activation.tables import ACTIVATION, KEY_COLLISION, OUTBOUND_MESSAGES
from atc_pipeline.customers.tables import FEATURE_COVERAGE, PURCHASE_MODELS
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_STATE
from atc_pipeline.identity.tables import IDENTITY_CHANGES, IDENTITY_MAP, MERGED
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.promises.catalog import PROMISES
from resources.storage.memory import Memory

TODAY = date(2026, 3, 10)
YESTERDAY, TOMORROW = TODAY - timedelta(days=1), TODAY + timedelta(days=1)
LONG_AGO, TODAY_IS_FIRST = date(2026, 3, 1), TODAY

JOURNEYS = """
version: "1"
calendar: {{timezone: UTC, starts_on: {starts_on}}}
traits: {{spend: {{sum: n, of: Bought}}}}
journeys: [{{id: daily, length_days: 5, queue: {{where: "true"}}, capacity: {{daily_entries: 1}}}}]
"""

SCHEMAS = {
    "activation": ACTIVATION.schema,
    "customer_profiles": {"date": pl.Date(), "customer_id": pl.String(), "first_seen_on": pl.Date()},
    "feature_coverage": FEATURE_COVERAGE.schema,
    "identity_changes": IDENTITY_CHANGES.schema,
    "identity_map": IDENTITY_MAP.schema,
    "journey_assignments": JOURNEY_ASSIGNMENTS.schema,
    "journey_state": JOURNEY_STATE.schema,
    "outbound_messages": OUTBOUND_MESSAGES.schema,
    "purchase_models": PURCHASE_MODELS.schema,
}

FIND = {f"{promise.table}.{promise.name}": promise.find for promise in PROMISES}
DELIVERED, IN_FULL = "activation.messages_are_delivered", "journey_assignments.no_journey_is_overfull"
LOST, ADD_UP = "customer_profiles.no_customer_is_lost", "journey_assignments.journeys_in_flight_add_up"

Row = Mapping[str, object]


@dataclass(frozen=True)
class Kept:
    """A promise, what is kept in a store by table and day, and what of a column is found today."""

    promise: str
    what: str
    column: str
    found: Sequence[object]
    tables: Mapping[tuple[str, date], Sequence[Row]]
    starts_on: date = field(default=LONG_AGO, kw_only=True)


def person(name: str) -> Row:
    """Return a customer who was first seen long ago."""
    return {"customer_id": name, "first_seen_on": LONG_AGO}


def user(name: str, customer: str, since: date) -> Row:
    """Return whose id a user's is."""
    return {"id_type": "user", "id": name, "customer_id": customer, "valid_from": since, "arm_id": customer, "is_seen": True}


def enters(customer: str) -> Row:
    """Return the answer to a customer who starts the journey."""
    return {"customer_id": customer, "decision": "start", "journey_id": "daily"}


def was_sent(customer: str, status: str) -> Row:
    """Return what has become of a message of the journey."""
    return {"idempotency_key": customer, "customer_id": customer, "journey_id": "daily", "status": status}


MET = {"feature": "spend", "part": 1, "event": "Bought", "read": 0, "skipped": 0}
TWO_ENTER = {("journey_assignments", TODAY): [enters("u"), enters("v")]}
ALL_THERE = {("identity_map", TODAY): [user("u", "u", LONG_AGO), user("v", "v", LONG_AGO)]}
CONTINUED: Row = {"customer_id": "u", "decision": "continue", "journey_id": "daily"}

KEPT = (
    Kept(
        DELIVERED,
        "what was not delivered, and what was withheld for its key",
        "status",
        ["failed", "withheld"],
        {
            ("activation", TODAY): [
                was_sent("u", "delivered"),
                was_sent("v", "failed"),
                {**was_sent("w", "withheld"), "reason": KEY_COLLISION},
                {**was_sent("x", "withheld"), "reason": "no_consent"},
            ]
        },
    ),
    Kept(
        "outbound_messages.keys_are_unique",
        "what is withheld for its key, and nothing else that is",
        "idempotency_key",
        ["u"],
        {
            ("outbound_messages", TODAY): [
                {"idempotency_key": "u", "withheld": KEY_COLLISION},
                {"idempotency_key": "v", "withheld": "no_consent"},
                {"idempotency_key": "w"},
            ]
        },
    ),
    Kept(
        "purchase_models.models_could_be_fitted",
        "a note, where there is one",
        "note",
        ["too few"],
        {("purchase_models", TODAY): [{"note": "too few"}, {"note": None}]},
    ),
    Kept(
        "purchase_models.models_could_be_fitted",
        "on the first day there is nothing to fit on",
        "note",
        [],
        {("purchase_models", TODAY): [{"note": "too few"}]},
        starts_on=TODAY_IS_FIRST,
    ),
    Kept(
        "feature_coverage.every_feature_is_found",
        "what came on a later day does not count",
        "feature",
        ["spend"],
        {
            ("feature_coverage", TODAY): [{**MET, "events": 0, "matched": 0}],
            ("feature_coverage", TOMORROW): [{**MET, "events": 1, "matched": 1}],
        },
    ),
    Kept(
        "identity_map.ids_lead_to_survivors",
        "an id of the day before is missing",
        "ids",
        [1],
        {
            ("identity_map", YESTERDAY): [user("u", "u", LONG_AGO), user("v", "v", LONG_AGO)],
            ("identity_map", TODAY): [user("u", "u", LONG_AGO)],
        },
    ),
    Kept(
        LOST,
        "who was absorbed is not lost",
        "customer_id",
        ["w"],
        {
            ("customer_profiles", YESTERDAY): [person("u"), person("v"), person("w")],
            ("customer_profiles", TODAY): [person("u")],
            ("identity_changes", TODAY): [{"id_type": "user", "id": "v", "customer_id": "u", "change": MERGED}],
        },
    ),
    Kept(
        LOST,
        "on the first day of the calendar nobody was there before",
        "customer_id",
        [],
        {("customer_profiles", YESTERDAY): [person("v")], ("customer_profiles", TODAY): [person("u")]},
        starts_on=TODAY_IS_FIRST,
    ),
    Kept(
        ADD_UP,
        "on the first day of the calendar nobody was in a journey before",
        "customer_id",
        [],
        {
            ("journey_assignments", YESTERDAY): [CONTINUED],
            ("journey_assignments", TODAY): [{"customer_id": "u", "decision": "none"}],
            ("journey_state", TODAY): [],
        },
        starts_on=TODAY_IS_FIRST,
    ),
    Kept(IN_FULL, "two enter where one may, and nothing was sent before", "journey_id", ["daily"], TWO_ENTER),
    Kept(
        IN_FULL,
        "what was sent stands",
        "journey_id",
        [],
        {**TWO_ENTER, **ALL_THERE, ("activation", TODAY): [was_sent("u", "delivered"), was_sent("v", "pending")]},
    ),
    Kept(
        IN_FULL,
        "what did not arrive does not",
        "journey_id",
        ["daily"],
        {**TWO_ENTER, **ALL_THERE, ("activation", TODAY): [was_sent("u", "delivered"), was_sent("v", "failed")]},
    ),
    Kept(
        IN_FULL,
        "and nobody's name is looked up where nothing arrived",
        "journey_id",
        ["daily"],
        {**TWO_ENTER, ("activation", TODAY): [was_sent("u", "failed"), was_sent("v", "failed")]},
    ),
)


@pytest.mark.parametrize(("promise", "kept"), [pytest.param(each.promise, each, id=f"{each.promise}: {each.what}") for each in KEPT])
def test_a_promise_finds_what_breaks_it_in_a_store_and_nothing_else(promise: str, kept: Kept, tmp_path: Path) -> None:
    """Of the day that is asked for."""
    path = tmp_path / "journeys.yaml"
    path.write_text(JOURNEYS.format(starts_on=kept.starts_on), encoding="utf-8")
    store = Memory()
    for (name, day), rows in kept.tables.items():
        store.write(name, day, pl.DataFrame([{"date": day, **row} for row in rows], schema=SCHEMAS[name]))
    found = FIND[promise](store, load_portfolio(path), [TODAY])
    assert (found[kept.column].to_list() if found.height else []) == kept.found
