"""The sample's first weeks, stage by stage, against a bare read of the profiles and DuckDB's reader.

Wall times on a shared machine mean little; the ratios do. Every stage includes reading and writing its tables. Baselines,
measured in the same run on the same files: ``read profiles`` reads the day's ``customer_profiles`` with all its columns;
``duckdb read_json`` reads the landing zone's lines with types and writes them to Parquet, checking nothing.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from statistics import median

from atc_pipeline.days.course import Course
from atc_pipeline.days.step import write_day
from atc_pipeline.journeys.resolution import load_portfolio
from benchmarks.ingest import duckdb_reads
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from sample.complete_journey import write_landing

PROJECT = Path(__file__).resolve().parent.parent
FIRST = date(2017, 1, 1)
READ_JSON, READ_PROFILES = "duckdb read_json", "read profiles"


class Stopwatch:
    """Seconds by stage, one figure per day."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Time one piece of work."""
        began = time.perf_counter()
        yield
        self.seconds[stage].append(time.perf_counter() - began)


def measure_sample(number_of_days: int) -> None:
    """Run the stages day by day and print the medians and the ratios."""
    days = [FIRST + timedelta(days=number) for number in range(number_of_days)]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        print(write_landing(home / "landing", until=days[-1]))
        watch = run_days(home, days)
        report(watch, days)


def run_days(home: Path, days: list[date]) -> Stopwatch:
    """Run each day through every step, as the assets do, and both baselines."""
    portfolio = load_portfolio(PROJECT / "journeys.yaml")
    landing, lake, watch = LandingZone(root=str(home / "landing")), Lake(root=str(home / "lake")), Stopwatch()
    course = Course(lake, portfolio, landing.read)
    for day in days:
        for name, step in course.steps.items():
            with watch.measure(name):
                write_day(lake, step, day)
        with watch.measure(READ_JSON):
            duckdb_reads(landing.files(day), home / "baseline.parquet")
        with watch.measure(READ_PROFILES):
            lake.read("customer_profiles", day)
    return watch


def report(watch: Stopwatch, days: list[date]) -> None:
    """Print the median per day of each stage, and its ratio to the baselines."""
    medians = {stage: median(seconds) for stage, seconds in watch.seconds.items()}
    bare = medians[READ_PROFILES]
    print(f"\nmedian of {len(days)} days   {'ms a day':>10} {'x read profiles':>16}")
    for stage, seconds in medians.items():
        print(f"{stage:<20} {1000 * seconds:>12.1f} {seconds / bare:>16.1f}")
    stages = [stage for stage in medians if stage not in (READ_PROFILES, READ_JSON)]
    whole = sum(medians[stage] for stage in stages)
    print(f"{'a whole day':<20} {1000 * whole:>12.1f} {whole / bare:>16.1f}")
    print(f"\ningest / duckdb read_json: {medians['ingest'] / medians[READ_JSON]:.2f} (below 1 = ingest is faster)")
