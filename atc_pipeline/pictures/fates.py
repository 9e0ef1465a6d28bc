"""What becomes of those who enter, day by day: stacked shares, each named where it ends and parted by a line.

What belongs here: drawing shares that are there. What does not: making them (``reports.journey``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atc_pipeline.pictures import drawing, figures
from atc_pipeline.pictures.axis import Axis, round_step

_LEFT, _TOP, _WIDTH, _HEIGHT, _APART = 78, 86, 660, 230, 15
_COLOURS = {
    "converted": ("#a6dcb4", "#1d6b35"),
    "completed": ("#b7d3ec", "#1f4f7d"),
    "exited": ("#e2c3ab", "#7a4a2a"),
    "interrupted": ("#f5d7a8", "#8a5a12"),
    "running": ("#eef1f4", "#1a212b"),
}
"""The kinds of fates there are, by day and by night."""
KINDS = tuple(_COLOURS)


@dataclass(frozen=True)
class Fate:
    """One fate: of which kind, what it is called, and the share it had by the end of each day."""

    kind: str
    name: str
    shares: Sequence[float]


def draw(title: str, caption: str, fates: Sequence[Fate], note: tuple[int, str] | None = None) -> str:
    """Draw fates on top of each other, from below; ``note``: a day to be pointed to, and why."""
    number = max((len(fate.shares) for fate in fates), default=0)
    days, shares = Axis(0, max(1, number), _LEFT, _WIDTH), Axis(0, 1, _TOP + _HEIGHT, -_HEIGHT)
    bottom = _TOP + _HEIGHT
    parts = [drawing.text(12, 42, caption, ink="faint")]
    below = [0.0] * number
    names: list[tuple[float, str]] = []
    for fate in fates:
        above = [low + share for low, share in zip(below, fate.shares, strict=True)]
        parts += _layer(fate.kind, below, above, days, shares)
        if above and fate.shares[-1] > 0:
            names.append((shares.at((below[-1] + above[-1]) / 2), f"{fate.name}: {figures.share(fate.shares[-1])}"))
        below = above
    parts += shares.upward(_LEFT, _LEFT + _WIDTH, figures.share)
    step = max(1, round(round_step(max(1, number) / 9)))
    parts += [
        drawing.text(days.at(day - 0.5), bottom + 14, f"{day}", ink="faint", anchor="middle")
        for day in range(1, number + 1)
        if day == 1 or day % step == 0
    ]
    parts.append(drawing.text(_LEFT + _WIDTH / 2, bottom + 31, "day of the journey", ink="faint", anchor="middle"))
    if note is not None:
        x = days.at(note[0] - 0.5)
        parts.append(f'<path class="fa-edge" stroke-width="1.4" stroke-dasharray="3 2" d="M{x:.5g} {_TOP - 4}V{bottom}"/>')
        parts.append(drawing.text(x, _TOP - 12, note[1], anchor="middle" if 120 < x < _LEFT + _WIDTH - 120 else "start"))
    parts += _names(names)
    widest = max((len(words) for _, words in names), default=0)
    width = _LEFT + _WIDTH + 40 + drawing.LETTER * widest
    areas = {f"fa-{kind}": pair for kind, pair in _COLOURS.items()}
    return drawing.svg(width, bottom + 46, title, parts, {"fa-edge": "#1f2328"}, {"fa-edge": "#e6edf3"}, areas=areas)


def _layer(kind: str, below: Sequence[float], above: Sequence[float], days: Axis, shares: Axis) -> Iterator[str]:
    top = "".join(f"H{days.at(day):.5g}V{shares.at(share):.5g}H{days.at(day + 1):.5g}" for day, share in enumerate(above))
    back = "".join(f"V{shares.at(below[day]):.5g}H{days.at(day):.5g}" for day in reversed(range(len(below))))
    if above:
        yield f'<path class="fa-{kind}" d="M{days.at(0):.5g} {shares.at(above[0]):.5g}{top}{back}z"/>'
        yield f'<path class="fa-edge" stroke-width="0.8" d="M{days.at(0):.5g} {shares.at(above[0]):.5g}{top}"/>'


def _names(names: Sequence[tuple[float, str]]) -> Iterator[str]:
    """Write names beside the last day, apart from each other: the first is at the bottom."""
    y = float(_TOP + _HEIGHT + _APART)
    for at, words in names:
        y = min(at, y - _APART)
        yield f'<path class="fa-edge" stroke-width="0.8" d="M{_LEFT + _WIDTH} {at:.5g}L{_LEFT + _WIDTH + 12} {y:.5g}"/>'
        yield drawing.text(_LEFT + _WIDTH + 16, y, words)
