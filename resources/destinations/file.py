"""The destination that writes files, for whoever fetches them.

What belongs here: what is in a file, and what becomes of it. What does not: files (``resources.storage.outbox``), other destinations.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import polars as pl

from resources.channels.channel import Clock
from resources.destinations.destination import MOST_ROWS, objects, outcome
from resources.storage.files import UnsureError
from resources.storage.outbox import Outbox


@dataclass(frozen=True)
class FileDestination:
    """Files of JSON lines, one of each request: to be read in the order of their names. None is ever changed; each is whole, or absent."""

    name: str
    outbox: Outbox
    now: Clock
    most: int = MOST_ROWS
    is_dry: bool = False
    numbers: Iterator[int] = field(default_factory=count, repr=False)

    def tell(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row per row: ``acknowledged`` where its line is in a file."""
        file = f"{self.name}.{self.now():%Y%m%dT%H%M%S%f}.{next(self.numbers):04}"
        try:
            self.outbox.put(rows["date"][0], file, [json.dumps(row, ensure_ascii=False) for row in objects(rows)])
        except UnsureError as problem:
            return outcome(rows, "unknown", f"outbox: written, and not known to last: {problem.strerror}")
        except OSError as problem:
            return outcome(rows, "failed", f"outbox: {problem.strerror or problem}")
        return outcome(rows, "acknowledged")
