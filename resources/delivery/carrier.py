"""What a day of activation is given to send by: channels and the ledger, as one.

What belongs here: naming the day where the ledger cannot be read or written, so that nothing more is sent. What does not: what is to
be sent (``days.activation``), the order of claiming and sending (``delivery``).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import dagster as dg
import polars as pl

from resources.channels.channel import Channel, Clock
from resources.delivery.delivery import deliver, unanswered_messages
from resources.delivery.ledger import Ledger, LedgerError

RUN_AGAIN = (
    "Make room for it, or see to what it says, and run the day again: what was delivered is remembered, and what is uncertain goes out "
    "under the same key"
)


@dataclass(frozen=True)
class Carrier:
    """Takes messages out in a run for a ``day``, and knows what became of them."""

    day: date
    channels: Mapping[str, Channel]
    ledger: Ledger
    now: Clock

    def has_older_keys(self, since: date) -> bool:
        """Return whether a message of that day or later may be known by an older key."""
        with self._naming_the_day():
            return self.ledger.has_older_keys(since)

    def deliver(self, messages: pl.DataFrame, other_keys: pl.DataFrame) -> pl.DataFrame:
        """Send what is to be sent; one row per message, with what became of it."""
        with self._naming_the_day():
            return deliver(messages, self.channels, self.ledger, self.now, other_keys)

    def unanswered(self, messages: pl.DataFrame, not_tried: pl.Series, other_keys: pl.DataFrame) -> pl.DataFrame:
        """Keep of messages that were sent before those that nobody has answered for."""
        with self._naming_the_day():
            return unanswered_messages(messages, not_tried, self.ledger, other_keys)

    @contextmanager
    def _naming_the_day(self) -> Iterator[None]:
        try:
            yield
        except LedgerError as problem:
            raise dg.Failure(description=f"{self.day}: nothing more was sent: {problem}. {RUN_AGAIN}", allow_retries=False) from problem
