"""What is learned, with numbers made by hand: what its page is tried on without a pipeline."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl

from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.learning.basis import Basis, Feature, Term
from atc_pipeline.learning.model import Counted, GoalModel, Known
from atc_pipeline.learning.quality import BY_JOURNEY, JUDGED
from atc_pipeline.learning.tables import EVERY, MODEL_QUALITY
from atc_pipeline.reports.findings import Findings
from tests.engine.reports.hand_made import TODAY

JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-01}
channels: {email: {consent: opt_in}}
traits: {orders: {count: Order Completed, within_days: 30}, spend: {sum: revenue, of: Order Completed, within_days: 90}}
learning: {use: shadow, features: [orders, spend, tenure_days]}
policy: {explore: 0.02}
journeys:
  - {id: welcome, name: Welcome & hello, length_days: 21, queue: {where: "true"}, holdout: 0.1, goal: {event: Order Completed}}
  - {id: club, name: Tea club, length_days: 28, queue: {where: "true"}, holdout: 0.1, goal: {event: Order Completed}}
  - {id: news, name: Newsletter, length_days: 28, queue: {where: "true"}, goal: {event: Order Completed}}
  - {id: receipt, name: Receipt tips, length_days: 7, queue: {where: "true"}}
"""


def portfolio(use: str = "shadow") -> Portfolio:
    """Four journeys: two with control groups, one without, and one without a goal."""
    return resolve(parse_document(JOURNEYS.replace("use: shadow", f"use: {use}"), "journeys.yaml"))


def model() -> GoalModel:
    """A model that wins: orders raise it up to four, and no further; who has no spend is worse off; tenure hardly matters."""
    basis = Basis(
        (Feature("orders", 0.0, 10.0, (0.2, 0.4)), Feature("spend", 0.0, 500.0, ()), Feature("tenure_days", 0.0, 900.0, ())),
        (
            Term("orders", 0.3, 0.25),
            Term("orders>65", 0.1, 0.2),
            Term("spend", 0.35, 0.2),
            Term("spend?", 0.1, 0.3),
            Term("tenure_days", 0.5, 0.3),
        ),
    )
    weights = [0.5, -0.4, -0.16, -0.12, 0.01]
    shared = np.array([-2.1, *weights, 0.24])
    known: dict[str | None, Known] = {None: Known(Counted(4_210, 640, 420), 0.155, 0.118, shared)}
    own = {
        "welcome": (2_600, 430, 300, 0.168, 0.131, 0.11),
        "club": (1_200, 190, 120, 0.161, 0.149, -0.12),
        "news": (410, 20, 0, 0.05, 0.05, 0),
    }
    for id_, (entries, goals, controls, rate, alone, effect) in own.items():
        known[id_] = Known(Counted(entries, goals, controls), rate, alone, np.array([0.1, *(0.0 for _ in weights), effect]))
    return GoalModel(
        known,
        basis,
        TODAY - timedelta(days=3),
        TODAY - timedelta(days=4),
        30.0,
        0.3981,
        0.4214,
        wins=True,
        counted=Counted(4_210, 640, 420),
    )


def judged(number: int = 3_000, *, by: float = 1.0) -> pl.DataFrame:
    """Entries that matured, of which goals came ``by`` so much as foretold."""
    rng = np.random.default_rng(5)
    expected = np.round(rng.beta(1.4, 8, number), 6)
    return pl.DataFrame(
        {
            "journey_id": pl.Series(["welcome", "club", "news"]).gather(rng.choice(3, number, p=[0.6, 0.3, 0.1])),
            "goal": rng.random(number) < by * expected,
            "expected": expected,
            "arm": ["treated"] * number,
            "propensity_source": ["model"] * number,
            "is_drawn": rng.random(number) < 0.02,
        },
        schema=JUDGED,
    )


def quality(rows: pl.DataFrame) -> pl.DataFrame:
    """``model_quality`` of thirteen weeks over which these entries matured, a week of them on a day."""
    sums: list[Mapping[str, object]] = []
    weeks = 13
    for week in range(weeks):
        theirs = rows[rows.height * week // weeks : rows.height * (week + 1) // weeks]
        drawn = theirs.filter("is_drawn")
        sums.append(
            {"date": TODAY - timedelta(days=7 * (weeks - 1 - week)), "journey_id": EVERY, "matured": theirs.height}
            | {"goals": int(theirs["goal"].sum()), "expected": float(theirs["expected"].sum()), "log_loss": 0.4, "log_loss_rates": 0.42}
            | {"drawn_matured": drawn.height, "drawn_goals": int(drawn["goal"].sum()), "drawn_expected": float(drawn["expected"].sum())}
        )
    return pl.DataFrame(sums, schema=MODEL_QUALITY.schema)


def lately(rows: pl.DataFrame) -> pl.DataFrame:
    """The last third of these entries, by journey."""
    theirs = rows[2 * rows.height // 3 :]
    variance = (pl.col("expected") * (1 - pl.col("expected"))).sum()
    sums = theirs.group_by("journey_id").agg(
        matured=pl.len().cast(pl.Int64), goals=pl.col("goal").sum().cast(pl.Int64), expected=pl.col("expected").sum(), variance=variance
    )
    return sums.sort("journey_id").select(*BY_JOURNEY)


def findings(known: GoalModel | None = None, *, use: str = "shadow", by: float = 1.0, day: date = TODAY, **more: object) -> Findings:
    """All of it together; ``known``: instead of the model."""
    rows = judged(by=by)
    told = portfolio(use)
    every: dict[str, object] = {
        "models": (known or model()).rows(told, day),
        "quality": quality(rows),
        "judged": rows,
        "lately": lately(rows),
    }
    return replace(Findings(day, told), **(every | more))  # type: ignore[arg-type]
