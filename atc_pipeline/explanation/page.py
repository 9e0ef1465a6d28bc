"""The explanation: one customer's day in words that need no glossary - what happened, why, and what it would have taken.

What belongs here: sentences about tables that are there already. What does not: reading them, deciding anything, why an
option lost (``reasons``), and what would win with another priority or score (``what_if``).
"""

import textwrap
from collections.abc import Mapping

import polars as pl

from atc_pipeline.escaping import plain
from atc_pipeline.explanation import learned, messages, reasons, what_if, words
from atc_pipeline.explanation.day import Day, Row
from atc_pipeline.journeys.portfolio import DEFAULT_SCORE, NONE, Condition, Journey
from atc_pipeline.rules.arms import CONTROL, JOURNEY, POLICY

WIDTH = 100

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


def explain(day: Day, *, with_others: bool = False) -> str:
    """Tell one customer's day; ``with_others``: also why the customer is queued for none of the other journeys."""
    title = f"Customer {plain(day.customer_id)} on {day.today:%A}, {day.today.day} {day.today:%B %Y}"
    parts = [title, "=" * len(title), "", *_summary(day), "", *_segments(day), "", *_options(day), *_others(day, with_others=with_others)]
    return "\n".join(plain(line.rstrip(), None) for line in parts)


# --- What happened ---------------------------------------------------------------------------------------------------


def _summary(day: Day) -> list[str]:
    answer = day.answer
    lines = [*_field("Today", _today(day)), *_field("Yesterday", _yesterday(day))]
    if answer["arm"] == CONTROL:
        lines += _field(
            "Group", f"control{_held_out(day)}: takes the place like everybody else and is sent nothing, to measure {_measured(day)}"
        )
    elif answer["arm"] is not None:
        lines += _field("Group", "treated: gets the messages of the journey")
    if answer.get("variant") is not None:
        lines += _field("Variant", f"{plain(answer['variant'])}, drawn when the journey was entered")
    for number, (message, text) in enumerate(messages.tell(day)):
        lines += [*_field("Messages" if number == 0 else "", message), *(f"{'':<14}{line}" for line in text)]
    if answer["runner_up"] is not None:
        lines += _field("Runner-up", _runner_up(day))
    failed = {gate for row in day.options for gate in row["failed_gates"]}
    for gate, (label, reason) in reasons.OF_CUSTOMER.items():
        held = reason(day) if gate in failed else None
        if held:
            lines += _field(label, f"{held.details}; new ones from {day.on(held.free_on)}" if held.free_on else held.details)
    chance = answer["selection_probability"]
    if chance is None:
        lines += _field("Chance", "none recorded: there was no place in the journey this customer should have got")
    elif chance < 1:
        share = words.percent(day.portfolio.policy.explore)
        lines += _field(
            "Chance", f"{words.percent(chance)} for this choice: {share} of the customers are given one of their options by lot"
        )
    lacking = learned.of_day(day)
    return [*lines, *_field("Learned", lacking)] if lacking else lines


def _held_out(day: Day) -> str:
    """Say who holds the customer out; nothing where an older version decided the day, which did not keep it."""
    return _HELD_OUT.get(day.answer.get("held_out_by") or "", "")


def _measured(day: Day) -> str:
    return "what all journeys change together" if day.answer.get("held_out_by") == POLICY else "what the journey changes"


_HELD_OUT = {POLICY: ", held out of all journeys (policy.holdout)", JOURNEY: ", held out of this journey (its holdout)"}


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
        case "continue":
            return f"stays in {journey}: {at}, since {day.on(answer['entered_on'])}{until}"
        case decision:
            return f"{journey}: {at}, decided as {decision!r}, which this version has no words for"


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
        case "merged":
            return "the customer was recognised as another one, who was in a journey already"
        case _:
            return f"as {reason!r}, which this version has no words for"


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
            spell = f"since {day.on(since)}, our first day, or longer"
        else:
            days = (day.today - since).days
            spell = "since today" if days == 0 else f"since {day.on(since)} ({words.count(days, 'day')})"
        lines.append(f"   {segment:<{wide}}   {spell}")
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
        note = f"Only the best {keep} and the chosen one are kept (policy.keep_candidates); there may have been more."
        lines += ["", *_wrapped(note, "")]
    note = day.doubt or "To win: what alone would have been enough for this customer. A priority is the same for all customers."
    if day.doubt or any("To win:" in line for line in lines):
        lines += ["", *_wrapped(note, "")]
    return lines


def _option(day: Day, row: Row) -> list[str]:
    is_none, journey = row["journey_id"] == NONE, day.journeys.get(row["journey_id"])
    name = "No journey: leave the customer alone" if is_none else f"{plain(journey.name) if journey else '?'} ({row['journey_id']})"
    score = "no score" if row["score"] is None else day.score(row["score"])
    margin = "" if row["margin"] is None or row["ruling"] == "chosen" else f"{-row['margin'] + 0.0:+.{day.decimals}f}"
    head = f"{row['rank']:>3}  {name}"
    if len(head) > 51:
        head = head[:50] + "…"
    lines = [f"{head:<52}{score:>12}{margin:>12}   {row['ruling'].upper() if row['ruling'] == 'chosen' else row['ruling']}"]
    facts = _facts(day, row)
    if facts:
        lines += _wrapped(" · ".join(facts), "     ")
    lines += _wrapped(foretold, "     ") if (foretold := learned.of_option(day, row)) else []
    why = [_why(day, gate, row) for gate in row["failed_gates"]]
    if why:
        also = [f"{reason[0].lower()}{reason[1:-1]}" for reason in why[1:]]
        lines += _wrapped(why[0] + (f" Also: {'; '.join(also)}." if also else ""), "     ")
    helps = None if row["ruling"] == "chosen" or day.doubt else _what_helps(day, row)
    if helps:
        lines += _wrapped(helps, "     -> ", "        ")
    return lines


def _why(day: Day, ruling: str, row: Row) -> str:
    try:
        return reasons.reason(day, ruling, row)
    except reasons.UnwordedError:
        return f"Ruled {ruling!r}, which this version has no words for."


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
    facts += [f"{name} {words.plain(profile[name])}" for name in score.columns if name in profile and name not in NEUTRAL]
    return facts


def _fact(name: str, value: float, journey: Journey | None) -> str:
    match name:
        case "propensity":
            return f"{words.percent(value)} chance of success"
        case "value":
            return f"worth {value:g}"
        case "interest_match":
            return f"{words.percent(value)} interest in {words.all_of(journey.interests) if journey else 'it'}"
        case "intent_match":
            return f"{words.percent(value)} intent: {words.any_of(journey.intents) if journey else 'it'}"
        case "priority":
            return f"priority {value:g}"
        case "waiting_days":
            return f"waiting for {words.count(int(value), 'day')}"
        case "linked_boost":
            return f"follows from the last journey: × {value:g}"
        case _:
            return f"{name} {value:g}"


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
    barred, incumbent = reasons.barred(day, option), day.contest.incumbent
    if barred and incumbent:
        running = day.name(incumbent.journey_id)
        return f"it may not interrupt {running}" if barred == reasons.MAY_NOT else f"{running} {barred}"
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
    wanted = day.funnel_of(row["journey_id"])
    chosen, got = day.contest.option(day.chosen_id), day.funnel_of(day.chosen_id)
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
    known = day.funnel_of(row["journey_id"])
    if known is None or not known["price"]:
        return ""
    return f" - and a place, of which one more was worth {day.score(known['price'])}"


# --- The journeys that are no option ---------------------------------------------------------------------------------


def _others(day: Day, *, with_others: bool) -> list[str]:
    options = {row["journey_id"] for row in day.options}
    unqueued = [journey for journey in day.portfolio.journeys if journey.id not in options]
    if not unqueued:
        return []
    if not with_others:
        return ["", f"Not in the queue of {words.count(len(unqueued), 'other journey')}; --all says why."]
    lines = ["", "Not in the queue of"]
    wide = min(44, max(len(f"{journey.name} ({journey.id})") for journey in unqueued))
    for journey in unqueued:
        lines += _wrapped(_why_not_queued(day, journey), f"   {f'{journey.name} ({journey.id})':<{wide}}   ", " " * (wide + 6))
    return lines


def _why_not_queued(day: Day, journey: Journey) -> str:
    is_in, queue = set(day.memberships["segment_id"]), journey.queue
    failed = []
    if queue.any and not is_in & set(queue.any):
        failed.append(f"in none of {words.all_of(queue.any)}" if len(queue.any) > 1 else f"not in {queue.any[0]}")
    missing = [name for name in queue.all if name not in is_in]
    if missing:
        failed.append(f"not in {words.all_of(missing)}")
    barred = [name for name in queue.none if name in is_in]
    if barred:
        failed.append(f"in {words.all_of(barred)}, which it leaves out")
    if queue.where is not None and what_if.value_of(queue.where.expr, day.profile) is not True:
        failed.append(f"not so: {queue.where.text}{_values(day, queue.where)}")
    if journey.exit_when is not None and what_if.value_of(journey.exit_when.expr, day.profile) is True:
        failed.append(f"would leave at once, because: {journey.exit_when.text}{_values(day, journey.exit_when)}")
    return "; ".join(failed) or "would qualify by today's journeys.yaml; the queue of the day was built with another"


def _values(day: Day, condition: Condition) -> str:
    profile = day.profile.row(0, named=True) if day.profile.height else {}
    known = [f"{name} {words.plain(profile[name])}" for name in condition.columns if name in profile]
    return f" ({', '.join(known)})" if known else ""


# --- Words -----------------------------------------------------------------------------------------------------------


def _field(label: str, text: str) -> list[str]:
    return _wrapped(text, f"{label:<12}", " " * 12)


def _wrapped(text: str, first: str, following: str | None = None) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=first if following is None else following)
