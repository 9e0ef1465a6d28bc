"""What comes back of what was sent: events of ours in the landing zone."""

from datetime import UTC, datetime

import dagster as dg

from assets.daily import after, daily, days_of, each_day
from atc_pipeline.days.activation import is_current
from atc_pipeline.days.sent import SentEvents, arrives_on, was_sent
from resources.channels.connected import Channels
from resources.journeys import JourneysFile
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone


def sent_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``sent_events``."""

    @dg.asset(
        **daily(
            partitions, "activation", after(["activation", "outbound_messages", "journey_assignments", "journey_state", "audience_syncs"])
        )
    )
    def sent_events(
        context: dg.AssetExecutionContext, lake: Lake, landing: LandingZone, journeys: JourneysFile, channels: Channels
    ) -> dg.MaterializeResult:
        """Written for a live run only, into the folder of the day after, where the next day reads them: written again, it is the
        same file. They count where an event is named in journeys.yaml, and nowhere else.
        """
        portfolio, days = journeys.load(), days_of(context)
        step = SentEvents(lake, portfolio, lambda day: channels.is_live and (is_current(day, _now(), portfolio) or was_sent(lake, day)))
        each_day(context, lake, step)
        beside = SentEvents(Lake(root=lake.root), portfolio, step.is_live)  # what is read here is not what a day is made from
        for day in days:
            landing.write_own(arrives_on(day, _now(), portfolio), day, beside.lines(day))
        return dg.MaterializeResult()

    return [sent_events]


def _now() -> datetime:
    return datetime.now(UTC)
