"""What must hold of who is who (SPEC 2): each promise finds the rows that break it."""

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from atc_pipeline.identity.map import complete
from atc_pipeline.identity.tables import IDENTITY_MAP
from atc_pipeline.promises.promise import Promise, between, table
from atc_pipeline.rules.people import name_of_id
from atc_pipeline.tables.store import Store


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


def _map_before(store: Store, days: Sequence[date]) -> pl.LazyFrame:
    """Read the maps of the days before, also those made before there was an ``arm_id``."""
    before = store.scan("identity_map", [day - timedelta(days=1) for day in days], may_lack=True)
    return pl.LazyFrame(schema=IDENTITY_MAP.schema) if before is None else complete(before)


PROMISES = (
    Promise(
        "identity_map",
        "ids_lead_to_survivors",
        "No id is said to be a customer who was absorbed, none of the day before is missing, and everybody is drawn by one name, the "
        "same as the day before (SPEC 2). If it fails, make identity_map of the day again, from the first day that fails.",
        between(broken_identities, table("identity_map"), _map_before),
    ),
)
