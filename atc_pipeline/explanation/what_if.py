"""One customer's choice, decided again: what would have had to be different for another option to win (SPEC 8, steps 3 and 4).

What belongs here: a day's option rows of one customer as Python objects, the choice among them, and the search for the
smallest change. What does not: deciding anything for real (``decision``), and saying it in words (``page``).
"""

import math
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from atc_pipeline.decision.gates import LOSSES
from atc_pipeline.journeys.portfolio import CANDIDATE_TERMS, NONE, Portfolio
from atc_pipeline.rules.lots import BUCKETS, bucket
from atc_pipeline.rules.numbers import scores

HIGHEST_PRIORITY = 10_000
"""Whole numbers up to here, and down to its negative, are tried: at the default score 10,000 is a hundredfold."""

_LARGEST_SCORE = 1e300


@dataclass(frozen=True)
class Option:
    """One option row as far as the choice depends on it.

    ``is_open``: no gate failed. ``is_refused``: the customer wanted it, and there was no place.
    """

    journey_id: str
    score: float | None
    priority: float = 0.0
    mandatory: bool = False
    waiting_days: int = 0
    is_incumbent: bool = False
    is_open: bool = True
    is_refused: bool = False
    can_interrupt: bool = False
    interruptible: bool = True
    entry_score: float | None = None

    @property
    def order(self) -> tuple[bool, float, float, int, str]:
        """Sort by this for the total order of SPEC 7."""
        score = math.inf if self.score is None else -self.score
        return (not self.mandatory, score, -self.priority, -self.waiting_days, self.journey_id)

    @property
    def defended_score(self) -> float | None:
        """What a challenger is compared with while this journey is in flight: today's score, else that at entry."""
        return self.entry_score if self.score is None else self.score


@dataclass(frozen=True)
class Change:
    """What alone would have made an option win: the least score, and the whole-number priority nearest to its own; None = nothing."""

    score: float | None
    priority: int | None


@dataclass(frozen=True)
class Contest:
    """All options that one customer had on a day, "none" among them, and by how much an incumbent must be beaten."""

    options: tuple[Option, ...]
    switch_margin: float

    @property
    def incumbent(self) -> Option | None:
        """Return the journey in flight."""
        return next((option for option in self.options if option.is_incumbent), None)

    @property
    def none(self) -> Option:
        """Return the option to do nothing."""
        return next(option for option in self.options if option.journey_id == NONE)

    def option(self, journey_id: str) -> Option:
        """Return the option of a journey."""
        return next(option for option in self.options if option.journey_id == journey_id)

    def beats_none(self, option: Option) -> bool:
        """Return whether the option is worth more than leaving the customer alone."""
        none = self.none.score or 0.0
        return option.mandatory or (option.score is not None and option.score > none)

    def to_beat(self, incumbent: Option) -> float | None:
        """Return the score that an interrupting journey must exceed."""
        score = incumbent.defended_score
        return None if score is None else score + self.switch_margin * abs(score)

    def may_interrupt(self, option: Option, incumbent: Option) -> bool:
        """Return whether the option may end the journey in flight."""
        if not incumbent.interruptible or (incumbent.mandatory and not option.mandatory):
            return False
        to_beat = self.to_beat(incumbent)
        is_better = option.score is not None and to_beat is not None and option.score > to_beat
        return (option.mandatory and option.order < incumbent.order) or (option.can_interrupt and is_better)

    def is_eligible(self, option: Option) -> bool:
        """Return whether the option could be chosen today, were it the only one."""
        if option.is_incumbent or option.journey_id == NONE or not option.is_open or not self.beats_none(option):
            return False
        incumbent = self.incumbent
        return incumbent is None or self.may_interrupt(option, incumbent)

    def with_gates_open(self, journey_id: str) -> "Contest":
        """Return the contest as it would have been, had the option failed no gate."""
        return replace(
            self, options=tuple(replace(option, is_open=True) if option.journey_id == journey_id else option for option in self.options)
        )

    def winner(self) -> Option:
        """Choose as SPEC 8 does, without lots; whoever was refused a place stays refused."""
        eligible = [option for option in self.options if not option.is_refused and self.is_eligible(option)]
        return min(eligible, key=lambda option: option.order) if eligible else self.incumbent or self.none

    def wins(self, journey_id: str, *, score: float | None, priority: float | None = None) -> bool:
        """Return whether an option would win with another score or priority."""
        old = self.option(journey_id)
        new = replace(old, score=score, priority=old.priority if priority is None else priority)
        changed = replace(self, options=tuple(new if option is old else option for option in self.options))
        return changed.winner() is new

    def smallest_change(self, journey_id: str, trial: pl.DataFrame | None, decimals: int) -> Change:
        """Find what would have made a loser win: the score to so many decimals, and the priority if its ``trial`` is known.

        ``trial``: one row per ``priority`` tried, with the ``score`` it gives (``rescore``).
        """
        lowest = self._lowest_score(journey_id)
        if lowest is None:
            return Change(None, None)
        step = 10.0**-decimals
        near = [round((math.ceil(lowest / step) + steps) * step, decimals) for steps in (-1, 0, 1)]
        # Where a step is less than the precision of so large a score, none of them may win.
        shown = next((score for score in near if self.wins(journey_id, score=score)), lowest)
        return Change(shown, None if trial is None else self._nearest_priority(journey_id, trial, lowest))

    def _lowest_score(self, journey_id: str) -> float | None:
        """Return the least score that wins, to about 12 significant digits; None where no score does."""
        option = self.option(journey_id)
        loses = option.defended_score if option.is_incumbent else option.score
        if loses is None or self.wins(journey_id, score=loses) or not self.wins(journey_id, score=_LARGEST_SCORE):
            return None
        reach = max(abs(loses), 1e-9) * 1e-9
        while not self.wins(journey_id, score=loses + reach):
            reach *= 2
        won = loses + reach
        while won - loses > max(abs(won), abs(loses)) * 1e-13:
            middle = loses + (won - loses) / 2
            if middle in (loses, won):
                break
            loses, won = (loses, middle) if self.wins(journey_id, score=middle) else (middle, won)
        return won

    def _nearest_priority(self, journey_id: str, trial: pl.DataFrame, lowest: float) -> int | None:
        own = self.option(journey_id).priority
        # A priority may also win a tie, at a hair less than the least score that wins with the old one.
        promising = (
            trial.filter(pl.col("score") >= lowest - abs(lowest) * 1e-8)
            .with_columns(distance=(pl.col("priority") - own).abs())
            .sort("distance", "priority", descending=[False, True])
        )
        for priority, score in promising.select("priority", "score").iter_rows():
            if self.wins(journey_id, score=score, priority=priority):
                return int(priority)
        return None


def contest_of(candidates: pl.DataFrame, profile: pl.DataFrame, state: pl.DataFrame, portfolio: Portfolio) -> Contest:
    """Read one customer's option rows of a day; "none" is worked out anew where the table did not keep it."""
    journeys = {journey.id: journey for journey in portfolio.journeys}
    entry_scores = dict(state.select("journey_id", "entry_score").iter_rows())
    options = []
    for row in candidates.iter_rows(named=True):
        journey, gates = journeys.get(row["journey_id"]), set(row["failed_gates"])
        options.append(
            Option(
                journey_id=row["journey_id"],
                score=row["score"],
                priority=row["priority"],
                mandatory=row["mandatory"],
                waiting_days=row["waiting_days"] or 0,
                is_incumbent=row["is_incumbent"],
                is_open=not gates - set(LOSSES),
                is_refused="capacity" in gates,
                can_interrupt=journey is not None and journey.can_interrupt,
                interruptible=journey is None or journey.interruptible,
                entry_score=entry_scores.get(row["journey_id"]),
            )
        )
    if NONE not in {option.journey_id for option in options}:
        options.append(Option(journey_id=NONE, score=_worth_of_none(profile, portfolio)))
    return Contest(tuple(options), portfolio.policy.switch_margin)


def _worth_of_none(profile: pl.DataFrame, portfolio: Portfolio) -> float:
    """Work out what leaving the customer alone is worth: 0 where that is no number, or cannot be said any more."""
    try:
        return scores(profile, portfolio.policy.none.expr).item() or 0.0 if profile.height else 0.0
    except pl.exceptions.PolarsError:
        return 0.0


def value_of(expr: pl.Expr, profile: pl.DataFrame) -> object:
    """Work out an expression for one customer; None too where the day's profile lacks one of its columns."""
    try:
        return profile.with_columns(expr.alias("value:"))["value:"].item() if profile.height else None
    except pl.exceptions.PolarsError:
        return None


def rescore(candidate: pl.DataFrame, profile: pl.DataFrame, portfolio: Portfolio) -> pl.DataFrame | None:
    """One row per whole-number priority, with the score that ``policy.score`` gives to this option at it.

    None where that cannot be said: today's ``journeys.yaml`` does not give the score that was stored.
    """
    policy = portfolio.policy
    length_days = {journey.id: journey.length_days for journey in portfolio.journeys}.get(candidate["journey_id"].item())
    read = [name for name in policy.score.columns if name not in CANDIDATE_TERMS]
    if length_days is None or not set(read) <= set(profile.columns):
        return None
    own = candidate["priority"].item()
    tried = pl.DataFrame({"priority": [own, *range(-HIGHEST_PRIORITY, HIGHEST_PRIORITY + 1)]}, schema={"priority": pl.Float64})
    terms = candidate.select(name for name in CANDIDATE_TERMS if name in candidate.columns and name != "priority")
    baseline = pl.col("baseline").fill_null(0.0) if "baseline" in terms.columns else pl.lit(0.0)  # of days before there was learning
    terms = terms.with_columns(baseline=baseline).with_columns(uplift=pl.col("propensity") - pl.col("baseline"))
    options = (
        tried.join(pl.concat([terms, profile.select(read)], how="horizontal"), how="cross")
        .with_columns(waiting_weight=pl.lit(policy.waiting_weight), length_days=pl.lit(length_days))
        .cast(dict(CANDIDATE_TERMS))  # type: ignore[arg-type]  # a dict of data types is a schema
    )
    try:
        trial = options.select("priority").with_columns(scores(options, policy.score.expr))
    except pl.exceptions.PolarsError:
        return None
    again, stored = trial["score"][0], candidate["score"].item()
    is_same = again == stored or (again is not None and stored is not None and math.isclose(again, stored, rel_tol=1e-8))
    return trial[1:] if is_same else None


def is_drawn(arm_id: str, today: date, explore: float) -> bool:
    """Return whether the customer's option is picked by lot today, if there is any to pick (SPEC 8, step 7)."""
    whom = pl.DataFrame({"arm_id": [arm_id]})
    return bool(whom.select(bucket("explore", f":{today}") < round(explore * BUCKETS)).item())
