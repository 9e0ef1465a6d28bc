"""What a report is made from: the tables of a day, gathered.

What belongs here: the frames, and which of them may be missing. What does not: reading them (``reading``), any word.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import polars as pl

from atc_pipeline.journeys.portfolio import Journey, Portfolio
from atc_pipeline.learning.quality import BY_JOURNEY, JUDGED
from atc_pipeline.learning.tables import GOAL_MODELS, MODEL_QUALITY
from atc_pipeline.outcomes.tables import (
    JOURNEY_ALTERNATIVES,
    JOURNEY_ATTRIBUTION,
    JOURNEY_DESCRIBED,
    JOURNEY_MOVEMENT,
    JOURNEY_SATISFACTION,
    PATH_SUMMARY,
    UPLIFT,
)
from atc_pipeline.reports.estimates import Estimate, estimates
from atc_pipeline.tables.table import Table

FUNNEL = pl.Schema(
    {"journey_id": pl.String()} | dict.fromkeys(("queued", "entered", "control", "treated", "matured", "sent", "goal"), pl.Int64())
)
"""One row per journey: customers who came into its queue, entered, were held out or treated; of the treated whose entries matured, who
was sent something and who reached the goal (null: it has none)."""

CURVES = pl.Schema(
    {
        "journey_id": pl.String(),
        "arm": pl.String(),
        "days": pl.Int64(),
        "customers": pl.Int64(),
        "mean": pl.Float64(),
        "std_error": pl.Float64(),
    }
)
"""One row per journey, arm and days after the entry: money per customer up to then, and its standard error."""

VELOCITY = pl.Schema({"path": pl.String(), "days": pl.Int64(), "converted": pl.Float64()})
"""One row per path and days after its first entry: the share that had converted by then, open paths counted as far as they go."""


def _empty(table: Table) -> pl.DataFrame:
    return pl.DataFrame(schema=table.schema)


@dataclass(frozen=True, eq=False)
class Findings:
    """What is known at the end of a day; a frame without rows is one that is not there.

    ``models``: ``goal_models`` of the day. ``quality``: ``model_quality`` of the last weeks; ``judged``: the entries it is of;
    ``lately``: by journey, of the last days. ``delivered``: messages delivered for entries, as far as these have matured. ``since``: from
    which day of entry on, where not all count. ``called``: names of journeys by id.
    """

    day: date
    portfolio: Portfolio
    uplift: pl.DataFrame = field(default_factory=lambda: _empty(UPLIFT))
    attribution: pl.DataFrame = field(default_factory=lambda: _empty(JOURNEY_ATTRIBUTION))
    paths: pl.DataFrame = field(default_factory=lambda: _empty(PATH_SUMMARY))
    movement: pl.DataFrame = field(default_factory=lambda: _empty(JOURNEY_MOVEMENT))
    described: pl.DataFrame = field(default_factory=lambda: _empty(JOURNEY_DESCRIBED))
    satisfaction: pl.DataFrame = field(default_factory=lambda: _empty(JOURNEY_SATISFACTION))
    alternatives: pl.DataFrame = field(default_factory=lambda: _empty(JOURNEY_ALTERNATIVES))
    funnel: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=FUNNEL))
    curves: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CURVES))
    velocity: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=VELOCITY))
    models: pl.DataFrame = field(default_factory=lambda: _empty(GOAL_MODELS))
    quality: pl.DataFrame = field(default_factory=lambda: _empty(MODEL_QUALITY))
    judged: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=JUDGED))
    lately: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=BY_JOURNEY))
    delivered: int | None = None
    since: date | None = None

    @cached_property
    def estimates(self) -> list[Estimate]:
        """List the rows of ``uplift``."""
        return estimates(self.uplift, self.portfolio, self.day)

    @cached_property
    def journeys(self) -> Mapping[str, Journey]:
        """Return the journeys of the portfolio by id."""
        return {journey.id: journey for journey in self.portfolio.journeys}
