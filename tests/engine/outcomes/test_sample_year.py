"""The estimator on real customers: the Complete Journey year, in which nothing was sent, so that whatever is seen is chance (SPEC 11)."""

from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from atc_pipeline.outcomes import estimate
from atc_pipeline.outcomes.estimate import Difference, Sums, difference, moments
from sample.complete_journey import FIRST_DAY, baskets

pytestmark = pytest.mark.slow

Cents = npt.NDArray[np.int64]
SEED = 20_261_128
ENTERED = (date(2017, 7, 20) - FIRST_DAY).days
"""The day on which all households enter, if nobody says otherwise."""


@pytest.fixture(scope="module")
def spent() -> Cents:
    """What each household spent until the end of each day, in cents; the first column is of no day."""
    by_day = baskets(()).group_by("household_id", "arrives_on").agg(cents=(pl.col("revenue") * 100).round().cast(pl.Int64).sum())
    households = by_day["household_id"].unique().sort()
    day = (by_day["arrives_on"] - FIRST_DAY).dt.total_days().to_numpy()
    cents = np.zeros((len(households), 366), dtype=np.int64)
    cents[households.search_sorted(by_day["household_id"]).to_numpy(), day + 1] = by_day["cents"].to_numpy()
    return cents.cumsum(axis=1)


def windows(spent: Cents, days: int, entered: int = ENTERED) -> tuple[Cents, Cents]:
    """What each household spent in so many days after its entry, and in the 90 up to it."""
    return spent[:, entered + 1 + days] - spent[:, entered + 1], spent[:, entered + 1] - spent[:, entered + 1 - 90]


def held_out(households: int, times: int) -> npt.NDArray[np.int64]:
    """Draw so many random tenths: one row each, 1 where a household is held out."""
    return (np.random.default_rng(SEED).random((times, households)) < 0.1).astype(np.int64)


def compared(y: Cents, x: Cents, control: npt.NDArray[np.int64]) -> Difference:
    """Compare the rest with each of the tenths."""

    def arm(rows: npt.NDArray[np.int64]) -> Sums:
        added = [rows.sum(axis=1), *(rows @ values for values in (y, x, y * y, x * x, x * y))]
        return Sums(*(values.astype(object) for values in added))

    return difference(*(moments(arm(rows), 100) for rows in (1 - control, control)))


@pytest.mark.parametrize(("days", "left"), [(7, 0.59), (14, 0.43), (28, 0.31)])
def test_what_90_days_before_leave_of_the_variance(spent: Cents, days: int, left: float) -> None:
    """0.59 of a week's, 0.43 of two weeks', 0.31 of four weeks', each within 0.05."""
    of = compared(*windows(spent, days), held_out(len(spent), 1))
    assert of.variance_left[0] == pytest.approx(left, abs=0.05)


def test_random_tenths_differ_by_chance_alone(spent: Cents) -> None:
    """Of 2,000 comparisons of nothing with nothing the narrow interval leaves out 0 in 3 to 7 of a hundred; so does a check of before."""
    y, x = windows(spent, 14)
    of = compared(y, x, held_out(len(spent), 2_000))
    rejected = np.abs(of.effect) > estimate.fixed_width(of.variance, of.freedom)
    assert 0.03 <= rejected.mean() <= 0.07
    before = compared(x, 0 * x, held_out(len(spent), 2_000))
    assert (estimate.p_fixed(before.effect, before.variance, before.freedom) < 0.001).mean() <= 0.005


def test_the_adjustment_is_worth_more_than_twice_the_customers(spent: Cents) -> None:
    """With a window of two weeks the errors of the same tenths shrink by a third."""
    y, x = windows(spent, 14)
    control = held_out(len(spent), 200)
    adjusted, plain = compared(y, x, control), compared(y, 0 * x, control)
    assert np.median(adjusted.error / plain.error) == pytest.approx(0.43**0.5, abs=0.05)
