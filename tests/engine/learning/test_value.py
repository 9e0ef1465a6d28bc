"""What another portfolio would have earned: on logs small enough to check by hand, and the public figures of Open Bandit Data.

What belongs here: the statistics. What does not: how often intervals cover, which the certificate tries on many drawn logs.
"""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from atc_pipeline.certificate.claim import Scale
from atc_pipeline.certificate.values import other_policies_are_valued_right
from atc_pipeline.learning import value as module
from atc_pipeline.learning.value import Status, Value, days_until, value_of, weigh, words

OPEN_BANDIT = Path(__file__).parent / "open_bandit"
DAY = date(2026, 1, 1)


def log(*, customers: int = 2_000, pi: float = 0.5, eligible: bool = True, price: float = 0.0, holdout: float = 0.0, **flags: Any) -> Any:
    """Return a log of two journeys, one half each, of which b earns 1 and a nothing; pi is that of b, and what is left that of a."""
    rows = pl.DataFrame({"number": range(customers)})
    points = rows.select(
        customer_id=pl.format("c{}", "number"),
        known_as=pl.format("c{}", "number"),
        decided_on=pl.lit(DAY),
        taken=pl.when(pl.lit(eligible) & (pl.col("number") % 2 == 1)).then(pl.lit("b")).otherwise(pl.lit("a")),
        is_treated=pl.col("number") // 2 % 10 >= 10 * holdout,
        is_squeezed=pl.lit(value=flags.get("squeezed", False)),
        wants_full=pl.lit(value=flags.get("full", False)),
        age=pl.col("number") % 7,
    ).with_columns(reward=((pl.col("taken") == "b") & pl.col("is_treated")).cast(pl.Float64))
    at = points.select("customer_id", "decided_on")
    half = 0.5 if eligible else 1.0
    draws = pl.concat(
        at.with_columns(journey_id=pl.lit(journey), mu=pl.lit(mu, pl.Float64), pi=pl.lit(to), holdout=holdout, price=of)
        for journey, mu, to, of in (("a", half, flags.get("pi_a", 1 - pi), 0.0), ("b", 0.5 if eligible else None, pi, price))
    )
    return points, draws


def value(**options: Any) -> Value:
    """Value a log."""
    points, draws = log(**options)
    return value_of(points, draws, ["age"])


def test_a_portfolio_that_always_draws_the_better_journey_is_worth_half_of_it_more() -> None:
    """From half to all of what earns 1 is one half, and the interval holds it."""
    better = value(pi=1.0)

    assert better.status is Status.OK
    assert better.difference == pytest.approx(0.5, abs=0.01)
    assert better.low is not None
    assert better.high is not None
    assert better.low <= 0.5 <= better.high
    assert better.effective == 1_000


def test_what_both_would_draw_alike_adds_exactly_nothing() -> None:
    """The same probabilities are a difference of 0, without a rounding error, and there is nothing to judge."""
    same = value(pi=0.5)

    assert same.disagree == 0
    assert same.direct == 0
    assert same.difference is None
    assert "nothing to value" in words(same, 30)


def test_a_place_costs_its_price() -> None:
    """What a journey earns is net of the place that it takes from somebody else."""
    assert value(pi=1.0, price=1.0).difference == pytest.approx(0.0, abs=0.01)


def test_a_control_group_is_not_held_against_a_journey() -> None:
    """Control rows of both journeys earn nothing, and the difference is that of treated ones."""
    assert value(pi=1.0, holdout=0.2).difference == pytest.approx(0.5, abs=0.02)


def test_sending_less_is_judged_by_those_who_were_sent_nothing() -> None:
    """Nobody is sent anything, and nothing is earned: half less than what was drawn."""
    nothing = value(pi=0.0, pi_a=0.0, holdout=0.2)

    assert nothing.unsupported == 0
    assert nothing.difference == pytest.approx(-0.5, abs=0.02)


def test_sending_less_is_unsupported_where_nobody_was_held_out() -> None:
    """Without a control group the log knows nothing of silence."""
    assert value(pi=0.0, pi_a=0.0).unsupported == 1


def test_what_was_not_eligible_is_apart_and_never_in_the_interval() -> None:
    """A journey that nobody could enter is unsupported, and there is no interval that says otherwise."""
    apart = value(pi=1.0, eligible=False)

    assert apart.unsupported == 1
    assert apart.direct == 0
    assert apart.difference is None
    assert "100% of what it would draw was not eligible" in words(apart, 30)


def test_below_fifty_effective_rows_there_is_no_interval_but_what_is_needed() -> None:
    """Forty-eight rows that hit are too few, and it is said for how long to go on."""
    small = value(customers=96, pi=1.0)

    assert small.status is Status.NONE
    assert (small.difference, small.low, small.high) == (None, None, None)
    assert days_until(small, 48) == 152
    assert "some 152 days more" in words(small, 48)


def test_below_two_hundred_effective_rows_an_interval_is_weak() -> None:
    """A hundred rows give an interval that is to be taken with care."""
    weak = value(customers=200, pi=1.0)

    assert weak.status is Status.WEAK
    assert "with care" in words(weak, 30)


def test_where_many_want_a_full_journey_there_is_no_verdict() -> None:
    """Customers who compete for places are not independent of each other."""
    coupled = value(pi=1.0, full=True)

    assert (coupled.status, coupled.difference) == (Status.COUPLED, None)
    assert "no verdict" in words(coupled, 30)


def test_squeezed_rows_are_left_out_and_counted() -> None:
    """A log of nothing but squeezed wishes has no decision points."""
    assert (value(squeezed=True).decision_points, value(squeezed=True).squeezed) == (0, 2_000)


def test_rows_in_another_order_give_the_same_bytes() -> None:
    """Sums do not depend on how the log was read."""
    points, draws = log(pi=0.9, holdout=0.2)

    assert value_of(points.reverse(), draws.sample(fraction=1, shuffle=True, seed=1), ["age"]) == value_of(points, draws, ["age"])


def test_decisions_of_the_same_customer_are_not_told_as_independent() -> None:
    """A log that is repeated four times for the same customers is no surer than once."""
    points, draws = log(pi=1.0)
    points = points.with_columns(reward=pl.col("reward") + pl.int_range(pl.len()) * 7_919 % 13)
    days = [date(2026, month, 1) for month in range(1, 5)]
    often = [pl.concat(frame.with_columns(decided_on=pl.lit(day)) for day in days) for frame in (points, draws)]
    once, again = value_of(points, draws, ["age"]), value_of(*often, ["age"])

    assert once.high is not None
    assert once.low is not None
    assert again.high is not None
    assert again.low is not None
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.1)


def test_customers_who_are_one_by_now_are_not_told_as_independent() -> None:
    """Four names of each, every one of which decided once: as sure as if it had been one name."""
    points, draws = log(pi=1.0)
    points = points.with_columns(reward=pl.col("reward") + pl.int_range(pl.len()) * 7_919 % 13)
    named = [pl.format("{}.{}", "customer_id", pl.lit(name)) for name in "abcd"]
    often = [pl.concat(frame.with_columns(customer_id=name) for name in named) for frame in (points, draws)]
    once, again = value_of(points, draws, ["age"]), value_of(*often, ["age"])

    assert once.high is not None
    assert once.low is not None
    assert again.high is not None
    assert again.low is not None
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.1)


def test_the_claim_notices_intervals_that_are_too_narrow() -> None:
    """An interval of no width covers nothing."""

    def narrow(*asked: Any) -> Value:
        valued = value_of(*asked)
        return replace(valued, low=valued.difference, high=valued.difference)

    assert not other_policies_are_valued_right(Scale.QUICK, narrow, logs=2).passed


def test_the_formula_is_that_of_the_contract_however_wrong_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row in plain Python, with a model that expects 3 of a, 7 of b and 2 of nothing: price, both arms, and silence."""
    points, draws = log(pi=0.2, pi_a=0.5, holdout=0.3, price=0.4)

    def expected(log: Any, *, needs_none: bool) -> Any:
        assert needs_none
        return np.tile([3.0, 7.0], (len(log.reward), 1)), np.full(len(log.reward), 2.0)

    monkeypatch.setattr(module, "_expected", expected)
    parts = []
    for row in points.iter_rows(named=True):
        part = 0.5 * 3 + 0.2 * 6.6 + 0.3 * 2 - 0.5 * 3 - 0.5 * 6.6
        if row["is_treated"]:
            ratio, net, model = (1.0, row["reward"], 3.0) if row["taken"] == "a" else (0.4, row["reward"] - 0.4, 6.6)
            part += (ratio - 1) * (net - model) / 0.7
        else:
            part += 0.3 / 0.3 * (row["reward"] - 2)
        parts.append(part)
    error = np.std(parts, ddof=1) / np.sqrt(len(parts))
    valued = value_of(points, draws, [])

    assert valued.difference == pytest.approx(np.mean(parts))
    assert valued.high is not None
    assert valued.high - np.mean(parts) == pytest.approx(1.959964 * error)


def test_what_the_model_expects_of_a_customer_is_not_learned_from_that_customer() -> None:
    """The only row in dispute pays a million, or nothing: the model alone says the same."""
    points, draws = log()
    is_first = pl.col("customer_id") == "c1"
    disputed = draws.with_columns(pi=pl.when(is_first).then((pl.col("journey_id") == "b").cast(pl.Float64)).otherwise("pi"))
    rich = points.with_columns(reward=pl.when(is_first).then(1e6).otherwise("reward"))

    assert value_of(rich, disputed, ["age"]).direct == value_of(points, disputed, ["age"]).direct


@pytest.mark.slow
def test_open_bandit_bernoulli_sampling_valued_on_the_random_log() -> None:
    """The public figures: 1.198126 times the random policy, 0.00477583 self-normalised, 1,639.5 effective rows."""
    rows = pl.read_parquet(OPEN_BANDIT / "obd_random_all.parquet")
    prior = yaml.safe_load((OPEN_BANDIT / "prior_bts.yaml").read_text(encoding="utf-8"))["all"]
    chances = _sampled(np.array(prior["alpha"]), np.array(prior["beta"]))
    weights = chances[rows["item_id"].to_numpy(), rows["position"].to_numpy() - 1] / rows["propensity_score"].to_numpy()
    clicks = rows["click"].cast(pl.Float64).to_numpy()
    weighted = weigh(weights, clicks)

    assert weighted.ipw / clicks.mean() == pytest.approx(1.1981263, abs=5e-8)
    assert weighted.snipw == pytest.approx(0.00477583, abs=5e-9)
    assert weighted.effective == pytest.approx(1_639.5, abs=0.05)


def test_open_bandit_random_on_the_log_of_women_has_two_effective_rows_and_no_interval() -> None:
    """A log that hardly ever drew what random would have drawn says nothing: 2.08 effective rows."""
    rows = pl.read_parquet(OPEN_BANDIT / "obd_bts_women.parquet").with_row_index("row")
    items = rows["item_id"].n_unique()
    weights = 1 / items / rows["propensity_score"].to_numpy()
    points = rows.select(
        customer_id=pl.format("c{}", "row"),
        known_as=pl.format("c{}", "row"),
        decided_on=pl.lit(DAY),
        taken=pl.format("item{}", "item_id"),
        is_treated=pl.lit(value=True),
        reward=pl.col("click").cast(pl.Float64),
        is_squeezed=pl.lit(value=False),
        wants_full=pl.lit(value=False),
    )
    # Of each row the log knows the probability of what was shown; the rest of either policy is one option of its own.
    shown = points.select("customer_id", "decided_on", journey_id="taken", mu=rows["propensity_score"], pi=pl.lit(1 / items))
    others = shown.with_columns(journey_id=pl.lit("another"), mu=1 - pl.col("mu"), pi=1 - pl.col("pi"))
    valued = value_of(points, pl.concat([shown, others]).with_columns(holdout=0.0, price=0.0), [])

    assert weigh(weights, np.ones(len(weights))).effective == pytest.approx(2.08, abs=0.005)
    assert valued.effective == pytest.approx(2.08, abs=0.005)
    assert (valued.status, valued.low, valued.high) == (Status.NONE, None, None)


def _sampled(alpha: Any, beta: Any) -> Any:
    """Return how often each item is drawn at each of three positions, in 100,000 draws of a Bernoulli Thompson sampler."""
    random = np.random.RandomState(12345)
    counts = np.zeros((len(alpha), 3))
    for _ in range(100):
        best = np.argsort(random.beta(alpha, beta, size=(1_000, len(alpha))), axis=1)[:, ::-1][:, :3]
        for position in range(3):
            counts[:, position] += np.bincount(best[:, position], minlength=len(alpha))
    return counts / 100_000
