"""The daily schedule: the day just over is closed, after those before it that are missing.

What belongs here: which days it runs. What does not: what is to be run (``resources.storage.repair``), what a day is made of
(``purposes``).
"""

from collections.abc import Collection
from datetime import date, timedelta

import dagster as dg

from assets.jobs.asking import stretch
from assets.jobs.purposes import Job
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.repair import Days, day_at


def schedule(daily_job: Job, partitions: dg.DailyPartitionsDefinition, lake: Lake, tables: Collection[str]) -> dg.ScheduleDefinition:
    """Run the day just over at 05:00 where the business is, and first what is missing before it."""

    @dg.schedule(
        name="daily_at_five",
        job=daily_job,
        cron_schedule="0 5 * * *",
        execution_timezone=partitions.timezone,
        description="Closes the day just over, from its events to its messages, whether or not anything came since its last run; the days "
        "before it that are missing or stale come first, in the same run, and today comes last if it has begun. Start it when the "
        "landing zone is filled daily.",
    )
    def daily_at_five(context: dg.ScheduleEvaluationContext, landing: LandingZone) -> dg.RunRequest | dg.SkipReason:
        today = day_at(context.scheduled_execution_time, partitions.timezone)
        yesterday = today - timedelta(days=1)
        if not partitions.has_partition_key(yesterday.isoformat()):
            return dg.SkipReason(f"{yesterday} is outside the calendar of journeys.yaml (calendar.starts_on, calendar.ends_on)")
        lake.origins.refresh()
        begun = [day for key in partitions.get_partition_keys() if (day := date.fromisoformat(key)) <= today]
        days = Days(lake, landing, tables, begun, today)
        stale = days.first_stale(days.over)
        first = min([yesterday, *days.missing()[:1], *([stale.day] if stale else [])])
        last = max(yesterday, days.last_to_run()) if days.have_begun else yesterday
        return stretch(first, last, str(yesterday))

    return daily_at_five
