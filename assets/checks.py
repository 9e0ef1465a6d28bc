"""Every check: one factory turns a schema or an invariant into a blocking check that tests each day of a run.

A range run tests every day but records one evaluation per check, with a table of the days that fail, plus one per
failing day: each record costs some 35 ms, and a year has thousands of them. Checks have no partitions of their own, because
Dagster drops the partition of a range run's evaluation and would show a year of passed checks as none (docs/adr/0002-days.md).

What belongs here: running checks and showing what failed. What does not: what must hold (``tables``, ``promises``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any

import dagster as dg
import pandera.errors
import pandera.polars as pa
import polars as pl

from assets.daily import days_of
from assets.schemas import schema_of
from assets.shown.facts import markdown_table
from atc_pipeline.activation.tables import KEY_COLLISION, TROUBLES
from atc_pipeline.customers import coverage
from atc_pipeline.customers.activity import asked_for
from atc_pipeline.days.catalog import tables
from atc_pipeline.decision.tables import JOURNEY_STATE
from atc_pipeline.escaping import MOST
from atc_pipeline.identity.map import absorbed, absorbed_by, complete
from atc_pipeline.identity.tables import IDENTITY_CHANGES, IDENTITY_MAP
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.promises import activation, customers, decision
from atc_pipeline.rules.people import survivors
from resources.journeys import JourneysFile
from resources.storage.lake import DamagedFileError, Lake

SHOWN_ROWS = 20
DAYS_AT_ONCE = 31
"""Days validated in one pass: enough to spread Pandera's fixed cost."""
ROWS_AT_ONCE = 4_000_000
"""Rows of those days, unless one day has more: Pandera holds them all (5 GB for 20 million narrow ones)."""

LOOKED_BACK = 31
"""Days before a run of one day of which it is said, too, whether they are stale."""

Find = Callable[[Lake, Portfolio, Sequence[date]], pl.DataFrame]
"""Find the rows of these days that break a promise: ``date`` and whatever tells the reader more."""


def all_checks(portfolio: Portfolio) -> list[dg.AssetChecksDefinition]:
    """Build every check of the lineage."""
    schema_checks = [_schema_check(table) for table in tables(portfolio)]
    return schema_checks + [_check(promise) for promise in PROMISES]


@dataclass(frozen=True)
class Promise:
    """An invariant: the asset it belongs to, its name, what it says, and how to find the rows that break it."""

    asset: str
    name: str
    says: str
    find: Find
    is_blocking: bool = True
    is_error: bool = False
    """Whether it is red where it fails, though nothing waits for it; what blocks is red anyway."""


def _table(name: str, shift: int = 0) -> Callable[[Lake, Sequence[date]], pl.LazyFrame | None]:
    return lambda lake, days: lake.scan(name, [day - timedelta(days=shift) for day in days])


def _between(rule: Callable[..., pl.LazyFrame], *sources: Callable[[Lake, Sequence[date]], pl.LazyFrame | None]) -> Find:
    """Apply an invariant to these tables; where one has no day at all there is nothing to compare."""

    def find(lake: Lake, _: Portfolio, days: Sequence[date]) -> pl.DataFrame:
        frames = [source(lake, days) for source in sources]
        return pl.DataFrame() if any(frame is None for frame in frames) else rule(*frames).collect()

    return find


def _after_first_day(rule: Callable[..., pl.LazyFrame], table: str, *others: Callable[[Lake, Sequence[date]], pl.LazyFrame | None]) -> Find:
    """Apply an invariant between a day of a table, the day before, and other tables; the first day of the lake has no day before."""

    def find(lake: Lake, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
        later = [day for day in days if day > portfolio.starts_on]
        return _between(rule, _table(table), _table(table, shift=1), *others)(lake, portfolio, later)

    return find


def _absorbed(lake: Lake, days: Sequence[date]) -> pl.LazyFrame:
    """Read who was absorbed on these days."""
    changes = lake.scan("identity_changes", days)
    return absorbed_by(pl.LazyFrame(schema=IDENTITY_CHANGES.schema) if changes is None else changes)


def _broken_rules(lake: Lake, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    rule = partial(decision.broken_rules, portfolio=portfolio)
    before = _day_before("journey_state", JOURNEY_STATE.schema)
    sources = [_table("journey_assignments"), _table("journey_state"), before, _table("customer_profiles"), _absorbed, _sent]
    return _between(rule, *sources)(lake, portfolio, days)


def _overfull_journeys(lake: Lake, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    rule = partial(decision.overfull_journeys, portfolio=portfolio)
    return _between(rule, _table("journey_assignments"), _sent)(lake, portfolio, days)


def _sent(lake: Lake, days: Sequence[date]) -> pl.LazyFrame:
    """Read what was sent on these days before they were decided again, under the names that people have on them by now."""
    schema = {"date": pl.Date(), "customer_id": pl.String(), "journey_id": pl.String()}
    found = [pl.DataFrame(schema=schema)]
    for day in days:
        sent = lake.scan("activation", [day])
        arrived = None if sent is None else sent.filter(pl.col("status").is_in(["delivered", "unknown"])).select(*schema).collect()
        if arrived is not None and arrived.height:
            found.append(survivors(arrived.lazy(), absorbed(lake.lazy("identity_map", day))).collect())
    return pl.concat(found).lazy()


def _misruled_options(lake: Lake, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    rule = partial(decision.misruled_options, portfolio=portfolio)
    return _between(rule, _table("scored_candidates"))(lake, portfolio, days)


def _day_before(table: str, schema: Mapping[str, pl.DataType]) -> Callable[[Lake, Sequence[date]], pl.LazyFrame]:
    """Read the day before each; before the first day of the lake there was nothing."""

    def read(lake: Lake, days: Sequence[date]) -> pl.LazyFrame:
        before = _table(table, shift=1)(lake, days)
        return pl.LazyFrame(schema=schema) if before is None else before

    return read


def _map_before(lake: Lake, days: Sequence[date]) -> pl.LazyFrame:
    """Read the maps of the days before, also those made before there was an ``arm_id``."""
    before = lake.scan("identity_map", [day - timedelta(days=1) for day in days], may_lack=True)
    return pl.LazyFrame(schema=IDENTITY_MAP.schema) if before is None else complete(before)


def _outdated_options(lake: Lake, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    if portfolio.policy.keep_candidates is not None:
        return pl.DataFrame()  # losers that were not kept cannot be told from options that were not there
    return _between(decision.outdated_options, _table("scored_candidates"), _table("journey_queues"))(lake, portfolio, days)


def _failed_fits(lake: Lake, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    models = lake.scan("purchase_models", days)
    later = pl.col("date") > portfolio.starts_on  # on the first day there is nothing to fit on
    return (
        pl.DataFrame()
        if models is None
        else models.filter(pl.col("note").is_not_null() & later).select("date", "note", "fitted_on").collect()
    )


def _undelivered_messages(lake: Lake, _: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """One row per day, channel, status and reason: how many messages that were to be sent were not."""
    sent = lake.scan("activation", days, may_lack=True)
    if sent is None:
        return pl.DataFrame()
    if "reason" not in sent.collect_schema():
        sent = sent.with_columns(reason=pl.lit(None, pl.String))  # written by an older version
    was_not_sent = pl.col("status").is_in(TROUBLES) | (pl.col("reason") == KEY_COLLISION)
    troubles = sent.filter(was_not_sent).group_by("date", "channel", "status", "reason").len("messages")
    return troubles.sort("date", "messages", "channel", "status", "reason", descending=[False, True, False, False, False]).collect()


def _colliding_keys(lake: Lake, _: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    planned = lake.scan("outbound_messages", days)
    if planned is None:
        return pl.DataFrame()
    return planned.filter(pl.col("withheld") == KEY_COLLISION).select("date", "idempotency_key", "journey_id", "channel").collect()


MOST_NAMES = 1000
"""Names of events, the most frequent of a day, among which a similar one is looked for."""


def _never_found(lake: Lake, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """Look at all days of the lake: what the last day of a run has not brought, an earlier one may have."""
    last = max(days)
    found = lake.scan("feature_coverage", [day for day in lake.days("feature_coverage") if day <= last])
    return pl.DataFrame() if found is None else coverage.never_found(found, asked_for(portfolio), partial(_occurring, lake, last))


def _occurring(lake: Lake, day: date) -> list[str]:
    if not lake.has("raw_events", day):
        return []
    names = lake.lazy("raw_events", day).select("event").drop_nulls().group_by("event").len()
    return names.sort("len", "event", descending=[True, False]).head(MOST_NAMES).collect()["event"].to_list()


def _days_on_another_yesterday(lake: Lake, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """Find days that stand on a day before that was made anew since: up to the day after these, and before them where it is but one."""
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


DECIDE_AGAIN = (
    "If it fails, run the job decide_again from the first day that fails through the latest; until it holds, nothing of these days is sent."
)

PROMISES = (
    Promise(
        "identity_map",
        "ids_lead_to_survivors",
        "No id is said to be a customer who was absorbed, none of the day before is missing, and everybody is drawn by one name, the "
        "same as the day before (SPEC 2). If it fails, make identity_map of the day again, from the first day that fails.",
        _between(customers.broken_identities, _table("identity_map"), _map_before),
    ),
    Promise(
        "feature_coverage",
        "values_are_readable",
        "At most 1 % of the values of a trait or signal, over the days of a run, are of a type that cannot be read; these are skipped "
        "(SPEC 1). Look the message up in raw_events, and have the source send numbers as numbers and lists as lists, "
        "or name another property in journeys.yaml.",
        _between(coverage.unreadable, _table("feature_coverage")),
        is_blocking=False,
    ),
    Promise(
        "feature_coverage",
        "consent_is_understood",
        "What is said about consent is yes or no, and about a channel of ours (SPEC 3). What is neither grants nothing; Unsubscribed from "
        "another channel withdraws all. Look the message up in raw_events, and have the source send true or false.",
        _between(coverage.unclear_consent, _table("feature_coverage")),
        is_blocking=False,
    ),
    Promise(
        "feature_coverage",
        "every_feature_is_found",
        "Every trait, signal and goal has matched an event since the first day. Correct the name of the event, or the condition, in "
        "journeys.yaml; leave it if the event is yet to come.",
        _never_found,
        is_blocking=False,
    ),
    Promise(
        "customer_profiles",
        "no_customer_is_lost",
        "Customers of a day = those of the day before + those who arrived - those who were absorbed (SPEC 2). If it fails, run the job "
        "daily from the first day that fails through the latest.",
        _after_first_day(customers.lost_customers, "customer_profiles", _absorbed),
    ),
    Promise(
        "purchase_models",
        "models_could_be_fitted",
        "Where predictions are wanted and a fit was due, it succeeded; else the last one is used, and its note says why (SPEC 3). Look at "
        "the orders and their values in raw_events, and at predictions in journeys.yaml; with few orders, wait for more.",
        _failed_fits,
        is_blocking=False,
    ),
    Promise(
        "micro_segment_memberships",
        "everyone_is_in_a_segment",
        "Every customer is in at least one micro-segment; the residual one holds only those who are in no other (SPEC 4). If it fails, "
        "make micro_segment_memberships of the day again.",
        _between(customers.uncovered_customers, _table("customer_profiles"), _table("micro_segment_memberships")),
    ),
    Promise(
        "journey_queues",
        "decisions_stand_on_these_queues",
        "No day was decided on an older queue: a backfill that starts earlier lengthens the waiting (SPEC 6). Run the job decide_again "
        "from the first day that is named through the latest, or leave the past as it was decided.",
        _outdated_options,
        is_blocking=False,
    ),
    Promise(
        "scored_candidates",
        "rulings_add_up",
        'Every option is ruled once: one chosen and one "none" per customer, rulings that follow from the gates failed (SPEC 7). '
        + DECIDE_AGAIN,
        _misruled_options,
    ),
    Promise(
        "journey_assignments",
        "one_answer_per_customer",
        "One row per customer of the day's profiles, and no other (SPEC 8). " + DECIDE_AGAIN,
        _between(decision.unassigned_customers, _table("customer_profiles"), _table("journey_assignments")),
    ),
    Promise(
        "journey_assignments",
        "nobody_is_in_two_journeys",
        "At most one journey per customer, and the memory agrees with the answer (SPEC 8). " + DECIDE_AGAIN,
        _between(decision.double_booked_customers, _table("journey_state"), _table("journey_assignments")),
    ),
    Promise(
        "journey_assignments",
        "journeys_in_flight_add_up",
        "In flight yesterday = continued + ended today, those that merged among them (SPEC 8). " + DECIDE_AGAIN,
        _after_first_day(decision.unaccounted_journeys, "journey_assignments", _table("journey_state"), _absorbed),
    ),
    Promise(
        "journey_assignments",
        "days_stand_on_their_yesterday",
        "Every day was made from the day before as it is now; else it is stale: run the job daily from the first such day through the "
        "latest (SPEC 17). Each row says which days that are; where the file that says what a day was made from is damaged, that.",
        _days_on_another_yesterday,
        is_blocking=False,
    ),
    Promise(
        "journey_assignments",
        "no_rule_is_broken",
        "No start against reentry, the number of entries or the frequency cap, none on a blacked-out day (SPEC 8). " + DECIDE_AGAIN,
        _broken_rules,
    ),
    Promise(
        "journey_assignments",
        "no_journey_is_overfull",
        "No more customers enter a journey than its daily entries and its active places allow (SPEC 8). " + DECIDE_AGAIN,
        _overfull_journeys,
    ),
    Promise(
        "outbound_messages",
        "only_treated_customers_are_written_to",
        "Every message is for a treated customer who is in that journey on that day (SPEC 9). If it fails, make outbound_messages of the "
        "day again; activation waits for it.",
        _between(activation.unexpected_messages, _table("outbound_messages"), _table("journey_assignments")),
    ),
    Promise(
        "outbound_messages",
        "keys_are_unique",
        "No two messages have one idempotency key. Those that have are withheld (key_collision), and all others go out: it does not "
        "happen by chance, so look at who sends events with these customers' ids.",
        _colliding_keys,
        is_blocking=False,
        is_error=True,
    ),
    Promise(
        "activation",
        "messages_are_delivered",
        "Every message that was to be sent was delivered. See the reasons by channel, set the receiver right and run the day again (job "
        "activate); of what nobody answered for, the runs of the next 2 days try again by themselves.",
        _undelivered_messages,
        is_blocking=False,
        is_error=True,
    ),
)


def _schema_check(table: str) -> dg.AssetChecksDefinition:
    def find(lake: Lake, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
        frame = lake.scan(table, days)
        return pl.DataFrame() if frame is None else schema_failures(schema_of(tables(portfolio)[table]), frame.collect())

    says = (
        f"Columns, types, nulls, ranges and the key of {table} are as its schema says (TABLES). If it fails, the rows say which column and "
        "value; make the day again after an upgrade or a change of journeys.yaml, else it is a fault of ours: what follows waits."
    )
    return _check(Promise(table, "schema", says, find))


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
        asset=promise.asset,
        name=promise.name,
        description=promise.says,
        blocking=promise.is_blocking,
    )
    def checked(context: dg.AssetCheckExecutionContext, lake: Lake, journeys: JourneysFile) -> dg.AssetCheckResult:
        days = _days_tested(context, lake, promise.asset)
        portfolio = journeys.load()
        try:
            found = [rows for some in stretches(lake, promise.asset, days) if not (rows := promise.find(lake, portfolio, some)).is_empty()]
        except DamagedFileError as problem:
            raise dg.Failure(str(problem), allow_retries=False) from problem
        failing = pl.concat(found, how="diagonal_relaxed") if found else pl.DataFrame(schema={"date": pl.Date})
        severity = dg.AssetCheckSeverity.ERROR if promise.is_blocking or promise.is_error else dg.AssetCheckSeverity.WARN
        if len(days) > 1:
            for (day,), rows in failing.drop_nulls("date").group_by("date", maintain_order=True):
                context.op_execution_context.log_event(
                    dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # accepted since 1.13; its annotation is behind
                        asset_key=dg.AssetKey(promise.asset),
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
            metadata={"days_tested": len(days), **(_shown(failing) | {"failing_days": markdown_table(by_day)} if found else {})},
        )

    return checked


def _days_tested(context: dg.AssetCheckExecutionContext, lake: Lake, table: str) -> list[date]:
    """Return the days of the run; a check executed by itself, without a partition, tests the latest day there is.

    Not all days: older ones were decided by an older ``journeys.yaml``, and rightly.
    """
    step = context.op_execution_context
    is_partitioned = step.has_partition_key or step.has_partition_key_range
    return days_of(context) if is_partitioned else lake.days(table)[-1:]


def _shown(failing: pl.DataFrame) -> dict[str, Any]:
    return {"failing_rows": failing.height, "first_failing_rows": markdown_table(failing.head(SHOWN_ROWS), letters=MOST)}


def stretches(lake: Lake, table: str, days: Sequence[date]) -> Iterator[Sequence[date]]:
    """Divide days into those that are tested together."""
    some: list[date] = []
    rows = 0
    for day in days:
        more = lake.rows(table, day) if lake.has(table, day) else 0
        if some and (len(some) == DAYS_AT_ONCE or rows + more > ROWS_AT_ONCE):
            yield some
            some, rows = [], 0
        some.append(day)
        rows += more
    if some:
        yield some
