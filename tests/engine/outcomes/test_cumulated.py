"""Money since the entry: added up day by day, in both arms."""

from datetime import date, timedelta
from statistics import mean, stdev

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.outcomes.cumulated import SPANS, cumulate

ENTERED = date(2026, 3, 1)


def on(day: int) -> date:
    """So many days after the entry."""
    return ENTERED + timedelta(days=day)


def spans(*rows: tuple[int, str, str, int]) -> pl.DataFrame:
    """Number, customer, arm and window of entries."""
    return pl.DataFrame(
        [(number, name, "welcome", arm, ENTERED, window, on(window + 3)) for number, name, arm, window in rows], schema=SPANS, orient="row"
    )


def money(*rows: tuple[int, str, int, float]) -> pl.LazyFrame:
    """Day of arrival, customer, day of the event, money."""
    schema = {"date": pl.Date(), "customer_id": pl.String(), "event_date": pl.Date(), "micro": pl.Int64()}
    return pl.LazyFrame(
        [(on(arrived), name, on(happened), round(1_000_000 * spent)) for arrived, name, happened, spent in rows],
        schema=schema,
        orient="row",
    )


THREE = spans((0, "a", "treated", 3), (1, "b", "treated", 3), (2, "c", "control", 3))


def test_a_curve_is_the_mean_of_what_each_had_spent_by_then() -> None:
    """With the standard error of that mean; who spent nothing counts as nothing."""
    rows = cumulate(THREE, money((1, "a", 1, 5.0), (3, "a", 3, 2.5), (2, "b", 2, 1.0), (2, "c", 2, 4.0)))
    by_day = {(arm, days): (number, spent, error) for _, arm, days, number, spent, error in rows.iter_rows()}

    for day, amounts in {1: [5.0, 0.0], 2: [5.0, 1.0], 3: [7.5, 1.0]}.items():
        assert by_day["treated", day] == (2, pytest.approx(mean(amounts)), pytest.approx(stdev(amounts) / 2**0.5))
    assert [by_day["control", day][1] for day in (1, 2, 3)] == [0.0, 4.0, 4.0]


def test_the_day_of_entry_and_what_comes_after_the_window_or_too_late_do_not_count() -> None:
    """As outcomes have it: what arrives after the entry has matured changes nothing."""
    rows = cumulate(THREE, money((0, "a", 0, 50.0), (4, "a", 4, 50.0), (7, "a", 3, 50.0), (6, "b", 3, 1.0)))

    assert rows.filter(arm="treated", days=3)["mean"].item() == 0.5


def test_a_customer_of_several_names_is_one() -> None:
    """Two names of one entry add up, and it counts once."""
    names = pl.concat([THREE, THREE.filter(row=0).with_columns(customer_id=pl.lit("older"))])
    rows = cumulate(names, money((1, "a", 1, 5.0), (1, "older", 1, 2.0), (2, "older", 2, 1.0)))

    assert rows.filter(arm="treated")["mean"].to_list() == [3.5, 4.0, 4.0]
    assert rows.filter(arm="treated")["customers"].to_list() == [2, 2, 2]


def test_no_order_of_rows_matters() -> None:
    """Same bytes."""
    spent = money(*((day, name, day, day / 7) for day in (1, 2, 3) for name in "abc"))

    assert_frame_equal(cumulate(THREE, spent), cumulate(THREE.reverse(), spent.reverse()), check_exact=True)


def test_entries_of_a_shorter_window_are_left_out() -> None:
    """A window that was made longer: those who were not watched so long would look as if they had stopped."""
    mixed = spans((0, "a", "treated", 2), (1, "b", "treated", 3), (2, "c", "control", 3))
    rows = cumulate(mixed, money((1, "a", 1, 9.0)))

    assert rows.filter(arm="treated")["customers"].to_list() == [1, 1, 1]


def test_nothing_comes_of_nothing() -> None:
    """No entries, no curve."""
    assert cumulate(THREE.clear(), money()).is_empty()
