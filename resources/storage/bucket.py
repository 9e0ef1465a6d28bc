"""A bucket of an S3-compatible store: whole objects, each put in one step, and told apart by what the store calls their ETag.

Where it is and who asks is told by the usual settings: ``AWS_ACCESS_KEY_ID``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``, ...

What belongs here: requests, how often they are tried again, what is told when they fail. What does not: what is asked of any store
(``objects``), which objects there are, and what they are on a disk (``mirror``).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import S3Store

from resources.storage.objects import Address, BucketError, ChangedError, MaybeWrittenError, Stored

REQUEST_SECONDS = 60
"""Until a request that is not answered counts as failed."""
RETRY_SECONDS = 180
"""For which a request is tried again, after ever longer pauses, where the store answers 5xx or not at all."""
MOST_RETRIES = 12
CHUNK = 2**23
"""Bytes of an object that are held in memory at a time."""


class Bucket:
    """The objects below a prefix, by their names from there on."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._store = S3Store(
            address.bucket,
            prefix=address.prefix or None,
            client_options={
                "allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"),
                "timeout": timedelta(seconds=REQUEST_SECONDS),
                "connect_timeout": timedelta(seconds=5),
            },
            retry_config={
                "max_retries": MOST_RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=15), "base": 2},
            },
        )

    def all(self, under: str = "") -> list[Stored]:
        """Return what is there below a folder: one request for a thousand objects."""
        with self._told(under, "be listed"):
            pages = obstore.list(self._store, prefix=under or None, chunk_size=1000)
            return [Stored(str(entry["path"]), str(entry["e_tag"]), int(entry["size"])) for page in pages for entry in page]

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return a small object and its ETag; None where there is none."""
        with self._told(key, "be read"):
            try:
                answer = obstore.get(self._store, key)
                return bytes(answer.bytes()), str(answer.meta["e_tag"])
            except FileNotFoundError:
                return None

    def fetch(self, key: str, path: Path) -> Stored | None:
        """Write an object into a file; None where there is none."""
        with self._told(key, "be read"):
            try:
                answer = obstore.get(self._store, key)
            except FileNotFoundError:
                return None
            with path.open("wb") as file:
                written = sum(file.write(chunk) for chunk in answer.stream(min_chunk_size=CHUNK))
        if written != answer.meta["size"]:
            raise BucketError(f"{self.name(key)}: {written} of {answer.meta['size']} bytes came. Run it again")
        return Stored(key, str(answer.meta["e_tag"]), written)

    def put(self, key: str, path: Path) -> str:
        """Put a file in the place of an object, in one step; return its ETag."""
        with self._told(key, "be written", is_writing=True):
            return str(obstore.put(self._store, key, path)["e_tag"])

    def create(self, key: str, content: bytes) -> str:
        """Put an object where there is none; return its ETag. Raises ChangedError where there is one."""
        with self._told(key, "be written", is_writing=True):
            return str(obstore.put(self._store, key, content, mode="create")["e_tag"])

    def swap(self, key: str, content: bytes, etag: str) -> str:
        """Put an object in the place of exactly that one; return its ETag. Raises ChangedError where another is there, or none."""
        with self._told(key, "be written", is_writing=True):
            return str(obstore.put(self._store, key, content, mode={"e_tag": etag})["e_tag"])

    def written_at(self, key: str) -> datetime | None:
        """Return when an object was put, by the store's clock; None where there is none."""
        with self._told(key, "be looked at"):
            try:
                put_at: datetime = obstore.head(self._store, key)["last_modified"]
            except FileNotFoundError:
                return None
        return put_at

    def remove(self, key: str) -> None:
        """Remove an object."""
        with self._told(key, "be removed"):
            obstore.delete(self._store, key)

    def name(self, key: str) -> str:
        """Return what an object is called, for messages."""
        return f"{self.address}/{key}"

    @contextmanager
    def _told(self, key: str, what: str, *, is_writing: bool = False) -> Iterator[None]:
        try:
            yield
        except (AlreadyExistsError, PreconditionError) as problem:
            raise ChangedError(self.name(key)) from problem
        except BucketError:
            raise
        except (BaseError, OSError) as problem:
            is_refused = isinstance(problem, (PermissionDeniedError, UnauthenticatedError, FileNotFoundError))
            kind = MaybeWrittenError if is_writing and not is_refused else BucketError
            raise kind(
                f"{self.name(key)}: cannot {what} ({_short(problem)}). Is the bucket there, do AWS_ACCESS_KEY_ID and the other AWS_ "
                "settings let this process use it, and does its store answer? Nothing is half written: when that is mended, run it again"
            ) from problem


def _short(problem: Exception) -> str:
    text = " ".join(str(problem).partition("Debug source:")[0].split())
    text = (text.partition(" - ")[2] or text).rstrip(": ")  # before it: which request to which address, and how often
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-100:]}"
