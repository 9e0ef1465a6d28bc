"""What comes back of what we did: events about journeys that began or ended, messages and audiences, to be read like any other (SPEC 9.12).

What belongs here: which events there are, and their bytes, from the day's tables alone. What does not: where and whether they are written
(``days.sent``, ``resources.storage.landing``), and what they count for (``rules.ours``).
"""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.activation.tables import KEY, SENT_EVENTS
from atc_pipeline.rules.lots import hexadecimal, xxh64
from atc_pipeline.rules.ours import LIBRARY
from atc_pipeline.rules.people import VISITOR
from atc_pipeline.tables.table import MOMENT

LINE = "line"
"""The column with the event as it is written."""


def tell(
    assignments: pl.LazyFrame,
    state: pl.LazyFrame,
    messages: pl.LazyFrame,
    activation: pl.LazyFrame,
    syncs: pl.LazyFrame | None = None,
    *,
    today: date,
    timezone: str,
) -> pl.DataFrame:
    """One row per event of what a day has come to, with its ``line``, in the order of their ids.

    ``assignments``, ``state``, ``messages``, ``activation``: the day's tables. ``syncs``: ``audience_id, destination, customer_id,
    operation, status`` of what audiences were told; None where there are none.
    """
    over = datetime.combine(today + timedelta(days=1), time(), ZoneInfo(timezone)).astimezone(UTC)
    end = datetime.combine(today + timedelta(days=2), time(), ZoneInfo(timezone)).astimezone(UTC) - timedelta(microseconds=1)
    decided = pl.lit(over, MOMENT)
    parts = [
        _journeys(assignments, decided, today),
        _endings(state, decided, today),
        _messages(messages, activation, over, end),
        *([] if syncs is None else [_audiences(syncs, decided, today)]),
    ]
    events = pl.concat(parts, how="diagonal").with_columns(
        pl.lit(today).alias("date"), message_id=hexadecimal(xxh64(pl.concat_str("event", pl.lit(":"), "key")))
    )
    return events.with_columns(_line().alias(LINE)).select(*SENT_EVENTS.schema, LINE).sort("message_id").collect()


def _journeys(assignments: pl.LazyFrame, decided: pl.Expr, today: date) -> pl.LazyFrame:
    """Who entered a journey, in either arm: this is the exposure."""
    entered = assignments.filter(pl.col("decision").is_in(["start", "switch"]) & (pl.col("entered_on") == today))
    return entered.select(
        "customer_id",
        event=pl.lit("Journey Started"),
        key=_spell(),
        idempotency_key=pl.lit(None, pl.String()),
        timestamp=decided,
        properties=_object("journey_id", "entered_on", "ends_on", "arm", "score"),
    )


def _endings(state: pl.LazyFrame, decided: pl.Expr, today: date) -> pl.LazyFrame:
    ended = state.filter(pl.col("ended_on") == today)
    return ended.select(
        "customer_id",
        event=pl.lit("Journey Ended"),
        key=_spell(),
        idempotency_key=pl.lit(None, pl.String()),
        timestamp=decided,
        properties=_object("journey_id", "entered_on", "ended_on", "arm", reason="ended_reason"),
    )


def _messages(messages: pl.LazyFrame, activation: pl.LazyFrame, over: datetime, end: datetime) -> pl.LazyFrame:
    """What was handed over, and what failed for good; of what is uncertain nobody can say anything yet.

    It happened when it was handed over, or where that is not noted at its hour, on the day on which it is told.
    """
    noted = activation.collect_schema()
    what = pl.when(pl.col("status") == "delivered").then(pl.lit("Message Sent")).when(pl.col("status") == "failed")
    happened = pl.col("sent_at") if "sent_at" in noted else pl.lit(None, MOMENT)
    return (
        activation.select(*KEY, "journey_id", "channel", "status", "reason", event=what.then(pl.lit("Message Failed")), happened=happened)
        .drop_nulls("event")
        .join(messages.select(*KEY, "step_day", "content", "variant", "send_at"), on=KEY, how="inner")
        .select(
            "customer_id",
            "event",
            "idempotency_key",
            key="idempotency_key",
            timestamp=pl.coalesce("happened", pl.col("send_at").clip(pl.lit(over, MOMENT), pl.lit(end, MOMENT))),
            properties=_object("idempotency_key", "journey_id", "step_day", "channel", "content", "variant", "reason"),
        )
    )


def _audiences(syncs: pl.LazyFrame, decided: pl.Expr, today: date) -> pl.LazyFrame:
    """Whom a destination has acknowledged as a member, or as one no more."""
    events = {"add": "Audience Entered", "remove": "Audience Exited"}
    acknowledged = syncs.filter((pl.col("status") == "acknowledged") & pl.col("operation").is_in(list(events)))
    return acknowledged.select(
        "customer_id",
        event=pl.col("operation").replace_strict(events, return_dtype=pl.String),
        key=pl.concat_str("audience_id", "destination", "customer_id", pl.lit(today.isoformat()), separator=":"),
        idempotency_key=pl.lit(None, pl.String()),
        timestamp=decided,
        properties=_object("audience_id", "destination"),
    )


def _spell() -> pl.Expr:
    return pl.concat_str("customer_id", "journey_id", pl.col("entered_on").dt.to_string("%Y-%m-%d"), separator=":")


def _object(*names: str, **renamed: str) -> pl.Expr:
    """Write columns as a JSON object."""
    return pl.struct([*map(pl.col, names), *(pl.col(column).alias(name) for name, column in renamed.items())]).struct.json_encode()


def _line() -> pl.Expr:
    """Write an event as a line of the landing zone; a visitor is named as one."""

    def head_of(name: str, value: pl.Expr) -> pl.Expr:
        at = pl.col("timestamp").dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ").alias("timestamp")
        kind = pl.lit("track").alias("type")
        return pl.struct([pl.col("message_id").alias("messageId"), kind, pl.col("event"), value.alias(name), at]).struct.json_encode()

    visitor, user = head_of("anonymousId", pl.col("customer_id").str.strip_prefix(VISITOR)), head_of("userId", pl.col("customer_id"))
    head = pl.when(pl.col("customer_id").str.starts_with(VISITOR)).then(visitor).otherwise(user)
    tail = f',"context":{{"library":{{"name":"{LIBRARY}"}}}}}}'
    return pl.concat_str(head.str.head(-1), pl.lit(',"properties":'), "properties", pl.lit(tail))
