"""From accepted events to who is who."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from assets.daily import after, each_day, made, spec, together
from atc_pipeline.identity.map import map_identities
from atc_pipeline.tables.store import Tables, yesterday_of
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
        portfolio = journeys.load()

        def make(day: date) -> Tables:
            yesterday = yesterday_of(lake, "identity_map", day, portfolio.starts_on)
            identities = map_identities(lake.lazy("raw_events", day), yesterday, today=day, blocked=portfolio.blocked)
            return {"identity_map": identities.map, "identity_changes": identities.changes}

        each_day(context, lake, make)
        yield from made(context, ["identity_map", "identity_changes"])

    return [identified]
