"""Delivery: one day's messages through their channels, with the ledger written before and after each batch.

What belongs here: the order of claiming, sending and settling that makes a kill harmless, and when to give a channel up. What does
not: how a message travels (``channels``), how it is remembered (``ledger``), which days may be sent at all (the asset).
"""

from collections.abc import Iterable, Iterator, Mapping

import dagster as dg
import polars as pl

from atc_pipeline.activation.tables import KEY_COLLISION, NOT_TRIED, PENDING
from atc_pipeline.escaping import log_line
from resources.channels.channel import Channel, Clock
from resources.delivery.ledger import Ledger

GIVEN_UP_AFTER = 3
"""Batches in a row of which the receiver took and decided nothing, after which its channel is left alone for the run: waiting for
each of a million messages in turn would keep the other channels waiting, too."""

_OUTCOME = {"idempotency_key": pl.String, "status": pl.String, "reason": pl.String}


def deliver(
    messages: pl.DataFrame, channels: Mapping[str, Channel], ledger: Ledger, now: Clock, other_keys: pl.DataFrame | None = None
) -> pl.DataFrame:
    """One row per message, sorted by key: ``date, idempotency_key, customer_id, journey_id, channel, status, reason``.

    ``messages`` is ``outbound_messages`` of a day with one more column, ``decision`` (the decision row as JSON text, kept in the ledger).
    ``other_keys`` are the keys a message may have gone out under before (``messages.other_keys``): it is then the same message, and
    is sent under the key it has in the ledger, if it is sent at all.

    ``status`` is ``delivered`` (now or ever before); ``failed`` (certainly not arrived), ``unknown`` (perhaps), ``pending`` (another
    process is sending it) or ``not_tried`` (its channel was given up before its turn); ``withheld``; or, in a dry run, ``would_send``.

    A message that was delivered is not sent again. One that failed, or whose outcome is unknown, is sent again whenever it is asked
    for, with the same key. Two messages with one key are both withheld. A dry run reads the ledger and writes nothing.
    """
    known = _known(messages, ledger, other_keys)
    keyed = (
        messages.join(known, on="idempotency_key", how="left", maintain_order="left")
        .rename({"idempotency_key": "own_key"})
        .with_columns(idempotency_key=pl.coalesce("ledger_key", "own_key"))
        .with_columns(withheld=pl.when(pl.col("idempotency_key").is_duplicated()).then(pl.lit(KEY_COLLISION)).otherwise("withheld"))
    )
    is_delivered = (pl.col("known") == "delivered").fill_null(value=False) & (pl.col("withheld") != KEY_COLLISION).fill_null(value=True)
    to_send = keyed.filter(pl.col("withheld").is_null() & ~is_delivered).sort("idempotency_key")
    missing = sorted(set(to_send["channel"]) - channels.keys())
    if missing:
        raise ValueError(f"messages go out by {', '.join(map(repr, missing))}, but only these channels are connected: {sorted(channels)}")
    outcomes = pl.concat([pl.DataFrame(schema=_OUTCOME), *_send_all(to_send, channels, ledger, now)])
    left = to_send.join(outcomes, on="idempotency_key", how="anti")
    elsewhere = ledger.statuses(left["idempotency_key"]).with_columns(reason=pl.lit("handed over by another process"))
    result = keyed.join(pl.concat([outcomes, elsewhere]), on="idempotency_key", how="left")
    return result.select(
        "date",
        pl.col("own_key").alias("idempotency_key"),
        "customer_id",
        "journey_id",
        "channel",
        status=pl.when(is_delivered)
        .then(pl.lit("delivered"))
        .when(pl.col("withheld").is_not_null())
        .then(pl.lit("withheld"))
        .otherwise(pl.coalesce("status", pl.lit("unknown"))),
        reason=pl.when(~is_delivered & (pl.col("status") != "delivered").fill_null(value=True)).then(pl.coalesce("withheld", "reason")),
    ).sort("idempotency_key", "customer_id")


def unanswered_messages(messages: pl.DataFrame, not_tried: pl.Series, ledger: Ledger, other_keys: pl.DataFrame | None) -> pl.DataFrame:
    """Keep of messages that were sent before those that nobody has answered for: unknown, never taken, or (by key) ``not_tried``."""
    known = messages.join(_known(messages, ledger, other_keys), on="idempotency_key", how="left", maintain_order="left")
    is_open = pl.col("ledger_key").is_in(ledger.undecided(known["ledger_key"].drop_nulls()).implode())
    was_passed_over = pl.col("ledger_key").is_null() & pl.col("idempotency_key").is_in(not_tried.implode())
    return known.filter(pl.col("withheld").is_null() & (is_open.fill_null(value=False) | was_passed_over)).select(messages.columns)


def _known(messages: pl.DataFrame, ledger: Ledger, other_keys: pl.DataFrame | None) -> pl.DataFrame:
    """One row per message the ledger has: ``idempotency_key``, the ``ledger_key`` it is found under, and its status there (``known``).

    Of several keys the one that arrived, else the one that may have.
    """
    own = ledger.statuses(messages["idempotency_key"]).select("idempotency_key", ledger_key="idempotency_key", known="status")
    if other_keys is None:
        return own
    renamed = ledger.under_other_keys(other_keys).select("idempotency_key", ledger_key="other_key", known="status")
    certainty = pl.col("known").replace_strict({"delivered": 0, "pending": 1, "unknown": 1, "failed": 2}, return_dtype=pl.Int64)
    return pl.concat([own, renamed]).sort(certainty, maintain_order=True).unique("idempotency_key", keep="first", maintain_order=True)


def _send_all(to_send: pl.DataFrame, channels: Mapping[str, Channel], ledger: Ledger, now: Clock) -> Iterator[pl.DataFrame]:
    """Yield one row per message that was sent, or that its channel was given up before: ``idempotency_key, status, reason``."""
    live = pl.col("channel").is_in([name for name, channel in channels.items() if not channel.is_dry])
    for name in to_send.filter(~live)["channel"].unique().sort():
        yield channels[name].send(to_send.filter(pl.col("channel") == name)).select(*_OUTCOME)
    names = to_send.filter(live)["channel"].unique().sort()
    if names.is_empty():
        return  # and nothing is written, not even that somebody is here
    with ledger.sender() as sender:
        for name in names:
            batches = to_send.filter(pl.col("channel") == name).iter_slices(channels[name].batch_size)
            yield from _send_batches(batches, channels[name], ledger, now, sender)


def _send_batches(batches: Iterable[pl.DataFrame], channel: Channel, ledger: Ledger, now: Clock, sender: str) -> Iterator[pl.DataFrame]:
    """Claim, send and settle batch after batch of one channel, until there is none left or the channel is given up."""
    in_vain = 0
    for batch in batches:
        if in_vain == GIVEN_UP_AFTER:
            yield _not_tried(batch)
            continue
        claimed = ledger.claim(batch, now(), sender)
        if claimed.is_empty():
            continue
        outcomes = (
            claimed.select("idempotency_key", "channel")
            .join(channel.send(claimed), on="idempotency_key", how="left", maintain_order="left")
            .with_columns(pl.col("status").fill_null("unknown"), pl.col("is_final").fill_null(value=False))
        )
        ledger.settle(outcomes)
        _log_troubles(outcomes)
        in_vain = 0 if outcomes["is_final"].any() else in_vain + 1
        if in_vain == GIVEN_UP_AFTER:
            _warn(
                f"{batch['channel'][0]}: given up for this run after {in_vain} batches in a row that were not taken; the rest is not tried"
            )
        yield outcomes.select(*_OUTCOME)


def _not_tried(batch: pl.DataFrame) -> pl.DataFrame:
    """Say of messages whose channel was given up what is true: those that an earlier run had handed over may have arrived."""
    before = pl.col("known").replace({PENDING: "unknown"})
    return batch.select(
        "idempotency_key",
        status=pl.coalesce(before, pl.lit(NOT_TRIED)),
        reason=pl.lit(f"the channel was given up after {GIVEN_UP_AFTER} batches in a row that were not taken"),
    )


def _log_troubles(outcomes: pl.DataFrame) -> None:
    """Say why messages were not delivered, the five commonest reasons of a batch."""
    troubles = outcomes.filter(pl.col("status") != "delivered").group_by("channel", "status", "reason").len("messages")
    for row in troubles.sort("messages", "status", "reason", descending=[True, False, False]).head(5).iter_rows(named=True):
        _warn(f"{row['channel']}: {row['messages']} of {outcomes.height} messages {row['status']}: {row['reason'] or 'no reason given'}")


def _warn(text: str) -> None:
    dg.get_dagster_logger(__name__).warning(log_line(text))
