"""Customers who merge, as Dagster runs and shows them: from the events to the decisions, with every check."""

from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, line, make_world, run, tables

pytestmark = pytest.mark.slow

MERGES = {
    DAYS[0]: [line("c00", DAYS[0], 90, type="page", anonymousId="a0"), line("", DAYS[0], 91, type="page", anonymousId="a1")],
    DAYS[1]: [line("c01", DAYS[1], 90, type="alias", previousId="c00"), line("c02", DAYS[1], 91, type="page", anonymousId="a1")],
    DAYS[2]: [line("c02", DAYS[2], 90, type="alias", previousId="c00"), line("c00", DAYS[2], 91, type="page", anonymousId="a1")],
}


Told = dict[str, dict[str, object]]
"""What was said of the changes of each day."""


def merging_world(folder: Path) -> dict[str, str]:
    """The small world, with customers who merge."""
    environment = make_world(folder)
    for day, lines in MERGES.items():
        (Path(environment["ATC_HOME"]) / "landing" / str(day) / "more.ndjson").write_text("\n".join(lines) + "\n")
    return environment


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Told]:
    """That world after its days were run as one range."""
    environment = merging_world(tmp_path_factory.mktemp("merging"))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, DAYS[0], DAYS[-1], instance=instance).success
        records = instance.fetch_materializations(dg.AssetKey("identity_changes"), limit=10).records
    said = {str(one.partition_key): {name: value.value for name, value in one.asset_materialization.metadata.items()} for one in records}
    return environment, said


def people(lake: Lake, day: date, *ids: str) -> list[str]:
    """Who these ids are on a day."""
    found = dict(lake.read("identity_map", day).select("id", "customer_id").iter_rows())
    return [found[one] for one in ids]


def test_customers_merge_day_by_day(world: tuple[dict[str, str], Told]) -> None:
    """A visitor follows the user, who follows an alias; a shared device and a second alias change nothing."""
    lake = Lake(root=f"{world[0]['ATC_HOME']}/lake")
    assert people(lake, DAYS[0], "c00", "a0", "a1") == ["c00", "c00", "anon:a1"]
    assert people(lake, DAYS[1], "c00", "a0", "a1") == ["c01", "c01", "c02"]
    assert lake.read("identity_map", DAYS[3]).drop("date").equals(lake.read("identity_map", DAYS[2]).drop("date"))


def test_the_absorbed_have_no_row_and_their_history_is_the_survivors(world: tuple[dict[str, str], Told]) -> None:
    """From the day of the merge on: orders of both add up, the journey goes on under the survivor's name."""
    lake = Lake(root=f"{world[0]['ATC_HOME']}/lake")
    before, after = (lake.read("customer_profiles", day) for day in DAYS[:2])
    orders, now = (dict(one.select("customer_id", "orders").iter_rows()) for one in (before, after))
    bought = lake.read("raw_events", DAYS[1]).filter(pl.col("event") == "Order Completed")["user_id"].is_in(["c00", "c01"]).sum()
    assert now["c01"] == orders["c00"] + orders["c01"] + bought
    assert "anon:a1" in orders
    for day in DAYS[1:]:
        for table in ("customer_profiles", "micro_segment_memberships", "journey_queues", "journey_state", "journey_assignments"):
            assert not lake.read(table, day)["customer_id"].is_in(["c00", "anon:a1"]).any()
    entered = dict(lake.read("journey_state", DAYS[1]).group_by("customer_id").agg(pl.col("times_entered").sum()).iter_rows())
    assert entered["c01"] >= 2


def test_each_day_tells_who_merged_and_what_was_ignored(world: tuple[dict[str, str], Told]) -> None:
    """Counts by kind, and the first of them by the message that says so: names would outlast an erasure."""
    _, said = world
    by_day = [{name: said[str(day)][name] for name in ("merged", "claimed", "second_alias", "customers_absorbed")} for day in DAYS]
    assert [tuple(counts.values()) for counts in by_day] == [(0, 0, 0, 0), (1, 1, 0, 2), (0, 0, 1, 0), (0, 0, 0, 0)]
    assert f"| merged | user | {DAYS[1]}-90 |" in str(said[str(DAYS[1])]["first_absorbed"])
    assert f"| claimed | anonymous | {DAYS[1]}-91 |" in str(said[str(DAYS[1])]["first_absorbed"])
    assert f"| second_alias | {DAYS[2]}-90 |" in str(said[str(DAYS[2])]["first_ignored"])


def test_days_one_by_one_and_as_a_range_merge_alike(world: tuple[dict[str, str], Told], tmp_path: Path) -> None:
    """A range run and one run per day write the same files."""
    environment = merging_world(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        assert all(run(environment, day, day, instance=instance).success for day in DAYS)
    assert tables(environment) == tables(world[0])
