"""The fit agrees with a second one, written from SPEC 12 alone."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from atc_pipeline.learning.fit import Fitted, Rows, fit
from tests.engine.learning.reference import Entry, learn

FEATURES = {"orders": pl.Float64(), "is_new": pl.Boolean()}


def drawn(seed: int) -> list[Entry]:
    """Draw 400 entries into three journeys, of which the last holds nobody out; odd seeds are easier to foretell."""
    random = np.random.default_rng(seed)
    entries = []
    for _ in range(400):
        journey = int(random.integers(3))
        is_treated = journey == 2 or bool(random.random() < 0.7)
        orders = None if random.random() < 0.1 else float(random.gamma(2.0))
        is_new = bool(random.random() < 0.4)
        logit = (
            (-3.0 + 1.5 * (orders or 0.0) if seed % 2 else -1.5 + 0.7 * (orders or 0.0)) - journey * 0.5 + 0.5 * is_treated * (1 + is_new)
        )
        goal = bool(random.random() < 1 / (1 + np.exp(-logit)))
        entries.append(Entry(int(random.integers(150)), journey, is_treated, goal, (orders, is_new)))
    return entries


def probabilities(entries: list[Entry]) -> tuple[Fitted, np.ndarray]:
    """Fit, and tell every row's probability."""
    frame = pl.DataFrame([entry.values for entry in entries], schema=FEATURES, orient="row")
    journey = np.array([entry.journey for entry in entries])
    treated = np.array([entry.is_treated for entry in entries])
    rows = Rows(
        features=frame,
        journey_ids=("a", "b", "c"),
        journey=journey,
        customer=np.array([entry.customer for entry in entries]),
        is_treated=treated,
        goal=np.array([entry.goal for entry in entries]),
    )
    learned = fit(rows, FEATURES)
    terms = learned.basis.terms
    scaled = (learned.basis.matrix(frame) - [term.mean for term in terms]) / [term.scale for term in terms]
    return learned, 1 / (1 + np.exp(-learned.coefficients.logits(scaled, journey, treated)))


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_agrees_with_the_reference(seed: int) -> None:
    """Lambda, losses, whether the model wins, and every row's probability are those of the reference."""
    entries = drawn(seed)

    learned, p = probabilities(entries)

    expected = learn(entries, 3)
    assert (learned.penalty, learned.wins) == (expected.penalty, expected.wins)
    assert learned.log_loss == pytest.approx(expected.log_loss, abs=1e-6)
    assert learned.log_loss_rates == pytest.approx(expected.log_loss_rates, abs=1e-6)
    np.testing.assert_allclose(p, expected.probabilities, atol=2e-6, rtol=0)


def test_the_unit_of_a_feature_changes_no_probability() -> None:
    """Orders counted in tenths, and customers numbered otherwise, give what orders gave."""
    entries = drawn(0)
    changed = [
        replace(entry, customer=1000 - entry.customer, values=(None if entry.values[0] is None else entry.values[0] * 10, entry.values[1]))
        for entry in entries
    ]

    np.testing.assert_allclose(probabilities(changed)[1], probabilities(entries)[1], atol=1e-6, rtol=0)
