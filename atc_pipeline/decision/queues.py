"""Journey queues: who qualifies for which journey today, and how long they have been waiting (SPEC 6).

What belongs here: qualification and waiting. What does not: whether the journey may start (``gates``), or does (``decide``).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date

import numpy as np
import polars as pl

from atc_pipeline.decision.catalogue import MOST_CUSTOMERS, MOST_JOURNEYS, WIDER_CUSTOMERS, WIDER_JOURNEYS
from atc_pipeline.decision.tables import JOURNEY_QUEUES
from atc_pipeline.journeys.portfolio import Condition, Journey, Portfolio
from atc_pipeline.rules import people
from atc_pipeline.rules.limits import require_fits


def definitions(
    portfolio: Portfolio, segments: Mapping[str, str], definition_of: Callable[[Condition, Portfolio], object]
) -> dict[str, str]:
    """Return what each journey's queue is defined by, as a short fingerprint: what it says, and by what that is made which it reads.

    ``segments``: what each micro-segment is defined by. ``definition_of``: the same of a condition.
    """
    parts: dict[str, list[object]] = {}
    for journey in portfolio.journeys:
        queue = journey.queue
        named = [sorted((name, segments[name]) for name in names) for names in (queue.any, queue.all, queue.none)]
        tests = [None if test is None else definition_of(test, portfolio) for test in (queue.where, journey.exit_when)]
        parts[journey.id] = [*named, *tests]
    return {name: hashlib.sha256(repr(what).encode()).hexdigest()[:12] for name, what in parts.items()}


def queue_customers(
    profiles: pl.LazyFrame,
    memberships: pl.LazyFrame,
    yesterday: pl.LazyFrame | None,
    journeys: Sequence[Journey],
    *,
    today: date,
    absorbed: pl.LazyFrame | None = None,
) -> pl.LazyFrame:
    """One row per journey and customer who qualifies for it today; being served does not reset the waiting.

    ``yesterday``: the queues of the day before (None on the first day of the lake).
    ``absorbed``: ``identity.map.absorbed`` since today: whoever absorbed somebody queued has waited as long as the longer of both.
    """
    in_order = sorted(journeys, key=lambda journey: journey.id)
    profiles = profiles.sort("customer_id")
    customers, numbered = profiles.select("customer_id").collect(), qualify(profiles, memberships, in_order)
    placed = pl.LazyFrame(
        {
            "journey_id": pl.Series([journey.id for journey in in_order], dtype=pl.String).gather(numbered["journey"]),
            "customer_id": customers["customer_id"].gather(numbered["customer"]),
        }
    )
    if yesterday is None:
        queued_on = pl.lit(today)
    else:
        key, before = ["journey_id", "customer_id"], yesterday.select("journey_id", "customer_id", "queued_on")
        placed = placed.join(before, on=key, how="left", maintain_order="left")
        queued_on = pl.col("queued_on")
        if absorbed is not None:
            inherited = people.inherited(before, absorbed, "journey_id", "queued_on")
            placed = placed.join(inherited, on=key, how="left", maintain_order="left")
            queued_on = pl.min_horizontal("queued_on", "inherited")
        queued_on = queued_on.fill_null(today)
    return (
        placed.with_columns(pl.lit(today).alias("date"), queued_on=queued_on)
        .with_columns(waiting_days=(pl.lit(today) - pl.col("queued_on")).dt.total_days())
        .select(*JOURNEY_QUEUES.schema)
    )


def qualify(profiles: pl.LazyFrame, memberships: pl.LazyFrame, journeys: Sequence[Journey]) -> pl.DataFrame:
    """One row per journey and customer who qualifies for it, by number: ``journey`` in ``journeys``, ``customer`` in ``profiles``."""
    require_fits(len(journeys), MOST_JOURNEYS, "journeys of journeys.yaml", WIDER_JOURNEYS)
    named = sorted({name for journey in journeys for name in (*journey.queue.any, *journey.queue.all, *journey.queue.none)})
    if named:
        members = memberships.filter(pl.col("segment_id").is_in(named))
        flags = members.group_by("customer_id").agg((pl.col("segment_id") == name).any().alias(_flag(name)) for name in named)
        profiles = profiles.join(flags, on="customer_id", how="left", maintain_order="left").with_columns(
            pl.col(_flag(name)).fill_null(value=False) for name in named
        )
    tests = {str(number): _qualifies(journey) for number, journey in enumerate(journeys)}
    qualifies = profiles.with_columns(**tests).select(*tests).collect()
    require_fits(qualifies.height, MOST_CUSTOMERS, "customers", WIDER_CUSTOMERS)
    queued = [np.flatnonzero(test.to_numpy()).astype(np.uint32) for test in qualifies]  # a fifth of what arg_true takes
    lengths = [len(customers) for customers in queued]
    return pl.DataFrame(
        {
            "customer": np.concatenate([np.array([], dtype=np.uint32), *queued]),
            "journey": np.repeat(np.arange(len(journeys), dtype=np.uint16), lengths),
        },
        schema={"customer": pl.UInt32, "journey": pl.UInt16},
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
