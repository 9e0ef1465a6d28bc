"""What a customer is sent on a day, in words: when, on which channel and why on no other, and what it says.

What belongs here: sentences about messages. What does not: any other sentence about the day (``page``).
"""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.content.templates import SLOTS
from atc_pipeline.escaping import plain, terminal
from atc_pipeline.explanation import words
from atc_pipeline.explanation.day import Day, Row
from atc_pipeline.journeys.calendar import is_time_zone

WIDTH = 84
MOST_LINES = 24
"""Of what one message says."""


def told(day: Day) -> list[tuple[str, Sequence[str]]]:
    """Return a sentence for each message of the day, and lines of what it says; or why there is none."""
    answer = day.answer
    if answer["arm"] != "treated":
        return []
    if day.messages is None:
        return [("not written yet for this day", [])]
    if not day.messages.is_empty():
        rows = day.messages.sort("send_at", "channel").iter_rows(named=True)
        return [(f"{_message(day, row)}{_passed_over(day, row)}", list(_said(day, row))) for row in rows]
    journey = day.journeys.get(answer["journey_id"])
    coming = sorted((step for step in journey.steps if step.day > answer["day_index"]), key=lambda step: step.day) if journey else []
    if not coming:
        return [("none today, and none to come in this journey", [])]
    due = day.on(answer["entered_on"] + timedelta(days=coming[0].day - 1))
    channels = words.any_of(coming[0].channels)
    return [(f"none today; the next is {coming[0].content} by {channels} on day {coming[0].day} ({due})", [])]


def _message(day: Day, row: Row) -> str:
    what = f"{row['content']}{' (' + row['variant'] + ')' if row['variant'] else ''} by {words.any_of(row['channel'].split('|'))}"
    if row["withheld"] is not None:
        why = reason(day, row["channel"], row["withheld"])
        return f"{what}: withheld{'' if why.startswith('as ') else ','} {why}"
    named = day.profile["timezone"].item() if day.profile.height else None
    zone = named if named and is_time_zone(named) else day.portfolio.timezone
    at: datetime = row["send_at"].astimezone(ZoneInfo(zone))
    return f"{what}, {day.on(at.date())} at {at:%H:%M} ({zone})"


def _passed_over(day: Day, row: Row) -> str:
    tried = [each.split(":", maxsplit=1) for each in row.get("tried") or []]
    reasons = "; ".join(f"{channel}: {reason(day, channel, why)}" for channel, why in tried)
    return f". Passed over: {reasons}" if reasons and (row["withheld"] is None or "|" in row["channel"]) else ""


def _said(day: Day, row: Row) -> Iterator[str]:
    said = day.rendered.filter(pl.col("idempotency_key") == row["idempotency_key"]) if day.rendered is not None else pl.DataFrame()
    for message in said.head(1).iter_rows(named=True):
        yield from textwrap.wrap(f"Subject: {message['subject']}", WIDTH) if message["subject"] else []
        text = message["text"]
        for name, slot in SLOTS.items():
            text = text.replace(slot, f"<{name}>")
        lines = [part for line in terminal(text).split("\n") for part in textwrap.wrap(line, WIDTH - 2) or [""]]
        yield from (f"| {line}".rstrip() for line in lines[:MOST_LINES])
        yield from [f"| and {len(lines) - MOST_LINES:,} more lines"] if len(lines) > MOST_LINES else []


def reason(day: Day, channel: str, why: str) -> str:
    """Say why a message is not sent on a channel."""
    if why.startswith("guardrail:"):
        return f"what it would say breaks the rule {plain(why.removeprefix('guardrail:'))}"
    says = WITHHELD.get(why)
    return f"as {why!r}, which this version has no words for" if says is None else says(day, channel)


def _address(day: Day, channel: str) -> str:
    column = next((each.to for each in day.portfolio.channels if each.id == channel), None)
    return f"there is no {column or 'address'}"


def _ready(day: Day, channel: str) -> str:
    condition = next((each.when for each in day.portfolio.channels if each.id == channel), None)
    return f"it is not for this customer{f', as not: {condition.text}' if condition else ''}"


WITHHELD: Mapping[str, Callable[[Day, str], str]] = {
    "suppressed": lambda day, _: f"the customer is not to be contacted{words.because(day.portfolio.policy.suppressed_when)}",
    "no_consent": lambda day, channel: day.consent(channel),
    "no_address": _address,
    "bounced": lambda *_: "the address has bounced and was not changed since",
    "not_ready": _ready,
    "blackout": lambda *_: "nothing is sent on this day",
    "expired": lambda *_: "its first open hour comes too late",
    "no_content": lambda *_: "it cannot be rendered for this customer",
    "already_sent": lambda *_: "it went out on an earlier day of this journey, by a step that was moved since",
    "channel_cap": lambda *_: "the customer has had as many messages there as may be",
    "no_places": lambda *_: "it has no room left today",
    "no_channel": lambda *_: "no channel is left",
    "key_collision": lambda *_: "another message has the same idempotency key",
}
"""Why a message is not sent, in words."""
