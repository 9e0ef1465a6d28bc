"""What the marketers wrote: ``journeys.yaml`` as frozen models, the complete grammar and nothing else.

What belongs here: the shape and range of every single value, and what each key means (the descriptions go into the JSON Schema
that editors complete from). What does not: bytes and YAML (``reading``), whether names exist, rules between keys, defaults that
depend on other keys (``resolution``), or what an expression means (``dialect``).
"""

from collections.abc import Mapping
from datetime import date
from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import (
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    PrivateAttr,
    Strict,
    Tag,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails

from atc_pipeline.journeys.dialect import nearest, shortened
from atc_pipeline.journeys.kinds import KINDS, Takes, TraitKind
from atc_pipeline.journeys.measuring import METRICS, Learning, Measure, Measurement, OfItsKind, Paths, Variants
from atc_pipeline.journeys.portfolio import DEFAULT_SCORE, WEEKDAYS, ConsentRule, Status, Weekday
from atc_pipeline.journeys.problems import MOST_PROBLEMS, JourneysError, Place, Source
from atc_pipeline.journeys.reading import parse_values
from atc_pipeline.journeys.shapes import (
    FIRST,
    LAST,
    Clock,
    ColumnName,
    Condition,
    ContentName,
    Day,
    Days,
    EventCondition,
    EventName,
    EventNames,
    Events,
    Flag,
    JourneyName,
    LongText,
    Model,
    Name,
    Number,
    NumberExpression,
    Share,
    Text,
    Whole,
)
from atc_pipeline.journeys.wording import Block, Brand, Content, Written


class Calendar(Model):
    """Whose days are counted, and from when."""

    timezone: Text = Field(description="The time zone whose days are the business days.", examples=["Europe/Berlin"])
    starts_on: Day = Field(description="The first day of the lake: nothing is computed for days before it.")
    ends_on: Day | None = Field(
        default=None, description="The last day of the lake, included: nothing is computed for days after it; it goes on unless said."
    )
    backfill_days: Days = Field(
        default=30,
        description="For so many days back the queue of a journey that was added or changed is built, so that whoever qualifies already "
        "has waited already.",
    )


class Identity(Model):
    """Who is a customer."""

    blocked: tuple[Text, ...] = Field(
        default=(),
        description="Values of userId and anonymousId that identify nobody, in any case, besides null, undefined, guest and the like.",
        examples=[["web-kiosk", "store-tablet"]],
    )


class Hours(Model):
    """When a message may arrive, where the customer lives."""

    first: Annotated[int, Strict(), Field(ge=0, le=23)] = Field(alias="from", description="From this hour on.")
    end: Annotated[int, Strict(), Field(ge=1, le=24)] = Field(alias="to", description="Before this hour of the same day.")
    days: Annotated[tuple[Weekday, ...], Field(min_length=1)] = Field(default=WEEKDAYS, description="On these days; every day unless said.")


class MessageCap(Model):
    """How many messages a customer may get on a channel in a while."""

    days: Days = Field(description="In any so many days in a row ...")
    messages: Annotated[Whole, Field(ge=1)] = Field(description="... at most so many.")


class Channel(Model):
    """One way to reach customers."""

    consent: ConsentRule = Field(
        description="opt_in: usable only where the customer said yes; opt_out: usable unless the customer said no; none: no consent needed."
    )
    human: Flag = Field(default=False, description="Whether a person, not a machine, delivers on this channel.")
    medium: Literal["email", "audience", "sms", "push", "chat", "slot"] | None = Field(
        default=None,
        description="What is rendered for it: email. audience: may be told to destinations. Without it: data, which the receiver renders.",
    )
    to: Text | None = Field(
        default=None, description="The profile column with the address: whoever has none cannot be reached here.", examples=["email"]
    )
    hours: Hours | None = Field(default=None, description="When a message may arrive, where the customer lives; at any hour unless said.")
    cap: MessageCap | None = Field(default=None, description="How many messages a customer may get in a while; any number unless said.")
    per_minute: Annotated[Whole, Field(ge=1)] | None = Field(default=None, description="Messages are handed over no faster than this.")
    late_hours: Annotated[Whole, Field(ge=1, le=8_760)] = Field(
        default=12, description="A message that could not be handed over for so many hours after its time is not handed over at all."
    )
    when: Condition | None = Field(default=None, description="Only for customers for whom this condition on the profile holds.")
    per_day: Annotated[Whole, Field(ge=1)] | None = Field(default=None, description="At most so many customers a day, the best first.")
    cost: Annotated[Number, Field(ge=0)] = Field(default=0.0, description="What one delivered message costs, in money.")


class Trait(Model):
    """What is kept per customer under one name; of which kind says the key that has the kind's name (``TRAITS``)."""

    kind: ClassVar[str]


class EventTrait(Trait):
    """A trait made from events."""

    of: Events
    each: Text | None = Field(
        default=None, description="Count the items of this array of the event, not the event itself.", examples=["products"]
    )
    where: EventCondition | None = Field(
        default=None, description="Only events (or items of 'each') whose properties satisfy this condition."
    )
    within_days: Days | None = Field(
        default=None, description="Only events of the last so many days, today included; without it, all history."
    )


class PropertyTrait(EventTrait):
    """A trait made from a property of events."""

    property: Text
    of: Events = Field(description='The event, or events, that carry the property; "*" is every event.')


class RankTrait(Trait):
    """A trait made from another trait, of all customers."""

    property: Text


class ProfileTrait(Trait):
    """A trait that identify calls say."""

    property: Text
    type: Literal["string", "number", "boolean", "date"] = Field(description="How to read its value; values of another type are skipped.")


_BASES: Mapping[Takes, type[Trait]] = {"events": EventTrait, "property": PropertyTrait, "trait": RankTrait, "profile": ProfileTrait}


def _trait_model(name: str, kind: TraitKind) -> type[Trait]:
    """Build the model of a kind: its base with the kind's name as the key of what is counted, added up, listed ..."""
    field: Any = Field(alias=name, description=kind.key, examples=[kind.example] if kind.example else None)
    named: dict[str, Any] = {"of": (Events, field)} if kind.takes == "events" else {"property": (Text, field)}
    title = f"{name.title().replace('_', '')}Trait"
    base: Any = _BASES[kind.takes]
    model = cast("type[Trait]", create_model(title, __base__=base, __doc__=kind.meaning, __module__=__name__, **named))
    model.kind = name
    return model


TRAITS: Mapping[str, type[Trait]] = {name: _trait_model(name, kind) for name, kind in KINDS.items()}
"""The model of each kind of trait."""


def _trait_tag(value: object) -> str | None:
    if isinstance(value, Trait):
        return f"<{value.kind}>"
    kinds = [kind for kind in KINDS if isinstance(value, dict) and kind in value]
    return f"<{kinds[0]}>" if len(kinds) == 1 else None


class _OfItsKind:
    """Reads a trait as the model of its kind."""

    def __get_pydantic_core_schema__(self, _trait: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Tags stand in angle brackets, so that they can be told from keys in the places pydantic reports.
        models: list[Any] = [Annotated[model, Tag(f"<{kind}>")] for kind, model in TRAITS.items()]
        return handler.generate_schema(Annotated[reduce(or_, models), Discriminator(_trait_tag)])


class Signal(Model):
    """Events that say something about an interest or an intent."""

    event: Events = Field(description='The event, or events, that count; "*" is every event.')
    each: Text | None = Field(default=None, description="Count the items of this array of the event.", examples=["products"])
    where: EventCondition | None = Field(default=None, description="Only events (or items) whose properties satisfy this condition.")
    weight: Annotated[Number, Field(ge=0, le=1000)] = Field(default=1.0, description="What one of them counts for; 1 unless said.")


class Interests(Model):
    """What customers care about, by topic: each topic's share of a customer's fading signals."""

    half_life_days: Annotated[Number, Field(gt=0)] = Field(default=30.0, description="After so many days a signal counts half.")
    topics: dict[Name, Annotated[tuple[Signal, ...], Field(min_length=1)]] = Field(
        description="Each topic's signals; topic x becomes the profile column interest_x."
    )


class Intent(Model):
    """What customers are about to do: fading signals, 1 where they add up to 'full_at'."""

    half_life_days: Annotated[Number, Field(gt=0)] = Field(description="After so many days a signal counts half.")
    full_at: Annotated[Number, Field(gt=0)] = Field(description="The sum of weights at which the intent is certain (1).")
    signals: Annotated[tuple[Signal, ...], Field(min_length=1)] = Field(description="What points to the intent.")


class Engagement(Model):
    """How much customers respond to what they are sent: fading responses by fading touches."""

    touch: EventNames = Field(description="Events by which we reach out.", examples=[["Message Sent", "Campaign Received"]])
    response: EventNames = Field(description="Events by which customers respond.", examples=[["Message Opened", "Message Clicked"]])
    half_life_days: Annotated[Number, Field(gt=0)] = Field(default=30.0, description="After so many days an event counts half.")


class Predictions(Model):
    """What future orders are predicted from."""

    order: EventName = Field(description="The event of a purchase.", examples=["Order Completed"])
    value: Text = Field(description="Its numeric property with the money.", examples=["revenue"])
    horizon_days: Days = Field(default=90, description="How many days predictions look ahead.")
    refit_days: Days = Field(default=7, description="The model is fitted anew every so many days.")


class Queue(Model):
    """Who qualifies. At least one of the four; a customer must satisfy every one that is given."""

    any: tuple[Text, ...] = Field(default=(), description="In at least one of these segments.")
    all: tuple[Text, ...] = Field(default=(), description="In every one of these segments.")
    none: tuple[Text, ...] = Field(default=(), description="In none of these segments.")
    where: Condition | None = Field(default=None, description="And this condition on the customer's profile holds.")


class Goal(Model):
    """What the journey is for."""

    event: EventName = Field(description="The event that reaches the goal.", examples=["Order Completed"])
    within_days: Days | None = Field(default=None, description="Counted so many days after entry; the journey's length unless said.")
    value: Text | None = Field(default=None, description="The event's numeric property with the money.", examples=["revenue"])


class Reentry(Model):
    """When a customer may enter again."""

    after_days: Annotated[int, Strict(), Field(ge=0, le=36_500)] = Field(description="After so many days.")
    counted_from: Literal["entry", "exit"] = Field(default="exit", alias="from", description="Counted from entering or from leaving.")


class NotAfter(Model):
    """A journey this one keeps a distance from."""

    journey: Text = Field(description="The other journey.")
    within_days: Days = Field(description="Not for customers who were in it within so many days.")


class Capacity(Model):
    """How many customers a journey can take."""

    daily_entries: Annotated[Whole, Field(ge=0)] | None = Field(default=None, description="At most so many enter on one day.")
    active: Annotated[Whole, Field(ge=0)] | None = Field(default=None, description="At most so many are in it at once.")


class Period(Model):
    """Days from one to another, both included."""

    first: Day = Field(alias="from", description="The first day.")
    last: Day = Field(alias="to", description="The last day, included.")


def _at_tag(value: object) -> str:
    return "<best>" if value == "best" else "<clock>"


class Step(Model):
    """One message of the journey."""

    day: Days = Field(description="On which day of the journey; 1 is the day of entry.")
    channel: Text | None = Field(default=None, description="Through which channel; or channels.")
    channels: tuple[Text, ...] = Field(default=(), description="Through the first of these channels that fits the customer.")
    content: Text = Field(
        description="What is sent: of 'content', or the name your sending tool knows it by where a channel has no medium.",
        examples=["welcome_1"],
    )
    variant: Text | None = Field(default=None, description="Which variant of the content, where your sending tool knows it.")
    when: Condition | None = Field(default=None, description="Only for customers for whom this condition on the profile holds on that day.")
    choose: Literal["preferred", "listed"] = Field(
        default="preferred",
        description="preferred: the customer's preferred channel is tried first, if it is listed; listed: in the order given.",
    )
    at: Annotated[
        Annotated[Literal["best"], Tag("<best>")] | Annotated[Clock, Tag("<clock>")],
        Discriminator(_at_tag),
    ] = Field(default="best", description="The local time at which it arrives; best: the customer's best hour.", examples=["11:00"])
    repeat: Flag = Field(default=False, description="Whether it goes out although the same content went out in this entry before.")
    until: Days | None = Field(default=None, description="The last day a slot shows it.")


def _reentry_tag(value: object) -> str:
    return "<rule>" if isinstance(value, dict | Reentry) else "<never>"


def _keep_tag(value: object) -> str:
    return "<all>" if isinstance(value, str) else "<number>"


class Journey(Model):
    """One journey: who qualifies, what it is worth, what it sends, and the rules it keeps."""

    id: JourneyName = Field(description="The journey's name in the data; never change it once customers have entered.")
    name: Text | None = Field(default=None, description="The journey's name for people; its id unless said.")
    owner: Text | None = Field(default=None, description="Who answers for it.", examples=["lifecycle@example.com"])
    description: LongText | None = Field(default=None, description="What it is for.")
    status: Status = Field(
        default="live", description="live; paused: nobody new enters, those in it finish; draft: checked, otherwise as if absent."
    )
    starts_on: Day | None = Field(default=None, description="Nobody enters before this day.")
    ends_on: Day | None = Field(default=None, description="Nobody enters after this day.")
    length_days: Days = Field(description="How many days it lasts, the day of entry included.")
    queue: Queue = Field(description="Who qualifies.")
    priority: Number = Field(default=0.0, description="A lever on the score: 100 doubles it.")
    value: Number = Field(default=1.0, description="What reaching the goal is worth, in money.")
    mandatory: Flag = Field(default=False, description="Whether it comes before every journey that is not (service messages).")
    interests: tuple[Text, ...] = Field(default=(), description="Topics it speaks to; customers interested in them score higher.")
    intents: tuple[Text, ...] = Field(default=(), description="Intents it answers; customers who show one score higher.")
    channels: tuple[Text, ...] = Field(default=(), description="Channels it uses; a customer without a usable one cannot enter.")
    goal: Goal | None = Field(default=None, description="What it is for.")
    exit_on_goal: Flag = Field(default=True, description="Whether a customer who reaches the goal leaves at once.")
    exit_when: Condition | None = Field(default=None, description="A condition on the profile under which customers leave at once.")
    next_journeys: tuple[Text, ...] = Field(default=(), description="Journeys that gain policy.linked_boost once this one is finished.")
    only_after: tuple[Text, ...] = Field(default=(), description="Only for customers who finished at least one of these journeys.")
    not_after: tuple[NotAfter, ...] = Field(default=(), description="Not for customers who were in another journey lately.")
    reentry: Annotated[Annotated[Literal["never"], Tag("<never>")] | Annotated[Reentry, Tag("<rule>")], Discriminator(_reentry_tag)] = (
        Field(default="never", description="When a customer may enter again; never unless said.")
    )
    max_entries: Annotated[Whole, Field(ge=1)] | None = Field(default=None, description="At most so many entries per customer, ever.")
    capacity: Capacity = Field(default_factory=Capacity, description="How many customers it can take; unlimited unless said.")
    can_interrupt: Flag = Field(default=False, description="Whether it may take customers out of another journey.")
    interruptible: Flag = Field(default=True, description="Whether another journey may take customers out of it.")
    must_finish: Flag = Field(default=False, description="Whether entry needs its last day to fit before ends_on and no pause in between.")
    holdout: Share = Field(default=0.0, description="Share of customers who are sent nothing, to measure the effect.")
    holdout_version: Text | None = Field(default=None, description="Part of the holdout's salt: another one draws another control group.")
    suppress: tuple[Period, ...] = Field(default=(), description="Days on which nobody enters and nothing is sent.")
    steps: tuple[Step, ...] = Field(default=(), description="What is sent on which day.")
    measure: Measure | None = Field(default=None, description="How it is measured, other than all journeys are.")
    variants: Variants | None = Field(default=None, description="Variants that are compared with each other.")


class Audience(Model):
    """A list of customers that is kept in step at destinations, advertisers above all."""

    journey: Text | None = Field(default=None, description="Its members are the treated customers in this journey; or segment.")
    segment: Text | None = Field(default=None, description="Its members are the customers in this segment; or journey.")
    channel: Text = Field(description="The channel whose consent its members must have given.", examples=["ads"])
    match: Annotated[tuple[Text, ...], Field(min_length=1)] = Field(
        description="What the destination knows people by: addresses of channels (their 'to').", examples=[["email"]]
    )
    fields: tuple[Text, ...] = Field(default=(), description="Columns of the profile that are sent along.")
    to: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(description="The destinations, of ATC_DESTINATIONS.")
    leave: Literal["remove", "keep"] = Field(default="remove", description="Whether those who left it are removed at the destination.")


class Publish(Model):
    """The one answer, into every system."""

    to: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(description="The destinations, of ATC_DESTINATIONS.")
    traits: tuple[Text, ...] = Field(default=(), description="Columns of the profile that go along.", examples=[["churn_risk"]])


class Cap(Model):
    """How many journeys a customer may start in a while."""

    days: Days = Field(description="In any so many days in a row ...")
    starts: NumberExpression = Field(
        description="... at most so many starts: a number, or an expression of the profile (empty = no cap).",
        examples=[2, "case when engagement >= 0.5 then 3 else 1 end"],
    )


class Policy(Model):
    """How the one journey of each customer is chosen."""

    score: NumberExpression = Field(
        default=DEFAULT_SCORE, description="The score of a journey for a customer: the highest wins.", examples=[DEFAULT_SCORE]
    )
    none: NumberExpression = Field(
        default="0", description="The score a journey must beat to be better than sending nothing.", examples=["0.1 * engagement"]
    )
    prior_propensity: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=1.0, description="The probability of reaching the goal where no model has learned it yet."
    )
    waiting_weight: Annotated[Number, Field(ge=0)] = Field(default=0.0, description="What 30 days of waiting add to the score: 0.5 = half.")
    linked_boost: Annotated[Number, Field(ge=0)] = Field(
        default=1.0, description="The factor for journeys that the last finished one lists in next_journeys."
    )
    switch_margin: Annotated[Number, Field(ge=0)] = Field(
        default=0.0, description="By how much a journey must beat the one in progress to interrupt it: 0.25 = a quarter."
    )
    rest_days: Annotated[int, Strict(), Field(ge=0, le=36_500)] = Field(
        default=0, description="Days of rest after a journey; mandatory ones are exempt."
    )
    cap: Cap | None = Field(default=None, description="How many journeys a customer may start in a while; unlimited unless said.")
    suppress: tuple[Period, ...] = Field(default=(), description="Days on which nobody enters any journey and nothing is sent.")
    suppressed_when: Condition | None = Field(
        default=None, description="A condition on the profile under which a customer is sent nothing.", examples=["unsubscribed"]
    )
    holdout: Share = Field(default=0.0, description="Share of customers who are never sent anything, to measure the effect of it all.")
    explore: Share = Field(default=0.0, description="Share of choices made by chance, to learn from; learning needs at least 0.005.")
    keep_candidates: Annotated[
        Annotated[Literal["all"], Tag("<all>")] | Annotated[Whole, Field(ge=1), Tag("<number>")], Discriminator(_keep_tag)
    ] = Field(default="all", description="How many options per customer and day stay on record: all, or the best so many.")
    patience_days: Annotated[int, Strict(), Field(ge=0, le=30)] = Field(
        default=2, description="How many days a message may wait for its hours, and is tried again that nobody has answered for."
    )


class JourneysDocument(Model):
    """journeys.yaml: channels, traits, segments, journeys, and the policy that chooses between them."""

    version: Text = Field(description="The salt of the global holdout: a new version draws new control groups.", examples=["2026-11"])
    calendar: Calendar
    identity: Identity = Field(default_factory=Identity, description="Who is a customer.")
    channels: dict[Name, Channel] = Field(default={}, description="How customers can be reached.")
    traits: dict[ColumnName, Annotated[Trait, _OfItsKind()]] = Field(
        default={}, description="What is kept per customer: one profile column each."
    )
    interests: Interests | None = None
    intents: dict[Name, Intent] = Field(default={}, description="Intent x becomes the profile column intent_x, from 0 to 1.")
    engagement: Engagement | None = None
    predictions: Predictions | None = None
    segments: dict[Name, Condition] = Field(
        default={}, description="Micro-segments: a condition on the profile each. Whoever is in none is in everyone_else."
    )
    journeys: tuple[Journey, ...] = Field(default=(), description="The journeys.")
    brand: Brand | None = None
    layouts: dict[Name, Written] = Field(
        default={},
        description="What stands around an e-mail's blocks: MJML or HTML with {{ body }} once.",
        examples=[{"newsletter": {"file": "content/newsletter.mjml"}}],
    )
    blocks: dict[Name, Block] = Field(default={}, description="Parts that messages are put together from.")
    content: dict[ContentName, Content] = Field(default={}, description="Messages, for each medium they can take; steps name them.")
    writer: Any = Field(default=None, description="Not built yet.")
    audiences: dict[Name, Audience] = Field(default={}, description="Lists of customers that are kept in step at destinations.")
    publish: Publish | None = None
    metrics: dict[ColumnName, OfItsKind] = Field(default={}, description="What is measured of customers: sums, counts and averages by day.")
    measurement: Measurement = Field(default_factory=Measurement)
    learning: Learning | None = None
    paths: Paths = Field(default_factory=Paths)
    policy: Policy = Field(default_factory=Policy)
    _source: Source = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_sections(cls, data: object) -> object:
        """Take a section that has a heading but no lines (all commented out, say) as absent."""
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    def model_post_init(self, context: object) -> None:
        """Remember where the document was read from, if the validation context says so."""
        written = Source("journeys.yaml", {}, tuple(journey.id for journey in self.journeys))
        self._source = context if isinstance(context, Source) else written

    def problem(self, place: Place, message: str) -> str:
        """Return one line that says where ``place`` is and what is wrong with it."""
        return self._source.problem(place, message)


def parse_document(text: str, name: str) -> JourneysDocument:
    """Read the text of ``journeys.yaml`` (YAML 1.2); raises JourneysError for whatever is not in the grammar."""
    data, source = parse_values(text, name)
    try:
        return JourneysDocument.model_validate(data, context=source)
    except ValidationError as error:
        problems = [details for details in error.errors(include_url=False) if not _is_echo(details)]
        lines = [_problem(source, details) for details in problems[:MOST_PROBLEMS]]
        raise JourneysError(lines, untold=len(problems) - len(lines)) from None


_PATTERNS = {
    r"^[a-z0-9_]+$": "a name of small letters, digits and _",
    r"^[a-z_][a-z0-9_]*$": "a name of small letters, digits and _ that does not begin with a digit",
    r"^[a-z0-9_-]+$": "a name of small letters, digits, _ and -",
    r"^[^*]": "the name of an event",
}
_ALTERNATIVES = {
    "<never>": "never, or keys such as {after_days: 60, from: exit}",
    "<all>": "all or a number",
    "<best>": "best, or a time of day such as 11:00",
}
_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "date_type": "a day such as 2026-12-24",
    "time_type": "best, or a time of day such as '11:00'",
    "tuple_type": "a list such as [a, b]",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "too_short": "at least one",
    "string_too_short": "text",
}


def _is_echo(details: ErrorDetails) -> bool:
    """Whether pydantic found too few items in a list only because it had refused the others."""
    return details["type"] == "too_short" and bool(details["input"])


def _problem(source: Source, details: ErrorDetails) -> str:
    """Turn what pydantic reports into one line for a marketer."""
    place = tuple(key for key in details["loc"] if not (isinstance(key, str) and (key == "[key]" or key.startswith("<"))))
    context: Mapping[str, Any] = details.get("ctx", {})
    value = details["input"]
    match details["type"]:
        case "missing":
            return source.problem(place, "is missing")
        case "unknown_key":
            hint = nearest(str(context["key"]), context["valid"]) or f"; the keys here are {', '.join(context['valid'])}"
            return source.problem(place, f"unknown key '{shortened(str(context['key']))}'{hint}", key=context["key"])
        case "union_tag_not_found" | "union_tag_invalid":
            given = [str(key) for key in value] if isinstance(value, dict) else []
            known = METRICS if place[:1] == ("metrics",) else KINDS
            kinds = [kind for kind in known if kind in given]
            hint = "" if kinds else next((hint for key in given[:MOST_PROBLEMS] if (hint := nearest(key, known))), "")
            shown = shortened(" and ".join(kinds or given)) or _shown(value)
            return source.problem(place, f"expected exactly one of the keys {', '.join(known)}; found {shown}{hint}")
        case "literal_error":
            words = context["expected"].replace("'", "")
            hint = nearest(value, words.replace(" or ", ", ").split(", ")) if isinstance(value, str) else ""
            expected = _ALTERNATIVES.get(str(details["loc"][-1]), words)
            return source.problem(place, f"expected {expected}, found {_shown(value)}{hint}")
        case "string_type":
            quotes = ": put it in quotes" if isinstance(value, bool | int | float | date) else ""
            return source.problem(place, f"expected text, found {_shown(value)}{quotes}")
        case "string_pattern_mismatch":
            return source.problem(place, f"expected {_PATTERNS[context['pattern']]}, found {_shown(value)}")
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
            bounds = " and ".join(f"{words[key]} {bound:g}" for key, bound in context.items() if key in words)
            return source.problem(place, f"expected {bounds}, found {_shown(value)}")
        case "day_out_of_range":
            return source.problem(place, f"expected a day from {FIRST} to {LAST}, found {_shown(value)}")
        case "string_too_long":
            return source.problem(place, f"expected at most {context['max_length']} letters, found {_shown(value)}")
        case kind:
            return source.problem(place, f"expected {_EXPECTED[kind]}, found {_shown(value)}" if kind in _EXPECTED else details["msg"])


def _shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"'{shortened(value)}'"
        case dict():
            return "keys with values" if value else "no keys"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case _:
            return shortened(str(value))
