"""From the landing zone to accepted events, rejects and the daily rollup."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg
import polars as pl

from assets.daily import after, chosen, days_of, each_day, made, spec, together
from assets.features import Definitions, Recompute
from assets.shown.arrivals import ARRIVED, PASSED_OVER, facts_of_day, lines_arrived, of_no_day, passed_over
from assets.shown.facts import markdown_table
from atc_pipeline.customers import features
from atc_pipeline.customers.activity import Rollup, roll_up, roll_up_again
from atc_pipeline.customers.tables import FEATURE_COVERAGE
from atc_pipeline.events.ingest import DEDUPLICATION_DAYS, ingest
from atc_pipeline.identity import map as identities
from atc_pipeline.tables.store import Tables, window
from resources.erasure.tombstones import Tombstones
from resources.journeys import JourneysFile
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone, PassedOver

RECONCILED = dg.AssetCheckSpec(
    "every_line_accounted_for",
    asset="raw_events",
    description="Lines read = accepted + duplicates + rejected + erased, on every day (SPEC 1). If it fails, run the day again: a file may "
    "have changed while it was read.",
    blocking=True,
)


def event_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``raw_events``, ``rejected_events``, ``customer_activity`` and ``feature_coverage``."""

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
        erased = tombstones.fingerprints()
        counts: list[Counts] = []
        passed: dict[date, list[PassedOver]] = {}
        others: list[PassedOver] = []
        latest = days_of(context)[-1]

        def make(day: date) -> Tables:
            spill.clear()
            if day == latest:
                others.extend(of_no_day(landing, portfolio.starts_on, portfolio.ends_on))
            before = [day - timedelta(days=ago) for ago in range(1, DEDUPLICATION_DAYS + 1)]
            seen = window(lake, "raw_events", before, portfolio.starts_on)
            recent = pl.Series(dtype=pl.String) if seen is None else seen.select("message_id")
            passed[day] = landing.passed_over(day)
            done = ingest(
                landing.read(day, passed[day]),
                recent,
                arrival=day,
                timezone=portfolio.timezone,
                erased=erased,
                blocked=portfolio.blocked,
                park=spill.park,
            )
            told = [*passed[day], *others]
            if "raw_events" in chosen(context) and (facts := facts_of_day(told, done.mended)):
                context.add_asset_metadata(facts, asset_key="raw_events", partition_key=day.isoformat())
            counts.append(Counts(day, done.lines, _height(done.accepted), done.dropped, _height(done.rejected), done.erased))
            return {"raw_events": done.accepted, "rejected_events": done.rejected}

        with lake.spill() as spill:
            each_day(context, lake, make, landed=landing.signature)
        yield from made(context, ["raw_events", "rejected_events"])
        results = [
            _reconciled(pl.DataFrame([each.read(lake) for each in counts])),
            passed_over(others, passed),
            lines_arrived(landing, lake, {each.day: each.lines for each in counts}),
        ]
        asked = {key.name for key in context.selected_asset_check_keys}
        yield from (result for result in results if result.check_name in asked)

    @dg.multi_asset(
        name="customer_activity",
        specs=[
            dg.AssetSpec("customer_activity", **spec(partitions, "events", after(["raw_events", "identity_map"]))),
            dg.AssetSpec("feature_coverage", **spec(partitions, "events", after(["raw_events"]))),
        ],
        **together(partitions),
    )
    def rolled_up(
        context: dg.AssetExecutionContext, config: Recompute, lake: Lake, journeys: JourneysFile
    ) -> Iterator[dg.MaterializeResult]:
        """Take out of the events what the portfolio asks for."""
        portfolio = journeys.load()
        made_by = features.definitions(portfolio)
        definitions = Definitions(lake, made_by, portfolio.starts_on)

        def make(day: date) -> dict[str, pl.DataFrame]:
            events, absorbed = lake.lazy("raw_events", day), identities.absorbed(lake.lazy("identity_map", day))
            if config.only_changed:
                changed = definitions.changed("customer_activity", day)
                coverage = (
                    lake.read("feature_coverage", day)
                    if lake.has("feature_coverage", day)
                    else pl.DataFrame(schema=FEATURE_COVERAGE.schema)
                )
                before = Rollup(lake.read("customer_activity", day), coverage)
                rolled = roll_up_again(before, events, portfolio, changed, arrival=day, absorbed=absorbed)
            else:
                rolled = roll_up(events, portfolio, arrival=day, absorbed=absorbed)
            return {"customer_activity": rolled.activity, "feature_coverage": rolled.coverage}

        each_day(context, lake, make, made_by)
        yield from made(context, ["customer_activity", "feature_coverage"])

    return [ingested, rolled_up]


@dataclass(frozen=True)
class Counts:
    """How many lines arrived on a day, and what became of them; None where that is known only once the table is written."""

    day: date
    lines: int
    accepted: int | None
    dropped: list[int]
    rejected: int | None
    erased: int

    def read(self, lake: Lake) -> dict[str, object]:
        """Return the counts of a day that is written."""
        return {
            "day": self.day.isoformat(),
            "lines": self.lines,
            "accepted": lake.rows("raw_events", self.day) if self.accepted is None else self.accepted,
            "duplicates": sum(self.dropped),
            "rejected": lake.rows("rejected_events", self.day) if self.rejected is None else self.rejected,
            "erased": self.erased,
        }


def _height(table: pl.DataFrame | pl.LazyFrame) -> int | None:
    return table.height if isinstance(table, pl.DataFrame) else None


def _reconciled(counts: pl.DataFrame) -> dg.AssetCheckResult:
    unbalanced = counts.filter(pl.col("lines") != pl.sum_horizontal("accepted", "duplicates", "rejected", "erased"))
    totals = counts.select(pl.col("lines", "accepted", "duplicates", "rejected", "erased").sum()).row(0, named=True)
    return dg.AssetCheckResult(
        asset_key="raw_events",
        check_name=RECONCILED.name,
        passed=unbalanced.is_empty(),
        metadata={**totals, "days": markdown_table(counts, most=366), "days_that_do_not_add_up": markdown_table(unbalanced)},
    )
