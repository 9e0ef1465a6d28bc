"""From the daily rollup to profiles, micro-segments and journey queues."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import dagster as dg
import polars as pl

from assets.daily import after, daily, each_day, made, spec, together
from assets.features import Definitions, Recompute
from atc_pipeline.customers import features
from atc_pipeline.customers.profiles import lookback_days, purchases, rank_population, rollup_columns, update_again, update_profiles
from atc_pipeline.customers.purchases import PREDICTED, model_for_day, predict
from atc_pipeline.customers.segments import assign_segments
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.decision.queues import queue_customers
from atc_pipeline.escaping import plain
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.tables.store import yesterday_of
from resources.journeys import JourneysFile
from resources.storage.lake import Lake


class QueueConfig(dg.Config):
    """Which queues to rebuild; none named = all. The others' rows stay as they are."""

    journeys: list[str] = []


def customer_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``customer_profiles``, ``purchase_models``, ``micro_segment_memberships`` and ``journey_queues``."""

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
        context: dg.AssetExecutionContext, config: Recompute, lake: Lake, journeys: JourneysFile
    ) -> Iterator[dg.MaterializeResult]:
        """Add what arrived to what was known; fit the purchase models when it is time, and predict."""
        portfolio = journeys.load()
        made_by = features.definitions(portfolio)
        definitions = Definitions(lake, made_by, portfolio.starts_on)
        activity = Rolling(lake, "customer_activity", lookback_days(portfolio), rollup_columns(portfolio), since=portfolio.starts_on)

        def make(day: date) -> dict[str, pl.DataFrame]:
            definitions.require_window("customer_activity", day, lookback_days(portfolio))
            if day > portfolio.starts_on:
                definitions.require("customer_profiles", [day - timedelta(days=1)])
            again = definitions.changed("customer_profiles", day) if config.only_changed else None
            return profile_day(lake, activity.until(day), portfolio, day, again)

        each_day(context, lake, make, definitions.with_history)
        yield from made(context, ["purchase_models", "customer_profiles"])

    @dg.asset(**daily(partitions, "customers", after(["customer_profiles", "identity_map"])))
    def micro_segment_memberships(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """Conditions are tested on the day's profiles; a spell goes on from the day before."""
        portfolio = journeys.load()

        def make(day: date) -> dict[str, pl.DataFrame]:
            profiles = lake.lazy("customer_profiles", day)
            yesterday = yesterday_of(lake, "micro_segment_memberships", day, portfolio.starts_on)
            merged = absorbed(lake.lazy("identity_map", day), since=day)
            members = assign_segments(profiles, yesterday, portfolio.segments, today=day, absorbed=merged)
            return {"micro_segment_memberships": members.collect()}

        each_day(context, lake, make)
        return dg.MaterializeResult()

    @dg.asset(**daily(partitions, "decisions", after(["customer_profiles", "micro_segment_memberships", "identity_map"])))
    def journey_queues(context: dg.AssetExecutionContext, config: QueueConfig, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """Configured with names of journeys, a run builds only their queues again."""
        portfolio = journeys.load()
        rebuilt = [journey for journey in portfolio.journeys if not config.journeys or journey.id in config.journeys]
        unknown = sorted(set(config.journeys) - {journey.id for journey in rebuilt})
        if unknown:
            raise dg.Failure(f"config journeys: {', '.join(map(plain, unknown))} not in {journeys.path} (or a draft)", allow_retries=False)

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

    return [profiled, micro_segment_memberships, journey_queues]


def profile_day(
    lake: Lake, activity: pl.LazyFrame, portfolio: Portfolio, day: date, again: Sequence[str] | None = None
) -> dict[str, pl.DataFrame]:
    """Return the day's profiles and purchase models; ``again``: only these features anew, the rest as it is."""
    yesterday = yesterday_of(lake, "customer_profiles", day, portfolio.starts_on)
    now = absorbed(lake.lazy("identity_map", day), since=day - timedelta(days=lookback_days(portfolio)))
    if again is None:
        updated = update_profiles(yesterday, activity, portfolio, today=day, absorbed=now)
        profiles = rank_population(updated, portfolio).collect()
    else:
        kept = lake.lazy("customer_profiles", day)
        profiles = update_again(kept, yesterday, activity, portfolio, again, today=day, absorbed=now).collect()
    if portfolio.predictions is None:
        return {"customer_profiles": profiles, "purchase_models": model_for_day(None, None, None, today=day)}
    if again is not None and "predictions" not in again:
        return {"customer_profiles": profiles, "purchase_models": lake.read("purchase_models", day)}
    before = yesterday_of(lake, "purchase_models", day, portfolio.starts_on)
    models = model_for_day(
        None if yesterday is None else purchases(yesterday), None if before is None else before.collect(), portfolio.predictions, today=day
    )
    expected = predict(purchases(profiles.lazy()), models, today=day, horizon_days=portfolio.predictions.horizon_days)
    return {"customer_profiles": profiles.with_columns(expected.select(PREDICTED).collect()), "purchase_models": models}
