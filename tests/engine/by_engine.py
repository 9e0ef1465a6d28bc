"""The engine's stages, called one after the other as the assets call them, on tables held in memory.

What belongs here: the order of the stages and what is handed from one to the next and to the next day. What does not: any
expectation.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import polars as pl

from atc_pipeline.activation import messages
from atc_pipeline.customers import activity, remembered, segments
from atc_pipeline.customers import profiles as profiling
from atc_pipeline.decision import queues
from atc_pipeline.decision.decide import decide
from atc_pipeline.decision.memory import goal_events, goal_lookback_days, merge, no_state
from atc_pipeline.events import ingest
from atc_pipeline.identity import map as identities
from atc_pipeline.identity.tables import IGNORED
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules.people import survivors
from resources.storage.landing import LandingZone


class Features:
    """The stages from the landing zone to the profiles: each day is made of what earlier days have left."""

    def __init__(self, landing: Path) -> None:
        self.landing = LandingZone(root=str(landing))
        self.days: list[dict[str, pl.DataFrame]] = []
        self.rollups: list[pl.DataFrame] = []

    def yesterday(self, table: str) -> pl.LazyFrame | None:
        """Return a table of the last day made, if there is one."""
        return self.days[-1][table].lazy() if self.days else None

    def recent(self, number: int) -> pl.LazyFrame:
        """Return the rollups of the day being made and of so many before."""
        return pl.concat(self.rollups[-1 - number :], how="diagonal").lazy()

    def make(self, portfolio: Portfolio, day: date) -> dict[str, pl.DataFrame]:
        """Make the next day and return its tables."""
        recent_ids = [made["raw_events"]["message_id"] for made in self.days[-ingest.DEDUPLICATION_DAYS :]]
        known_ids = pl.concat(recent_ids) if recent_ids else pl.Series("message_id", [], dtype=pl.String)
        ingested = ingest.ingest(self.landing.read(day), known_ids, arrival=day, timezone=portfolio.timezone, blocked=portfolio.blocked)
        before = self.yesterday("identity_map")
        resolved = identities.map_identities(ingested.accepted.lazy(), before, today=day, blocked=portfolio.blocked)
        known, changed = resolved.map.lazy().collect(), resolved.changes.lazy().collect()
        absorbed = identities.absorbed(known.lazy())
        self.rollups.append(activity.roll_up(ingested.accepted, portfolio, arrival=day, absorbed=absorbed).activity)
        counts = {
            "date": day,
            "lines": ingested.lines,
            "accepted": ingested.accepted.height,
            "duplicates": ingested.duplicates,
            "rejected": ingested.rejected.height,
        }
        made = {
            "raw_events": ingested.accepted,
            "rejected_events": ingested.rejected,
            "counts": pl.DataFrame([counts]),
            "identity_map": known,
            "identity_counts": identity_counts(changed, known, None if before is None else before.collect(), day),
            "customer_profiles": self.profiles(portfolio, day, absorbed, profiling.lookback_days(portfolio)),
        }
        self.days.append(made)
        return made

    def profiles(self, portfolio: Portfolio, day: date, absorbed: pl.LazyFrame, lookback_days: int) -> pl.DataFrame:
        """Make the profiles of the day from the rollups of so many days before it and its own."""
        yesterday = self.yesterday("customer_profiles")
        updated = profiling.update_profiles(yesterday, self.recent(lookback_days), portfolio, today=day, absorbed=absorbed)
        return profiling.rank_population(updated, portfolio).collect()


def identity_counts(changes: pl.DataFrame, known: pl.DataFrame, before: pl.DataFrame | None, day: date) -> pl.DataFrame:
    """Return the day's customers as ``reference.identity_counts`` does: those of yesterday, new, merged, of today; ignored aliases."""
    today, yesterday = (set() if one is None else set(one["customer_id"]) for one in (known, before))
    merged = identities.absorbed_by(changes.lazy()).collect()
    counts = {"yesterday": len(yesterday), "new": len(today - yesterday), "merged": merged.height, "today": len(today)}
    return pl.DataFrame([{"date": day, **counts, **{name: changes["change"].to_list().count(name) for name in IGNORED}}])


def run_engine(landing: Path, portfolio: Portfolio, days: Sequence[date], changes: Mapping[date, Portfolio]) -> dict[str, pl.DataFrame]:
    """Run the stages over consecutive days and return every table with the rows of all of them."""
    features = Features(landing)
    by_day: dict[str, list[pl.DataFrame]] = {}
    state = no_state()
    for day in days:
        portfolio = changes.get(day, portfolio)
        made = features.make(portfolio, day)
        people, known = made["customer_profiles"], made["identity_map"].lazy()
        new = identities.absorbed(known, since=day)

        def yesterday(table: str) -> pl.LazyFrame | None:
            return by_day[table][-1].lazy() if table in by_day else None

        members = segments.assign_segments(
            people.lazy(), yesterday("micro_segment_memberships"), portfolio.segments, today=day, absorbed=new
        ).collect()
        queued = queues.queue_customers(
            people.lazy(), members.lazy(), yesterday("journey_queues"), portfolio.journeys, today=day, absorbed=new
        ).collect()
        sent = pl.concat(by_day["outbound_messages"]).lazy() if by_day else None
        earlier = None if sent is None else survivors(sent, identities.absorbed(known))
        goal_names = [one.name for one in remembered.goals(portfolio)]
        goals = goal_events(features.recent(goal_lookback_days(portfolio, profiling.LATENESS_DAYS)), goal_names, today=day)
        decided = decide_by_engine(
            state, survivors(goals, identities.absorbed(known)), people, queued, portfolio, day, known, earlier=earlier
        )
        state = decided["journey_state"]
        for table, frame in {**made, "micro_segment_memberships": members, "journey_queues": queued, **decided}.items():
            by_day.setdefault(table, []).append(frame)
    return {table: pl.concat(frames, how="diagonal") for table, frames in by_day.items()}


def decide_by_engine(
    state: pl.DataFrame,
    goals: pl.LazyFrame,
    people: pl.DataFrame,
    queued: pl.DataFrame,
    portfolio: Portfolio,
    day: date,
    identity_map: pl.LazyFrame,
    delivered: pl.DataFrame | None = None,
    earlier: pl.LazyFrame | None = None,
) -> dict[str, pl.DataFrame]:
    """Run the engine's stages from the journeys that end to the messages, for one day; ``delivered`` are rows of that day that stay.

    They also say what has ended, and are options though nobody queues for them any more: see ``reference.kept_rows``.
    ``identity_map``: of that day; ``goals``, ``people``, ``queued`` and ``earlier`` (messages of the days before) name nobody any more
    who is absorbed there.
    """
    absorbed = identities.absorbed(identity_map)
    decided = decide(
        queued.lazy(),
        people.lazy(),
        merge(state, absorbed, today=day),
        goals,
        portfolio,
        today=day,
        delivered=delivered,
        absorbed=absorbed,
        arms=identities.arms(identity_map),
        shard=16,  # so few that there are several shards
    )
    return {
        "scored_candidates": decided.candidates.collect(),
        "journey_state": decided.state,
        "journey_assignments": decided.assignments,
        "outbound_messages": messages.write_messages(
            decided.assignments.lazy(), people.lazy(), portfolio, today=day, earlier=earlier
        ).collect(),
    }
