"""What starts runs: a job per purpose, the daily schedule, the landing-zone sensor, and the record of failures."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.storage.tags import GRPC_INFO_TAG

from assets.daily import STATE_TAG
from atc_pipeline.escaping import log_line
from resources.erasure.records import BUSY, compact, delete, ended_runs, is_on_server
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.processes import HOST, is_alive, this_host

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
        dg.AssetSelection.assets("customer_activity", "feature_coverage", "customer_profiles", "purchase_models"),
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
            return dg.SkipReason(f"{day} is outside the calendar of journeys.yaml (calendar.starts_on, calendar.ends_on)")
        return dg.RunRequest(run_key=day, partition_key=day, tags=STATE_TAG)

    return daily_at_five


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
        return dg.SensorResult(run_requests=[_stretch(first.day, over[-1], key)], cursor=asked.again(now).written())

    return watch


LAST_MADE = "journey_assignments"
"""A lake in which nothing was ever decided has not begun."""
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def _nothing_yet(landing: LandingZone, over: Sequence[date]) -> str:
    days = [day for day in landing.days() if day in set(over)]
    stretch = f"{over[0] if over else 'A'}...{max(days) if days else 'B'}"
    return (
        f"nothing was decided yet, and the sensor begins nothing: {len(days)} days have files. Run the first days yourself: "
        f"dagster asset materialize -m atc_pipeline.definitions --select '*' --partition-range {stretch}"
    )


@dataclass(frozen=True)
class Asked:
    """How often a run was asked for in one situation, and when last."""

    situation: str
    times: int = 0
    at: datetime = datetime(1, 1, 1, tzinfo=UTC)

    @classmethod
    def read(cls, cursor: str | None, situation: str) -> "Asked":
        """Return what the cursor remembers of this situation; a cursor of an older kind remembers nothing."""
        asked = json.loads(cursor) if cursor else {}
        if asked.get("situation") != situation:
            return cls(situation)
        return cls(situation, asked["times"], datetime.fromisoformat(asked["at"]))

    @property
    def not_before(self) -> datetime:
        """Return when to try again."""
        return self.at if not self.times else self.at + min(FIRST_PAUSE * 2 ** (min(self.times, 10) - 1), LONGEST_PAUSE)

    def again(self, now: datetime) -> "Asked":
        """Count one more."""
        return Asked(self.situation, self.times + 1, now)

    def written(self) -> str:
        """Return the cursor."""
        return json.dumps({"situation": self.situation, "times": self.times, "at": self.at.isoformat()})


FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=5), timedelta(hours=6)


def _stretch(first: date, last: date, key: str) -> dg.RunRequest:
    """Ask for one run from the first day to the last: each day stands on the one before."""
    key = f"{first}...{last}:{key}"
    if first == last:
        return dg.RunRequest(run_key=key, partition_key=str(first), tags=STATE_TAG)
    stretch = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
    return dg.RunRequest(run_key=key, tags=STATE_TAG | stretch)


def failure_log() -> dg.SensorDefinition:
    """Write every failed run and its reason into the daemon's log, where alerting can pick it up."""

    @dg.run_failure_sensor(
        name="log_run_failures",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Writes every run that failed, and why, into the daemon's log, where alerting can pick it up.",
    )
    def log_run_failures(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        day = run.tags.get("dagster/partition") or "...".join(
            run.tags.get(f"dagster/asset_partition_range_{end}", "no partition") for end in ("start", "end")
        )
        context.log.error(
            f"run {run.run_id} of {run.job_name} ({day}) failed: {' · '.join(map(log_line, reasons(context.instance, run.run_id)))}"
        )

    return log_run_failures


def reasons(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Say why a run failed: checks with what they say, steps with the first of their causes; else what Dagster says."""
    reasons_given: list[str] = []
    entries = [entry for entry in instance.all_logs(run_id, of_type=_TELLING) if entry.dagster_event is not None]
    for event in (entry.get_dagster_event() for entry in entries):
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                reasons_given.append(f"check {check.check_name} of {check.asset_key.to_user_string()}: {check.description or 'not passed'}")
        elif event.is_step_failure:
            reasons_given.append(f"step {event.step_key}: {_cause(event.step_failure_data)}")
        elif event.event_type == dg.DagsterEventType.RESOURCE_INIT_FAILURE:
            reasons_given.append(f"before the first step: {_first_of(event.engine_event_data.error)}")
        elif not reasons_given:
            reasons_given.append(event.message or "no reason given")
    return list(dict.fromkeys(reasons_given))


_TELLING = {
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.RESOURCE_INIT_FAILURE,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
}


def _cause(failure: Any) -> str:  # noqa: ANN401  # StepFailureData, which Dagster does not export
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return str(failure.user_failure_data.description)
    return _first_of(failure.error)


def _first_of(error: Any) -> str:  # noqa: ANN401  # SerializableErrorInfo, which Dagster does not export
    """Return what the first of an error's causes says."""
    while error is not None and error.cause is not None:
        error = error.cause
    return "no reason given" if error is None else str(error.message).strip()


def dead_runs() -> dg.SensorDefinition:
    """Mark runs as failed whose process is gone: else they hold their place in the queue for ever."""

    @dg.sensor(
        name="dead_runs",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="After a power cut or a kill, runs that say they are running and have no process any more are marked as failed, so "
        "that those behind them start. What they had written is whole; run their days again.",
    )
    def bury(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if context.instance.run_launcher.supports_check_run_worker_health:
            return dg.SkipReason("the run launcher knows itself which of its runs are alive: see run_monitoring in dagster.yaml")
        started = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.STARTING]
        dead = [run for run in context.instance.get_runs(dg.RunsFilter(statuses=started)) if _is_dead(context.instance, run)]
        for run in dead:
            context.instance.report_run_failed(
                run,
                "The process of this run is gone (killed, or the machine went down): marked as failed by the sensor dead_runs. "
                "What it had written is whole: run its days again.",
            )
            context.log.warning(f"run {run.run_id} of {run.job_name} had no process any more: marked as failed")
        return dg.SkipReason(f"{len(dead)} runs had no process any more")

    return bury


def _is_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether the process that a run last said it runs in is gone; False while none has spoken (see run_monitoring).

    Numbers of processes are those of a host, and an instance on a server may have runs of many: of another host's nothing is known, nor
    of one that was started by hand and has not said yet where it is.
    """
    may_be_elsewhere = is_on_server(instance) and GRPC_INFO_TAG not in run.tags
    if run.tags.get(HOST, "" if may_be_elsewhere else this_host()) != this_host():
        return False
    for entry in reversed(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        process = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if process is not None:
            return not is_alive(int(str(process.value)), since=entry.timestamp)
    return False


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
            except BUSY as problem:
                context.update_cursor(BYTES_LEFT)
                return dg.SkipReason(f"{says}; {BYTES_LEFT}, until the next look ({problem})")
            context.update_cursor("")
        return dg.SkipReason(says)

    return forget
