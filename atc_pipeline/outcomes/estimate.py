"""Estimates of a difference between two arms, and of what may be said of it: arithmetic on sums (SPEC 11).

Everything is an array with a place for each of many comparisons, or for each of their strata; sums may be whole numbers of any size, and
are then told apart exactly. ``y`` is an outcome, ``x`` the same before.

What belongs here: statistics of sums, with their sources. What does not: who counts, what a verdict is (``outcomes.uplift``), tables.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import special

Numbers = npt.NDArray[np.float64]
Exact = npt.NDArray[Any]
"""Sums: whole numbers of Python, which do not overflow, or floats."""
Places = npt.NDArray[np.int64]

ALPHA = 0.05
"""How often an interval may leave out the truth."""
VISIBLE = 2.8
"""Standard errors that an effect must have to be seen with a power of 80 % at 5 %: 1.96 + 0.84."""


@dataclass(frozen=True)
class Sums:
    """What customers of an arm add up to: their number, sums of y and x, and sums of their products."""

    n: Exact
    y: Exact
    x: Exact
    yy: Exact
    xx: Exact
    xy: Exact

    @classmethod
    def of(cls, n: object, y: object, yy: object, *, x: object = 0, xx: object = 0, xy: object = 0) -> Self:
        """Take sums as they are, numbers or arrays of them."""
        return cls(*(np.atleast_1d(np.asarray(value, dtype=object)) for value in (n, y, x, yy, xx, xy)))


@dataclass(frozen=True)
class Moments:
    """The same as means, and as sums of products of what is left when the mean is taken off."""

    n: Numbers
    y: Numbers
    x: Numbers
    yy: Numbers
    xx: Numbers
    xy: Numbers

    @property
    def variance(self) -> Numbers:
        """Return the variance of y."""
        return quotient(self.yy, self.n - 1)


def central(n: Exact, a: Exact, b: Exact, ab: Exact) -> Numbers:
    """Return the sum of products of a and b about their means; exactly, of whole numbers, but for the last division."""
    # n sum(ab) - sum(a) sum(b) first: with floats a large mean would leave nothing of a small variance.
    return quotient((n * ab - a * b).astype(np.float64), n.astype(np.float64))


def moments(sums: Sums, unit: Numbers | float = 1.0) -> Moments:
    """Turn sums into means and central sums of products; ``unit``: how many units of the sums one of the result is."""
    n = sums.n.astype(np.float64)
    square = unit * unit
    return Moments(
        n,
        quotient(sums.y.astype(np.float64), n) / unit,
        quotient(sums.x.astype(np.float64), n) / unit,
        np.maximum(central(sums.n, sums.y, sums.y, sums.yy), 0) / square,
        np.maximum(central(sums.n, sums.x, sums.x, sums.xx), 0) / square,
        central(sums.n, sums.x, sums.y, sums.xy) / square,
    )


@dataclass(frozen=True)
class Ratio:
    """Of a ratio metric: number of customers, means of numerator and denominator, and their central sums of products."""

    n: Numbers
    numerator: Numbers
    denominator: Numbers
    nn: Numbers
    dd: Numbers
    nd: Numbers


def linearised(arm: Ratio, ratio: Numbers, denominator: Numbers) -> tuple[Numbers, Numbers]:
    """Return mean and central sum of squares of ``(numerator - ratio denominator) / mean denominator`` (the delta method).

    Deng, Knoblich, Lu: Applying the Delta Method in Metric Analytics (KDD 2018). ``ratio`` and ``denominator``: of both arms together.
    """
    mean = quotient(arm.numerator - ratio * arm.denominator, denominator)
    squares = quotient(arm.nn - 2 * ratio * arm.nd + ratio**2 * arm.dd, denominator**2)
    return mean, np.maximum(squares, 0)


@dataclass(frozen=True)
class Difference:
    """Treated less control, of each comparison: with its two variances, and what it was adjusted by.

    ``welch`` and ``pooled`` are variances of ``effect``; ``freedom`` the degrees of freedom of ``welch`` (Welch-Satterthwaite).
    ``variance`` is made of the wider of the two in each stratum: a small control arm that missed its big spenders makes Welch's too
    small (SPEC 11).
    ``treated`` and ``control`` are the arms' means as they are, ``treated_variance`` and ``control_variance`` of those.
    """

    customers: Numbers
    effect: Numbers
    welch: Numbers
    pooled: Numbers
    variance: Numbers
    freedom: Numbers
    theta: Numbers
    variance_left: Numbers
    treated: Numbers
    control: Numbers
    treated_variance: Numbers
    control_variance: Numbers

    @property
    def error(self) -> Numbers:
        """Return the standard error."""
        return np.sqrt(self.variance)


def difference(treated: Moments, control: Moments, comparison: Places | None = None, *, is_adjusted: bool = True) -> Difference:
    """Compare arms stratum by stratum, each adjusted by what its customers did before (CUPED), and put strata together by customers.

    Deng, Xu, Kohavi, Walker: Improving the Sensitivity of Online Controlled Experiments by Utilizing Pre-Experiment Data (WSDM 2013).
    ``comparison``: to which comparison, numbered from 0, a stratum belongs; None: each to its own. Each arm has two customers at least.
    """
    place = np.arange(len(treated.n)) if comparison is None else comparison
    n = treated.n + control.n
    xx, xy = treated.xx + control.xx, treated.xy + control.xy
    theta = quotient(xy, xx) if is_adjusted else np.zeros(len(n))
    effect = treated.y - control.y - theta * (treated.x - control.x)
    left_t, left_c = (np.maximum(arm.yy - 2 * theta * arm.xy + theta**2 * arm.xx, 0) for arm in (treated, control))
    share_t, share_c = quotient(left_t, (treated.n - 1) * treated.n), quotient(left_c, (control.n - 1) * control.n)
    pooled = quotient(left_t + left_c, n - 2) * (1 / treated.n + 1 / control.n)

    def add(values: Numbers) -> Numbers:
        return np.bincount(place, weights=values).astype(np.float64)

    customers = add(n)
    weight = n / customers[place]
    welch = add(weight**2 * (share_t + share_c))
    doubt = add(weight**4 * (quotient(share_t**2, treated.n - 1) + quotient(share_c**2, control.n - 1)))
    return Difference(
        customers,
        effect=add(weight * effect),
        welch=welch,
        pooled=add(weight**2 * pooled),
        variance=add(weight**2 * np.maximum(share_t + share_c, pooled)),
        freedom=np.where(doubt > 0, quotient(welch**2, doubt), customers - 2),
        theta=add(weight * theta),
        variance_left=np.where(add(treated.yy + control.yy) > 0, quotient(add(left_t + left_c), add(treated.yy + control.yy)), 1.0),
        treated=add(weight * treated.y),
        control=add(weight * control.y),
        treated_variance=add(weight**2 * quotient(treated.variance, treated.n)),
        control_variance=add(weight**2 * quotient(control.variance, control.n)),
    )


def relative(of: Difference) -> tuple[Numbers, Numbers]:
    """Return the effect as a share of control's mean, and the variance of that; nan where the mean is within 2 errors of 0."""
    mean = np.where(np.abs(of.control) > 2 * np.sqrt(of.control_variance), of.control, np.nan)
    return of.effect / mean, of.treated_variance / mean**2 + of.control_variance * (of.control + of.effect) ** 2 / mean**4


def fixed_width(variance: Numbers, freedom: Numbers, alpha: float = ALPHA) -> Numbers:
    """Return half the width of the interval that is right for one look on a day named in advance."""
    return np.asarray(special.stdtrit(freedom, 1 - alpha / 2) * np.sqrt(variance), dtype=np.float64)


def p_fixed(effect: Numbers, variance: Numbers, freedom: Numbers) -> Numbers:
    """Return how likely so large a difference would be by chance, at one look; 1 where there is no variance."""
    return np.where(variance > 0, 2 * special.stdtr(freedom, -np.abs(quotient(effect, np.sqrt(variance)))), 1.0)


def tuning(expected: float, alpha: float = ALPHA) -> float:
    """Return ``r^2``, with which the anytime interval is narrowest for so many customers."""
    return (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / expected


def anytime_width(variance: Numbers, customers: Numbers, expected: float, alpha: float = ALPHA) -> Numbers:
    """Return half the width of the interval that is right for every look at once.

    An asymptotic confidence sequence: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: Time-uniform central limit theory and asymptotic
    confidence sequences (2021); as GrowthBook has it.
    """
    nr = customers * tuning(expected, alpha)
    return np.sqrt(variance) * np.sqrt(2 * (nr + 1) / nr * np.log(np.sqrt(nr + 1) / alpha))


def log_evidence(effect: Numbers, variance: Numbers, customers: Numbers, expected: float, *, against: Numbers | None = None) -> Numbers:
    """Return the logarithm of the evidence against "no effect": large is strong, and at every look at most 1 on average without one.

    ``against``: of a one-sided question the sign of the answer that is asked about, 1 or -1, and 0 where both are: then the mixture is
    over that side only, which is evidence against "no effect, or the other way" (Howard, Ramdas, McAuliffe, Sekhon: Time-uniform,
    nonparametric, nonasymptotic confidence sequences, 2021).
    """
    nr = customers * tuning(expected)
    z: Numbers = np.where(variance > 0, quotient(effect, np.sqrt(variance)), np.sign(effect) * _CERTAIN)
    log = nr * z**2 / (2 * (nr + 1)) - np.log(nr + 1) / 2
    if against is None:
        return np.asarray(log, dtype=np.float64)
    return np.where(against == 0, log, log + math.log(2) + special.log_ndtr(against * z * np.sqrt(nr / (nr + 1))))


_CERTAIN = 1e6
"""Standard errors that a difference counts as where nothing varies: the interval has no width then, and leaves 0 out."""


def p_anytime(log: Numbers) -> Numbers:
    """Return ``min(1, 1 / evidence)``: what may be compared with a level at every look."""
    return np.exp(-np.maximum(log, 0))


def benjamini_hochberg(p: Numbers) -> Numbers:
    """Return p-values adjusted for how many are asked at once, each the least rate of false discoveries at which it is one.

    Benjamini and Hochberg: Controlling the False Discovery Rate (1995). Of ``1 / evidence`` it is e-BH, which holds under any dependence
    (Wang and Ramdas: False discovery rate control with e-values, 2022).
    """
    order = np.argsort(-p, kind="stable")
    rank = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.minimum.accumulate(p[order] * len(p) / rank)) if len(p) else p
    return adjusted


def chi_square(observed: Numbers, expected: Numbers, comparison: Places | None = None, freedom: Numbers | None = None) -> Numbers:
    """Return how likely counts so far from what was expected would be by chance; p-values, by comparison.

    ``freedom``: degrees of freedom by comparison; None: one less than there are counts.
    """
    place = np.zeros(len(observed), dtype=np.int64) if comparison is None else comparison
    statistic = np.bincount(place, weights=quotient((observed - expected) ** 2, expected))
    return np.asarray(special.chdtrc(np.bincount(place) - 1 if freedom is None else freedom, statistic), dtype=np.float64)


def sample_ratio(treated: Numbers, control: Numbers, holdout: Numbers, comparison: Places | None = None) -> Numbers:
    """Return how likely so uneven a split would be by chance, where control was to be ``holdout`` of all; by comparison.

    Fabijan et al.: Diagnosing Sample Ratio Mismatch in Online Controlled Experiments (KDD 2019). A stratum with a share of 0 or 1
    cannot be uneven but by a fault: one customer on the wrong side and the answer is 0. nan: nothing to split.
    """
    place = np.zeros(len(treated), dtype=np.int64) if comparison is None else comparison
    n = treated + control
    is_drawn = (holdout > 0) & (holdout < 1) & (n > 0)
    off = np.where(is_drawn, quotient((control - n * holdout) ** 2, n * holdout * (1 - holdout)), 0.0)
    strata = np.bincount(place, weights=is_drawn)
    is_wrong = np.bincount(place, weights=((holdout <= 0) & (control > 0)) | ((holdout >= 1) & (treated > 0))) > 0
    p = np.where(strata > 0, special.chdtrc(np.maximum(strata, 1), np.bincount(place, weights=off)), np.nan)
    return np.where(is_wrong, 0.0, p)


def smallest_visible(variance: Numbers) -> Numbers:
    """Return the smallest effect that would be visible now."""
    return VISIBLE * np.sqrt(variance)


def customers_for_half(customers: Numbers, expected: float, alpha: float = ALPHA) -> Numbers:
    """Return how many customers it takes, of arms and variances as they are, until the anytime interval is half as wide."""

    def width(n: Numbers) -> Numbers:
        return anytime_width(1 / n, n, expected, alpha)

    goal = width(customers) / 2
    low, high = customers.astype(np.float64), customers * 16.0
    for _ in range(50):
        middle = (low + high) / 2
        is_wide = width(middle) > goal
        low, high = np.where(is_wide, middle, low), np.where(is_wide, high, middle)
    return np.ceil(high)


def quotient(number: Numbers, by: Numbers) -> Numbers:
    """Divide; 0 by 0, and anything by 0, is 0."""
    return np.divide(number, by, out=np.zeros(np.broadcast(number, by).shape), where=by != 0)
