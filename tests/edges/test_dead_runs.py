"""``dagster dev``, killed and started again: nothing waits for the dead."""

from pathlib import Path

import pytest

from resources.storage.turn import Turn
from tests.edges.running_dagster import TERMINATE, Dagster, until
from tests.graph.small_world import DAYS, FIRST, make_world

pytestmark = pytest.mark.slow


def test_runs_killed_with_everything_are_marked_as_failed_and_those_behind_them_start(tmp_path: Path) -> None:
    """The tree of ``dagster dev`` and a run from the command line are killed in the middle; started again, the queue moves on.

    While they wait for their turn their logs say who has it, and one can be terminated. A range of one of several tables that are
    made together is launched from its page, and is one run.
    """
    environment = make_world(tmp_path / "world")
    home = Path(environment["ATC_HOME"])
    turn = Turn(home / "lake.turn")
    ours = turn.take("ours", "a test", print)
    dagster = Dagster(tmp_path / "folder", environment)
    with dagster:
        terminated = dagster.launch(str(FIRST))
        by_hand = dagster.cli("asset", "materialize", "-m", "atc_pipeline.definitions", "--select", "*", "--partition", str(FIRST))
        until(lambda: "waiting for run ours of a test" in dagster.log(terminated), 120)
        dagster.ask(TERMINATE, run=terminated)
        until(lambda: dagster.status(terminated) == "CANCELED", 60)
        running, queued = dagster.launch(str(FIRST)), dagster.launch(str(FIRST))
        until(lambda: "waiting for run ours" in dagster.log(running), 60)
        from_the_shell = dagster.ask('{ runsOrError(filter: {pipelineName: "__ASSET_JOB"}) { ... on Runs { results { runId } } } }')
        (shell,) = (run["runId"] for run in from_the_shell["runsOrError"]["results"])
        until(lambda: "waiting for run ours" in dagster.log(shell), 120)
        assert (dagster.status(running), dagster.status(queued)) == ("STARTED", "QUEUED")
        assert by_hand.poll() is None
    turn.give_back(ours)
    with dagster:
        until(lambda: dagster.status(queued) == "SUCCESS", 180)
        assert [dagster.status(run) for run in (running, shell)] == ["FAILURE", "FAILURE"]
        assert "The process of this run is gone" in dagster.log(running)
        backfill = dagster.fill("raw_events", [str(day) for day in DAYS])
        until(lambda: [run["status"] for run in dagster.runs_of(backfill)] == ["SUCCESS"], 120)  # one run for the range
    assert (home / "lake" / "activation" / f"date={FIRST}" / "part.parquet").exists()
    assert (home / "dagster" / "history").is_dir()
    assert not {path.name for path in (tmp_path / "folder" / "dagster_home").iterdir()} & {"history", "storage", "schedules"}
