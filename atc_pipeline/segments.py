"""Micro-segments: who is in which one today, and since when (SPEC 4).

What belongs here: memberships, and the residual segment that makes them cover everybody. What does not: journeys.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from atc_pipeline.journeys.portfolio import EVERYONE_ELSE, Segment

MEMBERSHIPS = {
    "date": pl.Date(),
    "segment_id": pl.String(),
    "customer_id": pl.String(),
    "member_since": pl.Date(),
}


def assign_segments(profiles: pl.LazyFrame, yesterday: pl.LazyFrame | None, segments: Sequence[Segment], *, today: date) -> pl.LazyFrame:
    """One row per micro-segment and customer who is in it today; whoever is in none is in ``everyone_else``.

    ``yesterday``: the memberships of the day before (None on the first day of the lake, which counts as a first day).
    """
    in_any = pl.any_horizontal([segment.condition.expr for segment in segments]) if segments else pl.lit(value=False)
    flags = {segment.id: segment.condition.expr for segment in segments} | {EVERYONE_ELSE: ~in_any}
    members = (
        profiles.select(pl.col("customer_id").alias("customer:"), **flags)
        .unpivot(index="customer:", variable_name="segment_id", value_name="is_member")
        .filter("is_member")
        .rename({"customer:": "customer_id"})
    )
    since = pl.lit(today) if yesterday is None else pl.col("member_since").fill_null(today)
    if yesterday is not None:
        members = members.join(yesterday.select("segment_id", "customer_id", "member_since"), on=["segment_id", "customer_id"], how="left")
    return members.with_columns(pl.lit(today).alias("date"), member_since=since).select(*MEMBERSHIPS).sort("segment_id", "customer_id")
