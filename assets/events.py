"""From the landing zone to accepted events, rejects and the daily rollup."""

from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg
import polars as pl

from assets.daily import after, daily, each_day, spec
from assets.facts import markdown_table
from assets.features import Definitions, Recompute
from atc_pipeline import identity, measures
from atc_pipeline.activity import roll_up, roll_up_again
from atc_pipeline.events import DEDUPLICATION_DAYS, ingest
from resources.journeys import JourneysFile
from resources.lake import Lake
from resources.landing import LandingZone
from resources.tombstones import Tombstones

RECONCILED = dg.AssetCheckSpec(
    "every_line_accounted_for",
    asset="raw_events",
    description="Lines read = accepted + duplicates + rejected + erased, on every day (SPEC 1).",
    blocking=True,
)


def event_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``raw_events``, ``rejected_events`` and ``customer_activity``."""

    @dg.multi_asset(
        name="ingest",
        specs=[
            dg.AssetSpec(
                "raw_events",
                description="One row per accepted event of the Segment Spec that arrived on the day, duplicates removed.",
                **spec(partitions, "events", []),
            ),
            dg.AssetSpec(
                "rejected_events",
                description="One row per line that arrived on the day and was not accepted: file, line, reason, text. Nothing is lost.",
                **spec(partitions, "events", []),
            ),
        ],
        check_specs=[RECONCILED],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def ingested(
        context: dg.AssetExecutionContext, lake: Lake, landing: LandingZone, journeys: JourneysFile, tombstones: Tombstones
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Read the landing zone: accept, reject or recognise as a duplicate each line."""
        timezone = journeys.load().timezone
        erased = tombstones.fingerprints()
        counts: list[dict[str, object]] = []

        def make(day: date) -> dict[str, pl.DataFrame]:
            seen = lake.scan("raw_events", [day - timedelta(days=ago) for ago in range(1, DEDUPLICATION_DAYS + 1)])
            recent = pl.Series(dtype=pl.String) if seen is None else seen.select("message_id").collect()["message_id"]
            done = ingest(landing.read(day), recent, arrival=day, timezone=timezone, erased=erased)
            counts.append(
                {
                    "day": day.isoformat(),
                    "lines": done.lines,
                    "accepted": done.accepted.height,
                    "duplicates": done.duplicates,
                    "rejected": done.rejected.height,
                    "erased": done.erased,
                }
            )
            return {"raw_events": done.accepted, "rejected_events": done.rejected}

        each_day(context, lake, make)
        yield dg.MaterializeResult(asset_key="raw_events")
        yield dg.MaterializeResult(asset_key="rejected_events")
        yield _reconciled(pl.DataFrame(counts))

    @dg.asset(**daily(partitions, "events", after(["raw_events", "identity_map"])))
    def customer_activity(context: dg.AssetExecutionContext, config: Recompute, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """One row per customer and event date, of what arrived on the day: the rollup that keeps the daily cost flat."""
        portfolio = journeys.load()
        made_by = measures.definitions(portfolio)
        definitions = Definitions(lake, made_by, portfolio.starts_on)

        def make(day: date) -> dict[str, pl.DataFrame]:
            events, absorbed = lake.lazy("raw_events", day), identity.absorbed(lake.lazy("identity_map", day))
            if not config.only_changed:
                return {"customer_activity": roll_up(events, portfolio, arrival=day, absorbed=absorbed)}
            changed = definitions.changed("customer_activity", day)
            rollup = lake.read("customer_activity", day)
            return {"customer_activity": roll_up_again(rollup, events, portfolio, changed, arrival=day, absorbed=absorbed)}

        each_day(context, lake, make, made_by)
        return dg.MaterializeResult()

    return [ingested, customer_activity]


def _reconciled(counts: pl.DataFrame) -> dg.AssetCheckResult:
    unbalanced = counts.filter(pl.col("lines") != pl.sum_horizontal("accepted", "duplicates", "rejected", "erased"))
    totals = counts.select(pl.col("lines", "accepted", "duplicates", "rejected", "erased").sum()).row(0, named=True)
    return dg.AssetCheckResult(
        asset_key="raw_events",
        check_name=RECONCILED.name,
        passed=unbalanced.is_empty(),
        metadata={**totals, "days": markdown_table(counts), "days_that_do_not_add_up": markdown_table(unbalanced)},
    )
