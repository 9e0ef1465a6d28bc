"""A day of activation: the messages due, and what is handed to whoever delivers them.

What belongs here: what a day of each reads, which days may be sent, what is tried again. What does not: what a message is
(``activation.messages``), channels and the ledger (``resources.delivery``).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.activation import volume, withdrawal
from atc_pipeline.activation.content_library import content_library
from atc_pipeline.activation.messages import due_again, other_keys, write_messages
from atc_pipeline.activation.rendering import profile_columns, render_messages, rendered_table
from atc_pipeline.activation.tables import (
    ACTIVATION,
    HELD,
    KEY,
    NOT_TRIED,
    OUTBOUND_MESSAGES,
    PENDING,
    TO_COME,
    TROUBLES,
    WAITING,
    WITHDRAWN,
    WOULD_SEND,
)
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

    @property
    def is_live(self) -> bool:
        """Return whether anything leaves."""

    @property
    def waiting_channels(self) -> Collection[str]:
        """Return the channels that take no message before it is due."""

    def has_older_keys(self, since: date) -> bool:
        """Return whether a message of that day or later may be known by an older key."""

    def deliver(
        self,
        messages: pl.DataFrame,
        other_keys: pl.DataFrame,
        with_texts: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
        held: Collection[str] = (),
    ) -> pl.DataFrame:
        """Send what is to be sent; one row per message, with what became of it. ``held``: channels that nothing goes out by.

        ``with_texts`` adds to some of the messages what was rendered for them, and whether it should have been and is not there.
        """

    def unanswered(self, messages: pl.DataFrame, not_tried: pl.Series, other_keys: pl.DataFrame) -> pl.DataFrame:
        """Keep of messages that were sent before those that nobody has answered for."""

    def arrived(self, messages: pl.DataFrame, other_keys: pl.DataFrame) -> pl.DataFrame:
        """Keep of messages those that are known to have arrived."""


@dataclass(frozen=True)
class Sent:
    """Which days of a run are sent, and which of them only as they were named; what was too much for a channel is ``accepted`` there."""

    days: Collection[date] = ()
    past: Collection[date] = ()
    accepted: Collection[str] = ()


class Sending:
    """Hands a day's messages over, and those of the last days that nobody has answered for."""

    made_by = None

    def __init__(
        self,
        store: Store,
        portfolio: Portfolio,
        carrier: Callable[[date], Carrier],
        days: Sequence[date],
        sent: Sent | None = None,
        beside: Store | None = None,
    ) -> None:
        """``carrier``: who takes a day's messages out. ``days``: those that will be made. ``beside``: where days before and after are
        looked at, which a day is not made from.

        What became of them in an earlier run is read now: no day is made from its own table.
        """
        self.store, self.portfolio, self.carrier, self.sent = store, portfolio, carrier, sent or Sent()
        self.beside = beside or store
        self.in_vain = {day: sent_in_vain(store, day) for day in days}
        self.held: list[pl.DataFrame] = []
        """Channels with too many messages: ``date, channel, messages, median``."""

    def make(self, day: date) -> Tables:
        """Return ``activation``, once the messages are out."""
        messages, carrier = messages_of(self.store, day, self.portfolio), self.carrier(day)
        keys = _other_keys(self.store, messages, day, carrier)
        if carrier.is_live and day not in self.sent.past:
            messages = _withdrawn_since(self.beside, self.portfolio, messages, day)
        held = self._held(messages, day) if carrier.is_live else []
        if self.store.has("rendered_messages", day):
            self.store.note_read("rendered_messages", [day])  # though texts are read only of what is not out yet
        sent = carrier.deliver(messages, keys, texts_of(self.store, day, self.portfolio), held)
        return {"activation": _not_forgotten(sent, self.in_vain[day])}

    def _held(self, messages: pl.DataFrame, day: date) -> list[str]:
        """Return the channels with so many messages that somebody has to say that they are meant."""
        before = self.beside.scan("outbound_messages", [day - timedelta(days=age) for age in range(1, volume.LOOKED_BACK + 1)])
        channels = volume.unusual(messages, before).filter(~pl.col("channel").is_in(list(self.sent.accepted)))
        if channels.height:
            self.held.append(channels.select(pl.lit(day).alias("date"), pl.all()))
        return channels["channel"].to_list()

    @property
    def trouble(self) -> str | None:
        """Say which channels are held, by how much, and how to let them go; None where none is."""
        rows = [
            f"{day} {channel}: {messages:,} messages, and {median:,.0f} on a median day of the last {volume.DAYS} that had any"
            for day, channel, messages, median in (row for channels in self.held for row in channels.iter_rows())
        ]
        if not rows:
            return None
        return (
            f"held, and nothing of it was sent: {'; '.join(rows)}. Where that is meant, run activate for that day, or send_due, with "
            "the channel in accept_volume of the configuration"
        )

    def again(self, today: date, clock: Clock, carrier: Carrier) -> pl.DataFrame:
        """Send what was sent on one of the last days and not answered for; one row per day, channel and status: how many ``messages``.

        The ledger remembers the outcomes; the tables of those days stay as their own runs wrote them. Days that this run has sent
        already are left out, and so are channels that take no message before it is due: their messages are ``Due``.
        """
        counted = []
        for day in (today - timedelta(days=age) for age in range(PATIENCE_DAYS, 0, -1)):
            if day in self.sent.days or not all(self.store.has(table, day) for table in _HANDED_OVER):
                continue
            messages = messages_of(self.store, day, self.portfolio).filter(~pl.col("channel").is_in(list(carrier.waiting_channels)))
            keys = _other_keys(self.store, messages, day, carrier)
            passed_over = pl.col("status").is_in([NOT_TRIED, WAITING])
            not_tried = self.store.lazy("activation", day).filter(passed_over).collect()["idempotency_key"]
            unanswered = carrier.unanswered(messages, not_tried, keys)
            if unanswered.is_empty():
                continue
            since = absorbed(self.store.lazy("identity_map", today), since=day)
            profiles = profiles_of(self.store, self.portfolio, today, columns_of_profiles(self.portfolio))
            due = due_again(unanswered.lazy(), profiles, self.portfolio, today=today, now=clock(), absorbed=since)
            counted.append(carrier.deliver(due.collect(), keys, texts_of(self.store, day, self.portfolio)))
        tried = pl.concat(counted) if counted else pl.DataFrame(schema={"date": pl.Date, "channel": pl.String, "status": pl.String})
        return tried.group_by("date", "channel", "status").len("messages").sort("date", "channel", "status")


class Due:
    """Hands over what has waited for its hour, for a channel that was stopped, or for somebody to accept how much it is."""

    def __init__(self, store: Store, portfolio: Portfolio, carrier: Callable[[date], Carrier], accepted: Collection[str] = ()) -> None:
        """``accepted``: channels whose volume is meant."""
        self.store, self.portfolio, self.carrier, self.accepted = store, portfolio, carrier, accepted

    def make(self, day: date) -> pl.DataFrame | None:
        """Hand over what is due; return the day's ``activation`` as it is then, or None where it stays as it is."""
        before, carrier = activation_of(self.store, day), self.carrier(day)
        is_held = (pl.col("status") == HELD) & ~pl.col("channel").is_in(list(self.accepted))
        is_open = pl.col("status").is_in([*TROUBLES, *TO_COME]) & ~is_held
        waiting = before.filter(is_open)
        if waiting.is_empty():
            return None
        messages = messages_of(self.store, day, self.portfolio).join(waiting, on=list(KEY), how="semi", maintain_order="left")
        keys = _other_keys(self.store, messages, day, carrier)
        to_come = waiting.filter(pl.col("status").is_in(TO_COME))["idempotency_key"]
        put_off = waiting.filter(pl.col("status").is_in([*TO_COME, NOT_TRIED]))["idempotency_key"]
        may_go = pl.col("channel").is_in(list(carrier.waiting_channels)) | pl.col("idempotency_key").is_in(to_come.implode())
        unanswered = carrier.unanswered(messages, put_off, keys).filter(may_go)
        unanswered = _withdrawn_since(self.store, self.portfolio, unanswered, day)
        arrived = carrier.arrived(messages, keys)
        handed = pl.concat([unanswered.join(arrived, on=list(KEY), how="anti", maintain_order="left"), arrived])
        if handed.is_empty():
            return None
        sent = carrier.deliver(handed, keys, texts_of(self.store, day, self.portfolio))
        after = pl.concat([before.join(sent, on=list(KEY), how="anti"), sent]).sort(KEY)
        return None if after.equals(before) else after


def days_due(store: Store, portfolio: Portfolio, now: datetime) -> list[date]:
    """Return the days whose messages may still be due: the last ones that were planned and activated."""
    ages = range(portfolio.policy.patience_days + 1, -1, -1)
    days = [_today(now, portfolio) - timedelta(days=age) for age in ages]
    return [day for day in days if all(store.has(table, day) for table in _HANDED_OVER)]


def activation_of(store: Store, day: date) -> pl.DataFrame:
    """Read what became of the day's messages, of an older version too."""
    table = store.lazy("activation", day).collect()
    nothing = {"reason": None, "sent_at": None, "attempts": 0, "provider_id": None}
    lacking = [pl.lit(value, ACTIVATION.schema[name]).alias(name) for name, value in nothing.items() if name not in table.columns]
    return table.with_columns(lacking).select(*ACTIVATION.schema)


def _other_keys(store: Store, messages: pl.DataFrame, day: date, carrier: Carrier) -> pl.DataFrame:
    since = messages["entered_on"].min()
    with_older = isinstance(since, date) and carrier.has_older_keys(since)
    return other_keys(messages, absorbed(store.lazy("identity_map", day)), with_older=with_older)


def _withdrawn_since(store: Store, portfolio: Portfolio, messages: pl.DataFrame, day: date) -> pl.DataFrame:
    """Withhold what was planned for customers who have left the journey since, or may not be written to any more, by days decided later.

    Who has said no since the last of them is seen when messages are handed over.
    """
    later = [day + timedelta(days=age) for age in range(1, portfolio.policy.patience_days + 2)]
    decided = [after for after in later if all(store.has(table, after) for table in _DECIDED)]
    if not decided or messages.is_empty():
        return messages
    gone = []
    for after in decided:
        since = absorbed(store.lazy("identity_map", after), since=day)
        gone.append(withdrawal.left(messages, store.lazy("journey_assignments", after), since, after))
    profiles = profiles_of(store, portfolio, decided[-1], columns_of_profiles(portfolio))
    gone.append(withdrawal.unreachable(messages, profiles, absorbed(store.lazy("identity_map", decided[-1]), since=day), portfolio))
    is_gone = pl.col("idempotency_key").is_in(pl.concat(gone).implode())
    return messages.with_columns(withheld=pl.when(pl.col("withheld").is_null() & is_gone).then(pl.lit(WITHDRAWN)).otherwise("withheld"))


_HANDED_OVER = ("journey_assignments", "identity_map", "outbound_messages", "activation")
"""What is read of a day whose messages are tried again."""
_DECIDED = ("journey_assignments", "identity_map", "customer_profiles")
"""What is read of a later day, of who is still to be written to."""

TEXTS = {
    "subject": pl.String(),
    "preheader": pl.String(),
    "title": pl.String(),
    "text": pl.String(),
    "html": pl.String(),
    "link": pl.String(),
    "fields": pl.String(),
    "content_hash": pl.String(),
}
"""What of ``rendered_messages`` is handed over; nothing of it is there where a channel is data."""


def texts_of(store: Store, day: date, portfolio: Portfolio) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Return what adds to messages of the day the texts that were rendered for them: what is sent is what was planned and checked."""
    written = {channel.id for channel in portfolio.channels if channel.medium not in (None, "slot", "audience")}

    def with_texts(messages: pl.DataFrame) -> pl.DataFrame:
        lacks_text = pl.col("channel").is_in(list(written))
        if not store.has("rendered_messages", day):
            return messages.with_columns(*(pl.lit(None, dtype).alias(name) for name, dtype in TEXTS.items()), lacks_text=lacks_text)
        rendered = store.lazy("rendered_messages", day)
        there = rendered.collect_schema().names()
        columns = [pl.col(name) if name in there else pl.lit(None, dtype).alias(name) for name, dtype in TEXTS.items()]
        asked = messages["idempotency_key"].implode()
        texts = rendered.filter(pl.col("idempotency_key").is_in(asked)).select("idempotency_key", *columns).collect()
        own = "own_key" if "own_key" in messages.columns else "idempotency_key"
        joined = messages.join(texts.rename({"idempotency_key": own}), on=own, how="left", maintain_order="left")
        return joined.with_columns(lacks_text=lacks_text & pl.col("text").is_null() & pl.col("html").is_null())

    return with_texts


def messages_of(store: Store, day: date, portfolio: Portfolio) -> pl.DataFrame:
    """Read the day's messages with what they were decided by, and their ``rank``: the place in the order in which they go out."""
    decisions = store.lazy("journey_assignments", day).select(
        "customer_id", "entered_on", "ends_on", "score", decision=pl.struct(pl.all()).struct.json_encode()
    )
    messages = store.lazy("outbound_messages", day).join(decisions, on="customer_id", how="left").collect()
    if "rank" in messages.columns:
        return messages.drop("score")
    mandatory = pl.col("journey_id").is_in([journey.id for journey in portfolio.journeys if journey.mandatory])
    order = pl.DataFrame(messages.select("send_at", mandatory.alias("mandatory"), "score", "idempotency_key").with_row_index("row")).sort(
        "send_at", "mandatory", "score", "idempotency_key", descending=[False, True, True, False], nulls_last=True
    )
    ranked = order.with_row_index("rank").sort("row")["rank"].cast(pl.Int64)
    return messages.drop("score").with_columns(ranked)


def sent_in_vain(store: Store, day: date) -> pl.DataFrame:
    """One row per message that an earlier run of the day sent or was to send, and did not deliver: ``idempotency_key, before, why``."""
    nothing = pl.DataFrame(schema={"idempotency_key": pl.String, "before": pl.String, "why": pl.String})
    if not store.has("activation", day):
        return nothing
    try:
        troubles = store.lazy("activation", day).filter(pl.col("status").is_in([*TROUBLES, *TO_COME]))
        return troubles.select("idempotency_key", before=pl.col("status").replace({PENDING: "unknown"}), why="reason").collect()
    except DamagedDayError:  # it is about to be made again; the ledger still knows what was handed over
        return nothing


def _not_forgotten(sent: pl.DataFrame, in_vain: pl.DataFrame) -> pl.DataFrame:
    """Keep what became of messages that are only rehearsed now: a late file does not turn an outage into a dry run that went well."""
    kept = (pl.col("status") == WOULD_SEND) & pl.col("before").is_not_null()
    return (
        sent.join(in_vain, on="idempotency_key", how="left", maintain_order="left")
        .with_columns(
            status=pl.when(kept).then("before").otherwise("status"),
            reason=pl.when(kept).then("why").otherwise("reason"),
        )
        .select(sent.columns)
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


def days_to_send(days: Sequence[date], named: Collection[str], accepted: Collection[str], now: datetime, portfolio: Portfolio) -> Sent:
    """Return which of the days are sent: those that are current, and past ones that are named."""
    current = {day for day in days if is_current(day, now, portfolio)}
    past = {day for day in days if day.isoformat() in named} - current
    return Sent(current | past, past, accepted)


def is_current(day: date, now: datetime, portfolio: Portfolio) -> bool:
    """True for today and for the day just over, where the business is."""
    return day >= _today(now, portfolio) - timedelta(days=1)


def _today(now: datetime, portfolio: Portfolio) -> date:
    return now.astimezone(ZoneInfo(portfolio.timezone)).date()
