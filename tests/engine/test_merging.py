"""What becomes of segments, queues and journeys when customers turn out to be one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from atc_pipeline.customers import profiles, segments
from atc_pipeline.decision import queues
from atc_pipeline.decision.decide import Decided, decide
from atc_pipeline.decision.memory import merge, no_state
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_QUEUES, JOURNEY_STATE
from atc_pipeline.journeys.portfolio import Journey, Portfolio, Segment
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.promises.decision import (
    broken_rules,
    double_booked_customers,
    misruled_options,
    overfull_journeys,
    unaccounted_journeys,
    unassigned_customers,
)
from atc_pipeline.rules.people import survivors
from tests.engine.reference import xxh64
from tests.engine.worlds import DAY, Crowd, World, decision_worlds

TODAY = date(2026, 3, 31)


def absorbed(who: dict[str, str]) -> pl.LazyFrame:
    """Who was absorbed today, and by whom."""
    return pl.LazyFrame(
        [(name, survivor, TODAY) for name, survivor in who.items()],
        schema={"absorbed": pl.String, "customer_id": pl.String, "valid_from": pl.Date},
        orient="row",
    )


# --- Memory ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A customer's memory of a journey; days are those of March."""

    customer: str
    journey: str = "j"
    entered: int = 1
    ended: int | None = None
    reason: str | None = None
    times: tuple[int, int] = (1, 0)
    score: float | None = 1.0
    arm: str = "treated"
    starts: tuple[int, ...] = ()
    left: int | None = None
    finished: int | None = None


def over(customer: str, journey: str = "j", entered: int = 1, ended: int = 2, reason: str = "exited", **more: Any) -> Row:
    """A journey that ended."""
    return Row(customer, journey, entered, ended, reason, **{"left": ended, **more})


def day(number: int | None) -> date | None:
    """Return a day of March."""
    return None if number is None else date(2026, 3, number)


def memory(rows: Sequence[Row]) -> pl.DataFrame:
    """Yesterday's memory."""
    return pl.DataFrame(
        [
            {
                "date": TODAY - DAY,
                "customer_id": row.customer,
                "journey_id": row.journey,
                "entered_on": day(row.entered),
                "ended_on": day(row.ended),
                "ended_reason": row.reason,
                "times_entered": row.times[0],
                "times_completed": row.times[1],
                "entry_score": row.score,
                "arm": row.arm,
                "recent_starts": [day(start) for start in row.starts],
                "left_on": day(row.left),
                "finished_on": day(row.finished),
            }
            for row in rows
        ],
        schema=JOURNEY_STATE.schema,
    )


def remembered(rows: Sequence[Row], who: dict[str, str]) -> list[Row]:
    """Merge the memory; return it by customer and journey."""
    merged = merge(memory(rows), absorbed(who), today=TODAY)
    assert merged.schema == JOURNEY_STATE.schema
    return [
        Row(
            one["customer_id"],
            one["journey_id"],
            one["entered_on"].day,
            one["ended_on"] and one["ended_on"].day,
            one["ended_reason"],
            (one["times_entered"], one["times_completed"]),
            one["entry_score"],
            one["arm"],
            tuple(start.day for start in one["recent_starts"]),
            one["left_on"] and one["left_on"].day,
            one["finished_on"] and one["finished_on"].day,
        )
        for one in merged.sort("customer_id", "journey_id").iter_rows(named=True)
    ]


INTO_U = {"v": "u", "w": "u"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([over("u"), over("x", "k")], [over("u"), over("x", "k")], id="nobody remembered was absorbed"),
        pytest.param([over("v", "k"), over("x")], [over("u", "k"), over("x")], id="the survivor had no memory"),
        pytest.param([over("v", "k"), over("u")], [over("u"), over("u", "k")], id="of different journeys: both"),
        pytest.param([over("u", times=(2, 1)), over("v", times=(3, 3)), over("w")], [over("u", times=(6, 4))], id="counts add"),
        pytest.param(
            [over("u", starts=(3, 9)), over("v", starts=()), over("w", starts=(1, 3, 20))],
            [over("u", starts=(1, 3, 3, 9, 20), times=(3, 0))],
            id="starts are put in order, twice where there are two",
        ),
        pytest.param(
            [over("u", entered=1, score=1.0), over("v", entered=2, score=2.0, arm="control")],
            [over("u", entered=2, score=2.0, arm="control", times=(2, 0))],
            id="the latest entry brings its arm and its score",
        ),
        pytest.param(
            [over("u", ended=9), over("v", ended=12, reason="completed", finished=12)],
            [over("u", ended=12, reason="completed", finished=12, times=(2, 0))],
            id="the latest ending brings its reason",
        ),
        pytest.param(
            [over("u", finished=5, left=8), over("v", finished=7, left=7, ended=7), over("w", left=None)],
            [over("u", ended=7, finished=7, left=8, times=(3, 0))],
            id="last days are the last",
        ),
        pytest.param(
            [over("u", score=1.0, reason="exited"), over("v", score=2.0, reason="completed")],
            [over("u", score=1.0, reason="exited", times=(2, 0))],
            id="on the same days the survivor's count",
        ),
        pytest.param(
            [over("w", score=1.0), over("v", score=2.0, reason="completed")],
            [over("u", score=2.0, reason="completed", times=(2, 0))],
            id="else those of the least absorbed",
        ),
        pytest.param([Row("v", "k", 9)], [Row("u", "k", 9)], id="a flight goes on under the survivor's name"),
        pytest.param(
            [Row("u", "j", 1), Row("v", "k", 9)],
            [Row("u", "j", 1), over("u", "k", 9, 31, "merged")],
            id="the survivor's flight goes on, the other ends",
        ),
        pytest.param(
            [Row("v", "j", 9), Row("w", "k", 10)],
            [over("u", "j", 9, 31, "merged"), Row("u", "k", 10)],
            id="without one of the survivor's, the one entered last",
        ),
        pytest.param(
            [Row("v", "k", 9), Row("w", "j", 9)],
            [Row("u", "j", 9), over("u", "k", 9, 31, "merged")],
            id="on the same day: the least journey",
        ),
        pytest.param(
            [Row("w", "j", 9, score=1.0), Row("v", "j", 9, score=2.0)],
            [Row("u", "j", 9, score=2.0, times=(2, 0))],
            id="then the least absorbed",
        ),
        pytest.param(
            [Row("u", "j", 4, score=1.0), Row("v", "j", 9, score=2.0, arm="control", times=(2, 1), starts=(5, 9), finished=6)],
            [Row("u", "j", 4, score=1.0, times=(3, 1), starts=(5, 9), finished=6)],
            id="another flight of the same journey only counts",
        ),
        pytest.param(
            [Row("u", "j", 4), over("v", "j", 9, 12, "exited")],
            [Row("u", "j", 4, times=(2, 0), left=12)],
            id="a row in flight stays in flight, and on its day",
        ),
        pytest.param(
            [over("u", "j", 9, 12, "completed"), Row("v", "j", 4)],
            [Row("u", "j", 4, times=(2, 0), left=12)],
            id="so does that of an absorbed customer",
        ),
        pytest.param(
            [Row("u", "k", 4), over("u", "j", 12, 14, "completed", score=3.0), Row("v", "j", 9, score=2.0)],
            [over("u", "j", 12, 31, "merged", score=3.0, times=(2, 0)), Row("u", "k", 4)],
            id="a flight that ends is the latest ending of its journey",
        ),
        pytest.param(
            [Row("u", "a", 1), Row("v", "b", 9), Row("w", "b", 8)],
            [Row("u", "a", 1), over("u", "b", 9, 31, "merged", times=(2, 0))],
            id="all others end",
        ),
    ],
)
def test_memory_of_merged_customers(before: list[Row], after: list[Row]) -> None:
    """Counts add, the latest dates win; of several journeys in flight one goes on and the others end merged."""
    assert remembered(before, INTO_U) == after
    assert remembered(before[::-1], INTO_U) == after


def test_nothing_is_touched_where_nobody_merged() -> None:
    """The very frame is handed back: a day without merges costs nothing."""
    state = memory([Row("u"), over("v")])
    assert merge(state, None, today=TODAY) is state
    assert merge(state, absorbed({"a": "u", "b": "v"}), today=TODAY) is state


DAYS = st.integers(1, 6)
ROWS = st.builds(
    lambda row, length, left: row if length is None else replace(row, ended=row.entered + length, left=left),
    st.builds(
        Row,
        st.sampled_from("tuvwx"),
        st.sampled_from("jkl"),
        DAYS,
        st.none(),
        st.none(),
        st.tuples(DAYS, DAYS),
        st.sampled_from([None, 0.5, 2.0]),
        st.sampled_from(["treated", "control"]),
        st.lists(DAYS, max_size=3).map(sorted).map(tuple),
        st.one_of(st.none(), DAYS),
        st.one_of(st.none(), DAYS),
    ),
    st.one_of(st.none(), st.integers(1, 3)),
    DAYS,
)


def one_flight_each(rows: Sequence[Row]) -> list[Row]:
    """Keep a row per customer and journey, and one flight per customer."""
    kept: dict[tuple[str, str], Row] = {}
    for row in rows:
        is_second = row.ended is None and any(one.ended is None and one.customer == row.customer for one in kept.values())
        kept.setdefault((row.customer, row.journey), replace(row, ended=9, reason="exited") if is_second else row)
    return [replace(row, reason="exited") if row.ended else row for row in kept.values()]


def by_hand(rows: Sequence[Row], who: dict[str, str]) -> list[Row]:
    """Merge one customer after the other, one journey after the other."""
    done = []
    for survivor in {who.get(row.customer, row.customer) for row in rows}:
        mine = [row for row in rows if who.get(row.customer, row.customer) == survivor]

        def rank(row: Row, survivor: str = survivor) -> tuple[bool, int, str, str]:
            return row.customer != survivor, -row.entered, row.journey, row.customer

        flights = sorted((row for row in mine if row.ended is None), key=rank)
        for journey in {row.journey for row in mine}:
            these = [row for row in mine if row.journey == journey]
            flight = flights[0] if flights and flights[0].journey == journey else None
            if flight is None:
                these = [replace(row, ended=31, reason="merged", left=31) if row.ended is None else row for row in these]
            entry = flight or min(these, key=lambda row: (-row.entered, row.customer != survivor, row.customer))
            ending = flight or min(these, key=lambda row: (-(row.ended or 0), row.customer != survivor, row.customer))
            done.append(
                Row(
                    survivor,
                    journey,
                    entry.entered,
                    ending.ended,
                    ending.reason,
                    (sum(row.times[0] for row in these), sum(row.times[1] for row in these)),
                    entry.score,
                    entry.arm,
                    tuple(sorted(start for row in these for start in row.starts)),
                    max((row.left for row in these if row.left), default=None),
                    max((row.finished for row in these if row.finished), default=None),
                )
            )
    return sorted(done, key=lambda row: (row.customer, row.journey))


@given(
    st.lists(ROWS, max_size=12).map(one_flight_each),
    st.sampled_from([{"v": "u", "w": "u"}, {"v": "u", "w": "x"}, {"a": "u", "u": "b"}, {}]),
)
def test_memory_is_merged_as_by_hand(rows: list[Row], who: dict[str, str]) -> None:
    """Whatever is remembered, and whoever absorbs whom."""
    assert remembered(rows, who) == by_hand(rows, who)


# --- Spells ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def portfolio(tmp_path: Path) -> Portfolio:
    """One segment and one queue, both for customers of a first day."""
    file = tmp_path / "journeys.yaml"
    file.write_text(
        """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-03-01}
segments: {young: "tenure_days < 5"}
journeys: [{id: hello, length_days: 5, queue: {any: [young]}}]
""",
        encoding="utf-8",
    )
    return load_portfolio(file)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        pytest.param({"u": 9, "v": 4, "w": 6}, 4, id="the first of all merged"),
        pytest.param({"u": 3, "v": 4}, 3, id="the survivor's own"),
        pytest.param({"v": 4}, 4, id="the survivor was not in it"),
        pytest.param({"x": 4}, 31, id="nobody was"),
    ],
)
def test_a_spell_goes_on_from_the_first_day_of_whoever_was_there_yesterday(
    portfolio: Portfolio, since: dict[str, int], expected: int
) -> None:
    """Membership and waiting count from the least of the days of all who merged."""
    people = pl.LazyFrame({"customer_id": ["u"], "tenure_days": [1]})
    spells = pl.LazyFrame({"customer_id": list(since), "since": [day(number) for number in since.values()]})
    members = spells.select("customer_id", segment_id=pl.lit("young"), member_since="since")
    young: Sequence[Segment] = portfolio.segments
    found = segments.assign_segments(people, members, young, today=TODAY, absorbed=absorbed(INTO_U)).collect()
    assert found.rows() == [(TODAY, "young", "u", day(expected))]
    queued = spells.select("customer_id", journey_id=pl.lit("hello"), queued_on="since")
    hello: Sequence[Journey] = portfolio.journeys
    place = queues.queue_customers(people, found.lazy(), queued, hello, today=TODAY, absorbed=absorbed(INTO_U)).collect()
    assert place.rows() == [(TODAY, "hello", "u", day(expected), 31 - expected)]


# --- Decisions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def journeys(tmp_path: Path) -> Portfolio:
    """Three journeys nobody is queued for."""
    file = tmp_path / "journeys.yaml"
    rows = "\n".join(f"  - {{id: {name}, length_days: 9, queue: {{where: 'true'}}}}" for name in "jkl")
    file.write_text(f"version: '1'\ncalendar: {{timezone: UTC, starts_on: 2026-03-01}}\njourneys:\n{rows}\n", encoding="utf-8")
    return load_portfolio(file)


@pytest.mark.parametrize(
    ("before", "decision", "told"),
    [
        pytest.param([Row("u", "j", 30), Row("v", "k", 30)], ("continue", "j"), ("k", "merged"), id="nothing else ended"),
        pytest.param([Row("u", "j", 22), Row("v", "k", 30)], ("none", None), ("j", "completed"), id="the survivor's ended too"),
        pytest.param([Row("u", "j", 30), Row("w", "l", 30), Row("v", "k", 30)], ("continue", "j"), ("k", "merged"), id="of two the least"),
        pytest.param([Row("v", "j", 30)], ("continue", "j"), (None, None), id="none had to end"),
        pytest.param([Row("u", "j", 29), Row("v", "j", 30)], ("continue", "j"), (None, None), id="both were in one journey"),
    ],
)
def test_an_ending_by_merging_is_told_where_nothing_else_ended(
    journeys: Portfolio, before: list[Row], decision: tuple[str, str | None], told: tuple[str | None, str | None]
) -> None:
    """One row for the survivor, none for the absorbed; a delivered row says the same when the day is decided again."""
    state = merge(memory(before), absorbed(INTO_U), today=TODAY)
    nobody = pl.LazyFrame(schema=JOURNEY_QUEUES.schema)
    goals = pl.LazyFrame(schema={"customer_id": pl.String, "event": pl.String, "event_date": pl.Date})
    people = pl.LazyFrame({"customer_id": ["u"]})
    done = decide(nobody, people, state, goals, journeys, today=TODAY)
    (row,) = done.assignments.iter_rows(named=True)
    assert (row["customer_id"], row["decision"], row["journey_id"]) == ("u", *decision)
    assert (row["ended_journey_id"], row["ended_reason"]) == told
    again = decide(nobody, people, state, goals, journeys, today=TODAY, delivered=done.assignments.filter(pl.col("decision") == "continue"))
    assert again.assignments["stands"].to_list() == (done.assignments["decision"] == "continue").to_list()
    assert again.assignments.drop("stands").equals(done.assignments.drop("stands"))
    assert again.state.equals(done.state)


def sent(*rows: tuple[str, str, str, int | None, str | None]) -> pl.DataFrame:
    """Assignments of today that were delivered: name, decision, journey, the day it was entered, the journey that ended."""
    return pl.DataFrame(
        [
            {"date": TODAY, "customer_id": who, "decision": decision, "journey_id": journey, "entered_on": day(entered or TODAY.day)}
            | {"arm": "control" if who == "w" else "treated", "score": 5.0, "ended_journey_id": ended}
            for who, decision, journey, entered, ended in rows
        ],
        schema=JOURNEY_ASSIGNMENTS.schema,
    )


@pytest.mark.parametrize(
    ("before", "delivered", "answer", "in_memory"),
    [
        pytest.param(
            [], [("v", "start", "j", None, None)], ("start", "j", "treated"), {"j": (31, None, 1)}, id="it stands for the survivor"
        ),
        pytest.param([], [("w", "start", "j", None, None)], ("start", "j", "control"), {"j": (31, None, 1)}, id="with its arm"),
        pytest.param(
            [Row("v", "k", 30)], [("v", "continue", "k", 30, None)], ("continue", "k", "treated"), {"k": (30, None, 1)}, id="in flight"
        ),
        pytest.param(
            [Row("v", "k", 30)],
            [("v", "switch", "j", None, "k")],
            ("switch", "j", "treated"),
            {"j": (31, None, 1), "k": (30, "interrupted", 1)},
            id="a switch",
        ),
        pytest.param(
            [],
            [("u", "start", "k", None, None), ("v", "start", "j", None, None)],
            ("start", "k", "treated"),
            {"j": (31, "merged", 1), "k": (31, None, 1)},
            id="the survivor's own before others",
        ),
        pytest.param(
            [],
            [("v", "start", "k", None, None), ("w", "start", "j", None, None)],
            ("start", "j", "control"),
            {"j": (31, None, 1), "k": (31, "merged", 1)},
            id="of two of a day the least journey",
        ),
        pytest.param(
            [Row("w", "k", 29)],
            [("w", "continue", "k", 29, None), ("v", "start", "j", None, None)],
            ("continue", "k", "control"),
            {"j": (31, "merged", 1), "k": (29, None, 1)},
            id="what is in flight goes on, and what began is not forgotten",
        ),
        pytest.param(
            [Row("u", "k", 29)],
            [("v", "start", "j", None, None)],
            ("continue", "k", "treated"),
            {"j": (31, "merged", 1), "k": (29, None, 1)},
            id="also where only the other was written to",
        ),
        pytest.param(
            [over("u", "j", 1, 2), Row("u", "k", 29)],
            [("v", "start", "j", None, None)],
            ("continue", "k", "treated"),
            {"j": (31, "merged", 2), "k": (29, None, 1)},
            id="counts add",
        ),
        pytest.param(
            [Row("u", "j", 29)],
            [("v", "start", "j", None, None)],
            ("continue", "j", "treated"),
            {"j": (29, None, 2)},
            id="the same journey",
        ),
        pytest.param(
            [],
            [("v", "start", "j", None, None), ("w", "start", "j", None, None)],
            ("start", "j", "treated"),
            {"j": (31, None, 1)},
            id="the same start twice is one",
        ),
        pytest.param(
            [Row("u", "k", 22)],
            [("v", "start", "j", None, None)],
            ("start", "j", "treated"),
            {"j": (31, None, 1), "k": (22, "completed", 1)},
            id="what the survivor was in has ended today",
        ),
        pytest.param(
            [Row("u", "k", 22)], [("v", "start", "k", None, None)], ("start", "k", "treated"), {"k": (31, None, 2)}, id="and begins again"
        ),
    ],
)
def test_what_was_delivered_to_somebody_counts_for_who_they_are_by_now(
    journeys: Portfolio,
    before: list[Row],
    delivered: list[tuple[str, str, str, int | None, str | None]],
    answer: tuple[str, str, str],
    in_memory: dict[str, tuple[int, str | None, int]],
) -> None:
    """One row for the survivor, in one journey; what was started under another name and gives way has ended ``merged`` (SPEC 2, 8)."""
    state = merge(memory([replace(row, arm="control") if row.customer == "w" else row for row in before]), absorbed(INTO_U), today=TODAY)
    goals = pl.LazyFrame(schema={"customer_id": pl.String, "event": pl.String, "event_date": pl.Date})
    people = pl.LazyFrame({"customer_id": ["u"]})
    queued = pl.LazyFrame([(TODAY, "l", "u", TODAY, 0)], schema=JOURNEY_QUEUES.schema, orient="row")
    done = decide(queued, people, state, goals, journeys, today=TODAY, delivered=sent(*delivered), absorbed=absorbed(INTO_U))
    (row,) = done.assignments.iter_rows(named=True)
    assert (row["customer_id"], row["decision"], row["journey_id"], row["arm"]) == ("u", *answer)
    told = done.state.select("journey_id", pl.col("entered_on").dt.day(), "ended_reason", "times_entered").rows()
    assert {journey: tuple(rest) for journey, *rest in told} == in_memory
    assert done.state["customer_id"].unique().to_list() == ["u"]


def test_a_place_that_was_given_to_somebody_merged_since_is_taken(tmp_path: Path) -> None:
    """One place a day: whoever else wants it does not get it, whether the start stands for the survivor or gives way."""
    file = tmp_path / "journeys.yaml"
    file.write_text(
        "version: '1'\ncalendar: {timezone: UTC, starts_on: 2026-03-01}\njourneys:\n"
        "  - {id: j, length_days: 9, queue: {where: 'true'}, capacity: {daily_entries: 1}}\n"
        "  - {id: k, length_days: 9, queue: {where: 'true'}}\n",
        encoding="utf-8",
    )
    portfolio = load_portfolio(file)
    goals = pl.LazyFrame(schema={"customer_id": pl.String, "event": pl.String, "event_date": pl.Date})
    queued = pl.LazyFrame([(TODAY, "j", who, TODAY, 0) for who in ("u", "x")], schema=JOURNEY_QUEUES.schema, orient="row")
    for before, journey in (([], "j"), ([Row("u", "k", 29)], "k")):
        done = decide(
            queued,
            pl.LazyFrame({"customer_id": ["u", "x"]}),
            merge(memory(before), absorbed(INTO_U), today=TODAY),
            goals,
            portfolio,
            today=TODAY,
            delivered=sent(("v", "start", "j", None, None)),
            absorbed=absorbed(INTO_U),
        )
        assert done.assignments.select("customer_id", "journey_id").rows() == [("u", journey), ("x", None)]


@pytest.mark.parametrize("holdout_version", [None, "2"])
def test_whoever_is_held_out_stays_held_out_after_logging_in(tmp_path: Path, holdout_version: str | None) -> None:
    """The arm is drawn by the name under which somebody was first known, and by the version of the journey's holdout."""
    version = f", holdout_version: '{holdout_version}'" if holdout_version else ""
    file = tmp_path / "journeys.yaml"
    file.write_text(
        "version: '1'\ncalendar: {timezone: UTC, starts_on: 2026-03-01}\njourneys:\n"
        f"  - {{id: j, length_days: 9, queue: {{where: 'true'}}, holdout: 0.5{version}}}\n",
        encoding="utf-8",
    )
    names = [f"u{number}" for number in range(40)]
    arms = pl.LazyFrame({"customer_id": names[:20], "arm_id": [f"anon:{name}" for name in names[:20]]})
    queued = pl.LazyFrame([(TODAY, "j", who, TODAY, 0) for who in names], schema=JOURNEY_QUEUES.schema, orient="row")
    goals = pl.LazyFrame(schema={"customer_id": pl.String, "event": pl.String, "event_date": pl.Date})
    done = decide(queued, pl.LazyFrame({"customer_id": names}), no_state(), goals, load_portfolio(file), today=TODAY, arms=arms, shard=7)
    salt = "j:2" if holdout_version else "j"
    drawn_by = [f"anon:{name}" if name in names[:20] else name for name in names]
    is_control = [xxh64(f"{salt}:{name}") % 10_000 < 5_000 for name in drawn_by]
    expected = dict(zip(names, ["control" if one else "treated" for one in is_control], strict=True))
    assert dict(done.assignments.select("customer_id", "arm").iter_rows()) == expected
    assert 8 < sum(is_control) < 32


def merges_of(random: Random, customers: list[str]) -> dict[str, str]:
    """Draw who is absorbed by whom, one now and then by somebody never seen before."""
    gone = random.sample(customers, min(random.choice([0, 0, 1, 3, 5]), len(customers) - 1))
    left = [one for one in customers if one not in gone]
    return {one: random.choice([*left, left[0], f"new-{gone[0]}"]) for one in gone}


@pytest.mark.slow
@pytest.mark.parametrize("is_decided_again", [False, True])
@settings(max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(world=decision_worlds(10, is_limited=True), seed=st.integers(0, 10**6))
def test_no_invariant_breaks_when_customers_merge(
    tmp_path_factory: pytest.TempPathFactory, world: World, seed: int, *, is_decided_again: bool
) -> None:
    """Customers who merge while they are queued, in flight and held out, and after they were written to: every day adds up."""
    folder = tmp_path_factory.mktemp("world")
    loaded = {first: load_portfolio(path) for first, path in world.write_journeys(folder).items()}
    portfolio, random = loaded[world.days[0]], Random(seed)  # noqa: S311  # no secrets here
    crowd = Crowd(random, size=30)
    names, events, state = crowd.customers, crowd.events(world.days), no_state()
    before: Decided | None = None
    merged: dict[str, str] = {}
    for today in world.days:
        portfolio = loaded.get(today, portfolio)
        who = merges_of(random, names) if before is not None else {}

        def decided(  # this day, by what is known of who is who
            names: list[str],
            merged: dict[str, str],
            who: dict[str, str],
            sent: pl.DataFrame | None = None,
            *,
            today: date = today,
            portfolio: Portfolio = portfolio,
            state: pl.DataFrame = state,
        ) -> tuple[Decided, pl.LazyFrame]:
            people = [{**row, "customer_id": name} for name, row in zip(names, crowd.profiles(portfolio, today), strict=False)]
            queued = [row for row in crowd.queues(portfolio, today) if row["customer_id"] in names]
            goals = [
                (merged.get(one["user_id"], one["user_id"]), one["event"], one["event_date"]) for one in events if one["date"] <= today
            ]
            frame = pl.LazyFrame(people, profiles.table_schema(portfolio))
            done = decide(
                pl.LazyFrame(queued, JOURNEY_QUEUES.schema),
                frame,
                merge(state, absorbed(who), today=today),
                pl.LazyFrame(goals, {"customer_id": pl.String, "event": pl.String, "event_date": pl.Date}, orient="row"),
                portfolio,
                today=today,
                delivered=sent,
                absorbed=absorbed(who),
                shard=5,
            )
            return done, frame

        sent = None
        if is_decided_again:  # before it was known who merges today
            first = decided(names, merged, {})[0].assignments.filter(pl.col("arm") == "treated")
            sent = first.filter(pl.Series([random.random() < 0.7 for _ in range(first.height)], dtype=pl.Boolean))
        merged = {name: who.get(survivor, survivor) for name, survivor in merged.items()} | who
        names = sorted({who.get(name, name) for name in names})
        done, frame = decided(names, merged, who, sent)
        assert broken(done, before, frame, absorbed(who).with_columns(date=pl.lit(today)), sent, portfolio) == []
        state, before = done.state, done


def broken(
    done: Decided, before: Decided | None, people: pl.LazyFrame, who: pl.LazyFrame, delivered: pl.DataFrame | None, portfolio: Portfolio
) -> list[Any]:
    """Return the rows that break an invariant of a decision."""
    rows = done.assignments.clear() if delivered is None else delivered
    sent = survivors(rows.lazy().select("date", "customer_id", "journey_id"), who)
    answers, state, candidates = done.assignments.lazy(), done.state.lazy(), done.candidates.collect().lazy()
    found = [
        misruled_options(candidates, portfolio),
        unassigned_customers(people, answers),
        double_booked_customers(state, answers),
        overfull_journeys(answers, sent, portfolio),
    ]
    if before is not None:
        found += [
            unaccounted_journeys(answers, before.assignments.lazy(), state, who),
            broken_rules(answers, state, before.state.lazy(), people, who, sent, portfolio),
        ]
    return [row for rows in found for row in rows.collect().to_dicts()]
