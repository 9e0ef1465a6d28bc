"""Traces of a person: every file that may name them, how it is searched, and how it is written anew without them.

Everything under the lake, the landing zone and the outbox is searched, file by file, and the ledger. A file is rewritten only
where it holds something of theirs, under a temporary name that is renamed: a process killed here leaves the old file or the new.

What belongs here: files. What does not: what is theirs (``atc_pipeline.identity.erasure``), when to remove it (``assets.jobs.erasure``).
"""

import gzip
import io
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from atc_pipeline.identity import erasure
from atc_pipeline.identity.erasure import Person
from resources.delivery.ledger import Ledger
from resources.storage import seal, spill
from resources.storage.files import beside, is_being_written
from resources.storage.lake import Lake
from resources.storage.landing import Frames, LandingZone, UnreadableFileError
from resources.storage.parquet import ROWS, RefusedFileError, read_rows

BATCH = 32 * 2**20
"""Bytes of lines searched at once."""

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

LANDED = "landing"
UNFINISHED = "unfinished files"
_LEFT_BEHIND = {
    "lake": re.compile(r"\..+\.\d+|\..+\.erasing"),
    "landing": re.compile(r"\..+\.erasing(\.\d+)?|\.replaced\.json\.\d+"),
    "outbox": re.compile(r"\..+\.(part|erasing|\d+)"),
    "home": re.compile(r"\..+\.\d+(\.wal)?"),
}
"""What our own processes leave behind when they are killed; in the landing zone others may be writing, too."""


@dataclass(frozen=True)
class Found:
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
    def path(self) -> Path:
        """Return where it is."""

    def find(self, person: Person) -> Found:
        """Search the file."""

    def remove(self, person: Person) -> None:
        """Write the file anew without what is theirs, in one step."""


@dataclass(frozen=True)
class Frame:
    """A Parquet file of the lake or the landing zone."""

    place: str
    path: Path
    name: str
    put: Callable[[Path, Path], None]

    def find(self, person: Person) -> Found:
        """Search all text, in every column."""
        return _found(self.place, self.name, self._kinds(person))

    def remove(self, person: Person) -> None:
        """Write the other rows, in their order, and what the file says of itself (``Lake.definitions``)."""
        found = self._kinds(person)
        gone = found.filter(pl.col("kind") == "theirs")["row"]
        unfinished = _unfinished(self.path)
        others = self._rows().with_row_index("row:").filter(~pl.col("row:").is_in(gone.implode())).drop("row:")
        told = {key: text for key, text in pl.read_parquet_metadata(self.path).items() if key != "ARROW:schema"}
        others.sink_parquet(unfinished, compression="zstd", metadata=told)
        seal.lay(unfinished)
        self.put(self.path, unfinished)

    def _kinds(self, person: Person) -> pl.DataFrame:
        return erasure.find_rows(self._rows(), person)

    def _rows(self) -> pl.LazyFrame:
        return pl.scan_parquet(self.path, hive_partitioning=False, glob=False)


@dataclass(frozen=True)
class Rows(Frame):
    """A Parquet file of the landing zone, whose ids are what ingest reads of them: a decimal, a UUID, a whole float."""

    def remove(self, person: Person) -> None:
        """Write the other rows, in their order and with their types, which Polars does not know all."""
        gone = self._kinds(person).filter(pl.col("kind") == "theirs")["row"]
        unfinished, first = _unfinished(self.path), 0
        with (
            self.path.open("rb") as source,
            pq.ParquetFile(source, arrow_extensions_enabled=True) as file,
            pq.ParquetWriter(unfinished, file.schema_arrow, compression="zstd") as anew,
        ):
            for batch in file.iter_batches(ROWS):
                stays = ~pl.int_range(first, first + batch.num_rows, eager=True, dtype=pl.UInt32).is_in(gone.implode())
                first += batch.num_rows
                anew.write_batch(batch.filter(pa.array(stays.to_list(), pa.bool_())))
        self.put(self.path, unfinished)

    def _kinds(self, person: Person) -> pl.DataFrame:
        first, theirs = 0, [erasure.find_lines([], person)]
        for lines in read_rows(self.path, sys.maxsize):  # before Polars reads it, which may die of what this refuses
            kinds = erasure.find_lines(lines, person).filter(pl.col("kind") == "theirs")
            theirs.append(kinds.with_columns(pl.col("row") + first))
            first += len(lines)
        return pl.concat([*theirs, super()._kinds(person).join(pl.concat(theirs), on="row", how="anti")])


@dataclass(frozen=True)
class Lines:
    """A file of JSON lines, plain or compressed. A line of theirs becomes an empty one: the others keep their numbers."""

    place: str
    path: Path
    name: str
    put: Callable[[Path, Path], None]
    blank: bytes = b"\n"

    def find(self, person: Person) -> Found:
        """Search every line."""
        total = Found(self.place, self.name)
        with _reading(self.path) as file:
            for lines in _batches(file):
                total = _sum(total, _found(self.place, self.name, erasure.find_lines(lines, person)))
        return total

    def remove(self, person: Person) -> None:
        """Write the lines anew."""
        unfinished = _unfinished(self.path)
        with _reading(self.path) as file, _writing(unfinished, self.path.name) as anew:
            for lines in _batches(file):
                kinds = erasure.find_lines(lines, person)
                for row in kinds.filter(pl.col("kind") == "theirs")["row"]:
                    lines[row] = self.blank
                anew.write(b"".join(lines))
        self.put(self.path, unfinished)


@dataclass(frozen=True)
class Abandoned:
    """An unfinished file that nobody will ever read: it goes, whatever it holds, unless a living process is writing it."""

    path: Path
    name: str

    def find(self, person: Person) -> Found:  # noqa: ARG002  # it need not be readable
        """It may hold anything."""
        if is_being_written(self.path):
            return Found(UNFINISHED, self.name, elsewhere=Counter({f"{self.name}, which is being written": 1}))
        return Found(UNFINISHED, self.name, theirs=1) if self.path.exists() else Found(UNFINISHED, self.name)

    def remove(self, person: Person) -> None:  # noqa: ARG002
        """Remove the file."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Foreign:
    """A file that is none of ours: it is searched, and must be seen to by whoever put it there."""

    place: str
    path: Path
    name: str

    def find(self, person: Person) -> Found:
        """Search its bytes, unpacked where it is compressed as ours are."""
        place, rows = f"{self.place}/{self.name}", 0
        with suppress(FileNotFoundError), _reading(self.path) as file:
            for lines in _batches(file):
                rows += erasure.count_named(lines, person)
        return Found(self.place, self.name, elsewhere=Counter({place: rows} if rows else {}))

    def remove(self, person: Person) -> None:
        """Leave it alone."""


@dataclass(frozen=True)
class Deliveries:
    """The delivery ledger. Its rows go altogether: a key is a hash of the customer, and no message of theirs is ever due again."""

    ledger: Ledger

    @property
    def path(self) -> Path:
        """Return where the ledger is."""
        return self.ledger.path

    def find(self, person: Person) -> Found:
        """Search all text of its one table."""
        rows = self.ledger.search(sorted({*person.names, *person.spellings.plain_ids}))
        return (
            Found("ledger", "ledger.duckdb")
            if rows.is_empty()
            else _found("ledger", "ledger.duckdb", erasure.find_rows(rows.lazy(), person))
        )

    def remove(self, person: Person) -> None:
        """Write the ledger anew."""
        self.ledger.forget(sorted(person.customers))


def keepers(lake: Lake, landing: LandingZone, outbox: Path, ledger: Ledger, but: Collection[Path] = ()) -> Iterator[Keeper]:
    """Return everything that may have traces: the latest ``identity_map`` last, since it alone says which ids are whose.

    ``but``: folders in the home that others search (``records``).
    """
    yield Deliveries(ledger)
    read_by_ingest = {path for day in landing.days() for path in landing.files(day)}
    for path, name in _files(Path(landing.root)):
        is_read = path in read_by_ingest
        yield _keeper(LANDED, LANDED, path, name, landing.replace if is_read else _put, is_ours=is_read)
    for path, name in _files(outbox):
        yield _keeper("outbox", "outbox", path, name, _put, is_ours=path.suffix == ".ndjson")
    elsewhere = {path.resolve() for path in (Path(lake.root), Path(landing.root), outbox, ledger.path, *but)}
    for path, name in _files(Path(ledger.home)):
        if elsewhere.isdisjoint([path.resolve(), *path.resolve().parents]):
            yield _keeper("home", "home", path, name, _put, is_ours=False)
    last = _latest_map(lake)
    for path, name in sorted(_files(Path(lake.root)), key=lambda file: (file[0] == last, file[0])):
        yield _keeper("lake", name.partition("/")[0], path, name, _put, is_ours=path.suffix == ".parquet")


def latest_map(lake: Lake) -> pl.LazyFrame | None:
    """Read ``identity_map`` of the latest day; None where the lake has none."""
    path = _latest_map(lake)
    return None if path is None else pl.scan_parquet(path, hive_partitioning=False, glob=False)


def _latest_map(lake: Lake) -> Path | None:
    days = lake.days("identity_map")
    return lake.path("identity_map", days[-1]) if days else None


def _files(root: Path) -> list[tuple[Path, str]]:
    return [(path, path.relative_to(root).as_posix()) for path in sorted(root.rglob("*")) if path.is_file()]


def _keeper(zone: str, place: str, path: Path, name: str, put: Callable[[Path, Path], None], *, is_ours: bool) -> Keeper:
    if _LEFT_BEHIND[zone].fullmatch(path.name) or (zone == "lake" and name.startswith(spill.PREFIX)):
        return Abandoned(path, f"{zone}/{name}")
    if not is_ours or path.name.startswith("."):
        return Foreign(place, path, name)
    if path.suffix.lower() == ".parquet":
        return Rows(place, path, name, put) if zone == LANDED else Frame(place, path, name, put)
    return Lines(place, path, name, put, b"\n" if zone == LANDED else b"")


def _found(place: str, name: str, found: pl.DataFrame) -> Found:
    rows = {kind: found.filter(pl.col("kind") == kind)["row"].n_unique() for kind in ("theirs", "shared")}
    elsewhere = found.filter(pl.col("kind") == "elsewhere").with_columns(place=pl.lit(f"{place}.") + pl.col("column"))
    columns = elsewhere.group_by("place").agg(pl.col("row").n_unique())
    written = elsewhere.drop_nulls("written").group_by("place", "written").len("rows").sort("rows", "written", descending=[True, False])
    return Found(
        place,
        name,
        **rows,
        elsewhere=Counter(dict(columns.iter_rows())),
        written=_most(Counter({row[:2]: row[2] for row in written.iter_rows()})),
    )


def _sum(one: Found, other: Found) -> Found:
    both = {kind: getattr(one, kind) + getattr(other, kind) for kind in ("theirs", "shared", "elsewhere")}
    return Found(one.place, one.file, **both, written=_most(one.written + other.written))


def _most(written: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Of as many ways to write it as there may be, keep some of each place."""
    kept, places = Counter[tuple[str, str]](), Counter[str]()
    for (place, way), rows in written.most_common():
        places[place] += 1
        if places[place] <= MOST_WAYS:
            kept[place, way] = rows
    return kept


def _unfinished(path: Path) -> Path:
    return beside(path, ".erasing")


def _put(path: Path, unfinished: Path) -> None:
    unfinished.replace(path)


class _Unpacked(io.RawIOBase):
    """A Zstandard file, read as ingest reads it: one that is not whole is an error."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.frames, self.rest = file, Frames(file), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401  # collections.abc.Buffer, from Python 3.12 on
        self.rest = self.rest or memoryview(self.frames.read(0))
        size = min(len(buffer), len(self.rest))
        buffer[:size], self.rest = self.rest[:size], self.rest[size:]
        return size

    def close(self) -> None:
        self.file.close()
        super().close()


def _reading(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if path.suffix.lower() == ".zst":
        return cast(BinaryIO, io.BufferedReader(_Unpacked(path.open("rb")), io.DEFAULT_BUFFER_SIZE))
    return path.open("rb")


def _writing(path: Path, like: str) -> BinaryIO:
    if like.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(path, "wb", mtime=0))
    if like.lower().endswith(".zst"):
        return cast(BinaryIO, zstandard.ZstdCompressor().stream_writer(path.open("wb")))
    return path.open("wb")


def _batches(file: BinaryIO) -> Iterator[list[bytes]]:
    """Yield lines with their ends, some ``BATCH`` bytes at a time."""
    while lines := file.readlines(BATCH):
        yield lines
