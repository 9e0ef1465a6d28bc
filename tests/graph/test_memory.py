"""What an edited ``journeys.yaml`` asks of the past counts from history, not from today (SPEC 3, 8)."""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from resources.storage.lake import Lake
from tests.graph.small_world import FIRST, line, run

pytestmark = pytest.mark.slow

JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-03-01}
channels: {app: {consent: none}}
traits:
  orders: {count: Order Completed}
  signups: {count: Signed Up}
journeys:
  - {id: course, length_days: 9, queue: {where: "signups > 0"}, goal: {event: GOAL}}
  - {id: short, length_days: 1, queue: {where: "orders > 0"}, reentry: {after_days: 1, from: exit}}
  - {id: other, length_days: 1, queue: {where: "orders > 0"}, reentry: {after_days: 1, from: exit}}
policy: {cap: CAP}
"""


def day(number: int) -> date:
    """Return a day of the world, the first being 0."""
    return FIRST + timedelta(days=number)


class Edited:
    """A lake of a few days, whose portfolio is edited on the way."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"ATC_HOME": str(folder / "home"), "ATC_JOURNEYS": str(folder / "journeys.yaml")}
        self.lake = Lake(root=str(folder / "home" / "lake"))
        self.folder = folder

    def land(self, number: int, *lines: str) -> None:
        """Let these lines arrive on a day."""
        folder = self.folder / "home" / "landing" / str(day(number))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{len(list(folder.iterdir()))}.ndjson").write_text("\n".join(lines) + "\n")

    def run(self, first: int, last: int, goal: str = "Order Completed", cap: str = "null", *, must_succeed: bool = True) -> str:
        """Run these days by this portfolio; return what the step that failed says, if one may."""
        (self.folder / "journeys.yaml").write_text(JOURNEYS.replace("GOAL", goal).replace("CAP", cap))
        with dg.DagsterInstance.ephemeral() as instance:
            done = run(self.environment, day(first), day(last), instance=instance, must_succeed=must_succeed)
        failed = [event for event in done.all_events if event.is_step_failure]
        return str(failed[0].step_failure_data.user_failure_data) if failed else ""

    def answer(self, number: int, customer: str) -> tuple[str | None, ...]:
        """Return a customer's decision of a day, and what ended."""
        rows = self.lake.read("journey_assignments", day(number)).filter(customer_id=customer)
        return rows.select("decision", "journey_id", "ended_journey_id", "ended_reason").row(0)


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    """Signed up on the first day, as a visitor who logs in on the third; viewed a page on the second."""
    lake = Edited(tmp_path)
    signs_up = line("", day(0), 1, event="Signed Up", userId=None, anonymousId="g")
    lake.land(0, signs_up, line("x", day(0), 2, event="Signed Up"), line("a", day(0), 3, event="Order Completed"))
    lake.land(1, line("", day(1), 1, event="Page Viewed", userId=None, anonymousId="g"))
    lake.land(2, line("G", day(2), 1, type="identify", anonymousId="g"))
    return lake


def test_a_goal_that_was_none_before_counts_for_those_in_flight(edited: Edited) -> None:
    """Reached on the second day, made the goal on the third: converted at once, for who did it, under the name of today."""
    edited.run(0, 1)
    edited.run(2, 3, goal="Page Viewed")
    assert edited.answer(2, "G")[2:] == ("course", "converted")
    assert edited.answer(2, "x") == ("continue", "course", None, None)
    assert edited.answer(3, "x") == ("continue", "course", None, None)


def test_a_goal_that_nobody_can_look_up_any_more_is_refused(edited: Edited) -> None:
    """The rollup of a day does not count it and its events are gone: the run says so, and does not pretend that nothing happened."""
    edited.run(0, 1)
    edited.lake.path("raw_events", day(1)).unlink()
    edited.lake.path("raw_events", day(1)).parent.rmdir()
    edited.lake.write("raw_events", day(2), edited.lake.read("raw_events", day(0)).clear())
    told = edited.run(2, 2, goal="Page Viewed", must_succeed=False)
    assert f"raw_events has no data for {day(1)}" in told


@pytest.mark.parametrize("before", ["null", "{days: 1, starts: '1'}"])
def test_a_cap_that_is_new_or_longer_counts_the_starts_before_it(edited: Edited, before: str) -> None:
    """Somebody who started on each of two days may not start a third time in a week, from the day of the edit on."""
    edited.run(0, 1, cap=before)
    assert [edited.answer(number, "a")[:2] for number in (0, 1)] == [("start", "other"), ("start", "short")]
    edited.run(2, 3, cap="{days: 7, starts: '1'}")
    assert edited.answer(2, "a") == ("none", None, "short", "completed")
    assert edited.answer(3, "a")[0] == "none"
    state = edited.lake.read("journey_state", day(3)).filter(customer_id="a")
    assert state.select("journey_id", "recent_starts").rows() == [("other", [day(0)]), ("short", [day(1)])]
    assert edited.lake.read("journey_state", day(3)).filter(customer_id="G")["recent_starts"].to_list() == [[day(0)]]


def test_a_cap_that_was_taken_away_and_brought_back_counts_what_was_between(edited: Edited) -> None:
    """Starts of the days without a cap are in no memory of the day before, and count all the same."""
    edited.run(0, 0, cap="{days: 7, starts: '9'}")
    edited.run(1, 1)
    edited.run(2, 2, cap="{days: 7, starts: '2'}")
    assert edited.answer(2, "a")[0] == "none"
    remembered = edited.lake.read("journey_state", day(2)).filter(customer_id="a")["recent_starts"]
    assert remembered.to_list() == [[day(0)], [day(1)]]
    assert edited.lake.read("journey_state", day(1))["recent_starts"].list.len().sum() == 0
    assert edited.lake.read("scored_candidates", day(2)).filter(pl.col("ruling") == "frequency_cap")["customer_id"].to_list() == ["a"]
