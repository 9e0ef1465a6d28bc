"""The landing zone: files of Segment Spec events in one folder per arrival day.

What belongs here: finding, opening and splitting files. What does not: what a line means (``atc_pipeline.events``).
"""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import zstandard

LINES = {"source_file": pl.String(), "line": pl.Int64(), "raw": pl.Binary()}

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
        return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".") and _reader(path))

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

    def read(self, day: date) -> pl.DataFrame:
        """One row per line of the day's files that is not blank: ``source_file``, ``line`` (from 1), ``raw`` bytes."""
        frames = [self._lines(path) for path in self.files(day)]
        return pl.concat(frames) if frames else pl.DataFrame(schema=LINES)

    def _lines(self, path: Path) -> pl.DataFrame:
        reader = _reader(path)
        assert reader is not None  # files() returns no others
        try:
            found = reader(path)
        except (OSError, EOFError, zlib.error, zstandard.ZstdError, pl.exceptions.PolarsError) as problem:
            raise UnreadableFileError(
                f"{path}: cannot be read ({problem}). Is its upload complete? Run the day again when it is."
            ) from problem
        lines = [(number, line) for number, line in enumerate(found, start=1) if line and not line.isspace()]
        return pl.DataFrame(
            {
                "source_file": pl.repeat(path.relative_to(self.root).as_posix(), len(lines), dtype=pl.String, eager=True),
                "line": [number for number, _ in lines],
                "raw": [line for _, line in lines],
            },
            schema=LINES,
        )


def _day(name: str) -> date | None:
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None


def _split(text: bytes) -> list[bytes]:
    return text.removeprefix(b"\xef\xbb\xbf").split(b"\n")


def _plain(path: Path) -> list[bytes]:
    return _split(path.read_bytes())


def _gzipped(path: Path) -> list[bytes]:
    with gzip.open(path) as file:
        return _split(file.read())


def _zstandard(path: Path) -> list[bytes]:
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as reader:
        return _split(reader.read())


def _parquet(path: Path) -> list[bytes]:
    """Write each row as the JSON line it stands for; times as ISO 8601, without a zone = UTC."""
    frame = pl.read_parquet(path, hive_partitioning=False)
    times = [name for name, dtype in frame.schema.items() if dtype == pl.Datetime]
    frame = frame.with_columns(pl.col(times).dt.to_string("iso:strict"))
    return [line.encode() for line in frame.select(line=pl.struct(pl.all()).struct.json_encode())["line"]]


_READERS = {
    ".ndjson": _plain,
    ".jsonl": _plain,
    ".ndjson.gz": _gzipped,
    ".jsonl.gz": _gzipped,
    ".ndjson.zst": _zstandard,
    ".jsonl.zst": _zstandard,
    ".parquet": _parquet,
}


def _reader(path: Path) -> Callable[[Path], list[bytes]] | None:
    return next((reader for suffix, reader in _READERS.items() if path.name.endswith(suffix)), None)
