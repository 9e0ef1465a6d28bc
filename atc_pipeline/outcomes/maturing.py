"""What came of entries, once that is known: of those whose windows are over (SPEC 10).

What belongs here: goals, sums and endings of the entries that mature on a day, by what arrived by then; and of first entries in the long
run. What does not: which days are read for it (``days.maturing``), what an entry is (``entries``), or what is made of it (``uplift``).
"""

from collections.abc import Iterable, Sequence
from datetime import date

import polars as pl

from atc_pipeline.journeys.portfolio import SYSTEM, Goal, Metric, Portfolio, goal_metric
from atc_pipeline.outcomes.tables import journey_outcomes, long_outcomes
from atc_pipeline.outcomes.windows import sums_in
from atc_pipeline.rules.arms import CONTROL, POLICY, TREATED
from atc_pipeline.rules.measured import SENT, number_of
from atc_pipeline.rules.people import survivors

ENTERED_ON = pl.col("date").alias("entered_on")


def known_by_now(entries: pl.DataFrame, absorbed: pl.LazyFrame) -> pl.DataFrame:
    """Number entries, and add ``known_as``: the customer that each is by now (``identity.map.absorbed``)."""
    now = survivors(entries.lazy().select("customer_id"), absorbed).collect()["customer_id"].alias("known_as")
    return entries.with_columns(now).with_row_index("row")


def next_entries(entries: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    """One row per numbered entry whose customer has entered the journey again since: ``row`` and ``next_on``, the first such day.

    ``later``: ``known_as``, ``journey_id`` and ``date`` of all entries since the earliest of these.
    """
    again = entries.lazy().join(later.lazy().select("known_as", "journey_id", next_on="date"), on=["known_as", "journey_id"])
    return again.filter(pl.col("next_on") > pl.col("date")).group_by("row").agg(pl.col("next_on").min()).sort("row").collect()


def endings(entries: pl.DataFrame, state: pl.DataFrame, again: pl.DataFrame) -> pl.DataFrame:
    """One row per numbered entry: ``ended_on`` and ``ended_reason``; null while it runs.

    ``state``: the memory by now, of customers as they are. ``again``: ``row``, ``ended_on`` and ``ended_reason`` of those entered again
    since, which that memory has forgotten; where there is none of them, two names entered one after the other what is one journey by now.
    """
    now = state.lazy().select("journey_id", "ended_on", "ended_reason", known_as="customer_id")
    return (
        entries.lazy()
        .select("row", "known_as", "journey_id")
        .join(now, on=["known_as", "journey_id"], how="left")
        .join(again.lazy().select("row", on="ended_on", reason="ended_reason"), on="row", how="left")
        .select(
            "row",
            ended_on=pl.coalesce("on", "ended_on"),
            ended_reason=pl.when(pl.col("on").is_not_null()).then("reason").otherwise("ended_reason"),
        )
        .sort("row")
        .collect()
    )


def mature(
    entries: pl.DataFrame, metrics: pl.DataFrame, again: pl.DataFrame, ended: pl.DataFrame, contaminated: pl.Series, portfolio: Portfolio
) -> pl.DataFrame:
    """One row per entry that matures: ``journey_outcomes``, but for its ``date``.

    ``entries``: numbered (``known_by_now``). ``metrics``: what was measured of their customers, as they are known by now. ``again``:
    ``next_entries``. ``ended``: ``endings``. ``contaminated``: the numbers of those that do not count.
    """
    spans = entries.lazy().select(
        "row", customer_id="known_as", after="date", until=pl.col("date") + pl.duration(days=pl.col("window_days"))
    )
    sums = sums_in(metrics.lazy(), spans, portfolio.measured)
    return (
        entries.lazy()
        .with_columns(
            ENTERED_ON,
            contaminated=pl.col("row").is_in(contaminated.implode()),
            expected=pl.when(pl.col("arm") == TREATED).then("propensity").otherwise("baseline"),
        )
        .join(sums, on="row", how="left")
        .join(_goals(entries, metrics, portfolio), on="row", how="left")
        .join(ended.lazy(), on="row", how="left")
        .join(_delivered(entries, metrics, again), on="row", how="left")
        .join(_days_measured(spans, metrics.lazy()), on="row", how="left")
        .with_columns(pl.col("delivered", "measured_days").fill_null(0))
        .select(name for name in journey_outcomes(portfolio).schema if name != "date")
        .collect()
    )


def goals_of(portfolio: Portfolio, journeys: Iterable[str]) -> list[Metric]:
    """Return what is counted of the goals of these journeys."""
    wanted = {goal_metric(goal.event, value) for goal in _goals_by_journey(portfolio, journeys).values() for value in (None, goal.value)}
    return [metric for metric in portfolio.goal_metrics if metric.id in wanted]


def _goals_by_journey(portfolio: Portfolio, journeys: Iterable[str]) -> dict[str, Goal]:
    named = set(journeys)
    return {journey.id: journey.goal for journey in portfolio.journeys if journey.goal is not None and journey.id in named}


def _goals(entries: pl.DataFrame, metrics: pl.DataFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """One row per entry of a journey with a goal: ``goal``, ``goal_on``, ``goal_value``.

    The goal is the journey's of today, as the decision knows it; its days are those of the entry.
    """
    parts = [pl.LazyFrame(schema={"row": pl.UInt32(), "goal": pl.Boolean(), "goal_on": pl.Date(), "goal_value": pl.Float64()})]
    by_id = {metric.id: metric for metric in portfolio.goal_metrics}
    goals = _goals_by_journey(portfolio, entries["journey_id"].unique())
    for event, value in sorted({(goal.event, goal.value) for goal in goals.values()}, key=str):
        journeys = [id_ for id_, goal in goals.items() if (goal.event, goal.value) == (event, value)]
        theirs = entries.lazy().filter(pl.col("journey_id").is_in(journeys), pl.col("goal_within_days").is_not_null())
        spans = theirs.select(
            "row", customer_id="known_as", after="date", until=pl.col("date") + pl.duration(days=pl.col("goal_within_days"))
        )
        reached = (
            metrics.lazy()
            .filter(pl.col(number_of(by_id[goal_metric(event)])) > 0)
            .join(spans, on="customer_id")
            .filter(pl.col("event_date") > pl.col("after"), pl.col("event_date") <= pl.col("until"))
            .group_by("row")
            .agg(goal_on=pl.col("event_date").min())
        )
        rows = spans.select("row").join(reached, on="row", how="left").with_columns(goal=pl.col("goal_on").is_not_null())
        if value is None:
            rows = rows.with_columns(goal_value=pl.lit(None, pl.Float64()))
        else:
            worth = by_id[goal_metric(event, value)]
            rows = rows.join(sums_in(metrics.lazy(), spans, [worth]).select("row", goal_value=worth.id), on="row", how="left")
        parts.append(rows.select("row", "goal", "goal_on", "goal_value"))
    return pl.concat(parts)


def _delivered(entries: pl.DataFrame, metrics: pl.DataFrame, again: pl.DataFrame) -> pl.LazyFrame:
    """One row per entry that messages were sent for: ``delivered``. A message goes out after its day: those of the next entry not before
    the day after it."""
    sent = (
        metrics.lazy()
        .select("customer_id", "event_date", SENT)
        .filter(pl.col(SENT).list.len() > 0)
        .explode(SENT, empty_as_null=False, keep_nulls=False)
        .unnest(SENT)
    )
    spans = entries.lazy().select("row", "journey_id", "date", customer_id="known_as").join(again.lazy(), on="row", how="left")
    is_of_entry = (pl.col("event_date") > pl.col("date")) & (pl.col("next_on").is_null() | (pl.col("event_date") <= pl.col("next_on")))
    return sent.join(spans, on=["customer_id", "journey_id"]).filter(is_of_entry).group_by("row").agg(delivered=pl.col("n").sum())


def _days_measured(spans: pl.LazyFrame, metrics: pl.LazyFrame) -> pl.LazyFrame:
    """One row per entry in whose window something was measured: on how many days."""
    within = metrics.select("customer_id", "event_date").join(spans, on="customer_id")
    within = within.filter(pl.col("event_date") > pl.col("after"), pl.col("event_date") <= pl.col("until"))
    return within.group_by("row").agg(measured_days=pl.col("event_date").n_unique().cast(pl.Int64))


def in_two_arms(entries: pl.DataFrame, firsts: pl.DataFrame, alike: Sequence[str] = ("known_as", "journey_id")) -> pl.Series:
    """Return the numbers of those first entries whose customer has first entries in both arms, by now.

    ``firsts``: all first entries so far of customers who ever had several names. ``alike``: what such entries have in common.
    """
    both = firsts.lazy().group_by(alike).agg(arms=pl.col("arm").n_unique()).filter(pl.col("arms") > 1)
    is_first = pl.col("entry_number") == 1
    return entries.lazy().filter(is_first).join(both, on=list(alike), how="semi").sort("row").collect()["row"]


def in_the_long_run(entries: pl.DataFrame, metrics: pl.DataFrame, contaminated: pl.Series, portfolio: Portfolio) -> pl.DataFrame:
    """One row per first entry whose long window has closed: ``long_outcomes``, but for its ``date``.

    ``entries``: numbered, of a journey or, as ``system`` (``as_system``), of whoever entered any for the first time.
    """
    long_days = portfolio.measurement.long_days
    until = pl.col("date") + pl.duration(days=pl.lit(long_days))
    spans = entries.lazy().select("row", customer_id="known_as", after="date", until=until)
    sums = sums_in(metrics.lazy(), spans, portfolio.measured)
    return (
        entries.lazy()
        .with_columns(
            ENTERED_ON,
            contaminated=pl.col("row").is_in(contaminated.implode()),
            long_days=pl.lit(long_days, pl.Int64()),
        )
        .join(sums, on="row", how="left")
        .select(name for name in long_outcomes(portfolio).schema if name != "date")
        .collect()
    )


def as_system(entries: pl.DataFrame) -> pl.DataFrame:
    """Return entries as those of all journeys together: control is who was held out of all, and the share is that of ``policy.holdout``."""
    is_held_out = (pl.col("held_out_by") == POLICY).fill_null(value=False)
    return entries.with_columns(
        journey_id=pl.lit(SYSTEM),
        arm=pl.when(is_held_out).then(pl.lit(CONTROL)).otherwise(pl.lit(TREATED)),
        held_out_by=pl.when(is_held_out).then(pl.lit(POLICY)),
        holdout="policy_holdout",
        holdout_version=pl.lit(None, pl.String()),
        entry_number=pl.lit(1, pl.Int64()),
    )


def triggers(entries: pl.DataFrame, earlier: pl.LazyFrame) -> pl.DataFrame:
    """Return the entries of customers who had entered nothing since the portfolio's ``version`` began.

    ``earlier``: ``customer_id`` of everybody who had.
    """
    return entries.lazy().join(earlier.select("customer_id"), on="customer_id", how="anti", maintain_order="left").collect()


def dated(rows: Sequence[pl.DataFrame], table: pl.Schema, key: Sequence[str], today: date) -> pl.DataFrame:
    """Make rows the day's table: dated, in the order of its columns, sorted by its key."""
    whole = pl.concat(rows, how="diagonal_relaxed") if rows else pl.DataFrame(schema=table)
    return whole.with_columns(pl.lit(today, pl.Date()).alias("date")).select(*table).cast(table).sort(key)
