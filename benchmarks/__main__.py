"""``make bench``: ``python -m benchmarks [WHICH]``; without a name, the short ones."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import (
    audiences,
    decision,
    history,
    ingest,
    learning,
    outcomes,
    plan,
    records,
    rendering,
    shards,
    smtp,
    stages,
    uplift,
    whole,
)

TOLD = ["decision", "ingest", "profiles", "records", "whole", "shards", "growth", "rendering", "messages", "audiences", "smtp", "outcomes"]
TOLD += ["uplift", "fit"]
"""Each in a process of its own: the memory of one is not that of the next."""
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "speed.svg"


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures the speed, as ratios. Without a name: sample, ingest, decision."
    )
    commands = parser.add_subparsers(dest="command", metavar="WHICH")
    commands.add_parser("all", help="what the README tells, one after the other: an hour on two quiet cores")
    sample = commands.add_parser("sample", help="every stage on the sample's first days")
    sample.add_argument("--days", type=int, default=30, help="how many days of the sample (default 30)")
    day = commands.add_parser("ingest", help="a day of lines, against DuckDB's reader on the same files")
    day.add_argument(
        "--lines", type=int, nargs="+", default=[200_000, 800_000], help="default 200000, and 800000: larger than is held in memory"
    )
    profiles = commands.add_parser("profiles", help="a day from accepted events to profiles, against SQL on DuckDB and a bare read")
    profiles.add_argument("--customers", type=int, default=1_000_000, help="default 1000000")
    profiles.add_argument("--events", type=int, default=5_000_000, help="a day; default 5000000")
    profiles.add_argument("--days", type=int, default=2, help="the last of so many days is measured (default 2)")
    growth = commands.add_parser("growth", help="day after day: what a day costs after a year")
    growth.add_argument("--customers", type=int, default=20_000, help="default 20000")
    growth.add_argument("--events", type=int, default=50_000, help="a day; default 50000")
    growth.add_argument("--days", type=int, default=365, help="default 365")
    kept = commands.add_parser("records", help="what Dagster itself costs a day of a table, by its own log and with its files kept open")
    kept.add_argument("--days", type=int, default=120, help="default 120")
    kept.add_argument("--runs", type=int, default=3, help="medians of so many (default 3)")
    dagster_day = commands.add_parser("whole", help="a day from lines to a dry run, every check included, as Dagster runs it")
    dagster_day.add_argument("--customers", type=int, default=1_000_000, help="default 1000000")
    dagster_day.add_argument("--events", type=int, default=5_000_000, help="a day; default 5000000")
    dagster_day.add_argument("--journeys", type=int, default=100, help="default 100")
    dagster_day.add_argument("--days", type=int, default=2, help="the last of so many days is told (default 2)")
    parted = commands.add_parser("shards", help="the same by shard, in one process and on Spark with one worker and two (make spark)")
    parted.add_argument("--customers", type=int, default=1_000_000, help="default 1000000")
    parted.add_argument("--events", type=int, default=5_000_000, help="a day; default 5000000")
    parted.add_argument("--journeys", type=int, default=100, help="default 100")
    parted.add_argument("--shards", type=int, default=10, help="default 10")
    parted.add_argument("--runs", type=int, default=1, help="medians of so many (default 1)")
    single = commands.add_parser("decision", help="one decision day, the engine against SQL on DuckDB and a bare read of the profiles")
    single.add_argument("--customers", type=int, default=1_000_000, help="default 1000000")
    single.add_argument("--journeys", type=int, default=100, help="default 100")
    messages = commands.add_parser("messages", help="a day's messages with channels listed, hours and caps, against the plan without")
    messages.add_argument("--customers", type=int, default=1_000_000, help="default 1000000")
    messages.add_argument("--runs", type=int, default=5, help="medians of so many (default 5)")
    texts = commands.add_parser("rendering", help="messages by block, against Jinja2's sandbox on each by itself; their size on disk")
    texts.add_argument("--messages", type=int, default=1_000_000, help="default 1000000")
    texts.add_argument("--sample", type=int, default=5_000, help="rendered one by one, too; default 5000")
    members = commands.add_parser("audiences", help="what differs, against DuckDB's full join, and hashing, against hashlib")
    members.add_argument("--customers", type=int, default=1_000_000, help="default 1000000")
    curves = commands.add_parser("curves", help=f"the same at several sizes, drawn into {PICTURE.name}")
    curves.add_argument("--customers", type=int, nargs="+", default=[100_000, 300_000, 1_000_000, 3_000_000], help="with 100 journeys")
    curves.add_argument("--journeys", type=int, nargs="+", default=[10, 30, 100, 300], help="with 1000000 customers")
    curves.add_argument("--typical-customers", type=int, default=1_000_000, help="customers while journeys vary (default 1000000)")
    curves.add_argument("--typical-journeys", type=int, default=100, help="journeys while customers vary (default 100)")
    curves.add_argument("--picture", type=Path, default=PICTURE, help="where to draw (default docs/pictures/speed.svg)")
    worth = commands.add_parser("uplift", help="what many journeys are worth, of all entries that ever matured")
    worth.add_argument("--entries", type=int, default=5_000_000, help="default 5000000")
    worth.add_argument("--journeys", type=int, default=100, help="default 100")
    worth.add_argument("--runs", type=int, default=3, help="medians of so many (default 3)")
    learned = commands.add_parser("fit", help="the model of goals: its fit, and what its probabilities add to a decision")
    learned.add_argument("--entries", type=int, default=100_000, help="default 100000")
    learned.add_argument("--journeys", type=int, default=20, help="that are fitted; default 20")
    learned.add_argument("--features", type=int, default=25, help="default 25")
    learned.add_argument("--customers", type=int, default=1_000_000, help="that are scored; default 1000000")
    learned.add_argument("--scored-journeys", type=int, default=100, help="default 100")
    learned.add_argument("--runs", type=int, default=3, help="medians of so many (default 3)")
    came = commands.add_parser("outcomes", help="a day of entries and of what came of them, after some months and after a year")
    came.add_argument("--customers", type=int, default=1_000_000, help="default 1000000")
    came.add_argument("--entries", type=int, default=50_000, help="open ones; default 50000")
    came.add_argument("--days", type=int, nargs="+", default=[100, 365], help="default 100 365; the long run is known from 94 on")
    came.add_argument("--runs", type=int, default=5, help="medians of so many (default 5)")
    mail = commands.add_parser("smtp", help="e-mail to a relay on loopback, against smtplib.sendmail of finished bytes")
    mail.add_argument("--messages", type=int, default=2_000, help="default 2000")
    mail.add_argument("--connections", type=int, default=4, help="default 4")
    for command in (single, curves, day, profiles, mail, members):
        command.add_argument("--runs", type=int, default=5, help="medians of so many (default 5)")
        command.add_argument("--threads", type=int, default=2, help="threads of either side (default 2)")
    for command in (single, curves, day, profiles, growth, texts, members, came, dagster_day, parted):
        command.add_argument("--home", type=Path, help="keep the made-up tables in this folder and use those that are there")
    for command in (single, curves):
        command.add_argument("--without", nargs="+", default=[], choices=decision.THINGS, metavar="THING", help="leave out, e.g. sql")
    given = parser.parse_args()
    if given.command == "all":
        for name in TOLD:
            print(f"\n== {name}", flush=True)
            subprocess.run([sys.executable, "-m", "benchmarks", name], check=True)
        return
    if given.command in (None, "sample"):
        stages.measure_sample(getattr(given, "days", 30))
    if given.command in (None, "ingest"):
        asked = given if given.command else parser.parse_args(["ingest"])
        with _home(asked.home) as home:
            ingest.measure_ingest(home, asked.lines, asked.runs, asked.threads)
    if given.command == "profiles":
        with _home(given.home) as home:
            history.measure_day(home, given.customers, given.events, given.days, given.runs)
    if given.command == "growth":
        with _home(given.home) as home:
            history.measure_growth(home, given.customers, given.events, given.days)
    if given.command == "records":
        records.measure_records(given.days, given.runs)
    if given.command == "whole":
        with _home(given.home) as home:
            whole.measure_whole(home, given.customers, given.events, given.journeys, given.days)
    if given.command == "shards":
        with _home(given.home) as home:
            shards.measure_shards(home, given.customers, given.events, given.journeys, given.shards, given.runs)
    if given.command == "uplift":
        uplift.measure_uplift(given.entries, given.journeys, given.runs)
    if given.command == "fit":
        learning.measure_fit(given.entries, given.journeys, given.features, given.runs)
        learning.measure_scoring(given.customers, given.scored_journeys, given.features, given.runs)
    if given.command == "outcomes":
        with _home(given.home) as home:
            outcomes.measure_outcomes(home, given.customers, given.entries, given.days, given.runs)
    if given.command == "messages":
        plan.measure_plan(given.customers, given.runs)
    if given.command == "rendering":
        with _home(given.home) as home:
            rendering.measure_rendering(home, given.messages, given.sample)
    if given.command is None:
        given = parser.parse_args(["decision"])
    if given.command == "decision":
        with _home(given.home) as home:
            things = [name for name in decision.THINGS if name not in given.without]
            decision.measure_decision(home, given.customers, given.journeys, decision.How(given.runs, given.threads), things)
    if given.command == "smtp":
        smtp.measure_smtp(given.messages, given.connections, given.runs)
    if given.command == "audiences":
        with _home(given.home) as home:
            audiences.measure_audiences(home, given.customers, given.runs)
    if given.command == "curves":
        with _home(given.home) as home:
            things = [name for name in decision.THINGS if name not in (*given.without, "limited day", "learned day")]
            sizes = (
                [(number, given.typical_journeys) for number in given.customers],
                [(given.typical_customers, number) for number in given.journeys],
            )
            decision.measure_curves(home, *sizes, decision.How(given.runs, given.threads), things, given.picture)


@contextmanager
def _home(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    main()
