"""The explanation: one customer's day in words that need no glossary - what happened, why, and what it would have taken.

What belongs here: sentences about tables that are there already. What does not: reading them, deciding anything, and what
would win with another priority or score (``what_if``).
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.explanation import what_if
from atc_pipeline.journeys.calendar import is_time_zone
from atc_pipeline.journeys.portfolio import DEFAULT_SCORE, NONE, Condition, Journey, Period, Portfolio

WIDTH = 100

Row = Mapping[str, Any]

NEUTRAL: Mapping[str, object] = {
    "propensity": 1.0,
    "value": 1.0,
    "interest_match": 0.0,
    "intent_match": 0.0,
    "priority": 0.0,
    "waiting_days": 0,
    "linked_boost": 1.0,
}
"""At these, the factors of the default score change nothing."""


@dataclass(frozen=True, eq=False)
class Day:
    """What the lake knows of one customer and one day; each frame holds this customer's rows only.

    ``yesterday``, ``state_before``: of the day before, without rows where it is not known. ``funnel``: one row per journey,
    without rows where it is not known. ``messages``: None where they were not written yet.
    """

    customer_id: str
    today: date
    portfolio: Portfolio
    profile: pl.DataFrame
    memberships: pl.DataFrame
    candidates: pl.DataFrame
    assignment: pl.DataFrame
    state: pl.DataFrame
    messages: pl.DataFrame | None
    yesterday: pl.DataFrame
    state_before: pl.DataFrame
    funnel: pl.DataFrame

    @cached_property
    def answer(self) -> Row:
        """Return the day's one answer."""
        return self.assignment.row(0, named=True)

    @cached_property
    def journeys(self) -> Mapping[str, Journey]:
        """Return the journeys by id."""
        return {journey.id: journey for journey in self.portfolio.journeys}

    @cached_property
    def options(self) -> Sequence[Row]:
        """Return the option rows in the total order."""
        return self.candidates.sort("rank").to_dicts()

    @cached_property
    def chosen_id(self) -> str:
        """Return the option that was chosen."""
        return self.answer["journey_id"] or NONE

    @cached_property
    def contest(self) -> what_if.Contest:
        """Return the choice, to be tried again."""
        return what_if.contest_of(self.candidates, self.profile, self.state, self.portfolio)

    @cached_property
    def memory(self) -> Mapping[str, Row]:
        """Return what was remembered of each journey when today's choice was made: today's own entry and interruption undone."""
        before = {row["journey_id"]: row for row in self.state_before.iter_rows(named=True)}
        ended = self.answer["ended_journey_id"]
        memory = {}
        for row in self.state.iter_rows(named=True):
            old = before.get(row["journey_id"])
            if row["entered_on"] == self.today:
                if old is None:
                    continue
                known = {**old, "recent_starts": [day for day in row["recent_starts"] if day < self.today]}
                if row["journey_id"] == ended:
                    known |= {"ended_on": self.today, "left_on": self.today, "ended_reason": self.answer["ended_reason"]}
                memory[row["journey_id"]] = known
            elif row["ended_on"] == self.today and row["ended_reason"] == "interrupted":
                memory[row["journey_id"]] = {**row, "ended_on": None, "left_on": old["left_on"] if old else None}
            else:
                memory[row["journey_id"]] = row
        return memory

    @cached_property
    def decimals(self) -> int:
        """Return how many decimals show the day's scores to about four digits, and by how much the closest loser lost."""
        largest = max((abs(row["score"]) for row in self.options if row["score"]), default=1.0)
        closest = min((abs(row["margin"]) for row in self.options if row["margin"]), default=1.0)
        return min(9, max(0, 3 - math.floor(math.log10(largest)), -math.floor(math.log10(closest))))

    @cached_property
    def doubt(self) -> str | None:
        """Return why it cannot be said what would have won, if so."""
        incumbent = self.contest.incumbent
        if incumbent is None and what_if.is_drawn(self.customer_id, self.today, self.portfolio.policy.explore) and self._has_lots():
            return "Today this customer's journey was drawn by lot, to learn from (policy.explore): neither score nor priority decided."
        if incumbent is None and self.answer["decision"] in ("switch", "continue"):
            return "What would have won cannot be said: the row of the journey in flight was not kept (policy.keep_candidates)."
        if self.contest.winner().journey_id != self.chosen_id:
            return (
                "What would have won cannot be said: by today's journeys.yaml another option would have been chosen. Either it was "
                "changed since, or the choice was kept because its messages had already been delivered."
            )
        return None

    def _has_lots(self) -> bool:
        eligible = [one for one in self.contest.options if self.contest.is_eligible(one)]
        return bool(eligible) and not any(one.mandatory for one in eligible)

    def name(self, journey_id: str) -> str:
        """Name a journey as people call it."""
        journey = self.journeys.get(journey_id)
        return f'"{journey.name if journey else journey_id}"'

    def score(self, score: float) -> str:
        """Write a score."""
        return f"{score:.{self.decimals}f}"

    def on(self, day: date) -> str:
        """Write a day, with the year only where it is another one."""
        return f"{day.day} {day:%B}" + ("" if day.year == self.today.year else f" {day.year}")


def explain(day: Day, *, with_others: bool = False) -> str:
    """Tell one customer's day; ``with_others``: also why the customer is queued for none of the other journeys."""
    title = f"Customer {day.customer_id} on {day.today:%A}, {day.today.day} {day.today:%B %Y}"
    parts = [title, "=" * len(title), "", *_summary(day), "", *_segments(day), "", *_options(day), *_others(day, with_others=with_others)]
    return "\n".join(line.rstrip() for line in parts)


# --- What happened ---------------------------------------------------------------------------------------------------


def _summary(day: Day) -> list[str]:
    answer = day.answer
    lines = [*_field("Today", _today(day)), *_field("Yesterday", _yesterday(day))]
    if answer["arm"] == "control":
        lines += _field("Group", "control: takes the place like everybody else and is sent nothing, to measure what the journey changes")
    elif answer["arm"] is not None:
        lines += _field("Group", "treated: gets the messages of the journey")
    for number, message in enumerate(_messages(day)):
        lines += _field("Messages" if number == 0 else "", message)
    if answer["runner_up"] is not None:
        lines += _field("Runner-up", _runner_up(day))
    failed = {gate for row in day.options for gate in row["failed_gates"]}
    for gate, label, reason in (("resting", "Rest", _resting), ("frequency_cap", "Starts", _frequency_cap)):
        said = reason(day) if gate in failed else None
        if said:
            lines += _field(label, f"{said.details}; new ones from {day.on(said.free_on)}" if said.free_on else said.details)
    chance = answer["selection_probability"]
    if chance is None:
        lines += _field("Chance", "none recorded: there was no place in the journey this customer should have got")
    elif chance < 1:
        share = _percent(day.portfolio.policy.explore)
        lines += _field("Chance", f"{_percent(chance)} for this choice: {share} of the customers are given one of their options by lot")
    return lines


def _today(day: Day) -> str:
    answer = day.answer
    if answer["journey_id"] is None:
        return "left alone, in no journey"
    length = (answer["ends_on"] - answer["entered_on"]).days + 1 if answer["ends_on"] else None
    at = f"day {answer['day_index']} of {length}" if length else f"day {answer['day_index']}"
    until = f" until {day.on(answer['ends_on'])}" if length else ""
    journey = day.name(answer["journey_id"])
    match answer["decision"]:
        case "start":
            return f"starts {journey}: {at},{until}".rstrip(",")
        case "switch":
            return f"switches from {day.name(answer['ended_journey_id'])} to {journey}: {at},{until}".rstrip(",")
        case _:
            return f"stays in {journey}: {at}, since {day.on(answer['entered_on'])}{until}"


def _yesterday(day: Day) -> str:
    ended, reason = day.answer["ended_journey_id"], day.answer["ended_reason"]
    end = f"{day.name(ended)} ended today: {_ended(day, ended, reason)}" if ended is not None else ""
    if day.yesterday.is_empty():
        is_new = day.profile.height and day.profile["first_seen_on"].item() == day.today
        return "the customer was first seen today" if is_new else "not in the lake" + (f"; {end}" if end else "")
    before = day.yesterday.row(0, named=True)
    if before["journey_id"] is None:
        return "in no journey" + (f"; {end}" if end else "")
    was = f"day {before['day_index']} of {day.name(before['journey_id'])}, since {day.on(before['entered_on'])}"
    return was + (f". It ended today: {_ended(day, ended, reason)}" if ended == before["journey_id"] else f"; {end}" if end else "")


def _ended(day: Day, journey_id: str, reason: str) -> str:
    journey = day.journeys.get(journey_id)
    match reason:
        case "converted":
            return "its goal was reached" + (f" ({journey.goal.event})" if journey and journey.goal else "")
        case "completed":
            return "it ran its full length"
        case "exited":
            return "the customer left it" + (f", because: {journey.exit_when.text}" if journey and journey.exit_when else "")
        case "interrupted":
            return f"interrupted by {day.name(day.chosen_id)}"
        case "withdrawn":
            return "it was taken out of journeys.yaml"
        case _:
            return "the customer was recognised as another one, who was in a journey already"


def _messages(day: Day) -> list[str]:
    answer = day.answer
    if answer["arm"] != "treated":
        return []
    if day.messages is None:
        return ["not written yet for this day"]
    if not day.messages.is_empty():
        return [_message(day, row) for row in day.messages.sort("send_at", "channel").iter_rows(named=True)]
    journey = day.journeys.get(answer["journey_id"])
    coming = sorted((step for step in journey.steps if step.day > answer["day_index"]), key=lambda step: step.day) if journey else []
    if not coming:
        return ["none today, and none to come in this journey"]
    due = day.on(answer["entered_on"] + timedelta(days=coming[0].day - 1))
    return [f"none today; the next is {coming[0].content} by {coming[0].channel} on day {coming[0].day} ({due})"]


def _message(day: Day, row: Row) -> str:
    what = f"{row['content']}{' (' + row['variant'] + ')' if row['variant'] else ''} by {row['channel']}"
    match row["withheld"]:
        case None:
            named = day.profile["timezone"].item() if day.profile.height else None
            zone = named if named and is_time_zone(named) else day.portfolio.timezone
            at: datetime = row["send_at"].astimezone(ZoneInfo(zone))
            return f"{what}, {day.on(at.date())} at {at:%H:%M} ({zone})"
        case "no_consent":
            return f"{what}: withheld, {_consent(day, row['channel'])}"
        case "suppressed":
            return f"{what}: withheld, the customer is not to be contacted{_because(day.portfolio.policy.suppressed_when)}"
        case _:
            return f"{what}: withheld, nothing is sent on this day"


def _runner_up(day: Day) -> str:
    answer = day.answer
    name = "leaving the customer alone" if answer["runner_up"] == NONE else day.name(answer["runner_up"])
    if answer["score"] is None or answer["runner_up_score"] is None:
        return name
    gap = answer["score"] - answer["runner_up_score"]
    if gap == 0:
        return f"{name}, with the same score"
    return f"{name}, {day.score(abs(gap))} {'behind' if gap > 0 else 'ahead by score, but not free to win'}"


def _segments(day: Day) -> list[str]:
    members = day.memberships.sort("member_since", "segment_id")
    wide = max([len(name) for name in members["segment_id"]], default=0)
    lines = [f"Segments ({members.height})"]
    for segment, since in members.select("segment_id", "member_since").iter_rows():
        if since <= day.portfolio.starts_on:
            said = f"since {day.on(since)}, our first day, or longer"
        else:
            days = (day.today - since).days
            said = "since today" if days == 0 else f"since {day.on(since)} ({_count(days, 'day')})"
        lines.append(f"   {segment:<{wide}}   {said}")
    return lines


# --- The options -----------------------------------------------------------------------------------------------------


def _options(day: Day) -> list[str]:
    if not day.options:
        return ["Options: none. The customer is queued for no journey and in none."]
    lines = [f"{'Options (mandatory first, then by score)':<52}{'score':>12}{'to chosen':>12}   ruling"]
    for row in day.options:
        lines += ["", *_option(day, row)]
    keep = day.portfolio.policy.keep_candidates
    if keep is not None and len(day.options) >= keep:
        said = f"Only the best {keep} and the chosen one are kept (policy.keep_candidates); there may have been more."
        lines += ["", *_wrapped(said, "")]
    said = day.doubt or "To win: what alone would have been enough for this customer. A priority is the same for all customers."
    if day.doubt or any("To win:" in line for line in lines):
        lines += ["", *_wrapped(said, "")]
    return lines


def _option(day: Day, row: Row) -> list[str]:
    is_none, journey = row["journey_id"] == NONE, day.journeys.get(row["journey_id"])
    name = "No journey: leave the customer alone" if is_none else f"{journey.name if journey else '?'} ({row['journey_id']})"
    score = "no score" if row["score"] is None else day.score(row["score"])
    margin = "" if row["margin"] is None or row["ruling"] == "chosen" else f"{-row['margin'] + 0.0:+.{day.decimals}f}"
    head = f"{row['rank']:>3}  {name}"
    if len(head) > 51:
        head = head[:50] + "…"
    lines = [f"{head:<52}{score:>12}{margin:>12}   {row['ruling'].upper() if row['ruling'] == 'chosen' else row['ruling']}"]
    facts = _facts(day, row)
    if facts:
        lines += _wrapped(" · ".join(facts), "     ")
    reasons = [_reason(day, gate, row) for gate in row["failed_gates"]]
    if reasons:
        also = [f"{reason[0].lower()}{reason[1:-1]}" for reason in reasons[1:]]
        lines += _wrapped(reasons[0] + (f" Also: {'; '.join(also)}." if also else ""), "     ")
    helps = None if row["ruling"] == "chosen" or day.doubt else _what_helps(day, row)
    if helps:
        lines += _wrapped(helps, "     -> ", "        ")
    return lines


def _facts(day: Day, row: Row) -> list[str]:
    """Say what went into the score, and of the default score only what changed it."""
    if row["journey_id"] == NONE:
        return []
    score, journey = day.portfolio.policy.score, day.journeys.get(row["journey_id"])
    is_default = " ".join(score.text.split()) == DEFAULT_SCORE
    facts = ["mandatory: goes before every other"] if row["mandatory"] else []
    if row["is_incumbent"]:
        facts.append("in flight" if row["is_queued"] else "in flight, no longer queued")
    for name, neutral in NEUTRAL.items():
        is_read = name in score.columns and not (name == "waiting_days" and is_default and day.portfolio.policy.waiting_weight == 0)
        if row[name] is not None and row[name] != neutral and is_read:
            facts.append(_fact(name, row[name], journey))
    profile = day.profile.row(0, named=True) if day.profile.height else {}
    facts += [f"{name} {_plain(profile[name])}" for name in score.columns if name in profile and name not in NEUTRAL]
    return facts


def _fact(name: str, value: float, journey: Journey | None) -> str:
    match name:
        case "propensity":
            return f"{_percent(value)} chance of success"
        case "value":
            return f"worth {value:g}"
        case "interest_match":
            return f"{_percent(value)} interest in {_and(journey.interests) if journey else 'it'}"
        case "intent_match":
            return f"{_percent(value)} intent: {_or(journey.intents) if journey else 'it'}"
        case "priority":
            return f"priority {value:g}"
        case "waiting_days":
            return f"waiting for {_count(int(value), 'day')}"
        case _:
            return f"follows from the last journey: × {value:g}"


# --- Why it lost -----------------------------------------------------------------------------------------------------


def _reason(day: Day, gate: str, row: Row) -> str:
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
            return f"The customer is not to be contacted{_because(day.portfolio.policy.suppressed_when)}."
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
        held = _resting(day) if gate == "resting" else _frequency_cap(day)
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
            said = [_consent(day, channel) for channel in journey.channels]
            return f"Cannot be reached: {'; '.join(said)}." if said else None
        case "reentry":
            return _reentry(day, journey)
        case "max_entries":
            times = (day.memory.get(journey.id) or {"times_entered": None})["times_entered"]
            return f"Has had it {_times(times)}; {_times(journey.max_entries)} at most." if times and journey.max_entries else None
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
    return f"Comes only after {_or(day.name(before) for before in journey.only_after)}: {'; '.join(said)}."


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
        distance = f"Not within {_count(rule.within_days, 'day')} of {day.name(rule.journey)}: "
        said = distance + ("the customer is in it." if running else f"was in it until {day.on(last_day)}; possible from {day.on(from_)}.")
        if latest is None or from_ > latest[0]:
            latest = from_, said
    return latest[1] if latest else None


@dataclass(frozen=True)
class _Held:
    """What holds a customer back from every journey, and the day it no longer does."""

    details: str
    free_on: date | None


def _resting(day: Day) -> _Held | None:
    left = [(row["left_on"], journey_id) for journey_id, row in day.memory.items() if row["left_on"] is not None]
    if not left:
        return None
    ended_on, journey_id = max(left)
    rest_days = day.portfolio.policy.rest_days
    free_on = ended_on + timedelta(days=rest_days)
    if free_on <= day.today:
        return None
    return _Held(f"{_count(rest_days, 'day')} after {day.name(journey_id)}, which ended {_ago(day, ended_on)}", free_on)


def _frequency_cap(day: Day) -> _Held | None:
    cap = day.portfolio.policy.cap
    allowed = what_if.value_of(cap.starts.expr.cast(pl.Float64), day.profile) if cap else None
    if cap is None or not isinstance(allowed, float):
        return None
    window = timedelta(days=cap.days)
    recent = sorted(one for row in day.memory.values() for one in row["recent_starts"] or [] if day.today - window < one < day.today)
    if len(recent) + 1 <= allowed:
        return None
    made = f"{len(recent)} within {_count(cap.days, 'day')}" + (f" ({_and(day.on(one) for one in recent)})" if recent else "")
    said = f"{made}, and {allowed:g} {'is' if allowed == 1 else 'are'} allowed"
    later = (day.today + timedelta(days=number) for number in range(1, cap.days + 1))
    free_on = next((one for one in later if sum(start > one - window for start in recent) + 1 <= allowed), None)
    return _Held(said, free_on)


def _in_flight(day: Day, row: Row) -> str:
    incumbent = day.contest.incumbent
    if incumbent is None:
        return "The customer is in another journey."
    running = f"{day.name(incumbent.journey_id)} is running"
    if row["journey_id"] == NONE:
        return f"{running}; leaving the customer alone never ends a journey."
    option = day.contest.option(row["journey_id"])
    barred = _barred(day, option)
    if barred:
        return f"{running}, and {barred}."
    to_beat = day.contest.to_beat(incumbent)
    if to_beat is not None and option.score is not None and option.score <= to_beat:
        margin = f" (its {day.score(incumbent.defended_score or 0.0)} and the margin for switching)" if day.contest.switch_margin else ""
        return f"It may interrupt, but {running}: only a score above {day.score(to_beat)}{margin} ends it."
    return f"{running}" + (", and leaving the customer alone is worth more." if not day.contest.beats_none(option) else ".")


MAY_NOT = "this one may not interrupt"


def _barred(day: Day, option: what_if.Option) -> str | None:
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
    known = _funnel(day, row["journey_id"])
    places = "" if known is None or known["places"] is None else f" ({_count(known['places'], 'place')})"
    price = "" if known is None or known["price"] is None else f". One more place would have been worth {day.score(known['price'])}"
    return f"Full today{places}: the places went to customers for whom it is worth more{price}."


def _funnel(day: Day, journey_id: str) -> Row | None:
    found = day.funnel.filter(pl.col("journey_id") == journey_id) if day.funnel.height else day.funnel
    return found.row(0, named=True) if found.height else None


# --- What would have helped ------------------------------------------------------------------------------------------


def _what_helps(day: Day, row: Row) -> str | None:
    if row["journey_id"] == NONE:
        change = day.contest.smallest_change(NONE, None, day.decimals)
        return None if change.score is None else f"To win: leaving alone would have to be worth {_score_needed(day, row, change.score)}."
    if "unscored" in row["failed_gates"]:
        return "No priority helps while there is no score."
    option = day.contest.option(row["journey_id"])
    if option.is_refused:
        return _for_a_place(day, row)
    trial = what_if.rescore(day.candidates.filter(pl.col("journey_id") == row["journey_id"]), day.profile, day.portfolio)
    if option.is_open:
        change = day.contest.smallest_change(row["journey_id"], trial, day.decimals)
        if change.score is None:
            return f"No priority or score helps: {_obstacle(day, option)}."
        return f"To win: {_needed(day, row, change, trial)}{_and_a_place(day, row)}."
    ideal = day.contest.with_gates_open(row["journey_id"])
    hurdle = "that" if len(row["failed_gates"]) == 1 else "all that"
    if ideal.winner().journey_id == row["journey_id"]:
        return f"No priority helps. But for {hurdle}, it would have won{_and_a_place(day, row)}."
    change = ideal.smallest_change(row["journey_id"], trial, day.decimals)
    if change.score is None:
        return f"No priority helps. Nor would it win but for {hurdle}: {_obstacle(day, option)}."
    return f"No priority helps. But for {hurdle}, it would still have needed {_needed(day, row, change, trial)}."


def _obstacle(day: Day, option: what_if.Option) -> str:
    """Say why an option whose gates are open wins with no score at all."""
    barred, incumbent = _barred(day, option), day.contest.incumbent
    if barred and incumbent:
        running = day.name(incumbent.journey_id)
        return f"it may not interrupt {running}" if barred == MAY_NOT else f"{running} {barred}"
    return f"{day.name(day.chosen_id)} is mandatory and goes before"


def _needed(day: Day, row: Row, change: what_if.Change, trial: pl.DataFrame | None) -> str:
    assert change.score is not None
    score = f"a score of {_score_needed(day, row, change.score)}"
    if trial is None:
        return f"{score} (what a priority would do is not known: journeys.yaml was changed since)"
    if change.priority is not None:
        return f"priority {change.priority} instead of {row['priority']:g}, or {score}"
    if "priority" not in day.portfolio.policy.score.columns:
        return f"{score}; priority is no part of policy.score"
    return f"{score}; no priority up to {what_if.HIGHEST_PRIORITY:,} is enough"


def _score_needed(day: Day, row: Row, score: float) -> str:
    own = row["score"]
    return day.score(score) if own is None else f"{day.score(score)} instead of {day.score(own)}"


def _for_a_place(day: Day, row: Row) -> str | None:
    """Say what the option had to be worth at today's prices; the last place taken may have been worth more than one more is."""
    wanted = _funnel(day, row["journey_id"])
    chosen, got = day.contest.option(day.chosen_id), _funnel(day, day.chosen_id)
    if wanted is None or wanted["price"] is None or row["mandatory"] or row["score"] is None:
        return "Only a place would have helped: which score is enough depends on the other customers."
    kept = chosen.defended_score if chosen.is_incumbent else chosen.score
    paid = 0.0 if chosen.is_incumbent or got is None or got["price"] is None else got["price"]
    needed = (kept or 0.0) - paid + wanted["price"]
    if needed <= row["score"]:
        return "It was as good as those who got the last places: a little more, or one more place, would have been enough."
    trial = what_if.rescore(day.candidates.filter(pl.col("journey_id") == row["journey_id"]), day.profile, day.portfolio)
    higher = [] if trial is None else trial.filter(pl.col("score") >= needed, pl.col("priority") > row["priority"])["priority"].to_list()
    lever = f" (priority {min(higher):g} instead of {row['priority']:g})" if higher else ""
    return f"For a place: at least a score of {_score_needed(day, row, needed)}{lever}, at what places were worth today."


def _and_a_place(day: Day, row: Row) -> str:
    known = _funnel(day, row["journey_id"])
    if known is None or not known["price"]:
        return ""
    return f" - and a place, of which one more was worth {day.score(known['price'])}"


# --- The journeys that are no option ---------------------------------------------------------------------------------


def _others(day: Day, *, with_others: bool) -> list[str]:
    options = {row["journey_id"] for row in day.options}
    others = [journey for journey in day.portfolio.journeys if journey.id not in options]
    if not others:
        return []
    if not with_others:
        return ["", f"Not in the queue of {_count(len(others), 'other journey')}; --all says why."]
    lines = ["", "Not in the queue of"]
    wide = min(44, max(len(f"{journey.name} ({journey.id})") for journey in others))
    for journey in others:
        lines += _wrapped(_why_not_queued(day, journey), f"   {f'{journey.name} ({journey.id})':<{wide}}   ", " " * (wide + 6))
    return lines


def _why_not_queued(day: Day, journey: Journey) -> str:
    is_in, queue = set(day.memberships["segment_id"]), journey.queue
    said = []
    if queue.any and not is_in & set(queue.any):
        said.append(f"in none of {_and(queue.any)}" if len(queue.any) > 1 else f"not in {queue.any[0]}")
    missing = [name for name in queue.all if name not in is_in]
    if missing:
        said.append(f"not in {_and(missing)}")
    barred = [name for name in queue.none if name in is_in]
    if barred:
        said.append(f"in {_and(barred)}, which it leaves out")
    if queue.where is not None and what_if.value_of(queue.where.expr, day.profile) is not True:
        said.append(f"not so: {queue.where.text}{_values(day, queue.where)}")
    if journey.exit_when is not None and what_if.value_of(journey.exit_when.expr, day.profile) is True:
        said.append(f"would leave at once, because: {journey.exit_when.text}{_values(day, journey.exit_when)}")
    return "; ".join(said) or "would qualify by today's journeys.yaml; the queue of the day was built with another"


def _values(day: Day, condition: Condition) -> str:
    profile = day.profile.row(0, named=True) if day.profile.height else {}
    known = [f"{name} {_plain(profile[name])}" for name in condition.columns if name in profile]
    return f" ({', '.join(known)})" if known else ""


# --- Words -----------------------------------------------------------------------------------------------------------


def _consent(day: Day, channel: str) -> str:
    column = f"consent_{channel}"
    said = day.profile[column].item() if column in day.profile.columns and day.profile.height else None
    return f"said no to {channel}" if said is False else f"never said yes to {channel}"


def _because(condition: Condition | None) -> str:
    return f", because: {condition.text}" if condition else ""


def _period(day: Day, period: Period) -> str:
    return day.on(period.first) if period.first == period.last else f"{day.on(period.first)} to {day.on(period.last)}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if not 0 < share < 0.001 else "under 0.1 %"


def _ago(day: Day, when: date) -> str:
    days = (day.today - when).days
    return "today" if days == 0 else f"{_count(days, 'day')} ago ({day.on(when)})"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number:,} {thing}s"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _and(names: Iterable[str]) -> str:
    return _joined(list(names), "and")


def _or(names: Iterable[str]) -> str:
    return _joined(list(names), "or")


def _joined(names: list[str], word: str) -> str:
    return f" {word} ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])


def _plain(value: Any) -> str:  # noqa: ANN401  # whatever a profile column holds
    match value:
        case None:
            return "unknown"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case _:
            return f"{value!s}"


def _field(label: str, text: str) -> list[str]:
    return _wrapped(text, f"{label:<12}", " " * 12)


def _wrapped(text: str, first: str, following: str | None = None) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=first if following is None else following)
