"""What must hold of what was read of events, of profiles and of micro-segments (SPEC 1 to 4): each promise finds the rows that break it."""

from collections.abc import Sequence
from datetime import date
from functools import partial

import polars as pl

from atc_pipeline.customers import coverage
from atc_pipeline.customers.activity import asked_for
from atc_pipeline.journeys.portfolio import EVERYONE_ELSE, Portfolio
from atc_pipeline.promises.promise import Promise, a_day_later, absorbed_on, after_first_day, between, table
from atc_pipeline.rules.ours import is_ours
from atc_pipeline.tables.store import Store


def miscounted_events(activity: pl.LazyFrame, events: pl.LazyFrame) -> pl.LazyFrame:
    """Return days on which other events were counted than those that are not ours."""
    counted = activity.group_by("date").agg(counted=pl.col("events").sum())
    theirs = events.group_by("date").agg(not_ours=(~is_ours()).sum().cast(pl.Int64))
    return theirs.join(counted, on="date").filter(pl.col("counted") != pl.col("not_ours")).sort("date")


def uncovered_customers(profiles: pl.LazyFrame, memberships: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers in no micro-segment, and customers in the residual segment beside another one."""
    counted = memberships.group_by("date", "customer_id").agg(segments=pl.len(), is_residual=(pl.col("segment_id") == EVERYONE_ELSE).any())
    return (
        profiles.select("date", "customer_id")
        .join(counted, on=["date", "customer_id"], how="left")
        .filter(pl.col("segments").is_null() | (pl.col("is_residual") & (pl.col("segments") > 1)))
    )


def lost_customers(profiles: pl.LazyFrame, yesterday: pl.LazyFrame, absorbed: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers of yesterday who are gone though nobody absorbed them, or are still there though somebody did, and new
    ones who were first seen on another day."""
    before = a_day_later(yesterday.select("date", "customer_id"), absorbed).unique().with_columns(was_there=pl.lit(value=True))
    now = profiles.select("date", "customer_id", "first_seen_on")
    return (
        now.join(before, on=["date", "customer_id"], how="full", coalesce=True)
        .filter(pl.col("first_seen_on").is_null() | (pl.col("was_there").is_null() != (pl.col("first_seen_on") == pl.col("date"))))
        .select("date", "customer_id", "first_seen_on", "was_there")
    )


def _failed_fits(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    models = store.scan("purchase_models", days)
    later = pl.col("date") > portfolio.starts_on  # on the first day there is nothing to fit on
    return (
        pl.DataFrame()
        if models is None
        else models.filter(pl.col("note").is_not_null() & later).select("date", "note", "fitted_on").collect()
    )


MOST_NAMES = 1000
"""Names of events, the most frequent of a day, among which a similar one is looked for."""


def _never_found(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """Look at all days of the lake: what the last day of a run has not brought, an earlier one may have."""
    last = max(days)
    counts = store.scan("feature_coverage", [day for day in store.days("feature_coverage") if day <= last])
    return pl.DataFrame() if counts is None else coverage.never_found(counts, asked_for(portfolio), partial(_occurring, store, last))


def _occurring(store: Store, day: date) -> list[str]:
    if not store.has("raw_events", day):
        return []
    names = store.lazy("raw_events", day).select("event").drop_nulls().group_by("event").len()
    return names.sort("len", "event", descending=[True, False]).head(MOST_NAMES).collect()["event"].to_list()


PROMISES = (
    Promise(
        "customer_activity",
        "nothing_of_ours_is_counted",
        "What is counted of a day are the events that arrived and are not ours: what we send must not feed what we know (SPEC 1). If it "
        "fails, make customer_activity of the day again, and the days after it.",
        between(miscounted_events, table("customer_activity"), table("raw_events")),
    ),
    Promise(
        "feature_coverage",
        "values_are_readable",
        "At most 1 % of the values of a trait or signal, over the days of a run, are of a type that cannot be read; these are skipped "
        "(SPEC 1). Look the message up in raw_events, and have the source send numbers as numbers and lists as lists, "
        "or name another property in journeys.yaml.",
        between(coverage.unreadable, table("feature_coverage")),
        is_blocking=False,
    ),
    Promise(
        "feature_coverage",
        "consent_is_understood",
        "What is said about consent is yes or no, and about a channel of ours (SPEC 3). What is neither grants nothing; Unsubscribed from "
        "another channel withdraws all. Look the message up in raw_events, and have the source send true or false.",
        between(coverage.unclear_consent, table("feature_coverage")),
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
        after_first_day(lost_customers, "customer_profiles", absorbed_on),
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
        between(uncovered_customers, table("customer_profiles"), table("micro_segment_memberships")),
    ),
)
"""In the order of the lineage."""
