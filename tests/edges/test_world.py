"""The world with known truth: the same every time, as dirty as it says, and worth what it says."""

import json
from collections import Counter
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from sample.households import DELIVERED_ON
from sample.households import make as make_households
from sample.world import FIRST, SCENARIOS, Effect, Planted, Scenario, World, _fatigue, make

NOTHING = pl.DataFrame(schema={"customer_id": pl.String, "journey_id": pl.String, "step_day": pl.Int64})
NOBODY = np.zeros(0, np.int32)


def events(world: World) -> list[tuple[date, dict[str, object]]]:
    """Return all that arrives, with the day on which it does, where nobody is sent anything."""
    return [(day, json.loads(line)) for day in world.days for line in world.arriving(day, NOTHING).splitlines()]


def test_the_same_seed_is_the_same_world() -> None:
    """Byte for byte; and another seed is another one."""
    worlds = [make("planted", seed, count=2, customers=200, days=30) for seed in (1, 1, 2)]
    first, again, other = ([world.arriving(day, NOTHING) for day in world.days] for world in worlds)
    assert first == again
    assert first != other


def test_a_world_is_the_same_beside_any_others() -> None:
    """The lines of the first of three worlds are those of the first of two."""
    three, two = (events(make("planted", 1, count=count, customers=200, days=30)) for count in (3, 2))
    assert [row for row in three if "w000-" in row[1]["messageId"]] == [row for row in two if "w000-" in row[1]["messageId"]]


def test_days_come_in_order() -> None:
    """A day that is left out, or asked for twice, is refused."""
    world = make("planted", 1, count=1, customers=10, days=5)
    with pytest.raises(ValueError, match="2026-01-06 is not the next day, 2026-01-05"):
        world.arriving(FIRST + timedelta(days=1), NOTHING)
    world.arriving(FIRST, NOTHING)
    with pytest.raises(ValueError, match="is not the next day"):
        world.arriving(FIRST, NOTHING)


@pytest.mark.slow
def test_tracking_is_as_dirty_as_it_says() -> None:
    """Two in a hundred events come one to three days late, one in a thousand after everything has matured; some log in late, some merge."""
    arrived = events(make("planted", 3, count=1, customers=4_000, days=90))
    tracked = [(day, event) for day, event in arrived if event["type"] == "track"]
    lateness = Counter((day - date.fromisoformat(str(event["timestamp"])[:10])).days for day, event in tracked)
    assert set(lateness) == {0, 1, 2, 3, 45}
    assert sum(lateness[days] for days in (1, 2, 3)) / len(tracked) == pytest.approx(0.02, rel=0.15)
    assert 0 < lateness[45] / len(tracked) < 0.0015
    strangers = {event["anonymousId"] for _, event in tracked if "anonymousId" in event}
    known = {event["anonymousId"] for _, event in arrived if event["type"] == "identify" and "anonymousId" in event}
    assert len(known) / 4_000 == pytest.approx(0.08, rel=0.2)
    assert strangers & known
    merged = [event for _, event in arrived if event["type"] == "alias"]
    assert 0 < len(merged) / 4_000 < 0.02
    assert all(event["previousId"] == f"b.{event['userId']}" for event in merged)


GOOD = Planted("good", "tea", effect=Effect(rate=(0.5, 0.3, 0.2), basket=(0.1, 0.1, 0.1), churn=(-0.5, -0.5, -0.5), delay=3, ends=21))
BAD = Planted("bad", "poker", (1, 2), effect=Effect(rate=(-0.3, -0.3, -0.3), churn=(2, 2, 2), delay=1, ends=10))
ENTERED, WINDOW = 29, 28


@pytest.mark.slow
@pytest.mark.parametrize("beside", [(), (ENTERED + 1, ENTERED + 4)], ids=["alone", "beside another journey"])
@pytest.mark.parametrize("number", [0, 1], ids=["good", "bad"])
def test_what_a_journey_makes_is_what_it_makes(number: int, beside: tuple[int, ...]) -> None:
    """Of everybody who is sent a journey, the mean difference to a twin world without it is the planted one, within its error, for a good
    and a bad journey; also where another one is sent to the same people, whose messages tire them."""
    scenario = Scenario((GOOD, BAD), churn=(0.01, 0.01, 0.01))
    journey = scenario.journeys[number]
    spent, planted = [], []
    for is_sent in (True, False):
        world = World(scenario, 5, customers=20_000, days=60)
        people = np.flatnonzero((world.joined <= ENTERED) & (world.opted_out > 60)).astype(np.int32)
        before = np.zeros(0)
        for today, day in enumerate(world.days[: ENTERED + WINDOW + 1]):
            due = [number] * (is_sent and today - ENTERED in journey.steps) + [1 - number] * (today in beside)
            world.live(day, np.tile(people, len(due)).astype(np.int32), np.repeat(np.array(due, np.int32), len(people)))
            before = world.spent.copy() if today == ENTERED else before
        spent.append((world.spent - before)[people])
        entries = pl.DataFrame({"customer_id": world.names.gather(people)}).with_columns(
            journey_id=pl.lit(journey.id), entered_on=FIRST + timedelta(days=ENTERED), window_days=WINDOW
        )
        planted.append(world.planted(entries).to_numpy())
    assert planted[0] == pytest.approx(planted[1])  # control is told what it would have been
    made = spent[0] - spent[1]
    error = float(made.std() / np.sqrt(len(made)))
    assert abs(made.mean() - planted[0].mean()) < 3 * error
    assert abs(planted[0].mean()) > 3 * error


@pytest.mark.slow
def test_twin_worlds_agree_with_what_all_messages_made() -> None:
    """Of everybody, whatever they were sent and however often, the difference between twins is the expected one, within its error."""
    worlds = [make("planted", 7, count=1, customers=20_000, days=80) for _ in range(2)]
    chance = np.random.default_rng(1)
    for day in worlds[0].days:
        person = np.flatnonzero((chance.random(20_000) < 0.05) & (worlds[0].joined < (day - FIRST).days)).astype(np.int32)
        worlds[0].live(day, person, chance.integers(0, 4, len(person)).astype(np.int32))
        worlds[1].live(day, NOBODY, NOBODY)
    made = worlds[0].spent - worlds[1].spent
    error = float(made.std() / np.sqrt(len(made)))
    assert abs(float(made.mean() - worlds[0].made_by_all().mean())) < 3 * error
    assert float(worlds[0].made_by_all().mean()) > 3 * error
    assert not worlds[1].made_by_all().any()


def test_what_is_planted_as_nothing_is_nothing() -> None:
    """No journey of the world without effects makes anything, whoever is sent it."""
    world = make("nothing", 1, count=1, customers=100, days=40)
    for day in world.days:
        world.live(day, np.arange(100, dtype=np.int32), np.full(100, (day - FIRST).days % 4, np.int32))
    entries = pl.DataFrame({"customer_id": world.names}).with_columns(
        journey_id=pl.lit("care"), entered_on=FIRST + timedelta(days=5), window_days=28
    )
    assert world.planted(entries).to_list() == [0.0] * 100
    assert not world.made_by_all().any()


def test_scenarios_enter_by_what_no_message_changes() -> None:
    """Each journey of a scenario is entered by looking at a topic of its own."""
    for scenario in SCENARIOS.values():
        assert len({journey.viewed for journey in scenario.journeys}) == len(scenario.journeys)


def test_extra_baskets_of_real_households_are_worth_what_is_planted() -> None:
    """All households of two copies are sent both messages of a journey: their extra baskets, which are theirs, bring the planted money
    within its error, none after it has ended, and where nothing is planted there is none."""
    households = make_households("planted", 1, count=2, days=60)
    everybody = pl.DataFrame({"customer_id": [f"w{copy:03}-{number:06}" for copy in range(2) for number in range(len(households.ids))]})
    entered = households.days[30]
    brought = dict.fromkeys(households.days, 0.0)
    squares = 0.0
    for day in households.days:
        due = (day - entered).days in DELIVERED_ON
        sent = everybody.with_columns(journey_id=pl.lit("harvest"), step_day=pl.lit((day - entered).days, pl.Int64))
        for line in households.arriving(day, sent if due else sent.clear()).splitlines():
            if b'"messageId":"x' in line:
                amount = json.loads(line)["properties"]["revenue"]
                brought[day] += amount
                squares += amount**2
    entries = everybody.with_columns(journey_id=pl.lit("harvest"), entered_on=pl.lit(entered), window_days=28)
    planted = households.planted(entries).sum()
    assert abs(sum(brought.values()) - planted) < 3 * squares**0.5
    assert planted > 10 * squares**0.5
    assert [day for day, money in brought.items() if money] == [entered + timedelta(days=age) for age in range(2, 25)]
    assert households.planted(entries.with_columns(journey_id=pl.lit("lunch"))).sum() == 0
    assert households.planted(entries.with_columns(journey_id=pl.lit("system"))).sum() == pytest.approx(planted)


def test_messages_tire_as_much_in_life_as_in_the_truth() -> None:
    """Each message of the 14 days before takes 3 % off, those of the same day nothing, whoever counts them."""
    world = make("planted", 1, count=1, customers=3, days=30)
    sent = {1: 1, 3: 2, 9: 1, 20: 1}
    for today, day in enumerate(world.days):
        world.live(day, np.ones(sent.get(today, 0), np.int32), np.zeros(sent.get(today, 0), np.int32))
    days = np.array([[1, 3, 3, 9, 20]], np.int32)
    assert world.messages.fatigue.tolist() == pytest.approx([1, 0.97, 0.97, 0.97**3, 0.97])
    assert _fatigue(days, np.ones(days.shape, np.bool_))[0].tolist() == pytest.approx(world.messages.fatigue.tolist())
    assert _fatigue(days, days != 9)[0].tolist() == pytest.approx([1, 0.97, 0.97, 0.97**3, 1])
