"""One run at a time, however it was started."""

import json
import resource
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from atc_pipeline.definitions import build_definitions
from resources.storage.turn import Turn
from tests.faults.attempt import processes
from tests.graph.small_world import DAYS, FIRST, make_world, run, tables

pytestmark = pytest.mark.slow

LAST = DAYS[-1]


def run_untagged(environment: dict[str, str], told: str) -> None:
    """Run the whole lineage as a range started on an asset's page: without a tag of ours. Keep when it began and ended, and its log."""
    job = build_definitions(environment).resolve_implicit_global_asset_job_def()
    tags = {"dagster/asset_partition_range_start": str(FIRST), "dagster/asset_partition_range_end": str(LAST)}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, tags=tags)
        entries = instance.all_logs(result.run_id)
    steps = [entry.timestamp for entry in entries if entry.dagster_event is not None and entry.dagster_event.is_step_event]
    said = [entry.user_message for entry in entries if "waiting for" in entry.user_message]
    first = next(stamp for entry in entries if (stamp := entry.timestamp) and entry.dagster_event and entry.dagster_event.is_step_start)
    Path(told).write_text(json.dumps({"began": first, "ended": steps[-1], "said": said, "run": result.run_id}))


def hold(path: str, ready: Connection) -> None:
    """Take the turn and keep it."""
    turn = Turn(Path(path))
    held = turn.take("held", "somebody", print)
    ready.send("taken")
    time.sleep(60)
    turn.give_back(held)


def test_two_runs_at_once_go_one_after_the_other_and_say_who_they_wait_for(tmp_path: Path) -> None:
    """Two processes run the same days without tags: their steps do not overlap, and the tables are those of one run."""
    calm, world = make_world(tmp_path / "calm"), make_world(tmp_path / "world")
    with dg.DagsterInstance.ephemeral() as instance:
        run(calm, FIRST, LAST, instance=instance)
    at_once = [processes().Process(target=run_untagged, args=(world, str(tmp_path / name))) for name in ("one", "two")]
    for process in at_once:
        process.start()
    for process in at_once:
        process.join(300)
    told: list[dict[str, Any]] = sorted(
        (json.loads((tmp_path / name).read_text()) for name in ("one", "two")), key=lambda one: one["began"]
    )
    assert [process.exitcode for process in at_once] == [0, 0]
    assert told[0]["ended"] < told[1]["began"]
    assert told[0]["said"] == []
    assert f"waiting for run {told[0]['run']} of __ASSET_JOB" in told[1]["said"][0]
    assert tables(world) == tables(calm)


def test_a_killed_holder_gives_the_turn_back(tmp_path: Path) -> None:
    """Whoever waits behind a process is told its name, and is next when that is killed."""
    theirs, ours = processes().Pipe()
    process = processes().Process(target=hold, args=(str(tmp_path / "turn"), theirs))
    process.start()
    assert ours.recv() == "taken"
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        process.kill()

    turn = Turn(tmp_path / "turn")
    turn.give_back(turn.take("next", "a test", say))
    assert said[0].startswith(f"waiting for run held of somebody (process {process.pid} on ")
    process.join(60)


def test_a_full_disk_keeps_nobody_from_giving_the_turn_back(tmp_path: Path) -> None:
    """Who has it cannot be written, and cannot be removed: the turn is taken, given back without an exception, and free."""
    turn, said = Turn(tmp_path / "lake.turn"), list[str]()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        turn.give_back(turn.take("a", "job", said.append))
        turn.give_back(turn.take("b", "job", said.append))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(said) == 2
    assert all("File too large" in word for word in said)


def test_a_turn_that_cannot_be_taken_names_its_file(tmp_path: Path) -> None:
    """A home that is a file, as one on a read-only disk: the run fails with a sentence."""
    environment = make_world(tmp_path)
    (tmp_path / "none").write_text("")
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(environment | {"ATC_HOME": str(tmp_path / "none" / "home")}).resolve_job_def("daily")
        result = job.execute_in_process(instance=instance, partition_key=str(FIRST), raise_on_error=False)
    said = " ".join(str(event) for event in result.all_events if event.is_failure)
    assert "make the folder writable" in said


@pytest.mark.parametrize("job", ["daily", "ingest_events", "decide_again", "activate", "catch_up", "erase_customer"])
def test_every_job_takes_the_turn(tmp_path: Path, job: str) -> None:
    """Whatever writes or sends has the lake among its resources, and with it the turn."""
    found = build_definitions(make_world(tmp_path)).resolve_job_def(job)
    writing = [node.definition for node in found.nodes_in_topological_order]
    assert all("lake" in definition.required_resource_keys for definition in writing if isinstance(definition, dg.OpDefinition))
