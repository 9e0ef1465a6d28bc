"""Today, while it runs, against a real ``dagster dev``: a file dropped at noon changes the decision and sends a message."""

import json
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pytest

from resources.storage.lake import Lake
from tests.edges.running_dagster import Dagster, until
from tests.graph.small_world import JOURNEYS, line, run

pytestmark = pytest.mark.slow

START = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) { __typename
  ... on PythonError { message } } }"""


def today() -> date:
    """Return the day it is in the world of these tests."""
    return datetime.now(ZoneInfo("Europe/Berlin")).date()


def make_current_world(folder: Path) -> dict[str, str]:
    """Write a world whose calendar began the day before yesterday, with files of two days and none of today."""
    folder.mkdir(parents=True)
    began = today() - timedelta(days=2)
    (folder / "journeys.yaml").write_text(JOURNEYS.replace("starts_on: 2026-03-01", f"starts_on: {began}"))
    for number in range(2):
        day = began + timedelta(days=number)
        arrivals = folder / "home" / "landing" / str(day)
        arrivals.mkdir(parents=True)
        lines = [line(f"c{who}", day, who, type="identify", traits={"consent_email": True}) for who in range(4)]
        (arrivals / "events.ndjson").write_text("\n".join(lines) + "\n")
    return {"ATC_HOME": str(folder / "home"), "ATC_JOURNEYS": str(folder / "journeys.yaml")}


def drop(home: Path, name: str, *lines: str) -> None:
    """Put a file into today's folder, as uploads do: under another name first."""
    folder = home / "landing" / str(today())
    folder.mkdir(exist_ok=True)
    (folder / f".{name}").write_text("\n".join(lines) + "\n")
    (folder / f".{name}").rename(folder / name)


def messages_to(home: Path, customer: str) -> list[str]:
    """Return the keys of what is in the outbox for a customer."""
    written = [json.loads(text) for file in sorted((home / "outbox").rglob("*.ndjson")) for text in file.read_text().splitlines()]
    return [message["idempotency_key"] for message in written if message["customer_id"] == customer]


def test_a_file_dropped_at_noon_is_a_message_within_two_minutes_and_a_second_one_decides_again(tmp_path: Path) -> None:
    """Somebody new arrives: welcomed and written to. Then somebody else, and the first one, who has bought by then, is left as they are:
    what was delivered stands."""
    environment = make_current_world(tmp_path / "world") | {"ATC_LIVE": "true", "ATC_TODAY_EVERY": "3"}
    home, now = Path(environment["ATC_HOME"]), today()
    with dg.DagsterInstance.ephemeral() as instance:
        run(environment, now - timedelta(days=2), now - timedelta(days=1), instance=instance)
    lake = Lake(root=str(home / "lake"))

    def decided(customer: str) -> dict[str, object]:
        rows = lake.read("journey_assignments", now).filter(pl.col("customer_id") == customer)
        return rows.row(0, named=True) if rows.height else {}

    with Dagster(tmp_path / "dagster", environment) as dagster:
        selector = {"repositoryLocationName": "atc_pipeline.definitions", "repositoryName": "__repository__", "sensorName": "landing_zone"}
        assert dagster.ask(START, selector=selector)["startSensor"]["__typename"] == "Sensor"
        began = time.monotonic()
        drop(home, "noon.ndjson", line("new", now, 1, type="identify", traits={"consent_email": True}))
        until(lambda: bool(messages_to(home, "new")), 120)
        seconds = time.monotonic() - began
        first = messages_to(home, "new")
        until(lambda: lake.has("activation", now), 30)
        assert decided("new")["journey_id"] == "welcome"
        bought = [line("new", now, 10 + number, event="Order Completed", properties={"revenue": 9}) for number in range(3)]
        drop(home, "later.ndjson", *bought, line("newer", now, 20, type="identify", traits={"consent_email": True}))
        until(lambda: bool(messages_to(home, "newer")), 120)
    assert seconds < 120
    assert len(first) == 1
    assert messages_to(home, "new") == first, "what was delivered is not sent again"
    assert (decided("new")["journey_id"], decided("new")["stands"]) == ("welcome", True)
    profile = lake.read("customer_profiles", now).filter(pl.col("customer_id") == "new")
    assert profile["orders"].to_list() == [3], "the second file was read"
