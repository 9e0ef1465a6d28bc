"""Where a run puts what it cannot hold in memory: files beside the tables of the lake, gone when the run is.

What belongs here: making and removing those files. What does not: what is in them, and anything that is kept.
"""

import pickle
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import polars as pl

from resources.storage.files import replacing
from resources.storage.locks import try_to_lock

PREFIX = ".spill-"
ROWS = 2**14
"""Rows that are read at the least; a file is sorted, and readers want a part of it."""


class RunEndedError(Exception):
    """A task goes on though the run that gave it out has ended."""


@dataclass(frozen=True)
class Left:
    """What a task leaves for the next one, by name: in the folder of a ``Spill``, and on any machine that has it at the same place."""

    folder: Path

    def require(self) -> None:
        """Raise RunEndedError where the run has ended: with it, its folder is gone, and nobody makes it again."""
        if not self.folder.exists():
            raise RunEndedError(f"{self.folder} is gone, and the run with it: nothing is written for it any more")

    def park(self, name: str, frame: pl.DataFrame) -> None:
        """Leave a table, for whoever reads some of its columns."""
        self.require()
        with replacing(self.folder / f"{name}.parquet") as unfinished:
            frame.write_parquet(unfinished, compression="lz4")

    def scan(self, names: Sequence[str]) -> pl.LazyFrame:
        """Read tables that were left, one below the other."""
        return pl.scan_parquet([self.folder / f"{name}.parquet" for name in names], glob=False)

    def put(self, name: str, value: object) -> None:
        """Leave a value."""
        self.require()
        with replacing(self.folder / name) as unfinished, unfinished.open("wb") as file:
            pickle.dump(value, file, protocol=pickle.HIGHEST_PROTOCOL)

    def take(self, name: str) -> Any:  # noqa: ANN401  # what was left under the name
        """Return what was left."""
        with (self.folder / name).open("rb") as file:
            return pickle.load(file)  # noqa: S301  # what a task of the same run has put there, in a folder of ours


class Spill:
    """Tables parked in files under the root, until the day is written or the run ends.

    A process that is killed leaves its files; the next one to spill under the same root removes them. Who holds the lock
    on a folder is alive.
    """

    def __init__(self, root: str | Path) -> None:
        """Park tables under this root, in a folder made when the first one comes."""
        self.root = Path(root)
        self._folder: Path | None = None
        self._lock: IO[bytes] | None = None
        self._number = 0

    def __enter__(self) -> Self:
        """Remove what killed runs have left."""
        for folder in self.root.glob(f"{PREFIX}*"):
            lock = _locked(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                lock.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        """Remove everything."""
        if self._folder is not None and self._lock is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.close()

    def left(self) -> Left:
        """Return what tasks of this run leave for each other."""
        return Left(self._there())

    def _there(self) -> Path:
        """Return the folder, which is there from now on."""
        if self._folder is None:
            self.root.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self.root))
            self._lock = _locked(self._folder)
        return self._folder

    def park(self, frame: pl.DataFrame) -> pl.LazyFrame:
        """Write a table, and return how to read it again."""
        path = self._there() / f"{self._number}.parquet"
        self._number += 1
        frame.write_parquet(path, compression="lz4", row_group_size=ROWS)
        return pl.scan_parquet(path, glob=False)

    def clear(self) -> None:
        """Remove the tables parked so far."""
        for path in self._folder.glob("*.parquet") if self._folder is not None else ():
            path.unlink()


def _locked(folder: Path) -> IO[bytes] | None:
    """Lock a folder until the file is closed or the process ends; None where somebody else has."""
    try:
        file = (folder / "lock").open("ab")
    except FileNotFoundError:  # removed by another run in this very moment
        return None
    if try_to_lock(file):
        return file
    file.close()
    return None
