"""A day's decision, from queues and memory to one answer per customer (SPEC 7, 8).

Customers are decided in parts, each by itself and on any core, or in shards of which each is decided on another machine; only limited
places are given out over the whole population (``grant``), between the two halves of the work (``contest``, ``settle``). The same input
gives the same tables however many parts, shards and threads there are.

What belongs here: the order of the steps, and how many places there are. What does not: who stays (``standing``), who gets what
(``choice``, ``capacity``), and how it is written down (``records``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from atc_pipeline.decision import capacity, choice, memory, records, standing
from atc_pipeline.decision.arms import Shares
from atc_pipeline.decision.catalogue import MOST_CUSTOMERS, WIDER_CUSTOMERS, Catalogue, catalogue_of
from atc_pipeline.decision.options import code_options, number_queues, options_of, score_options, with_probabilities
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, SCORED_CANDIDATES
from atc_pipeline.journeys.portfolio import CANDIDATE_TERMS, Journey, Portfolio
from atc_pipeline.rules import reach
from atc_pipeline.rules.limits import require_fits
from atc_pipeline.rules.probabilities import Probabilities
from atc_pipeline.tables.parts import in_parallel, lazily

SHARD = 32_768
"""Customers decided at once: their arrays stay in the caches (measured at a million: 131,072 at once take a third longer)."""


@dataclass(frozen=True, eq=False)
class Decided:
    """One day's decision: its option rows ruled (made shard by shard, when they are asked for), the memory after it, one row per
    customer, and one per journey."""

    candidates: pl.LazyFrame
    state: pl.DataFrame
    assignments: pl.DataFrame
    funnel: pl.DataFrame


@dataclass(frozen=True, eq=False)
class Contested:
    """Customers whose wishes are known, and not yet who of them holds a limited place.

    ``parts``: so many customers each; ``past``: the memory, numbered as ``catalogue`` has it; ``kept``: assignments that stand;
    ``given_up``: those that were delivered and give way.
    """

    parts: Sequence[records.Shard]
    people: pl.Series
    past: pl.DataFrame
    kept: pl.DataFrame
    given_up: pl.DataFrame
    catalogue: Catalogue
    today: date

    def wishes(self, portfolio: Portfolio) -> pl.DataFrame:
        """One row per option that counts for the limited places (``choice.wishes_for``), by ``customer_id`` and ``journey_id``."""
        is_limited = _is_limited(portfolio, self.catalogue)
        wishes = [choice.wishes_for(part.contested, is_limited, self.catalogue, part.offset) for part in self.parts if is_limited.any()]
        rows = pl.concat([pl.DataFrame(schema=choice.WISHES), *wishes]).join(self.kept.select("customer"), on="customer", how="anti")
        names = {"customer_id": self.people.gather(rows["customer"]), "journey_id": self.catalogue.journey_ids.gather(rows["journey"])}
        return rows.with_columns(**names).select(*WISHES)

    def taken(self, portfolio: Portfolio) -> pl.DataFrame:
        """One row per limited journey: how many are ``in_flight``, and how many ``entered`` it by what was delivered."""
        in_flight = _counted(self.past.filter(memory.IN_FLIGHT)["journey_id"])
        entered = _counted(pl.concat([self.kept, self.given_up]).filter(records.IS_ENTRY)["journey_id"])
        rows = [(journey.id, in_flight.get(journey.id, 0), entered.get(journey.id, 0)) for journey in _limited(portfolio)]
        return pl.DataFrame(rows, schema=TAKEN, orient="row")


WISHES = {
    "customer_id": pl.String(),
    "journey_id": pl.String(),
    **{name: dtype for name, dtype in choice.WISHES.items() if name not in ("customer", "journey")},
}
TAKEN = {"journey_id": pl.String(), "in_flight": pl.Int64(), "entered": pl.Int64()}


@dataclass(frozen=True, eq=False)
class Granted:
    """Who holds a limited place, ``customer_id`` and ``journey_id``; and what is to be told of each journey with such places."""

    holders: pl.DataFrame
    journeys: pl.DataFrame


def decide(
    queues: pl.LazyFrame,
    profiles: pl.LazyFrame,
    state: pl.DataFrame,
    goals: pl.LazyFrame,
    portfolio: Portfolio,
    *,
    today: date,
    delivered: pl.DataFrame | None = None,
    absorbed: pl.LazyFrame | None = None,
    arms: pl.LazyFrame | None = None,
    probabilities: Probabilities | None = None,
    shares: Shares | None = None,
    shard: int = SHARD,
) -> Decided:
    """Rule every option row and pick at most one journey per customer (SPEC 8): ``contest``, ``grant`` and ``settle`` of everybody.

    ``shares``: of variants that adapt. The rest as of ``contest``.
    """
    contested = contest(
        queues, profiles, state, goals, portfolio,
        today=today, delivered=delivered, absorbed=absorbed, arms=arms, probabilities=probabilities, shard=shard,
    )  # fmt: skip
    granted = grant(contested.wishes(portfolio), contested.taken(portfolio), portfolio)
    return settle(contested, granted, portfolio, shares)


def contest(
    queues: pl.LazyFrame,
    profiles: pl.LazyFrame,
    state: pl.DataFrame,
    goals: pl.LazyFrame,
    portfolio: Portfolio,
    *,
    today: date,
    delivered: pl.DataFrame | None = None,
    absorbed: pl.LazyFrame | None = None,
    arms: pl.LazyFrame | None = None,
    probabilities: Probabilities | None = None,
    shard: int = SHARD,
) -> Contested:
    """Find what each customer wishes (SPEC 8, steps 1 to 4 and 7).

    ``state``: the memory of yesterday, of customers as they are today (``memory.merge``). ``goals``: ``memory.goal_events``.
    ``delivered``: the assignments that messages of today were delivered for, if the day was activated before: they stand, and take
    their places first. ``absorbed``: who is somebody else by now (``identity.map.absorbed``), as far as these were written to under
    older names. ``arms``: who draws lots by another name than their own (``identity.map.arms``). ``probabilities``: what was learned of
    goals; in use ``live`` it decides, and else is written down beside the score. ``shard``: how many customers at once.
    """
    people = profiles.select(columns_needed(portfolio, probabilities)).sort("customer_id").collect()
    require_fits(people.height, MOST_CUSTOMERS, "customers", WIDER_CUSTOMERS)
    customers = people.lazy().select("customer_id", customer=pl.int_range(pl.len(), dtype=pl.UInt32))
    catalogue = catalogue_of(portfolio, state["journey_id"].unique(), today=today)
    arm_ids = _arm_ids(people, arms)
    past = memory.number(state, customers, catalogue)
    kept, older = standing.kept(delivered, absorbed, past, customers, catalogue)
    past = memory.advance(past, goals.join(customers, on="customer_id"), people, kept, portfolio, today=today)
    kept, given_up = standing.kept_after_all(kept, older, past, today)
    past = memory.note_given_up(past, given_up, today=today)
    coded = code_options(number_queues(queues, customers, catalogue), standing.carried(past, kept))

    numbers_only = past.drop("date", "customer_id", "journey_id")

    def of_part(offset: int) -> records.Shard:
        profiles_here = people.slice(offset, shard)
        past_here = _slice(numbers_only, offset, shard)
        finished = memory.last_finished(past_here, profiles_here.height)
        options = with_probabilities(options_of(coded, offset, shard, catalogue), profiles_here, probabilities, catalogue)
        scored = score_options(options, profiles_here, finished, portfolio, catalogue)
        shut = memory.gates_of(memory.Remembered(options, past_here, profiles_here, portfolio, catalogue, today))
        scored = scored.with_columns(pl.col("failed") | pl.Series(shut))
        entry_scores = _entry_scores(past_here, profiles_here.height)
        arms_here = arm_ids.slice(offset, shard)
        contested = choice.contest(scored, entry_scores, arms_here, portfolio, catalogue, today=today)
        return records.Shard(offset, profiles_here, arms_here, past_here, finished, contested)

    parts = in_parallel(of_part, range(0, people.height, shard))
    return Contested(parts, people["customer_id"], past, kept, given_up, catalogue, today)


def grant(wishes: pl.DataFrame, taken: pl.DataFrame, portfolio: Portfolio) -> Granted:
    """Give out the limited places over the whole population (SPEC 8, step 5).

    ``wishes``, ``taken``: those of ``Contested``, of all shards one below the other.
    """
    limited = sorted(_limited(portfolio), key=lambda journey: journey.id)
    sums = taken.group_by("journey_id").agg(pl.col("in_flight", "entered").sum())
    counted = {name: (in_flight, entered) for name, in_flight, entered in sums.iter_rows()}
    # Customers and journeys are numbered in the order of their names: so it is the same however the wishes were come by.
    names = pl.Series("journey_id", sorted({*wishes["journey_id"].unique(), *(journey.id for journey in limited)}), dtype=pl.String)
    number = {name: number for number, name in enumerate(names)}
    places = []
    for journey in limited:
        in_flight, entered = counted.get(journey.id, (0, 0))
        limits = [journey.daily_entries, None if journey.active is None else journey.active - in_flight]
        left = min(limit for limit in limits if limit is not None)
        places.append((number[journey.id], max(0, left - entered)))
    people = wishes["customer_id"].unique().sort()
    numbered = wishes.lazy().join(people.to_frame().lazy().with_row_index("customer"), on="customer_id", maintain_order="left")
    numbered = numbered.join(names.to_frame().lazy().with_row_index("journey"), on="journey_id", maintain_order="left")
    schema = {"journey": pl.UInt16(), "places": pl.Int64()}
    allocation = capacity.allocate(
        numbered.select(pl.col(name).cast(dtype) for name, dtype in choice.WISHES.items()).collect(),
        pl.DataFrame(places, schema=schema, orient="row"),
    )
    holders = allocation.granted.select(
        customer_id=people.gather(allocation.granted["customer"]), journey_id=names.gather(allocation.granted["journey"])
    )
    return Granted(holders, allocation.journeys.select("places", "price", journey_id=names.gather(allocation.journeys["journey"])))


def settle(contested: Contested, granted: Granted, portfolio: Portfolio, shares: Shares | None = None) -> Decided:
    """Rule the rows, remember what starts, and write down each customer's answer (SPEC 8, steps 5 and 6)."""
    catalogue, today, people = contested.catalogue, contested.today, contested.people
    is_limited = _is_limited(portfolio, catalogue)
    customers = people.to_frame("customer_id").lazy().with_row_index("customer")
    holders = granted.holders.lazy().join(customers, on="customer_id").join(catalogue.numbers(), on="journey_id")
    held = holders.select("customer", "journey").sort("customer").collect()

    def of_part(part: records.Shard) -> records.Done:
        length = part.profiles.height
        granted_here = held.filter(pl.col("customer").is_between(part.offset, part.offset + length, closed="left"))
        granted_here = granted_here.select(pl.col("customer") - part.offset, "journey")
        kept = _slice(contested.kept, part.offset, length)
        return records.settle(part, is_limited, granted_here, kept, portfolio, catalogue, today, shares)

    done = in_parallel(of_part, contested.parts)
    unseen = contested.past.filter(pl.col("customer").is_null())  # remembered, and without a profile today
    remembered = pl.concat([*(part.state for part in done), records.named_state(unseen, None, catalogue, today)])
    return Decided(
        candidates=lazily(lambda: (records.candidates(part, portfolio, catalogue, today) for part in done), SCORED_CANDIDATES.schema),
        state=remembered if unseen.is_empty() else remembered.sort("customer_id", "journey_id"),
        assignments=pl.concat([part.assignments for part in done]) if done else pl.DataFrame(schema=JOURNEY_ASSIGNMENTS.schema),
        funnel=records.funnel(done, granted.journeys, catalogue, today),
    )


def columns_needed(portfolio: Portfolio, probabilities: Probabilities | None = None) -> list[str]:
    """Name the profile's columns that deciding reads."""
    policy = portfolio.policy
    read = set(policy.score.columns) - set(CANDIDATE_TERMS)
    read |= set(probabilities.columns) if probabilities is not None else set()
    for condition in (policy.none, policy.suppressed_when, policy.cap.starts if policy.cap else None):
        read |= set(condition.columns) if condition is not None else set()
    used = {name for journey in portfolio.journeys for name in journey.channels}
    read |= {name for channel in portfolio.channels if channel.id in used for name in reach.columns(channel)}
    for journey in portfolio.journeys:
        read |= {f"interest_{topic}" for topic in journey.interests} | {f"intent_{intent}" for intent in journey.intents}
        read |= set(journey.exit_when.columns) if journey.exit_when is not None else set()
    return ["customer_id", *sorted(read - {"customer_id"})]


def _arm_ids(people: pl.DataFrame, arms: pl.LazyFrame | None) -> pl.Series:
    """By customer number, the name that lots are drawn by: that under which they were first known (SPEC 2)."""
    if arms is None:
        return people["customer_id"].alias("arm_id")
    known = people.lazy().select("customer_id").join(arms, on="customer_id", how="left", maintain_order="left")
    return known.select(pl.coalesce("arm_id", "customer_id").alias("arm_id")).collect().to_series()


def _slice(numbered: pl.DataFrame, offset: int, length: int) -> pl.DataFrame:
    """Return the rows of the customers from ``offset`` on, numbered from 0; ``numbered`` is sorted by customer, nulls last."""
    customer = numbered["customer"]
    start, end = (int(customer.drop_nulls().search_sorted(number)) for number in (offset, offset + length))
    return numbered.slice(start, end - start).with_columns(pl.col("customer") - offset)


def _entry_scores(past: pl.DataFrame, customers: int) -> np.ndarray:
    """By customer number: the score at entry of the journey in flight; NaN without one."""
    in_flight = past.filter(memory.IN_FLIGHT)
    scores = np.full(customers, np.nan)
    scores[in_flight["customer"]] = in_flight["entry_score"].fill_null(np.nan).to_numpy()
    return scores


def _limited(portfolio: Portfolio) -> list[Journey]:
    return [journey for journey in portfolio.journeys if journey.daily_entries is not None or journey.active is not None]


def _is_limited(portfolio: Portfolio, catalogue: Catalogue) -> np.ndarray:
    """By journey number: whether not everybody fits in."""
    return catalogue.journey_ids.is_in([journey.id for journey in _limited(portfolio)]).to_numpy()


def _counted(names: pl.Series) -> dict[str, int]:
    return dict(names.value_counts().iter_rows())
