"""Days that are made again in part: what is new in them, and the rest as it was."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.days.course import Course
from atc_pipeline.days.customers import Profiles
from atc_pipeline.events.lines import Lines
from atc_pipeline.journeys.columns import BUILT_IN
from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.memory import Memory

FIRST = date(2026, 1, 1)
JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-01}
channels: {email: {consent: opt_in, to: address}}
traits: {orders: {count: Bought}, address: {profile: email, type: string}}
interests: {topics: {bags: [{event: Bought}]}}
intents: {buy: {half_life_days: 3, full_at: 2, signals: [{event: Bought}]}}
engagement: {touch: Sent, response: Bought}
"""
IDS = {"channels": "email", "addresses": "email", "interests": "bags", "intents": "buy"}
COLUMNS = [column.name.format(IDS.get(column.section or "")) for column in BUILT_IN if column.section != "predictions"]
"""The built-in columns of such a portfolio; predictions are made after the rest of the day, all of them."""


def landed(day: date) -> list[list[Lines]]:
    """Two customers, of whom one comes on the second day only."""
    lines = [
        {"messageId": f"{user}{day}{number}", "userId": user, "timestamp": f"{day}T09:30:00Z", **event}
        for user in (["u"] if day == FIRST else ["u", "v"])
        for number, event in enumerate(
            [
                {"type": "identify", "traits": {"consent_email": True, "email": f"{user}@example.com"}},
                {"type": "track", "event": "Email Bounced", "properties": {"type": "hard"}},
                *({"type": "track", "event": name, "properties": {"channel": "email"}} for name in ("Sent", "Bought")),
            ]
        )
    ]
    return [[Lines("a.ndjson", 1, b"".join(json.dumps(line).encode() + b"\n" for line in lines))]]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_is_built_in_since_is_filled_in(column: str, tmp_path: Path) -> None:
    """A day that was made before the column was built in has it after catching up, and nothing else has changed."""
    (tmp_path / "journeys.yaml").write_text(JOURNEYS)
    portfolio, store = load_portfolio(tmp_path / "journeys.yaml"), Memory()
    course = Course(store, portfolio, landed)
    for day in (FIRST, FIRST + timedelta(days=1)):
        course.run(day)
        whole = store.read("customer_profiles", day)
        store.write("customer_profiles", day, whole.drop(column), store.definitions("customer_profiles", day))
        assert_frame_equal(Profiles(store, portfolio, only_changed=True).make(day)["customer_profiles"], whole)
        store.write("customer_profiles", day, whole, store.definitions("customer_profiles", day))
