"""Customers, days and values that are far from all others."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from atc_pipeline.customers import accumulators, activity, remembered
from atc_pipeline.customers.activity import roll_up
from atc_pipeline.customers.profiles import STATE, purchases, state_schema, table_schema, update_profiles
from atc_pipeline.events.tables import RAW_EVENTS
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.rules.limits import LimitError

TODAY = date(2026, 1, 1)
HEAD = 'version: "1"\ncalendar: {timezone: UTC, starts_on: 2026-01-01}\n'


def test_a_machine_that_looks_at_everything_ten_thousand_times_a_day_stops_nothing(tmp_path: Path) -> None:
    """Its sum of heavy signals does not fit 64 bits in the unit that sums are exact in."""
    signals = "signals: [{event: Viewed, weight: 1000}]"
    (tmp_path / "journeys.yaml").write_text(f"{HEAD}intents: {{buying: {{half_life_days: 3, full_at: 40_000_000, {signals}}}}}\n")
    portfolio = load_portfolio(tmp_path / "journeys.yaml")
    known = {"date": TODAY, "customer_id": "a", "event_date": TODAY, "events": 10_000, "intent_buying": 10_000 * 1000 * 1_000_000}
    activity = pl.DataFrame([known, known], schema=remembered.rollup_schema(portfolio)).lazy()
    assert update_profiles(None, activity, portfolio, today=TODAY).collect()["intent_buying"].to_list() == [0.5]


def test_a_day_whose_weights_would_not_fit_is_refused_instead_of_wrapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three events, two of them meant, each weighing 2.5 twice: what could be weighed is held against the limit."""
    signals = "signals: [{event: Viewed, weight: 2.5}, {event: Viewed, weight: 2.5}]"
    intents = f"intents: {{buying: {{half_life_days: 3, full_at: 20, {signals}}}}}\n"
    events = [event("u", TODAY, name, number) for number, name in enumerate(("Viewed", "Viewed", "Bought"))]
    monkeypatch.setattr(activity, "LARGEST_WEIGHT", 10_000_000)
    assert profiled(tmp_path, intents, events)["intent_buying"].to_list() == [0.5]
    monkeypatch.setattr(activity, "LARGEST_WEIGHT", 9_999_999)
    with pytest.raises(LimitError, match="micro-weights of a shard of the day's events: 10,000,000, and at most 9,999,999 fit"):
        profiled(tmp_path, intents, events)


@pytest.mark.parametrize("sums", [(1e16, 1.0, 1.0), (1.0, 1e16, 1.0), (1.0, 1.0, 1e16)])
def test_fading_sums_of_many_who_are_one_do_not_depend_on_who_comes_first(tmp_path: Path, sums: tuple[float, ...]) -> None:
    """Real numbers are added in order of size: no order of rows, and no number of threads, changes a digit."""
    signals = "signals: [{event: Viewed}]"
    (tmp_path / "journeys.yaml").write_text(f"{HEAD}intents: {{buying: {{half_life_days: 1, full_at: 1, {signals}}}}}\n")
    portfolio = load_portfolio(tmp_path / "journeys.yaml")
    known = [{"customer_id": name, "first_seen_on": TODAY, "last_seen_on": TODAY} for name in "abc"]
    states = [dict.fromkeys(state_schema(portfolio)) | {"intent_buying": number, "hours": [0] * 24} for number in sums]
    yesterday = pl.DataFrame(
        [one | {STATE: state} for one, state in zip(known, states, strict=True)],
        schema=table_schema(portfolio) | {STATE: pl.Struct(state_schema(portfolio))},
    )
    tomorrow = TODAY + timedelta(days=1)
    absorbed = pl.LazyFrame({"absorbed": ["a", "b"], "customer_id": ["c", "c"], "valid_from": [tomorrow, tomorrow]})
    nothing = pl.LazyFrame(schema=remembered.rollup_schema(portfolio))
    made = update_profiles(yesterday.lazy(), nothing, portfolio, today=tomorrow, absorbed=absorbed).collect()
    assert made[STATE].struct.field("intent_buying").to_list() == [(1e16 + 2) / 2]


def event(user: str, day: date, name: str, number: int = 0, **properties: Any) -> dict[str, Any]:
    """Return an accepted event."""
    at = datetime.combine(day, time(12), UTC)
    known = {"message_id": f"{user}{day}{number}", "type": "track", "event": name, "user_id": user, "timestamp": at, "event_date": day}
    return dict.fromkeys(RAW_EVENTS.schema) | known | {"properties": json.dumps(properties)}


def profiled(folder: Path, journeys: str, *arrived: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Return the profiles of the last of these days."""
    (folder / "journeys.yaml").write_text(HEAD + journeys)
    portfolio = load_portfolio(folder / "journeys.yaml")
    yesterday, rollups = None, []
    for number, rows in enumerate(arrived):
        today = TODAY + timedelta(days=number)
        rollups.append(roll_up(pl.DataFrame(rows, schema=RAW_EVENTS.schema), portfolio, arrival=today).activity)
        yesterday = update_profiles(yesterday, pl.concat(rollups).lazy(), portfolio, today=today).collect().lazy()
    assert yesterday is not None
    return yesterday.collect()


SKI_AND_TEA = """interests:
  half_life_days: 1
  topics: {ski: [{event: Viewed, where: "of = 'ski'"}], tea: [{event: Viewed, weight: 3, where: "of = 'tea'"}]}
"""


@pytest.mark.parametrize("age", [0, 1, 61, 2000, 9000])
def test_shares_of_interest_do_not_depend_on_how_old_it_is(tmp_path: Path, age: int) -> None:
    """However late the signals arrive, and however long ago they were: what is left of each halves alike."""
    day = TODAY - timedelta(days=age)
    late = [
        event("u", day, "Viewed", 1, of="ski"),
        event("u", day - timedelta(days=1), "Viewed", 2, of="tea"),
        event("v", day, "Viewed", of="ski"),
    ]
    told = profiled(tmp_path, SKI_AND_TEA, late, [], [])
    assert told.select("interest_ski", "interest_tea").rows() == [(0.4, 0.6), (1.0, 0.0)]


def test_an_interest_of_today_is_all_there_is_beside_one_of_long_ago(tmp_path: Path) -> None:
    """In whichever order they arrive."""
    old, new = event("u", TODAY - timedelta(days=9000), "Viewed", of="ski"), event("u", TODAY, "Viewed", of="tea")
    for arrived in ([[old], [new]], [[new], [old]], [[old, new]]):
        assert profiled(tmp_path, SKI_AND_TEA, *arrived)["interest_tea"].to_list() == [1.0]


ENGAGEMENT = """channels: {email: {consent: none}, app: {consent: none}}
engagement: {touch: [Sent], response: [Opened], half_life_days: 1}
"""


def test_engagement_of_long_ago_is_what_it_was(tmp_path: Path) -> None:
    """Touches and responses fade alike; touches that have nearly faded are touches still."""
    old, older = TODAY - timedelta(days=3000), TODAY - timedelta(days=6000)
    rows = [
        event("alike", old, "Sent"),
        event("alike", old - timedelta(days=1), "Opened", channel="email"),
        event("later", older, "Sent"),
        event("later", old, "Opened", channel="app"),
        event("never", older, "Opened", channel="app"),
        event("never", old, "Sent"),
        event("untouched", old, "Opened", channel="email"),
    ]
    told = profiled(tmp_path, ENGAGEMENT, rows, []).select("customer_id", "engagement", "preferred_channel")
    assert told.rows() == [("alike", 0.5, "email"), ("later", 1.0, "app"), ("never", 0.0, "app"), ("untouched", None, "email")]


SUMS = """traits:
  spend: {sum: revenue, of: Bought}
  spend_2d: {sum: revenue, of: Bought, within_days: 2}
  mean: {avg: revenue, of: Bought}
  items: {sum: price, of: Bought, each: products}
"""


def test_sums_of_the_largest_values_do_not_wrap(tmp_path: Path) -> None:
    """In the rollup, in a window, over the days and over items: exact, where one Int64 of micro-units ends at 92 of them."""
    large = 99_999_999_999
    day = [event("u", TODAY, "Bought", number, revenue=large, products=[{"price": -large}] * 3) for number in range(100)]
    told = profiled(tmp_path, SUMS, day, [row | {"message_id": f"x{row['message_id']}"} for row in day], [], [])
    assert told.select("spend", "spend_2d", "mean", "items").rows() == [(200 * large, 0.0, large, -600 * large)]


def test_a_sum_that_would_not_fit_stops_the_day_instead_of_wrapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is assumed of sizes is asserted."""
    monkeypatch.setattr(accumulators, "LARGEST_HIGH", 1000)
    with pytest.raises(OverflowError, match=r"spend\.high"):
        profiled(tmp_path, SUMS, [event("u", TODAY, "Bought", revenue=1e10)])


@pytest.mark.slow
@pytest.mark.parametrize("days_since", [0, 92])
def test_orders_without_a_value_are_left_out_of_the_value_by_their_own_count(tmp_path: Path, days_since: int) -> None:
    """A free order beside a paid one takes nothing from the day; days of value are counted, also when days are not told apart any more."""
    long_ago = TODAY - timedelta(days=100)
    orders = [
        event("u", TODAY, "Bought", 1, revenue="100"),
        event("u", TODAY, "Bought", 2, revenue=0),
        event("u", TODAY, "Bought", 3),
        event("u", long_ago, "Bought", revenue=5),
        event("u", long_ago - timedelta(days=1), "Bought", revenue=-5),
    ]
    free = [event("u", TODAY + timedelta(days=1), "Bought", revenue=0), event("v", TODAY, "Bought")]
    told = profiled(tmp_path, "predictions: {order: Bought, value: revenue}\n", orders, free, *[[]] * days_since)
    history = purchases(told.lazy()).select("customer_id", "orders", "valued_orders", "order_value_total").collect()
    assert history.rows() == [("u", 4, 2, 105e6), ("v", 1, 0, 0.0)]
