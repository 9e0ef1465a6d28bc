"""The future is not seen: whatever happens after a day, every table up to it stays as it is, byte for byte.

What belongs here: two lakes with one past and two futures. What does not: which future a trial of a step has (``decision``'s own tests).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from atc_pipeline.certificate.claim import Claim, Scale, Stores, World, Worlds
from atc_pipeline.certificate.driving import Driven
from atc_pipeline.days.course import Course
from atc_pipeline.tables.store import Store

SEED = 17
CUSTOMERS = {Scale.QUICK: 300, Scale.FULL: 2_000}
LEARNING = "choosing by learning"
"""What has come of entries decides, so that a future that is seen is acted on."""
DAYS, SEEN = 60, 45
"""Days that pass, and of these the days after which the future is another one."""
MADE_AGAIN = 3
"""Days before the future that are made again when it is there."""


@dataclass
class Scrambled:
    """A world that becomes another one, with the same people, after some days."""

    before: World
    after: World
    until: date

    @property
    def days(self) -> Sequence[date]:
        """Return its days."""
        return self.before.days

    @property
    def portfolio(self) -> str:
        """Return the ``journeys.yaml`` it is run with."""
        return self.before.portfolio

    def arriving(self, day: date, delivered: pl.DataFrame) -> bytes:
        """Return what arrives: of the world it is, later of the world it has become."""
        lines = [world.arriving(day, delivered) for world in (self.before, self.after)]
        return lines[day > self.until]

    def world_of(self) -> pl.Expr:
        """Return the number of the world in it."""
        return self.before.world_of()

    def planted(self, entries: pl.DataFrame) -> pl.Series:
        """Return what was planted at first."""
        return self.before.planted(entries)


def future_is_not_seen(scale: Scale, worlds: Worlds, stores: Stores, *, seed: int = SEED) -> Claim:
    """Let one past have two futures, and compare all tables up to its end; make its last days again with the futures there."""
    differing, compared, differing_later = list[str](), 0, 0
    first, second = futures(scale, worlds, stores, seed=seed)
    days = first.world.days
    for table, day in tables_of(first, stores, days[:SEEN]):
        compared += 1
        differing += [] if _same(first.store, second.store, table, day) else [f"{table} of {day}"]
    for table, day in tables_of(first, stores, days[SEEN:]):
        differing_later += not _same(first.store, second.store, table, day)
    again = 0
    for driven in (first, second):
        for table, day, is_same in made_again(driven, stores, days[SEEN - MADE_AGAIN : SEEN]):
            again += 1
            differing += [] if is_same else [f"{table} of {day}, made again"]
    figures = {
        "up to the day": f"{compared} tables compared, {len(differing)} differ" + (f": {', '.join(differing[:5])}" if differing else ""),
        "made again with the future there": f"{again} tables of the last {MADE_AGAIN} days",
        "after the day": f"{differing_later} tables differ, as they must",
    }
    return Claim(
        name="the future is not seen",
        how=(
            f"{CUSTOMERS[scale]:,} customers, decided by what is learned; {SEEN} days in common, then {DAYS - SEEN} days of two different "
            f"worlds; seed {seed}"
        ),
        bar="every table up to the day is byte-identical, also where it is made again afterwards",
        figures=figures,
        passed=not differing and compared > 0 and again > 0 and differing_later > 0,
    )


def futures(scale: Scale, worlds: Worlds, stores: Stores, *, seed: int) -> tuple[Driven, Driven]:
    """Drive two worlds with one past."""
    made = [worlds(LEARNING, seed + more, count=1, customers=CUSTOMERS[scale], days=DAYS) for more in (0, 0, 1)]
    first = Driven.into(stores.lasting(), made[0])
    second = Driven.into(stores.lasting(), Scrambled(made[1], made[2], made[1].days[SEEN - 1]))
    for driven in (first, second):
        for _ in driven.run():
            pass
    return first, second


def tables_of(driven: Driven, stores: Stores, days: Sequence[date]) -> Iterator[tuple[str, date]]:
    """Yield every table of the days that the course of a day makes."""
    course = Course(stores.over(driven.store), driven.portfolio, driven.landed)
    last = driven.world.days[-1]
    names = [table for step in list(course.steps.values())[1:] for table in step.make(last)]
    yield from ((table, day) for day in days for table in ("raw_events", *names))


def made_again(driven: Driven, stores: Stores, days: Sequence[date]) -> Iterator[tuple[str, date, bool]]:
    """Make days again where later ones are there, and yield whether each table is as it was; what arrived is there already."""
    over = stores.over(driven.store)
    course = Course(over, driven.portfolio, driven.landed)
    for day in days:
        for step in list(course.steps.values())[1:]:
            made = step.make(day)
            for table, frame in made.items():
                over.write(table, day, frame, step.made_by, step.portfolio.fingerprint)
                yield table, day, _same(driven.store, over, table, day)


def _same(left: Store, right: Store, table: str, day: date) -> bool:
    """Return whether a day of a table is the same in both, to the last bit and in the same order."""
    mine, theirs = (store.lazy(table, day).collect() for store in (left, right))
    return mine.schema == theirs.schema and mine.equals(theirs, null_equal=True)
