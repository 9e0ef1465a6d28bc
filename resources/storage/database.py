"""A DuckDB file that holds data of its own, which many processes use by turns.

What belongs here: opening it, writing it anew, and who is at work with it. What does not: what is in it (``resources.delivery.ledger``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
from dagster_duckdb import DuckDBResource

from resources.storage.files import replacing
from resources.storage.locks import Present, locked

_HEADERS = 3 * 4096
"""Bytes that every DuckDB file has."""
_DAMAGED = "Corrupt database file"
"""What DuckDB says, by an error of no kind, of a block that is not what was written."""


class UnusableError(Exception):
    """The file cannot be read or written, or is no database; the message begins with its name."""


@dataclass(frozen=True)
class Database:
    """The file ``<home>/<name>.duckdb``, open only within ``open``, because DuckDB lets in one process at a time.

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
    def senders(self) -> Present:
        """Return who is at work; to be asked while the database is open."""
        return Present(Path(self.home) / ".senders", self._door)

    @contextmanager
    def open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Wait for all other calls to end, and open the file. Raises UnusableError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not a lock on the database itself: that is DuckDB's.
            with locked(self._door), self._undamaged(), DuckDBResource(database=str(self.path)).get_connection() as connection:
                # DuckDBResource closes only after success; a connection left open by an error would keep others out.
                try:
                    yield connection
                finally:
                    connection.close()
        except (OSError, duckdb.OperationalError) as problem:
            raise UnusableError(f"{self.path} cannot be read or written: {problem}") from problem

    @contextmanager
    def anew(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Attach an empty file as ``anew``, to take the place of this one: deleted rows would stay in the blocks it keeps for reuse."""
        with replacing(self.path, is_lasting=True) as unfinished:
            connection.execute("checkpoint")
            connection.execute("attach '" + str(unfinished).replace("'", "''") + "' as anew")
            yield
            connection.execute("detach anew")
            # While this connection holds the old file nobody else has it open, so nothing is written to it that would be lost.

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
