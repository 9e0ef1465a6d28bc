"""Tables of proof with numbers made by hand: what reports are tried on without a pipeline."""

from datetime import date
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
    metric: str = "revenue",
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
    row |= {"unstable": 0, "sent_to_control": 0, "given_up": (means[0] - means[1]) * control if means else None}
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
        row |= {"net": 0.25 * effect * treated - 0.002 * 3 * treated} if metric == "revenue" else {}
    return row | more


ROWS = [
    estimate("system", "exploratory", (48_210, 5_390), (31.90, 29.80), 0.41, slice="run_rate"),
    estimate("system", "helps", (41_870, 4_660), (92.40, 87.10), 1.02, slice="long"),
    estimate("welcome", "helps", (12_431, 1_380), (24.10, 19.80), 0.62),
    estimate("welcome", "exploratory", (12_431, 1_380), (0.312, 0.268), 0.013, metric="goal"),
    estimate("welcome", "harmless", (12_431, 1_380), (0.0051, 0.0047), 0.0019, metric="opted_out"),
    estimate("welcome", "exploratory", (6_240, 702), (25.20, 19.80), 0.85, slice="segment:newcomers"),
    estimate("welcome", "exploratory", (6_190, 678), (23.00, 19.80), 0.91, slice="segment:everyone_else"),
    estimate("welcome", "exploratory", (3_300, 371), (22.10, 19.90), 1.21, slice="month:2026-07"),
    estimate("welcome", "exploratory", (6_215, 6_216), (23.60, 24.60), 0.39, slice="variant:offer/question"),
    estimate("club", "undecided", (4_020, 447), (51.30, 49.10), 4.90, more_customers=13_400, more_days=580),
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


def movement() -> pl.DataFrame:
    """Welcome, day by day."""
    rows, at_risk = [], 12_431
    for index in range(1, 22):
        converted, exited, interrupted = at_risk // 40, at_risk // (60 if index == 6 else 400), at_risk // 250
        completed = at_risk - converted - exited - interrupted if index == 21 else 0
        sent = at_risk * 9 // 10 if index in {1, 5, 12} else 0
        rows.append(
            {"date": TODAY, "journey_id": "welcome", "day_index": index, "at_risk": at_risk, "converted": converted, "exited": exited}
            | {"interrupted": interrupted, "completed": completed, "unsubscribed": at_risk // 900, "sent": sent, "responded": sent // 14}
            | {"advance_treated": 0.31 - index / 150, "advance_control": 0.27 - index / 150}
            | {"watched_treated": at_risk - 400, "watched_control": at_risk // 9}
        )
        at_risk -= converted + exited + interrupted + completed
    return pl.DataFrame(rows, schema=JOURNEY_MOVEMENT.schema)


def curves() -> pl.DataFrame:
    """Welcome: money per customer by days after the entry."""
    arms = {"treated": (12_431, 24.1, 0.21), "control": (1_380, 19.8, 0.58)}
    rows = [
        {"journey_id": "welcome", "arm": arm, "days": day, "customers": customers}
        | {"mean": total * (1 - 0.93**day) / (1 - 0.93**28), "std_error": error * (day / 28) ** 0.5}
        for arm, (customers, total, error) in arms.items()
        for day in range(1, 29)
    ]
    return pl.DataFrame(rows, schema=CURVES)


def paths() -> pl.DataFrame:
    """Five kinds of paths."""
    rows = [
        ("welcome", 7_400, 2_010, 51_233.2, 21.0, 9.0, None, 610, 1.0, 19_200, 1_410),
        ("welcome > club", 2_950, 1_320, 70_110.4, 16.0, 6.0, 44.0, 340, 2.0, 14_050, 1_260),
        ("club", 1_800, 590, 31_000.0, 33.0, 14.0, None, 210, 1.0, 4_100, 390),
        ("(silent)", 1_490, 330, 7_900.0, None, 18.0, None, 120, 1.0, 0, 0),
        ("(other)", 820, 160, 8_050.5, None, 25.0, None, 90, 2.7, 2_300, 120),
    ]
    names = ("path", "customers", "conversions", "value", "median_days", "lower_days", "upper_days", "open")
    names += ("journeys", "sent", "responses")
    return pl.DataFrame([{"date": TODAY} | dict(zip(names, row, strict=True)) for row in rows], schema=PATH_SUMMARY.schema)


def velocity() -> pl.DataFrame:
    """The same paths: how many had converted by when."""
    pace = {"welcome": (0.42, 24.0), "welcome > club": (0.61, 15.0), "club": (0.5, 30.0), "(silent)": (0.31, 26.0), "(other)": (0.3, 33.0)}
    rows = [
        {"path": path, "days": day, "converted": most * (1 - 2.718 ** (-day / days))}
        for path, (most, days) in pace.items()
        for day in range(1, 61)
    ]
    return pl.DataFrame(rows, schema=VELOCITY)


def attribution() -> pl.DataFrame:
    """Two journeys: one gets more credit than is proved, one about as much."""
    rows = [
        {"journey_id": "welcome", "removal_effect": 0.71, "proved": 53_453.0, "proved_low": 30_100.0, "proved_high": 76_900.0},
        {"journey_id": "club", "removal_effect": 0.38, "proved": 8_844.0, "proved_low": -51_050.0, "proved_high": 68_742.0},
        {"journey_id": "receipt", "removal_effect": 0.05},
    ]
    values = [(101_200, 78_700, 90_100, 95_400), (51_100, 73_600, 62_200, 58_900), (4_000, 4_000, 4_000, 2_000)]
    models = ("first", "last", "linear", "markov")
    return pl.DataFrame(
        [
            {"date": TODAY}
            | row
            | {f"value_{model}": float(value) for model, value in zip(models, money, strict=True)}
            | {f"conversions_{model}": value / 40 for model, value in zip(models, money, strict=True)}
            for row, money in zip(rows, values, strict=True)
        ],
        schema=JOURNEY_ATTRIBUTION.schema,
    )


def funnel() -> pl.DataFrame:
    """Welcome, from the queue to the goal."""
    return pl.DataFrame([("welcome", 19_840, 14_390, 1_421, 12_969, 12_431, 11_300, 3_878)], schema=FUNNEL, orient="row")


def findings(folder: Path, **more: object) -> Findings:
    """All of it together."""
    every: dict[str, object] = {"uplift": uplift(), "attribution": attribution(), "paths": paths(), "movement": movement()}
    every |= {"funnel": funnel(), "curves": curves(), "velocity": velocity(), "delivered": 31_480}
    return Findings(TODAY, portfolio(folder), **(every | more))  # type: ignore[arg-type]
