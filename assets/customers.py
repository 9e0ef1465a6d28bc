"""From accepted events to the daily rollup, profiles and micro-segments."""

from collections.abc import Iterator
from functools import partial

import dagster as dg

from assets.daily import Again, Recompute, after, daily, days_again, each_day, made, spec, together
from atc_pipeline.days.customers import Activity, Memberships, Metrics, Profiles
from resources.journeys import JourneysFile
from resources.runners import Runner
from resources.storage.lake import Lake


def customer_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build the rollup, metrics, profiles with the purchase models, and ``micro_segment_memberships``."""

    @dg.multi_asset(
        name="customer_activity",
        specs=[
            dg.AssetSpec("customer_activity", **spec(partitions, "events", after(["raw_events", "identity_map"]))),
            dg.AssetSpec("feature_coverage", **spec(partitions, "events", after(["raw_events"]))),
        ],
        **together(partitions),
    )
    def rolled_up(
        context: dg.AssetExecutionContext, config: Again, lake: Lake, journeys: JourneysFile, runner: Runner
    ) -> Iterator[dg.MaterializeResult]:
        """Take out of the events what the portfolio asks for."""
        make = partial(Activity, portfolio=journeys.load(), only_changed=config.only_changed)
        step = make(lake)
        days = days_again(context, lake, step, "customer_activity", config)
        each_day(context, lake, step, days=days, by_shard=runner.by_shard(make))
        yield from made(context, ["customer_activity", "feature_coverage"])

    @dg.asset(**daily(partitions, "customers", after(["raw_events", "identity_map"])))
    def customer_metrics(
        context: dg.AssetExecutionContext, config: Again, lake: Lake, journeys: JourneysFile, runner: Runner
    ) -> dg.MaterializeResult:
        """What is measured of customers is taken out of the events."""
        make = partial(Metrics, portfolio=journeys.load(), only_changed=config.only_changed)
        step = make(lake)
        days = days_again(context, lake, step, "customer_activity", config)
        each_day(context, lake, step, days=days, by_shard=runner.by_shard(make))
        return dg.MaterializeResult()

    @dg.multi_asset(
        name="profile",
        specs=[
            dg.AssetSpec(
                "customer_profiles", **spec(partitions, "customers", after(["customer_activity", "identity_map", "purchase_models"]))
            ),
            dg.AssetSpec("purchase_models", **spec(partitions, "customers", after(["customer_activity"]))),
        ],
        **together(partitions),
    )
    def profiled(
        context: dg.AssetExecutionContext, config: Again, lake: Lake, journeys: JourneysFile, runner: Runner
    ) -> Iterator[dg.MaterializeResult]:
        """Add what arrived to what was known; fit the purchase models when it is time, and predict."""
        make = partial(Profiles, portfolio=journeys.load(), only_changed=config.only_changed)
        step = make(lake)
        days = days_again(context, lake, step, "customer_profiles", config)
        each_day(context, lake, step, days=days, by_shard=runner.by_shard(make))
        yield from made(context, ["purchase_models", "customer_profiles"])

    @dg.asset(**daily(partitions, "customers", after(["customer_profiles", "identity_map"])))
    def micro_segment_memberships(
        context: dg.AssetExecutionContext, config: Recompute, lake: Lake, journeys: JourneysFile, runner: Runner
    ) -> dg.MaterializeResult:
        """Conditions are tested on the day's profiles; a spell goes on from the day before."""
        make = partial(Memberships, portfolio=journeys.load(), only_changed=config.only_changed)
        each_day(context, lake, make(lake), by_shard=runner.by_shard(make))
        return dg.MaterializeResult()

    return [rolled_up, customer_metrics, profiled, micro_segment_memberships]
