"""A world driven through the pipeline day by day: its lines land, the course of the day is run, what is due is delivered the next day.

What belongs here: the loop, and an outbox that needs no network. What does not: what is concluded (``pipeline``, ``faults``, ``future``,
``real``), any world, or any store.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import polars as pl

from atc_pipeline.activation.tables import ACTIVATION
from atc_pipeline.certificate.claim import World
from atc_pipeline.days.course import Course
from atc_pipeline.days.sent import SentEvents
from atc_pipeline.days.step import write_day
from atc_pipeline.events.lines import Lines
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve_text
from atc_pipeline.tables.store import Store

DELIVERED = {"customer_id": pl.String(), "journey_id": pl.String(), "step_day": pl.Int64()}
"""What a world hears of a message."""

Outbox = Callable[[Store, date], pl.DataFrame]
"""Says what was delivered of a day's messages: rows of ``ACTIVATION`` with ``step_day``."""


def deliver_all(store: Store, day: date) -> pl.DataFrame:
    """Deliver whatever is not withheld, on the morning after."""
    due = store.lazy("outbound_messages", day).filter(pl.col("withheld").is_null())
    handed = pl.lit(day + timedelta(days=1)).cast(pl.Datetime("us", "UTC"))
    delivered = due.with_columns(
        status=pl.lit("delivered"),
        reason=pl.lit(None, pl.String()),
        sent_at=handed,
        attempts=pl.lit(1, pl.Int64()),
        provider_id=pl.lit(None, pl.String()),
    )
    return delivered.select(*ACTIVATION.schema, "step_day").collect()


@dataclass
class Driven:
    """A world and the store that it was driven into; ``delivered``: what reaches customers on the next day."""

    world: World
    store: Store
    portfolio: Portfolio
    outbox: Outbox = deliver_all
    left_out: Collection[str] = ()
    heard: Sequence[bytes] = ()
    delivered: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=DELIVERED))

    @classmethod
    def into(cls, store: Store, world: World, outbox: Outbox = deliver_all, left_out: Collection[str] = ()) -> "Driven":
        """Drive a world into an empty store. ``left_out``: steps of the course of a day that nothing stands on that is looked at."""
        return cls(world, store, resolve_text(world.portfolio, "the world's journeys.yaml"), outbox, left_out)

    def landed(self, _day: date) -> Iterator[Sequence[Lines]]:
        """Return what arrives on the day that is being made: the world's events, and ours of what was sent."""
        yield [Lines("world.ndjson", 1, data) for data in self.heard if data]

    def run(self, until: date | None = None) -> Iterator[date]:
        """Yield each day once it is over."""
        course, sent = Course(self.store, self.portfolio, self.landed), SentEvents(self.store, self.portfolio, lambda _day: True)
        ours = b""
        for day in self.world.days:
            self.heard = (self.world.arriving(day, self.delivered), ours)
            for name, step in course.steps.items():
                if name not in self.left_out:
                    write_day(self.store, step, day)
            delivered = self.outbox(self.store, day)
            self.store.write("activation", day, delivered.select(*ACTIVATION.schema).sort("idempotency_key", "customer_id"))
            self.delivered = delivered.select(*DELIVERED)
            lines = sent.lines(day)
            ours = "".join(f"{line}\n" for line in lines).encode()
            yield day
            if day == until:
                return

    def all_of(self, table: str, until: date | None = None) -> pl.LazyFrame:
        """Read a table of all days up to one."""
        days = [day for day in self.store.days(table) if until is None or day <= until]
        frame = self.store.scan(table, days)
        assert frame is not None, f"{table} has no day up to {until}"
        return frame


SHOWN = ("matrix", "members", "uplift", "quality", "paths")
"""Steps of which no entry and no outcome is made."""
