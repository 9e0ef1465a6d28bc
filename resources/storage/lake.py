"""The lake: one Parquet file per table and day, whole or absent.

What belongs here: where tables live, reading and writing them, one run at a time. What does not: what is in them.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Literal

import dagster as dg
import polars as pl
from polars.exceptions import PolarsError
from pydantic import PrivateAttr

from atc_pipeline.tables.store import DamagedDayError, WrittenBy, require
from resources.storage import parts, seal
from resources.storage.code import code_version
from resources.storage.files import refusal, replacing
from resources.storage.kept import KeptFile, KeptPage, KeptTable, LeftBehind, all_files
from resources.storage.mirror import mirror_of
from resources.storage.objects import BucketError
from resources.storage.origins import Origins
from resources.storage.processes import HOST, this_host
from resources.storage.spill import PREFIX, Spill
from resources.storage.turn import NoTurnError, Turn

DEFINITIONS = "atc_definitions"
"""The key of a file's Parquet metadata under which it says what it was made by."""


_LEFT_BEHIND = r"\..+\.\d+|\..+\.erasing"
_PAGES = {".html", ".svg"}
"""What is kept beside tables (``Lake.put``)."""
_NO_FOOTER = "Invalid thrift: transport error"
"""What Polars says when the system refuses the end of a file, whatever the system said."""
_OPENED = 64
"""A scan of more files than that reads them by name: a process may hold 1,024 open, of all its scans."""
_tested: dict[Path, tuple[int, int, int]] = {}
"""Files whose seal this process has laid or tested: size, time, inode."""


class DamagedFileError(DamagedDayError):
    """A file of the lake is not what was written."""


class UnwritableError(Exception):
    """A file of the lake cannot be written."""


class Lake(dg.ConfigurableResource):
    """Tables as ``<root>/<table>/date=<YYYY-MM-DD>/part.parquet``; readers never meet a half-written file.

    Days made by shard (``resources.runners``) lie in parts (``resources.storage.parts``), and are read as one table all the same.

    Whatever Dagster runs with it has the turn (``resources.storage.turn``) from its first step to its last: a run that writes is never
    beside another, and a check never reads days that are half made. Other readers wait for nobody.
    """

    root: str
    _held: IO[str] | None = PrivateAttr(default=None)
    _watched: set[tuple[str, date]] | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Wait for the turn."""
        run = context.run
        if run is not None and context.instance is not None:
            context.instance.add_run_tags(run.run_id, {HOST: this_host()})
        say = context.log.info if context.log is not None else print
        try:
            self._held = self.turn.take(run.run_id if run else "-", run.job_name if run else "-", say)
            parts.recover(Path(self.root))
            if mirror := mirror_of(Path(self.root)):
                mirror.begin(run.run_id if run else "-", run.job_name if run else "-", say)
        except (NoTurnError, BucketError) as problem:
            self.teardown_after_execution(context)
            raise dg.Failure(str(problem), allow_retries=False) from None
        except BaseException:  # it was terminated while it waited
            self.teardown_after_execution(context)
            raise

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Give the turn back."""
        if mirror := mirror_of(Path(self.root)):
            mirror.end()
        if self._held is not None:
            self.turn.give_back(self._held)
            self._held = None

    @property
    def turn(self) -> Turn:
        """Return who may write."""
        return Turn(Path(f"{self.root}.turn"))

    @property
    def origins(self) -> Origins:
        """Return what its days were made from."""
        return Origins(Path(f"{self.root}.origins"))

    @contextmanager
    def watched(self) -> Iterator[set[tuple[str, date]]]:
        """Collect which days of which tables are read."""
        self._watched = set()
        try:
            yield self._watched
        finally:
            self._watched = None

    def note_read(self, table: str, days: Iterable[date]) -> None:
        """Count days as read that are held in memory from days before."""
        if self._watched is not None:
            self._watched.update((table, day) for day in days)

    @property
    def place(self) -> str:
        """Return where it is, for messages."""
        return self.root

    def running(self) -> str | None:
        """Say who has the turn, on this host or on another one by way of the bucket; None where nobody has. Raises BucketError."""
        mirror = mirror_of(Path(self.root))
        if self.turn.is_held():
            return self.turn.holder()
        return None if mirror is None else mirror.holder()

    @property
    def besides(self) -> str | None:
        """Say who may keep what is removed here, and must be told to remove it; None where nobody does."""
        mirror = mirror_of(Path(self.root))
        if mirror is None:
            return None
        return (
            f"{mirror.bucket.name('')}: a bucket that keeps versions of its objects keeps the old ones, which name them: delete those, or "
            "let a rule of the bucket do it. Copies on other hosts (ATC_CACHE) are renewed when those run, look or are asked again"
        )

    def size(self, table: str, day: date) -> int:
        """Return the bytes of a day's files."""
        return sum(path.stat().st_size for path in self._files(table, day))

    def written_at(self, table: str, day: date) -> datetime:
        """Return when a day was written, or last searched for somebody who was erased."""
        times = []
        for path in self._files(table, day):
            mirror = mirror_of(path)
            put_at = None if mirror is None else mirror.written_at(path)
            times.append(put_at or datetime.fromtimestamp(path.stat().st_mtime, UTC))
        return max(times)

    def path(self, table: str, day: date) -> Path:
        """Return where a table keeps a day that is in one piece."""
        return self._folder(table, day) / parts.PART

    def has(self, table: str, day: date) -> bool:
        """Return whether the day was written."""
        return parts.is_there(self._folder(table, day))

    def days(self, table: str) -> list[date]:
        """Return the days written, in order."""
        folders = (Path(self.root) / table).glob("date=*")
        return sorted(date.fromisoformat(folder.name.removeprefix("date=")) for folder in folders if parts.is_there(folder))

    def part(self, table: str, day: date, number: int, shards: int) -> pl.LazyFrame | None:
        """Read the part of one of so many shards; None where the day was made of another number of them."""
        if self.shards_of(table, day) != shards:
            return None
        return self._scan(self._checked(table, day, number))

    def shards_of(self, table: str, day: date) -> int:
        """Return of how many shards a day was made. Raises MissingDayError."""
        return len(self._files(table, day))

    def _folder(self, table: str, day: date) -> Path:
        return Path(self.root) / table / f"date={day}"

    def _files(self, table: str, day: date) -> list[Path]:
        require(self, table, day)
        try:
            return parts.files_of(self._folder(table, day))
        except ValueError as problem:
            raise _damaged(self._folder(table, day) / parts.MANIFEST, table, day, problem) from problem

    def write(
        self,
        table: str,
        day: date,
        frame: pl.DataFrame | pl.LazyFrame,
        definitions: Mapping[str, str] | None = None,
        portfolio: str | None = None,
    ) -> None:
        """Replace a day of a table in one step; a lazy frame is written while it is made, and never whole in memory.

        A process killed here leaves the old day or the new one. A power cut may leave none, or one whose seal is broken: it is told, and
        made again. To wait for the disk would make a year of 6,200 files take a tenth to a fifth longer.
        ``definitions``: what its columns were made by, to be asked for again (``definitions``); ``portfolio``: by which version of the
        portfolio (``written_by``).
        """
        folder, path = self._folder(table, day), self.path(table, day)
        if (folder / parts.MANIFEST).exists():  # it was made by shard before, and is not now
            parts.clear(folder)
            _write(parts.unfinished(folder, parts.writer()) / parts.PART, frame, definitions, portfolio, again=f"run {day} again")
            parts.put(folder)
        else:
            _write(path, frame, definitions, portfolio, again=f"run {day} again, and the days after it")
        _tested[path] = _facts(path)

    def recover(self, day: date) -> None:
        """Put in place, or remove, what an attempt that failed has left of a day."""
        parts.recover(Path(self.root), f"date={day}")

    def write_part(
        self,
        table: str,
        day: date,
        writer: str,
        number: int,
        frame: pl.DataFrame | pl.LazyFrame,
        definitions: Mapping[str, str] | None = None,
        portfolio: str | None = None,
    ) -> int:
        """Write one shard of a day that ``parts.writer`` will ``publish``; return how many rows it has."""
        path = parts.part_of(parts.unfinished(self._folder(table, day), writer), number)
        _write(path, frame, definitions, portfolio, again=f"run {day} again")
        return frame.height if isinstance(frame, pl.DataFrame) else int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())

    def publish(self, table: str, day: date, shards: int, definitions: Mapping[str, str] | None) -> None:
        """Replace a day by one of which all parts are written."""
        parts.publish(self._folder(table, day), shards, definitions)

    def version(self, table: str, day: date) -> str | None:
        """Return a text that differs when a day was made with other rows; None where it was made before files were sealed."""
        versions = [None if text is None else text[:8] for text in self._seals(table, day)]
        known = [text for text in versions if text is not None]
        if len(known) < len(versions):
            return None
        return known[0] if len(known) == 1 else f"{zlib.crc32(':'.join(known).encode()):08x}"

    def written_by(self, table: str, day: date) -> WrittenBy:
        """Return which portfolio and which code wrote a day."""
        return seal.written_by(self._seals(table, day)[0])

    def _seals(self, table: str, day: date) -> list[str | None]:
        return [pl.read_parquet_metadata(path).get(seal.SEAL) for path in self._files(table, day)]

    def definitions(self, table: str, day: date) -> dict[str, str]:
        """Return what a day's columns were made by, as told when it was written; nothing where nothing was told."""
        path, *more = self._checked(table, day)
        if more or path.parent.name != f"date={day}":
            return dict((parts.manifest_of(self._folder(table, day)) or {}).get("definitions", {}))
        text = pl.read_parquet_metadata(path).get(DEFINITIONS)
        return {} if text is None else dict(json.loads(text))

    def kept(self) -> Iterator[KeptFile]:
        """Yield all files, to be searched and written anew, called as in ``<table>/...``."""
        for path, name in all_files(Path(self.root)):
            if LeftBehind.is_called(path, _LEFT_BEHIND) or name.startswith(PREFIX):
                yield LeftBehind(name, path)
            elif path.suffix == ".parquet" and not path.name.startswith("."):
                yield KeptTable(name, path, _rewriting)
            elif (path.suffix in _PAGES or path.name == parts.MANIFEST) and not path.name.startswith("."):
                yield KeptPage(name, path)
            else:
                yield KeptFile(name, path)

    def spill(self) -> Spill:
        """Return where a run puts what it cannot hold in memory."""
        return Spill(Path(self.root))

    def put(self, table: str, name: str, text: str) -> Path:
        """Keep a file beside a table's days, as whole as they are; return where."""
        path = Path(self.root) / table / name
        with replacing(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
        return path

    def rows(self, table: str, day: date) -> int:
        """Count the rows of a day, without reading them."""
        return int(self.lazy(table, day).select(pl.len()).collect().item())

    def read(self, table: str, day: date) -> pl.DataFrame:
        """Read one day of a table.

        Raises MissingDayError, naming what to materialize, where the day was never written.
        """
        return self.lazy(table, day).collect()

    def scan(self, table: str, days: Iterable[date], *, may_lack: bool = False) -> pl.LazyFrame | None:
        """Read those of the days that were written, lazily; None if none was.

        The latest day says which columns there are; collecting raises ColumnNotFoundError where an earlier day lacks one
        that is used, or with ``may_lack`` has nulls in it.
        """
        paths = [path for day in sorted(days, reverse=True) if self.has(table, day) for path in self._checked(table, day)]
        return self._scan(paths, missing_columns="insert" if may_lack else "raise") if paths else None

    def lazy(self, table: str, day: date) -> pl.LazyFrame:
        """Read one day of a table lazily: only the columns used are read. Raises MissingDayError like ``read``."""
        return self._scan(self._checked(table, day))

    def _scan(self, paths: list[Path], missing_columns: Literal["insert", "raise"] = "raise") -> pl.LazyFrame:
        """Read files as one table; the first says which columns there are.

        Polars opens a file by its name once for its end and once more for its rows, which may be of another one by then. Where we have
        the turn nobody else replaces it; everybody else opens it here, and Polars keeps that.
        """
        with ExitStack() as opened:
            now: list[IO[bytes]] = []
            if self._held is None and len(paths) <= _OPENED:
                now.extend(opened.enter_context(path.open("rb")) for path in paths)
            return pl.scan_parquet(
                now or paths, hive_partitioning=False, glob=False, extra_columns="ignore", missing_columns=missing_columns
            )

    def _checked(self, table: str, day: date, number: int | None = None) -> list[Path]:
        """Return the files of a day that is there and whole, or that of one shard; this process tests each file once."""
        paths = self._files(table, day)
        paths = paths if number is None else [paths[number]]
        if self._watched is not None:
            self._watched.add((table, day))
        for path in paths:
            try:
                if _tested.get(path) != (facts := _facts(path)):
                    seal.test(path)
                    _tested[path] = facts
            except (seal.BrokenSealError, FileNotFoundError) as problem:
                raise _damaged(path, table, day, problem) from problem
        return paths


def _damaged(path: Path, table: str, day: date, problem: Exception) -> DamagedFileError:
    return DamagedFileError(
        f"{path}: damaged ({problem}). Materialize {table} for {day} again, and what stands on it: "
        f"dagster asset materialize -m atc_pipeline.definitions --select '{table}*' --partition {day}"
    )


def _write(
    path: Path,
    frame: pl.DataFrame | pl.LazyFrame,
    definitions: Mapping[str, str] | None,
    portfolio: str | None,
    *,
    again: str,
) -> None:
    """Write a file, sealed, and put it in its place; a lazy frame is written while it is made."""
    metadata = (
        {seal.SEAL: seal.BLANK}
        if definitions is None
        else {DEFINITIONS: json.dumps(dict(definitions), sort_keys=True), seal.SEAL: seal.BLANK}
    )
    try:
        with replacing(path, is_ours=True) as unfinished:
            if isinstance(frame, pl.LazyFrame):
                frame.sink_parquet(unfinished, compression="zstd", compression_level=1, metadata=metadata)
            else:
                frame.write_parquet(unfinished, compression="zstd", compression_level=1, metadata=metadata)
            seal.lay(unfinished, WrittenBy(portfolio, code_version()))
    except (OSError, PolarsError) as problem:
        reason = refusal(problem) or (_NO_FOOTER if _NO_FOOTER in str(problem) else None)
        if reason is None:
            raise
        raise UnwritableError(
            f"{path}: cannot be written ({reason}). Is the disk full, or the folder "
            f"read-only? The day is as it was: when that is mended, {again}"
        ) from problem


@contextmanager
def _rewriting(path: Path) -> Iterator[Path]:
    """Lend a name to write under; the file that takes the place is sealed again, as the version it was.

    It is on the disk then: what was proved to be erased must not come back after a power cut.
    """
    with replacing(path, ".erasing", is_ours=True, is_lasting=True) as unfinished:
        yield unfinished
        seal.lay(unfinished)


def _facts(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
