"""What a run is given to send by: channels, the ledger, and what it keeps to, as one for each day.

What belongs here: putting these together, and naming the day where the ledger cannot be read or written, so that nothing more is sent.
What does not: what is to be sent (``days.activation``), the order of claiming and sending (``delivery``).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import dagster as dg
import polars as pl

from atc_pipeline.escaping import plain, terminal
from atc_pipeline.journeys.portfolio import Portfolio
from resources.channels.channel import Channel, Clock, DryRun, WrongSettingError
from resources.channels.connected import Channels
from resources.delivery.delivery import Terms, arrived_messages, deliver, unanswered_messages
from resources.delivery.last_look import LastLook
from resources.delivery.ledger import Ledger, LedgerError
from resources.delivery.round import Round
from resources.delivery.settling import settle_by_receipts

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
    terms: Terms
    run: Round

    @property
    def is_live(self) -> bool:
        """Return whether anything leaves."""
        return not all(channel.is_dry for channel in self.channels.values())

    @property
    def waiting_channels(self) -> Collection[str]:
        """Return the channels that take no message before it is due."""
        return {name for name, channel in self.channels.items() if not channel.schedules}

    def has_older_keys(self, since: date) -> bool:
        """Return whether a message of that day or later may be known by an older key."""
        with self._naming_the_day():
            return self.ledger.has_older_keys(since)

    def deliver(
        self,
        messages: pl.DataFrame,
        other_keys: pl.DataFrame,
        with_texts: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
        held: Collection[str] = (),
    ) -> pl.DataFrame:
        """Send what is to be sent; one row per message, with what became of it."""
        texts = with_texts or self.terms.with_texts
        terms = Terms(self.terms.late_hours, self.terms.only_to, held, self.terms.object, texts)
        with self._naming_the_day():
            return deliver(messages, self.channels, self.ledger, self.now, other_keys, terms, self.run)

    def unanswered(self, messages: pl.DataFrame, not_tried: pl.Series, other_keys: pl.DataFrame) -> pl.DataFrame:
        """Keep of messages that were sent before those that nobody has answered for."""
        with self._naming_the_day():
            return unanswered_messages(messages, not_tried, self.ledger, other_keys)

    def arrived(self, messages: pl.DataFrame, other_keys: pl.DataFrame) -> pl.DataFrame:
        """Keep of messages those that are known to have arrived."""
        with self._naming_the_day():
            return arrived_messages(messages, self.ledger, other_keys)

    @contextmanager
    def _naming_the_day(self) -> Iterator[None]:
        try:
            yield
        except LedgerError as problem:
            raise dg.Failure(description=f"{self.day}: nothing more was sent: {problem}. {RUN_AGAIN}", allow_retries=False) from problem


def connect(channels: Channels, ledger: Ledger, look: LastLook, run: Round, now: Clock, accepted: Collection[str]) -> "Carriers":
    """Connect the channels of a portfolio; fails, and nothing is sent, where the settings cannot be understood.

    ``accepted``: channels of which many more messages than on other days is meant.
    """
    portfolio = look.portfolio
    names = [channel.id for channel in portfolio.channels]
    if strange := sorted(set(accepted) - set(names)):
        raise dg.Failure(
            f"accept_volume: {', '.join(map(terminal, strange))}: no channel of journeys.yaml ({', '.join(names)}). Nothing was sent",
            allow_retries=False,
        )
    try:
        connected = channels.connect(names, now)
    except WrongSettingError as problem:
        raise dg.Failure(description=f"nothing was sent: {problem}", allow_retries=False) from None
    return Carriers(connected, ledger, now, portfolio, look, run, channels.only_to)


@dataclass(frozen=True)
class Carriers:
    """What all days of a run have in common."""

    channels: Mapping[str, Channel]
    ledger: Ledger
    now: Clock
    portfolio: Portfolio
    look: LastLook
    run: Round
    only_to: tuple[str, ...] = ()

    def of(self, day: date, *, is_past: bool = False) -> Carrier:
        """Return who takes out a day's messages. ``is_past``: it was named, and goes out however late it is."""
        late_hours = {} if is_past else {channel.id: channel.late_hours for channel in self.portfolio.channels}
        terms = Terms(late_hours, self.only_to, object=self.look.object)
        return Carrier(day, self.channels, self.ledger, self.now, terms, self.run)

    def rehearsal(self, day: date) -> Carrier:
        """Return who takes nothing out, and says what would have been."""
        return Carrier(day, {name: DryRun() for name in self.channels}, self.ledger, self.now, Terms(only_to=self.only_to), Round())

    @property
    def is_live(self) -> bool:
        """Return whether anything leaves."""
        return not all(channel.is_dry for channel in self.channels.values())

    def settle(self, since: date) -> int:
        """Call unknown messages delivered of which an event says so that has landed; return how many there were."""
        if not self.is_live:
            return 0
        try:
            return settle_by_receipts(self.ledger, self.look.receipts(), since).len()
        except LedgerError as problem:
            raise dg.Failure(description=f"nothing was sent: {problem}. {RUN_AGAIN}", allow_retries=False) from problem

    def end(self, trouble: str | None = None) -> None:
        """Fail at the end of a run, when all else is done, where channels were stopped, or there is ``trouble``; say how to go on."""
        if troubles := [text for text in (trouble, self._stops()) if text is not None]:
            raise dg.Failure(description=plain("; ".join(troubles), None), allow_retries=False)

    def _stops(self) -> str | None:
        if not self.run.stopped:
            return None
        which = "; ".join(f"{name}: {why}" for name, why in sorted(self.run.stopped.items()))
        return (
            f"stopped for this run: {which}. The other channels went on; what is left waits, and goes out with the next run of send_due or "
            "of the day that finds the receiver well"
        )
