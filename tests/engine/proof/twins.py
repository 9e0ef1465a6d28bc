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
    memory, history, sent, triggered, since = decision.Memory(), [], [], {}, made.world.days[0]
    tables: dict[str, list[Row]] = {table: [] for table in KEYS}
    knowledge: dict[date, reference.Known] = {}
    for day in made.world.days:
        portfolio = made.loaded[day]
        history += made.rows("raw_events", day)
        profiles, queues = made.rows("customer_profiles", day), made.rows("journey_queues", day)
        known = knowledge[day] = reference.Known.by(day, history)
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
        ending = endings(memory, tables["journey_entries"], knowledge)
        tables["journey_outcomes"] += reference.outcomes(tables["journey_entries"], known, portfolio, ending)
        tables["long_outcomes"] += reference.long_outcomes(tables["journey_entries"], triggered, known, portfolio)
    return tables


def endings(memory: decision.Memory, entries: Sequence[Row], knowledge: Mapping[date, reference.Known]) -> reference.Ending:
    """Return how to tell when a stay ended: by everything that was ever decided.

    It is open where two names were in one journey at a time and became one customer later: there may be one stay, or two.
    """

    def ending(entry: Row) -> tuple[Any, Any]:
        name, journey = entry["customer_id"], entry["journey_id"]
        customer = knowledge[max(knowledge)].now(name)
        spells = memory.of(customer, journey)
        mine = [spell for spell in spells if spell.entered_on == entry["date"]]
        were_two = any(
            (other["journey_id"], other["date"] > entry["date"]) == (journey, True)
            and knowledge[max(knowledge)].now(other["customer_id"]) == customer
            and knowledge[other["date"]].now(name) != other["customer_id"]
            for other in entries
        )
        if len(mine) == 1 and not mine[0].is_behind and not were_two:
            return mine[0].ended_on, mine[0].ended_reason
        days, reasons = [spell.ended_on for spell in spells], [spell.ended_reason for spell in spells]
        return reference.Either((*days, None)), reference.Either((*reasons, None))

    return ending


def is_same(ours: Any, theirs: Any) -> bool:
    """Return whether two values are equal: floats to 1e-8, of which scores have nine digits."""
    if isinstance(theirs, reference.Either):
        return ours in theirs.of
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-8, abs_tol=1e-9)
    return bool(ours == theirs) and type(ours) is type(theirs)


def is_nothing(ours: Any, theirs: Any) -> bool:
    """Return whether two figures are both next to nothing, where the last digits of micro-units are all there is."""
    return isinstance(ours, float) and isinstance(theirs, float) and max(abs(ours), abs(theirs)) < 1e-5


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


def report(made: Made, day: date) -> reference.Report:
    """Return what is known of all entries by a day."""
    days = [at for at in made.world.days if at <= day]
    known = reference.Known.by(day, [event for at in days for event in made.rows("raw_events", at)])
    rows = [[row for at in days for row in made.rows(table, at)] for table in KEYS]
    return reference.Report(*rows, known.now, made.loaded[day], day)


def disagreements(rows: Iterable[Row], of: reference.Report) -> list[str]:
    """Say where estimates of the engine are not the reference's, of journeys: figures of each row, and rows that are missing."""
    journeys = {journey.id: journey for journey in of.portfolio.journeys}
    made = {(row["journey_id"], row["metric"], row["slice"]): row for row in rows if row["journey_id"] in journeys}
    wanted = {(journey, metric, slice_): of.figures(journeys[journey], metric, slice_) for journey, metric, slice_ in made}
    wanted |= {(*at, "all"): figures for at, figures in of.all().items()}
    says = [f"row {at} is missing: {wanted[at]}" for at in wanted.keys() - made.keys()]
    for at in wanted.keys() & made.keys():
        names = {name for name, value in made[at].items() if isinstance(value, float)} & ESTIMATES | wanted[at].keys()
        says += [
            f"{at} {name}: the engine says {made[at][name]!r}, the reference {wanted[at].get(name)!r}"
            for name in sorted(names)
            if not is_same(made[at][name], wanted[at].get(name)) and not is_nothing(made[at][name], wanted[at].get(name))
        ]
    return sorted(says)


ESTIMATES = {"effect", "effect_unadjusted", "std_error", "p_anytime", "fixed_low", "anytime_high", "relative", "before_p", "total"}
"""What is null in the engine where there is no estimate in the reference."""


def compare(made: Made) -> None:
    """Compare table by table."""
    wanted = expected(made)
    for table in KEYS:
        rows = [row for day in made.world.days if made.store.has(table, day) for row in made.rows(table, day)]
        says = differences(table, rows, wanted[table])
        assert not says, "\n".join([f"{table} of the engine is not the reference's:", *says[:10]])
    for day in made.world.days[6::4] + made.world.days[-1:]:
        says = disagreements(made.rows("uplift", day), report(made, day))
        assert not says, "\n".join([f"uplift of {day} of the engine is not the reference's:", *says[:10]])


Check = Callable[[Made], None]
