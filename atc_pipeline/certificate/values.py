"""Other policies are valued right: intervals from logs that are drawn by chance hold what the other portfolio truly earns more.

What belongs here: the logs, the three portfolios, how often the interval covers. What does not: the estimate (``learning.value``).
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atc_pipeline.certificate.claim import Claim, Scale
from atc_pipeline.learning.value import NONE_BELOW, WEAK_BELOW, Value, value_of

SEED = 14
LOGS = {Scale.QUICK: 20, Scale.FULL: 200}
SIZES = (400, 5_000)
"""Customers of every second log: of the small ones nothing may be told, of the large ones it must be right."""
DECISIONS = 4
EXPLORE, OPTIONS, HOLDOUT = 0.1, 4, 0.15
FIRST = date(2026, 1, 1)
COVERS_AT_LEAST = 0.9
TRUTH_FROM = 400_000
"""Customers that the truth is summed over: its own error is a twentieth of an interval's."""

Floats = NDArray[np.float64]
Valuing = Callable[[pl.DataFrame, pl.DataFrame, Sequence[str]], Value]

PORTFOLIOS = {
    "value": "goes by what a journey earns for such a customer",
    "push": "one journey is pushed, a smaller share is explored",
    "less": "sends nothing to those who earn least",
}


def other_policies_are_valued_right(scale: Scale, valuing: Valuing = value_of, *, logs: int | None = None) -> Claim:
    """Try the interval on many logs, for three portfolios."""
    count = logs or LOGS[scale]
    truths = _truths()
    covered: dict[str, list[bool]] = {name: [] for name in PORTFOLIOS}
    without, early = dict.fromkeys(PORTFOLIOS, 0), 0
    for log in range(2 * count):
        random = np.random.default_rng((SEED, log))
        points, by_portfolio = _draw(random, SIZES[log % 2])
        for name, draws in by_portfolio.items():
            value = valuing(points, draws, ["spent", "visits"])
            if value.effective >= WEAK_BELOW and value.low is not None and value.high is not None:
                covered[name].append(value.low <= truths[name] <= value.high)
            without[name] += value.low is None
            early += value.effective < NONE_BELOW and value.low is not None
    shares = {name: sum(hits) / len(hits) if hits else 0.0 for name, hits in covered.items()}
    figures = {
        f"{name}: {meaning}": (
            f"covers {shares[name]:.1%} of {len(covered[name])} logs with {WEAK_BELOW:.0f} effective rows or more; truth "
            f"{truths[name]:+.4f} a decision; no interval in {without[name]} logs"
        )
        for name, meaning in PORTFOLIOS.items()
    }
    slack = 0.0 if scale is Scale.FULL else 0.1
    return Claim(
        name="other policies are valued right",
        how=(
            f"{count} logs of {SIZES[1] * DECISIONS:,} decisions and {count} of {SIZES[0] * DECISIONS:,}, "
            f"{len(PORTFOLIOS)} portfolios; seed {SEED}"
        ),
        bar=(
            f"the interval covers in {COVERS_AT_LEAST - slack:.0%} or more from {WEAK_BELOW:.0f} effective rows; "
            f"none below {NONE_BELOW:.0f}"
        ),
        figures=figures,
        passed=early == 0 and all(share >= COVERS_AT_LEAST - slack for share in shares.values()) and all(without.values()),
    )


def _truths() -> dict[str, float]:
    features = np.random.default_rng(SEED).normal(size=(TRUTH_FROM, 2))
    mu, means = _logged(features), _means(features)
    silence = _means_of_none(features)
    return {
        name: float(((pi - mu) * means).sum(axis=1).mean() + ((1 - pi.sum(axis=1)) * silence).mean())
        for name, pi in _others(features).items()
    }


def _draw(random: np.random.Generator, customers: int) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Draw a log in which customers decide some times each, and remain who they are."""
    number = customers * DECISIONS
    who = np.repeat(np.arange(customers), DECISIONS)
    features = np.repeat(random.normal(size=(customers, 2)), DECISIONS, axis=0)
    mu, means = _logged(features), _means(features)
    taken = (random.random(number)[:, None] > mu.cumsum(axis=1)).sum(axis=1).clip(max=OPTIONS - 1)
    is_treated = random.random(number) >= HOLDOUT
    expected = np.where(is_treated, means[np.arange(number), taken], _means_of_none(features))
    likes = np.repeat(random.gamma(4, 1 / 4, customers), DECISIONS)
    reward = (random.random(number) < 0.25) * random.gamma(2, 1 / 2, number) * expected * likes / 0.25
    names = np.array([f"customer {index}" for index in range(customers)])[who]
    days = [FIRST + timedelta(days=28 * index) for index in range(DECISIONS)] * customers
    points = pl.DataFrame({"customer_id": names, "decided_on": days, "is_treated": is_treated, "reward": reward}).with_columns(
        known_as="customer_id",
        taken=pl.Series([f"j{option}" for option in taken]),
        is_squeezed=False,
        wants_full=False,
        spent=pl.Series(features[:, 0]),
        visits=pl.Series(features[:, 1]),
    )
    return points, {name: _frame(points, mu, pi) for name, pi in _others(features).items()}


def _frame(points: pl.DataFrame, mu: Floats, pi: Floats) -> pl.DataFrame:
    at = points.select("customer_id", "decided_on")
    return pl.concat(
        at.with_columns(
            journey_id=pl.lit(f"j{option}"), mu=pl.Series(mu[:, option]), pi=pl.Series(pi[:, option]), holdout=HOLDOUT, price=0.0
        )
        for option in range(OPTIONS)
    )


def _means(features: Floats) -> Floats:
    """Return what each option earns: no straight line, so that the model of it is wrong, as it always is."""
    spent, visits = features[:, 0], features[:, 1]
    return np.column_stack([2 + 0.5 * spent, 2 + 0.8 * np.tanh(visits), 1.5 + 0.4 * np.abs(spent), 2.2 - 0.3 * visits]).clip(min=0.1)


def _means_of_none(features: Floats) -> Floats:
    return (1.6 + 0.3 * features[:, 0]).clip(min=0.1)


def _logged(features: Floats) -> Floats:
    """Return how the log draws: by a score that knows half of it, the rest explored."""
    return _explored(np.column_stack([features[:, 0], np.zeros(len(features)), -features[:, 0], 0.2 - features[:, 1]]), EXPLORE)


def _others(features: Floats) -> dict[str, Floats]:
    pushed = np.tile([0.0, 1.0, 0.0, 0.0], (len(features), 1))
    less = _logged(features)
    less[features[:, 0] < -1] = 0.0
    return {"value": _explored(_means(features), EXPLORE), "push": _explored(pushed, EXPLORE / 2), "less": less}


def _explored(scores: Floats, explore: float) -> Floats:
    best: Floats = np.eye(OPTIONS)[scores.argmax(axis=1)]
    return best * (1 - explore) + explore / OPTIONS
