"""The decision of the day: options scored and ruled, memory updated, one answer per customer."""

from collections.abc import Iterator
from datetime import date

import dagster as dg
import polars as pl

from assets.daily import YESTERDAY, daily, each_day, yesterday_of
from atc_pipeline import candidates, decision, measures
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.profiles import LATENESS_DAYS
from resources.journeys import JourneysFile
from resources.lake import Lake


def decision_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``scored_candidates``, ``journey_state`` and ``journey_assignments``: one step, because each day needs the last."""
    common = daily(partitions, group="decisions")
    shared = {name: common[name] for name in ("partitions_def", "group_name", "kinds", "owners")}

    @dg.multi_asset(
        name="decide",
        specs=[
            dg.AssetSpec(
                "scored_candidates",
                description='One row per customer and option, "none" included: every factor, the score, and why it won or lost.',
                deps=[
                    "journey_queues",
                    "customer_profiles",
                    "customer_activity",
                ],
                **shared,
            ),
            dg.AssetSpec(
                "journey_state",
                description="One row per customer and journey ever entered: the memory that tomorrow's decision stands on.",
                deps=["scored_candidates", dg.AssetDep("journey_state", partition_mapping=YESTERDAY)],
                **shared,
            ),
            dg.AssetSpec(
                "journey_assignments",
                description="One row per customer: the one journey for the day - start, continue, switch or none.",
                deps=["scored_candidates", "journey_state"],
                **shared,
            ),
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def decided(
        context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile
    ) -> Iterator[dg.MaterializeResult]:
        """Advance, gate, score and choose, day by day in order."""
        portfolio = journeys.load()
        each_day(context, lake, lambda day: _decide(lake, portfolio, day))
        for table in ("scored_candidates", "journey_state", "journey_assignments"):
            yield dg.MaterializeResult(asset_key=table)

    return [decided]


def _decide(lake: Lake, portfolio: Portfolio, day: date) -> dict[str, pl.DataFrame]:
    yesterday = yesterday_of(lake, "journey_state", day, portfolio.starts_on)
    before = decision.no_state() if yesterday is None else yesterday.collect()
    profiles = lake.read("customer_profiles", day).lazy()
    activity = lake.rolling("customer_activity", day, decision.goal_lookback_days(portfolio, LATENESS_DAYS))
    goals = decision.goal_events(activity, [one.name for one in measures.goals(portfolio)], today=day)
    state = decision.advance(before, goals, profiles, portfolio, today=day)
    options = candidates.build_options(
        lake.read("journey_queues", day).lazy(),
        profiles,
        decision.in_flight(state).lazy(),
        decision.last_finished(state).lazy(),
        portfolio,
        today=day,
    )
    done = decision.decide(options, state, profiles, portfolio, today=day)
    return {"scored_candidates": done.candidates, "journey_state": done.state, "journey_assignments": done.assignments}
