"""The fit: planted effects are found, what is penalised is drawn together, and what cannot be fitted is told."""

import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest

from atc_pipeline.learning.basis import UNIT, Basis, exactly
from atc_pipeline.learning.fit import FitError, Rows, fit, rates, solve

FEATURES = {"orders": pl.Int64(), "engagement": pl.Float64(), "is_member": pl.Boolean()}


def drawn(entries: int = 6_000, seed: int = 3, effects: tuple[float, ...] = (0.2, 0.6, 1.4)) -> Rows:
    """Entries of journeys with these effects on the logit, a fifth of them in control; who orders often reaches the goal more often."""
    chance = np.random.default_rng(seed)
    journey = chance.integers(0, len(effects), entries)
    features = pl.DataFrame(
        {
            "orders": chance.poisson(2, entries),
            "engagement": pl.Series(chance.random(entries)).set(pl.Series(chance.random(entries) < 0.1), None),
            "is_member": chance.random(entries) < 0.4,
        }
    )
    is_treated = chance.random(entries) < 0.8
    logit = -2 + 0.4 * features["orders"].to_numpy() + 0.5 * features["is_member"].to_numpy() + is_treated * np.array(effects)[journey]
    goal = chance.random(entries) < 1 / (1 + np.exp(-logit))
    ids = [f"journey_{number}" for number in range(len(effects))]
    return Rows(features, ids, journey, chance.integers(0, entries // 3, entries), is_treated, goal)


def test_planted_effects_are_found() -> None:
    """Each journey's own, in the order of their size, and near enough to the truth."""
    fitted = fit(drawn(40_000), FEATURES)
    effects = fitted.coefficients.shared[-1] + fitted.coefficients.own[:, -1]

    assert fitted.wins
    assert effects == pytest.approx([0.2, 0.6, 1.4], abs=0.15)


def test_a_minimum_is_where_nothing_leads_down() -> None:
    """Tried against the slope by differences, in every direction, of what journeys share and of what one has of its own."""
    rows = drawn(400)
    basis = Basis.of(rows.features, FEATURES)
    terms = (basis.matrix(rows.features) - basis.means) / basis.scales
    penalty, fitted = 30.0, solve(terms, rows, 30.0, None)
    width = terms.shape[1]
    of_shared = np.array([0.0, *[penalty] * width, 3.0])
    of_own = np.array([1.0, *[5 * penalty] * width, 15.0])

    def loss(numbers: np.ndarray) -> float:
        shared, own = numbers[0], numbers[1:]
        together = shared + own[rows.journey]
        logit = together[:, 0] + (terms * together[:, 1:-1]).sum(axis=1) + rows.is_treated * together[:, -1]
        return float(np.sum(np.logaddexp(0, logit) - rows.goal * logit) + 0.5 * (of_shared @ shared**2 + (own**2 @ of_own).sum()))

    at = np.vstack([fitted.shared, fitted.own])
    for place in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[place] = 1e-4
        assert loss(at + step) > loss(at)
        assert loss(at - step) > loss(at)


def test_a_journey_with_few_entries_is_like_the_others() -> None:
    """One entry says next to nothing of its own."""
    rows = drawn(4_000)
    journey = np.where(np.arange(4_000) == 7, 3, rows.journey)
    fitted = fit(Rows(rows.features, [*rows.journey_ids, "new"], journey, rows.customer, rows.is_treated, rows.goal), FEATURES)

    assert np.abs(fitted.coefficients.own[3]).max() < 0.8
    assert np.abs(fitted.coefficients.own[3, 1:]).max() < 0.05


def test_what_happens_by_chance_loses_to_the_rates() -> None:
    """Where no feature says anything, the model must not win."""
    rows = drawn(3_000)
    goal = np.random.default_rng(1).random(3_000) < 0.3

    assert not fit(Rows(rows.features, rows.journey_ids, rows.journey, rows.customer, rows.is_treated, goal), FEATURES).wins


def test_the_order_of_journeys_changes_nothing() -> None:
    """Numbers of journeys are names."""
    rows = drawn(2_000)
    turned = Rows(rows.features, rows.journey_ids[::-1], 2 - rows.journey, rows.customer, rows.is_treated, rows.goal)
    one, other = fit(rows, FEATURES), fit(turned, FEATURES)

    assert one.penalty == other.penalty
    assert one.coefficients.own == pytest.approx(other.coefficients.own[::-1], abs=1e-9)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"orders": [None] * 500}, "nothing is known"),
        ({"orders": [4] * 500}, "the same for everybody"),
        ({"engagement": [float("nan")] * 250 + [float("inf")] * 250}, "no numbers"),
        ({"orders": [10**15 * (place % 2) for place in range(500)]}, "huge"),
        ({"is_member": [None, True] * 250}, "a boolean that is often unknown"),
    ],
)
def test_whatever_features_hold_is_fitted(values: Mapping[str, list[object]], what: str) -> None:
    """Columns that say nothing are left out; none makes the fit fail."""
    rows = drawn(500)
    features = rows.features.with_columns(pl.Series(name, column, FEATURES[name], strict=False) for name, column in values.items())
    fitted = fit(Rows(features, rows.journey_ids, rows.journey, rows.customer, rows.is_treated, rows.goal), FEATURES)

    assert np.isfinite(fitted.coefficients.own).all(), what


def test_a_feature_that_tells_the_goal_is_penalised_not_infinite() -> None:
    """Separable data has no maximum of the likelihood; with a penalty it has."""
    rows = drawn(500)
    features = rows.features.with_columns(is_member=pl.Series(rows.goal))
    fitted = fit(Rows(features, rows.journey_ids, rows.journey, rows.customer, rows.is_treated, rows.goal), FEATURES)

    assert fitted.penalty == 3.0
    assert np.abs(fitted.coefficients.shared).max() < 20


@pytest.mark.parametrize(("goal", "entries"), [(False, 500), (True, 500), (True, 3)])
def test_what_cannot_be_fitted_says_why(goal: bool, entries: int) -> None:
    """Nobody or everybody reached the goal; or there is next to nobody."""
    rows = drawn(500).part(0, entries)
    with pytest.raises(FitError, match=r"goal|needed"):
        fit(Rows(rows.features, rows.journey_ids, rows.journey, rows.customer, rows.is_treated, np.full(entries, goal)), FEATURES)


def test_rates_are_drawn_to_that_of_all_like_thirty_entries() -> None:
    """In control to the journey's own, less the effect that journeys with both arms have; without any, as if nothing was caused."""
    journey, is_treated = np.array([0] * 8 + [1] * 3), np.array([True] * 4 + [False] * 4 + [True] * 3)
    goal = np.array([True, True, False, False, True, False, False, False, True, True, False])
    rows = Rows(pl.DataFrame({"orders": [0] * 11}), ["a", "b"], journey, np.arange(11), is_treated, goal)
    share = {"a": (2 + 30 * 4 / 7) / 34, "b": (2 + 30 * 4 / 7) / 33}
    alone = {name: 1 / (1 + 3 * (1 - rate) / rate) for name, rate in share.items()}  # a's odds are 1 when treated, and a third in control

    assert rates(rows) == pytest.approx(np.array([[share["a"], (1 + 30 * alone["a"]) / 34], [share["b"], alone["b"]]]))
    everybody = Rows(rows.features, rows.journey_ids, rows.journey, rows.customer, np.full(11, fill_value=True), rows.goal)
    assert rates(everybody)[:, 0] == pytest.approx(rates(everybody)[:, 1])


def test_sums_are_the_same_in_any_order() -> None:
    """To the last bit: rows by themselves, terms turned round, however large the weights are."""
    chance = np.random.default_rng(5)
    matrix = np.round(chance.random((64, 90)) / UNIT) * UNIT
    for size in (1e-3, 1.0, 1e6):
        weights = chance.normal(0, size, (90, 40))
        expected = exactly(matrix, weights)
        turned = exactly(np.ascontiguousarray(matrix[:, ::-1]), np.ascontiguousarray(weights[::-1]))

        assert np.array_equal(expected, turned)
        assert all(np.array_equal(expected[row], exactly(matrix[row : row + 1], weights)[0]) for row in range(64))
        assert expected == pytest.approx(matrix @ weights, rel=1e-5, abs=1e-5 * size)


def test_a_column_is_what_it_is_by_itself() -> None:
    """What a journey's weights give does not change when one with larger ones is added."""
    chance = np.random.default_rng(6)
    matrix = np.round(chance.random((64, 90)) / UNIT) * UNIT
    weights = chance.normal(0, [[0.1, 1000.0]], (90, 2))

    assert np.array_equal(exactly(matrix, weights)[:, 0], exactly(matrix, weights[:, :1])[:, 0])


def test_numbers_far_from_nothing_are_told_apart() -> None:
    """Their bounds are kept as they are: with six digits these would be the same for everybody."""
    basis = Basis.of(pl.DataFrame({"number": [2_000_000_000.0 + place for place in range(100)]}), {"number": pl.Float64()})

    assert basis.terms[0].name == "number"
    assert (basis.features[0].high - basis.features[0].low) == pytest.approx(95, abs=2)


LOOKED_AT = """
from threadpoolctl import threadpool_info
from atc_pipeline.learning import fit
from tests.engine.learning.test_fit import FEATURES, drawn

def looked_at(*given):
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert {pool["num_threads"] for pool in pools} == {1}, pools
    return solve(*given)

solve, fit.solve = fit.solve, looked_at
fit.fit(drawn(), FEATURES)
"""


def test_the_first_fit_of_a_process_leaves_blas_one_thread() -> None:
    """SciPy brings a BLAS of its own, which is loaded when it is first imported: what limits threads must come after that."""
    done = subprocess.run([sys.executable, "-c", LOOKED_AT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
