"""What is measured of a day's events, by customer and date; and what it adds up to under whatever names."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.customers import metrics
from atc_pipeline.customers.tables import customer_metrics
from atc_pipeline.days.customers import Metrics
from atc_pipeline.days.features import OutdatedDayError
from atc_pipeline.days.measured import Measured
from atc_pipeline.days.step import write_day
from atc_pipeline.events.tables import RAW_EVENTS
from atc_pipeline.identity.tables import IDENTITY_MAP
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.rules.measured import LARGEST_DAY, SENT
from atc_pipeline.tables.store import MissingDayError
from resources.storage.memory import Memory

DAY = date(2026, 1, 10)
JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-10}
channels: {email: {consent: opt_in}}
metrics:
  revenue: {sum: revenue, of: Bought}
  stars: {avg: stars, of: Rated}
  left: {any: Left}
measurement: {money: revenue}
journeys:
  - id: hello
    length_days: 3
    queue: {where: "true"}
    goal: {event: Bought, value: revenue}
    steps: [{day: 1, channel: email, content: hello}]
policy: {none: "0.5"}
"""


def load(folder: Path, text: str = JOURNEYS) -> Portfolio:
    """Return the portfolio of a text."""
    (folder / "journeys.yaml").write_text(text)
    return load_portfolio(folder / "journeys.yaml")


def events(*happened: tuple[str, str, dict[str, object]], on: date = DAY) -> pl.DataFrame:
    """Return an event for each customer, name and properties."""
    rows = [
        {"message_id": f"{on}-{number:03}", "type": "track", "event": event, "user_id": customer, "event_date": on}
        | {"timestamp": datetime(on.year, on.month, on.day, 9, tzinfo=UTC), "properties": json.dumps(properties)}
        for number, (customer, event, properties) in enumerate(happened)
    ]
    return pl.DataFrame(rows, schema=RAW_EVENTS.schema)


def people(**absorbed: str) -> pl.DataFrame:
    """Return the map of users a to d, of whom some are somebody else by now."""
    rows = [{"id_type": "user", "id": name, "customer_id": absorbed.get(name, name), "valid_from": DAY} for name in "abcd"]
    return pl.DataFrame(rows, schema=IDENTITY_MAP.schema)


def test_each_kind_is_kept_as_whole_numbers(tmp_path: Path) -> None:
    """Counts, sums in micro-units, both of an average, and the goals; who did nothing measured has no row."""
    of = load(tmp_path)
    happened = events(
        ("a", "Bought", {"revenue": 10.1}), ("a", "Bought", {"revenue": -0.3}), ("a", "Rated", {"stars": 4}), ("a", "Rated", {"stars": 5}),
        ("b", "Left", {}), ("b", "Left", {}), ("c", "Page Viewed", {"revenue": 9}),
    )  # fmt: skip
    made = metrics.measure(happened.lazy(), of, arrival=DAY)
    assert made.schema == customer_metrics(of).schema
    assert made.drop("date", "event_date").to_dicts() == [
        {"customer_id": "a", "revenue.micro": 9_800_000, "stars.n": 2, "stars.micro": 9_000_000, "left.n": 0}
        | {"goal:Bought.n": 2, "goal:Bought:revenue.micro": 9_800_000, SENT: []},
        {"customer_id": "b", "revenue.micro": 0, "stars.n": 0, "stars.micro": 0, "left.n": 2}
        | {"goal:Bought.n": 0, "goal:Bought:revenue.micro": 0, SENT: []},
    ]


def test_messages_are_counted_by_journey(tmp_path: Path) -> None:
    """Of our own events only what was sent is measured."""
    happened = events(*(("a", "Message Sent", {"journey_id": journey}) for journey in ("y", "x", "y")), ("a", "Journey Ended", {}))
    made = metrics.measure(happened.lazy(), load(tmp_path), arrival=DAY)
    assert made[SENT].to_list() == [[{"journey_id": "x", "n": 1}, {"journey_id": "y", "n": 2}]]


def test_a_metric_of_every_event_reads_every_event(tmp_path: Path) -> None:
    """An asterisk is no name to look for."""
    of = load(tmp_path, JOURNEYS.replace("{any: Left}", '{count: "*"}'))
    made = metrics.measure(events(("a", "Page Viewed", {}), ("a", "Bought", {})).lazy(), of, arrival=DAY)
    assert made["left.n"].to_list() == [2]


def test_a_day_of_nonsense_is_cut_off_not_turned_round(tmp_path: Path) -> None:
    """A hundred of the largest value do not fit; the customer's day counts for the most that does."""
    made = metrics.measure(events(*[("a", "Bought", {"revenue": 9.9e10})] * 100).lazy(), load(tmp_path), arrival=DAY)
    assert made["revenue.micro"].to_list() == [LARGEST_DAY]


def store_of(of: Portfolio, days: int) -> Memory:
    """Return days on which a and b buy for one each, b absorbed by a on the last of them."""
    store = Memory()
    for number in range(days):
        day = DAY + timedelta(days=number)
        store.write("raw_events", day, events(("a", "Bought", {"revenue": 1}), ("b", "Bought", {"revenue": 1}), on=day))
        store.write("identity_map", day, people(b="a") if number == days - 1 else people())
        write_day(store, Metrics(store, of), day)
    return store


def span(customer: str, *, until: int, after: int = -90) -> pl.DataFrame:
    """Return a span of days from DAY on."""
    row = (0, customer, DAY + timedelta(days=after), DAY + timedelta(days=until))
    return pl.DataFrame([row], schema=["row", "customer_id", "after", "until"], orient="row").cast({"row": pl.UInt32})


def test_all_names_that_a_customer_ever_had_count(tmp_path: Path) -> None:
    """Days before the merge name two customers, who are one by now."""
    of = load(tmp_path)
    measured = Measured(store_of(of, 3), of)
    assert measured.sums(DAY + timedelta(days=1), span("a", until=1), of.measured)["revenue"].item() == 2
    assert measured.sums(DAY + timedelta(days=2), span("a", until=2), of.measured)["revenue"].item() == 6
    assert measured.sums(DAY + timedelta(days=2), span("a", after=0, until=1), of.measured)["revenue"].item() == 2


def test_spans_that_reach_further_back_than_is_kept_are_read_whole(tmp_path: Path) -> None:
    """An entry keeps its window where journeys.yaml has shorter ones by now."""
    of = load(tmp_path)
    measured = Measured(store_of(of, 5), of)
    measured.days_before = 1
    assert (
        measured.sums(DAY + timedelta(days=4), span("c", until=4).with_columns(customer_id=pl.lit("a")), of.measured)["revenue"].item()
        == 10
    )


def test_days_before_metrics_were_kept_count_as_nothing_and_a_gap_does_not(tmp_path: Path) -> None:
    """A lake of an older version has none of its first days; a day that is lost later is named."""
    of = load(tmp_path)
    store = store_of(of, 4)
    kept = Memory()
    for number in (1, 2, 3):
        day = DAY + timedelta(days=number)
        kept.write("customer_metrics", day, store.lazy("customer_metrics", day).collect(), store.definitions("customer_metrics", day))
        kept.write("identity_map", day, people())
    assert Measured(kept, of).sums(DAY + timedelta(days=3), span("a", until=3), of.measured)["revenue"].item() == 4
    gap = Memory()
    for number in (0, 2):
        day = DAY + timedelta(days=number)
        gap.write("customer_metrics", day, store.lazy("customer_metrics", day).collect(), store.definitions("customer_metrics", day))
        gap.write("identity_map", day, people())
    with pytest.raises(MissingDayError, match="customer_metrics has no data for 2026-01-11"):
        Measured(gap, of).sums(DAY + timedelta(days=2), span("a", until=2), of.measured)


def test_a_metric_that_days_were_made_without_is_named_and_made_again(tmp_path: Path) -> None:
    """As it is with traits: nothing is mixed, and the job makes what is new; days that agree stay."""
    store = store_of(load(tmp_path), 2)
    of = load(tmp_path, JOURNEYS.replace("metrics:", "metrics:\n  bought: {count: Bought}"))
    with pytest.raises(OutdatedDayError, match=r"customer_metrics of 2026-01-1\d was made: bought. Run the job catch_up"):
        Measured(store, of).sums(DAY + timedelta(days=1), span("a", until=1), of.measured)
    again = Metrics(store, of, only_changed=True)
    assert again.behind(DAY) == ["bought"]
    for number in range(2):
        write_day(store, again, DAY + timedelta(days=number))
    assert Measured(store, of).sums(DAY + timedelta(days=1), span("a", until=1), of.measured)["bought"].item() == 4
    assert again.make(DAY) == {}
