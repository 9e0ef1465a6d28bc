"""What must hold of messages (SPEC 9): each promise finds the rows that break it."""

from collections.abc import Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.activation.steps import Steps
from atc_pipeline.activation.tables import HELD, KEY, KEY_COLLISION, MAY_HAVE_ARRIVED, TROUBLES
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.promises.promise import Promise, between, table
from atc_pipeline.rules.people import survivors
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


def _unaccounted_steps(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """Find steps that are due and have no row, to be sent or withheld, and rows of steps that are not due."""
    planned, assignments = store.scan("outbound_messages", days), store.scan("journey_assignments", days, may_lack=True)
    if planned is None or assignments is None:
        return pl.DataFrame()
    steps = Steps.of(portfolio)
    drawn = pl.col("variant") if "variant" in assignments.collect_schema() else pl.lit(None, pl.String)  # days of an older version
    due = (
        assignments.filter(pl.col("arm") == "treated")
        .select("date", "customer_id", "journey_id", step_day="day_index", drawn=drawn)
        .join(steps.frame().lazy(), on=["journey_id", "step_day"], how="inner")
        .filter(pl.col("only").is_null() | pl.col("only").eq_missing(pl.col("drawn")))
    )
    profiles = store.scan("customer_profiles", days) if steps.conditions else None
    if profiles is not None:
        holds = {str(number): condition.expr.fill_null(value=False) for number, condition in enumerate(steps.conditions)}
        asked = pl.LazyFrame({"step": range(len(steps.steps)), "asked": steps.condition}, schema={"step": pl.Int32, "asked": pl.Int64})
        is_due = [(pl.col("asked") == int(name)) & pl.col(name).fill_null(value=False) for name in holds]
        known = profiles.select("date", "customer_id", **holds)
        due = due.join(asked, on="step", how="left").join(known, on=["date", "customer_id"], how="left")
        due = due.filter(pl.any_horizontal(pl.col("asked") == len(steps.conditions), *is_due))
    key = ["date", "customer_id", "journey_id", "step_day", "content", "channels"]
    listed = "channels" if "channels" in planned.collect_schema() else "channel"
    written = planned.select("idempotency_key", *key[:-1], channels=listed)
    missing = due.select(key).join(written, on=key, how="anti").with_columns(fault=pl.lit("is due, and has no row"))
    surplus = written.join(due, on=key, how="anti").select(*key, fault=pl.lit("is not due"))
    return pl.concat([missing, surplus]).collect()


def _sent_when(store: Store, days: Sequence[date]) -> pl.DataFrame:
    """One row per message to be sent, with the time where the customer lives: ``local_on``, ``hour`` and ``weekday`` (0 = Monday)."""
    planned = store.scan("outbound_messages", days)
    if planned is None or "zone" not in planned.collect_schema():
        return pl.DataFrame()
    columns = ("date", "idempotency_key", "customer_id", "journey_id", "channel", "zone", "send_at")
    sent = planned.filter(pl.col("withheld").is_null()).select(columns).collect()
    times = sent.select("zone", "send_at").unique()
    local = [at.astimezone(ZoneInfo(zone)) for zone, at in times.iter_rows()]
    columns_added = {
        "local_on": pl.Series([at.date() for at in local], dtype=pl.Date),
        "hour": pl.Series([at.hour for at in local], dtype=pl.Int64),
        "weekday": pl.Series([at.weekday() for at in local], dtype=pl.Int64),
    }
    return sent.join(times.with_columns(**columns_added), on=["zone", "send_at"], how="left")


def _outside_hours(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    limits = {channel.id: channel.hours for channel in portfolio.channels if channel.hours is not None}
    sent = _sent_when(store, days) if limits else pl.DataFrame()
    if sent.is_empty():
        return pl.DataFrame()
    is_open = [
        (pl.col("channel") == name)
        & pl.col("hour").is_between(hours.first, hours.end, closed="left")
        & pl.col("weekday").is_in(list(hours.days))
        for name, hours in limits.items()
    ]
    return sent.filter(pl.col("channel").is_in(list(limits)) & ~pl.any_horizontal(is_open))


def _in_a_blackout(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    everywhere = [pl.col("local_on").is_between(period.first, period.last) for period in portfolio.policy.suppress]
    here = [
        (pl.col("journey_id") == journey.id) & pl.col("local_on").is_between(period.first, period.last)
        for journey in portfolio.journeys
        for period in journey.suppress
    ]
    sent = _sent_when(store, days) if everywhere or here else pl.DataFrame()
    return sent if sent.is_empty() else sent.filter(pl.any_horizontal(*everywhere, *here))


def _over_caps(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    """One row per day, customer and channel that got more than its cap in a window that ends with a message that the cap is for."""
    exempt = [journey.id for journey in portfolio.journeys if journey.mandatory]
    broken = []
    for channel in portfolio.channels:
        for day in days if channel.cap is not None else ():
            window = [day - timedelta(days=age) for age in range(channel.cap.days if channel.cap else 0)]
            planned = store.scan("outbound_messages", window, may_lack=True)
            if planned is None:
                continue
            sent = planned.filter(pl.col("withheld").is_null() & (pl.col("channel") == channel.id))
            sent = sent.select("date", "customer_id", "journey_id")
            if store.has("identity_map", day):
                sent = survivors(sent, absorbed(store.lazy("identity_map", day), since=window[-1]))
            is_limited = ((pl.col("date") == day) & ~pl.col("journey_id").is_in(exempt)).any()
            counted = sent.group_by("customer_id").agg(is_limited.alias("is_limited"), messages=pl.len())
            over = counted.filter(pl.col("is_limited") & (pl.col("messages") > (channel.cap.messages if channel.cap else 0)))
            broken.append(over.select(pl.lit(day).alias("date"), "customer_id", pl.lit(channel.id).alias("channel"), "messages"))
    return pl.concat(broken).collect() if broken else pl.DataFrame()


def _over_places(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    places = {channel.id: channel.per_day for channel in portfolio.channels}  # nothing is more than null
    planned = store.scan("outbound_messages", days)
    if planned is None:
        return pl.DataFrame()
    counted = planned.filter(pl.col("withheld").is_null()).group_by("date", "channel").len("messages")
    limits = pl.LazyFrame({"channel": list(places), "places": list(places.values())}, schema={"channel": pl.String, "places": pl.Int64})
    return counted.join(limits, on="channel").filter(pl.col("messages") > pl.col("places")).collect()


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
        "every_step_due_is_accounted_for",
        "Each step that is due for a treated customer has one row, to be sent or withheld with the reason, and no other step has one "
        "(SPEC 9.1). If it fails, make outbound_messages of the day again; activation waits for it.",
        _unaccounted_steps,
    ),
    Promise(
        "outbound_messages",
        "messages_arrive_within_hours",
        "Whatever is sent arrives within the hours of its channel, where the customer lives (SPEC 9.5). If it fails after `hours` were "
        "changed, make outbound_messages of the day again; activation waits for it.",
        _outside_hours,
    ),
    Promise(
        "outbound_messages",
        "nothing_arrives_in_a_blackout",
        "Nothing arrives on a day that the policy or the journey suppresses, by the date where the customer lives (SPEC 9.5). If it fails "
        "after `suppress` was changed, make outbound_messages of the day again; activation waits for it.",
        _in_a_blackout,
    ),
    Promise(
        "outbound_messages",
        "caps_hold",
        "Nobody gets more messages on a channel than its cap, in any so many days that end with one the cap is for: those of mandatory "
        "journeys are counted, and exempt (SPEC 9.2). If it fails after a cap was lowered or a day before was made again, make "
        "outbound_messages of the day again; activation waits for it.",
        _over_caps,
    ),
    Promise(
        "outbound_messages",
        "places_hold",
        "No channel is given more messages on a day than it has places (SPEC 9.2). If it fails after `per_day` was lowered, make "
        "outbound_messages of the day again; activation waits for it.",
        _over_places,
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
