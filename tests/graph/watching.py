"""A world that the sensor landing_zone watches: its looks, and the runs it asks for."""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg

from atc_pipeline.definitions import build_definitions
from resources.storage.landing import LandingZone
from tests.graph.small_world import DAYS, run


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
        repository = build_definitions(self.world).get_repository_def()
        sensor = repository.get_sensor_def("landing_zone")
        landing = LandingZone(root=str(self.landing))
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"landing": landing}, repository_def=repository
        ) as context:
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
