"""What must hold of what was measured and of what came of entries (SPEC 10): each promise finds the rows that break it.

What belongs here: that nothing is lost on the way from events to outcomes, and what comes too late. What does not: what outcomes say of
journeys (``uplift``), what promises share (``promise``).
"""

import math
from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from atc_pipeline.customers import documents
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import Metric, Portfolio
from atc_pipeline.promises.promise import Promise
from atc_pipeline.rules.measured import LARGEST_DAY, micro_of
from atc_pipeline.rules.numbers import MICRO
from atc_pipeline.rules.ours import is_ours
from atc_pipeline.rules.people import survivors, whose
from atc_pipeline.tables.store import Store

LATE_DAYS = 28
"""Over so many days of arrival it is counted what came too late."""
MOST_LATE, LEAST_LIKELY = 0.01, 0.001
"""Of all days on which something was measured, the share that may come too late; and how unlikely a difference between arms may be."""
_OF_A_MICRO_UNIT = 4e-7
"""Money is a real number of units: what is less than half of a micro-unit apart is the same."""
_DATED_AHEAD = 2
"""Days by which an event may be dated after its arrival, rounded up."""


def money_apart(paid: pl.LazyFrame, kept: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers and event dates of which another amount is kept than the events have, both in micro-units.

    ``paid``: ``date``, ``customer_id``, ``event_date`` and ``in_events``, a row for each event. ``kept``: the same with ``kept``.
    """
    key = ["date", "customer_id", "event_date"]
    there = paid.group_by(key).agg(pl.col("in_events").cast(pl.Int128).sum().clip(-LARGEST_DAY, LARGEST_DAY))
    return (
        there.join(kept.select(*key, pl.col("kept").cast(pl.Int128)), on=key, how="full", coalesce=True)
        .with_columns(pl.col("in_events", "kept").fill_null(0))
        .filter(pl.col("in_events") != pl.col("kept"))
        .with_columns(pl.col("in_events", "kept").cast(pl.Float64) / MICRO)
        .sort(key)
    )


def unmatched_outcomes(due: pl.LazyFrame, outcomes: pl.LazyFrame) -> pl.LazyFrame:
    """Return entries whose day has come without an outcome, and outcomes of no such entry.

    ``due``: the entries, of any days, that mature on a day of the ``outcomes``.
    """
    key = ["date", "journey_id", "customer_id", "entered_on"]
    ripe = due.select("journey_id", "customer_id", entered_on="date", date="matures_on").select(*key, is_due=pl.lit(value=True))
    written = outcomes.select(*key, is_told=pl.lit(value=True))
    both = ripe.join(written, on=key, how="full", coalesce=True).filter(pl.col("is_due").is_null() | pl.col("is_told").is_null())
    return both.with_columns(pl.col("is_due", "is_told").fill_null(value=False)).sort(key)


def misadded_money(with_money: pl.LazyFrame, paid_by_then: pl.LazyFrame) -> pl.LazyFrame:
    """Return outcomes whose money is not what their customers' events of these days add up to.

    ``with_money``: outcomes of a day, with their ``money``. ``paid_by_then``: ``customer_id`` as known on it, ``event_date`` and
    ``micro``, of what had arrived.
    """
    key = ["journey_id", "customer_id", "entered_on"]
    theirs = paid_by_then.select(known_as="customer_id", event_date="event_date", micro=pl.col("micro").cast(pl.Int128))
    days = (pl.col("event_date") - pl.col("entered_on")).dt.total_days()
    in_events = (
        with_money.join(theirs, on="known_as")
        .filter(days.is_between(1, pl.col("window_days")))
        .group_by(key)
        .agg(in_events=pl.col("micro").sum())
    )
    apart = (pl.col("money") - pl.col("in_events")).abs()
    return (
        with_money.select("date", *key, "known_as", "money")
        .join(in_events, on=key, how="left")
        .with_columns(in_events=pl.col("in_events").fill_null(0).cast(pl.Float64) / MICRO)
        .filter(apart > pl.max_horizontal(pl.lit(_OF_A_MICRO_UNIT), pl.col("in_events").abs() * 1e-15))
        .sort(key)
    )


def _late_shares(late: pl.LazyFrame, matured: pl.LazyFrame) -> pl.DataFrame:
    """One row per day of arrival and arm on which something came too late, where that is too much, or not alike in both arms.

    ``late``: ``date`` of arrival and ``arm``, a row for each day of a customer that came too late for an entry. ``matured``: ``arm`` and
    ``measured_days`` of the entries that matured on the same days.
    """
    counts = {arm: [0, 0] for arm in ("control", "treated")}
    for column, frame in ((0, late.group_by("arm").agg(pl.len())), (1, matured.group_by("arm").agg(pl.col("measured_days").sum()))):
        for arm, number in frame.collect().iter_rows():
            counts[arm][column] += number
    total = sum(map(sum, counts.values()))
    share = sum(came[0] for came in counts.values()) / total if total else 0.0
    likely = _likelihood(*counts["control"], *counts["treated"])
    if share <= MOST_LATE and likely >= LEAST_LIKELY:
        return pl.DataFrame()
    by_arm = pl.DataFrame(
        [(arm, came[0] / sum(came) if sum(came) else 0.0) for arm, came in sorted(counts.items())],
        schema={"arm": pl.String, "share_of_days": pl.Float64},
        orient="row",
    )
    by_day = late.group_by("date", "arm").agg(late_days=pl.len().cast(pl.Int64)).collect()
    return by_day.join(by_arm, on="arm").with_columns(p=pl.lit(likely)).sort("date", "arm")


def _likelihood(late: int, in_time: int, other_late: int, other_in_time: int) -> float:
    """Say how likely so different shares would be by chance (chi-square of the four numbers, one degree of freedom)."""
    rows, columns = (late + in_time, other_late + other_in_time), (late + other_late, in_time + other_in_time)
    if 0 in (*rows, *columns):
        return 1.0
    square = sum(rows) * (late * other_in_time - in_time * other_late) ** 2 / (math.prod(rows) * math.prod(columns))
    return math.erfc(math.sqrt(square / 2))


def _money(portfolio: Portfolio) -> Metric | None:
    return next((metric for metric in portfolio.measured if metric.id == portfolio.money), None)


def _money_apart(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """Read the money of the events again, but for what is only counted of some items, or under a condition."""
    money = _money(portfolio)
    if money is None or money.selector.each is not None or money.selector.where is not None:
        return pl.DataFrame()
    apart = []
    for day in days:
        if store.has("raw_events", day) and store.has("customer_metrics", day):
            kept = store.lazy("customer_metrics", day).select("date", "customer_id", "event_date", kept=micro_of(money))
            apart.append(money_apart(_events_of(store, portfolio, money, day), kept).collect())
    return pl.concat(apart) if apart else pl.DataFrame()


def _events_of(store: Store, portfolio: Portfolio, money: Metric, day: date) -> pl.LazyFrame:
    assert money.summed is not None  # it is a sum, or refused when it is loaded
    people = store.lazy("identity_map", day)
    is_meant = pl.col("event").is_in(list(money.selector.events)) if money.selector.events else ~is_ours()
    events = survivors(store.lazy("raw_events", day).filter(is_meant).with_columns(whose(portfolio.blocked)), absorbed(people))
    # Events of ours make nobody a customer: those of people nobody knows are kept of nobody.
    rows = events.join(people.select("customer_id"), on="customer_id", how="semi").collect()
    value = pl.col(documents.column(money.summed, pl.Float64()))
    read = rows.with_columns(documents.read_fields(rows["properties"], [(money.summed, pl.Float64())]))
    micro = (value * MICRO).round().cast(pl.Int64)
    return read.lazy().select("date", "customer_id", "event_date", in_events=micro)


def _incomplete_outcomes(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    written = [day for day in days if store.has("journey_outcomes", day)]
    outcomes = store.scan("journey_outcomes", written)
    if outcomes is None:
        return pl.DataFrame()
    entries = store.scan("journey_entries", store.days("journey_entries"), may_lack=True)
    parts = []
    if entries is not None:
        due = entries.filter(pl.col("matures_on").is_in(written))
        parts.append(unmatched_outcomes(due, outcomes).collect())
    money = _money(portfolio)
    if money is not None:
        money_of = outcomes.select("date", "journey_id", "customer_id", "entered_on", "known_as", "window_days", money=money.id).collect()
        parts += [_misadded(store, money, money_of.filter(pl.col("date") == day), day) for day in written]
    return pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()


def _misadded(store: Store, money: Metric, outcomes: pl.DataFrame, day: date) -> pl.DataFrame:
    first = outcomes["entered_on"].min()
    if first is None:
        return pl.DataFrame()
    assert isinstance(first, date)
    arrived = [at for at in store.days("customer_metrics") if first - timedelta(days=_DATED_AHEAD) < at <= day]
    metrics = store.scan("customer_metrics", arrived, may_lack=True)
    if metrics is None:
        return pl.DataFrame()
    theirs = survivors(metrics.select("customer_id", "event_date", micro=micro_of(money)), absorbed(store.lazy("identity_map", day)))
    of_them = theirs.join(outcomes.lazy().select(customer_id="known_as").unique(), on="customer_id", how="semi")
    return misadded_money(outcomes.lazy(), of_them).collect()


def _late_events(store: Store, _: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """Look at the last days of arrival up to the last of these days: what comes too late does so bit by bit."""
    written = [day for day in days if store.has("journey_outcomes", day)]
    if not written:
        return pl.DataFrame()
    last = max(written)
    arrivals = [last - timedelta(days=ago) for ago in range(LATE_DAYS)]
    metrics = store.scan("customer_metrics", arrivals, may_lack=True)
    matured = store.scan("journey_outcomes", arrivals, may_lack=True)
    if metrics is None:
        return pl.DataFrame()
    assert matured is not None
    came = metrics.filter(pl.col("event_date") < pl.col("date")).select("date", "customer_id", "event_date")
    now = absorbed(store.lazy("identity_map", last)).collect().lazy()
    late = survivors(came, now).unique().collect()
    first = late["event_date"].min()
    if first is None:
        return pl.DataFrame()
    assert isinstance(first, date)
    every = store.scan("journey_outcomes", [day for day in store.days("journey_outcomes") if first <= day <= last], may_lack=True)
    assert every is not None
    over = every.select("arm", "window_days", "entered_on", matured_on="date", customer_id="known_as")
    days_after = (pl.col("event_date") - pl.col("entered_on")).dt.total_days()
    too_late = (
        late.lazy()
        .join(survivors(over, now), on="customer_id")
        .filter(days_after.is_between(1, pl.col("window_days")), pl.col("matured_on") < pl.col("date"))
    )
    return _late_shares(too_late.select("date", "arm"), matured.select("arm", "measured_days"))


PROMISES = (
    Promise(
        "customer_metrics",
        "money_is_that_of_the_events",
        "The money that is kept of a customer and date is what the events that arrived have, to the micro-unit (SPEC 10); a metric with "
        "where or each is not read again. If it fails, make customer_metrics of the day again.",
        _money_apart,
    ),
    Promise(
        "journey_outcomes",
        "outcomes_complete",
        "Every entry whose window and days waited are over has its outcome on that day, and no other has; its money is what its customer's "
        "events of the window add up to, to the micro-unit (SPEC 10). If it fails, run decide_again for the day and those after it.",
        _incomplete_outcomes,
    ),
    Promise(
        "journey_outcomes",
        "late_share",
        f"Of what was measured in the windows of entries, in {LATE_DAYS} days at most 1 % came after they had matured, and as much of "
        "control as of treated (SPEC 10). What comes too late changes nothing: wait longer with measurement.late_days, or have the source "
        "send earlier; or run decide_again from the days on which these entries matured.",
        _late_events,
        is_blocking=False,
    ),
)
"""In the order of the lineage."""
