"""What the explanation says of chances: where each comes from, of how many entries, and why it is not the model."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from atc_pipeline.explanation.day import Day
from atc_pipeline.journeys.portfolio import NONE
from atc_pipeline.learning.basis import Basis, Feature, Term
from atc_pipeline.learning.model import Counted, GoalModel, Known
from tests.engine.explanation.test_explanation import TODAY, day_of, option, portfolio_with, told

COUNTED = Counted(entries=2_410, goals=300, controls=240)
SAID = {"learned_propensity": 0.123, "learned_baseline": 0.091}
NUMBERS = "12.3 % reach the goal, 9.1 % left alone"
RATES_ALONE: dict[str | None, Known] = {None: Known(COUNTED, 0.12, 0.09), "a": Known(COUNTED, 0.12, 0.09)}


def model(**more: object) -> GoalModel:
    """Know journey a by two columns: five orders double the odds, and days of tenure hardly move them."""
    basis = Basis(
        (Feature("orders", 0.0, 10.0, ()), Feature("tenure_days", 0.0, 10.0, ())),
        (Term("orders", 0.0, 0.1), Term("tenure_days", 0.5, 0.5)),
    )
    shared, own = np.array([-2.0, np.log(2) / 5, 0.01, 0.3]), np.array([0.1, 0.0, 0.0, 0.0])
    known: dict[str | None, Known] = {None: Known(COUNTED, 0.12, 0.09, shared), "a": Known(COUNTED, 0.12, 0.09, own)}
    whole = GoalModel(known=known, basis=basis, fitted_on=date(2026, 6, 1), trained_to=date(2026, 5, 31), wins=True, counted=COUNTED)
    return replace(whole, **more)  # type: ignore[arg-type]


def day(folder: Path, learned: GoalModel, *, said: dict[str, float] | None = None, orders: int = 5) -> Day:
    """A day on which journey a was chosen and journey b, which has no goal, was an option."""
    portfolio = portfolio_with(folder, policy="{none: '0.5', explore: 0.02}\nlearning: {features: [orders, tenure_days]}")
    chosen = option("a", 4.0, "chosen", **(SAID if said is None else said))
    options = [chosen, option("b", 3.0, "outscored"), option(NONE, 0.5, "outscored")]
    return replace(day_of(portfolio, options, profile={"orders": orders}), models=learned.rows(portfolio, TODAY))


def test_what_hardly_moves_a_chance_is_not_named(tmp_path: Path) -> None:
    """A customer who is like most has nothing named at all; and where nothing is amiss, nothing more is said."""
    assert f"Foretold by the model of 2026-06-01, beside the score: {NUMBERS}; odds moved most by orders × 2." in told(
        day(tmp_path, model())
    )
    usual = told(day(tmp_path, model(), orders=0))
    assert f"{NUMBERS}. " in usual
    assert "moved most" not in usual
    assert "Learned" not in usual


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"wins": False}, "telling customers apart foretold the latest entries no better."),
        ({"outside": {"a": 3}}, "the model is not used for it until the next fit, since goals did not come as it had foretold."),
        ({"basis": None, "known": RATES_ALONE}, "no model could be fitted yet."),
    ],
    ids=["no better", "drifted", "no fit"],
)
def test_a_rate_says_of_how_many_it_is_and_why_it_is_not_the_model(tmp_path: Path, more: dict[str, object], why: str) -> None:
    """How many entries, how many in control, and which of the reasons it is."""
    text = told(day(tmp_path, model(**more)))
    assert f"Foretold by the journey's own rate, whoever it is, beside the score: {NUMBERS}. " in text
    assert f"From 2,410 mature entries, 240 of them in control; {why}" in text


def test_a_model_of_columns_that_are_learned_by_no_more_is_not_used(tmp_path: Path) -> None:
    """Until it is fitted by those that are."""
    basis = Basis((Feature("visits", 0.0, 10.0, ()),), (Term("visits", 0.0, 0.1), Term("visits?", 0.5, 0.5)))
    assert "240 of them in control; the model reads columns that are learned by no more." in told(day(tmp_path, model(basis=basis)))


@pytest.mark.parametrize(
    ("known", "of_whom"),
    [
        ({None: Known(COUNTED, 0.12, 0.09)}, "None of its entries has matured: this is the rate of all journeys;"),
        (
            RATES_ALONE | {"a": Known(Counted(1, 1, 0), 0.12, 0.12)},
            "From 1 mature entry, none in control, so that who is left alone is not",
        ),
    ],
    ids=["nobody entered", "nobody left alone"],
)
def test_a_rate_that_is_hardly_the_journeys_own_says_so(tmp_path: Path, known: dict[str | None, Known], of_whom: str) -> None:
    """Of a journey that nobody has been through, and of one without a control group."""
    assert of_whom in told(day(tmp_path, model(known=known, wins=False, basis=None)))


def test_before_enough_goals_it_is_said_once_and_why(tmp_path: Path) -> None:
    """Not with every option."""
    text = told(day(tmp_path, GoalModel(note="12 goals have matured, 50 are needed (learning.min_goals)"), said={}))
    assert "Learned nothing yet: 12 goals have matured, 50 are needed (learning.min_goals); every chance is what journeys.yaml says" in text
    assert text.count("journeys.yaml says") == 1


def test_a_fit_that_failed_is_told(tmp_path: Path) -> None:
    """Beside what is used meanwhile; what it says is data, and acts on no terminal."""
    text = told(day(tmp_path, model(note="everybody reached the goal\x1b[2J: the fit of 2026-06-01 is kept")))
    assert "Learned a new fit was due, and could not be made: everybody reached the goal" in text
    assert "Foretold by the model of 2026-06-01" in text
    assert "\x1b" not in text


def test_a_profile_without_what_the_model_reads_is_no_reason_to_fail(tmp_path: Path) -> None:
    """The chances are told as they were kept; what moved them is not known."""
    whole = day(tmp_path, model())
    text = told(replace(whole, profile=whole.profile.drop("orders")))
    assert f"Foretold by the model of 2026-06-01, beside the score: {NUMBERS}. " in text
