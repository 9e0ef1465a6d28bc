"""Journey queues: who qualifies for which journey today, and how long they have been waiting (SPEC 6).

What belongs here: qualification and waiting. What does not: whether the journey may start (``candidates``, ``decision``).
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from atc_pipeline.journeys.portfolio import Journey

QUEUES = {
    "date": pl.Date(),
    "journey_id": pl.String(),
    "customer_id": pl.String(),
    "queued_on": pl.Date(),
    "waiting_days": pl.Int64(),
}


def queue_customers(
    profiles: pl.LazyFrame,
    memberships: pl.LazyFrame,
    yesterday: pl.LazyFrame | None,
    journeys: Sequence[Journey],
    *,
    today: date,
) -> pl.LazyFrame:
    """One row per journey and customer who qualifies for it today; being served does not reset the waiting.

    ``yesterday``: the queues of the day before (None on the first day of the lake).
    """
    named = sorted({name for journey in journeys for name in (*journey.queue.any, *journey.queue.all, *journey.queue.none)})
    members = memberships.filter(pl.col("segment_id").is_in(named))
    flags = members.group_by("customer_id").agg((pl.col("segment_id") == name).any().alias(_flag(name)) for name in named)
    placed = (
        profiles.join(flags, on="customer_id", how="left")
        .with_columns(pl.col(_flag(name)).fill_null(value=False) for name in named)
        .select(pl.col("customer_id").alias("customer:"), **{journey.id: _qualifies(journey) for journey in journeys})
        .unpivot(index="customer:", variable_name="journey_id", value_name="is_queued")
        .filter(pl.col("is_queued").cast(pl.Boolean))
        .rename({"customer:": "customer_id"})
    )
    if yesterday is None:
        queued_on = pl.lit(today)
    else:
        placed = placed.join(yesterday.select("journey_id", "customer_id", "queued_on"), on=["journey_id", "customer_id"], how="left")
        queued_on = pl.col("queued_on").fill_null(today)
    return (
        placed.with_columns(pl.lit(today).alias("date"), queued_on=queued_on)
        .with_columns(waiting_days=(pl.lit(today) - pl.col("queued_on")).dt.total_days())
        .select(*QUEUES)
        .sort("journey_id", "customer_id")
    )


def _flag(segment: str) -> str:
    return f"in:{segment}"


def _qualifies(journey: Journey) -> pl.Expr:
    queue = journey.queue
    tests = [pl.col(_flag(name)) for name in queue.all] + [~pl.col(_flag(name)) for name in queue.none]
    if queue.any:
        tests.append(pl.any_horizontal(_flag(name) for name in queue.any))
    if queue.where is not None:
        tests.append(queue.where.expr)
    if journey.exit_when is not None:
        tests.append(~journey.exit_when.expr)
    return pl.all_horizontal(tests)
