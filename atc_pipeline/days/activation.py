"""A day of activation: the messages due, and what is handed to whoever delivers them.

What belongs here: what a day of each reads, which days may be sent, what is tried again. What does not: what a message is
(``activation.messages``), channels and the ledger (``resources.delivery``).
"""

from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.activation.library import content_library
from atc_pipeline.activation.messages import due_again, other_keys, write_messages
from atc_pipeline.activation.rendering import profile_columns, render_messages, rendered_table
from atc_pipeline.activation.tables import NOT_TRIED, OUTBOUND_MESSAGES, PENDING, TROUBLES, WOULD_SEND
from atc_pipeline.days.customers import profiles_of
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules import reach
from atc_pipeline.rules.people import survivors
from atc_pipeline.tables.store import DamagedDayError, Store, Tables

PATIENCE_DAYS = 2
"""For how many days after its own a message is tried again that no receiver has answered for."""

Clock = Callable[[], datetime]
"""Says what time it is."""

_EARLIER = ("date", "customer_id", "journey_id", "step_day", "channel", "content", "withheld")


class Messages:
    """Writes what each treated customer in a journey is due."""

    made_by = None

    def __init__(self, store: Store, portfolio: Portfolio, clock: Clock | None = None) -> None:
        """``clock``: messages of a day that is not over are due at the next best hour; without one, every day is over."""
        self.store, self.portfolio, self.clock = store, portfolio, clock
        capped = [channel.cap.days - 1 for channel in portfolio.channels if channel.cap is not None]
        self.longest = max([*(journey.length_days for journey in portfolio.journeys), *capped], default=0)
        columns = {name: OUTBOUND_MESSAGES.schema[name] for name in _EARLIER}
        self.messages = Rolling(store, "outbound_messages", self.longest, columns, since=portfolio.starts_on, is_fixed=True)

    def make(self, day: date) -> Tables:
        """Return ``outbound_messages``, ``rendered_messages`` and ``content_library``."""
        now = self.clock() if self.clock is not None else None
        plan = write_messages(
            self.store.lazy("journey_assignments", day),
            profiles_of(self.store, self.portfolio, day, columns_of_profiles(self.portfolio)),
            self.portfolio,
            today=day,
            now=now if now is not None and _today(now, self.portfolio) == day else None,
            earlier=self._earlier(day),
            render=render_messages,
        )
        rendered = rendered_table(plan.rendered)
        library = content_library(rendered, self.portfolio, today=day)
        return {"outbound_messages": plan.messages, "rendered_messages": rendered, "content_library": library}

    def _earlier(self, day: date) -> pl.LazyFrame | None:
        """Read messages of the days before, as far back as a journey or a cap reaches, of customers as they are known on the day.

        Raises MissingDayError where one of those days has none: what it sent could not be told from what it did not.
        """
        if day <= self.portfolio.starts_on:
            return None
        recent = self.messages.until(day - timedelta(days=1))
        return survivors(recent, absorbed(self.store.lazy("identity_map", day), since=day - timedelta(days=self.longest + 1)))


class Carrier(Protocol):
    """Takes messages out, and knows what became of those that went out before."""

    def has_older_keys(self, since: date) -> bool:
        """Return whether a message of that day or later may be known by an older key."""

    def deliver(self, messages: pl.DataFrame, other_keys: pl.DataFrame) -> pl.DataFrame:
        """Send what is to be sent; one row per message, with what became of it."""

    def unanswered(self, messages: pl.DataFrame, not_tried: pl.Series, other_keys: pl.DataFrame) -> pl.DataFrame:
        """Keep of messages that were sent before those that nobody has answered for."""


class Sending:
    """Hands a day's messages over, and those of the last days that nobody has answered for."""

    made_by = None

    def __init__(self, store: Store, portfolio: Portfolio, carrier: Callable[[date], Carrier], days: Sequence[date]) -> None:
        """``carrier``: who takes a day's messages out. ``days``: those that will be made.

        What became of them in an earlier run is read now: no day is made from its own table.
        """
        self.store, self.portfolio, self.carrier = store, portfolio, carrier
        self.in_vain = {day: sent_in_vain(store, day) for day in days}

    def make(self, day: date) -> Tables:
        """Return ``activation``, once the messages are out."""
        messages, carrier = messages_of(self.store, day), self.carrier(day)
        sent = carrier.deliver(messages, self._other_keys(messages, day, carrier))
        return {"activation": _not_forgotten(sent, self.in_vain[day])}

    def again(self, today: date, clock: Clock, carrier: Carrier, sent: Collection[date]) -> pl.DataFrame:
        """Send what was sent on one of the last days and not answered for; one row per day, channel and status: how many ``messages``.

        The ledger remembers the outcomes; the tables of those days stay as their own runs wrote them. ``sent``: days that this run
        has sent already.
        """
        counted = []
        for day in (today - timedelta(days=age) for age in range(PATIENCE_DAYS, 0, -1)):
            if day in sent or not all(self.store.has(table, day) for table in _HANDED_OVER):
                continue
            messages = messages_of(self.store, day)
            keys = self._other_keys(messages, day, carrier)
            not_tried = self.store.lazy("activation", day).filter(pl.col("status") == NOT_TRIED).collect()["idempotency_key"]
            unanswered = carrier.unanswered(messages, not_tried, keys)
            if unanswered.is_empty():
                continue
            since = absorbed(self.store.lazy("identity_map", today), since=day)
            profiles = profiles_of(self.store, self.portfolio, today, columns_of_profiles(self.portfolio))
            due = due_again(unanswered.lazy(), profiles, self.portfolio, today=today, now=clock(), absorbed=since)
            counted.append(carrier.deliver(due.collect(), keys))
        tried = pl.concat(counted) if counted else pl.DataFrame(schema={"date": pl.Date, "channel": pl.String, "status": pl.String})
        return tried.group_by("date", "channel", "status").len("messages").sort("date", "channel", "status")

    def _other_keys(self, messages: pl.DataFrame, day: date, carrier: Carrier) -> pl.DataFrame:
        since = messages["entered_on"].min()
        with_older = isinstance(since, date) and carrier.has_older_keys(since)
        return other_keys(messages, absorbed(self.store.lazy("identity_map", day)), with_older=with_older)


_HANDED_OVER = ("journey_assignments", "identity_map", "outbound_messages", "activation")
"""What is read of a day whose messages are tried again."""


def messages_of(store: Store, day: date) -> pl.DataFrame:
    """Read the day's messages with what they were decided by."""
    decisions = store.lazy("journey_assignments", day).select(
        "customer_id", "entered_on", decision=pl.struct(pl.all()).struct.json_encode()
    )
    return store.lazy("outbound_messages", day).join(decisions, on="customer_id", how="left").collect()


def sent_in_vain(store: Store, day: date) -> pl.DataFrame:
    """One row per message that an earlier run of the day sent or was to send, and did not deliver: ``idempotency_key, before, why``."""
    nothing = pl.DataFrame(schema={"idempotency_key": pl.String, "before": pl.String, "why": pl.String})
    if not store.has("activation", day):
        return nothing
    try:
        troubles = store.lazy("activation", day).filter(pl.col("status").is_in(TROUBLES))
        return troubles.select("idempotency_key", before=pl.col("status").replace({PENDING: "unknown"}), why="reason").collect()
    except DamagedDayError:  # it is about to be made again; the ledger still knows what was handed over
        return nothing


def _not_forgotten(sent: pl.DataFrame, in_vain: pl.DataFrame) -> pl.DataFrame:
    """Keep what became of messages that are only rehearsed now: a late file does not turn an outage into a dry run that went well."""
    kept = (pl.col("status") == WOULD_SEND) & pl.col("before").is_not_null()
    return sent.join(in_vain, on="idempotency_key", how="left", maintain_order="left").select(
        *sent.columns[:-2],
        status=pl.when(kept).then("before").otherwise("status"),
        reason=pl.when(kept).then("why").otherwise("reason"),
    )


def columns_of_profiles(portfolio: Portfolio) -> set[str]:
    """Name what messages need to know of a customer."""
    suppressed = portfolio.policy.suppressed_when
    reached = {name for channel in portfolio.channels for name in reach.columns(channel)}
    conditions = [channel.when for channel in portfolio.channels]
    conditions += [suppressed, *(step.when for journey in portfolio.journeys for step in journey.steps)]
    asked = {name for condition in conditions if condition is not None for name in condition.columns}
    preferred = {"preferred_channel"} if portfolio.engagement is not None else set()
    return {"customer_id", "best_hour", "timezone", *reached, *asked, *preferred, *profile_columns(portfolio)}


def days_to_send(days: Sequence[date], named: Collection[str], now: datetime, portfolio: Portfolio) -> set[date]:
    """Return which of the days are sent: those that are current, and past ones that are named."""
    return {day for day in days if is_current(day, now, portfolio) or day.isoformat() in named}


def is_current(day: date, now: datetime, portfolio: Portfolio) -> bool:
    """True for today and for the day just over, where the business is."""
    return day >= _today(now, portfolio) - timedelta(days=1)


def _today(now: datetime, portfolio: Portfolio) -> date:
    return now.astimezone(ZoneInfo(portfolio.timezone)).date()
