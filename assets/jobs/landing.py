"""The sensor of the landing zone: what arrives, and what is missing or no longer so, is run.

What belongs here: which days it asks for. What does not: what a day was made from (``resources.storage.origins``), asking (``asking``).
"""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime

import dagster as dg

from assets.jobs.asking import UNFINISHED, Asked, stretch
from assets.jobs.purposes import Job
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone


def landing_sensor(daily_job: Job, partitions: dg.DailyPartitionsDefinition, lake: Lake, tables: Collection[str]) -> dg.SensorDefinition:
    """Watch the landing zone and the lake: a day already over that does not stand on what there is starts a run from it on.

    What is to be run is read off the lake at each look; the cursor only remembers what was asked last, not to ask for it every minute.
    """
    origins = lake.origins

    @dg.sensor(
        name="landing_zone",
        job=daily_job,
        minimum_interval_seconds=60,
        description=(
            "When files of an arrival day are new, gone or changed, or a table of a day is missing or was made from what is no longer "
            "so, runs from the first such day through the latest day that is over. A run that failed is tried again when something has "
            "changed, else after 5 minutes, 10, 20, up to 6 hours. It begins nothing: the first days are yours to run."
        ),
    )
    def watch(context: dg.SensorEvaluationContext, landing: LandingZone) -> dg.SensorResult | dg.SkipReason:
        origins.refresh()
        over = [date.fromisoformat(key) for key in partitions.get_partition_keys()]
        written = {table: set(days) for table in tables if (days := lake.days(table))}
        if LAST_MADE not in written or not over:
            return dg.SkipReason(_nothing_yet(landing, over))
        first = origins.first_stale(over, written, LAST_MADE, landing)
        if first is None:
            return dg.SkipReason("every day stands on the files that are in the landing zone")
        about = f"{first.table} of {first.day} {first.why}"
        running = context.instance.get_runs(dg.RunsFilter(job_name=daily_job.name, statuses=UNFINISHED), limit=1)
        if running:
            return dg.SkipReason(f"{about}; but run {running[0].run_id} of {daily_job.name} is not over yet")
        # Changes with the first day to be made, and with the files from there on.
        situation = f"{first.day}:{landing.signature_since(first.day)}"
        asked = Asked.read(context.cursor, situation)
        now = datetime.now(UTC)
        if now < asked.not_before:
            return dg.SkipReason(f"{about}: tried {asked.times} times without success, next at {asked.not_before:%Y-%m-%d %H:%M} UTC")
        latest = context.instance.get_runs(dg.RunsFilter(job_name=daily_job.name), limit=1)
        context.log.info(f"{about}: running from there through {over[-1]}")
        key = f"{situation}:{latest[0].run_id if latest else 'first'}"  # a key once used is never run again: each try has its own
        return dg.SensorResult(run_requests=[stretch(first.day, over[-1], key)], cursor=asked.again(now).written())

    return watch


LAST_MADE = "journey_assignments"
"""A lake in which nothing was ever decided has not begun."""


def _nothing_yet(landing: LandingZone, over: Sequence[date]) -> str:
    days = [day for day in landing.days() if day in set(over)]
    stretch = f"{over[0] if over else 'A'}...{max(days) if days else 'B'}"
    return (
        f"nothing was decided yet, and the sensor begins nothing: {len(days)} days have files. Run the first days yourself: "
        f"dagster asset materialize -m atc_pipeline.definitions --select '*' --partition-range {stretch}"
    )
