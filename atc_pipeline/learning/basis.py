"""The basis: how features of the profile become the numbers that a model adds up (SPEC 12).

What belongs here: clipping, scaling, hinges, indicators, and where their bounds lie. What does not: any coefficient (``fit``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLIPPED = (2, 98)
"""Percentiles that a number is clipped to, and that become 0 and 1."""
KNOTS = (35, 65)
"""Percentiles from which on a number may have another slope."""
UNIT = 2.0**-20
"""Numbers of the basis are whole multiples of this, and weights of a power of two that fits: then sums are exact, whatever adds them up
in which order (``exactly``)."""
LARGEST = 1e300
"""Larger numbers count for so much: the distance of any two must be a number."""
DIGITS = 6
"""Significant digits that what is learned is kept with, as of purchase models."""


@dataclass(frozen=True)
class Feature:
    """A column of the profile: the values that become 0 and 1, and its knots between these. Of a boolean these are 0, 1, and none."""

    name: str
    low: float
    high: float
    knots: tuple[float, ...]


@dataclass(frozen=True)
class Term:
    """One number that is made of a feature: ``""`` the value itself, ``>35`` and ``>65`` beyond a knot, ``?`` whether there is none."""

    name: str
    mean: float
    scale: float


@dataclass(frozen=True)
class Basis:
    """Features, and the terms made of them that were not the same for everybody."""

    features: tuple[Feature, ...]
    terms: tuple[Term, ...]

    @classmethod
    def of(cls, rows: pl.DataFrame, features: Mapping[str, pl.DataType]) -> Self:
        """Find where bounds lie in these rows; what is the same for all of them says nothing, and is left out."""
        bounded = tuple(_feature(name, rows[name]) for name in features)
        values = _columns(rows, bounded)
        terms = []
        for name, column in values.items():
            mean, scale = float(np.mean(column)), float(np.std(column))
            if scale > UNIT:
                terms.append(Term(name, rounded(mean), rounded(scale)))
        return cls(bounded, tuple(terms))

    def matrix(self, rows: pl.DataFrame) -> Floats:
        """Return a row per row and a column per term, each between 0 and 1 and a multiple of ``UNIT``."""
        columns = _columns(rows, self.features)
        if not self.terms:
            return np.zeros((rows.height, 0))
        return np.column_stack([columns[term.name] for term in self.terms])

    def standardised(self, rows: pl.DataFrame) -> Floats:
        """Return the same, each term with mean 0 and deviation 1 where the basis was found."""
        return (self.matrix(rows) - self.means) / self.scales

    @property
    def means(self) -> Floats:
        """By term, its mean where the basis was found."""
        return np.array([term.mean for term in self.terms])

    @property
    def scales(self) -> Floats:
        """By term, its standard deviation there."""
        return np.array([term.scale for term in self.terms])


def exactly(matrix: Floats, weights: Floats) -> Floats:
    """Multiply a basis with weights, a column each, so that the sums are the same in whatever order they are added up.

    Weights are rounded to multiples of a power of two that leaves room for the column's largest sum in a double: what a column gives does
    not depend on which others there are.
    """
    largest = np.maximum(np.abs(weights).sum(axis=0), 1.0)
    unit = np.exp2(np.ceil(np.log2(largest)) - (53 - 20 - 1))
    return np.asarray(matrix @ (np.round(weights / unit) * unit))


def rounded(value: float) -> float:
    """Round as what is learned is kept."""
    return float(f"{value:.{DIGITS - 1}e}")


def feature_of(term: str) -> str:
    """Name the feature that a term is made of."""
    return term.rstrip("?").partition(">")[0]


def _feature(name: str, values: pl.Series) -> Feature:
    if values.dtype == pl.Boolean():
        return Feature(name, 0.0, 1.0, ())
    known = _numbers(values)
    known = np.sort(known[np.isfinite(known)])
    if not len(known):
        return Feature(name, 0.0, 0.0, ())
    low, high = (float(bound) for bound in np.percentile(known, CLIPPED))
    scaled = _scaled(known, low, high)
    return Feature(name, low, high, tuple(_multiple(float(knot)) for knot in np.percentile(scaled, KNOTS)))


def _numbers(values: pl.Series) -> Floats:
    """Return numbers, NaN where there is none."""
    numbers = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return np.where(np.isfinite(numbers), np.clip(numbers, -LARGEST, LARGEST), np.nan)


def _multiple(value: float) -> float:
    return float(np.round(value / UNIT) * UNIT)


def _scaled(values: Floats, low: float, high: float) -> Floats:
    """Return values between 0 and 1; NaN stays."""
    if not high > low:
        return np.zeros_like(values)
    return np.round(np.clip((values - low) / (high - low), 0.0, 1.0) / UNIT) * UNIT


def _columns(rows: pl.DataFrame, features: Sequence[Feature]) -> dict[str, Floats]:
    """Return the values of every term that the features can have, by its name."""
    columns: dict[str, Floats] = {}
    for feature in features:
        values = _numbers(rows[feature.name])
        is_missing = ~np.isfinite(values)
        scaled = np.where(is_missing, 0.0, _scaled(values, feature.low, feature.high))
        columns[feature.name] = scaled
        for percentile, knot in zip(KNOTS, feature.knots, strict=False):
            columns[f"{feature.name}>{percentile}"] = np.where(is_missing, 0.0, np.maximum(scaled - knot, 0.0))
        columns[f"{feature.name}?"] = is_missing.astype(np.float64)
    return columns
