"""Uplift: what treated customers did more than those who were held out (SPEC 11).

What belongs here: who counts, what is compared with what, the table. What does not: sums and estimates (``comparing``, ``estimate``), what
is said of a row (``verdicts``), outcomes of single customers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import polars as pl

from atc_pipeline.journeys.portfolio import GOAL, GOAL_VALUE, RESPONSES, SYSTEM, Journey, Portfolio
from atc_pipeline.outcomes import estimate
from atc_pipeline.outcomes.comparing import COMPARISON, IS_TREATED, NUMBERS, STRATUM, STRETCH, Asked, add_up, again, asked, compare
from atc_pipeline.outcomes.tables import ALL, LONG, RUN_RATE, UPLIFT
from atc_pipeline.outcomes.verdicts import Known, judge
from atc_pipeline.rules.arms import CONTROL, POLICY, TREATED

UNCAPPED = ":uncapped"
"""What the name of money ends with where it is told as it is, beside money that ``measurement.cap_at`` cuts off."""
RUN_RATE_DAYS = 28
"""Days up to today whose money is the run rate."""

RECENT: Mapping[str, pl.DataType] = {
    "customer_id": pl.String(),
    "known_as": pl.String(),
    "entered_on": pl.Date(),
    "arm": pl.String(),
    "holdout": pl.Float64(),
    "money": pl.Float64(),
    "money_before": pl.Float64(),
}
"""One row per customer who entered any journey since ``version`` began: ``arm`` is control of those whom the policy holds out, ``holdout``
the share that it held out then, ``money`` what they brought in the last ``RUN_RATE_DAYS``, and ``money_before`` the entry."""


@dataclass(frozen=True)
class Evidence:
    """What an estimate stands on: all that is known by the end of a day.

    ``entries``, ``outcomes``, ``long``: all of ``journey_entries``, ``journey_outcomes`` and ``long_outcomes``. ``recent``: as of
    ``RECENT``; None: no run rate. ``cost``: of the messages that were delivered in these days. ``sent_to_control``: by journey, how many
    customers in control were sent something all the same, as far as outcomes do not say so.
    """

    entries: pl.LazyFrame
    outcomes: pl.LazyFrame
    long: pl.LazyFrame
    recent: pl.LazyFrame | None = None
    cost: float | None = None
    sent_to_control: Mapping[str, int] = field(default_factory=dict)


def estimate_uplift(evidence: Evidence, portfolio: Portfolio, *, today: date) -> pl.DataFrame:
    """One row per journey, metric and slice, and those of the system: ``UPLIFT``."""
    merged = _merged(evidence.entries)
    mature, excluded, unstable = _mature(evidence.outcomes, merged)
    entered = _entered(evidence.entries)
    recent = None if evidence.recent is None else evidence.recent.collect()
    alone = None if recent is None else _alone(recent)
    metrics = _read(portfolio)
    sums = [
        *_of_journeys(mature, metrics, portfolio),
        *_in_the_long_run(_once(evidence.long, merged, alone), metrics, portfolio),
        *([] if alone is None else _of_late(alone, portfolio, today)),
    ]
    estimates = _compared(pl.concat([pl.DataFrame(schema=_SUMS), *sums], how="diagonal_relaxed"), metrics, portfolio)
    rows = pl.concat([estimates, _unmeasured(portfolio)], how="diagonal_relaxed").unique(
        ["journey_id", "metric", "slice"], keep="first", maintain_order=True
    )
    rows = (
        rows.join(_counted(entered, recent, portfolio, today), on=["journey_id", "slice"], how="left")
        .join(_ratios(entered, recent), on="journey_id", how="left")
        .join(excluded, on="journey_id", how="left")
        .join(unstable, on="journey_id", how="left")
    )
    known = Known(today, _began(entered, portfolio), _per_day(entered, recent, today), evidence.cost, evidence.sent_to_control)
    return judge(rows, portfolio, known).select(*(pl.col(name).cast(dtype) for name, dtype in UPLIFT.schema.items())).sort(UPLIFT.key)


def metrics_of(journey: Journey, portfolio: Portfolio) -> list[str]:
    """Name what is told of a journey: the metrics that its ``measure`` names, or all; money, guardrails, its goal and responses anyway."""
    named = journey.measure.metrics or tuple(metric.id for metric in portfolio.metrics)
    kept = {*named, *portfolio.measurement.guardrails, portfolio.money, RESPONSES}
    goal = [] if journey.goal is None else [GOAL, *([GOAL_VALUE] if journey.goal.value else [])]
    return [*(metric.id for metric in portfolio.measured if metric.id in kept), *goal]


def _merged(entries: pl.LazyFrame) -> pl.DataFrame:
    """One row per first entry of customers who have several into the same journey, under as many ``names`` and in so many ``arms``.

    ``is_again``: another one of them came before. ``entries`` say who is ``known_as`` whom today, or else everybody is who they were.
    """
    known = pl.col("known_as" if "known_as" in entries.collect_schema() else "customer_id")
    first = entries.filter(pl.col("entry_number") == 1).select("journey_id", "customer_id", "arm", "held_out_by", "date", known_as=known)
    who, is_ours = ["journey_id", "known_as"], pl.col("held_out_by").ne_missing(POLICY)
    # Hashes first: to compare five million names with each other takes as long as all the sums.
    digest = (pl.col("journey_id").hash() // 2 + pl.col("known_as").hash(1) // 2).alias("digest")
    hashed = first.select(digest).collect()["digest"]
    twice = hashed.clear() if hashed.n_unique() == hashed.len() else hashed.filter(hashed.is_duplicated()).unique()
    theirs = (first.filter(digest.is_in(twice.implode())) if twice.len() else first.clear()).sort("date", "customer_id").collect()
    counts = theirs.group_by(who).agg(
        arms=pl.col("arm").n_unique(), own_arms=pl.col("arm").filter(is_ours).n_unique(), names=pl.col("customer_id").n_unique()
    )
    again = (
        theirs.filter(is_ours).with_columns(is_again=pl.int_range(pl.len()).over(who) > 0).select("journey_id", "customer_id", "is_again")
    )
    return theirs.join(counts, on=who).join(again, on=["journey_id", "customer_id"], how="left").unique(["journey_id", "customer_id"])


def _mature(outcomes: pl.LazyFrame, merged: pl.DataFrame) -> tuple[pl.LazyFrame, pl.DataFrame, pl.DataFrame]:
    """Return the first entries that count; and by journey how many do not, and customers who have two arms all the same.

    Two customers may have become one after one of their entries, or both, had matured. In one arm they count once.
    """
    first = outcomes.filter((pl.col("entry_number") == 1) & pl.col("held_out_by").ne_missing(POLICY))
    who, is_in_both = ["journey_id", "customer_id"], (pl.col("arms") > 1) & (pl.col("names") > 1)
    in_both = merged.filter(is_in_both).select(who)
    again = merged.filter(pl.col("is_again") & ~is_in_both).select(who)
    left_out = first.filter("contaminated").select(who).collect()
    if in_both.height:
        left_out = pl.concat([left_out, first.select(who).join(in_both.lazy(), on=who, how="semi").collect()])
    out = pl.concat([left_out, again]).unique()
    counted = first if out.is_empty() else first.join(out.lazy(), on=who, how="anti")
    excluded = left_out.unique().group_by("journey_id").agg(contaminated=pl.len().cast(pl.Int64))
    unstable = merged.filter((pl.col("own_arms") > 1) & (pl.col("names") == 1)).group_by("journey_id")
    return counted, excluded, unstable.agg(unstable=pl.col("known_as").n_unique().cast(pl.Int64))


def _entered(entries: pl.LazyFrame) -> pl.DataFrame:
    """One row per journey, stratum, arm, version and day of first entries that the policy does not hold out: ``entries``, mature or not."""
    first = entries.filter((pl.col("entry_number") == 1) & pl.col("held_out_by").ne_missing(POLICY))
    return first.group_by("journey_id", *STRATUM, "arm", "version", "date", "matures_on").agg(entries=pl.len().cast(pl.Int64)).collect()


def _read(portfolio: Portfolio) -> list[Asked]:
    """Say how each metric is read. A goal has no before: who had reached it does not enter."""
    every = [*map(asked, portfolio.measured), Asked(GOAL, GOAL, is_counted=True), Asked(GOAL_VALUE, GOAL_VALUE)]
    if portfolio.measurement.cap_at is None or portfolio.money is None:
        return every
    money = next(metric for metric in every if metric.id == portfolio.money)
    capped = Asked(money.id, _CAPPED, money.x)
    return [capped, Asked(f"{money.id}{UNCAPPED}", money.y, money.x), *(metric for metric in every if metric is not money)]


def _there(metrics: Sequence[Asked], rows: pl.LazyFrame) -> list[Asked]:
    """Return the metrics that outcomes have."""
    columns = {*rows.collect_schema().names(), _CAPPED}
    return [metric for metric in metrics if metric.y in columns]


_CAPPED = "money:capped"


def _cut_off(rows: pl.LazyFrame, portfolio: Portfolio, money: str | None = None) -> pl.LazyFrame:
    """Add money cut off at the quantile of both arms of its journey."""
    name, at = money or portfolio.money, portfolio.measurement.cap_at
    if name is None or at is None:
        return rows
    most = rows.group_by("journey_id").agg(pl.col(name).quantile(at, "linear").alias("most"))
    return (
        rows.join(most, on="journey_id", how="left")
        .with_columns(pl.when(pl.col(name).is_not_null()).then(pl.min_horizontal(name, "most")).alias(_CAPPED))
        .drop("most")
    )


_SUMS: Mapping[str, pl.DataType] = {
    "journey_id": pl.String(),
    "slice": pl.String(),
    "metric": pl.String(),
    "holdout": pl.Float64(),
    "holdout_version": pl.String(),
    IS_TREATED: pl.Boolean(),
    **NUMBERS,
    "from_on": pl.Date(),
    "to_on": pl.Date(),
    "delivered": pl.Int64(),
    "reached": pl.Int64(),
}
"""What is compared, one row per comparison, stratum and arm. Of whole journeys: ``delivered`` messages, and customers ``reached``."""


def _compared(sums: pl.DataFrame, metrics: Sequence[Asked], portfolio: Portfolio) -> pl.DataFrame:
    """One row per comparison: of whole journeys, of the system and the run rate also where there is no estimate."""
    is_treated, is_whole = pl.col(IS_TREATED), pl.col("slice") == ALL
    facts = sums.group_by(*COMPARISON).agg(
        *STRETCH,
        delivered=pl.when(is_whole.first()).then(pl.col("delivered").filter(is_treated).sum()),
        sent_to_control=pl.when(is_whole.first()).then(pl.col("reached").filter(~is_treated).sum()),
    )
    is_told = is_whole | (pl.col("journey_id") == SYSTEM) | pl.col("effect").is_not_null()
    return compare(sums, metrics, portfolio.measurement.expected_customers).filter(is_told).join(facts, on=COMPARISON)


def _of_journeys(mature: pl.LazyFrame, metrics: Sequence[Asked], portfolio: Portfolio) -> Iterator[pl.DataFrame]:
    """Yield sums of every metric of every journey; and of the primary one by what was true at entry."""
    told_of = {journey.id: metrics_of(journey, portfolio) for journey in portfolio.journeys}
    journeys = {
        metric: [name for name, ids in told_of.items() if metric.id.removesuffix(UNCAPPED) in ids] for metric in _there(metrics, mature)
    }
    read = [metric for metric, names in journeys.items() if names]
    if not read:
        return
    rows = _cut_off(mature, portfolio).with_columns(
        (pl.col("arm") == TREATED).alias(IS_TREATED), month=pl.col("entered_on").dt.month_start(), **_variant(portfolio)
    )
    messages = (pl.col("delivered").sum().cast(pl.Int64), (pl.col("delivered") > 0).sum().cast(pl.Int64).alias("reached"))
    arm = ["journey_id", *STRATUM, IS_TREATED]
    cells = add_up(rows, [*arm, "month", "preferred_channel", *_variant(portfolio)], read, *messages)
    whole = again(cells, arm, pl.col("delivered", "reached").sum())
    of_metric = [(pl.col("metric") == metric.id) & pl.col("journey_id").is_in(journeys[metric]) for metric in read]
    yield whole.filter(pl.any_horizontal(of_metric)).with_columns(slice=pl.lit(ALL))
    primary = next((metric for metric in read if metric.id == (portfolio.money or GOAL)), None)
    if primary is not None:
        cut = cells.filter((pl.col("metric") == primary.id) & pl.col("journey_id").is_in(list(told_of)))
        yield from _cuts(cut, arm)
        held_out = cut.filter(~pl.col(IS_TREATED))["journey_id"].unique().to_list()
        yield _of_segments(rows, held_out, primary, arm)
        yield from _of_variants(cut, portfolio, arm)


def _variant(portfolio: Portfolio) -> dict[str, pl.Expr]:
    """Return the variant, and its share, of journeys that have some; a step's variant of others is but a label."""
    names = [journey.id for journey in portfolio.journeys if journey.variants]
    return {
        name: pl.when(pl.col("journey_id").is_in(names)).then(name) for name in ("variant", "variant_probability", "shares_since") if names
    }


def _cuts(cells: pl.DataFrame, arm: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield sums by the month of entry, and by the channel that was preferred then."""
    for column, name in {
        "month": pl.col("month").dt.strftime("month:%Y-%m"),
        "preferred_channel": "channel:" + pl.col("preferred_channel"),
    }.items():
        cut = cells.drop_nulls(column).with_columns(slice=name)
        yield again(cut, [*arm, "slice"])


def _of_segments(rows: pl.LazyFrame, journeys: Sequence[str], metric: Asked, arm: Sequence[str]) -> pl.DataFrame:
    """Add up by segment at entry, of journeys with somebody held out: combinations of segments first, which are fewer than customers."""
    # By a hash of each list: to group by lists, or by what they look like as text, takes half as long again.
    digest = pl.col("segments").list.eval(pl.element().hash()).list.sum().alias("digest")
    combined = rows.filter(pl.col("journey_id").is_in(journeys)).with_columns(digest)
    cells = add_up(combined, [*arm, "digest"], [metric], pl.col("segments").first()).drop("digest")
    sums = []
    for part in cells.iter_slices(_AT_ONCE):
        single = part.filter(pl.col("segments").list.len() > 0).explode("segments")
        sums.append(again(single, [*arm, "segments"]))
    total = again(pl.concat(sums), [*arm, "segments"]) if sums else cells
    return total.select(pl.concat_str(pl.lit("segment:"), "segments").alias("slice"), pl.exclude("segments"))


_AT_ONCE = 200_000
"""Combinations taken apart at once: where each customer has one of their own, all of them would not fit into memory."""


def _of_variants(cells: pl.DataFrame, portfolio: Portfolio, arm: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield sums of the treated of each variant, and where control stands those of the first one listed."""
    for journey in portfolio.journeys:
        first, *further = [share.id for share in journey.variants] or [""]
        treated = cells.filter((pl.col("journey_id") == journey.id) & pl.col(IS_TREATED)) if further else cells.clear()
        is_first = pl.col("variant") == first
        # Whoever entered under other shares is another stratum. Of two variants the share of one says that of the other; of more, the day
        # since which they have been drawn by theirs.
        share = pl.col("variant_probability").round(6)
        since = pl.col("shares_since").cast(pl.Int32).cast(pl.Float64)
        stratum = pl.when(is_first).then(share).otherwise((1 - share).round(6)) if len(further) == 1 else since
        for variant in further:
            two = treated.filter(pl.col("variant").is_in([first, variant])).with_columns(
                (~is_first).alias(IS_TREATED),
                slice=pl.lit(f"variant:{first}/{variant}"),
                holdout=stratum,
            )
            yield again(two, [*arm, "slice"])


def _once(long: pl.LazyFrame, merged: pl.DataFrame, alone: pl.DataFrame | None) -> pl.LazyFrame:
    """Keep one row per customer there is by now, journey by journey and of the system; none of those who are in two arms."""
    is_out = ((pl.col("arms") > 1) & (pl.col("names") > 1)) | pl.col("is_again")
    who = ["journey_id", "customer_id"]
    kept = long.filter(~pl.col("contaminated")).join(merged.filter(is_out).select(who).lazy(), on=who, how="anti")
    if alone is None:
        return kept
    is_system = pl.col("journey_id") == SYSTEM
    system = kept.filter(is_system).join(alone.lazy(), on=["customer_id", "entered_on"], how="semi")
    return pl.concat([kept.filter(~is_system), system])


def _in_the_long_run(long: pl.LazyFrame, metrics: Sequence[Asked], portfolio: Portfolio) -> Iterator[pl.DataFrame]:
    """Yield sums of the long run: of each journey its primary metric, of the system every metric that there is money or responses of."""
    read = [metric for metric in _there(metrics, long) if metric.id not in {GOAL, GOAL_VALUE}]
    if not read:
        return
    is_system = pl.col("journey_id") == SYSTEM
    is_held_out = pl.col("held_out_by").eq_missing(POLICY)
    counted = long.filter(pl.when(is_system).then(pl.col("version") == portfolio.version).otherwise(~is_held_out)).with_columns(
        pl.when(is_system).then(~is_held_out).otherwise(pl.col("arm") == TREATED).alias(IS_TREATED)
    )
    sums = add_up(_cut_off(counted, portfolio), ["journey_id", *STRATUM, IS_TREATED], read)
    ids = [journey.id for journey in portfolio.journeys]
    is_primary = (pl.col("metric") == pl.lit(portfolio.money, pl.String)) & pl.col("journey_id").is_in(ids)
    yield sums.filter(is_system | is_primary).with_columns(slice=pl.lit(LONG))


def _of_late(alone: pl.DataFrame, portfolio: Portfolio, today: date) -> Iterator[pl.DataFrame]:
    """Yield sums of the run rate: what all who had been in any journey by then brought in the last days."""
    if portfolio.money is None:
        return
    counted = alone.lazy().filter(pl.col("entered_on") <= today - timedelta(days=RUN_RATE_DAYS))
    rows = counted.with_columns(
        (pl.col("arm") == TREATED).alias(IS_TREATED),
        journey_id=pl.lit(SYSTEM),
        slice=pl.lit(RUN_RATE),
        holdout_version=pl.lit(None, pl.String),
    )
    is_capped = portfolio.measurement.cap_at is not None
    metric = Asked(portfolio.money, _CAPPED if is_capped else "money", "money_before")
    yield add_up(_cut_off(rows, portfolio, "money"), ["journey_id", "slice", *STRATUM, IS_TREATED], [metric])


def _alone(recent: pl.DataFrame) -> pl.DataFrame:
    """Return one row per customer there is by now: the first of those that became one; none where these were in two arms."""
    rows = recent.lazy()
    of_one_arm = rows.group_by("known_as").agg(arms=pl.col("arm").n_unique()).filter(pl.col("arms") == 1)
    alone = rows.join(of_one_arm, on="known_as", how="semi").sort("entered_on", "customer_id")
    return alone.unique("known_as", keep="first", maintain_order=True).collect()


def _unmeasured(portfolio: Portfolio) -> pl.DataFrame:
    """One row per journey and metric, and for the system: so that each has a verdict, if only that it is too early."""
    rows = [
        {"journey_id": journey.id, "metric": metric, "slice": ALL}
        for journey in portfolio.journeys
        for metric in metrics_of(journey, portfolio)
    ]
    rows += [{"journey_id": SYSTEM, "metric": portfolio.money, "slice": LONG}] if portfolio.money else []
    counts = dict.fromkeys(("treated", "control", "treated_nonzero", "control_nonzero"), pl.lit(0, pl.Int64))
    schema = {"journey_id": pl.String, "metric": pl.String, "slice": pl.String}
    estimates = {column.name: pl.lit(None, pl.Float64) for column in UPLIFT.columns if column.dtype == pl.Float64() and column.is_nullable}
    counted = {"delivered": pl.lit(None, pl.Int64), "sent_to_control": pl.lit(None, pl.Int64)}
    hidden = dict.fromkeys(("customers", "freedom", "error_unadjusted", "half_customers"), pl.lit(None, pl.Float64))
    return (
        pl.DataFrame(rows, schema=schema)
        .with_columns(**counts, **counted, **estimates, **hidden, from_on=pl.lit(None, pl.Date), to_on=pl.lit(None, pl.Date))
        .drop(_JOINED)
    )


_JOINED = ["sample_ratio_p"]


def _counted(entered: pl.DataFrame, recent: pl.DataFrame | None, portfolio: Portfolio, today: date) -> pl.DataFrame:
    """One row per journey and slice: how many first entries have not matured yet."""
    is_short = (pl.col("date") + pl.duration(days=portfolio.measurement.long_days + portfolio.measurement.late_days)) > today
    immature = entered.group_by("journey_id").agg(
        pl.col("entries").filter(pl.col("matures_on") > today).sum().alias(ALL), pl.col("entries").filter(is_short).sum().alias(LONG)
    )
    rows = immature.unpivot([ALL, LONG], index="journey_id", variable_name="slice", value_name="immature")
    if recent is None:
        return rows
    days = {LONG: portfolio.measurement.long_days + portfolio.measurement.late_days, RUN_RATE: RUN_RATE_DAYS}
    system = [(SYSTEM, name, int((recent["entered_on"] > today - timedelta(days=late)).sum())) for name, late in days.items()]
    return pl.concat([rows, pl.DataFrame(system, schema=rows.schema, orient="row")])


def _ratios(entered: pl.DataFrame, recent: pl.DataFrame | None) -> pl.DataFrame:
    """One row per journey, and the system: how likely so uneven a split of first entries would be by chance."""
    counts = [entered.group_by("journey_id", *STRATUM, "arm").agg(pl.col("entries").sum())]
    if recent is not None:
        system = recent.group_by("holdout", "arm").agg(entries=pl.len().cast(pl.Int64))
        counts.append(system.with_columns(journey_id=pl.lit(SYSTEM), holdout_version=pl.lit(None, pl.String)))
    strata = (
        pl.concat(counts, how="diagonal_relaxed")
        .group_by("journey_id", *STRATUM)
        .agg(pl.col("entries").filter(pl.col("arm") == arm).sum().cast(pl.Float64).alias(arm) for arm in (TREATED, CONTROL))
        .sort("journey_id", *STRATUM)
    )
    ids = strata["journey_id"].unique(maintain_order=True)
    place = strata["journey_id"].rle_id().to_numpy().astype(np.int64)
    treated, control, holdout = (strata[name].to_numpy() for name in (TREATED, CONTROL, "holdout"))
    p = estimate.sample_ratio(treated, control, holdout, place)
    return pl.DataFrame({"journey_id": ids, "sample_ratio_p": p}, schema={"journey_id": pl.String, "sample_ratio_p": pl.Float64}).fill_nan(
        None
    )


def _per_day(entered: pl.DataFrame, recent: pl.DataFrame | None, today: date) -> Mapping[str, float]:
    """Return how many customers enter a journey, or any of the system's, on a day, at the present pace."""
    is_late = pl.col("date") > today - timedelta(days=RUN_RATE_DAYS)
    rows = entered.filter(is_late).group_by("journey_id").agg(pl.col("entries").sum())
    counts: dict[str, int] = dict(rows.iter_rows())
    if recent is not None:
        counts[SYSTEM] = int((recent["entered_on"] > today - timedelta(days=RUN_RATE_DAYS)).sum())
    return {name: count / RUN_RATE_DAYS for name, count in counts.items()}


def _began(entered: pl.DataFrame, portfolio: Portfolio) -> date | None:
    """Return the day on which the version of today began, where another one was before it."""
    earlier = entered.filter(pl.col("version") != portfolio.version)["date"].max()
    if not isinstance(earlier, date):
        return None
    first = entered.filter((pl.col("version") == portfolio.version) & (pl.col("date") > earlier))["date"].min()
    return first if isinstance(first, date) else earlier + timedelta(days=1)
