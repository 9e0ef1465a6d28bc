"""What the certificate says: a claim, how it was tried, what it had to reach, what it reached; and a world to try it on.

What belongs here: the forms. What does not: any claim, any world (``sample.world``, which nobody here imports), or the page that
the claims are written on (``docs.certificate``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Protocol

import polars as pl

from atc_pipeline.tables.store import Store


class Scale(StrEnum):
    """How much of it is tried: ``quick`` is what every change is tested by, ``full`` what the page says."""

    QUICK = "quick"
    FULL = "full"


@dataclass(frozen=True)
class Claim:
    """One row of the certificate.

    ``figures``: what came out, by scenario (or journey), in words with numbers, in the order to be shown.
    """

    name: str
    how: str
    bar: str
    figures: Mapping[str, str]
    passed: bool
    seconds: float = 0.0
    """Of wall time; filled in by whoever has a clock."""


class World(Protocol):
    """Customers who buy and are bought by nothing but chance and the messages that reach them; what these do is known."""

    @property
    def days(self) -> Sequence[date]:
        """Return its days, in order."""

    @property
    def portfolio(self) -> str:
        """Return the ``journeys.yaml`` it is run with."""

    def arriving(self, day: date, delivered: pl.DataFrame) -> bytes:
        """Return the lines of the Segment Spec that arrive on a day. To be asked day by day, in order.

        ``delivered``: ``customer_id, journey_id, step_day`` of the messages delivered that day; it is all that the world hears.
        """

    def world_of(self) -> pl.Expr:
        """Return which of the worlds in it a ``customer_id`` belongs to: many small ones may be run as one."""

    def planted(self, entries: pl.DataFrame) -> pl.Series:
        """Return, per entry, the difference in expected money within its window that the journey's messages make (or would have made).

        ``entries``: ``customer_id, journey_id, entered_on, window_days``, of treated and control alike.
        """


class Worlds(Protocol):
    """Makes worlds: ``scenario`` is a name of theirs, ``count`` how many are in one; the same seed makes the same world."""

    def __call__(self, scenario: str, seed: int, *, count: int, customers: int, days: int) -> World:
        """Return a world that nothing has happened in yet."""


class Stores(Protocol):
    """Makes stores for trials, that nobody needs afterwards."""

    def empty(self) -> Store:
        """Return a store with nothing in it; of large tables it may forget all but the last days."""

    def lasting(self) -> Store:
        """Return a store with nothing in it that forgets nothing."""

    def over(self, below: Store) -> Store:
        """Return a store that has what is in another one, and what is written to it, which that one never sees."""
