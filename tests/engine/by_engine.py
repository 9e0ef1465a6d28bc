"""The engine over days in memory, and what it wrote in the reference's form.

What belongs here: reading tables back. What does not: the order of the steps (``days.course``), and any expectation.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import polars as pl

from atc_pipeline.days.activation import Messages
from atc_pipeline.days.course import Course
from atc_pipeline.days.decision import Decision
from atc_pipeline.days.events import Counts
from atc_pipeline.days.step import write_day
from atc_pipeline.identity.map import absorbed_by
from atc_pipeline.identity.tables import IGNORED
from atc_pipeline.journeys.portfolio import Portfolio
from resources.storage.landing import LandingZone
from resources.storage.memory import Memory

SHARD = 16
"""Customers decided at once: so few that there are several shards."""
SAME_FORM = (
    "raw_events",
    "rejected_events",
    "identity_map",
    "customer_profiles",
    "micro_segment_memberships",
    "journey_queues",
    "scored_candidates",
    "journey_state",
    "journey_assignments",
    "outbound_messages",
)
"""Tables that the reference has, too, under the same name."""
DECIDED = ("scored_candidates", "journey_state", "journey_assignments", "outbound_messages")


def run_engine(landing: Path, portfolio: Portfolio, days: Sequence[date], changes: Mapping[date, Portfolio]) -> dict[str, pl.DataFrame]:
    """Run consecutive days and return every table with the rows of all of them; ``changes``: as journeys.yaml is edited on the way."""
    store, landed = Memory(), LandingZone(root=str(landing)).read
    course = Course(store, portfolio, landed, shard=SHARD)
    counts = []
    for day in days:
        if day in changes:
            course = Course(store, changes[day], landed, shard=SHARD)
        course.run(day)
        counts.append(line_counts(course.ingestion.counts[day], store, day))
    tables = {table: pl.concat([store.read(table, day) for day in days], how="diagonal") for table in SAME_FORM}
    people = [identity_counts(store, day, days[number - 1] if number else None) for number, day in enumerate(days)]
    return {**tables, "counts": pl.DataFrame(counts), "identity_counts": pl.DataFrame(people)}


def line_counts(counts: Counts, store: Memory, day: date) -> dict[str, object]:
    """Return the account of a day's lines as the reference has it."""
    written = counts.written(store, day)
    return {"date": day, **{name: written[name] for name in ("lines", "accepted", "duplicates", "rejected")}}


def identity_counts(store: Memory, day: date, before: date | None) -> dict[str, object]:
    """Return the day's customers as ``reference.identity_counts`` does: those of yesterday, new, merged, of today; ignored aliases."""
    changes = store.read("identity_changes", day)
    today = set(store.read("identity_map", day)["customer_id"])
    yesterday = set() if before is None else set(store.read("identity_map", before)["customer_id"])
    merged = absorbed_by(changes.lazy()).collect()
    counts = {"yesterday": len(yesterday), "new": len(today - yesterday), "merged": merged.height, "today": len(today)}
    return {"date": day, **counts, **{name: changes["change"].to_list().count(name) for name in IGNORED}}


def decide_by_engine(
    store: Memory, portfolio: Portfolio, day: date, delivered: pl.DataFrame | None = None, shard: int = SHARD
) -> dict[str, pl.DataFrame]:
    """Make and return a day from the journeys that end to the messages; ``delivered`` are rows of that day that stay.

    They also say what has ended, and are options though nobody queues for them any more: see ``reference.kept_rows``.
    """
    for step in (Decision(store, portfolio, delivered, is_measured=False, shard=shard), Messages(store, portfolio)):
        write_day(store, step, day)
    return {table: store.read(table, day) for table in DECIDED}
