"""Rows of ``uplift`` as people read them: which there are, and each as a share of what control did.

What belongs here: reading the table. What does not: estimating (``outcomes``), words (``wording``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date

import polars as pl

from atc_pipeline.journeys.portfolio import GOAL, SYSTEM, Portfolio
from atc_pipeline.outcomes.tables import ALL, EXPLORATORY, LONG, RUN_RATE, UPLIFT


@dataclass(frozen=True)
class Estimate:
    """One row of ``uplift``; ``is_decided``: today is the day that was named in advance to look at it."""

    journey_id: str
    metric: str
    slice: str
    from_on: date | None
    to_on: date | None
    treated: int
    control: int
    treated_nonzero: int
    control_nonzero: int
    immature: int
    mean_treated: float | None
    mean_control: float | None
    effect: float | None
    effect_unadjusted: float | None
    std_error: float | None
    variance_left: float | None
    fixed_low: float | None
    fixed_high: float | None
    anytime_low: float | None
    anytime_high: float | None
    relative: float | None
    more_customers: int | None
    more_days: int | None
    smallest_visible: float | None
    total: float | None
    total_low: float | None
    total_high: float | None
    given_up: float | None
    net: float | None
    sample_ratio_p: float | None
    before_p: float | None
    contaminated: int
    unstable: int
    sent_to_control: int
    verdict: str
    verdict_reason: str | None
    is_decided: bool = False

    @property
    def scale(self) -> float | None:
        """Return what a change is a share of: the mean of control; None where that is near nothing."""
        return self.mean_control if self.relative is not None and self.mean_control is not None and self.mean_control > 0 else None

    @property
    def visible_share(self) -> float | None:
        """Return the smallest change that could be seen, as a share."""
        return None if self.scale is None or self.smallest_visible is None else self.smallest_visible / self.scale

    @property
    def low(self) -> float | None:
        """Return the lower end of the interval that the verdict stands on."""
        return self.fixed_low if self.is_decided else self.anytime_low

    @property
    def high(self) -> float | None:
        """Return its upper end."""
        return self.fixed_high if self.is_decided else self.anytime_high

    def shared(self, value: float | None) -> float | None:
        """Return a change per customer as a share of control's mean."""
        return None if value is None or self.scale is None else value / self.scale


def estimates(uplift: pl.DataFrame, portfolio: Portfolio, today: date) -> list[Estimate]:
    """List the rows of a day, in the order of the table's key."""
    names = [column.name for column in fields(Estimate) if column.name != "is_decided"]
    decided = {journey.id for journey in portfolio.journeys if journey.measure.decide_on == today}
    return [Estimate(**row, is_decided=row["journey_id"] in decided) for row in uplift.sort(UPLIFT.key).select(names).iter_rows(named=True)]


def primary_metric(portfolio: Portfolio) -> str:
    """Return what verdicts are about: money, or where there is none the goal."""
    return portfolio.money or GOAL


def of_system(rows: Sequence[Estimate], portfolio: Portfolio) -> list[Estimate]:
    """List what is known of all journeys together: the long run, which has the verdict, and the run rate."""
    primary = primary_metric(portfolio)
    ours = {row.slice: row for row in rows if row.journey_id == SYSTEM and row.metric == primary}
    return [ours[slice] for slice in (LONG, RUN_RATE) if slice in ours]


def of_journeys(rows: Sequence[Estimate], portfolio: Portfolio) -> list[Estimate]:
    """List the primary estimate of each journey, in the order of the portfolio; those no longer in it come last."""
    primary = primary_metric(portfolio)
    every = {row.journey_id: row for row in rows if row.journey_id != SYSTEM and row.metric == primary and row.slice == ALL}
    known = [journey.id for journey in portfolio.journeys]
    return [every[id] for id in (*known, *sorted(every.keys() - set(known))) if id in every]


def guarded(rows: Sequence[Estimate], portfolio: Portfolio) -> list[Estimate]:
    """List the verdicts on other metrics than the primary one: on what must not suffer."""
    primary = primary_metric(portfolio)
    return [row for row in rows if row.metric != primary and row.slice == ALL and row.verdict != EXPLORATORY and row.journey_id != SYSTEM]
