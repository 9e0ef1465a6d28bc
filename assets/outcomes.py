"""What a marketer looks at first: the segment matrix, a small table of each day and a picture of a stretch of them.

What belongs here: tables made to be seen. What does not: anything another table is computed from.
"""

import base64
from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
import polars as pl

from assets.daily import after, daily, days_of, each_day
from assets.shown.facts import markdown_table
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.outcomes.matrix import segment_matrix
from atc_pipeline.pictures.matrix import MOST_DRAWN, draw, summary
from atc_pipeline.tables.store import yesterday_of
from resources.journeys import JourneysFile
from resources.storage.lake import Lake

SHOWN_DAYS = range(30, 366)
"""Days in the picture of a run: as many as it has, but at least so many up to the last, and no more than can be told apart."""

KEPT_LETTERS = 50_000
"""Of a picture that Dagster keeps with a day, for ever: fewer micro-segments are drawn where it would be larger."""


def picture_assets(partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build ``segment_matrix``."""

    @dg.asset(name="segment_matrix", **daily(partitions, "decisions", after(["micro_segment_memberships", "journey_assignments"])))
    def matrix(context: dg.AssetExecutionContext, lake: Lake, journeys: JourneysFile) -> dg.MaterializeResult:
        """The last day of a run carries a picture of the run's days, and of no fewer than the 30 up to it."""
        portfolio = journeys.load()

        def make(day: date) -> dict[str, pl.DataFrame]:
            yesterday = yesterday_of(lake, "micro_segment_memberships", day, portfolio.starts_on)
            today = lake.lazy("micro_segment_memberships", day)
            return {"segment_matrix": segment_matrix(today, yesterday, lake.lazy("journey_assignments", day), today=day).collect()}

        each_day(context, lake, make)
        _show(context, lake, portfolio, days_of(context))
        return dg.MaterializeResult()

    return [matrix]


def _show(context: dg.AssetExecutionContext, lake: Lake, portfolio: Portfolio, days: Sequence[date]) -> None:
    number = min(max(len(days), SHOWN_DAYS.start), SHOWN_DAYS.stop)
    found = lake.scan("segment_matrix", [days[-1] - timedelta(days=ago) for ago in range(number)])
    rows = pl.DataFrame() if found is None else found.collect()
    if rows.is_empty():
        return
    svg = draw(rows, portfolio)
    shown, most = svg, min(MOST_DRAWN, rows["segment_id"].n_unique())
    while len(shown) > KEPT_LETTERS and most > 1:
        most //= 2
        shown = draw(rows, portfolio, most)
    encoded = base64.b64encode(shown.encode()).decode()
    context.add_asset_metadata(
        {
            "picture": dg.MetadataValue.md(f"![micro-segments x days](data:image/svg+xml;base64,{encoded})"),
            "micro_segments": markdown_table(summary(rows, portfolio)),
            "file": dg.MetadataValue.path(lake.put("segment_matrix", "picture.svg", svg)),
        },
        asset_key="segment_matrix",
        partition_key=days[-1].isoformat(),
    )
