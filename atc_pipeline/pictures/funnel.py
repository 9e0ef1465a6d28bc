"""A funnel: how many get from one stage to the next, as bars under each other.

What belongs here: drawing stages that are counted. What does not: counting them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from atc_pipeline.pictures import drawing

_ROW, _TOP, _BAR, _LENGTH = 34, 62, 20, 520
_AREAS = {"fu-bar": ("#9ec3e6", "#1f4f7d")}


@dataclass(frozen=True)
class Stage:
    """A stage: what it is, how many are in it, and what share of an earlier one that is, in words."""

    name: str
    number: int
    share: str = ""


def draw(title: str, caption: str, stages: Sequence[Stage]) -> str:
    """Draw the stages from above."""
    left = 24 + drawing.LETTER * max((len(stage.name) for stage in stages), default=0)
    largest = max((stage.number for stage in stages), default=0) or 1
    parts = [drawing.text(12, 42, caption, ink="faint")]
    for place, stage in enumerate(stages):
        y = _TOP + _ROW * place + _ROW / 2
        length = max(1.5 if stage.number else 0.0, _LENGTH * stage.number / largest)
        parts.append(drawing.text(left - 10, y, stage.name, anchor="end"))
        parts.append(f'<rect class="fu-bar" x="{left:.5g}" y="{y - _BAR / 2:.5g}" width="{length:.5g}" height="{_BAR}"/>')
        edge = f"M{left:.5g} {y - _BAR / 2:.5g}h{length:.5g}v{_BAR}h{-length:.5g}z"
        parts.append(f'<path class="fu-edge" stroke-width="1" d="{edge}"/>')
        words = f"{stage.number:,}" + (f"   {stage.share}" if stage.share else "")
        parts.append(drawing.text(left + length + 8, y, words))
    widest = max((len(stage.share) + 14 for stage in stages), default=0)
    width = left + _LENGTH + 20 + drawing.LETTER * widest
    return drawing.svg(width, _TOP + _ROW * len(stages) + 12, title, parts, {"fu-edge": "#2166a8"}, {"fu-edge": "#58a6ff"}, areas=_AREAS)
