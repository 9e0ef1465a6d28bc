"""What the sensor of the landing zone asks for."""

import gzip
import json
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets import checks
from assets.jobs.landing import seconds_between
from atc_pipeline.definitions import build_definitions
from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.lake import Lake
from resources.storage.origins import Origins
from tests.graph.small_world import DAYS, line, run
from tests.graph.watching import FOUR, LAST_OVER, ONE, THREE, TWO, UP_TO_DATE, Watcher

pytestmark = pytest.mark.slow


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


def this_is_today(monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    """Let the sensor look on that day."""
    keys = [str(DAYS[0] + timedelta(days=number)) for number in range((date.fromisoformat(day) - DAYS[0]).days + 1)]
    monkeypatch.setattr(dg.DailyPartitionsDefinition, "get_partition_keys", lambda *_, **__: keys)
    monkeypatch.setattr("assets.jobs.landing.day_at", lambda *_: date.fromisoformat(day))


def test_files_of_today_run_today_and_more_of_them_run_it_again_after_a_while(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing before the first file; at most one run in so many seconds, whoever started it."""
    this_is_today(monkeypatch, FOUR)
    assert watcher.look() == UP_TO_DATE
    (watcher.landing / FOUR).mkdir()
    (watcher.landing / FOUR / "a.ndjson").write_text(line("new", DAYS[-1], 9, event="Product Viewed"))
    assert watcher.ran() == (FOUR, FOUR)
    assert watcher.look() == UP_TO_DATE
    (watcher.landing / FOUR / "b.ndjson").write_text(line("newer", DAYS[-1], 10, event="Product Viewed"))
    assert "today is run every 300 seconds, and next after" in watcher.look()
    watcher.world["ATC_TODAY_EVERY"] = "0"
    assert watcher.ran() == (FOUR, FOUR)


def test_files_of_today_run_a_missing_yesterday_first(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """State cannot skip a day."""
    this_is_today(monkeypatch, LAST_OVER)
    (watcher.landing / LAST_OVER).mkdir()
    (watcher.landing / LAST_OVER / "a.ndjson").write_text(line("new", DAYS[-1], 9, event="Product Viewed"))
    assert watcher.look() == (FOUR, LAST_OVER)


def test_a_late_file_runs_through_yesterday_while_today_has_not_begun(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Today is no empty day because something of the day before yesterday was late."""
    this_is_today(monkeypatch, FOUR)
    (watcher.landing / TWO / "late.ndjson").write_text(line("late", DAYS[1], 7, event="Product Viewed"))
    assert watcher.look() == (TWO, THREE)


def test_a_pause_that_is_no_number_is_told_and_the_usual_one_holds(caplog: pytest.LogCaptureFixture) -> None:
    """A slip does not run today every second."""
    assert seconds_between({"ATC_TODAY_EVERY": "5 minutes"}) == 300
    assert "ATC_TODAY_EVERY is '5 minutes': expected seconds" in caplog.text
    assert (seconds_between({}), seconds_between({"ATC_TODAY_EVERY": "30"})) == (300, 30)
