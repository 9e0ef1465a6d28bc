"""Windows and running totals over weeks: what is carried from day to day is what a look at all history gives."""

from pathlib import Path
from random import Random

import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.days.course import Course
from atc_pipeline.days.customers import Profiles
from atc_pipeline.days.step import write_day
from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.landing import LandingZone
from resources.storage.memory import Memory
from tests.engine import reference
from tests.engine.comparison import differences
from tests.engine.worlds import EXPLORES, World, draw, histories

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", range(99 if EXPLORES else 3))
def test_every_trait_in_every_window_is_what_all_history_says(case: int, tmp_path: Path) -> None:
    """Late events, duplicates, merges, weeks without anything; and who has more rollups at hand, as a range run has, gets the same."""

    def check(world: World, random: Random) -> None:
        landing = world.write(tmp_path)
        portfolio = load_portfolio(world.write_journeys(tmp_path)[world.days[0]])
        store = Memory()
        course = Course(store, portfolio, LandingZone(root=str(landing)).read)
        history: list[reference.Row] = []
        for day in world.days:
            raw, _, _ = reference.ingest(landing, day, portfolio, history)
            history += raw
            for name in ("ingest", "identities", "roll up", "profiles"):
                write_day(store, course.steps[name], day)
            made = store.read("customer_profiles", day)
            if day != world.days[-1] and random.random() < 0.8:
                continue  # what is wrong on a day is carried on, or is still wrong on the next one looked at
            says = differences("customer_profiles", made, reference.profiles(history, day, portfolio))
            assert not says, "\n".join(says[:10])
            with_more = Profiles(store, portfolio)
            with_more.activity.days_before = len(world.days)
            assert_frame_equal(with_more.make(day)["customer_profiles"].lazy().collect(), made, check_exact=True)

    draw(case, histories(case % 3, 3), check)  # a third of the kinds in each
