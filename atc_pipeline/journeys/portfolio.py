"""What the engine runs: ``journeys.yaml`` resolved - every default filled in, every condition compiled and checked.

What belongs here: frozen facts about the portfolio, and names derived from them. What does not: reading YAML
(``document``), resolving it (``resolution``), compiling expressions (``dialect``), or any rule about customers.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, time
from functools import cached_property
from typing import Literal

import polars as pl

from atc_pipeline.content.guardrails import Rules
from atc_pipeline.content.layouts import plain_html
from atc_pipeline.content.templates import Template

NONE = "none"
"""The journey id of the option "no journey"."""
SYSTEM = "system"
"""What stands for all journeys together where a journey's name is expected: the portfolio as a whole."""
EVERYONE_ELSE = "everyone_else"
"""The segment of everybody who is in no other one: nobody is ever without a segment."""

MONEY, RESPONSES, GOAL, GOAL_VALUE = "money", "responses", "goal", "goal_value"
"""Metrics that are built in (SPEC 10)."""

Status = Literal["live", "paused", "draft"]
ConsentRule = Literal["opt_in", "opt_out", "none"]
Medium = Literal["email", "audience"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, eq=False)
class Condition:
    """A checked expression of the dialect, and the columns it reads.

    ``expr`` of a boolean condition never yields null (null counts as false); a numeric one may.
    """

    text: str
    expr: pl.Expr
    columns: Mapping[str, pl.DataType]


@dataclass(frozen=True, eq=False)
class Selector:
    """Which events: by name (empty = all), the array whose items count (``each``), and a condition on their properties."""

    events: tuple[str, ...]
    each: str | None = None
    where: Condition | None = None


@dataclass(frozen=True, eq=False)
class Trait:
    """One profile column, of one of ``kinds.KINDS``.

    ``selector`` is None for ``percentile`` (``property`` = the trait ranked) and ``profile`` (``property`` = the identify trait).
    """

    id: str
    kind: str
    dtype: pl.DataType
    property: str | None = None
    selector: Selector | None = None
    within_days: int | None = None


@dataclass(frozen=True, eq=False)
class Signal:
    """Events that say something about a customer's interest or intent, with the weight of one of them."""

    selector: Selector
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Topic:
    """An interest: its share of all decayed signals is the profile column ``interest_<id>``."""

    id: str
    signals: tuple[Signal, ...]


@dataclass(frozen=True, eq=False)
class Intent:
    """An intent: ``least(1, decayed signals / full_at)`` is the profile column ``intent_<id>``."""

    id: str
    half_life_days: float
    full_at: float
    signals: tuple[Signal, ...]


@dataclass(frozen=True, eq=False)
class Engagement:
    """Which events are touches, which are responses, and how fast both fade."""

    touches: tuple[str, ...]
    responses: tuple[str, ...]
    half_life_days: float


@dataclass(frozen=True)
class Predictions:
    """What the purchase model is fitted on, and how far it looks."""

    order: str
    value: str
    horizon_days: int
    refit_days: int


@dataclass(frozen=True)
class Hours:
    """When a message may arrive, where the customer lives: from ``first`` on, before ``end`` (whole hours), on these days (0 = Monday)."""

    first: int
    end: int
    days: tuple[int, ...]


@dataclass(frozen=True)
class MessageCap:
    """At most so many messages in any ``days`` days in a row."""

    days: int
    messages: int


@dataclass(frozen=True)
class Channel:
    """One way to reach customers.

    ``medium``: what is rendered for it; None = data, which the receiver renders. ``to``: the profile's column with the address.
    ``when``: who is ready for it. ``per_day``: how many customers a day it has room for. ``cost``: of one delivered message, in money.
    """

    id: str
    consent: ConsentRule
    human: bool
    medium: Medium | None = None
    to: str | None = None
    hours: Hours | None = None
    cap: MessageCap | None = None
    per_minute: int | None = None
    late_hours: int = 12
    when: Condition | None = None
    per_day: int | None = None
    cost: float = 0.0


@dataclass(frozen=True, eq=False)
class Metric:
    """What is measured of a customer: a trait of events without a window; ``any`` counts, and of that only whether it is above 0.

    ``summed``: the property that is added up, of ``sum`` and ``avg``.
    """

    id: str
    kind: Literal["count", "sum", "avg", "any"]
    selector: Selector
    summed: str | None = None

    @property
    def trait(self) -> Trait:
        """Return the trait that is kept of it, by day."""
        kind = "count" if self.kind == "any" else self.kind
        return Trait(self.id, kind, pl.Int64() if kind == "count" else pl.Float64(), self.summed, self.selector)


@dataclass(frozen=True)
class Measurement:
    """How it is measured what journeys do (SPEC 10, 11).

    ``money``: the metric that it is told in. ``margin``: what of a unit of it is earned. ``guardrails``: metrics that must not suffer.
    ``cap_at``: the quantile that money is cut off at. ``expected_customers``: for how many the anytime interval is narrowest.
    """

    money: str | None = None
    margin: float | None = None
    guardrails: tuple[str, ...] = ()
    window_days: int | None = None
    before_days: int = 90
    long_days: int = 90
    late_days: int = 3
    cap_at: float | None = None
    expected_customers: int = 5_000
    false_discoveries: float = 0.05
    min_nonzero: int = 50
    tolerance: float = 0.02


@dataclass(frozen=True, eq=False)
class Learning:
    """What is learned of goals, from what, and whether it decides (SPEC 12).

    ``use``: ``shadow`` = beside the score, ``live`` = in it. ``features``: columns of the profile, with their types, in order.
    ``min_goals``: before so many have matured nothing is learned. ``min_entries``: so many of a new journey are a reason to fit anew.
    """

    use: Literal["shadow", "live"] = "shadow"
    refit_days: int = 7
    history_days: int = 365
    min_goals: int = 50
    min_entries: int = 20
    features: Mapping[str, pl.DataType] = field(default_factory=dict)


@dataclass(frozen=True)
class Paths:
    """When a customer's path through journeys is over without a conversion, and after how many silent days somebody counts as quiet."""

    path_days: int = 60
    quiet_days: int = 30


@dataclass(frozen=True)
class Measure:
    """How one journey is measured: other than all are, where it says so. ``decide_on``: the one day named in advance to look."""

    window_days: int | None = None
    metrics: tuple[str, ...] = ()
    decide_on: date | None = None


@dataclass(frozen=True)
class Share:
    """One variant of a journey, and the share of its customers that are in it: from the start on, where shares adapt."""

    id: str
    share: float


@dataclass(frozen=True, eq=False)
class Segment:
    """A micro-segment: everyone for whom the condition holds."""

    id: str
    condition: Condition


@dataclass(frozen=True)
class Period:
    """Days from ``first`` to ``last``, both included."""

    first: date
    last: date


@dataclass(frozen=True)
class Goal:
    """What a journey is for: an event within so many days of entry."""

    event: str
    within_days: int
    value: str | None


@dataclass(frozen=True)
class Step:
    """One message of a journey, sent on its ``day`` (1 = the day of entry) by the first of its ``channels`` that fits the customer.

    ``choose``: whether the customer's preferred channel comes before the others. ``at``: the local time; None = the best hour.
    ``repeat``: whether it goes out although the same content went out in this entry before.
    """

    day: int
    channels: tuple[str, ...]
    content: str
    variant: str | None = None
    when: Condition | None = None
    choose: Literal["preferred", "listed"] = "preferred"
    at: time | None = None
    repeat: bool = False

    @property
    def channel(self) -> str:
        """Name the channel, or all of them as they are listed: as the message's key has it."""
        return "|".join(self.channels)


@dataclass(frozen=True)
class Reentry:
    """A finished customer may enter again so many days after entry or exit."""

    after_days: int
    counted_from: Literal["entry", "exit"]


@dataclass(frozen=True)
class NotAfter:
    """A journey that must not have touched the customer within so many days."""

    journey: str
    within_days: int


@dataclass(frozen=True, eq=False)
class Queue:
    """Who qualifies for a journey: in any of, all of, none of these segments, and the condition holds."""

    any: tuple[str, ...]
    all: tuple[str, ...]
    none: tuple[str, ...]
    where: Condition | None


@dataclass(frozen=True, eq=False)
class Journey:
    """One journey with every default filled in. Drafts are never resolved: they are as if absent."""

    id: str
    name: str
    owner: str | None
    description: str | None
    status: Status
    starts_on: date | None
    ends_on: date | None
    length_days: int
    queue: Queue
    priority: float
    value: float
    mandatory: bool
    interests: tuple[str, ...]
    intents: tuple[str, ...]
    channels: tuple[str, ...]
    goal: Goal | None
    exit_on_goal: bool
    exit_when: Condition | None
    next_journeys: tuple[str, ...]
    only_after: tuple[str, ...]
    not_after: tuple[NotAfter, ...]
    reentry: Reentry | None  # None = never
    max_entries: int | None
    can_interrupt: bool
    interruptible: bool
    must_finish: bool
    daily_entries: int | None
    active: int | None
    holdout: float
    holdout_version: str | None
    suppress: tuple[Period, ...]
    steps: tuple[Step, ...]
    measure: Measure = Measure()
    variants: tuple[Share, ...] = ()
    adapt: bool = False


@dataclass(frozen=True, eq=False)
class Layout:
    """What stands around the blocks of an e-mail: its ``text`` as it was written, and the ``html`` made of it.

    The HTML has ``layouts.BODY`` once, where the blocks go, and ``layouts.PREHEADER`` once.
    """

    id: str
    text: str
    html: str


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to say a block: where its condition holds, or for its share of the customers; both None: for everybody else.

    ``text`` is for text media; ``html`` for e-mail, where a content with an e-mail uses the block.
    """

    id: str
    when: Condition | None
    share: float | None
    text: Template
    html: Template | None


@dataclass(frozen=True, eq=False)
class Block:
    """A part of messages: the first of its variants that fits; a plain block is a variant without an id."""

    id: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True, eq=False)
class EmailContent:
    """What an e-mail says: blocks in order, in a layout (None: ``layouts.PLAIN``)."""

    subject: Template
    preheader: Template | None
    layout: str | None
    body: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Content:
    """One message, for each medium it can take."""

    id: str
    about: str | None
    email: EmailContent | None


@dataclass(frozen=True)
class Limits:
    """How long what people read may be: letters of a subject, kB (1,024 bytes) of an e-mail's HTML."""

    subject: int | None
    email_kb: int | None


@dataclass(frozen=True)
class Brand:
    """What no message may break (SPEC 9.4), and who is shown in previews.

    ``footer``: the block that ends every message of a medium. ``examples``: values of columns.
    """

    languages: tuple[str, ...]
    banned: tuple[str, ...]
    links: tuple[str, ...]
    reading: float | None
    exclamations: int | None
    capitals: float | None
    footer: Mapping[Medium, str]
    limits: Limits
    examples: Mapping[str, object]

    @property
    def rules(self) -> Rules:
        """Return what final texts are tested by."""
        return Rules(self.banned, self.links, self.reading, self.exclamations, self.capitals, self.limits.subject, self.limits.email_kb)


@dataclass(frozen=True)
class Audience:
    """A list of customers that is kept in step at destinations: of a ``journey`` or a ``segment``, one of the two.

    ``match``: columns with what the destination knows people by. ``leave``: what becomes of members who left.
    """

    id: str
    journey: str | None
    segment: str | None
    channel: str
    match: tuple[str, ...]
    fields: tuple[str, ...]
    to: tuple[str, ...]
    leave: Literal["remove", "keep"]


@dataclass(frozen=True)
class Publish:
    """The one answer of each customer, and which columns of the profile go with it to which destinations."""

    to: tuple[str, ...]
    traits: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Cap:
    """At most ``starts`` (an expression of the profile; null = no cap) starts and switches in any ``days`` days."""

    days: int
    starts: Condition


@dataclass(frozen=True, eq=False)
class Policy:
    """How options are scored and chosen."""

    score: Condition
    none: Condition
    prior_propensity: float
    waiting_weight: float
    linked_boost: float
    switch_margin: float
    rest_days: int
    cap: Cap | None
    suppress: tuple[Period, ...]
    suppressed_when: Condition | None
    holdout: float
    explore: float
    keep_candidates: int | None  # None = all
    patience_days: int = 2


def goal_metric(event: str, value: str | None = None) -> str:
    """Name the count of a goal's events; with ``value``, the sum of that property of theirs."""
    return f"goal:{event}" if value is None else f"goal:{event}:{value}"


@dataclass(frozen=True, eq=False)
class Portfolio:
    """Everything ``journeys.yaml`` says, as the engine runs it."""

    version: str
    timezone: str
    starts_on: date
    ends_on: date | None
    backfill_days: int
    blocked: tuple[str, ...]
    channels: tuple[Channel, ...]
    traits: tuple[Trait, ...]
    interest_half_life_days: float
    topics: tuple[Topic, ...]
    intents: tuple[Intent, ...]
    engagement: Engagement | None
    predictions: Predictions | None
    segments: tuple[Segment, ...]
    journeys: tuple[Journey, ...]
    policy: Policy
    layouts: tuple[Layout, ...] = ()
    blocks: tuple[Block, ...] = ()
    content: tuple[Content, ...] = ()
    brand: Brand | None = None
    audiences: tuple[Audience, ...] = ()
    publish: Publish | None = None
    metrics: tuple[Metric, ...] = ()
    measurement: Measurement = Measurement()
    paths: Paths = Paths()
    learning: Learning | None = None

    @property
    def money(self) -> str | None:
        """Name the metric that money is told in: ``measurement.money``, else ``money``, what predictions call the value of an order."""
        return self.measurement.money or (MONEY if self.predictions else None)

    @cached_property
    def measured(self) -> tuple[Metric, ...]:
        """Return the metrics of ``journeys.yaml`` and those built in: ``money`` where none is named, and ``responses``."""
        built_in = []
        if self.measurement.money is None and self.predictions is not None:
            of = self.predictions
            built_in.append(Metric(MONEY, "sum", Selector((of.order,)), of.value))
        if self.engagement is not None:
            built_in.append(Metric(RESPONSES, "count", Selector(self.engagement.responses)))
        return (*self.metrics, *built_in)

    @cached_property
    def goal_metrics(self) -> tuple[Metric, ...]:
        """Return what is counted of goals: the events, and their value where a goal has one; and orders, which tell who is quiet."""
        goals = {(journey.goal.event, value) for journey in self.journeys if journey.goal for value in (None, journey.goal.value)}
        goals |= {(self.predictions.order, None)} if self.predictions is not None else set()
        return tuple(
            Metric(goal_metric(event, value), "count" if value is None else "sum", Selector((event,)), value)
            for event, value in sorted(goals, key=lambda goal: (goal[0], goal[1] or ""))
        )

    def window_days(self, journey: Journey) -> int:
        """Return the days after entry in which outcomes count (SPEC 10)."""
        within = journey.goal.within_days if journey.goal else None
        return journey.measure.window_days or within or self.measurement.window_days or journey.length_days

    @property
    def addressed(self) -> tuple[str, ...]:
        """Name the channels that have an address of their own for each customer."""
        return tuple(channel.id for channel in self.channels if channel.to is not None)

    @property
    def rules(self) -> Rules:
        """Return what final texts are tested by; without a brand, by what is always on."""
        return self.brand.rules if self.brand else Rules()

    def body(self, email: EmailContent) -> tuple[Block, ...]:
        """Return the blocks of an e-mail in order, the brand's footer last."""
        blocks = {block.id: block for block in self.blocks}
        footer = [self.brand.footer["email"]] if self.brand and "email" in self.brand.footer else []
        return tuple(blocks[name] for name in (*email.body, *footer))

    def layout_html(self, email: EmailContent) -> str:
        """Return the HTML around an e-mail's blocks, for ``layouts.html_of``."""
        return next((layout.html for layout in self.layouts if layout.id == email.layout), plain_html())

    @property
    def mailed(self) -> tuple[str, ...]:
        """Name the channels that events about e-mail are about unless they name another: those of that medium or of that name."""
        return tuple(channel.id for channel in self.channels if channel.medium == "email" or channel.id == "email")

    @cached_property
    def fingerprint(self) -> str:
        """Which version of the portfolio this is (SPEC 17): 12 hex digits of the SHA-256 of all it says.

        Comments, layout and the order of what has an id do not count, nor do drafts, nor what is as it is unless said. ``version`` is
        something else: a word of the marketers, by which lots are drawn.
        """
        return hashlib.sha256(json.dumps(_canonical(self), sort_keys=True).encode()).hexdigest()[:12]


def _canonical(value: object) -> object:
    """Return what a value says, as JSON has it: of a condition its text, of what has ids the entries in their order."""
    if isinstance(value, Condition | Template):
        return value.text or None
    if isinstance(value, Layout):
        return {"id": value.id, "text": value.text}
    if isinstance(value, Block):  # the first variant that fits: their order counts
        return {"id": value.id, "variants": [_canonical(variant) for variant in value.variants]}
    if is_dataclass(value):
        # What is as it is unless said does not count, so that a version of ours with more to say leaves the fingerprint as it was.
        written = {each.name: getattr(value, each.name) for each in fields(value) if getattr(value, each.name) != each.default}
        return {name: _canonical(part) for name, part in written.items()}
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, tuple):
        is_named = any(hasattr(each, "id") for each in value)
        return [_canonical(each) for each in (sorted(value, key=lambda named: str(named.id)) if is_named else value)]
    return str(value) if isinstance(value, date | time | pl.DataType) else value


CANDIDATE_TERMS: Mapping[str, pl.DataType] = {
    "propensity": pl.Float64(),
    "baseline": pl.Float64(),
    "uplift": pl.Float64(),
    "value": pl.Float64(),
    "interest_match": pl.Float64(),
    "intent_match": pl.Float64(),
    "priority": pl.Float64(),
    "waiting_days": pl.Int64(),
    "waiting_weight": pl.Float64(),
    "linked_boost": pl.Float64(),
    "length_days": pl.Int64(),
    "mandatory": pl.Boolean(),
    "is_queued": pl.Boolean(),
    "is_incumbent": pl.Boolean(),
}
"""What ``policy.score`` may name besides the profile's columns: the terms of one option row (SPEC 7)."""

DEFAULT_SCORE = (
    "propensity * value * (1 + interest_match) * (1 + intent_match) * (1 + priority / 100.0)"
    " * (1 + waiting_weight * least(waiting_days, 30) / 30.0) * linked_boost"
)
"""Pega's shape (propensity, value, context, levers), each factor neutral at 1 (SPEC 7)."""
