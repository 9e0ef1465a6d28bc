"""What is described and not proved: paths, what their money is put down to, movement, who came back, what was answered."""

from collections.abc import Iterator

import dagster as dg

from assets.daily import after, chosen, days_of, each_day, made, spec, together
from assets.shown.proof import paths_of
from atc_pipeline.days.paths import Described
from resources.journeys import JourneysFile
from resources.storage.lake import Lake

NOT_PROVED = {"evidence": "not_proved"}
"""Told of every table here: it tells what people did, not what they would have done else (SPEC 13)."""

_READ = {
    "path_steps": [
        "journey_entries", "journey_state", "customer_metrics", "customer_profiles", "raw_events", "identity_map",
    ],
    "path_durations": ["path_steps"],
    "path_summary": ["path_steps", "path_durations"],
    "journey_attribution": ["path_durations", "uplift"],
    "journey_movement": ["journey_assignments", "journey_state", "customer_metrics", "raw_events", "identity_map"],
    "journey_alternatives": ["journey_state", "scored_candidates"],
    "journey_described": ["journey_movement", "journey_outcomes"],
    "journey_satisfaction": ["journey_outcomes"],
}  # fmt: skip


def path_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build the tables of paths and movement: one step, because each day goes on from the last."""

    @dg.multi_asset(
        name="describe",
        specs=[dg.AssetSpec(table, metadata=NOT_PROVED, **spec(partitions, "proof", after(tables))) for table, tables in _READ.items()],
        **together(partitions),
    )
    def describe(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> Iterator[dg.MaterializeResult]:
        """Follow paths and movement day by day, in order; the last day of a run carries what is described, and writes the report."""
        portfolio, last = journeys.load(), days_of(context)[-1]
        each_day(context, lake, Described(lake, portfolio))
        shown = paths_of(lake, portfolio, last)
        if "path_summary" in chosen(context):
            context.add_asset_metadata(shown, asset_key="path_summary", partition_key=last.isoformat())
        yield from made(context, list(_READ))

    return [describe]
