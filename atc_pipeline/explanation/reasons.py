"""Why an option lost: a sentence for every gate, and for every other way to lose.

What belongs here: reasons. What does not: what would have helped (``page``, ``what_if``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from atc_pipeline.explanation import what_if, words
from atc_pipeline.explanation.day import Day, Row
from atc_pipeline.journeys.portfolio import NONE, Journey, Period


def reason(day: Day, gate: str, row: Row) -> str:
    """Say in a sentence why an option failed a gate; if today's journeys.yaml gives no reason any more, what the gate is for."""
    journey = day.journeys.get(row["journey_id"])
    match gate:
        case "outscored":
            return _outscored(day, row)
        case "in_flight":
            return _in_flight(day, row)
        case "capacity":
            return _capacity(day, row)
        case "unscored":
            return "The score is not a number today, so it cannot be compared."
        case "suppressed":
            return f"The customer is not to be contacted{words.because(day.portfolio.policy.suppressed_when)}."
    return _gate(day, gate, journey) or f"{OF_OLD[gate]}, by the journeys.yaml of that day."


OF_OLD: Mapping[str, str] = {
    "not_live": "It took no new customers",
    "blackout": "Nothing was to start on this day",
    "would_overrun": "It had to finish, and could not have in time",
    "no_channel": "None of its channels could be used",
    "reentry": "The customer had it before, and not long enough ago",
    "max_entries": "The customer had it often enough",
    "link": "A journey that must come before it was missing",
    "pairwise": "Another journey was too recent",
    "resting": "The customer had to rest after the last journey",
    "frequency_cap": "The customer had started as many journeys as allowed",
}
"""What failing a gate means, where journeys.yaml was changed since and gives no details any more."""


def _gate(day: Day, gate: str, journey: Journey | None) -> str | None:
    if gate in ("resting", "frequency_cap"):
        held = resting(day) if gate == "resting" else frequency_cap(day)
        what = "Must rest" if gate == "resting" else "No start left"
        return f"{what} until {day.on(held.free_on)}." if held and held.free_on else f"{what}." if held else None
    if journey is None:
        return None
    match gate:
        case "not_live":
            return _not_live(day, journey)
        case "blackout":
            found = _suppressed(day, journey, day.today, day.today)
            return f"Nothing may start today: {found}." if found else None
        case "would_overrun":
            return _would_overrun(day, journey)
        case "no_channel":
            said = [day.consent(channel) for channel in journey.channels]
            return f"Cannot be reached: {'; '.join(said)}." if said else None
        case "reentry":
            return _reentry(day, journey)
        case "max_entries":
            number = (day.memory.get(journey.id) or {"times_entered": None})["times_entered"]
            most = journey.max_entries
            return f"Has had it {words.times(number)}; {words.times(most)} at most." if number and most else None
        case "link":
            return _link(day, journey)
        case _:
            return _pairwise(day, journey)


def _not_live(day: Day, journey: Journey) -> str | None:
    if journey.status == "paused":
        return "It is paused: takes no new customers."
    if journey.starts_on and day.today < journey.starts_on:
        return f"It does not start before {day.on(journey.starts_on)}."
    if journey.ends_on and day.today > journey.ends_on:
        return f"It ended on {day.on(journey.ends_on)}."
    return None


def _suppressed(day: Day, journey: Journey, first: date, last: date) -> str | None:
    for periods, whose in ((day.portfolio.policy.suppress, "for all journeys"), (journey.suppress, "for this journey")):
        for period in periods:
            if period.first <= last and first <= period.last:
                return f"{_period(day, period)} is blacked out {whose}"
    return None


def _would_overrun(day: Day, journey: Journey) -> str | None:
    last = day.today + timedelta(days=journey.length_days - 1)
    if not journey.must_finish:
        return None
    if journey.ends_on and last > journey.ends_on:
        return f"It must finish by {day.on(journey.ends_on)}, and would run until {day.on(last)}."
    found = _suppressed(day, journey, day.today, last)
    return f"It must finish undisturbed, and would run until {day.on(last)}: {found}." if found else None


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
    said = []
    for before in journey.only_after:
        past = day.memory.get(before)
        if past is None:
            said.append(f"{day.name(before)} was never entered")
        elif past["ended_on"] is None:
            said.append(f"{day.name(before)} is still running")
        else:
            said.append(f"{day.name(before)} ended {day.on(past['ended_on'])} before it was through ({past['ended_reason']})")
    return f"Comes only after {words.any_of(day.name(before) for before in journey.only_after)}: {'; '.join(said)}."


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
        said = distance + ("the customer is in it." if running else f"was in it until {day.on(last_day)}; possible from {day.on(from_)}.")
        if latest is None or from_ > latest[0]:
            latest = from_, said
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
    recent = sorted(one for row in day.memory.values() for one in row["recent_starts"] or [] if day.today - window < one < day.today)
    if len(recent) + 1 <= allowed:
        return None
    made = f"{len(recent)} within {words.count(cap.days, 'day')}" + (f" ({words.all_of(day.on(one) for one in recent)})" if recent else "")
    said = f"{made}, and {allowed:g} {'is' if allowed == 1 else 'are'} allowed"
    later = (day.today + timedelta(days=number) for number in range(1, cap.days + 1))
    free_on = next((one for one in later if sum(start > one - window for start in recent) + 1 <= allowed), None)
    return Held(said, free_on)


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
    best = next((one for one in day.options if one["ruling"] == "chosen"), None)
    if best is None or row["journey_id"] == NONE:
        return f"{chosen} is worth more."
    if best["mandatory"] and not row["mandatory"]:
        return f"{chosen} is mandatory, and goes before."
    if row["score"] == best["score"]:
        for name, said in (("priority", "has the higher priority"), ("waiting_days", "has been waited for longer")):
            if row[name] != best[name]:
                return f"Same score as {chosen}, which {said}."
        return f"Same score as {chosen}, whose id comes first in the alphabet."
    return f"{chosen} scores {day.score(abs(row['margin']))} more." if row["margin"] and row["margin"] > 0 else f"{chosen} was chosen."


def _capacity(day: Day, row: Row) -> str:
    known = day.funnel_of(row["journey_id"])
    places = "" if known is None or known["places"] is None else f" ({words.count(known['places'], 'place')})"
    price = "" if known is None or known["price"] is None else f". One more place would have been worth {day.score(known['price'])}"
    return f"Full today{places}: the places went to customers for whom it is worth more{price}."


def _period(day: Day, period: Period) -> str:
    return day.on(period.first) if period.first == period.last else f"{day.on(period.first)} to {day.on(period.last)}"


def _ago(day: Day, when: date) -> str:
    days = (day.today - when).days
    return "today" if days == 0 else f"{words.count(days, 'day')} ago ({day.on(when)})"
