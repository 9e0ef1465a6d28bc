"""The report of ``plan``: what a changed ``journeys.yaml`` would have done, as one model that every rendering is made from.

What belongs here: what the report says, in its order, and its JSON and schema. What does not: how it looks (``terminal``,
``markdown``), when it fails (``verdict``), or how it is worked out (``difference``).
"""

import json
import sys
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_CHARACTERS = 60_000
"""Of one rendering for people: GitHub takes a comment of 65,536."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
How = Literal["new", "changed", "removed", "same"]


class Counts(_Part):
    """A number under the portfolio before, and after the change."""

    before: Count
    after: Count

    @property
    def differ(self) -> bool:
        """Tell whether the change matters to it."""
        return self.before != self.after


class Figures(_Part):
    """A measure under the portfolio before, and after the change; null where there is none."""

    before: float | None
    after: float | None

    @property
    def differ(self) -> bool:
        """Tell whether the change matters to it."""
        return self.before != self.after


class Window(_Part):
    """Which days were decided again, and by which versions of which file."""

    first: date
    last: date
    days: Annotated[int, Field(ge=1)]
    file: str = Field(description="The changed file, as it was named.")
    before: str | None = Field(description="The version compared with; null: each day as it was really decided.")
    after: str = Field(description="The version of the changed file.")


class Failure(_Part):
    """A rule of --fail-on that does not hold, and what breaks it."""

    rule: str
    says: str


class Verdict(_Part):
    """What it comes to."""

    headline: str
    is_reproducible: bool = Field(description="The portfolio before decides every day as it was recorded; where not, nothing else is said.")
    first_difference: str | None = Field(default=None, description="The first row that is decided otherwise than recorded.")
    failed: tuple[Failure, ...] = ()
    held: tuple[str, ...] = Field(default=(), description="The rules of --fail-on that hold.")

    @property
    def exit_code(self) -> int:
        """Return what the command exits with: 3 where the past cannot be reproduced, 1 where a rule failed."""
        return 3 if not self.is_reproducible else 1 if self.failed else 0


class Edited(_Part):
    """One key of the file, with its value before and after; of a list also what was added and removed."""

    key: str
    before: str | None
    after: str | None
    words: str


class Changed(_Part):
    """A thing in the file that is new, changed or removed."""

    kind: str
    id: str
    how: Literal["new", "changed", "removed"]
    gist: str
    edits: tuple[Edited, ...]


class OfDay(_Part):
    """How many customers are in another journey on a day."""

    date: date
    customers: Count
    changed: Count


class Customers(_Part):
    """Customers whose journey is another on at least one day."""

    customers: Count = Field(description="Customers decided on any day of the window.")
    changed: Count
    by_day: tuple[OfDay, ...]

    @property
    def share(self) -> float:
        """Return the share of customers who change."""
        return self.changed / self.customers if self.customers else 0.0


class Moved(_Part):
    """Customers who come from, or go to, a journey or none."""

    journey_id: str
    customers: Count


class OfJourney(_Part):
    """What happens to one journey."""

    id: str
    name: str
    how: How
    queued: Counts = Field(description="Customers in its queue, added up over days.")
    entered: Counts = Field(description="Entries in the window.")
    gained: Count = Field(description="Customers who are in it on a day on which they were elsewhere before.")
    gained_from: tuple[Moved, ...] = Field(description="These by where they were: a journey or none; most first.")
    lost: Count = Field(description="Customers who are elsewhere on a day on which they were in it before.")
    lost_to: tuple[Moved, ...] = Field(description="These by where they are; most first.")
    waiting_days: Figures = Field(description="Days that those in its queue on the last day have waited, on average.")
    starved: Counts = Field(description="Customers queued on every day who never entered.")
    places: Figures = Field(description="Places for those who enter, added up over days; null: without limit.")
    wanted: Counts = Field(description="Customers for whom it is the best to be had, places aside, added up over days.")
    price: Figures = Field(description="What one more place is worth on average, in units of score.")

    @property
    def is_same(self) -> bool:
        """Tell whether nothing about it differs."""
        pairs = (self.queued, self.entered, self.waiting_days, self.starved, self.places, self.wanted, self.price)
        return self.how == "same" and not (self.gained or self.lost or any(pair.differ for pair in pairs))


class OfChannel(_Part):
    """Messages that go out through a channel in the window."""

    channel: str
    messages: Counts


class OfCap(_Part):
    """A limit on what customers get, and how many customers it holds back, added up over days."""

    cap: str
    reached: Counts


class Contact(_Part):
    """How much is said to customers."""

    none: Counts = Field(description="Days of customers in no journey.")
    channels: tuple[OfChannel, ...]
    caps: tuple[OfCap, ...]


class OfSegment(_Part):
    """What happens to one micro-segment, on the last day."""

    id: str
    how: How
    size: Counts
    in_no_queue: Counts = Field(description="Its customers who qualify for no journey.")

    @property
    def is_same(self) -> bool:
        """Tell whether nothing about it differs."""
        return self.how == "same" and not (self.size.differ or self.in_no_queue.differ)


class OfArm(_Part):
    """What happens to the control group of one journey."""

    journey_id: str
    changes_arm: Count = Field(description="Customers who enter it both ways, and in another arm.")
    treated: Counts = Field(description="Entries in the window that are sent messages.")
    control: Counts = Field(description="Entries in the window that are sent nothing, to measure.")
    base_rate: Share = Field(description="The share that reaches the goal, as assumed for the smallest effect.")
    visible: float | None = Field(description="The smallest difference of the goal's share that 30 days at this pace show; null: no arm.")


class Value(_Part):
    """What the change is worth, by what was drawn by chance (SPEC 14)."""

    is_known: bool = Field(description="Whether there is an interval.")
    says: str
    notes: tuple[str, ...] = Field(default=(), description="What else is to be known of it.")
    first: date | None = Field(default=None, description="The first day whose decisions it is of.")
    last: date | None = None
    points: Count = Field(default=0, description="Decisions that matured.")
    disagree: Share = Field(default=0.0, description="The share of them in which the two draw otherwise.")
    unsupported: Share = Field(default=0.0, description="The share of what the changed file draws that was not eligible then.")
    effective: float = Field(default=0.0, description="The effective sample size of those in which they draw otherwise.")
    largest_weight: float = 0.0
    difference: float | None = Field(default=None, description="Money per decision, the changed file's less what was earned.")
    low: float | None = None
    high: float | None = None
    snips: float | None = Field(default=None, description="The same by weights alone.")
    direct: float | None = Field(default=None, description="The same by a model alone.")
    status: Literal["ok", "weak", "none", "coupled"] = "none"
    score: Figures = Field(description="Sum of the chosen options' scores, over customers and days.")


class Scale(_Part):
    """How scores stand to that of sending nothing, on the last day: what is learned may have another scale than what was assumed."""

    best: Figures = Field(description="The median of the best journey's score.")
    none: Figures = Field(description="The median of the score of sending nothing.")
    below: Counts = Field(description="Customers for whom no journey is above it.")


class Example(_Part):
    """A customer who changes, and why."""

    bucket: Annotated[int, Field(ge=0, lt=10_000)]
    customer_id: str
    date: date
    before: str
    after: str
    says: str


class Report(_Part):
    """What a changed ``journeys.yaml`` would have done over the last days."""

    format: Literal["atc-plan-1"] = "atc-plan-1"
    verdict: Verdict
    window: Window
    changes: tuple[Changed, ...]
    customers: Customers | None = None
    journeys: tuple[OfJourney, ...] = ()
    contact: Contact | None = None
    segments: tuple[OfSegment, ...] = ()
    arms: tuple[OfArm, ...] = ()
    value: Value | None = None
    scale: Scale | None = Field(default=None, description="Where it changes whether, or how, what is learned decides.")
    examples: tuple[Example, ...] = ()
    limits: tuple[str, ...] = ()


def written(report: Report) -> str:
    """Write the report as JSON."""
    return report.model_dump_json(indent=2) + "\n"


def read(text: str) -> Report:
    """Read a report back."""
    return Report.model_validate_json(text)


def schema() -> str:
    """Return the JSON Schema of the report."""
    of_report = Report.model_json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **of_report}, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())  # make schema
