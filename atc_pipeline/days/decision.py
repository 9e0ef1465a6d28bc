"""A day of decisions: who queues for which journey, and the one answer for each customer.

What belongs here: what a day of each reads, goals and memory of the days before among it. What does not: any rule (``decision``).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl
from threadpoolctl import threadpool_limits

from atc_pipeline.customers import remembered
from atc_pipeline.customers.features import definition_of
from atc_pipeline.customers.profiles import LATENESS_DAYS
from atc_pipeline.customers.segments import definitions as segment_definitions
from atc_pipeline.days.customers import profiles_of
from atc_pipeline.days.entries import Entries, Versions
from atc_pipeline.days.learning import Learning
from atc_pipeline.days.maturing import OPEN_SINCE, Maturing
from atc_pipeline.days.measured import Measured
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.days.spells import Spells
from atc_pipeline.decision.decide import SHARD, Contested, Granted, columns_needed, contest, grant, settle
from atc_pipeline.decision.memory import (
    KEPT_LATER,
    cap_days,
    complete,
    draw_again,
    goal_events,
    goal_lookback_days,
    goals_awaited,
    goals_in,
    merge,
    no_state,
    recall_starts,
)
from atc_pipeline.decision.queues import definitions, queue_customers
from atc_pipeline.decision.records import funnel_of
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_STATE
from atc_pipeline.identity.map import absorbed, arms
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.learning.model import GoalModel
from atc_pipeline.learning.shares import InForce, rows_of
from atc_pipeline.learning.tables import GOAL_MODELS
from atc_pipeline.rules.people import survivors
from atc_pipeline.tables.store import Store, Tables, with_columns, yesterday_of

CAP_DAYS = "policy.cap.days"
"""Under this name ``journey_state`` says over how many days it remembers starts."""


class UnknownJourneyError(Exception):
    """A journey is named that the portfolio does not have."""


class Queues:
    """Sees who qualifies for which journey, and since when."""

    def __init__(
        self,
        store: Store,
        portfolio: Portfolio,
        only: Collection[str] = (),
        *,
        only_changed: bool = False,
    ) -> None:
        """``only``: the journeys whose queues are made; the rows of all others stay as they are. None named = all.

        ``only_changed``: of days that are there, make the queues that are new or defined anew since, and those named.

        Raises UnknownJourneyError.
        """
        self.store, self.portfolio, self.only, self.only_changed = store, portfolio, only, only_changed
        unknown = sorted(set(only) - {journey.id for journey in portfolio.journeys})
        if unknown:
            raise UnknownJourneyError(", ".join(unknown))
        wanted = definitions(portfolio, segment_definitions(portfolio), definition_of)
        self.spells = Spells(store, "journey_queues", "journey_id", wanted, portfolio.starts_on)
        self.made_by: Mapping[str, str] | None = None
        """By what the day made last was made."""

    def changed(self, day: date) -> list[str]:
        """Return the journeys of which the day's queue is not by today's definitions, nor on the day before as it is."""
        return self.spells.changed(day)

    def make(self, day: date) -> Tables:
        """Return ``journey_queues``; nothing where nothing has changed."""
        named = {*self.only, *(self.changed(day) if self.only_changed else ())}
        if self.only_changed and not named:
            return {}
        made = [journey for journey in self.portfolio.journeys if not named or journey.id in named]
        conditions = [condition for journey in made for condition in (journey.queue.where, journey.exit_when) if condition is not None]
        queues = queue_customers(
            profiles_of(self.store, self.portfolio, day, {name for condition in conditions for name in condition.columns}),
            self.store.lazy("micro_segment_memberships", day),
            yesterday_of(self.store, "journey_queues", day, self.portfolio.starts_on),
            made,
            today=day,
            absorbed=absorbed(self.store.lazy("identity_map", day), since=day),
        ).collect()
        self.made_by = self.spells.expected(day)
        if named:
            kept = self.store.lazy("journey_queues", day).filter(~pl.col("journey_id").is_in(named)).collect()
            queues = pl.concat([kept, queues]).sort("journey_id", "customer_id")
            self.made_by = self.spells.recorded(day) | {name: self.made_by[name] for name in named}
        return {"journey_queues": queues}

    reads_events = False

    @property
    def is_by_shard(self) -> bool:
        """Whether whole days are made."""
        return not self.only and not self.only_changed

    def gather(self, table: str, parts: Sequence[pl.DataFrame]) -> None:
        """Gather nothing: its table is by customer."""


class Decision:
    """Advances, gates, scores and chooses, each day on the memory of the day before."""

    def __init__(
        self,
        store: Store,
        portfolio: Portfolio,
        delivered: pl.DataFrame | None = None,
        *,
        versions: Versions | None = None,
        is_measured: bool = True,
        shard: int = SHARD,
    ) -> None:
        """``delivered``: the assignments that messages were delivered for already, of any days: they stand; as one of ``versions`` says.

        ``is_measured``: whether it is written down who was exposed to what; what is only tried out is not.
        """
        self.store, self.portfolio, self.shard = store, portfolio, shard
        self.delivered = pl.DataFrame(schema=JOURNEY_ASSIGNMENTS.schema) if delivered is None else delivered
        self.goals = Goals(store, portfolio)
        measured = Measured(store, portfolio)
        self.entries = Entries(store, portfolio, measured, versions) if is_measured else None
        self.maturing = Maturing(store, portfolio, measured)
        self.learning = Learning(store, portfolio, is_recorded=not is_measured)
        self.made_by = {CAP_DAYS: str(cap_days(portfolio))}

    def make(self, day: date) -> Tables:
        """Return ``scored_candidates``, ``journey_state``, ``journey_assignments``, ``journey_funnel``.

        Measured, also ``journey_entries``, ``entry_profiles``, ``journey_outcomes``, ``long_outcomes`` and ``goal_models``.
        """
        half, wishes = self.begin(day, self.before(day))
        return self.finish(day, half, self.combine([wishes]))

    def before(self, day: date) -> "Learned":
        """Return what is known of goals, which is learned of everybody."""
        return Learned(self.learning.model(day), self.learning.shares(day))

    def begin(self, day: date, known: "Learned") -> tuple["Half", "Wishes"]:
        """Find what customers wish; return it, and what the limited places are given out by."""
        identity_map = self.store.lazy("identity_map", day)
        state = memory_of(self.store, self.portfolio, day)
        learned = self.learning.probabilities(known.model)
        # Products are made in threads of ours: those of BLAS beside them would wait for each other.
        with threadpool_limits(None if learned is None else 1):
            contested = contest(
                self.store.lazy("journey_queues", day),
                profiles_of(self.store, self.portfolio, day, columns_needed(self.portfolio, learned)),
                state,
                self.goals.until(day, goals_awaited(state, self.portfolio)),
                self.portfolio,
                today=day,
                delivered=self.delivered.filter(pl.col("date") == day),
                absorbed=absorbed(identity_map),
                arms=arms(identity_map),
                probabilities=learned,
                shard=self.shard,
            )
        return Half(contested, known), Wishes(contested.wishes(self.portfolio), contested.taken(self.portfolio))

    def combine(self, summaries: Sequence["Wishes"]) -> Granted:
        """Give out the limited places."""
        wishes, taken = pl.concat(part.wishes for part in summaries), pl.concat(part.taken for part in summaries)
        return grant(wishes, taken, self.portfolio)

    def finish(self, day: date, half: "Half", small: Granted) -> Tables:
        """Return what ``make`` does."""
        in_force, learned = half.known.in_force, self.learning.probabilities(half.known.model)
        with threadpool_limits(None if learned is None else 1):
            decided = settle(half.contested, small, self.portfolio, {id_: of.shares for id_, of in in_force.items()})
        tables: dict[str, pl.DataFrame | pl.LazyFrame] = {
            "scored_candidates": decided.candidates,
            "journey_state": decided.state,
            "journey_assignments": decided.assignments,
            "journey_funnel": decided.funnel,
        }
        if self.entries is not None:
            written = self.entries.of(day, decided.assignments, decided.state, learned, in_force)
            entries = written["journey_entries"]
            tables |= {**written, **self.maturing.of(day, entries, decided.state, decided.assignments)}
            rows = half.known.model.rows(self.portfolio, day) if learned else pl.DataFrame(schema=GOAL_MODELS.schema)
            tables |= {"goal_models": pl.concat([rows, rows_of(in_force, day)])}
            self.made_by = {**self.made_by, **self.maturing.made_by}
        return tables

    is_by_shard = True
    reads_events = False

    def gather(self, table: str, parts: Sequence[pl.DataFrame]) -> pl.DataFrame | None:
        """Add ``journey_funnel`` up; what is known of goals is the same everywhere."""
        if table == "journey_funnel":
            return funnel_of(parts)
        return parts[0] if table == "goal_models" else None

    def agree(self, made_by: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        """Return what the day says: an entry is open as long as it is in any of the shards."""
        first = min((says[OPEN_SINCE] for says in made_by if OPEN_SINCE in says), default=None)
        return {**made_by[0], **({} if first is None else {OPEN_SINCE: first})}


@dataclass(frozen=True, eq=False)
class Learned:
    """What is known of goals on a day: of everybody's, and of the variants of journeys."""

    model: GoalModel
    in_force: Mapping[str, InForce]


@dataclass(frozen=True, eq=False)
class Wishes:
    """What limited places are given out by: ``decide.Contested.wishes`` and ``taken``."""

    wishes: pl.DataFrame
    taken: pl.DataFrame


@dataclass(frozen=True, eq=False)
class Half:
    """A decision but for who holds the limited places."""

    contested: Contested
    known: Learned


class Goals:
    """Who did what a journey is for, from the rollups; and from the events of days that were rolled up before it was somebody's goal."""

    def __init__(self, store: Store, portfolio: Portfolio) -> None:
        self.store, self.portfolio = store, portfolio
        self.columns = [goal.name for goal in remembered.goals(portfolio)]
        self.days_before = goal_lookback_days(portfolio, LATENESS_DAYS)
        schema = remembered.rollup_schema(portfolio)
        columns = {name: schema[name] for name in ("date", "customer_id", "event_date", *self.columns)}
        self.activity = Rolling(store, "customer_activity", self.days_before, columns, since=portfolio.starts_on, may_lack=True)
        self._rolled_up: dict[date, set[str]] = {}
        self._read: dict[tuple[date, str], pl.DataFrame] = {}

    def until(self, day: date, awaited: Mapping[str, date]) -> pl.LazyFrame:
        """One row per customer, goal event and date on which it happened, of what arrived by the day.

        ``awaited``: the goals of journeys in flight, and since when. Of others nothing is missed where a rollup does not count them.
        """
        identity_map = self.store.lazy("identity_map", day)
        first = day - timedelta(days=self.days_before)
        # Rollups name customers as they were known on the day of each.
        merged = absorbed(identity_map, since=first).collect().lazy()
        rolled_up = goal_events(survivors(self.activity.until(day), merged), self.columns, today=day)
        read = [
            self._in_events(arrival, event)
            for event, since in awaited.items()
            for arrival in days_between(max(since, first, self.portfolio.starts_on), day)
            if remembered.goal_column(event) not in self._counted(arrival)
        ]
        return pl.concat([rolled_up, survivors(pl.concat(read).lazy(), absorbed(identity_map))]) if read else rolled_up

    def _counted(self, arrival: date) -> set[str]:
        """Name the columns of a day's rollup; none where there is no rollup."""
        if arrival not in self._rolled_up:
            is_there = self.store.has("customer_activity", arrival)
            self._rolled_up[arrival] = set(self.store.lazy("customer_activity", arrival).collect_schema()) if is_there else set()
        return self._rolled_up[arrival]

    def _in_events(self, arrival: date, event: str) -> pl.DataFrame:
        if (arrival, event) not in self._read:
            reached = goals_in(self.store.lazy("raw_events", arrival), [event], self.portfolio.blocked)
            self._read[arrival, event] = reached.collect()
        return self._read[arrival, event]


def memory_of(store: Store, portfolio: Portfolio, day: date) -> pl.DataFrame:
    """Return the memory of the day before, of customers as they are on the day, and as far back as the cap counts."""
    if day <= portfolio.starts_on:
        return no_state()
    before = day - timedelta(days=1)
    needed = {name: dtype for name, dtype in JOURNEY_STATE.schema.items() if name not in KEPT_LATER}
    yesterday = with_columns(store, "journey_state", before, needed, portfolio.starts_on, is_fixed=True)
    identity_map = store.lazy("identity_map", day)
    state = merge(complete(yesterday).collect(), absorbed(identity_map, since=day).collect().lazy(), today=day)
    if not set(KEPT_LATER) <= set(yesterday.collect_schema()):
        state = draw_again(state, arms(identity_map), portfolio)
    window = cap_days(portfolio)
    if window <= int(store.definitions("journey_state", before).get(CAP_DAYS, 0)):
        return state
    # A cap is new, or longer than it was: what was forgotten meanwhile stands in the memories of those days.
    days = days_between(max(portfolio.starts_on, day - timedelta(days=window - 1)), before)
    memories = [store.lazy("journey_state", at).filter(pl.col("entered_on") == at) for at in days]
    started = pl.concat(memory.select("customer_id", "journey_id", "entered_on") for memory in memories)
    return recall_starts(state, survivors(started, absorbed(identity_map)))


def days_between(first: date, last: date) -> list[date]:
    """Return the days from the first to the last."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
