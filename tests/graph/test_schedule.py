"""The daily schedule, and the tag of every job."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from atc_pipeline.definitions import build_definitions
from resources.storage.landing import LandingZone
from tests.graph.small_world import DAYS, line
from tests.graph.watching import FOUR, LAST_OVER, THREE, TWO, Watcher

pytestmark = pytest.mark.slow


def test_the_schedule_runs_the_day_just_over(world: dict[str, str]) -> None:
    """At five in the morning in Berlin the day before is requested, with the tag that keeps runs apart."""
    repository = build_definitions(world).get_repository_def()
    schedule = repository.get_schedule_def("daily_at_five")
    morning = datetime(2026, 3, 3, 4, 0, tzinfo=UTC)
    landing = LandingZone(root=f"{world['ATC_HOME']}/landing")
    with dg.build_schedule_context(scheduled_execution_time=morning, repository_def=repository, resources={"landing": landing}) as context:
        requests = schedule.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests] == ["2026-03-02"]
    assert requests[0].tags["atc/state"] == "lake"
    assert schedule.execution_timezone == "Europe/Berlin"


def test_every_run_that_writes_state_carries_the_tag(world: dict[str, str]) -> None:
    """No job can run beside another one."""
    definitions = build_definitions(world)
    names = ("daily", "ingest_events", "decide_again", "activate", "erase_customer")
    assert {definitions.resolve_job_def(name).tags.get("atc/state") for name in names} == {"lake"}


def requested(watcher: Watcher, at: datetime) -> tuple[str, str]:
    """Return the first and last day that the schedule asks for."""
    repository = build_definitions(watcher.world).get_repository_def()
    schedule, landing = repository.get_schedule_def("daily_at_five"), LandingZone(root=str(watcher.landing))
    with dg.build_schedule_context(scheduled_execution_time=at, repository_def=repository, resources={"landing": landing}) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    ends = [request.tags.get(f"dagster/asset_partition_range_{end}", request.partition_key) for end in ("start", "end")]
    return str(ends[0]), str(ends[1])


def at_five(day: str) -> datetime:
    """Return five o'clock in the morning in Berlin."""
    return datetime.fromisoformat(f"{day}T04:00:00+00:00")


def test_the_day_just_over_is_closed_though_nothing_has_come_since_its_last_run(watcher: Watcher) -> None:
    """The last run of a day that ran is not the one that closes it."""
    assert requested(watcher, at_five(FOUR)) == (THREE, THREE)


def test_days_before_it_that_are_missing_or_stale_come_first_in_the_same_run(watcher: Watcher) -> None:
    """Without a file among them, too."""
    assert requested(watcher, at_five(LAST_OVER)) == (FOUR, str(DAYS[-1] + timedelta(days=1)))
    (watcher.landing / TWO / "late.ndjson").write_text(line("late", DAYS[1], 7, event="Product Viewed"))
    assert requested(watcher, at_five(FOUR)) == (TWO, THREE)


def test_today_comes_last_where_it_has_begun(watcher: Watcher) -> None:
    """Else it would stand on a yesterday that was made again."""
    (watcher.landing / FOUR).mkdir()
    (watcher.landing / FOUR / "a.ndjson").write_text(line("new", DAYS[-1], 9, event="Product Viewed"))
    assert requested(watcher, at_five(FOUR)) == (THREE, FOUR)
