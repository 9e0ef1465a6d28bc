"""The engine over a world, and the reference of what came of it, row by row.

What belongs here: running both on the same days, and saying where they differ. What does not: what a row is to say
(``tests.engine.proof.reference``), and whether the decision is right, which is compared elsewhere.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from atc_pipeline.days.course import Course
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.landing import LandingZone
from resources.storage.memory import Memory
from tests.engine import reference as decision
from tests.engine.comparison import placements
from tests.engine.proof import reference
from tests.engine.reference import DAY, Row
from tests.engine.worlds import World

KEYS = {
    "journey_entries": ("date", "customer_id", "journey_id"),
    "journey_outcomes": ("date", "journey_id", "customer_id", "entered_on"),
    "long_outcomes": ("date", "journey_id", "customer_id"),
}
SHARD = 64


@dataclass
class Made:
    """What the engine made of a world."""

    world: World
    store: Memory
    loaded: Mapping[date, Portfolio]
    """The portfolio in force on each day."""

    def rows(self, table: str, day: date) -> list[Row]:
        """Return a day of a table."""
        return self.store.read(table, day).to_dicts()


def portfolios(world: World, folder: Path) -> dict[date, Portfolio]:
    """Return the portfolio in force on each day of a world."""
    written = {day: load_portfolio(path) for day, path in world.write_journeys(folder).items()}
    return {day: written[max(since for since in written if since <= day)] for day in world.days}


def run(world: World, folder: Path, *, shard: int = SHARD) -> Made:
    """Have the engine make every day of a world."""
    folder.mkdir(parents=True, exist_ok=True)
    store, landed, loaded = Memory(), LandingZone(root=str(world.write(folder))).read, portfolios(world, folder)
    course = Course(store, loaded[world.days[0]], landed, shard=shard)
    for yesterday, day in zip((None, *world.days), world.days, strict=False):
        if yesterday is not None and loaded[day] is not loaded[yesterday]:
            course = Course(store, loaded[day], landed, shard=shard)
        course.run(day)
    return Made(world, store, loaded)


def expected(made: Made) -> dict[str, list[Row]]:
    """Return what the tables of ``KEYS`` have to say, of the events, profiles and queues that the engine made.

    The reference decides once more, with every option on record, whoever got the places of a full journey by the engine.
    """
    memory, history, sent, triggered, since = decision.Memory(), [], [], set(), made.world.days[0]
    tables: dict[str, list[Row]] = {table: [] for table in KEYS}
    for day in made.world.days:
        portfolio = made.loaded[day]
        history += made.rows("raw_events", day)
        profiles, queues = made.rows("customer_profiles", day), made.rows("journey_queues", day)
        known = reference.Known.by(day, history)
        earlier = [{**row, "customer_id": known.now(row["customer_id"])} for row in sent]
        every = replace(portfolio, policy=replace(portfolio.policy, keep_candidates=None))
        chosen = placements(made.store.read("journey_assignments", day))
        decided = decision.decide_day(memory, history, profiles, queues, every, day, (), chosen, earlier)
        assert not decided["objections"], decided["objections"][:5]
        sent += decided["outbound_messages"]
        if day - DAY in made.loaded and made.loaded[day - DAY].version != portfolio.version:
            since = day
        entries = reference.entries(
            [{**row, "portfolio": portfolio.fingerprint} for row in decided["journey_assignments"]],
            decided["scored_candidates"],
            decided["journey_state"],
            profiles,
            made.rows("micro_segment_memberships", day),
            made.rows("identity_map", day),
            known,
            portfolio,
        )
        triggered |= reference.triggers(entries, tables["journey_entries"], since, known)
        tables["journey_entries"] += entries
        tables["journey_outcomes"] += reference.outcomes(tables["journey_entries"], known, portfolio, endings(memory))
        tables["long_outcomes"] += reference.long_outcomes(tables["journey_entries"], triggered, known, portfolio)
    return tables


@dataclass(frozen=True)
class Either:
    """A value that the contract leaves open."""

    of: tuple[Any, ...]


def endings(memory: decision.Memory) -> reference.Ending:
    """Return how to tell when a stay ended: by everything that was ever decided."""

    def ending(customer: str, journey: str, entered_on: date) -> tuple[Any, Any]:
        spells = [spell for spell in memory.of(customer, journey) if spell.entered_on == entered_on]
        days, reasons = tuple(spell.ended_on for spell in spells), tuple(spell.ended_reason for spell in spells)
        return (days[0], reasons[0]) if len(spells) == 1 else (Either(days), Either(reasons))

    return ending


def is_same(ours: Any, theirs: Any) -> bool:
    """Return whether two values are equal: floats to 1e-9."""
    if isinstance(theirs, Either):
        return ours in theirs.of
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)
    return bool(ours == theirs) and type(ours) is type(theirs)


def differences(table: str, rows: Iterable[Row], wanted_rows: Sequence[Row]) -> list[str]:
    """Say where rows of the engine are not the reference's: missing, too many, other values."""
    key = KEYS[table]

    def by_key(some: Iterable[Row]) -> dict[tuple[Any, ...], Row]:
        return {tuple(row[name] for name in key): row for row in some}

    made, wanted = by_key(rows), by_key(wanted_rows)
    says = [f"row {at} is missing: {wanted[at]}" for at in wanted.keys() - made.keys()]
    says += [f"row {at} is too many: {made[at]}" for at in made.keys() - wanted.keys()]
    for at in wanted.keys() & made.keys():
        says += [
            f"{at} {name}: the engine says {made[at].get(name, 'nothing')!r}, the reference {value!r}"
            for name, value in sorted(wanted[at].items())
            if name not in made[at] or not is_same(made[at][name], value)
        ]
    return sorted(says)


def compare(made: Made) -> None:
    """Compare table by table."""
    wanted = expected(made)
    for table in KEYS:
        rows = [row for day in made.world.days if made.store.has(table, day) for row in made.rows(table, day)]
        says = differences(table, rows, wanted[table])
        assert not says, "\n".join([f"{table} of the engine is not the reference's:", *says[:10]])


Check = Callable[[Made], None]
