"""Days made by shard say what days made at once say: on drawn worlds with merges, limited places and edits of the portfolio."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from random import Random

import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.days.catalog import tables
from atc_pipeline.days.course import Course
from atc_pipeline.days.step import ByShard, write_day
from atc_pipeline.journeys.portfolio import Portfolio
from benchmarks.clusters import ENVIRONMENT, ROOT, lacking, sail, spark
from resources.runners import LOCAL, Shards
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from tests.engine.proof.twins import portfolios
from tests.engine.proof.worlds import draw_world
from tests.engine.worlds import World, draw, worlds


def made(world: World, loaded: Mapping[date, Portfolio], folder: Path, shards: Sequence[int], address: str = LOCAL) -> Lake:
    """Make every day of a world, each of so many shards; of several numbers, one day after the other."""
    lake, landed = Lake(root=str(folder / "lake")), LandingZone(root=str(world.write(folder))).read
    course, yesterday = Course(lake, loaded[world.days[0]], landed), None
    for place, day in enumerate(world.days):
        if yesterday is not None and loaded[day] is not loaded[yesterday]:
            course = Course(lake, loaded[day], landed)
        number, yesterday = shards[place % len(shards)], day
        for name, step in course.steps.items():
            if number > 1 and isinstance(step, ByShard):
                Shards(address, number, course.steps_of[name]).make(lake, day)
            else:
                write_day(lake, step, day)
    return lake


def assert_same(ours: Lake, theirs: Lake, loaded: Mapping[date, Portfolio]) -> None:
    """Compare every table of every day, row by row in the order of its key; and what each day says it was made by."""
    for day, portfolio in loaded.items():
        for name, table in tables(portfolio).items():
            assert ours.has(name, day) == theirs.has(name, day)
            if not ours.has(name, day):
                continue
            frames = [lake.read(name, day).sort(table.key) for lake in (ours, theirs)]
            assert_frame_equal(*frames, rel_tol=1e-12, abs_tol=1e-12)
            assert ours.definitions(name, day) == theirs.definitions(name, day), f"{name} of {day}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_seven_shards_say_what_one_says_of_what_came_of_it(tmp_path: Path, seed: int) -> None:
    """Twelve days with logins, control groups, metrics and edits: entries, outcomes, uplift and all that stands before them."""
    world = draw_world(seed, length=12)
    (tmp_path / "portfolios").mkdir()
    loaded = portfolios(world, tmp_path / "portfolios")
    one, seven = (made(world, loaded, tmp_path / str(shards), [shards]) for shards in (1, 7))
    assert_same(seven, one, loaded)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(4))
def test_any_number_of_shards_says_what_one_says_of_adversarial_days(tmp_path: Path, case: int) -> None:
    """Aliases, logins, late and broken lines, journeys with few places; and days of which each is made of another number of shards."""

    def check(world: World, random: Random) -> None:
        (tmp_path / "portfolios").mkdir(exist_ok=True)
        loaded = dict.fromkeys(world.days, portfolios(world, tmp_path / "portfolios")[world.days[0]])
        numbers = [7] if case % 2 else [random.choice((1, 2, 3, 7)) for _ in world.days]
        one, several = made(world, loaded, tmp_path / "one", [1]), made(world, loaded, tmp_path / "several", numbers)
        assert_same(several, one, loaded)

    draw(case, worlds(is_limited=True), check)


def require(*, java: bool) -> None:
    """Skip the test where what it speaks to is not installed; in CI it fails."""
    says = lacking(java=java)
    if says and os.environ.get("CI"):
        pytest.fail(f"{says}; CI may not go without")
    if says:
        pytest.skip(says)


def on_cluster(folder: Path, address: str) -> None:
    """Compare a drawn world and Dagster's job on the cluster with the same in one process."""
    command = [sys.executable, "-m", "tests.edges.on_cluster", str(folder), address]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)
    assert "every table is the same" in done.stdout, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"


@pytest.mark.slow
def test_spark_on_two_workers_says_what_one_process_says(tmp_path: Path) -> None:
    """A standalone cluster on loopback; the shards are made in Python processes of its executors."""
    require(java=True)
    with spark(tmp_path, workers=2) as address:
        on_cluster(tmp_path, address)
        assert len(list(tmp_path.glob("worker-*/app-*/*"))) == 2, "both workers had an executor"


@pytest.mark.slow
def test_sail_says_what_one_process_says(tmp_path: Path) -> None:
    """A server that speaks Spark Connect, without Java."""
    require(java=False)
    with sail(tmp_path) as address:
        on_cluster(tmp_path, address)
