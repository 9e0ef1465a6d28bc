"""One attempt at a day, in a process of its own: the daily job as the schedule starts it, live, on the morning after.

What belongs here: what happens in that process, and what it tells of itself. What does not: ending it (``killing``).
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import dagster as dg

import assets.activation
import assets.jobs.due
from resources.channels.connected import Channels
from resources.storage.home import home_of
from tests.faults.forked import Processes
from tests.faults.points import Point, Points, install
from tests.faults.world import World, morning_after

STAGES = ("ingest", "profiles", "decision", "activation")
BATCH_SIZE = 20
"""Messages a request: a day has five of them or so."""
_STAGE_OF = (
    ("ingest", ("ingest", "raw_events", "rejected_events")),
    ("profiles", ("identity", "customer_", "feature_coverage", "profile", "purchase_models", "micro_segment")),
    (
        "decision",
        (
            *("journey_", "decide", "scored_candidates", "long_outcomes", "uplift", "describe", "path_"),
            *("entry_profiles", "goal_models", "model_quality"),
        ),
    ),
    (
        "activation",
        (
            *("messages", "outbound_", "rendered_", "content_library", "activation", "segment_matrix"),
            *("list_members", "audience_", "answers", "synchronize_", "sent_events"),
        ),
    ),
    ("due", ("hand_over",)),
)
"""Beginnings of the names of steps, which are tables or make several, and of their checks."""
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Order:
    """What an attempt is to do."""

    environment: dict[str, str]
    first: date
    last: date
    point: Point | None = None
    at: datetime | None = None
    """What time it is when it begins; the morning after the last day if nothing is said."""
    clock: Callable[[datetime, float], datetime] | None = None
    """What time it is after so many seconds, where time does not simply pass."""
    prepare: Callable[[], None] | None = None
    """What is done to the process before anything else."""
    timeout_seconds: float = 10.0
    retries: int = 2
    job: str = "daily"


@dataclass
class Report:
    """What an attempt has told."""

    steps: list[tuple[str, float]] = field(default_factory=list)
    """Steps begun, and after how many seconds."""
    passed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    is_ended: bool = False

    @property
    def stage(self) -> str:
        """The stage it was in last."""
        return stage_of(self.steps[-1][0]) if self.steps else "start"

    def seconds(self, stage: str) -> float:
        """How long a stage took."""
        begun = [at for step, at in self.steps if stage_of(step) == stage]
        later = [at for _, at in self.steps if at > begun[-1]]
        return min(later, default=begun[-1]) - begun[0]

    def note(self, message: tuple[str, Any]) -> None:
        """Take in what came over the wire."""
        match message:
            case ("step", (str(step), float(at))):
                self.steps.append((step, at))
            case ("failure", str(text)):
                self.failures.append(text)
            case ("log", str(text)):
                self.log.append(text)
            case ("end", passed):
                self.passed, self.is_ended = passed, True


_PRELOADED = [
    "dagster",
    "dagster_duckdb",
    "pandera.polars",
    "pyarrow.parquet",
    "requests",
    "dagster._core.execution.backfill",
    "dagster._core.launcher.sync_in_memory_run_launcher",
    "dagster._core.storage.event_log.in_memory",
    "dagster._core.storage.runs.in_memory",
    "assets.activation",
    "assets.checks",
    "assets.jobs.due",
    "assets.jobs.erasure",
    "assets.jobs.failures",
    "assets.jobs.landing",
]
"""Nothing that makes a frame: Polars' threads would not be there after the fork."""


def stage_of(step: str) -> str:
    """Return which stage a step belongs to."""
    return next(stage for stage, beginnings in _STAGE_OF if step.startswith(beginnings))


def processes() -> ForkServerContext:
    """Processes that need not import the libraries anew: half a second each, where a day takes two."""
    context = Processes()
    context.set_forkserver_preload(_PRELOADED)
    return context


def order(world: World, first: date, last: date | None = None, **options: Any) -> Order:
    """Return what it takes to run a day, or a stretch of them, of a world."""
    return Order(world.environment, first, last or first, **options)


@dataclass
class Attempt:
    """A process at work on an order."""

    process: ForkServerProcess
    wire: Connection
    report: Report = field(default_factory=Report)
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, work: Order) -> "Attempt":
        """Begin."""
        ours, theirs = Pipe(duplex=False)
        process = processes().Process(target=carry_out, args=(work, theirs))
        process.start()
        theirs.close()
        return cls(process, ours)

    def listen(self, seconds: float | None = None, until: Callable[[Report], bool] = lambda _: False) -> bool:
        """Take in what it tells until something is true of it (then True), its end, or for so many seconds."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not until(self.report):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self.wire.poll(left):
                return False
            try:
                self.report.note(self.wire.recv())
            except EOFError:
                return False
        return True

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()

    def join(self) -> Report:
        """Wait for its end; return what it has told."""
        self.listen(300)
        self.process.join(60)
        assert self.process.exitcode is not None, "it does not end"
        self.wire.close()
        return self.report

    @property
    def exitcode(self) -> int | None:
        """How it ended; minus the signal where it was killed."""
        return self.process.exitcode


def run(work: Order) -> Report:
    """Carry an order out to its end, whatever that is."""
    return Attempt.start(work).join()


def run_well(work: Order) -> Report:
    """Carry an order out; it must succeed."""
    report = run(work)
    assert report.is_ended, "the process died"
    assert not report.failures, report.failures
    return report


def carry_out(work: Order, wire: Connection) -> None:
    """Run the job, and tell of each step as it begins."""
    began = time.monotonic()
    os.environ |= work.environment
    tempfile.tempdir = work.environment["TMPDIR"]
    points = Points(work.point)
    install(points)
    if work.prepare is not None:
        work.prepare()
    at = work.at or morning_after(work.last)
    clock = work.clock or (lambda start, seconds: start + timedelta(seconds=seconds))
    assets.activation._now = assets.jobs.due._now = lambda: clock(at, time.monotonic() - began)
    from atc_pipeline.definitions import build_definitions  # noqa: PLC0415  # reads the environment

    told = Channels.from_environment(home_of(work.environment, Path.cwd()).as_posix(), work.environment)
    channels = Channels(
        home=told.home,
        live=told.live,
        ways=told.ways,
        batch_size=BATCH_SIZE,
        timeout_seconds=work.timeout_seconds,
        retries=work.retries,
    )
    job = build_definitions(work.environment, channels=channels).resolve_job_def(work.job)
    with dg.DagsterInstance.ephemeral() as instance:
        _tell_steps(instance, points, wire, began)
        if work.job != "daily":
            result = job.execute_in_process(instance=instance, run_config=_QUIET, raise_on_error=False)
        elif work.first == work.last:
            result = job.execute_in_process(instance=instance, partition_key=str(work.first), run_config=_QUIET, raise_on_error=False)
        else:
            tags = {"dagster/asset_partition_range_start": str(work.first), "dagster/asset_partition_range_end": str(work.last)}
            result = job.execute_in_process(instance=instance, tags=tags, run_config=_QUIET, raise_on_error=False)
        if not result.success and not any(event.is_step_failure for event in result.all_events):
            ends = [event for event in result.all_events if event.event_type_value in {"RUN_FAILURE", "PIPELINE_FAILURE"}]
            wire.send(("failure", f"run: {ends[-1].event_specific_data!r}"))
        for event in result.all_events:
            if event.is_step_failure:
                failure = event.step_failure_data
                description = failure.user_failure_data.description if failure.user_failure_data else None
                wire.send(("failure", f"{event.step_key}: {description or (failure.error_display_string)}"))
    wire.send(("end", dict(points.passed)))


def _tell_steps(instance: dg.DagsterInstance, points: Points, wire: Connection, began: float) -> None:
    handle = instance.handle_new_event

    def told(event: Any, **options: Any) -> Any:
        noted = event.dagster_event
        if noted is not None and noted.event_type_value == "STEP_START":
            points.stage = stage_of(noted.step_key)
            wire.send(("step", (noted.step_key, time.monotonic() - began)))
        elif noted is None and event.level >= 30:  # warnings
            wire.send(("log", event.user_message))
        return handle(event, **options)

    instance.handle_new_event = told  # type: ignore[method-assign]
