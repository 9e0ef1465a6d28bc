"""Learning helps: equal worlds, decided by what marketers believe, by what is learned, and by who knows it all.

What belongs here: the claim, what each of the three makes, and whether what was foretold came. What does not: any world (``sample.world``,
which nobody here imports), learning.
"""

from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atc_pipeline.certificate.claim import Claim, Scale, Stores, World
from atc_pipeline.certificate.driving import SHOWN, Driven
from atc_pipeline.learning.quality import by_journey

SEED = 20
PAIRS = {Scale.FULL: 3, Scale.QUICK: 1}
CUSTOMERS = {Scale.FULL: 3_000, Scale.QUICK: 800}
DAYS = {Scale.FULL: 180, Scale.QUICK: 75}
MARGIN, COST = 0.25, 0.002
LEAST_FORETOLD, MOST_FORETOLD = 0.9, 1.1
"""Goals that came, by those foretold."""
AT_LEAST = {Scale.FULL: 0.5, Scale.QUICK: 0.05}
"""How much of the way from the prior to the truth; where less time is left for learning, less."""
SLACK = {Scale.FULL: 0.0, Scale.QUICK: 0.2}
"""By how much more goals may miss what was foretold, where there are few."""
PRIOR, LEARNING, TRUTH = "choosing by prior", "choosing by learning", "choosing by truth"
"""The three worlds, by the names of whoever makes them."""


class Knowing(World, Protocol):
    """A world that also knows what all messages made."""

    def made_by_all(self, until: date | None = None) -> NDArray[np.float64]:
        """Return, per person, the difference in expected money that messages delivered up to a day have made by then, without chance."""


class Makes(Protocol):
    """Makes such worlds, as ``claim.Worlds`` does."""

    def __call__(self, scenario: str, seed: int, *, count: int, customers: int, days: int) -> Knowing:
        """Return a world that nothing has happened in yet."""


@dataclass(frozen=True)
class Lived:
    """What a world came to: net money that its messages made, how many these were, goals foretold and goals that came."""

    net: float
    messages: int
    foretold: float
    came: int


def learning_helps(scale: Scale, worlds: Makes, stores: Stores) -> Claim:
    """Decide equal worlds in three ways, and see how far learning goes from the first to the last."""
    figures, ways, shares = {}, [], []
    for seed in range(SEED, SEED + PAIRS[scale]):
        lived = {name: live(name, seed, scale, worlds, stores) for name in (PRIOR, LEARNING, TRUTH)}
        begun, learned, best = (lived[name].net for name in (PRIOR, LEARNING, TRUTH))
        ways.append((learned - begun) / (best - begun) if best > begun else 0.0)
        share = lived[LEARNING].came / max(lived[LEARNING].foretold, 1.0)
        shares.append(share)
        figures[f"seed {seed}"] = (
            f"net {begun:+,.0f} by the prior, {learned:+,.0f} by what was learned, {best:+,.0f} by the truth: {ways[-1]:.0%} of the way, "
            f"with {lived[LEARNING].messages:,} messages for {lived[PRIOR].messages:,}; {lived[LEARNING].foretold:,.0f} goals foretold, "
            f"{lived[LEARNING].came:,} came ({share:.2f})"
        )
    way, slack = sum(ways) / len(ways), SLACK[scale]
    low, high = LEAST_FORETOLD - slack, MOST_FORETOLD + slack
    how = (
        f"{PAIRS[scale]} times the same {CUSTOMERS[scale]:,} customers for {DAYS[scale]} days, four journeys that do good, little, nothing "
        f"and harm, pushed the other way round; seed {SEED}"
    )
    bar = f"net money >= {AT_LEAST[scale]:.0%} of the way from the prior to the truth; goals by those foretold {low:.1f} to {high:.1f}"
    passed = way >= AT_LEAST[scale] and all(low <= share <= high for share in shares)
    return Claim("learning helps", how, bar, figures, passed)


def live(name: str, seed: int, scale: Scale, worlds: Makes, stores: Stores) -> Lived:
    """Drive one world to its end."""
    world = worlds(name, seed, count=1, customers=CUSTOMERS[scale], days=DAYS[scale])
    driven = Driven.into(stores.empty(), world, left_out=SHOWN)
    for _ in driven.run():
        pass
    sent = driven.all_of("activation").filter(pl.col("status") == "delivered").select(pl.len()).collect().item()
    judged = by_journey(driven.all_of("journey_outcomes"))
    made = float(world.made_by_all().sum())
    return Lived(MARGIN * made - COST * sent, int(sent), float(judged["expected"].sum()), int(judged["goals"].sum()))
