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

import polars as pl

from assets.customers import profile_day
from assets.decision import CAP_DAYS, Goals, decide_day
from atc_pipeline.activation.messages import write_messages
from atc_pipeline.customers.activity import roll_up
from atc_pipeline.customers.profiles import lookback_days, rollup_columns
from atc_pipeline.customers.segments import assign_segments
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.decision.memory import cap_days
from atc_pipeline.decision.queues import queue_customers
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS
from atc_pipeline.events.ingest import ingest
from atc_pipeline.identity.map import absorbed, map_identities
from atc_pipeline.journeys.resolution import load_portfolio
from benchmarks.ingest import duckdb_reads
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from sample.complete_journey import write_landing

PROJECT = Path(__file__).resolve().parent.parent
FIRST = date(2017, 1, 1)


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
    """Run each day through every stage, as the assets do, and both baselines."""
    portfolio = load_portfolio(PROJECT / "journeys.yaml")
    landing, lake, watch = LandingZone(root=str(home / "landing")), Lake(root=str(home / "lake")), Stopwatch()

    def yesterday(table: str, day: date) -> pl.LazyFrame | None:
        return None if day == FIRST else lake.read(table, day - timedelta(days=1)).lazy()

    nothing_delivered = pl.DataFrame(schema=JOURNEY_ASSIGNMENTS.schema)
    window = Rolling(lake, "customer_activity", lookback_days(portfolio), rollup_columns(portfolio), since=portfolio.starts_on)
    goals = Goals(lake, portfolio)
    for day in days:
        before = lake.scan("raw_events", [day - timedelta(days=1), day - timedelta(days=2)])
        seen = pl.Series(dtype=pl.String) if before is None else before.select("message_id").collect()["message_id"]
        with watch.measure("ingest"):
            lake.write("raw_events", day, ingest(landing.read(day), seen, arrival=day, timezone=portfolio.timezone).accepted)
        with watch.measure("duckdb read_json"):
            duckdb_reads(landing.files(day), home / "baseline.parquet")
        with watch.measure("identities"):
            lake.write("identity_map", day, map_identities(lake.lazy("raw_events", day), yesterday("identity_map", day), today=day).map)
        with watch.measure("roll up"):
            now = absorbed(lake.lazy("identity_map", day))
            lake.write("customer_activity", day, roll_up(lake.lazy("raw_events", day), portfolio, arrival=day, absorbed=now).activity)
        with watch.measure("profiles"):
            for name, made in profile_day(lake, window.until(day), portfolio, day).items():
                lake.write(name, day, made)
        with watch.measure("read profiles"):
            lake.read("customer_profiles", day)
        profiles = lake.lazy("customer_profiles", day)
        with watch.measure("segments"):
            members = assign_segments(profiles, yesterday("micro_segment_memberships", day), portfolio.segments, today=day)
            lake.write("micro_segment_memberships", day, members.collect())
        with watch.measure("queues"):
            joined = lake.lazy("micro_segment_memberships", day)
            queues = queue_customers(profiles, joined, yesterday("journey_queues", day), portfolio.journeys, today=day)
            lake.write("journey_queues", day, queues.collect())
        with watch.measure("decision"):
            for table, frame in decide_day(lake, goals, nothing_delivered, portfolio, day).items():
                lake.write(table, day, frame, {CAP_DAYS: str(cap_days(portfolio))})
        with watch.measure("messages"):
            messages = write_messages(lake.lazy("journey_assignments", day), profiles, portfolio, today=day)
            lake.write("outbound_messages", day, messages.collect())
    return watch


def report(watch: Stopwatch, days: list[date]) -> None:
    """Print the median per day of each stage, and its ratio to the baselines."""
    medians = {stage: median(seconds) for stage, seconds in watch.seconds.items()}
    bare = medians["read profiles"]
    print(f"\nmedian of {len(days)} days   {'ms a day':>10} {'x read profiles':>16}")
    for stage, seconds in medians.items():
        print(f"{stage:<20} {1000 * seconds:>12.1f} {seconds / bare:>16.1f}")
    stages = [stage for stage in medians if stage not in ("read profiles", "duckdb read_json")]
    whole = sum(medians[stage] for stage in stages)
    print(f"{'a whole day':<20} {1000 * whole:>12.1f} {whole / bare:>16.1f}")
    print(f"\ningest / duckdb read_json: {medians['ingest'] / medians['duckdb read_json']:.2f} (below 1 = ingest is faster)")
