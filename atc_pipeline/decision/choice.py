"""The choice: what the gates leave, stay or switch, explore, and a ruling for every option row (SPEC 8, steps 2 to 7).

Works on one shard of the customers at a time, in two steps: ``contest`` finds each customer's wish, ``settle`` rules the rows
once it is known who holds a place in the journeys that not everybody fits in (``capacity`` decides that between the two).

What belongs here: who may have what, and why not. What does not: scores (``options``), the past (``memory``).
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from atc_pipeline.decision.catalogue import Catalogue
from atc_pipeline.decision.gates import BITS, GATES, PACKED, RULINGS, bit
from atc_pipeline.decision.options import rank_in_total_order
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules.lots import BUCKETS, bucket, xxh64

CHOSEN, IN_FLIGHT, OUTSCORED, CAPACITY = (RULINGS.index(ruling) for ruling in ("chosen", "in_flight", "outscored", "capacity"))
NOBODY = -1
"""In arrays of row numbers: no such row."""
LAST = np.int32(2**31 - 1)
"""A rank behind all others."""
WISHES = {
    "customer": pl.UInt32(),
    "journey": pl.UInt16(),
    "mandatory": pl.Boolean(),
    "score": pl.Float64(),
    "fallback_score": pl.Float64(),
    "rank": pl.Int64(),
}
"""What ``capacity.allocate`` is asked for."""


def _first_gates() -> np.ndarray:
    first = np.zeros(2 ** len(GATES), dtype=np.min_scalar_type(len(RULINGS)))
    for gate in GATES:
        first[int(bit(gate)) :: 2 * int(bit(gate))] = RULINGS.index(gate)  # numbers that have this bit and no lower one
    return first


FIRST_GATE = _first_gates()
"""By the bits of the gates failed: the ruling of the first of them."""


@dataclass(frozen=True, eq=False)
class Contest:
    """The options of a shard before it is known who holds a limited place. Arrays are by row, or by group: a customer's rows.

    ``options``: sorted by ``customer`` and ``journey``. ``first``: row at which each group begins. ``order``, ``rank``: the
    total order. ``failed``: bits of the gates failed. ``is_eligible``: may be chosen - of an explorer only what was drawn.
    ``wish``, ``none``, ``incumbent``: row of each group's best eligible option, of "none", of the journey in flight.
    ``fallback_score``: what a wish is measured against. ``probability``: of the wish, before capacity. ``competing``: how many journeys
    of each group fail no gate and outrank "none". ``is_drawn``: whether exploration drew the group's wish.
    """

    options: pl.DataFrame
    first: np.ndarray
    group: np.ndarray
    order: np.ndarray
    rank: np.ndarray
    failed: np.ndarray
    is_eligible: np.ndarray
    wish: np.ndarray
    none: np.ndarray
    incumbent: np.ndarray
    fallback_score: np.ndarray
    probability: np.ndarray
    competing: np.ndarray
    is_drawn: np.ndarray


@dataclass(frozen=True, eq=False)
class Settled:
    """Who was given what. ``chosen``, ``runner_up``: a row per group; ``ruling``: a place in ``gates.RULINGS`` per row."""

    chosen: np.ndarray
    runner_up: np.ndarray
    ruling: np.ndarray
    probability: np.ndarray


def contest(
    options: pl.DataFrame,
    entry_scores: np.ndarray,
    arm_ids: pl.Series,
    portfolio: Portfolio,
    catalogue: Catalogue,
    *,
    today: date,
) -> Contest:
    """Test the gates and find each customer's wish (SPEC 8, steps 2, 3, 4 and 7).

    ``options``: scored, of one shard, whose first customer has the number 0; ``failed`` has the bits of all gates shut, to which
    the journey in flight and "none" are not subject. ``entry_scores``: by customer, the score at entry of the journey in
    flight. ``arm_ids``: by customer, what lots are drawn by.
    """
    customer, journey = options["customer"].to_numpy(), options["journey"].to_numpy()
    is_none, is_incumbent = journey == catalogue.none, options["is_incumbent"].to_numpy()
    score = options["score"].fill_null(np.nan).to_numpy()
    failed = np.where(is_none | is_incumbent, PACKED(0), options["failed"].to_numpy())
    is_first = np.ones(len(customer), dtype=bool)
    is_first[1:] = customer[1:] != customer[:-1]
    first = np.flatnonzero(is_first)
    group = np.repeat(np.arange(len(first), dtype=np.int32), np.diff(first, append=len(customer)))
    order, rank = rank_in_total_order(options, first, catalogue)
    none = np.flatnonzero(is_none)
    incumbent = np.full(len(first), NOBODY)
    incumbent[group[is_incumbent]] = np.flatnonzero(is_incumbent)
    has_incumbent = incumbent != NOBODY
    kept_score = score[incumbent]
    kept_score = np.where(np.isnan(kept_score), entry_scores[customer[first]], kept_score)
    fallback_score = np.where(has_incumbent, kept_score, score[none])

    mandatory = catalogue.flags("mandatory")[journey]
    with np.errstate(invalid="ignore"):  # NaN: an option without a score outranks nothing
        outranks_none = mandatory | (score > score[none][group])
        is_eligible = (failed == 0) & ~is_none & ~is_incumbent & outranks_none
        competing = np.add.reduceat(is_eligible.astype(np.int64), first) if len(first) else np.zeros(0, dtype=np.int64)
        if has_incumbent.any():
            may_interrupt = _may_interrupt(journey, score, rank, incumbent, kept_score, group, portfolio, catalogue)
            is_eligible &= ~has_incumbent[group] | may_interrupt
    best = _first_of_groups(order[is_eligible[order]], group, len(first))
    wish, probability, is_eligible, is_drawn = _explored(
        is_eligible, mandatory, best, first, group, has_incumbent, arm_ids.gather(customer[first]), competing, portfolio, today
    )
    return Contest(
        options,
        first,
        group,
        order,
        rank,
        failed,
        is_eligible,
        wish,
        none,
        incumbent,
        fallback_score,
        probability,
        competing,
        is_drawn,
    )


def _may_interrupt(
    journey: np.ndarray,
    score: np.ndarray,
    rank: np.ndarray,
    incumbent: np.ndarray,
    kept_score: np.ndarray,
    group: np.ndarray,
    portfolio: Portfolio,
    catalogue: Catalogue,
) -> np.ndarray:
    """Say of each row whether it may take the place of the journey in flight, where there is one (SPEC 8, step 3)."""
    mandatory, can_interrupt = catalogue.flags("mandatory"), catalogue.flags("can_interrupt")
    yields_above = kept_score + portfolio.policy.switch_margin * np.abs(kept_score)
    running = journey[incumbent]
    yields = catalogue.flags("interruptible")[running]
    yields_to_others = yields & ~mandatory[running]
    by_band = mandatory[journey] & yields[group] & (rank < rank[incumbent][group])
    by_score = can_interrupt[journey] & (score > yields_above[group]) & (yields_to_others[group] | (mandatory[journey] & yields[group]))
    return np.asarray(by_band | by_score)


def _first_of_groups(rows: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Return the first of the rows of each group, which come group by group; NOBODY where a group has none."""
    first = np.full(groups, NOBODY)
    first[group[rows[::-1]]] = rows[::-1]
    return first


def _explored(
    is_eligible: np.ndarray,
    mandatory: np.ndarray,
    best: np.ndarray,
    first: np.ndarray,
    group: np.ndarray,
    has_incumbent: np.ndarray,
    arm_ids: pl.Series,
    options: np.ndarray,
    portfolio: Portfolio,
    today: date,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw for those who explore (SPEC 8, step 7): the wish and its probability by group, what is eligible by row, and who explores.

    ``options``: how many each group without a journey in flight has.
    """
    share = portfolio.policy.explore
    if share <= 0 or not len(first):
        return best, np.ones(len(first)), is_eligible, np.zeros(len(first), dtype=bool)
    has_mandatory = np.logical_or.reduceat(is_eligible & mandatory, first)
    is_drawn_for = ~has_incumbent & ~has_mandatory & (options > 0)
    buckets = arm_ids.filter(pl.Series(is_drawn_for)).to_frame("arm_id").select(bucket("explore", f":{today}")).to_series()
    explores = np.zeros(len(first), dtype=bool)
    explores[np.flatnonzero(is_drawn_for)[(buckets < round(share * BUCKETS)).to_numpy()]] = True
    pick = np.zeros(len(first), dtype=np.uint64)
    drawn = xxh64(pl.format("pick:{}:{}", "arm_id", pl.lit(str(today))))
    pick[explores] = arm_ids.filter(pl.Series(explores)).to_frame("arm_id").select(drawn).to_series().to_numpy()
    pick %= np.maximum(options, 1).astype(np.uint64)
    before = np.cumsum(is_eligible) - is_eligible
    place = (before - before[first][group]).astype(np.uint64)  # rows of a group are sorted by journey_id
    is_picked = is_eligible & explores[group] & (place == pick[group])
    wish = best.copy()
    wish[group[is_picked]] = np.flatnonzero(is_picked)
    probability = np.where(is_drawn_for, (1 - share) * (wish == best) + share / np.maximum(options, 1), 1.0)
    return wish, probability, np.where(explores[group], is_picked, is_eligible), explores


def wishes_for(contested: Contest, is_limited: np.ndarray, catalogue: Catalogue, offset: int) -> pl.DataFrame:
    """One row per eligible option that counts for the limited places: of customers who wish one, down to the best unlimited option.

    Columns as ``capacity.allocate`` wants them; ``customer`` is counted from ``offset``.
    """
    journey = contested.options["journey"].to_numpy()
    wish, group = contested.wish, contested.group
    wishes_limited = (wish != NOBODY) & is_limited[journey[wish]]
    is_unlimited = contested.is_eligible & ~is_limited[journey]
    unlimited = contested.order[is_unlimited[contested.order]]
    enough = _first_of_groups(unlimited, group, len(wish))
    last_rank = np.where(enough == NOBODY, LAST, contested.rank[enough])
    rows = np.flatnonzero(contested.is_eligible & wishes_limited[group] & (contested.rank <= last_rank[group]))
    return pl.DataFrame(
        {
            "customer": contested.options["customer"].gather(rows) + offset,
            "journey": journey[rows],
            "mandatory": catalogue.flags("mandatory")[journey[rows]],
            "score": contested.options["score"].gather(rows),
            "fallback_score": contested.fallback_score[group[rows]],
            "rank": contested.rank[rows],
        },
        schema=WISHES,
    )


def settle(contested: Contest, is_limited: np.ndarray, granted: np.ndarray, kept: np.ndarray) -> Settled:
    """Rule every row (SPEC 8).

    ``is_limited``: by journey. By group, ``granted``: the row of the option held by one who wishes a limited place, ``kept``:
    the row of the option that was delivered already; NOBODY where there is none.
    """
    group, rank, wish = contested.group, contested.rank, contested.wish
    is_kept = kept != NOBODY
    wishes_limited = (wish != NOBODY) & is_limited[contested.options["journey"].to_numpy()[wish]]
    held = np.where(is_kept, kept, np.where(wishes_limited, granted, wish))
    squeezed = ~is_kept & (held != wish)
    fallback = np.where(contested.incumbent != NOBODY, contested.incumbent, contested.none)
    chosen = np.where(held != NOBODY, held, fallback)
    stays = chosen == contested.incumbent
    is_chosen = np.zeros(len(group), dtype=bool)
    is_chosen[chosen] = True
    worst = np.where(held != NOBODY, rank[held], LAST)
    is_squeezed = squeezed[group] & contested.is_eligible & (rank < worst[group])
    ruling = np.where(stays[group], IN_FLIGHT, OUTSCORED).astype(FIRST_GATE.dtype)
    ruling[is_squeezed] = CAPACITY
    ruling = np.where(contested.failed == 0, ruling, FIRST_GATE[contested.failed])
    ruling[chosen] = CHOSEN
    losers = contested.order[((contested.failed == 0) & ~is_chosen)[contested.order]]
    return Settled(
        chosen,
        _first_of_groups(losers, group, len(chosen)),
        ruling,
        np.where(squeezed, np.nan, contested.probability),
    )


def failed_gates(settled: Settled, contested: Contest) -> pl.Series:
    """Name all gates failed by each row, the ruling first: few combinations occur, and each is spelt once."""
    code = np.where(settled.ruling == CHOSEN, PACKED(0), contested.failed | settled.ruling.astype(PACKED) << PACKED(len(GATES)))
    occurring = np.flatnonzero(np.bincount(code, minlength=1))
    bits = {gate: int(bit(gate)) for gate in GATES}
    spelt = [[gate for gate in GATES if code & bits[gate]] or [RULINGS[code >> len(GATES)]] if code else [] for code in occurring.tolist()]
    place = np.zeros(2**BITS, dtype=np.uint32)
    place[occurring] = np.arange(len(occurring))
    return pl.Series(spelt, dtype=pl.List(pl.String)).gather(place[code])
