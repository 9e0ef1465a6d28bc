"""The sensor of the landing zone: what arrives, and what is missing or no longer so, is run; today's days too, while they run.

What belongs here: which days it asks for, and how often. What does not: what is to be run (``resources.storage.repair``), how a run is
asked for (``asking``).
"""

import logging
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from assets.jobs.asking import UNFINISHED, Asked, stretch
from assets.jobs.purposes import Job
from atc_pipeline.escaping import plain
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.repair import Days, day_at

EVERY = "ATC_TODAY_EVERY"
"""The environment variable that says how many seconds are between two runs of today."""
USUALLY = 300


def seconds_between(environment: Mapping[str, str]) -> int:
    """Return how often today may be run; what is no such number is logged, and the usual one holds."""
    written = environment.get(EVERY, "").strip()
    if written.isascii() and written.isdecimal() and len(written) < 8:
        return int(written)
    if written:
        logging.getLogger(__name__).error("%s is %r: expected seconds, such as %d, which hold now", EVERY, plain(written, 40), USUALLY)
    return USUALLY


def landing_sensor(
    daily_job: Job, partitions: dg.DailyPartitionsDefinition, lake: Lake, tables: Collection[str], every: int = USUALLY
) -> dg.SensorDefinition:
    """Watch the landing zone and the lake: a day that does not stand on what there is starts a run from it on.

    What is to be run is read off the lake at each look; the cursor only remembers what was asked last, not to ask for it every time.
    ``every``: seconds between two runs of today.
    """

    @dg.sensor(
        name="landing_zone",
        job=daily_job,
        minimum_interval_seconds=20,
        description=(
            "When files of an arrival day are new, gone or changed, or a table of a day is missing or was made from what is no longer "
            f"so, runs from the first such day on, through today if it has files, else yesterday. Today is run at most every {every} "
            "seconds. A run that failed is tried again when something has changed, else after 5 minutes, 10, 20, up to 6 hours. It "
            "begins nothing: the first days are yours to run."
        ),
    )
    def watch(context: dg.SensorEvaluationContext, landing: LandingZone) -> dg.SensorResult | dg.SkipReason:
        lake.origins.refresh()
        now = datetime.now(UTC)
        keys = [date.fromisoformat(key) for key in partitions.get_partition_keys()]
        days = Days(lake, landing, tables, keys, day_at(now, partitions.timezone))
        if not days.have_begun:
            return dg.SkipReason(_nothing_yet(days))
        first = days.first_stale(keys)
        if first is None:
            return dg.SkipReason("every day stands on the files that are in the landing zone")
        about = f"{first.table} of {first.day} {first.why}"
        running = context.instance.get_runs(dg.RunsFilter(job_name=daily_job.name, statuses=UNFINISHED), limit=1)
        if running:
            return dg.SkipReason(f"{about}; but run {running[0].run_id} of {daily_job.name} is not over yet")
        if first.day == days.today and (until := _last_run_of(context.instance, daily_job.name, days.today, every)) > now:
            return dg.SkipReason(f"{about}: today is run every {every} seconds, and next after {until:%H:%M:%S} UTC")
        # Changes with the first day to be made, and with the files from there on.
        situation = f"{first.day}:{landing.signature_since(first.day)}"
        asked = Asked.read(context.cursor, situation)
        if now < asked.not_before:
            return dg.SkipReason(f"{about}: tried {asked.times} times without success, next at {asked.not_before:%Y-%m-%d %H:%M} UTC")
        latest, last = context.instance.get_runs(dg.RunsFilter(job_name=daily_job.name), limit=1), max(first.day, days.last_to_run())
        context.log.info(f"{about}: running from there through {last}")
        key = f"{situation}:{latest[0].run_id if latest else 'first'}"  # a key once used is never run again: each try has its own
        return dg.SensorResult(run_requests=[stretch(first.day, last, key)], cursor=asked.again(now).written())

    return watch


def _last_run_of(instance: dg.DagsterInstance, job: str, day: date, every: int) -> datetime:
    """Return when so many seconds have passed since the last run that made the day was asked for, whoever did."""
    tags = ("dagster/partition", "dagster/asset_partition_range_end")
    records = [record for tag in tags for record in instance.get_run_records(dg.RunsFilter(job_name=job, tags={tag: str(day)}), limit=1)]
    asked_at = [record.create_timestamp.replace(tzinfo=record.create_timestamp.tzinfo or UTC) for record in records]
    return max(asked_at, default=datetime(1, 1, 1, tzinfo=UTC)) + timedelta(seconds=every)


def _nothing_yet(days: Days) -> str:
    arrived = [day for day in days.landing.days() if day in set(days.days)]
    whole = f"{days.days[0] if days.days else 'A'}...{max(arrived) if arrived else 'B'}"
    return (
        f"nothing was decided yet, and the sensor begins nothing: {len(arrived)} days have files. Run the first days "
        f"yourself: dagster asset materialize -m atc_pipeline.definitions --select '*' --partition-range {whole}"
    )
