"""Receivers that fail: the next run of the day, or of the next day, makes good what was not taken, and nobody hears from us twice."""

from pathlib import Path

import polars as pl
import pytest

from tests.edges.receiver import Answer
from tests.faults.attempt import Order, order, run, run_well
from tests.faults.killing import Calm
from tests.faults.world import DAYS, Home, broken_promises, differences, different_files, morning_after, receiving, resume_from

pytestmark = pytest.mark.slow

DAY, NEXT = DAYS[1], DAYS[2]
LATE = Answer(delay_seconds=0.8)
PATIENCE = 0.4
"""Seconds that a run waits for an answer."""
FAILURES = {
    "answers_500": [Answer(500, is_acting=False), Answer(500)] * 8,
    "answers_429_for_ever": [Answer(429, {"Retry-After": "0"}, is_acting=False)] * 16,
    "acts_and_answers_late": [LATE] * 8,
    "resets_the_connection": [Answer(is_resetting=True), Answer(is_resetting=True, is_acting=False)] * 4,
    "does_each": [
        Answer(500),
        Answer(is_resetting=True),
        Answer(429, {"Retry-After": "1"}, is_acting=False),
        Answer(),
        LATE,
        Answer(200, is_truncated=True),
    ],
}
"""How the requests of a day are answered, first to last."""


def run_stopped(asked: Order) -> None:
    """Run a day to its end, at which a channel may be named that was stopped; nothing else may go wrong."""
    for failure in run(asked).failures:
        assert "email: 50 messages in a row were not delivered" in failure


@pytest.mark.parametrize("failure", FAILURES)
def test_the_next_run_of_the_day_makes_it_good(tmp_path: Path, calm: Calm, failure: str) -> None:
    """The day is run again by the same command: the same bytes in every table, and every message has had its effect once."""
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        receiver.answers.extend(FAILURES[failure])
        clock.now = morning_after(DAY)
        run_stopped(order(world, DAY, retries=1, timeout_seconds=PATIENCE))
        assert set(world.deliveries().values()) & {"failed", "unknown"}, "nothing failed: this test shows nothing"
        assert max(world.effects().values()) == 1
        receiver.answers.clear()
        run_well(order(world, DAY))
        assert differences(world, calm.after[DAY]) == []


def test_the_next_day_makes_it_good_too(tmp_path: Path, calm: Calm) -> None:
    """Nobody runs the day again: the next one sends what nobody has answered for, under the same keys. ``activation`` of the day, and
    what was told of it, alone differ, and say what became of it then.
    """
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        receiver.answers.extend(FAILURES["does_each"])
        clock.now = morning_after(DAY)
        run_stopped(order(world, DAY, retries=0, timeout_seconds=PATIENCE))
        receiver.answers.clear()
        clock.now = morning_after(NEXT)
        run_well(order(world, NEXT))
        late = [f"activation/date={DAY}/part.parquet", f"sent_events/date={DAY}/part.parquet", f"{DAY}.json"]
        assert [place for place in different_files(world, calm.after[NEXT]) if place not in late] == []
        assert broken_promises(world, calm.after[NEXT]) == []
        mine, theirs = (became(home) for home in (world, calm.after[NEXT]))
        became_of = ["status", "reason", "sent_at", "attempts", "provider_id"]
        assert mine.drop(became_of).equals(theirs.drop(became_of))
        assert set(mine["status"]) - set(theirs["status"]) <= {"failed", "unknown", "not_tried", "waiting"}


def test_a_receiver_that_asks_for_time_is_given_it(tmp_path: Path, calm: Calm) -> None:
    """429 with Retry-After to the first request: one run is enough, and waits as long as it was asked to."""
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        receiver.answers.append(Answer(429, {"Retry-After": "1"}, is_acting=False))
        clock.now = morning_after(DAY)
        report = run_well(order(world, DAY))
        assert report.seconds("activation") > 1
        assert differences(world, calm.after[DAY]) == []


def became(home: Home) -> pl.DataFrame:
    """Return what became of the day's messages."""
    return pl.read_parquet(home.home / "lake" / "activation" / f"date={DAY}" / "part.parquet", hive_partitioning=False)
