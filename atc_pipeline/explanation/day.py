"""What the lake knows of one customer and one day: what every explanation stands on.

What belongs here: looking things up in these tables. What does not: reading them, and sentences about them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import polars as pl

from atc_pipeline.escaping import plain
from atc_pipeline.explanation import what_if
from atc_pipeline.journeys.portfolio import NONE, Journey, Portfolio
from atc_pipeline.learning.model import GoalModel, GoalProbabilities

Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Day:
    """What the lake knows of one customer and one day; each frame holds this customer's rows only.

    ``yesterday``, ``state_before``: of the day before, without rows where it is not known. ``funnel``: one row per journey,
    without rows where it is not known. ``messages``, ``rendered``, ``models`` (what was known of goals): None where they were not
    written yet. ``arm_id``: what lots are drawn by.
    """

    customer_id: str
    today: date
    portfolio: Portfolio
    profile: pl.DataFrame
    memberships: pl.DataFrame
    candidates: pl.DataFrame
    assignment: pl.DataFrame
    state: pl.DataFrame
    messages: pl.DataFrame | None
    yesterday: pl.DataFrame
    state_before: pl.DataFrame
    funnel: pl.DataFrame
    arm_id: str
    rendered: pl.DataFrame | None = None
    models: pl.DataFrame | None = None

    @cached_property
    def learned(self) -> GoalProbabilities | None:
        """Return what was known of goals that day; None where nothing is learned, or nobody wrote it down."""
        if self.portfolio.learning is None or self.models is None:
            return None
        return GoalProbabilities(GoalModel.of(self.models), self.portfolio)

    @cached_property
    def answer(self) -> Row:
        """Return the day's one answer."""
        return self.assignment.row(0, named=True)

    @cached_property
    def journeys(self) -> Mapping[str, Journey]:
        """Return the journeys by id."""
        return {journey.id: journey for journey in self.portfolio.journeys}

    @cached_property
    def options(self) -> Sequence[Row]:
        """Return the option rows in the total order."""
        return self.candidates.sort("rank").to_dicts()

    @cached_property
    def chosen_id(self) -> str:
        """Return the option that was chosen."""
        return self.answer["journey_id"] or NONE

    @cached_property
    def contest(self) -> what_if.Contest:
        """Return the choice, to be tried again."""
        return what_if.contest_of(self.candidates, self.profile, self.state, self.portfolio)

    @cached_property
    def memory(self) -> Mapping[str, Row]:
        """Return what was remembered of each journey when today's choice was made: today's own entry and interruption undone."""
        before = {row["journey_id"]: row for row in self.state_before.iter_rows(named=True)}
        ended = self.answer["ended_journey_id"]
        memory = {}
        for row in self.state.iter_rows(named=True):
            old = before.get(row["journey_id"])
            if row["entered_on"] == self.today:
                if old is None:
                    continue
                known = {**old, "recent_starts": [day for day in row["recent_starts"] if day < self.today]}
                if row["journey_id"] == ended:
                    known |= {"ended_on": self.today, "left_on": self.today, "ended_reason": self.answer["ended_reason"]}
                memory[row["journey_id"]] = known
            elif row["ended_on"] == self.today and row["ended_reason"] == "interrupted":
                memory[row["journey_id"]] = {**row, "ended_on": None, "left_on": old["left_on"] if old else None}
            else:
                memory[row["journey_id"]] = row
        return memory

    @cached_property
    def decimals(self) -> int:
        """Return how many decimals show the day's scores to about four digits, and by how much the closest loser lost."""
        largest = max((abs(row["score"]) for row in self.options if row["score"]), default=1.0)
        closest = min((abs(row["margin"]) for row in self.options if row["margin"]), default=1.0)
        return min(9, max(0, 3 - math.floor(math.log10(largest)), -math.floor(math.log10(closest))))

    @cached_property
    def doubt(self) -> str | None:
        """Return why it cannot be said what would have won, if so."""
        incumbent = self.contest.incumbent
        if incumbent is None and what_if.is_drawn(self.arm_id, self.today, self.portfolio.policy.explore) and self._has_lots():
            return "Today this customer's journey was drawn by lot, to learn from (policy.explore): neither score nor priority decided."
        if incumbent is None and self.answer["decision"] in ("switch", "continue"):
            return "What would have won cannot be said: the row of the journey in flight was not kept (policy.keep_candidates)."
        if self.contest.winner().journey_id != self.chosen_id:
            return (
                "What would have won cannot be said: by today's journeys.yaml another option would have been chosen. Either it was "
                "changed since, or the choice was kept because its messages had already been delivered."
            )
        return None

    def _has_lots(self) -> bool:
        eligible = [option for option in self.contest.options if self.contest.is_eligible(option)]
        return bool(eligible) and not any(option.mandatory for option in eligible)

    def name(self, journey_id: str) -> str:
        """Name a journey as people call it."""
        journey = self.journeys.get(journey_id)
        return f'"{plain(journey.name if journey else journey_id)}"'

    def score(self, score: float) -> str:
        """Write a score."""
        return f"{score:.{self.decimals}f}"

    def on(self, day: date) -> str:
        """Write a day, with the year only where it is another one."""
        return f"{day.day} {day:%B}" + ("" if day.year == self.today.year else f" {day.year}")

    def funnel_of(self, journey_id: str) -> Row | None:
        """Return the journey's row of the funnel, if it is known."""
        rows = self.funnel.filter(pl.col("journey_id") == journey_id) if self.funnel.height else self.funnel
        return rows.row(0, named=True) if rows.height else None

    def consent(self, channel: str) -> str:
        """Say why a channel may not be used."""
        column = f"consent_{channel}"
        is_given = self.profile[column].item() if column in self.profile.columns and self.profile.height else None
        return f"said no to {channel}" if is_given is False else f"never said yes to {channel}"
