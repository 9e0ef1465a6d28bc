"""Worlds whose runs are killed again and again, each time resumed by the same command; and what was seen of it.

What belongs here: choosing when to kill, counting, comparing. What does not: other faults (each has its own module of tests).
"""

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tests.faults.attempt import STAGES, Attempt, Report, order, run_well
from tests.faults.points import PLACES, Point, choices
from tests.faults.world import DAYS, Home, World, copy_home, differences, make_world, morning_after, receiving

MOST_PER_DAY = 8
"""Kills before a day may end."""


@dataclass
class Tally:
    """What was seen of kills in one stage."""

    by_time: int = 0
    at_points: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    in_doubt: int = 0
    """Messages that were pending when the process died."""
    sent_again: int = 0
    """Messages that the receiver had seen before, in requests of the attempt after the kill."""
    requests_again: int = 0
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """All of them."""
        return self.by_time + self.at_points.total()


@dataclass
class Seen:
    """What was seen of all kills."""

    stages: dict[str, Tally] = field(default_factory=lambda: {stage: Tally() for stage in STAGES})
    worlds: int = 0
    days: int = 0
    survived: int = 0
    """Attempts that ended before they could be killed."""
    messages: int = 0
    differences: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """All of them."""
        return sum(tally.kills for tally in self.stages.values())


@dataclass
class Calm:
    """A world that was left alone: as it was before the first day and after each, and what its runs came by."""

    before: dict[date, Home]
    after: dict[date, Home]
    reports: dict[date, Report]

    @property
    def last(self) -> Home:
        """As it is in the end."""
        return self.after[DAYS[-1]]


def leave_alone(folder: Path) -> Calm:
    """Run all days undisturbed."""
    calm = Calm({}, {}, {})
    with receiving() as (receiver, clock):
        world = make_world(folder / "now", receiver, clock)
        for day in DAYS:
            calm.before[day] = copy_home(world, folder / f"before-{day}")
            clock.now = morning_after(day)
            calm.reports[day] = run_well(order(world, day))
            calm.after[day] = copy_home(world, folder / f"after-{day}")
        wrong = differences(world, world)
        assert not wrong, wrong
    return calm


def kill_often(folder: Path, calm: Calm, kills: int, seed: int) -> Seen:
    """Run worlds day by day, killed so often in all, spread over the stages; compare each with the one that was left alone."""
    chance = random.Random(seed)  # noqa: S311
    seen = Seen()
    began = time.monotonic()
    while seen.kills < kills:
        with receiving() as (receiver, clock):
            world = make_world(folder / f"world-{seen.worlds}", receiver, clock)
            for day in DAYS:
                clock.now = morning_after(day)
                _run_killed(world, day, calm.reports[day], min(kills - seen.kills, chance.randint(1, MOST_PER_DAY)), seen, chance)
            seen.differences += [f"world {seen.worlds}: {text}" for text in differences(world, calm.last)]
            seen.messages += len(world.effects())
            seen.worlds += 1
            seen.days += len(DAYS)
    seen.seconds = time.monotonic() - began
    return seen


def _run_killed(world: World, day: date, calm: Report, kills: int, seen: Seen, chance: random.Random) -> None:
    """Run a day that is killed so often, and then to its end."""
    before: Tally | None = None
    for _ in range(kills):
        stage = min(STAGES, key=lambda name: (seen.stages[name].kills, chance.random()))
        point = _point(calm, stage, chance) if chance.random() < 0.5 else None
        requests, pending = len(world.receiver.requests), _pending(world)
        attempt = Attempt.start(order(world, day, point=point))
        if point is None:
            attempt.listen(60, lambda report, stage=stage: report.stage == stage)
            attempt.listen(chance.random() * calm.seconds(stage))
            attempt.kill()
        report = attempt.join()
        _note_repeats(world, requests, before)
        if attempt.exitcode != -signal.SIGKILL:
            assert not report.failures, report.failures
            seen.survived += 1
            before = None
            continue
        before = seen.stages[report.stage if report.steps else stage]
        if point is None:
            before.by_time += 1
        else:
            before.at_points[f"{point.name} {point.place}"] += 1
        before.steps[report.steps[-1][0] if report.steps else "start"] += 1
        before.seconds += time.monotonic() - attempt.began
        before.in_doubt += max(0, _pending(world) - pending)
    requests = len(world.receiver.requests)
    run_well(order(world, day))
    _note_repeats(world, requests, before)
    seen.differences += [f"world {seen.worlds}, {day}: left behind: {name}" for name in world.left_behind()]


def _pending(world: World) -> int:
    return list(world.deliveries().values()).count("pending")


def _point(calm: Report, stage: str, chance: random.Random) -> Point:
    """Choose a point of a stage: each kind as often as any other, however often a run comes by it."""
    counts = choices(calm.passed, stage)
    name = chance.choice(sorted(counts))
    return Point(stage, name, chance.randrange(counts[name]), chance.choice(PLACES))


def _note_repeats(world: World, since: int, before: Tally | None) -> None:
    if before is None:
        return
    requests = world.receiver.requests
    known = {key for request in requests[:since] for key in request.keys}
    repeated = [sum(key in known for key in request.keys) for request in requests[since:]]
    before.sent_again += sum(repeated)
    before.requests_again += sum(map(bool, repeated))


def table(seen: Seen) -> str:
    """Write what was seen as a table in Markdown."""
    rows = [("stage", "kills", "by time", "at points", "in doubt", "requests again", "messages again", "seconds")]
    for stage, tally in seen.stages.items():
        counts = (tally.kills, tally.by_time, tally.at_points.total(), tally.in_doubt, tally.requests_again, tally.sent_again)
        rows.append((stage, *map(str, counts), f"{tally.seconds:.0f}"))
    every = list(seen.stages.values())
    totals = (
        sum(tally.kills for tally in every),
        sum(tally.by_time for tally in every),
        sum(tally.at_points.total() for tally in every),
        sum(tally.in_doubt for tally in every),
        sum(tally.requests_again for tally in every),
        sum(tally.sent_again for tally in every),
    )
    rows.append(("all", *map(str, totals), f"{seen.seconds:.0f}"))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])
