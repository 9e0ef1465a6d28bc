"""Micro-segments: who is in which one today, and since when (SPEC 4).

What belongs here: memberships, and the residual segment that makes them cover everybody. What does not: journeys.
"""

import hashlib
from collections.abc import Collection, Sequence
from datetime import date

import polars as pl

from atc_pipeline.customers.features import definition_of
from atc_pipeline.customers.tables import MICRO_SEGMENT_MEMBERSHIPS
from atc_pipeline.journeys.portfolio import EVERYONE_ELSE, Portfolio, Segment
from atc_pipeline.rules.people import inherited


def definitions(portfolio: Portfolio) -> dict[str, str]:
    """Return what each micro-segment is defined by, as a short fingerprint: its condition, and by what its columns are made."""
    parts = {segment.id: definition_of(segment.condition, portfolio) for segment in portfolio.segments}
    written = {name: hashlib.sha256(repr(what).encode()).hexdigest()[:12] for name, what in parts.items()}
    return written | {EVERYONE_ELSE: hashlib.sha256(repr(sorted(written.values())).encode()).hexdigest()[:12]}


def assign_segments(
    profiles: pl.LazyFrame,
    yesterday: pl.LazyFrame | None,
    segments: Sequence[Segment],
    *,
    today: date,
    absorbed: pl.LazyFrame | None = None,
    only: Collection[str] | None = None,
) -> pl.LazyFrame:
    """One row per micro-segment and customer who is in it today; whoever is in none is in ``everyone_else``.

    ``yesterday``: the memberships of the day before (None on the first day of the lake, which counts as a first day).
    ``absorbed``: ``identity.map.absorbed`` since today: whoever absorbed a member goes on with the longer spell.
    ``only``: the micro-segments of which there are rows; None = all.
    """
    in_any = pl.any_horizontal([segment.condition.expr for segment in segments]) if segments else pl.lit(value=False)
    tests = {segment.id: segment.condition.expr for segment in segments} | {EVERYONE_ELSE: ~in_any}
    flags = [test.alias(name) for name, test in tests.items() if only is None or name in only]
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
