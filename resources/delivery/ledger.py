"""The delivery ledger: which messages were handed over, and what became of each.

What belongs here: the one table and its set-based operations, with no trace of who sends or where to.
What does not: deciding what to send (the engine), sending it (``channels``), the order of the two (``delivery``).
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import date, datetime

import dagster as dg
import polars as pl
from pydantic import Field

from atc_pipeline.tables.table import MOMENT
from resources.storage.database import Database
from resources.storage.home import NOT_OPENED
from resources.storage.session import Dialect, Keeping, Session, UnusableError, columns_of

LEDGER = "ATC_LEDGER"
"""Environment variable: the path of a DuckDB file, or the address of a PostgreSQL database, which holds a password. So it is read when
the ledger is opened, and is part of no configuration, which Dagster keeps and shows."""
SCHEMES = ("postgresql://", "postgres://")

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
    is_final boolean,
    send_at timestamptz,
    content_hash varchar,
    provider_id varchar
)
"""
NEWER = {
    "sender": "varchar",
    "reason": "varchar",
    "is_final": "boolean",
    "send_at": "timestamptz",
    "content_hash": "varchar",
    "provider_id": "varchar",
}
"""Columns that files of older versions lack: who claimed a message last; of its outcome why, and whether the receiver decided it; when it
was due, the hash of the text that was sent last, and what the receiver calls it.
At the end of ``TABLE``, so that a file has its columns in one order however old it is."""


COLUMNS = tuple(re.findall(r"(?m)^    (\w+)", TABLE))


def table(dialect: Dialect) -> str:
    """Return the statement that creates the table."""
    return TABLE.replace("varchar", dialect.text)


class WrongLedgerError(ValueError):
    """``ATC_LEDGER`` cannot be understood; the message repeats nothing of it."""


class LedgerError(Exception):
    """The ledger cannot be read or written, so that nothing may be sent."""


class Ledger(dg.ConfigurableResource["Ledger"]):
    """The table ``deliveries``, of one row per message ever handed over: in ``<home>/ledger.duckdb``, or where ``ATC_LEDGER`` says.

    ``pending`` is written before a message leaves and replaced after. It belongs to its ``sender`` as long as that lives. Where
    a sender dies in between it stays: such a message may or may not have arrived, like one that is ``unknown``.
    Only ``delivered`` is never claimed again. The database is open only within each call.
    """

    home: str = Field(description="The folder that holds ledger.duckdb (ATC_HOME).")
    elsewhere: str = Field(
        default="",
        description="Where the ledger is instead (ATC_LEDGER): a DuckDB file, or a PostgreSQL database, without user and password.",
    )

    @classmethod
    def from_environment(cls, home: str, environment: Mapping[str, str]) -> "Ledger":
        """Configuration as ``ATC_LEDGER`` says, without any secret. Raises WrongLedgerError."""
        address = environment.get(LEDGER, "").strip()
        try:
            return cls(home=home, elsewhere=_database(address).place if address else "")
        except UnusableError as problem:
            raise WrongLedgerError(f"{LEDGER} {problem}") from None

    def sender(self) -> AbstractContextManager[str]:
        """Lend a name to claim messages by. Its claims are respected until the block ends or the process dies."""
        return self._sender()

    def claim(
        self, batch: pl.DataFrame, now: datetime, sender: str | None = None, may_have_arrived: pl.Series | None = None
    ) -> pl.DataFrame:
        """Mark a batch as pending, and return its rows that are to be sent: all but those delivered before or pending by a living sender.

        ``batch`` has unique keys and the columns ``idempotency_key, date, customer_id, journey_id, channel, decision``, and
        ``send_at?, content_hash?``. What is kept of these is what was last sent. All of the batch is marked or none.
        ``may_have_arrived``: for a receiver to whom one key sent twice are two messages: the keys that may have been on their way when
        their sender died. These, and what is unknown, are not to be sent, and stay or become unknown; so does what may have gone out by
        another channel.
        """
        lacking = {name: dtype for name, dtype in _CLAIMED.items() if name not in batch.columns}
        with self._writing() as session:
            session.lend("batch", batch.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in lacking.items()).select(*_CLAIMED))
            living = session.senders()
            if sender is not None and sender not in living:
                raise LedgerError(
                    f"the delivery ledger {self.place} has lost its connection to this run, and with it what the run has claimed"
                )
            at_work = sorted(living - {sender})
            if may_have_arrived is not None:
                session.lend("doubtful", may_have_arrived.cast(pl.String).alias("idempotency_key").to_frame())
                session.run(HOLD, why=HELD, living=at_work)
            claimed = session.ask(CLAIM, now=now, sender=sender, living=at_work, is_held=may_have_arrived is not None)
        return batch.join(claimed, on="idempotency_key", how="semi", maintain_order="left")

    def settle(self, outcomes: pl.DataFrame) -> None:
        """Write what became of claimed messages (``idempotency_key, status``, and ``reason?, is_final?, provider_id?``); a delivered one
        stays delivered.

        The last point is for two processes sending the same message: the slower one may have lost the answer.
        """
        lacking = {"reason": pl.String, "is_final": pl.Boolean, "provider_id": pl.String}
        nothing = [pl.lit(None, dtype).alias(name) for name, dtype in lacking.items() if name not in outcomes.columns]
        with self._writing() as session:
            session.lend("outcomes", outcomes.with_columns(nothing).select("idempotency_key", "status", *lacking))
            session.run(SETTLE)

    def decide(self, verdicts: pl.DataFrame) -> pl.Series:
        """Write what is known by now of messages that were unknown (``idempotency_key, status, reason``); return the keys of those.

        What a living sender has claimed, what was delivered or failed, and what was never handed over stays as it is.
        """
        with self._reading() as session:
            if session is None:
                return verdicts["idempotency_key"].clear()
        with self._writing() as session:
            session.lend("verdicts", verdicts.select("idempotency_key", "status", "reason"))
            return session.ask(DECIDE, living=sorted(session.senders()))["idempotency_key"]

    def unknown(self, since: date) -> pl.DataFrame:
        """One row per message of that day or later that may have arrived: ``idempotency_key, date, channel, provider_id, reason``."""
        with self._reading() as session:
            if session is None:
                return pl.DataFrame(schema=UNKNOWN)
            return session.ask(LISTED, since=since).cast(UNKNOWN)  # type: ignore[arg-type]  # a schema is a mapping of types

    def accounts(self, keys: pl.Series) -> pl.DataFrame:
        """One row per key the ledger knows: ``idempotency_key, status, reason, attempts, sent_at, provider_id``, sorted.

        Does not create the ledger. ``sent_at``: when it was last handed over.
        """
        with self._reading() as session:
            if session is None:
                return pl.DataFrame(schema=ACCOUNT)
            session.lend("keys", keys.alias("idempotency_key").to_frame())
            return session.ask(ACCOUNTS).cast(ACCOUNT)  # type: ignore[arg-type]  # a schema is a mapping of types

    def statuses(self, keys: pl.Series) -> pl.DataFrame:
        """One row per key the ledger knows: ``idempotency_key, status``, sorted. Does not create the ledger."""
        with self._reading() as session:
            if session is None:
                return pl.DataFrame(schema={"idempotency_key": pl.String, "status": pl.String})
            session.lend("keys", keys.alias("idempotency_key").to_frame())
            return session.ask(
                "select idempotency_key, status from deliveries where idempotency_key in (select idempotency_key from keys) "
                "order by idempotency_key"
            )

    def under_other_keys(self, names: pl.DataFrame) -> pl.DataFrame:
        """One row per message that was handed over under another key of that customer: ``idempotency_key, other_key, status``.

        ``names``: ``idempotency_key, name, other_key``, as ``messages.other_keys`` has them. Does not create the ledger.
        """
        schema = {"idempotency_key": pl.String, "other_key": pl.String, "status": pl.String}
        if names.is_empty():
            return pl.DataFrame(schema=schema)
        with self._reading() as session:
            if session is None:
                return pl.DataFrame(schema=schema)
            session.lend("names", names.select("idempotency_key", "name", "other_key"))
            return session.ask(
                """
                select names.idempotency_key, names.other_key, deliveries.status from deliveries
                join names on deliveries.idempotency_key = names.other_key and deliveries.customer_id = names.name
                order by 1, 2, 3
                """
            )

    def has_older_keys(self, since: date) -> bool:
        """Return whether a message of that day or later has a key of 16 digits, as versions before this one made them."""
        with self._reading() as session:
            return session is not None and not session.ask(OLDER, since=since).is_empty()

    def undecided(self, keys: pl.Series) -> pl.Series:
        """Return those of the keys that may have arrived or not, or that certainly did not and by no decision of the receiver's."""
        with self._reading() as session:
            if session is None:
                return keys.clear()
            session.lend("keys", keys.alias("idempotency_key").to_frame())
            return session.ask(UNDECIDED)["idempotency_key"]

    def decisions(self, days: Sequence[date], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """One row per day and customer who has, or may have, a message of that day: the decision it was sent for.

        Messages that certainly did not arrive count for nothing. Does not create the ledger.
        """
        if not days:
            return pl.DataFrame(schema=schema)
        with self._reading() as session:
            if session is None:
                return pl.DataFrame(schema=schema)
            sent = session.ask(DECISIONS, first=min(days), last=max(days))
        if sent.is_empty():
            return pl.DataFrame(schema=schema)
        return sent.select(pl.col("decision").str.json_decode(pl.Struct(dict(schema))).struct.unnest()).sort("date", "customer_id")

    def search(self, words: Sequence[str]) -> pl.DataFrame:
        """Return the rows that have one of the words anywhere in their text, in any case. Does not create the ledger."""
        with self._reading() as session:
            if session is None:
                return pl.DataFrame()
            session.lend("words", pl.DataFrame({"word": words}, schema={"word": pl.String}))
            lowered = self._database.dialect.lowered
            return session.ask(SEARCH.format(texts=lowered.format(TEXTS), word=lowered.format("words.word")))

    def rows(self) -> pl.DataFrame:
        """One row per message, with all that is known of it. Does not create the ledger."""
        with self._reading() as session:
            return pl.DataFrame() if session is None else session.ask("select * from deliveries order by idempotency_key")

    def take_over(self, rows: pl.DataFrame) -> None:
        """Write rows of another ledger (``rows``) as they are, but those whose key is known here."""
        with self._naming_it():
            database = self._database
            with database.writing() as session:
                if not self._is_ready(session):
                    session.run(table(database.dialect))
                session.lend("batch", rows)
                names = ", ".join(COLUMNS)
                session.run(f"insert into deliveries ({names}) select {names} from batch on conflict (idempotency_key) do nothing")  # noqa: S608

    def forget(self, customers: Sequence[str]) -> None:
        """Drop all rows of these customers by writing the table anew, so that none of their bytes stays in it."""
        with self._reading() as session:
            if session is None:
                return
        with self._writing() as session:
            session.lend("gone", pl.DataFrame({"customer_id": customers}, schema={"customer_id": pl.String}))
            database = self._database
            database.keep(session, "deliveries", table(database.dialect), "customer_id not in (select customer_id from gone)")

    @property
    def is_shared(self) -> bool:
        """Return whether processes of other hosts may write to it."""
        return self.elsewhere.startswith(SCHEMES)

    @property
    def place(self) -> str:
        """Return where the ledger is, for messages."""
        return self.elsewhere or self._database.place

    @property
    def label(self) -> str:
        """Return what it is called beside other places."""
        return self._database.label

    @property
    def database(self) -> Keeping:
        """Return the database that it is kept in, with whatever else is remembered of what left. Raises UnusableError."""
        return self._database

    @property
    def _database(self) -> Keeping:
        if not self.elsewhere:
            return Database(self.home, "ledger")
        if not self.elsewhere.startswith(SCHEMES):
            return _database(self.elsewhere)
        address = os.environ.get(LEDGER, "").strip()
        if not address or _database(address).place != self.elsewhere:
            raise UnusableError(
                f"is {self.elsewhere}, and {LEDGER} says otherwise in the environment of this process: reload the code location, with the "
                "variable in the environment of all of Dagster's processes"
            )
        return _database(address)

    @contextmanager
    def _sender(self) -> Iterator[str]:
        with self._naming_it():
            lent = self._database.sender()
        with lent as name:
            yield name

    @contextmanager
    def _reading(self) -> Iterator[Session | None]:
        """Open it; None where there is no ledger yet."""
        with self._naming_it(), self._database.reading() as session:
            yield session if session is not None and self._is_ready(session) else None

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._naming_it():
            database = self._database
            with database.writing() as session:
                if not self._is_ready(session):
                    self.refuse_to_begin_anew()
                    session.run(table(database.dialect))
                yield session

    def refuse_to_begin_anew(self) -> None:
        """Say so where the home has a ledger that the one elsewhere knows nothing of: what it has sent would be sent again."""
        before = Database(self.home, "ledger")
        if self.elsewhere and before.place != self.place and before.is_there():
            raise UnusableError(
                f"{self.place} is empty, and {before.place} is there: what it says was sent would be sent again. Move it over, with "
                "nothing running: python -m resources.delivery.moving"
            )

    def _is_ready(self, session: Session) -> bool:
        """Return whether there is a ledger, and add to one of an older version what it lacks."""
        columns = columns_of(session, "deliveries")
        if not columns:
            return False
        if foreign := [name for name in COLUMNS if name not in columns and name not in NEWER]:
            raise UnusableError(
                f"{self.place} has a table deliveries that is none of ours, without {', '.join(foreign)}: "
                "give the ledger a database of its own"
            )
        for name, kind in NEWER.items():
            if name not in columns:
                session.run(f"alter table deliveries add column if not exists {name} {kind}")
        return True

    @contextmanager
    def _naming_it(self) -> Iterator[None]:
        try:
            yield
        except UnusableError as problem:
            raise LedgerError(f"the delivery ledger {problem}") from problem


def _database(address: str) -> Keeping:
    """Return the database at an address. Raises UnusableError, whose message repeats nothing of it."""
    if address.startswith(SCHEMES):
        from resources.storage.postgres import Server  # noqa: PLC0415  # psycopg is for teams: the extra `team`

        server = Server(address)
        _ = server.place  # understood, or refused
        return server
    folder, _, name = address.rpartition("/")
    if not address.startswith("/") or not name.endswith(".duckdb") or any(letter in address for letter in NOT_OPENED):
        raise UnusableError(
            "is neither the address of a PostgreSQL database (postgresql://user:password@host:5432/database) nor the full path of a file "
            "that ends in .duckdb and has no ? and no \\ in it"
        )
    return Database(folder or "/", name.removesuffix(".duckdb"))


_CLAIMED = {
    "idempotency_key": pl.String(),
    "date": pl.Date(),
    "customer_id": pl.String(),
    "journey_id": pl.String(),
    "channel": pl.String(),
    "decision": pl.String(),
    "send_at": MOMENT,
    "content_hash": pl.String(),
}
UNKNOWN = {"idempotency_key": pl.String(), "date": pl.Date(), "channel": pl.String(), "provider_id": pl.String(), "reason": pl.String()}
ACCOUNT = {
    "idempotency_key": pl.String(),
    "status": pl.String(),
    "reason": pl.String(),
    "attempts": pl.Int64(),
    "sent_at": MOMENT,
    "provider_id": pl.String(),
}
HELD = "it may have arrived, and is held: a delivery event settles it, or the job settle_unknown"

HOLD = """
    update deliveries set status = 'unknown', reason = $why::varchar, is_final = false
    where status = 'pending' and idempotency_key in (select idempotency_key from doubtful)
        and coalesce(array_position($living::varchar[], sender), 0) = 0
"""
CLAIM = """
    insert into deliveries (
        idempotency_key, date, customer_id, journey_id, channel, status, attempts, first_attempt_at, last_attempt_at, decision, sender,
        send_at, content_hash
    )
    select idempotency_key, date, customer_id, journey_id, channel, 'pending', 1, $now::timestamptz, $now::timestamptz, decision,
        $sender::varchar, send_at, content_hash
    from batch
    on conflict (idempotency_key) do update set
        channel = excluded.channel,
        status = 'pending',
        attempts = deliveries.attempts + 1,
        last_attempt_at = excluded.last_attempt_at,
        decision = excluded.decision,
        sender = excluded.sender,
        send_at = excluded.send_at,
        content_hash = excluded.content_hash,
        reason = null,
        is_final = null
    where deliveries.status <> 'delivered'
        and not (deliveries.status = 'unknown' and ($is_held::boolean or deliveries.channel <> excluded.channel))
        and not (deliveries.status = 'pending' and deliveries.channel <> excluded.channel)
        and not (deliveries.status = 'pending' and coalesce(array_position($living::varchar[], deliveries.sender), 0) > 0)
    returning idempotency_key
"""
SETTLE = """
    update deliveries set status = outcomes.status, reason = outcomes.reason, is_final = outcomes.is_final,
        provider_id = coalesce(outcomes.provider_id, deliveries.provider_id)
    from outcomes where deliveries.idempotency_key = outcomes.idempotency_key and deliveries.status <> 'delivered'
"""
DECIDE = """
    update deliveries set status = verdicts.status, reason = verdicts.reason, is_final = verdicts.status = 'delivered' from verdicts
    where deliveries.idempotency_key = verdicts.idempotency_key and (deliveries.status = 'unknown'
        or (deliveries.status = 'pending' and coalesce(array_position($living::varchar[], deliveries.sender), 0) = 0))
    returning deliveries.idempotency_key
"""
LISTED = """
    select idempotency_key, date, channel, provider_id, reason from deliveries where status = 'unknown' and date >= $since
    order by date, channel, idempotency_key
"""
ACCOUNTS = """
    select idempotency_key, status, reason, attempts, last_attempt_at as sent_at, provider_id from deliveries
    where idempotency_key in (select idempotency_key from keys) order by idempotency_key
"""
OLDER = "select 1::bigint as older from deliveries where date >= $since and length(idempotency_key) = 16 limit 1"
UNDECIDED = """
    select idempotency_key from deliveries where idempotency_key in (select idempotency_key from keys)
    and (status in ('pending', 'unknown') or (status = 'failed' and not coalesce(is_final, true)))
"""
DECISIONS = """
    select (array_agg(decision order by last_attempt_at desc, idempotency_key))[1] as decision from deliveries
    where date between $first and $last and status <> 'failed' and decision is not null group by date, customer_id
"""
SEARCH = """
    select * from deliveries where exists (select 1 from words where strpos({texts}, {word}) > 0)
"""
TEXTS = "concat_ws(' ', idempotency_key, customer_id, journey_id, channel, decision, reason)"
