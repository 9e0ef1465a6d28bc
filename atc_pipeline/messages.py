"""Outbound messages: what each treated customer in a journey is due, on which channel, when - or why not (SPEC 9).

What belongs here: which step is due today, consent, the hour. What does not: sending (``resources.delivery``).
"""

from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from atc_pipeline import rules
from atc_pipeline.journeys.calendar import is_time_zone
from atc_pipeline.journeys.portfolio import Period, Portfolio

MESSAGES = {
    "date": pl.Date(),
    "idempotency_key": pl.String(),
    "customer_id": pl.String(),
    "journey_id": pl.String(),
    "step_day": pl.Int64(),
    "channel": pl.String(),
    "content": pl.String(),
    "variant": pl.String(),
    "send_at": pl.Datetime("us", "UTC"),
    "withheld": pl.String(),
}

DEFAULT_HOUR = 10
"""Local hour at which customers are reached whose best hour is not known."""


def write_messages(
    assignments: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio, *, today: date, now: datetime | None = None
) -> pl.LazyFrame:
    """One row per step that is due today for a treated customer in a journey, withheld ones with the reason.

    ``now``: for a run while ``today`` is not over; messages are then due at the next best hour. None = the day after.
    """
    steps = pl.LazyFrame(
        [
            (
                journey.id,
                step.day,
                step.channel,
                step.content,
                step.variant,
                _covers((*portfolio.policy.suppress, *journey.suppress), today),
            )
            for journey in portfolio.journeys
            for step in journey.steps
        ],
        schema={
            "journey_id": pl.String,
            "step_day": pl.Int64,
            "channel": pl.String,
            "content": pl.String,
            "variant": pl.String,
            "is_blackout": pl.Boolean,
        },
        orient="row",
    )
    suppressed = portfolio.policy.suppressed_when
    zones = profiles.select(pl.col("timezone").unique().sort().drop_nulls()).collect()["timezone"]
    customers = profiles.select(
        "customer_id",
        "best_hour",
        "timezone",
        is_suppressed=suppressed.expr if suppressed is not None else pl.lit(value=False),
        **{f"may:{channel.id}": rules.is_usable(channel) for channel in portfolio.channels},
    )
    is_usable = rules.one_of(
        [(pl.col("channel") == channel.id, pl.col(f"may:{channel.id}")) for channel in portfolio.channels],
        otherwise=pl.lit(value=False),
    )
    withheld = rules.one_of(
        [
            (~is_usable, pl.lit("no_consent")),
            (pl.col("is_suppressed"), pl.lit("suppressed")),
            (pl.col("is_blackout"), pl.lit("blackout")),
        ],
        otherwise=pl.lit(None, dtype=pl.String),
    )
    return (
        assignments.filter(pl.col("arm") == "treated")
        .select("customer_id", "journey_id", "entered_on", step_day="day_index")
        .join(steps, on=["journey_id", "step_day"], how="inner")
        .join(customers, on="customer_id", how="left")
        .with_columns(
            pl.lit(today).alias("date"),
            idempotency_key=_idempotency_key(),
            send_at=_send_at([zone for zone in zones if is_time_zone(zone)], portfolio.timezone, today, now),
            withheld=withheld,
        )
        .select(*MESSAGES)
        .cast(pl.Schema(MESSAGES))
        .sort("idempotency_key")
    )


def _covers(periods: tuple[Period, ...], today: date) -> bool:
    return any(period.first <= today <= period.last for period in periods)


def _idempotency_key() -> pl.Expr:
    """Name a message once and for all: the same customer, journey, entry, step and channel is the same message."""
    parts = ["customer_id", "journey_id", pl.col("entered_on").dt.strftime("%Y-%m-%d"), pl.col("step_day").cast(pl.String), "channel"]
    return rules.hexadecimal(rules.xxh64(pl.concat_str(parts, separator=":")))


def _send_at(zones: list[str], default: str, today: date, now: datetime | None) -> pl.Expr:
    """UTC time of the customer's best hour tomorrow - or today, if that is still ahead of ``now``."""
    tomorrow = _best_hour(zones, default, today + timedelta(days=1))
    if now is None:
        return tomorrow
    this_day = _best_hour(zones, default, today)
    return pl.when(this_day > pl.lit(now.astimezone(UTC))).then(this_day).otherwise(tomorrow)


def _best_hour(zones: list[str], default: str, day: date) -> pl.Expr:
    """The day's best hour where the customer lives; an hour that the clocks skip is the next one."""
    wall = pl.lit(datetime.combine(day, time())) + pl.duration(hours=pl.col("best_hour").fill_null(DEFAULT_HOUR))

    def at(zone: str) -> pl.Expr:
        existing = wall.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        following = wall.dt.offset_by("1h").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        return existing.fill_null(following).dt.convert_time_zone("UTC")

    return rules.one_of([(pl.col("timezone") == zone, at(zone)) for zone in zones], otherwise=at(default))
