"""A day's decision, from queues and memory to one answer per customer (SPEC 7, 8).

Customers are decided in shards, each by itself and on any core; only limited places are given out over the whole population,
between the two halves of the work. The same input gives the same tables however many shards and threads there are.

What belongs here: the order of the steps, and how many places there are. What does not: who stays (``standing``), who gets what
(``choice``, ``capacity``), and how it is written down (``records``).
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from atc_pipeline.decision import capacity, choice, memory, records, standing
from atc_pipeline.decision.arms import Shares
from atc_pipeline.decision.catalogue import MOST_CUSTOMERS, WIDER_CUSTOMERS, Catalogue, catalogue_of
from atc_pipeline.decision.options import code_options, number_queues, options_of, score_options, with_probabilities
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, SCORED_CANDIDATES
from atc_pipeline.journeys.portfolio import CANDIDATE_TERMS, Portfolio
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
    """Rule every option row and pick at most one journey per customer (SPEC 8).

    ``state``: the memory of yesterday, of customers as they are today (``memory.merge``). ``goals``: ``memory.goal_events``.
    ``delivered``: the assignments that messages of today were delivered for, if the day was activated before: they stand, and take
    their places first. ``absorbed``: who is somebody else by now (``identity.map.absorbed``), as far as these were written to under
    older names. ``arms``: who draws lots by another name than their own (``identity.map.arms``). ``probabilities``: what was learned of
    goals; in use ``live`` it decides, and else is written down beside the score. ``shares``: of variants that adapt.
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

    def contest(offset: int) -> records.Shard:
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

    shards = in_parallel(contest, range(0, people.height, shard))
    places = _places(past, pl.concat([kept, given_up]), portfolio, catalogue)
    is_limited = np.zeros(catalogue.facts.height, dtype=bool)
    is_limited[places["journey"]] = True
    wishes = [choice.wishes_for(part.contested, is_limited, catalogue, part.offset) for part in shards] or [
        pl.DataFrame(schema=choice.WISHES)
    ]
    allocation = capacity.allocate(pl.concat(wishes).join(kept.select("customer"), on="customer", how="anti"), places)

    def settle(part: records.Shard) -> records.Done:
        granted = allocation.granted.filter(pl.col("customer").is_between(part.offset, part.offset + shard, closed="left"))
        granted = granted.select(pl.col("customer") - part.offset, "journey")
        return records.settle(part, is_limited, granted, _slice(kept, part.offset, shard), portfolio, catalogue, today, shares)

    done = in_parallel(settle, shards)
    unseen = past.filter(pl.col("customer").is_null())  # remembered, and without a profile today
    remembered = pl.concat([*(part.state for part in done), records.named_state(unseen, None, catalogue, today)])
    return Decided(
        candidates=lazily(lambda: (records.candidates(part, portfolio, catalogue, today) for part in done), SCORED_CANDIDATES.schema),
        state=remembered if unseen.is_empty() else remembered.sort("customer_id", "journey_id"),
        assignments=pl.concat([part.assignments for part in done]) if done else pl.DataFrame(schema=JOURNEY_ASSIGNMENTS.schema),
        funnel=records.funnel(done, allocation.journeys, catalogue, today),
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


def _places(past: pl.DataFrame, kept: pl.DataFrame, portfolio: Portfolio, catalogue: Catalogue) -> pl.DataFrame:
    """One row per limited journey: ``journey``, and the ``places`` it has for others than those already delivered (SPEC 8, step 5)."""
    limited = [journey for journey in portfolio.journeys if journey.daily_entries is not None or journey.active is not None]
    if not limited:
        return pl.DataFrame(schema={"journey": pl.UInt16, "places": pl.Int64})
    in_flight = _counted(past.filter(memory.IN_FLIGHT)["journey_id"])
    taken = _counted(kept.filter(records.IS_ENTRY)["journey_id"])
    number = {name: number for number, name in enumerate(catalogue.journey_ids)}
    places = []
    for journey in limited:
        limits = [journey.daily_entries, None if journey.active is None else journey.active - in_flight.get(journey.id, 0)]
        left = min(limit for limit in limits if limit is not None)
        places.append((number[journey.id], max(0, left - taken.get(journey.id, 0))))
    return pl.DataFrame(sorted(places), schema={"journey": pl.UInt16, "places": pl.Int64}, orient="row")


def _counted(names: pl.Series) -> dict[str, int]:
    return dict(names.value_counts().iter_rows())
