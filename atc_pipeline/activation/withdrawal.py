"""Who is not to get what was planned for them: who has said no since, whose address is dead, who has left the journey (SPEC 9.6).

What belongs here: what follows from events and from later days. What does not: finding events that nobody has ingested yet
(``resources.delivery.last_look``), what a message is (``messages``).
"""

from datetime import date

import polars as pl

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules import reach
from atc_pipeline.rules.bounces import BOUNCED, KINDS, SPAM, is_hard
from atc_pipeline.rules.people import survivors

UNSUBSCRIBED, DELIVERED = "Unsubscribed", "Email Delivered"
"""Events of Segment's Email Spec, beside those of ``rules.bounces``."""
NEWS = (UNSUBSCRIBED, SPAM, BOUNCED, DELIVERED)
"""Those that matter for what is about to go out, or may have arrived."""


def refusals(events: pl.DataFrame, portfolio: Portfolio) -> pl.DataFrame:
    """One row per event and channel on which it says that its customer is not to be written to: what there is of it, and ``channel``.

    ``events``: ``event, properties`` and more. A channel that is named and ours is meant, else by ``Unsubscribed`` all of them, and by a
    complaint or a bounce those of e-mail.
    """
    ours = [channel.id for channel in portfolio.channels]
    mailed = list(portfolio.mailed) or ours
    named = _property("channel").str.strip_chars().str.to_lowercase()
    meant = (
        pl.when(named.is_in(ours).fill_null(value=False))
        .then(pl.concat_list(named))
        .when(pl.col("event") == UNSUBSCRIBED)
        .then(pl.lit(ours, pl.List(pl.String)))
        .otherwise(pl.lit(mailed, pl.List(pl.String)))
    )
    says_no = pl.col("event").is_in([UNSUBSCRIBED, SPAM]) | ((pl.col("event") == BOUNCED) & is_hard(map(_property, KINDS)))
    return events.filter(says_no).with_columns(channel=meant).explode("channel")


def receipts(events: pl.DataFrame) -> pl.DataFrame:
    """One row per event that says a message arrived: ``key`` and ``message_id``, either of which may be null, by which it says so."""
    is_receipt = pl.col("event") == DELIVERED
    return events.filter(is_receipt).select(
        key=_property("idempotency_key"),
        message_id=pl.coalesce(_property("message_id"), _property("email_id")).str.strip_chars("<> "),
    )


def left(messages: pl.DataFrame, assignments: pl.LazyFrame, absorbed: pl.LazyFrame, day: date) -> pl.Series:
    """Return the keys of messages whose customer was not in that entry any more on a later ``day``, which is not after its last one.

    ``assignments``: of that day. ``absorbed``: who is somebody else since the messages were planned.
    """
    now = assignments.select("customer_id", pl.col("journey_id").alias("journey_now"), pl.col("entered_on").alias("entered_now"))
    in_flight = messages.lazy().filter(pl.col("ends_on") >= day).select("idempotency_key", "customer_id", "journey_id", "entered_on")
    there = survivors(in_flight, absorbed).join(now, on="customer_id", how="left")
    stays = (pl.col("journey_now") == pl.col("journey_id")) & (pl.col("entered_now") == pl.col("entered_on"))
    return there.filter(~stays.fill_null(value=False)).select("idempotency_key").collect().to_series()


def unreachable(messages: pl.DataFrame, profiles: pl.LazyFrame, absorbed: pl.LazyFrame, portfolio: Portfolio) -> pl.Series:
    """Return the keys of messages whose customer may not be written to on their channel by later ``profiles``, or is in none of them."""
    suppressed = portfolio.policy.suppressed_when
    known = profiles.select(
        "customer_id",
        is_suppressed=(suppressed.expr if suppressed is not None else pl.lit(value=False)).fill_null(value=False),
        usable=pl.concat_list(
            pl.when(reach.is_usable(channel)).then(pl.lit(channel.id)).otherwise(pl.lit(None, pl.String)) for channel in portfolio.channels
        ),
    )
    there = survivors(messages.lazy().select("idempotency_key", "customer_id", "channel"), absorbed).join(
        known, on="customer_id", how="left"
    )
    may = pl.col("usable").list.contains(pl.col("channel")).fill_null(value=False) & ~pl.col("is_suppressed").fill_null(value=True)
    return there.filter(~may).select("idempotency_key").collect().to_series()


def _property(name: str) -> pl.Expr:
    return pl.col("properties").str.json_path_match(f"$.{name}")
