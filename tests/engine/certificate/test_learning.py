"""Claims about learning hold by their bars and not below; and the truth that values are held against is that of the world.

What belongs here: figures handed to claims, one small world driven. What does not: learning (``learning``), the value (``plan``).
"""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from atc_pipeline.certificate import beforehand, learned
from atc_pipeline.certificate.beforehand import planted_of, valued_beforehand
from atc_pipeline.certificate.claim import Scale
from atc_pipeline.certificate.learned import LEARNING, PRIOR, TRUTH, Lived, learning_helps
from atc_pipeline.journeys.resolution import resolve_text
from atc_pipeline.learning.value import Status, Value
from atc_pipeline.plan.valuing import Asked
from resources.storage.trials import Trials
from sample.world import BEST, FIRST, KINDS, SCENARIOS, World, make


@pytest.mark.parametrize(
    ("net", "came", "holds"),
    [(50.0, 100, True), (49.0, 100, False), (50.0, 90, True), (50.0, 89, False), (50.0, 111, False)],
    ids=["half of the way", "less", "ten in a hundred too few", "more too few", "too many"],
)
def test_learning_helps_from_half_of_the_way_and_with_what_it_foretold(
    net: float, came: int, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Net money goes from the prior half of the way to the truth, and goals come as they were foretold."""
    lived = {PRIOR: Lived(0.0, 9, 0.0, 0), LEARNING: Lived(net, 8, 100.0, came), TRUTH: Lived(100.0, 7, 0.0, 0)}
    monkeypatch.setattr(learned, "live", lambda name, *_: lived[name])

    claim = learning_helps(Scale.FULL, make, Trials())

    assert claim.passed is holds
    assert f"{net:.0f}% of the way" in claim.figures["seed 20"]


UNCHANGED = Value(1000, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0.0, Status.NONE)


@pytest.mark.parametrize(
    ("planted", "effective", "unchanged", "holds"),
    [
        (1.5, 300.0, UNCHANGED, True),
        (2.5, 300.0, UNCHANGED, False),
        (2.5, 150.0, UNCHANGED, False),
        (1.5, 40.0, UNCHANGED, False),
        (1.5, 300.0, replace(UNCHANGED, disagree=0.1), False),
        (1.5, 300.0, replace(UNCHANGED, decision_points=0), False),
    ],
    ids=["held", "missed", "nothing to judge", "an interval where there may be none", "no change differs", "no decisions"],
)
def test_a_value_holds_what_the_portfolio_would_have_earned(
    planted: float, effective: float, unchanged: Value, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intervals of each portfolio hold the truth, there is none of few effective rows, and the same file has no value."""
    value = Value(1000, 0.5, 0.0, effective, 1.0, 0.1, 0, 0.0, Status.OK, difference=1.5, low=1.0, high=2.0)
    values = [(beforehand.LOG, unchanged, 0.0), *((name, value, planted) for name in beforehand.OTHERS)]
    monkeypatch.setattr(beforehand, "valued", lambda *_: iter(values))

    assert valued_beforehand(Scale.FULL, make, Trials()).passed is holds


def test_the_truth_is_what_each_option_would_have_made_by_how_much_likelier_it_is() -> None:
    """An option of 30 a tenth likelier instead of one of 10; what was not eligible stays as in the log; messages cost what they cost."""
    world = make("choosing by prior", 1, count=1, customers=1, days=5)
    portfolio = resolve_text(world.portfolio, "its journeys.yaml")
    decisions = {"customer_id": ["w000-000000"] * 3, "decided_on": [FIRST] * 3}
    draws = pl.DataFrame({**decisions, "journey_id": ["lift", "care", "news"], "mu": [0.75, 0.25, None], "pi": [0.3, 0.2, 0.5]})
    points = draws.head(1).select("customer_id", "decided_on", taken="journey_id")
    worth_of = {"lift": 10.0, "care": 30.0, "news": 99.0}
    world.planted = lambda entries: entries["journey_id"].replace_strict(worth_of).alias("planted")  # type: ignore[method-assign]  # a stand-in

    # Half is not eligible and stays as it was: 0.3 + 0.375 of lift, 0.2 + 0.125 of care.
    assert planted_of(Asked(points, draws), world, portfolio) == pytest.approx(-0.075 * 10 + 0.075 * 30)


def test_of_an_entry_that_might_have_been_the_one_taken_does_not_count() -> None:
    """What another journey would have made is the same whether or not the customer was sent the one that was entered in its place."""

    def planted(*sent: tuple[int, str]) -> float:
        world = World(SCENARIOS["choosing by prior"], 3, count=1, customers=1, days=40)
        world.joined[:], world.opted_out[:], world.hazard[:] = 0, 1_000, 0.0
        for today, day in enumerate(world.days[:10]):
            journeys = [world.number[journey] for at, journey in sent if at == today]
            world.live(day, np.zeros(len(journeys), np.int32), np.array(journeys, np.int32))
        asked = {"customer_id": "w000-000000", "journey_id": "lift", "entered_on": FIRST, "window_days": 28, "taken": "pester"}
        return float(world.planted(pl.DataFrame([asked])).item())

    assert planted() > 0
    assert planted((1, "pester"), (2, "pester")) == planted()
    assert planted((1, "care")) < planted()


@pytest.mark.slow
def test_few_decisions_are_refused_and_the_truth_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """From events to the value of two portfolios: of so few there is no interval, and knowing it all is better."""
    monkeypatch.setattr(beforehand, "CUSTOMERS", {Scale.QUICK: 250})
    monkeypatch.setattr(beforehand, "DAYS", {Scale.QUICK: 74})
    claim = valued_beforehand(Scale.QUICK, make, Trials())
    assert claim.passed
    assert claim.figures.pop("the same file") == "nothing to value"
    assert len(claim.figures) == len(beforehand.OTHERS)
    assert all("nothing said" in figures for figures in claim.figures.values())
    assert "planted +" in claim.figures["the truth, seed 21"]


def test_who_knows_it_all_offers_each_kind_what_is_worth_most_to_it() -> None:
    """By expected money of an entry, as planted: care for those of few orders, lift for the others; what is pushed most does harm."""
    world = make("choosing by prior", 2, count=1, customers=2_000, days=40)
    world.live(FIRST, np.zeros(0, np.int32), np.zeros(0, np.int32))
    asked = pl.DataFrame({"customer_id": world.names, "kind": [KINDS[kind] for kind in world.kind]}).filter(pl.Series(world.joined == 0))
    entries = asked.join(pl.DataFrame({"journey_id": list(world.number)}), how="cross").with_columns(entered_on=FIRST, window_days=28)
    means = entries.with_columns(world.planted(entries)).group_by("kind", "journey_id").agg(pl.col("planted").mean())
    best = dict(means.sort("planted").group_by("kind", maintain_order=True).last().select("kind", "journey_id").iter_rows())

    assert best == {kind: planted.id for planted in BEST for kind in planted.kinds}
    assert means.filter(pl.col("journey_id") == "pester")["planted"].max() < 0
