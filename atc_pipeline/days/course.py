"""A day from beginning to end: every step in order, over one store.

What belongs here: the order of the steps. What does not: any step of its own, and sending, which cannot be done again.
"""

from collections.abc import Mapping
from datetime import date

import polars as pl

from atc_pipeline.days import activation, audiences, customers, decision, events, identity, outcomes, paths
from atc_pipeline.days.step import Step, write_day
from atc_pipeline.decision.decide import SHARD
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.tables.store import Store


class Course:
    """The steps by name, in the order in which each finds what it reads; windows are kept from one day to the next."""

    def __init__(
        self,
        store: Store,
        portfolio: Portfolio,
        landed: events.Landed,
        *,
        delivered: pl.DataFrame | None = None,
        shard: int = SHARD,
    ) -> None:
        """``landed``: what arrived on a day. ``delivered``: the assignments that messages were delivered for already.

        ``shard``: how many customers are decided at once.
        """
        self.store = store
        self.ingestion = events.Ingestion(store, portfolio, landed)
        self.steps: Mapping[str, Step] = {
            "ingest": self.ingestion,
            "identities": identity.Identities(store, portfolio),
            "roll up": customers.Activity(store, portfolio),
            "metrics": customers.Metrics(store, portfolio),
            "profiles": customers.Profiles(store, portfolio),
            "segments": customers.Memberships(store, portfolio),
            "queues": decision.Queues(store, portfolio),
            "decision": decision.Decision(store, portfolio, delivered, shard=shard),
            "matrix": outcomes.Matrix(store, portfolio),
            "uplift": outcomes.Uplift(store, portfolio),
            "quality": outcomes.Quality(store, portfolio),
            "paths": paths.Described(store, portfolio),
            "messages": activation.Messages(store, portfolio),
            "members": audiences.Members(store, portfolio),
        }

    def run(self, day: date) -> None:
        """Make and write every table of the day."""
        for step in self.steps.values():
            write_day(self.store, step, day)
