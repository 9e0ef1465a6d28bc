"""Which channel a message takes: the first in the customer's own order that passes every test (SPEC 9.2).

The tests go by position: everybody's first channel, then the second of those whose first did not pass, and so on; so places of a channel
are given out over all customers at once. Rows, channels, steps and reasons are numbers here.

What belongs here: the order of channels, the tests and what they say. What does not: which messages are due (``messages``), and when a
channel's hours are (``timing``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from atc_pipeline.activation.steps import Steps
from atc_pipeline.activation.tables import (
    ALREADY_SENT,
    BLACKOUT,
    CHANNEL_CAP,
    EXPIRED,
    NO_CHANNEL,
    NO_CONSENT,
    NO_PLACES,
    NOT_READY,
    SUPPRESSED,
)
from atc_pipeline.activation.timing import Arrivals, day_number
from atc_pipeline.journeys.portfolio import Channel, Portfolio
from atc_pipeline.rules import reach

OBSTACLES = (NO_CONSENT, "no_address", "bounced", NOT_READY)
"""Why a customer cannot be reached on a channel, whatever the message: as ``rules.reach`` names them, and then who is not ready."""

Rendering = Callable[[pl.DataFrame], pl.DataFrame]
"""Renders messages on channels: one row per message, with its texts and the ``problem`` where there are none that may be sent."""


def obstacle(channel: Channel) -> pl.Expr:
    """Number, from 1, the first of ``OBSTACLES`` that a customer meets on a channel; 0 where there is none."""
    tested = list(reach.obstacles(channel))
    if channel.when is not None:
        tested.append((NOT_READY, ~channel.when.expr.fill_null(value=False)))
    numbered = [pl.when(expr).then(pl.lit(OBSTACLES.index(reason) + 1, pl.UInt8)) for reason, expr in tested]
    return pl.coalesce(*numbered, pl.lit(0, pl.UInt8))


@dataclass(frozen=True, eq=False)
class Due:
    """Messages that are due, by row, and what each test reads of them.

    ``frame``: what they are, with ``score`` and ``customer_id``. ``step``, ``preferred``: numbers (-1: no channel is preferred).
    ``obstacles``, ``used``, ``was_sent``: by row and channel, the first obstacle, how many messages of its cap are used up, whether the
    content went out in this entry (None: of nobody). ``last_on``: the last local day since 1970 on which it may arrive.
    """

    frame: pl.DataFrame
    step: np.ndarray
    preferred: np.ndarray
    is_suppressed: np.ndarray
    obstacles: np.ndarray
    cell: np.ndarray
    last_on: np.ndarray
    used: np.ndarray | None
    was_sent: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Choice:
    """By row: the number of the channel (-1: none is left), when it arrives, why it is withheld, and what was passed over."""

    channel: np.ndarray
    at: np.ndarray
    withheld: pl.Series
    tried: pl.Series
    rendered: pl.DataFrame | None


@dataclass(eq=False)
class _Reasons:
    """Why a channel was passed over, as numbers; 0 is that it was not."""

    names: list[str] = field(default_factory=lambda: ["", *OBSTACLES, BLACKOUT, EXPIRED, ALREADY_SENT, CHANNEL_CAP, NO_PLACES])

    def number(self, name: str) -> int:
        """Return the number of a reason, which may be one that was never seen before."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)


class Chooser:
    """Tests channel after channel, and keeps what was given out on the way."""

    def __init__(
        self, due: Due, steps: Steps, portfolio: Portfolio, arrivals: Arrivals, kinds: np.ndarray, render: Rendering | None
    ) -> None:
        """``kinds``: by channel, which kind of hours of ``arrivals`` it has."""
        self.due, self.steps, self.channels, self.arrivals, self.kinds, self.render = (
            due,
            steps,
            portfolio.channels,
            arrivals,
            kinds,
            render,
        )
        self.order = _orders(steps)
        self.blackout, self.blackout_from = _blackouts(steps, portfolio, arrivals.local_on)
        self.reasons = _Reasons()
        self.left = {number: channel.per_day for number, channel in enumerate(self.channels) if channel.per_day is not None}
        self.most = np.array([channel.cap.messages if channel.cap else np.iinfo(np.int32).max for channel in self.channels], dtype=np.int32)
        self.is_rendered = np.array([channel.medium is not None for channel in self.channels], dtype=bool)
        self.rendered: list[pl.DataFrame] = []
        self.today = _Today.of(due, steps, len(self.channels))

    def choose(self) -> Choice:
        """Return the channel of each message, or why it has none."""
        size = len(self.due.step)
        chosen, at = np.full(size, -1, dtype=np.int16), np.zeros(size, dtype=np.int64)
        passed_over: list[np.ndarray] = []
        waiting = np.flatnonzero(~self.due.is_suppressed)
        place = _places(self.steps, self.due, len(self.channels))
        for position in range(self.order.shape[2]):
            channel = self.order[self.due.step[waiting], place[waiting], position]
            rows, channel = waiting[channel >= 0], channel[channel >= 0]
            reason, moment = self._tested(rows, channel)
            is_chosen = reason == 0
            chosen[rows[is_chosen]] = channel[is_chosen]
            at[rows] = moment
            waiting = rows[~is_chosen]
            if not len(waiting):
                break
            label = np.full(size, -1, dtype=np.int32)
            label[waiting] = channel[~is_chosen].astype(np.int32) * _MOST_REASONS + reason[~is_chosen]
            passed_over.append(label)
        return Choice(chosen, at, self._withheld(chosen, passed_over), self._tried(passed_over), self._texts(chosen))

    def _tested(self, rows: np.ndarray, channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return why each row's channel does not pass, 0 where it does, and when the message would arrive."""
        due, kind = self.due, self.kinds[channel]
        cell = due.cell[rows]
        moment, local_on = self.arrivals.at[kind, cell], self.arrivals.local_on[kind, cell]
        reason = due.obstacles[rows, channel].astype(np.int32)

        def refuse(name: str, where: np.ndarray) -> None:
            reason[(reason == 0) & where] = self.reasons.number(name)

        refuse(BLACKOUT, self.blackout[due.step[rows], local_on - self.blackout_from])
        refuse(EXPIRED, local_on > due.last_on[rows])
        self._rendered(rows, channel, reason)
        ordinal = self.steps.ordinal[due.step[rows]]
        is_mandatory = self.steps.is_mandatory[due.step[rows]]
        new: list[np.ndarray] = []
        for number in range(self.steps.most_a_day):
            turn = ordinal == number
            refuse(ALREADY_SENT, turn & self._was_sent(rows, channel, new))
            refuse(CHANNEL_CAP, turn & ~is_mandatory & (self._used(rows, channel) >= self.most[channel]))
            if self.today is not None:
                taken = turn & (reason == 0)
                new.append(self.today.contents_of(rows[taken], channel[taken]))
                self.today.take(rows[taken], channel[taken], 1)
        refuse(NO_PLACES, self._without_place(rows, channel, reason))
        if self.today is not None:
            lost = reason == self.reasons.number(NO_PLACES)
            self.today.take(rows[lost], channel[lost], -1)
            self.today.sent.append(self.today.contents_of(rows[reason == 0], channel[reason == 0]))
        return reason, moment

    def _rendered(self, rows: np.ndarray, channel: np.ndarray, reason: np.ndarray) -> None:
        """Render what passed so far on channels with a medium, and write why not into ``reason``."""
        asked = np.flatnonzero((reason == 0) & self.is_rendered[channel]) if self.render is not None else np.array([], dtype=np.int64)
        if self.render is None or not len(asked):
            return
        names = pl.Series([each.id for each in self.channels], dtype=pl.String)
        messages = self.due.frame[rows[asked]].select(*_RENDERED_FROM).with_columns(channel=names.gather(channel[asked]))
        rendered = self.render(messages)
        problems = messages.join(rendered, on=["idempotency_key", "customer_id"], how="left", maintain_order="left")["problem"]
        for name in problems.unique().drop_nulls().sort():
            reason[asked[(problems == name).fill_null(value=False).to_numpy()]] = self.reasons.number(name)
        self.rendered.append(rendered.filter(pl.col("problem").is_null()).drop("problem"))

    def _was_sent(self, rows: np.ndarray, channel: np.ndarray, new: Sequence[np.ndarray]) -> np.ndarray:
        was_sent = np.zeros(len(rows), dtype=bool) if self.due.was_sent is None else self.due.was_sent[rows, channel]
        if self.today is not None:
            keys = self.today.contents_of(rows, channel)
            was_sent = was_sent | (keys >= 0) & np.isin(keys, np.concatenate([*self.today.sent, *new, np.array([], dtype=np.int64)]))
        return np.asarray(was_sent & ~self.steps.may_repeat[self.due.step[rows]])

    def _used(self, rows: np.ndarray, channel: np.ndarray) -> np.ndarray:
        used = np.zeros(len(rows), dtype=np.int32) if self.due.used is None else self.due.used[rows, channel]
        return used if self.today is None else used + self.today.taken_by(rows, channel)

    def _without_place(self, rows: np.ndarray, channel: np.ndarray, reason: np.ndarray) -> np.ndarray:
        """Find those for whom a channel has no room: by mandatory, score, customer; who was there first position keeps the place."""
        without = np.zeros(len(rows), dtype=bool)
        for number, left in self.left.items():
            asking = np.flatnonzero((reason == 0) & (channel == number))
            if len(asking) > left:
                step = self.due.step[rows[asking]]
                queue = self.due.frame[rows[asking]].select(
                    "score", "customer_id", mandatory=pl.Series(self.steps.is_mandatory[step]), ordinal=pl.Series(self.steps.ordinal[step])
                )
                order = queue.select(
                    pl.arg_sort_by("mandatory", "score", "customer_id", "ordinal", descending=[True, True, False, False], nulls_last=True)
                ).to_series()
                without[asking[order.to_numpy()[left:]]] = True
            self.left[number] = max(0, left - len(asking))
        return without

    def _withheld(self, chosen: np.ndarray, passed_over: Sequence[np.ndarray]) -> pl.Series:
        """Say why a message is on no channel: the reason of its only one, or that there were several."""
        names = [None, *self.reasons.names[1:], NO_CHANNEL, SUPPRESSED]
        why = np.zeros(len(chosen), dtype=np.int32)
        if passed_over:
            why = np.where(chosen < 0, passed_over[0] % _MOST_REASONS, 0)
        why[(chosen < 0) & (self.steps.listed[self.due.step] > 1)] = len(names) - 2
        why[self.due.is_suppressed] = len(names) - 1
        return pl.Series("withheld", names, dtype=pl.String).gather(why)

    def _tried(self, passed_over: Sequence[np.ndarray]) -> pl.Series:
        """List ``channel:reason`` of every channel that was passed over."""
        # What was passed over is the same for many: each list is made once.
        kind = np.zeros(len(self.due.step), dtype=np.int64)
        lists: list[list[str]] = [[]]
        for label in passed_over:
            rows = np.flatnonzero(label >= 0)
            pairs, place = np.unique(kind[rows] << 32 | label[rows], return_inverse=True)
            kind[rows] = len(lists) + place
            lists += [[*lists[pair >> 32], self._word(pair & (2**32 - 1))] for pair in pairs.tolist()]
        return pl.Series("tried", lists, dtype=pl.List(pl.String)).gather(kind)

    def _word(self, label: int) -> str:
        channel, reason = divmod(label, _MOST_REASONS)
        return f"{self.channels[channel].id}:{self.reasons.names[reason]}"

    def _texts(self, chosen: np.ndarray) -> pl.DataFrame | None:
        """Keep of what was rendered what is sent."""
        if not self.rendered:
            return None
        names = pl.Series([each.id for each in self.channels], dtype=pl.String)
        sent = np.flatnonzero(chosen >= 0)
        kept = self.due.frame[sent].select("idempotency_key", "customer_id").with_columns(channel=names.gather(chosen[sent]))
        return pl.concat(self.rendered).join(kept, on=["idempotency_key", "customer_id", "channel"], how="semi")


_MOST_REASONS = 1024
_RENDERED_FROM = ("idempotency_key", "customer_id", "journey_id", "day_index", "entered_on", "ends_on", "content")
"""What rendering is told of a message beside its channel."""


@dataclass(eq=False)
class _Today:
    """What customers with several messages of one day get already: of these, two may meet on one channel."""

    group: np.ndarray
    content: np.ndarray
    channels: int
    contents: int
    taken: np.ndarray
    sent: list[np.ndarray]

    @classmethod
    def of(cls, due: Due, steps: Steps, channels: int) -> "_Today | None":
        """Return None where no two steps of a day share a channel."""
        meets = steps.meets[due.step]
        if not meets.any():
            return None
        group = np.full(len(due.step), -1, dtype=np.int64)
        group[meets] = due.frame.filter(pl.Series(meets))["customer_id"].rank("dense").to_numpy() - 1
        taken = np.zeros((int(group.max()) + 1) * channels, dtype=np.int32)
        return cls(group, steps.content[due.step], channels, int(steps.content.max()) + 1, taken, [])

    def take(self, rows: np.ndarray, channel: np.ndarray, messages: int) -> None:
        """Count messages on a channel; each customer and channel is there once."""
        group = self.group[rows]
        np.add.at(self.taken, group[group >= 0] * self.channels + channel[group >= 0], messages)

    def taken_by(self, rows: np.ndarray, channel: np.ndarray) -> np.ndarray:
        """Return how many messages of the day a row's customer gets on the channel already."""
        group = self.group[rows]
        return np.where(group >= 0, self.taken[np.maximum(group, 0) * self.channels + channel], 0)

    def contents_of(self, rows: np.ndarray, channel: np.ndarray) -> np.ndarray:
        """Number customer, channel and content; -1 where the customer's messages do not meet."""
        group = self.group[rows]
        return np.where(group >= 0, (group * self.channels + channel) * self.contents + self.content[rows], -1)


def _orders(steps: Steps) -> np.ndarray:
    """By step, by the place of the preferred channel in its list (0: it is not there, or does not count), by position: the channel."""
    longest = max((len(each.channels) for each in steps.steps), default=1)
    order = np.full((max(1, len(steps.steps)), longest + 1, longest), -1, dtype=np.int16)
    for number, step in enumerate(steps.steps):
        listed = [steps.channel_numbers[name] for name in step.channels]
        for place in range(len(listed) + 1):
            first = listed[place - 1 : place] if place else []
            order[number, place, : len(listed)] = [*first, *(each for each in listed if each not in first)]
    return order


def _places(steps: Steps, due: Due, channels: int) -> np.ndarray:
    """Return, by row, at which place of the step's list the preferred channel is, from 1; 0 where it is not, or does not count."""
    place = np.zeros((max(1, len(steps.steps)), channels + 1), dtype=np.int16)
    for number, step in enumerate(steps.steps):
        if step.choose == "preferred":
            for position, name in enumerate(step.channels, start=1):
                place[number, steps.channel_numbers[name]] = position
    return np.asarray(place[due.step, due.preferred])  # -1 is the last column, which nobody prefers


def _blackouts(steps: Steps, portfolio: Portfolio, local_on: np.ndarray) -> tuple[np.ndarray, int]:
    """By step and local day from the returned one on: whether the policy or the journey suppresses it."""
    days = local_on[local_on > 0]
    first, last = (int(days.min()), int(days.max())) if days.size else (0, 0)
    suppressed = np.zeros((max(1, len(steps.steps)), last - first + 1), dtype=bool)
    for number, journey in enumerate(steps.journeys):
        for period in (*portfolio.policy.suppress, *journey.suppress):
            begins, ends = day_number(period.first), day_number(period.last)
            suppressed[number, max(0, begins - first) : max(0, ends - first + 1)] = True
    return suppressed, first
