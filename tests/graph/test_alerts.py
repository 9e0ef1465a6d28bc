"""What the sensors tell: of runs that fail, of checks that fail, of a day that nobody has run."""

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from assets.jobs import failures, freshness
from assets.jobs.failures import reasons, resumption, told_of_failure
from atc_pipeline.definitions import build_definitions
from resources.storage.lake import Lake
from resources.storage.repair import LAST_MADE, due_by
from tests.graph.small_world import DAYS
from tests.graph.watching import ONE, THREE, TWO, Watcher

pytestmark = pytest.mark.slow

BERLIN = ZoneInfo("Europe/Berlin")


class Told(list[Sequence[str]]):
    """What would have been sent."""

    def __call__(self, lines: Sequence[str], *_: object) -> bool:
        """Note it."""
        self.append(lines)
        return True


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Note what is told, and send nothing."""
    notes = Told()
    monkeypatch.setattr(failures, "tell", notes)
    monkeypatch.setattr(freshness, "tell", notes)
    return notes


def test_a_failure_is_told_with_why_since_when_and_what_resumes(watcher: Watcher) -> None:
    """The second failure in a row says when the first one was."""
    (watcher.landing / TWO / "upload.ndjson.gz").write_bytes(b"not a zip")
    for _ in range(2):
        watcher.run(TWO, THREE, must_succeed=False)
    run = watcher.instance.get_runs(limit=1)[0]
    lines = told_of_failure(watcher.instance, run, reasons(watcher.instance, run.run_id))
    first = min(record.end_time or 0 for record in watcher.instance.get_run_records(limit=2))
    assert lines[0] == f"Run {run.run_id[:8]} of daily ({TWO}...{THREE}) failed"
    assert lines[1].startswith("• step ingest: ")
    assert "upload.ndjson.gz: cannot be read" in lines[1]
    assert lines[-2] == f"daily has failed since {datetime.fromtimestamp(first, UTC):%Y-%m-%d %H:%M} UTC (2 runs in a row)"
    assert lines[-1].endswith(f"dagster asset materialize -m atc_pipeline.definitions --select '*' --partition-range {TWO}...{THREE}")


def test_a_run_between_that_succeeded_ends_the_row(watcher: Watcher) -> None:
    """Since when is since the last success."""
    (watcher.landing / TWO / "upload.ndjson.gz").write_bytes(b"not a zip")
    watcher.run(TWO, TWO, must_succeed=False)
    watcher.run(ONE, ONE)
    watcher.run(TWO, TWO, must_succeed=False)
    run = watcher.instance.get_runs(limit=1)[0]
    assert "(1 run in a row)" in told_of_failure(watcher.instance, run, [])[-2]
    assert resumption(run).endswith(f"--partition {TWO}")


def test_of_an_erasure_that_failed_nobody_is_told_whom_it_is_about(instance: dg.DagsterInstance) -> None:
    """Where it is sent nobody can erase it."""
    lines = told_of_failure(instance, dg.DagsterRun(job_name="erase_customer"), ["nothing is known of bernadette"])
    assert "bernadette" not in "\n".join(lines)


def decide(lake: Lake, day: date, at: datetime) -> None:
    """Make a day as if a run had made it then."""
    lake.path(LAST_MADE, day).parent.mkdir(parents=True, exist_ok=True)
    lake.path(LAST_MADE, day).write_bytes(lake.path(LAST_MADE, DAYS[0]).read_bytes())
    os.utime(lake.path(LAST_MADE, day), (at.timestamp(), at.timestamp()))


def test_a_day_that_nobody_has_run_is_red_told_once_and_green_once_it_is_decided(watcher: Watcher, told: Told) -> None:
    """A day that was decided only while it ran is not decided: what came in the evening is not in it."""
    sensor = build_definitions(watcher.world).resolve_sensor_def("freshness")
    day, lake = due_by(datetime.now(UTC), "Europe/Berlin"), Lake(root=str(watcher.lake))
    journeys = build_definitions(watcher.world).resources["journeys"]
    cursor, events = None, list[dg.AssetCheckEvaluation]()

    def look() -> None:
        nonlocal cursor
        with dg.build_sensor_context(instance=watcher.instance, cursor=cursor, resources={"journeys": journeys}) as context:
            tick = sensor.evaluate_tick(context)
        cursor = tick.cursor or cursor
        events.extend(tick.asset_events)

    look()
    look()
    assert [(event.passed, event.severity) for event in events] == [(False, dg.AssetCheckSeverity.ERROR)]
    assert len(told) == 1
    assert f"{day} is not decided ({THREE} is the latest that is)" in told[0][0]
    assert told[0][1].endswith(f"--partition-range {date.fromisoformat(THREE) + timedelta(days=1)}...{day}")
    decide(lake, day, datetime.combine(day, time(12), BERLIN))
    assert "was decided only while it ran" in str(freshness.judge(lake, journeys.in_use().portfolio, datetime.now(UTC)).says)
    decide(lake, day, datetime.combine(day + timedelta(days=1), time(5), BERLIN))
    look()
    assert [event.passed for event in events] == [False, True]
    assert len(told) == 1


def test_at_seven_the_day_just_over_is_due_and_before_it_the_one_before() -> None:
    """Where the business is."""
    assert due_by(datetime(2026, 3, 3, 5, 59, tzinfo=UTC), "Europe/Berlin") == date(2026, 3, 1)
    assert due_by(datetime(2026, 3, 3, 6, 0, tzinfo=UTC), "Europe/Berlin") == date(2026, 3, 2)


def test_no_run_of_days_evaluates_the_check_that_is_about_the_clock(watcher: Watcher) -> None:
    """Whoever makes last year again is not told that yesterday is missing."""
    definitions = build_definitions(watcher.world)
    for job in ("daily", "decide_again"):
        result = definitions.resolve_job_def(job).execute_in_process(instance=watcher.instance, partition_key=ONE)
        checks = {check.check_name for check in result.get_asset_check_evaluations()}
        assert "schema" in checks
        assert freshness.CHECK not in checks
