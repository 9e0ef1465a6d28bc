"""Verdicts are right: none where nothing can be known, few false ones among many, none for looking often, broken ones noticed.

Tables only, no pipeline. What belongs here: claims about what is said of an estimate. What does not: the estimate (``estimator``), or the
same of a whole pipeline.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from math import sqrt
from statistics import NormalDist

import numpy as np
import polars as pl

from atc_pipeline.certificate.claim import Claim, Scale
from atc_pipeline.certificate.drawn import (
    LATE_DAYS,
    STARTS_ON,
    WINDOW_DAYS,
    Drawn,
    Estimating,
    Scenario,
    draw,
    known_on,
    names,
    portfolio_of,
)
from atc_pipeline.certificate.estimator import SEED, draws, rows_of
from atc_pipeline.certificate.laws import Bell, Floats, Money
from atc_pipeline.certificate.scenarios import SHOP
from atc_pipeline.outcomes.tables import BROKEN, HARMS, HELPS, TOO_EARLY
from atc_pipeline.outcomes.uplift import estimate_uplift
from atc_pipeline.rules.arms import TREATED
from atc_pipeline.rules.lots import xxh64

SPARSE = Scenario(
    "hardly any",
    "0.6 % buy, 200 in control",
    Money(orders=0.007, shape=0.02, sigma=1.0),
    customers=2_000,
    lift=1.0,
    holdouts=(0.1,),
    is_even=True,
)
SILENT_TABLES = {Scale.QUICK: 100, Scale.FULL: 2_000}

LOOKED_AT = Scenario("looks", "skewed money, a fifth held out", SHOP, customers=1_500, lift=0.15, days=120)
LOOKED_TABLES = {Scale.QUICK: 50, Scale.FULL: 500}
LOOKS_EVERY = {Scale.QUICK: 7, Scale.FULL: 1}

WITH_EFFECT, WITHOUT_EFFECT, ALIKE = 5, 15, 5
MANY = Scenario("many", "20 journeys, 15 without effect", SHOP, customers=3_000, lift=0.3)
FAMILIES = {Scale.QUICK: 20, Scale.FULL: 400}

CALM = Bell()
SPLITS = (
    Scenario("a tenth", "a tenth held out", CALM, customers=20_000, lift=0.0, holdouts=(0.1,)),
    Scenario("half", "half held out", CALM, customers=20_000, lift=0.0, holdouts=(0.5,)),
)
SPLIT_TABLES = {Scale.QUICK: 20, Scale.FULL: 400}
LOST, SHIFTED = 0.1, 0.03
SURE, Z_SAMPLE_RATIO = 0.9999, 3.2905
"""How likely a fault must show for it to have to; standard errors at which a two-sided test at 0.001 does."""

FALSE_AT_MOST = 0.05
CRIED_AT_MOST = 0.01
"""Of experiments that are whole, how many may be called broken: the checks' level is 0.001 each."""


def knows_when_it_cannot(scale: Scale, estimate: Estimating = estimate_uplift, *, tables: int | None = None) -> Claim:
    """Hardly anybody buys: nothing is said, whether messages double it or do nothing."""
    count = tables or SILENT_TABLES[scale]
    figures, are_silent = {}, []
    for scenario in (replace(SPARSE, lift=0.0), SPARSE):
        verdicts = pl.concat(rows_of(estimate, drawn, scenario) for drawn in draws(scenario, count))["verdict"]
        early = int((verdicts == TOO_EARLY).sum())
        are_silent.append(early == count)
        figures[f"buying {scenario.lift:+.0%}"] = f"too_early in {early:,} of {count:,}"
    return Claim(
        name="it says when it cannot know",
        how=f"{count:,} tables: {SPARSE.meaning}, {SPARSE.customers:,} customers in all; seed {SEED}",
        bar="no verdict but too_early in 100 %",
        figures=figures,
        passed=all(are_silent),
    )


def looking_is_safe(scale: Scale, estimate: Estimating = estimate_uplift, *, tables: int | None = None) -> Claim:
    """A look every day, at entries that mature day by day: is there ever a false word, does the interval ever let go of the truth."""
    count, every = tables or LOOKED_TABLES[scale], LOOKS_EVERY[scale]
    first = WINDOW_DAYS + LATE_DAYS
    looks = [STARTS_ON + timedelta(days=day) for day in range(first, first + LOOKED_AT.days, every)]
    null, lifted = (
        pl.concat(_looked_at(scenario, drawn, estimate, looks) for drawn in draws(scenario, count))
        for scenario in (replace(LOOKED_AT, lift=0.0), LOOKED_AT)
    )
    false, covers = _share(null["said"]), {"A/A": _share(null["covers"]), f"{LOOKED_AT.lift:+.0%}": _share(lifted["covers"])}
    return Claim(
        name="looking every day is safe (tables)",
        how=(
            f"{count:,} tables of {LOOKED_AT.customers:,} customers, looked at {len(looks)} times in {LOOKED_AT.days} days, no pipeline; "
            f"seed {SEED}"
        ),
        bar=f"ever false in <= {FALSE_AT_MOST:.0%} of A/A; anytime covers at all looks in >= {1 - FALSE_AT_MOST:.0%}",
        figures={
            "A/A, ever false": f"{false:.1%} by anytime; it would be {_share(null['seen']):.1%} by fixed",
            **{f"{name}, anytime covers at all looks": f"{share:.1%}" for name, share in covers.items()},
            f"{LOOKED_AT.lift:+.0%}, seen in the end": f"{_share(lifted['said']):.0%}",
        },
        passed=false <= FALSE_AT_MOST and min(covers.values()) >= 1 - FALSE_AT_MOST,
    )


def _looked_at(scenario: Scenario, drawn: Drawn, estimate: Estimating, looks: Sequence[date]) -> pl.DataFrame:
    """One row per table: whether, at any look, a family of its own would have had a verdict (``said``), fixed left out 0 (``seen``)."""
    fixed, anytime = (("fixed_low", "fixed_high"), ("anytime_low", "anytime_high"))
    rows = []
    for day in looks:
        uplift = estimate(known_on(drawn.evidence, day), drawn.portfolio, today=day)
        rows.append(
            uplift.filter(pl.col("effect").is_not_null(), slice="all", metric=scenario.law.metric.id).select(
                "journey_id", "p_anytime", *fixed, *anytime
            )
        )
    level = drawn.portfolio.measurement.false_discoveries
    return (
        pl.concat(rows)
        .join(drawn.truth, on="journey_id")
        .group_by("journey_id")
        .agg(
            covers=pl.col("truth").is_between(*anytime).all(),
            said=(pl.col("p_anytime") <= level).any(),
            seen=((pl.col("fixed_low") > 0) | (pl.col("fixed_high") < 0)).any(),
        )
        .sort("journey_id")
    )


def many_are_safe(scale: Scale, estimate: Estimating = estimate_uplift, *, tables: int | None = None) -> Claim:
    """Families of twenty journeys: how many of those that are said to help or harm do nothing."""
    count = tables or FAMILIES[scale]
    figures, are_met = {}, []
    for name, is_shared in (("customers of their own", False), ("journeys without effect share customers and arms, five each", True)):
        families = [_family(number, estimate, is_shared=is_shared) for number in range(count)]
        false = float(np.mean([family.false / max(family.false + family.right, 1) for family in families]))
        seen = float(np.mean([family.right / WITH_EFFECT for family in families]))
        are_met.append(false <= FALSE_AT_MOST)
        figures[name] = f"false share {false:.2%}; {seen:.0%} of the effects ({MANY.lift:+.0%}) are seen"
    return Claim(
        name="many journeys are safe",
        how=(
            f"{count} families of {WITH_EFFECT + WITHOUT_EFFECT} journeys, {WITHOUT_EFFECT} without effect, {MANY.customers:,} customers "
            f"each; seed {SEED}"
        ),
        bar=f"false share among helps and harms <= {FALSE_AT_MOST:.0%} on average",
        figures=figures,
        passed=all(are_met),
    )


@dataclass(frozen=True)
class _Words:
    """How many journeys of a family were rightly and falsely said to help or harm."""

    right: int
    false: int


def _family(number: int, estimate: Estimating, *, is_shared: bool) -> _Words:
    drawn = _sharing(number) if is_shared else draw(MANY, WITH_EFFECT + WITHOUT_EFFECT, (SEED, 0, number), lifts=_lifts(WITHOUT_EFFECT))
    rows = rows_of(estimate, drawn, MANY)
    is_right = (pl.col("verdict") == HELPS) & (pl.col("truth") > 0)
    spoken = rows.filter(pl.col("verdict").is_in([HELPS, HARMS]))
    right = spoken.filter(is_right).height
    return _Words(right, spoken.height - right)


def _lifts(without: int) -> Floats:
    return np.repeat([MANY.lift, 0.0], [WITH_EFFECT, without])


def _sharing(number: int) -> Drawn:
    """Draw three journeys without effect, and let each stand for five that have the same customers in the same arms."""
    without = WITHOUT_EFFECT // ALIKE
    drawn = draw(MANY, WITH_EFFECT + without, (SEED, 1, number), lifts=_lifts(without))
    copies = [*range(WITH_EFFECT), *(WITH_EFFECT + copy % without for copy in range(WITHOUT_EFFECT))]
    every, original = names(len(copies)), names(WITH_EFFECT + without)
    renamed = pl.LazyFrame({"journey_id": [original[copy] for copy in copies], "renamed": every})

    def repeat(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.join(renamed, on="journey_id").select(pl.col("renamed").alias("journey_id"), pl.exclude("journey_id", "renamed"))

    return Drawn(
        replace(drawn.evidence, entries=repeat(drawn.evidence.entries), outcomes=repeat(drawn.evidence.outcomes)),
        portfolio_of(MANY.law, len(copies), holdout=MANY.holdouts[-1]),
        repeat(drawn.truth.lazy()).collect().sort("journey_id"),
    )


def broken_is_noticed(scale: Scale, estimate: Estimating = estimate_uplift, *, tables: int | None = None) -> Claim:
    """Treated entries get lost, or more are held out than the file says: the verdict is ``broken``; and of what is whole it is not."""
    count = tables or SPLIT_TABLES[scale]
    figures, are_met = {}, []
    for split in SPLITS:
        shifted = replace(split, id=f"{split.id}, shifted", holdouts=(split.holdouts[0] + SHIFTED,))
        noticed = {
            "whole": _broken(estimate, split, draws(split, count)),
            "lost": _broken(estimate, split, (_losing(drawn) for drawn in draws(replace(split, id=f"{split.id}, lost"), count))),
            "shifted": _broken(estimate, split, (_as_if(drawn, split.holdouts[0]) for drawn in draws(shifted, count))),
        }
        likely = power_of_loss(split.customers, split.holdouts[0])
        are_met += [noticed["whole"] <= CRIED_AT_MOST, noticed["shifted"] == 1, noticed["lost"] == 1 or likely < SURE]
        figures[f"{split.meaning}, {split.customers:,} entries"] = (
            f"shifted by {SHIFTED:.0%}: {noticed['shifted']:.1%}; {LOST:.0%} of treated lost: {noticed['lost']:.1%}"
            f"{'' if likely >= SURE else f' (so few can show it in {likely:.0%}; no bar)'}; whole: {noticed['whole']:.2%}"
        )
    return Claim(
        name="broken is noticed (tables)",
        how=f"{count} tables each, no pipeline; seed {SEED}",
        bar=f"broken in 100 %, where the sizes can show it in {SURE:.2%}; of what is whole in <= {CRIED_AT_MOST:.0%}",
        figures=figures,
        passed=all(are_met),
    )


def power_of_loss(entries: int, holdout: float) -> float:
    """Return how likely a chi-square test at 0.001 shows that ``LOST`` of the treated are missing."""
    left = entries * (holdout + (1 - holdout) * (1 - LOST))
    share = entries * holdout / left
    error = sqrt(holdout * (1 - holdout) / left)
    return NormalDist().cdf((share - holdout - Z_SAMPLE_RATIO * error) / sqrt(share * (1 - share) / left))


def _broken(estimate: Estimating, split: Scenario, drawn: Iterable[Drawn]) -> float:
    """Return the share of tables that are broken."""
    return _share(pl.concat(rows_of(estimate, tables, split) for tables in drawn)["verdict"] == BROKEN)


def _losing(drawn: Drawn) -> Drawn:
    """Lose a tenth of the treated entries, by lot."""
    is_lost = (pl.col("arm") == TREATED) & (xxh64(pl.concat_str(pl.lit("lost:"), "customer_id")) % 100 < round(100 * LOST))
    evidence = drawn.evidence
    return replace(
        drawn, evidence=replace(evidence, entries=evidence.entries.filter(~is_lost), outcomes=evidence.outcomes.filter(~is_lost))
    )


def _as_if(drawn: Drawn, holdout: float) -> Drawn:
    """Say that another share was held out than was."""
    evidence, stated = drawn.evidence, pl.lit(holdout).alias("holdout")
    entries, outcomes = evidence.entries.with_columns(stated), evidence.outcomes.with_columns(stated)
    return replace(drawn, evidence=replace(evidence, entries=entries, outcomes=outcomes))


def _share(flags: pl.Series) -> float:
    return float(flags.sum()) / len(flags)
