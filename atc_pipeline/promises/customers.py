"""What must hold of customers and their micro-segments (SPEC 2, 4): each promise finds the rows that break it."""

import polars as pl

from atc_pipeline.journeys.portfolio import EVERYONE_ELSE
from atc_pipeline.promises.promise import a_day_later
from atc_pipeline.rules.people import name_of_id


def uncovered_customers(profiles: pl.LazyFrame, memberships: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers in no micro-segment, and customers in the residual segment beside another one."""
    counted = memberships.group_by("date", "customer_id").agg(segments=pl.len(), is_residual=(pl.col("segment_id") == EVERYONE_ELSE).any())
    return (
        profiles.select("date", "customer_id")
        .join(counted, on=["date", "customer_id"], how="left")
        .filter(pl.col("segments").is_null() | (pl.col("is_residual") & (pl.col("segments") > 1)))
    )


def broken_identities(identity_map: pl.LazyFrame, yesterday: pl.LazyFrame) -> pl.LazyFrame:
    """Return ids that are said to be a customer who was absorbed that day, days on which the map has fewer ids than the day before, and
    customers who are drawn by more than one name, or by another one than the day before.

    A day is compared with what changed on it, not with all that ever did: earlier days were checked by themselves.
    """
    name = name_of_id()
    key = ["date", "customer_id"]
    is_new = pl.col("valid_from") == pl.col("date")
    is_absorbed = is_new & (pl.col("customer_id") != name)
    astray = identity_map.join(identity_map.filter(is_absorbed).select("date", customer_id=name), on=key, how="semi")
    before = yesterday.group_by(pl.col("date").dt.offset_by("1d")).agg(ids_before=pl.len())
    shrunk = identity_map.group_by("date").agg(ids=pl.len()).join(before, on="date").filter(pl.col("ids") < pl.col("ids_before"))
    changed = identity_map.filter(is_new).select(key).unique()
    arms = identity_map.join(changed, on=key, how="semi").group_by(key).agg(pl.col("arm_id").unique().sort().alias("arms"))
    arms_before = yesterday.filter(pl.col("customer_id") == name).select(
        pl.col("date").dt.offset_by("1d"), "customer_id", arm_before=pl.coalesce("arm_id", "customer_id")
    )
    arm = pl.col("arms").list.first()
    split = arms.join(arms_before, on=key, how="left").filter((pl.col("arms").list.len() > 1) | (arm != pl.col("arm_before")))
    return pl.concat([astray, shrunk, split.with_columns(pl.col("arms").list.join(", "))], how="diagonal")


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
