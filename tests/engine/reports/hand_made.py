"""Tables of proof with numbers made by hand: what reports are tried on without a pipeline."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.outcomes.tables import JOURNEY_ATTRIBUTION, JOURNEY_MOVEMENT, PATH_SUMMARY, UPLIFT
from atc_pipeline.reports.findings import CURVES, FUNNEL, VELOCITY, Findings

TODAY = date(2026, 9, 30)

JOURNEYS = """
version: "1"
calendar: {timezone: Europe/Berlin, starts_on: 2026-01-01}
channels: {email: {consent: opt_in, cost: 0.002}}
traits: {orders: {count: Order Completed}}
metrics: {revenue: {sum: revenue, of: Order Completed}, opted_out: {any: Unsubscribed}}
measurement: {money: revenue, margin: 0.25, guardrails: [opted_out]}
segments: {newcomers: "tenure_days < 7", buyers: "orders > 0"}
journeys:
  - id: welcome
    name: Welcome & hello
    length_days: 21
    queue: {any: [newcomers]}
    goal: {event: Order Completed, within_days: 14}
    holdout: 0.1
    measure: {window_days: 28}
    variants: {shares: {offer: 0.5, question: 0.5}}
    steps: [{day: 1, channel: email, content: hello}, {day: 5, channel: email, content: tips}, {day: 12, channel: email, content: last}]
  - {id: club, name: Tea club, length_days: 28, queue: {any: [buyers]}, holdout: 0.1, goal: {event: Order Completed, within_days: 28}}
  - {id: loyal, name: Loyalty thank-you, length_days: 14, queue: {any: [buyers]}, holdout: 0.2}
  - {id: nudge, name: Weekend nudge, length_days: 7, queue: {any: [buyers]}, holdout: 0.1}
  - {id: win_back, name: We miss you, length_days: 30, queue: {any: [buyers]}, holdout: 0.1}
  - {id: news, name: Newsletter, length_days: 28, queue: {any: [buyers]}, holdout: 0.1}
  - {id: survey, name: Survey after a complaint, length_days: 7, queue: {any: [buyers]}, holdout: 0.5}
  - {id: receipt, name: Receipt tips, length_days: 7, queue: {any: [buyers]}}
"""


def portfolio(folder: Path) -> Portfolio:
    """Eight journeys, one of them without a control group."""
    file = folder / "journeys.yaml"
    file.write_text(JOURNEYS)
    return load_portfolio(file)


def estimate(
    journey_id: str,
    verdict: str,
    arms: tuple[int, int],
    means: tuple[float, float] | None = None,
    error: float | None = None,
    *,
    metric: str = "money",
    slice: str = "all",
    reason: str | None = None,
    **more: object,
) -> dict[str, object]:
    """One row of ``uplift``: the interval is as wide as 1.55 times the fixed one."""
    treated, control = arms
    row: dict[str, object] = dict.fromkeys(UPLIFT.schema)
    row |= {"date": TODAY, "journey_id": journey_id, "metric": metric, "slice": slice, "verdict": verdict, "verdict_reason": reason}
    row |= {"treated": treated, "control": control, "treated_nonzero": treated // 3, "control_nonzero": control // 3}
    row |= {"from_on": date(2026, 3, 2), "to_on": date(2026, 8, 30), "immature": treated // 8, "contaminated": 0}
    row |= {"sample_ratio_p": 0.42, "before_p": 0.31}
    if means is not None:
        row |= {"mean_treated": means[0], "mean_control": means[1]}
    if means is not None and error is not None:
        effect = means[0] - means[1]
        wide = 1.55 * 1.96 * error
        row |= {"effect": effect, "effect_unadjusted": 1.1 * effect, "std_error": error, "theta": 0.4, "variance_left": 0.61}
        row |= {"fixed_low": effect - 1.96 * error, "fixed_high": effect + 1.96 * error}
        row |= {"anytime_low": effect - wide, "anytime_high": effect + wide, "relative": effect / means[1] if means[1] else None}
        row |= {"smallest_visible": 2.8 * error, "total": effect * treated}
        row |= {"total_low": (effect - wide) * treated, "total_high": (effect + wide) * treated}
        row |= {"net": 0.25 * effect * treated - 0.002 * 3 * treated} if metric == "money" else {}
    return row | more


ROWS = [
    estimate("system", "helps", (48_210, 5_390), (31.90, 29.80), 0.41, slice="run_rate"),
    estimate("system", "helps", (41_870, 4_660), (92.40, 87.10), 1.02, slice="long"),
    estimate("welcome", "helps", (12_431, 1_380), (24.10, 19.80), 0.62),
    estimate("welcome", "exploratory", (12_431, 1_380), (0.312, 0.268), 0.013, metric="goal"),
    estimate("welcome", "harmless", (12_431, 1_380), (0.0051, 0.0047), 0.0019, metric="opted_out"),
    estimate("welcome", "exploratory", (6_240, 702), (25.20, 19.80), 0.85, slice="segment:newcomers"),
    estimate("welcome", "exploratory", (6_190, 678), (23.00, 19.80), 0.91, slice="segment:everyone_else"),
    estimate("welcome", "exploratory", (3_300, 371), (22.10, 19.90), 1.21, slice="month:2026-07"),
    estimate("welcome", "exploratory", (6_215, 6_216), (23.60, 24.60), 0.39, slice="variant:question/offer"),
    estimate("club", "undecided", (4_020, 447), (51.30, 49.10), 4.90, reason="1,340 customers and 58 days more for half the width"),
    estimate("loyal", "harmless", (8_800, 2_210), (70.20, 70.00), 0.90),
    estimate("nudge", "harms", (15_900, 1_770), (11.40, 13.10), 0.31),
    estimate("win_back", "too_early", (610, 68), (6.10, 5.40), 2.30, reason="31 of control have bought, 50 are needed"),
    estimate("news", "negligible", (22_400, 22_350), (40.02, 40.00), 0.12),
    estimate("survey", "broken", (900, 1_240), (8.00, 7.10), 1.10, reason="the split is not as drawn", sample_ratio_p=1e-6),
    estimate("receipt", "no_holdout", (9_300, 0), (18.20, 0.0), mean_control=None),
]  # fmt: skip


def uplift(*rows: dict[str, object]) -> pl.DataFrame:
    """Rows of ``uplift``; all of them, if none are given."""
    return pl.DataFrame(rows or ROWS, schema=UPLIFT.schema)
