"""Dagster's job with days made by shard: what it shows, and what happens on the way, comes out as with one shard."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.lake import Lake
from tests.edges.test_shards import assert_same
from tests.graph.small_world import DAYS, JOURNEYS, line, make_world, run

pytestmark = pytest.mark.slow

WITH_A_GOAL_MORE = JOURNEYS.replace("  - id: tea_club\n", "  - id: tea_club\n    goal: {event: Product Viewed}\n")
MEASURED = JOURNEYS.replace(
    "traits:",
    "metrics: {revenue: {sum: revenue, of: Order Completed}}\n"
    "measurement: {money: revenue, window_days: 1, long_days: 1, late_days: 0}\ntraits:",
)

PICTURES = {
    "journey_queues": {"queues", "journeys_queued"},
    "customer_profiles": {"new_customers", "numbers"},
    "micro_segment_memberships": {"segments", "entered_today", "size/buyers"},
    "journey_assignments": {"decisions_by_journey", "start"},
}


def test_a_goal_that_is_added_needs_nothing_made_again(tmp_path: Path) -> None:
    """The rollups of days before lack its column, which profiles do not use."""
    lakes = {}
    for shards in ("1", "3"):
        environment = make_world(tmp_path / shards) | {"ATC_SHARDS": shards}
        with dg.DagsterInstance.ephemeral() as instance:
            assert run(environment, DAYS[0], DAYS[1], instance=instance).success
            Path(environment["ATC_JOURNEYS"]).write_text(WITH_A_GOAL_MORE)
            assert run(environment, DAYS[2], DAYS[3], instance=instance).success
        lakes[shards] = Lake(root=f"{environment['ATC_HOME']}/lake")
    assert_same(lakes["3"], lakes["1"], dict.fromkeys(DAYS[2:], load_portfolio(tmp_path / "1" / "journeys.yaml")))


def test_who_logs_in_while_a_journey_is_measured_lies_in_the_shard_of_who_they_are(tmp_path: Path) -> None:
    """Outcomes are told under the name of the entry: every check holds, and all is as with one shard; the day is made again in part."""
    lakes = {}
    viewed = {"event": "Product Viewed", "properties": {"category": "tea"}}
    for shards in ("1", "4"):
        environment = make_world(tmp_path / shards, MEASURED) | {"ATC_SHARDS": shards}
        for day in DAYS[:2]:
            known = [f"v{number}" if day > DAYS[0] else None for number in range(8)]
            lines = [line("", day, 300 + number, userId=user, anonymousId=f"d{number}", **viewed) for number, user in enumerate(known)]
            (Path(environment["ATC_HOME"]) / "landing" / str(day) / "visitors.ndjson").write_text("\n".join(lines) + "\n")
        with dg.DagsterInstance.ephemeral() as instance:
            result = run(environment, DAYS[0], DAYS[-1], instance=instance)
            assert result.success
            assert [check.check_name for check in result.get_asset_check_evaluations() if not check.passed] == []
            Path(environment["ATC_JOURNEYS"]).write_text(MEASURED.replace("half_life_days: 10", "half_life_days: 20"))
            assert run(environment, DAYS[0], DAYS[-1], instance=instance, job="catch_up").success
        lakes[shards] = Lake(root=f"{environment['ATC_HOME']}/lake")
    portfolio = load_portfolio(tmp_path / "1" / "journeys.yaml")
    outcomes = [lakes["1"].read("journey_outcomes", day) for day in DAYS]
    assert any(rows.filter(pl.col("customer_id") != pl.col("known_as")).height for rows in outcomes), "nobody logged in meanwhile"
    assert_same(lakes["4"], lakes["1"], dict.fromkeys(DAYS, portfolio))


def test_what_is_shown_of_a_day_in_shards_says_of_which_it_is(tmp_path: Path) -> None:
    """All rows are counted, and how evenly they lie; pictures are of the first shard, and are called so."""
    environment = make_world(tmp_path) | {"ATC_SHARDS": "3"}
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(environment, DAYS[0], DAYS[1], instance=instance)
    lake = Lake(root=f"{environment['ATC_HOME']}/lake")
    events = result.get_asset_materialization_events()
    told = {event.asset_key.to_user_string(): event.materialization.metadata for event in events if event.partition == str(DAYS[1])}
    for table, pictures in PICTURES.items():
        assert {f"shard_0/{name}" for name in pictures} | {"shards", "smallest_shard", "largest_shard"} <= set(told[table])
        assert told[table]["dagster/row_count"].value == lake.rows(table, DAYS[1])
    part = lake.part("journey_queues", DAYS[1], 0, 3)
    assert part is not None
    queued = part.collect()["journey_id"].unique()
    assert all(name in str(told["journey_queues"]["shard_0/queues"].value) for name in queued)
