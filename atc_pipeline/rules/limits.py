"""Limits: what is packed into so many bits fits them, or nothing is made of it.

What belongs here: the error, and how a limit is asserted. What does not: the limits themselves, which stand where the packing is.
"""


class LimitError(OverflowError):
    """More than fits: how many, how many fit, and what to widen."""


def require_fits(number: int, most: int, what: str, widen: str) -> None:
    """Raise where a number that is about to be packed is larger than what fits; ``what`` there is too much of, what to ``widen``."""
    if number > most:
        raise LimitError(f"{what}: {number:,}, and at most {most:,} fit; to have more, widen {widen}")
