"""Tables made part by part, and read while they are made.

What belongs here: how a lazy frame is made of parts. What does not: what the parts are.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import polars as pl
from polars.io.plugins import register_io_source


def lazily(parts: Callable[[], Iterator[pl.DataFrame]], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """Make parts a lazy frame: a reader takes one after the other, and no two are in memory."""

    def read(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        for part in parts():
            rows = part if predicate is None else part.filter(predicate)
            rows = rows if n_rows is None else rows.head(n_rows)
            yield rows if with_columns is None else rows.select(with_columns)
            if n_rows is not None:
                n_rows -= rows.height
                if n_rows <= 0:
                    return

    return register_io_source(read, schema=pl.Schema(schema))


T = TypeVar("T")

U = TypeVar("U")


def in_parallel(work: Callable[[T], U], parts: Iterable[T], *, at_once: int | None = None) -> list[U]:
    """Do the work on each part, on all cores; results in the order of the parts. ``at_once``: no more than so many parts."""
    parts = list(parts)
    if len(parts) < 2:  # one part needs no thread
        return [work(part) for part in parts]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, at_once or len(parts))) as threads:
        return list(threads.map(work, parts))
