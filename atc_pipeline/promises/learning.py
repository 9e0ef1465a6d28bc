"""What must hold of what is learned (SPEC 12): that it could be fitted, that it comes true, and that it is used for what it is good for.

What belongs here: promises about models and how well they foretell, and their words. What does not: what promises share (``promise``),
judging a model (``learning``).
"""

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.learning.quality import DAYS, by_journey, lately
from atc_pipeline.learning.tables import JOURNEY
from atc_pipeline.promises.promise import Promise, between, table
from atc_pipeline.rules.probabilities import PRIOR
from atc_pipeline.tables.store import Store

OFTEN = 0.3
"""A goal that more than this share reach who are left alone is hardly caused by a journey."""


def failed_fits(goal_models: pl.LazyFrame) -> pl.LazyFrame:
    """Return days on which a model was to be fitted, and could not: too few goals are no failure."""
    failed = goal_models.filter(pl.col("note").is_not_null() & (pl.col("source") != PRIOR))
    return failed.unique("date", keep="first", maintain_order=True).select("date", "fitted_on", "note")


def wasted_propensities(goal_models: pl.LazyFrame) -> pl.LazyFrame:
    """Return journeys whose goal is reached by many who are left alone, where there are any who were."""
    is_rate = (pl.col("part") == JOURNEY) & (pl.col("name") == "baseline_rate") & (pl.col("source") != PRIOR)
    return goal_models.filter(is_rate & (pl.col("value") > OFTEN) & (pl.col("controls") > 0)).select(
        "date", "journey_id", "controls", baseline="value"
    )


def _wasted(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """Look at the last of these days: nothing is added by telling it of each."""
    named = portfolio.policy.score.columns
    if "propensity" not in named or "uplift" in named:
        return pl.DataFrame()
    return between(wasted_propensities, table("goal_models"))(store, portfolio, [max(days)])


def _too_far(store: Store, _: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """Judge the last of these days: the others were judged when they were the last."""
    last = max(days)
    recent = store.scan("journey_outcomes", [last - timedelta(days=number) for number in range(DAYS)], may_lack=True)
    if recent is None:
        return pl.DataFrame()
    return lately(by_journey(recent)).filter("is_outside").select(pl.lit(last).alias("date"), "journey_id", "matured", "goals", "expected")


PROMISES = (
    Promise(
        "goal_models",
        "model_could_be_fitted",
        "What is learned of goals was fitted when its time had come (SPEC 12). If it fails, `note` says why; the fit before is used "
        "meanwhile, and it is tried again every day: look at what the features of `learning` hold.",
        between(failed_fits, table("goal_models")),
        is_blocking=False,
    ),
    Promise(
        "goal_models",
        "score_asks_what_is_caused",
        f"Where more than {OFTEN:.0%} reach a goal who are left alone, the score asks what is caused (SPEC 12). If it fails, name `uplift` "
        "instead of `propensity` in `policy.score`, and look at what `plan` says: who would do it anyway is no reason to send anything.",
        _wasted,
        is_blocking=False,
    ),
    Promise(
        "model_quality",
        "goals_as_foretold",
        f"Over the last {DAYS} days, goals came as they had been foretold at the entry, within 0.8 to 1.25, but for what chance does once "
        "in a thousand times (SPEC 12). If it fails on three days in a row, the journey's own rate is used until the next fit: look at "
        "the page `learning` of the report, and at what has changed for its customers.",
        _too_far,
        is_blocking=False,
    ),
)
"""In the order of the lineage."""
