"""Traces of a person: every file that may name them, how it is searched, and what is written anew without them.

Everything under the lake, the landing zone and the outbox is searched, file by file, and the ledger. A file is rewritten only
where it holds something of theirs, in one step: a process killed here leaves the old file or the new.

What belongs here: searching and cutting. What does not: what is theirs (``atc_pipeline.identity.erasure``), reading and writing
files (``resources.storage.kept``), when to remove (``assets.jobs.erasure``).
"""

import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

import polars as pl
import pyarrow as pa
import zstandard

from atc_pipeline.identity import erasure
from atc_pipeline.identity.erasure import Person
from resources.delivery.ledger import Ledger
from resources.storage import kept
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone, UnreadableFileError
from resources.storage.outbox import Outbox
from resources.storage.parquet import RefusedFileError

UNREADABLE = (
    OSError,
    EOFError,
    MemoryError,
    zlib.error,
    zstandard.ZstdError,
    pa.ArrowException,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    RefusedFileError,
    UnreadableFileError,
)
"""What reading a damaged file raises."""

MOST_WAYS = 20
"""Ways to write an id that are told of a place."""

LANDED, MAP = "landing", "identity_map"
UNFINISHED = "unfinished files"


@dataclass(frozen=True)
class Trace:
    """What a file has of a person: rows of theirs, others' rows from a device they shared, and the same text elsewhere."""

    place: str
    """The table, or ``landing``, ``outbox``, ``ledger``, ``UNFINISHED``."""
    file: str
    theirs: int = 0
    shared: int = 0
    elsewhere: Counter[str] = field(default_factory=Counter)
    """Rows by ``<place>.<column>``, or by ``<place>/<file>`` of a file that is none of ours."""
    written: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The same, and how it is written there: of many ways the most frequent."""

    def __bool__(self) -> bool:
        return bool(self.theirs or self.shared or self.elsewhere)


class Keeper(Protocol):
    """A file that may have traces."""

    @property
    def where(self) -> str:
        """Return where it is, for messages."""

    def find(self, person: Person) -> Trace:
        """Search the file."""

    def remove(self, person: Person) -> None:
        """Write the file anew without what is theirs, in one step."""


@dataclass(frozen=True)
class Foreign:
    """A file that is none of ours: it is searched, and must be seen to by whoever put it there."""

    place: str
    file: kept.KeptFile

    @property
    def where(self) -> str:
        """Return where it is, for messages."""
        return str(self.file.path)

    @property
    def name(self) -> str:
        """Return what it is called in its place."""
        return self.file.name

    def find(self, person: Person) -> Trace:
        """Search its bytes, unpacked where it is compressed as ours are."""
        rows = 0
        with suppress(FileNotFoundError):
            for lines in self.file.batches():
                rows += erasure.count_named(lines, person)
        return Trace(self.place, self.name, elsewhere=Counter({f"{self.place}/{self.name}": rows} if rows else {}))

    def remove(self, person: Person) -> None:
        """Leave it alone."""


@dataclass(frozen=True)
class Page(Foreign):
    """A picture or a report of ours, which is all figures: a bare number in it is one of them, and no id."""

    file: kept.KeptPage

    def find(self, person: Person) -> Trace:
        """Search it for ids that are no numbers."""
        users, visitors = (frozenset(id for id in ids if not id.isdecimal()) for ids in (person.users, person.visitors))
        named = replace(person, users=users, visitors=visitors)
        return super().find(named) if named.ids else Trace(self.place, self.name)


@dataclass(frozen=True)
class Frame(Foreign):
    """A Parquet file of the lake."""

    file: kept.KeptTable

    def find(self, person: Person) -> Trace:
        """Search all text, in every column."""
        return _trace(self.place, self.name, self._kinds(person))

    def remove(self, person: Person) -> None:
        """Write the other rows."""
        self.file.drop_rows(self._kinds(person).filter(pl.col("kind") == "theirs")["row"])

    def _kinds(self, person: Person) -> pl.DataFrame:
        return erasure.find_rows(self.file.rows(), person)


@dataclass(frozen=True)
class Rows(Frame):
    """A Parquet file of the landing zone, whose ids are what ingest reads of them."""

    file: kept.LandedTable

    def _kinds(self, person: Person) -> pl.DataFrame:
        first, theirs = 0, [erasure.find_lines([], person)]
        for lines in self.file.lines():  # before Polars reads it, which may die of what this refuses
            kinds = erasure.find_lines(lines, person).filter(pl.col("kind") == "theirs")
            theirs.append(kinds.with_columns(pl.col("row") + first))
            first += len(lines)
        return pl.concat([*theirs, super()._kinds(person).join(pl.concat(theirs), on="row", how="anti")])


@dataclass(frozen=True)
class Lines(Foreign):
    """A file of JSON lines. In the landing zone a line of theirs becomes an empty one: the others keep their numbers."""

    file: kept.KeptLines

    def find(self, person: Person) -> Trace:
        """Search every line."""
        total = Trace(self.place, self.name)
        for lines in self.file.batches():
            total = _sum(total, _trace(self.place, self.name, erasure.find_lines(lines, person)))
        return total

    def remove(self, person: Person) -> None:
        """Write the lines anew."""
        blank = b"\n" if self.place == LANDED else b""

        def blank_theirs(lines: list[bytes]) -> None:
            kinds = erasure.find_lines(lines, person)
            for row in kinds.filter(pl.col("kind") == "theirs")["row"]:
                lines[row] = blank

        self.file.rewrite(blank_theirs)


@dataclass(frozen=True)
class Abandoned:
    """An unfinished file that nobody will ever read: it goes, whatever it holds, unless a living process is writing it."""

    zone: str
    file: kept.LeftBehind

    @property
    def where(self) -> str:
        """Return where it is, for messages."""
        return str(self.file.path)

    def find(self, person: Person) -> Trace:  # noqa: ARG002  # it need not be readable
        """It may hold anything."""
        name = f"{self.zone}/{self.file.name}"
        if self.file.is_being_written():
            return Trace(UNFINISHED, name, elsewhere=Counter({f"{name}, which is being written": 1}))
        return Trace(UNFINISHED, name, theirs=1 if self.file.is_there() else 0)

    def remove(self, person: Person) -> None:  # noqa: ARG002
        """Remove the file."""
        self.file.remove()


@dataclass(frozen=True)
class Deliveries:
    """The delivery ledger. Its rows go altogether: a key is a hash of the customer, and no message of theirs is ever due again."""

    ledger: Ledger

    @property
    def where(self) -> str:
        """Return where it is, for messages."""
        return self.ledger.place

    def find(self, person: Person) -> Trace:
        """Search all text of its one table."""
        rows = self.ledger.search(sorted({*person.names, *person.spellings.plain_ids}))
        return (
            Trace("ledger", self.ledger.label)
            if rows.is_empty()
            else _trace("ledger", self.ledger.label, erasure.find_rows(rows.lazy(), person))
        )

    def remove(self, person: Person) -> None:
        """Write the ledger anew."""
        self.ledger.forget(sorted(person.customers))


def keepers(lake: Lake, landing: LandingZone, outbox: Outbox, ledger: Ledger, but: Collection[str] = ()) -> Iterator[Keeper]:
    """Return everything that may have traces: the latest ``identity_map`` last, since it alone says which ids are whose.

    ``but``: folders in the home that others search (``records``).
    """
    yield Deliveries(ledger)
    yield from (_keeper(LANDED, file) for file in landing.kept())
    yield from (_keeper("outbox", file) for file in outbox.kept())
    elsewhere = kept.kept_elsewhere(ledger.home, [lake.root, landing.root, outbox.root, ledger.place, *but])
    yield from (_keeper("home", file) for file in elsewhere)
    days = lake.days(MAP)
    last = lake.path(MAP, days[-1]) if days else None
    yield from (_keeper("lake", file) for file in sorted(lake.kept(), key=lambda file: file.path == last))


def latest_map(lake: Lake) -> pl.LazyFrame | None:
    """Read ``identity_map`` of the latest day; None where the lake has none."""
    days = lake.days(MAP)
    return lake.lazy(MAP, days[-1]) if days else None


def _keeper(zone: str, file: kept.KeptFile) -> Keeper:
    place = file.name.partition("/")[0] if zone == "lake" else zone
    match file:
        case kept.LeftBehind():
            return Abandoned(zone, file)
        case kept.LandedTable():
            return Rows(place, file)
        case kept.KeptTable():
            return Frame(place, file)
        case kept.KeptLines():
            return Lines(place, file)
        case kept.KeptPage():
            return Page(place, file)
        case _:
            return Foreign(place, file)


def _trace(place: str, name: str, rows_found: pl.DataFrame) -> Trace:
    rows = {kind: rows_found.filter(pl.col("kind") == kind)["row"].n_unique() for kind in ("theirs", "shared")}
    elsewhere = rows_found.filter(pl.col("kind") == "elsewhere").with_columns(place=pl.lit(f"{place}.") + pl.col("column"))
    columns = elsewhere.group_by("place").agg(pl.col("row").n_unique())
    written = elsewhere.drop_nulls("written").group_by("place", "written").len("rows").sort("rows", "written", descending=[True, False])
    return Trace(
        place,
        name,
        **rows,
        elsewhere=Counter(dict(columns.iter_rows())),
        written=_most(Counter({row[:2]: row[2] for row in written.iter_rows()})),
    )


def _sum(first: Trace, second: Trace) -> Trace:
    counts = {kind: getattr(first, kind) + getattr(second, kind) for kind in ("theirs", "shared", "elsewhere")}
    return Trace(first.place, first.file, **counts, written=_most(first.written + second.written))


def _most(written: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Of as many ways to write it as there may be, keep some of each place."""
    kept, places = Counter[tuple[str, str]](), Counter[str]()
    for (place, way), rows in written.most_common():
        places[place] += 1
        if places[place] <= MOST_WAYS:
            kept[place, way] = rows
    return kept
