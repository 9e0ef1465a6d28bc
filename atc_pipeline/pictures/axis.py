"""An axis of numbers: where a value stands, and which values are marked along it.

What belongs here: scales. What does not: an axis of days, and strokes (``drawing``).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from atc_pipeline.pictures import drawing


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` along ``length`` pixels from ``start`` on; a negative length goes up."""

    low: float
    high: float
    start: float
    length: float

    def at(self, value: float) -> float:
        """Return where a value stands; one beyond an end stands at it."""
        within = min(max(value, self.low), self.high)
        return self.start + self.length * (within - self.low) / (self.high - self.low)

    def has(self, value: float) -> bool:
        """Return whether a value is on it."""
        return self.low <= value <= self.high

    def marks(self, most: int = 7) -> list[float]:
        """Choose round values to be marked."""
        step = round_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def across(self, top: float, bottom: float, words: Callable[[float], str]) -> Iterator[str]:
        """Draw a rule at each mark of a horizontal axis, with what it is beneath."""
        for value in self.marks():
            x = self.at(value)
            yield f'<path class="rule" d="M{x:.5g} {top:.5g}V{bottom:.5g}"/>'
            yield drawing.text(x, bottom + 12, words(value), ink="faint", anchor="middle")

    def upward(self, left: float, right: float, words: Callable[[float], str]) -> Iterator[str]:
        """Draw a rule at each mark of a vertical axis, with what it is to the left."""
        for value in self.marks(5):
            y = self.at(value)
            yield f'<path class="rule" d="M{left:.5g} {y:.5g}H{right:.5g}"/>'
            yield drawing.text(left - 8, y, words(value), ink="faint", anchor="end")


def round_step(least: float) -> float:
    """Return the least of 1, 2, 5, 10, 20, ... (and tenths of these) that is no less."""
    if not least > 0 or not math.isfinite(least):
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * (1 - 1e-9))
