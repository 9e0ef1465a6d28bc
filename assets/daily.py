"""How an asset goes through its days: in order, each written whole, finished days recorded even when a later one fails.

What belongs here: the loop, partitions, what all daily assets have in common. What does not: any table.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Protocol

import dagster as dg
import polars as pl

from assets.shown.facts import ROW_COUNT, Facts, facts_of, of_shards
from atc_pipeline.days.features import OutdatedDayError
from atc_pipeline.days.step import ByShard, Step
from atc_pipeline.escaping import plain
from atc_pipeline.events.ingest import DEDUPLICATION_DAYS
from atc_pipeline.tables.store import DamagedDayError, MissingDayError, OlderDayError
from resources.runners import ClusterError, Shards, WrongRunnerError
from resources.storage.files import refusal
from resources.storage.history import keep_open
from resources.storage.lake import Lake, UnwritableError
from resources.storage.landing import UnreadableFileError

# Partitioned checks and backfill policies are preview and beta on the versions we pin; said once here, not at every start.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

OWNERS = ["team:lifecycle-data"]

STATE_TAG = {"atc/state": "lake"}
"""Carried by the runs of every job, of the schedule and of the sensor: the instance starts one of them at a time
(dagster_home/dagster.yaml). A run started by hand carries no tag of ours, and waits for its turn as all do (``resources.storage.turn``)."""


class Recompute(dg.Config):
    """Whether to make whole days, or, of days that are there, only what was defined anew since."""

    only_changed: bool = False


class Again(Recompute):
    """The same of what looks back: a column that is new is made for all days that are there, also before those of the run."""

    from_first_day: bool = False


class Behind(Step, Protocol):
    """A step that knows which of its days were made by other definitions."""

    def is_behind(self, day: date) -> bool:
        """Return whether something of the day is new or defined anew since it was made."""


def days_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[date]:
    """Return the days of a run, in order."""
    return sorted(date.fromisoformat(key) for key in context.partition_keys)


def days_again(context: dg.AssetExecutionContext, lake: Lake, step: Behind, table: str, config: Again) -> list[date]:
    """Return the days of a run; ``from_first_day``: where its last day is behind, all of the table's up to it, and else none."""
    days = days_of(context)
    if not config.from_first_day:
        return days
    try:
        is_behind = step.is_behind(days[-1])
    except _SAYS_WHAT_TO_DO as problem:
        raise dg.Failure(description=plain(str(problem), None), allow_retries=False) from None
    return [day for day in lake.days(table) if step.portfolio.starts_on <= day <= days[-1]] if is_behind else []


def each_day(
    context: dg.AssetExecutionContext,
    lake: Lake,
    step: Step,
    landed: Callable[[date], str] | None = None,
    *,
    days: Sequence[date] | None = None,
    by_shard: Shards | None = None,
) -> None:
    """Make and write each day's tables in order, with what their columns are made by, and note what they were made from.

    When a day fails, the days before it are recorded as materialized, so that a backfill resumes from the one that failed.
    ``landed``: the signature of the landing zone's day, where that is read. ``days``: others than the run's. ``by_shard``: what makes
    them shard by shard, where they may be.
    """
    if (slower := keep_open(context.instance)) is not None:
        context.log.warning(slower)
    finished: list[tuple[str, date]] = []
    asked_for = days_of(context)
    days = asked_for if days is None else days
    asked, origins = chosen(context), lake.origins
    for number, day in enumerate(days, start=1):
        try:
            signature = landed(day) if landed else None  # before reading: what comes meanwhile is news
            facts, read = _make(lake, step, day, by_shard)
            if not facts:
                continue
            before = day - timedelta(days=1)
            own = {table: lake.version(table, before) if (table, before) in read else None for table in facts}
            read -= {(table, day) for table in facts}  # rows that stayed: the day does not stand on itself
            origins.note(day, own, read, signature, DEDUPLICATION_DAYS)
        except Exception as problem:
            for table, done in finished:
                context.log_event(dg.AssetMaterialization(table, partition=done.isoformat()))
            if isinstance(problem, _SAYS_WHAT_TO_DO):
                # Not "from problem": what caused it says the same, and Dagster writes it into the terminal as it is.
                raise dg.Failure(description=plain(str(problem), None), allow_retries=False) from None
            if (refused := refusal(problem)) is not None:  # not a table: the spill, the ledger, what days were made from
                where = getattr(problem, "filename", None) or lake.root
                raise dg.Failure(
                    f"{plain(str(where), None)}: cannot be written ({refused}). Is the disk full, or the folder read-only? Days that are "
                    f"written are whole: when that is mended, run {day} again, and the days after it",
                    allow_retries=False,
                ) from None
            raise
        for table, described in facts.items():
            if table in asked and day in asked_for:
                finished.append((table, day))
                context.add_asset_metadata(described, asset_key=table, partition_key=day.isoformat())
            else:  # made with it, though not asked for
                context.log_event(dg.AssetMaterialization(table, partition=day.isoformat(), metadata=described))
        if number % 50 == 0:
            context.log.info(f"{number} of {len(days)} days written, up to {day}")


_SAYS_WHAT_TO_DO = (
    MissingDayError, UnreadableFileError, OutdatedDayError, OlderDayError, DamagedDayError, UnwritableError, WrongRunnerError, ClusterError,
)  # fmt: skip
"""Errors of ours that say what to do: no trace helps with them. Any other is a bug, and is shown as what it is."""


def made(context: dg.AssetExecutionContext, tables: Iterable[str]) -> Iterator[dg.MaterializeResult]:
    """Yield what a step returns that makes several tables together: one result for each that was asked for."""
    asked = chosen(context)
    yield from (dg.MaterializeResult(asset_key=table) for table in tables if table in asked)


def chosen(context: dg.AssetExecutionContext) -> set[str]:
    """Return which of the tables that a step makes were asked for: only of these can more be told than that they were made."""
    return {key.to_user_string() for key in context.selected_asset_keys}


def _make(lake: Lake, step: Step, day: date, by_shard: Shards | None) -> tuple[dict[str, Facts], set[tuple[str, date]]]:
    """Make and write a day; return what is shown of each table, and which days of what were read."""
    if by_shard is not None and isinstance(step, ByShard) and step.is_by_shard:
        made = by_shard.make(lake, day)
        facts = {table: _described(lake, table, day, lake.read(table, day)) for table in made.whole}
        return facts | {table: _described_by_shard(lake, table, day, rows) for table, rows in made.parts.items()}, set(made.read)
    with lake.watched() as read:
        tables = step.make(day)
    return {table: _write(lake, step, table, day, frame) for table, frame in tables.items()}, read


def _write(lake: Lake, step: Step, table: str, day: date, frame: pl.DataFrame | pl.LazyFrame) -> Facts:
    lake.write(table, day, frame, step.made_by, step.portfolio.fingerprint)
    if isinstance(frame, pl.LazyFrame):
        return {ROW_COUNT: lake.rows(table, day)}
    return _described(lake, table, day, frame)


def _described(lake: Lake, table: str, day: date, frame: pl.DataFrame) -> Facts:
    before = day - timedelta(days=1)
    return facts_of(table, frame, lake.lazy(table, before) if lake.has(table, before) else None)


def _described_by_shard(lake: Lake, table: str, day: date, rows: Sequence[int]) -> Facts:
    before, shards = day - timedelta(days=1), len(rows)
    return of_shards(
        table, rows, lake.part(table, day, 0, shards), lake.part(table, before, 0, shards) if lake.has(table, before) else None
    )


def daily(
    partitions: dg.DailyPartitionsDefinition, group: str, deps: Sequence[dg.AssetDep], kinds: Sequence[str] = ("polars", "parquet")
) -> dict[str, Any]:
    """Return what every asset of the lineage has in common, for ``@dg.asset``."""
    return spec(partitions, group, deps, kinds) | {"backfill_policy": dg.BackfillPolicy.single_run()}


def spec(
    partitions: dg.DailyPartitionsDefinition, group: str, deps: Sequence[dg.AssetDep], kinds: Sequence[str] = ("polars", "parquet")
) -> dict[str, Any]:
    """Return the same for one ``dg.AssetSpec`` of several that are made together."""
    return {"partitions_def": partitions, "group_name": group, "deps": deps, "kinds": set(kinds), "owners": OWNERS}


def together(partitions: dg.DailyPartitionsDefinition) -> dict[str, Any]:
    """Return what every step has in common that makes several tables, for ``@dg.multi_asset``.

    It always makes all of them, and any can be asked for alone: else their pages could not start a stretch of days.
    """
    return {"partitions_def": partitions, "backfill_policy": dg.BackfillPolicy.single_run(), "can_subset": True}


def after(names: Sequence[str]) -> list[dg.AssetDep]:
    """Depend on the same day of these assets.

    That a table stands on its own yesterday too is not told to Dagster, which would start each such asset in a run of its own
    (docs/adr/0020-runs.md): the day is refused where yesterday is missing (``yesterday_of``), and said to be stale where it was
    made again.
    """
    return [dg.AssetDep(name) for name in names]
