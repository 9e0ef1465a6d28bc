"""A plan: what a changed portfolio would have done over the last days, beside what was done, from the lake alone (SPEC 15).

What belongs here: which two courses are compared, and whether the past can be reproduced at all. What does not: counting
(``difference``), judging (``verdict``), printing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date

from atc_pipeline.decision import tables
from atc_pipeline.explanation import words
from atc_pipeline.explanation.reading import PortfolioOf
from atc_pipeline.journeys.changes import Changes, changes
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.plan.courses import Progress, catch_up, follow
from atc_pipeline.plan.difference import Course, Difference, compare
from atc_pipeline.plan.replay import ReplayedDay, differences, reasons, standing
from atc_pipeline.plan.report import Changed, Edited, Report, Value, Verdict, Window
from atc_pipeline.plan.valuing import Valued, matured_days, worth
from atc_pipeline.tables.store import Store

OPEN_LOOP = (
    "The first day is exact. On later days customers behave as they did under the portfolio that was in force: what they would have "
    "done otherwise nobody knows, and goals reached stay reached."
)

_SOURCES = 2

Room = Callable[[Store], AbstractContextManager[Store]]
"""Lends a store over a recorded one, which takes what is written and is thrown away afterwards."""
Say = Callable[[Progress], None]
"""Is told what has been made."""


@dataclass(frozen=True, eq=False)
class Past:
    """What was recorded, and by which portfolio each day was decided; ``code``: which code looks at it now."""

    store: Store
    portfolio_of: PortfolioOf
    code: str


def plan(
    past: Past, after: Portfolio, days: Sequence[date], room: Room, *, file: str, against: Portfolio | None = None, say: Say
) -> Report:
    """Decide the days again by both portfolios, and report what differs; ``against``: instead of what each day really ran with.

    Nothing is written to what was recorded. Raises MissingDayError, OlderDayError and OutdatedDayError where a day cannot be decided by
    what there is.
    """
    before_of: PortfolioOf = past.portfolio_of if against is None else lambda _: against
    before = before_of(days[-1])
    edits = changes(before, after)
    window = Window(
        first=days[0],
        last=days[-1],
        days=len(days),
        file=file,
        before=None if against is None else against.fingerprint,
        after=after.fingerprint,
    )
    with room(past.store) as old, room(past.store) as new:
        if against is None:
            _all(follow(old, before_of, days, past.store), say)
            otherwise = list(_otherwise(past, old, days))
        else:
            _catch_up_and_follow(past, old, against, days, say)
            otherwise = []
        defect = next((replayed for replayed in otherwise if replayed.is_defect), None)
        if defect is not None:
            return Report(verdict=_not_reproducible(defect), window=window, changes=())
        is_same = all(before_of(day).fingerprint == after.fingerprint for day in days)
        if not is_same:
            _catch_up_and_follow(past, new, after, days, say)
        compared = compare(Course(old, before), Course(old if is_same else new, after), edits, days)
    of_value = compared.value if against is not None else _value(past, after, days, room, compared.value, say)
    stood = 0 if against is not None else sum(standing(past.store, day).height for day in days)
    return _reported(window, edits, compared, of_value, tuple(_limits(otherwise, stood)))


def _value(past: Past, after: Portfolio, days: Sequence[date], room: Room, asked: Value, say: Say) -> Value:
    """Say what the changed file would have earned, of as many days as the window has, whose decisions have matured."""
    with room(past.store) as fresh:
        matured = matured_days(past.store, past.portfolio_of(days[-1]), days[-1], len(days))
        for made in worth(past.store, fresh, past.portfolio_of, after, matured, days[-1]):
            if isinstance(made, Valued):
                return reported(made, asked)
            say(made)
    raise AssertionError("a value was not said")


def reported(valued: Valued, asked: Value) -> Value:
    """Put what was found of the value into the report."""
    of = valued.value
    names = ("disagree", "unsupported", "effective", "largest_weight", "difference", "low", "high", "snips", "direct")
    more = {name: getattr(of, name) for name in names} | {"points": of.decision_points, "status": str(of.status)}
    words_of = {"is_known": of.difference is not None, "says": valued.words[0], "notes": valued.words[1:]}
    return asked.model_copy(update={**words_of, **more, "first": valued.first, "last": valued.last})


def _catch_up_and_follow(past: Past, store: Store, portfolio: Portfolio, days: Sequence[date], say: Say) -> None:
    since_recorded = changes(past.portfolio_of(days[-1]), portfolio)
    _all(catch_up(store, portfolio, since_recorded, days[0], days[-1]), say)
    _all(follow(store, lambda _: portfolio, days), say)


def _all(progress: Iterator[Progress], say: Say) -> None:
    for step in progress:
        say(step)


def _otherwise(past: Past, old: Store, days: Sequence[date]) -> Iterator[ReplayedDay]:
    """Yield the days whose answers did not come out as they were recorded."""
    for day in days:
        recorded, again = (store.lazy("journey_assignments", day).collect() for store in (past.store, old))
        if not recorded.equals(again):
            rows = differences(tables.JOURNEY_ASSIGNMENTS, recorded, again)
            yield ReplayedDay(day, rows, rows.height, tuple(reasons(past.store, day, past.portfolio_of(day), past.code)))


def _not_reproducible(replayed: ReplayedDay) -> Verdict:
    table, day, key, column, recorded, again = replayed.differences.row(0)
    return Verdict(
        headline=f"The past cannot be reproduced: {day} is decided otherwise than it was recorded, in {replayed.number:,} cells.",
        is_reproducible=False,
        first_difference=f"{table} of {day}, {key}: {column} was recorded as {recorded} and comes out as {again}",
    )


def _limits(otherwise: Sequence[ReplayedDay], stood: int) -> Iterator[str]:
    yield OPEN_LOOP
    if stood:
        yield (
            f"{stood:,} answers of these days stood, as their messages had been delivered when the day was decided again; the changed file "
            "decides them anew."
        )
    if otherwise:
        days = f"{otherwise[0].day}" + (f" and {len(otherwise) - 1} more days" if otherwise[1:] else "")
        yield (
            f"{days} come out otherwise than they were recorded ({'; '.join(otherwise[0].reasons)}): both sides are decided by this code, "
            "on what there is now."
        )


def _reported(window: Window, edits: Changes, compared: Difference, of_value: Value, limits: tuple[str, ...]) -> Report:
    return Report(
        verdict=Verdict(headline=_headline(compared), is_reproducible=True),
        window=window,
        changes=tuple(
            Changed(
                kind=change.kind,
                id=change.id,
                how=change.how,
                gist=change.gist,
                edits=tuple(Edited(key=edit.key, before=edit.before, after=edit.after, words=edit.words) for edit in change.edits),
            )
            for change in edits.every
        ),
        customers=compared.customers,
        journeys=compared.journeys,
        contact=compared.contact,
        segments=compared.segments,
        arms=compared.arms,
        value=of_value,
        scale=compared.scale,
        examples=compared.examples,
        limits=limits,
    )


def _headline(compared: Difference) -> str:
    """Say what it comes to in a sentence: how many change, and which journey takes most of them, from where."""
    customers = compared.customers
    if not customers.changed:
        return f"Nobody would be in another journey: all {customers.customers:,} customers stay as they are."
    who = f"{words.percent(customers.share)} of customers ({customers.changed:,} of {customers.customers:,}) would be in another journey"
    most = max(compared.journeys, key=lambda journey: (journey.gained, journey.id), default=None)
    if most is None or not most.gained:
        return f"{who}, or in none, for a day at least."
    came = " and ".join(moved.journey_id for moved in most.gained_from[:_SOURCES])
    return f"{who}; {most.id} would take {most.gained:,} of them, mostly from {came}."
