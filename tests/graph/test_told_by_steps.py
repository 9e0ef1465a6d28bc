"""Checks that no promise between tables makes: what each of their clauses tells apart, without a run.

What belongs here: what is known of the landing zone, of lines that were read, and of what a day was made from. What does not: these
checks as Dagster runs them (``test_promises``, ``test_arrivals``, ``test_landing_sensor``).
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from assets.audiences import _adds_up
from assets.checks import STALE
from assets.events import _reconciled
from assets.shown.arrivals import DAYS_BEFORE, Arrivals
from atc_pipeline.days.audiences import Synchronizing
from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.memory import Memory
from tests.graph.small_world import FIRST, JOURNEYS

SECOND, THIRD = FIRST + timedelta(days=1), FIRST + timedelta(days=2)
BEFORE = FIRST - timedelta(days=1)
A_ROW = pl.DataFrame({"customer_id": ["u"]})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(root=str(tmp_path / "lake"))


def stale(lake: Lake, folder: Path, day: date) -> list[tuple[date, str]]:
    """Return which day of which table the check names, run for a day."""
    path = folder / "journeys.yaml"
    path.write_text(JOURNEYS)
    return STALE.find(lake, load_portfolio(path), [day]).select("date", "table").rows()


def make(lake: Lake, *days: date) -> None:
    """Write a table for these days, each but the first on the day before."""
    for number, day in enumerate(days):
        lake.write("journey_state", day, A_ROW.with_columns(date=pl.lit(day)))
        yesterday = lake.version("journey_state", days[number - 1]) if number else None
        lake.origins.note(day, {"journey_state": yesterday}, [], None, 1)


@pytest.mark.parametrize("promise", ["journey_assignments.days_stand_on_their_yesterday"])
def test_a_day_is_stale_where_the_day_before_was_made_anew(promise: str, lake: Lake, tmp_path: Path) -> None:
    """Both are there, the day before is of the calendar, and the day was made on another one than is there."""
    assert promise == f"{STALE.table}.{STALE.name}"
    make(lake, BEFORE, FIRST, SECOND, THIRD)
    assert stale(lake, tmp_path, THIRD) == []
    lake.write("journey_state", BEFORE, A_ROW.with_columns(date=pl.lit(BEFORE), customer_id=pl.lit("v")))
    assert stale(lake, tmp_path, THIRD) == [], "a day before the calendar begins"
    lake.write("journey_state", SECOND, A_ROW.with_columns(date=pl.lit(SECOND), customer_id=pl.lit("v")))
    assert stale(lake, tmp_path, THIRD) == [(THIRD, "journey_state")]
    lake.path("journey_state", THIRD).unlink()
    assert stale(lake, tmp_path, THIRD) == [], "a day that is gone"
    lake.path("journey_state", FIRST).unlink()
    assert stale(lake, tmp_path, THIRD) == [], "a day before that is gone"
    make(lake, FIRST)
    make(lake, SECOND)
    assert stale(lake, tmp_path, SECOND) == [], "a day that stands on none"


COUNTED = {"lines": 4, "accepted": 1, "duplicates": 1, "rejected": 1, "erased": 1}


@pytest.mark.parametrize(("lines", "odd"), [(4, False), (5, True), (3, True)])
def test_lines_are_accounted_for(lines: int, odd: bool) -> None:
    """Accepted, recognised, rejected or erased: only the day that does not add up is named."""
    days = pl.DataFrame([{"day": "a sound day", **COUNTED}, {"day": "the day", **COUNTED, "lines": lines}])
    result = _reconciled(days)
    named = str(result.metadata["days_that_do_not_add_up"].value)
    assert (result.passed, "the day" in named, "a sound day" in named) == (not odd, odd, False)


@pytest.mark.parametrize("astray", [(), (SECOND,), (FIRST, THIRD)])
def test_members_add_up_on_days_without_anybody_astray(astray: Sequence[date], tmp_path: Path) -> None:
    """A day that was looked at and has nobody is no fault, be it alone or beside a day that has."""
    path = tmp_path / "journeys.yaml"
    path.write_text(JOURNEYS)
    step = Synchronizing(Memory(), load_portfolio(path), NotImplemented, [])
    step.unexplained = {day: A_ROW if day in astray else A_ROW.clear() for day in (FIRST, SECOND, THIRD)}
    result = _adds_up(step)
    assert (result.passed, result.metadata["days_tested"].value) == (not astray, 3)
    assert not astray or result.metadata["failing_rows"].value == len(astray)


def arrivals(landing: Path, folder: Path) -> Arrivals:
    """Return who reads a landing zone, of a calendar of two days."""
    path = folder / "journeys.yaml"
    path.write_text(JOURNEYS.replace(f"starts_on: {FIRST}", f"starts_on: {FIRST}, ends_on: {SECOND}"))
    return Arrivals(LandingZone(root=str(landing)), load_portfolio(path), FIRST)


@pytest.mark.parametrize("ends_on", [None, SECOND])
def test_days_outside_the_calendar_are_passed_over(tmp_path: Path, ends_on: date | None) -> None:
    """Before it begins, and after it ends if it does; its own days are not."""
    for day in (BEFORE, FIRST, SECOND, THIRD):
        (tmp_path / "landing" / str(day)).mkdir(parents=True)
    outside = [entry.name for entry in arrivals(tmp_path / "landing", tmp_path)._of_no_day(FIRST, ends_on)]
    assert outside == [str(BEFORE), *([] if ends_on is None else [str(THIRD)])]


@pytest.mark.parametrize(
    ("before", "folders", "lines", "odd"),
    [
        pytest.param("111", [], 0, True, id="there usually are some"),
        pytest.param("111", [], 5, False, id="and there are"),
        pytest.param("1000", [], 0, False, id="mostly there are none"),
        pytest.param("1r00", [], 0, True, id="on half of them, rejected ones count"),
        pytest.param("1100-", [], 0, True, id="a day that was never made says nothing"),
        pytest.param("11000", [], 0, False, id="one more without does"),
        pytest.param("00", [BEFORE], 0, True, id="there were files once"),
        pytest.param("00", [THIRD + timedelta(days=99)], 0, False, id="there will be"),
        pytest.param("", [], 0, False, id="there never was anything"),
        pytest.param("0" * DAYS_BEFORE + "111", [], 0, False, id="too long ago"),
    ],
)
def test_a_day_without_lines_is_odd(lake: Lake, tmp_path: Path, before: str, folders: Sequence[date], lines: int, odd: bool) -> None:
    """Where there usually are some on the days before, latest first: accepted ``1``, rejected only ``r``, none ``0``, not made ``-``."""
    for ago, kind in enumerate(before, 1):
        day = THIRD - timedelta(days=ago)
        if kind != "-":
            lake.write("raw_events", day, A_ROW if kind == "1" else A_ROW.clear())
        if kind == "r":
            lake.write("rejected_events", day, A_ROW)
    landing = tmp_path / "landing"
    landing.mkdir()
    for day in folders:
        (landing / str(day)).mkdir()
    result = arrivals(landing, tmp_path).lines_arrived(lake, {THIRD: lines})
    assert (result.passed, result.metadata["days_without_lines"].value, result.description is None) == (
        not odd, str(THIRD) if odd else "", not odd,
    )  # fmt: skip


def test_no_landing_zone_is_told(lake: Lake, tmp_path: Path) -> None:
    """Also where there were lines."""
    result = arrivals(tmp_path / "landing", tmp_path).lines_arrived(lake, {THIRD: 5})
    assert not result.passed
    assert result.description is not None
