"""The decision of the day: options scored and ruled, memory updated, one answer per customer."""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta

import dagster as dg
import polars as pl

from assets.daily import after, days_of, each_day, made, spec, together
from atc_pipeline.customers import remembered
from atc_pipeline.customers.profiles import LATENESS_DAYS
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.decision.decide import decide
from atc_pipeline.decision.memory import (
    cap_days,
    goal_events,
    goal_lookback_days,
    goals_awaited,
    goals_in,
    merge,
    no_state,
    recall_starts,
)
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS
from atc_pipeline.identity.map import absorbed, arms
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules.people import survivors
from atc_pipeline.tables.store import Tables, yesterday_of
from resources.delivery.ledger import Ledger, LedgerError
from resources.journeys import JourneysFile
from resources.storage.lake import Lake

CAP_DAYS = "policy.cap.days"
"""Under this name ``journey_state`` says over how many days it remembers starts."""


def decision_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build the tables of the decision: one step, because each day needs the last."""

    @dg.multi_asset(
        name="decide",
        specs=[
            dg.AssetSpec(
                "scored_candidates",
                **spec(partitions, "decisions", after(["journey_queues", "customer_profiles", "customer_activity", "identity_map"])),
            ),
            dg.AssetSpec("journey_state", **spec(partitions, "decisions", after(["scored_candidates"]))),
            dg.AssetSpec("journey_assignments", **spec(partitions, "decisions", after(["scored_candidates", "journey_state"]))),
            dg.AssetSpec("journey_funnel", **spec(partitions, "decisions", after(["scored_candidates"]))),
        ],
        **together(partitions),
    )
    def decided(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile, ledger: Ledger) -> Iterator[dg.MaterializeResult]:
        """Advance, gate, score and choose, day by day in order; what was delivered already stands."""
        portfolio = journeys.load()
        goals = Goals(lake, portfolio)
        try:
            delivered = ledger.decisions(days_of(context), JOURNEY_ASSIGNMENTS.schema)
        except LedgerError as problem:
            raise dg.Failure(f"nothing was decided, since what was sent already must stand: {problem}", allow_retries=False) from None
        each_day(context, lake, lambda day: decide_day(lake, goals, delivered, portfolio, day), {CAP_DAYS: str(cap_days(portfolio))})
        yield from made(context, ["scored_candidates", "journey_state", "journey_assignments", "journey_funnel"])

    return [decided]


class Goals:
    """Who did what a journey is for, from the rollups; and from the events of days that were rolled up before it was somebody's goal."""

    def __init__(self, lake: Lake, portfolio: Portfolio) -> None:
        self.lake, self.portfolio = lake, portfolio
        self.columns = [one.name for one in remembered.goals(portfolio)]
        self.days_before = goal_lookback_days(portfolio, LATENESS_DAYS)
        columns = ["date", "customer_id", "event_date", *self.columns]
        self.activity = Rolling(lake, "customer_activity", self.days_before, columns, since=portfolio.starts_on, may_lack=True)
        self._rolled_up: dict[date, set[str]] = {}
        self._read: dict[tuple[date, str], pl.DataFrame] = {}

    def until(self, day: date, awaited: Mapping[str, date]) -> pl.LazyFrame:
        """One row per customer, goal event and date on which it happened, of what arrived by the day.

        ``awaited``: the goals of journeys in flight, and since when. Of others nothing is missed where a rollup does not count them.
        """
        identity_map = self.lake.lazy("identity_map", day)
        first = day - timedelta(days=self.days_before)
        # Rollups name customers as they were known on the day of each.
        merged = absorbed(identity_map, since=first).collect().lazy()
        rolled_up = goal_events(survivors(self.activity.until(day), merged), self.columns, today=day)
        read = [
            self._in_events(arrival, event)
            for event, since in awaited.items()
            for arrival in days_between(max(since, first, self.portfolio.starts_on), day)
            if remembered.goal_column(event) not in self._counted(arrival)
        ]
        return pl.concat([rolled_up, survivors(pl.concat(read).lazy(), absorbed(identity_map))]) if read else rolled_up

    def _counted(self, arrival: date) -> set[str]:
        """Name the columns of a day's rollup; none where there is no rollup."""
        if arrival not in self._rolled_up:
            there = self.lake.has("customer_activity", arrival)
            self._rolled_up[arrival] = set(self.lake.lazy("customer_activity", arrival).collect_schema()) if there else set()
        return self._rolled_up[arrival]

    def _in_events(self, arrival: date, event: str) -> pl.DataFrame:
        if (arrival, event) not in self._read:
            reached = goals_in(self.lake.lazy("raw_events", arrival), [event], self.portfolio.blocked)
            self._read[arrival, event] = reached.collect()
        return self._read[arrival, event]


def days_between(first: date, last: date) -> list[date]:
    """Return the days from the first to the last."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def memory_of(lake: Lake, portfolio: Portfolio, day: date) -> pl.DataFrame:
    """Return the memory of the day before, of customers as they are on the day, and as far back as the cap counts."""
    yesterday = yesterday_of(lake, "journey_state", day, portfolio.starts_on)
    if yesterday is None:
        return no_state()
    identity_map, before = lake.lazy("identity_map", day), day - timedelta(days=1)
    state = merge(yesterday.collect(), absorbed(identity_map, since=day).collect().lazy(), today=day)
    window = cap_days(portfolio)
    if window <= int(lake.definitions("journey_state", before).get(CAP_DAYS, 0)):
        return state
    # A cap is new, or longer than it was: what was forgotten meanwhile stands in the memories of those days.
    days = days_between(max(portfolio.starts_on, day - timedelta(days=window - 1)), before)
    memories = [lake.lazy("journey_state", one).filter(pl.col("entered_on") == one) for one in days]
    started = pl.concat(one.select("customer_id", "journey_id", "entered_on") for one in memories)
    return recall_starts(state, survivors(started, absorbed(identity_map)))


def decide_day(lake: Lake, goals: Goals, delivered: pl.DataFrame, portfolio: Portfolio, day: date) -> Tables:
    """Return the day's tables, from its queues and profiles, the memory of the day before and what was delivered already."""
    identity_map = lake.lazy("identity_map", day)
    state = memory_of(lake, portfolio, day)
    decided = decide(
        lake.lazy("journey_queues", day),
        lake.lazy("customer_profiles", day),
        state,
        goals.until(day, goals_awaited(state, portfolio)),
        portfolio,
        today=day,
        delivered=delivered.filter(pl.col("date") == day),
        absorbed=absorbed(identity_map),
        arms=arms(identity_map),
    )
    return {
        "scored_candidates": decided.candidates,
        "journey_state": decided.state,
        "journey_assignments": decided.assignments,
        "journey_funnel": decided.funnel,
    }
