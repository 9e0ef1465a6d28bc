"""Tables of what is learned, and the words in them.

What belongs here: what the tables are. What does not: how rows come about (the other modules here).
"""

import polars as pl

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules.probabilities import SOURCES
from atc_pipeline.tables.table import CUSTOMER_ID, DATE, JOURNEY_ID, Column, Entry, Table

BASIS, SHARED, JOURNEY, QUALITY = "basis", "shared", "journey", "quality"
PARTS = (BASIS, SHARED, JOURNEY, QUALITY)
"""What a row of ``goal_models`` is part of: how features become numbers, what all journeys share, what one has of its own, and how good
it is."""
EVERY = "all"
"""Stands for all journeys in ``model_quality``."""


def entry_profiles(portfolio: Portfolio) -> Table:
    """What learning knows of those who entered; only the key where nothing is learned."""
    learning = portfolio.learning
    return Table(
        "entry_profiles",
        "One row per entry of the day: the columns of the profile that learning reads, as they were then.",
        key=("customer_id", "journey_id"),
        columns=(
            DATE,
            CUSTOMER_ID,
            JOURNEY_ID,
            *(
                Column(name, dtype, "As of customer_profiles.", is_nullable=True)
                for name, dtype in (learning.features if learning is not None else {}).items()
            ),
        ),
    )


GOAL_MODELS = Table(
    "goal_models",
    "One row per number of what is known of goals on the day: fitted anew, or carried forward.",
    key=("part", "journey_id", "name"),
    columns=(
        DATE,
        Column("part", pl.String(), "What the number is part of.", one_of=PARTS),
        Column("journey_id", pl.String(), "The journey it is of; null of what all share.", is_nullable=True),
        Column("name", pl.String(), "Which number it is."),
        Column("value", pl.Float64(), "The number.", is_nullable=True),
        Column("fitted_on", pl.Date(), "The day before whose decision it was fitted; null before the first fit.", is_nullable=True),
        Column("trained_to", pl.Date(), "Last day of maturing that it was fitted on.", is_nullable=True),
        Column("entries", pl.Int64(), "Mature entries that it was fitted on.", at_least=0),
        Column("goals", pl.Int64(), "Of these, with the goal.", at_least=0),
        Column("controls", pl.Int64(), "Of these, in control.", at_least=0),
        Column("lambda", pl.Float64(), "The penalty chosen.", is_nullable=True),
        Column("log_loss", pl.Float64(), "Log-loss of the latest fifth by a fit on the rest.", is_nullable=True),
        Column("log_loss_rates", pl.Float64(), "The same by the rates of journeys.", is_nullable=True),
        Column("source", pl.String(), "Where probabilities come from today.", is_nullable=True, one_of=SOURCES),
        Column("note", pl.String(), "Why it is not another: a fit that failed, say.", is_nullable=True),
    ),
)

MODEL_QUALITY = Table(
    "model_quality",
    "One row per journey, and one of all: what was expected of the entries that matured on the day, as it was said then, and what came.",
    key=("journey_id",),
    columns=(
        DATE,
        Column("journey_id", pl.String(), "A journey of journeys.yaml, or `all`."),
        Column("matured", pl.Int64(), "Entries that matured on the day.", at_least=0),
        Column("goals", pl.Int64(), "Of these, with the goal.", at_least=0),
        Column("expected", pl.Float64(), "Goals expected: the sum of their probabilities, as they were used.", at_least=0),
        Column("log_loss", pl.Float64(), "Mean log-loss of these probabilities.", is_nullable=True),
        Column("log_loss_rates", pl.Float64(), "The same by the rates of journeys, as they were then.", is_nullable=True),
        Column("drawn_matured", pl.Int64(), "Of the entries, those that exploration drew.", at_least=0),
        Column("drawn_goals", pl.Int64(), "Of these, with the goal.", at_least=0),
        Column("drawn_expected", pl.Float64(), "Goals expected of these.", at_least=0),
    ),
)

TABLES: tuple[Entry, ...] = (entry_profiles, GOAL_MODELS, MODEL_QUALITY)
