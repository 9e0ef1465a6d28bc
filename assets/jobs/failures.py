"""Runs that failed: why, told where somebody sees it.

What belongs here: the reasons of a run, and the sensor that tells them. What does not: what is done about a run (``dead_runs``).
"""

from typing import Any

import dagster as dg

from atc_pipeline.escaping import log_line


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
