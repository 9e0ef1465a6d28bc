"""Lines on two logarithmic axes, as an SVG of a few kilobytes.

What belongs here: drawing. What does not: measuring.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, GAP = 380, 260, 56, 56, 64
COLOURS = ("#7a7a7a", "#d1495b", "#00798c", "#30638e", "#edae49")


@dataclass(frozen=True)
class Panel:
    """What is along the bottom, and a line of (x, y) points each by name; all positive, x ascending."""

    along: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


def draw(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """Draw the panels side by side on one vertical scale. A line that grows in proportion rises by a decade per decade."""
    heights = [y for panel in panels for points in panel.lines.values() for _, y in points]
    bottom, top = floor(log10(min(heights))), max(ceil(log10(max(heights))), floor(log10(min(heights))) + 1)
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    width, height = LEFT + len(panels) * (WIDTH + GAP), TOP + HEIGHT + 52
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}</text>',
    ]
    at = LEFT
    for name, colour in colours.items():
        parts.append(f'<path d="M{at} 34h18" stroke="{colour}" stroke-width="2.5"/><text x="{at + 24}" y="38">{escape(name)}</text>')
        at += 48 + round(6.4 * len(name))
    for place, panel in enumerate(panels):
        parts += _panel(panel, LEFT + place * (WIDTH + GAP), bottom, top, colours)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def _panel(panel: Panel, left: int, bottom: int, top: int, colours: Mapping[str, str]) -> list[str]:
    marks = sorted({x for points in panel.lines.values() for x, _ in points})
    first, last = log10(marks[0]), log10(marks[-1])

    def across(x: float) -> float:
        return round(left + 14 + (WIDTH - 28) * (log10(x) - first) / ((last - first) or 1), 1)

    def down(y: float) -> float:
        return round(TOP + HEIGHT * (1 - (log10(y) - bottom) / (top - bottom)), 1)

    parts = []
    for power in range(bottom, top + 1):
        y = down(10.0**power)
        parts.append(
            f'<path d="M{left} {y}h{WIDTH}" stroke="#ddd"/><text x="{left - 6}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>'
        )
    parts += [f'<text x="{across(x)}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{x:,.0f}</text>' for x in marks]
    parts.append(f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 40}" text-anchor="middle">{escape(panel.along)}</text>')
    for name, points in panel.lines.items():
        places = [(across(x), down(y)) for x, y in points]
        line = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colours[name]}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colours[name]}"/>' for x, y in places]
    return parts
