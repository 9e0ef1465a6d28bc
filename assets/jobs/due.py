"""Messages whose hour has come: the job and the schedule ``send_due``, and what somebody knows of those that may have arrived.

What belongs here: when they run, and what they tell. What does not: what is due (``atc_pipeline.days.activation``), handing it over
(``resources.delivery``).
"""

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime

import dagster as dg
import polars as pl
from pydantic import Field

from assets.daily import STATE_TAG
from assets.shown.facts import facts_of, markdown_table
from atc_pipeline.activation.tables import TO_COME, WAITING, WOULD_SEND
from atc_pipeline.days.activation import Due, activation_of, days_due
from atc_pipeline.days.sent import SentEvents, arrives_on, was_sent
from atc_pipeline.escaping import plain
from atc_pipeline.journeys.portfolio import Portfolio
from resources.channels.connected import Channels
from resources.delivery.carrier import connect
from resources.delivery.last_look import last_look
from resources.delivery.ledger import Ledger, LedgerError
from resources.delivery.round import Round
from resources.delivery.settling import WrongVerdictError, settle_by_hand
from resources.erasure.tombstones import Tombstones
from resources.journeys import JourneysFile
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone

SEND_DUE, SETTLE_UNKNOWN = "send_due", "settle_unknown"
EVERY = "*/15 * * * *"
AT_MOST = 600.0
"""Seconds for which a run takes up new batches: other runs wait for it, and the next one goes on."""


class DueConfig(dg.Config):
    """Of which channels many more messages than on other days is meant."""

    accept_volume: list[str] = []


@dg.op(name="hand_over", description="Hand over what is due by now of the last days that were activated.", out=dg.Out(dg.Nothing))
def hand_over(
    context: dg.OpExecutionContext,
    config: DueConfig,
    lake: Lake,
    landing: LandingZone,
    journeys: JourneysFile,
    channels: Channels,
    ledger: Ledger,
    tombstones: Tombstones,
) -> None:
    """Hand over what is due; in a dry run, say what would be."""
    portfolio, now = journeys.load(), _now()
    run = Round({channel.id: channel.per_minute for channel in portfolio.channels if channel.per_minute is not None}, AT_MOST)
    days = days_due(lake, portfolio, now)
    look = last_look(lake, landing, tombstones.fingerprints(), portfolio, days, time.monotonic)
    carriers = connect(channels, ledger, look, run, _now, config.accept_volume)
    if not carriers.is_live:
        due = _would_be_due(lake, days, now)
        context.log.info(f"DRY RUN: {due['messages'].sum()} messages would have been handed over by now; nothing was written")
        context.add_output_metadata({"DRY RUN: would be due": markdown_table(due)})
        return
    settled = carriers.settle(days[0]) if days else 0
    changed = []
    due_now = Due(lake, portfolio, carriers.of, config.accept_volume)
    for day in days:
        before, after = activation_of(lake, day), due_now.make(day)
        if after is not None:
            lake.write("activation", day, after, portfolio=lake.written_by("activation", day).portfolio)
            context.log_event(dg.AssetMaterialization("activation", partition=str(day), metadata=facts_of("activation", after)))
            changed.append(after.join(before, on=after.columns, how="anti", nulls_equal=True))
        _tell(lake, landing, portfolio, day, now)
    handed = pl.concat([pl.DataFrame(schema={"date": pl.Date, "channel": pl.String, "status": pl.String}), *changed], how="diagonal")
    counts = handed.group_by("date", "channel", "status").len("messages").sort("date", "channel", "status")
    oldest = _oldest_waiting(lake, days)
    waits = {"oldest_waiting": dg.MetadataValue.timestamp(oldest)} if oldest is not None else {}
    context.add_output_metadata({"handed_over": markdown_table(counts), "settled_by_receipts": settled} | waits)
    carriers.end()


def _tell(lake: Lake, landing: LandingZone, portfolio: Portfolio, day: date, now: datetime) -> None:
    """Write what was handed over into the landing zone, and then into the table: what a kill leaves undone the next run does."""
    if not (lake.has("sent_events", day) and was_sent(lake, day)):
        return
    sent = SentEvents(lake, portfolio, lambda _: True)
    events = sent.make(day)["sent_events"]
    if isinstance(events, pl.DataFrame) and not events.equals(lake.read("sent_events", day)):
        landing.write_own(arrives_on(day, now, portfolio), day, sent.lines(day))
        lake.write("sent_events", day, events, portfolio=lake.written_by("sent_events", day).portfolio)


def _oldest_waiting(lake: Lake, days: Sequence[date]) -> datetime | None:
    """Return since when a message waits that is due, or when the first of them will be."""
    hours = []
    for day in days:
        waiting = lake.lazy("activation", day).filter(pl.col("status") == WAITING).select("idempotency_key")
        messages = lake.lazy("outbound_messages", day).join(waiting, on="idempotency_key", how="semi")
        hours.append(messages.select(pl.col("send_at").min()).collect().item())
    return min((hour for hour in hours if hour is not None), default=None)


def _would_be_due(lake: Lake, days: Sequence[date], now: datetime) -> pl.DataFrame:
    """One row per day and channel of a dry run: how many ``messages`` would be due by now."""
    counts = [pl.DataFrame(schema={"date": pl.Date, "channel": pl.String, "messages": pl.get_index_type()})]
    for day in days:
        status = lake.lazy("activation", day).filter(pl.col("status") == WOULD_SEND).select("idempotency_key")
        due = lake.lazy("outbound_messages", day).filter(pl.col("send_at") <= now).join(status, on="idempotency_key", how="semi")
        counts.append(due.group_by("date", "channel").len("messages").collect())
    return pl.concat(counts).sort("date", "channel")


@dg.job(
    name=SEND_DUE,
    tags=STATE_TAG,
    description="Hand over what is due: messages of channels that cannot wait by themselves, and what waits for a channel that was "
    "stopped. It looks at the last days that were activated, and at nothing else; what was delivered is not sent again.",
)
def send_due() -> None:
    """Run the one op."""
    hand_over()


def due_schedule(lake: Lake) -> dg.ScheduleDefinition:
    """Hand over what is due every quarter of an hour."""

    @dg.schedule(
        name=SEND_DUE,
        job=send_due,
        cron_schedule=EVERY,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Hands over messages whose hour has come, every 15 minutes; in a dry run, and where nothing waits, it starts no run.",
    )
    def every_quarter(context: dg.ScheduleEvaluationContext, journeys: JourneysFile, channels: Channels) -> dg.RunRequest | dg.SkipReason:
        if channels.live != "true":
            return dg.SkipReason("a dry run: nothing is handed over (ATC_LIVE)")
        unfinished = dg.RunsFilter(job_name=SEND_DUE, statuses=_UNFINISHED)
        if context.instance.get_runs(unfinished, limit=1):
            return dg.SkipReason("the last run has not ended: it goes on with what is due by now")
        days = days_due(lake, journeys.in_use().portfolio, context.scheduled_execution_time)
        waiting = [
            day for day in days if not lake.lazy("activation", day).filter(pl.col("status").is_in(_OPEN)).head(1).collect().is_empty()
        ]
        if not waiting:
            return dg.SkipReason("nothing waits")
        return dg.RunRequest(tags={"atc/waits_since": str(waiting[0])})

    return every_quarter


_OPEN = (*TO_COME, "unknown", "pending", "failed", "not_tried")
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class VerdictsConfig(dg.Config):
    """What became of messages that may have arrived."""

    messages: dict[str, str] = Field(description="By idempotency_key: `delivered`, or `failed` where it certainly did not arrive.")


@dg.op(name="settle", description="Write what became of messages that may have arrived.", out=dg.Out(dg.Nothing))
def settle(context: dg.OpExecutionContext, config: VerdictsConfig, lake: Lake, ledger: Ledger) -> None:  # noqa: ARG001  # the lake's turn
    """Write what somebody has found out."""
    try:
        settled = settle_by_hand(ledger, config.messages)
        unknown = ledger.unknown(date.min)
    except (WrongVerdictError, LedgerError) as problem:
        raise dg.Failure(f"nothing was settled: {plain(str(problem), None)}", allow_retries=False) from None
    context.log.info(f"{settled.len()} of {len(config.messages)} settled; activation says so after the next run of {SEND_DUE}")
    context.add_output_metadata({"settled": settled.len(), "still_unknown": markdown_table(unknown.drop("provider_id"))})


@dg.job(
    name=SETTLE_UNKNOWN,
    tags=STATE_TAG,
    description="Say what became of messages that may have arrived, on channels where they are held (SPEC 9.7): by key, delivered or "
    "failed. What failed goes out again, if it is not too late for it.",
)
def settle_unknown() -> None:
    """Run the one op."""
    settle()


def _now() -> datetime:
    return datetime.now(UTC)
