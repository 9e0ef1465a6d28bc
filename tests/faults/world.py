"""A shop of a few hundred customers and some days, that sends for real: what is disturbed here, and what must come of it all the same.

What belongs here: the world, its clock, and reading what a run has left. What does not: running it (``attempt``), disturbing it.
"""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import duckdb
import polars as pl

from atc_pipeline.identity.erasure import Person
from resources.channels.connected import LIVE, WEBHOOKS
from resources.channels.signing import SIGNED_WITH
from resources.erasure.tombstones import Tombstones
from resources.storage.spill import PREFIX
from tests.edges.receiver import Receiver
from tests.graph.small_world import FIRST, JOURNEYS, line

SECRET = "between the two of us"  # noqa: S105
CUSTOMERS = 240
DAYS = [FIRST + timedelta(days=number) for number in range(4)]
ERASED = "c102"

PORTFOLIO = (
    JOURNEYS.replace("  app: {consent: opt_out}\n", "  app: {consent: opt_out}\n  site: {consent: opt_out}\n")
    .replace("{day: 2, channel: email, content: tea_2}", "{day: 2, channel: site, content: tea_2}")
    .replace("{day: 2, channel: app, content: tips}", "{day: 2, channel: site, content: tips}, {day: 3, channel: app, content: more}")
)
"""That of the small world, with a channel more that no webhook takes: its messages are files in the outbox."""


@dataclass
class Arrived:
    """How many lines there are of a day, and what must become of them."""

    lines: int = 0
    duplicates: int = 0
    rejected: int = 0
    erased: int = 0

    @property
    def accepted(self) -> int:
        """The rest."""
        return self.lines - self.duplicates - self.rejected - self.erased


class Clock:
    """The time of the runs, as the receiver has it: five in the morning in Berlin after the day they are of."""

    def __init__(self) -> None:
        self.now = morning_after(FIRST)

    def timestamp(self) -> float:
        """Return the time in seconds since 1970."""
        return self.now.timestamp()


def morning_after(day: date) -> datetime:
    """Return when the daily schedule runs a day."""
    return datetime(day.year, day.month, day.day, 4, tzinfo=UTC) + timedelta(days=1)


@dataclass
class Home:
    """A home as it was left, to be compared with."""

    folder: Path
    are_times_kept: ClassVar[bool] = True
    """Whether files of the landing zone are as old as they were made: days say what they were made from."""

    @property
    def home(self) -> Path:
        """Where everything is kept."""
        return self.folder / "home"

    def tables(self) -> dict[str, bytes]:
        """Return every file of the lake by its place."""
        return _contents(self.home / "lake", "*/date=*/part.parquet") | _contents(self.home / "lake", "*/date=*/shard=*/part.parquet")

    def outbox(self) -> dict[str, bytes]:
        """Return every file of the outbox by its place."""
        return _contents(self.home / "outbox", "*/*.ndjson")

    def origins(self) -> dict[str, bytes]:
        """Return what each day was made from."""
        return _contents(self.home / "lake.origins", "*.json")

    def left_behind(self) -> list[str]:
        """Return what killed processes have left in the home: unfinished files, and what was spilled."""
        every = (
            path
            for path in self.home.rglob(".*")
            if re.fullmatch(r"\..+\.\d+(\.wal)?|\.date=.+", path.name) or path.name.startswith(PREFIX)
        )
        return sorted(path.relative_to(self.home).as_posix() for path in every)

    def deliveries(self) -> dict[str, str]:
        """Return the status of each message in the ledger, by key."""
        ledger = self.home / "ledger.duckdb"
        if not ledger.exists():
            return {}
        with duckdb.connect(ledger) as connection:  # not read-only: a killed process may have left a log to be replayed
            if not connection.execute("from duckdb_tables() where table_name = 'deliveries'").fetchone():
                return {}
            return dict(connection.execute("select idempotency_key, status from deliveries").fetchall())

    def in_files(self) -> list[str]:
        """Return the key of each line of the outbox."""
        return [json.loads(text)["idempotency_key"] for content in self.outbox().values() for text in content.splitlines()]

    def unaccounted(self) -> list[str]:
        """Return the days made whose lines are not accepted, rejected, known before or erased as they must be."""
        wrong = []
        for day, (_, arrived) in zip(DAYS, _landed(), strict=True):
            paths = {table: self.home / "lake" / table / f"date={day}" / "part.parquet" for table in ("raw_events", "rejected_events")}
            if not any(path.exists() for path in paths.values()):
                continue
            kept = {table: pl.read_parquet(path, hive_partitioning=False).height for table, path in paths.items()}
            if kept != {"raw_events": arrived.accepted, "rejected_events": arrived.rejected}:
                wrong.append(f"{day}: {kept} of {arrived}")
        return wrong


@dataclass
class World(Home):
    """A home with a landing zone, and the receiver that its webhooks lead to."""

    receiver: Receiver
    clock: Clock
    shards: int = field(default=1, kw_only=True)

    @property
    def environment(self) -> dict[str, str]:
        """Settings of a run that sends."""
        return {
            "ATC_HOME": str(self.home),
            "ATC_JOURNEYS": str(self.folder / "journeys.yaml"),
            LIVE: "true",
            WEBHOOKS: f"email={self.receiver.url()},app={self.receiver.url()}",
            SIGNED_WITH: SECRET,
            "ATC_SHARDS": str(self.shards),
            "no_proxy": "127.0.0.1",
            "TMPDIR": str(self.folder),
        }

    def collect(self) -> None:
        """Put what is to be compared into the home, where it is kept elsewhere."""

    def effects(self) -> Counter[str]:
        """Count how often each message had its effect: by webhook at the receiver, or as a line of the outbox."""
        return Counter([*(message["idempotency_key"] for message in self.receiver.effects), *self.in_files()])


@contextmanager
def receiving() -> Iterator[tuple[Receiver, Clock]]:
    """Run a receiver by a clock that is set to the day of each run."""
    clock = Clock()
    with Receiver(SECRET, now=clock.timestamp) as receiver:
        yield receiver, clock


def make_world(folder: Path, receiver: Receiver, clock: Clock, shards: int = 1) -> World:
    """Write the portfolio, the landing zone and an erasure."""
    folder.mkdir(parents=True)
    world = World(folder, receiver, clock, shards=shards)
    (folder / "journeys.yaml").write_text(PORTFOLIO)
    for day, (lines, _) in zip(DAYS, _landed(), strict=True):
        (world.home / "landing" / str(day)).mkdir(parents=True)
        for name, part in (("a", lines[::2]), ("b", lines[1::2])):
            path = world.home / "landing" / str(day) / f"{name}.ndjson"
            path.write_text("".join(f"{text}\n" for text in part))
            os.utime(path, (0, 0))  # what a day was made from is the same in every world
    Tombstones(home=str(world.home)).lay(Person(frozenset({ERASED})).fingerprints, reference="", at=morning_after(FIRST), rows={})
    return world


def copy_home(home: Home, folder: Path) -> Home:
    """Return the same home, as it is now, in another place."""
    shutil.copytree(home.folder, folder)
    return Home(folder)


def resume_from(home: Home, folder: Path, receiver: Receiver, clock: Clock) -> World:
    """Return a world that goes on from a copy of a home, whose messages the receiver knows."""
    world = World(copy_home(home, folder).folder, receiver, clock)
    in_files = set(world.in_files())
    receiver.know(key for key in world.deliveries() if key not in in_files)
    return world


def differences(world: World, calm: Home) -> list[str]:
    """Say in what a disturbed world differs from one that was left alone as long; nothing is the promise."""
    return [f"file {place}" for place in different_files(world, calm)] + broken_promises(world, calm)


def different_files(world: Home, calm: Home) -> list[str]:
    """Name the tables, the files of the outbox and the notes of what days were made from that are not the same bytes."""
    pairs = [(world.tables(), calm.tables()), (world.outbox(), calm.outbox())]
    if world.are_times_kept:
        pairs.append((world.origins(), calm.origins()))
    return [
        place
        for disturbed, undisturbed in pairs
        for place in sorted(disturbed.keys() | undisturbed.keys())
        if disturbed.get(place) != undisturbed.get(place) and not _differs_as_it_may(world, calm, place)
    ]


def _differs_as_it_may(world: Home, calm: Home, place: str) -> bool:
    """Whether nothing but ``journey_assignments.stands`` differs: that a row was kept, as a message for it had left, and not decided again;
    or of ``activation`` and ``sent_events``, when and how often messages were handed over.

    The first is so only of customers who have a message.
    """
    table, _, part = place.partition("/")
    both = [each.home / "lake" / place for each in (world, calm)]
    if table not in {"journey_assignments", "activation", "sent_events"} or not all(path.exists() for path in both):
        return False
    mine, theirs = (pl.read_parquet(path, hive_partitioning=False) for path in both)
    if table == "sent_events":
        return mine.drop("timestamp").equals(theirs.drop("timestamp"))
    if table == "activation":
        return mine.drop("sent_at", "attempts").equals(theirs.drop("sent_at", "attempts"))
    messages = pl.read_parquet(
        world.home / "lake" / "outbound_messages" / part.partition("/")[0] / "part.parquet", hive_partitioning=False
    ).filter(pl.col("withheld").is_null())
    stands = mine.filter("stands")["customer_id"]
    return mine.drop("stands").equals(theirs.drop("stands")) and stands.is_in(messages["customer_id"].implode()).all()


def broken_promises(world: World, calm: Home) -> list[str]:
    """Say what is wrong with what left the house, was left lying about, or was read, whatever the tables say."""
    expected = dict.fromkeys(calm.deliveries(), 1)
    effects = world.effects()
    wrong = [
        f"message {key}: {effects[key]} effects, not {expected.get(key, 0)}"
        for key in sorted(expected.keys() | effects.keys())
        if effects[key] != expected.get(key, 0)
    ]
    wrong += [f"left behind: {name}" for name in world.left_behind()]
    wrong += [f"lines: {text}" for text in world.unaccounted()]
    unsure = Counter(status for status in world.deliveries().values() if status != "delivered")
    if unsure:
        wrong.append(f"ledger: {dict(unsure)}")
    return wrong


def _contents(root: Path, pattern: str) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.glob(pattern))}


def _landed() -> Iterator[tuple[list[str], Arrived]]:
    """Yield the lines of each day, and what must become of them: bad ones, known ones and those of somebody erased among them."""
    for age, day in enumerate(DAYS):
        lines = list[str]()
        arrived = Arrived()
        for number in range(CUSTOMERS):
            customer = f"c{number}"
            before = len(lines)
            if age == 0 and number % 4:
                lines.append(line(customer, day, number, type="identify", traits={"consent_email": number % 3 != 0}))
            if age == 0 and number % 4 == 0:  # a visitor, who says who it is on the second day
                lines.append(_visit(number, day))
            if age == 1 and number % 4 == 0:
                consent = {"consent_email": number % 3 != 0}
                lines.append(line(customer, day, number, type="identify", anonymousId=f"visitor-{number}", traits=consent))
            if (number + age) % 3 == 0:
                bought = {"revenue": 10.5 + number, "city": ["Bonn", "Kiel"][number % 2]}
                lines.append(line(customer, day, 1000 + number, event="Order Completed", properties=bought))
            if (number + age) % 2 == 0:
                viewed = {"category": ["tea", "coffee"][number % 4 // 2]}
                lines.append(line(customer, day, 2000 + number, event="Product Viewed", properties=viewed))
            if customer == ERASED:
                arrived.erased = len(lines) - before
        bad = ["{broken", json.dumps({"type": "track", "userId": "c1", "timestamp": f"{day}T10:00:00Z"})]
        known = [lines[0], lines[3]]
        arrived.lines, arrived.rejected, arrived.duplicates = len(lines) + 4, len(bad), len(known)
        yield [*lines, *bad, *known], arrived


def _visit(number: int, day: date) -> str:
    visit = {"messageId": f"{day}-v{number}", "type": "track", "anonymousId": f"visitor-{number}", "timestamp": f"{day}T08:00:00Z"}
    return json.dumps(visit | {"event": "Product Viewed", "properties": {"category": "tea"}})
