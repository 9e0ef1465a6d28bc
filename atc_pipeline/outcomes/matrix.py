"""The segment matrix: micro-segments x days, how large each is and which journey serves most of it.

What belongs here: counting. What does not: its picture (``pictures.matrix``), who is in a segment.
"""

from datetime import date

import polars as pl

from atc_pipeline.outcomes.tables import SEGMENT_MATRIX


def segment_matrix(memberships: pl.LazyFrame, yesterday: pl.LazyFrame | None, assignments: pl.LazyFrame, *, today: date) -> pl.LazyFrame:
    """One row per micro-segment with customers today or yesterday: how many, who came and went, and the journey most of them are in.

    ``served`` counts those in any journey, ``served_most`` those in ``journey_id`` (ties: the least id), control included.
    """
    sizes = memberships.group_by("segment_id").agg(
        pl.len().cast(pl.Int64).alias("customers"), (pl.col("member_since") == today).sum().cast(pl.Int64).alias("entered")
    )
    before = (memberships.clear() if yesterday is None else yesterday).group_by("segment_id").agg(before=pl.len().cast(pl.Int64))
    served = (
        memberships.select("segment_id", "customer_id")
        .join(assignments.select("customer_id", "journey_id").drop_nulls("journey_id"), on="customer_id")
        .group_by("segment_id", "journey_id")
        .agg(served_most=pl.len().cast(pl.Int64))
        .sort(["segment_id", "served_most", "journey_id"], descending=[False, True, False])
        .group_by("segment_id")
        .agg(pl.col("served_most").sum().alias("served"), pl.col("journey_id", "served_most").first())
    )
    return (
        sizes.join(before, on="segment_id", how="full", coalesce=True)
        .join(served, on="segment_id", how="left")
        .with_columns(pl.col("customers", "entered", "before", "served", "served_most").fill_null(0))
        # Whoever was there yesterday or came today, and is not there today, has left.
        .with_columns(pl.lit(today).alias("date"), left=pl.col("before") + pl.col("entered") - pl.col("customers"))
        .select(*SEGMENT_MATRIX.schema)
        .sort("segment_id")
    )
