"""What is on its way to a receiver that cannot be asked: noted on the disk before the bytes that commit it, and again when it answered.

A process that is killed leaves here which messages may have arrived (noted, and no answer), and which did (answered, though nobody
else remembers it). What is not here was certainly not sent by this host.

What belongs here: that file. What does not: what is noted and when (``resources.channels.email``), what is remembered of messages
for good (``resources.delivery.ledger``).
"""

import fcntl
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resources.storage.files import replacing

LARGEST = 2**20
"""Bytes after which the file is written anew with what is still open: some 25,000 lines."""


class Handed:
    """An append-only file of lines: ``+ key`` noted, ``= key name`` taken by the receiver, ``- key`` forgotten.

    Threads and processes of one host may share it; each line is written in one piece under a lock. The end of a line that was torn
    by a kill is passed over: what it was to tell had not yet been acted upon. It has keys and the receiver's names of messages,
    nothing of a person.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: dict[str, str | None] = {}
        """By key: None where it is on its way, else the receiver's name for it, which may be nothing."""
        self._file = self._door = -1
        self._read_up_to = 0
        self._appended = self._flushed = 0
        self._writing, self._flushing = threading.RLock(), threading.Lock()

    @classmethod
    def of(cls, home: str) -> "Handed":
        """Return the one in this home."""
        return cls(Path(home) / "handed.log")

    def note(self, keys: Iterable[str]) -> None:
        """Write that these are on their way; when this returns they are on the disk. Threads that wait share one flush. Raises OSError."""
        with self._writing:
            self._append("".join(f"+ {_whole(key)}\n" for key in keys))
            self._appended = ticket = self._appended + 1
        with self._flushing:
            if self._flushed < ticket:
                with self._writing:
                    reached, descriptor = self._appended, os.dup(self._file)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                self._flushed = reached

    def answer(self, key: str, name: str | None) -> None:
        """Write that the receiver took one, and what it calls it. A kill does not undo it; a power cut may, and it is noted again."""
        with self._writing:
            self._append(f"= {_whole(key)} {name if name is not None and name.split() == [name] else ''}\n")

    def forget(self, keys: Iterable[str]) -> None:
        """Write that these are remembered elsewhere, or were certainly not taken. A power cut may undo it, which does no harm."""
        if lines := "".join(f"- {_whole(key)}\n" for key in keys):
            with self._writing:
                self._append(lines)

    def noted(self) -> set[str]:
        """Return what may have arrived: on its way, and nobody knows what became of it."""
        with self._writing:
            self._read()
            return {key for key, name in self._state.items() if name is None}

    def answered(self) -> dict[str, str]:
        """Return what did arrive and was not forgotten since: by key, the receiver's name for it, which may be nothing."""
        with self._writing:
            self._read()
            return {key: name for key, name in self._state.items() if name is not None}

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed."""
        with self._writing:
            for descriptor in (self._file, self._door):
                if descriptor >= 0:
                    os.close(descriptor)
            self._file = self._door = -1

    def __del__(self) -> None:
        self.close()

    def _append(self, lines: str) -> None:
        with self._alone():
            self._open()
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                lines = f"\n{lines}"  # whoever wrote there was killed
            content = lines.encode()
            if os.write(self._file, content) != len(content):
                raise OSError(f"{self.path} was not written whole: is the disk full?")
            if size > LARGEST:
                self._write_anew()

    def _open(self) -> None:
        """Open the file that has the name now: another process may have written it anew."""
        try:
            now = os.stat(self.path)  # noqa: PTH116 - before each line
        except FileNotFoundError:
            now = None
        if self._file >= 0:
            if now is not None and os.path.samestat(os.fstat(self._file), now):
                return
            os.close(self._file)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._state, self._read_up_to = {}, 0
        if now is None:
            _flush_folder(self.path.parent)

    def _read(self) -> None:
        """Read what was written since, whole lines only."""
        with self._alone():
            self._open()
            self._read_on()

    def _read_on(self) -> None:
        size = os.fstat(self._file).st_size
        content = os.pread(self._file, size - self._read_up_to, self._read_up_to) if size > self._read_up_to else b""
        whole, newline, _ = content.rpartition(b"\n")
        self._read_up_to += len(whole) + len(newline)
        for line in whole.decode(errors="replace").split("\n"):
            match line.split(" "):
                case ["+", key] if key:
                    self._state[key] = None
                case ["=", key, name] if key:
                    self._state[key] = name
                case ["-", key]:
                    self._state.pop(key, None)
                case _:
                    pass  # torn

    def _write_anew(self) -> None:
        """Put a file of what is open in the place of one that has grown; nothing of it may be lost, so the new one is on the disk first."""
        self._read_on()
        if len(self._state) * 100 > LARGEST:
            return
        with replacing(self.path, is_lasting=True) as unfinished:
            lines = [f"+ {key}\n" if name is None else f"= {key} {name}\n" for key, name in self._state.items()]
            unfinished.write_text("".join(lines), encoding="utf-8")
            unfinished.chmod(0o600)
        self._open()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for other processes; threads of this one have waited already."""
        if self._door < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._door = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)


def _whole(key: str) -> str:
    """A key that is one word, as all are; a line of another shape could not be read back."""
    if not key or key.split() != [key]:
        raise ValueError(f"a key is one word, and {key!r} is none")
    return key


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
