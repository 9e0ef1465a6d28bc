"""Runs whose process is gone: marked as failed, so that those behind them start.

What belongs here: that sensor. What does not: what a run had written, which is whole.
"""

import dagster as dg
from dagster._core.storage.tags import GRPC_INFO_TAG

from resources.erasure.records import is_on_server
from resources.storage.processes import HOST, is_alive, this_host


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
