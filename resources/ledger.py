"""The delivery ledger: which messages were handed over, and what became of each.

What belongs here: the one table and its set-based operations, with no trace of who sends or where to.
What does not: deciding what to send (the engine), sending it (``channels``), the order of the two (``delivery``).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
from dagster_duckdb import DuckDBResource
from pydantic import Field

from resources.unfinished import beside

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
    decision varchar
)
"""


class Ledger(dg.ConfigurableResource["Ledger"]):
    """The file ``<home>/ledger.duckdb``, whose table ``deliveries`` has one row per message ever handed over.

    ``pending`` is written before a message leaves and replaced after. Where a process dies in between it stays: such a
    message may or may not have arrived, like one that is ``unknown``. Only ``delivered`` is final.

    The file is open only within each call, because DuckDB lets in one process at a time; a call that finds it in use tries
    again, as DuckDBResource does.
    """

    home: str = Field(description="The folder that holds ledger.duckdb (ATC_HOME).")

    def claim(self, batch: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """Mark a batch as pending, and return its rows that are to be sent: all but those delivered before.

        ``batch`` has unique keys and the columns ``idempotency_key, date, customer_id, journey_id, channel, decision``.
        The decision kept is the one last sent. One statement, so all of the batch is marked or none.
        """
        with self._open() as connection:
            connection.register("batch", batch)
            claimed = connection.sql(
                """
                insert into deliveries
                select idempotency_key, date, customer_id, journey_id, channel, 'pending', 1, $now, $now, decision from batch
                on conflict (idempotency_key) do update set
                    status = 'pending',
                    attempts = deliveries.attempts + 1,
                    last_attempt_at = excluded.last_attempt_at,
                    decision = excluded.decision
                where deliveries.status <> 'delivered'
                returning idempotency_key
                """,
                params={"now": now},
            ).pl()
        return batch.join(claimed, on="idempotency_key", how="semi", maintain_order="left")

    def settle(self, outcomes: pl.DataFrame) -> None:
        """Write what became of claimed messages (``idempotency_key, status``); a delivered one stays delivered.

        The last point is for two processes sending the same message: the slower one may have lost the answer.
        """
        with self._open() as connection:
            connection.register("outcomes", outcomes)
            connection.execute(
                """
                update deliveries set status = outcomes.status from outcomes
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
                on contains(lower(concat_ws(' ', idempotency_key, customer_id, journey_id, channel, decision)), lower(word))
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

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with DuckDBResource(database=str(self.path)).get_connection() as connection:
            # DuckDBResource closes only after success; a connection left open by an error would keep others out.
            try:
                connection.execute(TABLE)
                yield connection
            finally:
                connection.close()
