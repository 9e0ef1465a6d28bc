"""What came of entries: when it is known, what counts, and of whom it is."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.days.features import OutdatedDayError
from atc_pipeline.days.maturing import Maturing
from atc_pipeline.outcomes.tables import journey_outcomes, long_outcomes
from tests.engine.outcomes.maturing_world import JOURNEYS, World, day_of, load, only


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Journeys with a window of four days, and two that are waited for."""
    return World(load(tmp_path))


def test_an_entry_matures_once_when_its_window_and_the_days_waited_are_over(world: World) -> None:
    """Entered on day 2, four days of window and two of waiting: day 8, and no other."""
    world.enters("a", "hello", 2)
    assert {
        number: tables["journey_outcomes"].height for number, tables in world.run(1, 10).items() if tables["journey_outcomes"].height
    } == {8: 1}


def test_only_what_happened_in_the_window_and_arrived_in_time_counts(world: World) -> None:
    """Not the day of entry, not the day after the last, not what comes when it is over; but what is late and not too late."""
    world.enters("a", "hello", 2)
    for on, arrives, revenue in ((2, 2, 1), (3, 3, 10), (6, 8, 100), (7, 7, 1000), (4, 9, 10000)):
        world.happens("a", "Bought", on, arrives=arrives, revenue=revenue)
    assert only(world.run(1, 9)[8], "revenue", "revenue_before", "measured_days") == [(110.0, 7.0, 2)]


def test_each_kind_of_metric_has_its_columns(world: World) -> None:
    """Of an average sum and number; of any 1 or 0; refunds are taken off."""
    world.enters("a", "hello", 1)
    for stars in (4, 5):
        world.happens("a", "Rated", 2, stars=stars)
        world.happens("a", "Left", 3)
    world.happens("a", "Bought", 3, revenue=-2.5)
    made = world.run(1, 7)[7]
    assert only(made, "stars_sum", "stars_count", "left", "revenue") == [(9.0, 2.0, 1.0, -2.5)]
    assert made["journey_outcomes"].schema == journey_outcomes(world.portfolio).schema


def test_a_goal_counts_in_its_own_days(world: World) -> None:
    """Three days, where the window has four: the first such day, and what its events there are worth."""
    world.enters("a", "hello", 1)
    world.enters("b", "hello", 1)
    world.enters("c", "news", 1)
    for on, revenue in ((3, 5), (4, 6), (5, 100)):
        world.happens("a", "Bought", on, revenue=revenue)
    world.happens("b", "Bought", 5, revenue=1)
    made = world.run(1, 7)[7]
    assert only(made, "customer_id", "goal", "goal_on", "goal_value") == [
        ("a", True, day_of(3), 11.0),
        ("b", False, None, 0.0),
        ("c", None, None, None),
    ]


def test_a_window_and_its_day_stay_as_they_were_at_the_entry(world: World, tmp_path: Path) -> None:
    """journeys.yaml has a shorter window when it is over, or a longer one: an entry keeps its own."""
    world.enters("a", "hello", 2)
    world.happens("a", "Bought", 6, revenue=1)
    world.run(1, 4)
    for window in (1, 30):
        changed = World(load(tmp_path, JOURNEYS.replace("measure: {window_days: 4}", f"measure: {{window_days: {window}}}")))
        changed.store, changed.events, changed.entered = world.store, world.events, world.entered
        made = changed.run(5, 9)
        assert [number for number in made if made[number]["journey_outcomes"].height] == [8]
        assert only(made[8], "window_days", "revenue") == [(4, 1.0)]


def test_outcomes_are_the_survivors(world: World) -> None:
    """An entry keeps the name it was made under; what either name did is its outcome."""
    world.enters("a", "hello", 1)
    world.happens("a", "Bought", 2, revenue=1)
    world.happens("b", "Bought", 2, revenue=10)
    world.happens("a", "Bought", 4, revenue=100)
    world.merges("a", "b", 3)
    assert only(world.run(1, 7)[7], "customer_id", "known_as", "revenue", "contaminated") == [("a", "b", 111.0, False)]


@pytest.mark.parametrize(("arms", "contaminated"), [(("treated", "control"), True), (("treated", "treated"), False)])
def test_two_first_entries_of_one_customer_in_both_arms_do_not_count(world: World, arms: tuple[str, str], contaminated: bool) -> None:
    """Whichever matures first, and whenever the other entered: who was treated and was not says nothing."""
    world.enters("a", "hello", 1, arm=arms[0])
    world.enters("b", "hello", 4, arm=arms[1])
    world.enters("c", "hello", 1, arm="control")
    world.merges("a", "b", 5)
    made = world.run(1, 10)
    assert only(made[7], "customer_id", "contaminated") == [("a", contaminated), ("c", False)]
    assert only(made[10], "customer_id", "contaminated") == [("b", contaminated)]


def test_a_second_entry_is_no_first_one(world: World) -> None:
    """Another share was in force when somebody came again: that is no merge of two arms."""
    world.enters("a", "hello", 1)
    world.enters("a", "hello", 5, entry_number=2, arm="control")
    made = world.run(1, 11)
    assert [only(made[number], "entry_number", "contaminated") for number in (7, 11)] == [[(1, False)], [(2, False)]]


def test_how_an_entry_ended_is_told_of_that_entry(world: World) -> None:
    """The memory knows the last one only: how the one before ended is read where it still was the last."""
    world.enters("a", "hello", 1)
    world.ends("a", "hello", 1, 3, "converted")
    world.enters("a", "hello", 5, entry_number=2)
    world.enters("b", "hello", 1)
    world.ends("b", "hello", 1, 2, "exited")
    world.enters("b", "hello", 2, entry_number=2)
    world.enters("c", "hello", 1)
    world.enters("d", "hello", 1)
    world.ends("d", "hello", 1, 4, "completed")
    made = world.run(1, 7)[7]
    assert only(made, "customer_id", "ended_on", "ended_reason") == [
        ("a", day_of(3), "converted"),
        ("b", day_of(2), "exited"),
        ("c", None, None),
        ("d", day_of(4), "completed"),
    ]


def test_messages_are_those_of_the_entry(world: World) -> None:
    """What the next entry was sent is not this one's; what another journey sent is not either."""
    world.enters("a", "hello", 1)
    world.enters("a", "hello", 3, entry_number=2)
    for on, journey in ((2, "hello"), (3, "hello"), (4, "hello"), (2, "news")):
        world.happens("a", "Message Sent", on, journey_id=journey)
    made = world.run(1, 9)
    assert [only(made[number], "delivered") for number in (7, 9)] == [[(2,)], [(1,)]]


def test_the_long_run_is_told_of_first_entries_once(world: World) -> None:
    """Entered on day 2, six days and two of waiting: day 10, whatever re-entries did; the system has its first entry into anything."""
    world.enters("a", "hello", 2, arm="control", held_out_by="journey")
    world.enters("a", "news", 4)
    world.enters("a", "hello", 5, entry_number=2)
    world.enters("b", "news", 2, arm="control", held_out_by="policy")
    world.happens("a", "Bought", 8, revenue=1)
    world.happens("a", "Bought", 9, revenue=10)
    made = world.run(1, 14)
    columns = ("journey_id", "customer_id", "arm", "held_out_by", "holdout", "revenue", "long_days")
    assert only(made[10], *columns, table="long_outcomes") == [
        ("hello", "a", "control", "journey", 0.5, 1.0, 6),
        ("news", "b", "control", "policy", 0.0, 0.0, 6),
        ("system", "a", "treated", None, 0.1, 1.0, 6),
        ("system", "b", "control", "policy", 0.1, 0.0, 6),
    ]
    assert only(made[12], "journey_id", table="long_outcomes") == [("news",)]
    assert only(made[13], "journey_id", table="long_outcomes") == []
    assert made[10]["long_outcomes"].schema == long_outcomes(world.portfolio).schema


def test_a_new_version_begins_the_system_anew(world: World, tmp_path: Path) -> None:
    """Whoever had entered something before enters for the first time again: lots are drawn anew."""
    world.enters("a", "hello", 1)
    world.enters("a", "news", 2)
    world.run(1, 3)
    again = World(load(tmp_path, JOURNEYS.replace('version: "1"', 'version: "2"')))
    again.store, again.events, again.entered = world.store, world.events, world.entered
    again.enters("a", "hello", 5, entry_number=2)
    again.enters("a", "news", 6, entry_number=2)
    made = again.run(4, 14)
    assert only(made[9], "journey_id", "version", table="long_outcomes") == [("hello", "1"), ("system", "1")]
    assert only(made[10], "journey_id", table="long_outcomes") == [("news",)]
    assert only(made[13], "journey_id", "version", table="long_outcomes") == [("system", "2")]
    assert made[14]["long_outcomes"].is_empty()


@pytest.mark.parametrize(("long_days", "told"), [(3, {8: ["a", "b"], 9: ["c"]}), (8, {11: ["a"], 13: ["b"], 14: ["c"]})])
def test_another_long_window_tells_of_each_entry_once(world: World, tmp_path: Path, long_days: int, told: dict[int, list[str]]) -> None:
    """A shorter one has closed for several days at once; a longer one makes the days after wait."""
    for customer, on in (("a", 1), ("b", 3), ("c", 4)):
        world.enters(customer, "hello", on)
    world.run(1, 7)
    changed = World(load(tmp_path, JOURNEYS.replace("long_days: 6", f"long_days: {long_days}")))
    changed.store, changed.events, changed.entered = world.store, world.events, world.entered
    made = changed.run(8, 15)
    of_hello = {number: tables["long_outcomes"].filter(journey_id="hello")["customer_id"].to_list() for number, tables in made.items()}
    assert {number: customers for number, customers in of_hello.items() if customers} == told


def test_days_in_one_go_and_one_by_one_and_again_are_the_same(world: World) -> None:
    """What is kept in memory from day to day is what the store says; a day made again is what it was."""
    world.enters("a", "hello", 1)
    world.enters("b", "hello", 2, arm="control")
    world.enters("a", "hello", 4, entry_number=2)
    world.happens("a", "Bought", 3, revenue=1)
    in_one_go = world.run(1, 12)
    for number, tables in in_one_go.items():
        world.maturing = None
        again = world.make(number)
        for name, frame in tables.items():
            assert_frame_equal(again[name], frame)


def test_a_lake_that_was_decided_before_begins_with_its_first_entries(world: World) -> None:
    """Days without entries, made by an older version: nothing matures from them, and nothing fails."""
    world.run(1, 3)
    after = World(world.portfolio)
    for name in ("raw_events", "identity_map", "journey_state", "journey_assignments"):
        for number in (1, 2, 3):
            after.store.write(name, day_of(number), world.store.read(name, day_of(number)))
    after.enters("a", "hello", 4)
    after.happens("a", "Bought", 5, revenue=1)
    assert only(after.run(4, 10)[10], "customer_id", "revenue") == [("a", 1.0)]


def test_a_metric_newer_than_the_entry_has_no_value_before_it(world: World, tmp_path: Path) -> None:
    """Null, and not 0: nobody looked."""
    world.enters("a", "hello", 1)
    world.happens("a", "Bought", 2, revenue=1)
    world.run(1, 3)
    more = World(load(tmp_path, JOURNEYS.replace("metrics:", "metrics:\n  orders: {count: Bought}")))
    more.store, more.events = world.store, world.events
    with pytest.raises(OutdatedDayError, match=r"was made: orders\. Run the job catch_up"):
        more.run(4, 7)
    for number in (1, 2, 3):
        frame = world.store.lazy("customer_metrics", day_of(number)).collect()
        of = Maturing(more.store, more.portfolio).measured.of_customers.wanted
        more.store.write(
            "customer_metrics", day_of(number), frame.with_columns(pl.lit(1, pl.Int64()).alias("orders.n")), {**of, **of_goals(more)}
        )
    assert only(more.run(4, 7)[7], "orders", "orders_before", "revenue_before") == [(1.0, None, 7.0)]


def of_goals(world: World) -> dict[str, str]:
    """Return what goals are made by."""
    return {
        name: fingerprint
        for of in Maturing(world.store, world.portfolio).measured.of_goals.values()
        for name, fingerprint in of.wanted.items()
    }


def test_another_goal_is_read_where_it_was_counted_or_named(world: World, tmp_path: Path) -> None:
    """Days that do not count it would say that nobody reached it."""
    world.enters("a", "hello", 1)
    world.run(1, 3)
    changed = World(load(tmp_path, JOURNEYS.replace("goal: {event: Bought,", "goal: {event: Ordered,")))
    changed.store, changed.events = world.store, world.events
    with pytest.raises(OutdatedDayError, match=r"was made: goal:Ordered\. Run the job catch_up"):
        changed.run(4, 7)
