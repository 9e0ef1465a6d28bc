"""``make demo``: a real retailer's year through the whole lineage, then a short summary.

It does what a user does: fills the landing zone, runs the job ``daily`` for the days that are missing, and asks the tables.
It imports nothing of the project. Run again, it resumes after the last whole stretch of days.
"""

import json
import os
import subprocess
import sys
import time
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import polars as pl

from sample.complete_journey import write_landing

PROJECT = Path(__file__).resolve().parent.parent
FIRST, LAST = date(2017, 1, 1), date(2017, 12, 31)
BEGINS = (FIRST, FIRST + timedelta(days=1), date(2017, 7, 1))
"""One Dagster run from each of these days: the first is soon there to be looked at, few runs spend little on starting, and what was stopped
halfway is not all made again."""

LOCATION = {".dagster/repository": "__repository__@atc_pipeline"}
"""Whose run it is: without this tag the pages of the job do not show what was run from a terminal (the timeline never does)."""

IN_ONE_PIECE = {"ATC_RUNNER": "", "ATC_SHARDS": ""}
"""A few thousand customers: the files are counted, and asked, as what they are."""

FEW_RECORDS = {"DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true"}
"""That days are planned is one record, not one for each day and table: a fifth of the time (docs/adr/0043-history.md)."""

STAGES = (
    "raw_events",
    "customer_activity",
    "customer_profiles",
    "micro_segment_memberships",
    "journey_queues",
    "journey_assignments",
    "outbound_messages",
    "activation",
)


def main() -> int:
    """Run the demo; return the exit code."""
    if os.environ.get("ATC_HOME", "").strip().lower().startswith("s3://"):
        print("the demo writes a landing zone into a folder: make it there, and copy that into the bucket (docs/deploy.md)")
        return 1
    home = PROJECT / (os.environ.get("ATC_HOME", "").strip() or ".atc")
    if subprocess.run([sys.executable, "-m", "atc_pipeline", "validate"], cwd=PROJECT, stdout=subprocess.DEVNULL, check=False).returncode:
        return 1
    started = time.monotonic()
    print("1  The landing zone: the Complete Journey data as a shop's own tracking would have written it")
    landed = write_landing(home / "landing")
    print(f"   {landed.days_written} days written, {landed.days_found} already there")
    print("2  The lineage, by dagster job execute; `make ui` in another terminal shows what is there already")
    for first, last in stretches():
        if not is_done(home, first, last) and not materialize(home, first, last):
            return 1
    print(f"3  What the year came to ({time.monotonic() - started:.0f} s in all)\n")
    print(summary(home))
    return 0


def stretches() -> list[tuple[date, date]]:
    """Split the year into stretches of days, in order."""
    return [(first, following - timedelta(days=1)) for first, following in pairwise([*BEGINS, LAST + timedelta(days=1)])]


def written(home: Path, table: str, first: date, last: date) -> int:
    """Count the days of a table that are there."""
    names = {path.name.removeprefix("date=") for path in (home / "lake" / table).glob("date=*") if (path / "part.parquet").exists()}
    return sum(first.isoformat() <= name <= last.isoformat() for name in names)


def is_done(home: Path, first: date, last: date) -> bool:
    """Return whether the last stage has every day of the stretch."""
    return written(home, STAGES[-1], first, last) == (last - first).days + 1


def materialize(home: Path, first: date, last: date) -> bool:
    """Run one stretch, showing how far it is; return whether it succeeded."""
    log = home / f"materialize-{first}.log"
    stretch = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "atc_pipeline.definitions", "-j", "daily"]
    began = time.monotonic()
    wall = time.time()
    with log.open("w") as file:
        run = subprocess.Popen(
            [*command, "--tags", json.dumps(stretch | LOCATION)],
            cwd=PROJECT,
            env=os.environ | {"PWD": str(PROJECT)} | FEW_RECORDS | IN_ONE_PIECE,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        while run.poll() is None:
            show(f"   {first} to {last}  {stage(home, first, last, wall)}", is_final=False)
            time.sleep(1)
    if run.returncode:
        show(f"   {first} to {last}  failed: the run's log is {log}", is_final=True)
        return False
    show(f"   {first} to {last}  done in {time.monotonic() - began:.0f} s", is_final=True)
    return True


def stage(home: Path, first: date, last: date, since: float) -> str:
    """Say which stage is being written, and how many of its days are."""
    total = (last - first).days + 1
    for table in STAGES:
        folder = home / "lake" / table
        days = [folder / f"date={first + timedelta(days=number)}" / "part.parquet" for number in range(total)]
        fresh = sum(path.exists() and path.stat().st_mtime >= since for path in days)
        if fresh < total:
            return f"{table.replace('_', ' ')}: {fresh} of {total} days"
    return "last checks"


def show(line: str, *, is_final: bool) -> None:
    """Show progress in place on a terminal; elsewhere only what is final."""
    if sys.stdout.isatty():
        print(f"\r{line:<100}", end="\n" if is_final else "", flush=True)
    elif is_final:
        print(line, flush=True)


def summary(home: Path) -> str:
    """Ask the tables what the year came to."""

    def ask(sql: str) -> pl.DataFrame:
        answer: pl.DataFrame = connection.sql(sql).pl()
        return answer

    with duckdb.connect() as connection:
        for path in sorted({file.parent.parent for file in (home / "lake").glob("*/date=*/part.parquet")}):
            files = f"{path}/date=*/part.parquet"
            connection.execute(f"create view {path.name} as from read_parquet('{files}', hive_partitioning = true)")
        days, customers = ask("select count(distinct date), count(distinct customer_id) from journey_assignments").row(0)
        events, rejected = ask("select (select count(*) from raw_events), (select count(*) from rejected_events)").row(0)
        last = ask("select max(date) from journey_assignments").item()
        of_last = f"count(*) from {{}} where date = '{last}' group by all order by 2 desc"
        segments = ask(f"select segment_id, {of_last.format('micro_segment_memberships')}")
        queues = ask(f"select journey_id, {of_last.format('journey_queues')}")
        decisions = ask("select decision, count(*) from journey_assignments group by all order by 2 desc")
        messages = ask("select channel, count(*) - count(withheld), count(withheld) from outbound_messages group by all order by 2 desc")
        reasons = ask("select withheld, count(*) from outbound_messages where withheld is not null group by all order by 2 desc, 1")
        sent = ask("select count(*) filter (status = 'would_send'), count(*) filter (status = 'delivered') from activation").row(0)
        rendered = ask("select count(*), count(distinct content_hash), count(distinct variant) from rendered_messages").row(0)
        example = ask(
            f"select customer_id, date, subject, text from rendered_messages where {EXAMPLE_MESSAGE} order by date, customer_id limit 1"
        )
        audiences = ask(f"select audience_id, {of_last.format('audience_members')}")
        system = ask(
            "select treated, control, immature, verdict_reason from uplift "
            f"where date = '{last}' and journey_id = 'system' and slice = 'long' and verdict != 'exploratory'"
        )
        verdicts = ask(
            "select verdict, count(*) from uplift "
            f"where date = '{last}' and journey_id != 'system' and slice = 'all' and metric = 'revenue' group by all order by 2 desc, 1"
        )
    width = 3
    parts = [
        f"{days} days · {customers:,} customers · {events:,} events accepted · {rejected:,} lines rejected",
        f"\nCustomers per micro-segment on {last}\n{columns(segments, width)}",
        f"\nQueued per journey on {last}\n{columns(queues, width)}",
        f"\nDecisions over the year (one per customer and day)\n{columns(decisions, 4)}",
        "\nMessages over the year (due + withheld)\n"
        + "\n".join(f"   {channel:<12}{due:>9,} + {withheld:,}" for channel, due, withheld in messages.iter_rows()),
        f"   withheld for {', '.join(f'{reason} {count:,}' for reason, count in reasons.iter_rows())}",
        f"   {sent[0]:,} would be sent, {sent[1]:,} were: a dry run unless you configure otherwise",
        f"   {rendered[0]:,} e-mails were rendered: {rendered[1]:,} texts, of {rendered[2]:,} combinations of variants. One of them:\n",
        *(f"   To customer {customer}, {day}: {subject}\n{quoted(text)}" for customer, day, subject, text in example.iter_rows()),
        f"\nMembers of audiences on {last}\n{columns(audiences, width)}",
        f"\nWhat journeys earned, by {last}, against customers who were held out\n{verdict(sent[1], system, verdicts)}",
        f"\nTables       {shown(home / 'lake')}/<table>/date=<day>/part.parquet",
        f"Dagster UI   make ui, then http://127.0.0.1:3000{'' if not os.environ.get('ATC_HOME') else '  (with the same ATC_HOME)'}",
        "SQL          " + EXAMPLE_QUERY,
        "Explain      " + EXAMPLE_QUESTION,
        "Preview      .venv/bin/python -m atc_pipeline preview we_miss_you",
        "Proof        .venv/bin/python -m atc_pipeline uplift",
        f"Report       {shown(home / 'lake' / 'reports' / f'{last}.html')}",
    ]
    return "\n".join(parts)


EXAMPLE_QUERY = (
    '.venv/bin/python -m atc_pipeline sql "select journey_id, ruling, count(*) as customers '
    "from scored_candidates where date = '2017-06-30' group by all order by all\""
)


EXAMPLE_MESSAGE = "content = 'we_miss_you' and len(guardrails) = 0 and subject not like 'We,%'"


EXAMPLE_QUESTION = ".venv/bin/python -m atc_pipeline explain 2462 --day 2017-04-20"


def verdict(delivered: int, system: pl.DataFrame, verdicts: pl.DataFrame) -> str:
    """Say what can be said of all journeys together, and how many of them have which verdict."""
    lines = [] if delivered else ["nothing was sent, so that nothing was earned by sending: both groups were left alone alike"]
    for treated, control, immature, reason in system.iter_rows():
        who = f"{treated:,} customers against {control:,} held out, {immature:,} more not matured"
        lines.append(f"all journeys together: {reason} ({who})")
    if verdicts.height:
        lines.append(f"journeys: {', '.join(f'{number} {WORDS.get(name, name)}' for name, number in verdicts.iter_rows())}")
    return "\n".join(f"   {line}" for line in lines)


WORDS = {
    "undecided": "where we cannot tell yet",
    "too_early": "too early to say",
    "no_holdout": "without a control group",
    "harmless": "that do no harm",
    "negligible": "that change next to nothing",
    "helps": "that help",
    "harms": "that harm",
}


def quoted(text: str) -> str:
    """Set a message apart; what is put in when it is handed over stands between two marks."""
    return "\n".join(f"   | {line}".rstrip() for line in text.replace("\ue000", "<").replace("\ue001", ">").split("\n"))


def columns(counts: pl.DataFrame, width: int) -> str:
    """Lay names and counts out in columns."""
    cells = [f"   {name:<28}{count:>8,}" for name, count in counts.iter_rows()]
    height = -(-len(cells) // width)
    return "\n".join("".join(cells[row::height]) for row in range(height))


def shown(path: Path) -> str:
    """Shorten a path inside the project."""
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
