"""What is made before a window: columns as far back as they look, so that they are whole, and not a day more."""

import json
from datetime import date, timedelta
from functools import cache

import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.days.course import Course
from atc_pipeline.events.lines import Lines
from atc_pipeline.journeys.changes import changes
from atc_pipeline.journeys.resolution import resolve_text
from atc_pipeline.plan.courses import catch_up
from resources.storage.memory import Memory
from resources.storage.overlay import Overlay

FIRST = date(2026, 1, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(14)]
WINDOW = DAYS[11:]
JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-01, backfill_days: 2}
channels: {app: {consent: opt_out}}
traits:
  orders: {count: Bought}
  spend_2d: {sum: revenue, of: Bought, within_days: 2}
journeys:
  - {id: more, length_days: 2, queue: {where: "orders >= 0"}}
"""
WINDOWED = "  recent: {count: Bought, within_days: 3}\n"
RANKED = "  spend_rank: {percentile: spend_2d}\n"
ENDLESS = "  spend: {sum: revenue, of: Bought}\n"


def landed(day: date) -> list[list[Lines]]:
    """Three customers who buy every second, third and fifth day; some of it is told a day late."""
    number = DAYS.index(day)
    lines = [
        {"messageId": f"{user}{day}", "type": "track", "event": "Bought", "userId": user, "properties": {"revenue": number + every}}
        | {"timestamp": f"{day - timedelta(days=number % 2)}T09:30:00Z"}
        for user, every in (("u", 2), ("v", 3), ("w", 5))
        if number % every == 0
    ]
    return [[Lines("a.ndjson", 1, b"".join(json.dumps(line).encode() + b"\n" for line in lines))]] if lines else []


pytestmark = pytest.mark.slow


@cache
def run(text: str) -> Memory:
    """Run all days; nobody writes into what is returned."""
    store = Memory()
    course = Course(store, resolve_text(text, "journeys.yaml"), landed)
    for day in DAYS:
        course.run(day)
    return store


@pytest.mark.parametrize(
    ("traits", "profiles_from"),
    [
        pytest.param(WINDOWED, DAYS[4], id="a window: three days and two before the queues are built"),
        pytest.param(RANKED, DAYS[5], id="a rank of a window"),
        pytest.param(WINDOWED + RANKED, DAYS[4], id="the longer of two"),
        pytest.param(ENDLESS, FIRST, id="all that ever happened"),
        pytest.param(WINDOWED + ENDLESS, FIRST, id="both"),
    ],
)
def test_columns_are_made_as_far_back_as_they_look(traits: str, profiles_from: date) -> None:
    """From there to the last day, and equal to those of a lake that always had them, wherever queues and decisions read them."""
    text = JOURNEYS.replace("traits:\n", f"traits:\n{traits}")
    before, after = (resolve_text(each, "journeys.yaml") for each in (JOURNEYS, text))
    above = Memory()
    store = Overlay(run(JOURNEYS), above)
    told = list(catch_up(store, after, changes(before, after), WINDOW[0], WINDOW[-1]))
    assert told[-1] == ("making changed columns again", WINDOW[-1])
    assert above.days("customer_profiles") == [day for day in DAYS if day >= profiles_from]
    whole = run(text)
    for day in DAYS[9:]:
        columns = [trait.id for trait in after.traits]
        made, wanted = (each.lazy("customer_profiles", day).select("customer_id", *columns).collect() for each in (store, whole))
        assert_frame_equal(made, wanted)


def test_nothing_is_made_for_what_needs_nothing() -> None:
    """A priority is decided by; queues are built anew only where they change, over the days of the calendar."""
    text = JOURNEYS.replace("length_days: 2", "length_days: 2, priority: 7")
    before, after = (resolve_text(each, "journeys.yaml") for each in (JOURNEYS, text.replace("orders >= 0", "orders >= 1")))
    above = Memory()
    list(catch_up(Overlay(run(JOURNEYS), above), after, changes(before, after), WINDOW[0], WINDOW[-1]))
    assert above.days("customer_profiles") == []
    assert above.days("journey_queues") == DAYS[9:11]
