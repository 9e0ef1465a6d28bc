"""A day of outcomes: the segment matrix.

What belongs here: what a day of it reads. What does not: counting (``outcomes.matrix``), pictures.
"""

from datetime import date

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.outcomes.matrix import segment_matrix
from atc_pipeline.tables.store import Store, Tables, yesterday_of


class Matrix:
    """Counts how large each micro-segment is, who came and went, and what serves most of it."""

    made_by = None

    def __init__(self, store: Store, portfolio: Portfolio) -> None:
        self.store, self.portfolio = store, portfolio

    def make(self, day: date) -> Tables:
        """Return ``segment_matrix``."""
        yesterday = yesterday_of(self.store, "micro_segment_memberships", day, self.portfolio.starts_on)
        today, answers = self.store.lazy("micro_segment_memberships", day), self.store.lazy("journey_assignments", day)
        return {"segment_matrix": segment_matrix(today, yesterday, answers, today=day).collect()}
