"""Locks on files and folders, which the kernel takes back from a dead process, however it died: they hold among the processes of one host.

What belongs here: taking them, and who is alive. What does not: what is done under one.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for all others, of threads as of processes, that lock this folder, or this file, which is made where it is missing."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def try_to_lock(file: IO[str] | IO[bytes] | int, *, is_shared: bool = False) -> bool:
    """Lock an open file until it is closed or the process ends; return whether it is ours.

    ``is_shared``: others may have it in the same way, and nobody alone.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Present:
    """Names of those who are at work, as locked files in a folder: a name is there as long as its process lives."""

    def __init__(self, folder: Path, door: Path) -> None:
        """``door``: what is locked by whoever comes or looks: one that has just come has no lock yet."""
        self.folder, self.door = folder, door

    @contextmanager
    def name(self) -> Iterator[str]:
        """Lend a name until the block ends or the process dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        with locked(self.door):
            self.names()  # tidies up after the dead
            held = os.open(self.folder / name, os.O_RDWR | os.O_CREAT)
            fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield name
        finally:
            (self.folder / name).unlink(missing_ok=True)
            os.close(held)

    def names(self) -> set[str]:
        """Return who is at work, and remove what the dead have left. Only for whoever has locked the door."""
        living = set()
        for path in self.folder.glob("*"):
            held = os.open(path, os.O_RDONLY)
            try:
                if try_to_lock(held, is_shared=True):  # two that look at once are not at work
                    path.unlink()
                else:
                    living.add(path.name)
            finally:
                os.close(held)
        return living
