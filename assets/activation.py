"""The one answer on its way out: messages due, and their delivery."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from assets.daily import after, chosen, daily, days_of, each_day, made, spec, together
from assets.shown.facts import markdown_table
from assets.shown.previews import content_pictures, message_pictures
from atc_pipeline.days.activation import Messages, Sending, days_to_send, is_current
from atc_pipeline.escaping import terminal
from resources.channels.connected import Channels
from resources.delivery.carrier import connect
from resources.delivery.last_look import last_look
from resources.delivery.ledger import Ledger
from resources.delivery.round import Round
from resources.erasure.tombstones import Tombstones
from resources.journeys import JourneysFile
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.warehouse import Warehouse


class ActivationConfig(dg.Config):
    """Which past days to send after all, by name (``2026-11-01``), and of which channels many more than on other days is meant.

    The day just over needs no naming.
    """

    past_days: list[str] = []
    accept_volume: list[str] = []


def activation_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build the plan of messages and what they say, and ``activation``."""

    @dg.multi_asset(
        name="messages",
        specs=[
            dg.AssetSpec(
                "outbound_messages", **spec(partitions, "activation", after(["journey_assignments", "customer_profiles", "identity_map"]))
            ),
            dg.AssetSpec("rendered_messages", **spec(partitions, "activation", after(["outbound_messages", "customer_profiles"]))),
            dg.AssetSpec("content_library", **spec(partitions, "activation", after(["rendered_messages"]))),
        ],
        **together(partitions),
    )
    def messages(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> Iterator[dg.MaterializeResult]:
        """Nothing is sent here: that is `activation`, which stands on it. The last day of a run carries pictures of what is said."""
        portfolio, days = journeys.load(), days_of(context)
        each_day(context, lake, Messages(lake, portfolio, _now))
        pictures = {"rendered_messages": message_pictures, "content_library": content_pictures}
        for table in chosen(context) & set(pictures):
            shown = pictures[table](lake, portfolio, days[-1])
            context.add_asset_metadata(shown, asset_key=table, partition_key=days[-1].isoformat())
        yield from made(context, ["outbound_messages", "rendered_messages", "content_library"])

    @dg.asset(
        **daily(
            partitions,
            "activation",
            after(["outbound_messages", "rendered_messages", "journey_assignments", "identity_map", "customer_profiles"]),
            ["polars", "duckdb"],
        )
    )
    def activation(
        context: dg.AssetExecutionContext,
        config: ActivationConfig,
        lake: Lake,
        landing: LandingZone,
        journeys: JourneysFile,
        channels: Channels,
        ledger: Ledger,
        tombstones: Tombstones,
        warehouse: Warehouse,
    ) -> dg.MaterializeResult:
        """Past days are never sent unless named in the configuration; what was sent on one of the last days and not answered for is
        tried again. What is not due yet, on a channel that cannot wait by itself, waits for the schedule `send_due`.
        """
        portfolio, days = journeys.load(), days_of(context)
        _refuse_strangers(config.past_days, partitions, journeys.path, portfolio.starts_on)
        sent = days_to_send(days, config.past_days, config.accept_volume, _now(), portfolio)
        recent = sorted({*days, *(days[-1] - timedelta(days=age) for age in range(1, portfolio.policy.patience_days + 2))})
        run = Round({channel.id: channel.per_minute for channel in portfolio.channels if channel.per_minute is not None})
        beside = Lake(root=lake.root)  # what is read here is not what the day is made from
        look = last_look(beside, landing, tombstones.fingerprints(), portfolio, recent, time.monotonic)
        carriers = connect(channels, ledger, look, run, _now, config.accept_volume)
        sending = Sending(
            lake,
            portfolio,
            lambda day: carriers.of(day, is_past=day in sent.past) if day in sent.days else carriers.rehearsal(day),
            days,
            sent,
            beside,
        )
        carriers.settle(recent[0])
        each_day(context, lake, sending)
        if carriers.is_live and is_current(days[-1], _now(), portfolio):
            again = sending.again(days[-1], _now, carriers.of(days[-1]))
            context.add_asset_metadata({"tried_again": markdown_table(again)}, asset_key="activation", partition_key=str(days[-1]))
        context.log.info(f"views over {len(warehouse.publish())} tables in {warehouse.path}")
        carriers.end(sending.trouble)
        return dg.MaterializeResult()

    return [messages, activation]


def _refuse_strangers(named: Sequence[str], partitions: dg.DailyPartitionsDefinition, path: str, first: date) -> None:
    if strangers := [day for day in named if not partitions.has_partition_key(day)]:
        raise dg.Failure(
            f"past_days: {', '.join(map(terminal, strangers))}: no day of the calendar of {path} that has begun. "
            f"Days are written as {first}, the first one. Nothing was sent",
            allow_retries=False,
        )


def _now() -> datetime:
    return datetime.now(UTC)
