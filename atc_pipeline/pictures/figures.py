"""Numbers as people read them in pictures and reports: three figures at most, signs that are seen, shares in percent.

What belongs here: writing numbers. What does not: what is said of them (``reports.wording``), drawing.
"""

import math

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
"""Written where there is no number."""


def amount(value: float | None) -> str:
    """Write an amount with two or three figures, whole from a hundred on; what is not known as a dash."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    decimals = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2 if size >= 0.1 else min(6, 1 - math.floor(math.log10(size)))
    text = f"{size:,.{decimals}f}"
    return f"{MINUS}{text}" if value < 0 and text.strip("0.,") else text


def signed(value: float | None) -> str:
    """Write a difference: the same with a sign also where it is more."""
    text = amount(value)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.,") else text


def share(value: float | None) -> str:
    """Write a share in percent, with a figure behind the point only below ten."""
    if value is None or not math.isfinite(value):
        return NOTHING
    percent = abs(100 * value)
    text = f"{percent:,.0f}" if percent >= 10 else f"{percent:.1f}".removesuffix(".0")
    return f"{MINUS if value < 0 and text != '0' else ''}{text} %"


def signed_share(value: float | None) -> str:
    """Write a change in percent, with a sign also where it is more."""
    text = share(value)
    return f"+{text}" if value is not None and value > 0 and not text.startswith("0 ") else text


def round_value(value: float) -> str:
    """Write a value that an axis is marked at: nothing behind the point that says nothing."""
    text = f"{abs(value):,.6f}".rstrip("0").rstrip(".")
    return f"{MINUS}{text}" if value < 0 and text != "0" else text


def between(low: float | None, high: float | None, *, as_share: bool = False) -> str:
    """Write an interval."""
    write = signed_share if as_share else signed
    return f"{write(low)} to {write(high)}" if low is not None and high is not None else NOTHING
