"""What the marketers wrote of measuring: metrics, measurement, learning, paths, and of a journey how it is measured and its variants.

What belongs here: the shape and range of every single value, and what each key means. What does not: rules between keys (``measures``),
or any other section (``document``).
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from atc_pipeline.journeys.shapes import Day, Days, EventCondition, Events, Flag, Model, Name, Number, Share, Text, Whole

Kind = Literal["count", "sum", "avg", "any"]


class Metric(Model):
    """What is measured of a customer, in the grammar of traits; of which kind says the key that has the kind's name."""

    kind: ClassVar[Kind]
    summed: ClassVar[bool] = False
    each: Text | None = Field(
        default=None, description="Count the items of this array of the event, not the event itself.", examples=["products"]
    )
    where: EventCondition | None = Field(
        default=None, description="Only events (or items of 'each') whose properties satisfy this condition."
    )


class CountMetric(Metric):
    """How many events."""

    kind = "count"
    of: Events = Field(alias="count", description='The event, or events, to count; "*" is every event.')


class AnyMetric(Metric):
    """Whether there was any such event: 1 or 0."""

    kind = "any"
    of: Events = Field(alias="any", description='The event, or events, of which there is any or none; "*" is every event.')


class SumMetric(Metric):
    """The sum of a numeric property."""

    kind = "sum"
    property: Text = Field(alias="sum", description="The numeric property to add up.", examples=["revenue"])
    of: Events = Field(description='The event, or events, that carry the property; "*" is every event.')


class AvgMetric(Metric):
    """The average of a numeric property, over all events of an arm: a ratio."""

    kind = "avg"
    property: Text = Field(alias="avg", description="The numeric property to average.", examples=["rating"])
    of: Events = Field(description='The event, or events, that carry the property; "*" is every event.')


METRICS: Mapping[str, type[Metric]] = {model.kind: model for model in (CountMetric, SumMetric, AvgMetric, AnyMetric)}
"""The model of each kind of metric."""


def _metric_tag(value: object) -> str | None:
    if isinstance(value, Metric):
        return f"<metric {value.kind}>"
    kinds = [kind for kind in METRICS if isinstance(value, dict) and kind in value]
    return f"<metric {kinds[0]}>" if len(kinds) == 1 else None


OfItsKind = Annotated[
    Annotated[CountMetric, Tag("<metric count>")]
    | Annotated[SumMetric, Tag("<metric sum>")]
    | Annotated[AvgMetric, Tag("<metric avg>")]
    | Annotated[AnyMetric, Tag("<metric any>")],
    Discriminator(_metric_tag),
]


class Measurement(Model):
    """How it is measured what journeys do against being left alone."""

    money: Text | None = Field(
        default=None,
        description="The metric it is told in, a sum; predictions.value of predictions.order unless said.",
        examples=["revenue"],
    )
    margin: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        default=None, description="What of a unit of money is earned; with it, what a journey made is told net, less the cost of messages."
    )
    guardrails: tuple[Text, ...] = Field(
        default=(), description="Metrics that no journey may make worse: each is tested for harm.", examples=[["opted_out", "complaints"]]
    )
    window_days: Days | None = Field(
        default=None, description="Days after an entry in which outcomes count, where neither the journey nor its goal says."
    )
    before_days: Days = Field(default=90, description="Days up to an entry that say what the customer was worth before.")
    long_days: Days = Field(default=90, description="Days after a first entry that count in the long run.")
    late_days: Annotated[Whole, Field(ge=0, le=365)] = Field(
        default=3, description="Days that are waited for late events before an outcome counts."
    )
    cap_at: Annotated[Number, Field(gt=0, lt=1)] | None = Field(
        default=None, description="The quantile that money is cut off at, of both arms together; nothing is unless said.", examples=[0.999]
    )
    expected_customers: Annotated[Whole, Field(ge=10)] = Field(
        default=5_000, description="For so many customers of a journey the interval that may be looked at every day is narrowest."
    )
    false_discoveries: Annotated[Number, Field(gt=0, lt=1)] = Field(
        default=0.05, description="Of all journeys that are said to help or harm, at most this share wrongly so."
    )
    min_nonzero: Annotated[Whole, Field(ge=1)] = Field(
        default=50, description="Nothing is said before so many customers of the smaller arm have a value other than 0."
    )
    tolerance: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.02, description="What share of the control group's mean counts as nothing."
    )


class Measure(Model):
    """How this journey is measured, other than all are."""

    window_days: Days | None = Field(default=None, description="Days after an entry in which its outcomes count; the goal's unless said.")
    metrics: tuple[Text, ...] = Field(default=(), description="The metrics that are told of it; all unless said.")
    decide_on: Day | None = Field(
        default=None, description="The one day on which its narrow interval decides, named in advance; every day's wide one unless said."
    )


class Variants(Model):
    """Variants of a journey: each customer is in one of them from entry on."""

    shares: Annotated[dict[Name, Share], Field(min_length=2)] = Field(
        description="The share of each; they add up to 1. Steps that name a variant go to that one only.",
        examples=[{"question": 0.5, "offer": 0.5}],
    )
    adapt: Flag = Field(
        default=False, description="Whether later entries are shared out by what the variants have brought, with a floor under each."
    )


class Learning(Model):
    """What is learned of goals from what came of entries, in both arms."""

    use: Literal["shadow", "live"] = Field(
        default="shadow", description="shadow: what is learned is logged beside the score and decides nothing; live: the score uses it."
    )
    refit_days: Days = Field(default=7, description="The model is fitted anew after so many days.")
    history_days: Days = Field(default=365, description="It learns from entries of the last so many days.")
    min_goals: Annotated[Whole, Field(ge=1)] = Field(default=50, description="Nothing is learned before so many goals have matured.")
    min_entries: Annotated[Whole, Field(ge=1)] = Field(
        default=20, description="So many mature entries of a journey that the model does not know are a reason to fit it anew."
    )
    features: tuple[Text, ...] | None = Field(
        default=None,
        description="The columns of the profile it learns by: numbers and booleans; all of them unless said.",
        examples=[["orders_30d", "engagement", "churn_risk"]],
    )


class Paths(Model):
    """How a customer's way through journeys is told."""

    path_days: Days = Field(default=60, description="A path is over so many days after its last entry, if it did not end with an order.")
    quiet_days: Days = Field(default=30, description="Who has neither answered nor ordered for so many days is quiet.")
