"""Numbers: what makes a result the same whoever else is in the frame - whole micro-units, exact quotients, rounded scores."""

import math
from collections.abc import Iterable

import numpy as np
import polars as pl

MICRO = 1_000_000
"""Event values are rounded to six decimals and summed as integers, so that sums do not depend on row order (SPEC preamble)."""

LARGEST_VALUE = 1e11
"""Larger numbers are skipped like wrongly typed values: in micro-units one must fit an Int64, and 2.5e10 of them two
(``customers.accumulators``)."""

LEAST_POWER = -310

POWERS = np.array([float(f"1e{power}") for power in range(LEAST_POWER, 1 - LEAST_POWER)])
"""Powers of ten from 10^LEAST_POWER on."""

NEAR_POWER = np.array([max(-290, math.floor((exponent - 1023) * math.log10(2))) for exponent in range(2048)], dtype=np.int32)
"""By the exponent of a double: the power of ten that it is at least as large as; it may be as large as the next one, too.
What is smaller than 1e-290 is rounded like 1e-290: to nothing."""


def quotient(number: pl.Expr, by: float | pl.Expr) -> pl.Expr:
    """Divide exactly: Polars 2.1 multiplies a column with the inverse of a constant, which is one bit off for a value in four,
    and ``spend >= 0.05`` is then false for five cents."""
    return number / (by + pl.int_range(pl.len()) * 0)


def scores(rows: pl.DataFrame, expression: pl.Expr) -> pl.Series:
    """Work out a score by row, rounded to 9 significant digits before any comparison (SPEC preamble); null where it is no number."""
    number = rows.with_columns(expression.cast(pl.Float64).alias("score"))["score"].fill_null(np.nan).to_numpy()
    return pl.Series("score", significant(number), nan_to_null=True)


def significant(number: np.ndarray) -> np.ndarray:
    """Round to 9 significant digits; NaN where it is no number."""
    # Three times as fast as Polars' round_sig_figs, which takes a logarithm and a power of each number: here the power of two a
    # double is stored with says which power of ten it is near, and one comparison says on which side.
    size = np.abs(number)
    power = NEAR_POWER[size.view(np.int64) >> 52]
    power += size >= POWERS[power + 1 - LEAST_POWER]
    scale = POWERS[8 - power - LEAST_POWER]
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = np.copysign(np.floor(size * scale + 0.5) / scale, number)  # halves away from zero, as Polars does
    rounded[~np.isfinite(rounded)] = np.nan
    return np.asarray(rounded)


def one_of(cases: Iterable[tuple[pl.Expr, pl.Expr]], otherwise: pl.Expr) -> pl.Expr:
    """Return the value of the first case whose test holds."""
    return pl.coalesce(*(pl.when(test).then(value) for test, value in cases), otherwise)
