"""Scored candidates: each customer's option rows, "none" among them, with every factor and every static gate (SPEC 7).

What belongs here: what can be said of an option from today's facts. What does not: memory of earlier days and the choice
itself (``decision``).
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import polars as pl

from atc_pipeline import rules
from atc_pipeline.journeys.portfolio import CANDIDATE_TERMS, NONE, Channel, Journey, Period, Portfolio

OPTIONS = {
    "customer_id": pl.String(),
    "journey_id": pl.String(),
    "is_queued": pl.Boolean(),
    "is_incumbent": pl.Boolean(),
    "mandatory": pl.Boolean(),
    "priority": pl.Float64(),
    "propensity": pl.Float64(),
    "value": pl.Float64(),
    "interest_match": pl.Float64(),
    "intent_match": pl.Float64(),
    "waiting_days": pl.Int64(),
    "linked_boost": pl.Float64(),
    "score": pl.Float64(),
}
"""Columns of an option row, before it is ruled."""


def build_options(
    queues: pl.LazyFrame,
    profiles: pl.LazyFrame,
    in_flight: pl.LazyFrame,
    last_finished: pl.LazyFrame,
    portfolio: Portfolio,
    *,
    today: date,
) -> pl.LazyFrame:
    """One row per customer with at least one option and journey - queued, in flight, or "none" - scored, gates tested.

    ``in_flight``, ``last_finished``: one row per customer, ``customer_id`` and ``journey_id``, after journeys that ended
    today were ended. Columns: ``OPTIONS`` and one Boolean ``gate:<name>`` per static gate (true = fails).
    """
    journeys = _metadata(portfolio, today)
    options = (
        queues.select("customer_id", "journey_id", "waiting_days", is_queued=pl.lit(value=True))
        .join(
            in_flight.select("customer_id", "journey_id", is_incumbent=pl.lit(value=True)),
            on=["customer_id", "journey_id"],
            how="full",
            coalesce=True,
        )
        .join(journeys.lazy(), on="journey_id", how="inner")
        .join(_boosts(last_finished, portfolio), on=["customer_id", "journey_id"], how="left")
        .join(_customers(profiles, portfolio), on="customer_id", how="left")
        .with_columns(
            pl.col("is_queued", "is_incumbent").fill_null(value=False),
            pl.col("waiting_days").fill_null(0),
            pl.col("linked_boost").fill_null(1.0),
            propensity=pl.lit(portfolio.policy.prior_propensity),
            waiting_weight=pl.lit(portfolio.policy.waiting_weight),
            interest_match=_by_set("interests", _interest_sets(portfolio)),
            intent_match=_by_set("intents", _intent_sets(portfolio)),
        )
        .cast({name: dtype for name, dtype in CANDIDATE_TERMS.items() if name not in ("is_queued", "is_incumbent", "mandatory")})
        .with_columns(score=rules.round_score(portfolio.policy.score.expr))
        .with_columns((test & ~pl.col("is_incumbent")).alias(rules.gate(name)) for name, test in _static_gates(portfolio).items())
        .select(*OPTIONS, *(rules.gate(name) for name in rules.STATIC_GATES))
    )
    return pl.concat([options, _none_rows(options, profiles, portfolio)], how="diagonal")


def _none_rows(options: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    score = rules.round_score(portfolio.policy.none.expr).fill_null(0.0)
    return (
        profiles.join(options.select("customer_id").unique(), on="customer_id", how="semi")
        .select(
            "customer_id",
            journey_id=pl.lit(NONE),
            is_queued=pl.lit(value=False),
            is_incumbent=pl.lit(value=False),
            mandatory=pl.lit(value=False),
            priority=pl.lit(0.0),
            score=score,
        )
        .with_columns(pl.lit(value=False).alias(rules.gate(name)) for name in rules.STATIC_GATES)
    )


def _metadata(portfolio: Portfolio, today: date) -> pl.DataFrame:
    """One row per journey: its own terms and gates on this day, and which set of interests, intents and channels it has."""
    journeys = portfolio.journeys
    suppressed = portfolio.policy.suppress
    sets = {
        name: {members: place for place, members in enumerate(members_of_sets)}
        for name, members_of_sets in (
            ("interests", _interest_sets(portfolio)),
            ("intents", _intent_sets(portfolio)),
            ("channels", _channel_sets(portfolio)),
        )
    }
    return pl.DataFrame(
        {
            "journey_id": [journey.id for journey in journeys],
            "mandatory": [journey.mandatory for journey in journeys],
            "priority": [journey.priority for journey in journeys],
            "value": [journey.value for journey in journeys],
            "length_days": [journey.length_days for journey in journeys],
            **{f"{name}:set": [places[tuple(sorted(getattr(journey, name)))] for journey in journeys] for name, places in sets.items()},
            rules.gate("not_live"): [not _is_live(journey, today) for journey in journeys],
            rules.gate("blackout"): [_is_suppressed((*suppressed, *journey.suppress), today, today) for journey in journeys],
            rules.gate("would_overrun"): [_would_overrun(journey, suppressed, today) for journey in journeys],
        },
        schema={
            "journey_id": pl.String,
            "mandatory": pl.Boolean,
            "priority": pl.Float64,
            "value": pl.Float64,
            "length_days": pl.Int64,
            **{f"{name}:set": pl.Int64 for name in sets},
            **{rules.gate(name): pl.Boolean for name in ("not_live", "blackout", "would_overrun")},
        },
    )


def _is_live(journey: Journey, today: date) -> bool:
    return (
        journey.status == "live"
        and (journey.starts_on is None or journey.starts_on <= today)
        and (journey.ends_on is None or today <= journey.ends_on)
    )


def _is_suppressed(periods: Sequence[Period], first: date, last: date) -> bool:
    return any(period.first <= last and first <= period.last for period in periods)


def _would_overrun(journey: Journey, suppressed: Sequence[Period], today: date) -> bool:
    last = today + timedelta(days=journey.length_days - 1)
    return journey.must_finish and (
        (journey.ends_on is not None and last > journey.ends_on) or _is_suppressed((*suppressed, *journey.suppress), today, last)
    )


def _interest_sets(portfolio: Portfolio) -> list[tuple[str, ...]]:
    return _distinct(portfolio, lambda journey: journey.interests)


def _intent_sets(portfolio: Portfolio) -> list[tuple[str, ...]]:
    return _distinct(portfolio, lambda journey: journey.intents)


def _channel_sets(portfolio: Portfolio) -> list[tuple[str, ...]]:
    return _distinct(portfolio, lambda journey: journey.channels)


def _distinct(portfolio: Portfolio, members: Callable[[Journey], tuple[str, ...]]) -> list[tuple[str, ...]]:
    return sorted({tuple(sorted(members(journey))) for journey in portfolio.journeys})


def _customers(profiles: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """One row per customer: what the score reads of the profile, and each distinct set's match, worked out once."""
    policy = portfolio.policy
    channels = {channel.id: channel for channel in portfolio.channels}
    suppressed = policy.suppressed_when.expr if policy.suppressed_when is not None else pl.lit(value=False)
    return profiles.select(
        "customer_id",
        *(name for name in policy.score.columns if name not in CANDIDATE_TERMS),
        suppressed.alias("is_suppressed:"),
        *(_interest_match(topics).alias(_set("interests", place)) for place, topics in enumerate(_interest_sets(portfolio))),
        *(_intent_match(intents).alias(_set("intents", place)) for place, intents in enumerate(_intent_sets(portfolio))),
        *(
            _is_reachable([channels[name] for name in names]).alias(_set("channels", place))
            for place, names in enumerate(_channel_sets(portfolio))
        ),
    )


def _interest_match(topics: Sequence[str]) -> pl.Expr:
    """Sum of the customer's interest in the topics, at most 1; 0 without topics."""
    return pl.min_horizontal(1.0, pl.sum_horizontal(f"interest_{topic}" for topic in topics)) if topics else pl.lit(0.0)


def _intent_match(intents: Sequence[str]) -> pl.Expr:
    """The strongest of the customer's intents; 0 without intents."""
    return pl.max_horizontal(f"intent_{intent}" for intent in intents) if intents else pl.lit(0.0)


def _is_reachable(channels: Sequence[Channel]) -> pl.Expr:
    """True where one of the channels may be used; a journey without channels needs none."""
    return pl.any_horizontal(rules.is_usable(channel) for channel in channels) if channels else pl.lit(value=True)


def _set(kind: str, place: int) -> str:
    return f"{kind}:{place}"


def _by_set(kind: str, sets: Sequence[object]) -> pl.Expr:
    if not sets:
        return pl.lit(None)
    return pl.coalesce(pl.when(pl.col(f"{kind}:set") == place).then(_set(kind, place)) for place in range(len(sets)))


def _static_gates(portfolio: Portfolio) -> dict[str, pl.Expr]:
    return {
        "not_live": pl.col(rules.gate("not_live")),
        "blackout": pl.col(rules.gate("blackout")),
        "would_overrun": pl.col(rules.gate("would_overrun")),
        "suppressed": pl.col("is_suppressed:"),
        "no_channel": ~_by_set("channels", _channel_sets(portfolio)).cast(pl.Boolean),
        "unscored": pl.col("score").is_null(),
    }


def _boosts(last_finished: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """One row per customer and journey that the last finished journey leads to."""
    links = [(journey.id, following) for journey in portfolio.journeys for following in journey.next_journeys]
    leads = pl.LazyFrame(links, schema={"finished": pl.String, "journey_id": pl.String}, orient="row").unique()
    return (
        last_finished.select("customer_id", finished="journey_id")
        .join(leads, on="finished", how="inner")
        .select("customer_id", "journey_id", linked_boost=pl.lit(portfolio.policy.linked_boost))
    )
