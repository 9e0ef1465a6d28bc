"""The delivery ledger: which messages were handed over, and what became of each.

What belongs here: the one table and its set-based operations, with no trace of who sends or where to.
What does not: deciding what to send (the engine), sending it (``channels``), the order of the two (``delivery``).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import date, datetime

import dagster as dg
import duckdb
import polars as pl
from pydantic import Field

from resources.storage.database import Database, UnusableError

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
    Only ``delivered`` is never claimed again. The file is open only within each call.
    """

    home: str = Field(description="The folder that holds ledger.duckdb (ATC_HOME).")

    def sender(self) -> AbstractContextManager[str]:
        """Lend a name to claim messages by. Its claims are respected until the block ends or the process dies."""
        return self._database.senders.name()

    def claim(self, batch: pl.DataFrame, now: datetime, sender: str | None = None) -> pl.DataFrame:
        """Mark a batch as pending, and return its rows that are to be sent: all but those delivered before or pending by a living sender.

        ``batch`` has unique keys and the columns ``idempotency_key, date, customer_id, journey_id, channel, decision``.
        The decision kept is the one last sent. One statement, so all of the batch is marked or none.
        """
        with self._open() as connection:
            connection.register("batch", batch)
            living = sorted(self._database.senders.names() - {sender})
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
                    and not (deliveries.status = 'pending' and coalesce(list_contains($living::varchar[], deliveries.sender), false))
                returning idempotency_key
                """,
                params={"now": now, "sender": sender, "living": living},
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
        if not self._database.is_there():
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
        if names.is_empty() or not self._database.is_there():
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
        if not self._database.is_there():
            return False
        with self._open() as connection:
            older = connection.execute("from deliveries where date >= ? and length(idempotency_key) = 16 limit 1", [since]).fetchone()
        return older is not None

    def undecided(self, keys: pl.Series) -> pl.Series:
        """Return those of the keys that may have arrived or not, or that certainly did not and by no decision of the receiver's."""
        if not self._database.is_there():
            return keys.clear()
        with self._open() as connection:
            connection.register("keys", keys.alias("idempotency_key").to_frame())
            undecided: pl.DataFrame = connection.sql(
                """
                select idempotency_key from deliveries semi join keys using (idempotency_key)
                where status in ('pending', 'unknown') or (status = 'failed' and not coalesce(is_final, true))
                """
            ).pl()
        return undecided["idempotency_key"]

    def decisions(self, days: Sequence[date], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """One row per day and customer who has, or may have, a message of that day: the decision it was sent for.

        Messages that certainly did not arrive count for nothing. Does not create the ledger.
        """
        if not self._database.is_there() or not days:
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
        if not self._database.is_there():
            return pl.DataFrame()
        with self._open() as connection:
            connection.register("words", pl.DataFrame({"word": words}))
            rows: pl.DataFrame = connection.sql(
                """
                select * from deliveries semi join words
                on contains(lower(concat_ws(' ', idempotency_key, customer_id, journey_id, channel, decision, reason)), lower(word))
                """
            ).pl()
        return rows

    def forget(self, customers: Sequence[str]) -> None:
        """Drop all rows of these customers by writing the file anew, so that none of their bytes stays in it."""
        if not self._database.is_there():
            return
        with self._open() as connection, self._database.anew(connection):
            connection.register("gone", pl.DataFrame({"customer_id": customers}))
            connection.execute(TABLE.replace("deliveries", "anew.deliveries"))
            connection.execute("insert into anew.deliveries from deliveries anti join gone using (customer_id)")

    @property
    def place(self) -> str:
        """Return where the ledger is, for messages."""
        return str(self._database.path)

    @property
    def _database(self) -> Database:
        return Database(self.home, "ledger")

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with self._database.open() as connection:
                connection.execute(TABLE)
                for column in NEWER:
                    connection.execute(f"alter table deliveries add column if not exists {column}")
                yield connection
        except UnusableError as problem:
            raise LedgerError(f"the delivery ledger {problem}") from problem
