"""Marks that are told apart by their shape: a picture is read in black and white, too.

What belongs here: shapes. What does not: what they stand for (``reports.wording``).
"""

from collections.abc import Mapping

_SHAPES: Mapping[str, tuple[str, bool]] = {
    "up": ("M0 -7l7 12h-14z", True),
    "down": ("M0 7l7 -12h-14z", True),
    "square": ("M-5 -5h10v10h-10z", True),
    "bar": ("M-6 -2.5h12v5h-12z", True),
    "ring": ("M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z", False),
    "diamond": ("M0 -6l6 6l-6 6l-6 -6z", False),
    "left": ("M-6 0l10 -6v12z", False),
    "right": ("M6 0l-10 -6v12z", False),
    "box": ("M-4.5 -4.5h9v9h-9z", False),
    "cross": ("M-5 -5l10 10M-5 5l10 -10", False),
}
"""A path around the middle, and whether it is filled."""

SHAPES = tuple(_SHAPES)
UNSURE = ("diamond", "cross")
"""Whose intervals are drawn broken: what they stand for may not be read as a result."""

FAMILY: Mapping[str, str] = {
    "up": "up",
    "down": "down",
    "square": "calm",
    "bar": "calm",
    "ring": "open",
    "diamond": "open",
    "cross": "down",
}
"""Which colours marks share."""


def draw(shape: str, x: float, y: float, name: str) -> str:
    """Draw one with strokes of a class: a filled one in ink, a hollow one on paper."""
    path, is_filled = _SHAPES[shape]
    filling = "" if shape == "cross" else f'<path class="{"ink" if is_filled else "paper"}" d="{path}"/>'
    return f'<g transform="translate({x:.5g} {y:.5g})">{filling}<path class="{name}" stroke-width="1.8" d="{path}"/></g>'
