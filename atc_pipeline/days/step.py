"""What a day of a step is: something that makes the day's tables of what a store holds, of everybody or of one shard of the customers.

What belongs here: what all steps have in common. What does not: any step, and where the work on a shard is done (``resources.runners``).
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Protocol, runtime_checkable

import polars as pl

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.tables.store import Store, Tables


class Step(Protocol):
    """Makes the tables of one day after the other; of days that follow each other it may keep what it has read."""

    @property
    def portfolio(self) -> Portfolio:
        """By which portfolio it makes them."""

    @property
    def made_by(self) -> Mapping[str, str] | None:
        """What its columns are made by, to be written with them and asked for again; None where nobody asks."""

    def make(self, day: date) -> Tables:
        """Return the day's tables by name. Writes nothing."""


@runtime_checkable
class ByShard(Step, Protocol):
    """A step that may be made of one shard of the customers after the other, each over a store of its own (``days.shards``)."""

    @property
    def is_by_shard(self) -> bool:
        """Whether it may this time: days that are only made again in part are made of everybody at once."""

    @property
    def reads_events(self) -> bool:
        """Whether it reads all events of the day, which then are divided among the shards first."""

    def gather(self, table: str, parts: Sequence[pl.DataFrame]) -> pl.DataFrame | None:
        """Return a table that is not by customer, of what the shards have of it; None of one that is, and lies in parts."""


@runtime_checkable
class Joint(ByShard, Protocol):
    """A step by shard of which something takes everybody: a summary of each shard goes into one small answer, and that into each shard.

    ``make`` is ``begin``, ``combine`` and ``finish`` of one shard with everybody in it.
    """

    def before(self, day: date) -> object:
        """Return what each shard has to know to begin, of a store that has everybody."""

    def begin(self, day: date, known: object) -> tuple[object, object]:
        """Return the first half of a shard's work, to be finished, and its summary; ``known``: what ``before`` has returned."""

    def combine(self, summaries: Sequence[object]) -> object:
        """Return what follows from the summaries of all shards."""

    def finish(self, day: date, half: object, small: object) -> Tables:
        """Return the shard's tables; ``small``: what ``combine`` has returned."""

    def agree(self, made_by: Sequence[Mapping[str, str] | None]) -> Mapping[str, str] | None:
        """Return what the day is made by, of what each shard says."""


def write_day(store: Store, step: Step, day: date) -> None:
    """Make a day's tables, and write them."""
    for table, frame in step.make(day).items():
        store.write(table, day, frame, step.made_by, step.portfolio.fingerprint)
