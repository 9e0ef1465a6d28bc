"""Files that are being written: under a name of their own until they are whole, and gone when whoever wrote them is.

A process that is killed leaves its file. The next one to write at that place removes it, and never that of a living process.

What belongs here: those names, and tidying up. What does not: folders that hold a lock (``spill``).
"""

import os
import re
from pathlib import Path

_PID = re.compile(r"\..+\.(\d+)(\.wal)?")


def beside(path: Path, *, kind: str = "") -> Path:
    """Return where to write what shall replace ``path``, after removing what killed processes have left there of it."""
    name = f".{path.name.removeprefix('.')}{kind}"
    for left in path.parent.glob(f"{_literal(name)}.*"):
        if is_abandoned(left):
            left.unlink(missing_ok=True)
    unfinished = path.with_name(f"{name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    return unfinished


def tidy(folder: Path) -> None:
    """Remove from a folder of ours everything that killed processes have left there."""
    for left in folder.glob(".*"):
        if is_abandoned(left) and left.is_file():
            left.unlink(missing_ok=True)


def is_abandoned(path: Path) -> bool:
    """Return whether a file has the name of one that is being written, and its process is gone."""
    process = _PID.fullmatch(path.name)
    return process is not None and int(process[1]) != os.getpid() and not _is_alive(int(process[1]))


def is_being_written(path: Path) -> bool:
    """Return whether another process that lives is writing the file."""
    process = _PID.fullmatch(path.name)
    return process is not None and int(process[1]) != os.getpid() and _is_alive(int(process[1]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _literal(name: str) -> str:
    """A pattern of exactly this name."""
    return re.sub(r"([*?\[])", r"[\1]", name)
