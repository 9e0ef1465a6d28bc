"""Kept files: every file there is, to be searched and written anew without some of its rows or lines.

What belongs here: kinds of files, and how each is read and written anew. What does not: which files there are of a place (``lake``,
``landing``, ``outbox``, ``home``), and what is looked for in them (``resources.erasure.traces``).
"""

import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from resources.storage.files import is_being_written
from resources.storage.mirror import removed
from resources.storage.packed import reading, writing
from resources.storage.parquet import ROWS, read_rows

BATCH = 32 * 2**20
"""Bytes of lines that are read at once."""

Rewriting = Callable[[Path], AbstractContextManager[Path]]
"""Lends a name to write under what is put in the place of a file when the block ends."""


@dataclass(frozen=True)
class KeptFile:
    """A file that may hold anything."""

    name: str
    """What it is called in its place."""
    path: Path

    def batches(self) -> Iterator[list[bytes]]:
        """Yield lines with their ends, unpacked, some ``BATCH`` bytes at a time."""
        with reading(self.path) as file:
            while lines := file.readlines(BATCH):
                yield lines


@dataclass(frozen=True)
class KeptPage(KeptFile):
    """A picture or a report of ours: made of sums, it names nobody."""


@dataclass(frozen=True)
class LeftBehind(KeptFile):
    """An unfinished file that nobody will ever read."""

    @staticmethod
    def is_called(path: Path, pattern: str) -> bool:
        """Return whether a file has the name of one."""
        return re.fullmatch(pattern, path.name) is not None

    def is_being_written(self) -> bool:
        """Return whether another process that lives is writing it."""
        return is_being_written(self.path)

    def is_there(self) -> bool:
        """Return whether it is still there."""
        return self.path.exists()

    def remove(self) -> None:
        """Remove it."""
        removed(self.path)
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class KeptLines(KeptFile):
    """A file of lines of ours, plain or packed."""

    rewriting: Rewriting

    def rewrite(self, change: Callable[[list[bytes]], None]) -> None:
        """Write it anew, each batch of lines as ``change`` leaves it."""
        with self.rewriting(self.path) as unfinished, writing(unfinished, self.path.name) as anew:
            for lines in self.batches():
                change(lines)
                anew.write(b"".join(lines))


@dataclass(frozen=True)
class KeptTable(KeptFile):
    """A Parquet file of the lake."""

    rewriting: Rewriting

    def rows(self) -> pl.LazyFrame:
        """Read its rows."""
        return pl.scan_parquet(self.path, hive_partitioning=False, glob=False)

    def drop_rows(self, gone: pl.Series) -> None:
        """Write the other rows, in their order, and what the file says of itself (``Lake.definitions``)."""
        stay = self.rows().with_row_index("row:").filter(~pl.col("row:").is_in(gone.implode())).drop("row:")
        metadata = {key: text for key, text in pl.read_parquet_metadata(self.path).items() if key != "ARROW:schema"}
        with self.rewriting(self.path) as unfinished:
            stay.sink_parquet(unfinished, compression="zstd", metadata=metadata)


@dataclass(frozen=True)
class LandedTable(KeptTable):
    """A Parquet file of the landing zone."""

    def lines(self) -> Iterator[list[bytes]]:
        """Read its rows as ingest does, as lines of JSON: a decimal, a UUID, a whole float are ids there."""
        return read_rows(self.path, sys.maxsize)

    def drop_rows(self, gone: pl.Series) -> None:
        """Write the other rows, in their order and with their types, which Polars does not know all."""
        first = 0
        with (
            self.rewriting(self.path) as unfinished,
            self.path.open("rb") as source,
            pq.ParquetFile(source, arrow_extensions_enabled=True) as file,
            pq.ParquetWriter(unfinished, file.schema_arrow, compression="zstd") as anew,
        ):
            for batch in file.iter_batches(ROWS):
                stays = ~pl.int_range(first, first + batch.num_rows, eager=True, dtype=pl.UInt32).is_in(gone.implode())
                first += batch.num_rows
                anew.write_batch(batch.filter(pa.array(stays.to_list(), pa.bool_())))


def all_files(root: Path) -> list[tuple[Path, str]]:
    """Return all files below a folder, with their names in it, in order."""
    return [(path, path.relative_to(root).as_posix()) for path in sorted(root.rglob("*")) if path.is_file()]


def kept_elsewhere(home: str, but: Collection[str | Path]) -> Iterator[KeptFile]:
    """Yield what else is in the home; ``but``: files and folders that are searched as what they are."""
    elsewhere = {Path(path).resolve() for path in but}
    for path, name in all_files(Path(home)):
        if elsewhere.isdisjoint([path.resolve(), *path.resolve().parents]):
            is_left = LeftBehind.is_called(path, r"\..+\.\d+(\.wal)?")
            yield LeftBehind(name, path) if is_left else KeptFile(name, path)
