"""A day of entries: what is read to write down who was exposed to what.

What belongs here: what a day reads, and how far back. What does not: what an entry is (``outcomes.entries``), the decision.
"""

from collections.abc import Callable
from datetime import date, timedelta

import polars as pl

from atc_pipeline.days.customers import profiles_of
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.outcomes.entries import Known, days_looked_back, metrics_needed, write_entries
from atc_pipeline.rules.measured import kept_columns
from atc_pipeline.rules.people import survivors
from atc_pipeline.tables.store import Store

Versions = Callable[[str], Portfolio | None]
"""Returns a version of the portfolio by its fingerprint; None where it is gone."""
_AHEAD = 2
"""Days by which an event may be dated after the day on which it arrived, rounded up (SPEC 1: ``from_the_future``)."""


class Entries:
    """Writes down who entered which journey, as the decision of the day says."""

    def __init__(self, store: Store, portfolio: Portfolio, versions: Versions | None = None) -> None:
        """``versions``: what decided answers that stand; without it, or where it is gone, they are measured as ``portfolio`` says."""
        self.store, self.portfolio, self.versions = store, portfolio, versions or (lambda _: None)
        columns = {"date": pl.Date(), "customer_id": pl.String(), "event_date": pl.Date(), **kept_columns(metrics_needed(portfolio))}
        # The day of the entry is one of the days that are looked back on, and is read anyway.
        self.days_before = days_looked_back(portfolio) - 1 + _AHEAD
        self.metrics = Rolling(store, "customer_metrics", self.days_before, columns, since=portfolio.starts_on, may_lack=True)

    def of(self, day: date, assignments: pl.DataFrame, state: pl.DataFrame) -> pl.DataFrame:
        """Return ``journey_entries``; ``assignments``, ``state``: as they have just been decided."""
        merged = absorbed(self.store.lazy("identity_map", day), since=day - timedelta(days=self.days_before)).collect().lazy()
        known = Known(
            profiles_of(
                self.store, self.portfolio, day, {"customer_id", "preferred_channel"} if self.portfolio.engagement else {"customer_id"}
            ),
            self.store.lazy("micro_segment_memberships", day),
            survivors(self.metrics.until(day), merged),
        )
        decided_by = assignments.filter("stands")["portfolio"].unique().drop_nulls()
        found = {name: self.versions(name) for name in decided_by.sort() if name != self.portfolio.fingerprint}
        others = {name: portfolio for name, portfolio in found.items() if portfolio is not None}
        return write_entries(assignments, state, known, self.portfolio, today=day, versions=others)
