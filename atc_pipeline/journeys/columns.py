"""The columns of ``customer_profiles`` that are built in: one entry each, of which names and types for conditions, the table and its
checks come.

What belongs here: what a column is. What does not: its value (``customers.profiles``), and the columns that are traits (``kinds``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import polars as pl

Section = Literal["channels", "addresses", "interests", "intents", "engagement", "predictions"]


@dataclass(frozen=True)
class ProfileColumn:
    """One built-in column, or with ``{}`` in its name one for each id of its section.

    ``section``: the section of ``journeys.yaml`` that defines it (None: no section needed); ``addresses``: channels with ``to``.
    """

    name: str
    dtype: pl.DataType
    meaning: str
    _: KW_ONLY
    section: Section | None = None
    is_nullable: bool = False
    at_least: float | None = None
    at_most: float | None = None


BUILT_IN = (
    ProfileColumn("first_seen_on", pl.Date(), "The first day an event of the customer arrived."),
    ProfileColumn("last_seen_on", pl.Date(), "The last day an event of the customer arrived."),
    ProfileColumn("tenure_days", pl.Int64(), "Days since first_seen_on.", at_least=0),
    ProfileColumn("timezone", pl.String(), "The last context.timezone.", is_nullable=True),
    ProfileColumn("consent_{}", pl.Boolean(), "true, false, or null: never said.", section="channels", is_nullable=True),
    ProfileColumn(
        "bounced_{}",
        pl.Boolean(),
        "Whether the channel's address has bounced for good and was not changed since.",
        section="addresses",
    ),
    ProfileColumn(
        "interest_{}",
        pl.Float64(),
        "This topic's share of the customer's decayed interest; 0 without any.",
        section="interests",
        at_least=0,
        at_most=1,
    ),
    ProfileColumn(
        "intent_{}",
        pl.Float64(),
        "Strength of the intent: its decayed signals / `full_at`, at most 1.",
        section="intents",
        at_least=0,
        at_most=1,
    ),
    ProfileColumn(
        "engagement",
        pl.Float64(),
        "Decayed responses / decayed touches; null without touches.",
        section="engagement",
        is_nullable=True,
        at_least=0,
        at_most=1,
    ),
    ProfileColumn("preferred_channel", pl.String(), "The channel with most decayed responses.", section="engagement", is_nullable=True),
    ProfileColumn(
        "best_hour", pl.Int64(), "Hour of the customer's day with most events in 90 days.", is_nullable=True, at_least=0, at_most=23
    ),
    ProfileColumn(
        "predicted_orders",
        pl.Float64(),
        "Expected days with an order within the horizon (BG/NBD).",
        section="predictions",
        is_nullable=True,
        at_least=0,
    ),
    ProfileColumn(
        "predicted_value", pl.Float64(), "Their expected value (Gamma-Gamma).", section="predictions", is_nullable=True, at_least=0
    ),
    ProfileColumn(
        "churn_risk",
        pl.Float64(),
        "Probability of no order within the horizon (BG/NBD).",
        section="predictions",
        is_nullable=True,
        at_least=0,
        at_most=1,
    ),
)
"""In table order, after ``date`` and ``customer_id``; traits follow."""


def built_in_columns(
    *, channels: Iterable[str], addresses: Iterable[str], topics: Iterable[str], intents: Iterable[str]
) -> Mapping[str, ProfileColumn]:
    """Return the built-in columns by their names, of a portfolio with these ids."""
    ids: Mapping[Section, tuple[str, ...]] = {
        "channels": tuple(channels),
        "addresses": tuple(addresses),
        "interests": tuple(topics),
        "intents": tuple(intents),
    }
    named: dict[str, ProfileColumn] = {}
    for column in BUILT_IN:
        each = ids[column.section] if column.section is not None and "{}" in column.name else ("",)
        named |= {column.name.format(id_): column for id_ in each}
    return named


def profile_schema(
    *,
    channels: Iterable[str],
    addresses: Iterable[str],
    topics: Iterable[str],
    intents: Iterable[str],
    traits: Mapping[str, pl.DataType],
) -> dict[str, pl.DataType]:
    """Columns of ``customer_profiles`` in table order (SPEC 3): what every profile condition may name."""
    built_in = built_in_columns(channels=channels, addresses=addresses, topics=topics, intents=intents)
    return {"date": pl.Date(), "customer_id": pl.String(), **{name: column.dtype for name, column in built_in.items()}, **traits}
