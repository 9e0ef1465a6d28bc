"""How fast ingest is, against DuckDB's own typed reader: the same NDJSON files to Parquet, which checks and removes nothing.

What belongs here: the files, the two things measured, and the table made of them. Every run is a fresh process, and the two
take turns, so that whatever else the machine does meets both alike. The baseline keeps the same fields: texts and times typed,
documents as JSON. It must be told to skip what is no JSON; everything else that ingest looks at, it lets pass.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import polars as pl

from atc_pipeline.events.ingest import ingest
from benchmarks.measured import clocked, peak_bytes
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.spill import Spill

TODAY = date(2026, 3, 1)
FILES = 8
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
)
CATEGORIES = ("Handbags", "Shoes", "Coats", "Tea", "Coffee", "Skis")

Figures = dict[str, float]


def write_landing(landing: Path, lines: int) -> None:
    """Write a day as Segment's browser library sends it: one line in a hundred repeated, one in two hundred bad."""
    chance = random.Random(1)  # noqa: S311  # a made-up day, not a secret
    folder = landing / TODAY.isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(FILES):
        with (folder / f"events-{file}.ndjson").open("w", encoding="utf-8") as target:
            last = ""
            for number in range(file, lines, FILES):
                last = json.dumps(_event(chance, number), separators=(",", ":"))
                target.write(last + "\n")
                match chance.randrange(400):
                    case 0 | 1 | 2 | 3:
                        target.write(last + "\n")
                    case 4:
                        target.write(last[: len(last) // 2] + "\n")
                    case 5:
                        target.write(last.replace('"userId"', '"user"').replace('"anonymousId"', '"anonymous"') + "\n")


def _event(chance: random.Random, number: int) -> dict[str, Any]:
    happened = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(milliseconds=chance.randrange(86_000_000))
    sent = happened + timedelta(milliseconds=chance.randrange(3000))
    category = chance.choice(CATEGORIES)
    path = f"/{category.lower()}/{chance.randrange(5000)}"
    page = {
        "path": path,
        "referrer": "https://www.google.com/",
        "search": "",
        "title": f"{category} - Shop",
        "url": f"https://www.shop.example{path}",
    }
    event: dict[str, Any] = {
        "anonymousId": str(uuid.UUID(int=chance.getrandbits(128))),
        "channel": "client",
        "context": {
            "ip": f"203.0.113.{chance.randrange(256)}",
            "library": {"name": "analytics.js", "version": "next-1.70.0"},
            "locale": "de-DE",
            "timezone": "Europe/Berlin",
            "page": page,
            "userAgent": chance.choice(AGENTS),
            "screen": {"width": 1920, "height": 1080, "density": 2},
        },
        "integrations": {},
        "messageId": f"ajs-next-{chance.getrandbits(128):032x}",
        "originalTimestamp": _iso(happened),
        "sentAt": _iso(sent),
        "receivedAt": _iso(sent + timedelta(milliseconds=chance.randrange(500))),
        "timestamp": _iso(happened + timedelta(milliseconds=3)),
        "type": "track",
        "userId": f"u{chance.randrange(100_000)}",
    }
    kind = chance.random()
    if kind < 0.15:
        return event | {"type": "identify", "traits": {"email": f"u{number}@shop.example", "name": "Jo Doe", "plan": "gold"}}
    if kind < 0.4:
        return event | {"type": "page", "name": category, "properties": page}
    if kind < 0.8:
        viewed = _product(chance) | {"category": category, "name": f"{category} No. {chance.randrange(100)}", "currency": "EUR"}
        return event | {"event": "Product Viewed", "properties": viewed}
    bought = [_product(chance) | {"category": chance.choice(CATEGORIES)} for _ in range(chance.randrange(1, 4))]
    order = {"order_id": f"o{number}", "revenue": chance.randrange(30_000) / 100, "currency": "EUR", "products": bought}
    return event | {"event": "Order Completed", "properties": order}


def _product(chance: random.Random) -> dict[str, Any]:
    return {"product_id": f"p{chance.randrange(5000)}", "price": chance.randrange(10_000) / 100, "quantity": chance.randrange(1, 4)}


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def engine(home: Path) -> Figures:
    """Ingest the day as the asset does: validate, reject, deduplicate, sort, write."""
    lake, landing = Lake(root=str(home / "lake")), LandingZone(root=str(home / "landing"))
    shutil.rmtree(lake.root, ignore_errors=True)
    with clocked({}) as figures, Spill(Path(lake.root)) as spill:
        done = ingest(landing.read(TODAY), pl.Series(dtype=pl.String), arrival=TODAY, timezone="Europe/Berlin", park=spill.park)
        lake.write("raw_events", TODAY, done.accepted)
        lake.write("rejected_events", TODAY, done.rejected)
    accepted, rejected = lake.rows("raw_events", TODAY), lake.rows("rejected_events", TODAY)
    if done.lines != accepted + rejected + done.duplicates:
        raise AssertionError(f"{done.lines} lines, {accepted} accepted, {rejected} rejected, {done.duplicates} duplicates")
    size = lake.path("raw_events", TODAY).stat().st_size
    return figures | {"lines": done.lines, "rejected": rejected, "duplicates": done.duplicates, "bytes": size}


TEXTS = ("messageId", "type", "event", "userId", "anonymousId", "previousId", "name", "channel")
TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
DOCUMENTS = ("properties", "traits", "context", "integrations")


def duckdb_reads(files: list[Path], target: Path, threads: int | None = None) -> None:
    """Read the lines with DuckDB's own typed JSON reader and write them to Parquet."""
    types = dict.fromkeys(TEXTS, "VARCHAR") | dict.fromkeys(TIMES, "TIMESTAMPTZ") | dict.fromkeys(DOCUMENTS, "JSON")
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
    with duckdb.connect(config={} if threads is None else {"threads": threads}) as connection:
        connection.execute(
            f"copy (from read_json({[str(file) for file in files]}, format = 'newline_delimited', columns = {{{columns}}}, "
            f"ignore_errors = true)) to '{target}' (format parquet, compression zstd)"
        )


def baseline(home: Path) -> Figures:
    """Read and write the day with DuckDB, on as many threads as Polars has."""
    files, target = LandingZone(root=str(home / "landing")).files(TODAY), home / "baseline.parquet"
    with clocked({}) as figures:
        duckdb_reads(files, target, pl.thread_pool_size())
    return figures | {"bytes": target.stat().st_size}


THINGS: dict[str, Callable[[Path], Figures]] = {"DuckDB read_json": baseline, "ingest": engine}


def measure_ingest(home: Path, sizes: list[int], runs: int, threads: int) -> None:
    """Measure days of so many lines, and print seconds of wall and CPU, ratios and memory."""
    for lines in sizes:
        folder = home / f"{lines}-lines"
        if not (folder / "landing").exists():
            write_landing(folder / "landing", lines)
        results: dict[str, list[Figures]] = {thing: [] for thing in THINGS}
        for _ in range(runs):
            for thing in THINGS:
                results[thing].append(_run(thing, folder, threads))
        report(folder, threads, {thing: {name: median(run[name] for run in each) for name in each[0]} for thing, each in results.items()})


def _run(thing: str, home: Path, threads: int) -> Figures:
    command = [sys.executable, "-m", "benchmarks.ingest", thing, str(home)]
    done = subprocess.run(command, env=os.environ | {"POLARS_MAX_THREADS": str(threads)}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{thing} in {home} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def report(home: Path, threads: int, results: dict[str, Figures]) -> None:
    """Print a day."""
    ours = results["ingest"]
    size = sum(path.stat().st_size for path in (home / "landing").rglob("*.ndjson"))
    print(
        f"\n{ours['lines']:,.0f} lines of {size / ours['lines']:.0f} bytes, {ours['duplicates']:,.0f} repeated, "
        f"{ours['rejected']:,.0f} rejected, {threads} threads"
    )
    print(f"{'':<20}{'seconds':>9}{'CPU s':>8}{'lines/s':>11}{'MB written':>12}{'peak GiB':>10}")
    for thing, figures in results.items():
        speed, peak = ours["lines"] / figures["seconds"], figures["peak_bytes"] / 2**30
        print(f"{thing:<20}{figures['seconds']:>9.2f}{figures['cpu']:>8.2f}{speed:>11,.0f}{figures['bytes'] / 1e6:>12.1f}{peak:>10.2f}")
    wall, cpu = (results["DuckDB read_json"][clock] / ours[clock] for clock in ("seconds", "cpu"))
    print(f"ingest is {wall:.2f} times as fast as DuckDB's reader, {cpu:.2f} times by CPU")


def main() -> None:
    """Run one thing and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest")
    parser.add_argument("thing", choices=THINGS)
    parser.add_argument("home", type=Path)
    given = parser.parse_args()
    figures = THINGS[given.thing](given.home)
    print(json.dumps(figures | {"peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
