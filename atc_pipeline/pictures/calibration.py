"""Calibration: what was foretold against what came, by groups of entries, around the line on which both are the same.

What belongs here: drawing tenths that are there. What does not: making them, and what they mean (``reports``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from atc_pipeline.pictures import drawing, marks
from atc_pipeline.pictures.axis import Axis

_LEFT, _TOP, _SIDE = 64, 74, 300


@dataclass(frozen=True)
class Tenth:
    """Entries that were foretold about the same: the mean of it, what came, and in between what chance alone would leave it."""

    expected: float
    observed: float
    low: float
    high: float


def _legend(x: float, y: float) -> Iterator[str]:
    """Say what each stroke stands for, beside it."""
    yield marks.draw("ring", x, y, "ca-came")
    yield drawing.text(x + 18, y, "what came, of a group of entries", ink="faint")
    yield f'<path class="ca-came" stroke-width="1.6" d="M{x:.5g} {y + 16:.5g}v16"/>'
    yield drawing.text(x + 18, y + 24, "where chance alone would leave it", ink="faint")
    yield f'<path class="ca-same" stroke-width="1.4" stroke-dasharray="5 4" d="M{x - 8:.5g} {y + 56:.5g}l16 -16"/>'
    yield drawing.text(x + 18, y + 48, "as it was foretold: above it more came, below it less", ink="faint")


def draw(title: str, caption: str, tenths: Sequence[Tenth], words: Callable[[float], str]) -> str:
    """Draw each tenth as a mark with an interval; ``words`` writes a share."""
    most = max([0.01, *(max(tenth.expected, tenth.observed, tenth.high) for tenth in tenths)])
    across, upward = Axis(0, most, _LEFT, _SIDE), Axis(0, most, _TOP + _SIDE, -_SIDE)
    bottom = _TOP + _SIDE
    parts = [
        drawing.text(12, 42, caption, ink="faint"),
        *upward.upward(_LEFT, _LEFT + _SIDE, words),
        *across.across(_TOP, bottom, words),
        drawing.text(_LEFT + _SIDE / 2, bottom + 30, "foretold", ink="faint", anchor="middle"),
        drawing.text(_LEFT, _TOP - 12, "came", ink="faint", anchor="end"),
        f'<path class="ca-same" stroke-width="1.4" stroke-dasharray="5 4" d="M{_LEFT} {bottom}L{_LEFT + _SIDE} {_TOP}"/>',
    ]
    for tenth in tenths:
        x = across.at(tenth.expected)
        parts.append(f'<path class="ca-came" stroke-width="1.6" d="M{x:.5g} {upward.at(tenth.low):.5g}V{upward.at(tenth.high):.5g}"/>')
        parts.append(marks.draw("ring", x, upward.at(tenth.observed), "ca-came"))
    parts += _legend(_LEFT + _SIDE + 34, _TOP + 12)
    width = max(_LEFT + _SIDE + 340, 12 + drawing.LETTER * 1.4 * len(title))
    colours = {"ca-same": "#667079", "ca-came": "#0b5394"}, {"ca-same": "#8b949e", "ca-came": "#79c0ff"}
    return drawing.svg(width, bottom + 46, title, parts, *colours)
