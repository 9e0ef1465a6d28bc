"""What another portfolio would have earned, from the lake: every decision of recorded days made once more by it, from the recorded memory.

What belongs here: which decisions count, what either portfolio draws in each, and what came of it. What does not: the estimate
(``learning.value``), a course of days (``courses``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import polars as pl

from atc_pipeline.days.customers import Memberships
from atc_pipeline.days.decision import Decision, Queues
from atc_pipeline.days.learning import Past as Learned
from atc_pipeline.days.measured import Measured
from atc_pipeline.days.step import write_day
from atc_pipeline.explanation.reading import PortfolioOf
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.changes import Changes, changes
from atc_pipeline.journeys.portfolio import NONE, Portfolio
from atc_pipeline.learning.basis import Basis
from atc_pipeline.learning.value import NOTHING, Log, Value, in_words, value
from atc_pipeline.outcomes.verdicts import price_of_message
from atc_pipeline.plan.courses import Progress, catch_up
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


@dataclass(frozen=True)
class Valued:
    """The value of another portfolio, in words, and what was left out: decisions without a place, and changes that nothing tells of."""

    value: Value
    words: tuple[str, ...]
    squeezed: int
    first: date | None
    last: date | None


def matured_days(store: Store, portfolio: Portfolio, last: date, number: int) -> list[date]:
    """Return the latest days up to ``last`` whose decisions have matured by then, without a gap."""
    day = last - timedelta(days=_window_days(portfolio) + portfolio.measurement.late_days)
    days: list[date] = []
    while len(days) < number and day > portfolio.starts_on and store.has("journey_entries", day):
        days.append(day)
        day -= timedelta(days=1)
    return days[::-1]


def value_of(
    store: Store, fresh: Store, portfolio_of: PortfolioOf, other: Portfolio, days: Sequence[date], last: date
) -> Iterator[Progress | Valued]:
    """Yield what has been made of each day, and last the value.

    ``store``: what was recorded. ``fresh``: a store over it that is thrown away. ``days``: ``matured_days``. ``last``: the day by which
    they have matured.
    """
    now = portfolio_of(last)
    differing = changes(now, other)
    points, logged, drawn, squeezed, full = [], [], [], 0, 0
    if days:
        yield from catch_up(fresh, other, differing, days[0], days[-1])
    step: Sequence[Memberships | Queues] = (Memberships(fresh, other), Queues(fresh, other))
    decision = Decision(fresh, _keeping_all(other), is_measured=False)
    for day in days:
        for each in step:
            write_day(fresh, each, day)
        recorded = portfolio_of(day)
        entered = _entered(store, day)
        squeezed += entered.filter(pl.col("selection_probability").is_null()).height
        counted = entered.drop_nulls("selection_probability")
        of_log = _draws(store.lazy("scored_candidates", day), counted, recorded)
        of_other = _draws(decision.make(day)["scored_candidates"].lazy(), counted, other)
        places = _full(store, day)
        full += pl.concat([of_log, of_other]).filter(pl.col("journey_id").is_in(places)).select("customer_id").unique().height
        points.append(counted.with_columns(date=pl.lit(day)))
        logged.append(of_log.with_columns(date=pl.lit(day)))
        drawn.append(of_other.with_columns(date=pl.lit(day)))
        yield "valuing", day
    told, what = _valued(store, now, points, logged, drawn, last, squeezed, full)
    explore = now.policy.explore
    words = [*in_words(told, what=what, squeezed=squeezed, explore=explore, days=len(days)), *_unsaid(differing)]
    yield Valued(told, tuple(words), squeezed, days[0] if days else None, days[-1] if days else None)


def _window_days(portfolio: Portfolio) -> int:
    return portfolio.measurement.window_days or WINDOW_DAYS


def _keeping_all(portfolio: Portfolio) -> Portfolio:
    return replace(portfolio, policy=replace(portfolio.policy, keep_candidates=None))


def _entered(store: Store, day: date) -> pl.DataFrame:
    """Return decisions of customers who were in no journey and entered one, unless ``policy`` holds them out."""
    entries = store.lazy("journey_entries", day)
    is_point = (pl.col("decision") == "start") & (pl.col("held_out_by").fill_null("") != POLICY) & pl.col("options").is_not_null()
    return (
        entries.filter(is_point)
        .select("customer_id", "journey_id", "arm", "holdout", "selection_probability")
        .sort("customer_id", "journey_id")
        .collect()
    )


def _draws(candidates: pl.LazyFrame, points: pl.DataFrame, portfolio: Portfolio) -> pl.DataFrame:
    """Return with which probability a portfolio draws each option for these customers, from its ``scored_candidates`` (``CHOICES``)."""
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
    nothing = points.select("customer_id").join(eligible, on="customer_id", how="anti")
    silent = nothing.with_columns(journey_id=pl.lit(NONE), probability=pl.lit(1.0))
    return pl.concat([eligible.cast(CHOICES), silent.cast(CHOICES)]).sort("customer_id", "journey_id")


def _full(store: Store, day: date) -> list[str]:
    funnel = store.lazy("journey_funnel", day)
    return funnel.filter(pl.col("wanted") > pl.col("places")).select("journey_id").collect()["journey_id"].to_list()


def _valued(
    store: Store,
    now: Portfolio,
    points: Sequence[pl.DataFrame],
    logged: Sequence[pl.DataFrame],
    drawn: Sequence[pl.DataFrame],
    last: date,
    squeezed: int,
    full: int,
) -> tuple[Value, str]:
    what = "net money" if now.measurement.margin is not None else "money"
    counted = pl.concat(points).with_row_index("point") if points else pl.DataFrame()
    money = next((metric for metric in now.measured if metric.id == now.money), None)
    if not counted.height or money is None:
        nothing = np.zeros(0)
        none = np.zeros(0, dtype=np.int64)
        return value(Log(none, np.zeros((0, 0)), none, none > 0, nothing, nothing, none, none, nothing, nothing, 0)), what
    ids = sorted({*counted["journey_id"], *(id_ for frame in (*logged, *drawn) for id_ in frame["journey_id"])} - {NONE})
    number = {id_: place for place, id_ in enumerate(ids)} | {NONE: NOTHING}
    both = (
        pl.concat(logged)
        .join(pl.concat(drawn), on=["date", "customer_id", "journey_id"], how="full", coalesce=True, suffix="_other")
        .join(counted.select("point", "date", "customer_id"), on=["date", "customer_id"])
        .sort("point", "journey_id")
    )
    rewards = _rewards(store, now, counted, last)
    known = survivors(counted.lazy().select("customer_id"), absorbed(store.lazy("identity_map", last))).collect()["customer_id"]
    log = Log(
        known.rank("dense").cast(pl.Int64).to_numpy() - 1,
        _terms(store, now, counted),
        _numbers(counted["journey_id"], number),
        (counted["arm"] == TREATED).to_numpy(),
        counted["holdout"].to_numpy(),
        rewards,
        both["point"].cast(pl.Int64).to_numpy(),
        _numbers(both["journey_id"], number),
        both["probability"].fill_null(0.0).to_numpy(),
        both["probability_other"].fill_null(0.0).to_numpy(),
        len(ids),
    )
    return value(log, coupled=(full + squeezed) / (counted.height + squeezed)), what


def _numbers(names: pl.Series, number: dict[str, int]) -> np.ndarray:
    return names.replace_strict(number, return_dtype=pl.Int64).to_numpy()


def _rewards(store: Store, now: Portfolio, counted: pl.DataFrame, last: date) -> np.ndarray:
    """Return what came of each decision in money: of what was earned, less what its messages cost, less the place that it took."""
    money = next(metric for metric in now.measured if metric.id == now.money)
    days = _window_days(now)
    names = survivors(counted.lazy().select("customer_id"), absorbed(store.lazy("identity_map", last))).collect()["customer_id"]
    spans = counted.select(row="point", after="date", until=pl.col("date") + pl.duration(days=days)).with_columns(customer_id=names)
    sums = Measured(store, now).sums(last, spans.select("row", "customer_id", "after", "until"), [money])
    earned = counted.select(row="point").join(sums.select("row", money.id), on="row", how="left")[money.id].fill_null(0.0).to_numpy()
    margin = now.measurement.margin
    prices = {journey.id: price_of_message(journey, now) for journey in now.journeys}
    outcomes = store.scan("journey_outcomes", store.days("journey_outcomes"), may_lack=True)
    sent = pl.LazyFrame(schema={"customer_id": pl.String(), "journey_id": pl.String(), "date": pl.Date(), "delivered": pl.Int64()})
    if outcomes is not None:
        sent = outcomes.select("customer_id", "journey_id", "delivered", date="entered_on")
    places = store.scan("journey_funnel", counted["date"].unique().to_list(), may_lack=True)
    assert places is not None
    costs = (
        counted.lazy()
        .select("point", "customer_id", "journey_id", "date", "arm")
        .join(sent, on=["customer_id", "journey_id", "date"], how="left")
        .join(places.select("date", "journey_id", "price"), on=["date", "journey_id"], how="left")
        .with_columns(each=pl.col("journey_id").replace_strict(prices, default=0.0, return_dtype=pl.Float64))
        .sort("point")
        .select(cost=pl.col("delivered").fill_null(0) * pl.col("each") + pl.col("price").fill_null(0.0))
        .collect()["cost"]
        .to_numpy()
    )
    return np.asarray(earned * (1.0 if margin is None else margin) - costs)


def _terms(store: Store, now: Portfolio, counted: pl.DataFrame) -> np.ndarray:
    """Return what is known of each customer at the decision, centred and scaled."""
    if now.learning is None:
        return np.zeros((counted.height, 0))
    past = Learned(store, now)
    features = pl.concat([past.features_of(day).with_columns(date=pl.lit(day)) for day in counted["date"].unique().sort()])
    rows = counted.join(features, on=["date", "customer_id", "journey_id"], how="left", maintain_order="left")
    basis = Basis.of(rows, now.learning.features)
    return np.asarray((basis.matrix(rows) - basis.means) / basis.scales)


def _unsaid(differing: Changes) -> Iterator[str]:
    keys = {edit.key for change in differing.every for edit in change.edits if edit.key in WITHOUT_LOTS}
    if keys:
        yield f"Nothing is said of {', '.join(sorted(keys))}: who is interrupted is never drawn by chance."
