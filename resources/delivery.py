"""Delivery: one day's messages through their channels, with the ledger written before and after each batch.

What belongs here: the order of claiming, sending and settling that makes a kill harmless. What does not: how a message travels
(``channels``), how it is remembered (``ledger``), which days may be sent at all (the asset).
"""

from collections.abc import Mapping

import dagster as dg
import polars as pl

from resources.channels import Channel, Clock
from resources.ledger import Ledger


def deliver(messages: pl.DataFrame, channels: Mapping[str, Channel], ledger: Ledger, now: Clock) -> pl.DataFrame:
    """One row per message, sorted by key: ``date, idempotency_key, customer_id, journey_id, channel, status``.

    ``messages`` is ``outbound_messages`` of a day with one more column, ``decision`` (the decision row as JSON text, kept in the ledger).
    ``status`` is ``delivered`` (now or ever before), ``failed``, ``unknown``, ``withheld`` or, in a dry run, ``would_send``.

    A message that was delivered is not sent again. One that failed, or whose outcome is unknown, is sent again whenever it is asked
    for, with the same key. A dry run reads the ledger and writes nothing.
    """
    twice = messages.filter(pl.col("idempotency_key").is_duplicated()).sort("idempotency_key", "customer_id")
    if not twice.is_empty():
        row = twice.row(0, named=True)
        raise ValueError(f"two messages have the key {row['idempotency_key']} (customer {row['customer_id']}, journey {row['journey_id']})")
    delivered = ledger.statuses(messages["idempotency_key"]).filter(pl.col("status") == "delivered")
    to_send = messages.filter(pl.col("withheld").is_null()).join(delivered, on="idempotency_key", how="anti").sort("idempotency_key")
    missing = sorted(set(to_send["channel"]) - channels.keys())
    if missing:
        raise ValueError(f"messages go out by {', '.join(map(repr, missing))}, but only these channels are connected: {sorted(channels)}")
    outcomes = [delivered]
    for name in to_send["channel"].unique().sort():
        batches = to_send.filter(pl.col("channel") == name).iter_slices(channels[name].batch_size)
        outcomes.extend(_send(batch, channels[name], ledger, now) for batch in batches)
    return (
        messages.join(pl.concat(outcomes), on="idempotency_key", how="left")
        .with_columns(
            pl.coalesce("status", pl.when(pl.col("withheld").is_not_null()).then(pl.lit("withheld")))
            # neither sent nor withheld: another process delivered it after the ledger was read above
            .fill_null("delivered")
        )
        .select("date", "idempotency_key", "customer_id", "journey_id", "channel", "status")
        .sort("idempotency_key")
    )


def _send(batch: pl.DataFrame, channel: Channel, ledger: Ledger, now: Clock) -> pl.DataFrame:
    """One row per message that was tried: ``idempotency_key, status``."""
    if channel.is_dry:
        return channel.send(batch).select("idempotency_key", "status")
    claimed = ledger.claim(batch, now())
    if claimed.is_empty():
        return pl.DataFrame(schema={"idempotency_key": pl.String, "status": pl.String})
    outcomes = (
        claimed.select("idempotency_key", "channel")
        .join(channel.send(claimed), on="idempotency_key", how="left", maintain_order="left")
        .with_columns(pl.col("status").fill_null("unknown"))
    )
    ledger.settle(outcomes)
    _log_troubles(outcomes)
    return outcomes.select("idempotency_key", "status")


def _log_troubles(outcomes: pl.DataFrame) -> None:
    """Say why messages were not delivered: the tables have no room for reasons. The five commonest of a batch."""
    troubles = (
        outcomes.filter(pl.col("status") != "delivered").group_by("channel", "status", pl.col("reason").str.head(200)).len("messages")
    )
    for row in troubles.sort("messages", "status", "reason", descending=[True, False, False]).head(5).iter_rows(named=True):
        dg.get_dagster_logger(__name__).warning(
            f"{row['channel']}: {row['messages']} of {outcomes.height} messages {row['status']}: {row['reason'] or 'no reason given'}"
        )
