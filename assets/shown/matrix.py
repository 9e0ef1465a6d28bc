"""How the segment matrix is shown: a picture of a stretch of days, and what it says in numbers.

What belongs here: which days are shown, and how much of a picture Dagster keeps. What does not: drawing (``pictures.matrix``), counting
(``outcomes.matrix``).
"""

import base64
from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
import polars as pl

from assets.shown.facts import Facts, markdown_table
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.pictures.matrix import MOST_DRAWN, draw, summary
from resources.storage.lake import Lake

SHOWN_DAYS = range(30, 366)
"""Days in the picture of a run: as many as it has, but at least so many up to the last, and no more than can be told apart."""

KEPT_LETTERS = 50_000
"""Of a picture that Dagster keeps with a day, for ever: fewer micro-segments are drawn where it would be larger."""


def picture_of(lake: Lake, portfolio: Portfolio, days: Sequence[date]) -> Facts:
    """Draw the days of a run, in order, and those before them as far as they are shown; nothing where no segment has a customer."""
    number = min(max(len(days), SHOWN_DAYS.start), SHOWN_DAYS.stop)
    written = lake.scan("segment_matrix", [days[-1] - timedelta(days=ago) for ago in range(number)])
    rows = pl.DataFrame() if written is None else written.collect()
    if rows.is_empty():
        return {}
    whole = draw(rows, portfolio)
    kept, most = whole, min(MOST_DRAWN, rows["segment_id"].n_unique())
    while len(kept) > KEPT_LETTERS and most > 1:
        most //= 2
        kept = draw(rows, portfolio, most)
    encoded = base64.b64encode(kept.encode()).decode()
    return {
        "picture": dg.MetadataValue.md(f"![micro-segments x days](data:image/svg+xml;base64,{encoded})"),
        "micro_segments": markdown_table(summary(rows, portfolio)),
        "file": dg.MetadataValue.path(lake.put("segment_matrix", "picture.svg", whole)),
    }
