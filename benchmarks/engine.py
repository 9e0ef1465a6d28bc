"""The engine as the benchmarks call it: the two things that are measured, and nothing about how.

What belongs here: one function per thing measured, from the world's files to results. What does not: clocks, or DuckDB.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from atc_pipeline.decision.catalogue import catalogue_of
from atc_pipeline.decision.choice import NOBODY, contest
from atc_pipeline.decision.decide import SHARD, columns_needed, decide
from atc_pipeline.decision.options import code_options, options_of, score_options
from atc_pipeline.decision.queues import qualify, queue_customers
from atc_pipeline.journeys.portfolio import NONE, Portfolio
from atc_pipeline.rules.probabilities import Probabilities
from atc_pipeline.tables.parts import in_parallel
from benchmarks.population import TODAY, World

Write = Callable[[str, pl.DataFrame | pl.LazyFrame], object]
"""Takes a table: its name and rows."""


def first_day(portfolio: Portfolio) -> Portfolio:
    """Return the portfolio without what only memory or chance can decide: the SQL knows neither."""
    journeys = tuple(replace(journey, only_after=()) for journey in portfolio.journeys)
    return replace(portfolio, journeys=journeys, policy=replace(portfolio.policy, explore=0.0))


def choose(world: World, portfolio: Portfolio) -> pl.DataFrame:
    """One row per customer, qualified, scored and chosen as on a first day: ``customer_id``, ``journey_id`` (null: none), ``score``."""
    profiles = pl.scan_parquet(world.table("customer_profiles"))
    read = {
        name
        for journey in portfolio.journeys
        for condition in (journey.queue.where, journey.exit_when)
        if condition
        for name in condition.columns
    }
    people = profiles.select({*columns_needed(portfolio), *read}).collect()
    catalogue = catalogue_of(portfolio, [], today=TODAY)
    in_order = sorted(portfolio.journeys, key=lambda journey: journey.id)
    names = catalogue.journey_ids.set(catalogue.journey_ids == NONE, None)
    numbers = catalogue.journey_ids.search_sorted(pl.Series([journey.id for journey in in_order])).cast(pl.UInt16)

    def choose_some(offset: int) -> pl.DataFrame:
        these = people.slice(offset, SHARD)
        queued = qualify(these.lazy(), _NOBODY, in_order)
        coded = code_options(queued.with_columns(numbers.gather(queued["journey"]).alias("journey"), waiting_days=pl.lit(0)), _NOTHING)
        finished = pl.repeat(None, these.height, dtype=pl.UInt32, eager=True)
        scored = score_options(options_of(coded, 0, SHARD, catalogue), these, finished, portfolio, catalogue)
        contested = contest(scored, np.zeros(these.height), these["customer_id"], portfolio, catalogue, today=TODAY)
        chosen = np.where(contested.wish == NOBODY, contested.none, contested.wish)
        who = scored["customer"].gather(chosen)
        journeys = pl.repeat(catalogue.none, these.height, dtype=pl.UInt16, eager=True).scatter(who, scored["journey"].gather(chosen))
        scores = pl.repeat(None, these.height, dtype=pl.Float64, eager=True).scatter(who, scored["score"].gather(chosen))
        return pl.DataFrame([these["customer_id"], names.gather(journeys), scores.alias("score")])

    return pl.concat(in_parallel(choose_some, range(0, people.height, SHARD)))


def decide_day(world: World, portfolio: Portfolio, write: Write, probabilities: Probabilities | None = None) -> None:
    """Decide the whole day, from its queues and yesterday's memory: gates, rulings, memory and answers; by what is learned, if it is."""
    queues = pl.scan_parquet(world.table("journey_queues"))
    state = pl.read_parquet(world.table("journey_state"))
    profiles, goals = pl.scan_parquet(world.table("customer_profiles")), pl.scan_parquet(world.table("goal_events"))
    with threadpool_limits(None if probabilities is None else 1):  # as ``days.decision`` does
        done = decide(queues, profiles, state, goals, portfolio, today=TODAY, probabilities=probabilities)
    write("scored_candidates", done.candidates)
    write("journey_state", done.state)
    write("journey_assignments", done.assignments)


def queue(world: World, portfolio: Portfolio, yesterday: pl.LazyFrame | None = None) -> pl.DataFrame:
    """One row per journey and customer who qualifies today."""
    profiles = pl.scan_parquet(world.table("customer_profiles"))
    return queue_customers(profiles, _NOBODY, yesterday, portfolio.journeys, today=TODAY).collect()


_NOBODY = pl.LazyFrame(schema={"segment_id": pl.String, "customer_id": pl.String})
_NOTHING = pl.DataFrame(schema={"customer": pl.UInt32, "journey": pl.UInt16, "is_incumbent": pl.Boolean})
