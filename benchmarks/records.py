"""What Dagster itself costs: the records of a run of many days and tables that make nothing, as it keeps them and as we have it keep them.

What belongs here: that run, and CPU per day of a table (an asset-day). What does not: what makes tables.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from statistics import median

import dagster as dg

from benchmarks.history import FIRST
from resources.storage.history import keep_open

TABLES = 20
FEW = {"DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true"}
WAYS = {"stock": "as Dagster keeps them", "open": "files kept open (resources.storage.history)"}


def measure_records(days: int, runs: int) -> None:
    """Run it both ways, in turn, each in a process of its own; what a run costs at least is taken away."""
    costs: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(runs):
        for way, each in costs.items():
            least, most = (_task(way, number) for number in (1, days))
            each.append(1000 * (most - least) / ((days - 1) * TABLES))
    print(f"\na run of {days} days of {TABLES} tables, median of {runs}: CPU ms a day of a table (goal: at most 3)")
    for way, each in costs.items():
        print(f"  {WAYS[way]:<48}{median(each):>7.2f}")


def _task(way: str, days: int) -> float:
    command = [sys.executable, "-m", "benchmarks.records", way, str(days)]
    done = subprocess.run(command, env=os.environ | FEW, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def _run(way: str, days: int) -> float:
    """Run a job of tables that make nothing; return its CPU seconds."""
    partitions = dg.DailyPartitionsDefinition(start_date=FIRST.isoformat(), end_date=(FIRST + timedelta(days=400)).isoformat())
    tables = [f"table_{number}" for number in range(TABLES)]

    @dg.multi_asset(
        specs=[dg.AssetSpec(table, partitions_def=partitions) for table in tables],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def step(context: dg.AssetExecutionContext) -> Iterator[object]:
        if way == "open":
            keep_open(context.instance)
        for day in context.partition_keys:
            for table in tables:
                context.add_asset_metadata({"dagster/row_count": 5, "says": "| a | b |\n" * 10}, asset_key=table, partition_key=day)
        yield from (dg.MaterializeResult(asset_key=table) for table in tables)

    job = dg.define_asset_job("job", "*", executor_def=dg.in_process_executor)
    stretch = {
        "dagster/asset_partition_range_start": FIRST.isoformat(),
        "dagster/asset_partition_range_end": (FIRST + timedelta(days=days - 1)).isoformat(),
    }
    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.local_temp(folder) as instance:
        whole = dg.Definitions(assets=[step], jobs=[job]).resolve_job_def("job")
        began = time.process_time()
        whole.execute_in_process(instance=instance, tags=stretch)
        return time.process_time() - began


def main() -> None:
    """Run it in this process and print its CPU seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("days", type=int)
    given = parser.parse_args()
    print(json.dumps(_run(given.way, given.days)))


if __name__ == "__main__":
    main()
