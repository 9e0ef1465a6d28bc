"""The claims about verdicts hold of ours on few tables, and can fail: rules that say too much, or too little, are noticed.

What belongs here: wrong verdicts, and how likely a fault shows. What does not: wrong estimates (``test_estimator``).
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import polars as pl
import pytest

from atc_pipeline.certificate import verdicts
from atc_pipeline.certificate.claim import Claim, Scale
from atc_pipeline.certificate.drawn import Estimating
from atc_pipeline.certificate.verdicts import broken_is_noticed, knows_when_it_cannot, looking_is_safe, many_are_safe, power_of_loss
from atc_pipeline.outcomes.tables import BROKEN, HARMS, HELPS, TOO_EARLY, UNDECIDED
from atc_pipeline.outcomes.uplift import Evidence, estimate_uplift

LEAVES_OUT_0 = (pl.col("fixed_low") > 0) | (pl.col("fixed_high") < 0)


def after(*changes: pl.Expr) -> Estimating:
    """Return an estimator that changes what was estimated."""

    def estimator(evidence: Evidence, portfolio: Any, *, today: date) -> pl.DataFrame:
        return estimate_uplift(evidence, portfolio, today=today).with_columns(*changes)

    return estimator


def eager(evidence: Evidence, portfolio: Any, *, today: date) -> pl.DataFrame:
    """Judge with hardly anybody who bought."""
    few = replace(portfolio, measurement=replace(portfolio.measurement, min_nonzero=1))
    return estimate_uplift(evidence, few, today=today)


def as_verdict(word: str, where: pl.Expr) -> pl.Expr:
    """Say something else there."""
    return pl.when(where).then(pl.lit(word)).otherwise("verdict").alias("verdict")


OF_FIXED = (
    pl.when(LEAVES_OUT_0).then(0.01).otherwise(1.0).alias("p_anytime"),
    pl.col("fixed_low").alias("anytime_low"),
    pl.col("fixed_high").alias("anytime_high"),
    pl.when(pl.col("verdict") == TOO_EARLY)
    .then("verdict")
    .when(pl.col("fixed_low") > 0)
    .then(pl.lit(HELPS))
    .when(pl.col("fixed_high") < 0)
    .then(pl.lit(HARMS))
    .otherwise(pl.lit(UNDECIDED))
    .alias("verdict"),
)
"""What would be said if every interval were right for one look at one journey."""

Trying = Callable[..., Claim]
WRONG: dict[str, tuple[Trying, Estimating, int]] = {
    "a verdict with hardly a buyer": (knows_when_it_cannot, eager, 20),
    "each journey as if it were the only one": (many_are_safe, after(*OF_FIXED), 8),
    "each look as if it were the only one": (looking_is_safe, after(*OF_FIXED), 40),
    "broken is never said": (broken_is_noticed, after(as_verdict(UNDECIDED, pl.col("verdict") == BROKEN)), 5),
    "broken is said of what is whole": (broken_is_noticed, after(as_verdict(BROKEN, pl.col("journey_id") == "t0001")), 5),
}
RIGHT: dict[str, tuple[Trying, int]] = {trying.__name__: (trying, tables) for trying, _, tables in WRONG.values()}


@pytest.mark.slow
@pytest.mark.parametrize(("trying", "estimator", "tables"), WRONG.values(), ids=WRONG)
def test_wrong_verdicts_are_noticed(trying: Trying, estimator: Estimating, tables: int) -> None:
    """The claim does not hold of them."""
    assert not trying(Scale.QUICK, estimator, tables=tables).passed


@pytest.mark.slow
@pytest.mark.parametrize(("trying", "tables"), RIGHT.values(), ids=RIGHT)
def test_ours_are_right_where_wrong_ones_are_noticed(trying: Trying, tables: int) -> None:
    """On the same tables the claim holds of ours, and tells figures."""
    claim = trying(Scale.QUICK, tables=tables)

    assert claim.passed, claim.figures
    assert all(claim.figures.values())


def test_journeys_that_share_customers_are_the_same() -> None:
    """Three are drawn, and each stands for five: alike in what is estimated."""
    drawn = verdicts._sharing(0)
    rows = estimate_uplift(drawn.evidence, drawn.portfolio, today=verdicts.MANY.ends_on).filter(slice="all", metric="revenue")

    assert drawn.truth["truth"].to_list() == [verdicts.MANY.law.mean * verdicts.MANY.lift] * 5 + [0.0] * 15
    assert rows["effect"].n_unique() == 8
    assert rows.height == 20


@pytest.mark.parametrize(
    ("entries", "holdout", "likely"), [(20_000, 0.1, 0.866), (20_000, 0.5, 0.99996), (60_000, 0.1, 0.99999), (100, 0.1, 0.001)]
)
def test_how_likely_a_loss_shows(entries: int, holdout: float, likely: float) -> None:
    """Of a tenth of the treated: with a tenth held out, 20,000 entries do not always show it."""
    assert power_of_loss(entries, holdout) == pytest.approx(likely, abs=0.002)
