"""Attribution beside proof: what four ways of sharing out say a journey made, and what the comparison says.

What belongs here: drawing numbers that are there. What does not: sharing out, or proving (``outcomes``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from atc_pipeline.pictures import drawing, marks
from atc_pipeline.pictures.axis import Axis, round_step

_ROW, _TOP, _PLOT, _MOST_NAME = 38, 84, 560, 34
MODELS = ("first", "last", "linear", "markov")
_SHAPES = dict(zip(MODELS, ("left", "right", "ring", "box"), strict=True))


@dataclass(frozen=True)
class Row:
    """One journey: the money that each of ``MODELS`` says it made, and what is proved, with its interval; ``figures``: both in words."""

    name: str
    figures: str
    attributed: Sequence[float]
    proved: float | None = None
    low: float | None = None
    high: float | None = None


def draw(title: str, caption: str, rows: Sequence[Row], words: Callable[[float], str]) -> str:
    """Draw journeys under each other on one axis of money."""
    values = [0.0, *(value for row in rows for value in (*row.attributed, row.proved, row.low, row.high) if value is not None)]
    step = round_step(max(max(values) - min(values), 1e-9) / 7)
    left = 24 + 1.08 * drawing.LETTER * max((len(drawing.shortened(row.name, _MOST_NAME)) for row in rows), default=0)
    axis = Axis(step * (min(values) // step), step * -(-max(values) // step) or step, left, _PLOT)
    bottom = _TOP + _ROW * len(rows)
    parts = [
        drawing.text(12, 42, caption, ink="faint"),
        *_legend(left),
        *axis.across(_TOP - 4, bottom, words),
        f'<path class="at-proof" stroke-width="1.2" d="M{axis.at(0):.5g} {_TOP - 4}V{bottom}"/>',
        *(stroke for place, row in enumerate(rows) for stroke in _row(row, axis, _TOP + _ROW * place + _ROW / 2)),
    ]
    widest = max((len(row.figures) for row in rows), default=0)
    colours = ({"at-proof": "#1f2328", "at-model": "#8250a0"}, {"at-proof": "#e6edf3", "at-model": "#c9a6e8"})
    return drawing.svg(left + _PLOT + 40 + drawing.LETTER * widest, bottom + 30, title, parts, *colours)


def _row(row: Row, axis: Axis, y: float) -> Iterator[str]:
    yield drawing.text(axis.start - 10, y, drawing.shortened(row.name, _MOST_NAME), anchor="end", more=' font-weight="600"')
    yield drawing.text(axis.start + axis.length + 18, y, row.figures, ink="faint")
    if row.low is not None and row.high is not None:
        first, last = axis.at(row.low), axis.at(row.high)
        ends = f"M{first:.5g} {y + 2:.5g}v10M{last:.5g} {y + 2:.5g}v10"
        yield f'<path class="at-proof" stroke-width="2.4" d="M{first:.5g} {y + 7:.5g}H{last:.5g}{ends}"/>'
    if row.proved is not None:
        yield marks.draw("square", axis.at(row.proved), y + 7, "at-proof")
    for model, value in zip(MODELS, row.attributed, strict=True):
        yield marks.draw(_SHAPES[model], axis.at(value), y - 7, "at-model")


def _legend(left: float) -> Iterator[str]:
    x = left
    for name, shape in [*_SHAPES.items(), ("proved, with its interval", "square")]:
        yield marks.draw(shape, x, 62, "at-proof" if shape == "square" else "at-model")
        yield drawing.text(x + 12, 62, name, ink="faint")
        x += 40 + drawing.LETTER * len(name)
