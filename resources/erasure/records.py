"""What Dagster remembers: records of runs and their logs, in which failing rows, errors and configuration name customers.

A record cannot be changed, only deleted: with it goes what Dagster shows of that run, never anything of the lake. Dagster deletes
rows of its databases; SQLite keeps their bytes, and Dagster the results of checks and the logs. So these are removed here, too.

What belongs here: finding, deleting and searching Dagster's records. What does not: our own files (``traces``), what is theirs
(``atc_pipeline.identity.erasure``), and when to delete (``erasing``, ``assets.jobs.forgetting``).
"""

import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import chain, compress
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
from sqlalchemy import MetaData, Table, text
from sqlalchemy.exc import OperationalError

from atc_pipeline.identity.erasure import Person, Spellings
from resources.erasure.traces import Trace

PLACE = "dagster"
"""What the report calls Dagster's records."""

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
BUSY = (sqlite3.OperationalError, OperationalError)
"""What a database raises that somebody else keeps busy."""
BUSY_SECONDS = 30
MOST_READ = 2**24
"""Bytes of a log that are searched at a time."""

_OF_US = frozenset({"metadata", "metadata_entries", "error", "error_info", "user_failure_data", "user_message", "run_config", "tags"})
"""Fields of a record that hold what we or our users have put there; all others are Dagster's own words."""
_RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CELLS = re.compile(r"(?<!\\)\|")
_QUOTED = re.compile(r"[\"'`]([^\"'`\s]+)[\"'`]")
_ID_COLUMN = re.compile(r"(.+_)?customer_id|(.+_)?absorbed|(.+_)?survivor|(user|anonymous|previous)_?id|id|customer", re.IGNORECASE)


@dataclass(frozen=True)
class Records:
    """The records of all runs that have ended, their configuration and their logs; and what is left in Dagster's files of others."""

    instance: dg.DagsterInstance
    erasure: str
    """The job that is erasing: the records of its runs name the person, and are deleted later (``assets.jobs.erasure``)."""

    @property
    def where(self) -> str:
        """Return what it is called."""
        return PLACE

    def find(self, person: Person) -> Trace:
        """Search what our code and our users have put there; of what Dagster keeps besides, all."""
        runs, (orphans, elsewhere) = self._runs(person), self._rest(person)
        return Trace(PLACE, ", ".join([*runs, *orphans]), len(runs) + len(orphans), 0, elsewhere)

    def remove(self, person: Person) -> None:
        """Delete the records that name the person, the results of their checks, and their logs."""
        delete(self.instance, [*self._runs(person), *self._rest(person)[0]])

    def _runs(self, person: Person) -> list[str]:
        jobs = {run.job_name for run in self.instance.get_runs(dg.RunsFilter(statuses=ENDED))}
        return [run for job in sorted(jobs - {self.erasure}) for run in named_runs(self.instance, person, job)]

    def _rest(self, person: Person) -> tuple[list[str], Counter[str]]:
        """Find deleted runs of which results of checks are left, and count by file what is of no run at all."""
        known = {run.run_id for run in self.instance.get_runs()}
        ours = {path.resolve() for path in _databases(self.instance)}
        orphans, elsewhere = set[str](), Counter[str]()
        kept = (
            (file.name, file in ours, _rows(file)) for file in files(self.instance) if known.isdisjoint(_RUN_ID.findall(file.as_posix()))
        )
        for name, is_shared, all_rows in chain(kept, _on_servers(self.instance)):
            rows = [row for row in all_rows if known.isdisjoint(row.runs)]
            for row in compress(rows, _are_named([row.text for row in rows], person)):
                is_check = row.table == _CHECKS and is_shared
                orphans |= set(row.runs) if is_check else set()
                elsewhere += Counter() if is_check else Counter([f"{PLACE}/{name}"])
        return sorted(orphans), elsewhere


def ended_runs(instance: dg.DagsterInstance, job: str, *, before: datetime | None = None) -> list[str]:
    """Return the runs of a job that have ended, sorted."""
    return sorted(run.run_id for run in instance.get_runs(dg.RunsFilter(job_name=job, statuses=ENDED, updated_before=before)))


def named_runs(instance: dg.DagsterInstance, person: Person, job: str) -> list[str]:
    """Return those of them whose record names the person."""
    return [run_id for run_id in ended_runs(instance, job) if _are_named(_texts(instance, run_id, person), person).any()]


def delete(instance: dg.DagsterInstance, runs: Collection[str]) -> None:
    """Delete the records of these runs; of what was in databases that all runs share, ``compact`` deletes the bytes."""
    for run_id in runs:
        instance.delete_run(run_id)
        with _index(instance) as connection:
            connection.execute(text(f"delete from {_CHECKS} where run_id = :run"), {"run": run_id})  # noqa: S608
        with suppress(NotImplementedError):
            instance.compute_log_manager.delete_logs(prefix=[run_id])
        for file in _shard(instance, run_id):
            file.unlink(missing_ok=True)


def compact(instance: dg.DagsterInstance) -> None:
    """Write Dagster's SQLite files anew: deleted rows stay in them, and in the logs beside them, until somebody does.

    Raises sqlite3.OperationalError where somebody else keeps a file busy.
    """
    for path in _databases(instance):
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("vacuum")
            if connection.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
                raise sqlite3.OperationalError(f"{path.name} is being read by somebody else")


def is_in_files(instance: dg.DagsterInstance) -> bool:
    """Return whether all databases are files that can be written anew; elsewhere deleted rows are the database's to forget."""
    return len(_databases(instance)) == len(_STORES)


def is_on_server(instance: dg.DagsterInstance) -> bool:
    """Return whether runs of several hosts may be in it."""
    with _index(instance) as connection:
        return bool(connection.engine.dialect.name != "sqlite")


def folders(instance: dg.DagsterInstance) -> list[Path]:
    """Return the folders in which the instance keeps something, or has kept it before it was told to elsewhere."""
    if instance.is_ephemeral:
        return []
    kept = {Path(instance.root_directory), Path(instance.storage_directory()), *(path.parent for path in _databases(instance))}
    if isinstance(instance.compute_log_manager, LocalComputeLogManager):
        kept.add(Path(instance.compute_log_manager.get_captured_local_path(["log"], "out")).parent)
    if "DAGSTER_HOME" in os.environ:
        kept.add(Path(os.environ["DAGSTER_HOME"]))
    return sorted(kept)


def files(instance: dg.DagsterInstance) -> list[Path]:
    """Return all files in these folders."""
    return _files(folders(instance))


def _files(roots: Iterable[Path]) -> list[Path]:
    return sorted({path.resolve() for root in roots for path in root.rglob("*") if path.is_file()})


_CHECKS = "asset_check_executions"
_STORES = {
    "run_storage": RunStorageSqlMetadata,
    "event_log_storage": SqlEventLogStorageMetadata,
    "schedule_storage": ScheduleStorageSqlMetadata,
}


def _index(instance: dg.DagsterInstance) -> Any:  # noqa: ANN401  # SQLAlchemy's connection, of a method that the base class lacks
    return instance.event_log_storage.index_connection()  # type: ignore[attr-defined]  # all of Dagster's storages have it


def _connections(instance: dg.DagsterInstance) -> Iterator[tuple[Any, MetaData]]:
    """Connect to each of Dagster's stores; with what tables it has."""
    for name, tables in _STORES.items():
        store: Any = getattr(instance, name)
        if store is not None:
            with store.index_connection() if name == "event_log_storage" else store.connect() as connection:
                yield connection, tables


def _databases(instance: dg.DagsterInstance) -> list[Path]:
    """Return the SQLite files that all runs share."""
    engines = [connection.engine for connection, _ in _connections(instance)]
    databases = [Path(engine.url.database or "") for engine in engines if engine.dialect.name == "sqlite"]
    return [database for database in databases if database.is_file()]


def _on_servers(instance: dg.DagsterInstance) -> Iterator[tuple[str, bool, Iterator["_Row"]]]:
    """Yield the rows of each table that is on a server, but those of runs that have a record."""
    for connection, tables in _connections(instance):
        if connection.engine.dialect.name != "sqlite":
            for table in tables.sorted_tables:
                if connection.dialect.has_table(connection, table.name):
                    yield table.name, True, _rows_of(connection, table)


def _rows_of(connection: Any, table: Table) -> Iterator["_Row"]:  # noqa: ANN401  # SQLAlchemy's, of Dagster's making
    has_run = "run_id" in table.columns
    recorded = " where coalesce(run_id, '') not in (select run_id from runs)" if has_run and table.name != "runs" else ""
    for row in connection.execute(text(f'select * from "{table.name}"{recorded}')).mappings():  # noqa: S608  # Dagster's own names
        shown = "\n".join(value for value in row.values() if isinstance(value, str))
        yield _Row(shown, table.name, [row["run_id"] or ""] if has_run else _RUN_ID.findall(shown))


def _shard(instance: dg.DagsterInstance, run_id: str) -> list[Path]:
    """Return the files of a run's own database, with what SQLite keeps beside it; none where all runs share one."""
    path_of = getattr(instance.event_log_storage, "path_for_shard", None)
    return [] if path_of is None else [Path(f"{path_of(run_id)}{end}") for end in ("", "-wal", "-shm")]


def _texts(instance: dg.DagsterInstance, run_id: str, person: Person) -> list[str]:
    """Return texts of a run that are ours or our users', and may name the person: of its events, its configuration and its logs."""
    run = instance.get_run_by_id(run_id)
    texts = [] if run is None else list(_strings({"run_config": run.run_config, "tags": dict(run.tags)}))
    shard = _shard(instance, run_id)
    if not shard or shard[0].exists():
        with instance.event_log_storage.run_connection(run_id) as connection:  # type: ignore[attr-defined]
            events = connection.execute(text("select event from event_logs where run_id = :run"), {"run": run_id}).scalars().all()
        words, numbers = _words_and_numbers(person.ids)
        texts_of_events = pl.Series(events, dtype=pl.String)
        for event in texts_of_events.filter(words.are_in(texts_of_events) | numbers.are_in(texts_of_events)):
            record = json.loads(event)
            texts += _strings(record | ({"user_message": ""} if record.get("dagster_event") else {}))
    for file in _files([folder / run_id for folder in folders(instance)]):
        texts += [row.text for row in _rows(file)]
    return texts


def _strings(record: object, *, is_ours: bool = False) -> Iterator[str]:
    if isinstance(record, str):
        if is_ours:
            yield record
    elif isinstance(record, dict):
        for key, held in record.items():
            yield from _strings(held, is_ours=is_ours or key in _OF_US)
    elif isinstance(record, list):
        for held in record:
            yield from _strings(held, is_ours=is_ours)


def _are_named(texts: Sequence[str], person: Person) -> pl.Series:
    """True where a text has one of the ids as a word; a number, which counts are too, where it stands alone, in quotes or among ids."""
    words, numbers = _words_and_numbers(person.ids)
    is_named = words.are_in(pl.Series(texts, dtype=pl.String))
    if numbers.plain_ids:
        pieces = pl.DataFrame(
            [(at, piece) for at, shown in enumerate(texts) for piece in _pieces(shown)],
            schema={"at": pl.UInt32, "piece": pl.String},
            orient="row",
        )
        is_named = is_named.scatter(pieces.filter(numbers.are_in(pieces["piece"]))["at"].unique(), True)
    return is_named


@lru_cache(maxsize=1)
def _words_and_numbers(ids: frozenset[str]) -> tuple[Spellings, Spellings]:
    numbers = frozenset(id_ for id_ in ids if id_.strip().isdecimal())
    return Spellings(ids - numbers), Spellings(numbers)


def _pieces(shown: str) -> Iterator[str]:
    """Yield what stands for itself in a text: all of it if it is a word, what is in quotes, and cells of tables that hold ids."""
    if not re.search(r"\s", shown.strip()):
        yield shown
    yield from _QUOTED.findall(shown.replace("\\", ""))
    header: list[str] = []
    for line in shown.splitlines():
        cells = [cell.strip() for cell in _CELLS.split(line)]
        if len(cells) < 3:
            header = []
        elif not header:
            header = [cell.replace("\\", "") for cell in cells]
        else:
            yield from (cell for name, cell in zip(header, cells, strict=False) if _ID_COLUMN.fullmatch(name))


@dataclass(frozen=True)
class _Row:
    """A row of a database, or a line of another file; and the runs it is of, or speaks of where it is of none."""

    text: str
    table: str = ""
    runs: Sequence[str] = ()


def _rows(file: Path) -> Iterator[_Row]:
    if file.name.endswith(".db"):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as connection:
            connection.row_factory = sqlite3.Row
            tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
            for table in tables:
                for row in connection.execute(f'select * from "{table}"'):  # noqa: S608  # Dagster's own names
                    shown = "\n".join(value for value in row if isinstance(value, str))
                    yield _Row(shown, table, [row["run_id"]] if "run_id" in row.keys() else _RUN_ID.findall(shown))  # noqa: SIM118
    elif not file.name.endswith(("-wal", "-shm")):
        with suppress(FileNotFoundError), file.open("rb") as log:
            while lines := log.readlines(MOST_READ):
                yield from (_Row(line.decode(errors="replace")) for line in lines)
