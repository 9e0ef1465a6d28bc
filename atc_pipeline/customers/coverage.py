"""How much of what a portfolio asks for is in the events: matched, read, and skipped because it cannot be read (SPEC 1).

What belongs here: the table that tells of it by day, and what in it is worth a warning. What does not: reading events
(``activity``).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from typing import Any

import polars as pl

from atc_pipeline.customers.tables import FEATURE_COVERAGE

ANY = "*"
"""Stands for the event's name where every event is meant."""

CONSENT, SUBSCRIPTIONS = "consent.", "consent.*"
"""What the feature of a channel's consent begins with, and the feature of ``Subscribed``, ``Unsubscribed`` and complaints. No trait has a
dot."""
BOUNCES = "bounces."
"""The feature of addresses that have bounced."""


MOST_SKIPPED = 0.01
"""The share of a feature's values that may be skipped in silence."""

A_WEEK = 7
"""Days of a lake after which a condition that never held is worth a warning."""
ALIKE = 0.75
"""From which similarity on (``difflib``) the name of one event is offered for another."""


@dataclass(frozen=True)
class Feature:
    """What is told of: a trait, an interest or intent, a side of the engagement, a goal; and which signal of it, from 1."""

    name: str
    part: int = 1


@dataclass(frozen=True)
class Counted:
    """What was found of a feature in some events; ``events`` by name. ``sample``: message and shape, the least of all."""

    feature: Feature
    events: Mapping[str, int]
    matched: int
    read: int
    skipped: int
    sample: tuple[str, str] | None


def counted(feature: Feature, events: Mapping[str, int], matched: int, read: int, skipped: Sequence[pl.DataFrame]) -> Counted:
    """Count; ``skipped``: one row per value that cannot be read, where it is ``said`` and its ``shape``."""
    samples = [frame.select("said", "shape").sort("said", "shape").row(0) for frame in skipped if frame.height]
    return Counted(feature, events, matched, read, sum(frame.height for frame in skipped), min(samples, default=None))


def summed(counts: Iterable[Counted], day: date) -> pl.DataFrame:
    """Return ``FEATURE_COVERAGE`` of a day, of what was found in its parts."""
    rows: dict[tuple[str, int, str], list[Any]] = {}
    for count in counts:
        for event, number in count.events.items():
            row = rows.setdefault((count.feature.name, count.feature.part, event), [0, 0, 0, 0, None])
            more = (number, count.matched, count.read, count.skipped)
            row[:4] = [had + new for had, new in zip(row[:4], more, strict=True)]
            row[4] = min((sample for sample in (row[4], count.sample) if sample is not None), default=None)
    records = [(day, *key, *row[:4], *((None, None) if row[4] is None else (row[4][1], row[4][0]))) for key, row in sorted(rows.items())]
    return pl.DataFrame(records, schema=FEATURE_COVERAGE.schema, orient="row")


def gathered(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return ``FEATURE_COVERAGE`` of a day, of that of each shard of the customers: as ``summed``, of all their counts."""
    sample = ["sample_message_id", "sample"]
    return (
        pl.concat(parts)
        .group_by("date", *FEATURE_COVERAGE.key)
        .agg(
            pl.col("events", "matched", "read", "skipped").sum(),
            *(pl.col(name).sort_by(sample, nulls_last=True).first() for name in sample),
        )
        .select(*FEATURE_COVERAGE.schema)
        .sort(FEATURE_COVERAGE.key)
    )


def parts(coverage: pl.LazyFrame) -> pl.LazyFrame:
    """One row per day, feature and part: what was found of it in all its events."""
    same = pl.col("matched", "read", "skipped", "sample", "sample_message_id").first()
    return (
        coverage.sort("date", "feature", "part", "event")
        .group_by("date", "feature", "part", maintain_order=True)
        .agg(pl.col("event").str.join(", ").alias("events_named"), pl.col("events").sum(), same)
    )


def unreadable(coverage: pl.LazyFrame) -> pl.LazyFrame:
    """One row per feature of which more than ``MOST_SKIPPED`` of the values of these days were skipped, with the last sample."""
    skipped, read = pl.col("skipped").sum(), pl.col("read").sum()
    return (
        parts(coverage)
        .filter(~_is_consent())
        .group_by("feature", "part", maintain_order=True)
        .agg(
            pl.col("date").max(),
            skipped,
            share=skipped / (skipped + read),
            looks_like=pl.col("sample").drop_nulls().last(),
            message_id=pl.col("sample_message_id").drop_nulls().last(),
        )
        .filter((pl.col("skipped") > 0) & (pl.col("share") > MOST_SKIPPED))  # of no values the share is NaN, and that is more
        .sort("share", "feature", "part", descending=[True, False, False])
    )


def unclear_consent(coverage: pl.LazyFrame) -> pl.LazyFrame:
    """One row per day and channel with words about consent that are neither yes nor no, or about a channel that is not ours."""
    return (
        parts(coverage)
        .filter(_is_consent() & (pl.col("skipped") > 0))
        .select("date", "feature", words="skipped", looks_like="sample", message_id="sample_message_id")
        .sort("date", "feature")
    )


def never_found(coverage: pl.LazyFrame, asked: Iterable[Feature], occurring: Callable[[], Sequence[str]]) -> pl.DataFrame:
    """One row per feature and event named that never matched in all these days, or that never came while a similar name does.

    Of an event that did come, what is asked of it has a week to hold: a shop's Sunday is not its Monday.

    ``occurring``: names of events that occur, asked for only if something was never found.
    """
    keys = {"feature": pl.String, "part": pl.Int64}
    wanted = pl.LazyFrame([(feature.name, feature.part) for feature in dict.fromkeys(asked)], schema=keys, orient="row")
    ever = (
        coverage.filter(~_is_consent())
        .join(wanted, on=["feature", "part"], how="semi")
        .group_by("feature", "part", "event")
        .agg(pl.col("date").max(), pl.col("events", "matched").sum(), days=pl.col("date").n_unique())
        .sort("feature", "part", "event")
        .collect()
    )
    is_missing = (pl.col("matched") == 0) & ((pl.col("events") == 0) | (pl.col("days") >= A_WEEK))
    missing = ever.filter(is_missing | ((pl.col("events") == 0) & (pl.col("event") != ANY)))
    names = occurring() if missing.height else []
    rows = []
    for row in missing.iter_rows(named=True):
        other_names = [name for name in names if name != row["event"]]
        close = get_close_matches(row["event"], other_names, 1, ALIKE) if row["events"] == 0 else []
        if (row["matched"] > 0 or row["feature"] == BOUNCES) and not close:
            continue  # a part of several events, one of which is yet to come; and that nothing bounces is no fault
        finding = "never came" if row["events"] == 0 else f"came {row['events']:,} times, and what is asked of it never held"
        rows.append((row["date"], row["feature"], row["part"], row["event"], finding, close[0] if close else None))
    schema = {"date": pl.Date, **keys, "event": pl.String, "found": pl.String, "there_is": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _is_consent() -> pl.Expr:
    return pl.col("feature").str.starts_with(CONSENT)
