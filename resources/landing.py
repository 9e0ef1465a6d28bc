"""The landing zone: files of Segment Spec events in one folder per arrival day.

What belongs here: finding, opening and splitting files. What does not: what a line means (``atc_pipeline.events``).
"""

import codecs
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import BinaryIO, Protocol

import dagster as dg
import msgspec
import numpy as np
import polars as pl
import zstandard

from atc_pipeline.lines import Lines

BLOCK = 16 * 2**20
"""Bytes of lines that are judged at a time."""
CHUNK = 2**20
"""Bytes that are read at a time: few enough to be copied from the processor's cache."""

REPLACED = ".replaced.json"
"""Beside a day's files, once one was rewritten: what each of them looked like before, by what it looks like now."""


class UnreadableFileError(Exception):
    """A file of the landing zone cannot be opened or decompressed."""


class LandingZone(dg.ConfigurableResource):
    """Files under ``<root>/<arrival date>/``: ``.ndjson`` or ``.jsonl``, plain, ``.gz`` or ``.zst``; or ``.parquet``."""

    root: str

    def files(self, day: date) -> list[Path]:
        """Return the day's event files, in order of name; other files, and hidden ones, are left alone."""
        folder = Path(self.root) / day.isoformat()
        found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".") and _reader(path))
        return sorted(found, key=lambda path: path.as_posix())

    def days(self) -> list[date]:
        """Return the arrival days that have a folder, in order."""
        return sorted(day for path in Path(self.root).glob("*") if (day := _day(path.name)) is not None)

    def signature(self, day: date) -> str:
        """Return a text that changes when a file of the day is added, removed or written to - unless by ``replace``."""
        known = self._replaced(day)
        facts = [known.get(now, now) for path in self.files(day) for now in [self._facts(path, path)]]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]

    def replace(self, path: Path, rewritten: Path) -> None:
        """Put a file in the place of one of a day, in one step, and not as news: the day's signature stays what it was."""
        day = date.fromisoformat(path.relative_to(self.root).parts[0])
        stat = path.stat()
        os.utime(rewritten, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        rewritten.chmod(stat.st_mode)
        known, before = self._replaced(day), self._facts(path, path)
        known[self._facts(path, rewritten)] = known.pop(before, before)
        notes = Path(self.root) / day.isoformat() / REPLACED
        unfinished = notes.with_name(f"{REPLACED}.{os.getpid()}")
        unfinished.write_text(json.dumps(known, indent=1))
        unfinished.replace(notes)  # before the file: a note of a file that is not there yet harms nobody
        rewritten.replace(path)

    def _facts(self, path: Path, file: Path) -> str:
        stat = file.stat()
        return f"{path.relative_to(self.root).as_posix()}:{stat.st_size}:{stat.st_mtime_ns}"

    def _replaced(self, day: date) -> dict[str, str]:
        notes = Path(self.root) / day.isoformat() / REPLACED
        return dict(json.loads(notes.read_text())) if notes.exists() else {}

    def read(self, day: date) -> Iterator[list[Lines]]:
        """Read the day's lines in order of file and number, in blocks of about ``BLOCK`` bytes: a day may be larger than memory."""
        block: list[Lines] = []
        for path in self.files(day):
            for lines in self._lines(path):
                if block and sum(len(each.data) for each in (*block, lines)) > BLOCK:
                    yield block
                    block = []
                block.append(lines)
        if block:
            yield block

    def _lines(self, path: Path) -> Iterator[Lines]:
        reader = _reader(path)
        assert reader is not None  # files() returns no others
        name, number = path.relative_to(self.root).as_posix(), 1
        try:
            for data in reader(path):
                yield Lines(name, number, data)
                number += int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n")))  # three times as fast as bytes.count
        except (OSError, EOFError, zlib.error, zstandard.ZstdError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as problem:
            raise UnreadableFileError(
                f"{path}: cannot be read ({problem}). Is its upload complete? Run the day again when it is."
            ) from problem


def _day(name: str) -> date | None:
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None


class Readable(Protocol):
    """Whatever bytes can be read from."""

    def read(self, size: int, /) -> bytes | None:
        """Read at most so many bytes."""


def _whole_lines(file: Readable) -> Iterator[bytes | memoryview]:
    """Yield the lines of a file, as many at a time as are in about ``BLOCK`` bytes, each ended by a newline."""
    text, is_first = bytearray(), True
    while chunk := file.read(min(CHUNK, BLOCK)):
        text += chunk
        if is_first and len(text) >= len(codecs.BOM_UTF8):
            text, is_first = text.removeprefix(codecs.BOM_UTF8), False
        if len(text) >= BLOCK and (end := text.rfind(b"\n", -len(chunk)) + 1):
            yield memoryview(text)[:end]
            text = text[end:]
    if text:
        yield memoryview(text if text.endswith(b"\n") else text + b"\n")


def _plain(path: Path) -> Iterator[bytes | memoryview]:
    with path.open("rb", buffering=0) as file:
        yield from _whole_lines(file)


def _gzipped(path: Path) -> Iterator[bytes | memoryview]:
    with gzip.open(path) as file:
        yield from _whole_lines(file)


def _zstandard(path: Path) -> Iterator[bytes | memoryview]:
    with path.open("rb") as file:
        yield from _whole_lines(Frames(file))


class Frames:
    """The frames of a Zstandard file, one after the other. The library's own reader takes a truncated file for a whole one."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.is_begun = False

    def read(self, _: int, /) -> bytes:
        """Read what the next part of the file unpacks to."""
        text = b""
        while not text:
            packed = self.frame.unused_data or self.file.read(zstandard.DECOMPRESSION_RECOMMENDED_INPUT_SIZE)
            if not packed:
                if self.is_begun and not self.frame.eof:
                    raise EOFError("the last frame is not whole")
                break
            if self.frame.eof:
                self.frame = zstandard.ZstdDecompressor().decompressobj()
            self.is_begun = True
            text = self.frame.decompress(packed)
        return text


ROWS = 2**14
"""Rows of a Parquet file that are read at a time."""


def _parquet(path: Path) -> Iterator[bytes | memoryview]:
    """Write each row as the JSON line it stands for."""
    table = pl.scan_parquet(path, hive_partitioning=False)
    for first in range(0, table.select(pl.len()).collect().item(), ROWS):
        yield b"".join(f"{line}\n".encode() for line in _rows(table.slice(first, ROWS).collect()))


def _rows(frame: pl.DataFrame) -> Iterator[str]:
    """Write rows as JSON objects; times as ISO 8601, without a zone = UTC; a document that is JSON text as that document.

    Columns ``context_*`` are one object, as they were before a warehouse made columns of it, unless there is a ``context``.
    """
    frame = frame.with_columns(pl.col(pl.Datetime).dt.to_string("iso:strict"), pl.col(pl.Binary).map_batches(_as_text, pl.String))
    flat = [name for name in frame.columns if name.startswith("context_")]
    if flat and "context" not in frame.columns:
        context = pl.struct(pl.col(name).alias(name.removeprefix("context_")) for name in flat)
        frame = frame.with_columns(context=context).drop(flat)
    documents = [name for name in ("properties", "traits", "context") if frame.schema.get(name) == pl.String]
    for row in frame.select(*documents, line=pl.struct(pl.all()).struct.json_encode()).iter_rows():
        # Of two fields with one name the last counts: the document, after the text it is in.
        embedded = [f',"{name}":{text}' for name, text in zip(documents, row[:-1], strict=True) if text is not None and _is_document(text)]
        yield "".join([row[-1][:-1], *(each.replace("\n", " ") for each in embedded), "}"])


def _as_text(column: pl.Series) -> pl.Series:
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError:
        return column.bin.encode("base64")


def _is_document(text: str) -> bool:
    try:
        return type(msgspec.json.decode(text, type=dict[str, msgspec.Raw])) is dict
    except (msgspec.DecodeError, RecursionError):
        return False


_READERS = {
    ".ndjson": _plain,
    ".jsonl": _plain,
    ".ndjson.gz": _gzipped,
    ".jsonl.gz": _gzipped,
    ".ndjson.zst": _zstandard,
    ".jsonl.zst": _zstandard,
    ".parquet": _parquet,
}


def _reader(path: Path) -> Callable[[Path], Iterator[bytes | memoryview]] | None:
    return next((reader for suffix, reader in _READERS.items() if path.name.endswith(suffix)), None)
