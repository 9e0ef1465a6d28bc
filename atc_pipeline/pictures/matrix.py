"""The segment matrix: micro-segments x days, how large each is and which journey serves most of it.

What belongs here: the table and its picture. What does not: who is in a segment (``customers.segments``), reading and writing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

import polars as pl

from atc_pipeline.journeys.portfolio import EVERYONE_ELSE, Portfolio
from atc_pipeline.pictures import drawing

SIZES = ("#e3eef8", "#c9deef", "#abcde6", "#86b6dc", "#5e9ccf", "#3c81bf", "#2166a8", "#124a86", "#082c5c")
SIZES_AT_NIGHT = ("#112236", "#15304d", "#194066", "#1e5383", "#2769a1", "#3c84bf", "#5f9fd6", "#8fc0ea", "#cfe6fa")
JOURNEYS = (
    "#e4572e", "#2e9e4f", "#f2a71b", "#7d55c7", "#16a3a3", "#d81b78", "#8d6e4b", "#c79a52", "#9bb53c", "#e58ac0", "#a32a2a", "#2f6f5e",
    "#d9c62b", "#5c3a8f", "#22bcd0", "#f28b6e", "#76791c", "#b48be0", "#0f6e84", "#f4b6a0", "#8c1d5a", "#7fd0a5", "#5a4632", "#6bd425",
)  # fmt: skip
OTHERS = "#9aa4ad"

SPARKS = "▁▂▃▄▅▆▇█"

MOST_DRAWN = 200
"""Micro-segments in one picture: more are neither looked at nor quickly drawn."""

_ROW, _BAND, _STRIP = 21, 11, 6
_WIDTH = 1095
"""Of the days together, or 2 pixels a day: 3 for a year."""


@dataclass(frozen=True)
class _Grid:
    """Where the cells are."""

    days: Sequence[date]
    segments: Sequence[str]

    @property
    def day_width(self) -> int:
        return max(2, _WIDTH // len(self.days))

    @property
    def left(self) -> float:
        return 24 + drawing.LETTER * max(len(segment) for segment in self.segments)

    @property
    def right(self) -> float:
        return self.left + self.day_width * len(self.days)

    @property
    def top(self) -> int:
        return 78

    @property
    def bottom(self) -> int:
        return self.top + _ROW * len(self.segments)


def summary(matrix: pl.DataFrame, portfolio: Portfolio, *, width: int = 30) -> pl.DataFrame:
    """One row per micro-segment of a stretch of days: its size at the end and on the way, who came and went, what served it most."""
    names = {journey.id: journey.name for journey in portfolio.journeys}
    by_segment = {segment: rows for (segment,), rows in matrix.sort("date").group_by("segment_id")}
    first, last = matrix["date"].min(), matrix["date"].max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    days = drawing.days_between(first, last)
    places = [days[(number + 1) * len(days) // min(width, len(days)) - 1] for number in range(min(width, len(days)))]
    table = []
    for segment in _order(by_segment, portfolio):
        rows = by_segment[segment]
        sizes = dict(rows.select("date", "customers").iter_rows())
        most = rows.drop_nulls("journey_id").group_by("journey_id").agg(pl.col("served_most").sum())
        most = most.sort(["served_most", "journey_id"], descending=[True, False])
        table.append(
            {
                "segment": segment,
                "customers": sizes.get(last, 0),
                "entered": rows["entered"].sum(),
                "left": rows["left"].sum(),
                "over time": sparkline([sizes.get(day, 0) for day in places]),
                "served most": names.get(most["journey_id"][0], most["journey_id"][0]) if most.height else None,
            }
        )
    return pl.DataFrame(table)


def sparkline(sizes: Sequence[int]) -> str:
    """Draw numbers as a line of text, the largest a full block; nothing where there is nobody."""
    largest = max(sizes, default=0)
    return "".join(SPARKS[(size * len(SPARKS) - 1) // largest] if size else " " for size in sizes)


def draw(matrix: pl.DataFrame, portfolio: Portfolio, most: int = MOST_DRAWN) -> str:
    """Draw a stretch of days as an SVG: a band per micro-segment coloured by its size, beneath it a strip coloured by journey.

    Of more micro-segments than ``most`` the largest are drawn.
    """
    every = matrix["segment_id"].n_unique()
    if every > most:
        sizes_of_all = (
            matrix.group_by("segment_id").agg(pl.col("customers").sum()).sort("customers", "segment_id", descending=[True, False])
        )
        matrix = matrix.join(sizes_of_all.head(most), on="segment_id", how="semi")
    names = {journey.id: journey.name for journey in portfolio.journeys}
    first, last = matrix["date"].min(), matrix["date"].max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    grid = _Grid(drawing.days_between(first, last), _order(matrix["segment_id"].unique(), portfolio))
    place = {day: number for number, day in enumerate(grid.days)}
    steps = _choose_steps(matrix["customers"].max())
    keys = _colour_journeys(matrix, portfolio)
    parts = _frame(grid, matrix)
    bands: dict[str, list[tuple[float, float, float]]] = {}
    by_segment = matrix.filter(pl.col("customers") > 0).sort("date").partition_by("segment_id", as_dict=True)
    for row, segment in enumerate(grid.segments):
        cells = by_segment.get((segment,), matrix.clear())
        at = [place[day] for day in cells["date"]]
        sizes = [f"s{sum(size >= step for step in steps) - 1}" for size in cells["customers"]]
        served = [None if journey is None else keys.get(journey, "other") for journey in cells["journey_id"]]
        y = grid.top + row * _ROW
        for classes, middle in ((sizes, y + 2 + _BAND / 2), (served, y + 2 + _BAND + _STRIP / 2)):
            for name, start, length in _join_runs(at, classes):
                bands.setdefault(name, []).append((grid.left + grid.day_width * start, middle, grid.day_width * length))
    parts.append('<g shape-rendering="crispEdges">')
    parts += [drawing.strips(name, _BAND if name.startswith("s") else _STRIP, bands[name]) for name in sorted(bands)]
    parts.append("</g>")
    parts += _sizes_legend(steps, grid.left)
    shown = {key: names.get(journey, journey) for journey, key in keys.items()}
    legend, height = _journeys_legend(shown, grid, has_others="other" in bands)
    colours = {key: JOURNEYS[int(key[1:])] for key in shown} | {"other": OTHERS}
    light, dark = ({f"s{number}": colour for number, colour in enumerate(sizes)} for sizes in (SIZES, SIZES_AT_NIGHT))
    title = f"Micro-segments by day, {drawing.stretch(first, last)}" + (f": the {most} largest of {every:,}" if every > most else "")
    return drawing.svg(grid.right + 62, height, title, [*parts, *legend], light | colours, dark)


def _frame(grid: _Grid, matrix: pl.DataFrame) -> list[str]:
    """Draw what is around the cells: names, the axis of days, the sizes at the end."""
    last, names, numbers = grid.days[-1], grid.left - 10, grid.right + 48
    sizes = dict(matrix.filter(pl.col("date") == last).select("segment_id", "customers").iter_rows())
    parts = [drawing.text(names, grid.top - 10, "micro-segment", ink="faint", anchor="end")]
    parts.append(drawing.text(numbers, grid.top - 10, f"{last.day} {last:%b}", ink="faint", anchor="end"))
    for number, words in drawing.marked_days(grid.days, 46 / grid.day_width):
        x = grid.left + grid.day_width * number
        parts.append(f'<path class="rule" d="M{x:.5g} {grid.top - 4}V{grid.bottom + 4}"/>')
        parts += [drawing.text(x + 3, y, words, ink="faint") for y in (grid.top - 10, grid.bottom + 12)]
    for row, segment in enumerate(grid.segments):
        y = grid.top + _ROW * row + _ROW / 2
        parts.append(drawing.text(names, y, segment, anchor="end"))
        parts.append(drawing.text(numbers, y, f"{sizes.get(segment, 0):,}", anchor="end"))
    return parts


def _sizes_legend(steps: Sequence[int], left: float) -> list[str]:
    parts = [drawing.text(left - 10, 42, "customers", ink="faint", anchor="end")]
    for number, step in enumerate(steps):
        x = left + 44 * number
        parts += [drawing.strips(f"s{number}", _BAND, [(x, 42, 42)]), drawing.text(x, 56, f"{step:,}", ink="faint")]
    words = "band: how many are in it; strip beneath: the journey that serves more of them than any other"
    return [*parts, drawing.text(left + 44 * len(steps) + 24, 42, words, ink="faint")]


def _journeys_legend(names: Mapping[str, str], grid: _Grid, *, has_others: bool) -> tuple[list[str], float]:
    """List the journeys in columns; return the parts and where they end."""
    shown = [*names.items(), *([("other", "another journey")] if has_others else [])]
    wide = 40 + drawing.LETTER * max((len(name) for _, name in shown), default=0)
    columns, top = max(1, int((grid.right - grid.left) // wide)), grid.bottom + 36
    parts = [drawing.text(grid.left - 10, top, "served most", ink="faint", anchor="end")] if shown else []
    for number, (key, name) in enumerate(shown):
        x, y = grid.left + wide * (number % columns), top + 17 * (number // columns)
        parts += [drawing.strips(key, _STRIP + 3, [(x, y, 18)]), drawing.text(x + 24, y, name)]
    return parts, top + 17 * -(-len(shown) // columns)


def _order(segments: Sequence[str] | pl.Series | Mapping[str, object], portfolio: Portfolio) -> list[str]:
    """Order micro-segments as journeys.yaml does; everybody else comes last but for those no longer in it."""
    known = [*(segment.id for segment in portfolio.segments), EVERYONE_ELSE]
    return [segment for segment in known if segment in segments] + sorted(segment for segment in segments if segment not in known)


def _choose_steps(largest: object) -> list[int]:
    """Choose the sizes at which the colour changes: 1, 2, 5, 10, 20, ... up to the largest, so many as there are colours."""
    steps = [digit * 10**power for power in range(12) for digit in (1, 2, 5)]
    assert isinstance(largest, int)
    reached = [step for step in steps if step <= largest] or [1]
    return [1, *reached[1:][1 - len(SIZES) :]]


def _colour_journeys(matrix: pl.DataFrame, portfolio: Portfolio) -> dict[str, str]:
    """Give journeys a colour each: the same in every picture, or where there are too many, to those that serve segments most often."""
    counts = matrix.drop_nulls("journey_id").group_by("journey_id").len().sort(["len", "journey_id"], descending=[True, False])
    seen, known = counts["journey_id"].to_list(), [journey.id for journey in portfolio.journeys]
    order = [*known, *sorted(set(seen) - set(known))]
    coloured = order if len(order) <= len(JOURNEYS) else seen[: len(JOURNEYS)]
    return {journey: f"j{number}" for number, journey in enumerate(coloured) if journey in seen}


def _join_runs(places: Sequence[int], classes: Sequence[str | None]) -> list[tuple[str, int, int]]:
    """Join neighbouring days of one class: its name, the first day's place, the number of days."""
    runs = []
    cells = [(place, name) for place, name in zip(places, classes, strict=True) if name is not None]
    for (name, _), run in groupby(enumerate(cells), key=lambda numbered: (numbered[1][1], numbered[1][0] - numbered[0])):
        days = [place for _, (place, _) in run]
        runs.append((name, days[0], len(days)))
    return runs
