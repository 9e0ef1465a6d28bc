"""What the explanation says of chances: where each comes from, and what about the customer moved it most."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from atc_pipeline.explanation.day import Day
from atc_pipeline.journeys.portfolio import NONE
from atc_pipeline.learning.basis import Basis, Feature, Term
from atc_pipeline.learning.model import Counted, GoalModel, Known
from tests.engine.explanation.test_explanation import TODAY, day_of, option, portfolio_with, told

COUNTED = Counted(entries=2_410, goals=300, controls=240)
SAID = {"learned_propensity": 0.123, "learned_baseline": 0.091}
TREATED, ALONE = "12.3 % would reach the goal if sent it", "9.1 % if left alone"


def model(**more: object) -> GoalModel:
    """Know journey a by two columns: five standard deviations of orders double the odds, and days of tenure hardly move them."""
    basis = Basis(
        (Feature("orders", 0.0, 10.0, ()), Feature("tenure_days", 0.0, 10.0, ())), (Term("orders", 0.0, 0.1), Term("tenure_days", 0.5, 0.5))
    )
    shared, own = np.array([-2.0, np.log(2) / 5, 0.01, 0.3]), np.array([0.1, 0.0, 0.0, 0.0])
    known: dict[str | None, Known] = {None: Known(COUNTED, 0.12, 0.09, shared), "a": Known(COUNTED, 0.12, 0.09, own)}
    whole = GoalModel(known=known, basis=basis, fitted_on=date(2026, 6, 1), trained_to=date(2026, 5, 31), wins=True, counted=COUNTED)
    return replace(whole, **more)  # type: ignore[arg-type]


def day(folder: Path, learned: GoalModel | None, *, use: str = "shadow", said: dict[str, float] | None = None, orders: int = 5) -> Day:
    """A day on which journey a was chosen and journey b, which has no goal, was an option."""
    learning = f"{{none: '0.5', explore: 0.02}}\nlearning: {{use: {use}, features: [orders, tenure_days]}}"
    portfolio = portfolio_with(folder, policy=learning)
    options = [
        option("a", 4.0, "chosen", **(SAID if said is None else said)),
        option("b", 3.0, "outscored"),
        option(NONE, 0.5, "outscored"),
    ]
    rows = None if learned is None else learned.rows(portfolio, TODAY)
    return replace(day_of(portfolio, options, profile={"orders": orders}), models=rows)


def test_a_chance_of_the_model_says_so_and_what_moved_it_most(tmp_path: Path) -> None:
    """With the customer's value and what it does to the odds; what hardly moves them is left out, and what the columns hold is said."""
    text = told(day(tmp_path, model()))
    assert f"Learned of customers like this one: {TREATED}, {ALONE}. Moved most by orders 5 (odds × 2.00)." in text
    assert "Learned from 2,410 mature entries, 300 with the goal, fitted on 1 June" in text
    assert "decides nothing (shadow)" in text


def test_a_customer_who_is_like_most_is_said_to_be(tmp_path: Path) -> None:
    """Rather than naming what moves the chance by nothing."""
    assert "Nothing about this customer moves it much from what is usual." in told(day(tmp_path, model(), orders=0))


def test_what_decides_is_read_where_the_score_has_it(tmp_path: Path) -> None:
    """Live there are no columns beside the score's."""
    text = told(day(tmp_path, model(), use="live", said={"propensity": 0.123, "baseline": 0.091}))
    assert f"{TREATED}, {ALONE}" in text
    assert "it decides (live)" in text


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"wins": False}, "telling customers apart foretold the latest entries no better"),
        ({"outside": {"a": 3}}, "until the next fit: lately its goals did not come as foretold"),
        ({"basis": None, "known": {None: Known(COUNTED, 0.12, 0.09), "a": Known(COUNTED, 0.12, 0.09)}}, "No model could be fitted yet"),
    ],
    ids=["no better", "drifted", "no fit"],
)
def test_a_rate_says_of_whom_it_is_and_why_it_is_not_the_model(tmp_path: Path, more: dict[str, object], why: str) -> None:
    """How many entries, how many in control, and which of the reasons it is."""
    text = told(day(tmp_path, model(**more)))
    assert f"Learned of the journey as a whole: {TREATED}, {ALONE}, from 2,410 mature entries, 240 of them in control. " in text
    assert why in text


def test_the_rate_of_a_journey_nobody_entered_is_that_of_all(tmp_path: Path) -> None:
    """And it is not told as its own."""
    known: dict[str | None, Known] = {None: Known(COUNTED, 0.12, 0.09)}
    text = told(day(tmp_path, model(known=known, wins=False, basis=None)))
    assert "the rate of all journeys, since none of its entries has matured" in text


def test_a_journey_without_a_goal_has_nothing_to_learn(tmp_path: Path) -> None:
    """While others have."""
    text = told(day(tmp_path, model()))
    assert text.count("Learned: nothing, since it has no goal. Its chance is what journeys.yaml says (policy.prior_propensity).") == 1


def test_before_enough_goals_it_is_said_once_and_why(tmp_path: Path) -> None:
    """Not with every option."""
    text = told(day(tmp_path, GoalModel(note="12 goals have matured, 50 are needed (learning.min_goals)"), said={}))
    assert "Learned nothing yet: 12 goals have matured, 50 are needed (learning.min_goals); every chance is what journeys.yaml says" in text
    assert text.count("policy.prior_propensity") == 1


def test_a_fit_that_failed_is_told(tmp_path: Path) -> None:
    """Beside what is used meanwhile; what is said of it is data, and acts on no terminal."""
    text = told(day(tmp_path, model(note="everybody reached the goal\x1b[2J: the fit of 2026-06-01 is kept")))
    assert "It was to be fitted anew, and could not: everybody reached the goal" in text
    assert "\x1b" not in text


def test_a_lake_from_before_says_what_it_cannot_say(tmp_path: Path) -> None:
    """Chances that were not kept, and a profile without a column that is learned by."""
    lacking = day(tmp_path, model(), said={"propensity": 1.0})
    text = told(replace(lacking, profile=lacking.profile.drop("orders")))
    assert "what it was then was not kept. What moved it cannot be said" in text


def test_where_nothing_is_learned_no_word_is_said_of_it(tmp_path: Path) -> None:
    """Without ``learning`` the explanation is what it was."""
    without = day_of(portfolio_with(tmp_path), [option("a", 4.0, "chosen"), option(NONE, 0.5, "outscored")])
    assert "earned" not in told(replace(without, models=pl.DataFrame()))
