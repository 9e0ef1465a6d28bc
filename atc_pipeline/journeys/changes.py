"""What differs between two portfolios: what is new, changed and removed, key by key, and in marketers' words.

What belongs here: comparing what was resolved, field by field, and what must be made again for it. What does not: the file's
text (comments and layout do not count), or what a change does to customers.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from typing import Any, Literal

import polars as pl

from atc_pipeline.content.templates import Template
from atc_pipeline.escaping import plain
from atc_pipeline.journeys.columns import built_in_columns
from atc_pipeline.journeys.portfolio import (
    EVERYONE_ELSE,
    Audience,
    Block,
    Brand,
    Cap,
    Channel,
    Condition,
    Content,
    EmailContent,
    Goal,
    Intent,
    Journey,
    Layout,
    Metric,
    NotAfter,
    Period,
    Portfolio,
    Publish,
    Queue,
    Reentry,
    Segment,
    Selector,
    Share,
    Signal,
    Step,
    Topic,
    Trait,
    Variant,
)

Kind = Literal[
    "journey", "segment", "trait", "interest", "interests", "intent", "channel", "engagement", "predictions", "policy", "calendar",
    "identity", "portfolio", "audience", "publish", "brand", "layout", "block", "content",
    "metric", "measurement", "learning", "paths",
]  # fmt: skip
How = Literal["new", "changed", "removed"]

UNSET = "not set"
DERIVED = {
    (Condition, "expr"), (Condition, "columns"), (Template, "columns"), (Template, "slots"), (Template, "source"), (Template, "escape"),
    (Layout, "html"),
}  # fmt: skip
"""Fields that follow from others: from the text of a condition, a template or a layout, and the traits."""

_LISTED: Mapping[str, Kind] = {
    "channels": "channel",
    "traits": "trait",
    "topics": "interest",
    "intents": "intent",
    "segments": "segment",
    "journeys": "journey",
    "layouts": "layout",
    "blocks": "block",
    "content": "content",
    "audiences": "audience",
    "metrics": "metric",
}
"""Fields of a portfolio that hold things with an id."""
_SECTIONS: Mapping[str, tuple[Kind, str]] = {
    "version": ("portfolio", "version"),
    "timezone": ("calendar", "timezone"),
    "starts_on": ("calendar", "starts_on"),
    "ends_on": ("calendar", "ends_on"),
    "backfill_days": ("calendar", "backfill_days"),
    "blocked": ("identity", "blocked"),
    "interest_half_life_days": ("interests", "half_life_days"),
    "engagement": ("engagement", ""),
    "predictions": ("predictions", ""),
    "brand": ("brand", ""),
    "publish": ("publish", ""),
    "policy": ("policy", ""),
    "measurement": ("measurement", ""),
    "learning": ("learning", ""),
    "paths": ("paths", ""),
}
_KEYS: Mapping[str, str] = {
    "selector": "of",
    "selector.events": "of",
    "selector.each": "each",
    "selector.where": "where",
    "touches": "touch",
    "responses": "response",
    "daily_entries": "capacity.daily_entries",
    "active": "capacity.active",
    "reentry.counted_from": "reentry.from",
    "dtype": "type",
    "adapt": "variants.adapt",
}
"""Fields that ``journeys.yaml`` calls otherwise."""


@dataclass(frozen=True)
class Edit:
    """One key with its old and new value as text (None = not set); of a list, what was ``added`` and ``removed`` as well."""

    key: str
    before: str | None
    after: str | None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Say it in a line."""
        if self.added or self.removed:
            parts = [*(f"with {item}" for item in self.added), *(f"without {item}" for item in self.removed)]
            return f"{self.key} {', '.join(parts)}".strip()
        return f"{self.key} {UNSET if self.before is None else self.before} → {UNSET if self.after is None else self.after}".strip()


@dataclass(frozen=True)
class Change:
    """One thing that is new, changed or removed; ``gist``: what it is, in a few words."""

    kind: Kind
    id: str
    how: How
    gist: str
    edits: tuple[Edit, ...] = ()

    @property
    def title(self) -> str:
        """Name it."""
        return f"{self.kind} {self.id}".strip()

    @property
    def words(self) -> str:
        """Say it in a line."""
        match self.how:
            case "changed":
                return f"{self.title}: {'; '.join(edit.words for edit in self.edits)}"
            case _:
                return f"{self.title} is {self.how}" + (f" ({self.gist})" if self.gist else "")


@dataclass(frozen=True)
class Changes:
    """All that differs, in the order of the file's sections, and what must be made again for it.

    ``columns``: columns of the profile that are new or made otherwise. ``segments``: micro-segments whose members may be others,
    since they are new or changed, or stand on such a column. ``queues``: likewise the journeys whose queue may be another.
    """

    every: tuple[Change, ...]
    columns: tuple[str, ...]
    segments: tuple[str, ...]
    queues: tuple[str, ...]

    def __bool__(self) -> bool:
        """Tell whether anything differs."""
        return bool(self.every)

    def ids(self, kind: Kind, how: How) -> tuple[str, ...]:
        """Return the ids of this kind that are new, changed or removed."""
        return tuple(change.id for change in self.every if (change.kind, change.how) == (kind, how))

    @property
    def new_journeys(self) -> tuple[str, ...]:
        """Return the ids of journeys that were not there, or drafts."""
        return self.ids("journey", "new")

    @property
    def changed_journeys(self) -> tuple[str, ...]:
        """Return the ids of journeys of which a field differs."""
        return self.ids("journey", "changed")

    @property
    def removed_journeys(self) -> tuple[str, ...]:
        """Return the ids of journeys that are gone, or drafts again."""
        return self.ids("journey", "removed")

    @property
    def words(self) -> tuple[str, ...]:
        """Say everything, a line each."""
        return tuple(change.words for change in self.every)


def changes(before: Portfolio, after: Portfolio) -> Changes:
    """Compare two portfolios."""
    every = [*_sections(before, after)]
    for field, kind in _LISTED.items():
        every += _things(kind, getattr(before, field), getattr(after, field))
    columns = _columns(before, after, every)
    segments = _segments(after, every, columns)
    return Changes(tuple(every), tuple(columns), tuple(segments), tuple(_queues(before, after, every, columns, segments)))


def _sections(before: Portfolio, after: Portfolio) -> Iterator[Change]:
    edits: dict[Kind, list[Edit]] = {}
    for field in fields(Portfolio):
        if field.name not in _LISTED:
            kind, key = _SECTIONS.get(field.name, ("portfolio", field.name))
            edits.setdefault(kind, []).extend(_edits(key, getattr(before, field.name), getattr(after, field.name)))
    for kind, differing in edits.items():
        if not differing:
            continue
        old, new = getattr(before, kind, before), getattr(after, kind, after)
        if old is None or new is None:
            yield Change(kind, "", "removed" if new is None else "new", _summary(old if new is None else new))
        else:
            yield Change(kind, "", "changed", "", tuple(differing))


def _things(kind: Kind, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[Change]:
    old, new = ({thing.id: thing for thing in things} for things in (before, after))
    for id_ in dict.fromkeys((*new, *old)):
        if id_ not in old:
            yield Change(kind, id_, "new", _summary(new[id_]))
        elif id_ not in new:
            yield Change(kind, id_, "removed", _summary(old[id_]))
        elif edits := tuple(_edits("", old[id_], new[id_])):
            yield Change(kind, id_, "changed", _summary(new[id_]), edits)


def _edits(key: str, before: object, after: object) -> Iterator[Edit]:
    if _content(before) == _content(after):
        return
    if isinstance(before, Block) and isinstance(after, Block):
        yield from _edits_of_block(before, after)
    elif is_dataclass(before) and type(before) is type(after) and not isinstance(before, Condition | Template):
        for field in fields(before):
            if (type(before), field.name) not in DERIVED:
                inner = f"{key}.{field.name}" if key else field.name
                yield from _edits(inner, getattr(before, field.name), getattr(after, field.name))
    elif isinstance(before, tuple) and isinstance(after, tuple):
        yield _edit_of_lists(_KEYS.get(key, key), before, after)
    else:
        old, new = _written(before), _written(after)
        if old is not None and new is not None and max(len(old), len(new)) > _LONG:
            old, new = _where_they_part(old, new)
        yield Edit(_KEYS.get(key, key), *((old, new) if old != new else (_generic(before), _generic(after))))


_LONG = 120


def _where_they_part(before: str, after: str) -> tuple[str, str]:
    """Return of two long texts the places where they begin to differ."""
    alike = next((at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), min(len(before), len(after)))
    start = max(0, alike - _LONG // 4)
    old, new = (
        ("…" if start else "") + plain(text[start : start + _LONG], None) + ("…" if start + _LONG < len(text) else "")
        for text in (before, after)
    )
    return old, new


def _edits_of_block(before: Block, after: Block) -> Iterator[Edit]:
    if [variant.id for variant in before.variants] != [variant.id for variant in after.variants]:
        yield _edit_of_lists("variants", before.variants, after.variants)
        return
    for old, new in zip(before.variants, after.variants, strict=True):
        yield from _edits(f"variant {old.id}" if old.id else "", old, new)


def _edit_of_lists(key: str, before: tuple[object, ...], after: tuple[object, ...]) -> Edit:
    old, new = ([_written(item) or UNSET for item in items] for items in (before, after))
    if old == new:
        old, new = ([_generic(item) for item in items] for items in (before, after))
    added, removed = list(new), []
    for item in old:
        if item in added:
            added.remove(item)
        else:
            removed.append(item)
    return Edit(key, ", ".join(old) or None, ", ".join(new) or None, tuple(added), tuple(removed))


def _content(value: object) -> object:
    """Return what counts of a value: all fields, but of a condition its text."""
    if isinstance(value, Condition | Template):
        return value.text or None
    if isinstance(value, Mapping):
        return tuple(sorted((key, _content(item)) for key, item in value.items()))
    if is_dataclass(value) and not isinstance(value, type):
        return (
            type(value).__name__,
            *((field.name, _content(getattr(value, field.name))) for field in fields(value) if (type(value), field.name) not in DERIVED),
        )
    if isinstance(value, tuple):
        return tuple(_content(item) for item in value)
    return value


def _generic(value: object) -> str:
    """Write every field of a value."""
    if is_dataclass(value) and not isinstance(value, Condition | Template):
        return ", ".join(f"{field.name} {_generic(getattr(value, field.name))}" for field in fields(value))
    if isinstance(value, tuple):
        return ", ".join(_generic(item) for item in value)
    return UNSET if (text := _written(value)) is None else text


def _written(value: object) -> str | None:
    """Write a value as people say it."""
    match value:
        case None:
            return None
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return f"{int(value)}" if float(value).is_integer() and abs(value) < 10**15 else repr(value)
        case str():
            return value
        case date():
            return value.isoformat()
        case pl.DataType():
            return str(value)
        case Condition() | Template():
            return value.text or None
        case Mapping():
            return ", ".join(f"{key} {_written(item) or UNSET}" for key, item in value.items()) or None
        case tuple():
            return ", ".join(_written(item) or UNSET for item in value)
        case _:
            return _WORDS[type(value)](value) if type(value) in _WORDS else _generic(value)


def _selected(selector: Selector) -> str:
    events = " or ".join(selector.events) or "any event"
    return events + (f", each of {selector.each}" if selector.each else "") + (f" where {selector.where.text}" if selector.where else "")


def _queue(queue: Queue) -> str:
    named = [
        *([f"any of {', '.join(queue.any)}"] if queue.any else []),
        *([f"all of {', '.join(queue.all)}"] if queue.all else []),
        *([f"none of {', '.join(queue.none)}"] if queue.none else []),
        *([f"where {queue.where.text}"] if queue.where else []),
    ]
    return " and ".join(named)


def _journey(journey: Journey) -> str:
    parts = [_count(journey.length_days, "day"), _count(len(journey.steps), "message"), f"queue: {_queue(journey.queue)}"]
    return ", ".join([*([] if journey.status == "live" else [journey.status]), *parts])


def _trait(trait: Trait) -> str:
    of = [trait.kind, *([trait.property] if trait.property else []), *([f"of {_selected(trait.selector)}"] if trait.selector else [])]
    return " ".join(of) + (f", last {_count(trait.within_days, 'day')}" if trait.within_days else "")


def _metric(metric: Metric) -> str:
    return " ".join([metric.kind, *([f"{metric.summed} of"] if metric.summed else []), _selected(metric.selector)])


def _signal(signal: Signal) -> str:
    return _selected(signal.selector) + (f", weight {_written(signal.weight)}" if signal.weight != 1 else "")


def _intent(intent: Intent) -> str:
    halves = f"half after {_written(intent.half_life_days)} days, full at {_written(intent.full_at)}"
    return f"{'; '.join(_signal(signal) for signal in intent.signals)}; {halves}"


def _goal(goal: Goal) -> str:
    return f"{goal.event} within {_count(goal.within_days, 'day')}" + (f", value {goal.value}" if goal.value else "")


def _step(step: Step) -> str:
    more = [
        f"variant {step.variant}" if step.variant else "",
        f"at {step.at:%H:%M}" if step.at else "",
        f"when {step.when.text}" if step.when else "",
        f"choose {step.choose}" if step.choose != "preferred" else "",
        "repeated" if step.repeat else "",
    ]
    return " ".join([f"day {step.day} {step.channel} {step.content}", *filter(None, more)])


def _channel(channel: Channel) -> str:
    return f"consent {channel.consent}" + (", by people" if channel.human else "") + (f", {channel.medium}" if channel.medium else "")


def _audience(audience: Audience) -> str:
    return f"{audience.journey or audience.segment} to {', '.join(audience.to)}"


def _block(block: Block) -> str:
    if len(block.variants) == 1:
        return plain(" ".join(block.variants[0].text.text.split()), _LONG)
    return f"{_count(len(block.variants), 'variant')}: {', '.join(variant.id for variant in block.variants)}"


def _variant(variant: Variant) -> str:
    share = f" for {_written(variant.share)} of the customers" if variant.share is not None else ""
    return (variant.id or "text") + (f" when {variant.when.text}" if variant.when else "") + share


def _email(email: EmailContent) -> str:
    layout = f" in {email.layout}" if email.layout else ""
    return f"'{email.subject.text}': {', '.join(email.body)}{layout}"


def _message(content: Content) -> str:
    return f"e-mail {_email(content.email)}" if content.email else "nothing yet"


def _brand(brand: Brand) -> str:
    footer = [f"{medium} ends with {block}" for medium, block in brand.footer.items()]
    banned = [_count(len(brand.banned), "banned word")] if brand.banned else []
    return ", ".join([*banned, *([f"links to {', '.join(brand.links)}"] if brand.links else []), *footer])


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number:,} {thing}s"


_WORDS: Mapping[type, Callable[[Any], str]] = {
    Selector: _selected,
    Signal: _signal,
    Topic: lambda topic: "; ".join(_signal(signal) for signal in topic.signals),
    Intent: _intent,
    Trait: _trait,
    Metric: _metric,
    Share: lambda variant: f"{variant.id} {variant.share:.4g}",
    Segment: lambda segment: segment.condition.text,
    Channel: _channel,
    Audience: _audience,
    Brand: _brand,
    Layout: lambda layout: f"{len(layout.text):,} characters",
    Block: _block,
    Variant: _variant,
    Content: _message,
    EmailContent: _email,
    Publish: lambda publish: f"to {', '.join(publish.to)}",
    Queue: _queue,
    Journey: _journey,
    Goal: _goal,
    Step: _step,
    Reentry: lambda reentry: f"{_count(reentry.after_days, 'day')} after {reentry.counted_from}",
    NotAfter: lambda rule: f"{rule.journey} within {_count(rule.within_days, 'day')}",
    Period: lambda period: f"{period.first} to {period.last}",
    Cap: lambda cap: f"{cap.starts.text} starts in {_count(cap.days, 'day')}",
}


def _summary(thing: object) -> str:
    return _written(thing) or ""


def _columns(before: Portfolio, after: Portfolio, every: list[Change]) -> list[str]:
    differing = {change.kind for change in every}
    dates = {edit.key for change in every if change.kind == "calendar" for edit in change.edits}
    named = built_in_columns(
        channels=(channel.id for channel in after.channels),
        addresses=after.addressed,
        topics=(topic.id for topic in after.topics),
        intents=(intent.id for intent in after.intents),
    )
    columns = [*named, *(trait.id for trait in after.traits)]
    if "identity" in differing or dates & {"timezone", "starts_on"}:
        return columns
    channels = {channel.id for channel in before.channels} != {channel.id for channel in after.channels}
    is_mailed_otherwise = set(before.mailed) != set(after.mailed)
    to = {channel.id: channel.to for channel in before.channels}
    sections = {
        *(["channels"] if channels or is_mailed_otherwise else []),
        *(["addresses"] if channels or is_mailed_otherwise else []),
        *(["engagement"] if channels or "engagement" in differing else []),
        *(["interests"] if differing & {"interest", "interests"} else []),
        *(["predictions"] if "predictions" in differing else []),
    }
    changed = {change.id for change in every if change.kind == "trait"}
    changed |= {f"intent_{change.id}" for change in every if change.kind == "intent"}
    changed |= {name for name, column in named.items() if column.section in sections}
    changed |= {trait.id for trait in after.traits if trait.kind == "percentile" and trait.property in changed}
    for channel in after.channels:
        if channel.to is not None and (channel.to in changed or channel.to != to.get(channel.id)):
            changed.add(f"bounced_{channel.id}")
    return [name for name in columns if name in changed]


def _segments(after: Portfolio, every: list[Change], columns: list[str]) -> list[str]:
    touched = {change.id for change in every if change.kind == "segment"}
    segments = [segment.id for segment in after.segments if segment.id in touched or set(segment.condition.columns) & set(columns)]
    return [*segments, *([EVERYONE_ELSE] if segments or touched else [])]


def _queues(before: Portfolio, after: Portfolio, every: list[Change], columns: list[str], segments: list[str]) -> list[str]:
    touched = {change.id for change in every if change.kind == "journey"}
    is_backfilled_otherwise = before.backfill_days < after.backfill_days
    return [
        journey.id
        for journey in after.journeys
        if journey.id in touched
        or is_backfilled_otherwise
        or {*journey.queue.any, *journey.queue.all, *journey.queue.none} & set(segments)
        or any(set(condition.columns) & set(columns) for condition in (journey.queue.where, journey.exit_when) if condition is not None)
    ]
