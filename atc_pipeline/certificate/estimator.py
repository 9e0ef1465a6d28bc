"""The estimator is right: its intervals cover what was planted, and where nothing was, they say so.

What belongs here: how often, and how often it must. What does not: which tables it is tried on (``scenarios``), or verdicts (``verdicts``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from zlib import crc32

import polars as pl

from atc_pipeline.certificate.claim import Claim, Scale
from atc_pipeline.certificate.drawn import Drawn, Estimating, Scenario, draw, known_on
from atc_pipeline.certificate.scenarios import SCENARIOS
from atc_pipeline.outcomes.uplift import estimate_uplift

SEED = 13
TABLES = {Scale.QUICK: 100, Scale.FULL: 2_000}
AT_ONCE = 100
"""Tables of one call: enough that a call costs nothing, few enough that half a million rows are held."""

COVERS_AT_LEAST, COVERS_AT_MOST = 0.937, 0.99
REJECTS_AT_LEAST, REJECTS_AT_MOST = 0.02, 0.063
ERROR_AT_MOST = 2.6
"""99 % limits of 2,000 true 5 % tests; narrower is allowed (SPEC 16)."""
AGAIN = 10
"""A mean error beyond its bar is tried again on so many times the tables, drawn anew: one of 24 is beyond it by chance in every fifth
certificate, and what is no chance is three times as far from 0 then."""


@dataclass(frozen=True)
class Quality:
    """How an estimator did on the tables of one scenario.

    ``covers``: share of tables whose fixed interval holds the truth. ``finds``: share whose interval does not hold 0.
    ``error``: the mean error, in standard errors of that mean.
    """

    tables: int
    covers: float
    finds: float
    error: float


def estimator_is_right(
    scale: Scale, estimate: Estimating = estimate_uplift, *, scenarios: Sequence[Scenario] = SCENARIOS, tables: int | None = None
) -> Claim:
    """Try the fixed interval on many tables of each scenario, with the lift and without."""
    count = tables or TABLES[scale]
    slack = _slack(count)
    figures, failures = {}, []
    for scenario in scenarios:
        null, lifted = (quality(each, count, estimate) for each in (replace(scenario, lift=0.0), scenario))
        beyond = [of for of, each in ((replace(scenario, lift=0.0), null), (scenario, lifted)) if abs(each.error) > ERROR_AT_MOST]
        again = [quality(of, AGAIN * count, estimate, seed=SEED + 1).error for of in beyond]
        are_met = (
            REJECTS_AT_LEAST - slack <= null.finds <= REJECTS_AT_MOST + slack
            and COVERS_AT_LEAST - slack <= lifted.covers <= COVERS_AT_MOST + slack
            and all(abs(error) <= ERROR_AT_MOST for error in again)
        )
        failures += [] if are_met else [scenario.id]
        figures[f"{scenario.id}: {scenario.meaning}"] = (
            f"covers {lifted.covers:.1%}; A/A rejects {null.finds:.1%}; mean error {lifted.error:+.1f} and, A/A, {null.error:+.1f} "
            f"standard errors; {scenario.lift:+.0%} is seen in {lifted.finds:.0%}"
        ) + "".join(f"; beyond the bar, and on {AGAIN * count:,} tables drawn anew {error:+.1f}" for error in again)
    return Claim(
        name="the estimator is right",
        how=f"{count:,} tables of entries and outcomes per scenario, with the lift and without, no pipeline; seed {SEED}",
        bar=(
            f"fixed covers in {COVERS_AT_LEAST - slack:.1%} to {min(COVERS_AT_MOST + slack, 1):.1%}; "
            f"A/A rejects {max(REJECTS_AT_LEAST - slack, 0):.1%} to {REJECTS_AT_MOST + slack:.1%}; "
            f"mean error within {ERROR_AT_MOST} standard errors of 0, or else on {AGAIN} times the tables drawn anew"
        ),
        figures=figures,
        passed=not failures,
    )


def quality(scenario: Scenario, tables: int, estimate: Estimating, *, seed: int = SEED) -> Quality:
    """Estimate so many tables of a scenario."""
    rows = pl.concat(rows_of(estimate, drawn, scenario) for drawn in draws(scenario, tables, seed))
    error = rows["effect"] - rows["truth"]
    covers = rows["truth"].is_between(rows["fixed_low"], rows["fixed_high"])
    finds = (rows["fixed_low"] > 0) | (rows["fixed_high"] < 0)
    spread, mean, covered, seen = error.std(), error.mean(), covers.mean(), finds.mean()
    assert isinstance(spread, float)
    assert isinstance(mean, float)
    assert isinstance(covered, float)
    assert isinstance(seen, float)
    return Quality(rows.height, covered, seen, mean / spread * sqrt(rows.height))


def draws(scenario: Scenario, tables: int, seed: int = SEED) -> Iterator[Drawn]:
    """Draw so many tables, some at once; the seed is of the scenario's name and lift, so that others may be added."""
    name = crc32(f"{scenario.id} {scenario.lift}".encode())
    for batch, first in enumerate(range(0, tables, AT_ONCE)):
        yield draw(scenario, min(AT_ONCE, tables - first), (seed, name, batch))


def rows_of(estimate: Estimating, drawn: Drawn, scenario: Scenario) -> pl.DataFrame:
    """Return the estimates of all journeys in the scenario's metric, beside the truth; one that is missing is an error."""
    uplift = estimate(known_on(drawn.evidence, scenario.ends_on), drawn.portfolio, today=scenario.ends_on)
    rows = uplift.filter(slice="all", metric=scenario.law.metric.id).join(drawn.truth, on="journey_id")
    if rows.height != drawn.truth.height or rows["effect"].null_count():
        raise ValueError(f"{scenario.id}: {rows.height} estimates of {drawn.truth.height} tables")
    return rows


def _slack(tables: int) -> float:
    """Return how much wider the limits of fewer tables than 2,000 are."""
    return max(ERROR_AT_MOST * sqrt(0.05 * 0.95) * (1 / sqrt(tables) - 1 / sqrt(2_000)), 0.0)
