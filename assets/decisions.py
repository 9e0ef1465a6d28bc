"""The decision of the day: options scored and ruled, memory updated, one answer per customer."""

from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg
import polars as pl

from assets.daily import Tables, after, days_of, each_day, made, spec, together, yesterday_of
from atc_pipeline import measures, rules
from atc_pipeline.decision.day import ASSIGNMENTS, decide
from atc_pipeline.decision.memory import goal_events, goal_lookback_days, merge, no_state
from atc_pipeline.identity import absorbed
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.profiles import LATENESS_DAYS
from resources.journeys import JourneysFile
from resources.lake import Lake, Rolling
from resources.ledger import Ledger


def decision_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build the tables of the decision: one step, because each day needs the last."""

    @dg.multi_asset(
        name="decide",
        specs=[
            dg.AssetSpec(
                "scored_candidates",
                description='One row per customer and option, "none" included: every factor, the score, and why it won or lost.',
                **spec(partitions, "decisions", after(["journey_queues", "customer_profiles", "customer_activity", "identity_map"])),
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
            dg.AssetSpec(
                "journey_funnel",
                description="One row per journey: how many queued, were turned away by each gate, got in; and what a place is worth.",
                **spec(partitions, "decisions", after(["scored_candidates"])),
            ),
        ],
        **together(partitions),
    )
    def decided(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile, ledger: Ledger) -> Iterator[dg.MaterializeResult]:
        """Advance, gate, score and choose, day by day in order; what was delivered already stands."""
        portfolio = journeys.load()
        activity = goal_activity(lake, portfolio)
        delivered = ledger.decisions(days_of(context), ASSIGNMENTS)
        each_day(context, lake, lambda day: decide_day(lake, activity, delivered, portfolio, day))
        yield from made(context, ["scored_candidates", "journey_state", "journey_assignments", "journey_funnel"])

    return [decided]


def goal_activity(lake: Lake, portfolio: Portfolio) -> Rolling:
    """Return the rollups that can hold goal events of journeys in flight."""
    columns = ["date", "customer_id", "event_date", *(one.name for one in measures.goals(portfolio))]
    # A goal that a new journey brings is not in the rollups of earlier days, and need not be: nobody was in that journey.
    days_before, since = goal_lookback_days(portfolio, LATENESS_DAYS), portfolio.starts_on
    return Rolling(lake, "customer_activity", days_before, columns, since=since, may_lack=True)


def decide_day(lake: Lake, activity: Rolling, delivered: pl.DataFrame, portfolio: Portfolio, day: date) -> Tables:
    """Return the day's tables, from its queues and profiles, the memory of the day before and what was delivered already."""
    yesterday = yesterday_of(lake, "journey_state", day, portfolio.starts_on)
    # Rollups name customers as they were known on the day of each.
    merged = absorbed(lake.lazy("identity_map", day), since=day - timedelta(days=activity.days_before)).collect().lazy()
    goals = goal_events(rules.survivors(activity.until(day), merged), [one.name for one in measures.goals(portfolio)], today=day)
    decided = decide(
        lake.lazy("journey_queues", day),
        lake.lazy("customer_profiles", day),
        no_state() if yesterday is None else merge(yesterday.collect(), merged, today=day),
        goals,
        portfolio,
        today=day,
        delivered=delivered.filter(pl.col("date") == day),
    )
    return {
        "scored_candidates": decided.candidates,
        "journey_state": decided.state,
        "journey_assignments": decided.assignments,
        "journey_funnel": decided.funnel,
    }
