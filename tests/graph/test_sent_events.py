"""What we send comes back, counts where it is named and nowhere else, and starts no run."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from tests.graph.small_world import DAYS, FIRST, JOURNEYS, make_world, run
from tests.graph.watching import FOUR, ONE, TWO, UP_TO_DATE, Watcher

pytestmark = pytest.mark.slow

NAMED = JOURNEYS.replace("  orders: {count", "  everything: {count: '*'}\n  orders: {count").replace(
    "segments:\n", "engagement: {touch: Message Sent, response: Order Completed}\nsegments:\n"
)
ENGAGED = ("engagement", "state")


class Worlds:
    """The same two days with the same files, sent in one world and rehearsed in another; each day on the morning after."""

    def __init__(self, folder: Path, now: list[datetime]) -> None:
        self.live = self.run(folder / "live", now, {"ATC_LIVE": "true"})
        self.rehearsed = self.run(folder / "rehearsed", now, {})

    def run(self, folder: Path, now: list[datetime], setting: dict[str, str]) -> dict[str, str]:
        """Run the two days."""
        environment = make_world(folder) | setting
        (folder / "journeys.yaml").write_text(NAMED)
        for later in DAYS[2:]:
            shutil.rmtree(folder / "home" / "landing" / str(later))
        with dg.DagsterInstance.ephemeral() as instance:
            for day in DAYS[:2]:
                now.append(datetime(day.year, day.month, day.day, 4, tzinfo=UTC) + timedelta(days=1))
                run(environment, day, day, instance=instance)
        return environment


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """The worlds, and the time of their runs."""
    now = [datetime(2026, 3, 2, 4, tzinfo=UTC)]
    with pytest.MonkeyPatch.context() as patched:
        for module in ("activation", "sent"):
            patched.setattr(f"assets.{module}._now", lambda: now[-1])
        yield Worlds(tmp_path_factory.mktemp("worlds"), now)


def own_files(environment: dict[str, str]) -> dict[str, bytes]:
    """Return the files of ours in the landing zone."""
    landing = Path(environment["ATC_HOME"]) / "landing"
    return {path.relative_to(landing).as_posix(): path.read_bytes() for path in sorted(landing.rglob("atc_pipeline-*"))}


def test_what_we_sent_counts_where_it_is_named_and_nowhere_else(worlds: Worlds) -> None:
    """The same days sent and rehearsed: the profiles of the day after differ in nothing but the touches."""
    sent, planned = (Lake(root=f"{world['ATC_HOME']}/lake") for world in (worlds.live, worlds.rehearsed))
    ours = sent.read("raw_events", DAYS[1]).filter(pl.col("source_file").str.contains("atc_pipeline-"))
    assert ours.height == sent.read("sent_events", FIRST).height > 0
    assert set(ours["event"]) == {"Journey Started", "Message Sent"}
    here, there = sent.read("customer_profiles", DAYS[1]), planned.read("customer_profiles", DAYS[1])
    assert_frame_equal(here.drop(ENGAGED), there.drop(ENGAGED))
    touched = set(here.filter(pl.col("engagement").is_not_null())["customer_id"])
    assert touched == set(ours.filter(event="Message Sent")["user_id"])
    assert there["engagement"].null_count() == there.height
    for table in ("identity_map", "micro_segment_memberships", "journey_assignments", "outbound_messages"):
        assert_frame_equal(sent.read(table, DAYS[1]), planned.read(table, DAYS[1]))


def test_a_dry_run_writes_nothing_and_written_again_it_is_the_same_file(worlds: Worlds) -> None:
    """The bytes are the tables'; a rehearsed day has no events at all."""
    assert not own_files(worlds.rehearsed)
    assert Lake(root=f"{worlds.rehearsed['ATC_HOME']}/lake").read("sent_events", FIRST).is_empty()
    written = own_files(worlds.live)
    assert list(written) == ["2026-03-02/atc_pipeline-2026-03-01.ndjson", "2026-03-03/atc_pipeline-2026-03-02.ndjson"]
    for day, text in zip(DAYS, written.values(), strict=False):
        ids = Lake(root=f"{worlds.live['ATC_HOME']}/lake").read("sent_events", day)["message_id"].to_list()
        assert [json.loads(line)["messageId"] for line in text.splitlines()] == ids
    with dg.DagsterInstance.ephemeral() as instance:
        run(worlds.live, DAYS[1], DAYS[1], instance=instance, job="activate")
    assert own_files(worlds.live) == written


def test_a_file_of_ours_starts_no_run(worlds: Worlds) -> None:
    """Neither where it is the only one of its day, nor where the day was made before it came; another file does."""
    with dg.DagsterInstance.ephemeral() as instance:
        watcher = Watcher(worlds.live, instance)
        assert [path.name for path in LandingZone(root=str(watcher.landing)).files(DAYS[2])] == [f"atc_pipeline-{DAYS[1]}.ndjson"]
        assert watcher.look() == UP_TO_DATE
        (watcher.landing / ONE / "atc_pipeline-2026-02-28.ndjson").write_text("")
        assert watcher.look() == UP_TO_DATE
        (watcher.landing / TWO / "atc_pipeline-2026-02-28-more.ndjson").write_text("")
        first, _ = watcher.look()
        assert first == TWO


def test_what_an_earlier_file_says_is_not_said_again_much_later(tmp_path: Path) -> None:
    """It would come too late to be told as a duplicate (SPEC 1.6); what is new is said, and the same day's file is written anew."""
    landing = LandingZone(root=str(tmp_path))
    landing.write_own(DAYS[1], FIRST, ["a", "b"])
    landing.write_own(DAYS[1], FIRST, ["b", "c"])
    landing.write_own(DAYS[3], FIRST, ["b", "c"])
    landing.write_own(DAYS[3], FIRST, ["c", "d"])
    assert {path.parent.name: path.read_text() for path in tmp_path.rglob("*.ndjson")} == {TWO: "b\nc\n", FOUR: "d\n"}
