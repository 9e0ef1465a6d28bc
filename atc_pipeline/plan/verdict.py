"""The rules of ``--fail-on``: what a change must not do, and what it does where a rule fails.

A rule judges the change: what was so before it, a full journey or an empty segment, fails nothing.

What belongs here: reading rules, and judging a report by them. What does not: what is in the report (``report``).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from atc_pipeline.explanation import words
from atc_pipeline.journeys.dialect import nearest
from atc_pipeline.plan.report import Failure, OfJourney, Report

_NAMED = 5
_WRITTEN = re.compile(r"\A([a-z_]+)(?:([<>])([+-]?\d+(?:\.\d+)?)(%?))?\Z")

Judge = Callable[[Report, float], str | None]
"""What breaks the rule at a limit (a share where the rule is in percent), or None."""


class RuleError(ValueError):
    """A rule that is none, or cannot be judged."""


@dataclass(frozen=True)
class _Kind:
    example: str
    judge: Judge
    sign: Literal["<", ">", ""] = ""
    is_percent: bool = False


@dataclass(frozen=True)
class Rule:
    """A rule as it was written."""

    text: str
    limit: float
    judge: Judge


def rule(text: str) -> Rule:
    """Read a rule; raises RuleError, saying what is expected."""
    match = _WRITTEN.match(text.replace(" ", ""))
    kind = RULES.get(match[1]) if match else None
    if match is None or kind is None:
        raise RuleError(f"no rule '{text}'{nearest(match[1] if match else text, RULES)}; there are {', '.join(_examples())}")
    if (match[2] or "") != kind.sign or (match[4] == "%") != kind.is_percent:
        raise RuleError(f"rule '{text}' is written like {kind.example}")
    return Rule(text, float(match[3] or 0) / (100 if kind.is_percent else 1), kind.judge)


def judged(report: Report, rules: Iterable[Rule]) -> Report:
    """Return the report with what the rules say of it; of what cannot be reproduced they say nothing."""
    if not report.verdict.is_reproducible:
        return report
    failed, held = [], []
    for each in rules:
        if (says := each.judge(report, each.limit)) is not None:
            failed.append(Failure(rule=each.text, says=says))
        else:
            held.append(each.text)
    return report.model_copy(update={"verdict": report.verdict.model_copy(update={"failed": tuple(failed), "held": tuple(held)})})


def _changes(report: Report, limit: float) -> str | None:
    of = report.customers
    if of is None or of.share <= limit:
        return None
    return f"{words.percent(of.share)} of customers would be in another journey ({of.changed:,} of {of.customers:,})"


def _starved(report: Report, limit: float) -> str | None:
    more = {journey.id: journey.starved.after - journey.starved.before for journey in report.journeys}
    starved = {journey_id: number for journey_id, number in more.items() if number > 0}
    if sum(starved.values()) <= limit:
        return None
    parts = [f"{journey_id} {number:,}" for journey_id, number in sorted(starved.items(), key=lambda item: -item[1])]
    return f"{words.count(sum(starved.values()), 'more customer')} would be queued every day and never enter: {_listed(parts)}"


def _capacity(report: Report, limit: float) -> str | None:
    over = [journey for journey in report.journeys if _is_fuller(journey, limit)]
    parts = [f"{journey.id} ({journey.wanted.after:,} for {journey.places.after or 0:,.0f})" for journey in over]
    return f"more customers than places: {_listed(parts)}" if parts else None


def _is_fuller(journey: OfJourney, limit: float) -> bool:
    """Tell whether more want in than may, and more so than before."""
    (wanted_before, wanted), (places_before, places) = ((pair.before, pair.after) for pair in (journey.wanted, journey.places))
    if wanted is None or places is None or wanted <= limit * places:
        return False
    return places_before is None or (wanted_before or 0) * places < wanted * places_before


def _arms_change(report: Report, _limit: float) -> str | None:
    moved = {arm.journey_id: arm.changes_arm for arm in report.arms if arm.changes_arm}
    parts = [f"{number:,} in {journey_id}" for journey_id, number in sorted(moved.items(), key=lambda item: -item[1])]
    if not parts:
        return None
    return (
        f"{words.count(sum(moved.values()), 'customer')} would change arm, so what was measured so far is lost for them: {_listed(parts)}"
    )


def _messages(report: Report, limit: float) -> str | None:
    channels = report.contact.channels if report.contact else ()
    before, after = (sum(getattr(channel.messages, side) for channel in channels) for side in ("before", "after"))
    if after <= before * (1 + limit):
        return None
    share = f" ({after / before - 1:+.1%})".replace("%", " %") if before else ""
    return f"{after:,} messages instead of {before:,}{share}"


def _empty_segment(report: Report, _limit: float) -> str | None:
    empty = [
        segment.id
        for segment in report.segments
        if not segment.size.after and (segment.how in ("new", "changed") or (segment.how == "same" and segment.size.before))
    ]
    return f"nobody is in {_listed(empty)}" if empty else None


def _value(report: Report, limit: float) -> str | None:
    of = report.value
    if of is None or of.high is None or of.high >= limit:
        return None
    return f"it would have earned {of.difference or 0.0:+,.2f} per decision, {of.high:+,.2f} at most"


def _unsupported(report: Report, limit: float) -> str | None:
    of = report.value
    if of is None or of.unsupported <= limit:
        return None
    return f"{words.percent(of.unsupported)} of what it would draw was not eligible then, and is not judged"


def _listed(parts: list[str]) -> str:
    return ", ".join(parts[:_NAMED]) + (f" and {len(parts) - _NAMED:,} more" if len(parts) > _NAMED else "")


RULES: Mapping[str, _Kind] = {
    "changes": _Kind("changes>20%", _changes, ">", is_percent=True),
    "starved": _Kind("starved>0", _starved, ">"),
    "capacity": _Kind("capacity>100%", _capacity, ">", is_percent=True),
    "arms_change": _Kind("arms_change", _arms_change),
    "messages": _Kind("messages>+10%", _messages, ">", is_percent=True),
    "value": _Kind("value<0", _value, "<"),
    "unsupported": _Kind("unsupported>50%", _unsupported, ">", is_percent=True),
    "empty_segment": _Kind("empty_segment", _empty_segment),
    "not_reproducible": _Kind("not_reproducible", lambda _report, _limit: None),  # reports of what is not never get here: exit code 3
}
"""Every rule by its name."""


def _examples() -> list[str]:
    return [kind.example for kind in RULES.values()]
