"""Memberships: what each destination was told that somebody is in, and what it acknowledged.

What belongs here: the one table, beside the ledger's, and its set-based operations. What does not: what is to be told (the engine), telling
(``destinations``), the order of the two (``synchronizing``).
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from resources.delivery.ledger import Ledger, LedgerError
from resources.storage.session import Dialect, Session, UnusableError, columns_of

TABLE = """
create table if not exists memberships (
    audience_id varchar not null,
    destination varchar not null,
    customer_id varchar not null,
    checksum varchar not null,
    identifiers varchar not null,
    acknowledged_at timestamptz,
    primary key (audience_id, destination, customer_id)
)
"""
COLUMNS = tuple(re.findall(r"(?m)^    (\w+) (?:varchar|timestamptz)", TABLE))
SCHEMA = {name: pl.Datetime("us", "UTC") if name == "acknowledged_at" else pl.String() for name in COLUMNS}
KEY = COLUMNS[:3]


def table(dialect: Dialect) -> str:
    """Return the statement that creates the table."""
    return TABLE.replace("varchar", dialect.text)


@dataclass(frozen=True)
class Memberships:
    """The table ``memberships`` in the ledger's database: one row per audience, destination and customer who is, or may be, there.

    A row is written before somebody is told of, with the identifiers that will be, and is ``acknowledged_at`` when the destination said
    so. It goes when the destination acknowledged that they are out: whoever may be there can be removed, by what was sent.
    """

    ledger: Ledger

    @property
    def place(self) -> str:
        """Return where it is, for messages."""
        return self.ledger.place

    @property
    def label(self) -> str:
        """Return what it is called beside other places."""
        return self.ledger.label

    def rows(self) -> pl.DataFrame:
        """One row per membership, sorted. Does not create the ledger."""
        with self._reading() as session:
            if session is None:
                return pl.DataFrame(schema=SCHEMA)
            return session.ask(f"select {', '.join(COLUMNS)} from memberships order by {', '.join(KEY)}").cast(dict(SCHEMA))  # noqa: S608

    def claim(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Write down who is about to be told of (``KEY, checksum, identifiers``); return the keys of those who were not there before."""
        with self._writing() as session:
            session.lend("batch", rows.select(*COLUMNS[:5]))
            before = session.ask(KNOWN)
            session.run(CLAIM)
        return rows.select(KEY).join(before, on=KEY, how="anti")

    def acknowledge(self, keys: pl.DataFrame, now: datetime) -> None:
        """Write down that a destination said that these are there."""
        if keys.is_empty():
            return
        with self._writing() as session:
            session.lend("batch", keys.select(KEY))
            session.run(ACKNOWLEDGE, now=now)

    def drop(self, keys: pl.DataFrame) -> None:
        """Forget rows of which a destination said that they are out, or never came in."""
        if keys.is_empty():
            return
        with self._writing() as session:
            session.lend("batch", keys.select(KEY))
            session.run(f"delete from memberships where exists (select 1 from batch where {SAME})")  # noqa: S608  # no text of data

    def take_over(self, rows: pl.DataFrame) -> None:
        """Write rows of another ledger as they are, but those that are known here."""
        if rows.is_empty():
            return
        with self._writing(is_moving=True) as session:
            session.lend("batch", rows.select(COLUMNS))
            names = ", ".join(COLUMNS)
            session.run(f"insert into memberships ({names}) select {names} from batch on conflict do nothing")  # noqa: S608

    def forget(self, customers: Sequence[str]) -> None:
        """Drop all rows of these customers by writing the table anew, so that none of their bytes stays in it."""
        with self._reading() as session:
            if session is None:
                return
        with self._writing() as session:
            session.lend("gone", pl.DataFrame({"customer_id": customers}, schema={"customer_id": pl.String}))
            database = self.ledger.database
            database.keep(session, "memberships", table(database.dialect), "customer_id not in (select customer_id from gone)")

    @contextmanager
    def _reading(self) -> Iterator[Session | None]:
        with self._naming_it(), self.ledger.database.reading() as session:
            yield session if session is not None and columns_of(session, "memberships") else None

    @contextmanager
    def _writing(self, *, is_moving: bool = False) -> Iterator[Session]:
        with self._naming_it():
            database = self.ledger.database
            with database.writing() as session:
                if not columns_of(session, "memberships"):
                    if not is_moving and not columns_of(session, "deliveries"):
                        self.ledger.refuse_to_begin_anew()
                    session.run(table(database.dialect))
                yield session

    @contextmanager
    def _naming_it(self) -> Iterator[None]:
        try:
            yield
        except UnusableError as problem:
            raise LedgerError(f"the delivery ledger {problem}") from problem


SAME = " and ".join(f"memberships.{name} = batch.{name}" for name in KEY)
KNOWN = f"select {', '.join(f'memberships.{name}' for name in KEY)} from memberships join batch on {SAME}"  # noqa: S608  # names of ours
CLAIM = """
    insert into memberships (audience_id, destination, customer_id, checksum, identifiers)
    select audience_id, destination, customer_id, checksum, identifiers from batch
    on conflict (audience_id, destination, customer_id) do update set
        checksum = excluded.checksum, identifiers = excluded.identifiers, acknowledged_at = null
"""
ACKNOWLEDGE = f"update memberships set acknowledged_at = $now::timestamptz from batch where {SAME}"  # noqa: S608
