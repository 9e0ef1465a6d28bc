"""What starts runs: a job per purpose, the daily schedule, the landing-zone sensor, and the record of failures."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

from assets.daily import STATE_TAG
from resources.landing import LandingZone
from resources.records import compact, delete, ended_runs

ERASURE = "erase_customer"
"""The job whose configuration names a person."""
BYTES_LEFT = "SQLite keeps their bytes"
A_DAY = timedelta(days=1)
"""How long the records of that job are kept."""

ONLY_CHANGED = {"ops": {op: {"config": {"only_changed": True}} for op in ("customer_activity", "profile")}}
"""The config of the job ``catch_up``; a range that is started from the command line must be given it."""

Job = Any
"""What ``define_asset_job`` returns; Dagster does not export its type."""


def jobs() -> list[Job]:
    """Build one job per purpose; all carry the tag that lets one of them run at a time."""
    purposes = {
        "daily": (dg.AssetSelection.all(), "The whole day: events, profiles, segments, queues, decision, messages, activation."),
        "ingest_events": (dg.AssetSelection.groups("events"), "Read what has landed; nothing is decided or sent."),
        "decide_again": (
            dg.AssetSelection.groups("decisions") | dg.AssetSelection.assets("outbound_messages"),
            "Queues, decision and messages on the profiles as they are: after a change of journeys.yaml. Nothing is sent.",
        ),
        "activate": (dg.AssetSelection.assets("activation"), "Send a day's messages; those delivered before are not sent again."),
    }
    built = [dg.define_asset_job(name, selection, description=about, tags=STATE_TAG) for name, (selection, about) in purposes.items()]
    catch_up = dg.define_asset_job(
        "catch_up",
        dg.AssetSelection.assets("customer_activity", "customer_profiles", "purchase_models"),
        description="After traits, interests or intents were added or changed: makes these again on days that are there, and nothing else.",
        tags=STATE_TAG,
        config=ONLY_CHANGED,
    )
    return [*built, catch_up]


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
            return dg.SkipReason("the calendar of journeys.yaml starts later")
        return dg.RunRequest(run_key=day, partition_key=day, tags=STATE_TAG)

    return daily_at_five


def landing_sensor(daily_job: Job, partitions: dg.DailyPartitionsDefinition) -> dg.SensorDefinition:
    """Watch the landing zone: files that change in a day already over start a run from that day on."""

    @dg.sensor(
        name="landing_zone",
        job=daily_job,
        minimum_interval_seconds=60,
        description=(
            "When files of an arrival day are new or have changed, and the day is over, runs that day and those after it "
            "up to the latest that has files. "
            "The first look only remembers what is there: backfill older days yourself."
        ),
    )
    def watch(context: dg.SensorEvaluationContext, landing: LandingZone) -> dg.SensorResult | dg.SkipReason:
        known: dict[str, str] | None = json.loads(context.cursor) if context.cursor else None
        over = set(partitions.get_partition_keys())
        found = {day.isoformat(): landing.signature(day) for day in landing.days() if day.isoformat() in over}
        if known is None:
            return dg.SensorResult(cursor=json.dumps(found), skip_reason=f"remembered {len(found)} arrival days")
        changed = sorted(day for day, signature in found.items() if known.get(day) != signature)
        if not changed:
            return dg.SkipReason("no file in the landing zone is new or has changed")
        return dg.SensorResult(run_requests=[_through_to_the_latest(changed[0], max(found), found)], cursor=json.dumps(known | found))

    return watch


def _through_to_the_latest(first: str, last: str, found: dict[str, str]) -> dg.RunRequest:
    """Ask for one run from the first day that changed to the latest one: each day stands on the one before."""
    key = f"{first}...{last}:{found[first]}:{found[last]}"
    if first == last:
        return dg.RunRequest(run_key=key, partition_key=first, tags=STATE_TAG)
    stretch = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return dg.RunRequest(run_key=key, tags=STATE_TAG | stretch)


def failure_log() -> dg.SensorDefinition:
    """Write every failed run and its reason into the daemon's log, where alerting can pick it up."""

    @dg.run_failure_sensor(name="log_run_failures", default_status=dg.DefaultSensorStatus.RUNNING)
    def log_run_failures(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        day = run.tags.get("dagster/partition") or run.tags.get("dagster/asset_partition_range_start", "no partition")
        context.log.error(f"run {run.run_id} of {run.job_name} ({day}) failed: {context.failure_event.message}")

    return log_run_failures


def forget_erasures() -> dg.SensorDefinition:
    """Delete the records of erasures a day after they ended: their configuration names the person."""

    @dg.sensor(
        name="forget_erasures",
        minimum_interval_seconds=3600,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Deletes Dagster's records and logs of erase_customer runs that ended a day ago or earlier: their configuration names "
        "the person. What was removed, and when, stays in the tombstone.",
    )
    def forget(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        runs = ended_runs(context.instance, ERASURE, before=datetime.now(UTC) - A_DAY)
        delete(context.instance, runs)
        says = f"{len(runs)} records of erasures deleted"
        if runs or context.cursor:
            try:
                compact(context.instance)
            except sqlite3.OperationalError as problem:
                context.update_cursor(BYTES_LEFT)
                return dg.SkipReason(f"{says}; {BYTES_LEFT}, until the next look ({problem})")
            context.update_cursor("")
        return dg.SkipReason(says)

    return forget
