"""Two runs at once, of the same and of overlapping days: one waits, and both together do what one would have done."""

import signal
from pathlib import Path

import pytest

from tests.faults.attempt import Attempt, order
from tests.faults.killing import Calm
from tests.faults.world import DAYS, differences, morning_after, receiving, resume_from

pytestmark = pytest.mark.slow

DAY = DAYS[1]


def test_two_runs_of_a_day_do_it_once(tmp_path: Path, calm: Calm) -> None:
    """Two processes begin at the same time."""
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        clock.now = morning_after(DAY)
        reports = [attempt.join() for attempt in [Attempt.start(order(world, DAY)) for _ in range(2)]]
        assert [report.failures for report in reports] == [[], []]
        assert len(receiver.requests) == calm.reports[DAY].passed["activation", "answer"]
        assert differences(world, calm.after[DAY]) == []


def test_a_run_that_is_killed_lets_the_waiting_one_in(tmp_path: Path, calm: Calm) -> None:
    """The second begins while the first is deciding, and the first dies while it sends."""
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        clock.now = morning_after(DAY)
        first = Attempt.start(order(world, DAY))
        first.listen(60, lambda report: report.stage == "decision")
        second = Attempt.start(order(world, DAY))
        first.listen(60, lambda report: report.stage == "activation")
        assert not second.report.steps
        receiver.wait_for(1)
        first.kill()
        first.join()
        assert first.exitcode == -signal.SIGKILL
        assert second.join().failures == []
        assert differences(world, calm.after[DAY]) == []


def test_runs_of_overlapping_days_do_each_once(tmp_path: Path, calm: Calm) -> None:
    """A run of the day and one of it and the day before, as somebody starts it by hand beside the schedule, begin at the same time."""
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        clock.now = morning_after(DAY)
        attempts = [Attempt.start(order(world, DAYS[0], DAY)), Attempt.start(order(world, DAY))]
        assert [attempt.join().failures for attempt in attempts] == [[], []]
        assert differences(world, calm.after[DAY]) == []
