"""From the landing zone to accepted events and rejects."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from assets.daily import chosen, days_of, each_day, made, spec, together
from assets.shown.arrivals import ARRIVED, PASSED_OVER, Arrivals
from assets.shown.facts import markdown_table
from atc_pipeline.days.events import Ingestion
from resources.erasure.tombstones import Tombstones
from resources.journeys import JourneysFile
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone

RECONCILED = dg.AssetCheckSpec(
    "every_line_accounted_for",
    asset="raw_events",
    description="Lines read = accepted + duplicates + rejected + erased, on every day (SPEC 1). If it fails, run the day again: a file may "
    "have changed while it was read.",
    blocking=True,
)


def event_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``raw_events`` and ``rejected_events``."""

    @dg.multi_asset(
        name="ingest",
        specs=[
            dg.AssetSpec("raw_events", **spec(partitions, "events", [])),
            dg.AssetSpec("rejected_events", **spec(partitions, "events", [])),
        ],
        check_specs=[RECONCILED, PASSED_OVER, ARRIVED],
        **together(partitions),
    )
    def ingested(
        context: dg.AssetExecutionContext, lake: Lake, landing: LandingZone, journeys: JourneysFile, tombstones: Tombstones
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Read the landing zone: accept, reject or recognise as a duplicate each line."""
        portfolio = journeys.load()
        arrivals = Arrivals(landing, portfolio, days_of(context)[-1])
        with lake.spill() as spill:
            step = Ingestion(lake, portfolio, arrivals.of_day, erased=tombstones.fingerprints(), room=spill)
            each_day(context, lake, step, landed=landing.signature)
        for day, facts in arrivals.facts({day: counts.mended for day, counts in step.counts.items()}).items():
            if "raw_events" in chosen(context):
                context.add_asset_metadata(facts, asset_key="raw_events", partition_key=day.isoformat())
        yield from made(context, ["raw_events", "rejected_events"])
        results = [
            _reconciled(pl.DataFrame([counts.written(lake, day) for day, counts in step.counts.items()])),
            arrivals.passed_over(),
            arrivals.lines_arrived(lake, {day: counts.lines for day, counts in step.counts.items()}),
        ]
        asked = {key.name for key in context.selected_asset_check_keys}
        yield from (result for result in results if result.check_name in asked)

    return [ingested]


def _reconciled(counts: pl.DataFrame) -> dg.AssetCheckResult:
    unbalanced = counts.filter(pl.col("lines") != pl.sum_horizontal("accepted", "duplicates", "rejected", "erased"))
    totals = counts.select(pl.col("lines", "accepted", "duplicates", "rejected", "erased").sum()).row(0, named=True)
    return dg.AssetCheckResult(
        asset_key="raw_events",
        check_name=RECONCILED.name,
        passed=unbalanced.is_empty(),
        metadata={**totals, "days": markdown_table(counts, most=366), "days_that_do_not_add_up": markdown_table(unbalanced)},
    )
