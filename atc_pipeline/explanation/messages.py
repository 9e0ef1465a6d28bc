"""What a customer is sent on a day, in words: when, on which channel and why on no other, and what it says.

What belongs here: sentences about messages. What does not: any other sentence about the day (``page``).
"""

import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.activation.tables import CALENDAR, GUARDRAIL
from atc_pipeline.content.templates import SLOTS
from atc_pipeline.escaping import terminal
from atc_pipeline.explanation import words
from atc_pipeline.explanation.day import Day, Row
from atc_pipeline.journeys.calendar import is_time_zone

WIDTH = 84
MOST_LINES = 24
"""Of what one message says."""


def tell(day: Day) -> list[tuple[str, Sequence[str]]]:
    """Return a sentence for each message of the day, and lines of what it says; or why there is none."""
    answer = day.answer
    if answer["arm"] != "treated":
        return []
    if day.messages is None:
        return [("not written yet for this day", [])]
    if not day.messages.is_empty():
        rows = day.messages.sort("send_at", "channel").iter_rows(named=True)
        return [(_message(day, row), list(_said(day, row))) for row in rows]
    journey = day.journeys.get(answer["journey_id"])
    steps = [step for step in journey.steps if step.variant in (None, answer.get("variant")) or not journey.variants] if journey else []
    coming = sorted((step for step in steps if step.day > answer["day_index"]), key=lambda step: step.day)
    if not coming:
        return [("none today, and none to come in this journey", [])]
    due = day.on(answer["entered_on"] + timedelta(days=coming[0].day - 1))
    channels = " or ".join(coming[0].channels)
    return [(f"none today; the next is {coming[0].content} by {channels} on day {coming[0].day} ({due})", [])]


def _message(day: Day, row: Row) -> str:
    what = f"{row['content']}{' (' + row['variant'] + ')' if row['variant'] else ''} by {row['channel'].replace('|', ' or ')}"
    tried = [each.partition(":")[::2] for each in row.get("tried") or []]  # an older version wrote none
    if row["withheld"] is not None:
        if len(tried) > 1:
            return f"{what}: withheld, {'; '.join(f'{channel}: {_passed_over(day, channel, why)}' for channel, why in tried)}"
        return f"{what}: withheld{_not_sent(day, row)}"
    # Written by an older version, a message has no zone of its own.
    named = row.get("zone") or (day.profile["timezone"].item() if day.profile.height else None)
    zone = named if named and is_time_zone(named) else day.portfolio.timezone
    at: datetime = row["send_at"].astimezone(ZoneInfo(zone))
    whose = ", the calendar's" if row.get("zone_from") == CALENDAR else ""
    instead = f"; not by {'; '.join(f'{channel}: {_passed_over(day, channel, why)}' for channel, why in tried)}" if tried else ""
    return f"{what}, {day.on(at.date())} at {at:%H:%M} ({zone}{whose}){instead}"


def _not_sent(day: Day, row: Row) -> str:
    match row["withheld"]:
        case "suppressed":
            return f", the customer is not to be contacted{words.because(day.portfolio.policy.suppressed_when)}"
        case "key_collision":
            return ", another message has the same idempotency key"
        case reason:
            why = _passed_over(day, row["channel"], reason)
            return f", {why}" if why != reason else f" as {reason!r}, which this version has no words for"


def _passed_over(day: Day, channel: str, reason: str) -> str:
    """Say why a message was not sent on a channel; a reason without words is returned as it is."""
    resolved = next((each for each in day.portfolio.channels if each.id == channel), None)
    match reason:
        case "no_consent":
            return day.consent(channel)
        case "no_address":
            return f"there is no address{f' in {resolved.to}' if resolved and resolved.to else ''}"
        case "bounced":
            return "the address has bounced"
        case "not_ready":
            return f"the customer is not ready for it{words.because(resolved.when if resolved else None)}"
        case "blackout":
            return "nothing is sent on the day it would arrive"
        case "expired":
            return "it would arrive too late"
        case "no_content":
            return "there is no text for it"
        case "already_sent":
            return "the same content went out on an earlier day of this journey"
        case "channel_cap":
            cap = resolved.cap if resolved else None
            return "there were enough messages" + (f": at most {cap.messages} in {cap.days} days" if cap else "")
        case "no_places":
            return "its places of the day went to others" + (f": there are {resolved.per_day}" if resolved and resolved.per_day else "")
        case "no_channel":
            return "no channel is left"
        case _:
            rule = reason.removeprefix(GUARDRAIL)
            return f"its text breaks the rule {rule}" if rule != reason else reason


def _said(day: Day, row: Row) -> Iterator[str]:
    rendered = day.rendered.filter(pl.col("idempotency_key") == row["idempotency_key"]) if day.rendered is not None else pl.DataFrame()
    for message in rendered.head(1).iter_rows(named=True):
        yield from textwrap.wrap(f"Subject: {message['subject']}", WIDTH) if message["subject"] else []
        text = message["text"]
        for name, slot in SLOTS.items():
            text = text.replace(slot, f"<{name}>")
        lines = [part for line in terminal(text).split("\n") for part in textwrap.wrap(line, WIDTH - 2) or [""]]
        yield from (f"| {line}".rstrip() for line in lines[:MOST_LINES])
        yield from [f"| and {len(lines) - MOST_LINES:,} more lines"] if len(lines) > MOST_LINES else []
