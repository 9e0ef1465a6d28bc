"""Everything kept in a bucket: the same bytes as on a disk, from any host, whatever the store does meanwhile."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.definitions import build_definitions
from resources.channels.files import FileChannel
from resources.storage import bucket as s3
from resources.storage import lease, mirror
from resources.storage.home import WrongHomeError, home_of
from resources.storage.lake import Lake
from resources.storage.lease import Lease, LostTurnError
from resources.storage.objects import BucketError
from resources.storage.outbox import Outbox
from tests.edges.bucket_server import NAME, Proxy, bucket, objects, serving, settle, upload
from tests.edges.sender import outbound
from tests.faults.attempt import processes
from tests.graph.small_world import DAYS, FIRST, JOURNEYS, TIMED, make_world, run, tables, timeless
from tests.graph.test_erasure import named_in

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]
LAST = DAYS[-1]
SENT: dict[str, object] = {"ops": {"activation": {"config": {"past_days": [str(day) for day in DAYS]}}}}
"""What was planned for these days is sent, though they are past."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server, of which each test takes a prefix."""
    with serving() as url:
        yield url


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A small world on a disk, run in one stretch."""
    world = make_world(tmp_path_factory.mktemp("local")) | {"ATC_LIVE": "true"}
    run_days(world, FIRST, LAST)
    return world


def host(folder: Path, prefix: str, name: str) -> dict[str, str]:
    """Return the settings of a host: a copy of its own, and the ledger that all share."""
    (folder / "journeys.yaml").write_text(JOURNEYS)
    return {
        "ATC_HOME": f"s3://{NAME}/{prefix}",
        "ATC_CACHE": str(folder / name),
        "ATC_LEDGER": str(folder / "ledger.duckdb"),
        "ATC_JOURNEYS": str(folder / "journeys.yaml"),
        "ATC_LIVE": "true",
    }


def land(local: dict[str, str], prefix: str) -> None:
    """Put the events of the small world into the bucket."""
    upload(Path(local["ATC_HOME"], "landing"), f"{prefix}/landing")


def run_days(environment: dict[str, str], first: date, last: date) -> None:
    """Run days in a process of its own."""
    with dg.DagsterInstance.ephemeral() as instance:
        run(environment, first, last, instance=instance, config=SENT)


def test_two_hosts_one_after_the_other_make_what_a_local_run_makes(
    server: str, local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second host finds the first one's days, and goes on; every object is the file of a run on a disk, but for times of sending."""
    settle(monkeypatch, server)
    land(local, "two")
    run_days(host(tmp_path, "two", "here"), FIRST, DAYS[1])
    run_days(host(tmp_path, "two", "there"), DAYS[2], LAST)
    assert timeless(objects("two", "lake", "part.parquet")) == timeless(tables(local))
    home = Path(local["ATC_HOME"])
    expected = {path.relative_to(home / "outbox").as_posix(): path.read_bytes() for path in (home / "outbox").rglob("*.ndjson")}
    assert len(expected) > len(DAYS)
    assert objects("two", "outbox") == expected
    assert [*objects("two", "portfolios", ".yaml").values()] == [JOURNEYS.encode()]
    assert len(objects("two", "lake.origins")) == len(DAYS)
    lake = Lake(root=str(home_of(host(tmp_path, "two", "there"), PROJECT) / "lake"))
    assert timedelta(0) <= datetime.now(UTC) - lake.written_at("journey_assignments", FIRST) < timedelta(minutes=10)


def test_a_store_that_fails_and_dawdles_does_no_harm(
    server: str, local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 and 503 to every fifth request, every thirteenth late, all down for a second: the same bytes, and nothing left besides."""
    with Proxy(server) as proxy:
        settle(monkeypatch, proxy.url)
        land(local, "flaky")
        began = time.monotonic()
        failed: list[int] = []

        def trouble(number: int, method: str, path: str) -> int | float | None:  # noqa: ARG001
            if number % 5 == 0 or 3 < time.monotonic() - began < 4:
                failed.append(number)
                return 500 if number % 2 else 503
            return 0.2 if number % 13 == 0 else None

        proxy.trouble = trouble
        run_days(host(tmp_path, "flaky", "here"), FIRST, FIRST)
        proxy.trouble = lambda number, method, path: None  # noqa: ARG005
        assert len(failed) > 10
        made = {key: content for key, content in tables(local).items() if str(FIRST) in key}
        assert timeless(objects("flaky", "lake", "part.parquet")) == timeless(made)
        assert not [key for key in objects("flaky") if Path(key).name.startswith(".")]


def test_a_store_that_refuses_is_named_and_the_day_stays_as_it_was(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing is forbidden: the error names the object and what to look at; here as in the bucket the old day is there."""
    with Proxy(server) as proxy:
        settle(monkeypatch, proxy.url)
        lake = Lake(root=str(home_of(host(tmp_path, "refusing", "here"), PROJECT) / "lake"))
        lake.write("t", FIRST, pl.DataFrame({"a": [1]}))
        proxy.trouble = lambda number, method, path: 403 if method == "PUT" else None  # noqa: ARG005
        with pytest.raises(BucketError, match=r"s3://shop/refusing/lake/t/date=2026-03-01/part\.parquet: cannot be written .*AWS_"):
            lake.write("t", FIRST, pl.DataFrame({"a": [2]}))
        assert lake.read("t", FIRST)["a"].to_list() == [1]
        proxy.trouble = lambda number, method, path: 403  # noqa: ARG005
        with pytest.raises(WrongHomeError, match="s3://shop/refusing/portfolios: cannot be listed"):
            home_of(host(tmp_path, "refusing", "elsewhere"), PROJECT)


def test_a_message_whose_file_got_no_answer_is_unknown(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store may have it; refused it is failed, as nobody can have read it."""
    monkeypatch.setattr(s3, "MOST_RETRIES", 0)
    with Proxy(server) as proxy:
        settle(monkeypatch, proxy.url)
        channel = FileChannel(Outbox(home_of(host(tmp_path, "unanswered", "here"), PROJECT) / "outbox"))
        for status, expected in ((500, "unknown"), (403, "failed")):
            proxy.trouble = lambda number, method, path, status=status: status if method == "PUT" else None  # noqa: ARG005
            (answer,) = channel.send(outbound(1)).iter_rows(named=True)
            assert answer["status"] == expected
            assert "s3://shop/unanswered/outbox/" in answer["reason"]


def test_what_has_changed_is_brought_and_nothing_else(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look costs one request; a day written elsewhere is read anew, a day removed there is gone here, and so is one damaged here."""
    with Proxy(server) as proxy:
        settle(monkeypatch, proxy.url)
        homes = [home_of(host(tmp_path, "changed", name), PROJECT) for name in ("here", "there")]
        here, there = (Lake(root=str(home / "lake")) for home in homes)
        here.write("t", DAYS[0], pl.DataFrame({"a": [1]}))
        here.write("t", DAYS[1], pl.DataFrame({"a": [2]}))
        mirror.bring(homes[1])
        assert there.read("t", DAYS[1])["a"].to_list() == [2]
        there.write("t", DAYS[0], pl.DataFrame({"a": [3]}))
        bucket("changed").remove(f"lake/t/date={DAYS[1]}/part.parquet")
        proxy.seen.clear()
        mirror.bring(homes[0])
        assert [method for method, _ in proxy.seen] == ["GET", "GET"]  # the list, and the one that has changed
        assert here.read("t", DAYS[0])["a"].to_list() == [3]
        assert here.days("t") == [DAYS[0]]
        here.path("t", DAYS[0]).write_bytes(b"damaged")
        mirror.bring(homes[0])
        assert here.read("t", DAYS[0])["a"].to_list() == [3]
        proxy.seen.clear()
        mirror.bring(homes[0])
        assert len(proxy.seen) == 1


@pytest.mark.parametrize("key", ["landing/2026-03-01/../../../evil.ndjson", "landing/./x.ndjson"])
def test_an_object_called_like_a_way_out_is_refused(tmp_path: Path, key: str) -> None:
    """Whoever may put objects does not write outside the copy."""

    class Named:
        def all(self, under: str = "") -> list[mirror.Stored]:  # noqa: ARG002
            return [mirror.Stored(key, "e", 1)]

        def name(self, key: str) -> str:
            return f"s3://shop/{key}"

    with pytest.raises(BucketError, match="give it another name"):
        mirror.Mirror(Named(), tmp_path).bring()  # type: ignore[arg-type]


def test_signatures_of_the_landing_zone_are_the_same_on_every_host(
    server: str, local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come from what the objects are, not from when they were brought; rewriting for an erasure is no news on any host."""
    settle(monkeypatch, server)
    land(local, "signed")
    zones = []
    for name in ("here", "there"):
        definitions = build_definitions(host(tmp_path, "signed", name))
        zones.append(definitions.resources["landing"])
        mirror.bring(Path(zones[-1].root))
    signature = zones[0].signature(FIRST)
    assert zones[1].signature(FIRST) == signature
    (path,) = zones[0].files(FIRST)
    with zones[0].rewriting(path) as unfinished:
        unfinished.write_text("\n")
    definitions.resources["lake"].origins.refresh()  # as the landing sensor does at each look
    assert zones[1].files(FIRST)[0].read_text() == "\n"
    assert [zone.signature(FIRST) for zone in zones] == [signature, signature]


def hold(prefix: str, seconds: float, ready: Connection) -> None:
    """Take the turn on another host, and keep it."""
    lease.SECONDS = seconds
    held = Lease(bucket(prefix), "lake.turn", "theirs")
    held.take("held", "somebody", print)
    ready.send("taken")
    time.sleep(60)


def test_a_killed_holder_is_followed_when_it_is_not_heard_of_any_more(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it renews nobody else has the turn; killed, it is taken over after the lease's time, and not before."""
    settle(monkeypatch, server)
    monkeypatch.setattr(lease, "SECONDS", 2.0)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.1)
    theirs, ours = processes().Pipe()
    process = processes().Process(target=hold, args=("killed", 2.0, theirs))
    process.start()
    theirs.close()  # so that a holder that dies is heard of
    assert ours.recv() == "taken"
    said: list[tuple[float, str]] = []
    killed: list[float] = []

    def say(word: str) -> None:
        said.append((time.monotonic(), word))
        if word.startswith("waiting") and len(said) == 2:  # it was renewed for longer than a lease lasts
            process.kill()
            killed.append(time.monotonic())

    monkeypatch.setattr(lease, "SAID_EVERY", 3.0)
    next_one = Lease(bucket("killed"), "lake.turn", "ours")
    next_one.take("next", "a test", say)
    assert said[0][1].startswith(f"waiting for run held of somebody (process {process.pid} on ")
    assert 1.4 < said[-1][0] - killed[0] < 5
    next_one.require()
    next_one.give_back()
    assert next_one.holder() is None
    process.join(60)


def test_whoever_has_lost_the_turn_writes_no_more(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that was held up and taken over: its next file is refused, in the bucket as here."""
    settle(monkeypatch, server)
    monkeypatch.setattr(lease, "SECONDS", 1.0)
    home = home_of(host(tmp_path, "lost", "here"), PROJECT)
    held = mirror.mirror_of(home)
    assert held is not None
    held.begin("slow", "a test", print)
    lake = Lake(root=str(home / "lake"))
    lake.write("t", FIRST, pl.DataFrame({"a": [1]}))
    assert str(lake.running()).startswith("run slow of a test (process ")
    present = bucket("lost").read("lake.turn")
    assert present is not None
    bucket("lost").swap("lake.turn", json.dumps({"token": "other"}).encode(), present[1])
    time.sleep(1)
    with pytest.raises(LostTurnError, match=r"s3://shop/lost/lake\.turn: this run has lost its turn"):
        lake.write("t", FIRST, pl.DataFrame({"a": [2]}))
    held.end()
    assert lake.read("t", FIRST)["a"].to_list() == [1]
    assert objects("lost")["lake.turn"] == b'{"token": "other"}'  # it takes nothing from who has it now


def test_an_answer_that_is_lost_loses_no_turn(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn is written, and 500 is answered: asked again the store says that it is taken - by ourselves."""
    with Proxy(server) as proxy:
        settle(monkeypatch, proxy.url)
        ours = Lease(bucket("answer"), "lake.turn", "ours")
        written = bucket("answer")
        lost: list[str] = []

        class Losing:
            def create(self, key: str, content: bytes) -> str:
                if not lost:
                    lost.append(written.create(key, content))
                return written.create(key, content)

            def __getattr__(self, name: str) -> object:
                return getattr(written, name)

        ours._bucket = Losing()  # type: ignore[assignment]
        ours.take("a", "b", print)
        ours.require()
        ours.give_back()


def test_two_hosts_at_once_go_one_after_the_other(
    server: str, local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are asked for the same day at the same time: one waits for the other, and the tables are those of one run."""
    settle(monkeypatch, server)
    land(local, "at-once")
    at_once = [
        processes().Process(target=run_days, args=(host(tmp_path, "at-once", name) | {"ATC_LIVE": ""}, FIRST, FIRST))
        for name in ("here", "there")
    ]
    for process in at_once:
        process.start()
    for process in at_once:
        process.join(120)
    assert [process.exitcode for process in at_once] == [0, 0]
    made = {key: content for key, content in objects("at-once", "lake", "part.parquet").items() if not key.startswith(TIMED)}
    assert made == {key: content for key, content in tables(local).items() if str(FIRST) in key and not key.startswith(TIMED)}


def test_erasure_reaches_the_bucket_and_the_copies_of_other_hosts(
    server: str, local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No object names the person any more, nor a file on another host once it has looked; that old versions may be kept is said."""
    settle(monkeypatch, server)
    upload(Path(local["ATC_HOME"]), "erased", but="ledger")
    bucket("erased").create(f"landing/{FIRST}/.events.ndjson.erasing", b"c01")
    here, there = host(tmp_path, "erased", "here"), host(tmp_path, "erased", "there")
    copy = home_of(there, PROJECT)
    mirror.bring(copy)
    assert named_in(copy, "c01")
    job = build_definitions(here).resolve_job_def("erase_customer")
    config = {"ops": {"erase": {"config": {"customer_id": "c01", "confirm": True}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, run_config=config)
    (facts,) = [event.event_specific_data.metadata for event in result.all_events if event.is_successful_output]
    assert "keeps versions" in str(facts["kept_besides"].value)
    named = re.compile(rb"(?<![0-9a-f])c01(?![0-9a-f])")  # and not as some digits of a checksum
    assert [key for key, content in objects("erased").items() if named.search(content)] == []
    mirror.bring(copy)
    assert named_in(copy, "c01") == set()
    assert objects("erased", "tombstones")


def test_a_bucket_without_a_ledger_elsewhere_is_refused(tmp_path: Path) -> None:
    """The ledger is a database: it cannot lie in a bucket, and nothing is sent without one."""
    environment = host(tmp_path, "none", "here") | {"ATC_LEDGER": " "}
    with pytest.raises(WrongHomeError, match=r"ledger of what was sent cannot lie in a bucket: set ATC_LEDGER"):
        build_definitions(environment)


@pytest.mark.parametrize("address", ["s3://", "s3:///lake", "s3://shop/a/../b", "s3://shop/a//b"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    """With what was written, and what is expected."""
    with pytest.raises(WrongHomeError, match="is no s3://<bucket>/<prefix>"):
        home_of(host(tmp_path, "x", "here") | {"ATC_HOME": address}, PROJECT)


def test_commands_read_the_bucket(server: str, local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sql`` and ``explain`` on a host that has nothing of it yet."""
    settle(monkeypatch, server)
    upload(Path(local["ATC_HOME"]), "asked")
    environment = os.environ | host(tmp_path, "asked", "fresh")
    for arguments, expected in (
        (["sql", "select count(*) as n from journey_assignments"], "48"),
        (["explain", "c01", "--day", str(FIRST)], "c01"),
    ):
        asked = subprocess.run(
            [sys.executable, "-m", "atc_pipeline", *arguments], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
        )
        assert asked.returncode == 0, asked.stderr
        assert expected in asked.stdout
