"""What starts runs."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from atc_pipeline.definitions import build_definitions
from resources.landing import LandingZone
from small_world import DAYS, make_world


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


def test_the_sensor_remembers_first_then_asks_for_the_days_from_the_change_on(world: dict[str, str]) -> None:
    """Nothing starts for what was there at the first look; a changed file starts one run of its day and those after it."""
    sensor = build_definitions(world).resolve_sensor_def("landing_zone")
    landing = LandingZone(root=f"{world['ATC_HOME']}/landing")

    def look(cursor: str | None) -> dg.SensorResult | dg.SkipReason:
        with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance, cursor=cursor) as context:
            return sensor(context, landing=landing)

    first = look(None)
    assert not first.run_requests
    assert isinstance(look(first.cursor), dg.SkipReason)
    (Path(world["ATC_HOME"]) / "landing" / str(DAYS[1]) / "late.ndjson").write_text("{}\n")
    second = look(first.cursor)
    (request,) = second.run_requests
    stretch = [request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end")]
    assert stretch == [str(DAYS[1]), str(DAYS[-1])]
    assert isinstance(look(second.cursor), dg.SkipReason)


def test_every_run_that_writes_state_carries_the_tag(world: dict[str, str]) -> None:
    """No job can run beside another one."""
    definitions = build_definitions(world)
    names = ("daily", "ingest_events", "decide_again", "activate", "erase_customer")
    assert {definitions.resolve_job_def(name).tags.get("atc/state") for name in names} == {"lake"}
