"""Arithmetic of the dialect that gives a row the same bits whoever else is in the frame (SPEC preamble, ADR 16).

What belongs here: the operators Polars works out differently for a constant and for a column. What does not: reading them.

Polars 2.1 multiplies with the inverse where all rows are divided by one number (``x / 10.0`` is then one bit off for a value in
four), takes ``x + 0.0`` for ``x`` (which keeps the sign of -0.0), and raises to a power by repeated multiplication where all
rows have one exponent. Whether "all rows have one" depends on how many rows there are, and on how a column was made. A struct
holds one value per row in each of its fields, whatever it is made of: so the operands go through one.
"""

import operator
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl

_OPERATORS: Mapping[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": lambda number, by: number.cast(pl.Float64) * by,  # whole numbers would wrap
    "/": operator.truediv,
    "%": lambda number, by: pl.map_batches([number, by], _remainder, return_dtype=pl.Float64, is_elementwise=True),
}
_BY_REPEATED_MULTIPLICATION = range(2, 10)


def total(signs: Sequence[str], numbers: Sequence[pl.Expr]) -> pl.Expr:
    """Add and subtract from left to right; whole numbers stay whole."""
    return _rowwise(numbers, lambda fields: _from_the_left(signs, fields))


def product(signs: Sequence[str], numbers: Sequence[pl.Expr]) -> pl.Expr:
    """Multiply, divide and take remainders from left to right, as doubles."""
    return _from_the_left(signs, numbers) if set(signs) == {"*"} else _rowwise(numbers, lambda fields: _from_the_left(signs, fields))


def power(base: pl.Expr, exponent: pl.Expr, *, is_constant: bool) -> pl.Expr:
    """Raise to a power; ``is_constant`` says that the exponent is one number for all rows."""
    base, exponent = base.cast(pl.Float64), exponent.cast(pl.Float64)  # a whole number to a negative power would stop the run
    return base.pow(exponent) if is_constant else _rowwise((base, exponent), _power)


def _rowwise(values: Sequence[pl.Expr], work_out: Callable[[Sequence[pl.Expr]], pl.Expr]) -> pl.Expr:
    names = [str(number) for number in range(len(values))]
    held = pl.struct(value.alias(name) for name, value in zip(names, values, strict=True))
    return held.struct.with_fields(work_out([pl.field(name) for name in names]).alias("=")).struct.field("=")


def _from_the_left(signs: Sequence[str], numbers: Sequence[pl.Expr]) -> pl.Expr:
    result, *rest = numbers
    for sign, number in zip(signs, rest, strict=True):
        result = _OPERATORS[sign](result, number)
    return result


def _power(of: Sequence[pl.Expr]) -> pl.Expr:
    """Do for every row what Polars does for one exponent of all rows."""
    base, exponent = of
    result = pl.when(exponent == 1).then(base).when(exponent == 0.5).then(base.sqrt())
    for times in _BY_REPEATED_MULTIPLICATION:
        result = result.when(exponent == times).then(_from_the_left("*" * (times - 1), [base] * times))
    return result.otherwise(base.pow(exponent))


def _remainder(of: Sequence[pl.Series]) -> pl.Series:
    """Take the exact remainder, with the sign of the number divided; null where a whole number is divided by zero."""
    number, by = of
    with np.errstate(invalid="ignore"):
        rest = pl.Series(np.fmod(number.cast(pl.Float64).to_numpy(), by.cast(pl.Float64).to_numpy()))
    is_unknown = number.is_null() | by.is_null() | ((by == 0) & by.dtype.is_integer() & number.dtype.is_integer())
    return rest.set(is_unknown, None)
