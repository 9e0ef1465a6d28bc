"""The portfolio in a run: read once, the same for all its steps, and a mistake in it told in words."""

import re
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from atc_pipeline.definitions import build_definitions
from resources import journeys as resource
from resources.journeys import JourneysFile
from resources.storage.landing import LandingZone
from tests.graph.small_world import FIRST, JOURNEYS, make_world, run

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    """The small world, nothing run yet."""
    return make_world(tmp_path)


def test_a_run_loads_the_portfolio_once(world: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of journeys take seconds: not in each of thirty steps."""
    read: list[Path] = []
    read_text = resource.read_text
    monkeypatch.setattr(resource, "read_text", lambda path: read.append(path) or read_text(path))

    with dg.DagsterInstance.ephemeral() as instance:
        run(world, FIRST, FIRST, instance=instance)

    assert len(read) == 2  # the code location, and the run


def test_a_run_keeps_to_the_portfolio_it_began_with_and_the_next_takes_the_new_one(tmp_path: Path) -> None:
    """Whoever edits the file while a run goes on does not get a day made by two portfolios; no reload is needed afterwards."""
    path = tmp_path / "journeys.yaml"
    path.write_text(JOURNEYS)
    seen: list[list[str]] = []

    @dg.op
    def first(journeys: JourneysFile) -> None:
        seen.append([journey.id for journey in journeys.load().journeys])
        path.write_text(JOURNEYS.replace("id: rescue", "id: rescued"))

    @dg.op(ins={"start": dg.In(dg.Nothing)})
    def second(journeys: JourneysFile) -> None:
        seen.append([journey.id for journey in journeys.load().journeys])

    @dg.job(resource_defs={"journeys": JourneysFile(path=str(path), home=str(tmp_path))})
    def both() -> None:
        second(start=first())

    both.execute_in_process()
    both.execute_in_process()

    assert [ids[-1] for ids in seen] == ["rescue", "rescue", "rescued", "rescued"]


def test_an_invalid_portfolio_fails_a_run_in_words(world: dict[str, str]) -> None:
    """The step says file, line, journey and field, as the command line does."""
    job = build_definitions(world).resolve_job_def("daily")
    Path(world["ATC_JOURNEYS"]).write_text(JOURNEYS.replace("any: [newcomers]", "any: [newcomer]"))

    with dg.DagsterInstance.ephemeral() as instance:
        failed = job.execute_in_process(instance=instance, partition_key=str(FIRST), raise_on_error=False)

    told = [
        event.event_specific_data.user_failure_data.description
        for event in failed.all_events
        if event.is_step_failure and event.event_specific_data.user_failure_data
    ]
    assert told
    unknown = r"unknown segment 'newcomer'; did you mean 'newcomers'\?"
    assert re.match(r"journeys.yaml:\d+: journey 'welcome', field 'queue.any': " + unknown, told[0])


def test_the_calendar_ends_with_its_last_day(world: dict[str, str]) -> None:
    """The last partition is calendar.ends_on; the schedule says why it asks for nothing afterwards."""
    ends = JOURNEYS.replace("starts_on: 2026-03-01}", "starts_on: 2026-03-01, ends_on: 2026-03-04}")
    Path(world["ATC_JOURNEYS"]).write_text(ends)
    repository = build_definitions(world).get_repository_def()
    partitions = repository.assets_defs_by_key[dg.AssetKey("customer_profiles")].partitions_def
    assert partitions is not None
    assert partitions.get_partition_keys()[-1] == "2026-03-04"
    schedule = repository.get_schedule_def("daily_at_five")

    def asked(day: int) -> list[str | None]:
        landing = LandingZone(root=f"{world['ATC_HOME']}/landing")
        morning = datetime(2026, 3, day, 4, tzinfo=UTC)
        with dg.build_schedule_context(
            scheduled_execution_time=morning, repository_def=repository, resources={"landing": landing}
        ) as context:
            tick = schedule.evaluate_tick(context)
            return [request.partition_key for request in tick.run_requests or []] or [tick.skip_message]

    assert asked(5) == ["2026-03-04"]
    assert asked(6) == ["2026-03-05 is outside the calendar of journeys.yaml (calendar.starts_on, calendar.ends_on)"]
