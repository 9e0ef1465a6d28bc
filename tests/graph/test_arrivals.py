"""What a run says of the landing zone: files passed over and days without lines are seen, and the day goes on."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from tests.graph.small_world import DAYS, FIRST, JOURNEYS, line, make_world, run

SECOND = DAYS[1]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Make a small world."""
    return make_world(tmp_path)


def ingest(environment: dict[str, str], first: date = FIRST, last: date = FIRST) -> dict[str, Any]:
    """Ingest some days, which succeeds; return the checks by name, and the metadata of ``raw_events`` of the last day."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(environment, first, last, instance=instance, job="ingest_events")
        assert result.success
        checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
        event = instance.get_latest_materialization_event(dg.AssetKey("raw_events"))
    assert event is not None
    assert event.asset_materialization is not None
    assert checks["every_line_accounted_for"].passed
    return {**checks, "metadata": event.asset_materialization.metadata}


def land(environment: dict[str, str], name: str, text: str = "") -> Path:
    """Put a file into the landing zone."""
    path = Path(environment["ATC_HOME"]) / "landing" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.slow
def test_a_usual_day_has_nothing_to_say(environment: dict[str, str]) -> None:
    """Both checks pass, over a range, too; hidden files are nobody's."""
    land(environment, f"{FIRST}/_SUCCESS")
    told = ingest(environment, FIRST, SECOND)
    assert told["files_passed_over"].passed
    assert told["lines_arrived"].passed
    assert "files_passed_over" not in told["metadata"]


@pytest.mark.slow
def test_whatever_was_not_read_is_named_and_the_day_goes_on(environment: dict[str, str]) -> None:
    """Of the day, refused while it was read, of no day, and before the calendar: the first are named and all are counted."""
    for number in range(30):
        land(environment, f"{FIRST}/notes-{number:02}.txt")
    pl.DataFrame({"userId": ["a"], "blob": [b"\xff"]}).write_parquet(land(environment, f"{FIRST}/blob.parquet"))
    land(environment, "loose.json", "{}")
    land(environment, "2020-01-01/old.ndjson", line("old", FIRST, 1))
    told = ingest(environment)
    check = told["files_passed_over"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.metadata["passed_over"].value == 33
    assert "Rename, convert or remove" in str(check.description)
    shown = check.metadata["first_passed_over"].value
    assert all(name in shown for name in ("loose.json", "2020-01-01", "calendar.starts_on", f"{FIRST}/notes-00.txt"))
    assert "notes-29" not in shown
    assert told["metadata"]["files_passed_over"].value == 33
    (Path(environment["ATC_HOME"]) / "landing" / "loose.json").unlink()
    for number in range(30):
        (Path(environment["ATC_HOME"]) / "landing" / str(FIRST) / f"notes-{number:02}.txt").unlink()
    told = ingest(environment, FIRST, SECOND)
    assert "2020-01-01" in told["metadata"]["first_passed_over"].value  # of the last day of the run, as it is of none
    told = ingest(environment)
    assert "blob" in told["files_passed_over"].metadata["first_passed_over"].value
    assert "UTF-8" in told["metadata"]["first_passed_over"].value


def test_a_day_after_the_calendar_is_named(tmp_path: Path) -> None:
    """No run reads what arrives after calendar.ends_on, so the runs that there are say so."""
    environment = make_world(tmp_path, JOURNEYS.replace("starts_on: 2026-03-01", f"starts_on: 2026-03-01, ends_on: {DAYS[2]}"))
    told = ingest(environment)
    assert not told["files_passed_over"].passed
    assert f"it arrived after calendar.ends_on, {DAYS[2]}" in str(told["files_passed_over"].metadata["first_passed_over"].value)


def test_a_mistyped_home_is_seen(environment: dict[str, str]) -> None:
    """No landing zone at all: the run succeeds, and a check warns, with where it was looked for."""
    told = ingest({**environment, "ATC_HOME": f"{environment['ATC_HOME']}-mistyped"})["lines_arrived"]
    assert not told.passed
    assert told.severity == dg.AssetCheckSeverity.WARN
    assert "-mistyped/landing" in told.metadata["arrived"].value


@pytest.mark.slow
def test_a_day_without_lines_is_seen_where_there_usually_are_some(environment: dict[str, str]) -> None:
    """Also after weeks of it; not before anything ever arrived, and not where every other day has none."""
    landing = Path(environment["ATC_HOME"]) / "landing"
    third = DAYS[2]
    (landing / str(third) / "events.ndjson").unlink()
    told = ingest(environment, FIRST, third)["lines_arrived"]
    assert (told.passed, told.metadata["days_without_lines"].value) == (False, str(third))
    assert "ATC_HOME" in str(told.description)  # what to do
    (landing / str(SECOND) / "events.ndjson").unlink()
    (landing / str(FIRST) / "events.ndjson").rename(landing / str(FIRST) / "events.tmp")
    told = ingest(environment, FIRST, SECOND)["lines_arrived"]
    assert told.metadata["days_without_lines"].value == str(SECOND)
    (landing / str(FIRST)).rename(landing / "_gone")
    (landing / str(SECOND)).rmdir()
    assert ingest(environment, FIRST, SECOND)["lines_arrived"].passed


@pytest.mark.slow
def test_half_surrogate_pairs_are_told(environment: dict[str, str]) -> None:
    """How many lines of the day had one; the line counts."""
    land(environment, f"{FIRST}/emoji.ndjson", json.dumps(json.loads(line("cut", FIRST, 900, event="E")) | {"name": "\ud83d"}))
    assert ingest(environment)["metadata"]["lines_with_half_a_surrogate_pair"].value == 1
