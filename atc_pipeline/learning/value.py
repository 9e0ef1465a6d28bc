"""The value of another policy, from what was drawn by chance under this one: a doubly robust difference (SPEC 14).

Of each decision that was made, the log has the probability of what was chosen. Where the other policy would have drawn otherwise, what came
of the same choice, made by chance, stands for it, weighted by how much more often the other makes it; a model of what each choice brings
takes away what customers differ in, and stands in between. Dudik, Langford & Li 2011, "Doubly Robust Policy Evaluation and Learning".

What belongs here: the estimate of a difference, how far it can be trusted, and when nothing is said. What does not: what either policy
draws, and what came of it (``plan.valuing``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from atc_pipeline.learning.basis import Floats

Status = Literal["ok", "weak", "none", "coupled"]
"""Whether an interval is said; ``weak``: of few rows. ``coupled``: too many want places that there are not."""

LEAST, ENOUGH = 50, 200
"""Effective sample size below which there is no interval, and below which it is weak."""
MOST_COUPLED = 0.1
"""Share of decisions that may be about a full journey."""
Z = 1.959963984540054
SHARED, OWN, OF_OPTION = 30.0, 150.0, 1.0
"""Penalties of the model of rewards: on what all options share, on what one has of its own, on its level."""
FOLDS = 2


@dataclass(frozen=True, eq=False)
class Log:
    """Decisions that were made, a row each, and what either policy draws, a row per decision and option of either.

    ``customer``: a number for each. ``terms``: what is known of them, centred and scaled. ``option``: the option taken; ``is_treated``:
    not held out of it. ``holdout``: the share held out of it. ``reward``: what came, in money.
    ``at``: the decision of a choice; ``of``: its option, or -1 for sending nothing; ``mu``, ``pi``: with which probability this policy and
    the other draw it.
    """

    customer: np.ndarray
    terms: Floats
    option: np.ndarray
    is_treated: np.ndarray
    holdout: Floats
    reward: Floats
    at: np.ndarray
    of: np.ndarray
    mu: Floats
    pi: Floats
    options: int

    def __len__(self) -> int:
        """Count decisions."""
        return len(self.option)


NOTHING = -1
"""The option of sending nothing, in ``Log.of``."""


@dataclass(frozen=True)
class Value:
    """What the other policy would have earned more per decision, and how far that can be trusted.

    ``points``: decisions. ``disagree``: the share of them in which the two draw otherwise. ``unsupported``: the share of what the other
    draws that this one never did. ``effective``: the effective sample size of the rows on which they disagree. ``beyond``: what the model
    alone says of what is not supported.
    """

    points: int
    disagree: float
    unsupported: float
    effective: float
    largest_weight: float
    largest_share: float
    difference: float | None
    low: float | None
    high: float | None
    snips: float | None
    direct: float | None
    beyond: float | None
    status: Status


def value(log: Log, *, coupled: float = 0.0) -> Value:
    """Estimate the difference; ``coupled``: the share of decisions that are about a full journey."""
    points = len(log)
    if not points:
        return Value(0, 0.0, 0.0, 0.0, 0.0, 0.0, None, None, None, None, None, None, "none")
    is_silent = log.of == NOTHING
    silent = _silent(log)
    is_supported = np.where(is_silent, silent[log.at] > 0, log.mu > 0)
    unsupported = np.bincount(log.at, np.where(is_supported, 0.0, log.pi), points)
    # What is not supported is left as it was: only the rest is compared.
    pi = np.where(is_supported, log.pi, 0.0) + unsupported[log.at] * log.mu
    differs = np.bincount(log.at, np.abs(pi - log.mu), points) > _SAME
    taken = _taken(log, pi)
    rewards, silence = _foretold(log)
    own = rewards[np.arange(points), log.option]
    chosen = np.where(is_silent, silence[log.at], rewards[log.at, np.maximum(log.of, 0)])
    direct = np.bincount(log.at, (pi - log.mu) * chosen, points)
    mu_taken = _taken(log, log.mu)
    weight = np.divide(taken, mu_taken, out=np.zeros(points), where=mu_taken > 0)
    treated = np.where(log.is_treated & (mu_taken > 0), (weight - 1) / (1 - np.minimum(log.holdout, 1 - _SAME)), 0.0)
    said_nothing = np.bincount(log.at, np.where(is_silent, pi, 0.0), points)
    control = np.where(~log.is_treated & (silent > 0), said_nothing / np.maximum(silent, _SAME), 0.0)
    residual = treated * (log.reward - own) + control * (log.reward - silence)
    effect = np.where(differs, direct + residual, 0.0)
    counted = weight[differs & log.is_treated]
    effective = float(counted.sum() ** 2 / (counted**2).sum()) if (counted**2).sum() > 0 else 0.0
    status: Status = "coupled" if coupled > MOST_COUPLED else "ok" if effective >= ENOUGH else "weak" if effective >= LEAST else "none"
    if not differs.any() and not unsupported.any():
        status = "ok"  # the two draw alike: the difference is nothing, for certain
    mean, error = float(effect.mean()), error_by_customer(effect, log.customer)
    is_told = status in ("ok", "weak")
    beyond = np.bincount(log.at, np.where(is_supported, 0.0, log.pi) * chosen, points) - unsupported * np.bincount(
        log.at, log.mu * chosen, points
    )
    size = np.abs(effect).sum()
    return Value(
        points,
        float(differs.mean()),
        float(unsupported.mean()),
        effective,
        float(counted.max(initial=0.0)),
        float(np.abs(effect).max() / size) if size > 0 else 0.0,
        mean if is_told else None,
        mean - Z * error if is_told else None,
        mean + Z * error if is_told else None,
        snips(log.reward[log.is_treated], weight[log.is_treated]) - float(log.reward[log.is_treated].mean()) if counted.any() else None,
        float(direct.mean()),
        float(beyond.mean()) if unsupported.any() else None,
        status,
    )


_SAME = 1e-12


def ips(reward: Floats, weight: Floats) -> float:
    """Return the mean reward under another policy by inverse propensities: weights are its probabilities by those of the log."""
    return float((reward * weight).mean())


def snips(reward: Floats, weight: Floats) -> float:
    """Return the same by weights that add up to the number of rows: self-normalised."""
    return float((reward * weight).sum() / weight.sum())


def effective_sample_size(weight: Floats) -> float:
    """Return how many rows of equal weight would tell as much."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def error_by_customer(values: Floats, customer: np.ndarray) -> float:
    """Return the standard error of the mean of rows of which those of one customer are not independent."""
    numbers, place = np.unique(customer, return_inverse=True)
    if len(numbers) < 2:  # of one nothing can be told
        return float("inf")
    sums = np.bincount(place, values - values.mean())
    return float(np.sqrt(np.sum(sums**2) * len(numbers) / (len(numbers) - 1)) / len(values))


def _silent(log: Log) -> Floats:
    """By decision, with which probability nothing was sent: that of being held out of whatever was drawn."""
    held_out = np.zeros(log.options)
    np.maximum.at(held_out, log.option, log.holdout)
    return _sums(log.at, np.where(log.of == NOTHING, 0.0, log.mu * held_out[np.maximum(log.of, 0)]), len(log))


def _taken(log: Log, probability: Floats) -> Floats:
    """By decision, the probability of the option that was taken."""
    is_taken = log.of == log.option[log.at]
    return _sums(log.at[is_taken], probability[is_taken], len(log))


def _sums(at: np.ndarray, values: Floats, length: int) -> Floats:
    return np.asarray(np.bincount(at, values, length), dtype=np.float64)


def _foretold(log: Log) -> tuple[Floats, Floats]:
    """Return what each option brings by decision, and what sending nothing does: of each half of the customers by the other half."""
    fold = log.customer % FOLDS
    rewards, silence = np.zeros((len(log), log.options)), np.zeros(len(log))
    for half in range(FOLDS):
        here, there = fold == half, fold != half
        treated, control = there & log.is_treated, there & ~log.is_treated
        rewards[here] = _ridge(log.terms[treated], log.option[treated], log.reward[treated], log.options, log.terms[here])
        nothing = np.zeros(int(control.sum()), dtype=np.int64)
        silence[here] = _ridge(log.terms[control], nothing, log.reward[control], 1, log.terms[here])[:, 0]
    return rewards, silence


def _ridge(terms: Floats, option: np.ndarray, reward: Floats, options: int, asked: Floats) -> Floats:
    """Fit what options share, then what each has of its own, drawn to nothing; return by row asked for and option."""
    if not len(reward):
        return np.zeros((len(asked), options))
    mean = float(reward.mean())
    scale = float(reward.std()) or 1.0
    left = (reward - mean) / scale
    shared = _solved(terms, left, SHARED)
    left = left - terms @ shared
    together = asked @ shared
    foretold = np.empty((len(asked), options))
    for number in range(options):
        rows = option == number
        own, level = terms[rows], left[rows]
        at = float(level.sum() / (len(level) + OF_OPTION))
        weights = _solved(own, level - at, OWN) if len(level) else np.zeros(terms.shape[1])
        foretold[:, number] = mean + scale * (together + at + asked @ weights)
    return foretold


def _solved(terms: Floats, values: Floats, penalty: float) -> Floats:
    return np.asarray(np.linalg.solve(terms.T @ terms + penalty * np.eye(terms.shape[1]), terms.T @ values))


def in_words(told: Value, *, what: str, squeezed: int, explore: float, days: int) -> Sequence[str]:
    """Say it: the difference with its interval, or what is lacking.

    ``what``: the unit. ``squeezed``: decisions left out, since no place was left. ``explore``: the share drawn by chance. ``days``: how
    many days these decisions are of.
    """
    if not told.points:
        return ("Nothing can be said: no decision of these days has matured.",)
    lines = []
    shares = f"of {told.points:,} decisions the two draw otherwise in {told.disagree:.1%}; {told.effective:,.0f} of them count"
    match told.status:
        case "ok" | "weak":
            assert told.difference is not None
            assert told.low is not None
            assert told.high is not None
            weak = "" if told.status == "ok" else " (weak: few were drawn by chance)"
            lines.append(
                f"{told.difference:+,.2f} {what} per decision, where anything from {told.low:+,.2f} to {told.high:+,.2f} is possible"
                f"{weak}: {shares}."
            )
        case "coupled":
            lines.append(
                "Nothing can be said: more than a tenth of the decisions are about journeys that are full, so that who gets a place takes "
                f"it from somebody else; {shares}."
            )
        case "none":
            lines.append(f"Nothing can be said: {shares}, and {LEAST} must. {_needed(told, explore, days)}")
    if told.unsupported > _SAME:
        lines.append(
            f"{told.unsupported:.1%} of what the other would draw was never drawn here, and is not in that figure"
            + (f"; a model alone says {told.beyond:+,.2f} {what} per decision of it." if told.beyond is not None else ".")
        )
    if told.direct is not None and told.difference is not None and told.snips is not None:
        lines.append(f"Beside it, as a check: {told.direct:+,.2f} by the model alone, {told.snips:+,.2f} by weights alone.")
        is_apart = (told.low or 0) > 0 or (told.high or 0) < 0
        if is_apart and (told.direct * told.difference < 0 or told.snips * told.difference < 0):
            lines.append("These point in another direction: look at what is drawn otherwise before believing any of them.")
    if squeezed:
        lines.append(f"{squeezed:,} decisions are left out, since no place was left for what was wished.")
    return tuple(lines)


def _needed(told: Value, explore: float, days: int) -> str:
    if explore <= 0:
        return "Nothing is drawn by chance: policy.explore is 0."
    if told.effective <= 0:
        return "What the other draws was never drawn by chance."
    more = days * (ENOUGH / told.effective - 1)
    return f"With {explore:.0%} drawn by chance it takes some {more:,.0f} days more until {ENOUGH} do."
