"""Dagster's records in SQLite, kept open while a run writes them: what happened to each day of each table.

Dagster opens a file anew for each event, and compiles the same statements again: a sixth of what a month of the sample cost
(docs/adr/0043-history.md).

What belongs here: that they are kept open. What does not: what is recorded, and records in PostgreSQL, which Dagster keeps open itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import sqlalchemy as db
from dagster import __version__ as dagster_version
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS

KNOWN = "1.13."
"""How the version of Dagster begins whose inside this stands on."""


def keep_open(instance: dg.DagsterInstance) -> str | None:
    """Keep the files of the instance's event log open from now on, in this process; of another storage than SQLite's nothing changes.

    It stands on what is inside of the pinned version, as little of it as there is: how a connection is made. Returns why they are not kept
    open where Dagster is another: then it goes on as it does by itself.
    """
    storage = instance.event_log_storage
    if type(storage) is not SqliteEventLogStorage or "_connect" in vars(storage):
        return None
    lacking = [name for name in ("_connect", "_db_lock", "_initdb", "_initialized_dbs") if not hasattr(storage, name)]
    if lacking or not dagster_version.startswith(KNOWN):
        wanted = "".join([f"{KNOWN}x", *(f", {name}" for name in lacking)])
        return (
            f"Dagster {dagster_version} is another than resources/storage/history.py knows ({wanted}): its records are written as it does "
            "by itself, which takes several times as long a table and day. The tables are the same"
        )
    engines: dict[str, db.Engine] = {}

    @contextmanager
    def connect(shard: str) -> Iterator[db.Connection]:
        with storage._db_lock:  # noqa: SLF001  # one connection, and as before one thread at a time
            if shard not in engines:
                engines[shard] = db.create_engine(
                    storage.conn_string_for_shard(shard),
                    poolclass=db.StaticPool,
                    connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
                )
            if shard not in storage._initialized_dbs:  # noqa: SLF001
                storage._initdb(engines[shard])  # noqa: SLF001
                storage._initialized_dbs.add(shard)  # noqa: SLF001
            with engines[shard].connect() as connection, connection.begin():
                yield connection

    vars(storage)["_connect"] = connect
    return None
