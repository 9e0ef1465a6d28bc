"""The value of another policy is told before anybody is exposed to it: on worlds whose truth is known, from the log of what was drawn.

What belongs here: the claim, and what each decision would truly have earned. What does not: the estimate (``learning.value``), which
decisions it is made of (``plan.valuing``), any world (``sample.world``, which nobody here imports).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

import polars as pl

from atc_pipeline.certificate.claim import Claim, Scale, Stores, World, Worlds
from atc_pipeline.certificate.driving import SHOWN, Driven
from atc_pipeline.explanation.reading import PortfolioOf
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve_text
from atc_pipeline.learning.value import NONE_BELOW, WEAK_BELOW, Value, value_of
from atc_pipeline.outcomes.verdicts import price_of_message
from atc_pipeline.tables.store import Store

SEED = 21
WORLDS = {Scale.FULL: 3, Scale.QUICK: 1}
CUSTOMERS = {Scale.FULL: 3_000, Scale.QUICK: 600}
DAYS = {Scale.FULL: 180, Scale.QUICK: 75}
UNTIL_LEARNED = 40
"""Days whose decisions are not valued: nothing had been learned by then."""
MISSED_AT_MOST = 1
"""Of so many intervals of 95 % as there are worlds and portfolios, two are missed in one certificate of thirty."""
LOG = "choosing by prior, learning in the shadow"
OTHERS = {"what was learned": "choosing by learning", "the truth": "choosing by truth"}
"""Worlds, by the names of whoever makes them: the one that is lived, and those whose portfolios are valued by its log."""


class Worth(Protocol):
    """Decides recorded days once more by another portfolio, and hands what it finds to ``valuing`` (``plan.valuing.worth``)."""

    def __call__(
        self,
        store: Store,
        fresh: Store,
        portfolio_of: PortfolioOf,
        changed: Portfolio,
        days: Sequence[date],
        last: date,
        *,
        valuing: "Noted",
    ) -> Iterator[object]:
        """Yield progress."""


@dataclass
class Noted:
    """The estimate, and what it was made of."""

    points: pl.DataFrame = field(default_factory=pl.DataFrame)
    draws: pl.DataFrame = field(default_factory=pl.DataFrame)
    value: Value | None = None

    def __call__(self, points: pl.DataFrame, draws: pl.DataFrame, features: Sequence[str]) -> Value:
        """Value, and note."""
        self.points, self.draws, self.value = points, draws, value_of(points, draws, features)
        return self.value


def value_is_told_beforehand(scale: Scale, worlds: Worlds, stores: Stores, worth: Worth) -> Claim:
    """Log worlds that are decided by the prior, and say what two other portfolios would have earned, beside what they truly would have."""
    figures, judged, missed, early = {}, dict.fromkeys(OTHERS, 0), 0, 0
    for seed in range(SEED, SEED + WORLDS[scale]):
        for name, noted, earned in valued(seed, scale, worlds, stores, worth):
            value = noted.value
            assert value is not None, "nothing was valued"
            interval = "no interval"
            if value.low is not None and value.high is not None:
                early += value.effective < NONE_BELOW
                interval = f"told {value.difference:+.2f} ({value.low:+.2f} to {value.high:+.2f})"
                if value.effective >= WEAK_BELOW:
                    judged[name] += 1
                    missed += not value.low <= earned <= value.high
            figures[f"{name}, seed {seed}"] = (
                f"truly {earned:+.2f} a decision; {interval}, of {value.decision_points:,} decisions, {value.disagree:.0%} in dispute, "
                f"{value.effective:,.0f} effective"
            )
    how = (
        f"{WORLDS[scale]} worlds of {CUSTOMERS[scale]:,} customers and {DAYS[scale]} days, decided by the prior, a tenth explored; "
        f"two portfolios that nobody was exposed to; seed {SEED}"
    )
    bar = f"of intervals from {WEAK_BELOW:.0f} effective rows at most {MISSED_AT_MOST} misses the truth; none below {NONE_BELOW:.0f}"
    is_judged = scale is Scale.QUICK or all(judged.values())
    return Claim("a policy is valued beforehand", how, bar, figures, is_judged and missed <= MISSED_AT_MOST and early == 0)


def valued(seed: int, scale: Scale, worlds: Worlds, stores: Stores, worth: Worth) -> Iterator[tuple[str, Noted, float]]:
    """Drive one world, and yield of each other portfolio its name, its value by the log, and what it is in truth."""
    world = worlds(LOG, seed, count=1, customers=CUSTOMERS[scale], days=DAYS[scale])
    driven = Driven.into(stores.lasting(), world, left_out=SHOWN)
    for _ in driven.run():
        pass
    window = driven.portfolio.measurement.window_days
    assert window is not None, "the world says no window"
    days = world.days[UNTIL_LEARNED : -(window + driven.portfolio.measurement.late_days)]
    for name, scenario in OTHERS.items():
        portfolio = worlds(scenario, seed, count=1, customers=1, days=DAYS[scale]).portfolio
        changed, noted = resolve_text(portfolio, "the other journeys.yaml"), Noted()
        for _ in worth(driven.store, stores.over(driven.store), lambda _: driven.portfolio, changed, days, world.days[-1], valuing=noted):
            pass
        yield name, noted, truth(noted, world, driven.portfolio, window)


def truth(noted: Noted, world: World, portfolio: Portfolio, window_days: int) -> float:
    """Return what the other portfolio would truly have earned more, per decision point, by its draws and those of the log.

    What it draws that was not eligible then is as the log was, as the estimate has it.
    """
    at = ["customer_id", "decided_on"]
    drawn = pl.col("pi").filter(pl.col("mu").is_not_null()).sum().over(at)
    none = 1 - pl.col("pi").sum().over(at)
    more = noted.draws.join(noted.points.select(*at, "taken"), on=at).with_columns(unsupported=1 - drawn - none)
    more = more.filter(pl.col("mu").is_not_null()).with_columns(
        more=pl.col("pi") + pl.col("unsupported") * pl.col("mu") - pl.col("mu"), entered_on=pl.col("decided_on")
    )
    entries = more.select("customer_id", "journey_id", "entered_on", "taken", window_days=pl.lit(window_days, pl.Int64))
    costs = {journey.id: price_of_message(journey, portfolio) * len(journey.steps) for journey in portfolio.journeys}
    cost = pl.col("journey_id").replace_strict(costs, return_dtype=pl.Float64)
    margin = portfolio.measurement.margin or 1.0
    earned = more.with_columns(world.planted(entries)).select((pl.col("more") * (margin * pl.col("planted") - cost)).sum())
    return float(earned.item()) / max(noted.points.height, 1)
