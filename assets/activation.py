"""The one answer on its way out: messages due, and their delivery."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl

from assets.daily import after, daily, days_of, each_day
from assets.shown.facts import markdown_table
from atc_pipeline.activation.messages import due_again, other_keys, write_messages
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.escaping import terminal
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules.people import survivors
from resources.channels.channel import Channel, DryRun
from resources.channels.connected import Channels, WrongSettingError
from resources.delivery.delivery import NOT_TRIED, PENDING, TROUBLES, deliver, unanswered_messages
from resources.delivery.ledger import Ledger, LedgerError
from resources.journeys import JourneysFile
from resources.storage.lake import DamagedFileError, Lake
from resources.storage.warehouse import Warehouse

PATIENCE_DAYS = 2
"""For how many days after its own a message is tried again that no receiver has answered for."""


RUN_AGAIN = "Make room for it and run the day again: what was delivered is remembered, and what is uncertain goes out under the same key"


class ActivationConfig(dg.Config):
    """Which past days to send after all, by name (``2026-11-01``). The day just over needs no naming."""

    past_days: list[str] = []


def activation_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``outbound_messages`` and ``activation``."""

    @dg.asset(**daily(partitions, "activation", after(["journey_assignments", "customer_profiles", "identity_map"])))
    def outbound_messages(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """Nothing is sent here: that is `activation`, which stands on it."""
        portfolio = journeys.load()
        earlier = _messages_before(lake, portfolio)

        def make(day: date) -> dict[str, pl.DataFrame]:
            now = _now()
            is_running = now.astimezone(ZoneInfo(portfolio.timezone)).date() == day
            messages = write_messages(
                lake.lazy("journey_assignments", day),
                lake.lazy("customer_profiles", day),
                portfolio,
                today=day,
                now=now if is_running else None,
                earlier=earlier(day),
            )
            return {"outbound_messages": messages.collect()}

        each_day(context, lake, make)
        return dg.MaterializeResult()

    @dg.asset(
        **daily(
            partitions,
            "activation",
            after(["outbound_messages", "journey_assignments", "identity_map", "customer_profiles"]),
            ["polars", "duckdb"],
        )
    )
    def activation(
        context: dg.AssetExecutionContext,
        config: ActivationConfig,
        lake: Lake,
        journeys: JourneysFile,
        channels: Channels,
        ledger: Ledger,
        warehouse: Warehouse,
    ) -> dg.MaterializeResult:
        """Past days are never sent unless named in the configuration; what was sent on one of the last days and not answered for is
        tried again.
        """
        portfolio = journeys.load()
        strangers = [day for day in config.past_days if not partitions.has_partition_key(day)]
        if strangers:
            raise dg.Failure(
                f"past_days: {', '.join(map(terminal, strangers))}: no day of the calendar of {journeys.path} that is over. "
                f"Days are written as {portfolio.starts_on}, the first one. Nothing was sent",
                allow_retries=False,
            )
        names = [channel.id for channel in portfolio.channels]
        try:
            connected, is_live = channels.connect(names, _now), channels.is_live
        except WrongSettingError as problem:
            raise dg.Failure(description=f"nothing was sent: {problem}", allow_retries=False) from None
        rehearsal = dict.fromkeys(names, DryRun())
        days = days_of(context)
        to_send = {day for day in days if _is_current(day, portfolio.timezone) or day.isoformat() in config.past_days}
        in_vain = {day: _sent_in_vain(lake, day) for day in days}  # before the days are made: no day is made from its own table

        def make(day: date) -> dict[str, pl.DataFrame]:
            messages = _messages_of(lake, day)
            with _ledger_failures_told(day):
                others = _other_keys(lake, ledger, messages, day)
                sent = deliver(messages, connected if day in to_send else rehearsal, ledger, _now, others)
            return {"activation": _not_forgotten(sent, in_vain[day])}

        each_day(context, lake, make)
        if is_live and _is_current(days[-1], portfolio.timezone):
            with _ledger_failures_told(days[-1]):
                again = _try_again(lake, ledger, connected, portfolio, days[-1], to_send)
            context.add_asset_metadata({"tried_again": markdown_table(again)}, asset_key="activation", partition_key=str(days[-1]))
        context.log.info(f"views over {len(warehouse.publish())} tables in {warehouse.path}")
        return dg.MaterializeResult()

    return [outbound_messages, activation]


@contextmanager
def _ledger_failures_told(day: date) -> Iterator[None]:
    try:
        yield
    except LedgerError as problem:
        raise dg.Failure(description=f"{day}: nothing more was sent: {problem}. {RUN_AGAIN}", allow_retries=False) from problem


def _messages_before(lake: Lake, portfolio: Portfolio) -> Callable[[date], pl.LazyFrame | None]:
    """Read messages of the days before one, as far back as a journey reaches, of customers as they are known then.

    Raises MissingDayError where one of those days has none: what it sent could not be told from what it did not.
    """
    columns = ["date", "customer_id", "journey_id", "step_day", "channel", "content", "withheld"]
    longest = max((journey.length_days for journey in portfolio.journeys), default=0)
    window = Rolling(lake, "outbound_messages", longest, columns, since=portfolio.starts_on)

    def before(day: date) -> pl.LazyFrame | None:
        if day <= portfolio.starts_on:
            return None
        recent = window.until(day - timedelta(days=1))
        return survivors(recent, absorbed(lake.lazy("identity_map", day), since=day - timedelta(days=longest + 1)))

    return before


def _messages_of(lake: Lake, day: date) -> pl.DataFrame:
    """Read the day's messages with what they were decided by."""
    decisions = lake.lazy("journey_assignments", day).select("customer_id", "entered_on", decision=pl.struct(pl.all()).struct.json_encode())
    return lake.lazy("outbound_messages", day).join(decisions, on="customer_id", how="left").collect()


def _other_keys(lake: Lake, ledger: Ledger, messages: pl.DataFrame, day: date) -> pl.DataFrame:
    since = messages["entered_on"].min()
    with_older = isinstance(since, date) and ledger.has_older_keys(since)
    return other_keys(messages, absorbed(lake.lazy("identity_map", day)), with_older=with_older)


def _sent_in_vain(lake: Lake, day: date) -> pl.DataFrame:
    """One row per message that an earlier run of the day sent or was to send, and did not deliver: ``idempotency_key, before, why``."""
    empty = pl.DataFrame(schema={"idempotency_key": pl.String, "before": pl.String, "why": pl.String})
    if not lake.has("activation", day):
        return empty
    try:
        troubles = lake.lazy("activation", day).filter(pl.col("status").is_in(TROUBLES))
        return troubles.select("idempotency_key", before=pl.col("status").replace({PENDING: "unknown"}), why="reason").collect()
    except DamagedFileError:  # it is about to be made again; the ledger still knows what was handed over
        return empty


def _not_forgotten(sent: pl.DataFrame, in_vain: pl.DataFrame) -> pl.DataFrame:
    """Keep what became of messages that are only rehearsed now: a late file does not turn an outage into a dry run that went well."""
    kept = (pl.col("status") == "would_send") & pl.col("before").is_not_null()
    return sent.join(in_vain, on="idempotency_key", how="left", maintain_order="left").select(
        *sent.columns[:-2],
        status=pl.when(kept).then("before").otherwise("status"),
        reason=pl.when(kept).then("why").otherwise("reason"),
    )


def _try_again(
    lake: Lake, ledger: Ledger, channels: Mapping[str, Channel], portfolio: Portfolio, today: date, sent: Collection[date]
) -> pl.DataFrame:
    """Send what was sent on one of the last days and not answered for; one row per day, channel and status: how many ``messages``.

    The ledger remembers the outcomes; the tables of those days stay as their own runs wrote them. ``sent``: days that this run has
    sent already.
    """
    counted = []
    for day in (today - timedelta(days=age) for age in range(PATIENCE_DAYS, 0, -1)):
        if day in sent or not all(
            lake.has(table, day) for table in ("journey_assignments", "identity_map", "outbound_messages", "activation")
        ):
            continue
        messages = _messages_of(lake, day)
        others = _other_keys(lake, ledger, messages, day)
        not_tried = lake.lazy("activation", day).filter(pl.col("status") == NOT_TRIED).collect()["idempotency_key"]
        unanswered = unanswered_messages(messages, not_tried, ledger, others)
        if unanswered.is_empty():
            continue
        since = absorbed(lake.lazy("identity_map", today), since=day)
        due = due_again(unanswered.lazy(), lake.lazy("customer_profiles", today), portfolio, today=today, now=_now(), absorbed=since)
        counted.append(deliver(due.collect(), channels, ledger, _now, others))
    tried = pl.concat(counted) if counted else pl.DataFrame(schema={"date": pl.Date, "channel": pl.String, "status": pl.String})
    return tried.group_by("date", "channel", "status").len("messages").sort("date", "channel", "status")


def _now() -> datetime:
    return datetime.now(UTC)


def _is_current(day: date, timezone: str) -> bool:
    """True for today and for the day just over, where the business is."""
    return day >= _now().astimezone(ZoneInfo(timezone)).date() - timedelta(days=1)
