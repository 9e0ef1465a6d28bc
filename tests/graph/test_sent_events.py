"""What we send comes back, counts where it is named and nowhere else, and starts no run."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from tests.graph.small_world import DAYS, FIRST, JOURNEYS, make_world, run
from tests.graph.watching import UP_TO_DATE, Watcher

pytestmark = pytest.mark.slow

NAMED = JOURNEYS.replace("  orders: {count", "  everything: {count: '*'}\n  orders: {count").replace(
    "segments:\n", "engagement: {touch: Message Sent, response: Order Completed}\nsegments:\n"
)
ENGAGED = ("engagement", "state")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The time of the runs, the last of these."""
    times = [datetime(2026, 3, 2, 4, tzinfo=UTC)]
    for module in ("activation", "sent"):
        monkeypatch.setattr(f"assets.{module}._now", lambda: times[-1])
    return times


def run_days(folder: Path, clock: list[datetime], *, is_live: bool, days: int = 2) -> dict[str, str]:
    """Run the first days of a world, each on the morning after."""
    environment = make_world(folder) | ({"ATC_LIVE": "true"} if is_live else {})
    (folder / "journeys.yaml").write_text(NAMED)
    with dg.DagsterInstance.ephemeral() as instance:
        for day in DAYS[:days]:
            clock.append(datetime(day.year, day.month, day.day, 4, tzinfo=UTC) + timedelta(days=1))
            run(environment, day, day, instance=instance)
    return environment


def own_files(environment: dict[str, str]) -> dict[str, bytes]:
    """Return the files of ours in the landing zone."""
    landing = Path(environment["ATC_HOME"]) / "landing"
    return {path.relative_to(landing).as_posix(): path.read_bytes() for path in sorted(landing.rglob("atc_pipeline-*"))}


def test_what_we_sent_counts_where_it_is_named_and_nowhere_else(tmp_path: Path, clock: list[datetime]) -> None:
    """The same days sent and rehearsed: the profiles of the day after differ in nothing but the touches."""
    live = run_days(tmp_path / "live", clock, is_live=True)
    rehearsed = run_days(tmp_path / "rehearsed", clock, is_live=False)
    sent, planned = (Lake(root=f"{world['ATC_HOME']}/lake") for world in (live, rehearsed))
    assert list(own_files(live)) == ["2026-03-02/atc_pipeline-2026-03-01.ndjson", "2026-03-03/atc_pipeline-2026-03-02.ndjson"]
    ours = sent.read("raw_events", DAYS[1]).filter(pl.col("source_file").str.contains("atc_pipeline-"))
    assert ours.height == sent.read("sent_events", FIRST).height > 0
    assert set(ours["event"]) >= {"Journey Started", "Message Sent"}
    here, there = sent.read("customer_profiles", DAYS[1]), planned.read("customer_profiles", DAYS[1])
    assert_frame_equal(here.drop(ENGAGED), there.drop(ENGAGED))
    touched = set(here.filter(pl.col("engagement").is_not_null())["customer_id"])
    assert touched == set(ours.filter(event="Message Sent")["user_id"])
    assert there["engagement"].null_count() == there.height
    for table in ("identity_map", "micro_segment_memberships", "journey_assignments", "outbound_messages"):
        assert_frame_equal(sent.read(table, DAYS[1]), planned.read(table, DAYS[1]))


def test_nothing_is_written_in_a_dry_run_and_again_it_is_the_same_file(tmp_path: Path, clock: list[datetime]) -> None:
    """The bytes are the tables'; a rehearsed day has no events at all."""
    rehearsed = run_days(tmp_path / "rehearsed", clock, is_live=False, days=1)
    assert not own_files(rehearsed)
    assert Lake(root=f"{rehearsed['ATC_HOME']}/lake").read("sent_events", FIRST).is_empty()
    live = run_days(tmp_path / "live", clock, is_live=True, days=1)
    written = own_files(live)
    events = [json.loads(line) for text in written.values() for line in text.splitlines()]
    ids = Lake(root=f"{live['ATC_HOME']}/lake").read("sent_events", FIRST)["message_id"].to_list()
    assert sorted(event["messageId"] for event in events) == ids
    with dg.DagsterInstance.ephemeral() as instance:
        run(live, FIRST, FIRST, instance=instance, job="activate")
    assert own_files(live) == written


def test_a_file_of_ours_starts_no_run(tmp_path: Path, clock: list[datetime]) -> None:
    """Neither where it is the only one of its day, nor where the day was made before it came; another file does."""
    live = run_days(tmp_path / "live", clock, is_live=True, days=4)
    with dg.DagsterInstance.ephemeral() as instance:
        watcher = Watcher(live, instance)
        after = DAYS[-1] + timedelta(days=1)
        assert [path.name for path in LandingZone(root=str(watcher.landing)).files(after)] == [f"atc_pipeline-{DAYS[-1]}.ndjson"]
        assert watcher.look() == UP_TO_DATE
        folder = watcher.landing / str(DAYS[1])
        (folder / f"atc_pipeline-{FIRST}.ndjson").write_text("")
        assert watcher.look() == UP_TO_DATE
        (folder / f"atc_pipeline-{FIRST}-more.ndjson").write_text("")
        first, _ = watcher.look()
        assert date.fromisoformat(first) == DAYS[1]
