"""The delivery ledger: which messages were handed over, and what became of each.

What belongs here: the one table and its set-based operations, with no trace of who sends or where to.
What does not: deciding what to send (the engine), sending it (``channels``), the order of the two (``delivery``).
"""

import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
from dagster_duckdb import DuckDBResource
from pydantic import Field

from resources.storage.files import beside

TABLE = """
create table if not exists deliveries (
    idempotency_key varchar primary key,
    date date not null,
    customer_id varchar not null,
    journey_id varchar not null,
    channel varchar not null,
    status varchar not null check (status in ('pending', 'delivered', 'failed', 'unknown')),
    attempts bigint not null,
    first_attempt_at timestamptz not null,
    last_attempt_at timestamptz not null,
    decision varchar,
    sender varchar,
    reason varchar,
    is_final boolean
)
"""
NEWER = ("sender varchar", "reason varchar", "is_final boolean")
"""Columns that files of older versions lack: who claimed a message last, and of its outcome why, and whether the receiver decided it.
At the end of ``TABLE``, so that a file has its columns in one order however old it is."""


class LedgerError(Exception):
    """The ledger cannot be read or written, so that nothing may be sent."""


class Ledger(dg.ConfigurableResource["Ledger"]):
    """The file ``<home>/ledger.duckdb``, whose table ``deliveries`` has one row per message ever handed over.

    ``pending`` is written before a message leaves and replaced after. It belongs to its ``sender`` as long as that lives. Where
    a sender dies in between it stays: such a message may or may not have arrived, like one that is ``unknown``.
    Only ``delivered`` is never claimed again.

    The file is open only within each call, because DuckDB lets in one process at a time; calls of ours take turns, and one that
    finds the file in use by somebody else tries again, as DuckDBResource does.
    """

    home: str = Field(description="The folder that holds ledger.duckdb (ATC_HOME).")

    @contextmanager
    def sender(self) -> Iterator[str]:
        """Lend a name to claim messages by. Its claims are respected until the block ends or the process dies.

        Whoever lives holds a lock on a file of that name, which the kernel lets go with the process, however that ends.
        """
        self._senders.mkdir(parents=True, exist_ok=True)
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        with self._turn():
            self._living()  # tidies up after the dead
            held = os.open(self._senders / name, os.O_RDWR | os.O_CREAT)
            fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield name
        finally:
            (self._senders / name).unlink(missing_ok=True)
            os.close(held)

    def claim(self, batch: pl.DataFrame, now: datetime, sender: str | None = None) -> pl.DataFrame:
        """Mark a batch as pending, and return its rows that are to be sent: all but those delivered before or pending by a living sender.

        ``batch`` has unique keys and the columns ``idempotency_key, date, customer_id, journey_id, channel, decision``.
        The decision kept is the one last sent. One statement, so all of the batch is marked or none.
        """
        with self._open() as connection:
            connection.register("batch", batch)
            others = sorted(self._living() - {sender})
            claimed = connection.sql(
                """
                insert into deliveries
                select idempotency_key, date, customer_id, journey_id, channel, 'pending', 1, $now, $now, decision, $sender, null, null
                from batch
                on conflict (idempotency_key) do update set
                    status = 'pending',
                    attempts = deliveries.attempts + 1,
                    last_attempt_at = excluded.last_attempt_at,
                    decision = excluded.decision,
                    sender = excluded.sender,
                    reason = null,
                    is_final = null
                where deliveries.status <> 'delivered'
                    and not (deliveries.status = 'pending' and coalesce(list_contains($others::varchar[], deliveries.sender), false))
                returning idempotency_key
                """,
                params={"now": now, "sender": sender, "others": others},
            ).pl()
        return batch.join(claimed, on="idempotency_key", how="semi", maintain_order="left")

    def settle(self, outcomes: pl.DataFrame) -> None:
        """Write what became of claimed messages (``idempotency_key, status``, and ``reason?, is_final``); a delivered one stays delivered.

        The last point is for two processes sending the same message: the slower one may have lost the answer.
        """
        lacking = {"reason": pl.String, "is_final": pl.Boolean}
        nothing = [pl.lit(None, dtype).alias(name) for name, dtype in lacking.items() if name not in outcomes.columns]
        with self._open() as connection:
            connection.register("outcomes", outcomes.with_columns(nothing))
            connection.execute(
                """
                update deliveries set status = outcomes.status, reason = outcomes.reason, is_final = outcomes.is_final from outcomes
                where deliveries.idempotency_key = outcomes.idempotency_key and deliveries.status <> 'delivered'
                """
            )

    def statuses(self, keys: pl.Series) -> pl.DataFrame:
        """One row per key the ledger knows: ``idempotency_key, status``, sorted. Does not create the ledger."""
        if not self.path.exists():
            return pl.DataFrame(schema={"idempotency_key": pl.String, "status": pl.String})
        with self._open() as connection:
            connection.register("keys", keys.alias("idempotency_key").to_frame())
            known: pl.DataFrame = connection.sql(
                "select idempotency_key, status from deliveries semi join keys using (idempotency_key) order by idempotency_key"
            ).pl()
        return known

    def under_other_keys(self, names: pl.DataFrame) -> pl.DataFrame:
        """One row per message that was handed over under another key of that customer: ``idempotency_key, other_key, status``.

        ``names``: ``idempotency_key, name, other_key``, as ``messages.other_keys`` has them. Does not create the ledger.
        """
        schema = {"idempotency_key": pl.String, "other_key": pl.String, "status": pl.String}
        if names.is_empty() or not self.path.exists():
            return pl.DataFrame(schema=schema)
        with self._open() as connection:
            connection.register("names", names)
            known: pl.DataFrame = connection.sql(
                """
                select names.idempotency_key, other_key, status from deliveries
                join names on deliveries.idempotency_key = other_key and deliveries.customer_id = name
                order by all
                """
            ).pl()
        return known

    def has_older_keys(self, since: date) -> bool:
        """Return whether a message of that day or later has a key of 16 digits, as versions before this one made them."""
        if not self.path.exists():
            return False
        with self._open() as connection:
            older = connection.execute("from deliveries where date >= ? and length(idempotency_key) = 16 limit 1", [since]).fetchone()
        return older is not None

    def undecided(self, keys: pl.Series) -> pl.Series:
        """Return those of the keys that may have arrived or not, or that certainly did not and by no decision of the receiver's."""
        if not self.path.exists():
            return keys.clear()
        with self._open() as connection:
            connection.register("keys", keys.alias("idempotency_key").to_frame())
            found: pl.DataFrame = connection.sql(
                """
                select idempotency_key from deliveries semi join keys using (idempotency_key)
                where status in ('pending', 'unknown') or (status = 'failed' and not coalesce(is_final, true))
                """
            ).pl()
        return found["idempotency_key"]

    def decisions(self, days: Sequence[date], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """One row per day and customer who has, or may have, a message of that day: the decision it was sent for.

        Messages that certainly did not arrive count for nothing. Does not create the ledger.
        """
        if not self.path.exists() or not days:
            return pl.DataFrame(schema=schema)
        with self._open() as connection:
            sent: pl.DataFrame = connection.sql(
                """
                select any_value(decision order by last_attempt_at desc, idempotency_key) as decision from deliveries
                where date between $first and $last and status <> 'failed' and decision is not null group by date, customer_id
                """,
                params={"first": min(days), "last": max(days)},
            ).pl()
        if sent.is_empty():
            return pl.DataFrame(schema=schema)
        return sent.select(pl.col("decision").str.json_decode(pl.Struct(dict(schema))).struct.unnest()).sort("date", "customer_id")

    def search(self, words: Sequence[str]) -> pl.DataFrame:
        """Return the rows that have one of the words anywhere in their text, in any case. Does not create the ledger."""
        if not self.path.exists():
            return pl.DataFrame()
        with self._open() as connection:
            connection.register("words", pl.DataFrame({"word": words}))
            found: pl.DataFrame = connection.sql(
                """
                select * from deliveries semi join words
                on contains(lower(concat_ws(' ', idempotency_key, customer_id, journey_id, channel, decision, reason)), lower(word))
                """
            ).pl()
        return found

    def forget(self, customers: Sequence[str]) -> None:
        """Drop all rows of these customers by writing the file anew: deleted rows would stay in the blocks it keeps for reuse."""
        if not self.path.exists():
            return
        anew = beside(self.path)
        with self._open() as connection:
            connection.register("gone", pl.DataFrame({"customer_id": customers}))
            connection.execute("checkpoint")
            connection.execute("attach '" + str(anew).replace("'", "''") + "' as anew")
            connection.execute(TABLE.replace("deliveries", "anew.deliveries"))
            connection.execute("insert into anew.deliveries from deliveries anti join gone using (customer_id)")
            connection.execute("detach anew")
            # While this connection holds the old file nobody else has it open, so nothing is written to it that would be lost.
            anew.replace(self.path)

    @property
    def path(self) -> Path:
        """Return where the ledger is."""
        return Path(self.home) / "ledger.duckdb"

    @property
    def _senders(self) -> Path:
        return Path(self.home) / ".senders"

    def _living(self) -> set[str]:
        """Return who holds a lock, and remove what the dead left. Only while it is our turn: a sender that begins has no lock yet."""
        living = set()
        for path in self._senders.glob("*"):
            held = os.open(path, os.O_RDONLY)
            try:
                # Shared, for two that look at once are no senders.
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                path.unlink()
            except BlockingIOError:
                living.add(path.name)
            finally:
                os.close(held)
        return living

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for all other calls to end, of threads as of processes. Not by a lock on the ledger itself: that is DuckDB's."""
        descriptor = os.open(Path(self.home) / "ledger.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _refuse_what_is_no_database(self) -> None:
        """Say at once what DuckDBResource says after trying for 100 seconds, as it cannot tell it from a file in use."""
        if self.path.exists():
            with self.path.open("rb") as file:
                head = file.read(12)
            if head and head[8:] != b"DUCK":
                raise LedgerError(f"the delivery ledger {self.path} is no DuckDB database: put back the last copy of it that was whole")

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._refuse_what_is_no_database()
            with self._turn(), DuckDBResource(database=str(self.path)).get_connection() as connection:
                # DuckDBResource closes only after success; a connection left open by an error would keep others out.
                try:
                    connection.execute(TABLE)
                    for column in NEWER:
                        connection.execute(f"alter table deliveries add column if not exists {column}")
                    yield connection
                finally:
                    connection.close()
        except (OSError, duckdb.OperationalError) as problem:
            raise LedgerError(f"the delivery ledger {self.path} cannot be read or written: {problem}") from problem
