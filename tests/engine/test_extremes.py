"""Customers, days and values that are far from all others."""

from datetime import date
from pathlib import Path

import polars as pl

from atc_pipeline import measures
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.profiles import update_profiles

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
