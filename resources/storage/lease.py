"""The turn among hosts: an object of the bucket that says who has it, renewed as long as its holder lives.

What belongs here: taking, renewing, taking over. What does not: the turn among processes of one host (``turn``).

No clocks are compared: whoever waits takes over when it has not seen a renewal for ``SECONDS`` of its own time; the holder writes no
more when its own last renewal was begun ``SECONDS`` less a quarter ago. So the holder always stops first, whatever the hour.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from resources.storage.objects import BucketError, ChangedError, Objects

SECONDS = 60.0
"""Without a renewal after which a holder counts as dead."""
RENEWED = 4
"""Renewals in that time."""
POLL_SECONDS = 1.0
SAID_EVERY = 60.0
"""Seconds between two lines in the log of whoever waits."""


class LostTurnError(Exception):
    """The process could not renew its turn in time, or another has it now: it must not write any more."""


class Lease:
    """The right to write to a bucket, and to send, until it is given back or its holder is not heard of any more."""

    def __init__(self, bucket: Objects, key: str, disk: str) -> None:
        """``disk``: a name that nobody has but who waits for the turn of this host beforehand; its former holder is dead."""
        self._bucket, self._key, self._disk = bucket, key, disk
        self._token = secrets.token_hex(8)
        self._etag = ""
        self._count = 0
        self._holder: dict[str, Any] = {}
        self._renewed_at = 0.0
        self._is_lost = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, run_id: str, job: str, say: Callable[[str], None]) -> None:
        """Wait for the turn. ``say``: who has it, at once and every minute. Raises BucketError."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._holder = {"run": run_id, "job": job, "pid": os.getpid(), "host": socket.gethostname(), "since": since, "disk": self._disk}
        seen, seen_at, told_at = "", _now(), None
        while True:
            present = self._bucket.read(self._key)
            if present is None or self._is_open(present[0]) or (present[1] == seen and _now() - seen_at > SECONDS):
                with suppress(ChangedError):
                    self._write(None if present is None else present[1])
                    break
            elif present[1] != seen:
                seen, seen_at = present[1], _now()
            if present is not None and (told_at is None or _now() - told_at >= SAID_EVERY):
                told_at = _now()
                say(f"waiting for {_name(present[0])}: one run at a time reads, writes and sends")
            time.sleep(POLL_SECONDS)  # Dagster raises in here when the run is terminated
        if told_at is not None:
            say("it is our turn now")
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def give_back(self) -> None:
        """End the turn; where the bucket does not answer, it ends by itself."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if not self._is_lost:
            with suppress(BucketError, ChangedError):
                self._bucket.swap(self._key, json.dumps({"free": self._token}).encode(), self._etag)

    def require(self) -> None:
        """Raise LostTurnError unless nobody else can have taken over."""
        if self._is_lost or _now() - self._renewed_at > SECONDS * 3 / 4:
            raise LostTurnError(
                f"{self._bucket.name(self._key)}: this run has lost its turn: it could not say for {SECONDS * 3 / 4:.0f} s that it lives, "
                "and another may write now. It stops here, and what it has written is whole: run it again"
            )

    def holder(self) -> str | None:
        """Say who has the turn; None where nobody has."""
        present = self._bucket.read(self._key)
        return None if present is None or not _document(present[0]).get("token") else _name(present[0])

    def _is_open(self, content: bytes) -> bool:
        document = _document(content)
        return not document.get("token") or document.get("disk") == self._disk

    def _keep(self) -> None:
        while not self._ended.wait(SECONDS / RENEWED):
            try:
                self._write(self._etag)
            except ChangedError:
                self._is_lost = True
                return
            except BucketError:
                continue  # ``require`` says when it is too late

    def _write(self, etag: str | None) -> None:
        """Say that we have it. Raises ChangedError where another was quicker; our own words of which no answer came are ours."""
        begun = _now()
        self._count += 1
        content = json.dumps(self._holder | {"token": self._token, "renewals": self._count}).encode()
        try:
            self._etag = self._bucket.create(self._key, content) if etag is None else self._bucket.swap(self._key, content, etag)
        except ChangedError:
            present = self._bucket.read(self._key)
            if present is None or _document(present[0]).get("token") != self._token:
                raise
            self._etag = present[1]
        self._renewed_at = begun


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _name(content: bytes) -> str:
    holder = _document(content)
    if not holder.keys() >= {"run", "job", "pid", "host", "since"}:
        return "another run"
    return f"run {holder['run']} of {holder['job']} (process {holder['pid']} on {holder['host']}, since {holder['since']})"


def _now() -> float:
    """Seconds that pass while the host sleeps, too, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
