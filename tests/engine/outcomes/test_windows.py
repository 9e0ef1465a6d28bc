"""What metrics add up to in a stretch of days."""

from datetime import date, timedelta

import polars as pl
import pytest

from atc_pipeline.journeys.portfolio import Metric, Selector
from atc_pipeline.outcomes.windows import sums_in
from atc_pipeline.rules.measured import LARGEST_DAY, kept_columns

DAY = date(2026, 3, 10)
ORDERED = Selector(("Ordered",))
COUNT, SUM, ANY, AVG = (
    Metric("orders", "count", ORDERED),
    Metric("money", "sum", ORDERED, "revenue"),
    Metric("ordered", "any", ORDERED),
    Metric("stars", "avg", ORDERED, "stars"),
)
MEASURED = (COUNT, SUM, ANY, AVG)


def metrics(*rows: tuple[str, int, int, int]) -> pl.LazyFrame:
    """One row per customer, days after DAY, number and micro-units; all metrics have the same."""
    return pl.LazyFrame(
        [
            {"customer_id": customer, "event_date": DAY + timedelta(days=days)}
            | {name: number if name.endswith(".n") else micro for name in kept_columns(MEASURED)}
            for customer, days, number, micro in rows
        ],
        schema={"customer_id": pl.String(), "event_date": pl.Date(), **kept_columns(MEASURED)},
    )


def spans(*rows: tuple[str, int, int]) -> pl.LazyFrame:
    """One row per customer, and how many days after DAY the span begins and ends."""
    return pl.LazyFrame(
        [(row, who, DAY + timedelta(days=after), DAY + timedelta(days=until)) for row, (who, after, until) in enumerate(rows)],
        schema={"row": pl.UInt32(), "customer_id": pl.String(), "after": pl.Date(), "until": pl.Date()},
        orient="row",
    )


def test_a_span_begins_after_its_first_date_and_ends_with_its_last() -> None:
    """The day of entry is before; the last day of the window is in it."""
    happened = metrics(("a", 0, 1, 1_000_000), ("a", 1, 2, 2_000_000), ("a", 3, 4, 4_500_000), ("a", 4, 8, 8_000_000))
    made = sums_in(happened, spans(("a", 0, 3), ("a", -90, 0)), MEASURED).collect()
    assert made.drop("row").rows() == [(6.0, 6.5, 1.0, 6.5, 6.0), (1.0, 1.0, 1.0, 1.0, 1.0)]


def test_what_arrived_on_several_days_is_added_up_and_no_order_of_rows_matters() -> None:
    """A day's late events are in a row of their own, and ten cents ten times are a unit to the last bit."""
    happened = metrics(*(("a", 1, 1, 100_000) for _ in range(10)), ("b", 1, 1, -100_000))
    made = [sums_in(rows, spans(("a", 0, 1), ("b", 0, 1)), MEASURED).collect() for rows in (happened, happened.reverse())]
    assert made[0].equals(made[1])
    assert made[0]["money"].to_list() == [1.0, -0.1]


def test_who_did_nothing_has_zeros_in_order() -> None:
    """Every span has a row, where it was."""
    made = sums_in(metrics(("b", 1, 1, 1)), spans(("a", 0, 9), ("b", 0, 9), ("a", 5, 9)), MEASURED).collect()
    assert made["row"].to_list() == [0, 1, 2]
    assert made["orders"].to_list() == [0.0, 1.0, 0.0]
    assert made.schema == {"row": pl.UInt32()} | dict.fromkeys(("orders", "money", "ordered", "stars_sum", "stars_count"), pl.Float64())


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_days_add_up_to_no_nonsense(sign: int) -> None:
    """Two days at the limit do not fit 64 bits; their sum does not turn its sign."""
    made = sums_in(metrics(("a", 1, 1, sign * LARGEST_DAY), ("a", 2, 1, sign * LARGEST_DAY)), spans(("a", 0, 2)), (SUM,)).collect()
    assert made["money"].item() == pytest.approx(sign * 2 * LARGEST_DAY / 1e6)
