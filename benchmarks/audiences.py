"""How fast audiences are: what differs, against DuckDB's full join of the same files, and hashing, against a loop of ``hashlib``.

What belongs here: made-up members, and what is measured of them. What does not: destinations, which are as fast as they answer.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median

import duckdb
import polars as pl

from atc_pipeline.activation.audiences import checksum
from atc_pipeline.activation.differences import KEY, differences, hold, keep_shared
from atc_pipeline.activation.identifiers import identifiers
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.rules.lots import sha256

DAY = date(2026, 3, 10)
JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-03-01}
channels: {email: {consent: opt_in, medium: email, to: address}, ads: {consent: opt_in, medium: audience}}
traits: {address: {profile: email, type: string}}
segments: {all_of_them: "tenure_days >= 0"}
audiences: {everybody: {segment: all_of_them, channel: ads, match: [address], to: [meta]}}
"""
FIELDS = 12
CHANGED = 50
"""One in so many is changed; of these each third has left, and each third is new."""

PROMISES = (("difference", "full join", 1.5), ("normalise and hash", "hashlib", 1.5))


def measure_audiences(home: Path, customers: int, runs: int) -> None:
    """Make members unless they are there, measure each thing in processes of its own, and hold it against the promises."""
    print(f"\n{customers:,} members x {FIELDS} fields, 2 % changed; CPU seconds, median of {runs}", flush=True)
    world = home / f"members-{customers}"
    if not (world / "portfolio.yaml").exists():
        make(world, customers)
    took: dict[str, list[float]] = {name: [] for name in TASKS}
    for _ in range(runs):
        for name in TASKS:
            command = [sys.executable, "-m", "benchmarks.audiences", name, str(world)]
            took[name].append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    for name, seconds in took.items():
        print(f"{name:<30}{median(seconds):>8.2f} s")
    for task, anchor, most in PROMISES:
        ratio = median(took[task]) / median(took[anchor])
        print(f"{f'{task}: at most {most} times {anchor}':<52}{ratio:>7.2f}  {'kept' if ratio <= most else 'MISSED'}")


def make(world: Path, customers: int) -> None:
    """Write members, what a destination has, profiles and addresses."""
    world.mkdir(parents=True, exist_ok=True)
    number = pl.int_range(customers, eager=True)
    people = pl.DataFrame({"customer_id": number.cast(pl.String), "address": pl.Series([f" Person.{row}@Example.com" for row in number])})
    config = _portfolio(world)
    numbers = [((pl.int_range(pl.len()) * place) % 9_973 / 7).alias(f"field_{place}") for place in range(FIELDS)]
    fields = pl.struct(numbers).struct.json_encode()
    members = people.select("customer_id", identifiers=identifiers(["address"], config), fields=fields).with_columns(
        audience_id=pl.lit("everybody"), destination=pl.lit("meta"), checksum=checksum(["identifiers", "fields"])
    )
    changed = pl.int_range(pl.len()) % CHANGED == 0
    third = pl.int_range(pl.len()) // CHANGED % 3
    wanted = members.filter(~(changed & (third == 0)))
    now = wanted.with_columns(checksum=pl.when(changed & (third == 1)).then(pl.lit("otherwise")).otherwise("checksum"))
    has = members.filter(~(changed & (third == 2))).with_columns(acknowledged_at=pl.lit(datetime(2026, 3, 9, tzinfo=UTC)))
    now.sort("customer_id").write_parquet(world / "wanted.parquet")
    has.sort("customer_id").write_parquet(world / "known.parquet")
    people.with_columns(consent_ads=pl.lit(value=True)).write_parquet(world / "people.parquet")


def difference(world: Path) -> None:
    """What the engine does: compare checksums, then causes, what is shared and what is held."""
    wanted, known, people = (pl.scan_parquet(world / f"{name}.parquet") for name in ("wanted", "known", "people"))
    nobody = pl.LazyFrame(schema={"absorbed": pl.String, "customer_id": pl.String})
    rows = differences(wanted, known, people, nobody, pl.Series(dtype=pl.String), _portfolio(world), today=DAY)
    rows, _ = hold(keep_shared(rows, wanted), known, ["everybody"])
    assert rows.height


def full_join(world: Path) -> None:
    """What somebody with a warehouse does: everything of both sides that is not the same."""
    connection = duckdb.connect(config={"threads": 2})
    same = " and ".join(f"wanted.{name} = known.{name}" for name in KEY)
    rows = connection.sql(
        f"select wanted.customer_id, wanted.identifiers, wanted.fields, known.customer_id, known.identifiers "  # noqa: S608
        f"from '{world}/wanted.parquet' wanted full join '{world}/known.parquet' known on {same} "
        "where wanted.identifiers is distinct from known.identifiers or wanted.fields is distinct from known.fields "
        "or wanted.checksum is distinct from known.checksum"
    ).pl()
    assert rows.height


def normalise_and_hash(world: Path) -> None:
    """Addresses that are there already, as the engine hashes them."""
    people = pl.read_parquet(world / "people.parquet", columns=["address"])
    began = time.process_time()
    people.select(sha256(pl.col("address").str.strip_chars().str.to_lowercase()))
    print(time.process_time() - began)


def hash_alone(world: Path) -> None:
    """A loop that hashes, and normalises nothing."""
    addresses = pl.read_parquet(world / "people.parquet", columns=["address"])["address"].to_list()
    began = time.process_time()
    for address in addresses:
        hashlib.sha256(address.encode()).hexdigest()
    print(time.process_time() - began)


TASKS: Mapping[str, Callable[[Path], None]] = {
    "difference": difference,
    "full join": full_join,
    "normalise and hash": normalise_and_hash,
    "hashlib": hash_alone,
}
TIMES_ITSELF = {"normalise and hash", "hashlib"}


def _portfolio(world: Path) -> Portfolio:
    path = world / "portfolio.yaml"
    if not path.exists():
        path.write_text(JOURNEYS, encoding="utf-8")
    return load_portfolio(path)


if __name__ == "__main__":
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    task, folder = sys.argv[1], Path(sys.argv[2])
    start = time.process_time()
    TASKS[task](folder)
    if task not in TIMES_ITSELF:
        print(time.process_time() - start)
