"""Bounces: which events say that an address cannot be reached for good, and which say that somebody complains (SPEC 3.3).

What belongs here: their names, and how senders call what is for good. What does not: for how long it counts (``customers``), and what is
about to go out (``activation``).
"""

from collections.abc import Iterable

import polars as pl

BOUNCED, SPAM = "Email Bounced", "Email Marked as Spam"
"""Events of Segment's Email Spec: an address that cannot be reached, and a complaint."""
KINDS = ("bounce_type", "bounceType", "type", "kind")
"""Properties in which senders say of which kind a bounce is: the specification names none."""
_HARD = ("hard", "permanent", "hardbounce", "permanentbounce", "permanentfailure")
"""What they call a bounce for good, in any case, without blanks, dashes and underscores."""


def is_hard(kinds: Iterable[pl.Expr]) -> pl.Expr:
    """True where one of the properties (the texts of ``KINDS``) says that the address has bounced for good."""
    plain = (kind.str.replace_all(r"[\s_-]+", "").str.to_lowercase() for kind in kinds)
    return pl.any_horizontal(kind.is_in(_HARD).fill_null(value=False) for kind in plain)
