"""What learning costs: the fit of all that matured in a year, and what its probabilities add to a day's decision.

The clock is the CPU's, of all threads. Figures are medians.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from statistics import median

import numpy as np
import polars as pl

from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import NONE, Goal, Learning, Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.learning.model import TRAINING, GoalModel, GoalProbabilities, counts_of, model_for_day
from atc_pipeline.rules.probabilities import MODEL

TODAY = date(2026, 12, 31)
SEED = 20_261_128
SHARD = 50_000
"""Customers that are scored at once."""
SCORED_BY = 20_000
"""Entries that the model is fitted on by which customers are scored: how many there are makes no difference to that."""
OPTIONS = 19
"""Journeys that a customer has a choice of, as in the benchmark of the decision."""


@dataclass(frozen=True)
class History:
    """Entries to learn from (``learning.model.History``)."""

    entries: pl.DataFrame

    def counts(self) -> pl.DataFrame:
        """One row per journey."""
        return counts_of(self.entries)

    def rows(self) -> pl.DataFrame:
        """One row per entry."""
        return self.entries


def measure_fit(entries: int, journeys: int, features: int, runs: int) -> None:
    """Fit the model of a day, and print the median and the goal."""
    portfolio = _portfolio(journeys, features)
    history = History(_entries(portfolio, entries))
    seconds = []
    for _ in range(runs):
        began = time.process_time()
        model = model_for_day(None, history, portfolio, today=TODAY)
        seconds.append(time.process_time() - began)
    assert model.fitted_on == TODAY
    print(f"fit on {entries:,} entries, {features} features, {journeys} journeys: four lambdas and the last (lambda {model.penalty:g})")
    print(f"median of {runs}: {median(seconds):.2f} s of CPU (goal: at most 25)")


def measure_scoring(customers: int, journeys: int, features: int, runs: int) -> None:
    """Score customers by a model of all journeys, and print the median and the goal."""
    portfolio = _portfolio(journeys, features)
    model = model_for_day(None, History(_entries(portfolio, SCORED_BY)), portfolio, today=TODAY)
    learned = GoalProbabilities(GoalModel.of(model.rows(portfolio, TODAY)), portfolio)
    ids = pl.Series([*(journey.id for journey in portfolio.journeys), NONE])
    seconds = []
    for _ in range(runs):
        rng = np.random.default_rng(SEED + 1)
        spent = 0.0
        for first in range(0, customers, SHARD):
            number = min(SHARD, customers - first)
            profiles = _profiles(rng, portfolio, number)
            customer = np.repeat(np.arange(number), OPTIONS)
            journey = rng.integers(0, len(ids), len(customer))
            began = time.process_time()
            learned.of(profiles, customer, journey, ids)
            spent += time.process_time() - began
        seconds.append(spent)
    source = learned.sources[portfolio.journeys[0].id]
    print(f"probabilities of {customers:,} customers x {journeys} journeys, {OPTIONS} options each, {features} features (by {source})")
    print(f"median of {runs}: {median(seconds):.2f} s of CPU (goal: at most 6 a million)")


FEATURES = 25
"""Columns of the profile that a day is decided by."""


def learning_live(portfolio: Portfolio, columns: Mapping[str, pl.DataType]) -> Portfolio:
    """Return the portfolio with a goal for each journey, and with what is learned deciding by so many columns."""
    able = {name: dtype for name, dtype in columns.items() if dtype.is_numeric() or dtype == pl.Boolean()}
    learning = Learning(use="live", features=dict(list(able.items())[:FEATURES]))
    journeys = tuple(replace(journey, goal=Goal("Order Completed", 14, None)) for journey in portfolio.journeys)
    return replace(portfolio, journeys=journeys, learning=learning)


def learned_from(portfolio: Portfolio, profiles: pl.DataFrame) -> GoalProbabilities:
    """Fit a model to made-up entries of these customers, one each."""
    assert portfolio.learning is not None
    rng = np.random.default_rng(SEED)
    ids = [journey.id for journey in portfolio.journeys]
    number, telling = profiles.height, max(portfolio.learning.features, key=lambda name: profiles[name].n_unique())
    logit = -2 + 4 * (profiles[telling].cast(pl.Float64).fill_null(0).rank() / number).to_numpy()
    entries = profiles.select(
        pl.lit(TODAY - timedelta(days=30)).alias("entered_on"),
        "customer_id",
        journey_id=pl.Series(ids).gather(rng.integers(0, len(ids), number)),
        is_treated=pl.Series(rng.random(number) < 0.9),
        goal=pl.Series(rng.random(number) < 1 / (1 + np.exp(-logit))),
        **{name: pl.col(name) for name in portfolio.learning.features if name != "customer_id"},
    )
    model = model_for_day(None, History(entries.sort("entered_on", "customer_id", "journey_id")), portfolio, today=TODAY)
    learned = GoalProbabilities(model, portfolio)
    assert set(learned.sources.values()) == {MODEL}, "the model must decide, or nothing is measured"
    return learned


def _portfolio(journeys: int, features: int) -> Portfolio:
    listed = "".join(
        f"\n  - {{id: j{number:03}, length_days: 7, queue: {{where: 'true'}}, holdout: 0.1, "
        f"goal: {{event: Order Completed, within_days: 14}}}}"
        for number in range(journeys)
    )
    traits = "".join(f"\n  t{number:02}: {{count: Page Viewed {number}, within_days: 30}}" for number in range(features))
    text = f"""
version: "1"
calendar: {{timezone: UTC, starts_on: 2026-01-01}}
channels: {{email: {{consent: none}}}}
traits:{traits}
learning: {{features: [{", ".join(f"t{number:02}" for number in range(features))}]}}
policy: {{explore: 0.02}}
journeys:{listed}
"""
    return resolve(parse_document(text, "journeys.yaml"))


def _profiles(rng: np.random.Generator, portfolio: Portfolio, number: int) -> pl.DataFrame:
    """One row per customer: counts, one in twenty of them unknown."""
    assert portfolio.learning is not None
    return pl.DataFrame(
        {
            name: pl.Series(np.where(rng.random(number) < 0.05, np.nan, rng.poisson(3, number)), nan_to_null=True).cast(dtype)
            for name, dtype in portfolio.learning.features.items()
        }
    )


def _entries(portfolio: Portfolio, number: int) -> pl.DataFrame:
    """One row per entry, in order: four features and the journey say what came of it."""
    rng = np.random.default_rng(SEED)
    ids = [journey.id for journey in portfolio.journeys]
    profiles = _profiles(rng, portfolio, number)
    journey, is_treated = rng.integers(0, len(ids), number), rng.random(number) < 0.9
    effect = rng.normal(0.4, 0.3, len(ids))
    known = profiles[:, :4].fill_null(3).to_numpy() - 3.0
    logit = -2 + known @ np.array([0.3, 0.2, -0.2, 0.1]) + is_treated * effect[journey]
    entries = pl.DataFrame(
        {
            "entered_on": np.sort(rng.integers(0, 340, number)),
            "customer_id": [f"c{place:07}" for place in rng.integers(0, number // 2, number)],
            "journey_id": pl.Series(ids).gather(journey),
            "is_treated": is_treated,
            "goal": rng.random(number) < 1 / (1 + np.exp(-logit)),
        }
    ).with_columns(pl.lit(TODAY - timedelta(days=360)).dt.offset_by(pl.format("{}d", "entered_on")).alias("entered_on"))
    return pl.concat([entries.select(*TRAINING), profiles], how="horizontal").sort("entered_on", "customer_id", "journey_id")
