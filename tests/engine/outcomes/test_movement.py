"""Movement: who is in a journey on which day of it, who is lost, and what is said of arms only where they can be compared."""

from collections.abc import Sequence
from datetime import date, timedelta
from types import SimpleNamespace
from typing import cast

import polars as pl
import pytest

from atc_pipeline.decision.tables import ENDINGS as REASONS
from atc_pipeline.journeys.portfolio import Metric, Portfolio, Selector
from atc_pipeline.outcomes.movement import (
    ENDINGS,
    Moves,
    by_chance,
    count_alternatives,
    count_moves,
    describe_answers,
    describe_journeys,
    dropped,
)

FIRST = date(2026, 1, 1)
WHO = {"customer_id": pl.String(), "journey_id": pl.String(), "entered_on": pl.Date(), "arm": pl.String()}

Rows = Sequence[tuple[object, ...]]


def at(number: int) -> date:
    """Return the day of that number, from 1."""
    return FIRST + timedelta(days=number - 1)


def moves(present: Rows = (), endings: Rows = (), refused: Rows = (), messages: Rows = (), watched: Rows = ()) -> Moves:
    """Return what a day adds; ``present`` are the journey, the day of entry and the arm, the others as they are told."""
    place = {"journey_id": pl.String(), "day_index": pl.Int64()}
    return Moves(
        present=pl.LazyFrame(list(present), {name: WHO[name] for name in ("journey_id", "entered_on", "arm")}, orient="row"),
        endings=pl.DataFrame(list(endings), {**WHO, "ended_reason": pl.String()}, orient="row"),
        refused=pl.DataFrame(list(refused), WHO, orient="row"),
        messages=pl.DataFrame(list(messages), {**place, "sent": pl.Int64(), "responded": pl.Int64()}, orient="row"),
        watched=pl.DataFrame(list(watched), {**place, "arm": pl.String(), "is_advanced": pl.Boolean()}, orient="row"),
    )


def count(*days: Moves) -> pl.DataFrame:
    """Count day by day, from the first, and return the last day's table."""
    made = None
    for number, day in enumerate(days, start=1):
        made = count_moves(made, day, today=at(number))
    assert made is not None
    return made


def test_every_ending_is_counted_under_something() -> None:
    """A reason that the decision knows and movement does not would end in a crash."""
    assert set(ENDINGS) == set(REASONS)


def test_who_stays_is_what_the_endings_leave() -> None:
    """Four enter; on the second day one converts and one leaves, on the third one is interrupted: 1, 1/2, 1/4 get beyond that day."""
    four = [("a", at(1), "treated")] * 4
    rows = count(
        moves(four),
        moves(four, [("c1", "a", at(1), "treated", "converted"), ("c2", "a", at(1), "treated", "exited")]),
        moves(four[2:], [("c3", "a", at(1), "treated", "interrupted")]),
    )
    shown = rows.select("day_index", "at_risk", "converted", "exited", "interrupted", "completed", "survival")
    assert shown.rows() == [(1, 4, 0, 0, 0, 0, 1.0), (2, 4, 1, 1, 0, 0, 0.5), (3, 2, 0, 0, 1, 0, 0.25)]


def test_whoever_is_looked_at_for_a_shorter_time_is_no_loss() -> None:
    """Two entered a day later have been in it for a day less: the second day's share is of those who have had one."""
    rows = count(
        moves([("a", at(1), "treated")] * 2),
        moves([("a", at(1), "treated")] * 2 + [("a", at(2), "treated")] * 2, [("c1", "a", at(1), "treated", "exited")]),
    )
    assert rows.select("day_index", "at_risk", "survival").rows() == [(1, 4, 1.0), (2, 2, 0.5)]


def test_control_is_not_moved() -> None:
    """Who is sent nothing drops out of nothing: neither at risk, nor lost."""
    rows = count(moves([("a", at(1), "control")]), moves([("a", at(1), "control")], [("c1", "a", at(1), "control", "exited")]))
    assert rows.is_empty()
    assert dropped(moves(endings=[("c1", "a", at(1), "control", "exited")]), today=at(2)).is_empty()


def test_who_says_no_and_stays_is_counted_once() -> None:
    """Twice on a day is once; whoever leaves that day is counted by the ending."""
    no = [("c1", "a", at(1), "treated")] * 2 + [("c2", "a", at(1), "treated")]
    rows = count(moves(), moves([("a", at(1), "treated")] * 2, [("c2", "a", at(1), "treated", "exited")], no))
    assert rows.select("day_index", "exited", "unsubscribed").rows() == [(2, 1, 1)]


def test_messages_and_arms_are_carried_on() -> None:
    """Two days with messages add up; shares are of all that were watched, and null where nobody was."""
    rows = count(
        moves(messages=[("a", 1, 5, 2)], watched=[("a", 2, "treated", True), ("a", 2, "control", False)]),
        moves(messages=[("a", 1, 1, 1)], watched=[("a", 2, "treated", False), ("a", 2, "treated", False)]),
    )
    assert rows.select("day_index", "sent", "responded", "advance_treated", "advance_control").rows() == [
        (1, 6, 3, None, None),
        (2, 0, 0, 1 / 3, 0.0),
    ]


def test_those_who_dropped_out_could_have_had_something_else() -> None:
    """Only of who was lost: what failed no gate, not what was left, not `none`; and whether it was taken."""
    lost = dropped(moves(endings=[("c1", "a", at(1), "treated", "interrupted"), ("c2", "a", at(1), "treated", "converted")]), today=at(3))
    options = [
        ("c1", "a", [], "lost"), ("c1", "b", [], "chosen"), ("c1", "d", ["resting"], "resting"), ("c1", "none", [], "lost"),
        ("c2", "b", [], "chosen"),
    ]  # fmt: skip
    schema = {"customer_id": pl.String(), "journey_id": pl.String(), "failed_gates": pl.List(pl.String()), "ruling": pl.String()}
    candidates = pl.LazyFrame(options, schema, orient="row")
    first = count_alternatives(None, lost, candidates, today=at(3))
    assert first.drop("date").rows() == [("a", 3, "b", 1, 1)]
    assert count_alternatives(first, lost, candidates, today=at(4)).drop("date").rows() == [("a", 3, "b", 2, 2)]


PORTFOLIO = cast(
    "Portfolio",
    SimpleNamespace(
        measured=(Metric("csat", "avg", Selector(("Survey Answered",)), "rating"), Metric("responses", "count", Selector(("Opened",)))),
        money="money",
    ),
)
"""All of a portfolio that is asked for here."""


def outcomes(*rows: tuple[object, ...]) -> pl.DataFrame:
    """Return outcomes: journey, arm, held out by, number, contaminated, quiet, responses, money, the sum and number of answers."""
    schema = {
        "journey_id": pl.String(), "arm": pl.String(), "held_out_by": pl.String(), "entry_number": pl.Int64(),
        "contaminated": pl.Boolean(), "is_quiet": pl.Boolean(), "responses": pl.Float64(), "money": pl.Float64(),
        "csat_sum": pl.Float64(), "csat_count": pl.Float64(),
    }  # fmt: skip
    return pl.DataFrame(list(rows), schema, orient="row")


QUIET = (1, False, True)
MATURED = outcomes(
    ("a", "treated", None, *QUIET, 2.0, 0.0, 4.5, 1.0),
    ("a", "treated", None, *QUIET, 0.0, 3.0, 7.0, 2.0),
    ("a", "treated", None, *QUIET, 0.0, -3.0, 0.0, 0.0),
    ("a", "treated", None, 1, False, False, 2.0, 2.0, 0.0, 0.0),
    ("a", "treated", None, 2, False, True, 2.0, 2.0, 9.0, 1.0),
    ("a", "treated", None, 1, True, True, 2.0, 2.0, 9.0, 1.0),
    ("a", "control", "journey", *QUIET, 0.0, 0.0, 0.0, 0.0),
    ("a", "control", "policy", *QUIET, 2.0, 2.0, 9.0, 1.0),
)


def test_who_was_quiet_and_came_back_is_counted_by_arm() -> None:
    """First entries only, without those of merged arms and without who is held out of everything: they are other people."""
    movement = count(moves([("a", at(1), "treated")]))
    first = describe_journeys(None, movement, MATURED, PORTFOLIO, today=at(1))
    names = ("quiet_treated", "returned_treated", "quiet_control", "returned_control")
    assert first.select(names).rows() == [(3, 2, 1, 0)]
    assert describe_journeys(first, movement, MATURED, PORTFOLIO, today=at(2)).select(names).rows() == [(6, 4, 2, 0)]


def test_the_worst_day_is_the_one_that_most_are_lost_on() -> None:
    """More convert on the first day, and more are lost on the second; a day with nineteen in it is not looked at."""
    day_1 = [("x", at(1), "treated", "converted")] * 30 + [("x", at(1), "treated", "exited")] * 2
    named = [(f"c{number}", "a", *row[1:]) for number, row in enumerate(day_1)]
    rows = count(
        moves([("a", at(1), "treated")] * 60, named),
        moves([("a", at(1), "treated")] * 28, [(f"d{number}", "a", at(1), "treated", "interrupted") for number in range(9)]),
        moves([("a", at(1), "treated")] * 19, [(f"e{number}", "a", at(1), "treated", "exited") for number in range(19)]),
    )
    worst = describe_journeys(None, rows, MATURED, PORTFOLIO, today=at(3))
    assert worst.select("worst_day", "worst_lost", "worst_at_risk").rows() == [(2, 9, 28)]


def test_averages_are_those_of_who_answered_by_arm() -> None:
    """Two of four treated first entries answered three times: 11.5 / 3; nobody in control did, and has no average."""
    first = describe_answers(None, MATURED, PORTFOLIO, today=at(1))
    shown = ("metric", "treated", "answered_treated", "answers_treated", "sum_treated", "average_treated", "control", "average_control")
    assert first.select(shown).rows() == [("csat", 4, 2, 3, 11.5, 11.5 / 3, 1, None)]
    assert describe_answers(first, MATURED, PORTFOLIO, today=at(2)).select("answered_treated", "sum_treated").rows() == [(4, 23.0)]
    assert first["not_comparable"].to_list() == [False]


def test_who_answers_at_other_rates_is_not_compared() -> None:
    """40 of 100 against 15 of 100: chance makes that once in 13,000 times, and the averages are not of the same people."""
    assert by_chance(40, 100, 15, 100) == pytest.approx(7.5e-5, rel=0.01)
    rows = [("a", arm, by, *QUIET, 0.0, 0.0, 5.0 * (number < answered), 1.0 * (number < answered))
            for arm, by, answered in (("treated", None, 40), ("control", "journey", 15)) for number in range(100)]  # fmt: skip
    assert describe_answers(None, outcomes(*rows), PORTFOLIO, today=at(1))["not_comparable"].to_list() == [True]
    rows = [row for number, row in enumerate(rows) if number % 10 < 2]
    assert describe_answers(None, outcomes(*rows), PORTFOLIO, today=at(1))["not_comparable"].to_list() == [False]


@pytest.mark.parametrize(("first", "second"), [((0, 0), (3, 9)), ((2, 4), (0, 0))])
def test_without_customers_there_is_no_share_to_compare(first: tuple[int, int], second: tuple[int, int]) -> None:
    """An arm without a customer says nothing; two arms that all answered, or that none did, are alike."""
    assert by_chance(*first, *second) is None
    assert by_chance(3, 3, 9, 9) == by_chance(0, 3, 0, 9) == 1.0
