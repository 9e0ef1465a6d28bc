"""A day of who is who: the map of the day before, and what today's events say.

What belongs here: what a day of it reads. What does not: who is whom (``identity.map``).
"""

from datetime import date

from atc_pipeline.identity.map import map_identities
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.tables.store import Store, Tables, yesterday_of


class Identities:
    """Carries the map from day to day."""

    made_by = None

    def __init__(self, store: Store, portfolio: Portfolio) -> None:
        self.store, self.portfolio = store, portfolio

    def make(self, day: date) -> Tables:
        """Return ``identity_map`` and ``identity_changes``."""
        yesterday = yesterday_of(self.store, "identity_map", day, self.portfolio.starts_on)
        events = self.store.lazy("raw_events", day)
        identities = map_identities(events, yesterday, today=day, blocked=self.portfolio.blocked)
        return {"identity_map": identities.map, "identity_changes": identities.changes}
