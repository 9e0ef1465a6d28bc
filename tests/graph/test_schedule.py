"""The daily schedule, and the tag of every job."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from atc_pipeline.definitions import build_definitions
from resources.storage.landing import LandingZone

pytestmark = pytest.mark.slow


def test_the_schedule_runs_the_day_just_over(world: dict[str, str]) -> None:
    """At five in the morning in Berlin the day before is requested, with the tag that keeps runs apart."""
    repository = build_definitions(world).get_repository_def()
    schedule = repository.get_schedule_def("daily_at_five")
    at_five = datetime(2026, 3, 3, 4, 0, tzinfo=UTC)
    landing = LandingZone(root=f"{world['ATC_HOME']}/landing")
    with dg.build_schedule_context(scheduled_execution_time=at_five, repository_def=repository, resources={"landing": landing}) as context:
        requests = schedule.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests] == ["2026-03-02"]
    assert requests[0].tags["atc/state"] == "lake"
    assert schedule.execution_timezone == "Europe/Berlin"


def test_every_run_that_writes_state_carries_the_tag(world: dict[str, str]) -> None:
    """No job can run beside another one."""
    definitions = build_definitions(world)
    names = ("daily", "ingest_events", "decide_again", "activate", "erase_customer")
    assert {definitions.resolve_job_def(name).tags.get("atc/state") for name in names} == {"lake"}
