"""The records of erasures, deleted a day after: the configuration of the job names a person.

What belongs here: when they go. What does not: the erasure (``assets.jobs.erasure``), how records go (``resources.erasure.records``).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from resources.erasure.records import BUSY, compact, delete, ended_runs

ERASURE = "erase_customer"
"""The job whose configuration names a person."""
BYTES_LEFT = "SQLite keeps their bytes"
A_DAY = timedelta(days=1)
"""How long the records of that job are kept."""


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
