"""``python -m tests.edges.on_cluster FOLDER ADDRESS``: a drawn world's days, and Dagster's job, on a cluster and in this process.

Fails unless every table is the same. What belongs here: what one process does, since a session of Spark is one process's. What does not:
starting clusters (``clusters``).
"""

import json
import os
import signal
import sys
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.tables.store import MissingDayError
from resources.runners import ClusterError, executor_of
from resources.storage.lake import Lake
from tests.edges.test_shards import assert_same, made
from tests.engine.proof.twins import portfolios
from tests.engine.proof.worlds import draw_world
from tests.graph.small_world import DAYS, JOURNEYS, line, make_world, run

SHARDS = 5
FEW_PLACES = JOURNEYS.replace("    interests: [tea]\n", "    interests: [tea]\n    capacity: {daily_entries: 2}\n")


def compare_world(folder: Path, address: str) -> None:
    """Make three days of a drawn world of people who log in, in control groups, with metrics."""
    (folder / "portfolios").mkdir(parents=True)
    world = draw_world(0, length=3)
    loaded = portfolios(world, folder / "portfolios")
    assert_same(made(world, loaded, folder / "cluster", [SHARDS], address), made(world, loaded, folder / "here", [1]), loaded)


def compare_job(folder: Path, address: str) -> None:
    """Run the daily job, with journeys that not everybody fits in and visitors who log in."""
    lakes = {}
    for name, settings in {"here": {}, "cluster": {"ATC_RUNNER": address, "ATC_SHARDS": str(SHARDS)}}.items():
        environment = make_world(folder / name, FEW_PLACES) | settings
        write_visitors(Path(environment["ATC_HOME"]) / "landing")
        with dg.DagsterInstance.ephemeral() as instance:
            result = run(environment, DAYS[0], DAYS[1], instance=instance)
            assert result.success
            events = result.get_asset_materialization_events()
        lakes[name] = Lake(root=f"{environment['ATC_HOME']}/lake")
    portfolio = load_portfolio(folder / "here" / "journeys.yaml")
    assert_same(lakes["cluster"], lakes["here"], dict.fromkeys(DAYS[:2], portfolio))
    shards = {event.asset_key.to_user_string(): event.materialization.metadata.get("shards") for event in events if event.asset_key}
    assert shards["customer_profiles"] is not None
    assert shards["customer_profiles"].value == SHARDS


def write_visitors(landing: Path) -> None:
    """Write what visitors did who log in on the second day."""
    for day in DAYS[:2]:
        lines = [visit(number, day, logs_in=day > DAYS[0]) for number in range(8)]
        (landing / day.isoformat() / "visitors.ndjson").write_text("\n".join(lines) + "\n")


def visit(number: int, day: date, *, logs_in: bool) -> str:
    """One line of a visitor, who says who they are when they log in."""
    event = json.loads(line(f"v{number % 5}", day, 700 + number, event="Product Viewed", properties={"category": "tea"}))
    return json.dumps({**event, "anonymousId": f"device-{number}", "userId": event["userId"] if logs_in else None})


def die(number: int) -> None:
    """End the worker's process, as the kernel does one that is out of memory."""
    assert number == 0
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number: int) -> None:
    """Fail as a task of ours does."""
    raise MissingDayError(f"nothing for {number}")


def see_failures(address: str) -> None:
    """A task's error is its own, with the shard; a worker that dies again and again is said in a sentence."""
    run_tasks = executor_of(address)
    with pytest.raises(MissingDayError, match=r"^nothing for 0") as failed:
        run_tasks(refuse, [0, 1])
    assert "in shard 0 on " in failed.value.__notes__[0]
    if address.startswith("spark://"):  # in Sail a task is no process of its own
        with pytest.raises(ClusterError, match="Did a worker run out of memory") as failed:
            run_tasks(die, [0])
        assert "\n" not in str(failed.value)


if __name__ == "__main__":
    compare_world(Path(sys.argv[1]) / "world", sys.argv[2])
    compare_job(Path(sys.argv[1]) / "job", sys.argv[2])
    see_failures(sys.argv[2])
    sys.stdout.write("every table is the same\n")
