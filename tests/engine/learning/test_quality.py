"""How well goals were foretold: what counts, what is added up, and when it is too far."""

import math

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.learning.quality import BY_JOURNEY, JUDGED, by_journey, judged, model_quality, outside

ROW = {
    "journey_id": "a",
    "goal": True,
    "expected": 0.5,
    "propensity_source": "model",
    "is_drawn": False,
    "contaminated": False,
    "arm": "treated",
}
RATES = pl.DataFrame(
    {"journey_id": ["a", None], "rate": [0.4, 0.2], "baseline_rate": [0.3, 0.1]},
    schema={"journey_id": pl.String(), "rate": pl.Float64(), "baseline_rate": pl.Float64()},
)
SCHEMA = {**JUDGED, "contaminated": pl.Boolean(), "arm": pl.String()}


def outcomes(*rows: dict[str, object]) -> pl.LazyFrame:
    """Rows of ``journey_outcomes`` of a day; of each what differs."""
    return pl.LazyFrame([ROW | row for row in rows], schema=SCHEMA)


def sums(journey_id: str = "a", *, goals: int, expected: float, variance: float) -> dict[str, object]:
    """One row of ``by_journey``."""
    return {"journey_id": journey_id, "matured": 1_000, "goals": goals, "expected": expected, "variance": variance}


@pytest.mark.parametrize(
    "row",
    [{"goal": None}, {"propensity_source": "prior"}, {"contaminated": True}, {"expected": None, "propensity_source": "rates"}],
    ids=["no goal", "of a prior", "contaminated", "not kept"],
)
def test_what_was_not_foretold_or_has_no_answer_is_not_judged(row: dict[str, object]) -> None:
    """Nor is it in any sum of the day."""
    day = outcomes(row, {})
    assert judged(day).collect().height == 1
    assert by_journey(day)["matured"].to_list() == [1]
    assert model_quality(day, RATES)["matured"].to_list() == [1, 1]


def test_outcomes_of_before_there_was_learning_are_not_judged() -> None:
    """They do not say what was expected."""
    older = outcomes({}).drop("expected")
    assert judged(older).collect().is_empty()
    assert by_journey(older).is_empty()
    assert model_quality(older, RATES).is_empty()


def test_a_day_is_added_up_by_journey_and_of_all() -> None:
    """Goals and what was expected of them, and the mean loss; what exploration drew stands apart and is in the whole as well."""
    day = outcomes(
        {"expected": 0.8}, {"expected": 0.1, "goal": False, "is_drawn": True}, {"journey_id": "b", "expected": 0.25, "is_drawn": True}
    )
    found_by_hand = pl.DataFrame(
        {
            "journey_id": ["a", "all", "b"],
            "matured": [2, 3, 1],
            "goals": [1, 2, 1],
            "expected": [0.9, 1.15, 0.25],
            "log_loss": [
                -(math.log(0.8) + math.log(0.9)) / 2,
                -(math.log(0.8) + math.log(0.9) + math.log(0.25)) / 3,
                -math.log(0.25),
            ],
            # b is not known: the rate of all
            "log_loss_rates": [
                -(math.log(0.4) + math.log(0.6)) / 2,
                -(math.log(0.4) + math.log(0.6) + math.log(0.2)) / 3,
                -math.log(0.2),
            ],
            "drawn_matured": [1, 2, 1],
            "drawn_goals": [0, 1, 1],
            "drawn_expected": [0.1, 0.35, 0.25],
        }
    )
    assert_frame_equal(model_quality(day, RATES), found_by_hand)


def test_who_is_in_control_is_held_against_the_rate_of_those_left_alone() -> None:
    """Theirs is another one."""
    row = model_quality(outcomes({"arm": "control"}), RATES).row(0, named=True)
    assert row["log_loss_rates"] == pytest.approx(-math.log(0.3))


def test_a_rate_of_nobody_is_clipped_like_a_probability() -> None:
    """What was said never to happen, and did, is a loss that can be added up."""
    never = RATES.with_columns(rate=pl.lit(0.0))
    assert model_quality(outcomes({}), never)["log_loss_rates"].is_finite().all()


def test_without_rates_there_is_nothing_to_hold_it_against() -> None:
    """The loss is known, the other is not."""
    row = model_quality(outcomes({}), RATES.clear()).row(0, named=True)
    assert row["log_loss"] == pytest.approx(math.log(2))
    assert row["log_loss_rates"] is None


def test_sums_are_the_same_whatever_order_rows_come_in() -> None:
    """To the last bit."""
    rows = [{"expected": (number * 37 % 101 + 1) / 103, "goal": number % 3 == 0} for number in range(400)]
    assert_frame_equal(by_journey(outcomes(*rows)), by_journey(outcomes(*reversed(rows))), check_exact=True)
    assert_frame_equal(model_quality(outcomes(*rows), RATES), model_quality(outcomes(*reversed(rows)), RATES), check_exact=True)


@pytest.mark.parametrize(
    ("row", "is_outside"),
    [
        (sums(goals=100, expected=100.0, variance=90.0), False),
        (sums(goals=131, expected=100.0, variance=90.0), False),  # 3.27 standard errors
        (sums(goals=132, expected=100.0, variance=90.0), True),  # 3.37
        (sums(goals=69, expected=100.0, variance=90.0), False),
        (sums(goals=68, expected=100.0, variance=90.0), True),
        (sums(goals=12_400, expected=10_000.0, variance=9_000.0), False),  # 25 standard errors, and within 1.25
        (sums(goals=8_100, expected=10_000.0, variance=9_000.0), False),
        (sums(goals=12_600, expected=10_000.0, variance=9_000.0), True),
        (sums(goals=0, expected=0.0, variance=0.0), False),
    ],
)  # fmt: skip
def test_too_far_is_what_is_far_and_hardly_chance(row: dict[str, object], is_outside: bool) -> None:
    """Both: a small journey may be far by chance, a large one hardly by chance and yet near."""
    assert outside(pl.DataFrame([row], schema=BY_JOURNEY)) == {"a": is_outside}


def test_days_are_taken_together_by_journey() -> None:
    """What no day shows alone the sum of them may; another journey has no part in it."""
    day = sums(goals=16, expected=10.0, variance=9.0)
    other = sums("b", goals=10, expected=10.0, variance=9.0)
    days = pl.DataFrame([day, other] * 5, schema=BY_JOURNEY)
    assert outside(days[:2]) == {"a": False, "b": False}
    assert outside(days) == {"a": True, "b": False}
    assert outside(days.clear()) == {}
