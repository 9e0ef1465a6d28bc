"""Quality: how well the probabilities did that were said at entry, of what has matured since (SPEC 12).

What belongs here: expected and observed goals by day and journey, and when they are too far apart. What does not: which days are read
(``days``), what follows for the model (``model``).
"""

from collections.abc import Mapping

import polars as pl

from atc_pipeline.learning.fit import LEAST, MOST
from atc_pipeline.learning.tables import EVERY, MODEL_QUALITY
from atc_pipeline.rules.arms import TREATED
from atc_pipeline.rules.probabilities import PRIOR

DAYS = 28
"""Days of maturing that observed and expected goals are compared over."""
LOW, HIGH, RARE = 0.8, 1.25, 3.2905267314919255
"""Observed by expected outside of this is too far, if chance does it less than once in a thousand times: so many standard errors, either
way."""

CHANCE, FEW = 0.001, 10.0
"""How often that is, and of how many expected goals a normal's tail is no longer near enough."""

JUDGED = pl.Schema(
    {
        "journey_id": pl.String(),
        "arm": pl.String(),
        "goal": pl.Boolean(),
        "expected": pl.Float64(),
        "propensity_source": pl.String(),
        "is_drawn": pl.Boolean(),
    }
)
"""Columns of ``journey_outcomes`` that say what was expected, and what came."""
BY_JOURNEY = pl.Schema(
    {"journey_id": pl.String(), "matured": pl.Int64(), "goals": pl.Int64(), "expected": pl.Float64(), "variance": pl.Float64()}
)


def judged(outcomes: pl.LazyFrame) -> pl.LazyFrame:
    """Return the rows of ``journey_outcomes`` of which something was learned when they were entered (``JUDGED``); of older ones none."""
    there = outcomes.collect_schema()
    if not set(JUDGED) <= set(there):
        return pl.LazyFrame(schema=JUDGED)
    is_judged = pl.col("goal").is_not_null() & (pl.col("propensity_source") != PRIOR) & pl.col("expected").is_not_null()
    return outcomes.filter(is_judged & ~pl.col("contaminated")).select(*JUDGED)


def by_journey(outcomes: pl.LazyFrame) -> pl.DataFrame:
    """One row per journey of a day's ``journey_outcomes``: ``BY_JOURNEY``."""
    return (
        judged(outcomes)
        .sort("journey_id", "expected", "goal")
        .group_by("journey_id", maintain_order=True)
        .agg(
            matured=pl.len().cast(pl.Int64),
            goals=pl.col("goal").sum().cast(pl.Int64),
            expected=pl.col("expected").sum(),
            variance=(pl.col("expected") * (1 - pl.col("expected"))).sum(),
        )
        .select(*BY_JOURNEY)
        .collect()
    )


def lately(days: pl.DataFrame) -> pl.DataFrame:
    """One row per journey: ``BY_JOURNEY`` summed over the last ``DAYS``, and ``is_outside``: too far from what was expected.

    ``days``: ``by_journey`` of these days, in order. How often chance does it is a normal's tail, and of few expected goals a Poisson's.
    """
    sums = days.group_by("journey_id", maintain_order=True).agg(pl.col("matured", "goals", "expected", "variance").sum())
    is_far = ~(pl.col("goals") / pl.col("expected")).is_between(LOW, HIGH) & (
        (pl.col("goals") - pl.col("expected")).abs() > RARE * pl.col("variance").sqrt()
    )
    far = sums.with_columns(is_outside=is_far).sort("journey_id")
    seldom = [_is_seldom(goals, expected) for goals, expected in far.select("goals", "expected").iter_rows()]
    return far.with_columns(is_outside=pl.col("is_outside") & pl.Series(seldom, dtype=pl.Boolean))


def _is_seldom(goals: int, expected: float) -> bool:
    """Say whether few expected goals come so rarely or so often once in a thousand times; of many the normal's tail says it."""
    if expected >= FEW:
        return True
    from scipy.special import pdtr, pdtrc  # noqa: PLC0415  # see fit.solve

    tail = pdtr(goals, expected) if goals < expected else pdtrc(goals - 1, expected)
    return bool(tail < CHANCE / 2)


def outside(days: pl.DataFrame) -> Mapping[str, bool]:
    """Say of each journey whether its goals were too far from what was expected (``lately``)."""
    return dict(lately(days).select("journey_id", "is_outside").iter_rows())


def model_quality(outcomes: pl.LazyFrame, rates: pl.DataFrame) -> pl.DataFrame:
    """Return a day's ``MODEL_QUALITY``, but for its ``date``: of each journey of which something matured, and of all.

    ``outcomes``: the day's ``journey_outcomes``. ``rates``: ``journey_id`` (null: of one that is not known), ``rate`` and
    ``baseline_rate``, as they were the day before.
    """
    known = rates.lazy().drop_nulls("journey_id")
    general = rates.filter(pl.col("journey_id").is_null())
    rate, baseline_rate = (pl.lit(general[name][0] if general.height else None, pl.Float64) for name in ("rate", "baseline_rate"))
    in_arm = pl.when(pl.col("arm") == TREATED)
    chance = in_arm.then(pl.coalesce("rate", rate)).otherwise(pl.coalesce("baseline_rate", baseline_rate)).clip(LEAST, MOST)
    named = (
        judged(outcomes)
        .join(known, on="journey_id", how="left")
        .select(
            *JUDGED,
            loss=_loss(pl.col("expected")),
            loss_rates=_loss(chance),
        )
        .sort("journey_id", "expected", "goal")
        .collect()
    )
    both = pl.concat([named, named.with_columns(journey_id=pl.lit(EVERY))]).lazy()
    is_drawn = pl.col("is_drawn").fill_null(value=False)
    return (
        both.group_by("journey_id", maintain_order=True)
        .agg(
            matured=pl.len().cast(pl.Int64),
            goals=pl.col("goal").sum().cast(pl.Int64),
            expected=pl.col("expected").sum(),
            log_loss=pl.col("loss").mean(),
            log_loss_rates=pl.col("loss_rates").mean(),
            drawn_matured=is_drawn.sum().cast(pl.Int64),
            drawn_goals=pl.col("goal").filter(is_drawn).sum().cast(pl.Int64),
            drawn_expected=pl.col("expected").filter(is_drawn).sum(),
        )
        .sort("journey_id")
        .select(name for name in MODEL_QUALITY.schema if name != "date")
        .collect()
    )


def _loss(probability: pl.Expr) -> pl.Expr:
    return -pl.when("goal").then(probability).otherwise(1 - probability).log()
