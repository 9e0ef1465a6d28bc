"""A whole day as a user runs it: lines in the landing zone, Dagster's job ``daily`` with every check, tables, messages, a dry run.

What belongs here: a landing zone and a portfolio of any size, the run, and what its log says of each step. What does not: any step by
itself (``ingest``, ``history``, ``decision``, ``plan``).
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
from ruamel.yaml import YAML

from atc_pipeline.journeys.resolution import load_portfolio
from benchmarks.history import CATEGORIES, FIRST, JOURNEYS, events_of

PROJECT = Path(__file__).resolve().parent.parent
SHOWN = 14
"""Steps that are listed by themselves: the longest."""

FILES = 8

STEP = re.compile(r" - ([A-Za-z_]+) - STEP_SUCCESS - .* in (?:(\d+)m)?([\d.]+)(ms|s)")


def measure_whole(home: Path, customers: int, events: int, journeys: int, days: int) -> None:
    """Run so many days one by one, each a run of its own, and print what the last one cost."""
    write_world(home, customers, events, journeys, days)
    for number in range(days):
        day = FIRST + timedelta(days=number)
        seconds, cpu, peak, log = run_day(home, day)
        print(f"day {number + 1}: {seconds:.0f} s, {cpu:.0f} s of CPU, {peak / 2**30:.1f} GiB at most", flush=True)
    took_each = sorted(steps(log), key=lambda step: -step[1])
    print(f"\n{customers:,} customers, {events:,} events, {journeys} journeys: day {days}, {len(took_each)} steps (goal: 150 s, 6 GB)")
    for name, took in took_each[:SHOWN]:
        print(f"  {name:<44}{took:>8.1f} s")
    rest = took_each[SHOWN:]
    print(f"  {f'{len(rest)} others':<44}{sum(took for _, took in rest):>8.1f} s")
    print(f"  {'Dagster: start, records, between steps':<44}{seconds - sum(took for _, took in took_each):>8.1f} s")


def write_world(home: Path, customers: int, events: int, journeys: int, days: int) -> None:
    """Write the portfolio, and the landing zone of so many days, where they are not there."""
    home.mkdir(parents=True, exist_ok=True)
    _write_portfolio(home / "journeys.yaml", journeys)
    for number in range(days):
        # In a process of its own: the peak of one that starts another counts as that one's, too.
        there = (home / "landing", FIRST + timedelta(days=number), customers, events if number else customers // 5)
        written = get_context("spawn").Process(target=_write_landing, args=there, kwargs={"is_first": not number})
        written.start()
        written.join()
        if written.exitcode:
            raise SystemExit(f"the landing zone could not be written ({written.exitcode}): is the disk full?")


def _write_portfolio(path: Path, journeys: int) -> None:
    """Write the portfolio of ``history`` with queues by which each customer has some twenty options, and an e-mail each."""
    random = np.random.default_rng(journeys)
    yaml = YAML(typ="safe")
    document = yaml.load(JOURNEYS)
    document["version"] = "whole"
    document["channels"]["email"] |= {"medium": "email", "to": "address"}
    document["traits"]["address"] = {"profile": "email", "type": "string"}
    document["interests"]["topics"] = {name: [{"event": "Product Viewed", "where": f"category = '{name}'"}] for name in CATEGORIES}
    document["segments"] = {
        "newcomers": "tenure_days < 2",
        "buyers": "orders > 0",
        "big_spenders": "spend_percentile >= 0.9",
        "lookers": "events_7d >= 5 and orders = 0",
        "quiet": "events_7d <= 2",
        **{f"likes_{name}": f"interest_{name} >= 0.3" for name in CATEGORIES},
    }
    document["brand"] = {"footer": {"email": "legal"}, "examples": {"favourite_category": "shoes", "address": "ann@example.com"}}
    document["blocks"] = {
        "hello": {"text": "News from the world of {{ favourite_category | default('good things') }}."},
        "offer": {"text": "You have spent {{ spend_30d | money('EUR') }} with us this month. Five euros are yours."},
        "legal": {"text": "You said yes. {{ unsubscribe_url }}"},
    }
    document["content"] = {
        f"mail_{number}": {"about": "News.", "email": {"subject": f"News {number}", "body": ["hello", "offer"]}} for number in range(10)
    }
    document["journeys"] = [_journey(random, number) for number in range(journeys)]
    document["policy"] = {"none": "0.02", "switch_margin": 0.25, "holdout": 0.05, "explore": 0.02, "cap": {"days": 14, "starts": 3}}
    YAML().dump(document, path)
    load_portfolio(path)


def _journey(random: np.random.Generator, number: int) -> dict[str, object]:
    topic = CATEGORIES[number % len(CATEGORIES)]
    queues = (
        f"interest_{topic} >= {random.uniform(0.25, 0.6):.2f}",
        f"events_7d >= {random.integers(5, 12)}",
        f"spend_percentile >= {random.uniform(0.8, 0.97):.2f}",
        f"handbags_viewed_7d >= {random.integers(1, 4)}",
        f"days_since_order <= {random.integers(0, 2)}",
    )
    return {
        "id": f"{topic}_{number:03d}",
        "length_days": int(random.integers(3, 20)),
        "queue": {"where": queues[number // len(CATEGORIES) % len(queues)]},
        "priority": 10 * int(random.integers(0, 6)),
        "value": round(float(random.uniform(8, 16)), 1),
        "interests": [topic],
        "goal": {"event": "Order Completed"},
        "channels": ["email", "app"],
        "holdout": 0.1 if number % 10 == 0 else 0,
        "steps": [
            {"day": 1, "channel": "email", "content": f"mail_{number % 10}"},
            {"day": 3, "channel": "app", "content": f"push_{number}"},
        ],
    }


def _write_landing(landing: Path, day: date, customers: int, events: int, *, is_first: bool) -> None:
    """Write a day's lines as Segment's library sends them; the first day everybody says who they are."""
    folder = landing / day.isoformat()
    if folder.exists():
        return
    folder.mkdir(parents=True)
    rows = events_of(day, customers, events)
    moment = pl.col("timestamp").dt.to_string("%Y-%m-%dT%H:%M:%S.000Z")
    lines = rows.select(
        pl.format(
            '{{"messageId":"{}","type":"track","event":"{}","userId":"{}","timestamp":"{}","properties":{},"context":{}}}',
            "message_id", "event", "user_id", moment, "properties", "context",
        )
    ).to_series()  # fmt: skip
    if is_first:
        line = (
            '{{"messageId":"i{}","type":"identify","userId":"u{}","timestamp":"{}T00:00:01.000Z",'
            '"traits":{{"email":"u{}@shop.example","consent_email":{}}}}}'
        )
        may_be_sent = pl.when(pl.col("number") % 4 == 0).then(pl.lit("false")).otherwise(pl.lit("true"))
        everybody = pl.select(number=pl.int_range(customers)).select(
            pl.format(line, "number", "number", pl.lit(str(day)), "number", may_be_sent)
        )
        lines = pl.concat([everybody.to_series(), lines])
    size = -(-lines.len() // FILES)
    for number in range(FILES):
        pl.DataFrame(lines.slice(number * size, size)).write_csv(
            folder / f"events-{number}.ndjson", include_header=False, quote_style="never"
        )


def run_day(home: Path, day: date, settings: Mapping[str, str] | None = None) -> tuple[float, float, float, str]:
    """Run the job for a day in a process of its own: seconds, those of all cores, the most memory, and the log.

    By ``settings``, and nothing else that is configured here, not even in ``.env``, which Dagster reads where it is started: nothing may
    be sent.
    """
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "atc_pipeline.definitions", "-d", str(PROJECT), "-j", "daily"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATC_")} | {
        "ATC_HOME": str(home),
        "ATC_HISTORY": str(home / "dagster"),
        "ATC_JOURNEYS": str(home / "journeys.yaml"),
        "DAGSTER_HOME": str(PROJECT / "dagster_home"),
        "PWD": str(home),
        **(settings or {}),
    }
    (home / "dagster").mkdir(exist_ok=True)
    log, began = home / f"{day}.log", time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        tags = json.dumps({"dagster/partition": str(day)})
        run = subprocess.Popen([*command, "--tags", tags], cwd=home, env=environment, stdout=file, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(run.pid, 0)
    seconds, text = time.perf_counter() - began, log.read_text(encoding="utf-8")
    if status:
        raise SystemExit(f"{day} failed ({os.waitstatus_to_exitcode(status)}): {log}\n{text[-4000:]}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024), text


def steps(log: str) -> Sequence[tuple[str, float]]:
    """Return seconds by step, as the log says them."""
    return [
        (name, int(minutes or 0) * 60 + float(number) / (1000 if unit == "ms" else 1)) for name, minutes, number, unit in STEP.findall(log)
    ]
