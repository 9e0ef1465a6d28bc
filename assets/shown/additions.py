"""What a run shows that made what is new: what differs in ``journeys.yaml``, and the queues that came of it, day by day.

What belongs here: metadata of that run. What does not: finding what is new (``days.additions``).
"""

from collections.abc import Mapping
from datetime import date

import dagster as dg
import polars as pl

from assets.shown.facts import Facts, as_table
from atc_pipeline.escaping import markdown
from atc_pipeline.journeys.changes import changes
from atc_pipeline.journeys.problems import JourneysError
from resources.journeys import JourneysFile
from resources.storage.lake import Lake

Sizes = Mapping[str, int]
"""Customers in the queue of each journey."""


def sizes(lake: Lake, day: date) -> Sizes:
    """Count the customers in each queue of a day; none where the day is not there."""
    if not lake.has("journey_queues", day):
        return {}
    return dict(lake.lazy("journey_queues", day).group_by("journey_id").agg(pl.len()).collect().iter_rows())


def what_is_new(journeys: JourneysFile, lake: Lake, before: Mapping[date, Sizes]) -> Facts:
    """Say what differs from the version that decided the latest of these days, and how long the queues are that were made.

    ``before``: how long they were.
    """
    days, portfolio = sorted(before), journeys.load()
    after = {day: sizes(lake, day) for day in days}
    try:
        edits = changes(journeys.of_day(lake, days[-1]), portfolio)
        said = "\n".join(f"- {markdown(words)}" for words in edits.words) or "nothing differs from the version that decided the latest day"
        named = {*edits.new_journeys, *edits.changed_journeys}
    except JourneysError as gone:  # the version that decided the day
        said, named = markdown(str(gone)), set()
    named |= {name for day in days for name in {*before[day], *after[day]} if before[day].get(name) != after[day].get(name)}
    made = [journey.id for journey in portfolio.journeys if journey.id in named]
    rows = [(str(day), *(after[day].get(name, 0) for name in made)) for day in days]
    sized: Facts = {"queues": as_table(["day", *made], rows, len(rows))} if made else {}
    return {"what_changed": dg.MetadataValue.md(said), **sized}
