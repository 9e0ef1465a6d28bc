"""Clocks that jump by a day, before a run or in the middle of sending: the run at the right time makes the same bytes, and nothing is
sent twice.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.faults.attempt import order, run, run_well
from tests.faults.killing import Calm
from tests.faults.world import DAYS, Home, broken_promises, different_files, morning_after, receiving, resume_from

pytestmark = pytest.mark.slow

DAY = DAYS[1]
A_DAY = timedelta(days=1)


@dataclass
class Jump:
    """Time that passes as it should until it was asked for so often, and is wrong from then on."""

    by: timedelta
    after: int
    asked: int = 0

    def __call__(self, start: datetime, seconds: float) -> datetime:
        """Return what time it seems to be."""
        self.asked += 1
        return start + timedelta(seconds=seconds) + (self.by if self.asked > self.after else timedelta())


@pytest.mark.parametrize("by", [-A_DAY, A_DAY], ids=["back", "forward"])
@pytest.mark.parametrize("after", [0, 6], ids=["before the run", "while it sends"])
def test_a_clock_that_jumps_does_no_lasting_harm(tmp_path: Path, calm: Calm, by: timedelta, after: int) -> None:
    """The receiver's clock is right, and refuses signatures that are a day old or of tomorrow."""
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        clock.now = morning_after(DAY)
        is_yesterday = after == 0 and by < timedelta()
        run(order(world, DAY, clock=Jump(by, after)))
        assert set(world.effects().values()) == {1}
        run_well(order(world, DAY))
        assert broken_promises(world, calm.after[DAY]) == []
        # What was put into the outbox while it was yesterday stands, with the hour that was best as seen from there.
        assert [place for place in different_files(world, calm.after[DAY]) if not (is_yesterday and place.endswith(".ndjson"))] == []
        assert messages(world) == messages(calm.after[DAY])


def messages(home: Home) -> list[dict[str, Any]]:
    """Return the messages in the outbox, but for when they are to be sent."""
    every = (json.loads(text) for _, content in sorted(home.outbox().items()) for text in content.splitlines())
    return [{name: value for name, value in message.items() if name != "send_at"} for message in every]
