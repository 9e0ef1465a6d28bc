"""What is remembered about a customer so that no day rereads history: accumulators, and how two of them merge.

An accumulator is a commutative monoid: any number of rows, in any order, merge to one (SPEC 3, "Cost"). ``activity`` fills
them per customer and event date, ``profiles`` merges them into the running state and into windows.

What belongs here: which accumulators a portfolio needs, their columns, their merges, and what each feature of a profile is
defined by. What does not: reading events.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import polars as pl

from atc_pipeline.customers import consent
from atc_pipeline.journeys.portfolio import Condition, Portfolio, Selector, Signal, Trait
from atc_pipeline.rules.reach import AT, MICRO, quotient

Merge = Literal["add", "least", "greatest", "earliest", "latest", "decay", "tally", "consent"]

READING = 3
"""Of how values are read from events; counts for every feature (``definitions``). 2: numbers, arrays and objects written as text.
3: of words about consent, the arrival day before when they were received."""

LOW_BITS = 28
"""A sum of values is kept in two columns, ``.high`` and ``.low``: high * 2^28 + low micro-units. Values are below 1e17 of them, so
that 2.5e10 of them fit; in one Int64 it would be 92."""
LARGEST_HIGH = 2**62
"""Where a sum is no longer trusted to fit: half of an Int64."""

QUARTER_HOUR = 900
"""Seconds: every time zone's offset is a whole number of these, so that an hour anywhere can be told later."""
HOURS = "hours"
"""When a customer's events happened: quarters of an hour since 1970, tallied; the running state keeps 24 counts of local hours."""
PURCHASE_DAYS, SETTLED = "predictions.days", "predictions.settled"
"""Recent days with an order; the number of older ones, in the running state only."""
VALUED_DAYS, SETTLED_VALUED = "predictions.valued_days", "predictions.settled_valued"
"""The same for days on which something of value was ordered."""
PURCHASES_WITHIN_DAYS = 90
"""An order that arrives later than that counts as on a day of its own."""
HOURS_WITHIN_DAYS = 90
"""Days that ``best_hour`` looks back (SPEC 3)."""


@dataclass(frozen=True)
class Accumulator:
    """One remembered quantity of a customer.

    ``add``, ``least`` and ``greatest`` are one column; ``earliest`` and ``latest`` are three (``.at``, ``.id``, ``.value``:
    the value of the first or last word, ties by message id); ``decay`` is a sum halved every ``half_life_days``; ``tally`` is
    a list of different values, sorted, each with its number; ``consent`` is what ``consent.columns`` says.

    A decayed sum is that of today, or of the day in the state's column ``on``: sums that are only compared with each other are
    kept as they were when the last of them was added to, so that no age makes nothing of them.
    """

    name: str
    merge: Merge
    dtype: pl.DataType
    half_life_days: float = 1.0
    within_days: int | None = None
    on: str | None = None

    @property
    def slides(self) -> bool:
        """True for a window that is kept up by taking away the day that leaves it: numbers can be, extremes and words cannot."""
        return self.within_days is not None and self.merge in ("add", "tally")

    @property
    def is_reread(self) -> bool:
        """True for a window that is merged anew every day, from the rollups it covers."""
        return self.within_days is not None and not self.slides

    @property
    def is_word(self) -> bool:
        """True for the value of the first or last word said."""
        return self.merge in ("earliest", "latest")

    def columns(self) -> dict[str, pl.DataType]:
        """Columns and types of the daily rollup."""
        if self.is_word:
            return {f"{self.name}.at": AT, f"{self.name}.id": pl.String(), f"{self.name}.value": self.dtype}
        if self.merge == "tally":
            return {self.name: pl.List(pl.Struct({"value": self.dtype, "n": pl.Int64()}))}
        if self.merge == "consent":
            return consent.columns(self.name)
        return {self.name: self.dtype}

    def state_columns(self) -> dict[str, pl.DataType]:
        """Columns and types of the running state: as in the rollup, but decayed sums are real numbers."""
        return {self.name: pl.Float64()} if self.merge == "decay" else self.columns()

    def gather(self, where: pl.Expr | None = None) -> Iterator[pl.Expr]:
        """Merge the rows of a group, those for which ``where`` holds, into one; for all but tallies and consent (``merged``)."""

        def column(name: str) -> pl.Expr:
            return pl.col(name) if where is None else pl.col(name).filter(where)

        if self.is_word:
            order = [column(f"{self.name}.at"), column(f"{self.name}.id")]
            for name in self.columns():
                ordered = column(name).sort_by(order, descending=self.merge == "latest", nulls_last=True)
                yield ordered.first().alias(name)
        elif self.merge == "least":
            yield column(self.name).min().alias(self.name)
        elif self.merge == "greatest":
            yield column(self.name).max().alias(self.name)
        else:
            yield column(self.name).sum().alias(self.name)

    def decayed(self, age_days: pl.Expr) -> pl.Expr:
        """Weigh a rollup's micro-weights by age, in whole 1e-12 units: the sum of a group then has no rounding order."""
        return (pl.col(self.name) * self.left(age_days) * MICRO).round().cast(pl.Int128).alias(self.name)

    def left(self, age_days: pl.Expr) -> pl.Expr:
        """Say what is left of 1 after so many days."""
        return 0.5 ** (age_days / self.half_life_days)

    def absorb(self, new: str) -> Iterator[pl.Expr]:
        """Merge today's columns (the names with suffix ``new``) into the state of yesterday."""
        if self.is_word:
            at, said = pl.col(f"{self.name}.at"), pl.col(f"{self.name}.id")
            new_at, new_said = pl.col(f"{self.name}.at{new}"), pl.col(f"{self.name}.id{new}")
            if self.merge == "latest":
                is_newer = (new_at > at) | ((new_at == at) & (new_said > said))
            else:
                is_newer = (new_at < at) | ((new_at == at) & (new_said < said))
            is_taken = new_at.is_not_null() & (at.is_null() | is_newer)
            for name in self.columns():
                yield pl.when(is_taken).then(f"{name}{new}").otherwise(name).alias(name)
        elif self.merge == "least":
            yield pl.min_horizontal(self.name, f"{self.name}{new}").alias(self.name)
        elif self.merge == "greatest":
            yield pl.max_horizontal(self.name, f"{self.name}{new}").alias(self.name)
        elif self.merge == "add":
            yield (pl.col(self.name).fill_null(0) + pl.col(f"{self.name}{new}").fill_null(0)).alias(self.name)
        else:
            kept, added = pl.col(self.name).fill_null(0.0), quotient(pl.col(f"{self.name}{new}").fill_null(0), MICRO**2)
            if self.on is None:
                yield (kept * 0.5 ** (1.0 / self.half_life_days) + added).alias(self.name)
            else:
                now = pl.max_horizontal(self.on, f"{self.on}{new}")
                parts = ((kept, self.on), (added, f"{self.on}{new}"))
                faded = (part * self.left((now - pl.col(on)).dt.total_days()) for part, on in parts)
                yield pl.sum_horizontal(faded).alias(self.name)  # where there is no day there is nothing to fade


def tally(rows: pl.LazyFrame, keys: Sequence[str], name: str) -> pl.LazyFrame:
    """One row per key with a value left: the tally of ``value``, each as often as its numbers ``n`` add up to."""
    return (
        rows.group_by(*keys, "value")
        .agg(pl.col("n").sum())
        .filter(pl.col("n") != 0)
        .sort(*keys, "value")
        .group_by(*keys, maintain_order=True)
        .agg(pl.struct("value", "n").alias(name))
    )


def spread(rows: pl.LazyFrame, keys: Sequence[str], name: str) -> pl.LazyFrame:
    """One row per key and value of a tally: ``value`` and ``n``."""
    return rows.select(*keys, name).explode(name, empty_as_null=False, keep_nulls=False).unnest(name)


def merged(rows: pl.LazyFrame, keys: Sequence[str], accumulators: Iterable[Accumulator]) -> pl.LazyFrame:
    """One row per key: its rows' accumulators merged."""
    accumulators = list(accumulators)
    plain = [one for one in accumulators if one.merge not in ("tally", "consent")]
    whole = rows.group_by(*keys).agg(expression for one in plain for expression in one.gather())
    for one in accumulators:
        if one.merge == "tally":
            whole = whole.join(tally(spread(rows, keys, one.name), keys, one.name), on=list(keys), how="left")
        elif one.merge == "consent":
            whole = whole.join(consent.merged(rows, keys, one.name), on=list(keys), how="left")
    return whole


def split(micro: pl.Expr, name: str) -> pl.Expr:
    """Return the part of a number of micro-units that the column ``name`` keeps: ``.high`` or ``.low``."""
    high: pl.Expr = micro // 2**LOW_BITS
    return high if name.endswith(".high") else micro - high * 2**LOW_BITS


def total(name: str) -> pl.Expr:
    """Return a sum that is kept in two columns, in micro-units, as the real number next to it: both parts are exact as such."""
    high, low = (pl.col(f"{name}.{part}").fill_null(0).cast(pl.Float64) for part in ("high", "low"))
    return high * float(2**LOW_BITS) + low


def _sum(name: str) -> tuple[Accumulator, Accumulator]:
    return Accumulator(f"{name}.high", "add", pl.Int64()), Accumulator(f"{name}.low", "add", pl.Int64())


def unsafe_sums(state: pl.DataFrame) -> list[str]:
    """Name the sums that have come near to what their columns can hold."""
    names = [name for name in state.columns if name.endswith((".high", ".low")) and state.schema[name] == pl.Int64()]
    if not names or state.is_empty():
        return []
    is_large = (pl.col(names) >= LARGEST_HIGH) | (pl.col(names) <= -LARGEST_HIGH)
    found = state.select(is_large.any()).row(0)
    return [name for name, is_unsafe in zip(names, found, strict=True) if is_unsafe]


def of_trait(trait: Trait) -> tuple[Accumulator, ...]:
    """Return what a trait needs to be remembered; nothing for a percentile."""
    return tuple(replace(one, within_days=trait.within_days) for one in _of_kind(trait))


def _of_kind(trait: Trait) -> tuple[Accumulator, ...]:
    match trait.kind:
        case "count":
            return (Accumulator(f"{trait.id}.n", "add", pl.Int64()),)
        case "sum":
            return _sum(trait.id)
        case "avg":
            return (*_sum(trait.id), Accumulator(f"{trait.id}.n", "add", pl.Int64()))
        case "min":
            return (Accumulator(f"{trait.id}.least", "least", pl.Int64()),)
        case "max":
            return (Accumulator(f"{trait.id}.greatest", "greatest", pl.Int64()),)
        case "first":
            return (Accumulator(trait.id, "earliest", trait.dtype),)
        case "last" | "profile":
            return (Accumulator(trait.id, "latest", trait.dtype),)
        case "days_since_first":
            return (Accumulator(f"{trait.id}.on", "least", pl.Date()),)
        case "days_since_last":
            return (Accumulator(f"{trait.id}.on", "greatest", pl.Date()),)
        case "most_frequent" | "unique_count" | "unique_list":
            return (Accumulator(f"{trait.id}.tally", "tally", pl.String()),)
        case "percentile":
            return ()


@lru_cache(maxsize=8)
def of_profiles(portfolio: Portfolio) -> tuple[Accumulator, ...]:
    """Return what profiles are made from, but for the hours."""
    return (
        Accumulator("timezone", "latest", pl.String()),
        *(Accumulator(f"consent_{channel.id}", "consent", pl.Boolean()) for channel in portfolio.channels),
        *interests(portfolio),
        *(Accumulator(f"intent_{intent.id}", "decay", pl.Int64(), intent.half_life_days) for intent in portfolio.intents),
        *engagement(portfolio),
        *responses_by_channel(portfolio).values(),
        *purchases(portfolio),
        *(part for trait in portfolio.traits for part in of_trait(trait)),
    )


@lru_cache(maxsize=8)
def remembered(portfolio: Portfolio) -> tuple[Accumulator, ...]:
    """Return the accumulators of the running state: everything without a window, the windows that slide, and ``fading_days``."""
    return (*(one for one in of_profiles(portfolio) if not one.is_reread), *fading_days(portfolio))


def reread(portfolio: Portfolio) -> list[Accumulator]:
    """Return the accumulators of the windows that are merged anew every day."""
    return [one for one in of_profiles(portfolio) if one.is_reread]


def interests(portfolio: Portfolio) -> list[Accumulator]:
    """Return the decayed signals of each topic: shares of one total, whenever that was last added to."""
    half_life = portfolio.interest_half_life_days
    return [Accumulator(f"interest_{topic.id}", "decay", pl.Int64(), half_life, on="interests.on") for topic in portfolio.topics]


def fading_days(portfolio: Portfolio) -> list[Accumulator]:
    """Return the days that decayed sums of the state are as of: in the running state only."""
    days = dict.fromkeys(one.on for one in of_profiles(portfolio) if one.on is not None)
    return [Accumulator(day, "greatest", pl.Date()) for day in days]


def engagement(portfolio: Portfolio) -> list[Accumulator]:
    """Return decayed touches and decayed responses, if the portfolio defines engagement."""
    if portfolio.engagement is None:
        return []
    half_life = portfolio.engagement.half_life_days
    sides = ("engagement.touches", "engagement.responses")
    return [Accumulator(side, "decay", pl.Int64(), half_life, on=f"{side}.on") for side in sides]


def responses_by_channel(portfolio: Portfolio) -> dict[str, Accumulator]:
    """Return the decayed responses on each channel, by channel in alphabetical order."""
    if portfolio.engagement is None:
        return {}
    half_life = portfolio.engagement.half_life_days
    channels = sorted(channel.id for channel in portfolio.channels)
    on = "engagement.responses.on"
    return {channel: Accumulator(f"engagement.on.{channel}", "decay", pl.Int64(), half_life, on=on) for channel in channels}


def purchases(portfolio: Portfolio) -> list[Accumulator]:
    """Return what purchases are predicted from: first and last day of the orders, the days with an order, and their value.

    All orders of a day are one transaction, as the models want it: a second one after no time at all would mean an infinite
    rate. Days are told apart for PURCHASES_WITHIN_DAYS, then only counted (``SETTLED``), so that the state does not grow.
    """
    if portfolio.predictions is None:
        return []
    return [
        Accumulator("predictions.first_on", "least", pl.Date()),
        Accumulator("predictions.last_on", "greatest", pl.Date()),
        *_sum("predictions.value"),
        Accumulator(PURCHASE_DAYS, "tally", pl.Date(), within_days=PURCHASES_WITHIN_DAYS),
        Accumulator(VALUED_DAYS, "tally", pl.Date(), within_days=PURCHASES_WITHIN_DAYS),
    ]


def goals(portfolio: Portfolio) -> list[Accumulator]:
    """Return one count per event that is some journey's goal."""
    events = sorted({journey.goal.event for journey in portfolio.journeys if journey.goal})
    return [Accumulator(goal_column(event), "add", pl.Int64()) for event in events]


def goal_column(event: str) -> str:
    """Name the rollup's count of a goal event."""
    return f"goal.{event}"


@lru_cache(maxsize=8)
def in_rollup(portfolio: Portfolio) -> tuple[Accumulator, ...]:
    """Return the accumulators of ``customer_activity``."""
    return (
        Accumulator("events", "add", pl.Int64()),
        Accumulator(HOURS, "tally", pl.Int64()),
        *of_profiles(portfolio),
        *goals(portfolio),
    )


def rollup_schema(portfolio: Portfolio) -> dict[str, pl.DataType]:
    """Columns and types of ``customer_activity``."""
    keys = {"date": pl.Date(), "customer_id": pl.String(), "event_date": pl.Date()}
    return keys | {name: dtype for accumulator in in_rollup(portfolio) for name, dtype in accumulator.columns().items()}


def definitions(portfolio: Portfolio) -> dict[str, str]:
    """Return what each feature of a profile is defined by, as a short fingerprint: days made under another are not to be mixed.

    A feature is what is defined, and changes, as one: a trait, all interests (shares of one total), an intent. What is kept for it
    counts as well: a version of ours may keep something else.
    """
    channels = sorted(channel.id for channel in portfolio.channels)
    said: dict[str, list[object]] = {"calendar": [portfolio.timezone]}
    for name in (f"consent_{channel}" for channel in channels):  # who unsubscribes from a channel that is not ours leaves all of them
        said[name] = [name, channels, *_kept([Accumulator(name, "consent", pl.Boolean())])]
    if portfolio.topics:
        said["interests"] = [portfolio.interest_half_life_days, sorted((topic.id, _signals(topic.signals)) for topic in portfolio.topics)]
        said["interests"] += _kept(interests(portfolio))
    for intent in portfolio.intents:
        said[f"intent_{intent.id}"] = [intent.half_life_days, intent.full_at, _signals(intent.signals)]
    if portfolio.engagement is not None:
        of = portfolio.engagement
        said["engagement"] = [sorted(of.touches), sorted(of.responses), of.half_life_days, channels]
        said["engagement"] += _kept([*engagement(portfolio), *responses_by_channel(portfolio).values()])
    if portfolio.predictions is not None:
        of_model = portfolio.predictions
        said["predictions"] = [of_model.order, of_model.value, of_model.horizon_days, of_model.refit_days]
        said["predictions"] += _kept(purchases(portfolio))
    traits: dict[str, list[object]] = {}
    for trait in portfolio.traits:  # a percentile changes with what it ranks
        selector = _selected(trait.selector) if trait.selector is not None else None
        traits[trait.id] = [trait.kind, str(trait.dtype), trait.property, selector, trait.within_days, _kept(of_trait(trait))]
    for trait in portfolio.traits:
        if trait.kind == "percentile" and trait.property is not None:
            traits[trait.id] = ["percentile", trait.property, traits[trait.property]]
    read = {name: [READING, *what] for name, what in (said | traits).items() if name != "calendar"}
    return {name: hashlib.sha256(repr(what).encode()).hexdigest()[:12] for name, what in (said | read).items()}


def _kept(accumulators: Iterable[Accumulator]) -> list[object]:
    return [(name, str(dtype), one.on) for one in accumulators for name, dtype in one.columns().items()]


def _signals(signals: Sequence[Signal]) -> object:
    return sorted((_selected(signal.selector), signal.weight) for signal in signals)


def _selected(selector: Selector) -> tuple[list[str], str, str]:
    return sorted(selector.events), selector.each or "", selector.where.text if selector.where is not None else ""


def only(portfolio: Portfolio, features: Collection[str]) -> Portfolio:
    """Return the portfolio as if it defined nothing but these features, and what they are made from."""
    consents = {f"consent_{channel.id}" for channel in portfolio.channels}
    ranked = {trait.property for trait in portfolio.traits if trait.kind == "percentile" and trait.id in features}
    return replace(
        portfolio,
        channels=portfolio.channels if any(name == "engagement" or name in consents for name in features) else (),
        topics=portfolio.topics if "interests" in features else (),
        intents=tuple(intent for intent in portfolio.intents if f"intent_{intent.id}" in features),
        engagement=portfolio.engagement if "engagement" in features else None,
        predictions=portfolio.predictions if "predictions" in features else None,
        traits=tuple(trait for trait in portfolio.traits if trait.id in features or trait.id in ranked),
    )


def feature_columns(portfolio: Portfolio) -> set[str]:
    """Name the columns of the rollup, and fields of the state, that only features have: not who, when and where."""
    always = {"events", HOURS, "timezone.at", "timezone.id", "timezone.value"}
    return {column for one in (*in_rollup(portfolio), *fading_days(portfolio)) for column in one.columns()} - always


def channel_is(channel: str) -> Condition:
    """Return the condition on an event that it names this channel."""
    return Condition(f"channel = '{channel}'", (pl.col("channel") == channel).fill_null(value=False), {"channel": pl.String()})


def is_worth_something(property_: str) -> Condition:
    """Return the condition on an order that its value is positive."""
    return Condition(f'"{property_}" > 0', (pl.col(property_) > 0).fill_null(value=False), {property_: pl.Float64()})
