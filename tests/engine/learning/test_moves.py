"""What a feature does to the odds, as all journeys share it: the same as it does to a customer's."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from atc_pipeline.learning.basis import Basis, Feature, Term
from atc_pipeline.learning.model import Counted, GoalModel, GoalProbabilities, Known, Moves
from tests.engine.learning.test_model import portfolio

COUNTED = Counted(90, 30, 9)
BASIS = Basis(
    (Feature("orders", 2.0, 12.0, (0.2, 0.5)), Feature("visits", 0.0, 1.0, ())),
    (
        Term("orders", 0.3, 0.2),
        Term("orders>35", 0.2, 0.1),
        Term("orders>65", 0.1, 0.1),
        Term("orders?", 0.1, 0.3),
        Term("visits", 0.4, 0.5),
    ),
)
SHARED = np.array([-1.0, 0.5, -0.3, 0.2, -0.4, 0.05, 0.1])
KNOWN: dict[str | None, Known] = {None: Known(COUNTED, 0.3, 0.2, SHARED), "often": Known(COUNTED, 0.3, 0.2, np.zeros(7))}
MODEL = GoalModel(known=KNOWN, basis=BASIS, wins=True, counted=Counted(900, 300, 90))


def moves() -> dict[str, Moves]:
    """By feature."""
    return {move.feature: move for move in MODEL.moves()}


def of_customer(orders: float | None) -> float:
    """What a customer's orders add to the logit of a journey that has nothing of its own."""
    profile = pl.DataFrame({"orders": [orders], "visits": [0.0]}, schema={"orders": pl.Float64(), "visits": pl.Float64()})
    return GoalProbabilities(MODEL, portfolio()).contributions(profile, "often")["orders"]


def test_ends_and_bends_are_what_a_customer_with_that_value_has() -> None:
    """In the column's own units, and in between it goes straight; beyond the ends it stays; so does what is unknown."""
    points = moves()["orders"].points
    assert [value for value, _ in points] == [2.0, 4.0, 7.0, 12.0]
    assert [part for _, part in points] == pytest.approx([of_customer(value) for value, _ in points])
    assert of_customer(5.5) == pytest.approx((points[1][1] + points[2][1]) / 2)
    assert of_customer(99.0) == pytest.approx(points[-1][1])
    assert moves()["orders"].unknown == pytest.approx(of_customer(None))


def test_features_come_by_how_far_they_move_apart() -> None:
    """The unknown counted; where everybody had a value there is none."""
    assert list(moves()) == ["orders", "visits"]
    parts = [part for _, part in moves()["orders"].points]
    unknown = moves()["orders"].unknown
    assert unknown is not None
    assert moves()["orders"].size == pytest.approx(max(*parts, unknown) - min(*parts, unknown))
    assert moves()["visits"].unknown is None
    assert moves()["visits"].size == pytest.approx(0.05 / 0.5)


def test_a_feature_that_was_the_same_for_everybody_is_left_out() -> None:
    """It says nothing; and one that differs in nothing but being known has a single value."""
    basis = Basis((Feature("orders", 3.0, 3.0, (0.0, 0.0)), Feature("visits", 0.0, 1.0, ())), (Term("orders?", 0.1, 0.3),))
    known = KNOWN | {None: replace(KNOWN[None], coefficients=np.array([-1.0, 0.3, 0.1]))}
    (move,) = replace(MODEL, basis=basis, known=known).moves()
    assert move.points == ((3.0, pytest.approx(-0.1)),)
    assert move.unknown == pytest.approx(0.9)


def test_where_there_is_no_model_nothing_moves() -> None:
    """Only rates are known, or nothing."""
    rates = {id_: replace(theirs, coefficients=None) for id_, theirs in KNOWN.items()}
    assert replace(MODEL, known=rates, basis=None).moves() == []
    assert GoalModel().moves() == []
