"""Features: what of a profile is defined, and changes, as one, and by which definition a day was made.

What belongs here: fingerprints of definitions, and a portfolio cut down to some features. What does not: computing any.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import polars as pl

from atc_pipeline.customers import addresses
from atc_pipeline.customers.accumulators import Accumulator
from atc_pipeline.customers.remembered import (
    HOURS,
    engagement,
    fading_days,
    in_rollup,
    interests,
    purchases,
    responses_by_channel,
)
from atc_pipeline.customers.traits import of_trait
from atc_pipeline.journeys.columns import built_in_columns
from atc_pipeline.journeys.portfolio import Condition, Portfolio, Selector, Signal
from atc_pipeline.rules import bounces

READING = 3
"""Of how values are read from events; counts for every feature (``definitions``). 2: numbers, arrays and objects written as text.
3: of words about consent, the arrival day before when they were received."""


def definitions(portfolio: Portfolio) -> dict[str, str]:
    """Return what each feature of a profile is defined by, as a short fingerprint: days made under another are not to be mixed.

    A feature is what is defined, and changes, as one: a trait, all interests (shares of one total), an intent. What is kept for it
    counts as well: a version of ours may keep something else.
    """
    channels = sorted(channel.id for channel in portfolio.channels)
    parts: dict[str, list[object]] = {"calendar": [portfolio.timezone]}
    mailed = sorted(portfolio.mailed)
    for name in (f"consent_{channel}" for channel in channels):  # who unsubscribes from a channel that is not ours leaves all of them
        parts[name] = [name, channels, bounces.SPAM, mailed, *_kept([Accumulator(name, "consent", pl.Boolean())])]
    if portfolio.topics:
        parts["interests"] = [portfolio.interest_half_life_days, sorted((topic.id, _signals(topic.signals)) for topic in portfolio.topics)]
        parts["interests"] += _kept(interests(portfolio))
    for intent in portfolio.intents:
        parts[f"intent_{intent.id}"] = [intent.half_life_days, intent.full_at, _signals(intent.signals)]
    if portfolio.engagement is not None:
        of = portfolio.engagement
        parts["engagement"] = [sorted(of.touches), sorted(of.responses), of.half_life_days, channels]
        parts["engagement"] += _kept([*engagement(portfolio), *responses_by_channel(portfolio).values()])
    if portfolio.predictions is not None:
        of_model = portfolio.predictions
        parts["predictions"] = [of_model.order, of_model.value, of_model.horizon_days, of_model.refit_days]
        parts["predictions"] += _kept(purchases(portfolio))
    traits: dict[str, list[object]] = {}
    for trait in portfolio.traits:  # a percentile changes with what it ranks
        selector = _selected(trait.selector) if trait.selector is not None else None
        traits[trait.id] = [trait.kind, str(trait.dtype), trait.property, selector, trait.within_days, _kept(of_trait(trait))]
    for trait in portfolio.traits:
        if trait.kind == "percentile" and trait.property is not None:
            traits[trait.id] = ["percentile", trait.property, traits[trait.property]]
    for channel, column in addresses.addressed(portfolio).items():  # so does an address, with what it is made of
        made_of = [(parts | traits)[name] for name in _made_of(column, portfolio)]
        traits[bounced(channel)] = [column, channels, mailed, made_of, *_kept([addresses.bounces(portfolio)[channel]])]
    read = {name: [READING, *what] for name, what in (parts | traits).items() if name != "calendar"}
    return {name: hashlib.sha256(repr(what).encode()).hexdigest()[:12] for name, what in (parts | read).items()}


def _kept(accumulators: Iterable[Accumulator]) -> list[object]:
    return [(name, str(dtype), accumulator.on) for accumulator in accumulators for name, dtype in accumulator.columns().items()]


def _signals(signals: Sequence[Signal]) -> object:
    return sorted((_selected(signal.selector), signal.weight) for signal in signals)


def _selected(selector: Selector) -> tuple[list[str], str, str]:
    return sorted(selector.events), selector.each or "", selector.where.text if selector.where is not None else ""


def only(portfolio: Portfolio, features: Collection[str]) -> Portfolio:
    """Return the portfolio as if it defined nothing but these features, and what they are made from."""
    consents = {f"consent_{channel.id}" for channel in portfolio.channels}
    ranked = {trait.property for trait in portfolio.traits if trait.kind == "percentile" and trait.id in features}
    to = {channel: column for channel, column in addresses.addressed(portfolio).items() if bounced(channel) in features}
    features = {*features, *(name for column in to.values() for name in _made_of(column, portfolio))}
    return replace(
        portfolio,
        channels=tuple(replace(channel, to=to.get(channel.id)) for channel in portfolio.channels)
        if to or any(name == "engagement" or name in consents for name in features)
        else (),
        topics=portfolio.topics if "interests" in features else (),
        intents=tuple(intent for intent in portfolio.intents if f"intent_{intent.id}" in features),
        engagement=portfolio.engagement if "engagement" in features else None,
        predictions=portfolio.predictions if "predictions" in features else None,
        traits=tuple(trait for trait in portfolio.traits if trait.id in features or trait.id in ranked),
    )


def bounced(channel: str) -> str:
    """Name the feature, and the column, that says whether the channel's address has bounced."""
    return f"bounced_{channel}"


def _made_of(column: str, portfolio: Portfolio) -> list[str]:
    """Return the features that a column of the profile is made of."""
    if any(trait.id == column for trait in portfolio.traits):
        return [column]
    entry = built_in_columns(
        channels=(channel.id for channel in portfolio.channels),
        addresses=(),
        topics=(topic.id for topic in portfolio.topics),
        intents=(intent.id for intent in portfolio.intents),
    ).get(column)
    return [] if entry is None else of_sections(portfolio, {entry.section})


def of_sections(portfolio: Portfolio, sections: Collection[str | None]) -> list[str]:
    """Return the features that these sections of ``journeys.yaml`` define."""
    features = {
        "channels": [f"consent_{channel.id}" for channel in portfolio.channels],
        "addresses": [bounced(channel) for channel in portfolio.addressed],
        "interests": ["interests"] if portfolio.topics else [],
        "intents": [f"intent_{intent.id}" for intent in portfolio.intents],
        "engagement": ["engagement"] if portfolio.engagement else [],
        "predictions": ["predictions"] if portfolio.predictions else [],
    }
    return [name for section, names in features.items() if section in sections for name in names]


def definition_of(condition: Condition, portfolio: Portfolio) -> list[object]:
    """Return what a condition on a profile is defined by: its text, and by what the columns are made that it reads."""
    made_by = definitions(portfolio)
    built_in = built_in_columns(
        channels=(channel.id for channel in portfolio.channels),
        addresses=portfolio.addressed,
        topics=(topic.id for topic in portfolio.topics),
        intents=(intent.id for intent in portfolio.intents),
    )
    read: dict[str, list[str]] = {}
    for column in sorted(condition.columns):
        by_section = of_sections(portfolio, {built_in[column].section} if column in built_in else ())
        read[column] = [made_by[feature] for feature in ([column] if column in made_by else by_section)]
    return [condition.text, sorted(read.items())]


def feature_columns(portfolio: Portfolio) -> set[str]:
    """Name the columns of the rollup, and fields of the state, that only features have: not who, when and where."""
    always = {"events", HOURS, "timezone.at", "timezone.id", "timezone.value"}
    kept = (*in_rollup(portfolio), *fading_days(portfolio), *addresses.changes(portfolio).values())
    return {column for accumulator in kept for column in accumulator.columns()} - always
