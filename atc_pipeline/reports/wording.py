"""The words of reports: what a verdict says, in which units an effect is told, and of whom a number is.

What belongs here: words of which each report is made. What does not: which of them stand where (``proof``, ``journey``, ``paths``).
Never *significant*, *confidence* or *p-value*: a verdict says what can be said, and else what could have been seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from atc_pipeline.escaping import plain
from atc_pipeline.explanation.words import count
from atc_pipeline.journeys.portfolio import GOAL, GOAL_VALUE, MONEY, RESPONSES, SYSTEM, Portfolio
from atc_pipeline.outcomes.tables import (
    BROKEN,
    EXPLORATORY,
    HARMLESS,
    HARMS,
    HELPS,
    NEGLIGIBLE,
    NO_HOLDOUT,
    TOO_EARLY,
    UNDECIDED,
)
from atc_pipeline.outcomes.uplift import UNCAPPED
from atc_pipeline.pictures import figures
from atc_pipeline.reports.estimates import Estimate

WORDS: Mapping[str, str] = {
    BROKEN: "broken: not to be read",
    NO_HOLDOUT: "no control group",
    TOO_EARLY: "too early",
    HELPS: "helps",
    HARMS: "harms",
    HARMLESS: "does no harm",
    NEGLIGIBLE: "changes next to nothing",
    UNDECIDED: "we cannot tell yet",
    EXPLORATORY: "exploratory",
}
"""What a verdict is called."""

COUNTED: Mapping[str, tuple[str, str]] = {
    HELPS: ("{} helps", "{} help"),
    HARMS: ("{} harms", "{} harm"),
    HARMLESS: ("{} does no harm", "{} do no harm"),
    NEGLIGIBLE: ("{} changes next to nothing", "{} change next to nothing"),
    UNDECIDED: ("of {} we cannot tell yet", "of {} we cannot tell yet"),
    TOO_EARLY: ("for {} it is too early", "for {} it is too early"),
    BROKEN: ("{} is broken", "{} are broken"),
}
"""How journeys are counted by verdict: of one, and of several."""

MARKS: Mapping[str, str | None] = {
    BROKEN: "cross",
    NO_HOLDOUT: None,
    TOO_EARLY: "diamond",
    HELPS: "up",
    HARMS: "down",
    HARMLESS: "square",
    NEGLIGIBLE: "bar",
    UNDECIDED: "ring",
    EXPLORATORY: "ring",
}
"""The mark that stands for it in pictures (``pictures.marks``)."""

LEGEND = tuple((mark, WORDS[verdict]) for verdict in (HELPS, HARMS, HARMLESS, NEGLIGIBLE, UNDECIDED, TOO_EARLY) if (mark := MARKS[verdict]))

_MOST_NAME = 80

FORBIDDEN = ("significant", "confidence", "p-value", "p value")
"""Words that are not used: they are read as something else than they mean."""


@dataclass(frozen=True)
class Unit:
    """What a metric is called, and whether its mean is a share of customers, whose changes are points."""

    noun: str
    is_share: bool = False

    def value(self, value: float | None) -> str:
        """Write a mean."""
        return figures.share(value) if self.is_share else figures.amount(value)

    def change(self, value: float | None) -> str:
        """Write a difference of two means."""
        if self.is_share and value is not None:
            return f"{figures.signed(100 * value)} points"
        return figures.signed(value)

    def between(self, low: float | None, high: float | None) -> str:
        """Write an interval of differences."""
        if low is None or high is None:
            return figures.NOTHING
        if self.is_share:
            return f"{figures.signed(100 * low)} to {figures.signed(100 * high)} points"
        return figures.between(low, high)


def unit_of(metric: str, portfolio: Portfolio) -> Unit:
    """Return the unit of a metric."""
    built_in = {
        MONEY: Unit("money"),
        GOAL: Unit("reaching the goal", is_share=True),
        GOAL_VALUE: Unit("worth of the goal"),
        RESPONSES: Unit("responses"),
    }
    if metric in built_in:
        return built_in[metric]
    if metric.endswith(UNCAPPED):
        return Unit(f"{metric.removesuffix(UNCAPPED)}, not cut off")
    kinds = {measured.id: measured.kind for measured in portfolio.metrics}
    kind = kinds.get(metric)
    return Unit(metric, is_share=kind == "any")


def sentence_of(row: Estimate, unit: Unit, portfolio: Portfolio) -> str:
    """Say of whom, and what can be said."""
    name, says = called(row.journey_id, portfolio), verdict_of(row, unit)
    if row.verdict not in {HELPS, HARMS, HARMLESS, NEGLIGIBLE}:
        return f"{name}: {says}"
    verb = says.partition(" ")[0].rstrip(":")
    several = {"helps": "help", "harms": "harm", "does": "do", "changes": "change"}
    return f"{name} {several[verb] if row.journey_id == SYSTEM else verb}{says[len(verb) :]}"


def verdict_of(row: Estimate, unit: Unit) -> str:
    """Say in a sentence what can be said."""
    return {
        HELPS: f"helps: {_change(row, unit)}",
        HARMS: f"harms: {_change(row, unit)}",
        HARMLESS: f"does no harm: whatever it changes, {unit.noun} is no less by more than we tolerate ({_interval(row, unit)})",
        NEGLIGIBLE: f"changes next to nothing: {_interval(row, unit)}",
        UNDECIDED: f"we cannot tell yet: {_could_show(row, unit)}",
        TOO_EARLY: "it is too early to say" + _because(row),
        NO_HOLDOUT: _NO_CONTROL[row.journey_id == SYSTEM],
        BROKEN: "the comparison is broken and not to be read" + _because(row),
        EXPLORATORY: f"{_change(row, unit)}; nobody asked it in advance, so that it is only a hint",
    }.get(row.verdict, f"is ruled {row.verdict!r}, which this version has no words for")


_NO_CONTROL = (
    "nobody is held out of it, so that nothing can be proved: give it a holdout",
    "nobody is held out of everything, so that nothing can be proved: set policy.holdout",
)


def _change(row: Estimate, unit: Unit) -> str:
    if row.effect is None:
        return "nothing could be estimated"
    relative = f"{figures.signed_share(row.relative)}, " if row.relative is not None else ""
    return f"{relative}{unit.change(row.effect)} {_each(unit)} ({unit.between(row.low, row.high)})"


def _each(unit: Unit) -> str:
    return unit.noun if unit.is_share else f"{unit.noun} per customer"


def _interval(row: Estimate, unit: Unit) -> str:
    return f"{unit.between(row.low, row.high)} {_each(unit)}"


def _could_show(row: Estimate, unit: Unit) -> str:
    if row.smallest_visible is None:
        return "the control group is too small to show anything"
    if row.visible_share is None:
        return f"{unit.change(row.smallest_visible).lstrip('+')} {_each(unit)} is the smallest change this control group could show"
    return f"{figures.share(row.visible_share)} is the smallest change this control group could show"


def _because(row: Estimate) -> str:
    return f": {row.verdict_reason}" if row.verdict_reason else ""


def standing_of(row: Estimate) -> str:
    """Say of whom an estimate is, and what has matured."""
    arms = f"{count(row.treated, 'treated customer')} against {row.control:,} held out"
    since = f", who first entered {period(row.from_on, row.to_on)}" if row.from_on and row.to_on else ""
    waiting = f"; {row.immature:,} more {'has' if row.immature == 1 else 'have'} not matured yet" if row.immature else "; all have matured"
    return f"{arms}{since}{waiting}"


def arms_of(row: Estimate) -> str:
    """Say how many were compared, in short."""
    return f"{row.treated:,} treated · {row.control:,} held out"


def called(journey_id: str, portfolio: Portfolio) -> str:
    """Return what a journey is called, as people know it; a name of many letters is cut, and says so."""
    if journey_id == SYSTEM:
        return "All journeys together"
    return plain(next((journey.name for journey in portfolio.journeys if journey.id == journey_id), journey_id), _MOST_NAME)


def on(day: date | None) -> str:
    """Write a day."""
    return figures.NOTHING if day is None else f"{day.day} {day:%B %Y}"


def period(first: date, last: date) -> str:
    """Write from when to when."""
    if first == last:
        return f"on {on(first)}"
    start = f"{first.day} {first:%B}" + ("" if first.year == last.year else f" {first.year}")
    return f"{start} to {on(last)}"
