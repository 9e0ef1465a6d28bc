"""Files that are being written: under a name of their own until they are whole, and gone when whoever wrote them is.

A process that is killed leaves its file. The next one to write at that place removes it, and never that of a living process.

What belongs here: those names, and tidying up. What does not: folders that hold a lock (``spill``).
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resources.storage.turn import is_alive

_PID = re.compile(r"\..+\.(\d{1,9})(\.wal)?")


def name_of_unfinished(path: Path, kind: str = "") -> Path:
    """Return where to write what shall replace ``path``."""
    return path.with_name(f".{path.name.removeprefix('.')}{kind}.{os.getpid()}")


def beside(path: Path, kind: str = "") -> Path:
    """Return the same, after removing what killed processes have left there of it."""
    unfinished = name_of_unfinished(path, kind)
    for left in path.parent.glob(f"{_literal(unfinished.stem)}.*"):
        if is_abandoned(left):
            left.unlink(missing_ok=True)
    unfinished.unlink(missing_ok=True)
    return unfinished


def tidy(folder: Path) -> None:
    """Remove from a folder of ours everything that killed processes have left there."""
    for left in folder.iterdir():
        if is_abandoned(left):
            left.unlink(missing_ok=True)


def is_abandoned(path: Path) -> bool:
    """Return whether a file has the name of one that is being written, and its process is gone."""
    process = _PID.fullmatch(path.name)
    return process is not None and int(process[1]) != os.getpid() and not is_alive(int(process[1]))


def is_being_written(path: Path) -> bool:
    """Return whether another process that lives is writing the file."""
    process = _PID.fullmatch(path.name)
    return process is not None and int(process[1]) != os.getpid() and is_alive(int(process[1]))


def _literal(name: str) -> str:
    """A pattern of exactly this name."""
    return re.sub(r"([*?\[])", r"[\1]", name)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from merging into the same folder, else the later of two would undo the earlier."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
