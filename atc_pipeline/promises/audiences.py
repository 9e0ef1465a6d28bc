"""What must hold of audiences and of what destinations were told (SPEC 9): each promise finds the rows that break it."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from atc_pipeline.activation.identifiers import is_hashed
from atc_pipeline.activation.tables import ACKNOWLEDGED, HELD, REMOVE, TROUBLES
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.promises.promise import Promise
from atc_pipeline.rules import reach
from atc_pipeline.tables.store import Store

SERVED_FROM = 1_000
"""Members below which ad platforms do not serve an audience."""


def wrong_members(
    members: pl.LazyFrame, assignments: pl.LazyFrame, memberships: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio
) -> pl.LazyFrame:
    """Return members who are not treated, not in the journey or segment, without consent, or without anything to be known by."""
    channels = {channel.id: channel for channel in portfolio.channels}
    who = ["date", "customer_id"]
    arms = assignments.select(*who, "journey_id", "arm")
    wrong = [members.filter(~pl.col("identifiers").str.contains(r":\"[0-9a-f]{64}\"")).select(*who, "audience_id", fault=pl.lit("unknown"))]
    known = [audience.id for audience in portfolio.audiences]
    wrong.append(members.filter(~pl.col("audience_id").is_in(known)).select(*who, "audience_id", fault=pl.lit("no such audience")))
    for audience in portfolio.audiences:
        own = members.filter(pl.col("audience_id") == audience.id).select(*who, "audience_id")
        if audience.journey is not None:
            there = arms.filter((pl.col("arm") == "treated") & (pl.col("journey_id") == audience.journey))
            wrong.append(own.join(there, on=who, how="anti").with_columns(fault=pl.lit("not treated in the journey")))
        else:
            control = arms.filter(pl.col("arm") == "control")
            of_segment = memberships.filter(pl.col("segment_id") == audience.segment)
            wrong.append(own.join(control, on=who, how="semi").with_columns(fault=pl.lit("control")))
            wrong.append(own.join(of_segment, on=who, how="anti").with_columns(fault=pl.lit("not in the segment")))
        refused = dict(reach.obstacles(channels[audience.channel]))["no_consent"]
        may = profiles.filter(~refused).select(who)
        wrong.append(own.join(may, on=who, how="anti").with_columns(fault=pl.lit("no consent")))
    return pl.concat(wrong).sort("date", "audience_id", "customer_id", "fault")


def _wrong_members(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    tables = ("audience_members", "journey_assignments", "micro_segment_memberships", "customer_profiles")
    frames = [store.scan(table, days) for table in tables]
    members, assignments, memberships, profiles = frames
    if members is None or assignments is None or memberships is None or profiles is None:
        return pl.DataFrame()
    return wrong_members(members, assignments, memberships, profiles, portfolio).collect()


def misdirected(syncs: pl.LazyFrame, members: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """Return who is to be added and is no member, or removed from where the audience is kept and is one."""
    who = ["date", "audience_id", "customer_id"]
    is_removal = pl.col("operation") == REMOVE
    to = [(audience.id, destination) for audience in portfolio.audiences for destination in audience.to]
    places = pl.LazyFrame(to, schema={"audience_id": pl.String, "destination": pl.String}, orient="row")
    shown = syncs.select(*who, "destination", "operation", "status")
    astray = shown.filter(~is_removal).join(members.select(who), on=who, how="anti")
    still = shown.filter(is_removal).join(places, on=["audience_id", "destination"], how="semi")
    return pl.concat([astray, still.join(members.select(who), on=who, how="semi")]).sort("date", "audience_id", "customer_id")


def _misdirected(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    syncs, members = store.scan("audience_syncs", days), store.scan("audience_members", days)
    if syncs is None or members is None:
        return pl.DataFrame()
    # What was acknowledged in an earlier run of the day stays in the table, whoever came and went since.
    return misdirected(syncs.filter(pl.col("status") != ACKNOWLEDGED), members, portfolio).collect()


def _plain_identifiers(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """One row per day, audience and column: how many customers have something there that is hashed already."""
    profiles = store.scan("customer_profiles", days, may_lack=True)
    if profiles is None:
        return pl.DataFrame()
    there = set(profiles.collect_schema().names())
    rows = [
        profiles.filter(is_hashed(column)).group_by("date").agg(audience_id=pl.lit(audience.id), column=pl.lit(column), hashed=pl.len())
        for audience in portfolio.audiences
        for column in audience.match
        if column in there
    ]
    return pl.concat([frame.cast({"hashed": pl.Int64}) for frame in rows]).sort("date", "audience_id").collect() if rows else pl.DataFrame()


def _small(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """One row per day and audience that has too few members to be served."""
    members = store.scan("audience_members", days)
    if members is None:
        return pl.DataFrame()
    each = pl.LazyFrame({"audience_id": [audience.id for audience in portfolio.audiences]}, schema={"audience_id": pl.String})
    counts = members.group_by("date", "audience_id").agg(members=pl.len())
    there = pl.LazyFrame({"date": list(days)}, schema={"date": pl.Date}).join(each, how="cross")
    all_counts = there.join(counts, on=["date", "audience_id"], how="left").with_columns(pl.col("members").fill_null(0))
    return all_counts.filter(pl.col("members") < SERVED_FROM).sort("date", "audience_id").collect()


def _shrinking(store: Store, _: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """One row per day, audience and destination that is held: how many would leave."""
    frames = [
        frame.filter(pl.col("status") == HELD).group_by("date", "audience_id", "destination").agg(would_leave=pl.len())
        for frame in (store.scan("audience_syncs", days), _answers(store, days))
        if frame is not None
    ]
    return pl.concat(frames).sort("date", "audience_id", "destination").collect() if frames else pl.DataFrame()


def _troubles(store: Store, _: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """One row per day, audience, destination, status and reason: how many customers are not where they should be."""
    frames = [frame for frame in (store.scan("audience_syncs", days), _answers(store, days)) if frame is not None]
    if not frames:
        return pl.DataFrame()
    shown = pl.concat([frame.select("date", "audience_id", "destination", "status", "reason") for frame in frames])
    troubles = shown.filter(pl.col("status").is_in(TROUBLES)).group_by("date", "audience_id", "destination", "status", "reason")
    return troubles.len("customers").sort("date", "audience_id", "destination", "status", "reason").collect()


def _answers(store: Store, days: Sequence[date]) -> pl.LazyFrame | None:
    answers = store.scan("answers", days)
    return None if answers is None else answers.with_columns(audience_id=pl.lit("answer"), reason=pl.lit(None, pl.String))


PROMISES = (
    Promise(
        "audience_members",
        "members_may_be_told_of",
        "Every member is treated and in the journey, or in the segment and not held out; has given consent; and has an address to be known "
        "by, hashed (SPEC 9.10). If it fails, make audience_members of the day again: no destination is told of it.",
        _wrong_members,
    ),
    Promise(
        "audience_members",
        "identifiers_are_plain",
        "Nobody has an address that is hashed already: it is left out, since hashed again it would match nobody. Look at where the "
        "column comes from.",
        _plain_identifiers,
        is_blocking=False,
    ),
    Promise(
        "audience_members",
        "audiences_are_large_enough",
        "Every audience has 1,000 members or more: ad platforms serve no smaller one. Look at the journey's or segment's condition, or "
        "leave it to grow.",
        _small,
        is_blocking=False,
    ),
    Promise(
        "audience_syncs",
        "differences_are_of_members",
        "Who is added is a member, and who is removed is none (SPEC 9.10). If it fails, make audience_members and audience_syncs of the "
        "day again (job synchronize).",
        _misdirected,
    ),
    Promise(
        "audience_syncs",
        "audience_shrinks",
        "No audience would lose more than 20 % and more than 100 of its members but by consent and erasure. Those of one that would are "
        "held: see why they left; where that is right, run the day again (job synchronize) with `accept_removal: [<audience>]`.",
        _shrinking,
        is_blocking=False,
        is_error=True,
    ),
    Promise(
        "audience_syncs",
        "destinations_have_acknowledged",
        "Every destination acknowledged what it was told. See the reasons, set the destination right and run the day again (job "
        "synchronize); whatever was not acknowledged is told again by the next run, too.",
        _troubles,
        is_blocking=False,
        is_error=True,
    ),
)
"""In the order of the lineage."""
