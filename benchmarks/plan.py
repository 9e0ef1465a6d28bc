"""The plan of a day's messages: channels listed, hours, caps and places, against the same plan without them.

Both plans are of the same customers and steps, in the same run, with the messages of the days before; what differs is ``journeys.yaml``.
The clock is the CPU's, of all threads: a plan costs what it costs, whoever else is on the machine. Figures are medians.
"""

import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from ruamel.yaml import YAML

from atc_pipeline.activation.messages import write_messages
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio

TODAY = date(2026, 11, 21)
SEED = 20_261_121
JOURNEYS = 30
EVERY = 3
"""In which of so many days a customer gets a message: of the days before, so many are read."""
WORKDAYS = ["mon", "tue", "wed", "thu", "fri"]
ZONES = ("Europe/Berlin", "Europe/Lisbon", "Europe/London", "Europe/Warsaw", "America/New_York", "Asia/Tokyo", None, "no/zone")
PLAIN = {"email": {"consent": "opt_in"}, "sms": {"consent": "opt_in"}, "app": {"consent": "opt_out"}, "care": {"consent": "none"}}
LIMITED = {
    "email": {"consent": "opt_in", "to": "mail", "hours": {"from": 8, "to": 21}, "cap": {"days": 7, "messages": 3}},
    "sms": {"consent": "opt_in", "hours": {"from": 9, "to": 20, "days": [*WORKDAYS, "sat"]}, "cap": {"days": 30, "messages": 2}},
    "app": {"consent": "opt_out", "hours": {"from": 9, "to": 21}, "cap": {"days": 7, "messages": 4}},
    "care": {"consent": "none", "when": "age > 60", "per_day": 5_000, "hours": {"from": 9, "to": 17, "days": WORKDAYS}},
}  # fmt: skip


def measure_plan(customers: int, runs: int) -> None:
    """Plan a day both ways, and print the medians and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        plain, limited = (_portfolio(Path(folder) / f"{name}.yaml", is_limited=name == "limited") for name in ("plain", "limited"))
        answers, profiles, earlier = _answers(customers), _profiles(customers), _earlier(customers)
        plans: dict[str, Callable[[], pl.DataFrame]] = {
            name: lambda portfolio=portfolio: (
                write_messages(  # type: ignore[misc]
                    answers.lazy(), profiles.lazy(), portfolio, today=TODAY, earlier=earlier.lazy()
                ).messages
            )
            for name, portfolio in (("without", plain), ("with", limited))
        }
        seconds: dict[str, list[float]] = {name: [] for name in plans}
        for _ in range(runs):
            for name, plan in plans.items():
                began = time.process_time()
                messages = plan()
                seconds[name].append(time.process_time() - began)
                if len(seconds[name]) == runs:
                    counts = messages.group_by("channel", "withheld").len().sort("len", descending=True).head(6)
                    print(f"{name}: {messages.height:,} messages, {messages['withheld'].null_count():,} to send; {counts.rows()}")
    medians = {name: median(each) for name, each in seconds.items()}
    print(f"\nplan of {customers:,} messages, {earlier.height:,} of the days before: median of {runs}")
    for name, each in medians.items():
        print(f"{name:<10} {each:>8.2f} s of CPU")
    print(f"with channels listed, hours, caps and places / without: {medians['with'] / medians['without']:.2f} (goal: at most 1.5)")


def _portfolio(path: Path, *, is_limited: bool) -> Portfolio:
    lists = (["app", "email", "sms"], ["care", "email"], ["email", "sms"], ["email"])
    steps = [[{"day": 1, "content": "x", **_through(lists[number % 4], is_limited=is_limited)}] for number in range(JOURNEYS)]
    document = {
        "version": "1",
        "calendar": {"timezone": "Europe/Berlin", "starts_on": date(2026, 1, 1)},
        "channels": LIMITED if is_limited else PLAIN,
        "engagement": {"touch": ["A"], "response": ["B"], "half_life_days": 7},
        "traits": {"mail": {"profile": "mail", "type": "string"}, "age": {"profile": "age", "type": "number"}},
        "journeys": [
            {"id": f"j{number:03}", "length_days": 9, "queue": {"where": "true"}, "steps": steps[number]} for number in range(JOURNEYS)
        ],
        "policy": {"suppressed_when": "age > 99"},
    }
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(document, file)
    return load_portfolio(path)


def _through(channels: list[str], *, is_limited: bool) -> dict[str, object]:
    return {"channels": channels} if is_limited else {"channel": channels[0]}


def _answers(customers: int) -> pl.DataFrame:
    random = np.random.default_rng(SEED)
    return pl.DataFrame({"customer_id": _names(customers), "journey": random.integers(0, JOURNEYS, customers)}).select(
        "customer_id",
        journey_id=pl.format("j{}", pl.col("journey").cast(pl.String).str.zfill(3)),
        arm=pl.lit("treated"),
        entered_on=pl.lit(TODAY),
        ends_on=pl.lit(TODAY + timedelta(days=8)),
        day_index=pl.lit(1, pl.Int64),
        score=pl.Series(random.random(customers)),
    )


def _profiles(customers: int) -> pl.DataFrame:
    random = np.random.default_rng(SEED + 1)

    def flags(share: float) -> pl.Series:
        return pl.Series(random.random(customers) < share)

    return pl.DataFrame(
        {
            "customer_id": _names(customers),
            "best_hour": pl.Series(random.integers(0, 24, customers)).set(flags(0.2), None),
            "timezone": pl.Series(ZONES, dtype=pl.String).gather(random.integers(0, len(ZONES), customers)),
            "preferred_channel": pl.Series(["email", "app", None]).gather(random.integers(0, 3, customers)),
            "mail": pl.Series(_names(customers) + "@example.com").set(flags(0.1), None),
            "bounced_email": flags(0.03),
            "age": random.random(customers) * 100,
            **{f"consent_{name}": flags(share) for name, share in (("email", 0.7), ("sms", 0.4), ("app", 0.9), ("care", 1.0))},
        }
    )


def _earlier(customers: int) -> pl.DataFrame:
    random = np.random.default_rng(SEED + 2)
    size = 6 * customers // EVERY
    return pl.DataFrame(
        {
            "date": pl.Series(random.integers(1, 7, size)),
            "customer_id": _names(customers).gather(random.integers(0, customers, size)),
            "journey_id": "j000",
            "step_day": pl.Series(random.integers(1, 9, size)),
            "channel": pl.Series(["email", "app", "sms"]).gather(random.integers(0, 3, size)),
            "content": "y",
            "withheld": pl.Series([None, None, None, "no_consent"], dtype=pl.String).gather(random.integers(0, 4, size)),
        }
    ).with_columns(date=pl.lit(TODAY) - pl.duration(days=pl.col("date")))


def _names(customers: int) -> pl.Series:
    return pl.select(name=pl.format("customer-{}", pl.int_range(customers).cast(pl.String).str.zfill(8))).to_series()
