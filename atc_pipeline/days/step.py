"""What a day of a step is: something that makes the day's tables of what a store holds.

What belongs here: what all steps have in common. What does not: any step.
"""

from collections.abc import Mapping
from datetime import date
from typing import Protocol

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


def write_day(store: Store, step: Step, day: date) -> None:
    """Make a day's tables, and write them."""
    for table, frame in step.make(day).items():
        store.write(table, day, frame, step.made_by, step.portfolio.fingerprint)
