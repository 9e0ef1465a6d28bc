"""The same day by shard: in one process, and on a Spark cluster of one worker and of two; and ten times the customers.

What belongs here: running a day of ``whole`` by several settings in turn, and whether all of them say the same. What does not: the day
(``whole``), starting clusters (``clusters``).

CPU and memory are the machine's, since workers are no children of the run: nothing else may be running.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

from polars.testing import assert_frame_equal

from atc_pipeline.days.catalog import tables
from atc_pipeline.journeys.resolution import load_portfolio
from benchmarks.clusters import ENVIRONMENT, lacking, spark
from benchmarks.history import FIRST
from benchmarks.whole import run_day, steps, write_world
from resources.storage.lake import Lake

BY_SHARD = ("customer_activity", "customer_metrics", "profile", "micro_segment_memberships", "journey_queues", "decide")
"""Steps that are made by shard."""
ONE_SHARD = "1 shard"
DAY = FIRST + timedelta(days=1)
SENT_AT = {"activation": "sent_at", "sent_events": "timestamp"}
"""When messages were handed over, which two runs never have in common."""
LOOKED_AT_EVERY = 0.25


@dataclass
class Machine:
    """What a run took of the machine."""

    cpu: float = 0
    peak: int = 0


def measure_shards(home: Path, customers: int, events: int, journeys: int, shards: int, runs: int) -> None:
    """Print a table: a row per setting, each the second day made again so many times in turn with the others."""
    several = {"ATC_SHARDS": str(shards)}
    settings: dict[str, tuple[Path, dict[str, str]]] = {
        f"a tenth, {max(1, shards // 10)} shard": (home / "tenth", {"ATC_SHARDS": str(max(1, shards // 10))}),
        ONE_SHARD: (home / "all", {}),
        f"{shards} shards": (home / "all", several),
    }
    write_world(home / "all", customers, events, journeys, 2)
    write_world(home / "tenth", customers // 10, events // 10, journeys, 2)
    why = lacking(java=True)
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    with ExitStack() as stack:
        for workers in () if why else (1, 2):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            address = stack.enter_context(spark(folder, workers))
            name = f"{shards} shards on Spark, {workers} worker{'s' if workers > 1 else ''}"
            settings[name] = (home / "all", several | ENVIRONMENT | {"ATC_RUNNER": address})
        for _ in range(runs):
            before = None
            for name, (place, setting) in settings.items():
                if before != (place, setting.get("ATC_SHARDS")):  # a day finds the day before as it is made itself
                    before = place, setting.get("ATC_SHARDS")
                    run_day(place, FIRST, {key: value for key, value in setting.items() if key == "ATC_SHARDS"})
                rows.setdefault(name, []).append(_measured(place, setting))
                line = f"{name}: {rows[name][-1][0]:.0f} s"
                if name == ONE_SHARD:
                    _keep(place)
                elif place == home / "all":
                    line += f"; {_compared(place)} tables as of {ONE_SHARD}"
                print(line, flush=True)
    print(f"\n{customers:,} customers, {events:,} events, {journeys} journeys; medians of {runs}")
    print(f"  {'':<36}{'seconds':>9}{'by shard':>10}{'CPU s':>8}{'GiB':>7}")
    for name, measured in rows.items():
        seconds, by_shard, cpu, peak = (median(column) for column in zip(*measured, strict=True))
        print(f"  {name:<36}{seconds:>9.0f}{by_shard:>10.1f}{cpu:>8.0f}{peak:>7.1f}")
    if why:
        print(f"  without Spark: {why}")


def _measured(home: Path, setting: Mapping[str, str]) -> tuple[float, float, float, float]:
    """Return seconds, those of the steps by shard, CPU seconds, and GiB at most."""
    with _watched() as machine:
        seconds, _, _, log = run_day(home, DAY, setting)
    by_shard = sum(took for name, took in steps(log) if name in BY_SHARD)
    return seconds, by_shard, machine.cpu, machine.peak / 2**30


def _keep(home: Path) -> None:
    """Keep the day's tables, to be compared with."""
    shutil.rmtree(home / "kept", ignore_errors=True)
    for folder in (home / "lake").glob(f"*/date={DAY}"):
        shutil.copytree(folder, home / "kept" / folder.parent.name / folder.name)


def _compared(home: Path) -> int:
    """Compare every table with what was kept, row by row in the order of its key (floats to 1e-12); return how many there are."""
    ours, kept = (Lake(root=str(home / name)) for name in ("lake", "kept"))
    compared = 0
    for name, table in tables(load_portfolio(home / "journeys.yaml")).items():
        if ours.has(name, DAY) != kept.has(name, DAY):
            raise AssertionError(f"{name} of {DAY} is in one of them only")
        if ours.has(name, DAY):
            frames = [lake.read(name, DAY).drop(SENT_AT.get(name, []), strict=False).sort(table.key) for lake in (ours, kept)]
            assert_frame_equal(*frames, rel_tol=1e-12, abs_tol=1e-12)
            compared += 1
    return compared


@contextmanager
def _watched() -> Iterator[Machine]:
    """Look at what is used until the block ends, of CPU and, now and then, of memory."""
    machine, cpu, used, is_over = Machine(), _cpu(), _used(), threading.Event()

    def look() -> None:
        while not is_over.wait(LOOKED_AT_EVERY):
            machine.peak = max(machine.peak, _used() - used)

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield machine
    finally:
        is_over.set()
        watching.join()
        machine.cpu = _cpu() - cpu


def _cpu() -> float:
    """Seconds that all cores have worked since the machine started: user, nice, system (proc(5))."""
    user, nice, system = Path("/proc/stat").read_text(encoding="ascii").split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def _used() -> int:
    """Bytes of memory that are in use, but for what the system may give away."""
    kib = {line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()}
    return (kib["MemTotal"] - kib["MemAvailable"]) * 1024
