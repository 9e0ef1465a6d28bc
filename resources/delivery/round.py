"""What one run keeps to while it hands messages over: the pace of each channel, its health, and how long the run may take.

What belongs here: when a channel may be given its next batch, and when it is left alone for the run. What does not: claiming, sending and
settling (``delivery``), who may not be written to any more (``last_look``).
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

IN_A_ROW = 50
"""Messages in a row that were not delivered, after which a channel is left alone for the run."""
WINDOW, SHARE = 500, 0.2
"""The last messages of a channel that are looked at, and the share of them that may fail."""
LONGEST_WAIT = 900.0
"""Seconds: a receiver that wants to be left alone for longer than until the next run of ``send_due`` is not waited for."""
MINUTE = 60.0


@dataclass
class Health:
    """What became of the last messages of a channel in this run."""

    in_a_row: int = 0
    last: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def note(self, delivered: Sequence[bool]) -> None:
        """Take in what became of a batch, in order. What was in a row is kept at its longest until a batch has all of it behind it."""
        for is_delivered in delivered:
            if self.in_a_row < IN_A_ROW:
                self.in_a_row = 0 if is_delivered else self.in_a_row + 1
            self.last.append(is_delivered)

    @property
    def trouble(self) -> str | None:
        """Say why the channel is to be left alone; None where nothing is wrong."""
        failed = self.last.count(False)
        if self.in_a_row >= IN_A_ROW:
            return f"{self.in_a_row} messages in a row were not delivered"
        if failed > SHARE * WINDOW:
            return f"{failed} of the last {len(self.last)} messages were not delivered"
        return None


@dataclass
class Round:
    """One run: what it has seen of each channel, and what it keeps to. Times are seconds of a clock that only goes forward."""

    per_minute: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    """For how long the run takes up new batches; None = until there are no more."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    stopped: dict[str, str] = field(default_factory=dict)
    """Why a channel is left alone for the rest of the run."""
    _ready_at: dict[str, float] = field(default_factory=dict)
    _health: dict[str, Health] = field(default_factory=dict)
    _began: float | None = None

    def most_at_once(self, channel: str, batch_size: int) -> int:
        """Return how many messages a batch of a channel may have: no more than go out in a minute."""
        return max(1, min(batch_size, self.per_minute.get(channel, batch_size)))

    def next(self, channels: Sequence[str]) -> str:
        """Return which channel is to have its turn: the first that may be given something at once, or soonest."""
        return min(channels, key=lambda channel: self._ready_at.get(channel, 0.0))

    def has_time_for(self, channel: str) -> bool:
        """Return whether the channel can be given a batch before the run is to end."""
        now = self.clock()
        if self._began is None:
            self._began = now
        return self.seconds is None or max(now, self._ready_at.get(channel, now)) <= self._began + self.seconds

    def wait_for(self, channel: str) -> None:
        """Wait until the channel may be given a batch."""
        pause = self._ready_at.get(channel, 0.0) - self.clock()
        if pause > 0:
            self.sleep(pause)

    def note_batch(self, channel: str, began: float, delivered: Sequence[bool], wait_seconds: float | None) -> None:
        """Take in what became of a batch that was begun at that time, and when the channel may have its next."""
        if channel in self.per_minute and delivered:
            self._ready_at[channel] = began + len(delivered) * MINUTE / self.per_minute[channel]
        if wait_seconds is not None:
            self._ready_at[channel] = max(self._ready_at.get(channel, 0.0), self.clock() + wait_seconds)
            if wait_seconds > LONGEST_WAIT:
                self.stopped[channel] = f"its receiver asked to be left alone for {wait_seconds:,.0f} seconds"
        health = self._health.setdefault(channel, Health())
        health.note(delivered)
        if (trouble := health.trouble) is not None:
            self.stopped[channel] = trouble
