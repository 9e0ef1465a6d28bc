"""The pipeline is right, and looking at it every day is safe: small worlds from their events to the table of uplift.

What belongs here: what is compared with the truth, how often it must agree, and what is said by chance. What does not: tables that no
pipeline made (``estimator``), experiments that are broken (``faults``), any world.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from atc_pipeline.certificate.claim import Claim, Scale, Stores, Worlds
from atc_pipeline.certificate.driving import SHOWN, Driven
from atc_pipeline.journeys.portfolio import SYSTEM, Portfolio
from atc_pipeline.outcomes.tables import ALL, HARMS, HELPS, LONG
from atc_pipeline.outcomes.uplift import Evidence, estimate_uplift
from atc_pipeline.rules.arms import POLICY

SEED = 16
WORLDS = {Scale.QUICK: 10, Scale.FULL: 200}
TOGETHER = 20
"""Worlds that are driven as one: their customers have nothing to do with each other, and a day costs a third."""
CUSTOMERS, DAYS = 2_000, 120

COVERED_AT_LEAST = 183 / 200
"""Of a journey's worlds; a true 95 % is below that in 1.2 % of certificates."""
COVERED_IN_ALL = 0.94
REJECTED_AT_MOST = 18 / 200
FALSE_AT_MOST = 0.05
ALWAYS_COVERED = 0.95


@dataclass(frozen=True, eq=False)
class Observed:
    """What was said of the worlds of a scenario, beside the truth.

    ``last``: one row per world and journey (or ``system``), as of the last day: ``truth, effect, fixed_low, fixed_high, verdict``.
    ``looks``: one row per world and journey: ``days`` looked at, ``is_always_covered``, ``is_ever_false``: said to help or harm while
    the truth of that day is another.
    """

    last: pl.DataFrame
    looks: pl.DataFrame


def pipeline_claims(scale: Scale, worlds: Worlds, stores: Stores, *, seed: int = SEED) -> Iterator[Claim]:
    """Drive worlds with planted effects and without, and yield what is claimed of both."""
    count = WORLDS[scale]
    observed = {name: observe(name, worlds, stores, count=count, seed=seed) for name in ("planted", "nothing")}
    how = f"{count} worlds of {CUSTOMERS:,} customers and {DAYS} days, from events to the table of uplift; seed {seed}"
    yield pipeline_is_right(observed, how)
    yield looking_is_safe(observed, how)


def pipeline_is_right(observed: Mapping[str, Observed], how: str) -> Claim:
    """Of worlds with effects, the fixed interval of the last day holds the truth; of worlds without, it holds 0."""
    planted, nothing = (observed[name].last for name in ("planted", "nothing"))
    covers = planted.with_columns(covers=pl.col("truth").is_between("fixed_low", "fixed_high"))
    of_journey = covers.group_by("journey_id")
    journeys = of_journey.agg(worlds=pl.len(), covers=pl.col("covers").sum()).join(
        of_journey.agg(pl.col("truth", "effect", "customers").mean()), on="journey_id"
    )
    leaves_out = (pl.col("fixed_low") > 0) | (pl.col("fixed_high") < 0)
    rejects = nothing.group_by("journey_id").agg(worlds=pl.len(), rejects=leaves_out.sum())
    figures = {
        f"{row['journey_id']}, planted": (
            f"covered in {row['covers']} of {row['worlds']}; truth {row['truth']:+.2f}, found {row['effect']:+.2f} per customer, "
            f"{row['customers']:,.0f} customers on average"
        )
        for row in journeys.sort("journey_id").to_dicts()
    }
    in_all = float(covers["covers"].sum()) / max(covers.height, 1)
    figures["all journeys and worlds, planted"] = f"covered in {in_all:.1%}"
    figures |= {
        f"{row['journey_id']}, nothing planted": f"rejected in {row['rejects']} of {row['worlds']}"
        for row in rejects.sort("journey_id").to_dicts()
    }
    slack = _slack(planted["world"].n_unique())
    passed = (
        journeys.height > 1
        and bool((journeys["covers"] >= (COVERED_AT_LEAST - slack) * journeys["worlds"]).all())
        and in_all >= COVERED_IN_ALL - slack / 2
        and bool((rejects["rejects"] <= (REJECTED_AT_MOST + slack) * rejects["worlds"]).all())
    )
    bar = (
        f"the fixed interval covers in >= {COVERED_AT_LEAST - slack:.1%} of a journey's worlds and in >= {COVERED_IN_ALL - slack / 2:.0%} "
        f"of all; where nothing is planted it leaves 0 out in <= {REJECTED_AT_MOST + slack:.0%}"
    )
    return Claim("the pipeline is right", how, bar, figures, passed)


def looking_is_safe(observed: Mapping[str, Observed], how: str) -> Claim:
    """A verdict every day: worlds without effects never hear that a journey helps or harms; intervals hold the truth at every look."""
    figures, shares = {}, []
    for name in ("nothing", "planted"):
        looks = observed[name].looks
        days = int(looks["days"].sum()) // max(looks.height, 1)
        by_world = looks.group_by("world").agg(pl.col("is_ever_false").any())
        always = float(looks["is_always_covered"].sum()) / max(looks.height, 1)
        shares.append((name, always, float(by_world["is_ever_false"].sum()) / max(by_world.height, 1)))
        figures[f"{'nothing planted' if name == 'nothing' else 'planted'}"] = (
            f"{shares[-1][2]:.1%} of {by_world.height} worlds ever heard a false verdict; the anytime interval holds the truth on all of "
            f"{days} days in {always:.1%} of {looks.height} journeys"
        )
    count = max(observed["nothing"].looks["world"].n_unique(), 1)
    slack = _slack(count)
    passed = bool(shares) and all(always >= ALWAYS_COVERED - slack and false <= FALSE_AT_MOST + slack for _, always, false in shares)
    bar = f"ever false in <= {FALSE_AT_MOST + slack:.0%} of worlds; the truth is held at all looks in >= {ALWAYS_COVERED - slack:.0%}"
    return Claim("looking every day is safe", f"{how}; a verdict every day", bar, figures, passed)


def _slack(worlds: int) -> float:
    """Return by how much a bar is lower where fewer worlds than 200 are tried: what chance makes of a true 95 %."""
    return 0.0 if worlds >= WORLDS[Scale.FULL] else 2.0 * (0.05 * 0.95 / worlds) ** 0.5


def observe(
    scenario: str, worlds: Worlds, stores: Stores, *, count: int, seed: int, customers: int = CUSTOMERS, days: int = DAYS
) -> Observed:
    """Drive so many worlds of a scenario, some of them side by side, and note what is said of each day."""
    together = min(TOGETHER, count)
    parts = []
    for batch in range(count // together):
        world = worlds(scenario, 1_000 * seed + batch, count=together, customers=customers, days=days)
        parts.append(observe_together(Driven.into(stores.empty(), world, left_out=SHOWN)))
    offset = [pl.col("world") + batch * together for batch in range(len(parts))]
    return Observed(
        pl.concat(part.last.with_columns(more) for part, more in zip(parts, offset, strict=True)),
        pl.concat(part.looks.with_columns(more) for part, more in zip(parts, offset, strict=True)),
    )


def observe_together(driven: Driven) -> Observed:
    """Drive worlds that are one, and look at each on every day."""
    looked = [look for day in driven.run() for look in [_look(driven, day)] if look is not None]
    today = driven.world.days[-1]
    truth = truths(driven, today)
    seen = pl.concat(looked) if looked else pl.DataFrame(schema=_LOOK)
    judged = seen.join(_on_days(truth, seen), on=["world", "journey_id", "date"], how="inner").with_columns(
        covers=pl.col("truth").is_between("anytime_low", "anytime_high")
    )
    judged = judged.join(_false_verdicts(driven, judged), on=["world", "journey_id", "date"], how="left").with_columns(
        pl.col("is_false").fill_null(value=False)
    )
    looks = judged.group_by("world", "journey_id").agg(
        days=pl.len().cast(pl.Int64), is_always_covered=pl.col("covers").all(), is_ever_false=pl.col("is_false").any()
    )
    return Observed(_last(driven, today, truth), looks.sort("world", "journey_id"))


_LOOK = {
    "world": pl.Int64(),
    "journey_id": pl.String(),
    "date": pl.Date(),
    "anytime_low": pl.Float64(),
    "anytime_high": pl.Float64(),
    "effect": pl.Float64(),
    "p_anytime": pl.Float64(),
}


def evidence_of(driven: Driven, today: date, world: int | None = None) -> Evidence:
    """Return what an estimate of a day stands on, of one world or of all."""
    mine = pl.lit(value=True) if world is None else driven.world.world_of() == world
    tables = [driven.all_of(name, today).filter(mine) for name in ("journey_entries", "journey_outcomes", "long_outcomes")]
    return Evidence(tables[0], tables[1], tables[2])


def _look(driven: Driven, today: date) -> pl.DataFrame | None:
    """One row per world and journey: its anytime interval of the day.

    All worlds are estimated at once, as if each had journeys of its own: an interval has nothing to do with other journeys.
    """
    if driven.all_of("journey_outcomes", today).select(pl.len()).collect().item() == 0:
        return None
    every, portfolio = _apart(driven, today)
    rows = _told(estimate_uplift(every, portfolio, today=today), portfolio).with_columns(
        world=pl.col("journey_id").str.extract(r"^(\d+)_", 1).cast(pl.Int64), journey_id=pl.col("journey_id").str.replace(r"^\d+_", "")
    )
    return rows.with_columns(pl.lit(today).alias("date")).select(*_LOOK).filter(pl.col("anytime_low").is_not_null())


def _false_verdicts(driven: Driven, looks: pl.DataFrame) -> pl.DataFrame:
    """One row per world, journey and day of which it was said that it helps or harms while the truth is another: ``is_false``.

    A verdict is about all journeys of a world, so it is asked for by world: where it may be false, which is where the evidence of a
    journey is enough by itself, and of the wrong sign. With others beside it a journey needs more evidence, never less.
    """
    is_wrong = ((pl.col("effect") > 0) & (pl.col("truth") <= 0)) | ((pl.col("effect") < 0) & (pl.col("truth") >= 0))
    doubtful = looks.filter(is_wrong & (pl.col("p_anytime") <= driven.portfolio.measurement.false_discoveries))
    verdicts = [pl.DataFrame(schema={"world": pl.Int64, "journey_id": pl.String, "date": pl.Date, "verdict": pl.String})]
    for world, day in doubtful.select("world", "date").unique().sort("world", "date").iter_rows():
        uplift = estimate_uplift(evidence_of(driven, day, world), driven.portfolio, today=day)
        verdicts.append(
            _told(uplift, driven.portfolio).select(
                pl.lit(world, pl.Int64).alias("world"), "journey_id", pl.lit(day).alias("date"), "verdict"
            )
        )
    is_false = pl.col("verdict").is_in([HELPS, HARMS]).alias("is_false")
    keys = ["world", "journey_id", "date"]
    return doubtful.select(keys).join(pl.concat(verdicts), on=keys).select(*keys, is_false)


def _apart(driven: Driven, today: date) -> tuple[Evidence, Portfolio]:
    """Return the evidence of all worlds with the number of its world before each journey's id, and a portfolio of all these journeys."""
    every = evidence_of(driven, today)
    numbered = pl.concat_str(driven.world.world_of(), pl.lit("_"), "journey_id").alias("journey_id")
    entries, outcomes = every.entries.with_columns(numbered), every.outcomes.with_columns(numbered)
    numbers = entries.select(driven.world.world_of().unique()).collect().to_series().sort()
    journeys = tuple(replace(journey, id=f"{number}_{journey.id}") for number in numbers for journey in driven.portfolio.journeys)
    return Evidence(entries, outcomes, every.long.clear()), replace(driven.portfolio, journeys=journeys)


def truths(driven: Driven, today: date) -> pl.DataFrame:
    """One row per first entry that counts: its world, journey, the day it matured on, and what was planted for it."""
    first = driven.all_of("journey_outcomes", today).filter(
        (pl.col("entry_number") == 1) & ~pl.col("contaminated") & pl.col("held_out_by").ne_missing(POLICY)
    )
    rows = first.select("date", "customer_id", "journey_id", "entered_on", "window_days", driven.world.world_of()).collect()
    return rows.with_columns(driven.world.planted(rows))


def _on_days(truth: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """One row per world, journey and day of a look: the mean of what was planted for the entries that had matured by then."""
    by_day = truth.group_by("world", "journey_id", "date").agg(pl.col("planted").sum(), count=pl.len()).sort("date")
    so_far = by_day.with_columns(pl.col("planted", "count").cum_sum().over("world", "journey_id"))
    looks = seen.select("world", "journey_id", "date").sort("date")
    known = looks.join_asof(so_far, on="date", by=["world", "journey_id"], check_sortedness=False)
    return known.select("world", "journey_id", "date", truth=pl.col("planted") / pl.col("count"))


def _last(driven: Driven, today: date, truth: pl.DataFrame) -> pl.DataFrame:
    """One row per world and journey, or its system: the truth, and what is said of it on the last day."""
    journeys = truth.group_by("world", "journey_id").agg(truth=pl.col("planted").mean())
    system = _truth_of_system(driven, today)
    rows = []
    for world in sorted(journeys["world"].unique()):
        uplift = estimate_uplift(evidence_of(driven, today, world), driven.portfolio, today=today)
        of_money = (_told(uplift, driven.portfolio), _told(uplift, driven.portfolio, SYSTEM, of=LONG))
        rows.append(pl.concat(of_money).with_columns(world=pl.lit(world, pl.Int64), customers=pl.col("treated") + pl.col("control")))
    return (
        pl.concat(rows)
        .join(pl.concat([journeys, system]), on=["world", "journey_id"], how="inner")
        .select(
            "world", "journey_id", "truth", "effect", "fixed_low", "fixed_high", "verdict", customers=pl.col("treated") + pl.col("control")
        )
        .sort("world", "journey_id")
    )


def _truth_of_system(driven: Driven, today: date) -> pl.DataFrame:
    """One row per world: what all messages made per customer who was not held out, in the long run after the trigger."""
    triggers = (
        driven.all_of("long_outcomes", today)
        .filter((pl.col("journey_id") == SYSTEM) & ~pl.col("contaminated") & pl.col("held_out_by").ne_missing(POLICY))
        .select("customer_id", "journey_id", "entered_on", driven.world.world_of())
        .with_columns(window_days=pl.lit(driven.portfolio.measurement.long_days, pl.Int64))
        .collect()
    )
    made = triggers.with_columns(driven.world.planted(triggers))
    return made.group_by("world", "journey_id").agg(truth=pl.col("planted").mean())


def _told(uplift: pl.DataFrame, portfolio: Portfolio, *journeys: str, of: str = ALL) -> pl.DataFrame:
    """Return the rows of money; of all journeys, or those that are named."""
    is_meant = pl.col("journey_id").is_in(journeys) if journeys else pl.col("journey_id") != SYSTEM
    return uplift.filter(is_meant, pl.col("slice") == of, pl.col("metric") == portfolio.money)
