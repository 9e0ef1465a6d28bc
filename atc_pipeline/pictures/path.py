"""One customer's path: through which micro-segments and journeys they came, day by day, as text and as a picture.

What belongs here: laying out tables that are there already. What does not: reading them, deciding anything, and why a day
went as it did (``explanation.page``).
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from itertools import pairwise
from string import ascii_letters

import polars as pl

from atc_pipeline.escaping import plain
from atc_pipeline.pictures import drawing

WIDTH = 100
_LABEL = 32
_MESSAGES, _QUOTED = 20, 60
"""Messages that are listed, and letters of what one says."""

ENDINGS: Mapping[str | None, tuple[str, str, str, str]] = {
    "converted": ("+", "reached its goal", "#2e9e4f", "#3fb950"),
    "completed": ("=", "ran its full length", "#3c81bf", "#58a6ff"),
    "interrupted": ("/", "interrupted by another", "#e07b1a", "#f0883e"),
    "exited": ("<", "left early", "#a0522d", "#c98a5e"),
    "withdrawn": ("-", "taken out of journeys.yaml", "#8b5fbf", "#bc8cff"),
    "merged": ("&", "ended by a merge", "#8b5fbf", "#bc8cff"),
    None: (" ", "still running when last seen", "#8fa3b5", "#7d8fa1"),
}
"""How a journey ends: its mark, what it is called, its colour by day and by night."""


@dataclass(frozen=True, eq=False)
class Path:
    """What the lake knows of one customer from ``first`` to ``last``; each frame holds this customer's rows only.

    ``called``: names of journeys by id.

    ``names``: one row per day, with the ``customer_id`` they had on it; the other frames hold what was under that name.
    ``events``: one row per day and name of event, with how many (``number``).
    """

    customer_id: str
    first: date
    last: date
    called: Mapping[str, str]
    names: pl.DataFrame
    memberships: pl.DataFrame
    assignments: pl.DataFrame
    messages: pl.DataFrame
    events: pl.DataFrame

    @cached_property
    def days(self) -> Sequence[date]:
        """Return the days of the path."""
        return drawing.days_between(self.first, self.last)

    @cached_property
    def segments(self) -> Mapping[str, Sequence[int]]:
        """Return the places of the days in each micro-segment, the earliest joined first."""
        ordered = (
            self.memberships.group_by("segment_id").agg(pl.col("date").unique().sort()).sort(pl.col("date").list.first(), "segment_id")
        )
        return {segment: [self.place(day) for day in days] for segment, days in ordered.iter_rows()}

    @cached_property
    def spells(self) -> Sequence["Spell"]:
        """Return the stays in journeys, in order."""
        spells: list[Spell] = []
        running, name = False, None
        for row in self.assignments.sort("date").iter_rows(named=True):
            if running and row["ended_journey_id"] == spells[-1].journey_id:
                spells[-1], running = replace(spells[-1], ending=row["ended_reason"]), False
            if running and (row["journey_id"], row["entered_on"]) != (spells[-1].journey_id, spells[-1].entered_on):
                spells[-1], running = replace(spells[-1], ending="merged" if row["customer_id"] != name else None), False
            if row["journey_id"] is not None and not running:
                how = row["decision"] if row["decision"] in ("start", "switch") else None
                place = self.place(row["date"])
                spells.append(Spell(row["journey_id"], row["entered_on"], place, place, how, row["arm"] == "control"))
                running = True
            elif row["journey_id"] is not None:
                spells[-1] = replace(spells[-1], last=self.place(row["date"]))
            name = row["customer_id"]
        return spells

    @cached_property
    def journeys(self) -> Mapping[str, Sequence["Spell"]]:
        """Return the stays by journey, the journey entered first first."""
        stays: dict[str, list[Spell]] = {}
        for spell in self.spells:
            stays.setdefault(spell.journey_id, []).append(spell)
        return stays

    @cached_property
    def counts(self) -> Mapping[str, Mapping[int, int]]:
        """Return how often on which day, by what happened: each event, and messages sent and withheld."""
        sent = self.messages.select(
            "date", name=pl.when(pl.col("withheld").is_null()).then(pl.lit("messages")).otherwise(pl.lit("withheld"))
        )
        sent = sent.group_by("name", "date").agg(number=pl.len().cast(pl.Int64))
        all_counts = pl.concat([self.events.select("name", "date", "number").sort("name", "date"), sent.sort("name", "date")])
        counts: dict[str, dict[int, int]] = {}
        for name, day, number in all_counts.filter(pl.col("date").is_between(self.first, self.last), pl.col("number") > 0).iter_rows():
            counts.setdefault(name, {})[self.place(day)] = number
        return counts

    @cached_property
    def title(self) -> str:
        """Return what the path is called."""
        return f"Customer {plain(self.customer_id)}, {drawing.stretch(self.first, self.last)}"

    @cached_property
    def became(self) -> str | None:
        """Say who the customer was recognised as on the way, if so."""
        names = self.names.sort("date").filter(pl.col("customer_id") != pl.col("customer_id").shift(1, fill_value=self.customer_id))
        changes = [f"{plain(name)} from {drawing.day_of(day)}" for day, name in names.select("date", "customer_id").iter_rows()]
        return f"Recognised as another customer: {', '.join(changes)} on; what follows is theirs." if changes else None

    def place(self, day: date) -> int:
        """Return the place of a day on the path."""
        return (day - self.first).days

    def name(self, journey_id: str) -> str:
        """Name a journey as people call it."""
        return plain(self.called.get(journey_id, journey_id))


@dataclass(frozen=True)
class Spell:
    """One stay in a journey: the places of its first and last day on the path; ``how`` is None where it began before the path."""

    journey_id: str
    entered_on: date
    first: int
    last: int
    how: str | None
    is_control: bool
    ending: str | None = None


# --- As text ---------------------------------------------------------------------------------------------------------


def tell(path: Path) -> str:
    """Lay a path out in ``WIDTH`` columns: a line per micro-segment, one for the journey served, and what happened."""
    label = 2 + min(_LABEL, max([len("a column is 000 days"), *map(len, path.segments), *map(len, path.counts)]))
    each = -(-len(path.days) // (WIDTH - label))
    columns = -(-len(path.days) // each)
    letters = {journey: ascii_letters[26:][number % 26] for number, journey in enumerate(path.journeys)}

    def line(name: str, cells: Iterable[str]) -> str:
        return f"{name[: label - 2]:<{label}}{''.join(cells)}".rstrip()

    lines = [path.title, "=" * len(path.title), *([path.became] if path.became else []), ""]
    lines.append(line("" if each == 1 else f"a column is {each} days", _axis(path.days, each, columns)))
    for segment, places in path.segments.items():
        days = _per_column(dict.fromkeys(places, 1), each, columns)
        full = [min(each, len(path.days) - each * number) for number in range(columns)]
        lines.append(line(segment, ("█" if count == whole else "▒" if count else "·" for count, whole in zip(days, full, strict=True))))
    lines += ["", line("journey", _show_served(path.spells, letters, each, columns))]
    starts = {spell.first: ">" if spell.how == "start" else "x" for spell in path.spells if spell.how}
    ends = {spell.last: ENDINGS[spell.ending][0] for spell in path.spells if spell.ending}
    lines += [line("   starts, switches", _place_marks(starts, each, columns)), line("   ends", _place_marks(ends, each, columns))]
    for name, counts in path.counts.items():
        numbers = _per_column(counts, each, columns)
        lines.append(line(name, ("·" if number == 0 else str(number) if number < 10 else "*" for number in numbers)))
    return "\n".join(plain(line, None) for line in [*lines, *_legend(path), *_list_spells(path, letters), *_list_messages(path)])


def _per_column(counts: Mapping[int, int], each: int, columns: int) -> list[int]:
    sums = [0] * columns
    for place, number in counts.items():
        sums[place // each] += number
    return sums


def _axis(days: Sequence[date], each: int, columns: int) -> str:
    axis = ""
    for place, words in drawing.marked_days(days, 5 * each):
        if place // each >= len(axis) and place // each + len(words) <= columns:
            axis = f"{axis:<{place // each}}{words} "
    return axis


def _show_served(spells: Sequence[Spell], letters: Mapping[str, str], each: int, columns: int) -> Iterable[str]:
    """Show per column the journey of most of its days."""
    days: list[dict[str, int]] = [{} for _ in range(columns)]
    for spell in spells:
        for place in range(spell.first, spell.last + 1):
            column = days[place // each]
            column[spell.journey_id] = column.get(spell.journey_id, 0) + 1
    return (letters[max(column, key=lambda journey: column[journey])] if column else "·" for column in days)


def _place_marks(marks: Mapping[int, str], each: int, columns: int) -> Iterable[str]:
    cells = [" "] * columns
    for place, mark in marks.items():
        cells[place // each] = mark
    return cells


def _legend(path: Path) -> list[str]:
    endings = {spell.ending for spell in path.spells}
    entries = [f"{ENDINGS[ending][0]} {ENDINGS[ending][1]}" for ending in ENDINGS if ending and ending in endings]
    hows = [words for how, words in (("start", "> start"), ("switch", "x switch")) if any(spell.how == how for spell in path.spells)]
    entries = [
        *hows,
        *entries,
        *(["* ten or more"] if any(number > 9 for counts in path.counts.values() for number in counts.values()) else []),
    ]
    return ["", *textwrap.wrap("   ".join(entries), WIDTH)] if entries else []


def _list_spells(path: Path, letters: Mapping[str, str]) -> list[str]:
    if not path.spells:
        return ["", "In no journey on any of these days."]
    served = sum(spell.last - spell.first + 1 for spell in path.spells)
    lines = ["", f"Journeys ({len(path.spells)}; in one on {served:,} of {len(path.days):,} days)"]
    wide = min(_LABEL, max(len(path.name(journey)) for journey in path.journeys))
    write = "%b" if path.first.year == path.last.year else "%b %Y"
    for spell in path.spells:
        from_, to, days = path.days[spell.first], path.days[spell.last], _days(spell.last - spell.first + 1)
        when = f"{from_.day} {from_:{write}} - {to.day} {to:{write}}"
        begun = f", since {drawing.day_of(spell.entered_on)}" if spell.how is None and spell.entered_on < from_ else ""
        outcome = f"{ENDINGS[spell.ending][1]}{begun}{', control: sent nothing' if spell.is_control else ''}"
        line = f"   {letters[spell.journey_id]}  {path.name(spell.journey_id)[:wide]:<{wide}}  {when:<15}  {days:>8}  {outcome}"
        lines += textwrap.wrap(line, WIDTH, subsequent_indent=" " * 6)
    return lines


def _list_messages(path: Path) -> list[str]:
    """List the latest messages: what each said, which channels were passed over, or why it was withheld."""
    messages = path.messages.filter(pl.col("date").is_between(path.first, path.last)).sort("date", "idempotency_key")
    if messages.is_empty():
        return []
    more = f", the last {_MESSAGES}" if messages.height > _MESSAGES else ""
    lines = ["", f"Messages ({messages.height:,}{more})"]
    for row in messages.tail(_MESSAGES).iter_rows(named=True):
        line = f"   {row['date'].day:>2} {row['date']:%b}  {row['channel']}  {row['content']}"
        words = row.get("subject") or row.get("text")
        line += f': "{plain(words, _QUOTED)}"' if words else ""
        line += f"; withheld: {row['withheld']}" if row["withheld"] else ""
        line += f"; passed over {', '.join(row['tried'])}" if row.get("tried") and (not row["withheld"] or "|" in row["channel"]) else ""
        lines += textwrap.wrap(line, WIDTH, subsequent_indent=" " * 11)
    return lines


# --- As a picture ----------------------------------------------------------------------------------------------------

_ROW, _BAR, _PLOT = 18, 11, 880
_COLOURS = {
    "segment": ("#5e9ccf", "#3c84bf"),
    "thread": ("#b4bfca", "#4a5563"),
    "event": ("#7d55c7", "#b48be0"),
    "sent": ("#d81b78", "#f778ba"),
    "held": ("#9aa4ad", "#6e7681"),
}


def draw(path: Path) -> str:
    """Draw a path as an SVG: a row per micro-segment and per journey with a bar where the customer was in it, and dots for events."""
    day_width = _PLOT / len(path.days)
    rows = [*path.segments, *(path.name(journey) for journey in path.journeys), *map(plain, path.counts)]
    left = 24 + drawing.LETTER * max([len("micro-segments"), *map(len, rows)])
    right, y = left + _PLOT, 62.0 if path.became else 44.0
    parts, top = [], y
    if path.became:
        parts.append(drawing.text(12, 40, path.became, ink="faint"))

    def row(name: str, note: str, marks: Iterable[str]) -> None:
        nonlocal y
        parts.extend([drawing.text(left - 10, y, name, anchor="end"), *marks, drawing.text(right + 10, y, note, ink="faint")])
        y += _ROW

    def heading(words: str) -> None:
        nonlocal y
        y += 10
        parts.append(drawing.text(left - 10, y, words, ink="faint", anchor="end"))
        y += _ROW

    heading("micro-segments")
    for segment, places in path.segments.items():
        bars = [(left + day_width * first, y, day_width * length) for first, length in _stretches(places)]
        row(segment, _days(len(places)), [drawing.strips("segment", _BAR, bars)])
    if path.journeys:
        heading("journeys")
    heights = {journey: y + _ROW * number for number, journey in enumerate(path.journeys)}
    parts.append(_thread(path.spells, heights, left, day_width))
    for journey, spells in path.journeys.items():
        days = sum(spell.last - spell.first + 1 for spell in spells)
        times = "" if len(spells) == 1 else f", {len(spells)} times"
        row(path.name(journey), _days(days) + times, [_bar(spell, left, y, day_width) for spell in spells])
    if path.counts:
        heading("what happened")
    for name, counts in path.counts.items():
        kind = {"messages": "sent", "withheld": "held"}.get(name, "event")
        dots = drawing.strips(kind, min(9, max(4, day_width)), [(left + day_width * (place + 0.5), y, 0) for place in counts])
        row(name, f"{sum(counts.values()):,}", [f'<g stroke-linecap="round">{dots}</g>'])
    axis = []
    for place, words in drawing.marked_days(path.days, 46 / day_width):
        x = left + day_width * place
        axis.append(f'<path class="rule" d="M{x:.5g} {top + 18}V{y}"/>')
        axis += [drawing.text(x + 3, at, words, ink="faint") for at in (top + 10, y + 6)]
    legend, height = _picture_legend(path, left, y + 30)
    light = {name: colours[0] for name, colours in _COLOURS.items()} | {
        f"e_{ending}": colour for ending, (_, _, colour, _) in ENDINGS.items()
    }
    dark = {name: colours[1] for name, colours in _COLOURS.items()} | {
        f"e_{ending}": colour for ending, (_, _, _, colour) in ENDINGS.items()
    }
    return drawing.svg(right + 120, height, path.title, [*axis, *parts, *legend], light, dark)


def _thread(spells: Sequence[Spell], heights: Mapping[str, float], left: float, day_width: float) -> str:
    """Draw the line that leads from each journey to the next one."""
    steps = [
        f"M{left + day_width * (spell.last + 1):.5g} {heights[spell.journey_id]:g}"
        f"H{left + day_width * after.first:.5g}V{heights[after.journey_id]:g}"
        for spell, after in pairwise(spells)
    ]
    return f'<path class="thread" d="{"".join(steps)}"/>' if steps else ""


def _bar(spell: Spell, left: float, y: float, day_width: float) -> str:
    # A single day of a long path is still to be seen.
    wide = max(3.5, day_width * (spell.last - spell.first + 1) - 0.6)
    bar = drawing.strips(f"e_{spell.ending}", _BAR, [(left + day_width * spell.first, y, wide)])
    return f'<g stroke-dasharray="3 1.5">{bar}</g>' if spell.is_control else bar


def _picture_legend(path: Path, left: float, y: float) -> tuple[list[str], float]:
    endings = {spell.ending for spell in path.spells}
    shown = [(f"e_{ending}", words) for ending, (_, words, _, _) in ENDINGS.items() if ending in endings]
    parts = [drawing.text(left - 10, y, "the journey ...", ink="faint", anchor="end")] if shown else []
    x = left
    for name, words in shown:
        parts += [drawing.strips(name, _BAR - 2, [(x, y, 18)]), drawing.text(x + 24, y, words)]
        x += 44 + drawing.LETTER * len(words)
    if any(spell.is_control for spell in path.spells):
        parts.append(drawing.text(x, y, "broken bars: control, sent nothing", ink="faint"))
    return parts, y + 20


def _stretches(places: Sequence[int]) -> list[tuple[int, int]]:
    """Join neighbouring days: the first one's place, and how many there are."""
    stretches: list[tuple[int, int]] = []
    for place in places:
        if stretches and sum(stretches[-1]) == place:
            stretches[-1] = (stretches[-1][0], stretches[-1][1] + 1)
        else:
            stretches.append((place, 1))
    return stretches


def _days(number: int) -> str:
    return f"{number:,} day" if number == 1 else f"{number:,} days"
