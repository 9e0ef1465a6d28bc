"""What must hold of messages (SPEC 9): each promise finds the rows that break it."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from atc_pipeline.activation.tables import HELD, KEY, KEY_COLLISION, MAY_HAVE_ARRIVED, TROUBLES
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.promises.promise import Promise, between, table
from atc_pipeline.tables.store import Store


def unexpected_messages(messages: pl.LazyFrame, assignments: pl.LazyFrame) -> pl.LazyFrame:
    """Return messages to customers who are not treated in that journey today."""
    treated = assignments.filter(pl.col("arm") == "treated").select("date", "customer_id", "journey_id")
    return messages.select("date", "idempotency_key", "customer_id", "journey_id", "step_day").join(
        treated, on=["date", "customer_id", "journey_id"], how="anti"
    )


def _undelivered_messages(store: Store, _: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """One row per day, channel, status and reason: how many messages that were to be sent were not."""
    sent = store.scan("activation", days, may_lack=True)
    if sent is None:
        return pl.DataFrame()
    if "reason" not in sent.collect_schema():
        sent = sent.with_columns(reason=pl.lit(None, pl.String))  # written by an older version
    was_not_sent = pl.col("status").is_in([*TROUBLES, HELD]) | (pl.col("reason") == KEY_COLLISION)
    troubles = sent.filter(was_not_sent).group_by("date", "channel", "status", "reason").len("messages")
    return troubles.sort("date", "messages", "channel", "status", "reason", descending=[False, True, False, False, False]).collect()


def unplanned_deliveries(activation: pl.LazyFrame, messages: pl.LazyFrame) -> pl.LazyFrame:
    """Return what was handed over of the day, or may have been, without being among its messages."""
    handed_over = activation.filter(pl.col("status").is_in(MAY_HAVE_ARRIVED))
    return handed_over.join(messages, on=["date", *KEY], how="anti")


def _colliding_keys(store: Store, _: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    planned = store.scan("outbound_messages", days)
    if planned is None:
        return pl.DataFrame()
    return planned.filter(pl.col("withheld") == KEY_COLLISION).select("date", "idempotency_key", "journey_id", "channel").collect()


PROMISES = (
    Promise(
        "outbound_messages",
        "only_treated_customers_are_written_to",
        "Every message is for a treated customer who is in that journey on that day (SPEC 9). If it fails, make outbound_messages of the "
        "day again; activation waits for it.",
        between(unexpected_messages, table("outbound_messages"), table("journey_assignments")),
    ),
    Promise(
        "outbound_messages",
        "keys_are_unique",
        "No two messages have one idempotency key. Those that have are withheld (key_collision), and all others go out: it does not "
        "happen by chance, so look at who sends events with these customers' ids.",
        _colliding_keys,
        is_blocking=False,
        is_error=True,
    ),
    Promise(
        "activation",
        "only_planned_messages_are_delivered",
        "Whatever was handed over, or may have been, is a message of the day's plan (SPEC 9.7). If it fails, the day was planned "
        "again without it: the rows say which; look into the ledger for what they were sent for.",
        between(unplanned_deliveries, table("activation"), table("outbound_messages")),
    ),
    Promise(
        "activation",
        "messages_are_delivered",
        "Every message that was to be sent was delivered, or waits for its hour. See the reasons by channel, set the receiver right and "
        "run the day again (job activate); of what nobody answered for, the runs of the next 2 days try again by themselves.",
        _undelivered_messages,
        is_blocking=False,
        is_error=True,
    ),
)
"""In the order of the lineage."""
