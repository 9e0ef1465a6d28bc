"""Who gets the places when more customers want in than fit: the optimum over the whole population (SPEC 8.5).

What belongs here: the assignment problem, in whole numbers and to the last micro-unit, its prices, and the proof that nothing
better exists. What does not: who wishes what, how many places there are, and how the squeezed-out are ruled (``decision``).

There are many customers and few journeys, and everything here rests on it. An auction over all customers finds the prices of
the full journeys in a few rounds; what it leaves is moved along shortest paths between journeys, a graph as small as the
portfolio (Bertsekas, *Auction algorithms*, 1992; Ahuja, Magnanti, Orlin, *Network flows*, 1993, chapters 9 and 12).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from atc_pipeline.rules.limits import require_fits
from atc_pipeline.rules.numbers import MICRO

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NOTHING = -1
"""The option of customers who hold no limited one. As an index it is the last element, which is why some arrays have one more."""
LARGEST = 1 << 60
"""Weights stay below it, and so do prices: what is added up from four of them fits 64 bits."""
NEVER = 1 << 61
"""More than anything costs."""
WIDER = "the weights in atc_pipeline/decision/capacity.py, or let it clip scores at less (largest)"
WORTHWHILE = 10
"""The auction goes on while a round settles one in so many of those too many: ties and price wars make it creep, not the paths."""
ROUND_IN_PATHS = 100
"""And while it settles as many as shortest paths would in the time of a round (measured, 300,000 customers)."""
LEAVE_AT_ONCE = 256
"""So many may leave a journey along paths before all its customers are looked at again; more make each path slower."""


@dataclass(frozen=True, eq=False)
class Allocation:
    """What everybody gets, and what the limited journeys look like afterwards.

    ``granted``: one row per customer who holds one of the wishes, by ``customer``: ``customer``, ``journey``. Who is missing
    has the fallback. ``journeys``: one row per limited journey, by ``journey``: its ``places``; how many customers ``wanted``
    it most; how many places are ``taken``; and the ``price``, what one more place would be worth: by how much the optimum's
    sum of (score - fallback score) would rise. It is 0.0 where places are left, and negative only where one more mandatory
    placement would be made at the cost of that sum.
    """

    granted: pl.DataFrame
    journeys: pl.DataFrame


def allocate(wishes: pl.DataFrame, places: pl.DataFrame) -> Allocation:
    """Grant each customer at most one wish, and each journey no more than it has places, so that nothing better exists.

    ``wishes``: one row per customer and eligible option: ``customer``, ``journey``, ``mandatory``, ``score``,
    ``fallback_score`` (one per customer; both finite), ``rank`` (the customer's own order, lower is better). ``places``: one
    row per limited journey: ``journey``, ``places``; journeys not in it are unlimited. The order of rows means nothing.

    Better means, in this order: more placements in mandatory journeys; a higher total score of those; a higher sum of
    (score - fallback score) over all placements; a lower sum of ranks, where to hold nothing ranks last. So a wish that is
    ranked and scored above what its customer got is in a full journey, and one that gains nothing is granted while there is
    room. Scores count in micro-units, and as a billion where they are larger (with 100 limited journeys; ``LARGEST`` is shared).
    """
    limited = places.sort("journey").with_row_index("place")
    if wishes.is_empty():
        none = limited.select("journey", "places", wanted=pl.lit(0, pl.Int64), taken=pl.lit(0, pl.Int64), price=pl.lit(0.0))
        return Allocation(granted=wishes.select("customer", "journey"), journeys=none)
    capacity = limited["places"].to_numpy().astype(np.int64)
    largest = LARGEST // (8 * (len(capacity) + 2))

    def micro(column: str) -> pl.Expr:
        return (pl.col(column) * MICRO).round(mode="half_to_even").clip(-largest, largest).cast(pl.Int64)

    ordered = (
        wishes.lazy()
        .select("customer", "journey", "mandatory", "rank", score=micro("score"), gain=micro("score") - micro("fallback_score"))
        .join(limited.lazy().select("journey", pl.col("place").cast(pl.Int64)), on="journey", how="left")
        .sort("customer", "mandatory", "score", "rank", descending=[False, True, True, False])
        .collect()
    )
    customer = ordered["customer"].rle_id().to_numpy().astype(np.int64)
    place = ordered["place"].fill_null(NOTHING).to_numpy()
    mandatory, score, gain, rank = (ordered[name].to_numpy().astype(np.int64) for name in ("mandatory", "score", "gain", "rank"))
    first = np.flatnonzero(np.diff(customer, prepend=NOTHING))

    # What a customer has for certain is the best unlimited wish, else the fallback. What is worse is of no interest any more.
    row = np.arange(len(customer))
    is_worse = (mandatory == 0) & (gain < 0)
    certain = _least(np.where((place == NOTHING) | is_worse, row, len(row)), first)
    option = np.flatnonzero(row < certain[customer])
    certain = np.where(certain < np.append(first, len(row))[1:], certain, NOTHING)
    certain = np.where(np.append(is_worse, True)[certain], NOTHING, certain)

    def beyond_certain(value: Ints, fallback: Ints | int) -> Ints:
        return value[option] - np.where(certain == NOTHING, fallback, np.append(value, 0)[certain])[customer[option]]

    aims = [
        beyond_certain(mandatory, 0),
        beyond_certain(mandatory * score, 0),
        beyond_certain(gain, 0),
        beyond_certain(-rank, _least(-rank, first) - 1),
    ]
    held = _choose(customer[option], place[option], aims, capacity, customers=len(first))
    price = _prove(customer[option], place[option], aims, capacity, held)

    granted = np.where(held == NOTHING, certain, np.append(option, NOTHING)[held])
    favourite = place[rank == _least(rank, first)[customer]]
    return Allocation(
        granted=ordered.select("customer", "journey")[granted[granted != NOTHING]],
        journeys=limited.select(
            "journey",
            "places",
            wanted=pl.Series(np.bincount(favourite[favourite != NOTHING], minlength=len(capacity))),
            taken=pl.Series(np.bincount(place[option][held[held != NOTHING]], minlength=len(capacity))),
            price=pl.Series(price / MICRO),
        ),
    )


def _least(values: Ints, first: Ints) -> Ints:
    """Return the least value of each group, the groups beginning at ``first``."""
    return np.minimum.reduceat(values, first) if len(first) else values


def _choose(customer: Ints, place: Ints, aims: list[Ints], capacity: Ints, *, customers: int) -> Ints:
    """Return the option each customer holds in the optimum of the aims, the first of them first, else ``NOTHING``.

    An allocation is an optimum where no cycle of moves improves it, and a simple cycle moves at most one customer out of each
    journey and one out of none. So for an aim to come before all later ones, one unit of it must outweigh what so few moves
    change, not what the population does, and most often all aims fit into one weight.

    Where they do not, the aims so far are optimised first and the next ones among their optima. These are all the allocations
    in which everybody's option is best at the prices found, who is better off than with nothing holds one, and journeys that
    have a price are full (complementary slackness). To hold most options that satisfy the last two is the next aim.
    """
    option = np.arange(len(customer))
    weight = np.zeros(len(customer), np.int64)
    for aim in aims:
        reach = _largest(aim)
        factor = 2 * (len(capacity) + 1) * reach + 1
        if _largest(weight) * factor + reach > LARGEST:
            is_best, weight = _Auction(customer[option], place[option], weight, capacity).optima()
            option, weight = option[is_best], weight[is_best]
            require_fits(_largest(weight) * factor + reach, LARGEST, "largest weight of an option", WIDER)
        weight = weight * factor + aim[option]
    auction = _Auction(customer[option], place[option], weight, capacity)
    holding = auction.held[auction.held != NOTHING]
    held = np.full(customers, NOTHING)
    held[customer[option][holding]] = option[holding]
    return held


def _largest(weight: Ints) -> int:
    return int(np.abs(weight).max(initial=0))


@dataclass(frozen=True, eq=False)
class _Moves:
    """One row per customer in a journey and place to move to: the option taken, its journey, and what is lost, prices aside."""

    customer: Ints
    option: Ints
    to: Ints
    loss: Ints

    def select(self, rows: Ints | Flags) -> "_Moves":
        """Return some of the rows."""
        return _Moves(self.customer[rows], self.option[rows], self.to[rows], self.loss[rows])

    def join(self, more: "_Moves") -> "_Moves":
        """Return the rows of both."""
        return _Moves(*(np.concatenate([getattr(part, name) for part in (self, more)]) for name in vars(self)))

    def cheapest(self, count: int) -> "_Moves":
        """Return for each journey moved to the ``count`` rows that lose least."""
        by_journey = np.argsort(self.to.astype(np.int32), kind="stable")
        groups = np.split(by_journey, np.flatnonzero(np.diff(self.to[by_journey])) + 1)
        least = [rows[np.argpartition(self.loss[rows], count)[:count]] if len(rows) > count else rows for rows in groups]
        return self.select(np.concatenate(least))

    def losses(self, journeys: int) -> Ints:
        """Return the least loss for each journey moved to, and for outside."""
        least = np.full(journeys + 1, NEVER)
        np.minimum.at(least, self.to, self.loss)
        return least


class _Auction:
    """The optimum for one weight per option, and its prices; to hold nothing weighs 0.

    A customer's options are consecutive. ``held`` is the option of each customer, ``at`` its journey, ``outside`` for none. At
    all times everybody holds what is best at current prices, and journeys with room have the price 0. So it is an optimum as
    soon as no journey is held more often than it has places.
    """

    def __init__(self, customer: Ints, place: Ints, weight: Ints, capacity: Ints) -> None:
        self.outside = len(capacity)
        self.place, self.weight, self.room = np.append(place, self.outside), weight, capacity.copy()
        self.price = np.zeros(self.outside, np.int64)
        self.first = np.flatnonzero(np.diff(customer, prepend=NOTHING))
        self.size = np.diff(self.first, append=len(customer))
        self.held = np.full(len(self.first), NOTHING)
        self.at = np.full(len(self.first), self.outside)
        everybody = np.arange(len(self.first))
        self.move(everybody, self.next_best(everybody, self.price > 0)[0])
        while too_many := self.too_many():
            overfull = np.flatnonzero(self.room < 0)
            self.raise_prices(overfull)
            for journey in overfull:
                if self.room[journey] < 0:
                    self.raise_prices(np.array([journey]))
            if too_many - self.too_many() < max(too_many / WORTHWHILE, ROUND_IN_PATHS):
                self.make_room()

    def too_many(self) -> int:
        """Count how often journeys are held beyond their places."""
        return int(-self.room[self.room < 0].sum())

    def optima(self) -> tuple[Flags, Ints]:
        """Say which options are best at the prices, and how many of the conditions of an optimum it satisfies to hold them."""
        place = self.place[:-1]
        value = self.weight - self.price[place]
        best = np.repeat(np.maximum(-_least(-value, self.first), 0), self.size)
        return value == best, (best > 0).astype(np.int64) + (self.price > 0)[place]

    def move(self, customers: Ints, options: Ints) -> None:
        """Have customers hold other options."""
        at = self.place[options]
        self.room += np.bincount(self.at[customers], minlength=self.outside + 1)[: self.outside]
        self.room -= np.bincount(at, minlength=self.outside + 1)[: self.outside]
        self.held[customers], self.at[customers] = options, at

    def options_of(self, customers: Ints) -> tuple[Ints, Ints, Ints]:
        """List the options of customers, the positions at which each one's begin, and for each option whose it is."""
        size = self.size[customers]
        begin = np.cumsum(size) - size
        whose = np.repeat(np.arange(len(customers)), size)
        return np.arange(len(whose)) + (self.first[customers] - begin)[whose], begin, whose

    def next_best(self, customers: Ints, barred: Flags) -> tuple[Ints, Ints]:
        """Return the best option of each customer but for the journeys barred, and its value at current prices."""
        option, begin, whose = self.options_of(customers)
        place = self.place[option]
        value = np.where(barred[place], 0, self.weight[option] - self.price[place])
        best = np.maximum(-_least(-value, begin), 0)
        is_best = np.flatnonzero((value == best[whose]) & (value > 0))
        alternative = np.full(len(customers), NOTHING)
        alternative[whose[is_best]] = option[is_best]
        return alternative, best

    def raise_prices(self, journeys: Ints) -> None:
        """Raise the prices of overfull journeys together, until one of them is left by as many as are too many.

        Those leave first who lose least by having something else than these journeys. Raising prices one by one would have
        customers who like all of them go round in circles, each time for a little more.
        """
        barred = np.isin(np.arange(self.outside), journeys)
        leaving = []
        for journey in journeys:
            customers = np.flatnonzero(self.at == journey)
            alternative, best = self.next_best(customers, barred)
            lost = self.weight[self.held[customers]] - self.price[journey] - best
            first = np.argpartition(lost, -self.room[journey] - 1)[: -self.room[journey]]
            leaving.append((customers[first], alternative[first], lost[first]))
        rise = min(lost.max() for _, _, lost in leaving)
        self.price[journeys] += rise
        for customers, alternative, lost in leaving:
            self.move(customers[lost <= rise], alternative[lost <= rise])

    def moves(self, customers: Ints) -> _Moves:
        """List where customers who hold an option could go instead."""
        option, _, whose = self.options_of(customers)
        is_other = option != self.held[customers][whose]
        option, whose = option[is_other], whose[is_other]
        held = self.weight[self.held[customers]]
        instead = _Moves(customers[whose], option, self.place[option], held[whose] - self.weight[option])
        return instead.join(_Moves(customers, np.full(len(customers), NOTHING), np.full(len(customers), self.outside), held))

    def make_room(self) -> None:
        """Move those who are too many to where there is room, on shortest paths, as many at once as lose the same.

        At current prices no move has a negative loss. Raising prices by the distance to the nearest room makes the moves on
        the shortest paths free, and no other one cheaper than that.
        """
        rows = [self.cheapest_moves(journey) for journey in range(self.outside)]
        loss = np.vstack([moves.losses(self.outside) for moves in rows])
        left = np.zeros(self.outside, np.int64)
        while (self.room < 0).any():
            onward, distance = _shortest(loss - self.price[:, None] + np.append(self.price, 0), to=np.append(self.room, 1) > 0)
            rise = np.minimum(distance, distance[self.room < 0].max())
            self.price = np.minimum(self.price + rise, LARGEST)  # only that of a journey without places could rise for ever
            for journey in np.flatnonzero(self.room < 0):
                path = [journey]
                while onward[path[-1]] != NOTHING:
                    path.append(onward[path[-1]])
                self.shift(path, rows, loss, left)

    def cheapest_moves(self, journey: int | np.int64) -> _Moves:
        """List the ``LEAVE_AT_ONCE`` cheapest moves from one journey to each other one: enough until so many have left it."""
        return self.moves(np.flatnonzero(self.at == journey)).cheapest(LEAVE_AT_ONCE)

    def shift(self, path: list[np.int64], rows: list[_Moves], loss: Ints, left: Ints) -> None:
        """Move as many along a path as are too many at its begin, find room at its end, and lose nothing on the way."""
        price, hops = np.append(self.price, 0), list(pairwise(path))
        end = np.append(self.room, NEVER)[path[-1]]
        if end <= 0 or any(loss[hop] - price[hop[0]] + price[hop[1]] for hop in hops):
            return  # an earlier path has taken the last place, or the last customer who lost nothing
        free = [np.flatnonzero((rows[here].to == there) & (rows[here].loss == loss[here, there])) for here, there in hops]
        most = min(-self.room[path[0]], end, LEAVE_AT_ONCE - left[path[:-1]].max(), *map(len, free))
        moved = [rows[here].select(movers[:most]) for (here, _), movers in zip(hops, free, strict=True)]
        for moves in moved:
            self.move(moves.customer, moves.option)
        left[path[:-1]] += most
        arrived = [moves.customer for moves in moved]
        for stop, customers in zip(path, [arrived[0][:0], *arrived], strict=True):
            if stop == self.outside:
                continue
            if left[stop] < LEAVE_AT_ONCE:
                rows[stop] = rows[stop].select(self.at[rows[stop].customer] == stop).join(self.moves(customers))
            else:
                rows[stop], left[stop] = self.cheapest_moves(stop), 0
            loss[stop] = rows[stop].losses(self.outside)


def _shortest(step: Ints, *, to: Flags) -> tuple[Ints, Ints]:
    """Find the shortest path from each journey to one of those marked: where it goes on, and its length."""
    distance = np.where(to, 0, NEVER)
    onward = np.full(len(to), NOTHING)
    while True:
        by = step + distance
        shorter = by.min(axis=1)
        improved = np.flatnonzero(shorter < distance[:-1])
        if not len(improved):
            return onward, distance[:-1]
        onward[improved] = by.argmin(axis=1)[improved]
        distance[improved] = shorter[improved]


def _prove(customer: Ints, place: Ints, aims: list[Ints], capacity: Ints, held: Ints) -> Ints:
    """Prove that nothing better exists, and return what one more place in each journey would be worth in the third aim.

    The proof knows nothing of how the allocation was found. An additional place is worth most by the best chain of moves into
    it. An allocation is an optimum exactly where no chain improves for ever, none leads outside with a gain, and an additional
    place is worth nothing where there is room already.
    """
    outside = len(capacity)
    at = np.append(place, outside)[held]
    holds = at != outside
    source = np.concatenate([at[customer], at[holds]])
    move = source * (outside + 1) + np.concatenate([place, np.full(holds.sum(), outside)])
    losses = []
    for aim in aims:
        value = np.append(aim, 0)[held]
        losses.append(np.concatenate([value[customer] - aim, value[holds]]))

    # The least loss per move, aim after aim, as one whole number as large as it gets: Python's know no largest one.
    unit = 1 << 64
    loss = np.zeros((outside + 1) ** 2, object)
    for number in range(len(aims)):
        least = np.full(len(loss), NEVER)
        np.minimum.at(least, move, losses[number])
        loss = loss * unit + least.astype(object)
        is_least = losses[number] == least[move]
        move, losses = move[is_least], [later[is_least] for later in losses]

    worth = np.zeros(outside + 1, object)
    for _ in range(outside + 2):
        before, worth = worth, np.maximum(worth, (worth[:, None] - loss.reshape(outside + 1, outside + 1)).max(axis=0))
        if (before == worth).all():
            break
    else:
        raise AssertionError(WRONG)
    room = capacity - np.bincount(at, minlength=outside + 1)[:outside]
    if worth[outside] or (room < 0).any() or worth[:outside][room > 0].any():
        raise AssertionError(WRONG)
    return np.array([((value + unit // 2) // unit + unit // 2) % unit - unit // 2 for value in worth[:outside]], np.int64)


WRONG = "the places were not given out in the best way: a mistake in atc_pipeline/decision/capacity.py, not in the portfolio or the data"
