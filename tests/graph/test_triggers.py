"""What starts runs."""

import gzip
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.events import EngineEventData

from assets import checks
from assets.jobs.triggers import reasons
from atc_pipeline.definitions import build_definitions
from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.origins import Origins
from resources.storage.processes import is_alive
from tests.graph.small_world import DAYS, FIRST, line, make_world, run

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    """The small world, nothing run yet."""
    return make_world(tmp_path)


def test_the_schedule_runs_the_day_just_over(world: dict[str, str]) -> None:
    """At five in the morning in Berlin the day before is requested, with the tag that keeps runs apart."""
    repository = build_definitions(world).get_repository_def()
    schedule = repository.get_schedule_def("daily_at_five")
    at_five = datetime(2026, 3, 3, 4, 0, tzinfo=UTC)
    with dg.build_schedule_context(scheduled_execution_time=at_five, repository_def=repository) as context:
        requests = schedule.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests] == ["2026-03-02"]
    assert requests[0].tags["atc/state"] == "lake"
    assert schedule.execution_timezone == "Europe/Berlin"


class Watcher:
    """The sensor landing_zone, looking at a world one minute after the other, and running what it asks for as Dagster would."""

    def __init__(self, world: dict[str, str], instance: dg.DagsterInstance) -> None:
        self.world, self.instance = world, instance
        self.landing = Path(world["ATC_HOME"]) / "landing"
        self.lake = Path(world["ATC_HOME"]) / "lake"
        self.cursor: str | None = None
        self.used: set[str] = set()

    def look(self) -> tuple[str, str] | str:
        """Return the first and last day that it asks for, or why it does not."""
        definitions = build_definitions(self.world)
        sensor = definitions.resolve_sensor_def("landing_zone")
        landing = LandingZone(root=str(self.landing))
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources={"landing": landing}) as context:
            tick = sensor.evaluate_tick(context)
        self.cursor = tick.cursor or self.cursor
        if not tick.run_requests:
            return str(tick.skip_message)
        (request,) = tick.run_requests
        assert request.run_key not in self.used, "Dagster would never run it"
        self.used.add(request.run_key)
        ends = [request.tags.get(f"dagster/asset_partition_range_{end}", request.partition_key) for end in ("start", "end")]
        return str(ends[0]), str(ends[1])

    def run(self, first: str, last: str, *, must_succeed: bool = True, job: str = "daily") -> bool:
        """Run these days."""
        days = date.fromisoformat(first), date.fromisoformat(last)
        return run(self.world, *days, instance=self.instance, job=job, must_succeed=must_succeed).success

    def ran(self) -> tuple[str, str]:
        """Look, and run what it asks for."""
        asked = self.look()
        assert isinstance(asked, tuple), asked
        assert self.run(*asked)
        return asked


UP_TO_DATE = "every day stands on the files that are in the landing zone"
LAST_OVER = str(DAYS[-1] + timedelta(days=2))
ONE, TWO, THREE, FOUR = (str(day) for day in DAYS)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """One history for all runs of a test."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def watcher(tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    """The small world with its first three days run; six days are over, and four of them have files."""
    keys = [str(FIRST + timedelta(days=number)) for number in range(6)]
    monkeypatch.setattr(dg.DailyPartitionsDefinition, "get_partition_keys", lambda *_, **__: keys)
    watching = Watcher(make_world(tmp_path), instance)
    (watching.landing / FOUR).rename(tmp_path / FOUR)
    watching.run(ONE, THREE)
    return watching


def test_the_sensor_begins_nothing_and_says_what_to_run(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """Nothing is decided yet: whoever starts the sensor does not start a year."""
    watcher = Watcher(world, instance)
    assert f"--select '*' --partition-range {ONE}...{FOUR}" in watcher.look()
    watcher.run(ONE, ONE, job="ingest_events")
    assert "the sensor begins nothing" in watcher.look()


def test_a_file_new_changed_or_gone_runs_its_day_through_the_latest(watcher: Watcher) -> None:
    """Whatever differs from what the day was made of; a file that moves out and back is news each time."""
    assert watcher.look() == UP_TO_DATE
    late = watcher.landing / TWO / "late.ndjson"
    late.write_text(line("late", DAYS[1], 7, event="Product Viewed"))
    assert watcher.ran() == (TWO, LAST_OVER)
    assert watcher.look() == UP_TO_DATE
    late.rename(watcher.landing.parent / "late")
    assert watcher.ran() == (TWO, LAST_OVER)
    (watcher.landing.parent / "late").rename(late)
    assert watcher.ran() == (TWO, LAST_OVER)
    customers = pl.read_parquet(watcher.lake / "customer_profiles" / f"date={LAST_OVER}" / "part.parquet")["customer_id"]
    assert "late" in customers


def test_a_run_that_failed_is_not_forgotten(watcher: Watcher) -> None:
    """Its days are asked for until they are made: at once when a file changes, else after a pause that grows."""
    (watcher.landing / TWO / "late.ndjson").write_text(line("late", DAYS[1], 7, event="Product Viewed"))
    whole = gzip.compress(line("whole", DAYS[2], 8, event="Product Viewed").encode())
    upload = watcher.landing / THREE / "upload.ndjson.gz"
    upload.write_bytes(whole[:-5])
    assert not watcher.run(*watcher.look(), must_succeed=False)
    assert "tried 1 times without success, next at" in str(watcher.look())
    told = json.loads(str(watcher.cursor))
    watcher.cursor = json.dumps(told | {"at": (datetime.fromisoformat(told["at"]) - timedelta(minutes=6)).isoformat()})
    assert watcher.look() == (TWO, LAST_OVER)
    assert "tried 2 times without success" in str(watcher.look())
    upload.write_bytes(whole)
    assert watcher.ran() == (TWO, LAST_OVER)
    assert watcher.look() == UP_TO_DATE


def test_a_run_that_was_killed_between_two_steps_is_not_forgotten(watcher: Watcher) -> None:
    """The events of the day are made of the new file, and nothing else is: by the signatures alone nothing is to be done."""
    (watcher.landing / TWO / "late.ndjson").write_text(line("late", DAYS[1], 7, event="Product Viewed"))
    watcher.run(TWO, TWO, job="ingest_events")
    assert watcher.look() == (TWO, LAST_OVER)


def test_a_day_that_was_run_alone_leaves_the_next_ones_to_be_run(watcher: Watcher) -> None:
    """A check that warns names the day that stands on an older yesterday; the sensor runs it and those after it."""
    (watcher.landing / TWO / "late.ndjson").write_text(line("late", DAYS[1], 7, event="Product Viewed"))
    result = run(watcher.world, DAYS[1], DAYS[1], instance=watcher.instance)
    (check,) = (one for one in result.get_asset_check_evaluations() if one.check_name == "days_stand_on_their_yesterday")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"| {THREE}...{THREE} |" in str(check.metadata["first_failing_rows"].value)
    assert watcher.ran() == (THREE, LAST_OVER)
    assert watcher.look() == UP_TO_DATE


def test_a_day_without_files_does_not_break_the_chain(watcher: Watcher) -> None:
    """Days without files wait for the schedule or for a later day that has some; then they are run with it."""
    assert watcher.look() == UP_TO_DATE
    (watcher.landing / LAST_OVER).mkdir()
    (watcher.landing / LAST_OVER / "a.ndjson").write_text(line("new", DAYS[-1], 9, event="Product Viewed"))
    assert watcher.ran() == (FOUR, LAST_OVER)


@pytest.mark.parametrize("table", ["raw_events", "customer_activity", "journey_state", "activation"])
def test_a_day_that_is_missing_from_a_table_is_made_again(watcher: Watcher, table: str) -> None:
    """Whoever deletes a day of a table has it back."""
    (watcher.lake / table / f"date={TWO}" / "part.parquet").unlink()
    assert watcher.ran() == (TWO, LAST_OVER)


def test_making_columns_or_a_queue_anew_starts_nothing(watcher: Watcher) -> None:
    """The same files and the same yesterday: what was decided stands."""
    portfolio = Path(watcher.world["ATC_JOURNEYS"])
    portfolio.write_text(portfolio.read_text().replace("traits:", "traits:\n  teas: {count: Product Viewed}"))
    run(watcher.world, DAYS[0], DAYS[2], instance=watcher.instance, job="catch_up")
    assert watcher.look() == UP_TO_DATE


def test_while_a_run_is_under_way_no_other_is_asked_for(watcher: Watcher) -> None:
    """A file that grows every minute does not fill the queue."""
    (watcher.landing / TWO / "late.ndjson").write_text(line("late", DAYS[1], 7, event="Product Viewed"))
    job = build_definitions(watcher.world).resolve_job_def("daily")
    started = watcher.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert f"but run {started.run_id} of daily is not over yet" in watcher.look()


def test_a_day_of_which_nobody_knows_any_more_what_it_was_made_from_is_told_and_made_again(watcher: Watcher) -> None:
    """A note that a power cut has damaged would else say of its day, in silence, that it is as it should be."""
    lake = Lake(root=str(watcher.lake))
    note = Path(f"{lake.root}.origins") / f"{TWO}.json"
    for text in (b"", b'{"raw_events": ', b"[]", b'{"raw_events": {}}', b"\xff"):
        note.write_bytes(text)
        assert "nobody can say what it was made from" in str(lake.origins.damage(DAYS[1]))
        shown = checks._days_on_another_yesterday(lake, load_portfolio(Path(watcher.world["ATC_JOURNEYS"])), [DAYS[2]])
        assert shown.select("date", "days_to_run").rows() == [(DAYS[1], f"{TWO}...{THREE}")]
    assert watcher.ran() == (TWO, LAST_OVER)
    assert lake.origins.damage(DAYS[1]) is None
    assert watcher.look() == UP_TO_DATE


def test_of_a_year_only_what_has_changed_is_read_again(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 365 days of all tables only the small notes on what they were made from are read, and each of them once."""
    origins, lake = Origins(Path(f"{watcher.lake}.origins")), Lake(root=str(watcher.lake))
    tables = [path.name for path in watcher.lake.iterdir() if (path / f"date={ONE}").exists()]
    for number in range(3, 365):
        day = DAYS[0] + timedelta(days=number)
        for table in tables:
            lake.path(table, day).parent.mkdir(parents=True)
            lake.path(table, day).hardlink_to(lake.path(table, DAYS[0]))
        read = [(table, day - timedelta(days=ago)) for table in tables[:3] for ago in (0, 1)]
        origins.note(day, dict.fromkeys(tables), read, None, 2)
    days = [DAYS[0] + timedelta(days=number) for number in range(365)]
    written = {table: set(lake.days(table)) for table in tables}
    parsed, loads = list[str](), json.loads
    monkeypatch.setattr("resources.storage.origins.json.loads", lambda text: loads(parsed.append(text) or text))
    again = Origins(Path(f"{watcher.lake}.origins"))
    for _ in range(2):
        again.refresh()
        assert not [stale for day in days[3:] for stale in again.stale(day, written) if stale.why == "is missing"]
    assert 0 < len(parsed) <= len(days)


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


def test_every_run_that_writes_state_carries_the_tag(world: dict[str, str]) -> None:
    """No job can run beside another one."""
    definitions = build_definitions(world)
    names = ("daily", "ingest_events", "decide_again", "activate", "erase_customer")
    assert {definitions.resolve_job_def(name).tags.get("atc/state") for name in names} == {"lake"}


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
