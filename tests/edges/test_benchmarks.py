"""The benchmarks compare like with like: what they time must be the same decision.

What belongs here: the correctness of a comparison. What does not: any time.
"""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.journeys.resolution import load_portfolio
from benchmarks import engine, history, learning, outcomes, population, rendering, smtp
from benchmarks.decision import SQL
from benchmarks.measured import TASKS, Size
from benchmarks.population import World

pytestmark = pytest.mark.slow

SIZE = Size(customers=1_500, journeys=12, threads=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A small world, with its yesterday."""
    made = World(tmp_path_factory.mktemp("world"))
    for task in ("profiles", "yesterday"):
        TASKS[task](made, SIZE)
    return made


@pytest.mark.parametrize("kind", SQL)
def test_sql_and_engine_choose_alike(world: World, kind: str) -> None:
    """Each baseline decides every customer of a first day as the engine does."""
    assert TASKS[f"{kind} agrees"](world, SIZE)["customers"] == SIZE.customers


@pytest.mark.parametrize("kind", SQL)
def test_a_disagreement_is_found(world: World, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the engine to choose by another prior, the comparison would not pass."""
    choose = engine.choose
    monkeypatch.setattr(engine, "choose", lambda where, of: choose(where, replace(of, policy=replace(of.policy, prior_propensity=0.5))))

    with pytest.raises(AssertionError, match="disagree"):
        TASKS[f"{kind} agrees"](world, SIZE)


def test_the_smaller_population_begins_the_larger_one() -> None:
    """A customer is the same in populations of every size, so that sizes can be compared; ranks are the population's."""
    ranked = ["spend_percentile"]

    assert population.draw_profiles(10).drop(ranked).equals(population.draw_profiles(20).head(10).drop(ranked))


def test_limits_are_half_of_the_demand(world: World) -> None:
    """Three in ten journeys are limited to half of those whom the day without limits let in."""
    TASKS["day"](world, SIZE)
    TASKS["limits"](world, SIZE)

    assigned = pl.read_parquet(world.home / "day" / "journey_assignments")
    entered = dict(assigned.filter(pl.col("decision").is_in(["start", "switch"]))["journey_id"].value_counts().iter_rows())
    daily = {one.id: one.daily_entries for one in load_portfolio(world.limited_journeys).journeys if one.daily_entries is not None}
    active = [one for one in load_portfolio(world.limited_journeys).journeys if one.active is not None]

    assert daily == {name: entered[name] // 2 for name in daily}
    assert (len(daily), len(active)) == (3, 1)


def test_sql_counts_of_a_day_what_profiles_count(tmp_path: Path) -> None:
    """The traits that DuckDB is timed with are those of a first day's profiles."""
    made = history.Made(tmp_path)
    made.lake.write("raw_events", history.FIRST, history.events_of(history.FIRST, customers=300, events=2_000))
    for task in ("day", "duckdb"):
        history.TASKS[task](made, 0)
    theirs = pl.read_parquet(tmp_path / "duckdb.parquet")
    ours = made.lake.read("customer_profiles", history.FIRST).select(
        "orders", "spend", "biggest_order", "last_path", user_id="customer_id", events="events_7d", handbags_viewed="handbags_viewed_7d"
    )
    assert_frame_equal(ours, theirs.with_columns(pl.col("spend").fill_null(0)), check_column_order=False, check_dtypes=False)


def test_mail_is_measured_by_messages_that_arrive(capsys: pytest.CaptureFixture[str]) -> None:
    """Both senders' messages are taken; what is printed has both, their ratio and the three ways to make a message."""
    smtp.measure_smtp(count=20, connections=2, runs=1)

    printed = capsys.readouterr().out
    assert all(line in printed for line in ("20 messages of 35 kB over 2", "sendmail", "parts of the bare", "email.mime", "EmailMessage"))


def test_messages_one_by_one_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Jinja2 is timed on the bytes that the engine makes."""
    rendering.measure_rendering(tmp_path, 500, 100)
    assert "500 messages of 6 blocks" in capsys.readouterr().out


def test_a_day_of_outcomes_is_one_of_many(tmp_path: Path) -> None:
    """What entered a window and the days waited before matures, and nothing before that."""
    made = outcomes.Made(tmp_path, 1_000, 62)
    outcomes.make(made, [30, 130])
    figures = {number: outcomes.run(made, number) for number in (30, 130)}
    entered = made.lake.read("journey_entries", outcomes.day_of(130 - outcomes.OPEN_DAYS))
    assert entered.height > made.entries_a_day
    assert [figures[number]["rows of journey_outcomes"] for number in (30, 130)] == [0, entered.height]


def test_the_model_that_is_measured_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Fitted, and used: where the rates of journeys are as good, nothing would be measured."""
    learning.measure_fit(entries=3_000, journeys=3, features=5, runs=1)
    learning.measure_scoring(customers=200, journeys=3, features=5, runs=1)

    assert "(by model)" in capsys.readouterr().out
