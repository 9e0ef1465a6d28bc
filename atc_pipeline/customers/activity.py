"""Accepted events to the daily rollup: one row per customer and event date, of what arrived on one day.

The rollup is what keeps the cost of a day flat: profiles read it, never the events (SPEC 3, "Cost").

What belongs here: taking properties out of events, and which events count for what. What does not: history, and whether what
was found is as it should be (``coverage``).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
import polars as pl

from atc_pipeline.customers import addresses, consent, documents, remembered
from atc_pipeline.customers.accumulators import Accumulator, split
from atc_pipeline.customers.coverage import ANY, BOUNCES, CONSENT, SUBSCRIPTIONS, Counted, Feature, counted, summed
from atc_pipeline.customers.features import feature_columns, only
from atc_pipeline.customers.merging import merged
from atc_pipeline.customers.traits import of_trait
from atc_pipeline.journeys.portfolio import Condition, Portfolio, Selector
from atc_pipeline.rules import bounces
from atc_pipeline.rules.limits import require_fits
from atc_pipeline.rules.numbers import MICRO
from atc_pipeline.rules.ours import is_ours
from atc_pipeline.rules.people import survivors, whose
from atc_pipeline.tables.parts import in_parallel

SUBSCRIBED, UNSUBSCRIBED = "Subscribed", "Unsubscribed"
"""Events that change consent, for the channel in their property ``channel`` (SPEC 3.2); ``bounces.SPAM`` withdraws it as well."""

EVENTS_AT_ONCE = 1_000_000
"""Events rolled up at once, a shard of the customers each: decoded objects are several times their text."""

SHARDS_AT_ONCE = 2
"""While one of them reads documents, which Python does on one core, the other is grouped."""

LARGEST_WEIGHT = 2**60
"""Micro-weights are summed in an Int64, and several such sums are added up."""
WIDER = "the sums of weights in atc_pipeline/customers/activity.py, or lower EVENTS_AT_ONCE"

_KEYS = ("customer_id", "event_date")
GROUP = "group"
"""The number of an event's customer and event date."""
_COLUMNS = (
    "message_id", "type", "event", "timestamp", "received_at", "event_date", "properties", "traits", "context",
)  # fmt: skip


@dataclass(frozen=True)
class Rollup:
    """One day's events: what they add to customers, and how much of what was asked for was found in them.

    ``activity``: one row per customer and event date (``remembered.rollup_schema``); ``coverage``: see ``tables.FEATURE_COVERAGE``.
    """

    activity: pl.DataFrame
    coverage: pl.DataFrame


def roll_up(
    events: pl.DataFrame | pl.LazyFrame,
    portfolio: Portfolio,
    *,
    arrival: date,
    absorbed: pl.LazyFrame | None = None,
    known: pl.LazyFrame | None = None,
) -> Rollup:
    """Roll one arrival day's events up.

    ``events``: ``raw_events`` of the day, in the same order whenever they are read: once for whose they are, and once for each shard of the
    customers. ``absorbed``: who is somebody else by now (``rules.people.survivors``). ``known``: who is a customer by now, as
    ``customer_id``: what is ours about anybody else is left out.
    """
    schema = remembered.rollup_schema(portfolio)
    merges = None if absorbed is None else absorbed.collect()
    absorbed = None if merges is None or merges.is_empty() else merges.lazy()
    who = survivors(events.lazy().select(whose(portfolio.blocked), is_ours=is_ours()), absorbed).collect().rechunk()
    told_of = who.filter("is_ours").select("customer_id").unique()
    if known is not None and told_of.height:
        strangers = told_of.lazy().join(known, on="customer_id", how="anti").collect()["customer_id"]
        who = who.with_columns(pl.col("customer_id").replace(strangers, None))
    shards = max(1, -(-who.height // EVENTS_AT_ONCE))
    whole = events.lazy().select(_COLUMNS).with_columns(*who, (who["customer_id"].hash() % shards).alias("shard"))

    def of_shard(shard: int) -> tuple[pl.DataFrame, list[Counted]]:
        return _roll_up(whole.filter(pl.col("customer_id").is_not_null() & (pl.col("shard") == shard)), portfolio, arrival)

    parts = in_parallel(of_shard, range(shards), at_once=SHARDS_AT_ONCE)
    activity = (
        pl.concat([part for part, _ in parts])
        .with_columns(pl.lit(arrival).alias("date"))
        .select(*schema)
        .cast(schema)  # type: ignore[arg-type]  # a dict of data types is a schema
        .sort("customer_id", "event_date")
    )
    return Rollup(activity, summed((count for _, counts in parts for count in counts), arrival))


def roll_up_again(
    before: Rollup,
    events: pl.DataFrame | pl.LazyFrame,
    portfolio: Portfolio,
    features: Sequence[str],
    *,
    arrival: date,
    absorbed: pl.LazyFrame | None = None,
    known: pl.LazyFrame | None = None,
) -> Rollup:
    """Roll only these features of a day up again (``features.definitions``), and keep the rest of what there was ``before``."""
    narrowed = only(portfolio, features)
    part = roll_up(events, narrowed, arrival=arrival, absorbed=absorbed, known=known)
    schema = remembered.rollup_schema(portfolio)
    new = [name for name in schema if name in feature_columns(narrowed)]
    old = [name for name in schema if name in before.activity.columns and name not in new]
    activity = before.activity.select(old).join(part.activity.select(*_KEYS, *new), on=_KEYS, how="left", maintain_order="left")
    asked = {feature.name for feature in asked_for(portfolio)}
    again = part.coverage["feature"].unique().implode()
    kept = before.coverage.filter(pl.col("feature").is_in(asked) & ~pl.col("feature").is_in(again))
    activity = activity.select(*schema).sort(_KEYS)  # what there was may lie by shard
    return Rollup(activity, pl.concat([kept, part.coverage]).sort("feature", "part", "event"))


def _roll_up(events: pl.LazyFrame, portfolio: Portfolio, arrival: date) -> tuple[pl.DataFrame, list[Counted]]:
    groups, keyed = _numbered(events.collect().rechunk())
    contributions = _contributions(portfolio)
    arrays = sorted({contribution.selector.each for contribution in contributions}, key=lambda name: name or "")
    counts: list[Counted] = []
    names = keyed.group_by("event").len()
    theirs = keyed.filter(~pl.col("is_ours"))
    happened = dict(zip(names["event"], names["len"], strict=True)) | {ANY: theirs.height}
    facts = [
        _every_event(keyed),
        *(
            _properties(
                keyed, [contribution for contribution in contributions if contribution.selector.each == each], each, happened, counts
            )
            for each in arrays
        ),
        _traits(theirs, portfolio, arrival, counts),
        _subscriptions(keyed, portfolio, arrival, counts),
        _bounces(keyed, portfolio, counts),
        *_timezones(theirs, groups.height),
    ]
    return groups.hstack(merged(facts, GROUP, groups.height, remembered.in_rollup(portfolio))), counts


def _numbered(events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the customers and event dates, sorted, and the events with the number of theirs in place of the customer."""
    groups = events.lazy().select(*_KEYS).with_row_index("row").group_by(_KEYS).agg("row").sort(_KEYS).collect()
    numbers = np.empty(events.height, np.uint32)
    numbers[groups["row"].explode().to_numpy()] = np.repeat(np.arange(groups.height, dtype=np.uint32), groups["row"].list.len().to_numpy())
    return groups.select(*_KEYS), events.drop("customer_id").with_columns(pl.Series(GROUP, numbers))


def _every_event(events: pl.DataFrame) -> pl.DataFrame:
    quarter = pl.when(~pl.col("is_ours")).then(pl.col("timestamp").dt.epoch("s") // remembered.QUARTER_HOUR).alias(remembered.HOURS)
    return events.select(GROUP, quarter, events=(~pl.col("is_ours")).cast(pl.Int64))


@dataclass(frozen=True, eq=False)
class _Contribution:
    """What the matching rows add to one accumulator: 1, a weight in micro-units, the event date, or a property.

    ``feature``: whose it is, where that is to be told.
    """

    accumulator: Accumulator
    selector: Selector
    property: str | None = None
    micro_weight: int = 1
    feature: Feature | None = None


def asked_for(portfolio: Portfolio) -> Iterable[Feature]:
    """Name what ``coverage`` has rows of."""
    yield from (contribution.feature for contribution in _contributions(portfolio) if contribution.feature is not None)
    yield from (Feature(trait.id) for trait in portfolio.traits if trait.kind == "profile")
    yield from (Feature(f"{CONSENT}{channel.id}") for channel in portfolio.channels)
    yield Feature(SUBSCRIPTIONS)
    if portfolio.addressed:
        yield Feature(BOUNCES)


@lru_cache(maxsize=8)
def _contributions(portfolio: Portfolio) -> tuple[_Contribution, ...]:
    return tuple(_contribute(portfolio))


def _contribute(portfolio: Portfolio) -> Iterable[_Contribution]:
    for trait in portfolio.traits:
        if trait.selector is None:
            continue
        for part in of_trait(trait):
            yield _Contribution(part, trait.selector, trait.property, feature=Feature(trait.id))
    carried = {accumulator.name: accumulator for accumulator in remembered.carried(portfolio)}
    weighted = {f"interest_{topic.id}": topic.signals for topic in portfolio.topics}
    weighted |= {f"intent_{intent.id}": intent.signals for intent in portfolio.intents}
    for name, signals in weighted.items():
        for number, signal in enumerate(signals, start=1):
            weight = round(signal.weight * MICRO)
            yield _Contribution(carried[name], signal.selector, micro_weight=weight, feature=Feature(name, number))
    if portfolio.engagement is not None:
        sides = zip(remembered.engagement(portfolio), (portfolio.engagement.touches, portfolio.engagement.responses), strict=True)
        for accumulator, names in sides:
            yield _Contribution(accumulator, Selector(names), micro_weight=MICRO, feature=Feature(accumulator.name))
        for channel, accumulator in remembered.responses_by_channel(portfolio).items():
            answered = Selector(portfolio.engagement.responses, where=_channel_is(channel))
            yield _Contribution(accumulator, answered, micro_weight=MICRO)
    if portfolio.predictions is not None:
        first, last, high, low, days, valued_days = remembered.purchases(portfolio)
        value = portfolio.predictions.value
        ordered = Selector((portfolio.predictions.order,))
        sold = Selector(ordered.events, where=_is_worth_something(value))
        yield from (_Contribution(accumulator, ordered, feature=Feature("predictions.order")) for accumulator in (first, last, days))
        yield from (_Contribution(accumulator, sold, value, feature=Feature("predictions.value")) for accumulator in (high, low))
        yield _Contribution(valued_days, sold)
    for accumulator in remembered.goals(portfolio):
        yield _Contribution(accumulator, Selector((accumulator.name.removeprefix("goal."),)), feature=Feature(accumulator.name))


def _channel_is(channel: str) -> Condition:
    """Return the condition on an event that it names this channel."""
    return Condition(f"channel = '{channel}'", (pl.col("channel") == channel).fill_null(value=False), {"channel": pl.String()})


def _is_worth_something(property_: str) -> Condition:
    """Return the condition on an order that its value is positive."""
    return Condition(f'"{property_}" > 0', (pl.col(property_) > 0).fill_null(value=False), {property_: pl.Float64()})


def _properties(
    events: pl.DataFrame, contributions: list[_Contribution], each: str | None, happened: dict[str, int], counts: list[Counted]
) -> pl.DataFrame:
    """One row per event that is asked for (or per item of its array ``each``), one column per accumulator that it adds to.

    ``happened``: number of events by name. What is told of the features goes into ``found``.
    """
    events = _select_named(events, contributions)
    rows = events.select(GROUP, "event", "event_date", "timestamp", "is_ours", said="message_id")
    wanted = {field for contribution in contributions for field in _list_fields(contribution)}
    no_items = rows.clear().with_columns(shape=pl.lit(None, dtype=pl.String))
    if each is None:
        read = [
            contribution for contribution in contributions if contribution.property is not None or contribution.selector.where is not None
        ]
        typed = rows.with_columns(documents.read_fields(_properties_of(events, _name_events(read)), wanted))
    else:
        items = documents.read_items(events["properties"], each, wanted)
        item_id = pl.concat_str("said", pl.lit("#"), items.places.cast(pl.String).str.zfill(5))
        typed = rows[items.owners].with_columns(item_id.alias("said"), *items.columns)
        if items.unread:
            owners, shapes = zip(*items.unread, strict=True)
            no_items = rows[list(owners)].with_columns(shape=pl.Series(shapes, dtype=pl.String))
    held = _evaluate(typed, [contribution.selector.where for contribution in contributions if contribution.selector.where is not None])
    typed = typed.with_columns(held)
    masks = {_mask_column(contribution.selector): _mask(contribution.selector) for contribution in contributions}
    typed = typed.with_columns(**masks)
    weights: Counter[str] = Counter()
    for contribution in contributions:
        weights[contribution.accumulator.name] += contribution.micro_weight
    heaviest = max(weights.values(), default=0)
    require_fits(typed.height * heaviest, LARGEST_WEIGHT, "micro-weights of a shard of the day's events", WIDER)
    columns: dict[str, list[pl.Expr]] = {}
    by_feature: dict[Feature, _Contribution] = {}
    for contribution in contributions:
        for name, expression in _fill(contribution).items():
            columns.setdefault(name, []).append(expression)
        if contribution.feature is not None:
            by_feature.setdefault(contribution.feature, contribution)
    counts += _count_features(by_feature, typed, no_items, happened)
    return typed.select(GROUP, **{name: _add_up(parts) for name, parts in columns.items()})


def _count_features(
    features: dict[Feature, _Contribution], rows: pl.DataFrame, no_items: pl.DataFrame, happened: dict[str, int]
) -> Iterable[Counted]:
    """Count what was found of features; values that cannot be read are few, and looked at only where there are any."""
    there = set(rows.columns)
    counts = {name: pl.col(name).sum() for name in {_mask_column(contribution.selector) for contribution in features.values()}}
    for contribution in features.values():
        if contribution.property is not None:
            value = documents.column(contribution.property, _value_type(contribution.accumulator))
            counts[_read_column(contribution)] = (pl.col(_mask_column(contribution.selector)) & pl.col(value).is_not_null()).sum()
    numbers = rows.select(**counts).row(0, named=True) if counts else {}
    for feature, contribution in features.items():
        skipped = [no_items.filter(_is_named(contribution.selector)).select("said", "shape")] if no_items.height else []
        fields = {
            documents.unread(*field): False
            for field in (contribution.selector.where.columns.items() if contribution.selector.where else ())
        }
        if contribution.property is not None:
            fields = {documents.unread(contribution.property, _value_type(contribution.accumulator)): True} | {**fields}
        for column, is_of_meant in fields.items():
            if column in there:
                among = pl.col(_mask_column(contribution.selector)) if is_of_meant else _is_named(contribution.selector)
                skipped.append(rows.filter(among & pl.col(column).is_not_null()).select("said", shape=column))
        matched = numbers[_mask_column(contribution.selector)]
        if contribution.property is not None:
            read = numbers[_read_column(contribution)]
        else:
            read = (
                matched
                if not skipped
                else max(0, rows.filter(_is_named(contribution.selector)).height - sum(frame.height for frame in skipped))
            )
        yield counted(feature, {name: happened.get(name, 0) for name in contribution.selector.events or (ANY,)}, matched, read, skipped)


def _name_events(contributions: list[_Contribution]) -> list[str] | None:
    """Name the events that are asked for; None = all."""
    selected = [contribution.selector.events for contribution in contributions]
    return sorted({name for names in selected for name in names}) if all(selected) else None


def _select_named(events: pl.DataFrame, contributions: list[_Contribution]) -> pl.DataFrame:
    names = _name_events(contributions)
    return events if names is None else events.filter(pl.col("event").is_in(names))


def _properties_of(events: pl.DataFrame, names: list[str] | None) -> pl.Series:
    """Return the properties of the events that something is read from; the others need not be decoded."""
    if names is None:
        return events["properties"]
    return events.select(pl.when(pl.col("event").is_in(names)).then("properties").alias("properties"))["properties"]


def _add_up(parts: list[pl.Expr]) -> pl.Expr:
    return parts[0] if len(parts) == 1 else pl.sum_horizontal(parts)


def _list_fields(contribution: _Contribution) -> Iterable[tuple[str, pl.DataType]]:
    if contribution.selector.where is not None:
        yield from contribution.selector.where.columns.items()
    if contribution.property is not None:
        yield contribution.property, _value_type(contribution.accumulator)


def _value_type(accumulator: Accumulator) -> pl.DataType:
    return accumulator.dtype if accumulator.is_word or accumulator.merge == "tally" else pl.Float64()


@lru_cache(maxsize=4096)
def _mask(selector: Selector) -> pl.Expr:
    """True in the rows that the selector means."""
    return _is_named(selector) if selector.where is None else _is_named(selector) & pl.col(_condition_column(selector.where))


def _mask_column(selector: Selector) -> str:
    """Name the column of its ``_mask``: one for all selectors that mean the same."""
    return f"mask:{selector.events}:{selector.where.text if selector.where is not None else ''}"


def _read_column(contribution: _Contribution) -> str:
    return f"read:{contribution.property}:{_value_type(contribution.accumulator)}:{_mask_column(contribution.selector)}"


def _is_named(selector: Selector) -> pl.Expr:
    """True where an event is named, or where every one is meant: then those that are not ours."""
    return pl.col("event").is_in(list(selector.events)).fill_null(value=False) if selector.events else ~pl.col("is_ours")


def _condition_column(condition: Condition) -> str:
    return f"holds:{condition.text}"


def _evaluate(rows: pl.DataFrame, conditions: Iterable[Condition]) -> list[pl.Series]:
    """One Boolean column per condition.

    A condition names properties plainly, but two may read the same property as different types: those that agree are
    evaluated together.
    """
    groups: list[tuple[dict[str, pl.DataType], dict[str, pl.Expr]]] = []
    for condition in conditions:
        agreeing = (group for group in groups if all(group[0].get(name, dtype) == dtype for name, dtype in condition.columns.items()))
        group = next(agreeing, None)
        if group is None:
            groups.append(group := ({}, {}))
        group[0].update(condition.columns)
        group[1][_condition_column(condition)] = condition.expr
    held = []
    for types, expressions in groups:
        read = [pl.col(documents.column(name, dtype)).alias(name) for name, dtype in types.items()]
        row = f"row:{''.join(types)}"  # longer than the name of any property
        evaluated = rows.select(pl.int_range(pl.len()).alias(row), *read).with_columns(**expressions)
        held += [evaluated[name] for name in expressions]
    return held


@lru_cache(maxsize=4096)
def _fill(contribution: _Contribution) -> Mapping[str, pl.Expr]:
    """Fill the accumulator's columns in the rows that match, and leave null elsewhere."""
    accumulator, mask = contribution.accumulator, pl.col(_mask_column(contribution.selector))
    if contribution.property is None:
        value = pl.col("event_date") if accumulator.dtype == pl.Date() else pl.lit(contribution.micro_weight, dtype=pl.Int64)
        return {accumulator.name: pl.when(mask).then(value)}
    value = pl.col(documents.column(contribution.property, _value_type(accumulator)))
    is_said = mask & value.is_not_null()
    if accumulator.is_word:
        return {
            f"{accumulator.name}.at": pl.when(is_said).then("timestamp"),
            f"{accumulator.name}.id": pl.when(is_said).then("said"),
            f"{accumulator.name}.value": pl.when(is_said).then(value),
        }
    if accumulator.merge == "tally":
        return {accumulator.name: pl.when(is_said).then(value)}
    if accumulator.name.endswith(".n"):
        return {accumulator.name: pl.when(is_said).then(pl.lit(1, dtype=pl.Int64))}
    micro = (value * MICRO).round().cast(pl.Int64)
    if accumulator.merge == "add":
        micro = split(micro, accumulator.name)
    return {accumulator.name: pl.when(is_said).then(micro)}


def _traits(events: pl.DataFrame, portfolio: Portfolio, arrival: date, counts: list[Counted]) -> pl.DataFrame:
    """One row per ``identify``: profile traits and consent."""
    profile = [(trait.id, trait.property or trait.id, trait.dtype) for trait in portfolio.traits if trait.kind == "profile"]
    agreed = [f"consent_{channel.id}" for channel in portfolio.channels]
    calls = events.filter(pl.col("type") == "identify")
    calls = calls.with_columns(documents.spelled_as(calls["traits"], agreed))
    typed = _with_fields(calls, "traits", {*(word[1:] for word in profile), *((name, documents.CONSENT) for name in agreed)})
    counts += [_count_trait(name, typed, property_, dtype) for name, property_, dtype in profile]
    counts += [_count_trait(f"{CONSENT}{name.removeprefix('consent_')}", typed, name, documents.CONSENT) for name in agreed]
    if typed.is_empty():
        return typed.select(GROUP)
    consents: list[pl.Expr] = []
    for name in agreed:
        value = pl.col(documents.column(name, documents.CONSENT))
        consents += consent.words(name, is_granted=value == 1, is_withdrawn=value == 0, arrival=arrival, timezone=portfolio.timezone)
    of_addresses = addresses.said(portfolio)
    values = {name: pl.col(documents.column(property_, dtype)) for name, property_, dtype in profile}
    if of_addresses:
        typed = typed.sort(GROUP, "timestamp", "said")
    return typed.select(
        GROUP,
        *(column for name, value in values.items() for column in _word(name, value)),
        *(addresses.first_said(values[name], [GROUP]).alias(accumulator.name) for name, accumulator in of_addresses.items()),
        *consents,
    )


def _count_trait(feature: str, typed: pl.DataFrame, property_: str, dtype: pl.DataType) -> Counted:
    """Count what was found of a feature that is read from ``identify`` traits."""
    unread = documents.unread(property_, dtype)
    skipped = [typed.filter(pl.col(unread).is_not_null()).select("said", shape=unread)] if unread in typed.columns else []
    read = typed[documents.column(property_, dtype)].count()
    return counted(Feature(feature), {"identify": typed.height}, read, read, skipped)


def _subscriptions(events: pl.DataFrame, portfolio: Portfolio, arrival: date, counts: list[Counted]) -> pl.DataFrame:
    """One row per ``Subscribed``, ``Unsubscribed`` or complaint: consent for the channel named, in any case; unsubscribing from nothing
    in particular, or from nothing of ours, withdraws it for all; a complaint about no channel of ours for those of e-mail, if any."""
    words = (SUBSCRIBED, UNSUBSCRIBED, bounces.SPAM)
    calls = events.filter((pl.col("type") == "track") & pl.col("event").is_in(words))
    typed = _with_fields(calls, "properties", [("channel", pl.String())])
    unread = documents.unread("channel", pl.String())
    shape = pl.col(unread) if unread in typed.columns else pl.lit(None, dtype=pl.String)
    named = pl.col(documents.column("channel", pl.String())).str.strip_chars().str.to_lowercase()
    ours = [channel.id for channel in portfolio.channels]  # in lower case, as the grammar has them
    is_ours, is_given = named.is_in(ours).fill_null(value=False), pl.col("event") == SUBSCRIBED
    is_foreign = shape.is_not_null() | ((named.fill_null("") != "") & ~is_ours)
    foreign = typed.filter(is_foreign).select("said", shape=pl.coalesce(shape, pl.lit("a channel that is not ours")))
    happened = {name: typed.filter(pl.col("event") == name).height for name in words}
    counts.append(counted(Feature(SUBSCRIPTIONS), happened, typed.height, typed.height - foreign.height, [foreign]))
    if typed.is_empty():
        return typed.select(GROUP)
    consents: list[pl.Expr] = []
    mailed = portfolio.mailed or ours
    for channel in ours:
        is_this = (named == channel).fill_null(value=False)
        is_meant = ~is_ours if channel in mailed else ~is_ours & (pl.col("event") == UNSUBSCRIBED)
        consents += consent.words(
            f"consent_{channel}",
            is_granted=is_this & is_given,
            is_withdrawn=(is_this | is_meant) & ~is_given,
            arrival=arrival,
            timezone=portfolio.timezone,
        )
    return typed.select(GROUP, *consents)


def _bounces(events: pl.DataFrame, portfolio: Portfolio, counts: list[Counted]) -> pl.DataFrame:
    """One row per hard bounce: when, for the channel named if it is one of ours, else for those of e-mail."""
    remembered_of = addresses.bounces(portfolio)
    if not remembered_of:
        return events.select(GROUP).clear()
    calls = events.filter((pl.col("type") == "track") & (pl.col("event") == bounces.BOUNCED))
    typed = _with_fields(calls, "properties", addresses.FIELDS)
    kinds = pl.coalesce(documents.column(name, pl.String()) for name in bounces.KINDS)
    unclear = typed.filter(kinds.is_null()).select("said", shape=pl.lit("no kind of bounce"))
    hard = typed.filter(addresses.is_hard())
    counts.append(counted(Feature(BOUNCES), {bounces.BOUNCED: typed.height}, typed.height, typed.height - unclear.height, [unclear]))
    named = pl.col(documents.column("channel", pl.String())).str.strip_chars().str.to_lowercase()
    is_ours_named = named.is_in([channel.id for channel in portfolio.channels]).fill_null(value=False)
    return hard.select(
        GROUP,
        *(
            pl.when((named == channel).fill_null(value=False) | (~is_ours_named & pl.lit(channel in portfolio.mailed)))
            .then("timestamp")
            .alias(accumulator.name)
            for channel, accumulator in remembered_of.items()
        ),
    )


_CONTEXT = Accumulator("context", "latest", pl.String())


def _timezones(events: pl.DataFrame, groups: int) -> Iterable[pl.DataFrame]:
    """One row per event that may be the last of its group to tell the customer's time zone: nearly always the last that has the word."""
    calls = events.filter(pl.col("context").str.contains("timezone", literal=True)).select(GROUP, "timestamp", "context", said="message_id")
    last = merged([calls.select(GROUP, *_word("context", pl.col("context")))], GROUP, groups, [_CONTEXT])
    last = last.with_row_index(GROUP).filter(pl.col("context.at").is_not_null())
    of_last = _read_timezones(last.select(GROUP, timestamp="context.at", context="context.value", said="context.id"))
    yield of_last
    untold = of_last.filter(pl.col("timezone.value").is_null())
    if untold.height:
        yield _read_timezones(calls.join(untold, on=GROUP, how="semi"))


def _read_timezones(calls: pl.DataFrame) -> pl.DataFrame:
    typed = calls.with_columns(documents.read_fields(calls["context"], [("timezone", pl.String())]))
    return typed.select(GROUP, *_word("timezone", pl.col(documents.column("timezone", pl.String()))))


def _word(name: str, value: pl.Expr) -> Iterable[pl.Expr]:
    is_said = value.is_not_null()
    yield pl.when(is_said).then("timestamp").alias(f"{name}.at")
    yield pl.when(is_said).then("said").alias(f"{name}.id")
    yield value.alias(f"{name}.value")


def _with_fields(events: pl.DataFrame, objects: str, wanted: Iterable[documents.Field]) -> pl.DataFrame:
    """One row per event, with fields of one of its JSON objects."""
    return events.select(GROUP, "event", "timestamp", "received_at", *documents.read_fields(events[objects], wanted), said="message_id")
