"""What a run shows that made what is new: what differs in ``journeys.yaml``, and the queues that came of it, day by day.

What belongs here: metadata of that run. What does not: finding what is new (``days.additions``).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial

import dagster as dg
import polars as pl

from assets.shown.facts import Facts, as_table
from atc_pipeline.days.features import OutdatedDayError
from atc_pipeline.escaping import markdown
from atc_pipeline.journeys.changes import changes
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.plan.markdown import markdown as written
from atc_pipeline.plan.planning import Past, plan
from atc_pipeline.plan.verdict import judged
from atc_pipeline.tables.store import DamagedDayError, MissingDayError, OlderDayError, Store
from resources.journeys import JourneysFile
from resources.storage.code import code_version
from resources.storage.lake import Lake
from resources.storage.overlay import Overlay
from resources.storage.scratch import scratch

Sizes = Mapping[str, int]
"""Customers in the queue of each journey."""


class WhatIsNew:
    """What is looked at before the days of a run are made, and told when they are."""

    def __init__(self, journeys: JourneysFile, lake: Lake, days: Sequence[date], *, is_told: bool) -> None:
        """``is_told``: whether the run makes what is new, and nothing else."""
        self.journeys, self.lake, self.days, self.is_told = journeys, lake, days, is_told
        self.before = {day: _sizes(lake, day) for day in days} if is_told else {}
        self.plan = _foreseen(journeys, lake, days[-1]) if is_told else {}

    def facts(self) -> Facts:
        """Say which version ran, and why not the file as it is; what differs from the version that decided the latest of the days, what
        that would have come to on it, and how long the queues are that were made.
        """
        facts: Facts = {"portfolio": self.journeys.load().fingerprint}
        if self.journeys.problem is not None:
            facts = {**facts, "journeys_file_refused": dg.MetadataValue.md(markdown(self.journeys.problem, None))}
        return {**facts, **self._changes(), **self.plan} if self.is_told else facts

    def _changes(self) -> Facts:
        portfolio, after = self.journeys.load(), {day: _sizes(self.lake, day) for day in self.days}
        try:
            edits = changes(self.journeys.of_day(self.lake, self.days[-1]), portfolio)
            shown = (
                "\n".join(f"- {markdown(words, None)}" for words in edits.words) or "nothing differs from the version that decided the day"
            )
            named = {*edits.new_journeys, *edits.changed_journeys}
        except JourneysError as gone:  # the version that decided the day
            shown, named = markdown(str(gone), None), set()
        for day, before in self.before.items():
            named |= {name for name in {*before, *after[day]} if before.get(name) != after[day].get(name)}
        made = [journey.id for journey in portfolio.journeys if journey.id in named]
        rows = [(str(day), *(after[day].get(name, 0) for name in made)) for day in self.days]
        return {"what_changed": dg.MetadataValue.md(shown), **({"queues": as_table(["day", *made], rows, len(rows))} if made else {})}


def _sizes(lake: Lake, day: date) -> Sizes:
    if not lake.has("journey_queues", day):
        return {}
    return dict(lake.lazy("journey_queues", day).group_by("journey_id").agg(pl.len()).collect().iter_rows())


def _foreseen(journeys: JourneysFile, lake: Lake, day: date) -> Facts:
    """Say what the version in use would have decided on a day, beside the one that decided it; nothing where that is the same.

    To be asked before the queues of the day are made anew: what the day stood on is compared.
    """
    portfolio = journeys.load()
    try:
        if not lake.has("journey_assignments", day) or journeys.of_day(lake, day).fingerprint == portfolio.fingerprint:
            return {}
        past = Past(lake, partial(journeys.of_day, lake), code_version())
        report = plan(past, portfolio, [day], _room, file=journeys.path.rpartition("/")[2], say=lambda _: None)
    except (JourneysError, MissingDayError, OlderDayError, OutdatedDayError, DamagedDayError) as problem:
        return {"plan": dg.MetadataValue.md(f"cannot be said: {markdown(str(problem))}")}
    # Without the customers it names: what Dagster was told cannot be taken back (assets.jobs.erasure).
    return {"plan": dg.MetadataValue.md(written(judged(report.model_copy(update={"examples": ()}), [])))}


@contextmanager
def _room(below: Store) -> Iterator[Store]:
    with scratch() as above:
        yield Overlay(below, above)
