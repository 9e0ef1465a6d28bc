"""One run at a time: whoever reads to write, or sends, waits until it is its turn.

What belongs here: waiting for the lock, and who holds it. What does not: what is done under it.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from resources.storage.locks import try_to_lock

POLL_SECONDS = 0.2
SAID_EVERY = 300
"""Polls between two lines in the log of whoever waits: a minute."""


class NoTurnError(Exception):
    """The lock cannot be taken by anybody: where it lies, nothing can be written."""


@dataclass(frozen=True)
class Turn:
    """The right to write and to send, until it is given back or its process ends, however it ends.

    It is an ``flock``, which the kernel takes back from a dead process; so it holds among the processes of one host.
    """

    path: Path

    def take(self, run_id: str, job: str, say: Callable[[str], None]) -> IO[str]:
        """Wait for the turn; return what is to be given back. ``say``: who has it, at once and every minute."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+", encoding="utf-8")
        except OSError as problem:
            raise NoTurnError(f"{self.path}: {problem.strerror}. Every run writes there: make the folder writable") from None
        try:
            self._wait(file, say)
            file.truncate(0)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            json.dump({"run": run_id, "job": job, "pid": os.getpid(), "host": socket.gethostname(), "since": since}, file)
            file.flush()
        except OSError as problem:  # a full disk: the turn is ours, though nobody will read by whose name
            say(f"{self.path}: {problem.strerror}")
        except BaseException:
            file.close()
            raise
        return file

    def give_back(self, file: IO[str]) -> None:
        """End the turn, whatever can be written."""
        with suppress(OSError):  # a disk that is full, or read-only by now: the name stays, the lock does not
            file.truncate(0)
        with suppress(OSError):  # what could not be written before is written again
            file.close()

    def _wait(self, file: IO[str], say: Callable[[str], None]) -> None:
        polls = 0
        while not try_to_lock(file):
            if polls % SAID_EVERY == 1:  # whoever has only just taken it has written by now who that is
                say(f"waiting for {self.holder()}: one run at a time reads, writes and sends")
            polls += 1
            time.sleep(POLL_SECONDS)  # Dagster raises in here when the run is terminated
        if polls > 1:
            say("it is our turn now")

    def is_held(self) -> bool:
        """Return whether somebody has the turn now; False too where nobody may look."""
        try:
            with self.path.open(encoding="utf-8") as file:
                return not try_to_lock(file, is_shared=True)
        except OSError:
            return False

    def holder(self) -> str:
        """Say who has the turn, or had it last."""
        try:
            holder = json.loads(self.path.read_text(encoding="utf-8"))
            return f"run {holder['run']} of {holder['job']} (process {holder['pid']} on {holder['host']}, since {holder['since']})"
        except (OSError, ValueError, KeyError, TypeError):  # it has only just taken it
            return "another run"
