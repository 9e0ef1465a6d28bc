"""The landing zone: files of Segment Spec events in one folder per arrival day.

What belongs here: finding, opening and splitting files, and naming what is passed over. What does not: what a line means
(``atc_pipeline.events.ingest``), or a column of a Parquet file (``parquet``).
"""

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa
import zstandard

from atc_pipeline.events.lines import LARGEST_LINE, Lines
from atc_pipeline.rules.ours import LIBRARY
from resources.storage.files import replacing
from resources.storage.kept import KeptFile, KeptLines, LandedTable, LeftBehind, all_files
from resources.storage.packed import CHUNK, Frames
from resources.storage.parquet import RefusedFileError, read_rows

BLOCK = 16 * 2**20
"""Bytes of lines that are judged at a time."""
LINES = 2**17
"""Lines that are judged at a time, at the most: a row takes memory however short its line is."""
HEAD = LARGEST_LINE + 4
"""Bytes that are kept of a line: with or without a byte order mark, it is too large still."""

UNPACKED = 4 * 2**30
RATIO = 1000
"""A file may unpack to so many bytes, and so many times its size. Events pack to a tenth or a thirtieth; gzip reaches 1,032."""
LEAST = 256
"""Bytes that a line counts for at least, for that: what becomes of it takes as much, however short it is."""

_OWN = re.compile(rf"{LIBRARY}-\d{{4}}-\d\d-\d\d\.ndjson")
"""Files that we write ourselves, about what we sent."""

REPLACED = ".replaced.json"
"""Beside a day's files, once one was rewritten: what each of them looked like before, by what it looks like now."""


class UnreadableFileError(Exception):
    """A file of the landing zone cannot be opened or decompressed."""


@dataclass(frozen=True)
class PassedOver:
    """A file or folder of the landing zone that is not read, or not to its end; and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Landed:
    """A file of an arrival day: when it was last written to, and a text that changes when it is."""

    day: date
    path: Path
    name: str
    landed_at: datetime
    version: str


class LandingZone(dg.ConfigurableResource):
    """Files under ``<root>/<arrival date>/`` or ``date=<arrival date>/``, and in folders below: JSON lines, plain, ``.gz`` or
    ``.zst``, or Parquet, told apart by how the name ends, in any case (SPEC 1).

    What begins with a dot or an underscore is nobody's: unfinished uploads, marks of Spark and of others. Links are followed
    to files in the landing zone only.
    """

    root: str

    def files(self, day: date) -> list[Path]:
        """Return the day's event files, in order of name."""
        return sorted((path for path, why in self._entries(day) if why is None), key=lambda path: path.as_posix())

    def passed_over(self, day: date) -> list[PassedOver]:
        """Return what else is in the day's folders, in order of name."""
        return sorted((PassedOver(self._name(path), why) for path, why in self._entries(day) if why), key=lambda passed: passed.name)

    def strangers(self) -> list[PassedOver]:
        """Return what is in the landing zone itself and no folder of an arrival day, in order of name."""
        strangers = []
        for entry in _listed(Path(self.root)):
            path = Path(entry.path)
            if entry.is_symlink():
                strangers.append(PassedOver(self._name(path), _LINK))
            elif _day(entry.name) is None or not entry.is_dir():
                strangers.append(PassedOver(self._name(path), _NO_DAY))
        return sorted(strangers, key=lambda passed: passed.name)

    def is_there(self) -> bool:
        """Return whether there is a landing zone at all."""
        return Path(self.root).is_dir()

    def days(self) -> list[date]:
        """Return the arrival days that have a folder, in order."""
        folders = (entry for entry in _listed(Path(self.root)) if entry.is_dir(follow_symlinks=False))
        return sorted({day for entry in folders if (day := _day(entry.name)) is not None})

    def news(self, day: date) -> list[Path]:
        """Return the day's event files but for those of ``write_own``: what we say ourselves is read with the rest, and starts nothing."""
        return [path for path in self.files(day) if not _OWN.fullmatch(path.name)]

    def write_own(self, day: date, about: date, lines: Sequence[str]) -> None:
        """Write events of ours about a day into the folder of another, whole or not at all; again, it is the same file.

        What was written into the folder of an earlier day stays there, and is left out: so long after, it would be no duplicate.
        """
        path = Path(self.root) / day.isoformat() / f"{LIBRARY}-{about}.ndjson"
        elsewhere = (earlier for earlier in Path(self.root).glob(f"*/{path.name}") if earlier != path)
        before = {line for earlier in elsewhere for line in earlier.read_text(encoding="utf-8").split("\n")}
        lines = [line for line in lines if line not in before] if before else lines
        if not lines:
            return
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            for first in range(0, len(lines), LINES):
                file.write("".join(f"{line}\n" for line in lines[first : first + LINES]).encode())

    def landed(self, first: date) -> Iterator[Landed]:
        """Yield the files of that arrival day and of later ones."""
        for day in self.days():
            if day < first:
                continue
            for path in self.files(day):
                stat = path.stat()
                landed_at = datetime.fromtimestamp(stat.st_mtime, UTC)
                yield Landed(day, path, self._name(path), landed_at, f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}")

    def lines_with(self, file: Landed, words: Sequence[bytes]) -> list[Lines]:
        """Return the lines of a file in which one of the words stands, without reading what else they say; of a line, its number is not.

        Raises UnreadableFileError where the file is damaged, or not whole yet.
        """
        lines: list[bytes] = []
        for block, _ in self._lines(file.path, []):
            data = bytes(block.data)
            begun = {start: None for word in words for start in _begins(data, word)}
            lines += [data[start : data.index(b"\n", start) + 1] for start in begun]
        return [Lines(file.name, 1, b"".join(lines))] if lines else []

    def signature(self, day: date) -> str:
        """Return a text that changes when a file of the day is added, removed or written to - unless by ``rewriting``, or our own."""
        known = self._replaced(day)
        facts = [known.get(now, now) for path in self.news(day) for now in [self._facts(path, path)]]
        return hashlib.sha256("\n".join(facts).encode(errors="surrogateescape")).hexdigest()[:16]

    def signature_since(self, first: date) -> str:
        """Return a text that changes when the signature of that day or of a later one does."""
        signatures = "\n".join(f"{day}:{self.signature(day)}" for day in self.days() if day >= first)
        return hashlib.sha256(signatures.encode()).hexdigest()[:12]

    def kept(self) -> Iterator[KeptFile]:
        """Yield all files, to be searched and written anew: those that ingest reads, and others."""
        read_by_ingest = {path for day in self.days() for path in self.files(day)}
        for path, name in all_files(Path(self.root)):
            if LeftBehind.is_called(path, _LEFT_BEHIND):
                yield LeftBehind(name, path)
            elif path not in read_by_ingest or path.name.startswith("."):
                yield KeptFile(name, path)
            elif _suffix(path.name) == ".parquet":
                yield LandedTable(name, path, self.rewriting)
            else:
                yield KeptLines(name, path, self.rewriting)

    @contextmanager
    def rewriting(self, path: Path) -> Iterator[Path]:
        """Lend a name to write under what takes the place of a day's file, and not as news: the day's signature stays what it was."""
        notes = Path(self.root) / path.relative_to(self.root).parts[0] / REPLACED
        with replacing(path, ".erasing", is_lasting=True) as unfinished:
            yield unfinished
            stat = path.stat()
            os.utime(unfinished, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            unfinished.chmod(stat.st_mode)
            known, before = _noted(notes), self._facts(path, path)
            known[self._facts(path, unfinished)] = known.pop(before, before)
            _note(notes, known)  # before the file: a note of a file that is not there yet harms nobody
        now = self._facts(path, path)
        if now not in known:  # a bucket has given it another time
            known[now] = before
            _note(notes, known)

    def _facts(self, path: Path, file: Path) -> str:
        stat = file.stat()
        return f"{path.relative_to(self.root).as_posix()}:{stat.st_size}:{stat.st_mtime_ns}"

    def _replaced(self, day: date) -> dict[str, str]:
        return {now: before for folder in self._folders(day) for now, before in _noted(folder / REPLACED).items()}

    def _folders(self, day: date) -> list[Path]:
        folders = [Path(self.root) / name for name in (day.isoformat(), f"date={day}")]
        return [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]

    def _entries(self, day: date) -> Iterator[tuple[Path, str | None]]:
        """Yield the files of a day, each with why it is not read, and folders that are not looked into."""
        folders = self._folders(day)
        home = Path(self.root).resolve()
        while folders:
            for entry in _listed(folders.pop()):
                path = Path(entry.path)
                if not _is_utf8(entry.name):
                    yield path, "its name is not UTF-8: rename it"
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_symlink() and not _leads_into(home, entry):
                    yield path, _LINK
                elif not entry.is_file():
                    yield path, "it is no regular file"
                else:
                    yield path, _misnamed(entry.name)

    def _name(self, path: Path) -> str:
        return os.fsencode(path.relative_to(self.root)).decode(errors="backslashreplace")

    def read(self, day: date, refused: list[PassedOver] | None = None) -> Iterator[list[Lines]]:
        """Read the day's lines in order of file and number, in blocks of about ``BLOCK`` bytes: a day may be larger than memory.

        A file that is whole and cannot be read here, or not to its end, is added to ``refused``, and the day goes on.
        Raises UnreadableFileError where a file is damaged, or not whole yet.
        """
        block: list[Lines] = []
        size = number = 0
        for path in self.files(day):
            for lines, count in self._lines(path, [] if refused is None else refused):
                if block and (size + len(lines.data) > BLOCK or number + count > LINES):
                    yield block
                    block, size, number = [], 0, 0
                block.append(lines)
                size, number = size + len(lines.data), number + count
        if block:
            yield block

    def _lines(self, path: Path, refused: list[PassedOver]) -> Iterator[tuple[Lines, int]]:
        name, number = self._name(path), 1
        try:
            for data, count in _READERS[_suffix(path.name)](path):
                yield Lines(name, number, data), count
                number += count
        except RefusedFileError as problem:
            is_begun = f"; its first {number - 1:,} lines were read" if number > 1 else ""
            refused.append(PassedOver(name, f"{problem}{is_begun}"))
        except _UNREADABLE as problem:
            raise UnreadableFileError(
                f"{path}: cannot be read ({problem}). Is its upload complete? Run the day again when it is."
            ) from problem


_UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    zstandard.ZstdError,
    pa.ArrowException,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
)
"""What reading a damaged file raises."""

_LEFT_BEHIND = r"\..+\.erasing(\.\d+)?|\.replaced\.json\.\d+"
"""What our own processes leave when they are killed. Others may be writing in the landing zone, too."""

_LINK = "it is a link to a folder, out of the landing zone, or to nothing that can be read: put the files there themselves"
_NO_DAY = "it is no folder of an arrival day: call it YYYY-MM-DD or date=YYYY-MM-DD, or move it out of the landing zone"


def _begins(data: bytes, word: bytes) -> Iterator[int]:
    """Yield where the lines begin in which a word stands."""
    at = data.find(word)
    while at >= 0:
        yield data.rfind(b"\n", 0, at) + 1
        end = data.find(b"\n", at)
        at = data.find(word, end) if end >= 0 else -1


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder but for what begins with a dot or an underscore; nothing where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith((".", "_"))]
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise UnreadableFileError(f"{folder}: cannot be looked into ({problem}). Let the user of this process read it.") from problem


def _leads_into(home: Path, link: os.DirEntry[str]) -> bool:
    """Return whether a link leads to a file below a folder: not in a circle, nor where nobody may look."""
    try:
        return link.is_file() and Path(link.path).resolve().is_relative_to(home)
    except (OSError, RuntimeError):
        return False


def _noted(notes: Path) -> dict[str, str]:
    return dict(json.loads(notes.read_text())) if notes.exists() else {}


def _note(notes: Path, known: Mapping[str, str]) -> None:
    with replacing(notes, is_lasting=True) as note:
        note.write_text(json.dumps(known, indent=1))


def _day(name: str) -> date | None:
    try:
        day = date.fromisoformat(name.removeprefix("date="))
    except ValueError:
        return None
    return day if day.isoformat() == name.removeprefix("date=") else None  # and not 20261120, or 2026-W47-5


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # ten times as fast as a Path, for each of 20,000 files


def _misnamed(name: str) -> str | None:
    """Return why a file of this name is not read; None for one that is."""
    if _suffix(name) not in _READERS:
        return f"its name does not end in {', '.join(_READERS)}"
    if name.lower().endswith((".parquet.gz", ".parquet.zst")):
        return "it is Parquet in a packing: unpack it, Parquet is packed by itself"
    return None


class Readable(Protocol):
    """Whatever bytes can be read from."""

    def read(self, size: int, /) -> bytes | None:
        """Read at most so many bytes."""


def _whole_lines(file: Readable, largest: int) -> Iterator[tuple[bytes | memoryview, int]]:
    """Yield the lines of a file, as many at a time as are in about ``BLOCK`` bytes, each ended by a newline; and how many.

    Of a line that is too large only the head is kept. Raises RefusedFileError where the file has more than ``largest`` bytes.
    """
    text = bytearray()  # whole lines, and from ``begun`` on one that is not whole yet
    begun = number = size = total = 0
    is_cut = False  # the head of that one is there, and the rest of it is skipped
    while chunk := file.read(min(CHUNK, BLOCK)):
        size += len(chunk)
        if is_cut:
            end = chunk.find(b"\n")
            is_cut, chunk = end < 0, chunk[end:] if end >= 0 else b""
        text += chunk
        ended = int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == ord("\n")))  # three times as fast as bytes.count
        number, total = number + ended, total + ended
        begun, is_cut = _cut(text, begun, is_cut=is_cut)
        if max(size, total * LEAST) > largest:
            yield from _parts(memoryview(text)[:begun], number)
            raise RefusedFileError(
                f"it unpacks to more than {UNPACKED:,} bytes and {RATIO:,} times its size, each line counted as {LEAST} bytes at least: "
                "split it, if that is right"
            )
        if begun and (len(text) >= BLOCK or number >= LINES):
            yield from _parts(memoryview(text)[:begun], number)
            text, begun, number = text[begun:], 0, 0
    begun, _ = _cut(text, begun, is_cut=is_cut, is_last=True)
    if len(text) > begun:
        text += b"\n"
        number += 1
    yield from _parts(memoryview(text), number)


def _cut(text: bytearray, begun: int, *, is_cut: bool = False, is_last: bool = False) -> tuple[int, bool]:
    """Cut the lines that are too large; return where the last one begins, and whether it is cut and not ended yet.

    Lines up to ``begun`` were looked at before.
    """
    if is_cut:
        return begun, True
    while True:
        end = text.rfind(b"\n", begun, begun + HEAD + 1)
        if end >= 0:
            begun = end + 1
            continue
        if len(text) - begun <= HEAD + (0 if is_last else 3):  # a character has 4 bytes at the most
            return begun, False
        until = begun + HEAD
        while until < len(text) and text[until] & 0b1100_0000 == 0b1000_0000 and until < begun + HEAD + 3:
            until += 1
        end = text.find(b"\n", until)
        if end < 0:
            del text[until:]
            return begun, True
        del text[until:end]
        begun = until + 1


def _parts(lines: memoryview, number: int) -> Iterator[tuple[memoryview, int]]:
    """Divide lines that are many, however few bytes they have."""
    if number > LINES:
        ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n"))[LINES - 1 :: LINES] + 1
        bounds = [0, *ends.tolist()]
        for first, until in pairwise(bounds):
            yield lines[first:until], LINES
        lines, number = lines[bounds[-1] :], number - LINES * len(ends)
    if number:
        yield lines, number


def _largest(path: Path) -> int:
    return UNPACKED + RATIO * path.stat().st_size


def _plain(path: Path) -> Iterator[tuple[bytes | memoryview, int]]:
    with path.open("rb", buffering=0) as file:
        yield from _whole_lines(file, _largest(path))


def _gzipped(path: Path) -> Iterator[tuple[bytes | memoryview, int]]:
    with gzip.open(path) as file:
        yield from _whole_lines(file, _largest(path))


def _zstandard(path: Path) -> Iterator[tuple[bytes | memoryview, int]]:
    with path.open("rb") as file:
        try:
            yield from _whole_lines(Frames(file), _largest(path))
        except OSError as problem:
            if "too much memory" in str(problem):
                raise RefusedFileError("its window is larger than 128 MiB: pack it without --long and --ultra") from problem
            raise


def _parquet(path: Path) -> Iterator[tuple[bytes | memoryview, int]]:
    for rows in read_rows(path, _largest(path)):
        text = bytearray(b"\n".join([*rows, b""]))
        _cut(text, 0)
        yield memoryview(text), len(rows)


_READERS: dict[str, Callable[[Path], Iterator[tuple[bytes | memoryview, int]]]] = {
    ".ndjson": _plain,
    ".jsonl": _plain,
    ".json": _plain,
    ".parquet": _parquet,
    ".gz": _gzipped,
    ".zst": _zstandard,
}
