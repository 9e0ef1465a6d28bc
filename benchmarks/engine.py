"""The engine as the benchmarks call it: the two things that are measured, and nothing about how.

What belongs here: one function per thing measured, from the world's files to results. What does not: clocks, or DuckDB.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import polars as pl

from atc_pipeline.decision.day import Decided, decide
from atc_pipeline.decision.memory import no_state
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.queues import queue_customers
from benchmarks.population import TODAY, World

Write = Callable[[str, Iterator[pl.DataFrame]], object]
"""Takes a table in parts: its name and rows, in the order of the table."""


def first_day(portfolio: Portfolio) -> Portfolio:
    """Return the portfolio without what only memory or chance can decide: the SQL knows neither."""
    journeys = tuple(replace(journey, only_after=()) for journey in portfolio.journeys)
    return replace(portfolio, journeys=journeys, policy=replace(portfolio.policy, explore=0.0))


def choose(world: World, portfolio: Portfolio) -> pl.DataFrame:
    """One row per customer, qualified, scored and chosen as on a first day: ``customer_id``, ``journey_id``, ``score``."""
    done = _decide(world, portfolio, None, no_state(), pl.LazyFrame(schema=_GOALS))
    return done.assignments.select("customer_id", "journey_id", "score")


def decide_day(world: World, portfolio: Portfolio, write: Write) -> None:
    """Decide the whole day, from yesterday's queues and memory: gates, rulings, memory and answers."""
    queues = pl.scan_parquet(world.table("journey_queues"))
    state = pl.read_parquet(world.table("journey_state"))
    done = _decide(world, portfolio, queues, state, pl.scan_parquet(world.table("goal_events")))
    write("scored_candidates", done.candidates)
    write("journey_state", iter([done.state]))
    write("journey_assignments", iter([done.assignments]))


def queue(world: World, portfolio: Portfolio, yesterday: pl.LazyFrame | None = None) -> pl.DataFrame:
    """One row per journey and customer who qualifies today."""
    memberships = pl.LazyFrame(schema={"segment_id": pl.String, "customer_id": pl.String})
    profiles = pl.scan_parquet(world.table("customer_profiles"))
    return queue_customers(profiles, memberships, yesterday, portfolio.journeys, today=TODAY).collect()


_GOALS = {"customer_id": pl.String, "event": pl.String, "event_date": pl.Date}


def _decide(world: World, portfolio: Portfolio, yesterday: pl.LazyFrame | None, before: pl.DataFrame, goals: pl.LazyFrame) -> Decided:
    profiles = pl.scan_parquet(world.table("customer_profiles"))
    queues = queue(world, portfolio, yesterday)
    return decide(queues.lazy(), profiles, before, goals, portfolio, today=TODAY)
