"""Curves over days: lines that are told apart by their strokes, each named where it ends, with bands around them.

What belongs here: drawing points that are there. What does not: making them, and what they mean (``reports``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from atc_pipeline.pictures import drawing
from atc_pipeline.pictures.axis import Axis, round_step

_LEFT, _TOP, _WIDTH, _HEIGHT = 78, 70, 660, 250
_MOST_NAME, _APART = 56, 15

_STROKES = (("2.6", ""), ("2", "7 4"), ("2", "2 3"), ("2", "10 3 2 3"), ("1.4", ""), ("1.4", "4 2"))
"""Width and dashes of each line: in black and white they are told apart by these."""
_COLOURS = (
    ("#0b5394", "#79c0ff"),
    ("#9a4d00", "#f0a35e"),
    ("#1a7f37", "#56d364"),
    ("#7d3fb0", "#d2a8ff"),
    ("#57606a", "#9da7b1"),
    ("#b0305c", "#ff9bc0"),
)
MOST = len(_STROKES)
"""Lines in one picture."""


@dataclass(frozen=True)
class Line:
    """Points (days, value), in order; ``band``: (days, low, high) around them."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


def draw(title: str, caption: str, lines: Sequence[Line], words: Callable[[float], str], across: str) -> str:
    """Draw the lines; ``words`` writes a value, ``across`` says what the days are counted from."""
    drawn = lines[:MOST]
    values = [value for line in drawn for _, value in line.points] + [end for line in drawn for _, *ends in line.band for end in ends]
    last = max([1.0, *(days for line in drawn for days, _ in line.points)])
    days = Axis(0, last, _LEFT, _WIDTH)
    high, low = max([0.0, *values]), min([0.0, *values])
    step = round_step(max(high - low, 1e-9) / 5)
    heights = Axis(step * (low // step), step * -(-high // step) or step, _TOP + _HEIGHT, -_HEIGHT)
    bottom = _TOP + _HEIGHT
    parts = [drawing.text(12, 42, caption, ink="faint"), *heights.upward(_LEFT, _LEFT + _WIDTH, words)]
    step_days = max(1, round(round_step(last / 9)))
    parts += [
        drawing.text(days.at(mark), bottom + 14, f"{mark}", ink="faint", anchor="middle") for mark in range(0, int(last) + 1, step_days)
    ]
    parts.append(drawing.text(_LEFT + _WIDTH / 2, bottom + 31, across, ink="faint", anchor="middle"))
    parts += [_band(line, number, days, heights) for number, line in enumerate(drawn) if line.band]
    parts += [_line(line, number, days, heights) for number, line in enumerate(drawn) if line.points]
    parts += _names(drawn, heights)
    widest = max((len(drawing.shortened(line.name, _MOST_NAME)) for line in drawn), default=0)
    colours = [{f"cu-{number}": pair[at] for number, pair in enumerate(_COLOURS)} for at in (0, 1)]
    areas = {f"cb-{number}": pair for number, pair in enumerate(_COLOURS)}
    width = max(_LEFT + _WIDTH + 48 + drawing.LETTER * widest, 12 + drawing.LETTER * 1.4 * len(title))
    return drawing.svg(width, bottom + 46, title, parts, colours[0], colours[1], areas=areas)


def _band(line: Line, number: int, days: Axis, heights: Axis) -> str:
    upper = [f"{days.at(day):.5g} {heights.at(high):.5g}" for day, _, high in line.band]
    lower = [f"{days.at(day):.5g} {heights.at(low):.5g}" for day, low, _ in reversed(line.band)]
    return f'<path class="cb-{number}" fill-opacity="0.13" d="M{"L".join([*upper, *lower])}z"/>'


def _line(line: Line, number: int, days: Axis, heights: Axis) -> str:
    width, dashes = _STROKES[number]
    path = "L".join(f"{days.at(day):.5g} {heights.at(value):.5g}" for day, value in line.points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path class="cu-{number}" stroke-width="{width}" stroke-linejoin="round"{dashed} d="M{path}"/>'


def _names(lines: Sequence[Line], heights: Axis) -> Iterator[str]:
    """Write each name where its line ends, as near as the others leave room, with a piece of its stroke before it."""
    ends = sorted((heights.at(line.points[-1][1]), number) for number, line in enumerate(lines) if line.points)
    y, places = 0.0, {}
    for end, number in ends:
        y = max(end, y + _APART)
        places[number] = y
    beyond = max(0.0, y - (_TOP + _HEIGHT))
    for number, at in places.items():
        width, dashes = _STROKES[number]
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        x = _LEFT + _WIDTH + 8
        yield f'<path class="cu-{number}" stroke-width="{width}"{dashed} d="M{x} {at - beyond:.5g}h24"/>'
        yield drawing.text(x + 30, at - beyond, drawing.shortened(lines[number].name, _MOST_NAME))
