"""Customer profiles: one row per customer per day, the system of record (SPEC 3).

Yesterday's state absorbs today's rollup; windows are merged from the rollups they cover. History is never reread.

What belongs here: traits, interests, intents, engagement, consent. What does not: reading events, segments.
"""

from datetime import date, timedelta

import polars as pl

from atc_pipeline import measures
from atc_pipeline.journeys.portfolio import Portfolio, Trait, profile_schema
from atc_pipeline.measures import Accumulator
from atc_pipeline.rules import MICRO, quotient

LATENESS_DAYS = 2
"""An event may be dated up to so many days after its arrival day (24 h after its end; two dates where a day has 23 h)."""

STATE = "state"
"""The struct column of a profile that tomorrow's profile is computed from."""


def table_schema(portfolio: Portfolio) -> dict[str, pl.DataType]:
    """Columns and types of ``customer_profiles``, without the state."""
    return profile_schema(
        channels=tuple(channel.id for channel in portfolio.channels),
        topics=tuple(topic.id for topic in portfolio.topics),
        intents=tuple(intent.id for intent in portfolio.intents),
        traits={trait.id: trait.dtype for trait in portfolio.traits},
    )


def state_schema(portfolio: Portfolio) -> dict[str, pl.DataType]:
    """Fields and types of the ``state`` struct."""
    return {name: dtype for one in measures.remembered(portfolio) for name, dtype in one.state_columns().items()}


def lookback_days(portfolio: Portfolio) -> int:
    """How many arrival days before D the profile of D reads rollups of."""
    return max([LATENESS_DAYS, *(days - 1 + LATENESS_DAYS for _, days in measures.windowed(portfolio))])


def rollup_columns(portfolio: Portfolio) -> list[str]:
    """Name the columns of the rollup that profiles are made from: all but the counts of goal events."""
    goals = {one.name for one in measures.goals(portfolio)}
    return [name for name in measures.rollup_schema(portfolio) if name not in goals]


def update_profiles(yesterday: pl.LazyFrame | None, activity: pl.LazyFrame, portfolio: Portfolio, *, today: date) -> pl.LazyFrame:
    """One row per customer who has arrived by ``today``, with all but the columns that need the whole population.

    ``yesterday``: this function's result of the day before (None on the first day of the lake), ``state`` included.
    ``activity``: rollups that arrived in ``lookback_days`` before today and today. Cost: customers + rollups, not history.
    """
    arrived = activity.filter(pl.col("date") == today)
    due = activity.filter(
        ((pl.col("date") == today) & (pl.col("event_date") <= today)) | ((pl.col("date") < today) & (pl.col("event_date") == today))
    )
    remembered = measures.remembered(portfolio)
    age = (pl.lit(today) - pl.col("event_date")).dt.total_days()
    decays = [one for one in remembered if one.merge == "decay"]
    new = (
        due.with_columns(one.decayed(age) for one in decays)
        .group_by("customer_id")
        .agg(expression for one in remembered for expression in one.gather())
    )
    seen = arrived.select("customer_id").unique().with_columns(seen=pl.lit(today))
    state = _state(yesterday, portfolio)
    return (
        state.join(seen, on="customer_id", how="full", coalesce=True)
        .join(new, on="customer_id", how="left", suffix="+")
        .with_columns(
            *(expression for one in remembered for expression in one.absorb("+")),
            first_seen_on=pl.coalesce("first_seen_on", "seen"),
            last_seen_on=pl.coalesce("seen", "last_seen_on"),
        )
        .join(_windows(activity, portfolio, today), on="customer_id", how="left")
        .pipe(_columns, portfolio, today)
        .sort("customer_id")
    )


def rank_population(profiles: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """Fill in the percentiles: customers with a value <= mine / customers with a value, over the whole population.

    The one step of a profile that needs all customers at once.
    """
    return profiles.with_columns(
        quotient(pl.col(trait.property).rank("max"), pl.col(trait.property).count()).cast(pl.Float64).alias(trait.id)
        for trait in portfolio.traits
        if trait.kind == "percentile" and trait.property is not None
    )


def _state(yesterday: pl.LazyFrame | None, portfolio: Portfolio) -> pl.LazyFrame:
    seen = {"customer_id": pl.String(), "first_seen_on": pl.Date(), "last_seen_on": pl.Date()}
    if yesterday is None:
        return pl.LazyFrame(schema=seen | state_schema(portfolio))
    return yesterday.select(*seen, *(pl.col(STATE).struct.field(name).alias(name) for name in state_schema(portfolio)))


def _windows(activity: pl.LazyFrame, portfolio: Portfolio, today: date) -> pl.LazyFrame:
    """One row per customer active within the longest window, one accumulator column per windowed trait."""
    windowed = measures.windowed(portfolio)
    longest = max((days for _, days in windowed), default=0)
    in_window = pl.col("event_date").is_between(today - timedelta(days=longest - 1), today)
    return (
        activity.filter(in_window)
        .group_by("customer_id")
        .agg(
            expression
            for trait, days in windowed
            for one in measures.of_trait(trait)
            for expression in one.gather(pl.col("event_date") > today - timedelta(days=days))
        )
    )


def _columns(state: pl.LazyFrame, portfolio: Portfolio, today: date) -> pl.LazyFrame:
    """Turn accumulators into the columns of the table."""
    topics = [f"interest_{topic.id}" for topic in portfolio.topics]
    total = pl.sum_horizontal(topics) if topics else pl.lit(0.0)
    columns: dict[str, pl.Expr] = {
        "date": pl.lit(today),
        "customer_id": pl.col("customer_id"),
        "first_seen_on": pl.col("first_seen_on"),
        "last_seen_on": pl.col("last_seen_on"),
        "tenure_days": _days_since("first_seen_on", today),
        "timezone": pl.col("timezone.value"),
        **{f"consent_{channel.id}": pl.col(f"consent_{channel.id}.value") for channel in portfolio.channels},
        **{topic: pl.when(total > 0).then(pl.col(topic) / total).otherwise(0.0) for topic in topics},
        **{
            f"intent_{intent.id}": pl.min_horizontal(1.0, quotient(pl.col(f"intent_{intent.id}"), intent.full_at))
            for intent in portfolio.intents
        },
        "engagement": _engagement(portfolio),
        **{trait.id: _trait(trait, today) for trait in portfolio.traits},
    }
    schema = table_schema(portfolio)
    fields = state_schema(portfolio)
    return state.select(
        *(columns.get(name, pl.lit(None)).cast(dtype).alias(name) for name, dtype in schema.items()),
        (pl.struct(pl.col(name).cast(dtype) for name, dtype in fields.items()) if fields else pl.lit(None)).alias(STATE),
    )


def _engagement(portfolio: Portfolio) -> pl.Expr:
    if not measures.engagement(portfolio):
        return pl.lit(None, dtype=pl.Float64)
    touches, responses = (pl.col(one.name) for one in measures.engagement(portfolio))
    return pl.when(touches > 0).then(pl.min_horizontal(1.0, responses / touches))


def _trait(trait: Trait, today: date) -> pl.Expr:
    parts: tuple[Accumulator, ...] = measures.of_trait(trait)
    match trait.kind:
        case "count":
            return pl.col(parts[0].name).fill_null(0)
        case "sum":
            return quotient(pl.col(parts[0].name).fill_null(0), MICRO)
        case "avg":
            total, number = (pl.col(part.name) for part in parts)
            return pl.when(number > 0).then(total / (number * MICRO))
        case "min" | "max":
            return quotient(pl.col(parts[0].name), MICRO)
        case "first" | "last" | "profile":
            return pl.col(f"{trait.id}.value")
        case "days_since_first" | "days_since_last":
            return _days_since(parts[0].name, today)
        case _:
            return pl.lit(None)


def _days_since(column: str, today: date) -> pl.Expr:
    return (pl.lit(today) - pl.col(column)).dt.total_days()
