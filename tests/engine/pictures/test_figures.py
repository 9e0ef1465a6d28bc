"""Numbers as people read them, and axes whose marks are round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.pictures import figures
from atc_pipeline.pictures.axis import Axis, round_step


@pytest.mark.parametrize(
    ("value", "amount", "signed", "share"),
    [
        (None, "–", "–", "–"),
        (float("nan"), "–", "–", "–"),
        (0.0, "0", "0", "0 %"),
        (1234.56, "1,235", "+1,235", "123,456 %"),
        (123.4, "123", "+123", "12,340 %"),
        (12.34, "12.3", "+12.3", "1,234 %"),
        (1.234, "1.23", "+1.23", "123 %"),
        (0.2812, "0.28", "+0.28", "28 %"),
        (-0.0123, "−0.012", "−0.012", "−1.2 %"),
        (-0.00001, "−0.000010", "−0.000010", "0 %"),
        (0.099, "0.099", "+0.099", "9.9 %"),
    ],
)
def test_numbers_are_short(value: float | None, amount: str, signed: str, share: str) -> None:
    """Two or three figures, a sign where it is a difference, and nothing that is not known."""
    assert (figures.amount(value), figures.signed(value), figures.share(value)) == (amount, signed, share)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_marks_are_on_the_axis_and_round(low: float, span: float) -> None:
    """Few of them, in order, and where they belong."""
    axis = Axis(low, low + span, 100, 400)
    marked = axis.marks()
    assert len(marked) <= 8
    assert marked == sorted(marked)
    assert all(99 <= axis.at(value) <= 501 for value in marked)


@given(st.floats(1e-9, 1e12))
def test_a_step_is_no_less_than_asked(least: float) -> None:
    """And no more than two and a half times as much."""
    assert least * 0.999 <= round_step(least) <= 2.51 * least
