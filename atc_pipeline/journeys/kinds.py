"""The kinds of traits that the grammar knows: one entry each, of which the keys in ``journeys.yaml``, their descriptions in editors,
the type of the profile column and what may stand in it all come.

What belongs here: what is known of a kind without any event. What does not: what it remembers of events, and its value
(``customers.traits``).
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import polars as pl

Takes = Literal["events", "property", "trait", "profile"]
"""What stands under the key that names a kind: events; a property, of the events under ``of``; another trait; a trait of the
identify call, with its ``type``. The first two take ``each``, ``where`` and ``within_days`` as well."""


@dataclass(frozen=True)
class TraitKind:
    """One kind of trait.

    ``meaning`` and ``key`` are for editors: what the trait is, and what stands under the key that names it. ``dtype``: of the
    profile column (None: as the trait's ``type`` says). ``is_nullable``: whether it is null without any event.
    """

    takes: Takes
    dtype: pl.DataType | None
    meaning: str
    key: str
    _: KW_ONLY
    example: str | None = None
    is_nullable: bool = True
    at_least: float | None = None
    at_most: float | None = None


KINDS: Mapping[str, TraitKind] = {
    "count": TraitKind(
        "events",
        pl.Int64(),
        "How many events; 0 without any.",
        'The event, or events, to count; "*" is every event.',
        is_nullable=False,
        at_least=0,
    ),
    "sum": TraitKind(
        "property",
        pl.Float64(),
        "The sum of a numeric property; 0 without any.",
        "The numeric property to add up.",
        example="revenue",
        is_nullable=False,
    ),
    "avg": TraitKind(
        "property",
        pl.Float64(),
        "The average of a numeric property; empty without any.",
        "The numeric property to average.",
        example="revenue",
    ),
    "min": TraitKind(
        "property",
        pl.Float64(),
        "The smallest value of a numeric property; empty without any.",
        "The numeric property whose smallest value counts.",
        example="revenue",
    ),
    "max": TraitKind(
        "property",
        pl.Float64(),
        "The largest value of a numeric property; empty without any.",
        "The numeric property whose largest value counts.",
        example="revenue",
    ),
    "first": TraitKind(
        "property",
        pl.String(),
        "The first value a property ever had.",
        "The property whose first value counts.",
        example="referrer",
    ),
    "last": TraitKind(
        "property",
        pl.String(),
        "The latest value of a property.",
        "The property whose latest value counts.",
        example="plan",
    ),
    "most_frequent": TraitKind(
        "property",
        pl.String(),
        "The value a property had most often, and at least twice.",
        "The property whose most frequent value counts.",
        example="category",
    ),
    "unique_count": TraitKind(
        "property",
        pl.Int64(),
        "How many different values a property had.",
        "The property whose different values are counted.",
        example="category",
        is_nullable=False,
        at_least=0,
    ),
    "unique_list": TraitKind(
        "property",
        pl.List(pl.String()),
        "The different values a property had, as a sorted list.",
        "The property whose different values are listed.",
        example="category",
        is_nullable=False,
    ),
    "days_since_first": TraitKind(
        "events",
        pl.Int64(),
        "Whole days since the first such event; empty without any.",
        "The event, or events, whose first day counts.",
        at_least=0,
    ),
    "days_since_last": TraitKind(
        "events",
        pl.Int64(),
        "Whole days since the latest such event; empty without any.",
        "The event, or events, whose latest day counts.",
        at_least=0,
    ),
    "percentile": TraitKind(
        "trait",
        pl.Float64(),
        "Where a customer stands among all customers by another trait: 0.9 is ahead of nine in ten.",
        "The numeric trait to rank by.",
        example="spend",
        at_least=0,
        at_most=1,
    ),
    "profile": TraitKind(
        "profile",
        None,
        "What an identify call last said about the customer.",
        "The trait of the identify call.",
        example="income",
    ),
}
"""In the order in which messages list them."""

PROFILE_TYPES: Mapping[str, pl.DataType] = {
    "string": pl.String(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
}
"""What ``type`` may say of a trait of the identify call."""
