"""How fast a decision day is, against the same decision in SQL on DuckDB and against a bare read of the profiles.

What belongs here: what is run how often, and the table and picture made of it. What does not: the things themselves
(``measured``). Every run is a fresh process, and the things take turns, so that whatever else the machine does meets all alike.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.chart import Panel, draw

THINGS = {
    "read": "read all profile columns",
    "sql": "first day, best SQL on DuckDB",
    "textbook": "first day, textbook SQL",
    "choose": "first day, engine",
    "day": "full day, engine",
    "limited day": "full day, journeys limited",
    "learned day": "full day, what is learned decides",
}
"""What is measured, and what it is called. ``read`` and both kinds of SQL (``warehouse``) are the baselines."""

SQL = ("sql", "textbook")

Figures = dict[str, float]
Results = dict[str, Figures]


@dataclass(frozen=True)
class How:
    """Medians of so many runs, on so many threads."""

    runs: int
    threads: int


def measure_decision(home: Path, customers: int, journeys: int, how: How, things: Sequence[str]) -> None:
    """Measure one size, print it, and hold it against the promises."""
    print(f"\n{customers:,} customers x {journeys} journeys, {how.threads} threads, median of {how.runs}", flush=True)
    results = measure(home, customers, journeys, how, things)
    report(results, customers)
    print("\npromised for 1,000,000 customers x 100 journeys")
    for text, of, by, is_kept in PROMISES:
        if of in results and by in results:
            ratio = results[of]["seconds"] / results[by]["seconds"]
            print(f"{text:<52}{ratio:>7.2f}  {'kept' if is_kept(ratio) else 'MISSED'}")


def measure(home: Path, customers: int, journeys: int, how: How, things: Sequence[str]) -> Results:
    """Make the world unless it is there, check that SQL and engine agree on it, and measure each thing: medians."""
    world = home / f"{customers}x{journeys}"

    def run(task: str) -> Figures:
        return _run(task, world, customers=customers, journeys=journeys, threads=how.threads)

    if not (world / "customer_profiles.parquet").exists():
        run("profiles")
    if {"day", "limited day", "learned day"} & set(things) and not (world / "journey_state.parquet").exists():
        run("yesterday")
    if "limited day" in things and not (world / "journeys_limited.yaml").exists():
        run("day")
        run("limits")
    for kind in SQL:
        if {kind, "choose"} <= set(things):
            checked = run(f"{kind} agrees")
            ties = f", {checked['ties']:,.0f} of them tied" if checked["ties"] else ""
            print(f"{THINGS[kind].split(', ')[1]} and engine choose alike for {checked['customers']:,.0f} customers{ties}", flush=True)
    runs: dict[str, list[Figures]] = {thing: [] for thing in things}
    for _ in range(how.runs):
        for thing in things:
            runs[thing].append(run(thing))
    return {thing: {name: median(run[name] for run in each) for name in each[0]} for thing, each in runs.items()}


def _run(task: str, world: Path, **size: int) -> Figures:
    arguments = [text for name, number in size.items() for text in (f"--{name}", str(number))]
    command = [sys.executable, "-m", "benchmarks.measured", task, str(world), *arguments]
    environment = os.environ | {"POLARS_MAX_THREADS": str(size["threads"])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        # A negative code is a signal: -9 mostly means that the machine had no memory left.
        raise SystemExit(f"{task} in {world} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def report(results: Results, customers: int) -> None:
    """Print seconds, ratios to the baselines and peak memory."""
    baselines = {name: results[name] for name in ("read", *SQL) if name in results}
    heads = {"read": "x read", "sql": "SQL / it", "textbook": "textbook"}
    print(f"\n{'':<34}{'seconds':>9}{'CPU s':>9}" + "".join(f"{heads[name]:>10}" for name in baselines) + f"{'peak GiB':>10}")
    for thing, figures in results.items():
        seconds, peak = figures["seconds"], figures["peak_bytes"] / 2**30
        ratios = [seconds / of["seconds"] if name == "read" else of["seconds"] / seconds for name, of in baselines.items()]
        print(
            f"{THINGS[thing]:<34}{seconds:>9.2f}{figures['cpu']:>9.2f}" + "".join(f"{ratio:>10.2f}" for ratio in ratios) + f"{peak:>10.2f}"
        )
    if "read" in results:
        read = results["read"]
        print(f"\nprofiles: {read['columns']:.0f} columns, {read['bytes'] / customers:.0f} bytes a customer")
    if "day" in results:
        whole = results["day"]
        print(
            f"a full day writes {whole['rows'] / customers:.1f} option rows a customer in {whole['bytes'] / customers:.0f} bytes; "
            f"making and writing its tables takes {whole['writing']:.2f} seconds more"
        )

    if {"day", "learned day"} <= set(results):
        more = (results["learned day"]["cpu"] - results["day"]["cpu"]) * 1e6 / customers
        print(f"what is learned adds {more:.1f} seconds of CPU a million customers, tables written (goal: at most 6)")


PROMISES: Sequence[tuple[str, str, str, Callable[[float], bool]]] = (
    ("best SQL / first day                 at least 1.2", "sql", "choose", lambda ratio: ratio >= 1.2),
    ("textbook SQL / first day               at least 8", "textbook", "choose", lambda ratio: ratio >= 8),
    ("first day / read                       at most 4", "choose", "read", lambda ratio: ratio <= 4),
    ("full day / first day                   at most 3", "day", "choose", lambda ratio: ratio <= 3),
    ("full day, journeys limited / full day  at most 3", "limited day", "day", lambda ratio: ratio <= 3),
)
"""The promises for 1,000,000 customers x 100 journeys: numerator, denominator, and when they are kept."""


def measure_curves(
    home: Path,
    by_customers: Sequence[tuple[int, int]],
    by_journeys: Sequence[tuple[int, int]],
    how: How,
    things: Sequence[str],
    picture: Path,
) -> None:
    """Measure all sizes, (customers, journeys) each, print them, and draw time against either."""
    results: dict[tuple[int, int], Results] = {}
    for customers, journeys in dict.fromkeys([*by_customers, *by_journeys]):
        print(f"\n{customers:,} customers x {journeys} journeys, {how.threads} threads, median of {how.runs}", flush=True)
        try:
            results[customers, journeys] = measure(home, customers, journeys, how, things)
        except SystemExit as failure:
            if not set(SQL) & set(things):
                raise
            reason = next((line for line in str(failure).splitlines() if "Exception:" in line), failure)
            print(f"without the SQL, which fails at this size: {reason}", flush=True)
            results[customers, journeys] = measure(home, customers, journeys, how, [thing for thing in things if thing not in SQL])
        report(results[customers, journeys], customers)
    print("\nseconds per million customers (linear = the same in every column)")
    print(f"{'':<28}" + "".join(f"{customers:>12,}" for customers, _ in by_customers))
    for thing in things:
        each = [1e6 * results[size][thing]["seconds"] / size[0] if thing in results[size] else float("nan") for size in by_customers]
        print(f"{THINGS[thing]:<28}" + "".join(f"{seconds:>12.2f}" for seconds in each))
    panels = [
        Panel(f"customers (with {by_customers[0][1]} journeys)", _lines(results, by_customers, 0, things)),
        Panel(f"journeys (with {by_journeys[0][0]:,} customers)", _lines(results, by_journeys, 1, things)),
    ]
    draw(picture, f"seconds, {how.threads} threads, median of {how.runs}", panels)
    print(f"\ndrawn: {picture}")


def _lines(
    results: dict[tuple[int, int], Results], sizes: Sequence[tuple[int, int]], axis: int, things: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    return {
        THINGS[thing]: [(size[axis], results[size][thing]["seconds"]) for size in sorted(sizes) if thing in results[size]]
        for thing in things
    }
