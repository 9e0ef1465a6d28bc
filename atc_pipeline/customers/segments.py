"""Micro-segments: who is in which one today, and since when (SPEC 4).

What belongs here: memberships, and the residual segment that makes them cover everybody. What does not: journeys.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from atc_pipeline.customers.tables import MICRO_SEGMENT_MEMBERSHIPS
from atc_pipeline.journeys.portfolio import EVERYONE_ELSE, Segment
from atc_pipeline.rules.people import inherited


def assign_segments(
    profiles: pl.LazyFrame,
    yesterday: pl.LazyFrame | None,
    segments: Sequence[Segment],
    *,
    today: date,
    absorbed: pl.LazyFrame | None = None,
) -> pl.LazyFrame:
    """One row per micro-segment and customer who is in it today; whoever is in none is in ``everyone_else``.

    ``yesterday``: the memberships of the day before (None on the first day of the lake, which counts as a first day).
    ``absorbed``: ``identity.map.absorbed`` since today: whoever absorbed a member goes on with the longer spell.
    """
    in_any = pl.any_horizontal([segment.condition.expr for segment in segments]) if segments else pl.lit(value=False)
    flags = [*(segment.condition.expr.alias(segment.id) for segment in segments), (~in_any).alias(EVERYONE_ELSE)]
    members = (
        profiles.select(pl.col("customer_id").alias("customer:"), *flags)
        .unpivot(index="customer:", variable_name="segment_id", value_name="is_member")
        .filter("is_member")
        .rename({"customer:": "customer_id"})
    )
    key = ["segment_id", "customer_id"]
    if yesterday is None:
        members = members.with_columns(member_since=pl.lit(today))
    else:
        spells = yesterday.select("segment_id", "customer_id", "member_since")
        members = members.join(spells, on=key, how="left")
        if absorbed is not None:
            members = members.join(inherited(spells, absorbed, "segment_id", "member_since"), on=key, how="left")
            members = members.with_columns(member_since=pl.min_horizontal("member_since", "inherited"))
        members = members.with_columns(pl.col("member_since").fill_null(today))
    return members.with_columns(pl.lit(today).alias("date")).select(*MICRO_SEGMENT_MEMBERSHIPS.schema).sort(*key)
