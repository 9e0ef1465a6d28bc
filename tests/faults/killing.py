"""Worlds whose runs are killed again and again, each time resumed by the same command; and what was seen of it.

What belongs here: choosing when to kill, counting, comparing. What does not: other faults (each has its own module of tests).
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tests.edges.receiver import Receiver
from tests.faults.attempt import STAGES, Attempt, Report, order, run_well
from tests.faults.points import PLACES, Point, choices
from tests.faults.world import DAYS, Clock, Home, World, copy_home, differences, make_world, morning_after, receiving

MOST_PER_DAY = 8
"""Kills before a day may end."""
AT_POINTS = 0.6
"""The share of kills at points; the others are at random moments."""
_WEIGHTS = {"request": 6, "answer": 6, "database": 4, "flush": 3, "rename": 2}
"""How often points are chosen, others once: what is done at these cannot be made again."""


@dataclass
class Tally:
    """What was seen of kills in one stage."""

    by_time: int = 0
    at_points: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    in_doubt: int = 0
    """Messages that were pending when the process died."""
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
    requests_again: int = 0
    messages_again: int = 0
    """Messages that the receiver got once more, in so many requests; each had had its effect, or might have."""
    unsure: int = 0
    """Messages that are not known to be delivered in the end."""
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


Make = Callable[[Path, Receiver, Clock], World]
"""Makes a world in a folder."""


def leave_alone(folder: Path, make: Make = make_world) -> Calm:
    """Run all days undisturbed."""
    calm = Calm({}, {}, {})
    with receiving() as (receiver, clock):
        world = make(folder / "now", receiver, clock)
        for day in DAYS:
            calm.before[day] = copy_home(world, folder / f"before-{day}")
            clock.now = morning_after(day)
            calm.reports[day] = run_well(order(world, day))
            calm.after[day] = copy_home(world, folder / f"after-{day}")
        wrong = differences(world, world)
        assert not wrong, wrong
    return calm


def kill_often(folder: Path, calm: Calm, kills: int, seed: int, make: Make = make_world) -> Seen:
    """Run worlds day by day, killed so often in all, spread over the stages; compare each with the one that was left alone.

    Moments depend on the machine: where no message was on its way in any of them, worlds are killed on, up to three times as often.
    """
    chance = random.Random(seed)  # noqa: S311
    seen = Seen()
    began = time.monotonic()
    while seen.kills < kills or (not seen.stages["activation"].in_doubt and seen.kills < 3 * kills):
        with receiving() as (receiver, clock):
            world = make(folder / f"world-{seen.worlds}", receiver, clock)
            for day in DAYS:
                clock.now = morning_after(day)
                _run_killed(world, day, calm.reports[day], _next(kills - seen.kills, chance), seen, chance)
            world.collect()
            seen.differences += [f"world {seen.worlds}: {text}" for text in differences(world, calm.last)]
            seen.messages += len(world.effects())
            seen.unsure += sum(status != "delivered" for status in world.deliveries().values())
            seen.worlds += 1
            seen.days += len(DAYS)
    seen.seconds = time.monotonic() - began
    return seen


def _next(left: int, chance: random.Random) -> int:
    most = chance.randint(1, MOST_PER_DAY)
    return min(left, most) if left > 0 else most


def _run_killed(world: World, day: date, calm: Report, kills: int, seen: Seen, chance: random.Random) -> None:
    """Run a day that is killed so often, and then to its end."""
    for _ in range(kills):
        stage = min(STAGES, key=lambda name: (seen.stages[name].kills, chance.random()))
        point = _point(calm, stage, chance) if chance.random() < AT_POINTS else None
        requests, pending = len(world.receiver.requests), _pending(world)
        attempt = Attempt.start(order(world, day, point=point))
        if point is None:
            attempt.listen(60, lambda report, stage=stage: report.stage == stage)
            attempt.listen(chance.random() * calm.seconds(stage))
            attempt.kill()
        report = attempt.join()
        _note_repeats(world, requests, seen)
        if attempt.exitcode != -signal.SIGKILL:
            assert not report.failures, report.failures
            seen.survived += 1
            continue
        tally = seen.stages[report.stage if report.steps else stage]
        if point is None:
            tally.by_time += 1
        else:
            tally.at_points[f"{point.name} {point.place}"] += 1
        tally.steps[report.steps[-1][0] if report.steps else "start"] += 1
        tally.seconds += time.monotonic() - attempt.began
        tally.in_doubt += max(0, _pending(world) - pending)
    requests = len(world.receiver.requests)
    run_well(order(world, day))
    _note_repeats(world, requests, seen)
    seen.differences += [f"world {seen.worlds}, {day}: left behind: {name}" for name in world.left_behind()]


def _pending(world: World) -> int:
    return list(world.deliveries().values()).count("pending")


def _point(calm: Report, stage: str, chance: random.Random) -> Point:
    """Choose a point of a stage, by kinds of points, however often a run comes by each."""
    counts = choices(calm.passed, stage)
    name = chance.choices(sorted(counts), [_WEIGHTS.get(name, 1) for name in sorted(counts)])[0]
    return Point(stage, name, chance.randrange(counts[name]), chance.choice(PLACES))


def _note_repeats(world: World, since: int, seen: Seen) -> None:
    requests = world.receiver.requests
    known = {key for request in requests[:since] for key in request.keys}
    repeated = [sum(key in known for key in request.keys) for request in requests[since:]]
    seen.messages_again += sum(repeated)
    seen.requests_again += sum(map(bool, repeated))


def table(seen: Seen) -> str:
    """Write what was seen as a table in Markdown."""
    every = list(seen.stages.values())
    rows = [("stage", "kills", "at random moments", "at points", "messages in doubt", "seconds")]
    for stage, tally in seen.stages.items():
        rows.append((stage, *map(str, (tally.kills, tally.by_time, tally.at_points.total(), tally.in_doubt)), f"{tally.seconds:.0f}"))
    totals = (seen.kills, sum(tally.by_time for tally in every), sum(tally.at_points.total() for tally in every))
    rows.append(("all", *map(str, totals), str(sum(tally.in_doubt for tally in every)), f"{seen.seconds:.0f}"))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])
