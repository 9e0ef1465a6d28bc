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
