"""Steps of all journeys, numbered: what of a step its messages are tested on, for arrays to look up.

What belongs here: facts of journeys.yaml. What does not: any customer.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from atc_pipeline.activation.timing import minute_of
from atc_pipeline.journeys.portfolio import Condition, Journey, Portfolio, Step


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps in their order, each with its journey; a step's number is its place."""

    journeys: tuple[Journey, ...]
    steps: tuple[Step, ...]
    channel_numbers: dict[str, int]

    @classmethod
    def of(cls, portfolio: Portfolio) -> "Steps":
        """Number the steps of a portfolio."""
        pairs = [(journey, step) for journey in portfolio.journeys for step in journey.steps]
        numbers = {channel.id: number for number, channel in enumerate(portfolio.channels)}
        return cls(tuple(journey for journey, _ in pairs), tuple(step for _, step in pairs), numbers)

    def frame(self) -> pl.DataFrame:
        """One row per step: ``step`` (its number), journey, day and what is sent; ``channels`` as the message's key has them.

        ``only``: the variant of the journey that it goes to; null where it goes to everybody.
        """
        rows = [
            (number, journey.id, step.day, step.channel, step.content, step.variant, step.variant if journey.variants else None)
            for number, (journey, step) in enumerate(zip(self.journeys, self.steps, strict=True))
        ]
        schema = {
            "step": pl.Int32,
            "journey_id": pl.String,
            "step_day": pl.Int64,
            "channels": pl.String,
            "content": pl.String,
            "variant": pl.String,
            "only": pl.String,
        }
        return pl.DataFrame(rows, schema=schema, orient="row")

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions on customers, each once."""
        return tuple({step.when.text: step.when for step in self.steps if step.when is not None}.values())

    @cached_property
    def condition(self) -> np.ndarray:
        """By step, which of the conditions it has; the number after the last where it has none."""
        places = {condition.text: place for place, condition in enumerate(self.conditions)}
        return np.array([places[step.when.text] if step.when else len(places) for step in self.steps], dtype=np.int64)

    @cached_property
    def minute(self) -> np.ndarray:
        """By step, the minute of the day at which it is to arrive; -1: at the best hour."""
        return np.array([minute_of(step.at) if step.at is not None else -1 for step in self.steps], dtype=np.int64)

    @cached_property
    def listed(self) -> np.ndarray:
        """By step, how many channels it lists."""
        return np.array([len(step.channels) for step in self.steps], dtype=np.int64)

    @cached_property
    def is_mandatory(self) -> np.ndarray:
        """By step, whether its journey is mandatory."""
        return np.array([journey.mandatory for journey in self.journeys], dtype=bool)

    @cached_property
    def may_repeat(self) -> np.ndarray:
        """By step, whether what went out before goes out again."""
        return np.array([step.repeat for step in self.steps], dtype=bool)

    @cached_property
    def content(self) -> np.ndarray:
        """By step, the number of its content."""
        numbers = {content: number for number, content in enumerate(sorted({step.content for step in self.steps}))}
        return np.array([numbers[step.content] for step in self.steps], dtype=np.int64)

    @cached_property
    def meets(self) -> np.ndarray:
        """By step, whether a channel of it is listed by another step of the same journey and day."""
        uses = Counter((journey.id, step.day, name) for journey, step in self._pairs for name in step.channels)
        met = {(journey, day) for (journey, day, _), times in uses.items() if times > 1}
        return np.array([(journey.id, step.day) in met for journey, step in self._pairs], dtype=bool)

    @cached_property
    def ordinal(self) -> np.ndarray:
        """By step, how many come before it on the same day of its journey, where they meet on a channel; else 0."""
        before: Counter[tuple[str, int]] = Counter()
        ordinals = []
        for (journey, step), meets in zip(self._pairs, self.meets.tolist(), strict=True):
            ordinals.append(before[journey.id, step.day] if meets else 0)
            before[journey.id, step.day] += 1
        return np.array(ordinals, dtype=np.int64)

    @property
    def most_a_day(self) -> int:
        """How many turns it takes to test the steps of a day one after the other."""
        return int(self.ordinal.max(initial=0)) + 1

    @property
    def _pairs(self) -> list[tuple[Journey, Step]]:
        return list(zip(self.journeys, self.steps, strict=True))
