"""Arithmetic of the dialect is that of the floating-point standard, on each row's own values.

What belongs here: numbers against NumPy's. What does not: that a row's value does not depend on others (``test_dialect``).
"""

from collections.abc import Callable
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.journeys.dialect import compile_condition, compile_number

SCHEMA = {"spend": pl.Float64(), "orders": pl.Int64(), "weight": pl.Float64()}
Row = dict[str, float]
Value = Callable[[Row], np.float64]
OPERATORS: dict[str, Callable[[np.float64, np.float64], np.float64]] = {
    "+": lambda a, b: np.float64(a + b),
    "-": lambda a, b: np.float64(a - b),
    "*": lambda a, b: np.float64(a * b),
    "/": lambda a, b: np.float64(a / b),
    "%": np.fmod,
}


def written(random: Random, depth: int) -> tuple[str, Value]:
    """Write a random calculation, and what it comes to for a row."""
    if not depth:
        name = random.choice(list(SCHEMA))
        number = random.choice([0.0, 1.0, 3.0, 7.0, 10.0, 100.0, 0.1, 1e-320, 1e300])
        return random.choice([(name, lambda row: np.float64(row[name])), (repr(number), lambda _: np.float64(number))])
    (text, value), (text_of_other, other) = written(random, depth - 1), written(random, depth - 1)
    sign = random.choice(list(OPERATORS))
    zero = 0.0 if set(text) <= set("orders()+- ") else -0.0  # a whole number has no -0, which 1 could be divided by
    negative = (f"-({text})", lambda row: np.float64(zero - value(row)))
    return random.choice([negative, *[(f"({text}) {sign} ({text_of_other})", lambda row: OPERATORS[sign](value(row), other(row)))] * 3])


@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_numbers_are_those_of_the_standard(random: Random, depth: int) -> None:
    """Each row comes to what NumPy makes of its own numbers alone, bit for bit."""
    text, value = written(random, depth)
    spends = [0.0, 0.3, 3.0, 19.99, -5.05, 1e308, float("inf"), random.uniform(-1e3, 1e3)]
    rows = pl.DataFrame({"spend": spends, "orders": [0, 1, 2, 3, 7, 9, 10, 49]}).with_columns(
        weight=pl.lit(random.choice([0.0, 0.7, 30.0]))
    )
    with np.errstate(all="ignore"):
        expected = [value({name: float(number) for name, number in row.items()}) for row in rows.iter_rows(named=True)]

    found = rows.with_columns(compile_number(text, SCHEMA).expr.alias("="))["="]

    np.testing.assert_array_equal(found.to_numpy(), expected, err_msg=text)
    known = ~np.isnan(expected)
    if "orders" not in text:  # a whole number has no -0
        np.testing.assert_array_equal(np.signbit(found.to_numpy())[known], np.signbit(expected)[known], err_msg=text)


@pytest.mark.parametrize("height", [1, 2, 3, 100])
def test_a_tenth_of_three_is_three_tenths_for_everybody(height: int) -> None:
    """Polars multiplies with the inverse of a constant, from two rows on: a segment then depended on who else is a customer."""
    rows = pl.DataFrame({"spend": [3.0] * height}).with_columns(weight=pl.lit(10.0))

    for text in ("spend / 10.0 = 0.3", "spend / weight = 0.3", "1 * spend / coalesce(10, spend) = 0.3", "spend / (5 + 5) = 0.3"):
        assert rows.select(compile_condition(text, SCHEMA).expr).to_series().to_list() == [True] * height


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("orders * 9000000000000000000", 4.5e19),
        ("orders + 9223372036854775807", 2.0**63),
        ("orders * orders * 4611686018427387904", 25 * 2.0**62),
        ("orders % 3", 2.0),
        ("-orders % 3", -2.0),
        ("orders % 0", None),
        ("spend % orders", 3.85),
        ("1 % 0.1", 0.09999999999999995),
    ],
)
def test_whole_numbers_do_not_wrap(text: str, expected: float | None) -> None:
    """A product that is too large for a whole number is a large number, not a negative one."""
    rows = pl.DataFrame({"orders": [5, 5], "spend": [3.85, 3.85]})

    assert rows.with_columns(compile_number(text, SCHEMA).expr.alias("="))["="].to_list() == [expected] * 2


def test_a_power_does_not_depend_on_who_else_is_there() -> None:
    """Polars multiplies repeatedly where all rows have one exponent, and takes a logarithm where they have several."""
    rows = pl.DataFrame({"spend": [9.440934857726688, 2.5], "orders": [9, 2]})
    power = compile_number("pow(spend, orders)", SCHEMA).expr
    constant = compile_number("pow(spend, 9)", SCHEMA).expr

    assert rows.select(power).to_series()[0] == rows[:1].select(power).item() == rows.select(constant).to_series()[0]
