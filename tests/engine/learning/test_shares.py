"""Shares of variants that adapt: the probability of being best, a floor under each, and what is drawn by them.

What belongs here: shares by themselves, and in a decision. What does not: comparing variants (``outcomes``).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest

from atc_pipeline.decision.arms import draw
from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Portfolio, Share
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.learning.shares import FLOOR, InForce, adapted, best_of, floored, rows_of, shares_for_day

TODAY = date(2026, 6, 1)
JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-01}
channels: {email: {consent: none}}
journeys:
  - {id: welcome, length_days: 7, queue: {where: "true"}, variants: {shares: {ask: 0.5, offer: 0.5}, adapt: true}}
"""


def portfolio(*edits: tuple[str, str]) -> Portfolio:
    """A journey of two variants that adapt."""
    text = JOURNEYS
    for old, new in edits:
        text = text.replace(old, new)
    return resolve(parse_document(text, "journeys.yaml"))


def tried(**values: Sequence[float]) -> pl.DataFrame:
    """What came of each variant, all drawn by the shares of the file."""
    rows = [("welcome", variant, None, float(value)) for variant, of in values.items() for value in of]
    schema = {"journey_id": pl.String, "variant": pl.String, "shares_since": pl.Date, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.mark.parametrize(("apart", "error"), [(0.0, 1.0), (1.0, 1.0), (3.0, 0.5), (1e9, 1.0)])
def test_of_two_the_better_is_best_as_often_as_a_difference_is_above_nothing(apart: float, error: float) -> None:
    """The closed form that there is."""
    expected = NormalDist(0, error * 2**0.5).cdf(apart)

    assert best_of(np.array([0.0, apart]), np.array([error, error])) == pytest.approx([1 - expected, expected], abs=1e-6)


def test_of_four_it_is_what_chance_says() -> None:
    """Tried by drawing them."""
    means, errors = np.array([1.0, 1.2, 0.5, 1.1]), np.array([0.3, 0.1, 1.0, 0.2])
    drawn = np.random.default_rng(1).normal(means, errors, (400_000, 4)).argmax(axis=1)

    assert best_of(means, errors) == pytest.approx(np.bincount(drawn, minlength=4) / 400_000, abs=0.004)


def test_equal_ones_without_any_spread_share_alike() -> None:
    """Nothing is divided by nothing."""
    assert best_of(np.array([5.0, 5.0]), np.zeros(2)) == pytest.approx([0.5, 0.5], abs=1e-3)


@pytest.mark.parametrize("best", [[1.0, 0.0], [0.97, 0.02, 0.01], [0.4, 0.3, 0.3], [0.0, 0.0, 1.0], [0.25] * 4, [0.94, 0.06]])
def test_none_is_below_the_floor_and_all_add_up(best: list[float]) -> None:
    """In whole ten-thousandths, in the order of what is likely."""
    shares = floored(np.array(best))

    assert sum(round(share * 10_000) for share in shares) == 10_000
    assert min(shares) >= FLOOR / len(best) - 1e-9
    assert [shares[place] for place in np.argsort(best, kind="stable")] == sorted(shares)


def test_shares_go_where_more_came_of_it() -> None:
    """And not before each variant was tried twice."""
    assert adapted(["ask", "offer"], tried(ask=[1, 2, 3], offer=[9])) is None
    shares = adapted(["ask", "offer"], tried(ask=[1, 2, 3] * 20, offer=[2, 3, 4] * 20))

    assert shares is not None
    assert [share.id for share in shares] == ["ask", "offer"]
    assert shares[0].share == FLOOR / 2


def test_rows_in_another_order_give_the_same_bytes() -> None:
    """Sums do not depend on it."""
    chance = np.random.default_rng(2)
    rows = tried(ask=chance.gamma(1, 9, 200).tolist(), offer=chance.gamma(1, 10, 200).tolist())

    assert adapted(["ask", "offer"], rows) == adapted(["ask", "offer"], rows.sample(fraction=1, shuffle=True, seed=4))


def test_a_season_is_not_taken_for_a_variant() -> None:
    """Half of the entries were drawn when everybody spent ten times as much, most of them as one variant: it is no better for that."""
    chance = np.random.default_rng(3)
    quiet = tried(ask=chance.normal(1, 1, 500).tolist(), offer=chance.normal(1.5, 1, 500).tolist())
    season = tried(ask=chance.normal(10, 1, 950).tolist(), offer=chance.normal(10.5, 1, 50).tolist())
    rows = pl.concat([quiet, season.with_columns(shares_since=pl.lit(TODAY))])
    shares = adapted(["ask", "offer"], rows)

    assert shares is not None
    assert rows.group_by("variant").agg(pl.col("value").mean()).sort("variant")["value"].is_sorted(descending=True)
    assert shares[1].share > 0.9


def test_shares_are_kept_for_a_week_and_drawn_anew() -> None:
    """From the rows of the day before; a journey whose variants are others by now starts with those of the file."""
    asked: list[Sequence[str]] = []

    def look(ids: Sequence[str]) -> pl.DataFrame:
        asked.append(ids)
        return tried(ask=[1, 2, 3] * 9, offer=[2, 3, 4] * 9)

    first = shares_for_day(None, look, portfolio(), today=TODAY)
    rows = rows_of(first, TODAY)
    second = shares_for_day(rows, look, portfolio(), today=TODAY + timedelta(days=6))
    third = shares_for_day(rows, look, portfolio(), today=TODAY + timedelta(days=7))

    assert first["welcome"].since == second["welcome"].since == TODAY
    assert (first["welcome"].shares, first["welcome"].entries) == (second["welcome"].shares, 54)
    assert third["welcome"].since == TODAY + timedelta(days=7)
    assert asked == [["welcome"], ["welcome"]]
    others = portfolio(("offer", "bargain"))
    assert shares_for_day(rows, lambda _: tried(), others, today=TODAY) == {}
    assert shares_for_day(rows, look, portfolio((", adapt: true", "")), today=TODAY) == {}


def test_lots_are_drawn_by_the_shares_in_force() -> None:
    """Nine in ten get what has nine tenths; who is in which moves no more than it must."""
    entries = pl.DataFrame({"journey_id": ["welcome"] * 5_000, "arm_id": [f"c{number}" for number in range(5_000)]})
    before = draw(entries, portfolio())
    after = draw(entries, portfolio(), {"welcome": (Share("ask", 0.1), Share("offer", 0.9))})

    assert after["variant"].value_counts().sort("variant")["count"].to_list() == pytest.approx([500, 4_500], abs=80)
    assert not ((before["variant"] == "offer") & (after["variant"] == "ask")).any()
    assert after["arm"].equals(before["arm"])


def test_what_is_written_is_read_again() -> None:
    """Number by number."""
    in_force = {"welcome": InForce((Share("ask", 0.05), Share("offer", 0.95)), TODAY, 12)}
    kept = shares_for_day(rows_of(in_force, TODAY), lambda _: tried(), portfolio(), today=TODAY)

    assert kept == in_force
    assert replace(kept["welcome"], entries=0) != in_force["welcome"]
