"""docs/spec.md once more, in plain Python: what the engine is held against.

What belongs here: one function per section of SPEC, loops over rows, nothing optimised, everything recomputed from all
history. What does not: the engine's stages, its state formats, its shortcuts. Two things are shared on purpose: the
resolved portfolio (the configuration is the input) and its compiled expressions (the dialect has tests of its own).
Rows are dictionaries with the columns of the tables.

Who gets the places of a full journey is the one thing that SPEC leaves open: there may be many optima. So the engine's
``placements`` may be handed in. They are held against limits, wishes and the optimum of our own, and if there is nothing
against them every row is derived from them.
"""

import gzip
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import polars as pl
import polars_hash

from atc_pipeline.journeys.portfolio import (
    EVERYONE_ELSE,
    NONE,
    Channel,
    Condition,
    Hours,
    Journey,
    Period,
    Portfolio,
    Predictions,
    Selector,
    Signal,
    Step,
    Trait,
)

Row = dict[str, Any]

DAY = timedelta(days=1)
LARGEST_LINE = 32 * 1024
TYPES = {"track", "page", "screen", "identify", "alias", "group"}
LARGEST_VALUE = 1e11
TIMEZONES = available_timezones()


# --- JSON, kept as its text ------------------------------------------------------------------------------------------


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def parse(text: str) -> Any:
    """Read strict JSON: Python's own NaN and Infinity are refused."""
    return json.loads(text, parse_constant=_no_constant)


@cache
def members(text: str | None) -> Mapping[str, str]:
    """Name -> JSON text of each value of an object, or of one written as text; nothing for anything else."""
    text = opened(text)
    if text is None or not isinstance(parse(text), dict):
        return {}
    return {parse(key): value for key, value in _split(text, is_object=True)}


@cache
def elements(text: str | None) -> tuple[str, ...]:
    """Return the JSON texts of the elements of an array, written as one, as text, or as PHP does; nothing for anything else."""
    text = opened(text)
    numbered = members(text)
    if numbered and all(key.isdigit() and key.isascii() for key in numbered):
        return tuple(numbered[key] for key in sorted(numbered, key=lambda key: (len(key), key)))
    if text is None or not isinstance(parse(text), list):
        return ()
    return tuple(value for _, value in _split(text, is_object=False))


def opened(text: str | None) -> str | None:
    """Return the JSON text of an array or object that is written as a text; any other as it is."""
    value = None if text is None else parse(text)
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            parse(value)
        except (ValueError, RecursionError):
            return text
        return value
    return text


def _split(text: str, *, is_object: bool) -> Iterator[tuple[str, str]]:
    def skip(characters: str, position: int) -> int:
        while text[position] in characters:
            position += 1
        return position

    decoder = json.JSONDecoder()
    blank = " \t\r\n"
    position = skip(blank, 0) + 1
    while text[position := skip(blank + ",", position)] not in "}]":
        key = ""
        if is_object:
            _, end = decoder.raw_decode(text, position)
            key, position = text[position:end], skip(blank + ":", end)
        _, end = decoder.raw_decode(text, position)
        yield key, text[position:end]
        position = end


def value_at(values: Mapping[str, str], name: str) -> str | None:
    """Return the JSON text of a property; a dot reaches into a nested object."""
    *path, last = name.split(".")
    for step in path:
        values = members(values.get(step))
    return values.get(last)


def as_text(raw: str | None) -> str | None:
    """Return a string as it is, a number or boolean as its JSON text, anything else as nothing (decision 3)."""
    value = None if raw is None else parse(raw)
    if isinstance(value, str):
        return value
    return raw if isinstance(value, bool | int | float) else None


def as_number(raw: str | None) -> float | None:
    """Return a JSON number (never a boolean) or a text that is a decimal number, to 6 decimals.

    Nothing where it is missing, something else, or too large to sum.
    """
    value = None if raw is None else parse(raw)
    if isinstance(value, str) and re.fullmatch(r"[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= LARGEST_VALUE:
        return None
    return round(float(value), 6)


def as_boolean(raw: str | None) -> bool | None:
    """Return a JSON boolean, or nothing."""
    value = None if raw is None else parse(raw)
    return value if isinstance(value, bool) else None


def as_date(raw: str | None) -> date | None:
    """Return a ``YYYY-MM-DD`` string as a date, or nothing."""
    value = as_text(raw)
    try:
        return date.fromisoformat(value) if value is not None and len(value) == len("2026-01-01") else None
    except ValueError:
        return None


def typed(raw: str | None, dtype: pl.DataType) -> Any:
    """Read a JSON value as a column of this type would: what does not fit is missing."""
    readers: dict[Any, Callable[[str | None], Any]] = {pl.Float64: as_number, pl.Boolean: as_boolean, pl.Date: as_date}
    return readers.get(type(dtype), as_text)(raw)


# --- Shared small things ---------------------------------------------------------------------------------------------


@cache
def xxh64(text: str) -> int:
    """Hash a text with XXH64, seed 0."""
    return int(pl.DataFrame({"x": [text]}).select(polars_hash.col("x").nchash.xxhash64()).item())


def evaluate(condition: Condition, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the value of an expression for every row."""
    if not rows:
        return []
    columns = {name: pl.Series(name, [row.get(name) for row in rows], dtype=dtype) for name, dtype in condition.columns.items()}
    frame = pl.DataFrame({"_row": range(len(rows)), **columns})
    return frame.with_columns(condition.expr.alias("_value"))["_value"].to_list()


def holds(condition: Condition | None, rows: Sequence[Mapping[str, Any]], *, without: bool) -> list[bool]:
    """Return whether a condition holds for every row; null is false; ``without`` where there is no condition."""
    return [without] * len(rows) if condition is None else [value is True for value in evaluate(condition, rows)]


def rounded(score: float | None) -> float | None:
    """Round to 9 significant digits, halves away from zero; what is not finite is no score."""
    if score is None or not math.isfinite(score):
        return None
    exact = Decimal(score)
    return float(exact.quantize(Decimal((0, (1,), exact.adjusted() - 8)), ROUND_HALF_UP)) if exact else 0.0


def covers(periods: Iterable[Period], day: date) -> bool:
    """Return whether one of the periods contains the day."""
    return any(period.first <= day <= period.last for period in periods)


def is_usable(channel: Channel, profile: Row) -> bool:
    """Return whether the customer may be reached on this channel, and can be."""
    return obstacle(channel, profile) is None


def obstacle(channel: Channel, profile: Row) -> str | None:
    """Return why the customer cannot be reached on this channel: consent, address, bounces."""
    consent = profile[f"consent_{channel.id}"]
    if not {"opt_in": consent is True, "opt_out": consent is not False, "none": True}[channel.consent]:
        return "no_consent"
    if channel.to is None:
        return None
    if not (profile[channel.to] or "").strip():
        return "no_address"
    return "bounced" if profile[f"bounced_{channel.id}"] else None


def sort(rows: list[Row], *key: str) -> list[Row]:
    """Sort rows by the key of their table."""
    return sorted(rows, key=lambda row: tuple(row[name] for name in key))


# --- SPEC 1: events --------------------------------------------------------------------------------------------------


def instant(value: Any) -> datetime | None:
    """Read an ISO 8601 time, or one as warehouses write it; zoneless is UTC, and no clock is more than 14 hours away from it."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    for zone in ("UTC", "GMT", "Z"):
        if text.upper().endswith(zone):
            text = text[: -len(zone)].rstrip() + "+00:00"
    for sign in "+-":
        wall, blank, offset = text.rpartition(f" {sign}")
        text = f"{wall}{sign}{offset}" if blank and ":" in wall else text
    if re.search(r"[+-]\d\d:?[6-9]\d$", text) and ":" in text[:-6]:
        return None  # Python lets an offset of 60 minutes pass
    try:
        read = datetime.fromisoformat(text)
        if abs(read.utcoffset() or timedelta()) > timedelta(hours=14):
            return None
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def whole(text: str) -> str:
    """Return JSON text with U+FFFD for each escape of half a surrogate pair."""
    told, at = "", 0
    while at < len(text):
        unit, low = (int(text[first + 2 : first + 6], 16) if is_escape(text, first) else 0 for first in (at, at + 6))
        size = 2 if text[at] == "\\" else 1
        if 0xD800 <= unit < 0xDC00 and 0xDC00 <= low < 0xE000:
            size = 12
        elif 0xD800 <= unit < 0xE000:
            told, at, size = told + "\\ufffd", at + 6, 0
        told, at = told + text[at : at + size], at + size
    return told


def is_escape(text: str, first: int) -> bool:
    """Return whether a UTF-16 unit is written in hexadecimal here."""
    digits = text[first + 2 : first + 6]
    return text[first : first + 2] == "\\u" and len(digits) == 4 and set(digits.lower()) <= set("0123456789abcdef")


def end_of_day(day: date, timezone: str) -> datetime:
    """Return the first moment after a business day."""
    return datetime.combine(day + DAY, time(), ZoneInfo(timezone)).astimezone(UTC)


BLOCKED = {"null", "none", "nil", "nan", "undefined", "[object object]", "unknown", "guest", "n/a", "anonymous", "-1"}


def identity(value: Any) -> str | None:
    """Return an id that says who somebody is; the blocked values of SPEC 2 do not."""
    text = name_of(value)
    plain = (text or "").removeprefix("anon:").strip().lower()
    return None if plain in BLOCKED or set(plain) <= {"0", "-"} else text


def name_of(value: Any) -> str | None:
    """Return a name or id as text: a string as it is, a whole number as its digits (``42.0``, too), anything else is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def read_lines(landing: Path, day: date) -> Iterator[tuple[str, int, bytes]]:
    """Yield file (below the landing zone), line number and bytes of each line of a day that is not blank."""
    for file in sorted(file for folder in (day.isoformat(), f"date={day}") for file in (landing / folder).rglob("*")):
        name = file.name.lower()
        is_hidden = any(part.startswith((".", "_")) for part in file.relative_to(landing).parts)
        if not file.is_file() or is_hidden or not name.endswith((".ndjson", ".jsonl", ".json", ".gz")):
            continue
        data = gzip.decompress(file.read_bytes()) if name.endswith(".gz") else file.read_bytes()
        for number, line in enumerate(data.split(b"\n"), start=1):
            unmarked = head(line).removeprefix(b"\xef\xbb\xbf")
            if unmarked.strip():
                yield file.relative_to(landing).as_posix(), number, unmarked


def head(line: bytes) -> bytes:
    """Return what is kept of a line: its first 32 KiB and 4 bytes, to the end of a character; it is too large still."""
    end = LARGEST_LINE + 4
    while end < len(line) and 0x80 <= line[end] < 0xC0:
        end += 1
    return line[:end]


def read_event(line: bytes, day: date, timezone: str) -> Row | str:
    """Return the event of a line, or the reason why there is none."""
    if len(line) > LARGEST_LINE:
        return "too_large"
    try:
        hashed = line.decode()
        text = whole(hashed)
        event = parse(text)
    except (ValueError, RecursionError):
        return "malformed_json"
    if not isinstance(event, dict):
        return "malformed_json"
    raw = members(text)
    if not isinstance(event.get("type"), str) or event["type"] not in TYPES:
        return "unknown_type"
    user, anonymous = identity(event.get("userId")), identity(event.get("anonymousId"))
    if user is None and anonymous is None:
        return "missing_identity"
    name = name_of(event.get("event"))
    if event["type"] == "track" and (name is None or not name.strip()):
        return "missing_event_name"
    received, sent, original = instant(event.get("receivedAt")), instant(event.get("sentAt")), instant(event.get("originalTimestamp"))
    if event.get("timestamp") is not None:
        timestamp = instant(event["timestamp"])
    elif received is not None and sent is not None and original is not None:
        timestamp = received - (sent - original)
    else:
        timestamp = None
    if timestamp is None or timestamp < datetime(2000, 1, 1, tzinfo=UTC):
        return "bad_timestamp"
    if timestamp > end_of_day(day, timezone) + timedelta(hours=24):
        return "from_the_future"
    return {
        "date": day,
        "message_id": name_of(event.get("messageId")) or f"{xxh64(hashed):016x}",
        "type": event["type"],
        "event": name,
        "user_id": name_of(event.get("userId")),
        "anonymous_id": name_of(event.get("anonymousId")),
        "previous_id": name_of(event.get("previousId")),
        "timestamp": timestamp,
        "event_date": timestamp.astimezone(ZoneInfo(timezone)).date(),
        "received_at": received,
        **{name: raw[name] if event.get(name) is not None else None for name in ("properties", "traits", "context")},
        "line_hash": xxh64(hashed),
    }


def ingest(landing: Path, day: date, portfolio: Portfolio, previous_accepted: Sequence[Row]) -> tuple[list[Row], list[Row], Row]:
    """Return ``raw_events`` and ``rejected_events`` of the files that arrived on a day, and the counts that reconcile them."""
    rejected: list[Row] = []
    read: dict[str, list[Row]] = {}
    lines = 0
    for file, number, line in read_lines(landing, day):
        lines += 1
        event = read_event(line, day, portfolio.timezone)
        if isinstance(event, str):
            raw = line.decode(errors="replace")
            rejected.append({"date": day, "source_file": file, "line": number, "reason": event, "raw": raw})
        else:
            read.setdefault(event["message_id"], []).append({**event, "source_file": file, "line": number})
    known = {event["message_id"] for event in previous_accepted if day - 2 * DAY <= event["date"] < day}
    accepted = [
        min(same, key=lambda event: (event["timestamp"], event["line_hash"], event["source_file"], event["line"]))
        for message_id, same in read.items()
        if message_id not in known
    ]
    counts = {
        "lines": lines,
        "accepted": len(accepted),
        "duplicates": sum(len(same) for same in read.values()) - len(accepted),
        "rejected": len(rejected),
    }
    return sort(accepted, "message_id"), sort(rejected, "source_file", "line"), counts


# --- SPEC 2: identity ------------------------------------------------------------------------------------------------


def in_order(events: Iterable[Row]) -> list[Row]:
    """Sort events as identity looks at them: by arrival day, then time, then message id."""
    return sorted(events, key=lambda event: (event["date"], event["timestamp"], event["message_id"]))


def is_ours(event: Row) -> bool:
    """Return whether an event is one that we wrote about what we sent."""
    library = members(members(event.get("context")).get("library"))
    return event.get("context") is not None and as_text(library.get("name")) == "atc_pipeline"


def counted(events_so_far: Iterable[Row]) -> list[Row]:
    """Return what counts for anything: what is ours about somebody who was no customer when it arrived does not."""
    events, known = list(events_so_far), {}
    for arrival in {event["date"] for event in events}:
        known[arrival] = who_is(event for event in events if event["date"] <= arrival)

    def is_known(event: Row) -> bool:
        user = user_of(event)
        return (("user", user) if user is not None else ("anonymous", visitor_of(event))) in known[event["date"]]

    return [event for event in events if not is_ours(event) or is_known(event)]


Who = Mapping[tuple[str, str], str]
"""Type of an id (``user`` or ``anonymous``) and the id -> the customer it belongs to."""


def user_of(event: Row, name: str = "user_id") -> str | None:
    """Return the user whom an event names; our own name for a visitor is none."""
    user = identity(event.get(name))
    return None if user is None or user.startswith("anon:") else user


def visitor_of(event: Row) -> str | None:
    """Return the visitor whom an event names, also by our own name."""
    user = identity(event["user_id"])
    return user.removeprefix("anon:") if user is not None and user.startswith("anon:") else identity(event["anonymous_id"])


@dataclass
class People:
    """Everybody who is known, day by day."""

    arms: dict[str, str] = field(default_factory=dict)
    """User -> under which name that person was first known."""
    since: dict[str, tuple[date, datetime]] = field(default_factory=dict)
    """Visitor -> the day first seen, and the first time on it."""
    followed: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    awaited: dict[str, str] = field(default_factory=dict)
    """What aliases named before anybody had that id -> the user it will be."""
    ignored: list[Row] = field(default_factory=list)

    def end_of(self, user: str) -> str:
        """Return who a user is, at the end of the chain of aliases."""
        while user in self.followed:
            user = self.followed[user]
        return user

    def who(self) -> Who:
        """Return whom every id belongs to."""
        users = {("user", user): self.end_of(user) for user in self.arms.keys() | self.followed.keys()}
        visitors = {one: self.end_of(self.owners[one]) if one in self.owners else f"anon:{one}" for one in self.since}
        return users | {("anonymous", one): customer for one, customer in visitors.items()}

    def arm_of(self, customer: str) -> str:
        """Return the name under which a customer was first known."""
        return self.arms.get(customer, customer)

    def add(self, day: date, events: Sequence[Row]) -> None:
        """Add the events that arrived on a day, in order; what is ours makes nobody a customer."""
        events = [event for event in events if not is_ours(event)]
        aliases = [event for event in events if event["type"] == "alias"]
        by_name = {
            event["message_id"]: previous.removeprefix("anon:")
            for event in aliases
            if user_of(event) and (previous := identity(event["previous_id"])) and previous.startswith("anon:")
        }
        users = {user for event in events if (user := user_of(event))} | self.arms.keys()
        visitors = {visitor for event in events if (visitor := visitor_of(event))} | set(by_name.values()) | self.since.keys()
        for visitor in visitors - self.since.keys() - users:
            if visitor in self.awaited:
                self.owners[visitor] = self.awaited[visitor]
        claimed: dict[str, list[str]] = {}
        for event in events:
            user = user_of(event)
            pairs = [visitor_of(event)] if user else []
            if event["type"] == "alias":
                pairs += self._follow(event, by_name, users, visitors)
            for visitor in pairs:
                if visitor is not None and visitor not in self.owners:
                    self.owners[visitor] = user
                    claimed.setdefault(user, []).append(visitor)
        for user in users - self.arms.keys():
            self.arms[user] = self._first_name(user, claimed.get(user, []), events)
        for event in events:
            for visitor in {visitor_of(event), by_name.get(event["message_id"])} - {None}:
                self.since.setdefault(visitor, (day, event["timestamp"]))

    def _follow(self, event: Row, by_name: Mapping[str, str], users: set[str], visitors: set[str]) -> list[str]:
        """Merge two users, or return the visitor that an alias claims."""
        user, previous = user_of(event), user_of(event, "previous_id")
        claims = by_name.get(event["message_id"], previous if previous in visitors - users else None)
        reason = None
        if user is None or (previous is None and claims is None):
            reason = "alias_of_nobody"
        elif claims is not None:
            reason = "second_claim" if claims in self.owners else None
            if reason is None:
                return [claims]
        elif previous in self.followed:
            reason = "second_alias"
        elif self.end_of(user) == previous:
            reason = "alias_cycle"
        else:
            self.followed[previous] = user
            if previous not in users:
                self.awaited[previous] = user
        self.ignored += [{"date": event["date"], "reason": reason}] if reason else []
        return []

    def _first_name(self, user: str, visitors: Sequence[str], events: Sequence[Row]) -> str:
        earlier = [(self.since[visitor], visitor) for visitor in visitors if visitor in self.since]
        if earlier:
            return f"anon:{min(earlier)[1]}"
        names = [(user_of(event), visitor_of(event)) for event in events]
        return next(
            f"anon:{visitor}" if name is None else name for name, visitor in names if name == user or (not name and visitor in visitors)
        )


def people(events: Iterable[Row]) -> People:
    """Return who is known once these events have arrived."""
    known = People()
    for day, of_day in groupby(in_order(events), key=lambda event: event["date"]):
        known.add(day, list(of_day))
    return known


def who_is(events: Iterable[Row]) -> Who:
    """Return whom every id belongs to, once these events have arrived."""
    return people(events).who()


def customer_of(event: Row, who: Who) -> str:
    """Return the customer of an event: that of its user, else that of its anonymous id, whoever owns it."""
    user = user_of(event)
    return who["user", user] if user is not None else who["anonymous", visitor_of(event)]


def identity_map(events_so_far: Sequence[Row], day: date) -> list[Row]:
    """Return ``identity_map`` of a day: every id known by then, whose it is, since which arrival day, and how that one was first known."""
    since: dict[tuple[str, str], tuple[str, date]] = {}
    known = People()
    for arrival in sorted({event["date"] for event in events_so_far if event["date"] <= day}):
        known.add(arrival, in_order(event for event in events_so_far if event["date"] == arrival))
        for at, customer in known.who().items():
            if at not in since or since[at][0] != customer:
                since[at] = customer, arrival
    rows = [
        {"date": day, "id_type": id_type, "id": one, "customer_id": customer, "valid_from": valid_from, "arm_id": known.arm_of(customer)}
        for (id_type, one), (customer, valid_from) in since.items()
    ]
    return sort(rows, "id_type", "id")


def survivors(events_so_far: Sequence[Row], day: date) -> dict[str, str]:
    """Return customer id -> who that is on this day, for those who are somebody else by now."""
    who = who_is(event for event in events_so_far if event["date"] <= day)
    were = {at: at[1] if at[0] == "user" else f"anon:{at[1]}" for at in who}
    return {were[at]: customer for at, customer in who.items() if were[at] != customer}


IGNORED = ("second_alias", "alias_cycle", "alias_of_nobody", "second_claim")


def identity_counts(events_so_far: Sequence[Row], day: date) -> Row:
    """Return what happened to identities on a day: customers of yesterday, new, merged, of today, and aliases ignored by reason."""
    before = set(who_is(event for event in events_so_far if event["date"] < day).values())
    after = set(who_is(event for event in events_so_far if event["date"] <= day).values())
    ignored = [one["reason"] for one in people(events_so_far).ignored if one["date"] == day]
    counts = {"yesterday": len(before), "new": len(after - before), "merged": len(before - after), "today": len(after)}
    return {"date": day, **counts, **{reason: ignored.count(reason) for reason in IGNORED}}


# --- SPEC 3: customer profiles ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Occurrence:
    """Something that counts for a trait or signal: an event, or an item of an array in it."""

    event: Row
    position: int
    values: Mapping[str, str]

    @property
    def moment(self) -> tuple[datetime, str, int]:
        """Return what first and last go by."""
        return self.event["timestamp"], self.event["message_id"], self.position


def occurrences(selector: Selector, events: Iterable[Row]) -> list[Occurrence]:
    """Return what a selector selects."""
    found = []
    for event in events:
        if event["event"] not in selector.events if selector.events else is_ours(event):
            continue
        if selector.each is None:
            found.append(Occurrence(event, 0, members(event["properties"])))
        else:
            items = elements(value_at(members(event["properties"]), selector.each))
            found += [Occurrence(event, at, members(item)) for at, item in enumerate(items) if isinstance(parse(opened(item) or ""), dict)]
    if selector.where is None:
        return found
    columns = selector.where.columns
    rows = [{name: typed(value_at(one.values, name), dtype) for name, dtype in columns.items()} for one in found]
    return [one for one, kept in zip(found, holds(selector.where, rows, without=True), strict=True) if kept]


def micros(value: float) -> int:
    """Return a value of 6 decimals in millionths: they are summed as integers."""
    return round(value * 1_000_000)


OF_NUMBERS: Mapping[str, Callable[[list[int]], float | None]] = {
    "sum": lambda values: sum(values) / 1e6,
    "avg": lambda values: sum(values) / 1e6 / len(values) if values else None,
    "min": lambda values: min(values) / 1e6 if values else None,
    "max": lambda values: max(values) / 1e6 if values else None,
}
OF_TEXTS: Mapping[str, Callable[[list[str]], Any]] = {
    "first": lambda texts: texts[0] if texts else None,
    "last": lambda texts: texts[-1] if texts else None,
    "most_frequent": lambda texts: min(
        (text for text in set(texts) if texts.count(text) >= 2), key=lambda text: (-texts.count(text), text), default=None
    ),
    "unique_count": lambda texts: len(set(texts)),
    "unique_list": lambda texts: sorted(set(texts)),
}
OF_AGES: Mapping[str, Callable[[list[int]], int | None]] = {
    "count": len,
    "days_since_first": lambda ages: max(ages, default=None),
    "days_since_last": lambda ages: min(ages, default=None),
}
KINDS = {*OF_NUMBERS, *OF_TEXTS, *OF_AGES, "percentile", "profile"}
"""The kinds of traits; the last two are no matter of occurrences (``profiles``)."""


def trait_value(trait: Trait, mine: list[Occurrence], day: date) -> Any:
    """Return one customer's value of a trait over the occurrences that count for it."""
    if trait.within_days is not None:
        mine = [occurrence for occurrence in mine if day - trait.within_days * DAY < occurrence.event["event_date"] <= day]
    mine = sorted(mine, key=lambda occurrence: occurrence.moment)
    if trait.kind in OF_AGES:
        return OF_AGES[trait.kind]([(day - occurrence.event["event_date"]).days for occurrence in mine])
    assert trait.property is not None
    raws = [value_at(occurrence.values, trait.property) for occurrence in mine]
    if trait.kind in OF_NUMBERS:
        return OF_NUMBERS[trait.kind]([micros(number) for raw in raws if (number := as_number(raw)) is not None])
    return OF_TEXTS[trait.kind]([text for raw in raws if (text := as_text(raw)) is not None])


def word_on_consent(event: Row, channel: str, portfolio: Portfolio) -> bool | None:
    """Return whether an event grants consent for a channel or withdraws it: yes only in so many words, no in any (SPEC 3)."""

    def read(raw: str) -> bool | None:
        value = parse(raw)
        if isinstance(value, str):
            return True if value == "true" else False if value.strip().lower() in {"false", "0", "no", "off"} else None
        return bool(value) if isinstance(value, bool | int | float) and value in {0, 1} else None

    if event["type"] == "identify" and not is_ours(event):
        said = [read(raw) for name, raw in members(event["traits"]).items() if name.lower() == f"consent_{channel}"]
        return False if False in said else True if True in said else None
    if event["type"] != "track" or event["event"] not in {"Subscribed", "Unsubscribed", "Email Marked as Spam"}:
        return None
    named = channel_named(event, portfolio)
    if event["event"] == "Email Marked as Spam":
        return False if channel in (mailed(portfolio) or {one.id for one in portfolio.channels} if named is None else {named}) else None
    raw = members(event["properties"]).get("channel")
    named = None if raw is None else (as_text(raw) or "").strip().lower()
    if event["event"] == "Subscribed":
        return True if named == channel else None
    return False if named == channel or named not in {one.id for one in portfolio.channels} else None


def channel_named(event: Row, portfolio: Portfolio) -> str | None:
    """Return the channel of ours that an event names, in any case."""
    named = (as_text(members(event["properties"]).get("channel")) or "").strip().lower()
    return named if named in {channel.id for channel in portfolio.channels} else None


def mailed(portfolio: Portfolio) -> set[str]:
    """Return the channels that e-mail goes through."""
    return {channel.id for channel in portfolio.channels if channel.medium == "email" or channel.id == "email"}


def is_hard_bounce(event: Row, channel: str, portfolio: Portfolio) -> bool:
    """Return whether an event says that the address of this channel has bounced for good."""
    if event["type"] != "track" or event["event"] != "Email Bounced":
        return False
    says = [as_text(members(event["properties"]).get(name)) or "" for name in ("bounce_type", "bounceType", "type", "kind")]
    words = {re.sub(r"[\s_-]", "", word).lower() for word in says}
    named = channel_named(event, portfolio)
    is_meant = channel in mailed(portfolio) if named is None else named == channel
    return is_meant and bool(words & {"hard", "permanent", "hardbounce", "permanentbounce", "permanentfailure"})


def address_of(column: str, customer: str, happened: Sequence[Row], who: Who, day: date, portfolio: Portfolio) -> str | None:
    """Return a customer's value of a trait that is a text."""
    trait = next(trait for trait in portfolio.traits if trait.id == column)
    mine = [event for event in happened if customer_of(event, who) == customer]
    if trait.kind != "profile":
        assert trait.selector is not None
        return trait_value(trait, occurrences(trait.selector, mine), day)
    told = [typed(value_at(members(event["traits"]), str(trait.property)), trait.dtype) for event in mine if is_identify(event)]
    return next((value for value in reversed(told) if value is not None), None)


def is_identify(event: Row) -> bool:
    """Return whether an event tells traits of a customer; we tell others, and believe nobody who repeats it."""
    return event["type"] == "identify" and not is_ours(event)


def first_said(words: Sequence[tuple[datetime, str | None]]) -> datetime | None:
    """Return since when the last of some words is said without another one in between."""
    said = [(moment, word) for moment, word in words if word is not None]
    starts = [moment for at, (moment, word) in enumerate(said) if at == 0 or said[at - 1][1] != word]
    return starts[-1] if starts else None


def address_changes(events: Sequence[Row], column: str, day: date, portfolio: Portfolio) -> dict[str, datetime]:
    """Return since when each customer has had the address they have on a day, going through all days until then.

    It changes with the profile, from one day to the next: when its value was first said among the day's words, or else in the morning.
    Of customers who become one, whoever had the address already brings it along.
    """
    trait = next(trait for trait in portfolio.traits if trait.id == column)
    known: dict[str, list[tuple[str, datetime]]] = {}
    rolled_up: dict[tuple[str, date, date], datetime | None] = {}
    first = min((event["date"] for event in events), default=day)
    for today in (first + age * DAY for age in range((day - first).days + 1)):
        arrived = counted(event for event in events if event["date"] <= today)
        who = who_is(arrived)
        now = {at[1] if at[0] == "user" else f"anon:{at[1]}": customer for at, customer in who.items()}
        happened = sorted((one for one in arrived if one["event_date"] <= today), key=lambda one: (one["timestamp"], one["message_id"]))
        calls = sorted(
            (one for one in arrived if one["date"] == today and is_identify(one)), key=lambda one: (one["timestamp"], one["message_id"])
        )
        if trait.kind == "profile":
            for customer, event_date in {(customer_of(one, who), one["event_date"]) for one in calls}:
                words = [
                    (one["timestamp"], typed(value_at(members(one["traits"]), str(trait.property)), trait.dtype))
                    for one in calls
                    if (customer_of(one, who), one["event_date"]) == (customer, event_date)
                ]
                rolled_up[customer, event_date, today] = first_said(words)
        yesterday: dict[str, list[tuple[str, datetime]]] = {}
        for customer, addresses in known.items():
            yesterday.setdefault(now[customer], []).extend(addresses)
        known = {}
        for customer in {customer_of(event, who) for event in arrived}:
            address = address_of(column, customer, happened, who, today, portfolio)
            if address is None:
                continue
            kept = [since for before, since in yesterday.get(customer, []) if before == address]
            said = [
                moment
                for (name, event_date, arrival), moment in rolled_up.items()
                if now[name] == customer and moment is not None
                if (arrival == today and event_date <= today) or (arrival < today and event_date == today)
            ]
            morning = end_of_day(today - DAY, portfolio.timezone)
            known[customer] = [(address, max(kept) if kept else max(said, default=morning))]
    return {customer: addresses[0][1] for customer, addresses in known.items()}


def arrival_of(event: Row, word: bool, portfolio: Portfolio) -> tuple[date, datetime]:
    """Return when a word arrived: the arrival day, and within it when it was received, else when it was said.

    What is from the future says nothing of when it came; then a grant was first on that day and a withdrawal last.
    """
    last = end_of_day(event["date"], portfolio.timezone) - timedelta(microseconds=1)
    moment = event["received_at"]
    if moment is None and event["timestamp"] <= last:
        moment = event["timestamp"]
    if moment is None:
        moment = datetime.min.replace(tzinfo=UTC) if word else last
    return event["date"], min(moment, last)


def consent(arrived: Iterable[Row], channel: str, day: date, portfolio: Portfolio) -> bool | None:
    """Return what one customer's events say of a channel: a grant stands that is later than all withdrawals, in both ways."""
    said = [(event, word) for event in arrived if (word := word_on_consent(event, channel, portfolio)) is not None]
    withdrawn = [(event["timestamp"], arrival_of(event, word, portfolio)) for event, word in said if not word]
    granted = [(one["timestamp"], arrival_of(one, word, portfolio)) for one, word in said if word and one["event_date"] <= day]
    if any(all(at > earlier and came >= other for earlier, other in withdrawn) for at, came in granted):
        return True
    return False if withdrawn else None


def faded(weights: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the sum of weights that halve with every unit of age, as of the youngest of them, and how old that is."""
    weights = [(weight, age) for weight, age in weights if weight > 0]
    youngest = min((age for _, age in weights), default=0.0)
    return sum(weight * 0.5 ** (age - youngest) for weight, age in weights), youngest


def ages(found: Iterable[Occurrence], half_life_days: float, day: date) -> list[tuple[float, float]]:
    """Return weight 1 and the age in half-lives of each."""
    return [(1.0, (day - one.event["event_date"]).days / half_life_days) for one in found]


def preferred_channel(responses: Sequence[Occurrence], day: date, portfolio: Portfolio) -> str | None:
    """Return the channel of ours that one customer responds through most, decayed; of equal ones the first by name."""
    assert portfolio.engagement is not None
    half_life = portfolio.engagement.half_life_days
    _, youngest = faded(ages(responses, half_life, day))
    strengths = {}
    for channel in portfolio.channels:
        through = [one for one in responses if as_text(one.values.get("channel")) == channel.id]
        if through:
            strengths[channel.id] = round(sum(0.5 ** (age - youngest) for _, age in ages(through, half_life, day)), 9)
    return min((name for name in strengths if strengths[name] > 0), key=lambda name: (-strengths[name], name), default=None)


def engaged(touches: Sequence[Occurrence], responses: Sequence[Occurrence], half_life_days: float, day: date) -> float | None:
    """Return decayed responses / decayed touches, at most 1; nothing without touches."""
    (touched, touch_age), (answered, answer_age) = (faded(ages(found, half_life_days, day)) for found in (touches, responses))
    if not touched:
        return None
    newer = touch_age - answer_age
    return 0.0 if not answered else 1.0 if newer > 1000 else min(1.0, answered / touched * 2.0**newer)


def best_hour(events: Iterable[Row], timezone: str | None, day: date, portfolio: Portfolio) -> int | None:
    """Return the hour of the day, where the customer is today, with most of one customer's events in 90 days; the earliest of equals."""
    zone = ZoneInfo(timezone if timezone in TIMEZONES else portfolio.timezone)
    hours = [event["timestamp"].astimezone(zone).hour for event in events if day - 90 * DAY < event["event_date"] <= day]
    return min(hours, key=lambda hour: (-hours.count(hour), hour), default=None)


@dataclass(frozen=True)
class PurchaseModel:
    """The parameters of a fit: BG/NBD (r, alpha, a, b; time in days), and Gamma-Gamma (p, q, v) if that could be fitted, too.

    ``bound`` is the largest value of a day that counts.
    """

    r: float
    alpha: float
    a: float
    b: float
    p: float | None = None
    q: float | None = None
    v: float | None = None
    bound: float = math.inf


def predictions(orders: Sequence[Occurrence], day: date, of: Predictions, model: PurchaseModel | None) -> Row:
    """Return what the model says about a customer with these orders; all orders of a day are one transaction.

    Given the rate of orders (Gamma) and the chance p to stay away after one (Beta), a customer who is still there orders
    (1 - e^(-rate p t)) / p times in t days (Fader, Hardie & Lee 2005, 3). With the rate integrated out in closed form and p by
    quadrature, this is their conditional expectation, without the hypergeometric function that it is published with.
    """
    if not orders or model is None:
        return dict.fromkeys(("predicted_orders", "predicted_value", "churn_risk"))
    days = {one.event["event_date"] for one in orders}
    repeats, last, age = len(days) - 1, (max(days) - min(days)).days, (day - min(days)).days
    power, span = model.r + repeats, model.alpha + age
    gone = 0.0  # how much likelier than being there: having left after the last order
    if repeats:
        gone = math.exp(math.log(model.a / (model.b + repeats - 1)) + power * math.log(span / (model.alpha + last)))
    horizon = of.horizon_days / span

    def expected(p: float) -> float:
        return -math.expm1(-power * math.log1p(p * horizon)) / p if p > 1e-300 else power * horizon  # its limit

    mean_orders = beta_mean(expected, model.a, model.b + repeats) / (1 + gone)
    value = None
    if model.p is not None and model.q is not None and model.v is not None:
        numbers = [as_number(value_at(one.values, of.value)) for one in orders]
        valued = [number for number in numbers if number is not None and number > 0]
        with_value = len({one.event["event_date"] for one, number in zip(orders, numbers, strict=True) if (number or 0) > 0})
        value = model.p * (model.v + min(sum(valued), model.bound * with_value)) / (model.p * with_value + model.q - 1)
    return {
        "predicted_orders": mean_orders,
        "predicted_value": None if value is None else mean_orders * value,
        "churn_risk": 1 + math.expm1(-power * math.log1p(horizon)) / (1 + gone),
    }


def beta_mean(function: Callable[[float], float], a: float, b: float) -> float:
    """Return the mean of a function of p where p is Beta(a, b).

    Integrated by the double exponential rule: p = 1 / (1 + e^(-pi sinh u)), equal steps of u; it minds no end point.
    """
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    step = 1 / 32
    total = 0.0
    for index in range(-320, 321):
        u = index * step
        s = math.pi * math.sinh(u)
        log_p, log_rest = -math.log1p(math.exp(-abs(s))) + min(s, 0.0), -math.log1p(math.exp(-abs(s))) - max(s, 0.0)
        exponent = scale + a * log_p + b * log_rest
        if exponent > -700:
            total += function(math.exp(log_p)) * math.exp(exponent) * math.pi * math.cosh(u) * step
    return total


def profiles(events_so_far: Sequence[Row], day: date, portfolio: Portfolio, model: PurchaseModel | None = None) -> list[Row]:
    """Return ``customer_profiles`` of a day, from all history; ``model`` is what was fitted on the purchases before."""
    arrived = counted(event for event in events_so_far if event["date"] <= day)
    theirs = [event for event in arrived if not is_ours(event)]
    who = who_is(arrived)
    happened = sorted(
        (event for event in arrived if event["event_date"] <= day), key=lambda event: (event["timestamp"], event["message_id"])
    )
    customers = sorted({customer_of(event, who) for event in theirs})
    names = [channel.to for channel in portfolio.channels if channel.to is not None]
    changes = {name: address_changes(events_so_far, name, day, portfolio) for name in names}

    def by_customer(found: Iterable[Occurrence]) -> dict[str, list[Occurrence]]:
        groups: dict[str, list[Occurrence]] = {customer: [] for customer in customers}
        for one in found:
            groups[customer_of(one.event, who)].append(one)
        return groups

    def signalled(signals: Iterable[Signal], half_life_days: float) -> dict[str, list[tuple[float, float]]]:
        found: dict[str, list[tuple[float, float]]] = {customer: [] for customer in customers}
        for signal in signals:
            for customer, mine in by_customer(occurrences(signal.selector, happened)).items():
                found[customer] += [(signal.weight, age) for _, age in ages(mine, half_life_days, day)]
        return found

    topics = {topic.id: signalled(topic.signals, portfolio.interest_half_life_days) for topic in portfolio.topics}
    intents = {intent.id: signalled(intent.signals, intent.half_life_days) for intent in portfolio.intents}
    engagement = portfolio.engagement
    touches: dict[str, list[Occurrence]] = {}
    responses: dict[str, list[Occurrence]] = {}
    if engagement is not None:
        touches = by_customer(occurrences(Selector(engagement.touches), happened))
        responses = by_customer(occurrences(Selector(engagement.responses), happened))
    bought = {} if portfolio.predictions is None else by_customer(occurrences(Selector((portfolio.predictions.order,)), happened))
    selected = {trait.id: by_customer(occurrences(trait.selector, happened)) for trait in portfolio.traits if trait.selector is not None}

    rows = []
    for customer in customers:
        arrivals = [event["date"] for event in theirs if customer_of(event, who) == customer]
        mine = [event for event in happened if customer_of(event, who) == customer]
        everything = [event for event in arrived if customer_of(event, who) == customer]
        mine_not_ours = [event for event in mine if not is_ours(event)]
        timezones = [zone for event in mine_not_ours if (zone := as_text(members(event["context"]).get("timezone"))) is not None]
        row: Row = {
            "date": day,
            "customer_id": customer,
            "first_seen_on": min(arrivals),
            "last_seen_on": max(arrivals),
            "tenure_days": (day - min(arrivals)).days,
            "timezone": timezones[-1] if timezones else None,
        }
        for channel in portfolio.channels:
            row[f"consent_{channel.id}"] = consent(everything, channel.id, day, portfolio)
        total, youngest = faded(one for mine_of_topic in topics.values() for one in mine_of_topic[customer])
        for topic, signals in topics.items():
            part = sum(weight * 0.5 ** (age - youngest) for weight, age in signals[customer] if weight > 0)
            row[f"interest_{topic}"] = part / total if total > 0 else 0.0
        for intent in portfolio.intents:
            strength = sum(weight * 0.5**age for weight, age in intents[intent.id][customer])
            row[f"intent_{intent.id}"] = min(1.0, strength / intent.full_at)
        row["engagement"] = None
        if engagement is not None:
            row["engagement"] = engaged(touches[customer], responses[customer], engagement.half_life_days, day)
        row["preferred_channel"] = None if engagement is None else preferred_channel(responses[customer], day, portfolio)
        for channel in portfolio.channels:
            if channel.to is not None:
                bounced = max((event["timestamp"] for event in mine if is_hard_bounce(event, channel.id, portfolio)), default=None)
                changed = changes[channel.to].get(customer)
                row[f"bounced_{channel.id}"] = bounced is not None and changed is not None and bounced > changed
        row["best_hour"] = best_hour(mine_not_ours, row["timezone"], day, portfolio)
        row |= dict.fromkeys(("predicted_orders", "predicted_value", "churn_risk"))
        if portfolio.predictions is not None:
            row |= predictions(bought[customer], day, portfolio.predictions, model)
        for trait in portfolio.traits:
            if trait.kind == "profile":
                assert trait.property is not None
                told = [typed(value_at(members(event["traits"]), trait.property), trait.dtype) for event in mine if is_identify(event)]
                row[trait.id] = next((value for value in reversed(told) if value is not None), None)
            elif trait.kind != "percentile":
                row[trait.id] = trait_value(trait, selected[trait.id][customer], day)
        rows.append(row)
    for trait in portfolio.traits:
        if trait.kind == "percentile":
            ranked = [row[trait.property] for row in rows if row[trait.property] is not None]
            for row in rows:
                value = row[trait.property]
                row[trait.id] = None if value is None else sum(other <= value for other in ranked) / len(ranked)
    return rows


# --- SPEC 4 and 6: micro-segments and queues -------------------------------------------------------------------------


def spells_so_far(yesterday: Iterable[Row], group: str, since: str, now: Mapping[str, str]) -> dict[tuple[str, str], date]:
    """Return (group, customer) -> the first day of the spell that lasted until yesterday; of merged customers the earliest."""
    spells: dict[tuple[str, str], date] = {}
    for row in yesterday:
        at = row[group], now.get(row["customer_id"], row["customer_id"])
        spells[at] = min(row[since], spells.get(at, row[since]))
    return spells


def memberships(
    profile_rows: Sequence[Row], yesterday: Sequence[Row], day: date, portfolio: Portfolio, now: Mapping[str, str] | None = None
) -> list[Row]:
    """Return ``micro_segment_memberships`` of a day; ``yesterday`` are those of the day before, ``now`` says who was absorbed."""
    since = spells_so_far(yesterday, "segment_id", "member_since", now or {})
    found: list[tuple[str, str]] = []
    for segment in portfolio.segments:
        inside = holds(segment.condition, profile_rows, without=False)
        found += [(segment.id, row["customer_id"]) for row, is_in in zip(profile_rows, inside, strict=True) if is_in]
    covered = {customer for _, customer in found}
    found += [(EVERYONE_ELSE, row["customer_id"]) for row in profile_rows if row["customer_id"] not in covered]
    rows = [
        {"date": day, "segment_id": segment, "customer_id": customer, "member_since": since.get((segment, customer), day)}
        for segment, customer in found
    ]
    return sort(rows, "segment_id", "customer_id")


def queues(
    profile_rows: Sequence[Row],
    member_rows: Sequence[Row],
    yesterday: Sequence[Row],
    day: date,
    portfolio: Portfolio,
    now: Mapping[str, str] | None = None,
) -> list[Row]:
    """Return ``journey_queues`` of a day; ``yesterday`` are those of the day before, ``now`` says who was absorbed."""
    since = spells_so_far(yesterday, "journey_id", "queued_on", now or {})
    rows = []
    for journey in portfolio.journeys:
        where = holds(journey.queue.where, profile_rows, without=True)
        leaves = holds(journey.exit_when, profile_rows, without=False)
        for row, fits, exits in zip(profile_rows, where, leaves, strict=True):
            customer = row["customer_id"]
            segments = {member["segment_id"] for member in member_rows if member["customer_id"] == customer}
            queue = journey.queue
            in_any = not queue.any or any(segment in segments for segment in queue.any)
            in_all = all(segment in segments for segment in queue.all)
            in_none = not any(segment in segments for segment in queue.none)
            if in_any and in_all and in_none and fits and not exits:
                queued_on = since.get((journey.id, customer), day)
                waiting = (day - queued_on).days
                rows.append(
                    {"date": day, "journey_id": journey.id, "customer_id": customer, "queued_on": queued_on, "waiting_days": waiting}
                )
    return sort(rows, "journey_id", "customer_id")


# --- SPEC 8.1: memory, and what ends today ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Spell:
    """One stay of a customer in a journey."""

    entered_on: date
    entry_score: float | None
    arm: str
    held_out_by: str | None = None
    variant: str | None = None
    ended_on: date | None = None
    ended_reason: str | None = None
    is_behind: bool = False
    """After a merge: it counts as entered, but another stay in the same journey goes on, whenever that one began."""

    @property
    def is_in_flight(self) -> bool:
        """Return whether the customer is in the journey."""
        return self.ended_on is None and not self.is_behind


@dataclass
class Memory:
    """Every stay of every customer in every journey: the whole history of decisions.

    In the order of entering, but after a merge the survivor's own come first, then those of each absorbed customer by id:
    of equal days the first counts.
    """

    spells: dict[tuple[str, str], list[Spell]] = field(default_factory=dict)

    def of(self, customer: str, journey: str) -> list[Spell]:
        """Return the stays of a customer in a journey."""
        return self.spells.get((customer, journey), [])

    def all_of(self, customer: str) -> list[tuple[str, Spell]]:
        """Return every stay of a customer with its journey."""
        return [(journey, spell) for (who, journey), spells in self.spells.items() if who == customer for spell in spells]

    def in_flight(self, customer: str) -> str | None:
        """Return the journey that a customer is in."""
        return next((journey for journey, spell in self.all_of(customer) if spell.is_in_flight), None)

    def latest(self, customer: str, journey: str) -> Spell:
        """Return the stay in flight, else the one entered last."""
        spells = [spell for spell in self.of(customer, journey) if not spell.is_behind]
        return max(spells, key=lambda spell: (spell.is_in_flight, spell.entered_on))

    def last_ended(self, customer: str, journey: str) -> Spell | None:
        """Return the stay that ended last."""
        ended = [spell for spell in self.of(customer, journey) if spell.ended_on is not None]
        return max(ended, key=lambda spell: spell.ended_on or date.min, default=None)

    def enter(self, customer: str, journey: str, spell: Spell) -> None:
        """Remember that a customer starts a journey."""
        self.spells.setdefault((customer, journey), []).append(spell)

    def end(self, customer: str, journey: str, day: date, reason: str) -> None:
        """Remember that a customer's stay ends."""
        spells = self.spells[customer, journey]
        self.spells[customer, journey] = [replace(one, ended_on=day, ended_reason=reason) if one.is_in_flight else one for one in spells]

    def merge(self, now: Mapping[str, str], day: date) -> dict[str, str]:
        """Give the survivors the memory of those they absorbed; return survivor -> journey that ends ``merged``, the first by name.

        One journey goes on: the survivor's own, else the one entered last (ties: least journey, least customer).
        """
        groups: dict[str, list[str]] = {}
        for customer in sorted({customer for customer, _ in self.spells if customer in now}):
            groups.setdefault(now[customer], []).append(customer)
        ended: dict[str, str] = {}
        for survivor, absorbed in groups.items():
            flights = [(who, journey) for who in (survivor, *absorbed) if (journey := self.in_flight(who)) is not None]
            if flights:
                since = {flight: self.latest(*flight).entered_on for flight in flights}
                goes_on = min(flights, key=lambda flight: (flight[0] != survivor, -since[flight].toordinal(), flight[1], flight[0]))
                for who, journey in flights:
                    if journey != goes_on[1]:
                        self.end(who, journey, day, "merged")
                        ended[survivor] = min(journey, ended.get(survivor, journey))
                for who in (survivor, *absorbed):
                    self._put_behind(who, goes_on, since[goes_on])
            for who, journey in sorted(at for at in self.spells if at[0] in absorbed):
                self.spells.setdefault((survivor, journey), []).extend(self.spells.pop((who, journey)))
        return ended

    def give_up(self, customer: str, journey: str, spell: Spell) -> bool:
        """Remember a start that gives way at once: return whether it has ended ``merged``, or else is behind the same journey."""
        is_over = not any(one.is_in_flight for one in self.of(customer, journey))
        ended = replace(spell, ended_on=spell.entered_on, ended_reason="merged")
        self.enter(customer, journey, ended if is_over else replace(spell, is_behind=True))
        return is_over

    def _put_behind(self, who: str, goes_on: tuple[str, str], since: date) -> None:
        """Mark what does not go on in the journey that does: others in flight, and whoever entered it later but has left it."""
        at = who, goes_on[1]
        if at in self.spells:
            self.spells[at] = [
                one
                if one.is_in_flight and at == goes_on
                else replace(one, is_behind=one.is_behind or one.is_in_flight or one.entered_on >= since)
                for one in self.spells[at]
            ]

    def last_finished(self, customer: str) -> str | None:
        """Return the journey that a customer completed or converted in last."""
        done = [(spell.ended_on, journey) for journey, spell in self.all_of(customer) if spell.ended_reason in {"completed", "converted"}]
        return max(done)[1] if done else None


def spell_of(row: Row, day: date) -> Spell:
    """Return the stay that begins with an answer that was delivered."""
    return Spell(day, row["score"], row["arm"], row.get("held_out_by"), row.get("variant"))


def kept_rows(
    delivered: Iterable[Row], now: Mapping[str, str], memory: Memory, portfolio: Portfolio
) -> tuple[dict[str, Row], list[tuple[str, Row]]]:
    """Return customer -> the assignment row that was delivered today and still stands, ``memory`` being yesterday's.

    It stands for whatever a re-run would decide, and for whoever the customer is by ``now``. It falls, and the customer is decided
    anew, where it cannot be told any more: its journey is gone from the portfolio, or yesterday, decided again in between, left the
    customer somewhere else. Of several, under several names, one stands: that of the name of now, else the latest entry.

    Returned as well are starts under an older name that give way, as (customer, row): there is another journey.
    """
    journeys = {journey.id for journey in portfolio.journeys}
    of_customer: dict[str, list[tuple[bool, Row]]] = {}
    for row in delivered:
        customer = now.get(row["customer_id"], row["customer_id"])
        yesterday = memory.in_flight(customer)
        if row["decision"] == "continue":
            fits = yesterday == row["journey_id"] and memory.latest(customer, yesterday).entered_on == row["entered_on"]
        else:
            fits = yesterday == row["ended_journey_id"]
        if row["journey_id"] is None or row["journey_id"] in journeys:
            of_customer.setdefault(customer, []).append((fits, row))
    kept: dict[str, Row] = {}
    given_up: list[tuple[str, Row]] = []
    for customer, rows in of_customer.items():
        fitting = [row for fits, row in rows if fits]
        if fitting:
            stands = min(
                fitting,
                key=lambda row: (row["customer_id"] != customer, -row["entered_on"].toordinal(), row["journey_id"], row["customer_id"]),
            )
            kept[customer] = {**stands, "customer_id": customer}
        goes_on = kept[customer]["journey_id"] if customer in kept else memory.in_flight(customer)
        given_up += [
            (customer, row)
            for _, row in sorted(rows, key=lambda one: (one[1]["journey_id"], one[1]["customer_id"]))
            if row["customer_id"] != customer and row["decision"] in {"start", "switch"} and goes_on is not None
        ]
    return kept, given_up


def kept_after_all(
    kept: dict[str, Row], given_up: Sequence[tuple[str, Row]], memory: Memory, ended: Mapping[str, tuple[str, str]]
) -> list[tuple[str, Row]]:
    """Let a start stand where the journey that it gave way to has ended today; return the others but those of the same journey."""
    for customer, row in given_up:
        if customer not in kept and memory.in_flight(customer) is None:
            journey, reason = ended[customer]
            kept[customer] = {**row, "customer_id": customer, "decision": "start", "ended_journey_id": journey, "ended_reason": reason}
    return [(customer, row) for customer, row in given_up if customer not in kept or kept[customer]["journey_id"] != row["journey_id"]]


def advance(
    memory: Memory,
    events_so_far: Sequence[Row],
    profile_rows: Sequence[Row],
    day: date,
    portfolio: Portfolio,
    kept: Mapping[str, Row] | None = None,
) -> dict[str, tuple[str, str]]:
    """End what ends today, for those who keep a row as it says there; return customer -> (journey, reason)."""
    ended: dict[str, tuple[str, str]] = {}
    journeys = {journey.id: journey for journey in portfolio.journeys}
    arrived = counted(event for event in events_so_far if event["date"] <= day)
    who = who_is(arrived)
    for profile in profile_rows:
        customer = profile["customer_id"]
        journey_id = memory.in_flight(customer)
        if journey_id is None:
            continue
        entered_on = memory.latest(customer, journey_id).entered_on
        if kept and customer in kept:
            reason = kept[customer]["ended_reason"]
            reason = None if reason in {"interrupted", "merged"} else reason
        else:
            mine = [event for event in arrived if customer_of(event, who) == customer]
            reason = _ending(journeys.get(journey_id), entered_on, mine, profile, day)
        if reason is not None:
            memory.end(customer, journey_id, day, reason)
            ended[customer] = (journey_id, reason)
    return ended


def _ending(journey: Journey | None, entered_on: date, mine: Sequence[Row], profile: Row, day: date) -> str | None:
    if journey is None:
        return "withdrawn"
    if journey.goal is not None and journey.exit_on_goal:
        until = min(day, entered_on + journey.goal.within_days * DAY)
        if any(event["event"] == journey.goal.event and entered_on < event["event_date"] <= until for event in mine):
            return "converted"
    if holds(journey.exit_when, [profile], without=False)[0]:
        return "exited"
    return "completed" if (day - entered_on).days >= journey.length_days else None


# --- SPEC 7: scored candidates ---------------------------------------------------------------------------------------


def static_gates(journey: Journey, profile: Row, score: float | None, is_suppressed: bool, day: date, portfolio: Portfolio) -> list[str]:
    """Return the gates that need no memory and that this option fails, in order."""
    periods = (*portfolio.policy.suppress, *journey.suppress)
    days_in_it = [day + index * DAY for index in range(journey.length_days)]
    overruns = journey.ends_on is not None and days_in_it[-1] > journey.ends_on
    channels = [channel for channel in portfolio.channels if channel.id in journey.channels]
    fails = {
        "not_live": journey.status != "live"
        or (journey.starts_on is not None and day < journey.starts_on)
        or (journey.ends_on is not None and day > journey.ends_on),
        "blackout": covers(periods, day),
        "would_overrun": journey.must_finish and (overruns or any(covers(periods, one) for one in days_in_it)),
        "suppressed": is_suppressed,
        "no_channel": bool(journey.channels) and not any(is_usable(channel, profile) for channel in channels),
        "unscored": score is None,
    }
    return [gate for gate, is_failed in fails.items() if is_failed]


def factors(profile: Row, journey: Journey, waiting_days: int | None, memory: Memory, portfolio: Portfolio) -> Row:
    """Return what the score of one option is made of; ``waiting_days`` is None where the customer is not queued."""
    customer = profile["customer_id"]
    finished = memory.last_finished(customer)
    leads_here = any(journey.id in other.next_journeys for other in portfolio.journeys if other.id == finished)
    return {
        "is_queued": waiting_days is not None,
        "is_incumbent": journey.id == memory.in_flight(customer),
        "mandatory": journey.mandatory,
        "priority": journey.priority,
        "propensity": portfolio.policy.prior_propensity,
        "value": journey.value,
        "interest_match": min(1.0, sum((profile[f"interest_{topic}"] for topic in journey.interests), 0.0)),
        "intent_match": max((profile[f"intent_{intent}"] for intent in journey.intents), default=0.0),
        "waiting_days": waiting_days or 0,
        "linked_boost": portfolio.policy.linked_boost if leads_here else 1.0,
    }


def candidates(
    profile_rows: Sequence[Row],
    queue_rows: Sequence[Row],
    memory: Memory,
    day: date,
    portfolio: Portfolio,
    kept: Mapping[str, Row] | None = None,
) -> list[Row]:
    """Return the option rows of a day with every factor, score, rank and failed static gates, before any ruling."""
    policy = portfolio.policy
    waiting = {(row["customer_id"], row["journey_id"]): row["waiting_days"] for row in queue_rows}
    listed = waiting.keys() | {(customer, row["journey_id"]) for customer, row in (kept or {}).items()}
    suppressed = {
        row["customer_id"]
        for row, is_so in zip(profile_rows, holds(policy.suppressed_when, profile_rows, without=False), strict=True)
        if is_so
    }
    found = [
        (profile, journey, factors(profile, journey, waiting.get((profile["customer_id"], journey.id)), memory, portfolio))
        for profile in profile_rows
        for journey in portfolio.journeys
        if (profile["customer_id"], journey.id) in listed or journey.id == memory.in_flight(profile["customer_id"])
    ]
    others = [{"waiting_weight": policy.waiting_weight, "length_days": journey.length_days} for _, journey, _ in found]
    scores = evaluate(policy.score, [{**profile, **terms, **more} for (profile, _, terms), more in zip(found, others, strict=True)])
    options: dict[str, list[Row]] = {}
    for (profile, journey, terms), number in zip(found, scores, strict=True):
        customer, score = profile["customer_id"], rounded(number)
        gates = [] if terms["is_incumbent"] else static_gates(journey, profile, score, customer in suppressed, day, portfolio)
        row = {"date": day, "customer_id": customer, "journey_id": journey.id, **terms, "score": score, "failed_gates": gates}
        options.setdefault(customer, []).append(row)
    for profile, number in zip(profile_rows, evaluate(policy.none, profile_rows), strict=True):
        if profile["customer_id"] in options:
            row = {
                "date": day,
                "customer_id": profile["customer_id"],
                "journey_id": NONE,
                "score": rounded(number) or 0.0,
                "failed_gates": [],
            }
            row |= {"is_queued": False, "is_incumbent": False, "mandatory": False, "priority": 0.0}
            row |= dict.fromkeys(("propensity", "value", "interest_match", "intent_match", "waiting_days", "linked_boost"))
            options[profile["customer_id"]].append(row)
    return [{**row, "rank": rank} for rows in options.values() for rank, row in enumerate(sorted(rows, key=total_order), start=1)]


def total_order(option: Row) -> tuple[bool, bool, float, float, int, str]:
    """Return the sort key of the total order: the least comes first."""
    score = option["score"]
    return (
        not option["mandatory"],
        score is None,
        -(score or 0.0),
        -option["priority"],
        -(option["waiting_days"] or 0),
        option["journey_id"],
    )


# --- SPEC 8.2 to 8.7: assignments ------------------------------------------------------------------------------------


def memory_gates(option: Row, journey: Journey, starts: float | None, memory: Memory, day: date, portfolio: Portfolio) -> list[str]:
    """Return the gates of memory that this challenger fails, in order."""
    policy = portfolio.policy
    customer = option["customer_id"]
    before = memory.of(customer, journey.id)
    every = memory.all_of(customer)

    reentry = False
    if before:
        reentry = journey.reentry is None
        if journey.reentry is not None:
            last_ended = memory.last_ended(customer, journey.id)
            assert last_ended is not None
            is_from_entry = journey.reentry.counted_from == "entry"
            counted_from = memory.latest(customer, journey.id).entered_on if is_from_entry else last_ended.ended_on
            assert counted_from is not None
            reentry = (day - counted_from).days < journey.reentry.after_days

    was_finished = [other for other, spell in every if spell.ended_reason in {"completed", "converted"}]

    def was_in(other: str, on: date) -> bool:
        return any(
            spell.entered_on == on
            or (spell.entered_on < on and (spell.is_in_flight or (spell.ended_on is not None and on < spell.ended_on)))
            for spell in memory.of(customer, other)
        )

    pairwise = any(was_in(rule.journey, day - back * DAY) for rule in journey.not_after for back in range(rule.within_days))
    ended = [spell.ended_on for _, spell in every if spell.ended_on is not None]
    capped = False
    if policy.cap is not None and starts is not None:
        recent = [spell for _, spell in every if day - policy.cap.days * DAY < spell.entered_on < day]
        capped = len(recent) + 1 > starts
    fails = {
        "reentry": reentry,
        "max_entries": journey.max_entries is not None and len(before) >= journey.max_entries,
        "link": bool(journey.only_after) and not any(other in was_finished for other in journey.only_after),
        "pairwise": pairwise,
        "resting": not journey.mandatory and bool(ended) and (day - max(ended)).days < policy.rest_days,
        "frequency_cap": capped,
    }
    return [gate for gate, is_failed in fails.items() if is_failed]


def may_interrupt(challenger: Row, incumbent: Row, challenging: Journey, running: Journey, memory: Memory, portfolio: Portfolio) -> bool:
    """Return whether a challenger that passes all gates may take the place of the journey in flight."""
    if not running.interruptible or (running.mandatory and not challenging.mandatory):
        return False
    if challenging.mandatory and total_order(challenger) < total_order(incumbent):
        return True
    score = incumbent["score"]
    if score is None:
        score = memory.latest(incumbent["customer_id"], running.id).entry_score
    return challenging.can_interrupt and challenger["score"] > score + portfolio.policy.switch_margin * abs(score)


def arm_of(arm_id: str, journey: Journey, portfolio: Portfolio) -> str:
    """Return ``control`` for the customers held out of everything or of this journey, else ``treated``."""
    return "treated" if held_out_by(arm_id, journey, portfolio) is None else "control"


def held_out_by(arm_id: str, journey: Journey, portfolio: Portfolio) -> str | None:
    """Return who holds a customer out: the policy, of everything; else the journey; else nobody."""
    of_journey = journey.id if journey.holdout_version is None else f"{journey.id}:{journey.holdout_version}"
    lots = {"policy": (portfolio.version, portfolio.policy.holdout), "journey": (of_journey, journey.holdout)}
    return next((who for who, (salt, share) in lots.items() if xxh64(f"{salt}:{arm_id}") % 10_000 < round(share * 10_000)), None)


def variant_of(arm_id: str, journey: Journey) -> str | None:
    """Return the variant of a journey that a customer is in: the first whose shares, added up to it, are beyond the bucket."""
    place, share = xxh64(f"variant:{journey.id}:{arm_id}") % 10_000, 0.0
    for variant in journey.variants:
        share += variant.share
        if place < round(share * 10_000) or variant is journey.variants[-1]:
            return variant.id
    return None


@dataclass
class Choice:
    """What one customer may get today, between the gates and the choice."""

    customer: str
    arm_id: str
    options: list[Row]
    none: Row | None
    incumbent: Row | None
    wishes: list[Row]
    """What the customer competes for, best first: all that passes the gates and may be entered, or what was drawn alone."""
    chances: float
    """The probability with which these wishes came first, by the draw."""
    kept: Row | None
    """The row that was delivered today, if it stands."""
    competing: int = 0
    """How many journeys fail no gate and outrank "none", whether or not they may interrupt."""
    is_drawn: bool = False
    """Whether what is wished was drawn."""


def choices(
    profile_rows: Sequence[Row],
    option_rows: Sequence[Row],
    memory: Memory,
    day: date,
    portfolio: Portfolio,
    kept: Mapping[str, Row],
    known: People,
) -> list[Choice]:
    """Return the choice of each customer: all gates but the last three, and what is left."""
    policy = portfolio.policy
    journeys = {journey.id: journey for journey in portfolio.journeys}
    starts = [None] * len(profile_rows) if policy.cap is None else evaluate(policy.cap.starts, profile_rows)
    found = []
    for profile, allowed in zip(profile_rows, starts, strict=True):
        customer = profile["customer_id"]
        options = [{**row, "failed_gates": list(row["failed_gates"])} for row in option_rows if row["customer_id"] == customer]
        none = next((row for row in options if row["journey_id"] == NONE), None)
        incumbent = next((row for row in options if row["is_incumbent"]), None)
        challengers = [row for row in options if row is not none and row is not incumbent]
        for row in challengers:
            row["failed_gates"] += memory_gates(row, journeys[row["journey_id"]], allowed, memory, day, portfolio)
        eligible = [row for row in challengers if not row["failed_gates"] and (row["mandatory"] or row["score"] > none["score"])]
        competing, is_drawn = len(eligible), False
        if incumbent is not None:
            running = journeys[incumbent["journey_id"]]
            eligible = [row for row in eligible if may_interrupt(row, incumbent, journeys[row["journey_id"]], running, memory, portfolio)]
        eligible.sort(key=total_order)
        wishes, chances = eligible, 1.0
        if incumbent is None and not any(row["mandatory"] for row in eligible):
            arm_id = known.arm_of(customer)
            wishes, chances = explored(arm_id, eligible, day, policy.explore)
            is_drawn = bool(eligible) and explores(arm_id, day, policy.explore)
        found.append(
            Choice(
                customer,
                known.arm_of(customer),
                options,
                none,
                incumbent,
                wishes,
                chances,
                kept.get(customer),
                competing,
                is_drawn=is_drawn,
            )
        )
    return found


def explored(arm_id: str, eligible: list[Row], day: date, explore: float) -> tuple[list[Row], float]:
    """Return what a customer wishes after the draw of SPEC 8.7, and the probability that the first wish is this one."""
    if not eligible or explore == 0:
        return eligible, 1.0
    by_name = sorted(eligible, key=lambda row: row["journey_id"])
    wishes = eligible
    if explores(arm_id, day, explore):
        wishes = [by_name[xxh64(f"pick:{arm_id}:{day.isoformat()}") % len(by_name)]]
    by_chance = explore / len(by_name)
    return wishes, 1 - explore + by_chance if wishes[0] is eligible[0] else by_chance


def explores(arm_id: str, day: date, explore: float) -> bool:
    """Return whether a customer's choice is drawn on a day."""
    return xxh64(f"explore:{arm_id}:{day.isoformat()}") % 10_000 < round(explore * 10_000)


def places(found: Sequence[Choice], given_up: Sequence[Row], memory: Memory, portfolio: Portfolio) -> dict[str, int]:
    """Return how many may enter each limited journey today, after those whose start was delivered."""
    free = {}
    for journey in portfolio.journeys:
        in_flight = sum(spell.is_in_flight for (_, name), spells in memory.spells.items() if name == journey.id for spell in spells)
        limits = [
            limit for limit in (journey.daily_entries, None if journey.active is None else journey.active - in_flight) if limit is not None
        ]
        sent = [*given_up, *(one.kept for one in found if one.kept)]
        taken = [row for row in sent if row["decision"] in {"start", "switch"} and row["journey_id"] == journey.id]
        if limits:
            free[journey.id] = max(0, min(limits) - len(taken))
    return free


Worth = tuple[int, int, int, int]
"""What a placement is worth: in a mandatory journey or not, its score if so, its gain over the fallback (both in micro-units), and,
where all that is equal, how far up among the customer's wishes. Python compares tuples as SPEC does: in this order."""


def worths(choice: Choice, memory: Memory) -> dict[str, Worth]:
    """Return journey -> worth of each wish of a customer; the fallback is worth nothing."""
    if not choice.wishes or choice.none is None:
        return {}
    fallback = choice.none["score"]
    if choice.incumbent is not None:
        fallback = choice.incumbent["score"]
        if fallback is None:
            fallback = memory.latest(choice.customer, choice.incumbent["journey_id"]).entry_score
    found = {}
    for index, row in enumerate(choice.wishes):
        score = micros(row["score"])
        found[row["journey_id"]] = (
            int(row["mandatory"]),
            score if row["mandatory"] else 0,
            score - micros(fallback),
            len(choice.wishes) - index,
        )
    return found


def plus(one: Worth, other: Worth) -> Worth:
    """Return the sum of two worths."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


def minus(one: Worth, other: Worth) -> Worth:
    """Return the difference of two worths."""
    return one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3]


NOTHING: Worth = (0, 0, 0, 0)


def optimum(wishes: Mapping[str, Mapping[str, Worth]], free: Mapping[str, int]) -> dict[str, str]:
    """Return customer -> journey with the greatest total worth within the free places; who is not in it gets the fallback.

    Customers come one after the other. Each takes a place, or sets off the chain of moves - somebody yields a place, and takes
    another one or the fallback - that leaves the greatest total (successive best paths; integers, so nothing is approximate).
    """
    got: dict[str, str] = {}
    for customer, mine in wishes.items():
        total: dict[str | None, Worth] = {None: NOTHING, **mine}
        moves: dict[str | None, list[tuple[str, str | None]]] = {name: [(customer, name)] for name in total}
        is_better = True
        while is_better:
            is_better = False
            for full in [name for name in total if name is not None and is_full(name, got, free)]:
                for other in [who for who, name in got.items() if name == full]:
                    for name, worth in {None: NOTHING, **wishes[other]}.items():
                        after = plus(total[full], minus(worth, wishes[other][full]))
                        if name != full and (name not in total or after > total[name]):
                            total[name], moves[name], is_better = after, [*moves[full], (other, name)], True
        ends = [name for name in total if name is None or not is_full(name, got, free)]
        for who, name in moves[max(ends, key=lambda end: total[end])]:
            got.pop(who, None)
            if name is not None:
                got[who] = name
    return got


def is_full(journey: str, got: Mapping[str, str], free: Mapping[str, int]) -> bool:
    """Return whether nobody more can enter a journey."""
    return journey in free and sum(name == journey for name in got.values()) >= free[journey]


def total_worth(wishes: Mapping[str, Mapping[str, Worth]], got: Mapping[str, str]) -> tuple[int, int, int]:
    """Return what SPEC maximises: placements in mandatory journeys, their total score, the total gain."""
    total = NOTHING
    for customer, journey in got.items():
        total = plus(total, wishes[customer][journey])
    return total[:3]


def objections(wishes: Mapping[str, Mapping[str, Worth]], free: Mapping[str, int], got: Mapping[str, str]) -> list[str]:
    """Say what is wrong with placements: wishes that nobody had, limits broken, places left empty, a total below the optimum."""
    says = [f"{who} did not wish to enter {name}" for who, name in got.items() if name not in wishes.get(who, {})]
    for name, limit in free.items():
        entered = sum(other == name for other in got.values())
        says += [f"{entered} enter {name}, and there is room for {limit}"] if entered > limit else []
    for who, mine in wishes.items():
        ranked = list(mine)
        missed = ranked[: ranked.index(got[who])] if got.get(who) in mine else ranked
        says += [f"{who} gets {got.get(who)} although there is room in {name}" for name in missed if not is_full(name, got, free)]
    if not says:
        ours, best = total_worth(wishes, got), total_worth(wishes, optimum(wishes, free))
        says += [f"(mandatory placements, their score, gain) are {ours}, and can be {best}"] if ours != best else []
    return says


def decide(
    found: Sequence[Choice],
    got: Mapping[str, str],
    ended: Mapping[str, tuple[str, str]],
    memory: Memory,
    day: date,
    portfolio: Portfolio,
) -> tuple[list[Row], list[Row], list[Row]]:
    """Rule on every option and remember what starts; return ``scored_candidates``, ``journey_state``, ``journey_assignments``.

    ``got`` says who of those who keep no row enters which journey.
    """
    policy = portfolio.policy
    journeys = {journey.id: journey for journey in portfolio.journeys}
    ruled: list[Row] = []
    assignments: list[Row] = []
    for one in found:
        customer, options, incumbent, kept = one.customer, one.options, one.incumbent, one.kept
        fallback = incumbent if incumbent is not None else one.none
        by_name = {row["journey_id"]: row for row in options}
        if kept is not None:
            chosen, decision = by_name.get(kept["journey_id"] or NONE), kept["decision"]
            squeezed: list[Row] = []
        else:
            chosen = by_name[got[customer]] if customer in got else fallback
            decision = "none" if chosen is one.none else "continue" if chosen is incumbent else "start" if incumbent is None else "switch"
            squeezed = one.wishes[: one.wishes.index(chosen)] if customer in got else one.wishes
        for row in options:
            if row is chosen:
                row["failed_gates"] = []
            elif any(row is other for other in squeezed):
                row["failed_gates"] = ["capacity"]
            elif not row["failed_gates"]:
                row["failed_gates"] = ["in_flight" if decision == "continue" else "outscored"]
            row["ruling"] = "chosen" if row is chosen else row["failed_gates"][0]
            scored = row["score"] is not None and chosen["score"] is not None
            row["margin"] = chosen["score"] - row["score"] if scored else None
        best = policy.keep_candidates
        ruled += [row for row in options if best is None or row["rank"] <= best or row is chosen]

        ended_journey, ended_reason = ended.get(customer, (None, None))
        if decision == "switch":
            ended_journey, ended_reason = memory.in_flight(customer), "interrupted"
            memory.end(customer, ended_journey, day, ended_reason)
        if decision in {"start", "switch"}:
            journey = journeys[chosen["journey_id"]]
            if kept is not None:
                spell = spell_of(kept, day)
            else:
                lots = held_out_by(one.arm_id, journey, portfolio), variant_of(one.arm_id, journey)
                spell = Spell(day, chosen["score"], arm_of(one.arm_id, journey, portfolio), *lots)
            memory.enter(customer, journey.id, spell)
        if kept is not None:
            assignments.append({**kept, "stands": True})
            continue
        others = [row for row in options if row is not chosen and row["ruling"] in {"outscored", "in_flight", "capacity"}]
        runner_up = min(others, key=total_order, default=None)
        spell = None if decision == "none" else memory.latest(customer, chosen["journey_id"])
        assignments.append(
            {
                "date": day,
                "customer_id": customer,
                "decision": decision,
                "journey_id": chosen["journey_id"] if spell else None,
                "entered_on": spell.entered_on if spell else None,
                "day_index": (day - spell.entered_on).days + 1 if spell else None,
                "ends_on": spell.entered_on + (journeys[chosen["journey_id"]].length_days - 1) * DAY if spell else None,
                "arm": spell.arm if spell else None,
                "held_out_by": spell.held_out_by if spell else None,
                "variant": spell.variant if spell else None,
                "is_drawn": one.is_drawn if decision in {"start", "switch"} else None,
                "options": one.competing if decision in {"start", "switch"} else None,
                "score": chosen["score"] if chosen else None,
                "runner_up": runner_up["journey_id"] if runner_up else None,
                "runner_up_score": runner_up["score"] if runner_up else None,
                "selection_probability": None if one.wishes and one.wishes[0] is not chosen else one.chances,
                "ended_journey_id": ended_journey,
                "ended_reason": ended_reason,
                "portfolio": portfolio.fingerprint,
                "stands": False,
            }
        )
    return sort(ruled, "customer_id", "journey_id"), state_rows(memory, day, portfolio), sort(assignments, "customer_id")


def state_rows(memory: Memory, day: date, portfolio: Portfolio) -> list[Row]:
    """Return ``journey_state`` of a day."""
    cap = portfolio.policy.cap
    rows = []
    for (customer, journey), spells in memory.spells.items():
        last = memory.latest(customer, journey)
        last_ended = None if last.is_in_flight else memory.last_ended(customer, journey)
        recent = sorted(spell.entered_on for spell in spells if cap is not None and day - cap.days * DAY < spell.entered_on <= day)
        rows.append(
            {
                "date": day,
                "customer_id": customer,
                "journey_id": journey,
                "entered_on": last.entered_on,
                "ended_on": last_ended and last_ended.ended_on,
                "ended_reason": last_ended and last_ended.ended_reason,
                "times_entered": len(spells),
                "times_completed": sum(spell.ended_reason in {"completed", "converted"} for spell in spells),
                "entry_score": last.entry_score,
                "arm": last.arm,
                "held_out_by": last.held_out_by,
                "variant": last.variant,
                "recent_starts": recent,
            }
        )
    return sort(rows, "customer_id", "journey_id")


# --- SPEC 9: activation ----------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Letter:
    """A message on its way through the channels that it may take."""

    row: Row
    assignment: Row
    journey: Journey
    step: Step
    profile: Row
    is_suppressed: bool
    order: list[str]
    zone: ZoneInfo
    channel: str | None = None
    tried: list[str] = field(default_factory=list)

    def score(self) -> float:
        """Return the score of the answer; without one it is less than any."""
        score: float | None = self.assignment["score"]
        return -math.inf if score is None else score


def messages(
    assignment_rows: Sequence[Row],
    profile_rows: Sequence[Row],
    day: date,
    portfolio: Portfolio,
    earlier: Iterable[Row] = (),
    now: datetime | None = None,
    problems: Callable[[Row, str], str | None] = lambda _, __: None,
) -> list[Row]:
    """Return ``outbound_messages`` of a day.

    ``earlier`` are those of the days before, of customers as they are known today; ``now`` is set while the day is not over;
    ``problems`` says what is wrong with a message's text on a channel with a medium.
    """
    gone_out = [row for row in earlier if row["withheld"] is None]
    channels = {channel.id: channel for channel in portfolio.channels}
    ready = {name: holds(channel.when, profile_rows, without=True) for name, channel in channels.items()}
    number = {profile["customer_id"]: place for place, profile in enumerate(profile_rows)}
    letters = due_letters(assignment_rows, profile_rows, day, portfolio)
    accepted: list[Letter] = []
    waiting = [letter for letter in letters if not letter.is_suppressed]
    for position in range(max((len(letter.order) for letter in letters), default=0)):
        asking: list[Letter] = []
        for letter in sorted(
            (each for each in waiting if position < len(each.order)), key=lambda each: each.journey.steps.index(each.step)
        ):
            name = letter.order[position]
            channel = channels[name]
            at = send_at(day, clock_of(letter), letter.zone, ZoneInfo(portfolio.timezone), channel.hours, now)
            local_on = at.astimezone(letter.zone).date()
            problem = problems(letter.row, name) if channel.medium is not None else None
            before = [each for each in (*accepted, *asking) if each.row["customer_id"] == letter.row["customer_id"]]
            before = [each for each in before if each.order[len(each.tried)] == name]
            reason = obstacle(channel, letter.profile)
            if reason is None and not ready[name][number[letter.row["customer_id"]]]:
                reason = "not_ready"
            if reason is None and covers((*portfolio.policy.suppress, *letter.journey.suppress), local_on):
                reason = "blackout"
            if reason is None and local_on > last_day_of(letter, day, portfolio):
                reason = "expired"
            if reason is None and problem is not None:
                reason = problem
            if reason is None and not letter.step.repeat and was_sent(letter, name, gone_out, before):
                reason = "already_sent"
            if reason is None and channel.cap is not None and not letter.journey.mandatory:
                since = day - (channel.cap.days - 1) * DAY
                recent = [row for row in gone_out if (row["customer_id"], row["channel"]) == (letter.row["customer_id"], name)]
                if sum(row["date"] >= since for row in recent) + len(before) + 1 > channel.cap.messages:
                    reason = "channel_cap"
            if reason is None:
                asking.append(letter)
            else:
                letter.tried.append(f"{name}:{reason}")
        asking.sort(
            key=lambda each: (
                not each.journey.mandatory, -each.score(), each.row["customer_id"], each.journey.steps.index(each.step)
            )
        )  # fmt: skip
        for letter in asking:
            name = letter.order[position]
            places, taken = channels[name].per_day, sum(each.channel == name for each in accepted)
            if places is not None and taken >= places:
                letter.tried.append(f"{name}:no_places")
            else:
                letter.channel = name
                accepted.append(letter)
        waiting = [letter for letter in waiting if letter.channel is None]
    return ranked([written(letter, day, portfolio, now) for letter in letters])


def due_letters(assignment_rows: Sequence[Row], profile_rows: Sequence[Row], day: date, portfolio: Portfolio) -> list[Letter]:
    """Return the steps of today of everybody who is treated, whose condition holds, with the channels in the customer's own order."""
    journeys = {journey.id: journey for journey in portfolio.journeys}
    suppressed = holds(portfolio.policy.suppressed_when, profile_rows, without=False)
    known = {profile["customer_id"]: (profile, is_suppressed) for profile, is_suppressed in zip(profile_rows, suppressed, strict=True)}
    letters = []
    for row in assignment_rows:
        if row["journey_id"] is None or row["arm"] != "treated":
            continue
        journey = journeys[row["journey_id"]]
        profile, is_suppressed = known[row["customer_id"]]
        for step in journey.steps:
            is_of_another = bool(journey.variants) and step.variant not in {None, row["variant"]}
            if step.day != row["day_index"] or is_of_another or not holds(step.when, [profile], without=True)[0]:
                continue
            order = list(step.channels)
            preferred = profile.get("preferred_channel")
            if step.choose == "preferred" and preferred in order:
                order = [preferred, *(name for name in order if name != preferred)]
            zone = profile["timezone"] if profile["timezone"] in TIMEZONES else portfolio.timezone
            key = f"{row['customer_id']}:{journey.id}:{row['entered_on']}:{step.day}:{'|'.join(step.channels)}"
            message = {
                "date": day,
                "idempotency_key": hashlib.sha256(key.encode()).hexdigest()[:32],
                "customer_id": row["customer_id"],
                "journey_id": journey.id,
                "step_day": step.day,
                "channels": "|".join(step.channels),
                "content": step.content,
                "variant": step.variant,
                "zone": zone,
                "zone_from": "customer" if profile["timezone"] in TIMEZONES else "calendar",
            }
            letters.append(Letter(message, row, journey, step, profile, is_suppressed, order, ZoneInfo(zone)))
    return letters


def was_sent(letter: Letter, name: str, gone_out: Iterable[Row], before: Iterable[Letter]) -> bool:
    """Return whether the content went out on a channel by another step of this entry: on a day before, or today."""
    row = letter.row
    return any(each.step.content == letter.step.content for each in before) or any(
        (past["customer_id"], past["journey_id"], past["channel"], past["content"])
        == (row["customer_id"], row["journey_id"], name, row["content"])
        and past["date"] >= letter.assignment["entered_on"]
        and past["step_day"] != letter.step.day
        for past in gone_out
    )


def last_day_of(letter: Letter, day: date, portfolio: Portfolio) -> date:
    """Return the last local day on which a message may arrive."""
    return min(day + (1 + portfolio.policy.patience_days) * DAY, letter.assignment["ends_on"] + DAY)


def clock_of(letter: Letter) -> time:
    """Return the local time at which a message is to arrive."""
    hour = letter.profile["best_hour"]
    return letter.step.at or time(10 if hour is None else hour)


def written(letter: Letter, day: date, portfolio: Portfolio, now: datetime | None) -> Row:
    """Return a row of ``outbound_messages``, but for its rank."""
    channels = {channel.id: channel for channel in portfolio.channels}
    only = letter.order[0] if len(letter.order) == 1 and not letter.is_suppressed else None
    hours = channels[letter.channel or only or ""].hours if letter.channel or only else None
    business = ZoneInfo(portfolio.timezone)
    withheld = None
    if letter.is_suppressed:
        withheld = "suppressed"
    elif letter.channel is None:
        withheld = letter.tried[0].partition(":")[2] if only else "no_channel"
    chosen = channels[letter.channel] if letter.channel else None
    end = datetime.combine(last_day_of(letter, day, portfolio) + DAY, time(), letter.zone).astimezone(UTC)
    return {
        **letter.row,
        "channel": letter.channel or letter.row["channels"],
        "medium": chosen and chosen.medium,
        "address": letter.profile[chosen.to] if chosen and chosen.to else None,
        "send_at": send_at(day, clock_of(letter), letter.zone, business, hours, now),
        "planned_at": send_at(day, clock_of(letter), letter.zone, business, None, now),
        "hour_from": "step" if letter.step.at else "default" if letter.profile["best_hour"] is None else "best",
        "expires_at": end,
        "tried": letter.tried,
        "withheld": withheld,
        "rank": (letter.journey.mandatory, letter.score()),
    }


def ranked(rows: list[Row]) -> list[Row]:
    """Number the rows of each channel from 1: what is sent first, by time, mandatory, score and key."""
    places: dict[str, int] = {}
    for row in sorted(
        rows,
        key=lambda each: (
            each["withheld"] is not None, each["send_at"], not each["rank"][0], -each["rank"][1], each["idempotency_key"]
        ),
    ):  # fmt: skip
        places[row["channel"]] = row["rank"] = places.get(row["channel"], 0) + 1
    return sort(rows, "idempotency_key")


def send_at(
    day: date, clock: time, zone: ZoneInfo, business: ZoneInfo, hours: Hours | None = None, now: datetime | None = None
) -> datetime:
    """Return the first time after the end of the day, where the business is, that it is the hour on a later day where the customer is.

    Of a day that is not over, after ``now``. Within ``hours``: clamped into them, on one of their days.
    """
    after = datetime.combine(day + DAY, time(0), business).astimezone(UTC) if now is None else now
    later = day + DAY if now is None else day
    if hours is not None and not hours.first <= clock.hour < hours.end:
        clock = time(min(max(clock.hour, hours.first), hours.end - 1))
    while True:
        at = datetime.combine(later, clock, zone).astimezone(UTC)
        local = at.astimezone(zone)
        is_open = hours is None or (hours.first <= local.hour < hours.end and local.weekday() in hours.days)
        if at >= after and is_open:
            return at
        later += DAY


def audience_changes(assignment_rows: Sequence[Row], day: date) -> list[Row]:
    """Return ``audience_changes`` of a day: who entered and who left each journey."""
    rows = []
    for row in assignment_rows:
        if row["decision"] in {"start", "switch"}:
            rows.append({"date": day, "journey_id": row["journey_id"], "customer_id": row["customer_id"], "change": "entered"})
        if row["ended_journey_id"] is not None:
            rows.append({"date": day, "journey_id": row["ended_journey_id"], "customer_id": row["customer_id"], "change": "left"})
    return sort(rows, "journey_id", "customer_id", "change")


# --- All of it, day by day -------------------------------------------------------------------------------------------


def decide_day(
    memory: Memory,
    events_so_far: Sequence[Row],
    profile_rows: Sequence[Row],
    queue_rows: Sequence[Row],
    portfolio: Portfolio,
    day: date,
    delivered: Iterable[Row] = (),
    placements: Mapping[str, str] | None = None,
    earlier: Iterable[Row] = (),
) -> dict[str, list[Row]]:
    """Decide a day and remember it: the tables from the option rows to activation, and what is wrong with the ``placements``.

    ``delivered`` are assignment rows of this day whose messages are out; ``placements`` say who enters which journey, if somebody
    else has decided that. ``earlier`` as in ``messages``.
    """
    merged = memory.merge(survivors(events_so_far, day), day)
    now = people(event for event in events_so_far if event["date"] <= day)
    kept, given_up = kept_rows(delivered, survivors(events_so_far, day), memory, portfolio)
    ended = advance(memory, events_so_far, profile_rows, day, portfolio, kept)
    given_up = kept_after_all(kept, given_up, memory, ended)
    for customer, row in given_up:
        if memory.give_up(customer, row["journey_id"], spell_of(row, day)):
            merged[customer] = min(row["journey_id"], merged.get(customer, row["journey_id"]))
    ended = {**{customer: (journey, "merged") for customer, journey in merged.items()}, **ended}
    option_rows = candidates(profile_rows, queue_rows, memory, day, portfolio, kept)
    found = choices(profile_rows, option_rows, memory, day, portfolio, kept, now)
    wishes = {one.customer: worths(one, memory) for one in found if one.kept is None}
    free = places(found, [row for _, row in given_up], memory, portfolio)
    got = {customer: name for customer, name in (placements or {}).items() if customer not in kept}
    says = [] if placements is None else objections(wishes, free, got)
    if placements is None or says:
        got = optimum(wishes, free)
    ruled, state, assignments = decide(found, got, ended, memory, day, portfolio)
    return {
        "objections": [{"date": day, "says": objection} for objection in says],
        "scored_candidates": ruled,
        "journey_state": state,
        "journey_assignments": assignments,
        "outbound_messages": messages(assignments, profile_rows, day, portfolio, earlier),
        "audience_changes": audience_changes(assignments, day),
    }


def run(
    landing: Path,
    portfolio: Portfolio,
    days: Sequence[date],
    changes: Mapping[date, Portfolio] | None = None,
    placements: Mapping[date, Mapping[str, str]] | None = None,
    models: Mapping[date, PurchaseModel] | None = None,
) -> dict[str, list[Row]]:
    """Run consecutive days and return every table with the rows of all of them.

    ``changes`` replaces the portfolio from a day on, as an edited ``journeys.yaml`` does; ``placements`` as in ``decide_day``;
    ``models`` are the fits in use on each day.
    """
    tables: dict[str, list[Row]] = {}
    memory = Memory()
    for day in days:
        portfolio = (changes or {}).get(day, portfolio)
        yesterday = {table: [row for row in rows if row["date"] == day - DAY] for table, rows in tables.items()}
        history = tables.get("raw_events", [])
        raw, rejected, counts = ingest(landing, day, portfolio, history)
        history = [*history, *raw]
        now = survivors(history, day)
        profile_rows = profiles(history, day, portfolio, (models or {}).get(day))
        member_rows = memberships(profile_rows, yesterday.get("micro_segment_memberships", []), day, portfolio, now)
        queue_rows = queues(profile_rows, member_rows, yesterday.get("journey_queues", []), day, portfolio, now)
        sent = [{**row, "customer_id": now.get(row["customer_id"], row["customer_id"])} for row in tables.get("outbound_messages", [])]
        chosen = placements and placements[day]
        today = {
            "raw_events": raw,
            "rejected_events": rejected,
            "counts": [{"date": day, **counts}],
            "identity_map": identity_map(history, day),
            "identity_counts": [identity_counts(history, day)],
            "customer_profiles": profile_rows,
            "micro_segment_memberships": member_rows,
            "journey_queues": queue_rows,
            **decide_day(memory, history, profile_rows, queue_rows, portfolio, day, placements=chosen, earlier=sent),
        }
        for table, rows in today.items():
            tables.setdefault(table, []).extend(rows)
    return tables
