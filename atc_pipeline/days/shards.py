"""One shard of the customers as a store of its own: a step makes a day of it as it makes a day of everybody.

What is read of a day is what belongs to those who are in the shard *now*: somebody who turned out to be another customer since is read
under the old name, and not where that name lay. So a merge moves rows between shards without anything being written again.

What belongs here: which rows are whose. What does not: how a step is made of shards (``days.step``), where that is done
(``resources.runners``), and files (``resources.storage.lake``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

import polars as pl

from atc_pipeline.identity.map import absorbed
from atc_pipeline.rules.people import survivors, whose
from atc_pipeline.rules.shards import shard_of
from atc_pipeline.tables.store import Store, WrittenBy

CUSTOMER, EVENTS, MAP = "customer_id", "raw_events", "identity_map"
SHARD = "shard:"
KNOWN_AS = "known_as"
"""Of a table whose ``customer_id`` is an older name: who that is on the day, and by whom it lies in its shard."""


class Parted(Store, Protocol):
    """A store of which days may lie in parts, one for each shard that they were made of."""

    def part(self, table: str, day: date, number: int, shards: int) -> pl.LazyFrame | None:
        """Read the part of one of so many shards; None where the day was made of another number of them."""


@dataclass(frozen=True)
class Shard:
    """A store with the rows of some customers, of what the whole has: those who are in the shard ``number`` on the day ``today``.

    It is only read. Tables that are of nobody in particular are there as a whole. ``blocked``: as of ``identity.blocked``. ``events``:
    those of today, where they were divided among the shards before (``divided``); else they are looked for among all.
    """

    whole: Parted
    number: int
    shards: int
    today: date
    blocked: Sequence[str] = ()
    events: pl.LazyFrame | None = None
    _moved: dict[date | None, tuple[pl.Series, pl.Series]] = field(default_factory=dict, compare=False)

    @property
    def place(self) -> str:
        """Return where it is, for messages."""
        return self.whole.place

    def days(self, table: str) -> list[date]:
        """Return the days written, in order."""
        return self.whole.days(table)

    def has(self, table: str, day: date) -> bool:
        """Return whether the day was written."""
        return self.whole.has(table, day)

    def size(self, table: str, day: date) -> int:
        """Return about how many bytes a day of these customers takes."""
        return self.whole.size(table, day) // self.shards

    def definitions(self, table: str, day: date) -> dict[str, str]:
        """Return what a day's columns were made by."""
        return self.whole.definitions(table, day)

    def written_by(self, table: str, day: date) -> WrittenBy:
        """Return which portfolio and which code wrote a day."""
        return self.whole.written_by(table, day)

    def note_read(self, table: str, days: Iterable[date]) -> None:
        """Count days as read that are held in memory from days before."""
        self.whole.note_read(table, days)

    def write(
        self,
        table: str,
        day: date,
        frame: pl.DataFrame | pl.LazyFrame,
        definitions: Mapping[str, str] | None = None,
        portfolio: str | None = None,
    ) -> None:
        """Refuse: a day is written as a whole, once all its shards are there."""
        raise NotImplementedError

    def lazy(self, table: str, day: date) -> pl.LazyFrame:
        """Read what a day of a table has of these customers. Raises MissingDayError like the whole."""
        if table == EVENTS and day == self.today and self.events is not None:
            return self.events
        own = self.whole.part(table, day, self.number, self.shards) if day <= self.today else None
        if own is not None and day == self.today:
            return own
        rows = self.whole.lazy(table, day) if own is None else own
        names = self._names(table, rows)
        if names is None:
            return rows
        gone, come = self._moved_since(None if table == EVENTS else day)
        if own is None:
            is_own = (shard_of(names, self.shards) == self.number) & ~_among(names, gone)
            return rows.filter(is_own | _among(names, come))
        stayed = own.filter(~_among(names, gone)) if gone.len() else own
        if not come.len():
            return stayed
        elsewhere = (self.whole.part(table, day, number, self.shards) for number in range(self.shards) if number != self.number)
        return pl.concat([stayed, *(part.filter(_among(names, come)) for part in elsewhere if part is not None)])

    def scan(self, table: str, days: Iterable[date], *, may_lack: bool = False) -> pl.LazyFrame | None:
        """Read what those of the days that were written have of these customers; None if none was.

        The latest day says which columns there are; one that an earlier day lacks has nulls in it with ``may_lack``, and else it is as if
        it were nowhere, so that to use it is an error.
        """
        frames = {day: self.lazy(table, day) for day in sorted(set(days), reverse=True) if self.has(table, day)}
        if not frames:
            return None
        there = {day: frame.collect_schema() for day, frame in frames.items()}
        columns = [name for name in there[max(there)] if may_lack or all(name in schema for schema in there.values())]
        parts = [frame.select(name for name in columns if name in there[day]) for day, frame in frames.items()]
        return pl.concat(parts, how="diagonal" if may_lack else "vertical").select(columns)

    def _names(self, table: str, rows: pl.LazyFrame) -> pl.Expr | None:
        """Return whose a row of the table is, as it was known on the day; None for tables that are of nobody in particular."""
        if table == EVENTS:
            return whose(self.blocked)
        columns = rows.collect_schema()
        return next((pl.col(name) for name in (KNOWN_AS, CUSTOMER) if name in columns), None)

    def _moved_since(self, day: date | None) -> tuple[pl.Series, pl.Series]:
        """Return the names that are in another shard now than by themselves, and the names of other shards that are in this one now.

        ``day``: only those who changed after it; None: ever.
        """
        if day is not None and day >= self.today:
            return _NOBODY, _NOBODY
        if day not in self._moved:
            people = self.whole.lazy(MAP, self.today)
            changed = absorbed(people if day is None else people.filter(pl.col("valid_from") > day))
            lay, lies = shard_of("absorbed", self.shards) == self.number, shard_of(CUSTOMER, self.shards) == self.number
            moved = changed.filter(lay != lies).select("absorbed", is_gone=lay).collect()
            gone = moved.filter("is_gone")["absorbed"]
            self._moved[day] = gone, moved.filter(~pl.col("is_gone"))["absorbed"]
        return self._moved[day]


def divided(events: pl.LazyFrame, people: pl.LazyFrame, shards: int, blocked: Sequence[str]) -> pl.LazyFrame:
    """Say of events in which shard those are who did them, as ``SHARD``; ``people``: the map of the day.

    Most names of an event are another customer's by now: whoever logged in once. So events are divided once, and not looked for by each.
    """
    named = survivors(events.with_columns(whose(blocked)), absorbed(people))
    return named.with_columns(shard_of(CUSTOMER, shards).alias(SHARD)).drop(CUSTOMER)


_NOBODY = pl.Series(dtype=pl.String)


def _among(names: pl.Expr, these: pl.Series) -> pl.Expr:
    return names.is_in(these.implode()).fill_null(value=False)
