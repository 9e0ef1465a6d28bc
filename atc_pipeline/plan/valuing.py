"""What another portfolio would have earned, from the lake: every decision of recorded days made once more by it, from the recorded memory.

What belongs here: which decisions count, what either portfolio draws in each, and what came of it. What does not: the estimate
(``learning.value``), a course of days (``courses``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import polars as pl
from threadpoolctl import threadpool_limits

from atc_pipeline.days.customers import Memberships
from atc_pipeline.days.decision import Decision, Queues
from atc_pipeline.days.learning import Past as Learned
from atc_pipeline.days.measured import Measured
from atc_pipeline.days.step import write_day
from atc_pipeline.explanation.reading import PortfolioOf
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.changes import Changes, changes
from atc_pipeline.journeys.portfolio import NONE, Portfolio
from atc_pipeline.learning.value import Status, Value, value_of, words
from atc_pipeline.outcomes.verdicts import price_of_message
from atc_pipeline.plan.courses import Progress, catch_up
from atc_pipeline.plan.replay import standing
from atc_pipeline.rules.arms import POLICY, TREATED
from atc_pipeline.rules.people import survivors
from atc_pipeline.tables.store import Store

WINDOW_DAYS = 28
"""Days after a decision whose money is its reward, where ``measurement.window_days`` does not say."""
LOST = ("chosen", "outscored", "capacity")
"""Rulings of options that failed no gate."""
WITHOUT_LOTS = ("switch_margin", "can_interrupt", "interruptible")
"""Keys that decide who is interrupted, which is never drawn by chance."""
CHOICES = pl.Schema({"customer_id": pl.String(), "journey_id": pl.String(), "probability": pl.Float64()})


@dataclass(frozen=True, eq=False)
class Asked:
    """The decisions that a value is of, and what either portfolio draws in each (``learning.value.value_of``)."""

    points: pl.DataFrame
    draws: pl.DataFrame


@dataclass(frozen=True, eq=False)
class Valued:
    """The value of another portfolio, in words: first what may be concluded, then what nothing is said of; and of which days."""

    value: Value
    words: tuple[str, ...]
    first: date | None
    last: date | None
    asked: Asked


def matured_days(store: Store, portfolio: Portfolio, last: date, number: int) -> list[date]:
    """Return the latest days up to ``last`` whose decisions have matured by then, without a gap."""
    day = last - timedelta(days=_window_days(portfolio) + portfolio.measurement.late_days)
    days: list[date] = []
    while len(days) < number and day > portfolio.starts_on and store.has("journey_entries", day):
        days.append(day)
        day -= timedelta(days=1)
    return days[::-1]


def worth(
    store: Store, fresh: Store, portfolio_of: PortfolioOf, changed: Portfolio, days: Sequence[date], last: date
) -> Iterator[Progress | Valued]:
    """Yield what has been made of each day, and last the value.

    ``store``: what was recorded. ``fresh``: a store over it that is thrown away. ``days``: ``matured_days``. ``last``: the day by which
    they have matured.
    """
    now = portfolio_of(last)
    unit = "net money" if now.measurement.margin is not None else "money"
    points, draws = [], []
    says = _why_nothing(now, [portfolio_of(day) for day in days])
    differing = changes(now, changed)
    if says is None:
        yield from catch_up(fresh, changed, differing, days[0], days[-1])
    steps: Sequence[Memberships | Queues] = (Memberships(fresh, changed), Queues(fresh, changed))
    decision = Decision(fresh, _keeping_all(changed), is_measured=False)
    for day in days if says is None else ():
        for step in steps:
            write_day(fresh, step, day)
        recorded, entered = portfolio_of(day), _decided(store, day)
        logged = _draws(_candidates(store, recorded, day), entered, recorded).rename({"probability": "mu"})
        drawn = _draws(decision.make(day)["scored_candidates"].lazy(), entered, changed).rename({"probability": "pi"})
        both = logged.join(drawn, on=["customer_id", "journey_id"], how="full", coalesce=True).with_columns(pl.col("pi").fill_null(0.0))
        draws.append(_in_force(store, both, recorded, day))
        wants_full = pl.col("taken").is_in(_full(store, day)) | pl.col("is_squeezed")
        points.append(entered.with_columns(decided_on=pl.lit(day), wants_full=wants_full))
        yield "valuing", day
    of = Asked(pl.concat(points) if points else pl.DataFrame(), pl.concat(draws) if draws else pl.DataFrame())
    result = Value(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0.0, Status.NONE)
    if of.points.height:
        known, features = _with_features(store, now, _rewarded(store, now, of.points, last))
        with threadpool_limits(1):
            result = value_of(known, of.draws, features)
    sentences = (says or f"{unit}: {words(result, len(days))}", *_unsaid(differing))
    yield Valued(result, sentences, days[0] if days else None, days[-1] if days else None, of)


def _why_nothing(now: Portfolio, recorded: Sequence[Portfolio]) -> str | None:
    """Say why no value can be told at all; None where it is worth looking."""
    if now.money is None:
        return "Nothing can be said: nothing is measured in money. Name measurement.money, or predictions."
    if not recorded:
        back = _window_days(now) + now.measurement.late_days
        return f"Nothing can be said: what comes of a decision is known after {back} days, and none is that old."
    if all(portfolio.policy.explore <= 0 for portfolio in recorded):
        return "Nothing can be said: nothing was drawn by chance (policy.explore was 0)."
    return None


def _candidates(store: Store, recorded: Portfolio, day: date) -> pl.LazyFrame:
    """Return every option of a recorded day; decided once more where only the best so many were kept."""
    if recorded.policy.keep_candidates is None:
        return store.lazy("scored_candidates", day)
    again = Decision(store, _keeping_all(recorded), standing(store, day), is_measured=False)
    return again.make(day)["scored_candidates"].lazy()


def _window_days(portfolio: Portfolio) -> int:
    return portfolio.measurement.window_days or WINDOW_DAYS


def _keeping_all(portfolio: Portfolio) -> Portfolio:
    return replace(portfolio, policy=replace(portfolio.policy, keep_candidates=None))


def _decided(store: Store, day: date) -> pl.DataFrame:
    """Return decisions of customers who were in no journey: those who entered one, unless ``policy`` holds them out.

    And who would have, but for a place: such a decision is counted, and what came of it says nothing.
    """
    is_point = (pl.col("decision") == "start") & (pl.col("held_out_by").fill_null("") != POLICY) & pl.col("options").is_not_null()
    entered = (
        store.lazy("journey_entries", day)
        .filter(is_point)
        .select(
            "customer_id",
            taken="journey_id",
            is_treated=pl.col("arm") == TREATED,
            is_squeezed=pl.col("selection_probability").is_null(),
        )
    )
    left_out = (
        store.lazy("journey_assignments", day)
        .filter(pl.col("decision") == "none", pl.col("selection_probability").is_null())
        .select("customer_id", taken=pl.lit(NONE), is_treated=pl.lit(value=False), is_squeezed=pl.lit(value=True))
    )
    return pl.concat([entered, left_out]).sort("customer_id", "taken").collect()


def _in_force(store: Store, draws: pl.DataFrame, portfolio: Portfolio, day: date) -> pl.DataFrame:
    """Add the share that each journey held out, and what a place of it was worth that day."""
    shares = {journey.id: journey.holdout for journey in portfolio.journeys}
    prices = store.lazy("journey_funnel", day).select("journey_id", pl.col("price").fill_null(0.0))
    return (
        draws.lazy()
        .join(prices, on="journey_id", how="left")
        .with_columns(
            pl.col("price").fill_null(0.0),
            decided_on=pl.lit(day),
            holdout=pl.col("journey_id").replace_strict(shares, default=0.0, return_dtype=pl.Float64),
        )
        .collect()
    )


def _draws(candidates: pl.LazyFrame, points: pl.DataFrame, portfolio: Portfolio) -> pl.DataFrame:
    """Return with which probability a portfolio draws each option for these customers, from its ``scored_candidates`` (``CHOICES``).

    Of whom nothing is eligible there is no row: they get nothing.
    """
    asked = points.lazy().select("customer_id")
    rows = candidates.join(asked, on="customer_id", how="semi").select(
        "customer_id", "journey_id", "mandatory", "score", "rank", "ruling", "failed_gates", "is_incumbent"
    )
    none = rows.filter(pl.col("journey_id") == NONE).select("customer_id", none="score")
    losses = pl.col("failed_gates").list.eval(~pl.element().is_in([*LOST, "in_flight"])).list.any()
    eligible = (
        rows.filter(pl.col("journey_id") != NONE, ~pl.col("is_incumbent"), ~losses)
        .join(none, on="customer_id", how="left")
        .filter(pl.col("mandatory") | (pl.col("score") > pl.col("none").fill_null(0.0)))
        .with_columns(
            is_best=pl.col("rank") == pl.col("rank").min().over("customer_id"),
            options=pl.len().over("customer_id"),
            share=pl.when(pl.col("mandatory").any().over("customer_id")).then(0.0).otherwise(portfolio.policy.explore),
        )
        .select(
            "customer_id",
            "journey_id",
            probability=pl.when("is_best").then(1 - pl.col("share")).otherwise(0.0) + pl.col("share") / pl.col("options"),
        )
        .collect()
    )
    return eligible.cast(CHOICES).sort("customer_id", "journey_id")


def _full(store: Store, day: date) -> list[str]:
    funnel = store.lazy("journey_funnel", day)
    return funnel.filter(pl.col("wanted") > pl.col("places")).select("journey_id").collect()["journey_id"].to_list()


def _unsaid(differing: Changes) -> Iterator[str]:
    keys = {edit.key for change in differing.every for edit in change.edits if edit.key in WITHOUT_LOTS}
    if keys:
        yield f"Nothing is said of {', '.join(sorted(keys))}: who is interrupted is never drawn by chance."


def _rewarded(store: Store, now: Portfolio, decided: pl.DataFrame, last: date) -> pl.DataFrame:
    """Add whose each decision is by now, and what came of it in money by the end of its window, less what its messages cost."""
    money = next(metric for metric in now.measured if metric.id == now.money)
    names = survivors(decided.lazy().select("customer_id"), absorbed(store.lazy("identity_map", last))).collect()["customer_id"]
    rows = decided.with_columns(known_as=names).with_row_index("row")
    until = pl.col("decided_on") + pl.duration(days=_window_days(now))
    spans = rows.select("row", customer_id="known_as", after="decided_on", until=until)
    earned = Measured(store, now).sums(last, spans, [money]).lazy().select("row", earned=money.id)
    outcomes = store.scan("journey_outcomes", store.days("journey_outcomes"), may_lack=True)
    sent = pl.LazyFrame(schema={"customer_id": pl.String(), "taken": pl.String(), "decided_on": pl.Date(), "delivered": pl.Int64()})
    if outcomes is not None:
        sent = outcomes.select("customer_id", "delivered", taken="journey_id", decided_on="entered_on")
    prices = {journey.id: price_of_message(journey, now) for journey in now.journeys}
    cost = pl.col("delivered").fill_null(0) * pl.col("taken").replace_strict(prices, default=0.0, return_dtype=pl.Float64)
    margin = 1.0 if now.measurement.margin is None else now.measurement.margin
    return (
        rows.lazy()
        .join(earned, on="row", how="left")
        .join(sent, on=["customer_id", "taken", "decided_on"], how="left")
        .with_columns(reward=pl.col("earned").fill_null(0.0) * margin - cost)
        .drop("row", "earned", "delivered")
        .collect()
    )


def _with_features(store: Store, now: Portfolio, points: pl.DataFrame) -> tuple[pl.DataFrame, Sequence[str]]:
    """Add what was known of each customer at the decision."""
    if now.learning is None:
        return points, ()
    past = Learned(store, now)
    known = [past.features_of(day).with_columns(decided_on=pl.lit(day)) for day in points["decided_on"].unique().sort()]
    features = pl.concat(known).rename({"journey_id": "taken"})
    return points.join(features, on=["decided_on", "customer_id", "taken"], how="left"), list(now.learning.features)
