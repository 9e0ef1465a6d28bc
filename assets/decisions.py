"""The decision of the day: options scored and ruled, memory updated, one answer per customer."""

from collections.abc import Iterator
from datetime import date

import dagster as dg
import polars as pl

from assets.daily import after, each_day, spec, yesterday_of
from atc_pipeline import candidates, decision, measures
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.profiles import LATENESS_DAYS
from resources.journeys import JourneysFile
from resources.lake import Lake, Rolling


def decision_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``scored_candidates``, ``journey_state`` and ``journey_assignments``: one step, because each day needs the last."""

    @dg.multi_asset(
        name="decide",
        specs=[
            dg.AssetSpec(
                "scored_candidates",
                description='One row per customer and option, "none" included: every factor, the score, and why it won or lost.',
                **spec(partitions, "decisions", after(["journey_queues", "customer_profiles", "customer_activity"])),
            ),
            dg.AssetSpec(
                "journey_state",
                description="One row per customer and journey ever entered: the memory that tomorrow's decision stands on.",
                **spec(partitions, "decisions", after(["scored_candidates"], itself="journey_state")),
            ),
            dg.AssetSpec(
                "journey_assignments",
                description="One row per customer: the one journey for the day - start, continue, switch or none.",
                **spec(partitions, "decisions", after(["scored_candidates", "journey_state"])),
            ),
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def decided(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> Iterator[dg.MaterializeResult]:
        """Advance, gate, score and choose, day by day in order."""
        portfolio = journeys.load()
        activity = goal_activity(lake, portfolio)
        each_day(context, lake, lambda day: decide_day(lake, activity, portfolio, day))
        for table in ("scored_candidates", "journey_state", "journey_assignments"):
            yield dg.MaterializeResult(asset_key=table)

    return [decided]


def goal_activity(lake: Lake, portfolio: Portfolio) -> Rolling:
    """Return the rollups that can hold goal events of journeys in flight."""
    columns = ["date", "customer_id", "event_date", *(one.name for one in measures.goals(portfolio))]
    # A goal that a new journey brings is not in the rollups of earlier days, and need not be: nobody was in that journey.
    return Rolling(lake, "customer_activity", decision.goal_lookback_days(portfolio, LATENESS_DAYS), columns, may_lack=True)


def decide_day(lake: Lake, activity: Rolling, portfolio: Portfolio, day: date) -> dict[str, pl.DataFrame]:
    """Return the day's three tables, from its queues and profiles and the memory of the day before."""
    yesterday = yesterday_of(lake, "journey_state", day, portfolio.starts_on)
    before = decision.no_state() if yesterday is None else yesterday.collect()
    profiles = lake.lazy("customer_profiles", day)
    goals = decision.goal_events(activity.until(day), [one.name for one in measures.goals(portfolio)], today=day)
    state = decision.advance(before, goals, profiles, portfolio, today=day)
    options = candidates.build_options(
        lake.lazy("journey_queues", day),
        profiles,
        decision.in_flight(state).lazy(),
        decision.last_finished(state).lazy(),
        portfolio,
        today=day,
    )
    done = decision.decide(options, state, profiles, portfolio, today=day)
    return {"scored_candidates": done.candidates, "journey_state": done.state, "journey_assignments": done.assignments}
