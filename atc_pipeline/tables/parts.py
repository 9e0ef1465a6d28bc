"""Tables made part by part, and read while they are made.

What belongs here: how a lazy frame is made of parts. What does not: what the parts are.
"""

from collections.abc import Callable, Iterator, Mapping

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
