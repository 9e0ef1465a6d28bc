"""A bucket as a folder: what is read or written stays a local file, and a bucket has the same files as objects.

Each host has a copy of the whole home (``ATC_CACHE``). ``bring`` makes it what the bucket is; a file that is written goes up before it
gets its name here, so that nothing is here that is not there. An object is known by its ETag, noted beside the copy; the time of a
file is made of it, and so is the same on every host.

What belongs here: which file is which object, bringing and putting, who may write. What does not: requests (``objects``), the turn
(``lease``), what the files are.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from resources.storage import seal
from resources.storage.lease import Lease
from resources.storage.locks import locked
from resources.storage.objects import BucketError, Objects, Stored

TURN = "lake.turn"
"""The object that says whose turn it is."""
_AT_ONCE = 16
"""Objects that are brought at a time: each waits for the network rather than for the processor."""
_LAST_SECOND = 2**31


class Mirror:
    """The copy of a bucket on this host; all processes of a host share it."""

    def __init__(self, bucket: Objects, root: Path) -> None:
        self.bucket = bucket
        self.folder = root / "home"
        self._notes, self._coming, self._door, self._disk = root / "etags", root / "coming", root / "lock", root / "disk"
        self._lease: Lease | None = None
        self.folder.mkdir(parents=True, exist_ok=True)

    def begin(self, run_id: str, job: str, say: Callable[[str], None]) -> None:
        """Wait for the turn among hosts, and look at what they have written. Raises BucketError."""
        lease = Lease(self.bucket, TURN, self._disk_name())
        lease.take(run_id, job, say)
        self._lease = lease
        try:
            self.bring()
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Give the turn back."""
        if self._lease is not None:
            self._lease.give_back()
            self._lease = None

    def holder(self) -> str | None:
        """Say who has the turn among hosts; None where nobody has."""
        return Lease(self.bucket, TURN, "").holder()

    def bring(self, under: str = "") -> None:
        """Make the copy what the bucket is, below a folder: one request for a thousand objects, and one for each that has changed.

        Raises BucketError.
        """
        with locked(self._door):
            present = {stored.key: stored for stored in self.bucket.all(under) if not _is_of_this_host(stored.key)}
            for key in present:
                self._refuse_what_is_no_name(key)
            for note in [note for note in self._notes.rglob("*") if note.is_file()]:
                key = note.relative_to(self._notes).as_posix()
                if key not in present and (not under or key.startswith(f"{under}/")):
                    self._forget(key)
            shutil.rmtree(self._coming, ignore_errors=True)  # what killed processes have left
            self._coming.mkdir()
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                changed = [stored for stored in present.values() if not self._has(stored)]
                for _ in threads.map(self._fetch, changed):
                    pass

    @contextmanager
    def putting(self, unfinished: Path, path: Path) -> Iterator[None]:
        """Put a file, before it is given its name in the block. Raises BucketError, or LostTurnError before anything is written."""
        key = path.relative_to(self.folder).as_posix()
        if _is_of_this_host(key):
            yield
            return
        with locked(self._door):
            if self._lease is not None:
                self._lease.require()
            etag = self.bucket.put(key, unfinished)
            _set_time(unfinished, etag)
            yield
            self._note(key, etag)

    def written_at(self, path: Path) -> datetime | None:
        """Return when a file was put into the bucket, by whichever host: the times of files here say which object they are."""
        return self.bucket.written_at(path.relative_to(self.folder).as_posix())

    def remove(self, path: Path) -> None:
        """Remove an object with its file."""
        key = path.relative_to(self.folder).as_posix()
        if (self._notes / key).is_file():
            with locked(self._door):
                if self._lease is not None:
                    self._lease.require()
                self.bucket.remove(key)
                self._forget(key)

    def _fetch(self, stored: Stored) -> None:
        came = self._coming / secrets.token_hex(8)
        arrived = self.bucket.fetch(stored.key, came)
        if arrived is not None and stored.key.startswith("lake/") and stored.key.endswith(".parquet") and not _is_whole(came):
            arrived = self.bucket.fetch(stored.key, came)  # once more; if it is damaged there, whoever reads it says so
        if arrived is None:
            self._forget(stored.key)
            return
        _set_time(came, arrived.etag)
        path = self.folder / stored.key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            came.replace(path)
        except OSError as problem:
            raise BucketError(
                f"{self.bucket.name(stored.key)}: cannot be a file ({problem.strerror}). Is the disk of ATC_CACHE full, the name too long, "
                "or an object called like a folder of others?"
            ) from problem
        self._note(stored.key, arrived.etag)

    def _has(self, stored: Stored) -> bool:
        try:
            return (self._notes / stored.key).read_text(encoding="utf-8") == _noted(stored.etag, self.folder / stored.key)
        except (OSError, UnicodeDecodeError):
            return False

    def _note(self, key: str, etag: str) -> None:
        note = self._notes / key
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(_noted(etag, self.folder / key), encoding="utf-8")  # half a note is another one: the object is brought again

    def _forget(self, key: str) -> None:
        (self.folder / key).unlink(missing_ok=True)
        (self._notes / key).unlink(missing_ok=True)
        for folder in (self.folder / key).parents:
            if folder == self.folder:
                break
            with suppress(OSError):  # others are in it
                folder.rmdir()

    def _refuse_what_is_no_name(self, key: str) -> None:
        if any(part in {"", ".", ".."} or "\0" in part for part in key.split("/")):
            raise BucketError(f"{self.bucket.name(key)}: cannot be a file: give it another name, or remove it")

    def _disk_name(self) -> str:
        with locked(self._door):
            if not self._disk.exists() or not self._disk.read_text():
                self._disk.write_text(secrets.token_hex(8))
            return self._disk.read_text()


_mirrors: dict[Path, Mirror] = {}


def join(bucket: Objects, root: Path) -> Mirror:
    """Let what this process does in a folder be done in a bucket."""
    if (root / "home") not in _mirrors:
        _mirrors[root / "home"] = Mirror(bucket, root)
    return _mirrors[root / "home"]


def mirror_of(path: Path) -> Mirror | None:
    """Return the mirror that a file is in; None where it is a file of this host only."""
    return next((mirror for folder, mirror in _mirrors.items() if path.is_relative_to(folder)), None)


def bring(path: Path) -> None:
    """Look at the bucket again, where there is one. Raises BucketError."""
    if mirror := mirror_of(path):
        mirror.bring()


@contextmanager
def putting(unfinished: Path, path: Path) -> Iterator[None]:
    """Put a file into its bucket, where there is one, before it is given its name in the block."""
    mirror = mirror_of(path)
    if mirror is None:
        yield
    else:
        with mirror.putting(unfinished, path):
            yield


def removed(path: Path) -> None:
    """Remove the object that a file is, where there is one, before the file goes."""
    if mirror := mirror_of(path):
        mirror.remove(path)


def _is_of_this_host(key: str) -> bool:
    return key in {TURN, "atc.duckdb", "handed.log"}


def _is_whole(path: Path) -> bool:
    try:
        seal.test(path)
    except seal.BrokenSealError:
        return False
    return True


def _noted(etag: str, path: Path) -> str:
    stat = path.stat()
    return f"{etag} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"


def _set_time(path: Path, etag: str) -> None:
    nanoseconds = int.from_bytes(hashlib.sha256(etag.encode()).digest()[:8], "big") % (_LAST_SECOND * 10**9)
    os.utime(path, ns=(nanoseconds, nanoseconds))
