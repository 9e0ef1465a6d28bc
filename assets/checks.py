"""Checks: one factory turns a table's schema, or a promise, into a check that tests each day of a run.

A range run tests every day but records one evaluation per check, with a table of the days that fail, plus one per
failing day: each record costs some 35 ms, and a year has thousands of them. Checks have no partitions of their own, because
Dagster drops the partition of a range run's evaluation and would show a year of passed checks as none (docs/adr/0002-days.md).

What belongs here: running checks and showing what failed. What does not: what must hold (``tables``, ``promises``).
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby
from typing import Any

import dagster as dg
import pandera.errors
import pandera.polars as pa
import polars as pl

from assets.daily import days_of
from assets.schemas import doubtful, schema_of
from assets.shown.facts import markdown_table
from atc_pipeline.days.catalog import tables
from atc_pipeline.days.shards import CUSTOMER, KNOWN_AS
from atc_pipeline.escaping import MOST
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.promises.catalog import PROMISES
from atc_pipeline.promises.promise import Promise
from atc_pipeline.rules.shards import shard_of
from atc_pipeline.tables.store import Store
from resources.journeys import JourneysFile
from resources.storage.lake import DamagedFileError, Lake

SHOWN_ROWS = 20
DAYS_AT_ONCE = 31
"""Days tested in one pass: enough to spread what a pass costs at least."""
BYTES_AT_ONCE = 32_000_000
"""Bytes of the files of those days, unless one day has more: some four million rows. To ask a file for its rows takes 50 times as long."""

LOOKED_BACK = 31
"""Days before a run of one day of which it is said, too, whether they are stale."""


def all_checks(portfolio: Portfolio) -> list[dg.AssetChecksDefinition]:
    """Build every check of the lineage."""
    schema_checks = [_schema_check(table) for table in tables(portfolio)]
    return schema_checks + [_check(promise) for promise in (*PROMISES, STALE)]


def _days_on_another_yesterday(lake: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """Find days that stand on a day before that was made anew since: up to the day after these, and before them where it is but one."""
    assert isinstance(lake, Lake)  # no other store notes what a day was made from
    shown = range(-LOOKED_BACK if len(days) == 1 else 0, (days[-1] - days[0]).days + 2)
    origins, rows = lake.origins, []
    for day in (days[0] + timedelta(days=number) for number in shown):
        before = day - timedelta(days=1)
        if (damage := origins.damage(day)) is not None:
            rows.append((day, damage, f"{day}...{max(days[-1], day)}"))
        rows += [
            (day, table, f"{day}...{lake.days(table)[-1]}")
            for table, origin in sorted(origins.of(day).items())
            if before >= portfolio.starts_on and origin["yesterday"] and lake.has(table, day) and lake.has(table, before)
            if lake.version(table, before) != origin["yesterday"]
        ]
    return pl.DataFrame(rows, schema={"date": pl.Date, "table": pl.String, "days_to_run": pl.String}, orient="row")


STALE = Promise(
    "journey_assignments",
    "days_stand_on_their_yesterday",
    "Every day was made from the day before as it is now; else it is stale: run the job daily from the first such day through the "
    "latest (SPEC 17). Each row says which days that are; where the file that says what a day was made from is damaged, that.",
    _days_on_another_yesterday,
    is_blocking=False,
)


def _schema_check(table: str) -> dg.AssetChecksDefinition:
    def find(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
        assert isinstance(store, Lake)  # no other store has parts
        of = tables(portfolio)[table]
        failures = [_misplaced(store, table, days)]
        for frame in _pieces(store, table, days):
            rows = doubtful(frame, of)
            failures += [] if rows is None else [schema_failures(schema_of(of), rows.collect())]
        return pl.concat(failures, how="diagonal_relaxed")

    says = (
        f"Columns, types, nulls, ranges and the key of {table} are as docs/tables.md says. If it fails, the rows say which column and "
        "value; make the day again after an upgrade or a change of journeys.yaml, else it is a fault of ours: what follows waits."
    )
    return _check(Promise(table, "schema", says, find))


def _pieces(lake: Lake, table: str, days: Sequence[date]) -> Iterator[pl.LazyFrame]:
    """Return the days in one piece as one frame, and each part of the others: in it rows are in the order of their key."""
    by_day = {day: lake.shards_of(table, day) for day in days if lake.has(table, day)}
    whole = lake.scan(table, [day for day, shards in by_day.items() if shards == 1])
    yield from [] if whole is None else [whole]
    for day, shards in by_day.items():
        parts = (lake.part(table, day, number, shards) for number in range(shards) if shards > 1)
        yield from (part for part in parts if part is not None)


def _misplaced(lake: Lake, table: str, days: Sequence[date]) -> pl.DataFrame:
    """Return one row per customer who lies in the part of another shard: with that, no key is in two parts."""
    wrong = [pl.DataFrame(schema={"date": pl.Date, "column": pl.String, "check": pl.String, "value": pl.String})]
    for day in days:
        shards = lake.shards_of(table, day) if lake.has(table, day) else 1
        for number in range(shards) if shards > 1 else ():
            part = lake.part(table, day, number, shards)
            if part is not None:
                name = KNOWN_AS if KNOWN_AS in part.collect_schema() else CUSTOMER
                names = part.select(value=name).filter(shard_of("value", shards) != number).unique()
                says = {"date": pl.lit(day), "column": pl.lit(name), "check": pl.lit(f"is in shard {number} of {shards}")}
                wrong.append(names.select(**says, value="value").collect(engine="streaming"))
    return pl.concat(wrong)


def schema_failures(schema: pa.DataFrameSchema, frame: pl.DataFrame) -> pl.DataFrame:
    """Return one row per failure: ``date``, ``column``, ``check``, ``value``, and the whole ``row`` as JSON text."""
    try:
        schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as problems:
        cases = problems.failure_cases.select(
            "column", "check", value=pl.col("failure_case").cast(pl.String), index=pl.col("index").cast(pl.Int64)
        )
    else:
        return pl.DataFrame()
    shown = [name for name, dtype in frame.schema.items() if not dtype.is_nested()]
    rows = frame.with_row_index("index").select(pl.col("index").cast(pl.Int64), "date", row=pl.struct(shown).struct.json_encode())
    failures: pl.DataFrame = cases.join(rows, on="index", how="left").select("date", "column", "check", "value", "row")
    return failures


def _check(promise: Promise) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=promise.table,
        name=promise.name,
        description=promise.says,
        blocking=promise.is_blocking,
    )
    def checked(context: dg.AssetCheckExecutionContext, lake: Lake, journeys: JourneysFile) -> dg.AssetCheckResult:
        days = _days_tested(context, lake, promise.table)
        journeys.load()
        portfolios = {day: journeys.of_day(lake, day, promise.table) for day in days}
        try:
            broken = [
                rows
                for _, alike in groupby(days, lambda day: portfolios[day].fingerprint)
                for stretch in stretches(lake, promise.table, list(alike))
                if not (rows := promise.find(lake, portfolios[stretch[0]], stretch)).is_empty()
            ]
        except DamagedFileError as problem:
            raise dg.Failure(str(problem), allow_retries=False) from problem
        failing = pl.concat(broken, how="diagonal_relaxed") if broken else pl.DataFrame(schema={"date": pl.Date})
        severity = dg.AssetCheckSeverity.ERROR if promise.is_blocking or promise.is_error else dg.AssetCheckSeverity.WARN
        if len(days) > 1:
            for (day,), rows in failing.drop_nulls("date").group_by("date", maintain_order=True):
                context.op_execution_context.log_event(
                    dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # accepted since 1.13; its annotation is behind
                        asset_key=dg.AssetKey(promise.table),
                        check_name=promise.name,
                        passed=False,
                        metadata=_shown(rows),
                        severity=severity,
                        partition=str(day),
                    )
                )
        by_day = failing.group_by("date").len("failing_rows").sort("date")
        return dg.AssetCheckResult(
            passed=failing.is_empty(),
            severity=severity,
            description=None if failing.is_empty() else promise.says,
            metadata={"days_tested": len(days), **(_shown(failing) | {"failing_days": markdown_table(by_day)} if broken else {})},
        )

    return checked


def _days_tested(context: dg.AssetCheckExecutionContext, lake: Lake, table: str) -> list[date]:
    """Return the days of the run; a check executed by itself, without a partition, tests the latest day there is.

    Not all days: a year of them takes minutes, and each was tested by its own run.
    """
    step = context.op_execution_context
    is_partitioned = step.has_partition_key or step.has_partition_key_range
    return days_of(context) if is_partitioned else lake.days(table)[-1:]


def _shown(failing: pl.DataFrame) -> dict[str, Any]:
    return {"failing_rows": failing.height, "first_failing_rows": markdown_table(failing.head(SHOWN_ROWS), letters=MOST)}


def stretches(lake: Lake, table: str, days: Sequence[date]) -> Iterator[Sequence[date]]:
    """Divide days into those that are tested together."""
    stretch: list[date] = []
    size = 0
    for day in days:
        more = lake.size(table, day) if lake.has(table, day) else 0
        if stretch and (len(stretch) == DAYS_AT_ONCE or size + more > BYTES_AT_ONCE):
            yield stretch
            stretch, size = [], 0
        stretch.append(day)
        size += more
    if stretch:
        yield stretch
