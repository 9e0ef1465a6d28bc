"""Why an option lost: a sentence for every gate, and for every other way to lose.

A new ruling has its sentence in ``SENTENCES``; one that is not there is told as what it is, and never with another's words.

What belongs here: reasons. What does not: what would have helped (``page``, ``what_if``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from atc_pipeline.decision.gates import MEANINGS
from atc_pipeline.explanation import what_if, words
from atc_pipeline.explanation.day import Day, Row
from atc_pipeline.journeys.portfolio import NONE, Journey, Period
from atc_pipeline.rules import reach


class UnwordedError(LookupError):
    """A ruling that there is no sentence for: the day was decided by another version."""


def reason(day: Day, ruling: str, row: Row) -> str:
    """Say in a sentence why an option lost; if today's journeys.yaml gives no reason any more, what was so where it lost."""
    if ruling not in SENTENCES:
        raise UnwordedError(ruling)
    return SENTENCES[ruling](day, row) or f"{MEANINGS[ruling]}, by the journeys.yaml of that day."


def _of_journey(sentence: Callable[[Day, Journey], str | None]) -> Callable[[Day, Row], str | None]:
    """Make a sentence about an option of one about its journey: there is none where the journey is gone from journeys.yaml."""

    def say(day: Day, row: Row) -> str | None:
        journey = day.journeys.get(row["journey_id"])
        return None if journey is None else sentence(day, journey)

    return say


def _unscored(_: Day, __: Row) -> str:
    return "The score is not a number today, so it cannot be compared."


def _suppressed(day: Day, _: Row) -> str:
    return f"The customer is not to be contacted{words.because(day.portfolio.policy.suppressed_when)}."


def _blackout(day: Day, journey: Journey) -> str | None:
    period = _blacked_out(day, journey, day.today, day.today)
    return f"Nothing may start today: {period}." if period else None


def _no_channel(day: Day, journey: Journey) -> str | None:
    refusals = [day.consent(channel) for channel in journey.channels]
    return f"Cannot be reached: {'; '.join(refusals)}." if refusals else None


def _max_entries(day: Day, journey: Journey) -> str | None:
    number = (day.memory.get(journey.id) or {"times_entered": None})["times_entered"]
    most = journey.max_entries
    return f"Has had it {words.times(number)}; {words.times(most)} at most." if number and most else None


def _resting(day: Day, _: Row) -> str | None:
    return _until("Must rest", day, resting(day))


def _frequency_cap(day: Day, _: Row) -> str | None:
    return _until("No start left", day, frequency_cap(day))


def _until(what: str, day: Day, held: "Held | None") -> str | None:
    return f"{what} until {day.on(held.free_on)}." if held and held.free_on else f"{what}." if held else None


def _not_live(day: Day, journey: Journey) -> str | None:
    if journey.status == "paused":
        return "It is paused: takes no new customers."
    if journey.starts_on and day.today < journey.starts_on:
        return f"It does not start before {day.on(journey.starts_on)}."
    if journey.ends_on and day.today > journey.ends_on:
        return f"It ended on {day.on(journey.ends_on)}."
    return None


def _blacked_out(day: Day, journey: Journey, first: date, last: date) -> str | None:
    policy = day.portfolio.policy
    for period in reach.blackouts(policy, journey, first, last):
        return f"{_period(day, period)} is blacked out {'for all journeys' if period in policy.suppress else 'for this journey'}"
    return None


def _would_overrun(day: Day, journey: Journey) -> str | None:
    last = day.today + timedelta(days=journey.length_days - 1)
    if not journey.must_finish:
        return None
    if journey.ends_on and last > journey.ends_on:
        return f"It must finish by {day.on(journey.ends_on)}, and would run until {day.on(last)}."
    period = _blacked_out(day, journey, day.today, last)
    return f"It must finish undisturbed, and would run until {day.on(last)}: {period}." if period else None


def _reentry(day: Day, journey: Journey) -> str | None:
    past = day.memory.get(journey.id)
    if past is None:
        return None
    if journey.reentry is None:
        return f"Entered it on {day.on(past['entered_on'])}, and it may be entered only once."
    is_exit = journey.reentry.counted_from == "exit"
    since = past["ended_on"] if is_exit else past["entered_on"]
    again = since + timedelta(days=journey.reentry.after_days) if since else day.today
    if again <= day.today:
        return None
    return f"{'Left' if is_exit else 'Entered'} it {_ago(day, since)}; may enter again from {day.on(again)}."


def _link(day: Day, journey: Journey) -> str | None:
    if not journey.only_after or any(day.memory.get(before, {}).get("times_completed") for before in journey.only_after):
        return None
    missing = []
    for before in journey.only_after:
        past = day.memory.get(before)
        if past is None:
            missing.append(f"{day.name(before)} was never entered")
        elif past["ended_on"] is None:
            missing.append(f"{day.name(before)} is still running")
        else:
            missing.append(f"{day.name(before)} ended {day.on(past['ended_on'])} before it was through ({past['ended_reason']})")
    return f"Comes only after {words.any_of(day.name(before) for before in journey.only_after)}: {'; '.join(missing)}."


def _pairwise(day: Day, journey: Journey) -> str | None:
    latest: tuple[date, str] | None = None
    for rule in journey.not_after:
        past = day.memory.get(rule.journey)
        if past is None:
            continue
        running = past["ended_on"] is None
        last_day = day.today if running else past["ended_on"] - timedelta(days=1)
        if (day.today - last_day).days >= rule.within_days:
            continue
        from_ = last_day + timedelta(days=rule.within_days)
        distance = f"Not within {words.count(rule.within_days, 'day')} of {day.name(rule.journey)}: "
        sentence = distance + (
            "the customer is in it." if running else f"was in it until {day.on(last_day)}; possible from {day.on(from_)}."
        )
        if latest is None or from_ > latest[0]:
            latest = from_, sentence
    return latest[1] if latest else None


@dataclass(frozen=True)
class Held:
    """What holds a customer back from every journey, and the day it no longer does."""

    details: str
    free_on: date | None


def resting(day: Day) -> Held | None:
    """Say after which journey the customer must rest, and until when."""
    left = [(row["left_on"], journey_id) for journey_id, row in day.memory.items() if row["left_on"] is not None]
    if not left:
        return None
    ended_on, journey_id = max(left)
    rest_days = day.portfolio.policy.rest_days
    free_on = ended_on + timedelta(days=rest_days)
    if free_on <= day.today:
        return None
    return Held(f"{words.count(rest_days, 'day')} after {day.name(journey_id)}, which ended {_ago(day, ended_on)}", free_on)


def frequency_cap(day: Day) -> Held | None:
    """Say how many starts there were, how many are allowed, and when there is one more."""
    cap = day.portfolio.policy.cap
    allowed = what_if.value_of(cap.starts.expr.cast(pl.Float64), day.profile) if cap else None
    if cap is None or not isinstance(allowed, float):
        return None
    window = timedelta(days=cap.days)
    recent = sorted(start for row in day.memory.values() for start in row["recent_starts"] or [] if day.today - window < start < day.today)
    if len(recent) + 1 <= allowed:
        return None
    made = f"{len(recent)} within {words.count(cap.days, 'day')}" + (
        f" ({words.all_of(day.on(start) for start in recent)})" if recent else ""
    )
    details = f"{made}, and {allowed:g} {'is' if allowed == 1 else 'are'} allowed"
    later = (day.today + timedelta(days=number) for number in range(1, cap.days + 1))
    free_on = next((day_after for day_after in later if sum(start > day_after - window for start in recent) + 1 <= allowed), None)
    return Held(details, free_on)


def _in_flight(day: Day, row: Row) -> str:
    incumbent = day.contest.incumbent
    if incumbent is None:
        return "The customer is in another journey."
    running = f"{day.name(incumbent.journey_id)} is running"
    if row["journey_id"] == NONE:
        return f"{running}; leaving the customer alone never ends a journey."
    option = day.contest.option(row["journey_id"])
    bar = barred(day, option)
    if bar:
        return f"{running}, and {bar}."
    to_beat = day.contest.to_beat(incumbent)
    if to_beat is not None and option.score is not None and option.score <= to_beat:
        margin = f" (its {day.score(incumbent.defended_score or 0.0)} and the margin for switching)" if day.contest.switch_margin else ""
        return f"It may interrupt, but {running}: only a score above {day.score(to_beat)}{margin} ends it."
    return f"{running}" + (", and leaving the customer alone is worth more." if not day.contest.beats_none(option) else ".")


MAY_NOT = "this one may not interrupt"


def barred(day: Day, option: what_if.Option) -> str | None:
    """Say why no score at all lets an option end the journey in flight."""
    incumbent = day.contest.incumbent
    if incumbent is None or option.is_incumbent:
        return None
    if not incumbent.interruptible:
        return "may not be interrupted"
    if incumbent.mandatory and not option.mandatory:
        return "yields to mandatory journeys only"
    if not option.can_interrupt and not option.mandatory:
        return MAY_NOT
    return None


def _outscored(day: Day, row: Row) -> str:
    option = day.contest.option(row["journey_id"])
    chosen = "leaving the customer alone" if day.chosen_id == NONE else day.name(day.chosen_id)
    if option.is_incumbent:
        to_beat, winner = day.contest.to_beat(option), day.contest.option(day.chosen_id)
        if winner.mandatory or to_beat is None or winner.score is None:
            return f"Interrupted: {chosen} may interrupt it."
        return f"Interrupted: {chosen} may interrupt, and its {day.score(winner.score)} is above {day.score(to_beat)} (with the margin)."
    if row["journey_id"] != NONE and not day.contest.beats_none(option):
        worth = day.contest.none.score or 0.0
        return f"Worth no more than leaving the customer alone ({day.score(worth)})."
    incumbent = day.contest.incumbent
    if incumbent and row["journey_id"] != NONE and not day.contest.may_interrupt(option, incumbent):
        return f"May not interrupt {day.name(incumbent.journey_id)}, as {chosen} did."
    best = next((option_row for option_row in day.options if option_row["ruling"] == "chosen"), None)
    if best is None or row["journey_id"] == NONE:
        return f"{chosen} is worth more."
    if best["mandatory"] and not row["mandatory"]:
        return f"{chosen} is mandatory, and goes before."
    if row["score"] == best["score"]:
        for name, advantage in (("priority", "has the higher priority"), ("waiting_days", "has been waited for longer")):
            if row[name] != best[name]:
                return f"Same score as {chosen}, which {advantage}."
        return f"Same score as {chosen}, whose id comes first in the alphabet."
    return f"{chosen} scores {day.score(abs(row['margin']))} more." if row["margin"] and row["margin"] > 0 else f"{chosen} was chosen."


def _capacity(day: Day, row: Row) -> str:
    known = day.funnel_of(row["journey_id"])
    places = "" if known is None or known["places"] is None else f" ({words.count(known['places'], 'place')})"
    price = "" if known is None or known["price"] is None else f". One more place would have been worth {day.score(known['price'])}"
    return f"Full today{places}: the places went to customers for whom it is worth more{price}."


SENTENCES: Mapping[str, Callable[[Day, Row], str | None]] = {
    "not_live": _of_journey(_not_live),
    "blackout": _of_journey(_blackout),
    "would_overrun": _of_journey(_would_overrun),
    "suppressed": _suppressed,
    "no_channel": _of_journey(_no_channel),
    "unscored": _unscored,
    "reentry": _of_journey(_reentry),
    "max_entries": _of_journey(_max_entries),
    "link": _of_journey(_link),
    "pairwise": _of_journey(_pairwise),
    "resting": _resting,
    "frequency_cap": _frequency_cap,
    "in_flight": _in_flight,
    "outscored": _outscored,
    "capacity": _capacity,
}
"""By each ruling but ``chosen``: why, in a sentence; none where the journeys.yaml at hand gives no reason."""


def _period(day: Day, period: Period) -> str:
    return day.on(period.first) if period.first == period.last else f"{day.on(period.first)} to {day.on(period.last)}"


def _ago(day: Day, when: date) -> str:
    days = (day.today - when).days
    return "today" if days == 0 else f"{words.count(days, 'day')} ago ({day.on(when)})"


OF_CUSTOMER: Mapping[str, tuple[str, Callable[[Day], Held | None]]] = {
    "resting": ("Rest", resting),
    "frequency_cap": ("Starts", frequency_cap),
}
"""Gates that are shut for the customer, whatever the journey: what they are called on the page, and until when."""
