"""Entries and what came of them, drawn: of customers who were or were not held out, with effects that are known.

What belongs here: the frames that an estimate stands on. What does not: any test.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import polars as pl

from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.outcomes.tables import journey_entries, journey_outcomes, long_outcomes
from atc_pipeline.outcomes.uplift import Evidence

FIRST = date(2026, 1, 1)
TODAY = date(2026, 6, 30)


def portfolio(
    journeys: int = 1,
    *,
    holdout: float = 0.5,
    policy_holdout: float = 0.0,
    measurement: str = "money: revenue",
    of_journey: str = "",
    of_all: str = "",
) -> Portfolio:
    """A portfolio of so many journeys, all alike."""
    listed = "".join(
        f"\n  - {{id: j{number}, length_days: 7, queue: {{where: 'true'}}, holdout: {holdout}, "
        f"goal: {{event: Order Completed, within_days: 14}}{of_journey}}}"
        for number in range(journeys)
    )
    text = f"""
version: "1"
calendar: {{timezone: UTC, starts_on: 2026-01-01}}
channels:
  email: {{consent: none, cost: 0.01}}
metrics:
  revenue: {{sum: revenue, of: Order Completed}}
  csat: {{avg: rating, of: Survey Answered}}
  opted_out: {{any: Unsubscribed}}
measurement: {{{measurement}}}
policy: {{holdout: {policy_holdout}}}
{of_all}
journeys:{listed}
"""
    return resolve(parse_document(text, "journeys.yaml"))


@dataclass
class World:
    """Customers who enter journeys by chance, and what they bring: ``effect`` is what a treated one brings more, by journey."""

    of: Portfolio
    customers: int = 2_000
    seed: int = 1
    effect: dict[str, float] = field(default_factory=dict)
    buyers: float = 0.5
    held_out: float | None = None
    """The share that is held out in fact; None: as the portfolio says."""

    def evidence(self) -> Evidence:
        """Draw the frames."""
        rng = np.random.default_rng(self.seed)
        parts = [self._journey(journey.id, journey.holdout, rng) for journey in self.of.journeys]
        rows = pl.concat(parts)
        entries = _filled(rows.with_columns(date=pl.col("entered_on")), journey_entries(self.of).schema)
        outcomes = _filled(rows.filter(pl.col("matures_on") <= TODAY).with_columns(date="matures_on"), journey_outcomes(self.of).schema)
        return Evidence(entries.lazy(), outcomes.lazy(), pl.LazyFrame(schema=long_outcomes(self.of).schema))

    def _journey(self, name: str, holdout: float, rng: np.random.Generator) -> pl.DataFrame:
        n = self.customers
        is_control = rng.random(n) < (holdout if self.held_out is None else self.held_out)
        worth = rng.gamma(1.0, 40.0, n)
        before = np.round(worth * rng.gamma(2.0, 0.5, n), 2)
        money = np.where(rng.random(n) < self.buyers, worth * rng.gamma(2.0, 0.5, n), 0) + np.where(
            is_control, 0, self.effect.get(name, 0.0)
        )
        surveyed = rng.poisson(0.5, n)
        window = self.of.window_days(next(journey for journey in self.of.journeys if journey.id == name))
        entered = [FIRST + timedelta(days=int(day)) for day in rng.integers(0, (TODAY - FIRST).days + 1, n)]
        ids = [f"{name}-{number}" for number in range(n)]
        return pl.DataFrame(
            {
                "journey_id": [name] * n,
                "customer_id": ids,
                "known_as": ids,
                "entered_on": entered,
                "matures_on": [day + timedelta(days=window + self.of.measurement.late_days) for day in entered],
                "arm": np.where(is_control, "control", "treated"),
                "held_out_by": pl.Series(np.where(is_control, "journey", "")).replace("", None),
                "holdout": [holdout] * n,
                "entry_number": [1] * n,
                "version": [self.of.version] * n,
                "contaminated": [False] * n,
                "delivered": np.where(is_control, 0, 2),
                "segments": [["all", f"s{number % 3}"] for number in range(n)],
                "preferred_channel": ["email"] * n,
                "goal": money > 0,
                "revenue": np.round(money, 2),
                "revenue_before": before,
                "csat_sum": surveyed * 4.0,
                "csat_count": surveyed.astype(float),
                "csat_sum_before": surveyed * 4.0,
                "csat_count_before": surveyed.astype(float),
                "opted_out": (rng.random(n) < 0.05).astype(float),
                "opted_out_before": np.zeros(n),
            }
        )


def _filled(rows: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Give a frame the columns of its table, null where it has none."""
    return rows.select(
        pl.col(name).cast(dtype) if name in rows.columns else pl.lit(None, dtype).alias(name) for name, dtype in schema.items()
    )
