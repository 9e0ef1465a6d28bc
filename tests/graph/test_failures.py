"""Runs that failed say why, and runs that died are failed."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.events import EngineEventData

from assets.jobs.failures import reasons
from atc_pipeline.definitions import build_definitions
from resources.storage.lake import Lake
from resources.storage.processes import is_alive
from tests.graph.small_world import DAYS
from tests.graph.watching import ONE, THREE, TWO, Watcher

pytestmark = pytest.mark.slow


def test_a_failure_says_why(watcher: Watcher) -> None:
    """The daemon's log has the sentence of the step or of the check, not that steps failed."""
    (watcher.landing / TWO / "upload.ndjson.gz").write_bytes(b"not a zip")
    watcher.run(TWO, TWO, must_succeed=False)
    (said,) = reasons(watcher.instance, watcher.instance.get_runs(limit=1)[0].run_id)
    assert said.startswith("step ingest: ")
    assert "upload.ndjson.gz: cannot be read" in said
    members = Lake(root=str(watcher.lake)).read("micro_segment_memberships", DAYS[0])
    Lake(root=str(watcher.lake)).write("micro_segment_memberships", DAYS[0], members.filter(pl.col("customer_id") != "c05"))
    definitions = build_definitions(watcher.world)
    checks = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("micro_segment_memberships"), "everyone_is_in_a_segment"))
    job = dg.define_asset_job("checked", checks | dg.AssetSelection.assets("journey_queues").without_checks())
    again = dg.Definitions(assets=definitions.assets, asset_checks=definitions.asset_checks, resources=definitions.resources, jobs=[job])
    again.resolve_job_def("checked").execute_in_process(instance=watcher.instance, partition_key=ONE, raise_on_error=False)
    told = reasons(watcher.instance, watcher.instance.get_runs(limit=1)[0].run_id)
    assert told[0].startswith("check everyone_is_in_a_segment of micro_segment_memberships: Every customer is in at least one")


def test_a_run_that_cannot_have_its_turn_says_why(watcher: Watcher) -> None:
    """Where nothing can be written the run ends before its first step, and the daemon's log has the file and what to do."""
    turn = watcher.lake.with_name(f"{watcher.lake.name}.turn")
    turn.unlink()
    turn.mkdir()
    watcher.run(TWO, TWO, must_succeed=False)
    told = reasons(watcher.instance, watcher.instance.get_runs(limit=1)[0].run_id)
    assert told[0].startswith("before the first step: ")
    assert str(turn) in told[0]
    assert "make the folder writable" in told[0]


def test_a_run_whose_process_is_gone_is_marked_as_failed(watcher: Watcher) -> None:
    """One that says it runs in a process that is no more; one whose process lives is left alone, and so is one that has not spoken."""
    job = build_definitions(watcher.world).resolve_job_def("daily")
    gone = subprocess.Popen(["true"])
    gone.wait()
    runs = [watcher.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED) for _ in range(3)]
    for found, pid in zip(runs, (gone.pid, os.getpid()), strict=False):
        watcher.instance.report_engine_event("Started process", found, EngineEventData.in_process(pid))
    with dg.build_sensor_context(instance=watcher.instance) as context:
        tick = build_definitions(watcher.world).resolve_sensor_def("dead_runs").evaluate_tick(context)
    statuses = [watcher.instance.get_run_by_id(found.run_id).status for found in runs]
    assert statuses == [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTED]
    assert tick.skip_message == "1 runs had no process any more"


def test_a_process_that_began_later_is_another() -> None:
    """After the machine was started anew, numbers of processes are given out again."""
    assert is_alive(os.getpid(), since=time.time())
    assert not is_alive(os.getpid(), since=time.time() - 10 * 365 * 86400)


def test_a_mistake_in_the_portfolio_that_comes_while_runs_go_on_is_told_by_its_lines(watcher: Watcher) -> None:
    """The code location is loaded, and then the file is broken, and no version was kept that could run instead: the run fails with what
    is wrong in it, without a trace of ours."""
    shutil.rmtree(Path(watcher.world["ATC_HOME"]) / "portfolios")
    portfolio = Path(watcher.world["ATC_JOURNEYS"])
    job = build_definitions(watcher.world).resolve_job_def("daily")
    portfolio.write_text(portfolio.read_text().replace("length_days: 3", "length_days: 0"))
    result = job.execute_in_process(instance=watcher.instance, partition_key=THREE, raise_on_error=False)
    (said,) = reasons(watcher.instance, result.run_id)
    assert "length_days" in said
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert failure.step_failure_data.error.cause is None
