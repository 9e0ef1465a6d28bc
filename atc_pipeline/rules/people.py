"""People: whom an id names, and who a customer is by now (SPEC 2)."""

import re
from collections.abc import Iterable
from typing import Literal

import polars as pl

from atc_pipeline.rules.lots import sha256

BLOCKED = ("null", "none", "nil", "nan", "undefined", "[object object]", "unknown", "guest", "n/a", "anonymous", "-1")
"""Values that identify nobody, in any case, beside those that are empty or only zeros and dashes (SPEC 2)."""


VISITOR = "anon:"
"""What the name of a customer begins with who is only known by an anonymous id (SPEC 2)."""

IdType = Literal["user", "anonymous"]


def blocked_identity(blocked: Iterable[str] = ()) -> str:
    """Return the regular expression of all values that identify nobody; ``blocked``: those of ``identity.blocked``.

    Case and blanks around a value do not count, nor does that it is written as the name of a visitor.
    """
    values = "|".join(re.escape(value.strip()) for value in (*BLOCKED, *blocked))
    # Blanks as numbers: Rust's regular expressions know no escaped line break.
    values = re.sub(r"\\(\s)", lambda blank: rf"\x{ord(blank[1]):02x}", values)
    return rf"(?i)^(?:{VISITOR})?\s*(?:[0-]*|{values})\s*$"


BLOCKED_IDENTITY = blocked_identity()


def is_identity(column: str, blocked: Iterable[str] = ()) -> pl.Expr:
    """True where the column names somebody (SPEC 2); ``blocked``: what else names nobody."""
    return ~pl.col(column).str.contains(blocked_identity(blocked)).fill_null(value=True)


def name_of_visitor(column: str) -> pl.Expr:
    """The name of the visitor whose anonymous id the column has: the customer, as long as no user is known."""
    return pl.concat_str(pl.lit(VISITOR), column)


def name_of_id() -> pl.Expr:
    """The name of the ``id`` of an ``id_type``: a user's is the id itself (``id_of`` reads it back)."""
    return pl.when(pl.col("id_type") == "user").then("id").otherwise(name_of_visitor("id"))


def id_of(name: str) -> tuple[IdType, str]:
    """Return the type of the id that a name is of, and the id."""
    return ("anonymous", name.removeprefix(VISITOR)) if name.startswith(VISITOR) else ("user", name)


def customer_id(blocked: Iterable[str] = ()) -> pl.Expr:
    """The customer of an event: its user, else the anonymous visitor, else null (SPEC 2)."""
    return (
        pl.when(is_identity("user_id", blocked))
        .then("user_id")
        .when(is_identity("anonymous_id", blocked))
        .then(name_of_visitor("anonymous_id"))
        .alias("customer_id")
    )


def whose(blocked: Iterable[str] = ()) -> pl.Expr:
    """The customer of an accepted event, under the name it carries: one accepted before that was blocked keeps it."""
    return pl.coalesce(customer_id(blocked), "user_id", name_of_visitor("anonymous_id")).alias("customer_id")


def survivors(frame: pl.LazyFrame, absorbed: pl.LazyFrame | None) -> pl.LazyFrame:
    """Replace each ``customer_id`` by the customer it is now; rows keep their order, and those of one survivor are not merged.

    ``absorbed``: ``identity.map.absorbed``; None where nobody ever was.
    """
    if absorbed is None:
        return frame
    now = absorbed.select(pl.col("absorbed").alias("customer_id"), pl.col("customer_id").alias("survivor:"))
    return (
        frame.join(now, on="customer_id", how="left", maintain_order="left")
        .with_columns(customer_id=pl.coalesce("survivor:", "customer_id"))
        .drop("survivor:")
    )


def inherited(spells: pl.LazyFrame, absorbed: pl.LazyFrame, of: str, since: str) -> pl.LazyFrame:
    """One row per ``of`` and customer who absorbed somebody that was there yesterday: the first of their days ``since``."""
    now = absorbed.select(pl.col("absorbed").alias("customer_id"), survivor="customer_id")
    return spells.join(now, on="customer_id", how="inner").group_by(of, customer_id="survivor").agg(inherited=pl.col(since).min())


def erasure_hash(id_type: IdType, column: str) -> pl.Expr:
    """The SHA-256 of ``user:<id>`` or ``anonymous:<id>`` in hexadecimal: how an id is remembered that must not be kept."""
    return sha256(pl.concat_str(pl.lit(f"{id_type}:"), pl.col(column)))
