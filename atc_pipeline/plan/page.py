"""The report as a page: sections of sentences and tables, in words, as every rendering for people shows them.

What belongs here: what is said, in which order, and what is left out as nothing changed. What does not: how a surface lays it
out and escapes it (``terminal``, ``markdown``): texts here are as they came.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from atc_pipeline.explanation import words
from atc_pipeline.plan.report import (
    MOST_CHARACTERS,
    Changed,
    Contact,
    Counts,
    Customers,
    Figures,
    How,
    Moved,
    OfArm,
    OfJourney,
    OfSegment,
    Report,
)

MARKS: dict[How, str] = {"new": "+", "changed": "~", "removed": "-", "same": ""}
BARS = "▁▂▃▄▅▆▇█"
_MOST_MOVES = 3
_NOTABLE = 0.05
"""Of the customers who change: a journey that fewer of them come to or leave is not told from where and whereto."""
_ROWS = (250, 120, 60, 30, 15, 8, 4, 2)

Pair = tuple[str, str]
Cell = str | Pair


@dataclass(frozen=True)
class Row:
    """One row: its mark (new, changed, removed), its cells (a pair: before and after), and sentences that belong to it."""

    cells: tuple[Cell, ...]
    mark: str = ""
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows under heads; the first column and those named in ``texts`` are words, the others figures."""

    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    texts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Section:
    """Sentences, a table, and what follows it; ``aside``: what to say of it to a reader who need not see it at once."""

    title: str
    lines: tuple[str, ...] = ()
    table: Table | None = None
    notes: tuple[str, ...] = ()
    aside: str = ""


@dataclass(frozen=True)
class Page:
    """The whole report for people; ``failed``: rule and what breaks it."""

    title: str
    headline: str
    failed: tuple[tuple[str, str], ...]
    held: tuple[str, ...]
    sections: tuple[Section, ...]


def fitted(render: Callable[[Page], str], report: Report, *, with_names: bool) -> str:
    """Render the report with as many rows per table as fit into ``MOST_CHARACTERS``; what is left out is counted where it was."""
    for most in _ROWS:
        text = render(page(report, most, with_names=with_names))
        if len(text) <= MOST_CHARACTERS:
            return text
    return (
        text[: MOST_CHARACTERS - 100] + f"\n\n… cut: {len(text) - MOST_CHARACTERS + 100:,} characters more. --format json has everything.\n"
    )


def page(report: Report, most: int, *, with_names: bool) -> Page:
    """Say the report in words, at most so many rows per table; ``with_names``: customers by their ids, not their buckets alone."""
    verdict, window = report.verdict, report.window
    against = "each day as it was decided" if window.before is None else f"version {window.before}"
    title = f"Plan for {window.file} (version {window.after}) against {against}: {_days(window.first, window.last)}"
    sections = [_file(report.changes, most)]
    if verdict.is_reproducible:
        sections += [
            *([_customers(report.customers)] if report.customers else []),
            _journeys(report.journeys, report.customers.changed if report.customers else 0, most),
            *([_contact(report.contact, report.customers, most)] if report.contact else []),
            _segments(report.segments, most),
            _arms(report.arms, window.days, most),
            *([_scale(report)] if report.scale else []),
            *([_value(report)] if report.value else []),
            *([_examples(report, with_names=with_names)] if report.examples else []),
        ]
    else:
        first = (
            verdict.first_difference
            if with_names
            else "python -m atc_pipeline replay names the rows, which are customers' and not told here."
        )
        sections.append(Section("The first row that differs", (first or "It is not known.",)))
    if report.limits:
        sections.append(Section("How far to trust this", report.limits))
    return Page(title, verdict.headline, tuple((rule.rule, rule.says) for rule in verdict.failed), verdict.held, tuple(sections))


def _file(changes: Sequence[Changed], most: int) -> Section:
    title = "What the file changes"
    if not changes:
        return Section(title, ("Nothing: it says what it said.",))
    rows, untold = _cut([row for change in changes for row in _rows_of(change)], most)
    return Section(title, table=Table(("what", "change"), tuple(rows), frozenset({"change"})), notes=_more(untold, "change"))


def _rows_of(change: Changed) -> list[Row]:
    name, mark = f"{change.kind} {change.id}".strip(), MARKS[change.how]
    if change.how != "changed":
        return [Row((name, f"{change.how}: {change.gist}" if change.gist else change.how), mark)]
    return [Row((name if position == 0 else "", edit.words), mark if position == 0 else "") for position, edit in enumerate(change.edits)]


def _customers(customers: Customers) -> Section:
    days = customers.by_day
    share = f"{customers.changed:,} of {words.count(customers.customers, 'customer')} ({words.percent(customers.share)})"
    lines = [f"{share} would be in another journey, or in none instead, on at least one day."]
    if days and customers.changed:
        highest = max(days, key=lambda day: day.changed)
        numbers = [day.changed for day in days]
        lines.append(
            f"{sparkline(numbers)}  {days[0].changed:,} on {_on(days[0].date)}, {days[-1].changed:,} on {_on(days[-1].date)}"
            + (f", most on {_on(highest.date)}: {highest.changed:,}" if highest not in (days[0], days[-1]) else "")
        )
        return Section(
            "Customers whose journey changes", tuple(lines), notes=(f"Day by day: {', '.join(f'{each:,}' for each in numbers)}",)
        )
    return Section("Customers whose journey changes", tuple(lines))


def sparkline(numbers: Sequence[int]) -> str:
    """Draw numbers as bars of one letter each, from 0 to the highest."""
    highest = max(numbers, default=0)
    return "".join(BARS[min(len(BARS) - 1, number * len(BARS) // (highest + 1))] for number in numbers)


def _journeys(journeys: Sequence[OfJourney], changed: int, most: int) -> Section:
    title = "Journeys"
    order = {"new": 0, "changed": 1, "removed": 2, "same": 3}
    differing = sorted(
        (journey for journey in journeys if not journey.is_same), key=lambda journey: (order[journey.how], -journey.gained - journey.lost)
    )
    folded = _folded(len(journeys) - len(differing), "journey")
    if not differing:
        return Section(title, folded)
    heads = ("journey", "queued", "entered", "gained", "lost", "waiting days", "starved")
    rows = [
        Row(
            (
                journey.id,
                _counts(journey.queued),
                _counts(journey.entered),
                f"{journey.gained:,}",
                f"{journey.lost:,}",
                _figures(journey.waiting_days, "{:.1f}"),
                _counts(journey.starved),
            ),
            MARKS[journey.how],
            (*_places(journey), *_moves(journey)) if journey.how != "same" or journey.gained + journey.lost >= _NOTABLE * changed else (),
        )
        for journey in differing
    ]
    rows, untold = _cut(rows, most)
    note = (
        "queued: customers in the queue, added up over the days. waiting days: of the queue on the last day, on average. "
        "starved: customers queued every day who never entered. Whoever comes from several journeys, or leaves for several, counts for "
        "each."
    )
    return Section(title, table=Table(heads, tuple(rows)), notes=(*_more(untold, "journey"), *folded, note))


def _moves(journey: OfJourney) -> tuple[str, ...]:
    gained = [f"gains {_of(journey.gained, journey.gained_from, 'from')}"] if journey.gained else []
    lost = [f"loses {_of(journey.lost, journey.lost_to, 'to')}"] if journey.lost else []
    return (*gained, *lost)


def _of(number: int, moved: Sequence[Moved], word: str) -> str:
    if len(moved) == 1 and moved[0].customers == number:
        return f"{number:,} {word} {moved[0].journey_id}"
    parts = [f"{move.customers:,} {word} {move.journey_id}" for move in moved[:_MOST_MOVES]]
    more = len(moved) - len(parts)
    return f"{number:,}: {', '.join(parts)}" + (f" and some {word} {words.count(more, 'other')}" if more else "")


def _places(journey: OfJourney) -> tuple[str, ...]:
    """Say how full it is, and what one more place is worth, where places are limited."""
    if journey.places.before is None and journey.places.after is None:
        return ()
    sides = ((journey.entered.before, journey.places.before), (journey.entered.after, journey.places.after))
    old, new = ("no limit" if places is None else f"{entered:,} of {places:,.0f} places used" for entered, places in sides)
    used = new if old == new or journey.how == "new" else f"{old} → {new}"
    cell = _figures(journey.price, "{:.3g}")
    price = cell if isinstance(cell, str) else cell[1] if journey.how == "new" else " → ".join(cell)
    return (used if price == "–" else f"{used}; one more is worth {price} of score",)


def _contact(contact: Contact, customers: Customers | None, most: int) -> Section:
    people = customers.customers if customers else 0
    rows = [Row(("days of customers in no journey", _counts(contact.none), _change(contact.none), _per_head(contact.none, people)))]
    for channel in contact.channels:
        sent = channel.messages
        rows.append(Row((f"messages by {channel.channel}", _counts(sent), _change(sent), _per_head(sent, people))))
    rows += [Row((f"held back by {cap.cap}, customers a day", _counts(cap.reached), _change(cap.reached), "")) for cap in contact.caps]
    rows, untold = _cut(rows, most)
    messages = _change(_sum(channel.messages for channel in contact.channels)) or "as before"
    aside = f"none {_change(contact.none) or 'as before'}, messages {messages}"
    table = Table(("over the window", "before → after", "change", "per customer"), tuple(rows))
    return Section("None, messages, caps", table=table, notes=_more(untold, "line"), aside=aside)


def _segments(segments: Sequence[OfSegment], most: int) -> Section:
    differing = [segment for segment in segments if not segment.is_same]
    folded = _folded(len(segments) - len(differing), "micro-segment")
    empty = [segment.id for segment in segments if segment.size.after == 0 and segment.how != "removed"]
    notes = [f"Empty: {', '.join(empty[:10])}{f' and {len(empty) - 10:,} more' if len(empty) > 10 else ''}."] if empty else []
    if not differing:
        return Section("Micro-segments", (*folded, *notes), aside="as before")
    rows, untold = _cut(
        [Row((segment.id, _counts(segment.size), _counts(segment.in_no_queue)), MARKS[segment.how]) for segment in differing], most
    )
    table = Table(("micro-segment", "customers", "of these in no queue"), tuple(rows))
    aside = f"{len(differing):,} of {len(segments):,} differ"
    return Section("Micro-segments", table=table, notes=(*_more(untold, "micro-segment"), *folded, *notes), aside=aside)


def _arms(arms: Sequence[OfArm], days: int, most: int) -> Section:
    title = "Control groups"
    moved = sum(arm.changes_arm for arm in arms)
    lines = [f"{words.count(moved, 'customer')} would change arm." if moved else "Nobody changes arm."]
    aside = "" if moved else "nobody changes arm"
    held = [arm for arm in arms if arm.control.before or arm.control.after or arm.changes_arm]
    if not held:
        return Section(title, (*lines, "No journey has a control group: what any of them changes cannot be proved."), aside=aside)
    differing = [arm for arm in held if arm.changes_arm or arm.treated.differ or arm.control.differ]
    folded = _folded(len(held) - len(differing), "journey")
    if not differing:
        return Section(title, (*lines, *folded), aside=aside)
    rows = [
        Row(
            (
                arm.journey_id,
                f"{arm.changes_arm:,}",
                _figures(Figures(before=arm.treated.before / days, after=arm.treated.after / days), "{:.1f}"),
                _figures(Figures(before=arm.control.before / days, after=arm.control.after / days), "{:.1f}"),
                "nothing" if arm.visible is None or arm.visible >= 1 else f"{100 * arm.visible:.1f} points",
            )
        )
        for arm in differing
    ]
    rows, untold = _cut(rows, most)
    heads = ("journey", "change arm", "treated a day", "control a day", "visible after 30 days")
    note = (
        "Visible: the smallest difference in the share reaching the goal that 30 days at this pace would show (two-sided 5 %, power 80 %), "
        "both arms near the share assumed."
    )
    return Section(title, tuple(lines), Table(heads, tuple(rows)), (*_more(untold, "journey"), *folded, note), aside=aside)


def _value(report: Report) -> Section:
    assert report.value is not None
    score = report.value.score
    change = ""
    if score.before and score.after is not None:
        change = f" ({score.after / score.before - 1:+.1%})".replace("%", " %")
    old, new = ("–" if figure is None else f"{figure:,.1f}" for figure in (score.before, score.after))
    of = report.value
    days = f"Decisions of {_days(of.first, of.last)}, by what came of them." if of.first and of.last else ""
    lines = (*([days] if days else []), of.says, *of.notes, f"Sum of the scores of what was chosen: {old} → {new}{change}.")
    return Section("Value", tuple(lines))


def _scale(report: Report) -> Section:
    assert report.scale is not None
    of = report.scale
    best, none = (
        " → ".join("–" if figure is None else f"{figure:,.4g}" for figure in (pair.before, pair.after)) for pair in (of.best, of.none)
    )
    lines = (
        f"The best journey scores {best} (median), sending nothing {none}.",
        f"For {of.below.before:,} → {of.below.after:,} customers no journey is above sending nothing: set policy.none by that.",
    )
    return Section("Scale of scores", lines)


def _examples(report: Report, *, with_names: bool) -> Section:
    rows = [
        Row(
            (
                f"customer {example.customer_id}" if with_names else f"bucket {example.bucket:04}",
                _on(example.date),
                (example.before, example.after),
            ),
            details=(example.says,) if example.says else (),
        )
        for example in report.examples
    ]
    return Section(
        f"{words.count(len(rows), 'customer')} who change" if len(rows) > 1 else "A customer who changes",
        table=Table(("who", "day", "journey"), tuple(rows), frozenset({"day", "journey"})),
        aside="and why",
    )


def _sum(parts: Iterable[Counts]) -> Counts:
    every = list(parts)
    return Counts(before=sum(part.before for part in every), after=sum(part.after for part in every))


def _counts(counts: Counts) -> Cell:
    return f"{counts.after:,}" if not counts.differ else (f"{counts.before:,}", f"{counts.after:,}")


def _per_head(counts: Counts, people: int) -> Cell:
    return _figures(Figures(before=counts.before / people, after=counts.after / people), "{:.2f}") if people else ""


def _figures(figures: Figures, form: str) -> Cell:
    old, new = ("–" if figure is None else form.format(figure) for figure in (figures.before, figures.after))
    return new if old == new else (old, new)


def _change(counts: Counts) -> str:
    if not counts.differ:
        return ""
    return f"{counts.after / counts.before - 1:+.1%}".replace("%", " %") if counts.before else "new"


def _folded(number: int, thing: str) -> tuple[str, ...]:
    return (f"{words.count(number, thing)} as before.",) if number else ()


def _more(number: int, thing: str) -> tuple[str, ...]:
    return (f"… and {words.count(number, f'more {thing}')}: --format json has all.",) if number else ()


def _cut(rows: Iterable[Row], most: int) -> tuple[list[Row], int]:
    every = list(rows)
    return every[:most], max(0, len(every) - most)


def _days(first: date, last: date) -> str:
    if first == last:
        return _on(first, with_year=True)
    is_near = (first.year, first.month) == (last.year, last.month)
    start = f"{first.day}" if is_near else _on(first, with_year=first.year != last.year)
    return f"{start} to {_on(last, with_year=True)}, {(last - first).days + 1} days"


def _on(day: date, *, with_year: bool = False) -> str:
    return f"{day.day} {day:%B}" + (f" {day.year}" if with_year else "")
