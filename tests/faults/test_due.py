"""``send_due`` killed while it hands over what has waited: nothing is lost, nothing goes twice, the table comes out the same."""

import random
import signal
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from resources.channels import connected, webhook
from tests.faults.attempt import Attempt, order, run_well
from tests.faults.points import PLACES, Point, choices
from tests.faults.world import DAYS, copy_home, differences, make_world, morning_after, receiving

pytestmark = pytest.mark.slow

DAY = DAYS[0]
KILLS = 10
NOON = morning_after(DAY) + timedelta(hours=8)
_AT = ("request", "answer", "database", "rename", "seal")
"""Where it dies: around what others see, the ledger, and the table."""


def wait_for_their_hour() -> None:
    """Let webhooks take no message before it is due."""
    connected.WAYS = {"http": lambda *given: replace(webhook.connect(*given), schedules=False)}


def test_kills_of_send_due_lose_nothing_and_send_nothing_twice(tmp_path: Path) -> None:
    """Killed at points of every kind and run again by the same command: as if it had been left alone."""
    chance = random.Random(12)  # noqa: S311
    with receiving() as (receiver, clock):
        calm = make_world(tmp_path / "calm", receiver, clock)
        run_well(order(calm, DAY, prepare=wait_for_their_hour))
        assert not receiver.effects
        planned = copy_home(calm, tmp_path / "planned")
        clock.now = NOON
        passed = run_well(order(calm, DAY, prepare=wait_for_their_hour, job="send_due", at=NOON)).passed
        assert not differences(calm, calm)
        expected = Counter(message["idempotency_key"] for message in receiver.effects)
        assert set(expected.values()) == {1}
    counts = {name: count for name, count in choices(passed, "due").items() if name in _AT}
    assert counts.keys() == set(_AT)
    killed = in_doubt = 0
    with receiving() as (receiver, clock):
        clock.now = NOON
        world = replace(calm, receiver=receiver, clock=clock, folder=copy_home(planned, tmp_path / "killed").folder)
        for number in range(KILLS):
            name = _AT[number % len(_AT)]
            point = Point("due", name, chance.randrange(min(counts[name], 2)), chance.choice(PLACES))
            attempt = Attempt.start(order(world, DAY, point=point, prepare=wait_for_their_hour, job="send_due", at=NOON))
            attempt.join()
            killed += attempt.exitcode == -signal.SIGKILL
            in_doubt = max(in_doubt, list(world.deliveries().values()).count("pending"))
        run_well(order(world, DAY, prepare=wait_for_their_hour, job="send_due", at=NOON))
        assert differences(world, calm) == []
        assert Counter(message["idempotency_key"] for message in receiver.effects) == expected
    assert killed >= KILLS // 3
    assert in_doubt, "no message was on its way when its run was killed: choose another seed"
