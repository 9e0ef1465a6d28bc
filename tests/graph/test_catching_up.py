"""Definitions change: days made by others are not mixed, and only what changed is made again."""

import shutil
from datetime import timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets.jobs.purposes import ONLY_CHANGED
from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, FIRST, make_world, run

pytestmark = pytest.mark.slow

LAST = DAYS[-1]
TRAITS = """traits:
  views: {count: Product Viewed}
  views_2d: {count: Product Viewed, within_days: 2}
  kinds: {unique_list: category, of: Product Viewed}"""
ENGAGEMENT = "engagement: {touch: [Product Viewed], response: [Order Completed], half_life_days: 2}\n"
INTENT = "intents: {buying: {half_life_days: 2, full_at: 3, signals: [{event: Order Completed}]}}\n"
CHANGES = {
    "new traits": [("traits:", TRAITS)],
    "another condition, another trait ranked": [
        ("spend_2d: {sum: revenue,", "spend_2d: {sum: revenue, where: 'revenue > 12',"),
        ("percentile: spend", "percentile: spend_2d"),
    ],
    "another half-life, a new intent": [("half_life_days: 10", "half_life_days: 3"), ("segments:", f"{INTENT}segments:")],
    "engagement and predictions": [("segments:", f"{ENGAGEMENT}predictions: {{order: Order Completed, value: revenue}}\nsegments:")],
    "a trait less": [("  last_city: {last: city, of: Order Completed}\n", "")],
}
MADE_AGAIN = ("customer_activity", "feature_coverage", "customer_profiles", "purchase_models")


def edit(environment: dict[str, str], old: str, new: str) -> None:
    """Change the portfolio."""
    path = Path(environment["ATC_JOURNEYS"])
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Return what the step that failed says."""
    assert not result.success
    return str(next(event for event in result.all_events if event.is_step_failure).step_failure_data.user_failure_data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days of the small world, made before anything changes."""
    folder = tmp_path_factory.mktemp("made")
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(make_world(folder), FIRST, LAST, instance=instance).success
    return folder


def copy(made: Path, folder: Path) -> dict[str, str]:
    """Return the environment of a copy of the world."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return {"ATC_HOME": str(folder / "home"), "ATC_JOURNEYS": str(folder / "journeys.yaml")}


def lake(environment: dict[str, str]) -> Lake:
    """Return the world's lake."""
    return Lake(root=f"{environment['ATC_HOME']}/lake")


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_catching_up_leaves_what_making_everything_again_would(made: Path, tmp_path: Path, changes: list[tuple[str, str]]) -> None:
    """Rollups, profiles and models are those of a lake that never knew another portfolio."""
    caught_up, anew = copy(made, tmp_path / "caught_up"), copy(made, tmp_path / "anew")
    whole = {"ops": {op: {"config": {"only_changed": False}} for op in ("customer_activity", "profile")}}
    for environment in (caught_up, anew):
        for old, new in changes:
            edit(environment, old, new)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(caught_up, FIRST, LAST, instance=instance, job="catch_up", config=ONLY_CHANGED).success
        assert run(anew, FIRST, LAST, instance=instance, job="catch_up", config=whole).success
    for table in MADE_AGAIN:
        for day in DAYS:
            assert_frame_equal(lake(caught_up).read(table, day), lake(anew).read(table, day))
            assert lake(caught_up).definitions(table, day) == lake(anew).definitions(table, day)


def test_a_day_does_not_stand_on_days_made_by_other_definitions(made: Path, tmp_path: Path) -> None:
    """The run stops, names what has changed and the job to run; after that job it goes on."""
    environment = copy(made, tmp_path)
    edit(environment, "spend_2d: {sum: revenue,", "spend_2d: {sum: revenue, where: 'revenue > 12',")
    edit(environment, "traits:", "traits:\n  views: {count: Product Viewed}")
    with dg.DagsterInstance.ephemeral() as instance:
        says = failure(run(environment, LAST, LAST, instance=instance, must_succeed=False))
        assert f"customer_activity of {DAYS[2]} was made: views, spend_2d. Run the job catch_up from {FIRST} to {DAYS[2]}" in says
        assert run(environment, FIRST, DAYS[2], instance=instance, job="catch_up", config=ONLY_CHANGED).success
        assert run(environment, LAST, LAST, instance=instance).success


def test_what_has_not_changed_is_not_made_again(made: Path, tmp_path: Path) -> None:
    """A column that somebody wrote by hand stays as it is, for the columns beside it are not looked at."""
    environment = copy(made, tmp_path)
    tables = lake(environment)
    definitions = tables.definitions("customer_activity", LAST)
    by_hand = tables.read("customer_activity", LAST).with_columns(pl.lit(99, dtype=pl.Int64).alias("orders.n"))
    tables.write("customer_activity", LAST, by_hand, definitions)
    edit(environment, "traits:", "traits:\n  views: {count: Product Viewed}")
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, LAST, instance=instance, job="catch_up", config=ONLY_CHANGED).success
    rollup = tables.read("customer_activity", LAST)
    assert rollup["orders.n"].unique().to_list() == [99]
    assert rollup["views.n"].sum() == 6
    assert tables.read("customer_profiles", LAST)["orders"].max() < 99


def test_another_time_zone_is_another_lake(made: Path, tmp_path: Path) -> None:
    """Events then fall on other days: catching up would mix them, so everything is to be made again."""
    environment = copy(made, tmp_path)
    edit(environment, "Europe/Berlin", "Asia/Tokyo")
    with dg.DagsterInstance.ephemeral() as instance:
        says = failure(run(environment, FIRST, LAST, instance=instance, job="catch_up", config=ONLY_CHANGED, must_succeed=False))
    assert f"made for another time zone: materialize everything again from {FIRST} on" in says


def test_a_day_does_not_stand_on_days_that_know_only_a_part_of_history(made: Path, tmp_path: Path) -> None:
    """The lake begins earlier than it did: days made before go on without what was added, unless they are made again."""
    environment = copy(made, tmp_path)
    edit(environment, "starts_on: 2026-03-01", "starts_on: 2026-02-28")
    with dg.DagsterInstance.ephemeral() as instance:
        says = failure(run(environment, LAST, LAST, instance=instance, must_succeed=False))
        assert f"customer_profiles of {DAYS[2]} knows nothing of the days before {FIRST}" in says
        assert run(environment, FIRST - timedelta(days=1), LAST, instance=instance).success


def test_what_is_not_defined_any_more_is_as_if_it_never_was(made: Path, tmp_path: Path) -> None:
    """Engagement and predictions are columns of every profile: a day that is caught up has nothing in them."""
    environment, more = copy(made, tmp_path), f"{ENGAGEMENT}predictions: {{order: Order Completed, value: revenue}}\nsegments:"
    with dg.DagsterInstance.ephemeral() as instance:
        edit(environment, "segments:", more)
        assert run(environment, FIRST, LAST, instance=instance, job="catch_up", config=ONLY_CHANGED).success
        assert lake(environment).read("customer_profiles", LAST)["engagement"].count() > 0
        edit(environment, more, "segments:")
        assert run(environment, FIRST, LAST, instance=instance, job="catch_up", config=ONLY_CHANGED).success
    profiles, models = (lake(environment).read(table, LAST) for table in ("customer_profiles", "purchase_models"))
    assert profiles.select("engagement", "preferred_channel", "predicted_orders", "churn_risk").null_count().row(0) == (len(profiles),) * 4
    assert models["note"].to_list() == [None]
