"""A day of entries and of what came of them: what it costs at a million customers, and whether it costs more after a year.

What belongs here: made-up entries and metrics, and the day that is run on them. What does not: what is made of outcomes (``uplift``),
or what it costs to keep metrics by day (``history``).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

from atc_pipeline.customers import metrics
from atc_pipeline.customers.tables import MICRO_SEGMENT_MEMBERSHIPS, customer_metrics
from atc_pipeline.days.entries import Entries
from atc_pipeline.days.maturing import Maturing
from atc_pipeline.days.measured import Measured
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_STATE
from atc_pipeline.identity.tables import IDENTITY_MAP
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.outcomes.tables import journey_entries
from atc_pipeline.rules.measured import kept, kept_columns
from benchmarks.measured import Figures, peak_bytes
from resources.storage.lake import Lake

FIRST = date(2026, 1, 1)
JOURNEYS = 20
OPEN_DAYS = 31
"""A window of 28 days, and three that are waited for: so many days' entries are open."""
AGAIN = range(15, 28)
"""So many days after an entry, when the journey is over, one in four hundred enters it again: in all, three in a hundred."""
KEPT_DAYS = 96
"""Days of metrics that a day looks back on: the long run, and what was before an entry."""
ACTIVE = 0.05
"""The share of customers of whom something is measured on a day."""

PORTFOLIO = f"""
version: "benchmark"
calendar: {{timezone: UTC, starts_on: {FIRST - timedelta(days=KEPT_DAYS)}}}
channels: {{email: {{consent: opt_in}}}}
engagement: {{touch: [Message Sent], response: [Message Opened], half_life_days: 30}}
metrics:
  revenue: {{sum: revenue, of: Order Completed}}
  orders: {{count: Order Completed}}
  csat: {{avg: rating, of: Survey Answered}}
  opted_out: {{any: Unsubscribed}}
measurement: {{money: revenue, window_days: 28}}
journeys:
""" + "".join(
    f"  - {{id: j{number:02}, length_days: 14, holdout: 0.1, queue: {{where: 'true'}},"
    f" goal: {{event: Order Completed, within_days: 28, value: revenue}}}}\n"
    for number in range(JOURNEYS)
)


@dataclass(frozen=True)
class Made:
    """A folder with a portfolio and a lake."""

    home: Path
    customers: int
    open_entries: int

    @property
    def lake(self) -> Lake:
        """Where the tables are."""
        return Lake(root=str(self.home / "lake"))

    def portfolio(self) -> Portfolio:
        """Write the portfolio, and read it."""
        self.home.mkdir(parents=True, exist_ok=True)
        path = self.home / "journeys.yaml"
        path.write_text(PORTFOLIO)
        return load_portfolio(path)

    @property
    def entries_a_day(self) -> int:
        """How many enter a journey on a day."""
        return -(-self.open_entries // OPEN_DAYS)


def day_of(number: int) -> date:
    """Return the day of that number, from 1: the first with entries."""
    return FIRST + timedelta(days=number - 1)


def _names(who: np.ndarray) -> pl.Series:
    return pl.select(pl.format("u{}", pl.lit(pl.Series(who)).cast(pl.String).str.zfill(8))).to_series()


def metrics_of(made: Made, portfolio: Portfolio, day: date) -> pl.DataFrame:
    """Make up what was measured of a day."""
    draw = np.random.default_rng([day.toordinal(), made.customers])
    size = round(made.customers * ACTIVE)
    who = np.sort(draw.choice(made.customers, size, replace=False))
    orders = draw.poisson(0.4, size)
    micro = orders * draw.integers(5, 200, size) * 1_000_000
    values = {name: (micro if name.endswith(".micro") else orders) for name in kept_columns(kept(portfolio))}
    schema = customer_metrics(portfolio).schema
    rows = pl.DataFrame({"customer_id": _names(who), **values}).with_columns(date=pl.lit(day), event_date=pl.lit(day))
    return rows.with_columns(pl.lit([], schema[schema.names()[-1]]).alias(schema.names()[-1])).select(*schema).cast(schema)


def _new(made: Made, number: int) -> pl.DataFrame:
    """Make up who enters a journey for the first time."""
    draw = np.random.default_rng([number, made.customers, 1])
    size = made.entries_a_day
    who = np.sort(draw.choice(made.customers, size, replace=False))
    journeys = [f"j{journey:02}" for journey in draw.integers(0, JOURNEYS, size)]
    return pl.DataFrame({"customer_id": _names(who), "journey_id": journeys, "entry_number": np.ones(size, dtype=np.int64)})


def entries_of(made: Made, portfolio: Portfolio, number: int) -> pl.DataFrame:
    """Make up the entries of a day: one in ten is a control; some of those who entered two to four weeks before enter again."""
    draw = np.random.default_rng([number, made.customers, 2])
    again = [_new(made, number - ago).tail(max(1, made.entries_a_day // 400)) for ago in AGAIN if number > ago]
    both = pl.concat([_new(made, number), *(rows.with_columns(entry_number=pl.lit(2, pl.Int64())) for rows in again)])
    both = both.unique("customer_id", keep="last", maintain_order=True).sort("customer_id")
    size, day = both.height, day_of(number)
    is_control = draw.random(size) < 0.1
    rows = both.with_columns(arm=np.where(is_control, "control", "treated"), held_out_by=np.where(is_control, "journey", "")).with_columns(
        pl.lit(day).alias("date"),
        pl.when(pl.col("held_out_by") != "").then("held_out_by").alias("held_out_by"),
        decision=pl.lit("start"),
        holdout=0.1,
        policy_holdout=0.0,
        version=pl.lit(portfolio.version),
        is_drawn=pl.lit(value=False),
        options=1,
        propensity_source=pl.lit("prior"),
        window_days=28,
        matures_on=pl.lit(day + timedelta(days=OPEN_DAYS)),
        goal_within_days=28,
        is_quiet=pl.lit(value=False),
        segments=pl.lit(["everyone"], pl.List(pl.String())),
    )
    schema = journey_entries(portfolio).schema
    lacking = {name: pl.lit(1.0 if name.endswith("_before") else None, dtype) for name, dtype in schema.items() if name not in rows.columns}
    return rows.with_columns(**lacking).select(*schema).cast(schema)


def make(made: Made, numbers: Sequence[int]) -> None:
    """Write all that the days of these numbers read, unless it is there."""
    portfolio, lake = made.portfolio(), made.lake
    made_by = metrics.definitions(portfolio, kept(portfolio))
    for number in range(1, max(numbers) + 1):
        if not lake.has("journey_entries", day_of(number)):
            opened = {"measurement.open_since": day_of(max(1, number - OPEN_DAYS + 1)).isoformat()}
            version = {"version": portfolio.version, "version.since": FIRST.isoformat()}
            lake.write("journey_entries", day_of(number), entries_of(made, portfolio, number), opened | version)
    names = _names(np.arange(made.customers))
    for number in numbers:
        for ago in range(KEPT_DAYS + 1):
            if not lake.has("customer_metrics", day_of(number - ago)):
                lake.write("customer_metrics", day_of(number - ago), metrics_of(made, portfolio, day_of(number - ago)), made_by)
        day = day_of(number)
        if lake.has("customer_profiles", day):
            continue
        merged = np.arange(made.customers) % 50 == 1
        customers = pl.DataFrame({"id": names, "merged": merged}).with_columns(pl.lit("user").alias("id_type"))
        people = customers.with_columns(
            customer_id=pl.when("merged").then(pl.col("id").shift(1)).otherwise("id"), valid_from=pl.lit(FIRST), arm_id="id"
        )
        lacking = [pl.lit(None, dtype).alias(name) for name, dtype in IDENTITY_MAP.schema.items() if name not in people.columns]
        lake.write("identity_map", day, people.with_columns(lacking).select(*IDENTITY_MAP.schema).cast(IDENTITY_MAP.schema))
        lake.write("customer_profiles", day, pl.DataFrame({"customer_id": names}).with_columns(preferred_channel=pl.lit("email")))
        memberships = pl.DataFrame({"customer_id": names}).with_columns(
            pl.lit(day).alias("date"), segment_id=pl.lit("everyone"), member_since=pl.lit(FIRST)
        )
        lake.write("micro_segment_memberships", day, memberships.select(*MICRO_SEGMENT_MEMBERSHIPS.schema))
        for ago in AGAIN:
            eve = number - OPEN_DAYS + ago - 1
            if eve > 0 and not lake.has("journey_assignments", day_of(eve + 1)):
                lake.write("journey_state", day_of(eve), _state(made, eve))
                lake.write("journey_assignments", day_of(eve + 1), _answers(made, eve + 1))
        state = _state(made, number)
        lake.write("journey_state", day, state)
        entered = day_of(number - OPEN_DAYS - 62)
        if lake.has("journey_entries", entered):
            before = entered - timedelta(days=1)
            lake.write("journey_state", before, state.with_columns(date=pl.lit(before), entered_on=pl.lit(before)))
            lake.write("identity_map", entered, people.select(*IDENTITY_MAP.schema) if not lacking else lake.read("identity_map", day))


def _state(made: Made, number: int) -> pl.DataFrame:
    """Make up the memory: every customer was in some journey, and those who entered lately are in theirs."""
    everybody = pl.DataFrame({"customer_id": _names(np.arange(made.customers))}).with_columns(
        journey_id=pl.lit("j00"), entered_on=pl.lit(FIRST), times_entered=pl.lit(1, pl.Int64())
    )
    lately = pl.concat(
        made.lake.read("journey_entries", day_of(at)).select("customer_id", "journey_id", entered_on="date", times_entered="entry_number")
        for at in range(max(1, number - OPEN_DAYS), number + 1)
    )
    rows = pl.concat([everybody, lately]).unique(["customer_id", "journey_id"], keep="last", maintain_order=True)
    schema = JOURNEY_STATE.schema
    rows = rows.with_columns(
        pl.lit(day_of(number)).alias("date"),
        times_completed=0,
        entry_score=1.0,
        arm=pl.lit("treated"),
        recent_starts=pl.lit([], pl.List(pl.Date())),
        ended_on=pl.when(pl.col("entered_on") + pl.duration(days=14) <= day_of(number)).then(pl.col("entered_on") + pl.duration(days=14)),
    )
    lacking = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in rows.columns]
    return rows.with_columns(lacking).select(*schema).cast(schema).sort("customer_id", "journey_id")


def _answers(made: Made, number: int) -> pl.DataFrame:
    """Make up the answers of a day: those who enter, and everybody else, who is in none."""
    schema = JOURNEY_ASSIGNMENTS.schema
    entered = made.lake.read("journey_entries", day_of(number)).select("customer_id", "journey_id", "decision", "arm", "held_out_by")
    everybody_else = pl.DataFrame({"customer_id": _names(np.arange(made.customers))}).join(entered, on="customer_id", how="anti")
    rows = pl.concat([entered, everybody_else.with_columns(decision=pl.lit("none"))], how="diagonal")
    rows = rows.with_columns(pl.lit(day_of(number)).alias("date"), stands=pl.lit(value=False), is_drawn=pl.lit(value=False), options=1)
    rows = rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in rows.columns)
    return rows.select(*schema).cast(schema).sort("customer_id")


def run(made: Made, number: int) -> Figures:
    """Make the entries and the outcomes of a day, on a decision that is there: CPU seconds, and memory beyond what that takes."""
    portfolio, lake, day = made.portfolio(), made.lake, day_of(number)
    state, answers = lake.read("journey_state", day), _answers(made, number)
    held, began = peak_bytes(), _cpu()
    measured = Measured(lake, portfolio)
    entries = Entries(lake, portfolio, measured).of(day, answers, state)["journey_entries"]
    entered = _cpu()
    tables = Maturing(lake, portfolio, measured).of(day, entries, state, answers)
    ended = _cpu()
    rows = {f"rows of {name}": float(frame.lazy().select(pl.len()).collect().item()) for name, frame in tables.items()}
    return {"entries": entered - began, "maturing": ended - entered, "seconds": ended - began, "more_bytes": peak_bytes() - held, **rows}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure_outcomes(home: Path, customers: int, open_entries: int, days: Sequence[int], runs: int) -> None:
    """Measure days in fresh processes, in turns; print medians, and hold the last against the first."""
    made = Made(home, customers, open_entries)
    make(made, days)
    results: dict[int, list[Figures]] = {number: [] for number in days}
    for _ in range(runs):
        for number in days:
            results[number].append(_task(made, number))
    print(f"\n{customers:,} customers, {open_entries:,} open entries, {ACTIVE:.0%} active a day; CPU seconds, median of {runs}")
    whole = {number: {name: median(run[name] for run in each) for name in each[0]} for number, each in results.items()}
    for number, figures in whole.items():
        rows = ", ".join(f"{figures[name]:,.0f} {name}" for name in figures if name.startswith("rows"))
        parts = f"entries {figures['entries']:.2f} + maturing {figures['maturing']:.2f}"
        print(f"day {number:>4}: {figures['seconds']:.2f} s ({parts}), {figures['more_bytes'] / 2**30:.2f} GiB more; {rows}")
    first, last = whole[days[0]]["seconds"], whole[days[-1]]["seconds"]
    print(f"day {days[-1]} / day {days[0]}: {last / first:.2f}; promised: at most 2 s, 0.5 GB, 1.1")


def _task(made: Made, number: int) -> Figures:
    command = [sys.executable, "-m", "benchmarks.outcomes", str(made.home), str(number), str(made.customers), str(made.open_entries)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"day {number} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Run one day in this process and print its figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outcomes")
    parser.add_argument("home", type=Path)
    parser.add_argument("day", type=int)
    parser.add_argument("customers", type=int)
    parser.add_argument("open_entries", type=int)
    given = parser.parse_args()
    print(json.dumps(run(Made(given.home, given.customers, given.open_entries), given.day)))


if __name__ == "__main__":
    main()
