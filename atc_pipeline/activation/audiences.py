"""Audiences: who is to be in each at the end of the day, and who entered and left the journeys (SPEC 9.10).

What belongs here: members, and what is told of them. What does not: what differs from what a destination has (``differences``).
"""

from collections.abc import Iterable
from datetime import date

import polars as pl

from atc_pipeline.activation.identifiers import NOTHING, identifiers
from atc_pipeline.activation.tables import AUDIENCE_CHANGES, AUDIENCE_MEMBERS
from atc_pipeline.journeys.portfolio import Audience, Portfolio
from atc_pipeline.rules import reach
from atc_pipeline.rules.lots import BUCKETS, bucket, hexadecimal, xxh64


def write_members(
    profiles: pl.LazyFrame,
    assignments: pl.LazyFrame,
    memberships: pl.LazyFrame,
    arms: pl.LazyFrame,
    portfolio: Portfolio,
    *,
    today: date,
) -> pl.LazyFrame:
    """One row per audience and member, sorted: treated, with the channel's consent, with something to be known by.

    ``memberships``: ``micro_segment_memberships``. ``arms``: who draws lots by another name than their own (``identity.map.arms``).
    """
    if not portfolio.audiences:
        return pl.LazyFrame(schema=AUDIENCE_MEMBERS.schema)
    rows = [
        _told(
            _eligible(audience, assignments, memberships, arms, portfolio).join(profiles, on="customer_id", how="inner"),
            audience,
            portfolio,
        )
        for audience in portfolio.audiences
    ]
    return pl.concat(rows).with_columns(pl.lit(today).alias("date")).select(*AUDIENCE_MEMBERS.schema).sort(AUDIENCE_MEMBERS.key)


def columns_of_members(portfolio: Portfolio) -> set[str]:
    """Name what audiences need to know of a customer."""
    consents = {name for _, consent in consents_of(portfolio) for name in consent.meta.root_names()}
    return {"customer_id", *consents, *(name for audience in portfolio.audiences for name in (*audience.match, *audience.fields))}


def consents_of(portfolio: Portfolio) -> list[tuple[str, pl.Expr]]:
    """Return the consent that each audience asks for, by the rule of its channel."""
    channels = {channel.id: channel for channel in portfolio.channels}
    return [(audience.id, ~dict(reach.obstacles(channels[audience.channel]))["no_consent"]) for audience in portfolio.audiences]


def audience_changes(assignments: pl.LazyFrame, *, today: date) -> pl.LazyFrame:
    """One row per journey and customer who entered or left it today."""
    entered = assignments.filter(pl.col("decision").is_in(["start", "switch"])).select(
        "journey_id", "customer_id", change=pl.lit("entered")
    )
    left = assignments.filter(pl.col("ended_journey_id").is_not_null()).select(
        pl.col("ended_journey_id").alias("journey_id"), "customer_id", change=pl.lit("left")
    )
    rows = pl.concat([entered, left]).with_columns(pl.lit(today).alias("date"))
    return rows.select(*AUDIENCE_CHANGES.schema).sort(AUDIENCE_CHANGES.key)


def checksum(parts: Iterable[str]) -> pl.Expr:
    """Return 16 hexadecimal digits of what these columns say; two nulls are alike."""
    return hexadecimal(xxh64(pl.concat_str([pl.col(part).fill_null("") for part in parts], separator="\n")))


def _eligible(
    audience: Audience, assignments: pl.LazyFrame, memberships: pl.LazyFrame, arms: pl.LazyFrame, portfolio: Portfolio
) -> pl.LazyFrame:
    """One row per customer who may be a member, by what was decided: ``customer_id``."""
    if audience.journey is not None:
        is_in_it = (pl.col("journey_id") == audience.journey) & (pl.col("arm") == "treated")
        return assignments.filter(is_in_it).select("customer_id")
    control = assignments.filter(pl.col("arm") == "control").select("customer_id")
    of_segment = memberships.filter(pl.col("segment_id") == audience.segment).select("customer_id")
    treated = of_segment.join(control, on="customer_id", how="anti")
    held_out = round(portfolio.policy.holdout * BUCKETS)
    if not held_out:
        return treated
    # Who is in no journey has no arm, and may still be one of those who are held out of everything.
    drawn_by = treated.join(arms, on="customer_id", how="left").with_columns(arm_id=pl.coalesce("arm_id", "customer_id"))
    return drawn_by.filter(bucket(portfolio.version) >= held_out).select("customer_id")


def _told(customers: pl.LazyFrame, audience: Audience, portfolio: Portfolio) -> pl.LazyFrame:
    fields = pl.struct(audience.fields).struct.json_encode() if audience.fields else pl.lit(None, dtype=pl.String)
    return (
        customers.filter(dict(consents_of(portfolio))[audience.id])
        .select("customer_id", identifiers=identifiers(audience.match, portfolio), fields=fields)
        .filter(pl.col("identifiers") != NOTHING)
        .with_columns(audience_id=pl.lit(audience.id), checksum=checksum(["identifiers", "fields"]))
    )
