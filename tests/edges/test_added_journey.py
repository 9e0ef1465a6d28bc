"""A journey is appended to ``journeys.yaml`` under a running ``dagster dev``, which takes it up by itself."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.days.course import Course
from resources.journeys import JourneysFile
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from tests.edges.running_dagster import Dagster, until
from tests.graph.small_world import FIRST, make_world

pytestmark = pytest.mark.slow

DECIDED = [FIRST + timedelta(days=number) for number in range(33)]
WINDOW = DECIDED[-30:]
NEW = """  - {id: again, length_days: 2, queue: {all: [buyers]}, steps: [{day: 1, channel: app, content: hi}]}
policy:"""
SECONDS = 60
TICKS = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor { sensorState {
  ticks(limit: 1) { status error { message causes { message } } } } } } }"""


def test_a_new_journey_has_its_queue_within_a_minute_and_a_file_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    """No reload, no restart: thirty days of its queue, all other rows as they were, and nothing decided; a typo is told and starts nothing.

    Runs go on with the version before the typo, and warn.
    """
    environment = make_world(tmp_path / "world")
    file, home = Path(environment["ATC_JOURNEYS"]), Path(environment["ATC_HOME"])
    lake = Lake(root=str(home / "lake"))
    portfolio = JourneysFile(path=str(file), home=str(home)).load()  # kept, as a run does
    course = Course(lake, portfolio, LandingZone(root=str(home / "landing")).read)
    for day in DECIDED:
        course.run(day)
    before = {path: path.read_bytes() for path in (home / "lake").rglob("part.parquet")}
    queues = {day: lake.read("journey_queues", day) for day in DECIDED}
    with Dagster(tmp_path / "folder", environment) as dagster:
        file.write_text(file.read_text().replace("policy:", NEW))
        until(lambda: all((lake.read("journey_queues", day)["journey_id"] == "again").any() for day in WINDOW), SECONDS)
        for day in DECIDED:
            assert lake.read("journey_queues", day).filter(pl.col("journey_id") != "again").equals(queues[day])
        assert lake.read("journey_queues", DECIDED[-1]).filter(pl.col("journey_id") == "again")["waiting_days"].max() == len(WINDOW) - 1
        changed = {path.parents[1].name for path, content in before.items() if path.read_bytes() != content}
        assert changed == {"journey_queues"}
        file.write_text(file.read_text().replace("all: [buyers]", "all: [byers]"))
        until(lambda: "did you mean 'buyers'" in last_tick(dagster), SECONDS)
        run = dagster.launch(str(DECIDED[-1]), job="add_journeys")
        until(lambda: dagster.status(run) == "SUCCESS", SECONDS)
        assert "'journeys_file_is_valid' on 'journey_queues' did not pass" in dagster.log(run)


def last_tick(dagster: Dagster) -> str:
    """Return what the sensor's latest look failed with; nothing where it did not."""
    selector = {"repositoryLocationName": "atc_pipeline.definitions", "repositoryName": "__repository__", "sensorName": "journeys_file"}
    ticks = dagster.ask(TICKS, selector=selector)["sensorOrError"]["sensorState"]["ticks"]
    return str(ticks[0]["error"]) if ticks and ticks[0]["error"] else ""
