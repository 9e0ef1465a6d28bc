"""The uplift of many journeys: what a day's estimate costs, of all entries that ever matured, read from a year of files.

The clock is the CPU's, of all threads: reading is part of it. Figures are medians.
"""

import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.outcomes.tables import journey_entries, journey_outcomes, long_outcomes
from atc_pipeline.outcomes.uplift import Evidence, estimate_uplift
from atc_pipeline.rules.arms import CONTROL, JOURNEY, TREATED

TODAY = date(2026, 12, 31)
SEED = 20_261_128
DAYS = 365
SEGMENTS = 40
"""Combinations of segments that entries come in, of two to four each."""
METRICS = ("revenue", "orders", "csat", "opted_out", "visits")


def measure_uplift(entries: int, journeys: int, runs: int) -> None:
    """Estimate a day's uplift, and print the median and the goal."""
    portfolio = _portfolio(journeys)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        _write(home, portfolio, entries)
        seconds = []
        for _ in range(runs):
            began = time.process_time()
            rows = estimate_uplift(_evidence(home, portfolio), portfolio, today=TODAY)
            seconds.append(time.process_time() - began)
    print(f"uplift of {journeys} journeys x {len(METRICS)} metrics, {entries:,} mature entries in {DAYS} files: {rows.height:,} rows")
    print(f"median of {runs}: {median(seconds):.2f} s of CPU (goal: at most 5)")


def _portfolio(journeys: int) -> Portfolio:
    listed = "".join(
        f"\n  - {{id: j{number:03}, length_days: 7, queue: {{where: 'true'}}, holdout: 0.1, "
        f"goal: {{event: Order Completed, within_days: 14}}}}"
        for number in range(journeys)
    )
    text = f"""
version: "1"
calendar: {{timezone: UTC, starts_on: 2026-01-01}}
channels: {{email: {{consent: none, cost: 0.01}}}}
metrics:
  revenue: {{sum: revenue, of: Order Completed}}
  orders: {{count: Order Completed}}
  csat: {{avg: rating, of: Survey Answered}}
  opted_out: {{any: Unsubscribed}}
  visits: {{count: Page Viewed}}
measurement: {{money: revenue, margin: 0.25, guardrails: [opted_out, csat]}}
policy: {{holdout: 0.05}}
journeys:{listed}
"""
    return resolve(parse_document(text, "journeys.yaml"))


def _write(home: Path, portfolio: Portfolio, entries: int) -> None:
    rng = np.random.default_rng(SEED)
    combinations = [sorted({f"s{number}" for number in rng.integers(0, 12, rng.integers(2, 5))}) for _ in range(SEGMENTS)]
    for number in range(DAYS):
        day = TODAY - timedelta(days=DAYS - 1 - number)
        rows = _day(rng, portfolio, combinations, day, number, entries // DAYS)
        for table, spec in (("entries", journey_entries(portfolio)), ("outcomes", journey_outcomes(portfolio))):
            given = rows.with_columns(date=pl.col("entered_on") if table == "entries" else pl.col("matures_on"))
            columns = [
                pl.col(name).cast(dtype) if name in given.columns else pl.lit(None, dtype).alias(name)
                for name, dtype in spec.schema.items()
            ]
            given.select(columns).write_parquet(home / f"{table}-{number:03}.parquet")


def _day(
    rng: np.random.Generator, portfolio: Portfolio, combinations: list[list[str]], matured_on: date, number: int, n: int
) -> pl.DataFrame:
    names = [journey.id for journey in portfolio.journeys]
    is_control = rng.random(n) < 0.1
    worth = rng.gamma(1.0, 40.0, n)
    orders = rng.poisson(0.4, n)
    surveys = rng.poisson(0.1, n)
    ids = pl.select(id=pl.format(f"customer-{number}-{{}}", pl.int_range(n))).to_series()
    entered_on = matured_on - timedelta(days=17)
    return pl.DataFrame(
        {
            "journey_id": pl.Series(names).gather(rng.integers(0, len(names), n)),
            "customer_id": ids,
            "known_as": ids,
            "arm": pl.Series([TREATED, CONTROL]).gather(is_control.astype(int)),
            "held_out_by": pl.Series([None, JOURNEY]).gather(is_control.astype(int)),
            "delivered": np.where(is_control, 0, 2),
            "segments": pl.Series(combinations).gather(rng.integers(0, len(combinations), n)),
            "preferred_channel": pl.Series(["email", "app", "sms", None]).gather(rng.integers(0, 4, n)),
            "goal": orders > 0,
            "revenue": np.round(orders * worth, 2),
            "revenue_before": np.round(worth * rng.gamma(2.0, 0.5, n), 2),
            "orders": orders.astype(float),
            "orders_before": rng.poisson(1.2, n).astype(float),
            "csat_sum": surveys * 4.0,
            "csat_count": surveys.astype(float),
            "csat_sum_before": surveys * 4.0,
            "csat_count_before": surveys.astype(float),
            "opted_out": (rng.random(n) < 0.01).astype(float),
            "opted_out_before": np.zeros(n),
            "visits": rng.poisson(3, n).astype(float),
            "visits_before": rng.poisson(9, n).astype(float),
        }
    ).with_columns(
        entered_on=pl.lit(entered_on),
        matures_on=pl.lit(matured_on),
        holdout=pl.lit(0.1),
        entry_number=pl.lit(1, pl.Int64),
        version=pl.lit(portfolio.version),
        policy_holdout=pl.lit(0.05),
        contaminated=pl.lit(value=False),
    )


def _evidence(home: Path, portfolio: Portfolio) -> Evidence:
    entries, outcomes = (pl.scan_parquet(home / f"{table}-*.parquet") for table in ("entries", "outcomes"))
    return Evidence(entries, outcomes, pl.LazyFrame(schema=long_outcomes(portfolio).schema))
