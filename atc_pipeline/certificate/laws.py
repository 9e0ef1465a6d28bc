"""Laws that what customers do is drawn by, before and after an entry; of each, the mean is known.

What belongs here: distributions, and what a treatment does to them. What does not: who enters when, and into which arm (``drawn``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from atc_pipeline.journeys.portfolio import Metric, Selector

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Values:
    """What one metric came to, per customer: by the columns it has in outcomes, and the same before the entry."""

    after: Mapping[str, Floats]
    before: Mapping[str, Floats]


class Law(Protocol):
    """How one metric is distributed.

    The mean of a customer with ``level`` l who is treated with ``lift`` f is ``mean * l * f``, but for what f does not act on.
    """

    @property
    def metric(self) -> Metric:
        """Return the metric whose values are drawn."""

    @property
    def mean(self) -> float:
        """Return what a lift of 1 more would add to the mean."""

    def draw(self, chance: np.random.Generator, lift: Floats, level: Floats) -> Values:
        """Draw one customer per element of ``lift``; ``level``: how much more than others they do, before and after."""


@dataclass(frozen=True)
class Bell:
    """Everybody spends about the same: a normal distribution, of which ``kept`` is the correlation with what was before."""

    mean: float = 50.0
    spread: float = 20.0
    kept: float = 0.6

    @property
    def metric(self) -> Metric:
        """Return a sum."""
        return REVENUE

    def draw(self, chance: np.random.Generator, lift: Floats, level: Floats) -> Values:
        """Draw two normal variables that are correlated."""
        before, anew = chance.standard_normal((2, lift.size))
        after = self.kept * before + (1 - self.kept**2) ** 0.5 * anew
        return Values(
            {"revenue": self.mean * level * lift + self.spread * after}, {"revenue": 3 * (self.mean * level + self.spread * before)}
        )


@dataclass(frozen=True)
class Money:
    """Orders come at a rate that differs by customer (gamma), baskets are lognormal: how money is distributed in shops.

    ``orders``: mean number after the entry; ``shape``: of the gamma distribution, the smaller, the fewer customers buy it all.
    ``sigma``: of a basket's logarithm. ``before``: how many times longer the time before is. ``refunds``: orders given back, per order of
    the time before, which no treatment changes.
    """

    orders: float
    shape: float
    basket: float = 30.0
    sigma: float = 0.8
    before: float = 3.0
    refunds: float = 0.0

    @property
    def metric(self) -> Metric:
        """Return a sum."""
        return REVENUE

    @property
    def mean(self) -> float:
        """Return orders times the mean basket."""
        return self.orders * self.basket

    def draw(self, chance: np.random.Generator, lift: Floats, level: Floats) -> Values:
        """Draw each customer's rate, then orders of both times, then their baskets."""
        rate = chance.gamma(self.shape, self.orders / self.shape, lift.size) * level
        after = self._baskets(chance, rate * lift) - self._baskets(chance, rate * self.refunds)
        return Values({"revenue": after}, {"revenue": self._baskets(chance, rate * self.before)})

    def _baskets(self, chance: np.random.Generator, rate: Floats) -> Floats:
        """Draw orders and add up their baskets, in cents."""
        orders = chance.poisson(rate)
        whose = np.repeat(np.arange(rate.size), orders)
        baskets = chance.lognormal(-(self.sigma**2) / 2, self.sigma, whose.size) * self.basket
        return np.bincount(whose, weights=np.round(baskets, 2), minlength=rate.size).astype(np.float64)


@dataclass(frozen=True)
class YesNo:
    """Whether a customer does it at all: each has a probability of their own (beta)."""

    share: float
    sureness: float = 4.0

    @property
    def metric(self) -> Metric:
        """Return whether there is any."""
        return Metric("ordered", "any", Selector((ORDER,)))

    @property
    def mean(self) -> float:
        """Return the share."""
        return self.share

    def draw(self, chance: np.random.Generator, lift: Floats, level: Floats) -> Values:
        """Draw each customer's probability, then twice whether."""
        likely = chance.beta(self.share * self.sureness, (1 - self.share) * self.sureness, lift.size)
        draws = chance.random((2, lift.size))
        after, before = draws[0] < likely * level * lift, draws[1] < likely * level
        return Values({"ordered": after.astype(float)}, {"ordered": before.astype(float)})


@dataclass(frozen=True)
class Ratings:
    """An average: customers rate as often as they like, and those who rate often are easier to please."""

    answers: float
    mean: float = 3.5
    before: float = 2.0

    @property
    def metric(self) -> Metric:
        """Return an average."""
        return Metric("rating", "avg", Selector(("Survey Answered",)), "rating")

    def draw(self, chance: np.random.Generator, lift: Floats, level: Floats) -> Values:
        """Draw how often each answers and how pleased they are, then the answers of both times."""
        often = chance.gamma(1.0, 1.0, lift.size) * level
        pleased = self.mean + 0.4 * (often - level) + chance.normal(0.0, 0.5, lift.size)
        after, before = (chance.poisson(self.answers * times * often).astype(float) for times in (1.0, self.before))
        noise = chance.standard_normal((2, lift.size))
        return Values(
            {"rating_sum": after * (pleased + self.mean * (lift - 1)) + noise[0] * np.sqrt(after), "rating_count": after},
            {"rating_sum": before * pleased + noise[1] * np.sqrt(before), "rating_count": before},
        )


ORDER = "Order Completed"
REVENUE = Metric("revenue", "sum", Selector((ORDER,)), "revenue")
