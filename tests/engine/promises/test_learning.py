"""Promises about what is learned that look at the portfolio, or at several days.

What belongs here: when they are asked at all. What does not: rules about rows of one table (``test_broken_rows``).
"""

from datetime import date, timedelta

import polars as pl
import pytest

from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.learning.tables import GOAL_MODELS
from atc_pipeline.promises.learning import PROMISES
from resources.storage.memory import Memory

TODAY = date(2026, 3, 10)
BY_CHECK = {f"{each.table}.{each.name}": each for each in PROMISES}


def portfolio(score: str = "propensity * value") -> Portfolio:
    """One journey, chosen by a score."""
    text = f"""
version: "1"
calendar: {{timezone: UTC, starts_on: 2026-01-01}}
channels: {{email: {{consent: none}}}}
learning: {{use: shadow}}
policy: {{explore: 0.01, score: "{score}"}}
journeys: [{{id: club, length_days: 7, queue: {{where: "true"}}}}]
"""
    return resolve(parse_document(text, "journeys.yaml"))


@pytest.mark.parametrize("named", ["goal_models.score_asks_what_is_caused"])
@pytest.mark.parametrize(
    ("score", "is_told"),
    [("propensity * value", True), ("uplift * value", False), ("uplift * value + 0 * propensity", False), ("value", False)],
)
def test_who_asks_what_is_caused_is_not_told_to(named: str, score: str, is_told: bool) -> None:
    """Nor who does not look at probabilities at all; and only of the last day."""
    store = Memory()
    row = {"part": "journey", "journey_id": "club", "name": "baseline_rate", "value": 0.7, "source": "rates"}
    for day in (TODAY - timedelta(days=1), TODAY):
        known = row | {"date": day, "entries": 9, "goals": 6, "controls": 3}
        store.write("goal_models", day, pl.DataFrame([known], schema=GOAL_MODELS.schema))
    broken = BY_CHECK[named].find(store, portfolio(score), [TODAY - timedelta(days=1), TODAY])

    assert broken.height == int(is_told)
    assert not is_told or broken["date"].to_list() == [TODAY]


@pytest.mark.parametrize("named", ["model_quality.goals_as_foretold"])
def test_goals_of_the_last_four_weeks_are_judged_together(named: str) -> None:
    """Of each journey; days that are not there, and entries of before, do not count."""
    store = Memory()
    for number, goal in ((0, False), (13, False), (27, False), (28, True)):
        day = TODAY - timedelta(days=number)
        entries = 10 if not goal else 1_000
        rows = {
            "date": [day] * entries * 2,
            "journey_id": ["club"] * entries + ["news"] * entries,
            "arm": ["treated"] * entries * 2,
            "goal": [goal] * entries + [True] * entries,
            "expected": [0.5] * entries + [0.95] * entries,
            "propensity_source": ["rates"] * entries * 2,
            "is_drawn": [False] * entries * 2,
            "contaminated": [False] * entries * 2,
        }
        store.write("journey_outcomes", day, pl.DataFrame(rows))

    assert BY_CHECK[named].find(store, portfolio(), [TODAY]).rows() == [(TODAY, "club", 30, 0, 15.0)]
    assert BY_CHECK[named].find(Memory(), portfolio(), [TODAY]).is_empty()
