"""Profiles over time: what a day costs at a million customers, and whether it costs more after a year.

What belongs here: made-up events, the days that are run on them, and what they are held against. What does not: the decision
(``decision``), reading raw lines (``ingest``).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import median

import duckdb
import numpy as np
import polars as pl

from atc_pipeline.days.customers import Activity, Profiles
from atc_pipeline.days.identity import Identities
from atc_pipeline.days.step import Step, write_day
from atc_pipeline.events.tables import RAW_EVENTS
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from benchmarks.measured import Figures, peak_bytes
from resources.storage.lake import Lake

FIRST = date(2026, 1, 1)

JOURNEYS = """
version: "benchmark"
calendar: {timezone: Europe/Berlin, starts_on: 2026-01-01}
channels: {email: {consent: opt_in}, app: {consent: opt_out}}
traits:
  orders:             {count: Order Completed}
  events_7d:          {count: "*", within_days: 7}
  spend:              {sum: revenue, of: Order Completed}
  spend_30d:          {sum: revenue, of: Order Completed, within_days: 30}
  spend_90d:          {sum: revenue, of: Order Completed, within_days: 90}
  biggest_order:      {max: revenue, of: Order Completed}
  average_order:      {avg: revenue, of: Order Completed}
  handbags_viewed_7d: {count: Product Viewed, where: "category = 'handbags'", within_days: 7}
  ski_products:       {sum: quantity, of: Order Completed, each: products, where: "category = 'ski'"}
  last_path:          {last: path, of: Page Viewed}
  favourite_category: {most_frequent: category, of: Product Viewed, within_days: 30}
  categories_bought:  {unique_count: category, of: Order Completed, each: products}
  days_since_order:   {days_since_last: Order Completed}
  spend_percentile:   {percentile: spend}
interests:
  half_life_days: 30
  topics:
    handbags:
      - {event: Product Viewed, where: "category = 'handbags'"}
      - {event: Order Completed, each: products, where: "category = 'handbags'", weight: 5}
    ski: [{event: Product Viewed, where: "category = 'ski'"}]
intents:
  ready_to_buy:
    half_life_days: 3
    full_at: 5
    signals: [{event: Product Added, weight: 2}, {event: Page Viewed, where: "path = '/pricing'"}]
engagement: {touch: [Message Sent], response: [Message Opened], half_life_days: 30}
predictions: {order: Order Completed, value: revenue, horizon_days: 90, refit_days: 7}
"""

EVENTS = {
    "Page Viewed": 0.44,
    "Product Viewed": 0.35,
    "Product Added": 0.08,
    "Order Completed": 0.05,
    "Message Sent": 0.05,
    "Message Opened": 0.03,
}
CATEGORIES = ("handbags", "ski", "shoes", "toys", "books")
PATHS = ("/", "/pricing", "/search", "/cart")
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata")


EMPTY = ("anonymous_id", "previous_id", "received_at", "traits", "extra")


def events_of(day: date, customers: int, events: int) -> pl.DataFrame:
    """Make up a day of accepted events, sorted by message id: the same for the same arguments."""
    random = np.random.default_rng([day.toordinal(), customers, events])
    # A few are very active: the square of a uniform number.
    who = (random.random(events) ** 2 * customers).astype(np.int64)
    second = random.integers(0, 86_400, events)
    drawn = pl.DataFrame(
        {
            "who": who,
            "event": random.choice(list(EVENTS), events, p=list(EVENTS.values())),
            "category": random.choice(CATEGORIES, events),
            "path": random.choice(PATHS, events),
            "cents": random.integers(500, 20_000, events),
            "quantity": random.integers(1, 4, events),
            "zone": np.array(ZONES)[who % len(ZONES)],
            "second": second,
        }
    )
    price = pl.format("{}.{}", pl.col("cents") // 100, (pl.col("cents") % 100).cast(pl.String).str.zfill(2))
    item = pl.format('{{"product_id": "p{}", "category": "{}", "price": {}, "quantity": {}}}', "cents", "category", price, "quantity")
    properties = (
        pl.when(pl.col("event") == "Order Completed")
        .then(pl.format('{{"order_id": "o{}", "revenue": {}, "currency": "EUR", "products": [{}]}}', "second", price, item))
        .when(pl.col("event") == "Page Viewed")
        .then(pl.format('{{"path": "{}", "title": "A page"}}', "path"))
        .when(pl.col("event").is_in(["Message Sent", "Message Opened"]))
        .then(pl.lit('{"channel": "email", "campaign": "spring"}'))
        .otherwise(item)
    )
    noon = pl.lit(datetime.combine(day, datetime.min.time())).dt.replace_time_zone("UTC")
    return (
        drawn.with_row_index("number")
        .with_columns(
            pl.lit(day).alias("date"),
            message_id=pl.format("m{}-{}", pl.lit(day.isoformat()), pl.col("number").cast(pl.String).str.zfill(9)),
            type=pl.lit("track"),
            user_id=pl.format("u{}", "who"),
            timestamp=(noon + pl.duration(seconds=pl.col("second"))).cast(RAW_EVENTS.schema["timestamp"]),
            event_date=pl.lit(day),
            properties=properties,
            context=pl.format('{{"library": {{"name": "analytics.js", "version": "4.1.0"}}, "timezone": "{}"}}', "zone"),
            source_file=pl.lit("made_up"),
            line=pl.col("number").cast(pl.Int64),
        )
        .with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in RAW_EVENTS.schema.items() if name in EMPTY)
        .select(*RAW_EVENTS.schema)
    )


@dataclass(frozen=True)
class Made:
    """A folder with a portfolio and a lake."""

    home: Path

    @property
    def lake(self) -> Lake:
        """Where the tables are."""
        return Lake(root=str(self.home / "lake"))

    def portfolio(self) -> Portfolio:
        """Write the portfolio, and read it."""
        path = self.home / "journeys.yaml"
        path.write_text(JOURNEYS)
        return load_portfolio(path)


class Stretch:
    """Days in order, from accepted events to profiles."""

    def __init__(self, made: Made) -> None:
        portfolio = made.portfolio()
        self.lake = made.lake
        self.steps: dict[str, Step] = {
            "identities": Identities(self.lake, portfolio),
            "roll up": Activity(self.lake, portfolio),
            "profiles": Profiles(self.lake, portfolio),
        }

    def run(self, day: date, clock: Callable[[], float] = time.perf_counter) -> Figures:
        """Run a day as the assets do; return seconds by step."""
        seconds = {}
        for name, step in self.steps.items():
            began = clock()
            write_day(self.lake, step, day)
            seconds[name] = clock() - began
        return seconds


def days_from(number: int) -> list[date]:
    """Return so many days from the first on."""
    return [FIRST + timedelta(days=ago) for ago in range(number)]


def measure_day(home: Path, customers: int, events: int, days: int, runs: int) -> None:
    """Measure the last of some days, in fresh processes: our stages, DuckDB on the same events, a bare read."""
    made = Made(home)
    for day in days_from(days):
        if not made.lake.has("raw_events", day):
            made.lake.write("raw_events", day, events_of(day, customers, events))
    for number, _ in enumerate(days_from(days - 1)):
        _task(home, "day", number)
    results = {task: [_task(home, task, days - 1) for _ in range(runs)] for task in ("read", "duckdb", "day")}
    medians = {task: {name: median(run[name] for run in each) for name in each[0]} for task, each in results.items()}
    whole = medians["day"]
    read = medians["read"]["seconds"]
    print(
        f"\n{customers:,} customers, {events:,} events on day {days}, median of {runs}\n{'':<46}{'seconds':>9}{'x read':>8}{'peak GiB':>10}"
    )
    for name, seconds, peak in (
        ("read the day's events, all columns", read, medians["read"]["peak_bytes"]),
        ("six of the traits in SQL on DuckDB, that day's", medians["duckdb"]["seconds"], medians["duckdb"]["peak_bytes"]),
        *((f"  {stage}", whole[stage], None) for stage in ("identities", "roll up", "profiles")),
        ("the day, events to profiles", whole["seconds"], whole["peak_bytes"]),
    ):
        print(f"{name:<46}{seconds:>9.2f}{seconds / read:>8.1f}" + ("" if peak is None else f"{peak / 2**30:>10.2f}"))


def measure_growth(home: Path, customers: int, events: int, days: int) -> None:
    """Run day after day and compare the days around day 30 with the last ones."""
    made = Made(home)
    stretch = Stretch(made)
    seconds: list[Figures] = []
    for number, day in enumerate(days_from(days)):
        made.lake.write("raw_events", day, events_of(day, customers, events))
        figures = stretch.run(day, time.process_time)  # growth is small, and another job beside it is not
        seconds.append(figures | {"whole": sum(figures.values())})
        if number % 30 == 29:
            print(f"day {number + 1:>4}: " + ", ".join(f"{name} {_around(seconds, name, number):.3f} s" for name in seconds[0]), flush=True)
    print(f"\n{customers:,} customers, {events:,} events a day: CPU of day {days} / day 30 (medians of 10 days; goal: at most 1.1)")
    for name in seconds[0]:
        print(f"  {name:<12} {_around(seconds, name, days - 1) / _around(seconds, name, min(29, days - 1)):.2f}")
    print(f"  peak {peak_bytes() / 2**30:.2f} GiB")


def _around(seconds: Sequence[Figures], name: str, number: int) -> float:
    return median(row[name] for row in seconds[max(0, number - 9) : number + 1])


def _task(home: Path, task: str, number: int) -> Figures:
    command = [sys.executable, "-m", "benchmarks.history", task, str(home), str(number)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{task} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _day(made: Made, number: int) -> Figures:
    stretch, day = Stretch(made), FIRST + timedelta(days=number)
    began = time.perf_counter()
    figures = stretch.run(day)
    return figures | {"seconds": time.perf_counter() - began}


def _read(made: Made, number: int) -> Figures:
    began = time.perf_counter()
    made.lake.read("raw_events", FIRST + timedelta(days=number))
    return {"seconds": time.perf_counter() - began}


def _duckdb(made: Made, number: int) -> Figures:
    """What SQL has to do at least: six traits of one day's events, nothing remembered, no window, no identity."""
    path = made.lake.path("raw_events", FIRST + timedelta(days=number))
    with duckdb.connect() as connection:
        connection.execute("set threads = 2")
        began = time.perf_counter()
        connection.execute(
            f"""copy (
              select user_id, count(*) as events,
                count(*) filter (event = 'Order Completed') as orders,
                sum(try_cast(properties ->> 'revenue' as double)) filter (event = 'Order Completed') as spend,
                max(try_cast(properties ->> 'revenue' as double)) filter (event = 'Order Completed') as biggest_order,
                count(*) filter (event = 'Product Viewed' and properties ->> 'category' = 'handbags') as handbags_viewed,
                arg_max(properties ->> 'path', timestamp) filter (event = 'Page Viewed') as last_path
              from '{path}' group by user_id order by user_id
            ) to '{made.home / "duckdb.parquet"}' (format parquet, compression zstd)"""  # noqa: S608  # our own file
        )
        return {"seconds": time.perf_counter() - began}


TASKS = {"day": _day, "read": _read, "duckdb": _duckdb}


def main() -> None:
    """Run one task in this process and print its figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("home", type=Path)
    parser.add_argument("day", type=int)
    given = parser.parse_args()
    print(json.dumps(TASKS[given.task](Made(given.home), given.day) | {"peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
