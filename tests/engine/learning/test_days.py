"""Learning day by day: the same bytes however days are run, nothing of the future, and a model that decides.

What belongs here: a small planted world, driven through the whole course of its days. What does not: the fit (``test_fit``), the ladder
(``test_model``).
"""

from collections.abc import Sequence
from datetime import date

import polars as pl
import pytest

from atc_pipeline.certificate.driving import SHOWN, Driven
from atc_pipeline.days.course import Course
from atc_pipeline.days.step import write_day
from atc_pipeline.rules.probabilities import MODEL, PRIOR
from atc_pipeline.tables.store import Store
from resources.storage.trials import Trials
from sample import world as planted

pytestmark = pytest.mark.slow

CUSTOMERS, DAYS = 600, 46
TABLES = (
    "scored_candidates", "journey_state", "journey_assignments", "journey_entries", "entry_profiles", "journey_outcomes", "goal_models",
    "model_quality",
)  # fmt: skip
STEPS = ("decision", "quality")


def drive() -> Driven:
    """Drive the world to its end, keeping every day of every table."""
    world = planted.make("choosing by learning", 7, count=1, customers=CUSTOMERS, days=DAYS)
    driven = Driven.into(Trials().lasting(), world, left_out=[name for name in SHOWN if name != "quality"])
    for _ in driven.run():
        pass
    return driven


@pytest.fixture(scope="module")
def driven() -> Driven:
    """The world after its days were run in one go."""
    return drive()


def differing(left: Store, right: Store, days: Sequence[date]) -> list[str]:
    """Name the tables and days that are not the same, to the last bit and in the same order."""
    return [
        f"{table} of {day}"
        for day in days
        for table in TABLES
        if not left.lazy(table, day).collect().equals(right.lazy(table, day).collect(), null_equal=True)
    ]


def test_what_is_learned_decides(driven: Driven) -> None:
    """First the prior, then rates or the model; scores are by what is known of the customer, and entries say so."""
    sources = (
        driven.all_of("goal_models")
        .filter(pl.col("part") == "shared", pl.col("name") == "g")
        .select("date", "source")
        .sort("date")
        .collect()
    )
    entries = driven.all_of("journey_entries").select("propensity_source", "propensity", "baseline", "score").collect()
    learned = entries.filter(pl.col("propensity_source") != PRIOR)

    assert sources["source"][0] == PRIOR
    assert MODEL in sources["source"].to_list()
    assert learned.height > 100
    assert learned["propensity"].n_unique() > 3
    assert learned["baseline"].null_count() == 0
    assert entries.filter(pl.col("propensity_source") == PRIOR)["baseline"].null_count() == entries.height - learned.height


def test_days_made_again_one_by_one_with_the_future_there_are_the_same(driven: Driven) -> None:
    """Neither what is kept in memory makes a difference nor what came of entries later: a backfill gives the bytes of daily runs."""
    over = Trials().over(driven.store)
    for day in driven.world.days:
        course = Course(over, driven.portfolio, driven.landed)  # as a run of one day makes it
        for name in STEPS:
            write_day(over, course.steps[name], day)

    assert differing(driven.store, over, driven.world.days) == []
