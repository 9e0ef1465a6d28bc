"""A forest plot: what each journey changes, the interval around it, and the smallest change that could be seen.

What belongs here: drawing rows that are worded already. What does not: estimating, and any word or verdict (``reports.wording``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from atc_pipeline.pictures import drawing, marks
from atc_pipeline.pictures.axis import Axis, round_step

_ROW, _TOP, _PLOT, _GAP = 40, 76, 500, 22
_MOST_NAME, _LEAST_WIDTH = 34, 900

LIGHT = {"fo-up": "#1a7f37", "fo-down": "#bc2f1a", "fo-calm": "#2166a8", "fo-open": "#57606a"}
DARK = {"fo-up": "#3fb950", "fo-down": "#f0883e", "fo-calm": "#58a6ff", "fo-open": "#9da7b1"}
_AREA = {"fo-unseen": ("#eef1f4", "#1a212b")}


@dataclass(frozen=True)
class Row:
    """One comparison: ``mark`` is one of ``marks.SHAPES``, or nothing; ``visible``: the smallest change that could be seen.

    ``beneath``: who was compared; ``figures``: the effect in words. Effect, interval and what is visible are in units of the axis.
    """

    name: str
    beneath: str
    words: str
    figures: str
    mark: str | None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    visible: float | None = None


def draw(title: str, unit: str, rows: Sequence[Row], words: Callable[[float], str], legend: Sequence[tuple[str, str]]) -> str:
    """Draw rows under each other; ``unit`` says what the axis is of, ``words`` writes a value of it, ``legend`` what a mark means."""
    widest = max((len(drawing.shortened(row.name, _MOST_NAME)) * 1.08 for row in rows), default=0)
    left = 16 + drawing.LETTER * max(widest, max((len(row.beneath) * 0.95 for row in rows), default=0)) + _GAP
    limit = _limit(rows)
    axis = Axis(-limit, limit, left, _PLOT)
    right, bottom = left + _PLOT + _GAP, _TOP + _ROW * len(rows)
    most = max((len(words) for row in rows for words in (row.words, row.figures)), default=0)
    width = max(right + drawing.LETTER * (most + 1) + 8, _LEAST_WIDTH)
    parts = [
        drawing.text(12, 42, unit, ink="faint"),
        drawing.text(axis.at(0) - 12, _TOP - 12, "← less", ink="faint", anchor="end"),
        drawing.text(axis.at(0) + 12, _TOP - 12, "more →", ink="faint"),
        *(stroke for place, row in enumerate(rows) for stroke in _unseen(row, axis, _TOP + _ROW * place)),
        *axis.across(_TOP, bottom, words),
        f'<path class="fo-zero" stroke-width="1.2" d="M{axis.at(0):.5g} {_TOP - 4}V{bottom + 2}"/>',
        *(stroke for place, row in enumerate(rows) for stroke in _row(row, axis, _TOP + _ROW * place + _ROW / 2, right)),
        *_legend(legend, bottom + 36, width),
    ]
    zero = ({"fo-zero": "#1f2328"}, {"fo-zero": "#c9d1d9"})
    return drawing.svg(width, bottom + 54, title, parts, LIGHT | zero[0], DARK | zero[1], areas=_AREA)


def _limit(rows: Sequence[Row]) -> float:
    """Choose where the axis ends: at all intervals, unless a few are so wide that they would press the others together."""
    ends = [max(abs(row.low), abs(row.high)) for row in rows if row.low is not None and row.high is not None]
    seen = [abs(row.effect) for row in rows if row.effect is not None]
    if not ends:
        return 1.0
    reach = min(max(ends), max(2.5 * median(ends), 1.2 * max(seen, default=0.0)))
    step = round_step(max(reach, 1e-9) / 4)
    return step * -(-reach // step) or 1.0


def _unseen(row: Row, axis: Axis, top: float) -> Iterator[str]:
    """Shade what is too small to be seen."""
    if row.visible is not None:
        first, last = axis.at(-row.visible), axis.at(row.visible)
        yield f'<rect class="fo-unseen" x="{first:.5g}" y="{top + 4:.5g}" width="{last - first:.5g}" height="{_ROW - 8}"/>'


def _row(row: Row, axis: Axis, y: float, right: float) -> Iterator[str]:
    yield drawing.text(12, y - 7, drawing.shortened(row.name, _MOST_NAME), more=' font-weight="600"')
    yield drawing.text(12, y + 8, row.beneath, ink="faint")
    yield drawing.text(right, y - 7, row.words, more=' font-weight="600"')
    yield drawing.text(right, y + 8, row.figures, ink="faint")
    name = f"fo-{marks.FAMILY.get(row.mark or '', 'open')}"
    if row.low is not None and row.high is not None:
        yield from _interval(row.low, row.high, axis, y, name, is_broken=row.mark in marks.UNSURE)
    if row.mark is not None and row.effect is not None and axis.has(row.effect):
        yield marks.draw(row.mark, axis.at(row.effect), y, name)


def _interval(low: float, high: float, axis: Axis, y: float, name: str, *, is_broken: bool) -> Iterator[str]:
    """Draw an interval with a bar at an end that is on the axis, an arrow at one beyond it."""
    first, last = axis.at(low), axis.at(high)
    dashes = ' stroke-dasharray="4 3"' if is_broken else ""
    yield f'<path class="{name}" stroke-width="2"{dashes} d="M{first:.5g} {y:.5g}H{last:.5g}"/>'
    ends = [
        f"M{x:.5g} {y - 5:.5g}v10" if axis.has(value) else f"M{x - 6 * side:.5g} {y - 5:.5g}l{6 * side} 5l{-6 * side} 5"
        for value, x, side in ((low, first, -1), (high, last, 1))
    ]
    yield f'<path class="{name}" stroke-width="2" d="{"".join(ends)}"/>'


def _legend(legend: Sequence[tuple[str, str]], y: float, width: float) -> Iterator[str]:
    x = 18.0
    for mark, words in legend:
        if x + drawing.LETTER * len(words) + 20 > width:
            return
        yield marks.draw(mark, x, y, f"fo-{marks.FAMILY[mark]}")
        yield drawing.text(x + 12, y, words, ink="faint")
        x += 36 + drawing.LETTER * len(words)
    yield f'<rect class="fo-unseen" x="{x - 6:.5g}" y="{y - 6:.5g}" width="18" height="12"/>'
    yield drawing.text(x + 18, y, "too small to be seen", ink="faint")
