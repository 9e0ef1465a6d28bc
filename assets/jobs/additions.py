"""A journey is added, changed or removed: the job that makes what is new and nothing else, the sensor that starts it, and the check that
the file in use is the one that was saved.

What belongs here: when it runs, and what it tells. What does not: what is new (``days.additions``), or making it (the assets).
"""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from assets.daily import STATE_TAG
from assets.jobs.asking import UNFINISHED, Asked
from assets.jobs.purposes import Job
from atc_pipeline.customers.profiles import table_schema
from atc_pipeline.days.additions import additions, window_of
from atc_pipeline.days.features import OutdatedDayError
from atc_pipeline.escaping import plain
from atc_pipeline.journeys.changes import changes
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.tables.store import DamagedDayError, MissingDayError, OlderDayError, Store
from resources.journeys import JourneysFile
from resources.storage.lake import Lake

JOB, VALID = "add_journeys", "journeys_file_is_valid"
LOOKS_EVERY = 10
"""Seconds between two looks at the file: a queue of 30 days is to be there a minute after it was saved."""
RELOAD = "reload the code location (Deployment > Reload) to see it in Dagster's pages"

_FROM_THE_FIRST_DAY = {"config": {"only_changed": True, "from_first_day": True}}
_IN_THE_WINDOW = {"config": {"only_changed": True}}
ONLY_NEW: dict[str, Any] = {  # a job of a range of days is given it by nobody but the dialog on its page
    "ops": {
        "customer_activity": _FROM_THE_FIRST_DAY,
        "customer_metrics": _FROM_THE_FIRST_DAY,
        "profile": _FROM_THE_FIRST_DAY,
        "micro_segment_memberships": _IN_THE_WINDOW,
        "journey_queues": _IN_THE_WINDOW,
    }
}


class RefusedFileError(Exception):
    """``journeys.yaml`` is refused; the version before runs on."""


def add_journeys() -> Job:
    """Build the job that makes what is new."""
    return dg.define_asset_job(
        JOB,
        dg.AssetSelection.assets(
            "customer_activity",
            "feature_coverage",
            "customer_metrics",
            "customer_profiles",
            "purchase_models",
            "micro_segment_memberships",
            "journey_queues",
        ),
        description="After journeys.yaml was changed: makes what is new or defined anew - traits, metrics and the like from the first day "
        "on, memberships and queues on the days of the run - and nothing else. Nothing that is past is decided again. The sensor "
        "journeys_file starts it.",
        tags=STATE_TAG,
        config=ONLY_NEW,
    )


def journeys_sensor(job: Job, partitions: dg.DailyPartitionsDefinition, lake: Lake, loaded: Portfolio) -> dg.SensorDefinition:
    """Watch ``journeys.yaml``: what the newest valid version has and the lake does not is made in one run.

    What is to be made is read off the lake, so that a run that was killed is gone on with; the cursor only remembers that nothing was left
    to do, and what was asked last. ``loaded``: the portfolio by which partitions and columns were described.
    """

    @dg.sensor(
        name="journeys_file",
        job=job,
        minimum_interval_seconds=LOOKS_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "When journeys.yaml has changed, makes what is new or defined anew in one run of add_journeys: the queue of a new journey over "
            "the last calendar.backfill_days days, so that whoever qualifies already has waited already. Decides nothing that is past. A "
            "file that is refused starts nothing: the tick fails with its messages, and the version before runs on."
        ),
    )
    def watch(context: dg.SensorEvaluationContext, journeys: JourneysFile) -> dg.SensorResult | dg.SkipReason:
        in_use = journeys.in_use()
        if in_use.problem is not None:
            raise RefusedFileError(in_use.problem)
        portfolio = in_use.portfolio
        lake.origins.refresh()
        days = window_of(lake, portfolio)
        if not days:
            return dg.SkipReason("nothing was decided yet: the first days are made by the file as it is then")
        situation = f"{portfolio.fingerprint}:{days[0]}:{days[-1]}"
        remembered = json.loads(context.cursor) if context.cursor else {}
        if remembered.get("settled") == situation:
            return dg.SkipReason(remembered["says"])
        try:
            new = additions(lake, portfolio)
        except _SAYS_WHAT_TO_DO as problem:
            return dg.SkipReason(plain(f"{problem}. {_not_shown(loaded, portfolio)}".strip(), None))
        differs = _differences(journeys, lake, portfolio, days[-1])
        news = " · ".join([f"version {portfolio.fingerprint}", *differs])
        hint = _not_shown(loaded, portfolio)
        if not new:
            about = ": nothing is left to make, the next decision uses it" if differs else ": nothing is new"
            says = plain(". ".join([f"{news}{about}", *([hint] if hint else [])]), None)
            context.update_cursor(json.dumps({"settled": situation, "says": says}, ensure_ascii=False))
            return dg.SkipReason(says)
        if not all(partitions.has_partition_key(str(day)) for day in (new.first, new.last)):
            return dg.SkipReason(f"{news}: {new.first} or {new.last} is no partition as Dagster knows them. {RELOAD}, and it runs")
        running = context.instance.get_runs(dg.RunsFilter(job_name=job.name, statuses=UNFINISHED), limit=1)
        if running:
            return dg.SkipReason(f"{new.words}: run {running[0].run_id} of {job.name} is not over yet")
        asked, now = Asked.read(context.cursor, situation), datetime.now(UTC)
        if now < asked.not_before:
            return dg.SkipReason(
                f"{new.words}: tried {asked.times} times without success, next at {asked.not_before:%Y-%m-%d %H:%M} UTC, or when the file "
                "changes"
            )
        context.log.info(plain(f"{news}: making {new.words}, {new.first}...{new.last}" + (f". {hint}" if hint else ""), None))
        latest = context.instance.get_runs(dg.RunsFilter(job_name=job.name), limit=1)
        key = f"{situation}:{latest[0].run_id if latest else 'first'}"  # a key once used is never run again: each try has its own
        tags = {"dagster/asset_partition_range_start": str(new.first), "dagster/asset_partition_range_end": str(new.last)}
        request = (
            dg.RunRequest(run_key=key, run_config=ONLY_NEW, partition_key=str(new.first), tags=STATE_TAG)
            if new.first == new.last
            else dg.RunRequest(run_key=key, run_config=ONLY_NEW, tags=STATE_TAG | tags)
        )
        return dg.SensorResult(run_requests=[request], cursor=asked.again(now).written())

    return watch


_SAYS_WHAT_TO_DO = (OutdatedDayError, MissingDayError, OlderDayError, DamagedDayError)


def _differences(journeys: JourneysFile, store: Store, portfolio: Portfolio, last: date) -> Sequence[str]:
    """Say what differs from the version that decided the latest day; nothing where that version is gone."""
    try:
        return changes(journeys.of_day(store, last), portfolio).words
    except JourneysError:
        return ()


def _not_shown(loaded: Portfolio, portfolio: Portfolio) -> str:
    """Say what Dagster was told at its start that is no longer so: runs do right regardless, its pages do not show it."""
    shown = [
        *([] if _calendar(loaded) == _calendar(portfolio) else ["the days of calendar (partitions)"]),
        *([] if list(table_schema(loaded)) == list(table_schema(portfolio)) else ["the columns of customer_profiles"]),
    ]
    return f"New: {' and '.join(shown)}: {RELOAD}" if shown else ""


def _calendar(portfolio: Portfolio) -> tuple[object, ...]:
    return portfolio.starts_on, portfolio.ends_on, portfolio.timezone


def file_is_valid() -> dg.AssetChecksDefinition:
    """Build the check that warns where runs do not use the file as it was saved."""

    @dg.asset_check(
        name=VALID,
        asset="journey_queues",
        description="The file that was saved is the one that runs. Where it is refused, the newest valid version runs on: correct the "
        "file.",
    )
    def journeys_file_is_valid(lake: Lake, journeys: JourneysFile) -> dg.AssetCheckResult:  # noqa: ARG001  # who keeps a version has the turn
        fingerprint, problem = journeys.load().fingerprint, journeys.problem
        return dg.AssetCheckResult(
            passed=problem is None,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"version {fingerprint} runs" if problem is None else plain(problem, None),
            metadata={"portfolio": fingerprint, **({} if problem is None else {"refused": plain(problem, None)})},
        )

    return journeys_file_is_valid
