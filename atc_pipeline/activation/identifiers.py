"""Identifiers: what destinations know people by, normalised and hashed (SPEC 9.10).

What belongs here: which kind a column is, normalising, and the text of what is told. What does not: who is told of (``audiences``).
"""

import re
from collections.abc import Sequence

import polars as pl

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules.lots import sha256

NOTHING = "{}"
"""The identifiers of whoever has none."""
HASHED = r"^\s*[0-9a-fA-F]{64}\s*$"
"""What is a SHA-256 already: hashed again it would match nobody, and as it is nobody knows what was normalised before."""
_PHONE = re.compile(r"phone|mobile|tel(?![a-z])")
_EMAIL = re.compile(r"e?mail")


def kind_of(column: str, portfolio: Portfolio) -> str:
    """Return ``email``, ``phone`` or ``id``: by the medium of a channel that the column is the address of, else by the column's name.

    An ``id`` is anything else: it is hashed as it is, without blanks around.
    """
    if any(channel.to == column and channel.medium == "email" for channel in portfolio.channels):
        return "email"
    return "phone" if _PHONE.search(column) else "email" if _EMAIL.search(column) else "id"


def is_hashed(column: str) -> pl.Expr:
    """True where a column holds what is hashed already."""
    return pl.col(column).cast(pl.String).str.contains(HASHED).fill_null(value=False)


def identifiers(columns: Sequence[str], portfolio: Portfolio) -> pl.Expr:
    """Return the JSON text of the hashes of these columns, ``NOTHING`` where there are none.

    Keys are ``email``, ``id``, and of a phone number ``phone`` (of its E.164, as Google takes it) and ``phone_digits`` (of its digits,
    as Meta does); a second column of one kind is ``email_2``.
    """
    parts: list[pl.Expr] = []
    kinds: dict[str, int] = {}
    for column in columns:
        kind = kind_of(column, portfolio)
        kinds[kind] = kinds.get(kind, 0) + 1
        number = "" if kinds[kind] == 1 else f"_{kinds[kind]}"
        parts += [pl.format(f'"{name}{number}":"{{}}"', sha256(text)) for name, text in normalised(column, kind)]
    return pl.concat_str(pl.lit("{"), pl.concat_str(parts, separator=",", ignore_nulls=True), pl.lit("}"))


def normalised(column: str, kind: str) -> list[tuple[str, pl.Expr]]:
    """Return what of a column is hashed, by name: null where it normalises to nothing, or is hashed already."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    match kind:
        case "phone":
            number = _e164(text)
            forms = [("phone", number), ("phone_digits", number.str.strip_prefix("+"))]
        case "email":
            forms = [("email", text.str.to_lowercase())]
        case _:
            forms = [("id", text)]
    return [(name, pl.when((form != "") & ~is_hashed(column)).then(form)) for name, form in forms]


def _e164(text: pl.Expr) -> pl.Expr:
    """Write a phone number as ``+`` and 8 to 15 digits; null where it does not say its country, which nobody can guess."""
    without_trunk = text.str.replace_all("(0)", "", literal=True)
    digits = without_trunk.str.replace_all(r"[^0-9]", "")
    national = pl.when(without_trunk.str.starts_with("+")).then(digits)
    number = pl.coalesce(national, pl.when(without_trunk.str.starts_with("00")).then(digits.str.slice(2)))
    return pl.when(number.str.contains(r"^[1-9][0-9]{7,14}$")).then(pl.concat_str(pl.lit("+"), number))
