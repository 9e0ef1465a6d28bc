"""The one answer on its way out: messages due, and their delivery."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from assets.daily import after, chosen, daily, days_of, each_day, made, spec, together
from assets.shown.facts import markdown_table
from assets.shown.previews import library_pictures, message_pictures
from atc_pipeline.days.activation import Messages, Sending, days_to_send, is_current
from atc_pipeline.escaping import terminal
from resources.channels.channel import DryRun, WrongSettingError
from resources.channels.connected import Channels
from resources.delivery.carrier import Carrier
from resources.delivery.ledger import Ledger
from resources.journeys import JourneysFile
from resources.storage.lake import Lake
from resources.storage.warehouse import Warehouse


class ActivationConfig(dg.Config):
    """Which past days to send after all, by name (``2026-11-01``). The day just over needs no naming."""

    past_days: list[str] = []


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
        pictures = {"rendered_messages": message_pictures, "content_library": library_pictures}
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
        journeys: JourneysFile,
        channels: Channels,
        ledger: Ledger,
        warehouse: Warehouse,
    ) -> dg.MaterializeResult:
        """Past days are never sent unless named in the configuration; what was sent on one of the last days and not answered for is
        tried again.
        """
        portfolio, days = journeys.load(), days_of(context)
        strangers = [day for day in config.past_days if not partitions.has_partition_key(day)]
        if strangers:
            raise dg.Failure(
                f"past_days: {', '.join(map(terminal, strangers))}: no day of the calendar of {journeys.path} that has begun. "
                f"Days are written as {portfolio.starts_on}, the first one. Nothing was sent",
                allow_retries=False,
            )
        names = [channel.id for channel in portfolio.channels]
        try:
            connected, is_live = channels.connect(names, _now), channels.is_live
        except WrongSettingError as problem:
            raise dg.Failure(description=f"nothing was sent: {problem}", allow_retries=False) from None
        rehearsal = dict.fromkeys(names, DryRun())
        to_send = days_to_send(days, config.past_days, _now(), portfolio)
        sending = Sending(lake, portfolio, lambda day: Carrier(day, connected if day in to_send else rehearsal, ledger, _now), days)
        each_day(context, lake, sending)
        if is_live and is_current(days[-1], _now(), portfolio):
            again = sending.again(days[-1], _now, Carrier(days[-1], connected, ledger, _now), to_send)
            context.add_asset_metadata({"tried_again": markdown_table(again)}, asset_key="activation", partition_key=str(days[-1]))
        context.log.info(f"views over {len(warehouse.publish())} tables in {warehouse.path}")
        return dg.MaterializeResult()

    return [messages, activation]


def _now() -> datetime:
    return datetime.now(UTC)
