"""Named rules, each one expression: who a customer is, how options are ordered, which bucket a customer falls into.

What belongs here: rules that more than one stage needs, or that a reader looks up by name. What does not: I/O.
"""

import math
import re
from collections.abc import Iterable

import numpy as np
import polars as pl
import polars_hash  # noqa: F401  # registers the namespaces `nchash` and `chash`

from atc_pipeline.journeys.portfolio import Channel

MICRO = 1_000_000
"""Event values are rounded to six decimals and summed as integers, so that sums do not depend on row order (SPEC preamble)."""

LARGEST_VALUE = 1e11
"""Larger numbers are skipped like wrongly typed values: in micro-units one must fit an Int64, and 2.5e10 of them two (``measures``)."""

AT = pl.Datetime("us", "UTC")
"""A moment."""

BLOCKED = ("null", "none", "nil", "nan", "undefined", "[object object]", "unknown", "guest", "n/a", "anonymous", "-1")
"""Values that identify nobody, in any case, beside those that are empty or only zeros and dashes (SPEC 2)."""


def blocked_identity(blocked: Iterable[str] = ()) -> str:
    """Return the regular expression of all values that identify nobody; ``blocked``: those of ``identity.blocked``.

    Case and blanks around a value do not count, nor does that it is written as the name of a visitor.
    """
    values = "|".join(re.escape(one.strip()) for one in (*BLOCKED, *blocked))
    # Blanks as numbers: Rust's regular expressions know no escaped line break.
    values = re.sub(r"\\(\s)", lambda blank: rf"\x{ord(blank[1]):02x}", values)
    return rf"(?i)^(?:anon:)?\s*(?:[0-]*|{values})\s*$"


BLOCKED_IDENTITY = blocked_identity()

VISITOR = "anon:"
"""What the name of a customer begins with who is only known by an anonymous id (SPEC 2)."""

BUCKETS = 10_000

LEAST_POWER = -310
POWERS = np.array([float(f"1e{power}") for power in range(LEAST_POWER, 1 - LEAST_POWER)])
"""Powers of ten from 10^LEAST_POWER on."""
NEAR_POWER = np.array([max(-290, math.floor((exponent - 1023) * math.log10(2))) for exponent in range(2048)], dtype=np.int32)
"""By the exponent of a double: the power of ten that it is at least as large as; it may be as large as the next one, too.
What is smaller than 1e-290 is rounded like 1e-290: to nothing."""

STATIC_GATES = ("not_live", "blackout", "would_overrun", "suppressed", "no_channel", "unscored")
"""Gates that need today's facts only, in the order tested (SPEC 7)."""
MEMORY_GATES = ("reentry", "max_entries", "link", "pairwise", "resting", "frequency_cap")
"""Gates that need the past, tested after the static ones, in this order (SPEC 8, step 2)."""
GATES = (*STATIC_GATES, *MEMORY_GATES)
RULINGS = ("chosen", *GATES, "in_flight", "outscored", "capacity")
"""What an option row can be ruled."""


def bit(gate: str) -> int:
    """Return the bit that says of an option that it fails a gate: the lowest bit set is the first gate failed."""
    return 1 << GATES.index(gate)


def is_identity(column: str, blocked: Iterable[str] = ()) -> pl.Expr:
    """True where the column names somebody (SPEC 2); ``blocked``: what else names nobody."""
    return ~pl.col(column).str.contains(blocked_identity(blocked)).fill_null(value=True)


def customer_id(blocked: Iterable[str] = ()) -> pl.Expr:
    """The customer of an event: its user, else the anonymous visitor, else null (SPEC 2)."""
    return (
        pl.when(is_identity("user_id", blocked))
        .then("user_id")
        .when(is_identity("anonymous_id", blocked))
        .then(pl.concat_str(pl.lit(VISITOR), "anonymous_id"))
        .alias("customer_id")
    )


def whose(blocked: Iterable[str] = ()) -> pl.Expr:
    """The customer of an accepted event, under the name it carries: one accepted before that was blocked keeps it."""
    return pl.coalesce(customer_id(blocked), "user_id", pl.concat_str(pl.lit(VISITOR), "anonymous_id")).alias("customer_id")


def survivors(frame: pl.LazyFrame, absorbed: pl.LazyFrame | None) -> pl.LazyFrame:
    """Replace each ``customer_id`` by the customer it is now; rows keep their order, and those of one survivor are not merged.

    ``absorbed``: ``identity.absorbed``; None where nobody ever was.
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


def xxh64(text: pl.Expr) -> pl.Expr:
    """Hash UTF-8 text to UInt64 with xxHash64, seed 0."""
    return text.nchash.xxhash64()  # type: ignore[attr-defined, no-any-return]  # the namespace polars_hash registers


def sha256(text: pl.Expr) -> pl.Expr:
    """Hash UTF-8 text to 64 hexadecimal digits: what nobody can make two texts for."""
    return text.chash.sha2_256()  # type: ignore[attr-defined, no-any-return]  # the namespace polars_hash registers


def hexadecimal(number: pl.Expr) -> pl.Expr:
    """Write a UInt64 as 16 lower-case hexadecimal digits."""
    # Twice as fast as sixteen digits worked out in expressions, measured on a million.
    return number.map_batches(
        lambda numbers: pl.Series([None if one is None else f"{one:016x}" for one in numbers], dtype=pl.String), return_dtype=pl.String
    )


def bucket(salt: str | pl.Expr, suffix: str = "") -> pl.Expr:
    """Bucket 0..9999 of an ``arm_id`` for one salt: the same forever, independent between salts (SPEC 8, steps 6 and 7)."""
    return xxh64(pl.concat_str(pl.lit(salt) if isinstance(salt, str) else salt, pl.lit(":"), "arm_id", pl.lit(suffix))) % BUCKETS


def quotient(number: pl.Expr, by: float | pl.Expr) -> pl.Expr:
    """Divide exactly: Polars 2.1 multiplies a column with the inverse of a constant, which is one bit off for a value in four,
    and ``spend >= 0.05`` is then false for five cents."""
    return number / (by + pl.int_range(pl.len()) * 0)


def scores(rows: pl.DataFrame, expression: pl.Expr) -> pl.Series:
    """Work out a score by row, rounded to 9 significant digits before any comparison (SPEC preamble); null where it is no number."""
    number = rows.with_columns(expression.cast(pl.Float64).alias("score"))["score"].fill_null(np.nan).to_numpy()
    # Three times as fast as Polars' round_sig_figs, which takes a logarithm and a power of each number: here the power of two a
    # double is stored with says which power of ten it is near, and one comparison says on which side.
    size = np.abs(number)
    power = NEAR_POWER[size.view(np.int64) >> 52]
    power += size >= POWERS[power + 1 - LEAST_POWER]
    scale = POWERS[8 - power - LEAST_POWER]
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = np.copysign(np.floor(size * scale + 0.5) / scale, number)  # halves away from zero, as Polars does
    rounded[~np.isfinite(rounded)] = np.nan
    return pl.Series("score", rounded, nan_to_null=True)


def one_of(cases: Iterable[tuple[pl.Expr, pl.Expr]], otherwise: pl.Expr) -> pl.Expr:
    """Return the value of the first case whose test holds."""
    return pl.coalesce(*(pl.when(test).then(value) for test, value in cases), otherwise)


def is_usable(channel: Channel) -> pl.Expr:
    """True where the customer may be reached on the channel: said yes, or did not say no where that is enough (SPEC 7)."""
    consent = pl.col(f"consent_{channel.id}")
    match channel.consent:
        case "opt_in":
            return consent.fill_null(value=False)
        case "opt_out":
            return consent.fill_null(value=True)
        case _:
            return pl.lit(value=True)
