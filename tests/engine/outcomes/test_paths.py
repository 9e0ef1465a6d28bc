"""Paths: when they begin and close, whose they are, and what is counted of them."""

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl
import pytest

from atc_pipeline.outcomes.paths import News, add_closed, follow_paths, open_paths, summarise
from atc_pipeline.outcomes.tables import ENTRY, OTHER_PATHS, PATH_STEPS, SIGHT, SILENT

FIRST = date(2026, 1, 1)
SEEN = date(2025, 12, 22)
MICRO = 1_000_000

Rows = Sequence[tuple[object, ...]]
Money = Sequence[tuple[str, date, float]]


def at(number: int) -> date:
    """Return the day of that number, from 1."""
    return FIRST + timedelta(days=number - 1)


def news(entries: Rows = (), money: Money = (), endings: Rows = (), sent: Rows = (), responses: Rows = (), absorbed: Rows = ()) -> News:
    """Return a day's news: entries ``customer, journey, arm``; money ``customer, day, units``; the others as the tables have them."""
    who = {"customer_id": pl.String(), "journey_id": pl.String()}
    return News(
        entries=pl.DataFrame([(*row, SEEN) for row in entries], {**who, "arm": pl.String(), "first_seen_on": pl.Date()}, orient="row"),
        money=pl.DataFrame(
            [(customer, day, int(units * MICRO)) for customer, day, units in money],
            {"customer_id": pl.String(), "event_date": pl.Date(), "micro": pl.Int64()},
            orient="row",
        ),
        endings=pl.DataFrame(
            list(endings), {**who, "entered_on": pl.Date(), "ended_on": pl.Date(), "ended_reason": pl.String()}, orient="row"
        ),
        sent=pl.DataFrame(list(sent), {**who, "sent": pl.Int64()}, orient="row"),
        responses=pl.DataFrame(
            list(responses), {"customer_id": pl.String(), "event_date": pl.Date(), "responses": pl.Int64()}, orient="row"
        ),
        absorbed=pl.DataFrame(list(absorbed), {"absorbed": pl.String(), "customer_id": pl.String()}, orient="row"),
    )


def follow(*days: News, path_days: int = 60) -> list[pl.DataFrame]:
    """Return the steps of each day, from the first."""
    made: list[pl.DataFrame] = []
    for number, day in enumerate(days, start=1):
        made.append(follow_paths(made[-1] if made else None, day, today=at(number), path_days=path_days))
    return made


def steps(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    """Return of each step the customer, the path's first day, its place, the journey, and how the path closed."""
    rows = frame.select("customer_id", "path_started_on", "position", "journey_id", "closed_on", "is_conversion", "value").rows()
    return [
        (row[0], (row[1] - FIRST).days + 1, row[2], row[3], *((row[4] - FIRST).days + 1 if row[4] else None,), *row[5:]) for row in rows
    ]


def test_a_path_closes_with_money_and_holds_what_was_entered_before() -> None:
    """Two entries, then money: one path of two steps, in order; the next day it is gone."""
    days = follow(news([("ann", "b", "treated")]), news([("ann", "a", "treated")]), news(money=[("ann", at(3), 7.5)]), news())
    assert steps(days[1]) == [("ann", 1, 1, "b", None, None, None), ("ann", 1, 2, "a", None, None, None)]
    assert steps(days[2]) == [("ann", 1, 1, "b", 3, True, 7.5), ("ann", 1, 2, "a", 3, True, 7.5)]
    assert days[3].is_empty()
    assert days[2].schema == PATH_STEPS.schema


def test_money_of_the_day_of_entry_is_not_its_doing() -> None:
    """Messages go out a day later: the path of before closes, and the day's entry begins the next one."""
    days = follow(news([("ann", "a", "treated")]), news([("ann", "b", "treated")], money=[("ann", at(2), 1)]))
    assert steps(days[1]) == [("ann", 1, 1, "a", 2, True, 1.0), ("ann", 2, 1, "b", None, None, None)]
    assert steps(follow(news([("ann", "a", "treated")], money=[("ann", at(1), 1)]))[0]) == [("ann", 1, 1, "a", None, None, None)]


@pytest.mark.parametrize("units", [0, -3])
def test_what_brings_no_money_closes_nothing(units: float) -> None:
    """Money given back, and an order worth nothing, are no conversions."""
    days = follow(news([("ann", "a", "treated")]), news(money=[("ann", at(2), units)]))
    assert steps(days[1]) == [("ann", 1, 1, "a", None, None, None)]


def test_money_that_comes_late_closes_the_path_on_its_own_day() -> None:
    """Money of the second day arrives on the fourth, with more of that day: it parts what was entered before from what came after."""
    days = follow(
        news([("ann", "a", "treated")]),
        news(),
        news([("ann", "b", "treated")]),
        news(money=[("ann", at(4), 5), ("ann", at(2), 2)]),
    )
    assert steps(days[3]) == [("ann", 1, 1, "a", 2, True, 2.0), ("ann", 3, 1, "b", 4, True, 5.0)]


def test_a_path_is_over_after_so_many_days_without_an_entry() -> None:
    """Three days after the last entry it closes without a conversion, unless there is money on that day; then another may begin."""
    begun = [news([("ann", "a", "treated")]), news([("ann", "b", "treated")]), news(), news()]
    left = follow(*begun, news(), news([("ann", "c", "treated")]), path_days=3)
    assert [row[4:] for row in steps(left[4])] == [(5, False, None)] * 2
    assert steps(left[5]) == [("ann", 6, 1, "c", None, None, None)]
    paid = follow(*begun, news(money=[("ann", at(5), 1)]), path_days=3)
    assert [row[4:] for row in steps(paid[4])] == [(5, True, 1.0)] * 2
    longer = follow(*begun, news([("ann", "c", "treated")]), path_days=3)
    assert [row[3:5] for row in steps(longer[4])] == [("a", None), ("b", None), ("c", None)]


def test_control_is_no_touch_and_by_itself_the_silent_path() -> None:
    """In control only: `(silent)`. A touch makes it a path of its own, and control beside touches is nothing."""
    days = follow(
        news([("ann", "a", "control"), ("bob", "a", "control")]),
        news([("bob", "b", "treated")]),
        news([("bob", "c", "control")], money=[("ann", at(3), 4)]),
        news(money=[("bob", at(4), 9)]),
    )
    assert steps(days[0]) == [("ann", 1, 1, SILENT, None, None, None), ("bob", 1, 1, SILENT, None, None, None)]
    assert steps(days[1])[1:] == [("bob", 2, 1, "b", None, None, None)]
    assert steps(days[2]) == [("ann", 1, 1, SILENT, 3, True, 4.0), ("bob", 2, 1, "b", None, None, None)]
    assert steps(days[3]) == [("bob", 2, 1, "b", 4, True, 9.0)]


def test_control_keeps_no_path_open() -> None:
    """An entry in control on the last day of a path does not make it longer."""
    days = follow(news([("ann", "a", "treated")]), news(), news(), news([("ann", "b", "control")]), path_days=3)
    assert steps(days[3]) == [("ann", 1, 1, "a", 4, False, None)]


def test_merged_customers_have_one_path_in_order() -> None:
    """Two open paths of who is one customer by now: the steps of both, first seen when the first of them was; control is nothing."""
    before = follow(
        news([("ann", "b", "treated"), ("cid", "x", "control")]), news([("anon:1", "a", "treated")]), news([("ann", "c", "treated")])
    )[-1]
    seen = pl.when(pl.col("journey_id") == "a").then(pl.lit(date(2025, 1, 1))).otherwise("first_seen_on")
    merging = news(absorbed=[("anon:1", "ann"), ("cid", "ann")])
    after = follow_paths(before.with_columns(first_seen_on=seen), merging, today=at(4), path_days=60)
    assert [row[:4] for row in steps(after)] == [("ann", 1, 1, "b"), ("ann", 1, 2, "a"), ("ann", 1, 3, "c")]
    assert after["first_seen_on"].unique().to_list() == [date(2025, 1, 1)]


def test_how_each_step_ended_what_was_sent_and_who_answered_is_kept() -> None:
    """A response is counted for the last step entered before it; an ending is that of the spell it names."""
    last = follow(
        news([("ann", "a", "treated")]),
        news([("ann", "b", "treated")], endings=[("ann", "a", at(1), at(2), "interrupted")], sent=[("ann", "a", 2)]),
        news(responses=[("ann", at(2), 3), ("ann", at(3), 4), ("bob", at(3), 9)], sent=[("ann", "b", 1)]),
        news(sent=[("ann", "b", 1)]),
    )[-1]
    assert last.select("journey_id", "ended_on", "ended_reason", "sent", "responses").rows() == [
        ("a", at(2), "interrupted", 2, 3),
        ("b", None, None, 2, 4),
    ]


def test_the_order_of_rows_does_not_count() -> None:
    """Entries and money the other way round: the same rows in the same order."""
    entries = [(f"c{number % 7}", f"j{number % 3}", "treated" if number % 4 else "control") for number in range(14)]
    money = [(f"c{number}", at(day), 1.1 * number) for number in range(5) for day in (2, 3)]
    made = []
    for turn in (1, -1):
        first = follow(news(entries[::turn]))[0]
        second = follow_paths(first, news(entries[5:][::turn]), today=at(2), path_days=60)
        made.append(follow_paths(second, news(money=money[::turn]), today=at(3), path_days=60))
    assert made[0].equals(made[1])
    assert made[0].height


def closed_of(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Carry what closed from day to day."""
    carried = None
    for number, frame in enumerate(frames, start=1):
        carried = add_closed(carried, frame, today=at(number))
    assert carried is not None
    return carried


def test_closed_paths_are_counted_by_days_from_entry_and_from_first_sight() -> None:
    """One converts two days after its entry and twelve after its first sight; the other is left after three and thirteen."""
    days = follow(news([("ann", "a", "treated"), ("bob", "a", "treated")]), news(), news(money=[("ann", at(3), 2.5)]), news(), path_days=3)
    closed = closed_of(days)
    assert closed.select("path", "counted_from", "days", "converted", "left", "value").rows() == [
        ("a", ENTRY, 2, 1, 0, 2.5),
        ("a", ENTRY, 3, 0, 1, 0.0),
        ("a", SIGHT, 12, 1, 0, 2.5),
        ("a", SIGHT, 13, 0, 1, 0.0),
    ]


def test_a_summary_says_how_many_and_after_how_many_days() -> None:
    """Of 30 on one path 20 convert after a day, 5 are open: half after one day, three quarters never; rare paths are one row."""
    many = [f"c{number:02}" for number in range(30)]
    rare = [("r1", "b", "treated"), ("r2", "c", "treated")]
    begun = news([*((name, "a", "treated") for name in many[:25]), *rare])
    days = follow(
        begun, news([(name, "a", "treated") for name in many[25:]], [(name, at(2), 1) for name in many[:20]]), news(), path_days=2
    )
    summary = summarise(closed_of(days), open_paths(days[-1]), today=at(3))
    assert summary.select("path", "customers", "conversions", "value", "open", "lower_days", "median_days", "upper_days").rows() == [
        (OTHER_PATHS, 2, 0, 0.0, 0, None, None, None),
        ("a", 25, 20, 20.0, 5, 1.0, 1.0, None),
    ]
    assert summary["seen_median_days"].to_list() == [None, 11.0]


def test_a_summary_of_nothing_is_nothing() -> None:
    """Before anybody entered anything there is no path, and no row."""
    assert summarise(closed_of(follow(news())), open_paths(follow(news())[0]), today=FIRST).is_empty()
