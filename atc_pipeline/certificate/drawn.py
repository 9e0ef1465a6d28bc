"""Entries and outcomes drawn by chance, many tables of them at once: each is a journey of one portfolio.

There is what an estimate must not fall for: customers held out by the policy, who are other people than those who enter; re-entries, which
treatment makes likelier; customers who merged across arms; entries that have not matured.

What belongs here: who enters, when, into which arm; frames as the lake has them. What does not: how much customers do (``laws``), which
tables there are (``scenarios``), or what is estimated of them (``estimator``).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from atc_pipeline.certificate.laws import Floats, Law
from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Measure, Measurement, Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.outcomes.tables import journey_entries, journey_outcomes, long_outcomes
from atc_pipeline.outcomes.uplift import Evidence
from atc_pipeline.rules.arms import CONTROL, JOURNEY, POLICY, TREATED
from atc_pipeline.tables.table import Table

STARTS_ON = date(2026, 1, 5)
"""A Monday: the first day anybody enters."""
WINDOW_DAYS, LATE_DAYS = 28, 3

Days = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

POLICY_HOLDOUT = 0.05
HELD_OUT_SHARE, REENTRY_SHARE, MERGED_SHARE, IMMATURE_SHARE = 0.08, (0.1, 0.25), 0.02, 0.05
"""Per first entry that counts: of others held out by the policy, re-entries (of control, of treated), merged across arms, not mature."""
OTHERS, RETURNING, DOUBLED = 0.6, 1.6, 2.0
"""How much more than those who count do: who was never sent anything; who enters again; who was treated under another name too."""

PORTFOLIO = """
version: "1"
calendar: {starts_on: 2026-01-05, timezone: UTC}
channels: {email: {consent: none}}
policy: {holdout: 0.05}
journeys:
  - {id: journey, name: A journey, length_days: 28, queue: {where: "tenure_days < 7"}, steps: [{day: 1, channel: email, content: hello}]}
"""


class Estimating(Protocol):
    """What is tried: ``uplift.estimate_uplift``, or whatever is put in its place."""

    def __call__(self, evidence: Evidence, portfolio: Portfolio, *, today: date) -> pl.DataFrame:
        """Return the rows of the table uplift."""


@dataclass(frozen=True)
class Scenario:
    """One kind of table.

    ``customers``: first entries that count, of each table, spread over ``days``. ``holdouts``: the share in force, of equal stretches of
    these. ``levels``: how much customers do in each of these. ``lift``: what treatment adds, as a share of the mean; it acts on
    ``touched`` of the customers, on those the more. ``is_even``: so many are held out, not so many on average.
    """

    id: str
    meaning: str
    law: Law
    customers: int
    lift: float
    holdouts: tuple[float, ...] = (0.2,)
    levels: tuple[float, ...] = (1.0,)
    touched: float = 1.0
    days: int = 56
    is_even: bool = False

    @property
    def ends_on(self) -> date:
        """Return the day on which the last entry of those days matures."""
        return STARTS_ON + timedelta(days=self.days - 1 + WINDOW_DAYS + LATE_DAYS)

    def stretch(self, day: Days) -> Days:
        """Return in which of the stretches a day is; the last one goes on."""
        return np.minimum(day * len(self.holdouts) // self.days, len(self.holdouts) - 1)


@dataclass(frozen=True)
class Drawn:
    """Tables, with the effect that was planted in each (``journey_id, truth``). Some of their entries mature only later."""

    evidence: Evidence
    portfolio: Portfolio
    truth: pl.DataFrame


def portfolio_of(law: Law, journeys: int, *, holdout: float) -> Portfolio:
    """Return a portfolio of so many journeys that are alike, measured by what the law draws."""
    of = resolve(parse_document(PORTFOLIO, "certificate"))
    (journey,) = of.journeys
    money = law.metric.id if law.metric.kind == "sum" else None
    return replace(
        of,
        metrics=(law.metric,),
        measurement=Measurement(money=money, late_days=LATE_DAYS),
        journeys=tuple(
            replace(journey, id=name, holdout=holdout, measure=Measure(window_days=WINDOW_DAYS, metrics=(law.metric.id,)))
            for name in names(journeys)
        ),
    )


def names(journeys: int) -> list[str]:
    """Name journeys ``t0001`` ..."""
    return [f"t{number:04d}" for number in range(1, journeys + 1)]


def draw(scenario: Scenario, tables: int, seed: tuple[int, ...], *, lifts: Floats | None = None) -> Drawn:
    """Draw so many tables; the same seed draws the same. ``lifts``: of each table, where they differ."""
    chance = np.random.default_rng(seed)
    drawing = _Drawing(scenario, np.full(tables, scenario.lift) if lifts is None else lifts, chance)
    first = drawing.first()
    portfolio = portfolio_of(scenario.law, tables, holdout=scenario.holdouts[-1])
    level = np.bincount(first.table, weights=drawing.level(first.day), minlength=tables) / scenario.customers
    truth = pl.DataFrame({"journey_id": names(tables), "truth": scenario.law.mean * drawing.lifts * level})
    rows = pl.concat([drawing.outcomes(first, drawing.level(first.day)), *drawing.traps(first)])
    return Drawn(evidence_of(rows, portfolio), portfolio, truth)


@dataclass(frozen=True)
class _Who:
    """Entries, as arrays: of which table, whose, on which day, in which arm."""

    table: Days
    customer: Days
    day: Days
    is_control: Flags

    def only(self, which: Flags, customers: int = 0) -> "_Who":
        """Return some of them; ``customers``: how far from theirs the customers are who stand in their place."""
        return _Who(self.table[which], self.customer[which] + customers, self.day[which], self.is_control[which])


@dataclass(frozen=True)
class _Drawing:
    """Draws the entries of many tables of a scenario, and what came of them."""

    scenario: Scenario
    lifts: Floats
    chance: np.random.Generator

    def first(self) -> _Who:
        """Draw the first entries that count."""
        tables, customers = self.lifts.size, self.scenario.customers
        day = self.chance.integers(0, self.scenario.days, tables * customers)
        lots = self.chance.random((tables, customers))
        if self.scenario.is_even:
            lots = lots.argsort(axis=1).argsort(axis=1) / customers
        is_control = lots.ravel() < self.holdout(day)
        return _Who(np.repeat(np.arange(tables), customers), np.arange(tables * customers), day, is_control)

    def holdout(self, day: Days) -> Floats:
        """Return the share in force on each day."""
        return np.array(self.scenario.holdouts)[self.scenario.stretch(day)]

    def level(self, day: Days) -> Floats:
        """Return how much customers do who enter on each day."""
        levels = self.scenario.levels
        return np.array(levels * len(self.scenario.holdouts) if len(levels) == 1 else levels)[self.scenario.stretch(day)]

    def traps(self, first: _Who) -> Iterator[pl.DataFrame]:
        """Draw what must not count."""
        size = first.day.size
        is_held_out, is_merged, is_late = (self.chance.random(size) < share for share in (HELD_OUT_SHARE, MERGED_SHARE, IMMATURE_SHARE))
        is_again = self.chance.random(size) < np.where(first.is_control, *REENTRY_SHARE)

        excluded = replace(first.only(is_held_out, size), is_control=np.ones(is_held_out.sum(), dtype=np.bool_))
        yield self.outcomes(excluded, np.full(excluded.day.size, OTHERS), by=POLICY)

        merged = first.only(is_merged, 2 * size)
        yield self.outcomes(merged, np.where(merged.is_control, 1.0, DOUBLED), contaminated=True)

        late = first.only(is_late, 3 * size)
        late = replace(late, day=self.scenario.days + late.day % (WINDOW_DAYS + LATE_DAYS))
        yield self.outcomes(late, np.ones(late.day.size))

        again = first.only(is_again)
        # On a later day, of those that there are.
        again = replace(again, day=self.chance.integers(again.day, self.scenario.days) + 1)
        yield self.outcomes(again, np.full(again.day.size, RETURNING), entry_number=2)

    def outcomes(self, who: _Who, level: Floats, *, by: str = JOURNEY, entry_number: int = 1, contaminated: bool = False) -> pl.DataFrame:
        """Return one row per entry, with what came of it."""
        is_touched = ~who.is_control & (self.chance.random(level.size) < self.scenario.touched)
        values = self.scenario.law.draw(self.chance, 1 + is_touched * self.lifts[who.table] / self.scenario.touched, level)
        columns = {**values.after, **{f"{name}_before": before for name, before in values.before.items()}}
        return pl.DataFrame(
            {
                "journey_id": pl.Series(names(self.lifts.size)).gather(who.table),
                "customer": who.customer,
                "day": who.day,
                "is_control": who.is_control,
                "holdout": self.holdout(who.day),
                **columns,
            }
        ).select(
            "journey_id",
            pl.format("c{}", "customer").alias("customer_id"),
            (pl.lit(STARTS_ON) + pl.duration(days="day")).cast(pl.Date).alias("entered_on"),
            pl.when("is_control").then(pl.lit(CONTROL)).otherwise(pl.lit(TREATED)).alias("arm"),
            pl.when("is_control").then(pl.lit(by)).alias("held_out_by"),
            "holdout",
            pl.lit(entry_number, pl.Int64).alias("entry_number"),
            pl.lit(contaminated, pl.Boolean).alias("contaminated"),
            *columns,
        )


def evidence_of(rows: pl.DataFrame, portfolio: Portfolio) -> Evidence:
    """Return entries, and what came of them once they mature, as the lake has them."""
    rows = rows.with_columns(
        known_as="customer_id",
        policy_holdout=pl.lit(POLICY_HOLDOUT),
        window_days=pl.lit(WINDOW_DAYS, pl.Int64),
        matures_on=(pl.col("entered_on") + pl.duration(days=WINDOW_DAYS + LATE_DAYS)).cast(pl.Date),
        version=pl.lit("1"),
        decision=pl.lit("start"),
        options=pl.lit(1, pl.Int64),
        propensity_source=pl.lit("prior"),
        segments=pl.lit([], pl.List(pl.String())),
        is_quiet=pl.lit(False),
        is_drawn=pl.lit(False),
        delivered=pl.when(pl.col("arm") == TREATED).then(1).otherwise(0).cast(pl.Int64),
        withheld=pl.lit(0, pl.Int64),
    )
    return Evidence(
        entries=_in_form(journey_entries(portfolio), rows.with_columns(date="entered_on")).lazy(),
        outcomes=_in_form(journey_outcomes(portfolio), rows.with_columns(date="matures_on")).lazy(),
        long=long_outcomes(portfolio).schema.to_frame().lazy(),
    )


def _in_form(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the table's columns; what is not drawn is null."""
    return rows.select(
        pl.col(column.name) if column.name in rows.columns else pl.lit(None, column.dtype).alias(column.name) for column in table.columns
    )


def known_on(evidence: Evidence, day: date) -> Evidence:
    """Return what is known by the end of a day."""
    is_known = pl.col("date") <= day
    return replace(evidence, entries=evidence.entries.filter(is_known), outcomes=evidence.outcomes.filter(is_known))
