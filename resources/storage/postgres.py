"""A PostgreSQL server that holds data of its own, for processes of many hosts.

What belongs here: connecting, what frames and parameters are to it, who is at work with it, and telling its troubles without a secret.
What does not: what is in it (``resources.delivery.ledger``), Dagster's own records.
"""

import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl
import polars.selectors as cs
import psycopg
from psycopg.conninfo import conninfo_to_dict

from resources.storage.session import Dialect, Session, UnusableError

POSTGRES = Dialect(text='text collate "C"', lowered='lower({} collate "und-x-icu")')

TROUBLES = (psycopg.OperationalError, psycopg.InternalError, psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName)
"""What the server, the network or its administrator is to blame for; all else is a mistake of ours, and reads as one."""
LOCKS = 0x415443
"""The first half of the names of our advisory locks: ATC."""
DOOR = 0
"""The second half of the lock that whoever writes has; all others are of those at work."""
SETTINGS = {
    "timezone": "UTC",
    "idle_session_timeout": "0",  # whoever is at work says nothing while it sends
    "idle_in_transaction_session_timeout": "60s",  # a process that is stopped in the middle would keep all others out
    "lock_timeout": "60s",
    "tcp_keepalives_idle": "30",  # a host that lost its power is no longer at work after a minute
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
PATIENCE = {"connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
"""What libpq is told, unless the address says otherwise."""

_TYPES = {pl.String: "text", pl.Date: "date", pl.Boolean: "boolean", pl.Null: "text", pl.Int64: "bigint", pl.Datetime: "timestamptz"}
_READ_AS: dict[str, pl.DataType] = {
    "text": pl.String(),
    "varchar": pl.String(),
    "name": pl.String(),
    "int8": pl.Int64(),
    "bool": pl.Boolean(),
    "date": pl.Date(),
    "timestamptz": pl.Datetime("us", "UTC"),
    "oid": pl.Int64(),
}
_PARAMETER = re.compile(r"\$([a-z_]+)")
_NUL, _MARK = "\0", "\ufdd0"
"""A text may have a NUL, but not in PostgreSQL: it is kept as a mark, which is no letter, and 0; and the mark itself as mark and 1."""


@dataclass(frozen=True)
class ServerSession:
    """A transaction."""

    connection: psycopg.Connection
    lent: dict[str, pl.DataFrame] = field(default_factory=dict)
    afterwards: list[str] = field(default_factory=list)

    def lend(self, name: str, frame: pl.DataFrame) -> None:
        """Hand a frame over with each statement that names it: as arrays, a parameter a column, so that nothing is left in catalogs."""
        self.lent[name] = frame

    def run(self, statement: str, **parameters: object) -> None:
        """Run a statement."""
        self._execute(statement, parameters)

    def ask(self, statement: str, **parameters: object) -> pl.DataFrame:
        """Run a statement and return its rows."""
        cursor = self._execute(statement, parameters)
        known = self.connection.adapters.types
        schema = {column.name: _READ_AS[known[column.type_code].name] for column in cursor.description or []}
        return pl.DataFrame(cursor.fetchall(), schema=schema, orient="row").with_columns(_unmarked(cs.string()))

    def senders(self) -> set[str]:
        """Return who is at work."""
        at_work = """
            select objid from pg_locks where locktype = 'advisory' and classid = $locks and objsubid = 2 and objid <> $door
            and granted and database = (select oid from pg_database where datname = current_database())
        """
        return {_name(number) for number in self.ask(at_work, locks=LOCKS, door=DOOR)["objid"]}

    def _execute(self, statement: str, parameters: dict[str, Any]) -> psycopg.Cursor[Any]:
        frames = {name: frame for name, frame in self.lent.items() if re.search(rf"\b{name}\b", statement)}
        given = parameters | {
            f"{name}_{number}": column.to_list()
            for name, frame in frames.items()
            for number, column in enumerate(frame.with_columns(_marked(cs.string())))
        }
        tables = ", ".join(_as_table(name, frame) for name, frame in frames.items())
        heading = f"with {tables} " if tables else ""
        return self.connection.execute((heading + _PARAMETER.sub(r"%(\1)s", statement)).encode(), given or None)


@dataclass(frozen=True)
class Server:
    """A database of a server, by its address. A connection is open only within each session, and as long as a sender is at work.

    A sender is at work while it holds a lock of its own, which the server takes back when the connection ends, however it ends.
    """

    address: str = field(repr=False)

    @property
    def place(self) -> str:
        """Return where it is, without user and password."""
        known = self._known
        port = f":{known['port']}" if known.get("port") else ""
        return f"postgresql://{known.get('host') or 'localhost'}{port}/{known.get('dbname') or ''}"

    @property
    def label(self) -> str:
        """Return what it is called beside files."""
        return "postgresql"

    @property
    def dialect(self) -> Dialect:
        """Return PostgreSQL's."""
        return POSTGRES

    @contextmanager
    def sender(self) -> Iterator[str]:
        """Lend a name to be at work by."""
        number = secrets.randbelow(2**31 - 1) + 1
        with self._naming_it():
            connection = self._connected(f"atc_pipeline sends from {socket.gethostname()}, process {os.getpid()}")
        try:
            with self._naming_it():
                connection.execute("select pg_advisory_lock(%s, %s)", [LOCKS, number])
            yield _name(number)
        finally:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[Session | None]:
        """Open a transaction, in which what others write in the meantime is seen."""
        with self._naming_it(), self._connected() as connection, connection.transaction():
            yield ServerSession(connection)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Wait for all other transactions that write, and open one."""
        with self._naming_it(), self._connected() as connection:
            session = ServerSession(connection)
            with connection.transaction():
                connection.execute("select pg_advisory_xact_lock(%s, %s)", [LOCKS, DOOR])
                yield session
            for statement in session.afterwards:
                connection.execute(statement.encode())

    def keep(self, session: Session, table: str, definition: str, condition: str) -> None:  # noqa: ARG002
        """Delete the other rows, and then write the table anew: their bytes would stay in its pages."""
        session.run(f"delete from {table} where not ({condition})")  # noqa: S608  # no text of data is in it
        assert isinstance(session, ServerSession)
        session.afterwards.append(f"vacuum (full, analyze) {table}")

    @cached_property
    def _known(self) -> dict[str, Any]:
        try:
            known = conninfo_to_dict(self.address)
        except psycopg.ProgrammingError:  # its message repeats what it does not understand, which may be part of a password
            known = {"port": "?"}
        # What is not escaped in a password is taken for a port, a host or a database.
        host, port, database = (str(known.get(part) or "") for part in ("host", "port", "dbname"))
        if not re.fullmatch(r"[0-9,]*", port) or not re.fullmatch(r"[\w.:,-]*|/[\w./-]*", host) or re.search(r"[@:/?#%]", database):
            raise UnusableError(
                "is no address that can be understood: expected postgresql://user:password@host:5432/database, with every other letter "
                "than a to z and 0 to 9 in user and password written as %, as %40 for @"
            )
        return known

    def _connected(self, name: str = "atc_pipeline") -> psycopg.Connection:
        known = {key: value for key, value in self._known.items() if value is not None}
        options = " ".join([known.get("options", ""), *(f"-c {setting}={value}" for setting, value in SETTINGS.items())])
        ours = {"options": options, "application_name": name, "client_encoding": "UTF8"}
        connection = psycopg.connect(**PATIENCE | known | ours, autocommit=True)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise UnusableError(f"{self.place} keeps text as {encoding}: create the database with encoding UTF8")
        return connection

    @contextmanager
    def _naming_it(self) -> Iterator[None]:
        try:
            yield
        except TROUBLES as problem:
            words = " ".join(str(problem).split())
            password = self._known.get("password")
            shown = words.replace(password, "***") if password else words
            raise UnusableError(f"{self.place} cannot be read or written: {shown}") from None


def _as_table(name: str, frame: pl.DataFrame) -> str:
    """Return the common table expression for a frame whose columns are parameters; names are ours."""
    arrays = ", ".join(f"%({name}_{number})s::{_TYPES[column.dtype.base_type()]}[]" for number, column in enumerate(frame))
    return f"{name} ({', '.join(frame.columns)}) as (select * from unnest({arrays}))"  # noqa: S608


def _name(number: int) -> str:
    return f"{number:08x}"


def _marked(texts: pl.Expr) -> pl.Expr:
    return texts.str.replace_all(_MARK, f"{_MARK}1", literal=True).str.replace_all(_NUL, f"{_MARK}0", literal=True)


def _unmarked(texts: pl.Expr) -> pl.Expr:
    return texts.str.replace_all(f"{_MARK}0", _NUL, literal=True).str.replace_all(f"{_MARK}1", _MARK, literal=True)
