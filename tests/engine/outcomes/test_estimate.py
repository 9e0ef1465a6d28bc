"""Estimates against public numbers: GrowthBook's vectors, Hillstrom's e-mail, LaLonde's experiment, Kohavi's sample ratio (SPEC 11)."""

import math

import numpy as np
import pytest

from atc_pipeline.outcomes import estimate
from atc_pipeline.outcomes.estimate import Difference, Moments, Ratio, Sums, difference, moments

CONTROL, TREATED = (3407, 1396.87, 52377.9767), (3461, 2422.7, 134698.29)
"""GrowthBook, packages/stats/tests/frequentist/test_tests.py: number, sum, sum of squares."""
NO_MAIL, MENS, WOMENS = (21306, 13908.33, 2870050.3621), (21307, 30311.69, 6759024.4973), (21387, 23038.11, 4911446.5763)
"""Hillstrom, MineThatData e-mail challenge: what customers spent in two weeks."""
NSW_TREATED, NSW_CONTROL = (185, 1174591.5479, 18846517440.5387), (260, 1184248.2913, 13182781881.9372)
"""LaLonde, National Supported Work, the males of Dehejia and Wahba: earnings of 1978."""


def arm(n: object, y: object, yy: object, **more: object) -> Moments:
    """An arm, of sums."""
    return moments(Sums.of(n, y, yy, **more))


def compared(treated: tuple[float, float, float], control: tuple[float, float, float]) -> Difference:
    """Two arms compared."""
    return difference(arm(*treated), arm(*control))


def test_a_difference_is_growthbooks() -> None:
    """0.29, 0.12478, 0.04538..0.53462, with Welch's variance, as GrowthBook takes it."""
    of = compared(TREATED, CONTROL)
    width = estimate.fixed_width(of.welch, of.freedom)
    numbers = [of.effect[0], math.sqrt(of.welch[0]), of.effect[0] - width[0], of.effect[0] + width[0]]
    assert numbers == pytest.approx([0.29, 0.12478, 0.04538, 0.53462], abs=5e-6)


def test_a_relative_lift_is_growthbooks() -> None:
    """0.70732, error 0.37879, interval -0.03526..1.44989, p 0.06191."""
    of = compared(TREATED, CONTROL)
    lift, variance = estimate.relative(of)
    width = estimate.fixed_width(variance, of.freedom)
    p = estimate.p_fixed(lift, variance, of.freedom)
    numbers = [lift[0], math.sqrt(variance[0]), lift[0] - width[0], lift[0] + width[0], p[0]]
    assert numbers == pytest.approx([0.70732, 0.37879, -0.03526, 1.44989, 0.06191], abs=5e-6)


def test_an_anytime_interval_is_growthbooks() -> None:
    """Sequential, with 3000 in control and tuned for 1000: 0.50336, -0.55844..1.56516."""
    of = compared(TREATED, (3000, *CONTROL[1:]))
    lift, variance = estimate.relative(of)
    width = estimate.anytime_width(variance, of.customers, 1000)
    assert [lift[0], lift[0] - width[0], lift[0] + width[0]] == pytest.approx([0.50336, -0.55844, 1.56516], abs=5e-6)


@pytest.mark.parametrize(
    ("mail", "effect", "error", "low", "high"), [(MENS, 0.76983, 0.14525, 0.48515, 1.05451), (WOMENS, 0.42441, 0.13033, 0.16896, 0.67986)]
)
def test_hillstroms_mails(mail: tuple[float, float, float], effect: float, error: float, low: float, high: float) -> None:
    """What each of two mails made 64,000 customers spend."""
    of = compared(mail, NO_MAIL)
    width = estimate.fixed_width(of.welch, of.freedom)
    numbers = [of.effect[0], math.sqrt(of.welch[0]), of.effect[0] - width[0], of.effect[0] + width[0]]
    assert numbers == pytest.approx([effect, error, low, high], abs=2e-5)


@pytest.mark.parametrize(("visits", "customers", "points"), [(3894, 21307, 7.659), (3238, 21387, 4.523)])
def test_hillstroms_visits(visits: int, customers: int, points: float) -> None:
    """In points: of a yes or no the sum of squares is the sum."""
    of = difference(arm(customers, visits, visits), arm(21306, 2262, 2262))
    assert 100 * of.effect[0] == pytest.approx(points, abs=1e-3)


def test_hillstroms_sample_ratio() -> None:
    """Three arms of a third each: chi-square 0.20253, p 0.9037."""
    observed = np.array([NO_MAIL[0], MENS[0], WOMENS[0]], dtype=np.float64)
    assert estimate.chi_square(observed, np.full(3, observed.sum() / 3))[0] == pytest.approx(0.9037, abs=5e-5)


def test_kohavis_sample_ratio() -> None:
    """821,588 against 815,482 where half was to be: p 1.8e-6."""
    p = estimate.sample_ratio(np.array([821_588.0]), np.array([815_482.0]), np.array([0.5]))
    assert p[0] == pytest.approx(1.8e-6, rel=0.02)


@pytest.mark.parametrize(("holdout", "treated", "control"), [(0.0, 50, 1), (1.0, 1, 50)])
def test_a_share_of_nothing_or_of_all_is_no_matter_of_chance(holdout: float, treated: int, control: int) -> None:
    """One customer on the wrong side, and it is a fault; beside a stratum that is fine."""
    counts = np.array([[treated, control], [50, 50]], dtype=np.float64)
    place = np.array([0, 0])
    assert estimate.sample_ratio(counts[:, 0], counts[:, 1], np.array([holdout, 0.5]), place)[0] == 0
    assert np.isnan(estimate.sample_ratio(np.array([50.0]), np.array([0.0]), np.array([0.0])))[0]


def test_lalondes_wider_variance_is_used() -> None:
    """+1794.34, pooled 632.85, Welch 671.00: the wider of the two."""
    of = compared(NSW_TREATED, NSW_CONTROL)
    assert [of.effect[0], math.sqrt(of.pooled[0]), math.sqrt(of.welch[0])] == pytest.approx([1794.34, 632.85, 671.00], abs=5e-3)
    assert of.error[0] == math.sqrt(of.welch[0])
    the_other_way_round = difference(arm(*NSW_CONTROL), arm(185, 1174591.5479, 9e9))
    assert the_other_way_round.error[0] == math.sqrt(max(the_other_way_round.pooled[0], the_other_way_round.welch[0]))


def test_sums_of_whole_numbers_are_told_apart_exactly() -> None:
    """A difference of one micro-unit in ten thousand million: of floats nothing would be left of the variance."""
    y = [10**16, 10**16 + 1, 10**16 + 2]
    of = arm(3, sum(y), sum(value**2 for value in y))
    assert of.yy[0] == 2.0


def test_an_adjustment_is_a_regression() -> None:
    """Effect and theta of one stratum are those of least squares on arm and x; what is left of the variance is 1 - rho^2."""
    rng = np.random.default_rng(7)
    x, is_treated = rng.gamma(1.0, 10.0, 400), rng.random(400) < 0.7
    y = 3 + 2 * is_treated + 0.6 * x + rng.normal(0, 4, 400)

    def of(rows: np.ndarray) -> Moments:
        a, b = y[rows], x[rows]
        return arm(len(a), a.sum(), (a * a).sum(), x=b.sum(), xx=(b * b).sum(), xy=(a * b).sum())

    got = difference(of(is_treated), of(~is_treated))
    expected, *_ = np.linalg.lstsq(np.column_stack([np.ones(400), is_treated, x]), y, rcond=None)
    assert [got.effect[0], got.theta[0]] == pytest.approx([expected[1], expected[2]])
    within = [values - np.where(is_treated, values[is_treated].mean(), values[~is_treated].mean()) for values in (x, y)]
    assert got.variance_left[0] == pytest.approx(1 - np.corrcoef(*within)[0, 1] ** 2)


def test_strata_are_weighed_by_their_customers() -> None:
    """Of two strata with other shares held out the effect is the mean of both; all together would be something else."""
    treated = arm([100, 300], [200.0, 3000.0], [500.0, 31000.0])
    control = arm([100, 100], [100.0, 900.0], [150.0, 9000.0])
    of = difference(treated, control, np.array([0, 0]))
    assert of.effect[0] == pytest.approx((200 * 1.0 + 400 * 1.0) / 600)
    each = difference(treated, control)
    assert of.welch[0] == pytest.approx((200 / 600) ** 2 * each.welch[0] + (400 / 600) ** 2 * each.welch[1])


def test_a_ratio_is_linearised() -> None:
    """The variance of what is left is that of the ratio by the delta method."""
    rng = np.random.default_rng(3)
    per = rng.poisson(2.0, 5_000).astype(np.float64)
    number = per * 3 + rng.normal(0, 2, 5_000)
    ratio, mean = number.sum() / per.sum(), per.mean()
    covariance = np.cov(number, per) * 4_999
    of = Ratio(*(np.array([value]) for value in (5_000.0, number.mean(), mean, covariance[0, 0], covariance[1, 1], covariance[0, 1])))
    left, squares = estimate.linearised(of, np.array([ratio]), np.array([mean]))
    single = (number - ratio * per) / mean
    assert left[0] == pytest.approx(0, abs=1e-12)
    assert squares[0] == pytest.approx(((single - single.mean()) ** 2).sum())


def test_a_lift_near_nothing_is_not_told() -> None:
    """Where control's mean is within two errors of 0 a share of it says nothing."""
    of = difference(arm(100, 50.0, 1000.0), arm(100, 1.0, 1000.0))
    assert np.isnan(estimate.relative(of)[0][0])


def test_evidence_and_the_anytime_interval_say_the_same() -> None:
    """An effect at the end of the interval around 0 has evidence of 20, and a p of 0.05."""
    variance, customers = np.array([0.04]), np.array([800.0])
    width = estimate.anytime_width(variance, customers, 5_000)
    log = estimate.log_evidence(width, variance, customers, 5_000)
    assert estimate.p_anytime(log)[0] == pytest.approx(0.05)
    assert estimate.p_anytime(estimate.log_evidence(0 * width, variance, customers, 5_000))[0] == 1


def test_evidence_of_one_side_sees_only_that_side() -> None:
    """Nearly twice as much where it is asked about, and next to nothing on the other side."""
    effect, variance, customers = np.array([0.7]), np.array([0.04]), np.array([800.0])
    both = estimate.log_evidence(effect, variance, customers, 5_000)
    harm = estimate.log_evidence(effect, variance, customers, 5_000, against=np.array([1.0]))
    gain = estimate.log_evidence(effect, variance, customers, 5_000, against=np.array([-1.0]))
    assert both[0] < harm[0] < both[0] + math.log(2)
    assert gain[0] < 0


def test_looking_every_day_is_safe_with_the_one_and_not_with_the_other() -> None:
    """Of 400 comparisons without an effect, looked at 60 times: hardly any is ever told from nothing at any time; many are by one look."""
    rng = np.random.default_rng(20_261_128)
    steps = rng.normal(0, 1, (400, 60, 100))
    n = 50.0 * np.arange(1, 61)
    effect = (steps[:, :, :50].sum(2).cumsum(1) - steps[:, :, 50:].sum(2).cumsum(1)) / n
    variance = np.broadcast_to(2 / n, effect.shape)
    anytime = estimate.anytime_width(variance, np.broadcast_to(2 * n, effect.shape), 5_000)
    fixed = estimate.fixed_width(variance, np.broadcast_to(2 * n - 2, effect.shape))
    assert (np.abs(effect) > anytime).any(1).mean() <= 0.05
    assert (np.abs(effect) > fixed).any(1).mean() > 0.15


def test_benjamini_hochberg() -> None:
    """The example of their paper of 1995, table 1: at 0.05 four of fifteen are discoveries; order does not matter."""
    p = np.array([0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0])
    assert (estimate.benjamini_hochberg(p) <= 0.05).sum() == 4
    assert estimate.benjamini_hochberg(p[::-1]).tolist() == estimate.benjamini_hochberg(p)[::-1].tolist()
    assert estimate.benjamini_hochberg(np.array([])).tolist() == []


def test_customers_for_half_the_width() -> None:
    """With so many the interval is half as wide, and with one less it is not."""
    (n,) = estimate.customers_for_half(np.array([1_000.0]), 5_000)

    def width(customers: float) -> float:
        return float(estimate.anytime_width(np.array([1 / customers]), np.array([customers]), 5_000)[0])

    assert width(n) <= width(1_000) / 2 < width(n - 1)


def test_the_smallest_visible_effect() -> None:
    """2.8 standard errors: 80 % power at 5 %."""
    assert estimate.smallest_visible(np.array([0.25]))[0] == pytest.approx(1.4)
