"""What the ledger asks of a database, whichever it is: frames lent to statements, and statements that all understand.

What belongs here: the few calls, and how a column of text is declared. What does not: a database (``database``, ``postgres``), a statement
(``resources.delivery.ledger``).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import polars as pl


class UnusableError(Exception):
    """The database cannot be read or written, or is none; the message begins with its name."""


@dataclass(frozen=True)
class Dialect:
    """Where two databases cannot be told the same: all of it."""

    text: str
    """The type of a text that is compared byte by byte."""
    lowered: str
    """The expression that makes the text ``{}`` small, in every language."""


class Session(Protocol):
    """All statements of one call: what they write is there together, or not at all."""

    def lend(self, name: str, frame: pl.DataFrame) -> None:
        """Let statements read a frame as a table of that name: texts, days, truths."""

    def run(self, statement: str, **parameters: object) -> None:
        """Run a statement, whose parameters it calls ``$name``."""

    def ask(self, statement: str, **parameters: object) -> pl.DataFrame:
        """Run a statement and return its rows."""

    def senders(self) -> set[str]:
        """Return who is at work. Nobody comes, and nobody else writes, before this session ends."""


class Keeping(Protocol):
    """A database that keeps data of its own, for many processes."""

    @property
    def place(self) -> str:
        """Return where it is, for messages: without a secret."""

    @property
    def label(self) -> str:
        """Return what it is called beside other places."""

    @property
    def dialect(self) -> Dialect:
        """Return what it must be told otherwise."""

    def writing(self) -> AbstractContextManager[Session]:
        """Wait for all others that write, and open it. Raises UnusableError."""

    def reading(self) -> AbstractContextManager[Session | None]:
        """Open it; None where nothing was ever written, which stays so. Raises UnusableError."""

    def sender(self) -> AbstractContextManager[str]:
        """Lend a name to be at work by, until the block ends or the process dies. Raises UnusableError."""

    def keep(self, session: Session, table: str, definition: str, condition: str) -> None:
        """Drop a table's rows but those of the condition, and leave none of their bytes in it. The last a session does."""


def columns_of(session: Session, table: str) -> Sequence[str]:
    """Return the columns of a table; none where there is no such table."""
    asked = "select column_name from information_schema.columns where table_schema = current_schema() and table_name = $name"
    return session.ask(asked, name=table)["column_name"].to_list()
