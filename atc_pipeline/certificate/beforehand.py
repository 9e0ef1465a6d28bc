"""A portfolio is valued before anybody is exposed to it: from the log of a planted world, against what is planted.

What belongs here: the claim, and what each decision would truly have earned. What does not: the estimate (``learning.value``), which
decisions there are (``plan.valuing``), any world.
"""

from collections.abc import Iterator

import polars as pl

from atc_pipeline.certificate.claim import Claim, Scale, Stores, World, Worlds
from atc_pipeline.certificate.driving import SHOWN, Driven
from atc_pipeline.certificate.learned import LEARNING, TRUTH
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve_text
from atc_pipeline.learning.value import NONE_BELOW, WEAK_BELOW, Value
from atc_pipeline.outcomes.verdicts import price_of_message
from atc_pipeline.plan.valuing import WINDOW_DAYS, Asked, Valued, matured_days, worth

SEED = 21
WORLDS = {Scale.FULL: 3, Scale.QUICK: 1}
CUSTOMERS = {Scale.FULL: 3_000, Scale.QUICK: 600}
DAYS = {Scale.FULL: 180, Scale.QUICK: 75}
UNTIL_LEARNED = 40
"""Days whose decisions are not valued: nothing had been learned by then."""
MISSED = 1
"""Of the full claim's intervals, how many may miss the truth: of six true 95 % intervals two or more do so 3.3 % of the time."""
LOG = "choosing by prior, learning in the shadow"
OTHERS = {"what was learned": LEARNING, "the truth": TRUTH}
"""Worlds, by the names of whoever makes them: the one that is lived, and those whose portfolios are valued by its log."""


def valued_beforehand(scale: Scale, worlds: Worlds, stores: Stores) -> Claim:
    """By the log of who knows nothing, value what was learned of it, who knows it all, and a file that changes nothing."""
    figures, judged, missed, early, are_same = {}, dict.fromkeys(OTHERS, 0), 0, 0, True
    for seed in range(SEED, SEED + WORLDS[scale]):
        for name, value, planted in valued(seed, scale, worlds, stores):
            if name == LOG:
                are_same &= value.decision_points > 0 and value.disagree == 0 and value.difference is None and value.unsupported == 0
                continue
            interval = "nothing said"
            if value.low is not None and value.high is not None:
                early += value.effective < NONE_BELOW
                interval = f"told {value.difference:+.2f} ({value.low:+.2f} to {value.high:+.2f})"
                if value.effective >= WEAK_BELOW:
                    judged[name] += 1
                    missed += not value.low <= planted <= value.high
            figures[f"{name}, seed {seed}"] = (
                f"of {value.decision_points:,} decisions, {value.disagree:.0%} in dispute, {value.effective:,.0f} equal rows: planted "
                f"{planted:+.2f} a decision, {interval}"
            )
    figures["the same file"] = "nothing to value" if are_same else "a difference where there is none"
    how = (
        f"{WORLDS[scale]} worlds of {CUSTOMERS[scale]:,} customers and {DAYS[scale]} days, decided by the prior, a tenth of the choices by "
        f"chance; the file that turns learning on, and the journey that is best for each kind of customer; seed {SEED}"
    )
    bar = (
        f"of the intervals from {WEAK_BELOW:.0f} equal rows all but {MISSED} cover what is planted, none below {NONE_BELOW:.0f}; "
        "a file that changes nothing differs in nothing"
    )
    is_judged = scale is Scale.QUICK or all(judged.values())
    return Claim("a portfolio is valued beforehand", how, bar, figures, are_same and is_judged and missed <= MISSED and early == 0)


def valued(seed: int, scale: Scale, worlds: Worlds, stores: Stores) -> Iterator[tuple[str, Value, float]]:
    """Drive a world, and yield of each portfolio its name, its value by the log, and what is planted of it, per decision."""
    world = worlds(LOG, seed, count=1, customers=CUSTOMERS[scale], days=DAYS[scale])
    driven = Driven.into(stores.lasting(), world, left_out=SHOWN)
    for _ in driven.run():
        pass
    matured = matured_days(driven.store, driven.portfolio, world.days[-1], len(world.days))
    days = [day for day in matured if day >= world.days[UNTIL_LEARNED]]
    for name, scenario in {LOG: LOG, **OTHERS}.items():
        portfolio = worlds(scenario, seed, count=1, customers=1, days=DAYS[scale]).portfolio
        changed = resolve_text(portfolio, "the changed journeys.yaml")
        *_, result = worth(driven.store, stores.over(driven.store), lambda _: driven.portfolio, changed, days, world.days[-1])
        assert isinstance(result, Valued)
        yield name, result.value, planted_of(result.asked, world, driven.portfolio)


def planted_of(asked: Asked, world: World, portfolio: Portfolio) -> float:
    """Return the difference of what either draws in expected money less what messages cost, by what is planted, per decision.

    What is drawn that was not eligible stays as it was in the log, as the estimate has it.
    """
    at = ["customer_id", "decided_on"]
    none, drawn = 1 - pl.col("pi").sum().over(at), pl.col("pi").filter(pl.col("mu").is_not_null()).sum().over(at)
    draws = asked.draws.join(asked.points.select(*at, "taken"), on=at).with_columns(unsupported=1 - drawn - none)
    draws = draws.filter(pl.col("mu").is_not_null())
    more = pl.col("pi") + pl.col("unsupported") * pl.col("mu") - pl.col("mu")
    window = pl.lit(portfolio.measurement.window_days or WINDOW_DAYS, pl.Int64)
    entries = draws.select("customer_id", "journey_id", "taken", entered_on="decided_on", window_days=window)
    costs = {journey.id: price_of_message(journey, portfolio) * len(journey.steps) for journey in portfolio.journeys}
    cost = pl.col("journey_id").replace_strict(costs, return_dtype=pl.Float64)
    margin = portfolio.measurement.margin or 1.0
    made = draws.with_columns(world.planted(entries)).select((more * (margin * pl.col("planted") - cost)).sum())
    return float(made.item()) / max(asked.points.height, 1)
