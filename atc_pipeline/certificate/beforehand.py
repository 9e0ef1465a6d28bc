"""A portfolio is valued before anybody is exposed to it: from the log of a planted world, against what is planted.

What belongs here: the claim, decision by decision. What does not: the estimate (``learning.value``), which decisions there are
(``plan.valuing``), any world.
"""

from datetime import date

import polars as pl

from atc_pipeline.certificate.claim import Claim, Scale, Stores, World, Worlds
from atc_pipeline.certificate.driving import SHOWN, Driven
from atc_pipeline.certificate.learned import PRIOR, TRUTH
from atc_pipeline.journeys.resolution import resolve_text
from atc_pipeline.learning.value import Value
from atc_pipeline.plan.valuing import WINDOW_DAYS, Asked, Valued, matured_days, worth

SEED, SEEDS = 3, {Scale.FULL: 5, Scale.QUICK: 1}
CUSTOMERS = {Scale.FULL: 1_500, Scale.QUICK: 300}
DAYS = {Scale.FULL: 90, Scale.QUICK: 50}
MISSED = 1
"""Of the full claim's intervals, how many may miss the truth: of five true 95 % intervals two or more do so 2.3 % of the time."""


def valued_beforehand(scale: Scale, worlds: Worlds, stores: Stores) -> Claim:
    """Value who knows it all by the log of who knows nothing, and a file that changes nothing by its own log."""
    figures: dict[str, str] = {}
    covered, are_same, intervals = 0, True, 0
    for seed in range(SEED, SEED + SEEDS[scale]):
        world = worlds(PRIOR, seed, count=1, customers=CUSTOMERS[scale], days=DAYS[scale])
        driven = Driven.into(stores.lasting(), world, left_out=SHOWN)
        for _ in driven.run():
            pass
        truth = worlds(TRUTH, seed, count=1, customers=CUSTOMERS[scale], days=DAYS[scale])
        unchanged, _ = valued(driven, stores, world)
        better, planted = valued(driven, stores, truth)
        are_same &= unchanged.disagree == 0 and unchanged.difference is None and unchanged.unsupported == 0
        figures[f"seed {seed}"] = (
            f"of {better.decision_points:,} decisions, {better.disagree:.0%} in dispute, {better.effective:.0f} equal rows: planted "
            f"{planted:+.2f} a decision, "
        ) + ("nothing said" if better.low is None else f"told {better.difference:+.2f} ({better.low:+.2f} to {better.high:+.2f})")
        if better.low is not None and better.high is not None:
            intervals += 1
            covered += better.low <= planted <= better.high
    figures["the same file"] = "nothing to value" if are_same else "a difference where there is none"
    passed = are_same and covered >= intervals - MISSED and (intervals > 0 or scale is Scale.QUICK)
    how = (
        f"{SEEDS[scale]} worlds of {CUSTOMERS[scale]:,} customers and {DAYS[scale]} days, a tenth of the choices by chance; the journey "
        f"that is best for each kind of customer against the one that is pushed; seed {SEED}"
    )
    bar = f"of the intervals that are told all but {MISSED} cover what is planted; a file that changes nothing differs in nothing"
    return Claim("a portfolio is valued beforehand", how, bar, figures, passed)


def valued(driven: Driven, stores: Stores, changed: World) -> tuple[Value, float]:
    """Return the value of another world's portfolio by the log of one, and what is planted of it, per decision."""
    portfolio, last = resolve_text(changed.portfolio, "the changed journeys.yaml"), driven.world.days[-1]
    days = matured_days(driven.store, driven.portfolio, last, len(driven.world.days))
    made = list(worth(driven.store, stores.over(driven.store), lambda _: driven.portfolio, portfolio, days, last))
    result = made[-1]
    assert isinstance(result, Valued)
    return result.value, _planted(driven.world, result.asked, last)


def _planted(world: World, of: Asked, last: date) -> float:
    """Return the difference of what either draws in expected money, by what is planted."""
    draws = of.draws.join(of.points.select("customer_id", "decided_on"), on=["customer_id", "decided_on"])
    entries = draws.select("customer_id", "journey_id", entered_on="decided_on", window_days=pl.lit(WINDOW_DAYS, pl.Int64))
    assert entries.filter(pl.col("entered_on") > last).is_empty()
    more = draws["pi"] - draws["mu"].fill_null(0.0)
    return float((more * world.planted(entries)).sum()) / max(of.points.height, 1)
