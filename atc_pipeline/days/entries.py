"""A day of entries: what is read to write down who was exposed to what.

What belongs here: what a day reads, and how far back. What does not: what an entry is (``outcomes.entries``), the decision.
"""

from collections.abc import Callable, Mapping
from datetime import date
from functools import partial

import polars as pl

from atc_pipeline.days.customers import profiles_of
from atc_pipeline.days.measured import Measured
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.learning.model import GoalProbabilities, of_entries
from atc_pipeline.learning.shares import InForce
from atc_pipeline.learning.tables import entry_profiles
from atc_pipeline.outcomes.entries import IS_ENTRY, Known, write_entries
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

    def of(
        self,
        day: date,
        assignments: pl.DataFrame,
        state: pl.DataFrame,
        learned: GoalProbabilities | None = None,
        in_force: Mapping[str, InForce] | None = None,
    ) -> dict[str, pl.DataFrame]:
        """Return ``journey_entries`` and ``entry_profiles``; ``assignments``, ``state``: as they have just been decided.

        ``learned``: what is known of goals. ``in_force``: the shares of variants that have adapted.
        """
        profiles = self._profiles(day, assignments)
        columns = {"customer_id", "preferred_channel"} if self.portfolio.engagement is not None else {"customer_id"}
        known = Known(
            profiles_of(self.store, self.portfolio, day, columns),
            self.store.lazy("micro_segment_memberships", day),
            partial(self.measured.sums, day),
            None if learned is None else of_entries(learned, profiles),
            {id_: (of.since, {share.id: share.share for share in of.shares}) for id_, of in (in_force or {}).items()},
        )
        decided_by = assignments.filter("stands")["portfolio"].unique().drop_nulls()
        named = {name: self.versions(name) for name in decided_by.sort() if name != self.portfolio.fingerprint}
        versions = {name: portfolio for name, portfolio in named.items() if portfolio is not None}
        entries = write_entries(assignments, state, known, self.portfolio, today=day, versions=versions)
        return {"journey_entries": entries, "entry_profiles": profiles.select(*entry_profiles(self.portfolio).schema)}

    def _profiles(self, day: date, assignments: pl.DataFrame) -> pl.DataFrame:
        """Return what learning knows of those who enter, by customer and journey."""
        features = [] if self.portfolio.learning is None else [*self.portfolio.learning.features]
        entered = assignments.filter(IS_ENTRY).select("customer_id", "journey_id", date=pl.lit(day)).sort("customer_id", "journey_id")
        profiles = profiles_of(self.store, self.portfolio, day, {"customer_id", *features}).select("customer_id", *features)
        return entered.lazy().join(profiles, on="customer_id", how="left", maintain_order="left").collect()
