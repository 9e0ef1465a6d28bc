"""Whole runs that are killed: the tables come out the same, and nobody hears from us twice."""

from pathlib import Path

import pytest

from tests.faults.killing import Calm, kill_often

pytestmark = pytest.mark.slow

KILLS = 24


def test_kills_give_the_same_tables_and_no_message_twice(tmp_path: Path, calm: Calm) -> None:
    """Killed with SIGKILL at random moments and exact points of every stage, and resumed by the same command: as if left alone."""
    seen = kill_often(tmp_path, calm, KILLS, seed=20)
    assert seen.differences == []
    assert seen.kills >= KILLS
    assert min(tally.kills for tally in seen.stages.values()) >= KILLS // 8, "a stage was hardly hit: this test shows nothing of it"
    assert seen.stages["activation"].in_doubt, "no message was on its way when its run was killed: choose another seed"
