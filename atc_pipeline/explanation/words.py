"""Words that explanations are made of: numbers, shares and lists as people write them.

What belongs here: words that know no table. What does not: sentences about a day.
"""

from collections.abc import Iterable
from typing import Any

from atc_pipeline import escaping
from atc_pipeline.journeys.portfolio import Condition


def because(condition: Condition | None) -> str:
    """Say what a condition says, where there is one."""
    return f", because: {condition.text}" if condition else ""


def percent(share: float) -> str:
    """Write a share."""
    return f"{100 * share:.3g} %" if not 0 < share < 0.001 else "under 0.1 %"


def count(number: int, thing: str) -> str:
    """Write a number of things."""
    return f"{number} {thing}" if number == 1 else f"{number:,} {thing}s"


def times(number: int) -> str:
    """Write how often."""
    return "once" if number == 1 else f"{number} times"


def all_of(names: Iterable[str]) -> str:
    """List names of which all are meant."""
    return _joined(list(names), "and")


def any_of(names: Iterable[str]) -> str:
    """List names of which any is meant."""
    return _joined(list(names), "or")


def _joined(names: list[str], word: str) -> str:
    return f" {word} ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])


def plain(value: Any) -> str:  # noqa: ANN401  # whatever a profile column holds
    """Write a value of a profile."""
    match value:
        case None:
            return "unknown"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case _:
            return escaping.plain(f"{value!s}")
