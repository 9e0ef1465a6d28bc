"""Days that were written before journeys.yaml said what it says now: named where they are read, with what to do."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.customers import remembered
from atc_pipeline.customers.profiles import table_schema
from atc_pipeline.customers.tables import MICRO_SEGMENT_MEMBERSHIPS
from atc_pipeline.days.activation import Messages
from atc_pipeline.days.customers import Memberships
from atc_pipeline.days.decision import Decision, Goals, Queues, memory_of
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.days.step import Step
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_QUEUES, JOURNEY_STATE
from atc_pipeline.identity.tables import IDENTITY_MAP
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.tables.store import OlderDayError, Store, with_columns
from resources.storage.lake import Lake
from resources.storage.memory import Memory

FIRST = date(2026, 1, 1)
SECOND = FIRST + timedelta(days=1)
JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-01}
channels: {email: {consent: opt_in}}
traits: {spend: {sum: revenue, of: Bought}, orders: {count: Bought}}
segments: {big: "spend > 100"}
journeys:
  - {id: thanks, length_days: 3, queue: {where: "spend > 100"}, goal: {event: Bought}, steps: [{day: 1, channel: email, content: hello}]}
policy: {score: "spend", suppressed_when: "spend < 0"}
"""
KEPT: dict[str, pl.DataType] = {"date": pl.Date(), "name": pl.String(), "state": pl.Struct({"old": pl.Int64(), "new": pl.Int64()})}


@pytest.fixture
def portfolio(tmp_path: Path) -> Portfolio:
    """One journey, whose every rule reads the trait ``spend``."""
    (tmp_path / "journeys.yaml").write_text(JOURNEYS)
    return load_portfolio(tmp_path / "journeys.yaml")


@pytest.fixture(params=["lake", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return a store of each kind: what a day says does not depend on where it is kept."""
    return Lake(root=str(tmp_path / "lake")) if request.param == "lake" else Memory()


def test_a_day_that_has_every_column_is_read(store: Store) -> None:
    """More columns, and in another order, harm nobody."""
    store.write("kept", FIRST, pl.DataFrame(schema={"more": pl.Int64, **dict(reversed(KEPT.items()))}))
    assert with_columns(store, "kept", FIRST, KEPT, FIRST).collect().is_empty()


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ({name: KEPT[name] for name in ("date", "state")}, "name"),
        ({"date": pl.Date()}, "name, state"),
        (KEPT | {"state": pl.Struct({"old": pl.Int64()})}, "state.new"),
        (KEPT | {"name": pl.Int64()}, "name (it is Int64, not String)"),
    ],
)
def test_what_a_day_lacks_is_named_with_the_remedy(store: Store, schema: dict[str, pl.DataType], names: str) -> None:
    """Table, day, columns, fields and types, and from which day on to catch up."""
    store.write("kept", SECOND, pl.DataFrame(schema=schema))
    with pytest.raises(OlderDayError) as problem:
        with_columns(store, "kept", SECOND, KEPT, FIRST)
    assert str(problem.value).startswith(
        f"kept of {SECOND} was written without what journeys.yaml needs now: {names}. Run the job catch_up from the first day, {FIRST}, "
    )


@pytest.mark.parametrize("largest", [Rolling.LARGEST_KEPT, 0])
def test_an_older_day_of_a_window_is_named(store: Store, monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    """Whether the window is kept in memory or scanned; where days may lack a column they have nulls in it, but for the last."""
    monkeypatch.setattr(Rolling, "LARGEST_KEPT", largest)
    columns = {"date": pl.Date(), "new": pl.Int64()}
    store.write("kept", FIRST, pl.DataFrame({"date": [FIRST]}))
    store.write("kept", SECOND, pl.DataFrame({"date": [SECOND], "new": [2]}))
    with pytest.raises(OlderDayError, match=f"kept of {FIRST} .* now: new"):
        Rolling(store, "kept", 1, columns, since=FIRST).until(SECOND)
    rows = Rolling(store, "kept", 1, columns, since=FIRST, may_lack=True).until(SECOND).sort("date").collect()
    assert rows.rows() == [(FIRST, None), (SECOND, 2)]
    with pytest.raises(OlderDayError, match=f"kept of {FIRST} .* now: new"):
        Rolling(store, "kept", 1, columns, since=FIRST, may_lack=True).until(FIRST)


@pytest.mark.parametrize("step", [Memberships, Queues, Decision, Messages])
def test_every_step_that_reads_profiles_names_the_trait_they_were_written_without(
    step: Callable[[Store, Portfolio], Step], portfolio: Portfolio
) -> None:
    """A trait that is new in journeys.yaml, and a day of profiles that does not know it; a trait that no rule reads is not asked for."""
    store = world(portfolio, {"customer_profiles": ["spend", "orders"]})
    with pytest.raises(OlderDayError, match=f"customer_profiles of {FIRST} .* now: spend. Run"):
        step(store, portfolio).make(FIRST)
    assert step(world(portfolio, {"customer_profiles": ["orders"]}), portfolio).make(FIRST)


def test_a_consent_that_profiles_were_written_without_is_named(portfolio: Portfolio) -> None:
    """A channel that is new."""
    store = world(portfolio, {"customer_profiles": ["consent_email"]})
    with pytest.raises(OlderDayError, match=f"customer_profiles of {FIRST} .* now: consent_email. Run"):
        Messages(store, portfolio).make(FIRST)


def test_a_memory_that_an_older_version_wrote_is_named(portfolio: Portfolio) -> None:
    """What is remembered of journeys is the same for every portfolio, but not for every version of ours."""
    store = world(portfolio, {})
    store.write("journey_state", FIRST, pl.DataFrame(schema=JOURNEY_STATE.schema).drop("finished_on"))
    with pytest.raises(OlderDayError, match=r"by an older version, .*: finished_on. Materialize journey_state again"):
        memory_of(store, portfolio, SECOND)


def test_a_memory_without_what_is_kept_since_goes_on(portfolio: Portfolio) -> None:
    """Who holds control out is drawn again, and nobody has a variant."""
    store = world(portfolio, {})
    everybody = replace(portfolio, policy=replace(portfolio.policy, holdout=1.0))
    row = {"date": FIRST, "customer_id": "a", "journey_id": "thanks", "entered_on": FIRST, "times_entered": 1, "times_completed": 0}
    rows = [row | {"arm": "control", "recent_starts": []}, row | {"customer_id": "b", "arm": "treated", "recent_starts": []}]
    older = pl.DataFrame(rows, schema=JOURNEY_STATE.schema).drop("held_out_by", "variant")
    store.write("journey_state", FIRST, older)
    store.write("identity_map", SECOND, pl.DataFrame(schema=IDENTITY_MAP.schema))
    state = memory_of(store, everybody, SECOND)
    assert state.select("customer_id", "held_out_by", "variant").rows() == [("a", "policy", None), ("b", None, None)]
    assert state.columns == list(JOURNEY_STATE.schema)


def test_a_goal_that_the_days_own_rollup_does_not_count_is_named(portfolio: Portfolio) -> None:
    """Of days before, the events themselves are read instead."""
    store = world(portfolio, {"customer_activity": ["goal.Bought"]})
    with pytest.raises(OlderDayError, match=f"customer_activity of {FIRST} .* now: goal.Bought. Run"):
        Goals(store, portfolio).until(FIRST, {})


def world(portfolio: Portfolio, without: dict[str, list[str]]) -> Memory:
    """Return a first day without rows: of some tables without some columns."""
    store = Memory()
    schemas = {
        "customer_profiles": table_schema(portfolio),
        "customer_activity": remembered.rollup_schema(portfolio),
        "identity_map": IDENTITY_MAP.schema,
        "micro_segment_memberships": MICRO_SEGMENT_MEMBERSHIPS.schema,
        "journey_queues": JOURNEY_QUEUES.schema,
        "journey_assignments": JOURNEY_ASSIGNMENTS.schema,
    }
    for table, schema in schemas.items():
        store.write(table, FIRST, pl.DataFrame(schema=schema).drop(without.get(table, [])))
    return store
