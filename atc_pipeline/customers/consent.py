"""Consent: what counts as a word about it, and which of a customer's words stand (SPEC 3.2, ADR 18).

A grant stands if it is later than every withdrawal, both by its own time and by arrival. Of the withdrawals the two latest
moments are therefore enough; of the grants, those that stand and are not earlier than another one in both. Any number of
words, in any order, merge to that: later words only take grants away.

What belongs here: words and how they merge. What does not: reading events, and who may be written to (``rules.reach``).
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.tables.table import MOMENT

ARRIVED = pl.Int64()
"""When a word arrived: first by its arrival day, then by when it was received, in one number (``_tell_arrival``)."""
GRANTS = pl.List(pl.Struct({"at": MOMENT, "arrived": ARRIVED}))

_FIRST_DAY = date(2000, 1, 1)  # of any calendar
_DAY = 2**46
"""Numbers for the words of one arrival day, so that 358 years of days fit 63 bits: a microsecond each, or 2.2 years before its end. What
was received earlier still arrived first on that day, all at once."""


def columns(name: str) -> dict[str, pl.DataType]:
    """Columns and types of what is remembered of a channel's words: the latest withdrawal, by its own time and by arrival; grants."""
    return {f"{name}.withdrawn": MOMENT, f"{name}.withdrawn_arrived": ARRIVED, f"{name}.granted": GRANTS}


def words(name: str, *, is_granted: pl.Expr, is_withdrawn: pl.Expr, arrival: date, timezone: str) -> list[pl.Expr]:
    """Return the columns of a word said at ``timestamp``, of an event that arrived on a day.

    Of what arrived on one day, it arrived when it was received; where that is not told, when it happened. A word from the future then
    has no time of arrival but its day: a grant came first on it, a withdrawal last.
    """
    withdrawn_arrived, granted = _tell_arrival(arrival, timezone)
    return [
        pl.when(is_withdrawn).then("timestamp").cast(MOMENT).alias(f"{name}.withdrawn"),
        pl.when(is_withdrawn).then(withdrawn_arrived).cast(ARRIVED).alias(f"{name}.withdrawn_arrived"),
        pl.when(is_granted).then(granted).cast(GRANTS).alias(f"{name}.granted"),
    ]


@lru_cache(maxsize=1)
def _tell_arrival(arrival: date, timezone: str) -> tuple[pl.Expr, pl.Expr]:
    """Return when a withdrawal arrived, and a grant with its times; the same of every channel."""
    first = (arrival - _FIRST_DAY).days * _DAY
    end = datetime.combine(arrival + timedelta(days=1), time(), ZoneInfo(timezone)).astimezone(UTC)
    happened = pl.when(pl.col("timestamp") < pl.lit(end, MOMENT)).then("timestamp")
    before_end = (pl.lit(end, MOMENT) - pl.coalesce("received_at", happened)).dt.total_microseconds()
    arrived = first + _DAY - before_end.clip(1, _DAY - 1)
    granted = pl.concat_list(pl.struct(at="timestamp", arrived=arrived.fill_null(first)))
    return arrived.fill_null(first + _DAY - 1), granted


def is_said(name: str) -> pl.Expr:
    """True in rows that hold a word about the channel."""
    return pl.col(f"{name}.withdrawn").is_not_null() | pl.col(f"{name}.granted").is_not_null()


def merged(rows: pl.LazyFrame, keys: Sequence[str], name: str) -> pl.LazyFrame:
    """One row per key with a word: its rows' words merged."""
    withdrawn, withdrawn_arrived, granted = columns(name)
    word_rows = rows.select(*keys, withdrawn, withdrawn_arrived, granted).filter(is_said(name))
    latest = word_rows.group_by(*keys).agg(pl.col(withdrawn).max(), pl.col(withdrawn_arrived).max())
    stands = pl.col(withdrawn).is_null() | ((pl.col("at") > pl.col(withdrawn)) & (pl.col("arrived") >= pl.col(withdrawn_arrived)))
    arrived_before = pl.col("arrived").cum_max().shift(1).over(keys)
    grants = (
        word_rows.select(*keys, granted)
        .explode(granted, empty_as_null=False, keep_nulls=False)
        .unnest(granted)
        .join(latest, on=list(keys), how="left")
        .filter(stands)
        .sort(*keys, "at", "arrived", descending=[False] * len(keys) + [True, True])
        .filter(arrived_before.is_null() | (pl.col("arrived") > arrived_before))
        .group_by(*keys, maintain_order=True)
        .agg(pl.struct("at", "arrived").alias(granted))
    )
    return latest.join(grants, on=list(keys), how="left")


def is_given(name: str) -> pl.Expr:
    """True where a grant stands, false where none does but consent was withdrawn, null where nothing was said."""
    stands = pl.col(f"{name}.granted").list.len() > 0
    return pl.when(stands).then(pl.lit(value=True)).when(pl.col(f"{name}.withdrawn").is_not_null()).then(pl.lit(value=False))
