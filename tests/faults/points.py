"""Exact places at which a process dies: before, in the middle of and after whatever others may see.

What belongs here: counting those places, and dying there. What does not: which of them is chosen (``killing``).
"""

import http.client
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from resources.storage import seal

PLACES = ("before", "half", "after")


@dataclass(frozen=True)
class Point:
    """The ``number``-th time, from 0, that a stage comes by."""

    stage: str
    name: str
    number: int
    place: str


@dataclass
class Points:
    """Counts what a process comes by, by stage and name; dies at the chosen point."""

    chosen: Point | None = None
    stage: str = ""

    def __post_init__(self) -> None:
        self.passed: Counter[tuple[str, str]] = Counter()

    def around(self, name: str, act: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """Act, unless it is here that the process dies. ``half``: what is done where it dies in the middle; nothing = as before."""
        place = self._place(name)
        if place == "before":
            die()
        if place == "half":
            if half is not None:
                half()
            die()
        answer = act()
        if place == "after":
            die()
        return answer

    def _place(self, name: str) -> str | None:
        number = self.passed[self.stage, name]
        self.passed[self.stage, name] += 1
        chosen = self.chosen
        is_here = chosen is not None and (chosen.stage, chosen.name, chosen.number) == (self.stage, name, number)
        return chosen.place if chosen is not None and is_here else None


def die() -> None:
    """End this process as the kernel ends one that is out of memory: nothing is tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)


def install(points: Points) -> None:
    """Come by at each rename and flush, each table and text that is written, each use of a database, each request and its answer.

    In a process that is there to die: nothing is put back.
    """
    _wrap(points, os, "replace", "rename")
    _wrap(points, os, "rename", "rename of a folder")
    _wrap(points, os, "fsync", "flush")
    _wrap(points, seal, "lay", "seal")
    _wrap(points, Path, "write_text", "text", lambda path, text, **_: path.write_bytes(text.encode()[: len(text) // 2]))
    _wrap(points, pl.LazyFrame, "sink_parquet", "table", _half_a_table(pl.LazyFrame.sink_parquet))
    _wrap(points, http.client.HTTPConnection, "send", "request", lambda connection, data: connection.sock.sendall(data[: len(data) // 2]))
    _wrap(points, http.client.HTTPConnection, "getresponse", "answer")
    _wrap(points, duckdb.DuckDBPyConnection, "close", "database")  # before: a statement is done, and the file still open


def _wrap(points: Points, owner: Any, attribute: str, name: str, half: Callable[..., Any] | None = None) -> None:
    original = getattr(owner, attribute)

    @wraps(original)
    def wrapped(*args: Any, **options: Any) -> Any:
        in_the_middle = None if half is None else lambda: half(*args, **options)
        return points.around(name, lambda: original(*args, **options), in_the_middle)

    setattr(owner, attribute, wrapped)


def _half_a_table(write: Callable[..., Any]) -> Callable[..., None]:
    def write_half(frame: pl.LazyFrame, path: Any, **options: Any) -> None:
        write(frame, path, **options)
        if isinstance(path, Path):
            os.truncate(path, path.stat().st_size // 2)

    return write_half


def choices(passed: Mapping[tuple[str, str], int], stage: str) -> dict[str, int]:
    """Return how often a stage came by each kind of point."""
    return {name: count for (at, name), count in sorted(passed.items()) if at == stage}
