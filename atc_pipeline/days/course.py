"""A day from beginning to end: every step in order, over one store.

What belongs here: the order of the steps. What does not: any step of its own, and sending, which cannot be done again.
"""

from collections.abc import Callable, Mapping
from datetime import date
from functools import partial

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
        self.steps_of: Mapping[str, Callable[[Store], Step]] = {
            "ingest": lambda _: self.ingestion,
            "identities": partial(identity.Identities, portfolio=portfolio),
            "roll up": partial(customers.Activity, portfolio=portfolio),
            "metrics": partial(customers.Metrics, portfolio=portfolio),
            "profiles": partial(customers.Profiles, portfolio=portfolio),
            "segments": partial(customers.Memberships, portfolio=portfolio),
            "queues": partial(decision.Queues, portfolio=portfolio),
            "decision": partial(decision.Decision, portfolio=portfolio, delivered=delivered, shard=shard),
            "matrix": partial(outcomes.Matrix, portfolio=portfolio),
            "uplift": partial(outcomes.Uplift, portfolio=portfolio),
            "quality": partial(outcomes.Quality, portfolio=portfolio),
            "paths": partial(paths.Described, portfolio=portfolio),
            "messages": partial(activation.Messages, portfolio=portfolio),
            "members": partial(audiences.Members, portfolio=portfolio),
        }
        """Returns each step over a store, be it this one or a shard of it."""
        self.steps = {name: step_of(store) for name, step_of in self.steps_of.items()}

    def run(self, day: date) -> None:
        """Make and write every table of the day."""
        for step in self.steps.values():
            write_day(self.store, step, day)
