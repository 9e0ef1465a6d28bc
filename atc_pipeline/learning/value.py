"""What another portfolio would have earned, from the log: the difference to what was drawn, doubly robust (SPEC 14).

What belongs here: the statistics, on decision points and on what either portfolio would have drawn at them. What does not: where decision
points come from, what another portfolio would have drawn, or how it is told (``plan``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atc_pipeline.learning.basis import Basis, Floats
from atc_pipeline.learning.clustered import error_of_mean
from atc_pipeline.rules.lots import xxh64

WEAK_BELOW, NONE_BELOW = 200.0, 50.0
"""Effective rows below which an interval is weak, and below which there is none: where it covered too seldom (SPEC 14)."""
COUPLED_ABOVE = 0.1
"""Share of decision points that want a full journey above which customers decide for each other."""
NORMAL_95 = 1.959963984540054
OPTION, SHARED, OWN = 1.0, 30.0, 150.0
"""Ridge penalties of q: an option's own level, what features mean for all options, what they mean for one more than for all."""
SLACK = 1e-9
"""What probabilities may differ by and still be the same."""

Booleans = NDArray[np.bool_]


class Status(StrEnum):
    """What may be concluded: an interval, one to be careful with, or none, for want of exploration or of independent customers."""

    OK = "ok"
    WEAK = "weak"
    NONE = "none"
    COUPLED = "coupled"


@dataclass(frozen=True)
class Weighted:
    """Means of rewards under weights (Horvitz and Thompson 1952; Hajek 1971), and how many equal rows the weights amount to."""

    ipw: float
    snipw: float
    effective: float


@dataclass(frozen=True)
class Value:
    """What the log says of another portfolio, per decision point.

    ``unsupported``: share of what it would have drawn that was not eligible then; ``unsupported_direct`` what the model alone expects of
    that, never in the interval. ``largest_share``: of one row in all weights. ``squeezed``: rows left out because their wish was squeezed.
    """

    decision_points: int
    disagree: float
    unsupported: float
    effective: float
    largest_weight: float
    largest_share: float
    squeezed: int
    wants_full: float
    status: Status
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    snips: float | None = None
    direct: float | None = None
    unsupported_direct: float | None = None


@dataclass(frozen=True)
class _Log:
    """Decision points by rows, options by columns; ``mu`` and ``pi`` are 0 where an option was not eligible, or not drawn."""

    customers: NDArray[np.int64]
    folds: NDArray[np.int64]
    taken: NDArray[np.int64]
    is_treated: Booleans
    reward: Floats
    mu: Floats
    pi: Floats
    is_eligible: Booleans
    holdout: Floats
    price: Floats
    features: Floats


def weigh(weights: Floats, rewards: Floats) -> Weighted:
    """Return the mean of rewards under weights, plain and self-normalised."""
    total = float(weights.sum())
    product = float((weights * rewards).sum())
    return Weighted(product / len(weights), product / total if total else 0.0, effective_size(weights))


def effective_size(weights: Floats) -> float:
    """Return ``(sum w)^2 / sum w^2``, how many rows of equal weight these amount to (Kish 1965)."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def value_of(points: pl.DataFrame, draws: pl.DataFrame, features: Sequence[str]) -> Value:
    """Return what another portfolio would have earned more than what was drawn, per decision point.

    ``points``: one row per decision point: ``customer_id, decided_on, known_as`` (whose it is by now: rows of one are not independent),
    ``taken`` (the journey drawn), ``is_treated``, ``reward``, ``is_squeezed`` (its wish was squeezed: left out), ``wants_full`` (it
    wanted a full journey), and the features, numeric or boolean.
    ``draws``: one row per decision point and journey: ``customer_id, decided_on, journey_id, mu`` (null: it was not eligible), ``pi``,
    ``holdout`` (in force), ``price`` (of its place that day). What ``pi`` leaves of 1 is the probability of "none".
    """
    if points.is_empty():
        return Value(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0.0, Status.NONE)
    wants_full = float(points["wants_full"].to_numpy().mean())
    kept = points.filter(~pl.col("is_squeezed")).sort("known_as", "customer_id", "decided_on")
    if kept.is_empty():
        return Value(0, 0.0, 0.0, 0.0, 0.0, 0.0, points.height, wants_full, Status.NONE)
    log = _log(kept, draws, features)
    number = kept.height
    rows = np.arange(number)

    drawn = np.where(log.is_eligible, log.pi, 0.0)
    silent = (log.mu * log.holdout).sum(axis=1)
    none = np.clip(1 - log.pi.sum(axis=1), 0.0, 1.0)
    none[none < SLACK] = 0.0
    silence = np.where(silent > 0, none, 0.0)
    unsupported = 1 - drawn.sum(axis=1) - silence
    unsupported[np.abs(unsupported) < SLACK] = 0.0
    # What has no support is as if it did what the log did: there it adds exactly 0, and the rest is what the interval is of.
    pi = drawn + unsupported[:, None] * log.mu
    disagrees = np.abs(pi - log.mu).max(axis=1) + silence > SLACK

    q, q_none = _expected(log, needs_none=bool((none > 0).any()))
    net = q - log.price
    q_pi, q_mu = (pi * net).sum(axis=1) + silence * q_none, (log.mu * net).sum(axis=1)
    ratio = pi[rows, log.taken] / log.mu[rows, log.taken]
    in_force = np.where(log.is_treated, 1 / (1 - log.holdout[rows, log.taken]), 0.0)
    reward = log.reward - log.price[rows, log.taken]
    is_silent = ~log.is_treated & (silence > 0)
    for_none = np.where(is_silent, silence / np.where(silent > 0, silent, 1.0), 0.0)
    parts = q_pi - q_mu + in_force * (ratio - 1) * (reward - net[rows, log.taken]) + for_none * (log.reward - q_none)
    parts[~disagrees] = 0.0

    weights = in_force * ratio + for_none
    disputed = weights[disagrees]
    effective = effective_size(disputed)
    wanted = np.where(log.is_eligible, 0.0, log.pi)
    of_none = none - silence
    status = _status(effective, wants_full)
    figures = {
        "difference": _rounded(float(parts.mean())),
        "snips": _rounded(_mean(weights, np.where(log.is_treated, reward, log.reward)) - _mean(in_force, reward)),
        "direct": _rounded(float(np.where(disagrees, q_pi - q_mu, 0.0).mean())),
    }
    error = error_of_mean(parts, log.customers)
    interval = status in (Status.OK, Status.WEAK)
    return Value(
        decision_points=number,
        disagree=float((disagrees | (unsupported > 0)).mean()),
        unsupported=float(unsupported.mean()),
        effective=effective,
        largest_weight=float(disputed.max(initial=0.0)),
        largest_share=float(weights.max(initial=0.0) / weights.sum()) if weights.sum() else 0.0,
        squeezed=points.height - number,
        wants_full=wants_full,
        status=status,
        difference=figures["difference"] if interval else None,
        low=_rounded(figures["difference"] - NORMAL_95 * error) if interval else None,
        high=_rounded(figures["difference"] + NORMAL_95 * error) if interval else None,
        snips=figures["snips"],
        direct=figures["direct"],
        unsupported_direct=_rounded(float(((wanted * net).sum(axis=1) + of_none * q_none - unsupported * q_mu).mean())),
    )


def days_until(value: Value, days: int) -> int | None:
    """Return after how many days more, at the pace of so many, the effective size is one that can be told; null: never."""
    if value.effective >= WEAK_BELOW:
        return 0
    return ceil(days * (WEAK_BELOW - value.effective) / value.effective) if value.effective else None


def words(value: Value, days: int) -> str:
    """Say what a marketer may conclude of so many days of the log, or why nothing."""
    apart = f"; {value.unsupported:.0%} of what it would draw was not eligible then, and is not judged" if value.unsupported else ""
    return _conclusion(value, days) + apart


def _conclusion(value: Value, days: int) -> str:
    if not value.decision_points:
        return "nothing can be said: no decision of these days has matured and had a place"
    of = f"{value.decision_points:,} decisions"
    if value.status is Status.COUPLED:
        return (
            f"no verdict: {value.wants_full:.0%} of {of} want a journey that is full, so what one customer gets is what another does not; "
            "raise the capacity, or compare by a control group"
        )
    if value.disagree == 0:
        return f"nothing to value: both would have drawn the same in all {of}"
    if value.status is Status.NONE:
        more = days_until(value, days)
        needed = "at this pace never" if more is None else f"some {more:,} days more at this pace"
        return (
            f"we cannot tell: of {of} they differ in {value.disagree:.0%}, and exploration tried what the changed file wants there as "
            f"often as {value.effective:.0f} equal rows would; {WEAK_BELOW:.0f} are needed ({needed}), or a larger policy.explore"
        )
    line = f"{value.difference:+.4f} a decision ({value.low:+.4f} to {value.high:+.4f}), of {of}, {value.disagree:.0%} in dispute"
    weak = f"; take it with care, it rests on {value.effective:.0f} equal rows" if value.status is Status.WEAK else ""
    signs = {np.sign(number) for number in (value.difference, value.snips, value.direct) if number}
    return line + weak + ("; weighting or the model alone would say the opposite" if len(signs) > 1 else "")


def _status(effective: float, wants_full: float) -> Status:
    if wants_full > COUPLED_ABOVE:
        return Status.COUPLED
    if effective < NONE_BELOW:
        return Status.NONE
    return Status.WEAK if effective < WEAK_BELOW else Status.OK


def _rounded(number: float) -> float:
    """Round to 9 significant digits: fits differ in the last ones by how many threads made them."""
    return float(f"{number:.9g}")


def _mean(weights: Floats, rewards: Floats) -> float:
    return weigh(weights, rewards).snipw


def _log(points: pl.DataFrame, draws: pl.DataFrame, features: Sequence[str]) -> _Log:
    numbered = points.with_row_index("row")
    options = sorted(set(draws["journey_id"].unique()) | set(points["taken"].unique()))
    columns = pl.DataFrame({"journey_id": options}, schema={"journey_id": pl.String}).with_row_index("column")
    cells = draws.join(numbered.select("customer_id", "decided_on", "row"), on=["customer_id", "decided_on"]).join(columns, on="journey_id")
    at = cells["row"].to_numpy(), cells["column"].to_numpy()

    def matrix(name: str) -> Floats:
        filled = np.zeros((points.height, len(options)))
        filled[at] = cells[name].cast(pl.Float64).fill_null(0.0).to_numpy()
        return filled

    is_eligible = np.zeros((points.height, len(options)), dtype=np.bool_)
    is_eligible[at] = cells["mu"].is_not_null().to_numpy()
    taken = numbered.join(columns, left_on="taken", right_on="journey_id", maintain_order="left")["column"].to_numpy().astype(np.int64)
    mu = matrix("mu")
    if not (mu[np.arange(points.height), taken] > 0).all():
        raise ValueError("a decision point whose journey has no probability in draws")
    folds = points.select(xxh64(pl.concat_str(pl.lit("value:"), "known_as")) % 2).to_series().to_numpy().astype(np.int64)
    customers = points["known_as"].rle_id().to_numpy().astype(np.int64)
    treated, reward = points["is_treated"].to_numpy(), points["reward"].cast(pl.Float64).to_numpy()
    numbers = Basis.of(points, {name: points.schema[name] for name in features}).standardised(points)
    return _Log(customers, folds, taken, treated, reward, mu, matrix("pi"), is_eligible, matrix("holdout"), matrix("price"), numbers)


def _expected(log: _Log, *, needs_none: bool) -> tuple[Floats, Floats]:
    """Return what each row would earn by each option, and by "none", as learned from the customers of the other fold."""
    number, options = log.mu.shape
    q, q_none = np.zeros((number, options)), np.zeros(number)
    shared = log.features
    for fold in (0, 1):
        answered, to_learn = np.flatnonzero(log.folds == fold), log.folds != fold
        learning = np.flatnonzero(to_learn & log.is_treated)
        level, common, own = _ridge(log.taken[learning], shared[learning], log.reward[learning], options)
        q[answered] = level + (shared[answered] @ common)[:, None] + shared[answered] @ own.T
        silent = np.flatnonzero(to_learn & ~log.is_treated)
        if needs_none and silent.size:
            level, common, own = _ridge(np.zeros(silent.size, dtype=np.int64), shared[silent], log.reward[silent], 1)
            q_none[answered] = level[0] + shared[answered] @ (common + own[0])
    return q, q_none


def _ridge(taken: NDArray[np.int64], shared: Floats, reward: Floats, options: int) -> tuple[Floats, Floats, Floats]:
    """Fit levels of options, coefficients of features for all, and then what each option adds to these, drawn to nothing.

    One after the other: all at once would be a system of options times features, for what takes differences between customers away.
    """
    if not taken.size:
        return np.zeros(options), np.zeros(shared.shape[1]), np.zeros((options, shared.shape[1]))
    mean, scale = float(reward.mean()), float(reward.std()) or 1.0
    left = (reward - mean) / scale
    common = _solved(shared, left, SHARED)
    left = left - shared @ common
    levels, own = np.zeros(options), np.zeros((options, shared.shape[1]))
    for option in range(options):
        rows = taken == option
        levels[option] = float(left[rows].sum() / (rows.sum() + OPTION))
        own[option] = _solved(shared[rows], left[rows] - levels[option], OWN)
    return mean + scale * levels, scale * common, scale * own


def _solved(terms: Floats, values: Floats, penalty: float) -> Floats:
    return np.asarray(np.linalg.solve(terms.T @ terms + penalty * np.eye(terms.shape[1]), terms.T @ values))
