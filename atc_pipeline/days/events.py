"""A day of ingestion: from what has landed to accepted events and rejects.

What belongs here: what a day of it reads, and the account of its lines. What does not: which line is accepted (``events.ingest``),
files (``resources.storage.landing``).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Protocol

import polars as pl

from atc_pipeline.events.ingest import DEDUPLICATION_DAYS, Ingested, ingest
from atc_pipeline.events.lines import Lines
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.tables.store import Store, Tables, window

Landed = Callable[[date], Iterable[Sequence[Lines]]]
"""Returns the lines that arrived on a day, in blocks."""


class Room(Protocol):
    """Where a day that is larger than memory is put while it is made."""

    def clear(self) -> None:
        """Forget what was put there for an earlier day."""

    def park(self, frame: pl.DataFrame) -> pl.LazyFrame:
        """Put a table there, and return how to read it again."""


@dataclass(frozen=True)
class Counts:
    """How many lines arrived on a day, and what became of them; None where that is known only once the table is written."""

    lines: int
    accepted: int | None
    dropped: list[int]
    rejected: int | None
    erased: int
    mended: int

    @classmethod
    def of(cls, day: Ingested) -> "Counts":
        """Count what is known of a day that is made and not written yet."""
        return cls(day.lines, _height(day.accepted), day.dropped, _height(day.rejected), day.erased, day.mended)

    def written(self, store: Store, day: date) -> dict[str, object]:
        """Return the counts of a day that is written."""
        return {
            "day": day.isoformat(),
            "lines": self.lines,
            "accepted": _rows(store, "raw_events", day) if self.accepted is None else self.accepted,
            "duplicates": sum(self.dropped),
            "rejected": _rows(store, "rejected_events", day) if self.rejected is None else self.rejected,
            "erased": self.erased,
        }


class Ingestion:
    """Accepts, rejects or recognises as a duplicate each line of a day; ``counts``: by day, of the days made."""

    made_by = None

    def __init__(
        self, store: Store, portfolio: Portfolio, landed: Landed, *, erased: pl.Series | None = None, room: Room | None = None
    ) -> None:
        """``erased``: fingerprints of the ids that are kept out. ``room``: without it, a day is held in memory."""
        self.store, self.portfolio, self.landed, self.erased, self.room = store, portfolio, landed, erased, room
        self.counts: dict[date, Counts] = {}

    def make(self, day: date) -> Tables:
        """Return ``raw_events`` and ``rejected_events``."""
        if self.room is not None:
            self.room.clear()
        before = [day - timedelta(days=ago) for ago in range(1, DEDUPLICATION_DAYS + 1)]
        seen = window(self.store, "raw_events", before, self.portfolio.starts_on)
        done = ingest(
            self.landed(day),
            pl.Series(dtype=pl.String) if seen is None else seen.select("message_id"),
            arrival=day,
            timezone=self.portfolio.timezone,
            erased=self.erased,
            blocked=self.portfolio.blocked,
            park=None if self.room is None else self.room.park,
        )
        self.counts[day] = Counts.of(done)
        return {"raw_events": done.accepted, "rejected_events": done.rejected}


def _height(table: pl.DataFrame | pl.LazyFrame) -> int | None:
    return table.height if isinstance(table, pl.DataFrame) else None


def _rows(store: Store, table: str, day: date) -> int:
    return int(store.lazy(table, day).select(pl.len()).collect().item())
