"""What moves the odds: by feature, a line from what its low end does to them to what its high one does.

What belongs here: drawing rows that are worded already. What does not: how much a feature moves (``learning``), any word (``reports``).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atc_pipeline.pictures import drawing, figures, marks
from atc_pipeline.pictures.axis import Axis

_ROW, _TOP, _PLOT, _GAP = 32, 84, 420, 22
_MOST_NAME, _LEAST_WIDTH = 34, 860
_MARKED = (1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100, 1_000, 10_000)
_APART = 48
"""Factors that may be marked, and one by each of them; so many pixels between two."""
_DOUBLINGS = 1 / 2
"""The axis reaches at least so many doublings of the odds either way: what does next to nothing shall not look large."""


@dataclass(frozen=True)
class Row:
    """One feature: what multiplies the odds at its low end, its high end, in between (``bends``), and where it is unknown."""

    name: str
    words: str
    low: float
    high: float
    bends: Sequence[float] = ()
    unknown: float | None = None


def draw(title: str, caption: str, rows: Sequence[Row]) -> str:
    """Draw rows under each other; the axis is of factors: twice is as far from once as half is."""
    left = 16 + drawing.LETTER * 1.08 * max((len(drawing.shortened(row.name, _MOST_NAME)) for row in rows), default=0) + _GAP
    reach = max([_DOUBLINGS, *(abs(math.log2(factor)) for row in rows for factor in _factors(row))]) * 1.06
    axis = Axis(-reach, reach, left, _PLOT)
    right, bottom = left + _PLOT + _GAP, _TOP + _ROW * len(rows)
    width = max(right + drawing.LETTER * (max((len(row.words) for row in rows), default=0) + 1) + 8, _LEAST_WIDTH)
    parts = [
        drawing.text(12, 42, caption, ink="faint"),
        drawing.text(axis.at(0) - 12, _TOP - 12, "← less likely", ink="faint", anchor="end"),
        drawing.text(axis.at(0) + 12, _TOP - 12, "more likely →", ink="faint"),
        *_rules(axis, reach, bottom),
        *(stroke for place, row in enumerate(rows) for stroke in _row(row, axis, _TOP + _ROW * (place + 0.5), right)),
        *_legend(bottom + 38),
    ]
    light = {"mo-line": "#0b5394", "mo-unknown": "#57606a", "mo-usual": "#1f2328"}
    dark = {"mo-line": "#79c0ff", "mo-unknown": "#9da7b1", "mo-usual": "#c9d1d9"}
    return drawing.svg(width, bottom + 58, title, parts, light, dark)


def _factors(row: Row) -> Sequence[float]:
    return [row.low, row.high, *row.bends, *([] if row.unknown is None else [row.unknown])]


def _rules(axis: Axis, reach: float, bottom: float) -> Iterator[str]:
    """Mark once, and factors either way that stand apart."""
    marked, last = [0.0], 0.0
    for factor in _MARKED:
        place = math.log2(factor)
        if place <= reach and axis.at(place) - axis.at(last) >= _APART:
            marked += [place, -place]
            last = place
    for place in marked:
        x = axis.at(place)
        yield f'<path class="{"mo-usual" if place == 0 else "rule"}" stroke-width="1.2" d="M{x:.5g} {_TOP - 4}V{bottom + 2:.5g}"/>'
        yield drawing.text(x, bottom + 14, f"× {figures.round_value(float(f'{2.0**place:.3g}'))}", ink="faint", anchor="middle")


def _row(row: Row, axis: Axis, y: float, right: float) -> Iterator[str]:
    yield drawing.text(12, y, drawing.shortened(row.name, _MOST_NAME), more=' font-weight="600"')
    yield drawing.text(right, y, row.words, ink="faint")
    on_line = [axis.at(math.log2(factor)) for factor in (row.low, row.high, *row.bends)]
    yield f'<path class="mo-line" stroke-width="2" d="M{min(on_line):.5g} {y:.5g}H{max(on_line):.5g}"/>'
    if row.unknown is not None:
        yield marks.draw("cross", axis.at(math.log2(row.unknown)), y, "mo-unknown")
    yield marks.draw("ring", on_line[0], y, "mo-line")
    yield marks.draw("square", on_line[1], y, "mo-line")


def _legend(y: float) -> Iterator[str]:
    x = 18.0
    for mark, name, words in (("ring", "line", "lowest values"), ("square", "line", "highest values"), ("cross", "unknown", "unknown")):
        yield marks.draw(mark, x, y, f"mo-{name}")
        yield drawing.text(x + 12, y, words, ink="faint")
        x += 36 + drawing.LETTER * len(words)
