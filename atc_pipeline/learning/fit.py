"""The fit: one logistic model of goals for all journeys, drawn together by penalties (SPEC 12).

    logit p = g + a_j + sum_k (w_k + v_jk) f_k + t (tau + tau_j),  t = 1 treated, 0 control

What belongs here: finding the coefficients for a penalty, and which penalty. What does not: what is done with them (``model``), which rows
there are (``days``).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from atc_pipeline.learning.basis import Basis, Floats
from atc_pipeline.learning.clustered import error_of_mean
from atc_pipeline.tables.parts import in_parallel

LAMBDAS = (3.0, 30.0, 300.0, 3000.0)
OF_JOURNEY, OF_EFFECT, OF_JOURNEYS_EFFECT, OF_OWN_WEIGHTS = 1.0, 3.0, 15.0, 5.0
"""Penalties of a, tau and tau_j, and how many times lambda that of v is."""
FORWARD = 5
"""The latest fifth is foretold from the rest."""
LEAST, MOST = 0.0005, 0.9995
"""A probability that was learned is no smaller and no larger."""

STEPS = 60
TOLERANCE = 1e-9
"""The search is over where no slope is more than this per row."""


class FitError(Exception):
    """No model can be fitted; the message says why."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Entries to learn from, in order: (entered_on, customer, journey). Arrays are by row; ``journey`` is a place in ``journey_ids``.

    ``features``: the columns that are learned by. ``customer``: a number for each customer.
    """

    features: pl.DataFrame
    journey_ids: Sequence[str]
    journey: np.ndarray
    customer: np.ndarray
    is_treated: np.ndarray
    goal: np.ndarray

    def part(self, first: int, last: int) -> "Rows":
        """Return rows from ``first`` on, before ``last``."""
        here = slice(first, last)
        return Rows(self.features[here], self.journey_ids, self.journey[here], self.customer[here], self.is_treated[here], self.goal[here])

    def __len__(self) -> int:
        """Count them."""
        return len(self.journey)


@dataclass(frozen=True, eq=False)
class Coefficients:
    """What was fitted. ``shared``: g, the weight of each term, tau. ``own``: by journey, what it has besides, in the same order."""

    shared: Floats
    own: Floats

    def logits(self, terms: Floats, journey: np.ndarray, is_treated: np.ndarray | float) -> Floats:
        """Return the logit of each row; ``terms``: centred and scaled."""
        together = self.shared + self.own[journey]
        return np.asarray(together[:, 0] + (terms * together[:, 1:-1]).sum(axis=1) + is_treated * together[:, -1])


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model, how it foretold the latest fifth, and how the rates of journeys did; ``wins``: it was better, beyond chance."""

    basis: Basis
    coefficients: Coefficients
    penalty: float
    log_loss: float
    log_loss_rates: float
    wins: bool


def fit(rows: Rows, features: Mapping[str, pl.DataType]) -> Fitted:
    """Choose the penalty by the latest fifth, then fit to all; raises FitError."""
    import scipy.linalg  # noqa: F401, PLC0415  # see solve; it brings a BLAS of its own, and what is loaded later has no limit

    # Journeys are solved in threads of ours: those of BLAS beside them would wait for each other.
    with threadpool_limits(1):
        return _fit(rows, features)


def _fit(rows: Rows, features: Mapping[str, pl.DataType]) -> Fitted:
    number = len(rows)
    held = number // FORWARD
    if held < 1:
        raise FitError(f"{number} entries have matured, at least {FORWARD} are needed")
    before, after = rows.part(0, number - held), rows.part(number - held, number)
    if not 0 < before.goal.sum() < len(before):
        raise FitError("of all but the latest fifth of the entries, either all reached the goal or none did")
    basis = Basis.of(before.features, features)
    known, ahead = basis.standardised(before.features), basis.standardised(after.features)
    by_rate = _losses(np.clip(rates(before)[after.journey, np.where(after.is_treated, 0, 1)], LEAST, MOST), after.goal)
    losses: dict[float, Floats] = {}
    start = None
    for penalty in reversed(LAMBDAS):  # from the simplest on: each begins where the one before ended
        start = solve(known, before, penalty, start)
        losses[penalty] = _losses(_probability(start.logits(ahead, after.journey, after.is_treated)), after.goal)
    best = min(LAMBDAS, key=lambda penalty: (float(losses[penalty].mean()), -penalty))
    whole = Basis.of(rows.features, features)
    fitted = solve(whole.standardised(rows.features), rows, best, None)
    gain = by_rate - losses[best]
    return Fitted(
        whole,
        fitted,
        best,
        float(losses[best].mean()),
        float(by_rate.mean()),
        bool(gain.mean() >= 2 * error_of_mean(gain, _numbered(after.customer))),
    )


def solve(terms: Floats, rows: Rows, penalty: float, start: Coefficients | None) -> Coefficients:
    """Minimise the sum of log-losses plus half the penalised squares, by Newton's method.

    What journeys share and what each has of its own are told apart: given what is shared, journeys do not touch each other, so that each
    step solves a small system by journey, and one for what is shared. Raises FitError.
    """
    from scipy.linalg import cho_factor, cho_solve  # noqa: PLC0415  # see purchases: slow, for what is done once in refit_days
    from scipy.special import expit  # noqa: PLC0415

    journeys, width = len(rows.journey_ids), terms.shape[1] + 2
    of_own = np.full(width, OF_OWN_WEIGHTS * penalty)
    of_own[0], of_own[-1] = OF_JOURNEY, OF_JOURNEYS_EFFECT
    of_shared = np.full(width, penalty)
    of_shared[0], of_shared[-1] = 0.0, OF_EFFECT
    order = np.argsort(rows.journey, kind="stable")
    design = np.column_stack([np.ones(len(rows)), terms, rows.is_treated.astype(np.float64)])[order]
    goal = rows.goal.astype(np.float64)[order]
    ends = np.searchsorted(rows.journey[order], np.arange(journeys + 1))
    blocks = [slice(first, last) for first, last in itertools.pairwise(ends)]
    there = [number for number, block in enumerate(blocks) if block.stop > block.start]

    def loss(shared: Floats, own: Floats) -> float:
        def of_data(number: int) -> float:
            logit = design[blocks[number]] @ (shared + own[number])
            return float(np.sum(np.logaddexp(0.0, logit) - goal[blocks[number]] * logit))

        total = 0.5 * float(of_shared @ shared**2 + (own**2 @ of_own).sum())
        for part in in_parallel(of_data, there):  # added up in their order
            total += part
        return total

    def of_journey(number: int) -> tuple[Floats, tuple[Floats, bool], Floats, Floats]:
        """Return the slope of its data, what solves its system, the curvature of its data, and what it has of that by itself."""
        block = design[blocks[number]]
        chance = expit(block @ (shared + own[number]))
        weighted = block * np.sqrt(chance * (1 - chance))[:, None]
        hessian = weighted.T @ weighted  # by itself: half the products, as it is symmetric
        factor = cho_factor(hessian + np.diag(of_own))
        return block.T @ (chance - goal[blocks[number]]), factor, hessian, hessian @ cho_solve(factor, hessian)

    shared = start.shared.copy() if start else np.zeros(width)
    own = start.own.copy() if start else np.zeros((journeys, width))
    if start is None:
        share = goal.mean()
        shared[0] = np.log(share / (1 - share)) if 0 < share < 1 else 0.0
    value = loss(shared, own)
    for _ in range(STEPS):
        # own = theta - shared: by journey the slope in theta, and what its curvature leaves of what is shared.
        slope_shared = of_shared * shared
        curvature = np.diag(of_shared)
        slopes, factors = np.zeros_like(own), {}
        for number, (of_data, factor, hessian, taken) in zip(there, in_parallel(of_journey, there), strict=True):
            slopes[number] = of_data + of_own * own[number]
            slope_shared = slope_shared + of_data
            factors[number] = (factor, hessian)
            curvature = curvature + hessian - taken
        steepest = max(float(np.abs(slope_shared).max()), float(np.abs(slopes).max(initial=0.0)))
        right = -slope_shared
        for number, (factor, hessian) in factors.items():
            # own step d_j solves (H + P) d_j = -slope_j - H d, and d what is left when they are put in.
            right = right + hessian @ cho_solve(factor, slopes[number])
        step = np.linalg.solve(curvature + np.diag(np.where(of_shared == 0, 1e-9, 0.0)), right)
        steps = np.zeros_like(own)
        for number, (factor, hessian) in factors.items():
            steps[number] = cho_solve(factor, -slopes[number] - hessian @ step)
        if steepest <= TOLERANCE * max(len(rows), 1):
            # One step more has twice the digits, so that those which are kept do not depend on where the search ended.
            return Coefficients(shared + step, own + steps)
        length = 1.0
        while length > 2**-30:
            ahead = loss(shared + length * step, own + length * steps)
            if ahead <= value:
                break
            length /= 2
        else:
            if steepest <= np.sqrt(TOLERANCE) * max(len(rows), 1):
                return Coefficients(shared, own)  # as near as doubles come
            raise FitError(f"no minimum of the loss found (slope {steepest:.1g})")
        shared, own, value = shared + length * step, own + length * steps, ahead
    raise FitError(f"no minimum of the loss found in {STEPS} steps (slope {steepest:.1g})")


def rates(rows: Rows) -> Floats:
    """By journey, the share that reaches the goal when treated, and in control, each drawn like 30 entries to what is usual.

    When treated that is the share of all. In control it is what its own share when treated would be without the effect that journeys with
    a control group have: goals are too different for the control groups of others to say it. Without anybody in control both are the same:
    that nothing is caused is all that can be said.
    """
    treated, control, usual = _arms(rows)
    share = (treated[1] + DRAWN * usual) / (treated[0] + DRAWN)
    alone = _without(share, _effect(treated, control))
    return np.column_stack([share, (control[1] + DRAWN * alone) / (control[0] + DRAWN)])


def _arms(rows: Rows) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats], float]:
    """Return what is counted of both arms, and the share of all who reach the goal when treated (of control where nobody is)."""
    treated, control = (_counted(rows, is_arm) for is_arm in (rows.is_treated, ~rows.is_treated))
    entries, goals = treated if treated[0].any() else control
    return treated, control, float(goals.sum() / entries.sum())


def _counted(rows: Rows, is_arm: np.ndarray) -> tuple[Floats, Floats]:
    """By journey, entries of an arm and those that reached the goal."""
    journeys = len(rows.journey_ids)
    entries = np.bincount(rows.journey[is_arm], minlength=journeys).astype(np.float64)
    return entries, np.bincount(rows.journey[is_arm], rows.goal[is_arm], minlength=journeys).astype(np.float64)


def _effect(treated: tuple[Floats, Floats], control: tuple[Floats, Floats]) -> float:
    """Return how much more the logit is when treated, of journeys that have entries in both arms; 0 where none has."""
    has_both = (treated[0] > 0) & (control[0] > 0)
    if not has_both.any():
        return 0.0
    logits = []
    for entries, goals in (treated, control):
        share = np.clip(goals[has_both].sum() / entries[has_both].sum(), LEAST, MOST)
        logits.append(float(np.log(share / (1 - share))))
    return logits[0] - logits[1]


def _without(share: Floats, effect: float) -> Floats:
    clipped = np.clip(share, LEAST, MOST)
    return share if effect == 0 else np.asarray(1 / (1 + np.exp(effect - np.log(clipped / (1 - clipped)))))


DRAWN = 30
"""Entries that the rate of all journeys counts for in that of one."""


def overall(rows: Rows) -> tuple[float, float]:
    """Return the rates of a journey that nobody has entered: those of all journeys, and what they would be left alone."""
    treated, control, usual = _arms(rows)
    return usual, float(_without(np.array([usual]), _effect(treated, control))[0])


def _probability(logits: Floats) -> Floats:
    from scipy.special import expit  # noqa: PLC0415  # see solve

    return np.asarray(np.clip(expit(logits), LEAST, MOST))


def _losses(probability: Floats, goal: np.ndarray) -> Floats:
    return -np.log(np.where(goal, probability, 1 - probability))


def _numbered(customer: np.ndarray) -> np.ndarray:
    """Number those who are there from 0 on."""
    return np.unique(customer, return_inverse=True)[1]
