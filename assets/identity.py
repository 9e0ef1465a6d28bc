"""From accepted events to who is who."""

from collections.abc import Iterator

import dagster as dg

from assets.daily import after, each_day, made, spec, together
from atc_pipeline.days.identity import Identities
from resources.journeys import JourneysFile
from resources.storage.lake import Lake


def identity_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``identity_map`` and ``identity_changes``: one step, because the changes are what makes the map."""

    @dg.multi_asset(
        name="identity",
        specs=[
            dg.AssetSpec("identity_map", **spec(partitions, "events", after(["raw_events"]))),
            dg.AssetSpec("identity_changes", **spec(partitions, "events", after(["identity_map"]))),
        ],
        **together(partitions),
    )
    def identified(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> Iterator[dg.MaterializeResult]:
        """Carry the map from day to day, in order."""
        each_day(context, lake, Identities(lake, journeys.load()))
        yield from made(context, ["identity_map", "identity_changes"])

    return [identified]
