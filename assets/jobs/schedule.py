"""The daily schedule.

What belongs here: which days it runs. What does not: what a day is made of (``purposes``).
"""

from datetime import timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from assets.daily import STATE_TAG
from assets.jobs.purposes import Job


def schedule(daily_job: Job, partitions: dg.DailyPartitionsDefinition) -> dg.ScheduleDefinition:
    """Run the day just over at 05:00 where the business is."""

    @dg.schedule(
        name="daily_at_five",
        job=daily_job,
        cron_schedule="0 5 * * *",
        execution_timezone=partitions.timezone,
        description="Runs the day just over, from its events to its messages. Start it when the landing zone is filled daily.",
    )
    def daily_at_five(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        today = context.scheduled_execution_time.astimezone(ZoneInfo(partitions.timezone)).date()
        day = (today - timedelta(days=1)).isoformat()
        if not partitions.has_partition_key(day):
            return dg.SkipReason(f"{day} is outside the calendar of journeys.yaml (calendar.starts_on, calendar.ends_on)")
        return dg.RunRequest(run_key=day, partition_key=day, tags=STATE_TAG)

    return daily_at_five
