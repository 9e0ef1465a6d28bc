"""Where the shards of a day are made: one after the other in this process, or on the workers of a Spark cluster.

Every stage is the same four functions of the engine (``days.step``): what holds for everybody, the first half of each shard's work, what
follows from all their summaries, and the second half. Each is a task; what one leaves for the next lies in files beside the lake, so that
between tasks no row of a customer passes through the process that gives out the work.

What belongs here: giving out tasks, and putting a day in place when all its shards are there. What does not: which rows a shard has
(``days.shards``), what is made of them (``days``), and files (``resources.storage``).
"""

import atexit
import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import dagster as dg
import polars as pl
import pyarrow as pa

from atc_pipeline.days.shards import CUSTOMER, EVENTS, MAP, SHARD, Shard, divided
from atc_pipeline.days.step import ByShard, Joint
from atc_pipeline.tables.store import Store
from resources.storage.code import PROJECT, project_version
from resources.storage.home import HOME, is_in_bucket
from resources.storage.lake import Lake
from resources.storage.parts import writer
from resources.storage.spill import Left

RUNNER, SHARDS = "ATC_RUNNER", "ATC_SHARDS"
LOCAL = "local"
_SPARK, _CONNECT = "spark://", "sc://"
MOST_SHARDS = 1_000

T = TypeVar("T")
StepOf = Callable[[Store], ByShard]
"""Returns a step over a store."""
Read = set[tuple[str, date]]
"""Which days of which tables were read."""


class WrongRunnerError(ValueError):
    """The settings name no runner that there is."""


class ClusterError(Exception):
    """A cluster did not do its tasks."""


class Runner(dg.ConfigurableResource):
    """Makes days by shard: ``address`` says where, ``shards`` of how many; one shard is everybody, and made as without any of this.

    What follows a semicolon in ``ATC_RUNNER``, a token perhaps, is read when a session is opened, and shown to nobody.
    """

    address: str = LOCAL
    shards: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Runner":
        """Read ``ATC_RUNNER`` and ``ATC_SHARDS``. Raises WrongRunnerError."""
        address, shards = environment.get(RUNNER, "").strip() or LOCAL, environment.get(SHARDS, "").strip() or "1"
        address = _shown(address)
        if address != LOCAL and not address.startswith((_SPARK, _CONNECT)):
            raise WrongRunnerError(f"{RUNNER} is {address!r}: expected {LOCAL}, {_SPARK}<host>:<port> or {_CONNECT}<host>:<port>")
        if not shards.isdecimal() or not 1 <= int(shards) <= MOST_SHARDS:
            raise WrongRunnerError(f"{SHARDS} is {shards!r}: expected a number from 1 to {MOST_SHARDS:,}")
        if address != LOCAL and int(shards) < 2:  # one shard is no work to give out
            raise WrongRunnerError(
                f"{RUNNER} is {address}, and {SHARDS} is {shards}: say of how many shards, 2 or more, a few for each core"
            )
        if int(shards) > 1 and is_in_bucket(environment):
            raise WrongRunnerError(
                f"{SHARDS} is {shards}, and {HOME} is in a bucket: a day in parts takes its place by renaming a folder, and a bucket has "
                "no folders. Keep the home on a file system that all machines share (docs/scale.md)"
            )
        return cls(address=address, shards=int(shards))

    def by_shard(self, step_of: StepOf) -> "Shards | None":
        """Return what makes the days of a step by shard; None where there is one shard."""
        return None if self.shards == 1 else Shards(self.address, self.shards, step_of)


def _shown(address: str) -> str:
    """Return what may be shown of an address: where, and not with which token."""
    return address.partition(";")[0]


@dataclass(frozen=True)
class Made:
    """A day that is written: how many rows each shard has of what lies in ``parts``, which tables are ``whole``, and what was read."""

    parts: Mapping[str, Sequence[int]]
    whole: Sequence[str]
    read: Read


@dataclass(frozen=True)
class Shards:
    """Makes the days of one step, shard by shard."""

    address: str
    shards: int
    step_of: StepOf

    def make(self, lake: Lake, day: date) -> Made:
        """Make and write a day's tables, with what their columns are made by.

        What lies in parts is put in place when all parts are there, so that a day that fails is as it was.
        """
        step, run = self.step_of(lake), executor_of(self.address)
        lake.recover(day)
        with lake.spill() as spill:
            blocked = tuple(step.portfolio.blocked)
            tasks = Tasks(lake.root, self.shards, day, self.step_of, blocked, spill.left(), writer(), project_version(), step.reads_events)
            everybody, each = [0], range(self.shards)
            read: Read = set()
            if step.reads_events:
                read = read.union(*run(tasks.divide, each))
            if isinstance(step, Joint):
                for task, numbers in ((tasks.before, everybody), (tasks.begin, each), (tasks.combine, everybody)):
                    read = read.union(*run(task, numbers))
            done = run(tasks.finish, each)
            [gathered] = run(tasks.gather, everybody)
        for table in done[0].rows:
            lake.publish(table, day, self.shards, gathered.made_by)
        parts = {table: [part.rows[table] for part in done] for table in done[0].rows}
        return Made(parts, list(gathered.rows), read.union(*(part.read for part in done)))


@dataclass(frozen=True)
class Done:
    """What a task says of what it has written: rows by table, what was read, and, gathered, what the columns are made by."""

    rows: Mapping[str, int]
    read: Read
    made_by: Mapping[str, str] | None


@dataclass(frozen=True)
class Tasks:
    """The tasks of a day of a step. Each opens the lake by itself, and may be done wherever that is at the same place.

    ``left``: what one leaves for the next. ``writer``: whose unfinished days they are part of. ``code``: by which they are made, on every
    machine. ``has_events``: whether those of the day are divided among the shards.
    """

    root: str
    shards: int
    day: date
    step_of: StepOf
    blocked: tuple[str, ...]
    left: Left
    writer: str
    code: str
    has_events: bool

    def divide(self, number: int) -> Read:
        """Divide so many of the day's events among the shards of those who did them."""
        lake = self._lake()
        with lake.watched() as read:
            rows, people = lake.rows(EVENTS, self.day), lake.lazy(MAP, self.day)
            first, last = (rows * place // self.shards for place in (number, number + 1))
            events = divided(lake.lazy(EVENTS, self.day).slice(first, last - first), people, self.shards, self.blocked).collect()
            for shard in range(self.shards):
                self.left.park(f"events-{number}-{shard}", events.filter(pl.col(SHARD) == shard).drop(SHARD))
        return read

    def before(self, _: int) -> Read:
        """Find out what holds for everybody."""
        lake = self._lake()
        with lake.watched() as read:
            self.left.put("known", _joint(self.step_of(lake)).before(self.day))
        return read

    def begin(self, number: int) -> Read:
        """Do the first half of a shard's work."""
        lake = self._lake()
        with lake.watched() as read:
            half, summary = _joint(self._of_shard(lake, number)).begin(self.day, self.left.take("known"))
            self.left.put(f"half-{number}", half)
            self.left.put(f"summary-{number}", summary)
        return read

    def combine(self, _: int) -> Read:
        """Find out what follows from all summaries."""
        summaries = [self.left.take(f"summary-{number}") for number in range(self.shards)]
        self.left.put("small", _joint(self.step_of(self._lake())).combine(summaries))
        return set()

    def finish(self, number: int) -> Done:
        """Make a shard's tables; write those that are by customer, and leave the others to be gathered."""
        lake, rows, whole = self._lake(), {}, []
        with lake.watched() as read:
            step = self._of_shard(lake, number)
            if isinstance(step, Joint):
                tables = step.finish(self.day, self.left.take(f"half-{number}"), self.left.take("small"))
            else:
                tables = step.make(self.day)
            for table, frame in tables.items():
                if CUSTOMER in frame.lazy().collect_schema():
                    self.left.require()  # a cluster may go on with the tasks of a run that was killed
                    rows[table] = lake.write_part(table, self.day, self.writer, number, frame, step.made_by, step.portfolio.fingerprint)
                else:
                    whole.append(table)
                    self.left.put(f"{table}-{number}", frame.lazy().collect())
            self.left.put(f"whole-{number}", whole)
            self.left.put(f"made_by-{number}", step.made_by)
        return Done(rows, read, None)

    def gather(self, _: int) -> Done:
        """Write the tables that are not by customer."""
        lake, rows = self._lake(), {}
        step, says = self.step_of(lake), [self.left.take(f"made_by-{number}") for number in range(self.shards)]
        made_by = step.agree(says) if isinstance(step, Joint) else says[0]
        for table in self.left.take("whole-0"):
            frame = step.gather(table, [self.left.take(f"{table}-{number}") for number in range(self.shards)])
            assert frame is not None, f"{table} is not by customer, and nothing says how it is gathered"
            lake.write(table, self.day, frame, made_by, step.portfolio.fingerprint)
            rows[table] = frame.height
        return Done(rows, set(), made_by)

    def _lake(self) -> Lake:
        """Open the lake, for this task alone: a server may do several at once in one process."""
        if project_version() != self.code:
            raise WrongRunnerError(
                f"{socket.gethostname()} has another version of the project in {PROJECT} ({project_version()}) than where the run was "
                f"started ({self.code}): no table is made by two. Deploy the same to all machines, and start the workers again"
            )
        return Lake(root=self.root)

    def _of_shard(self, lake: Lake, number: int) -> ByShard:
        events = self.left.scan([f"events-{place}-{number}" for place in range(self.shards)]) if self.has_events else None
        return self.step_of(Shard(lake, number, self.shards, self.day, self.blocked, events))


def _joint(step: ByShard) -> Joint:
    assert isinstance(step, Joint)
    return step


class Executor(Protocol):
    """Does a task for each of some numbers, wherever it does them."""

    def __call__(self, task: Callable[[int], T], numbers: Sequence[int]) -> list[T]:
        """Return what the task returns for each, in their order. Raises what a task raises."""


def here(task: Callable[[int], T], numbers: Sequence[int]) -> list[T]:
    """Do one after the other: Polars has all cores for each, and no two are in memory."""
    return [task(number) for number in numbers]


@dataclass(frozen=True)
class Spark:
    """Does tasks on Spark's workers, each in a Python process there; Spark knows nothing of what they do (``mapInArrow``)."""

    session: Any

    def __call__(self, task: Callable[[int], T], numbers: Sequence[int]) -> list[T]:
        """Return what the task returns for each number."""

        def of_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for number in batch.column(0).to_pylist():
                    yield pa.RecordBatch.from_pydict({"number": [number], "outcome": [_tried(task, number)]}, schema=_OUTCOMES)

        try:
            rows = self.session.range(0, len(numbers), 1, len(numbers)).mapInArrow(of_rows, "number long, outcome binary").collect()
        except Exception as problem:  # whatever Spark or Java makes of it
            name = getattr(task, "__name__", "a task")
            raise ClusterError(
                f"the cluster did not do {name} of {len(numbers)}: {_first_line(problem)}. Did a worker run out of memory (more shards: "
                f"{SHARDS}), or is the cluster gone? The day is as it was: run it again when that is mended"
            ) from problem
        outcomes = [pickle.loads(row.outcome) for row in sorted(rows, key=lambda row: row.number)]  # noqa: S301  # what our tasks return
        for outcome in outcomes:
            if isinstance(outcome, _Failed):
                raise outcome.problem
        return outcomes


def _first_line(problem: Exception) -> str:
    """Say what Spark says, without what Java adds."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip() and not line.strip().startswith("at ")]
    lost = [line for line in lines if "lost" in line.lower() or "fail" in line.lower()]
    return (lost or lines or [type(problem).__name__])[0][:300]


_OUTCOMES = pa.schema([("number", pa.int64()), ("outcome", pa.binary())])


@dataclass(frozen=True)
class _Failed:
    """A task that failed: told as what it is, and not as what Spark makes of it."""

    problem: Exception


def _tried(task: Callable[[int], object], number: int) -> bytes:
    try:
        return pickle.dumps(task(number))
    except Exception as problem:  # noqa: BLE001  # raised again where the work was given out
        problem.add_note(f"in shard {number} on {socket.gethostname()}:\n{traceback.format_exc()}")
        try:
            return pickle.dumps(_Failed(problem))
        except Exception:  # noqa: BLE001  # an error that cannot be sent
            return pickle.dumps(_Failed(RuntimeError("\n".join([str(problem), *problem.__notes__]))))


def _with_token(address: str) -> str:
    """Return the address as it was set, of which only this part is shown."""
    whole = os.environ.get(RUNNER, "").strip()
    return whole if _shown(whole) == address else address


@lru_cache(maxsize=1)
def executor_of(address: str) -> Executor:
    """Return what does the tasks; a session of Spark is opened once a process, and closed with it. Raises WrongRunnerError."""
    if address == LOCAL:
        return here
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415  # only who has a cluster has installed it
    except ModuleNotFoundError as problem:
        raise WrongRunnerError(f"{RUNNER} is {address}, and {problem.name} is not installed: make spark does it") from None
    builder = SparkSession.builder.appName("atc_pipeline")
    if address.startswith(_CONNECT):
        session = builder.remote(_with_token(address)).getOrCreate()
    else:
        settings: dict[str, bool | float | int | str | None] = {
            "spark.executorEnv.PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            # One core is one task: threads of Polars beside it would only wait for each other.
            "spark.executorEnv.POLARS_MAX_THREADS": "1",
            "spark.executorEnv.OMP_NUM_THREADS": "1",
            "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
            "spark.speculation": "false",  # two attempts at a part would tidy up after each other
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }
        if os.environ.get("SPARK_LOCAL_IP") == "127.0.0.1":
            del os.environ["SPARK_LOCAL_IP"]  # Pandera sets it where nobody has: workers on other machines would look for us on theirs
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # workers have the same project at the same place
        session = builder.master(_with_token(address)).config(map=settings).getOrCreate()
    atexit.register(session.stop)
    return Spark(session)
