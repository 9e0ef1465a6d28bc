"""The world with known truth through the real thing: a landing zone, Dagster's runs, messages delivered to files, and what comes back."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.certificate.driving import DELIVERED, SHOWN, Driven
from resources.storage.lake import Lake
from resources.storage.memory import Memory
from sample.world import SCENARIOS, World
from tests.graph.small_world import run

pytestmark = pytest.mark.slow

DAYS = 6
COMPARED = ("raw_events", "journey_assignments", "outbound_messages", "customer_metrics", "journey_entries", "journey_outcomes")


class Hasty(World):
    """The world of a single journey, measured over a window that closes within days."""

    @property
    def portfolio(self) -> str:
        """Return the journeys.yaml."""
        return super().portfolio.replace("window_days: 28", "window_days: 3").replace("money: revenue", "money: revenue, late_days: 1")


def made() -> Hasty:
    """Return the world, to be driven once."""
    return Hasty(SCENARIOS["busy"], 4, count=1, customers=200, days=DAYS)


def test_what_is_delivered_comes_back_and_the_stand_in_makes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs by Dagster send live to files, the world hears of what was delivered only, and what was sent comes back through the landing
    zone. The certificate's course in memory, whose outbox needs no files, has the same events, decisions, entries and outcomes."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    for module in ("activation", "sent"):
        monkeypatch.setattr(f"assets.{module}._now", lambda: now[0])
    monkeypatch.setenv("ATC_LIVE", "true")
    world = made()
    (tmp_path / "journeys.yaml").write_text(world.portfolio)
    environment = {"ATC_HOME": str(tmp_path / "home"), "ATC_JOURNEYS": str(tmp_path / "journeys.yaml"), "ATC_LIVE": "true"}
    lake = Lake(root=f"{environment['ATC_HOME']}/lake")
    delivered = pl.DataFrame(schema=DELIVERED)
    with dg.DagsterInstance.ephemeral() as instance:
        for day in world.days:
            folder = Path(environment["ATC_HOME"]) / "landing" / day.isoformat()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "world.ndjson").write_bytes(world.arriving(day, delivered))
            now[0] = datetime(day.year, day.month, day.day, 4, tzinfo=UTC) + timedelta(days=1)
            assert run(environment, day, day, instance=instance).success
            arrived = lake.lazy("activation", day).filter(pl.col("status") == "delivered").select("idempotency_key")
            delivered = lake.lazy("outbound_messages", day).join(arrived, on="idempotency_key").select(*DELIVERED).collect()

    driven = Driven.into(Memory(), made(), left_out=SHOWN)
    for _ in driven.run():
        pass
    sent = pl.concat([lake.lazy("raw_events", day) for day in world.days]).filter(pl.col("event") == "Message Sent").collect()
    assert sent.height > 50
    assert list(sent["date"].unique().sort()) == list(world.days[1:])
    for table in COMPARED:
        for day in world.days:
            left, right = lake.read(table, day), driven.store.lazy(table, day).collect()
            drop = (
                ["source_file", "line", "received_at", "timestamp", "event_date", "context", "properties"] if table == "raw_events" else []
            )
            assert left.drop(drop, strict=False).equals(right.drop(drop, strict=False)), (table, day)
    outcomes = pl.concat([lake.lazy("journey_outcomes", day) for day in world.days]).collect()
    assert outcomes.filter(pl.col("arm") == "treated")["delivered"].sum() > 20
    assert outcomes.filter(pl.col("arm") == "control")["delivered"].sum() == 0
    assert outcomes["revenue"].sum() > 0
