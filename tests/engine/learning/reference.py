"""What SPEC 12 says of the model, in plain NumPy: rows times all columns, whole Newton steps, nothing shared with the engine.

What belongs here: the basis, the fit, the choice of lambda, and the rates beside it. What does not: worlds to try them on, and the days.
"""

import math
from dataclasses import dataclass

import numpy as np

LAMBDAS = (3000.0, 300.0, 30.0, 3.0)


@dataclass(frozen=True)
class Entry:
    """An entry that has matured. ``values``: its features; None where there is none."""

    customer: int
    journey: int
    is_treated: bool
    goal: bool
    values: tuple[float | bool | None, ...]


@dataclass(frozen=True)
class Learned:
    """What the reference learned: lambda, losses on the latest fifth, whether the model won, and each row's probability."""

    penalty: float
    log_loss: float
    log_loss_rates: float
    wins: bool
    probabilities: np.ndarray


def _column(train: list[float | bool | None], rows: list[float | bool | None]) -> list[np.ndarray]:
    """Make the terms of one feature, bounds from ``train``."""
    null = np.array([float(value is None) for value in rows])
    known = [float(value) for value in train if value is not None]
    if not known:
        return [null]
    if any(isinstance(value, bool) for value in train):
        return [np.array([0.0 if value is None else float(value) for value in rows]), null]
    low, high, first, second = np.percentile(known, [2, 98, 35, 65])
    width = high - low
    if width == 0:
        return [null]
    scaled = np.array([0.0 if value is None else (min(max(float(value), low), high) - low) / width for value in rows])
    knots = [(min(max(knot, low), high) - low) / width for knot in (first, second)]
    return [scaled, *(np.maximum(0.0, scaled - knot) * (1 - null) for knot in knots), null]


def _basis(train: list[Entry], rows: list[Entry]) -> np.ndarray:
    """Return the terms of ``rows``, centred and scaled as in ``train``."""
    terms = []
    for place in range(len(train[0].values)):
        before = [entry.values[place] for entry in train]
        made = _column(before, [entry.values[place] for entry in rows])
        usual = _column(before, before)
        terms += [(term - own.mean()) / own.std() for term, own in zip(made, usual, strict=True) if own.std() > 0]
    return np.column_stack(terms) if terms else np.zeros((len(rows), 0))


def _design(terms: np.ndarray, rows: list[Entry], journeys: int) -> np.ndarray:
    """Lay out g, w, tau, then by journey a, v, tau."""
    treated = np.array([[float(entry.is_treated)] for entry in rows])
    block = np.hstack([np.ones((len(rows), 1)), terms, treated])
    own = [block * np.array([[float(entry.journey == journey)] for entry in rows]) for journey in range(journeys)]
    return np.hstack([block, *own])


def _newton(design: np.ndarray, goal: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Minimise the sum of log-losses plus half the penalised squares."""
    weights = np.zeros(design.shape[1])
    for _ in range(60):
        p = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (p - goal) + penalties * weights
        step = np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]) + np.diag(penalties), gradient)
        weights -= step
        if np.abs(step).max() < 1e-12:
            break
    return weights


def _fitted(train: list[Entry], rows: list[Entry], journeys: int, penalty: float) -> np.ndarray:
    """Fit on ``train``, and tell the probabilities of ``rows``."""
    terms = _basis(train, train)
    wide = terms.shape[1]
    penalties = np.array([0.0, *[penalty] * wide, 3.0, *([1.0, *[5 * penalty] * wide, 15.0] * journeys)])
    goal = np.array([float(entry.goal) for entry in train])
    weights = _newton(_design(terms, train, journeys), goal, penalties)
    probabilities: np.ndarray = 1 / (1 + np.exp(-_design(_basis(train, rows), rows, journeys) @ weights))
    return probabilities


def _rates(train: list[Entry], rows: list[Entry]) -> np.ndarray:
    """Tell the rates of ``rows`` by journey and arm, each drawn to what is usual like 30 entries.

    Usual is when treated the rate of all, and in control what the journey's own treated rate would be without the effect (on the logit)
    of the journeys that have both arms.
    """

    def counted(journey: str | None, *, treated: bool) -> tuple[int, int]:
        arm = [row for row in train if row.is_treated == treated and journey in (None, row.journey)]
        return len(arm), sum(row.goal for row in arm)

    def logit(goals: int, entries: int) -> float:
        share = min(max(goals / entries, 0.0005), 0.9995)
        return math.log(share / (1 - share))

    both = {row.journey for row in train if row.is_treated} & {row.journey for row in train if not row.is_treated}
    effect = 0.0
    if both:
        sums = [[sum(column) for column in zip(*(counted(name, treated=arm) for name in both), strict=True)] for arm in (True, False)]
        effect = logit(sums[0][1], sums[0][0]) - logit(sums[1][1], sums[1][0])
    entries, goals = counted(None, treated=True)
    usual = goals / entries
    chances = []
    for row in rows:
        entries, goals = counted(row.journey, treated=True)
        rate = (goals + 30 * usual) / (entries + 30)
        if not row.is_treated:
            clipped = min(max(rate, 0.0005), 0.9995)
            alone = 1 / (1 + math.exp(effect - math.log(clipped / (1 - clipped)))) if effect else rate
            entries, goals = counted(row.journey, treated=False)
            rate = (goals + 30 * alone) / (entries + 30)
        chances.append(rate)
    return np.array(chances)


def _losses(p: np.ndarray, rows: list[Entry]) -> np.ndarray:
    """Return the log-loss of each row."""
    clipped = np.clip(p, 0.0005, 0.9995)
    goal = np.array([float(entry.goal) for entry in rows])
    losses: np.ndarray = -(goal * np.log(clipped) + (1 - goal) * np.log(1 - clipped))
    return losses


def learn(entries: list[Entry], journeys: int) -> Learned:
    """Choose lambda by the latest fifth, then fit to all."""
    last = len(entries) - len(entries) // 5
    before, latest = entries[:last], entries[last:]
    losses = {penalty: _losses(_fitted(before, latest, journeys, penalty), latest) for penalty in LAMBDAS}
    penalty = min(LAMBDAS, key=lambda option: losses[option].mean())
    rates = _losses(_rates(before, latest), latest)
    gained = rates - losses[penalty]
    by_customer: dict[int, float] = {}
    for entry, gain in zip(latest, gained, strict=True):
        by_customer[entry.customer] = by_customer.get(entry.customer, 0.0) + float(gain) - float(gained.mean())
    count = len(by_customer)
    error = np.sqrt(sum(total**2 for total in by_customer.values()) * count / (count - 1)) / len(latest)
    wins = bool(gained.mean() >= 2 * error)
    final = _fitted(entries, entries, journeys, penalty)
    return Learned(penalty, float(losses[penalty].mean()), float(rates.mean()), wins, final)
