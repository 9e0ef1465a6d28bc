"""The rollup does not depend on how a day is cut, and reads from objects what is asked for."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.customers import activity
from atc_pipeline.events.tables import RAW_EVENTS
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio

TODAY = date(2026, 1, 10)


def portfolio(folder: Path, traits: str) -> Portfolio:
    """Return a portfolio with these traits, of the example's grammar."""
    path = folder / "journeys.yaml"
    path.write_text(f'version: "1"\ncalendar: {{timezone: UTC, starts_on: 2026-01-01}}\ntraits:\n{traits}')
    return load_portfolio(path)


def orders(*properties: object, customers: int = 1) -> pl.DataFrame:
    """Return an order for each of these properties, of several customers in turn."""
    rows = [
        {
            "message_id": f"m{number:03}", "type": "track", "event": "Order Completed", "user_id": f"u{number % customers}",
            "timestamp": datetime(2026, 1, 10, number % 24, tzinfo=UTC), "event_date": TODAY, "properties": json.dumps(one),
        }
        for number, one in enumerate(properties)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides=RAW_EVENTS.schema).with_columns(
        pl.lit(None, dtype=RAW_EVENTS.schema[name]).alias(name) for name in ("anonymous_id", "traits", "context", "received_at")
    )


@pytest.mark.slow
def test_a_day_rolled_up_in_shards_is_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few events are taken at once, every customer's are together."""
    of = portfolio(tmp_path, "  spend: {sum: n, of: '*'}\n  last: {last: n, of: '*'}\n  kinds: {unique_list: n, of: '*'}\n")
    events = orders(*({"n": number % 5} for number in range(40)), customers=7)
    whole = activity.roll_up(events, of, arrival=TODAY).activity
    assert whole.height == 7
    for at_once in (39, 10, 1):
        monkeypatch.setattr(activity, "EVENTS_AT_ONCE", at_once)
        assert_frame_equal(activity.roll_up(events, of, arrival=TODAY).activity, whole)


@pytest.mark.parametrize(
    ("trait", "properties", "expected"),
    [
        ("x: {sum: cart.total, of: Order Completed}", {"cart": {"total": 3}}, 3_000_000),
        ("x: {sum: cart.total, of: Order Completed}", {"cart.total": 4, "cart": {"total": 3}}, 4_000_000),
        ("x: {sum: cart.total, of: Order Completed}", {"cart": [1]}, 0),
        ("x: {sum: n, of: Order Completed, each: cart.items}", {"cart": {"items": [{"n": 1}, 5, {"n": 2}]}}, 3_000_000),
        ("x: {sum: n, of: Order Completed, each: items}", {"items": [{"n": 1}, None, {"n": {"n": 2}}, {"n": 4}]}, 5_000_000),
        ("x: {sum: a.n, of: Order Completed, each: items}", {"items": [{"a": {"n": 1}}, {"a": {"n": "two"}}]}, 1_000_000),
        ("x: {sum: said, of: Order Completed}", {"said": 7, "event": 1, "timestamp": 2, "customer_id": 3}, 7_000_000),
    ],
)
def test_names_with_dots_reach_into_objects(tmp_path: Path, trait: str, properties: object, expected: int) -> None:
    """Also of items, and of arrays inside objects; a property that is called exactly so comes first."""
    rolled = activity.roll_up(orders(properties), portfolio(tmp_path, f"  {trait}\n"), arrival=TODAY).activity
    assert rolled["x.low"].to_list() == [expected]


@pytest.mark.parametrize(
    ("contexts", "expected"),
    [
        ([{"timezone": "Europe/Rome"}, {"timezone": "Asia/Tokyo"}], ("Asia/Tokyo", "m001")),
        ([{"timezone": "Europe/Rome"}, {"timezone": None}, {"app": "timezone"}], ("Europe/Rome", "m000")),
        ([{"timezone": "Europe/Rome"}, {"timezone": "Asia/Tokyo"}, {"timezone": ["x"]}], ("Asia/Tokyo", "m001")),
        ([{"timezone": {}}, {"app": "x"}], (None, None)),
    ],
)
def test_the_last_time_zone_that_can_be_read_counts(
    tmp_path: Path, contexts: list[object], expected: tuple[str | None, str | None]
) -> None:
    """However many events after it have the word in their context; and what another customer told does not matter."""
    texts = [json.dumps(context) for context in contexts]
    mine = orders(*contexts).with_columns(context=pl.Series(texts))
    theirs = mine.with_columns(message_id=pl.lit("x"), user_id=pl.lit("other"), context=pl.lit('{"timezone": "UTC"}'))
    for events in (pl.concat([mine, theirs]), pl.concat([theirs, mine.reverse()])):
        rolled = activity.roll_up(events, portfolio(tmp_path, "  n: {count: '*'}\n"), arrival=TODAY).activity
        assert rolled.sort("customer_id", descending=True)["timezone.value", "timezone.id"].row(0) == expected
