"""Outbound messages: what each treated customer in a journey is due, on which channel, when - or why not (SPEC 9).

What belongs here: which step is due today, consent, the hour. What does not: sending (``resources.delivery.delivery``).
"""

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.activation.tables import ALREADY_SENT, KEY_COLLISION, OUTBOUND_MESSAGES
from atc_pipeline.activation.timing import with_send_at
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules import reach
from atc_pipeline.rules.lots import hexadecimal, sha256, xxh64
from atc_pipeline.rules.numbers import one_of
from atc_pipeline.rules.people import survivors


def write_messages(
    assignments: pl.LazyFrame,
    profiles: pl.LazyFrame,
    portfolio: Portfolio,
    *,
    today: date,
    now: datetime | None = None,
    earlier: pl.LazyFrame | None = None,
) -> pl.LazyFrame:
    """One row per step that is due today for a treated customer in a journey, withheld ones with the reason.

    ``now``: for a run while ``today`` is not over; messages are then due at the next best hour. None = the day is over.
    ``earlier``: messages of the days before, of customers as they are known today; None = there are none.
    """
    steps = pl.LazyFrame(
        [
            (
                journey.id,
                step.day,
                step.channel,
                step.content,
                step.variant,
                bool(reach.blackouts(portfolio.policy, journey, today, today)),
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
    due = (
        assignments.filter(pl.col("arm") == "treated")
        .select("customer_id", "journey_id", "entered_on", step_day="day_index")
        .join(steps, on=["journey_id", "step_day"], how="inner")
    )
    withheld = one_of(
        [
            (~pl.col("is_usable"), pl.lit("no_consent")),
            (pl.col("is_suppressed"), pl.lit("suppressed")),
            (pl.col("is_blackout"), pl.lit("blackout")),
            (pl.col("was_sent"), pl.lit(ALREADY_SENT)),
            (pl.col("idempotency_key").is_duplicated(), pl.lit(KEY_COLLISION)),
        ],
        otherwise=pl.lit(None, dtype=pl.String),
    )
    after = datetime.combine(today + timedelta(days=1), time(), ZoneInfo(portfolio.timezone)) if now is None else now
    first = today + timedelta(days=1) if now is None else today
    return (
        with_send_at(_reachable(_sent_before(due, steps, earlier), profiles, portfolio), profiles, portfolio.timezone, first, after)
        .with_columns(pl.lit(today).alias("date"), idempotency_key=_key("customer_id"))
        .with_columns(withheld=withheld)
        .select(*OUTBOUND_MESSAGES.schema)
        .cast(OUTBOUND_MESSAGES.schema)
        .sort("idempotency_key", "customer_id")
    )


def due_again(
    messages: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio, *, today: date, now: datetime, absorbed: pl.LazyFrame
) -> pl.LazyFrame:
    """One row per message of an earlier day, due at the customer's next best hour, or withheld from who may not be written to any more.

    ``profiles`` are of ``today``: who has withdrawn since, is suppressed or is gone is not written to. ``absorbed``: who is somebody
    else since; the message stays what it was.
    """
    columns = messages.collect_schema().names()
    known_now = survivors(messages.with_columns(planned_for="customer_id").drop("send_at"), absorbed)
    reachable = _reachable(known_now, profiles, portfolio)
    withheld = one_of(
        [(~pl.col("is_usable"), pl.lit("no_consent")), (pl.col("is_suppressed").fill_null(value=True), pl.lit("suppressed"))],
        otherwise=pl.col("withheld"),
    )
    timed = with_send_at(reachable.with_columns(withheld=withheld), profiles, portfolio.timezone, today, now)
    return timed.with_columns(customer_id="planned_for").select(columns)


def other_keys(messages: pl.DataFrame, absorbed: pl.LazyFrame, *, with_older: bool) -> pl.DataFrame:
    """One row per other key that a message may have gone out under: ``idempotency_key, name, other_key``.

    A message is known by every name the customer had since entering the journey (SPEC 8), and ``with_older`` by the keys that
    versions before SHA-256 made. ``absorbed``: ``identity.map.absorbed``. ``messages`` has ``entered_on``, too.
    """
    due = messages.lazy().select("idempotency_key", "customer_id", "journey_id", "entered_on", "step_day", "channel")
    since = messages["entered_on"].min()
    before = absorbed.filter(pl.col("valid_from") >= since) if since is not None else absorbed.clear()
    renamed = (
        due.join(before, on="customer_id", how="inner")
        .filter(pl.col("valid_from") >= pl.col("entered_on"))  # who was absorbed earlier cannot have been in this entry
        .rename({"absorbed": "name"})
    )
    keys = [renamed.with_columns(other_key=_key("name"))]
    if with_older:
        every = pl.concat([due.with_columns(name="customer_id"), renamed.select(*due.collect_schema().names(), "name")])
        keys.append(every.with_columns(other_key=_older_key("name")))
    return pl.concat([frame.select("idempotency_key", "name", "other_key") for frame in keys]).unique().sort(pl.all()).collect()


def text_of(customer: str) -> pl.Expr:
    """Name a message once and for all: the same customer, journey, entry, step and channel is the same message.

    Only the first part can have a colon in it (journeys and channels are names without any), so two messages never have one text.
    """
    parts = [customer, "journey_id", pl.col("entered_on").dt.strftime("%Y-%m-%d"), pl.col("step_day").cast(pl.String), "channel"]
    return pl.concat_str(parts, separator=":")


def _key(customer: str) -> pl.Expr:
    return sha256(text_of(customer)).str.slice(0, 32)


def _older_key(customer: str) -> pl.Expr:
    return hexadecimal(xxh64(text_of(customer)))


def _sent_before(due: pl.LazyFrame, steps: pl.LazyFrame, earlier: pl.LazyFrame | None) -> pl.LazyFrame:
    """Add ``was_sent``: whether the content went out on the channel in this entry already, by a step that was moved since.

    A content that the journey lists twice is meant twice.
    """
    step, message = ["journey_id", "step_day", "channel", "content"], ["customer_id", "journey_id", "channel", "content"]
    if earlier is None:
        return due.with_columns(was_sent=pl.lit(value=False))
    sent = earlier.filter(pl.col("withheld").is_null())
    # In two passes, for as a rule nothing was moved: a few words of each row are read then, and no customer.
    moved = sent.select(step).unique().join(steps, on=step, how="anti").collect().lazy()
    last = sent.join(moved, on=step, how="semi").group_by(message).agg(sent_on=pl.col("date").max())
    return due.join(last, on=message, how="left").with_columns(was_sent=(pl.col("sent_on") >= pl.col("entered_on")).fill_null(value=False))


def _reachable(messages: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """Add to messages of customers with a profile what it says: ``best_hour, timezone, is_suppressed, is_usable`` (the channel)."""
    suppressed = portfolio.policy.suppressed_when
    customers = profiles.select(
        "customer_id",
        "best_hour",
        "timezone",
        is_suppressed=(suppressed.expr if suppressed is not None else pl.lit(value=False)).fill_null(value=False),
        **{f"may:{channel.id}": reach.is_usable(channel) for channel in portfolio.channels},
    )
    is_usable = one_of(
        [(pl.col("channel") == channel.id, pl.col(f"may:{channel.id}")) for channel in portfolio.channels],
        otherwise=pl.lit(value=False),
    )
    return messages.join(customers, on="customer_id", how="left").with_columns(is_usable=is_usable)
