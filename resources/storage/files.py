"""Files that are being written: under a name of their own until they are whole, and gone when whoever wrote them is.

A process that is killed leaves its file. The next one to write at that place removes it, and never that of a living process.

What belongs here: writing and renaming, those names, and tidying up. What does not: folders that are kept by a lock (``spill``).
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polars.exceptions import PolarsError

from resources.storage.mirror import putting
from resources.storage.objects import MaybeWrittenError
from resources.storage.processes import is_alive

_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}
_OS_ERROR = re.compile(r"[^:]+\(os error (\d+)\)")
"""What Polars says that the system said."""
_PID = re.compile(r"\..+\.(\d{1,9})(\.wal)?")


class UnsureError(OSError):
    """A file is in its place, and whether a power cut would leave it there could not be learned."""


@contextmanager
def replacing(path: Path, kind: str = "", *, is_ours: bool = False, is_lasting: bool = False) -> Iterator[Path]:
    """Lend a name to write under; when the block ends that file is put in the place of ``path`` in one step.

    A process killed in here leaves the old file or the new one; after an exception the old one is there, and nothing beside it.
    ``is_ours``: nobody else writes in that folder, so that all that killed processes have left there goes, else only what they
    have left of this file. ``is_lasting``: a power cut leaves the old file or the new one, too: 8 to 11 ms on the machine this was
    measured on, for what cannot be made again. Raises UnsureError where the new one is there, and might not be after a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name.removeprefix('.')}{kind}.{os.getpid()}")
    for left in path.parent.glob("*" if is_ours else f"{_literal(unfinished.stem)}.*"):
        if is_abandoned(left):
            left.unlink(missing_ok=True)
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        if is_lasting:
            _flush(unfinished)
        with _sent(unfinished, path):
            unfinished.replace(path)
    except BaseException:
        for left in (unfinished, unfinished.with_name(f"{unfinished.name}.wal")):
            with suppress(OSError):
                left.unlink(missing_ok=True)
        raise
    if is_lasting:
        flush_names(path.parent)


@contextmanager
def _sent(unfinished: Path, path: Path) -> Iterator[None]:
    """Where the file is one of a bucket (``mirror``), put it there first. Raises UnsureError where nobody knows whether it is there."""
    try:
        with putting(unfinished, path):
            yield
    except MaybeWrittenError as problem:
        raise UnsureError(errno.EIO, str(problem)) from problem


def put_folder(new: Path, folder: Path, old: Path) -> None:
    """Put a folder that is whole in the place of another, which is called ``old`` for a moment and is gone then.

    Two steps: a process killed between them leaves neither in its place, and both beside it.
    """
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def refusal(problem: Exception) -> str | None:
    """Return what the system said where it refused to write; None where something else is wrong."""
    if isinstance(problem, OSError):
        return problem.strerror if problem.errno in _REFUSALS else None
    match = _OS_ERROR.search(str(problem)) if isinstance(problem, PolarsError) else None
    return match[0].strip() if match and int(match[1]) in _REFUSALS else None


def is_abandoned(path: Path) -> bool:
    """Return whether a file has the name of one that is being written, and its process is gone."""
    process = _PID.fullmatch(path.name)
    return process is not None and int(process[1]) != os.getpid() and not is_alive(int(process[1]))


def is_being_written(path: Path) -> bool:
    """Return whether another process that lives is writing the file."""
    process = _PID.fullmatch(path.name)
    return process is not None and int(process[1]) != os.getpid() and is_alive(int(process[1]))


def flush_names(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can say so. Raises UnsureError."""
    try:
        _flush(folder)
    except OSError as problem:
        if problem.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise UnsureError(problem.errno, problem.strerror, str(folder)) from problem


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _literal(name: str) -> str:
    """A pattern of exactly this name."""
    return re.sub(r"([*?\[])", r"[\1]", name)
