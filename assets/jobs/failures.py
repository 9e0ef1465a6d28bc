"""Runs that failed, and checks that did: why, since when, and what resumes; told where somebody sees it.

What belongs here: the reasons of a run, and the sensors that tell them. What does not: sending (``resources.channels.alerts``), what is
done about a run (``dead_runs``), a day that nobody has run (``freshness``).
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets.jobs.forgetting import ERASURE
from assets.jobs.purposes import SELECTIONS
from atc_pipeline.escaping import log_line
from resources.channels.alerts import tell
from resources.storage.repair import command

LOOKED_BACK = 200
"""Runs of a job that are looked at for the first failure in a row."""


def failure_log() -> dg.SensorDefinition:
    """Tell of every failed run why it failed: in the daemon's log, and to the webhook of alerts, if there is one."""

    @dg.run_failure_sensor(
        name="log_run_failures",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Writes every run that failed, and why, into the daemon's log, where alerting can pick it up; and sends it to "
        "ATC_ALERT_WEBHOOK, where that is set, with since when its job fails and the command that resumes.",
    )
    def log_run_failures(context: dg.RunFailureSensorContext) -> None:
        run, why = context.dagster_run, reasons(context.instance, context.dagster_run.run_id)
        context.log.error(f"run {run.run_id} of {run.job_name} ({days_of_run(run)}) failed: {' · '.join(map(log_line, why))}")
        tell(told_of_failure(context.instance, run, why), os.environ, context.log.warning)

    return log_run_failures


def failed_checks() -> dg.SensorDefinition:
    """Tell of checks that failed in runs that went on: those are red, and no run is."""

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="tell_failed_checks",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Of runs that succeeded, sends the checks that are red to ATC_ALERT_WEBHOOK, where that is set. Warnings are not sent.",
    )
    def tell_failed_checks(context: dg.RunStatusSensorContext) -> None:
        run = context.dagster_run
        failed = [f"• {reason}" for reason in reasons(context.instance, run.run_id) if reason.startswith(CHECK)]
        if failed:
            context.log.error(f"run {run.run_id} of {run.job_name} ({days_of_run(run)}): {' · '.join(map(log_line, failed))}")
            heading = f"Checks failed in run {run.run_id[:8]} of {run.job_name} ({days_of_run(run)}); nothing waits for them"
            tell([heading, *failed, "Their rows are on the page of the check in Dagster."], os.environ, context.log.warning)

    return tell_failed_checks


def told_of_failure(instance: dg.DagsterInstance, run: dg.DagsterRun, why: Sequence[str]) -> list[str]:
    """Return what people are told: what failed and why, since when, and what to do."""
    if run.job_name == ERASURE:  # what names a person is not sent where nobody could erase it
        return [f"Run {run.run_id[:8]} of {run.job_name} failed. Why is on its page in Dagster."]
    times, since = _in_a_row(instance, run)
    return [
        f"Run {run.run_id[:8]} of {run.job_name} ({days_of_run(run)}) failed",
        *(f"• {reason}" for reason in why),
        f"{run.job_name} has failed since {since:%Y-%m-%d %H:%M} UTC ({times} {'run' if times == 1 else 'runs'} in a row)",
        resumption(run),
    ]


def resumption(run: dg.DagsterRun) -> str:
    """Say how a failed run is resumed; what it has delivered is not sent again."""
    if run.job_name in SELECTIONS and (ends := _ends(run)):
        return f"To resume, when that is mended: {command(*ends, SELECTIONS[run.job_name])}"
    return "To resume, when that is mended: Re-execute all on the page of the run in Dagster"


def days_of_run(run: dg.DagsterRun) -> str:
    """Return the day of a run, or its first and last one."""
    return "...".join(dict.fromkeys(_ends(run))) or "no partition"


def _ends(run: dg.DagsterRun) -> tuple[str, str] | tuple[()]:
    day = run.tags.get("dagster/partition")
    first, last = (run.tags.get(f"dagster/asset_partition_range_{end}", day) for end in ("start", "end"))
    return (first, last) if first and last else ()


def _in_a_row(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, datetime]:
    """Count the runs of a job that failed without one that succeeded in between, and return when the first of them did."""
    ended = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS]
    records = instance.get_run_records(dg.RunsFilter(job_name=run.job_name, statuses=ended), limit=LOOKED_BACK)
    times, since = 0, datetime.now(UTC)
    for record in records:
        if record.dagster_run.status == dg.DagsterRunStatus.SUCCESS:
            break
        times += 1
        since = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else since
    return max(times, 1), since


CHECK = "check "
"""How a reason begins that is a check."""


def reasons(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Say why a run failed: checks with what they say, steps with the first of their causes; else what Dagster says."""
    reasons_given: list[str] = []
    entries = [entry for entry in instance.all_logs(run_id, of_type=_TELLING) if entry.dagster_event is not None]
    for event in (entry.get_dagster_event() for entry in entries):
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                reasons_given.append(
                    f"{CHECK}{check.check_name} of {check.asset_key.to_user_string()}: {check.description or 'not passed'}"
                )
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
