"""Customers, days and values that are far from all others."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline import measures
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.profiles import STATE, state_schema, table_schema, update_profiles

TODAY = date(2026, 1, 1)
HEAD = 'version: "1"\ncalendar: {timezone: UTC, starts_on: 2026-01-01}\n'


def test_a_machine_that_looks_at_everything_ten_thousand_times_a_day_stops_nothing(tmp_path: Path) -> None:
    """Its sum of heavy signals does not fit 64 bits in the unit that sums are exact in."""
    signals = "signals: [{event: Viewed, weight: 1000}]"
    (tmp_path / "journeys.yaml").write_text(f"{HEAD}intents: {{buying: {{half_life_days: 3, full_at: 40_000_000, {signals}}}}}\n")
    portfolio = load_portfolio(tmp_path / "journeys.yaml")
    known = {"date": TODAY, "customer_id": "a", "event_date": TODAY, "events": 10_000, "intent_buying": 10_000 * 1000 * 1_000_000}
    activity = pl.DataFrame([known, known], schema=measures.rollup_schema(portfolio)).lazy()
    assert update_profiles(None, activity, portfolio, today=TODAY).collect()["intent_buying"].to_list() == [0.5]


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
    nothing = pl.LazyFrame(schema=measures.rollup_schema(portfolio))
    made = update_profiles(yesterday.lazy(), nothing, portfolio, today=tomorrow, absorbed=absorbed).collect()
    assert made[STATE].struct.field("intent_buying").to_list() == [(1e16 + 2) / 2]
