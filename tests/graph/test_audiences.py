"""Audiences as a run keeps them: what a destination is told on the days that are not past, and what is refused."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from resources.delivery.ledger import Ledger
from resources.delivery.memberships import Memberships
from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, FIRST, make_world, run
from tests.graph.test_promises import FULL

pytestmark = pytest.mark.slow


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A world that sends, by files."""
    monkeypatch.setenv("ATC_LIVE", "true")
    return make_world(tmp_path, FULL) | {"ATC_LIVE": "true"}


@pytest.fixture
def morning_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[date], None]:
    """Let it be the morning after a day."""

    def set_clock(day: date) -> None:
        now = datetime(day.year, day.month, day.day, 4, tzinfo=UTC) + timedelta(days=1)
        for module in ("assets.activation", "assets.audiences"):
            monkeypatch.setattr(f"{module}._now", lambda: now)

    return set_clock


def test_the_last_day_is_told_and_the_set_is_kept(live: dict[str, str], morning_after: Callable[[date], None]) -> None:
    """Two days in one run: the first is rehearsed, the second told. After the next day the files, read in their order, are its members;
    and an upstream table that lost everybody is refused, and nobody is told.
    """
    lake, memberships = Lake(root=f"{live['ATC_HOME']}/lake"), Memberships(Ledger(home=live["ATC_HOME"]))
    with dg.DagsterInstance.ephemeral() as instance:
        morning_after(DAYS[1])
        assert run(live, FIRST, DAYS[1], instance=instance).success
        assert set(lake.read("audience_syncs", FIRST)["status"]) <= {"would_send"}
        assert set(lake.read("audience_syncs", DAYS[1])["status"]) == {"acknowledged"}
        morning_after(DAYS[2])
        assert run(live, DAYS[2], DAYS[2], instance=instance).success
        there: set[str] = set()
        for file in sorted(Path(live["ATC_HOME"], "outbox").glob("date=*/there.*")):
            for row in map(json.loads, file.read_text().splitlines()):
                (there.add if row["operation"] == "add" else there.discard)(row["customer_id"])
        members = set(lake.read("audience_members", DAYS[2])["customer_id"])
        assert there == members != set()
        assert set(memberships.rows().filter(pl.col("audience_id") == "of_tea")["customer_id"]) == members
        answered = memberships.rows().filter(pl.col("audience_id") == "answer")["customer_id"]
        treated = lake.read("journey_assignments", DAYS[2]).filter(pl.col("arm") == "treated")["customer_id"]
        assert set(answered) == set(treated)

        lake.write("journey_assignments", DAYS[2], lake.read("journey_assignments", DAYS[2]).clear())
        again = run(live, DAYS[2], DAYS[2], instance=instance, job="synchronize", must_succeed=False)
        (failed,) = [event for event in again.all_events if event.event_type_value == "STEP_FAILURE"]
        data = failed.step_failure_data.user_failure_data
        assert data is not None
        assert "journey_assignments of 2026-03-03" in str(data.description)
        assert set(lake.read("audience_members", DAYS[2])["customer_id"]) == members
