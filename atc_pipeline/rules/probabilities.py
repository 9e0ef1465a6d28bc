"""Probabilities of goals: where one may come from, and what the decision asks of whoever knows them.

What belongs here: the words, and the interface. What does not: learning any (``learning``), or using them (``decision``).
"""

from collections.abc import Collection
from typing import Protocol

import numpy as np
import polars as pl

MODEL, RATES, PRIOR = "model", "rates", "prior"
SOURCES = (MODEL, RATES, PRIOR)
"""Where a probability comes from: learned of the customer, the journey's own rate, or what ``policy.prior_propensity`` says (SPEC 12)."""


class Probabilities(Protocol):
    """Knows how likely a customer reaches the goal of a journey, sent its messages and left alone, as of one day."""

    @property
    def columns(self) -> Collection[str]:
        """Name the profile's columns that are read."""

    def of(
        self, profiles: pl.DataFrame, customer: np.ndarray, journey: np.ndarray, journey_ids: pl.Series
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return propensity and baseline of each option, between 0 and 1, rounded like scores.

        ``customer``: by option, the row in ``profiles``. ``journey``: by option, the place in ``journey_ids``; what is no journey of the
        portfolio ("none") gets any value.
        """
