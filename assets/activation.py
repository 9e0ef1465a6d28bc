"""The one answer on its way out: messages due, and their delivery."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl

from assets.daily import after, daily, each_day
from atc_pipeline.messages import write_messages
from resources.channels import Channels, DryRun
from resources.delivery import deliver
from resources.journeys import JourneysFile
from resources.lake import Lake
from resources.ledger import Ledger
from resources.warehouse import Warehouse


class ActivationConfig(dg.Config):
    """Which past days to send after all, by name (``2026-11-01``). The day just over needs no naming."""

    past_days: list[str] = []


def activation_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``outbound_messages`` and ``activation``."""

    @dg.asset(**daily(partitions, "activation", after(["journey_assignments", "customer_profiles"])))
    def outbound_messages(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """One row per journey step due for a treated customer on the day, withheld ones with the reason."""
        portfolio = journeys.load()

        def make(day: date) -> dict[str, pl.DataFrame]:
            now = datetime.now(UTC)
            is_running = now.astimezone(ZoneInfo(portfolio.timezone)).date() == day
            messages = write_messages(
                lake.lazy("journey_assignments", day),
                lake.lazy("customer_profiles", day),
                portfolio,
                today=day,
                now=now if is_running else None,
            )
            return {"outbound_messages": messages.collect()}

        each_day(context, lake, make)
        return dg.MaterializeResult()

    @dg.asset(**daily(partitions, "activation", after(["outbound_messages", "journey_assignments"]), ["polars", "duckdb"]))
    def activation(
        context: dg.AssetExecutionContext,
        config: ActivationConfig,
        lake: Lake,
        journeys: JourneysFile,
        channels: Channels,
        ledger: Ledger,
        warehouse: Warehouse,
    ) -> dg.MaterializeResult:
        """One row per message of the day and what became of it: would_send in a dry run, delivered, failed, unknown, withheld.

        Past days are never sent unless named in the configuration.
        """
        portfolio = journeys.load()
        names = [channel.id for channel in portfolio.channels]
        connected = channels.connect(names, _now)
        rehearsal = dict.fromkeys(names, DryRun())

        def make(day: date) -> dict[str, pl.DataFrame]:
            is_sent = _is_current(day, portfolio.timezone) or day.isoformat() in config.past_days
            decisions = lake.read("journey_assignments", day).select("customer_id", decision=pl.struct(pl.all()).struct.json_encode())
            messages = lake.read("outbound_messages", day).join(decisions, on="customer_id", how="left")
            sent = deliver(messages, connected if is_sent else rehearsal, ledger, _now)
            return {"activation": sent}

        each_day(context, lake, make)
        context.log.info(f"views over {len(warehouse.publish())} tables in {warehouse.path}")
        return dg.MaterializeResult()

    return [outbound_messages, activation]


def _now() -> datetime:
    return datetime.now(UTC)


def _is_current(day: date, timezone: str) -> bool:
    """True for today and for the day just over, where the business is."""
    return day >= _now().astimezone(ZoneInfo(timezone)).date() - timedelta(days=1)
