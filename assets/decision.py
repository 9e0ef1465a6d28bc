"""The decision of the day: who queues for what; options scored and ruled, memory updated, one answer per customer."""

from collections.abc import Iterator
from functools import partial

import dagster as dg

from assets.daily import after, daily, days_of, each_day, made, spec, together
from assets.shown.additions import WhatIsNew
from atc_pipeline.days.decision import Decision, Queues, UnknownJourneyError
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS
from atc_pipeline.escaping import plain
from resources.delivery.ledger import Ledger, LedgerError
from resources.journeys import JourneysFile
from resources.runners import Runner
from resources.storage.lake import Lake

DECIDED = (
    "scored_candidates", "journey_state", "journey_assignments", "journey_funnel", "journey_entries", "entry_profiles", "journey_outcomes",
    "long_outcomes", "goal_models",
)  # fmt: skip
"""What the step of the decision makes."""


class QueueConfig(dg.Config):
    """Which queues to rebuild; none named = all. The others' rows stay as they are."""

    journeys: list[str] = []
    only_changed: bool = False
    """Of days that are there, only queues that are new or defined anew since, and those named."""


def decision_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``journey_queues``, and the tables of the decision: one step, because each day needs the last."""

    @dg.asset(**daily(partitions, "decisions", after(["customer_profiles", "micro_segment_memberships", "identity_map"])))
    def journey_queues(
        context: dg.AssetExecutionContext, config: QueueConfig, lake: Lake, journeys: JourneysFile, runner: Runner
    ) -> dg.MaterializeResult:
        """Configured with names of journeys, a run builds only their queues again."""
        try:
            make = partial(Queues, portfolio=journeys.load(), only=config.journeys, only_changed=config.only_changed)
            queues = make(lake)
        except UnknownJourneyError as problem:
            raise dg.Failure(f"config journeys: {plain(str(problem))} not in {journeys.path} (or a draft)", allow_retries=False) from None
        days = days_of(context)
        new = WhatIsNew(journeys, lake, days, is_told=config.only_changed)
        each_day(context, lake, queues, by_shard=runner.by_shard(make))
        context.add_asset_metadata(new.facts(), asset_key="journey_queues", partition_key=str(days[-1]))
        return dg.MaterializeResult()

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
            dg.AssetSpec(
                "journey_entries",
                **spec(
                    partitions,
                    "decisions",
                    after(["journey_assignments", "journey_state", "micro_segment_memberships", "customer_metrics"]),
                ),
            ),
            dg.AssetSpec("entry_profiles", **spec(partitions, "decisions", after(["journey_entries", "customer_profiles"]))),
            dg.AssetSpec(
                "journey_outcomes",
                **spec(partitions, "decisions", after(["journey_entries", "journey_state", "customer_metrics", "identity_map"])),
            ),
            dg.AssetSpec(
                "long_outcomes",
                **spec(partitions, "decisions", after(["journey_entries", "journey_state", "customer_metrics", "identity_map"])),
            ),
            dg.AssetSpec("goal_models", **spec(partitions, "decisions", after(["customer_profiles", "identity_map"]))),
        ],
        **together(partitions),
    )
    def decided(
        context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile, ledger: Ledger, runner: Runner
    ) -> Iterator[dg.MaterializeResult]:
        """Advance, gate, score and choose, day by day in order; what was delivered already stands."""
        try:
            delivered = ledger.decisions(days_of(context), JOURNEY_ASSIGNMENTS.schema)
        except LedgerError as problem:
            raise dg.Failure(f"nothing was decided, since what was sent already must stand: {problem}", allow_retries=False) from None
        make = partial(Decision, portfolio=journeys.load(), delivered=delivered, versions=journeys.versions.find)
        each_day(context, lake, make(lake), by_shard=runner.by_shard(make))
        yield from made(context, DECIDED)

    return [journey_queues, decided]
