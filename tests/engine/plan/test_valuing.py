"""Which decisions a value is of, and what either portfolio draws in them, on a planted world.

What belongs here: decision points and probabilities. What does not: the estimate (``learning.test_value``), whether it is right
(``certificate``).
"""

from collections.abc import Mapping
from dataclasses import replace

import polars as pl
import pytest

from atc_pipeline.certificate.driving import SHOWN, Driven
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve_text
from atc_pipeline.plan.valuing import Valued, matured_days, worth
from resources.storage.trials import Trials
from sample import world as planted

pytestmark = pytest.mark.slow

CUSTOMERS, DAYS = 300, 44
KEPT = {"all": "", "the best alone": ", keep_candidates: 1"}


def world_with(policy: str, *edits: tuple[str, str]) -> Driven:
    """Drive a planted world, with more in its policy, to its end."""
    world = planted.make("choosing by prior", 7, count=1, customers=CUSTOMERS, days=DAYS)
    text = world.portfolio
    for old, new in (("explore: 0.1", f"explore: 0.1{policy}"), *edits):
        assert old in text
        text = text.replace(old, new)
    driven = Driven(world, Trials().lasting(), resolve_text(text, "journeys.yaml"), left_out=SHOWN)
    for _ in driven.run():
        pass
    return driven


@pytest.fixture(scope="module")
def lived() -> Mapping[str, Driven]:
    """The same world, once with every option on record and once with the best alone."""
    return {name: world_with(policy) for name, policy in KEPT.items()}


def valued(driven: Driven, changed: Portfolio) -> Valued:
    """Value a portfolio by the log of a world."""
    last = driven.world.days[-1]
    days = matured_days(driven.store, driven.portfolio, last, DAYS)
    *_, result = worth(driven.store, Trials().over(driven.store), lambda _: driven.portfolio, changed, days, last)
    assert isinstance(result, Valued)
    return result


@pytest.mark.parametrize("kept", KEPT)
def test_what_is_rebuilt_of_the_log_is_what_was_logged(lived: Mapping[str, Driven], kept: str) -> None:
    """With the probability that was logged, however many options were kept on record; an unchanged file differs in nothing."""
    driven = lived[kept]
    result = valued(driven, driven.portfolio)
    points = result.asked.points.filter(~pl.col("is_squeezed"))
    rebuilt = points.join(
        result.asked.draws, left_on=["customer_id", "decided_on", "taken"], right_on=["customer_id", "decided_on", "journey_id"]
    )
    logged = (
        driven.all_of("journey_entries").select("customer_id", "selection_probability", decided_on="date", taken="journey_id").collect()
    )
    both = rebuilt.join(logged, on=["customer_id", "decided_on", "taken"])

    assert both.height == points.height > 100
    assert both["selection_probability"].n_unique() > 2
    assert (both["mu"] - both["selection_probability"]).abs().max() < 1e-12
    assert (result.value.disagree, result.value.unsupported, result.value.difference) == (0.0, 0.0, None)
    assert "nothing to value" in result.words[0]


def test_as_much_is_known_however_many_options_were_kept(lived: Mapping[str, Driven]) -> None:
    """The value of a changed file is the same, to the last digit."""
    first, second = lived.values()
    policy = first.portfolio.policy
    changed = replace(first.portfolio, policy=replace(policy, explore=0.5))

    assert valued(first, changed).value == valued(second, changed).value


def test_who_got_nothing_for_want_of_a_place_is_counted() -> None:
    """With a place a day nobody else can have what they wish: that is told, and no value is."""
    driven = world_with("", ("    holdout: 0.2\n", "    holdout: 0.2\n    capacity: {daily_entries: 1}\n"))
    result = valued(driven, driven.portfolio)
    without = driven.all_of("journey_assignments").filter(pl.col("decision") == "none", pl.col("selection_probability").is_null())
    days = result.asked.points["decided_on"].unique()

    assert without.filter(pl.col("date").is_in(days.implode())).select(pl.len()).collect().item() > 100
    assert result.value.squeezed > 100
    assert result.value.wants_full > 0.5
    assert "no verdict" in result.words[0]


def test_where_no_value_can_be_told_it_is_said_why(lived: Mapping[str, Driven]) -> None:
    """Nothing was drawn by chance, nothing is money, or no day is old enough."""
    driven = lived["all"]
    log = driven.portfolio

    def says(portfolio: Portfolio, days: int = DAYS) -> str:
        last = driven.world.days[days - 1]
        matured = matured_days(driven.store, portfolio, last, DAYS)
        *_, result = worth(driven.store, Trials().over(driven.store), lambda _: portfolio, log, matured, last)
        assert isinstance(result, Valued)
        return result.words[0]

    assert "nothing was drawn by chance" in says(replace(log, policy=replace(log.policy, explore=0.0)))
    assert "what comes of a decision is known after 31 days, and none is that old" in says(log, days=20)
    assert "measured in money" in says(replace(log, measurement=replace(log.measurement, money=None)))
