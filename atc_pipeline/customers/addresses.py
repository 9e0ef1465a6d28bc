"""Addresses that have bounced: which events say so, for which channel, and since when an address is what it is (SPEC 3.3, ADR 36).

An address is a column of the profile, so it changes from one day to the next: at the moment at which its new value was said, or at the
beginning of the day where nobody said it in so many words. A hard bounce counts until then, and no longer.

What belongs here: hard bounces, complaints, and changes of addresses. What does not: consent itself (``consent``), and whether somebody may
be written to (``rules.reach``).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.customers import documents
from atc_pipeline.customers.accumulators import Accumulator
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules import bounces as rule
from atc_pipeline.rules.people import survivors
from atc_pipeline.tables.table import MOMENT

FIELDS: tuple[documents.Field, ...] = tuple((name, pl.String()) for name in ("channel", *rule.KINDS))
"""What is read of such an event."""


def is_hard() -> pl.Expr:
    """True where one of the properties says that the address has bounced for good."""
    return rule.is_hard(pl.col(documents.column(name, pl.String())) for name in rule.KINDS)


def addressed(portfolio: Portfolio) -> dict[str, str]:
    """Return the columns that addresses are in, by channel."""
    return {channel.id: channel.to for channel in portfolio.channels if channel.to is not None}


def bounces(portfolio: Portfolio) -> dict[str, Accumulator]:
    """Return the last hard bounce, by channel."""
    return {channel: Accumulator(f"bounced_{channel}.at", "greatest", MOMENT) for channel in addressed(portfolio)}


def said(portfolio: Portfolio) -> dict[str, Accumulator]:
    """Return when the last value of a day was first said, by column: of addresses that are told by ``identify``, in the rollup only."""
    by_identify = {trait.id for trait in portfolio.traits if trait.kind == "profile"}
    return {column: Accumulator(f"{column}.said", "greatest", MOMENT) for column in addressed(portfolio).values() if column in by_identify}


def changes(portfolio: Portfolio) -> dict[str, Accumulator]:
    """Return since when an address is what it is, by column: in the running state only."""
    return {column: Accumulator(f"{column}.since", "greatest", MOMENT) for column in addressed(portfolio).values()}


def first_said(value: pl.Expr, keys: Sequence[str]) -> pl.Expr:
    """The moment at which a value was said that is not the one said before it; ``keys``: whose, of rows in their order."""
    before = value.forward_fill().shift(1).over(keys)
    return pl.when(value.is_not_null() & value.ne_missing(before)).then("timestamp")


def before(column: str) -> str:
    """Name the column with yesterday's address."""
    return f"{column}.before"


def of_merged(yesterday: pl.LazyFrame | None, portfolio: Portfolio, absorbed: pl.LazyFrame | None, today: date) -> pl.LazyFrame:
    """One row per customer of yesterday who is one with another today: their addresses, and since when."""
    columns = dict.fromkeys(addressed(portfolio).values())
    if yesterday is None or absorbed is None:
        schema = {"customer_id": pl.String(), **{before(column): pl.String() for column in columns}}
        return pl.LazyFrame(schema={**schema, **dict.fromkeys(since(portfolio), MOMENT)})
    new = absorbed.filter(pl.col("valid_from") == today)
    involved = pl.concat([new.select("customer_id"), new.select(customer_id="absorbed")]).unique()
    addresses = (pl.col(column).alias(before(column)) for column in columns)
    known = yesterday.select("customer_id", *addresses, *(pl.col("state").struct.field(name) for name in since(portfolio)))
    return survivors(known.join(involved, on="customer_id", how="semi"), new)


def changed(
    state: pl.DataFrame, merged: pl.DataFrame, values: Mapping[str, pl.Expr], portfolio: Portfolio, today: date
) -> Iterator[pl.Series]:
    """Since when each address is what it is today: where it is yesterday's since then, else since it was said.

    ``state``: a row per customer, with yesterday's address (``before``), ``<column>.since``, and what was ``said`` today. ``merged``: of
    those who were several customers yesterday (``of_merged``): any of them may have had it. ``values``: the address today.
    """
    morning = pl.lit(datetime.combine(today, time(), ZoneInfo(portfolio.timezone)).astimezone(UTC), MOMENT)
    news_of = said(portfolio)
    for column, accumulator in changes(portfolio).items():
        name = accumulator.name
        news = pl.coalesce(news_of[column].name, morning) if column in news_of else morning
        now = state.select("customer_id", "is_merged", name, before(column), value=values[column].cast(pl.String), news=news)
        is_kept = pl.col("value").eq_missing(pl.col(before(column)))
        if merged.height:
            theirs = merged.group_by("customer_id", value=before(column)).agg(theirs=pl.col(name).max())
            now = now.join(theirs, on=["customer_id", "value"], how="left", maintain_order="left")
            is_kept = pl.when("is_merged").then(pl.col("theirs").is_not_null()).otherwise(is_kept)
            kept = pl.when("is_merged").then("theirs").otherwise(name)
        else:
            kept = pl.col(name)
        since_when = pl.when(is_kept).then(kept).otherwise("news")
        yield now.select(pl.when(pl.col("value").is_not_null()).then(since_when).alias(name))[name]


def has_bounced(channel: str, column: str) -> pl.Expr:
    """True where the last hard bounce is later than the last change of the address."""
    return (pl.col(f"bounced_{channel}.at") > pl.col(f"{column}.since")).fill_null(value=False)


def since(portfolio: Portfolio) -> list[str]:
    """Name the columns that say since when an address is what it is."""
    return [accumulator.name for accumulator in changes(portfolio).values()]
