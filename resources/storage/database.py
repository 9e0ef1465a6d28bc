"""A DuckDB file that holds data of its own, which many processes use by turns.

What belongs here: opening it, writing it anew, and who is at work with it. What does not: what is in it (``resources.delivery.ledger``).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl
from dagster_duckdb import DuckDBResource

from resources.storage.files import replacing
from resources.storage.locks import Present, locked
from resources.storage.session import Dialect, Session, UnusableError

DUCKDB = Dialect(text="varchar", lowered="lower({})")

_HEADERS = 3 * 4096
"""Bytes that every DuckDB file has."""
_DAMAGED = "Corrupt database file"
"""What DuckDB says, by an error of no kind, of a block that is not what was written."""


@dataclass(frozen=True)
class FileSession:
    """A connection to the file."""

    connection: duckdb.DuckDBPyConnection
    present: Present

    def lend(self, name: str, frame: pl.DataFrame) -> None:
        """Register a frame."""
        self.connection.register(name, frame)

    def run(self, statement: str, **parameters: object) -> None:
        """Run a statement."""
        self.connection.execute(statement, parameters or None)

    def ask(self, statement: str, **parameters: object) -> pl.DataFrame:
        """Run a statement and return its rows."""
        rows: pl.DataFrame = self.connection.sql(statement, params=parameters or None).pl()
        return rows

    def senders(self) -> set[str]:
        """Return who is at work."""
        return self.present.names()


@dataclass(frozen=True)
class Database:
    """The file ``<home>/<name>.duckdb``, open only within a session, because DuckDB lets in one process at a time.

    Calls of ours take turns, and one that finds the file in use by somebody else tries again, as DuckDBResource does.
    """

    home: str
    name: str

    @property
    def path(self) -> Path:
        """Return where it is."""
        return Path(self.home) / f"{self.name}.duckdb"

    def is_there(self) -> bool:
        """Return whether anything was ever written."""
        return self.path.exists()

    @property
    def place(self) -> str:
        """Return where it is, for messages."""
        return str(self.path)

    @property
    def label(self) -> str:
        """Return the name of the file."""
        return self.path.name

    @property
    def dialect(self) -> Dialect:
        """Return DuckDB's."""
        return DUCKDB

    def sender(self) -> AbstractContextManager[str]:
        """Lend a name to be at work by: a locked file beside this one."""
        return self._present.name()

    @contextmanager
    def reading(self) -> Iterator[Session | None]:
        """Open the file, if there is one."""
        if not self.is_there():
            yield None
            return
        with self.writing() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Wait for all other calls to end, and open the file, which is made where it is missing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not a lock on the database itself: that is DuckDB's.
            with locked(self._door), self._undamaged(), DuckDBResource(database=str(self.path)).get_connection() as connection:
                # DuckDBResource closes only after success; a connection left open by an error would keep others out.
                try:
                    yield FileSession(connection, self._present)
                finally:
                    connection.close()
        except (OSError, duckdb.OperationalError) as problem:
            raise UnusableError(f"{self.path} cannot be read or written: {problem}") from problem

    def keep(self, session: Session, table: str, definition: str, condition: str) -> None:
        """Write a new file to take the place of this one: deleted rows would stay in the blocks it keeps for reuse."""
        with replacing(self.path, is_lasting=True) as unfinished:
            session.run("checkpoint")
            session.run("attach '" + str(unfinished).replace("'", "''") + "' as anew")
            beside_it = "select table_name from information_schema.tables where table_catalog = current_database() and table_name <> $table"
            for beside in session.ask(beside_it, table=table)["table_name"].sort():
                definitions = session.ask(
                    "select sql from duckdb_tables() where database_name = current_database() and table_name = $name", name=beside
                )
                session.run(definitions["sql"].item().replace(beside, f"anew.{beside}", 1))
                session.run(f"insert into anew.{beside} select * from {beside}")  # noqa: S608  # a name of ours
            session.run(definition.replace(table, f"anew.{table}", 1))
            session.run(f"insert into anew.{table} select * from {table} where {condition}")  # noqa: S608  # no text of data is in it
            session.run("detach anew")
            # While this connection holds the old file nobody else has it open, so nothing is written to it that would be lost.

    @property
    def _present(self) -> Present:
        return Present(Path(self.home) / ".senders", self._door)

    @property
    def _door(self) -> Path:
        return Path(self.home) / f"{self.name}.lock"

    @contextmanager
    def _undamaged(self) -> Iterator[None]:
        """Say what is no database, or has a block that is not what was written, and what to do.

        Of some DuckDBResource cannot tell that they are not merely in use, and would try for 100 seconds.
        """
        if self.is_there():
            with self.path.open("rb") as file:
                head = file.read(_HEADERS)
            if len(head) < _HEADERS or head[8:12] != b"DUCK":
                raise UnusableError(f"{self.path} is no DuckDB database: put back the last copy of it that was whole")
        try:
            yield
        except duckdb.Error as problem:
            if _DAMAGED not in str(problem):
                raise
            raise UnusableError(f"{self.path} is damaged ({problem}): put back the last copy of it that was whole") from problem
