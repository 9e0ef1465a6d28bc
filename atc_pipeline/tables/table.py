"""What a table is, as data: its name, what a row of it is, its key, and of each column the type, the meaning and what may stand in it.

All that is known of a table derives from this: empty frames, the schema checks, what the catalog shows, docs/tables.md.

What belongs here: what tables have in common. What does not: any table (``tables`` of each room), or testing a frame
(``assets.schemas``).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import polars as pl

from atc_pipeline.journeys.portfolio import Portfolio

MOMENT = pl.Datetime("us", "UTC")
"""The type of a time of day on some day; days are Date."""


@dataclass(frozen=True)
class Column:
    """One column: its type, what it means (Markdown), and the bounds of what may stand in it."""

    name: str
    dtype: pl.DataType
    meaning: str
    _: KW_ONLY
    is_nullable: bool = False
    at_least: float | None = None
    at_most: float | None = None
    one_of: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Table:
    """One table of the lake, and everything that is said of it.

    ``columns`` in the order of the file, ``date`` first. No two rows of a day have the same ``key``, and rows are sorted by it.
    """

    name: str
    meaning: str
    _: KW_ONLY
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        """Raise ValueError where the description is not whole."""
        names = [column.name for column in self.columns]
        named = {
            "its columns do not begin with DATE": names[:1] if self.columns[:1] != (DATE,) else [],
            "its meaning does not begin with `One row per`": [] if self.meaning.startswith("One row per ") else [self.meaning],
            "columns without a meaning": [column.name for column in self.columns if not column.meaning],
            "columns that are there twice": [name for name, times in Counter(names).items() if times > 1],
            "its key is of columns that it has not": [name for name in self.key if name not in names],
        }
        faults = [f"{fault}: {', '.join(culprits)}" for fault, culprits in named.items() if culprits]
        if faults:
            raise ValueError(f"table {self.name}: {'; '.join(faults)}")

    @property
    def schema(self) -> pl.Schema:
        """The columns' types by name, in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})


Entry = Table | Callable[[Portfolio], Table]
"""A table, or how it is said for a portfolio, on whose names and traits it depends."""


DATE = Column("date", pl.Date(), "The business day this row is about: the partition.")
CUSTOMER_ID = Column("customer_id", pl.String(), "`userId`, or `anon:<anonymousId>` while no user is known.")
JOURNEY_ID = Column("journey_id", pl.String(), "A journey of journeys.yaml.")
SEGMENT_ID = Column("segment_id", pl.String(), "A micro-segment of journeys.yaml, or `everyone_else`.")
