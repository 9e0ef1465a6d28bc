"""One task in a process of its own: ``python -m benchmarks.measured TASK HOME``, which prints what it measured as JSON.

What belongs here: the tasks, their clock and their memory. What does not: how often they run and what is made of it
(``decision``). A fresh process is what a daily run is, and its peak memory is nobody else's.
"""

import argparse
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from atc_pipeline.journeys.portfolio import NONE, Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.rules.probabilities import Probabilities
from benchmarks import engine, population, warehouse
from benchmarks.learning import learned_from, learning_live
from benchmarks.population import TODAY, World
from resources.storage.lake import Lake

Figures = dict[str, float]


@dataclass(frozen=True)
class Size:
    """How large a world is, and on how many threads DuckDB runs (Polars reads POLARS_MAX_THREADS when it is imported)."""

    customers: int
    journeys: int
    threads: int


def main() -> None:
    """Run the task and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measured")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("home", type=Path)
    parser.add_argument("--customers", type=int, required=True)
    parser.add_argument("--journeys", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    figures = TASKS[given.task](World(given.home), Size(given.customers, given.journeys, given.threads))
    print(json.dumps(figures | {"peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """Return the most memory this process ever had resident."""
    # On Linux ru_maxrss begins at the peak of the process that started this one; VmHWM begins with the program.
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    # Bytes on macOS, kilobytes elsewhere.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def make_profiles(world: World, size: Size) -> Figures:
    """Write the customers and the portfolio."""
    population.write_profiles(world, customers=size.customers, journeys=size.journeys)
    return {}


def make_yesterday(world: World, _: Size) -> Figures:
    """Write what yesterday left."""
    population.write_yesterday(world, engine.queue(world, load_portfolio(world.journeys)))
    return {}


def read(world: World, _: Size) -> Figures:
    """Read the profiles with all their columns, and do nothing with them."""
    with clocked({"bytes": world.table("customer_profiles").stat().st_size}) as figures:
        profiles = pl.read_parquet(world.table("customer_profiles"))
    return figures | {"columns": profiles.width}


@contextmanager
def clocked(more: Figures) -> Iterator[Figures]:
    """Note the seconds of what is done in here, and those of all cores together."""
    began, busy = time.perf_counter(), time.process_time()
    yield more
    more |= {"seconds": time.perf_counter() - began, "cpu": time.process_time() - busy}


def sql(world: World, size: Size, statement: warehouse.Statement) -> Figures:
    """Decide a first day in SQL on DuckDB."""
    portfolio = engine.first_day(load_portfolio(world.journeys))
    with warehouse.connect(size.threads, world.home) as connection, clocked({}) as figures:
        warehouse.decide(connection, world.table("customer_profiles"), portfolio, statement)
    return figures


def choose(world: World, _: Size) -> Figures:
    """Decide a first day in the engine."""
    portfolio = engine.first_day(load_portfolio(world.journeys))
    with clocked({}) as figures:
        engine.choose(world, portfolio)
    return figures


def agree(world: World, size: Size, statement: warehouse.Statement) -> Figures:
    """Check that SQL and engine give every customer the same journey.

    Scores that agree to 8 digits are a tie: the engine rounds them to 9 before it compares, the SQL does not.
    """
    portfolio = engine.first_day(load_portfolio(world.journeys))
    with warehouse.connect(size.threads, world.home) as connection:
        warehouse.decide(connection, world.table("customer_profiles"), portfolio, statement)
        by_sql = connection.sql("from decided").pl()
    by_engine = engine.choose(world, portfolio).with_columns(pl.col("journey_id").fill_null(NONE))
    both = by_engine.join(by_sql, on="customer_id", how="full", suffix="_sql")
    is_tie = ((pl.col("score") - pl.col("score_sql")).abs() <= 1e-8 * pl.col("score").abs()).fill_null(value=False)
    is_same = pl.col("journey_id").eq_missing(pl.col("journey_id_sql"))
    # A customer without options has a score in SQL, "none" being asked for everybody, and none in the engine.
    differing = both.filter(~(is_tie | (is_same & (pl.col("journey_id") == NONE))))
    if differing.height or both.height != by_sql.height:
        raise AssertionError(f"SQL and engine disagree about {differing.height} of {both.height} customers:\n{differing.head()}")
    return {"customers": both.height, "ties": both.filter(~is_same).height, "without": both.filter(journey_id=NONE).height}


@dataclass
class Written:
    """Tables written to a lake, and when the first of them was begun."""

    lake: Lake
    began: float | None = None

    def write(self, table: str, frame: pl.DataFrame | pl.LazyFrame) -> None:
        """Write a table as a run does."""
        self.began = self.began or time.perf_counter()
        self.lake.write(table, TODAY, frame)


def day(world: World, _: Size) -> Figures:
    """Decide the full day."""
    return _day(world, load_portfolio(world.journeys), "day")


def learned_day(world: World, _: Size) -> Figures:
    """Decide the full day by what is learned, of entries that are made up: how many there are makes no difference to that."""
    portfolio = learning_live(load_portfolio(world.journeys), pl.read_parquet_schema(world.table("customer_profiles")))
    return _day(world, portfolio, "learned_day", learned_from(portfolio, pl.read_parquet(world.table("customer_profiles"), n_rows=20_000)))


def limited_day(world: World, _: Size) -> Figures:
    """Decide the full day with limited journeys."""
    portfolio = load_portfolio(world.limited_journeys)
    limited = sum(journey.daily_entries is not None or journey.active is not None for journey in portfolio.journeys)
    return _day(world, portfolio, "limited_day") | {"limited": limited}


def _day(world: World, portfolio: Portfolio, name: str, probabilities: Probabilities | None = None) -> Figures:
    lake, table = Lake(root=str(world.home / name)), "scored_candidates"
    shutil.rmtree(lake.root, ignore_errors=True)
    written = Written(lake)
    began = time.perf_counter()
    with clocked({}) as figures:
        engine.decide_day(world, portfolio, written.write, probabilities)
    writing = began + figures["seconds"] - (written.began or began + figures["seconds"])
    size = lake.path(table, TODAY).stat().st_size
    return figures | {"seconds": figures["seconds"] - writing, "writing": writing, "rows": lake.rows(table, TODAY), "bytes": size}


def make_limits(world: World, size: Size) -> Figures:
    """Write the limited portfolio, from what the day without limits wanted."""
    assigned = pl.scan_parquet(world.home / "day" / "journey_assignments" / f"date={TODAY}" / "part.parquet")
    entered = assigned.filter(pl.col("decision").is_in(["start", "switch"])).group_by("journey_id").len().collect()
    # In flight once today's journeys have ended: those who go on, and those whom a switch takes out only afterwards.
    stayed = assigned.filter(decision="continue").select("journey_id")
    left = assigned.filter(ended_reason="interrupted").select(journey_id="ended_journey_id")
    flying = pl.concat([stayed, left]).group_by("journey_id").len().collect()
    document = population.limit(population.portfolio_document(size.journeys), dict(entered.iter_rows()), dict(flying.iter_rows()))
    population.write_portfolio(world.limited_journeys, document)
    return {}


TASKS: dict[str, Callable[[World, Size], Figures]] = {
    "profiles": make_profiles,
    "yesterday": make_yesterday,
    "limits": make_limits,
    "textbook agrees": partial(agree, statement=warehouse.by_rows),
    "sql agrees": partial(agree, statement=warehouse.by_columns),
    "read": read,
    "textbook": partial(sql, statement=warehouse.by_rows),
    "sql": partial(sql, statement=warehouse.by_columns),
    "choose": choose,
    "day": day,
    "limited day": limited_day,
    "learned day": learned_day,
}

if __name__ == "__main__":
    main()
