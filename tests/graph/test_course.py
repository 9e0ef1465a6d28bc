"""The course of a day, without an orchestrator, is what the assets make with one."""

from pathlib import Path

import dagster as dg
import pytest

from atc_pipeline.days.course import Course
from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.memory import Memory
from tests.graph.small_world import DAYS, JOURNEYS, make_world, run, tables

pytestmark = pytest.mark.slow

WITH_EVERYTHING = JOURNEYS.replace("segments:", "predictions: {order: Order Completed, value: revenue}\nsegments:").replace(
    "policy: {", 'policy: {cap: {days: 9, starts: "2"}, '
)
NOT_OF_THE_COURSE = ("activation/", "audience_syncs/", "answers/", "sent_events/")
"""They are no tables of a day's own, but what became of sending it."""


def test_the_course_writes_the_files_that_a_run_writes(tmp_path: Path) -> None:
    """Four days: every table of the lake is made by a step of the course, byte for byte, and a store in memory has the same rows."""
    environment = make_world(tmp_path, WITH_EVERYTHING)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, DAYS[0], DAYS[-1], instance=instance).success
    made = {name: data for name, data in tables(environment).items() if not name.startswith(NOT_OF_THE_COURSE)}

    portfolio = load_portfolio(Path(environment["ATC_JOURNEYS"]))
    landed = LandingZone(root=f"{environment['ATC_HOME']}/landing").read
    lake, memory = Lake(root=str(tmp_path / "course" / "lake")), Memory()
    for store in (lake, memory):
        course = Course(store, portfolio, landed)
        for day in DAYS:
            course.run(day)

    written = tables({"ATC_HOME": str(tmp_path / "course")})
    assert written.keys() == made.keys()
    assert [name for name in made if written[name] != made[name]] == []
    names = {name.partition("/")[0] for name in made}
    assert [(name, day) for name in names for day in DAYS if not memory.read(name, day).equals(lake.read(name, day))] == []
