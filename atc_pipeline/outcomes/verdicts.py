"""Verdicts: what may be said of an estimate, the first that applies, and why (SPEC 11).

What belongs here: the family that is asked at once, the order of verdicts, their words. What does not: estimates (``comparing``), pages.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from atc_pipeline.journeys.portfolio import GOAL, SYSTEM, Journey, Portfolio
from atc_pipeline.outcomes import estimate
from atc_pipeline.outcomes.tables import (
    ALL,
    BROKEN,
    EXPLORATORY,
    HARMLESS,
    HARMS,
    HELPS,
    LONG,
    NEGLIGIBLE,
    NO_HOLDOUT,
    RUN_RATE,
    TOO_EARLY,
    UNDECIDED,
)

UNEVEN = 0.001
"""How unlikely a difference between arms must be that nothing but chance may have made: less is a fault."""
WEEK = 7


@dataclass(frozen=True)
class Known:
    """What a verdict stands on besides its row.

    ``began_on``: when today's version began, where another was before it. ``per_day``: how many customers enter on a day, by journey.
    ``cost``: of the messages of the run rate's days. ``sent_to_control``: customers in control who got messages, by journey, beyond those
    that rows say.
    """

    today: date
    began_on: date | None
    per_day: Mapping[str, float]
    cost: float | None
    sent_to_control: Mapping[str, int]


Row = dict[str, Any]


def judge(rows: pl.DataFrame, portfolio: Portfolio, known: Known) -> pl.DataFrame:
    """Add to estimates what follows from them, and the verdict with its reason."""
    lately = pl.col("journey_id").replace_strict(known.sent_to_control, default=0, return_dtype=pl.Int64)
    rows = rows.with_columns(
        pl.lit(known.today).alias("date"),
        pl.col("immature", "contaminated", "unstable").fill_null(0),
        sent_to_control=pl.col("sent_to_control").fill_null(0) + lately,
        total=pl.col("effect") * pl.col("treated"),
        total_low=pl.col("anytime_low") * pl.col("treated"),
        total_high=pl.col("anytime_high") * pl.col("treated"),
        given_up=pl.col("effect") * pl.col("control"),
    )
    listed = rows.sort("journey_id", "metric", "slice").to_dicts()
    asked = _Asked(portfolio, known, listed)
    verdicts = [asked.verdict(row) for row in listed]
    return pl.DataFrame(
        [row | verdict for row, verdict in zip(listed, verdicts, strict=True)],
        schema=dict(rows.schema) | _VERDICT,
        infer_schema_length=None,
    )


_VERDICT: dict[str, pl.DataType] = {
    "p_adjusted": pl.Float64(),
    "net": pl.Float64(),
    "more_customers": pl.Int64(),
    "more_days": pl.Int64(),
    "verdict": pl.String(),
    "verdict_reason": pl.String(),
}


class _Asked:
    """What is asked in advance of all rows at once: the family, and which journeys are broken."""

    def __init__(self, portfolio: Portfolio, known: Known, rows: list[Row]) -> None:
        self.portfolio, self.known = portfolio, known
        self.primary = portfolio.money or GOAL
        self.journeys = {journey.id: journey for journey in portfolio.journeys}
        self.harm = {metric.id: 1 if metric.kind in _MORE_IS_HARM else -1 for metric in portfolio.measured}
        first = [row for row in rows if row["slice"] == (LONG if row["journey_id"] == SYSTEM else ALL)]
        self.faults = self._faults(first)
        self.questions = {id(row) for row in first if self._is_asked(row)}
        family = [row for row in first if id(row) in self.questions and row["journey_id"] != SYSTEM and not self._has_no_holdout(row)]
        adjusted = estimate.benjamini_hochberg(np.array([self._p(row) for row in family], dtype=np.float64))
        self.adjusted = {id(row): float(p) for row, p in zip(family, adjusted, strict=True)}
        self.adjusted |= {id(row): self._p(row) for row in first if row["journey_id"] == SYSTEM and id(row) in self.questions}

    def verdict(self, row: Row) -> Row:
        """Return what is said of a row, and what follows from it."""
        is_asked = id(row) in self.questions
        word, reason = self._ruling(row) if is_asked else (EXPLORATORY, None)
        more_customers, more_days = self._until_half(row)
        return {
            "p_adjusted": self.adjusted.get(id(row)),
            "net": self._net(row),
            "more_customers": more_customers,
            "more_days": more_days,
            "verdict": word,
            "verdict_reason": None if reason is None else reason + self._disagreement(row),
        }

    def _is_asked(self, row: Row) -> bool:
        if row["journey_id"] == SYSTEM:
            return bool(row["metric"] == self.portfolio.money)
        return row["metric"] == self.primary or row["metric"] in self.portfolio.measurement.guardrails

    def _is_guardrail(self, row: Row) -> bool:
        return bool(row["metric"] != self.primary)

    def _harm(self, row: Row) -> int:
        return self.harm.get(row["metric"], -1)

    def _faults(self, first: list[Row]) -> dict[str, str]:
        """Say what is wrong with a journey; of several the first."""
        tests = sum(row["before_p"] is not None for row in first)
        faults: dict[str, str] = {}
        for row in first:
            is_uneven = row["sample_ratio_p"] is not None and row["sample_ratio_p"] < UNEVEN
            was_unlike = row["before_p"] is not None and row["before_p"] < UNEVEN / tests
            reasons = {
                f"{row['sent_to_control']} in control were sent messages all the same (control_is_silent)": row["sent_to_control"] > 0,
                "customers were not divided by the shares that were to be held out (sample_ratio)": is_uneven,
                f"{row['unstable']} customers are in both arms (arms_are_stable)": row["unstable"] > 0,
                f"the arms differed in {row['metric']} before they entered (alike_before)": was_unlike,
            }
            broken = next((reason for reason, is_true in reasons.items() if is_true), None)
            if broken is not None:
                faults.setdefault(row["journey_id"], broken)
        return faults

    def _journey(self, row: Row) -> Journey | None:
        return self.journeys.get(row["journey_id"])

    def _has_no_holdout(self, row: Row) -> bool:
        journey = self._journey(row)
        return (self.portfolio.policy if journey is None else journey).holdout == 0 and row["control"] == 0

    def _is_decided_today(self, row: Row) -> bool:
        journey = self._journey(row)
        return journey is not None and journey.measure.decide_on == self.known.today

    def _too_early(self, row: Row) -> str | None:
        least = self.portfolio.measurement.min_nonzero
        arms = [(row["treated"], row["treated_nonzero"]), (row["control"], row["control_nonzero"])]
        (_, nonzero) = min(arms)
        if row["effect"] is None or nonzero < least:
            return f"{nonzero} customers of the smaller group have a value so far; {least} must"
        if (row["to_on"] - row["from_on"]).days + 1 < WEEK:
            return "no full week of entries has matured"
        if row["journey_id"] == SYSTEM and self.known.began_on is not None:
            days = max((journey.length_days + self.portfolio.window_days(journey) for journey in self.portfolio.journeys), default=0)
            if self.known.today < self.known.began_on + timedelta(days=days):
                return f"version {self.portfolio.version} began on {self.known.began_on}: what was sent before it lasts for {days} days"
        return None

    def _p(self, row: Row) -> float:
        """Return what the family is asked with: 1 where nothing may be said yet."""
        if row["effect"] is None or row["journey_id"] in self.faults or self._too_early(row) is not None:
            return 1.0
        effect, error = np.array([row["effect"]]), np.array([row["std_error"]])
        harm = self._harm(row) if self._is_guardrail(row) else 0
        if self._is_decided_today(row):
            two_sided = float(estimate.p_fixed(effect, error**2, np.array([row["freedom"]]))[0])
            return two_sided if harm == 0 else two_sided / 2 if harm * row["effect"] > 0 else 1 - two_sided / 2
        customers, expected = np.array([row["customers"]]), self.portfolio.measurement.expected_customers
        log = estimate.log_evidence(effect, error**2, customers, expected, against=np.array([float(harm)]))
        return float(estimate.p_anytime(log)[0])

    def _ruling(self, row: Row) -> tuple[str, str]:
        if (fault := self.faults.get(row["journey_id"])) is not None:
            return BROKEN, fault
        if self._has_no_holdout(row):
            return NO_HOLDOUT, "nobody is held out: what is shown is observed, not proved"
        if (early := self._too_early(row)) is not None:
            return TOO_EARLY, early
        kind = "fixed" if self._is_decided_today(row) else "anytime"
        low, high, effect = row[f"{kind}_low"], row[f"{kind}_high"], row["effect"]
        so_much = f"{_number(effect)} per customer ({_number(low)} to {_number(high)})"
        if self.adjusted[id(row)] <= self.portfolio.measurement.false_discoveries and effect != 0:
            is_harm = self._harm(row) * effect > 0
            if is_harm or not self._is_guardrail(row):
                return (HARMS if is_harm else HELPS), so_much
        tolerance = self.portfolio.measurement.tolerance
        least = tolerance * abs(row["mean_control"])
        if -least < low and high < least:
            return NEGLIGIBLE, f"{so_much}: within {tolerance:.0%} of what control does"
        if (self._harm(row) < 0 and low > -least) or (self._harm(row) > 0 and high < least):
            return HARMLESS, f"{so_much}: no more than {tolerance:.0%} worse than control"
        return UNDECIDED, self._cannot_tell(row)

    def _cannot_tell(self, row: Row) -> str:
        smallest, mean = row["smallest_visible"], abs(row["mean_control"])
        change = f"{smallest / mean:.0%}" if mean > 0 else _number(smallest)
        customers, days = self._until_half(row)
        at_pace = f", some {duration(days)} at the present pace," if days is not None else ""
        more = f"; {customers:,} more customers{at_pace} make the interval half as wide" if customers is not None else ""
        return f"we cannot tell yet: {change} is the smallest change this control group could show{more}"

    def _until_half(self, row: Row) -> tuple[int | None, int | None]:
        if row["half_customers"] is None:
            return None, None
        more = int(row["half_customers"] - row["customers"])
        per_day = self.known.per_day.get(row["journey_id"], 0.0) if row["slice"] in (ALL, LONG) else 0.0
        return more, math.ceil(more / per_day) if per_day > 0 else None

    def _net(self, row: Row) -> float | None:
        """Return what money is left of what was made: of a journey each delivered message costs what its dearest channel does."""
        margin = self.portfolio.measurement.margin
        if row["total"] is None or margin is None or row["metric"] != self.portfolio.money:
            return None
        journey = self._journey(row)
        if journey is None:
            return None if row["slice"] != RUN_RATE or self.known.cost is None else row["total"] * margin - self.known.cost
        if row["slice"] != ALL:
            return None
        return float(row["total"] * margin - (row["delivered"] or 0) * price_of_message(journey, self.portfolio))

    def _disagreement(self, row: Row) -> str:
        """Say where the adjustment turned a difference round that one of the two intervals tells from none."""
        if row["effect"] is None or row["effect"] * row["effect_unadjusted"] >= 0:
            return ""
        width = (row["anytime_high"] - row["anytime_low"]) / 2
        plain = width * row["error_unadjusted"] / row["std_error"] if row["std_error"] else 0.0
        is_told = abs(row["effect"]) > width or abs(row["effect_unadjusted"]) > plain
        return "; adjusted and unadjusted figures point in different directions" if is_told else ""


_MORE_IS_HARM = ("count", "any")
"""Kinds of guardrail that suffer by becoming more (complaints, people who opted out); a sum or an average suffers by becoming less."""


def price_of_message(journey: Journey, portfolio: Portfolio) -> float:
    """Return what a delivered message of a journey costs: as much as on its dearest channel, since outcomes do not say on which."""
    used = {name for step in journey.steps for name in step.channels} or {*journey.channels}
    return max((channel.cost for channel in portfolio.channels if channel.id in used), default=0.0)


def duration(days: int) -> str:
    """Say how long it is: of more than three years, in years."""
    return f"{days:,} days" if days <= _DAYS_OF_YEAR * 3 else f"{days / _DAYS_OF_YEAR:,.0f} years"


_DAYS_OF_YEAR = 365


def _number(value: float) -> str:
    """Write a number as people do: four digits that say something."""
    return f"{value:+,.0f}" if abs(value) >= 1_000 else f"{value:+.4g}"
