"""A day of what comes back: what was decided and sent, as events of ours (SPEC 9.12).

What belongs here: which days are told of, and on which day. What does not: the events (``activation.sent``), files
(``resources.storage.landing``).
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from atc_pipeline.activation.sent import LINE, tell
from atc_pipeline.activation.tables import MAY_HAVE_ARRIVED, SENT_EVENTS
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.tables.store import Store, Tables

TRIED = (*MAY_HAVE_ARRIVED, "failed")
"""What a message has come to that was handed over, and not only planned."""


class SentEvents:
    """Tells of a day what was decided and sent on it, where it was sent for real."""

    made_by = None

    def __init__(self, store: Store, portfolio: Portfolio, is_live: Callable[[date], bool]) -> None:
        """``is_live``: whether the day is sent for real; of one that is only rehearsed nothing has happened."""
        self.store, self.portfolio, self.is_live = store, portfolio, is_live

    def make(self, day: date) -> Tables:
        """Return ``sent_events``."""
        return {"sent_events": self.told(day).drop(LINE)}

    def lines(self, day: date) -> list[str]:
        """Return the lines that say so."""
        return self.told(day)[LINE].to_list()

    def told(self, day: date) -> pl.DataFrame:
        """Return the day's events with their lines; none of a day that was not sent."""
        if not self.is_live(day):
            return pl.DataFrame(schema={**SENT_EVENTS.schema, LINE: pl.String()})
        syncs = "audience_syncs"
        return tell(
            self.store.lazy("journey_assignments", day),
            self.store.lazy("journey_state", day),
            self.store.lazy("outbound_messages", day),
            self.store.lazy("activation", day),
            self.store.lazy(syncs, day) if self.store.has(syncs, day) else None,
            today=day,
            timezone=self.portfolio.timezone,
        )


def was_sent(store: Store, day: date) -> bool:
    """Return whether messages of a day were handed over."""
    return bool(store.lazy("activation", day).select(pl.col("status").is_in(TRIED).any()).collect().item())


def arrives_on(day: date, now: datetime, portfolio: Portfolio) -> date:
    """Return the day on which it happens what a day has decided: the one after it, or today for one that is sent later.

    So it never arrives on the day itself, which would be made again by what it has sent, and not on one that is closed.
    """
    return max(day + timedelta(days=1), now.astimezone(ZoneInfo(portfolio.timezone)).date())
