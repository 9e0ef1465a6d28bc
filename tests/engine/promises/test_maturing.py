"""Promises about what came of entries, on days that were made: they hold, and fail where a row is not as it was."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.promises.maturing import PROMISES
from resources.storage.memory import Memory
from tests.engine.outcomes.maturing_world import JOURNEYS, World, day_of, load

FIND = {f"{promise.table}.{promise.name}": promise.find for promise in PROMISES}
MONEY, COMPLETE, LATE = "customer_metrics.money_is_that_of_the_events", "journey_outcomes.outcomes_complete", "journey_outcomes.late_share"
DAYS = [day_of(number) for number in range(1, 15)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two weeks: a merge, late events, refunds, a second entry."""
    made = World(load(tmp_path))
    made.enters("a", "hello", 1)
    made.enters("b", "hello", 2, arm="control")
    made.enters("c", "news", 3)
    made.enters("c", "news", 6, entry_number=2)
    made.enters("d", "news", 9)  # matures on the day after the last
    for customer, on, arrives, revenue in (("a", 2, 2, 10.1), ("a", 4, 5, -3.3), ("b", 3, 3, 7), ("c", 4, 6, 0.1), ("c", 5, 5, 0.2)):
        made.happens(customer, "Bought", on, arrives=arrives, revenue=revenue)
    made.merges("a", "d", 4)
    made.happens("d", "Bought", 5, revenue=2)
    made.happens("b", "Rated", 3, revenue=1000, stars=3)
    made.happens("b", "Bought", 6)
    made.happens("nobody known", "Bought", 3, is_ours=True, revenue=5)
    return made


@pytest.mark.parametrize("name", FIND)
def test_promises_hold_of_days_as_they_are_made(world: World, name: str) -> None:
    """Of all days at once, as a range run asks, of one alone, and of a day that nobody has made yet."""
    world.run(1, 14)
    for days in (DAYS, DAYS[8:9], DAYS[-1:], [*DAYS, day_of(15)]):
        assert FIND[name](world.store, world.portfolio, days).is_empty()


@pytest.mark.parametrize("name", [COMPLETE])
def test_what_comes_after_an_entry_has_matured_is_not_missed(world: World, name: str) -> None:
    """Its outcome was right when it was written."""
    world.happens("d", "Bought", 3, arrives=9, revenue=1)
    world.run(1, 14)
    assert FIND[name](world.store, world.portfolio, DAYS).is_empty()


@pytest.mark.parametrize("name", FIND)
@pytest.mark.parametrize("gone", ["raw_events", "customer_metrics", "journey_entries", "journey_outcomes"])
def test_where_a_table_is_not_there_nothing_is_found(world: World, name: str, gone: str) -> None:
    """Days of before there was measuring, or that only a part was made of."""
    world.run(1, 14)
    there = Memory()
    for table in ("raw_events", "customer_metrics", "journey_entries", "journey_outcomes", "identity_map"):
        for day in DAYS if table != gone else ():
            there.write(table, day, world.store.read(table, day))
    found = FIND[name](there, world.portfolio, DAYS)
    assert found.is_empty() or (name == COMPLETE and gone in ("customer_metrics", "journey_entries"))


@pytest.mark.parametrize("name", FIND)
@pytest.mark.parametrize("money", ["none", "where", "each"])
def test_money_that_is_not_read_again_is_not_found_wanting(tmp_path: Path, name: str, money: str) -> None:
    """Where there is none, or where it is of some events or of items only."""
    selector = {"where": "sum: revenue, of: Bought, where: revenue > 5", "each": "sum: price, of: Bought, each: products"}
    text = JOURNEYS.replace("money: revenue, ", "" if money == "none" else "money: revenue, ")
    made = World(load(tmp_path, text.replace("sum: revenue, of: Bought", selector.get(money, "sum: revenue, of: Bought"))))
    made.enters("a", "hello", 1)
    made.happens("a", "Bought", 2, revenue=4, price=3, products=[{"price": 7}])
    made.run(1, 10)
    assert FIND[name](made.store, made.portfolio, DAYS[:10]).is_empty()


def edit(world: World, table: str, number: int, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Write a day otherwise."""
    rows = world.store.read(table, day_of(number))
    assert rows.height
    world.store.write(table, day_of(number), change(rows), world.store.definitions(table, day_of(number)))


@pytest.mark.parametrize(
    ("name", "table", "number", "change"),
    [
        (MONEY, "customer_metrics", 2, lambda rows: rows.with_columns(pl.col("revenue.micro") + 1)),
        (MONEY, "customer_metrics", 3, pl.DataFrame.clear),
        (MONEY, "raw_events", 2, lambda rows: pl.concat([rows, rows])),
        (COMPLETE, "journey_outcomes", 7, pl.DataFrame.clear),
        (COMPLETE, "journey_entries", 1, pl.DataFrame.clear),
        (COMPLETE, "journey_outcomes", 7, lambda rows: rows.with_columns(pl.col("revenue") + 1e-6)),
        (COMPLETE, "customer_metrics", 5, lambda rows: rows.filter(pl.col("customer_id") != "d")),
    ],
)
def test_promises_fail_where_something_is_not_as_it_was(
    world: World, name: str, table: str, number: int, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    """One row is enough."""
    world.run(1, 14)
    edit(world, table, number, change)
    assert FIND[name](world.store, world.portfolio, DAYS).height


@pytest.mark.parametrize("name", [LATE])
def test_what_comes_too_late_is_told_by_day_and_arm(world: World, name: str) -> None:
    """After the entry matured, and of its window: by arm, with its share."""
    world.happens("d", "Bought", 3, arrives=8, revenue=1)
    world.happens("d", "Bought", 3, arrives=7, revenue=1)
    world.happens("b", "Bought", 7, arrives=14, revenue=1)
    world.run(1, 14)
    rows = FIND[name](world.store, world.portfolio, DAYS)
    assert rows.select("date", "arm", "late_days").rows() == [(day_of(8), "treated", 1)]
    assert rows["share_of_days"].item() == pytest.approx(1 / 7)


@pytest.mark.parametrize("name", [LATE])
def test_few_late_days_are_no_news_unless_they_are_all_of_one_arm(world: World, name: str) -> None:
    """Less than one in a hundred, but not by chance."""
    world.run(1, 7)
    world.happens("d", "Bought", 3, arrives=8, revenue=1)
    world.happens("b", "Bought", 3, arrives=9, revenue=1)
    world.run(8, 14)
    for number, days in ((7, 1000), (8, 1000)):
        edit(world, "journey_outcomes", number, lambda rows, days=days: rows.with_columns(measured_days=pl.lit(days, pl.Int64())))
    assert FIND[name](world.store, world.portfolio, DAYS).is_empty()
    edit(world, "journey_outcomes", 7, lambda rows: rows.with_columns(measured_days=pl.lit(1_000_000, pl.Int64())))
    edit(world, "journey_outcomes", 8, lambda rows: rows.with_columns(measured_days=pl.lit(150, pl.Int64())))
    assert FIND[name](world.store, world.portfolio, DAYS)["arm"].to_list() == ["treated", "control"]
