"""Whole objects under names, as a bucket keeps them: what is asked of a store, whichever it is, and how it refuses.

What belongs here: those questions. What does not: a store that answers them (``bucket``), who asks (``mirror``, ``lease``).
"""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol, Self


class BucketError(OSError):
    """The store refused a request, or did not answer; the message names the object."""


class MaybeWrittenError(BucketError):
    """An object was sent, and no answer came: it may be there."""


class ChangedError(Exception):
    """An object is not, or no longer, the one that was to be replaced."""


class Stored(NamedTuple):
    """An object that is there."""

    key: str
    etag: str
    size: int


@dataclass(frozen=True)
class Address:
    """``s3://<bucket>/<prefix>``."""

    bucket: str
    prefix: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Read an address. Raises ValueError, which repeats nothing of the text."""
        scheme, _, place = text.partition("://")
        bucket, _, prefix = place.partition("/")
        prefix = prefix.strip("/")
        is_path = all(part not in {"", ".", ".."} for part in prefix.split("/")) or not prefix
        if scheme.lower() != "s3" or not re.fullmatch(r"[A-Za-z0-9._-]+", bucket) or not is_path:
            raise ValueError("is no s3://<bucket>/<prefix>")
        return cls(bucket, prefix)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


class Objects(Protocol):
    """The objects below an address, by their names from there on. All raise BucketError."""

    def all(self, under: str = "") -> list[Stored]:
        """Return what is there below a folder."""

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return a small object and its ETag; None where there is none."""

    def fetch(self, key: str, path: Path) -> Stored | None:
        """Write an object into a file; None where there is none."""

    def put(self, key: str, path: Path) -> str:
        """Put a file in the place of an object, in one step; return its ETag. Raises MaybeWrittenError where no answer came."""

    def create(self, key: str, content: bytes) -> str:
        """Put an object where there is none; return its ETag. Raises ChangedError where there is one."""

    def swap(self, key: str, content: bytes, etag: str) -> str:
        """Put an object in the place of exactly that one; return its ETag. Raises ChangedError where another is there, or none."""

    def written_at(self, key: str) -> datetime | None:
        """Return when an object was put, by the store's clock; None where there is none."""

    def remove(self, key: str) -> None:
        """Remove an object."""

    def name(self, key: str) -> str:
        """Return what an object is called, for messages."""
