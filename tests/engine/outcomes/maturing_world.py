"""A few customers, their entries and their events, on days of which everything is said by hand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from atc_pipeline.days.customers import Metrics
from atc_pipeline.days.maturing import Maturing
from atc_pipeline.days.step import write_day
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_STATE
from atc_pipeline.events.tables import RAW_EVENTS
from atc_pipeline.identity.tables import IDENTITY_MAP
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.outcomes.tables import journey_entries
from atc_pipeline.rules.ours import LIBRARY
from resources.storage.memory import Memory

FIRST = date(2026, 1, 1)
CUSTOMERS = ("a", "b", "c", "d")
JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-01}
channels: {email: {consent: opt_in}}
metrics:
  stars: {avg: stars, of: Rated}
  revenue: {sum: revenue, of: Bought}
  left: {any: Left}
measurement: {money: revenue, window_days: 4, long_days: 6, late_days: 2}
journeys:
  - id: hello
    length_days: 3
    queue: {where: "true"}
    goal: {event: Bought, within_days: 3, value: revenue}
    measure: {window_days: 4}
    holdout: 0.5
    steps: [{day: 1, channel: email, content: hello}]
  - id: news
    length_days: 2
    queue: {where: "true"}
    steps: [{day: 1, channel: email, content: news}]
policy: {none: "0.5", holdout: 0.1}
"""


def day_of(number: int) -> date:
    """Return the day of that number, from 1."""
    return FIRST + timedelta(days=number - 1)


def load(folder: Path, text: str = JOURNEYS) -> Portfolio:
    """Return the portfolio of a text."""
    (folder / "journeys.yaml").write_text(text)
    return load_portfolio(folder / "journeys.yaml")


@dataclass
class World:
    """Days in a store, each made from what was said of it before it is made."""

    portfolio: Portfolio
    store: Memory = field(default_factory=Memory)
    events: dict[int, list[dict[str, object]]] = field(default_factory=dict)
    entered: dict[int, list[dict[str, object]]] = field(default_factory=dict)
    merged: dict[str, tuple[str, int]] = field(default_factory=dict)
    ended: dict[tuple[str, str], list[tuple[int, int, str]]] = field(default_factory=dict)
    maturing: Maturing | None = None

    def happens(
        self, customer: str, event: str, on: int, *, arrives: int | None = None, is_ours: bool = False, **properties: object
    ) -> None:
        """Say that an event happens on a day, when it arrives, and whether it is ours."""
        arrival, number = arrives or on, sum(map(len, self.events.values()))
        at = day_of(on)
        self.events.setdefault(arrival, []).append(
            {"date": day_of(arrival), "message_id": f"m{number:04}", "type": "track", "event": event, "user_id": customer, "event_date": at}
            | {"timestamp": datetime(at.year, at.month, at.day, 9, tzinfo=UTC), "properties": json.dumps(properties)}
            | ({"context": json.dumps({"library": {"name": LIBRARY}})} if is_ours else {})
        )

    def enters(self, customer: str, journey: str, on: int, **more: object) -> None:
        """Say that somebody enters a journey; the rest is as it would be of a treated first entry."""
        of = next(of for of in self.portfolio.journeys if of.id == journey)
        window = self.portfolio.window_days(of)
        entry: dict[str, object] = {
            "date": day_of(on), "customer_id": customer, "journey_id": journey, "entry_number": 1, "decision": "start", "arm": "treated",
            "holdout": of.holdout, "policy_holdout": 0.1, "version": self.portfolio.version, "is_drawn": False, "options": 1,
            "propensity_source": "prior", "window_days": window, "is_quiet": False, "segments": ["x"],
            "matures_on": day_of(on) + timedelta(days=window + self.portfolio.measurement.late_days),
            "goal_within_days": of.goal.within_days if of.goal else None,
            "revenue_before": 7.0, "stars_sum_before": 0.0, "stars_count_before": 0.0, "left_before": 0.0,
        }  # fmt: skip
        self.entered.setdefault(on, []).append(entry | more)

    def ends(self, customer: str, journey: str, entered: int, on: int, reason: str) -> None:
        """Say how an entry ends."""
        self.ended.setdefault((customer, journey), []).append((entered, on, reason))

    def merges(self, absorbed: str, customer: str, on: int) -> None:
        """Say that one customer is another from a day on."""
        self.merged[absorbed] = (customer, on)

    def run(self, first: int, last: int) -> dict[int, dict[str, pl.DataFrame]]:
        """Make days; return what came of entries, by day."""
        return {number: self.make(number) for number in range(first, last + 1)}

    def make(self, number: int) -> dict[str, pl.DataFrame]:
        """Make a day."""
        day = day_of(number)
        self.store.write("raw_events", day, pl.DataFrame(self.events.get(number, []), schema=RAW_EVENTS.schema))
        self.store.write("identity_map", day, self._people(number))
        write_day(self.store, Metrics(self.store, self.portfolio), day)
        state = self._state(number)
        self.store.write("journey_state", day, state)
        answers = self._answers(number)
        self.maturing = self.maturing or Maturing(self.store, self.portfolio)
        entries = pl.DataFrame(self.entered.get(number, []), schema=journey_entries(self.portfolio).schema).sort("customer_id")
        tables = {name: frame.lazy().collect() for name, frame in self.maturing.of(day, entries, state, answers).items()}
        self.store.write("journey_assignments", day, answers)
        for name, frame in {"journey_entries": entries, **tables}.items():
            self.store.write(name, day, frame, self.maturing.made_by)
        return tables

    def _people(self, number: int) -> pl.DataFrame:
        def now(name: str) -> tuple[str, int]:
            customer, on = self.merged.get(name, (name, 0))
            return (customer, on) if on and on <= number else (name, 1)

        rows = [
            {"id_type": "user", "id": name, "customer_id": now(name)[0], "valid_from": day_of(now(name)[1]), "arm_id": name}
            for name in CUSTOMERS
        ]
        return pl.DataFrame(rows, schema=IDENTITY_MAP.schema)

    def _now(self, name: str, number: int) -> str:
        customer, on = self.merged.get(name, (name, number + 1))
        return customer if on <= number else name

    def _state(self, number: int) -> pl.DataFrame:
        memory: dict[tuple[str, str], dict[str, object]] = {}
        for on in range(1, number + 1):
            for entry in sorted(self.entered.get(on, []), key=lambda entry: str(entry["customer_id"])):
                key = (self._now(str(entry["customer_id"]), number), str(entry["journey_id"]))
                times = int(str(memory.get(key, {}).get("times_entered", 0))) + 1
                ending = [
                    (end, reason)
                    for entered, end, reason in self.ended.get((str(entry["customer_id"]), key[1]), [])
                    if entered == on and end <= number
                ]
                memory[key] = {
                    "date": day_of(number), "customer_id": key[0], "journey_id": key[1], "entered_on": day_of(on),
                    "ended_on": day_of(ending[0][0]) if ending else None, "ended_reason": ending[0][1] if ending else None,
                    "times_entered": times, "times_completed": 0, "entry_score": 1.0, "arm": entry["arm"],
                }  # fmt: skip
        return pl.DataFrame(list(memory.values()), schema=JOURNEY_STATE.schema).sort("customer_id", "journey_id")

    def _answers(self, number: int) -> pl.DataFrame:
        rows = [
            {"date": day_of(number), "customer_id": customer, "decision": "none", "ended_journey_id": journey, "ended_reason": reason}
            for (customer, journey), spells in self.ended.items()
            for _, on, reason in spells
            if on == number
        ]
        return pl.DataFrame(rows, schema=JOURNEY_ASSIGNMENTS.schema)


def only(tables: dict[str, pl.DataFrame], *columns: str, table: str = "journey_outcomes") -> Sequence[tuple[object, ...]]:
    """Return these columns of a table's rows."""
    return tables[table].select(columns).rows()
