"""A day of entries: what is read to write down who was exposed to what.

What belongs here: what a day reads, and how far back. What does not: what an entry is (``outcomes.entries``), the decision.
"""

from collections.abc import Callable
from datetime import date
from functools import partial

import polars as pl

from atc_pipeline.days.customers import profiles_of
from atc_pipeline.days.measured import Measured
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.outcomes.entries import Known, write_entries
from atc_pipeline.tables.store import Store

Versions = Callable[[str], Portfolio | None]
"""Returns a version of the portfolio by its fingerprint; None where it is gone."""


class Entries:
    """Writes down who entered which journey, as the decision of the day says."""

    def __init__(self, store: Store, portfolio: Portfolio, measured: Measured, versions: Versions | None = None) -> None:
        """``measured``: what adds up what customers did before.

        ``versions``: what decided answers that stand; without it, or where it is gone, they are measured as ``portfolio`` says.
        """
        self.store, self.portfolio, self.versions = store, portfolio, versions or (lambda _: None)
        self.measured = measured

    def of(self, day: date, assignments: pl.DataFrame, state: pl.DataFrame) -> pl.DataFrame:
        """Return ``journey_entries``; ``assignments``, ``state``: as they have just been decided."""
        columns = {"customer_id", "preferred_channel"} if self.portfolio.engagement is not None else {"customer_id"}
        known = Known(
            profiles_of(self.store, self.portfolio, day, columns),
            self.store.lazy("micro_segment_memberships", day),
            partial(self.measured.sums, day),
        )
        decided_by = assignments.filter("stands")["portfolio"].unique().drop_nulls()
        named = {name: self.versions(name) for name in decided_by.sort() if name != self.portfolio.fingerprint}
        versions = {name: portfolio for name, portfolio in named.items() if portfolio is not None}
        return write_entries(assignments, state, known, self.portfolio, today=day, versions=versions)
