"""From the daily rollup to profiles, micro-segments and journey queues."""

from datetime import date

import dagster as dg
import polars as pl

from assets.daily import after, daily, each_day, yesterday_of
from atc_pipeline.identity import absorbed
from atc_pipeline.profiles import lookback_days, rank_population, rollup_columns, update_profiles
from atc_pipeline.queues import queue_customers
from atc_pipeline.segments import assign_segments
from resources.journeys import JourneysFile
from resources.lake import Lake, Rolling


class QueueConfig(dg.Config):
    """Which queues to rebuild; none named = all. The others' rows stay as they are."""

    journeys: list[str] = []


def customer_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``customer_profiles``, ``micro_segment_memberships`` and ``journey_queues``."""

    @dg.asset(**daily(partitions, "customers", after(["customer_activity"], itself="customer_profiles")))
    def customer_profiles(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """One row per customer per day: the system of record of traits, interests, intents and consent."""
        portfolio = journeys.load()
        activity = Rolling(lake, "customer_activity", lookback_days(portfolio), rollup_columns(portfolio))

        def make(day: date) -> dict[str, pl.DataFrame]:
            yesterday = yesterday_of(lake, "customer_profiles", day, portfolio.starts_on)
            profiles = update_profiles(yesterday, activity.until(day), portfolio, today=day)
            return {"customer_profiles": rank_population(profiles, portfolio).collect()}

        each_day(context, lake, make)
        return dg.MaterializeResult()

    @dg.asset(**daily(partitions, "customers", after(["customer_profiles", "identity_map"], itself="micro_segment_memberships")))
    def micro_segment_memberships(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """One row per micro-segment and customer per day; everyone is always in at least one."""
        portfolio = journeys.load()

        def make(day: date) -> dict[str, pl.DataFrame]:
            profiles = lake.lazy("customer_profiles", day)
            yesterday = yesterday_of(lake, "micro_segment_memberships", day, portfolio.starts_on)
            merged = absorbed(lake.lazy("identity_map", day), since=day)
            members = assign_segments(profiles, yesterday, portfolio.segments, today=day, absorbed=merged)
            return {"micro_segment_memberships": members.collect()}

        each_day(context, lake, make)
        return dg.MaterializeResult()

    @dg.asset(
        **daily(partitions, "decisions", after(["customer_profiles", "micro_segment_memberships", "identity_map"], itself="journey_queues"))
    )
    def journey_queues(context: dg.AssetExecutionContext, config: QueueConfig, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """One row per journey and customer who qualifies for it on the day, and since when."""
        portfolio = journeys.load()
        rebuilt = [journey for journey in portfolio.journeys if not config.journeys or journey.id in config.journeys]
        unknown = sorted(set(config.journeys) - {journey.id for journey in rebuilt})
        if unknown:
            raise dg.Failure(f"config journeys: {', '.join(unknown)} not in {journeys.path} (or a draft)", allow_retries=False)

        def make(day: date) -> dict[str, pl.DataFrame]:
            queues = queue_customers(
                lake.lazy("customer_profiles", day),
                lake.lazy("micro_segment_memberships", day),
                yesterday_of(lake, "journey_queues", day, portfolio.starts_on),
                rebuilt,
                today=day,
                absorbed=absorbed(lake.lazy("identity_map", day), since=day),
            ).collect()
            if config.journeys:
                kept = [journey.id for journey in portfolio.journeys if journey not in rebuilt]
                others = lake.read("journey_queues", day).filter(pl.col("journey_id").is_in(kept))
                queues = pl.concat([others, queues]).sort("journey_id", "customer_id")
            return {"journey_queues": queues}

        each_day(context, lake, make)
        return dg.MaterializeResult()

    return [customer_profiles, micro_segment_memberships, journey_queues]
