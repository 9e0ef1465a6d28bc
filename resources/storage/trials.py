"""Stores for trials: in memory, gone afterwards, with what is looked back on kept whole and the rest forgotten as days pass.

What belongs here: which days of what are kept. What does not: how (``memory``, ``overlay``), or any trial.
"""

from collections.abc import Collection

from atc_pipeline.tables.store import Store
from resources.storage.memory import Memory
from resources.storage.overlay import Overlay

LOOKED_BACK_ON = (
    "activation",
    "customer_activity",
    "customer_metrics",
    "entry_profiles",
    "identity_map",
    "journey_assignments",
    "journey_entries",
    "journey_outcomes",
    "journey_state",
    "long_outcomes",
    "outbound_messages",
    "sent_events",
)
"""Tables that are looked back on for longer, of which all days are kept.

A step that finds a day gone may take it for one before the lake.
"""


class Trials:
    """Makes stores in memory that keep so many days of what is large."""

    def __init__(self, days_kept: int = 12, whole: Collection[str] = LOOKED_BACK_ON) -> None:
        self.days_kept, self.whole = days_kept, whole

    def empty(self) -> Store:
        """Return a store with nothing in it."""
        return Memory(days_kept=self.days_kept, whole=self.whole)

    def lasting(self) -> Store:
        """Return a store with nothing in it that forgets nothing."""
        return Memory()

    def over(self, below: Store) -> Store:
        """Return a store that has what is in another one, and what is written to it, which that one never sees."""
        return Overlay(below, Memory())
