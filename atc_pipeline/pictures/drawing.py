"""What all pictures share: paper and ink that read in light and in dark, and an axis of days.

What belongs here: drawing. What does not: what is drawn, and writing files.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta

from atc_pipeline.escaping import plain, xml

FONT = 11
LETTER = 6.1
"""About as wide as a letter of the font is, in pixels."""

_LIGHT = {"paper": "#ffffff", "ink": "#1f2328", "faint": "#667079", "rule": "#e3e7eb"}
_DARK = {"paper": "#0d1117", "ink": "#e6edf3", "faint": "#8b949e", "rule": "#252c35"}


def svg(
    width: float,
    height: float,
    title: str,
    parts: Iterable[str],
    light: Mapping[str, str],
    dark: Mapping[str, str] | None = None,
    *,
    areas: Mapping[str, tuple[str, str]] | None = None,
) -> str:
    """Lay a picture out on paper of its own; ``light`` and ``dark``: the colours its strokes have by class, in either scheme.

    ``areas``: the colours that surfaces are filled with by class, by day and by night.
    """
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    by_day, by_night = ("".join(f".{name}{{fill:{pair[at]}}}" for name, pair in (areas or {}).items()) for at in (0, 1))
    style = f"{_style(_LIGHT, light)}{by_day}\n@media screen and (prefers-color-scheme: dark) {{{_style(_DARK, dark or {})}{by_night}}}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="system-ui, sans-serif" font-size="{FONT}">',
            f"<title>{xml(title)}</title>",
            f"<style>{style}</style>",
            '<rect class="paper" width="100%" height="100%"/>',
            text(12, 20, title, more=' font-size="15" font-weight="600"'),
            *parts,
            "</svg>\n",
        ]
    )


def _style(ground: Mapping[str, str], strokes: Mapping[str, str]) -> str:
    rules = [f".{name}{{fill:{ground[name]}}}" for name in ("paper", "ink", "faint")] + [f".rule{{stroke:{ground['rule']}}}"]
    return "".join([*rules, *(f".{name}{{stroke:{colour};fill:none}}" for name, colour in strokes.items())])


def text(x: float, y: float, words: str, *, ink: str = "ink", anchor: str = "start", more: str = "") -> str:
    """Write words; ``y`` is where their middle stands."""
    return f'<text class="{ink}" x="{x:.5g}" y="{y + 4:.5g}" text-anchor="{anchor}"{more}>{xml(words)}</text>'


def strips(name: str, width: float, strips: Iterable[tuple[float, float, float]]) -> str:
    """Draw horizontal strips, each from a left end (x, middle y) and so long, in one stroke of the class's colour."""
    path = "".join(f"M{x:.5g} {y:.5g}h{length:.5g}" for x, y, length in strips)
    return f'<path class="{name}" stroke-width="{width:g}" d="{path}"/>' if path else ""


def days_between(first: date, last: date) -> list[date]:
    """List the days from the first to the last."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def marked_days(days: Sequence[date], apart: float) -> list[tuple[int, str]]:
    """Choose the days of a stretch to be marked along it, so many days apart at least; return their places and words."""
    return next(
        (
            [(place, words(day)) for place, day in enumerate(days) if is_marked(day)]
            for at_least, is_marked, words in _RHYTHMS
            if at_least >= apart
        ),
        [],
    )


_RHYTHMS: Sequence[tuple[int, Callable[[date], bool], Callable[[date], str]]] = (
    (1, lambda _: True, lambda day: f"{day.day} {day:%b}"),
    (7, lambda day: day.weekday() == 0, lambda day: f"{day.day} {day:%b}"),
    (28, lambda day: day.day == 1, lambda day: f"{day:%b}" if day.month > 1 else f"{day:%Y}"),
    (90, lambda day: day.day == 1 and day.month % 3 == 1, lambda day: f"{day:%b}" if day.month > 1 else f"{day:%Y}"),
    (365, lambda day: day.day == 1 and day.month == 1, lambda day: f"{day:%Y}"),
)
"""How often days are marked at least, which are, and what is written at them; Mondays and months, as people count."""


def stretch(first: date, last: date) -> str:
    """Write from when to when."""
    year = "" if first.year == last.year else f" {first.year}"
    return f"{last.day} {last:%B %Y}" if first == last else f"{first.day} {first:%B}{year} to {last.day} {last:%B %Y}"


def day_of(day: date) -> str:
    """Write a day."""
    return f"{day.day} {day:%B %Y}"


def shortened(words: str, most: int) -> str:
    """Cut words that leave no room; what acts in them is written out first."""
    visible = plain(words, None)
    return visible if len(visible) <= most else f"{visible[: most - 1]}…"
