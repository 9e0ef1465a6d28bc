"""What came of it: the segment matrix, what a marketer looks at first; what journeys are worth, against who was held out; and how
well goals were foretold."""

import dagster as dg

from assets.daily import after, daily, days_of, each_day
from assets.shown.matrix import picture_of
from assets.shown.proof import learning_of, proof_of
from atc_pipeline.days.outcomes import Matrix, Quality, Uplift
from resources.journeys import JourneysFile
from resources.storage.lake import Lake


def outcome_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``segment_matrix``, ``uplift`` and ``model_quality``."""

    @dg.asset(name="segment_matrix", **daily(partitions, "decisions", after(["micro_segment_memberships", "journey_assignments"])))
    def matrix(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """The last day of a run carries a picture of the run's days, and of no fewer than the 30 up to it."""
        portfolio, days = journeys.load(), days_of(context)
        each_day(context, lake, Matrix(lake, portfolio))
        picture = picture_of(lake, portfolio, days)
        context.add_asset_metadata(picture, asset_key="segment_matrix", partition_key=days[-1].isoformat())
        return dg.MaterializeResult()

    @dg.asset(
        **daily(partitions, "proof", after(["journey_entries", "journey_outcomes", "long_outcomes", "customer_metrics", "identity_map"]))
    )
    def uplift(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """Estimated anew each day, of all that has matured; nothing decides from it. The last day of a run carries it in words."""
        portfolio, last = journeys.load(), days_of(context)[-1]
        each_day(context, lake, Uplift(lake, portfolio))
        context.add_asset_metadata(proof_of(lake, portfolio, last), asset_key="uplift", partition_key=last.isoformat())
        return dg.MaterializeResult()

    @dg.asset(**daily(partitions, "proof", after(["journey_outcomes", "goal_models"])))
    def model_quality(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """Of what matured on the day, by what was said at the entry. The last day of a run shows what is learned, and how well it does."""
        portfolio, last = journeys.load(), days_of(context)[-1]
        each_day(context, lake, Quality(lake, portfolio))
        context.add_asset_metadata(learning_of(lake, portfolio, last), asset_key="model_quality", partition_key=last.isoformat())
        return dg.MaterializeResult()

    return [matrix, uplift, model_quality]
