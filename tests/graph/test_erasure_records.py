"""Erasing somebody from everything on disk, searched byte by byte by means that share nothing with what is tested."""

import gzip
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import polars as pl
import pytest
import zstandard

from atc_pipeline.definitions import build_definitions
from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, FIRST, JOURNEYS, line, make_world, run

pytestmark = pytest.mark.slow

ZOE = "Zoe.Kern+shop@mail.example"
PHONE = "f3a9c1d0-77aa-4f0e-8f5e-zoe"
LAST = DAYS[-1]


def ways(name: str) -> list[bytes]:
    """The id as bytes, in every coding that somebody may look for."""
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in name)
    percent = "".join(f"%{ord(letter):02x}" for letter in name)
    texts = [name, name.replace("@", "`@`"), quote(name, safe=""), quote(quote(name, safe=""), safe=""), escaped, percent]
    return [text.lower().encode(coding) for text in texts for coding in ("utf-8", "utf-16-le", "utf-16-be")]


def bytes_of(path: Path) -> Iterator[bytes]:
    """What is in a file: as it is, unpacked, and row by row."""
    data = path.read_bytes()
    yield data
    if path.suffix == ".gz":
        yield gzip.decompress(data)
    if path.suffix == ".zst":
        yield zstandard.ZstdDecompressor().decompressobj().decompress(data)
    if path.suffix == ".parquet":
        yield json.dumps(pl.read_parquet(path, hive_partitioning=False).rows(), default=str, ensure_ascii=False).encode()


def files_that_name(*names: str, under: list[Path]) -> set[str]:
    """Files, and names of files, that have one of the ids in any coding."""
    sought = [way for name in names for way in ways(name)]
    found = set()
    for root in under:
        for path in root.rglob("*"):
            contents = [path.name.encode(), *(bytes_of(path) if path.is_file() else ())]
            if any(way in content.lower() for content in contents for way in sought):
                found.add(path.relative_to(root.parent).as_posix())
    return found


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    """The small world, with Zoe in it: a user, her phone, and packed files."""
    environment = make_world(tmp_path / "world", JOURNEYS) | {"ATC_LIVE": "true"}
    for day in DAYS:
        bought = {"event": "Order Completed", "properties": {"revenue": 5, "mail": ZOE}}
        lines = [
            line(ZOE, day, 100, anonymousId=PHONE, **bought),
            line("", day, 101, userId=None, anonymousId=PHONE, **bought),
            json.dumps({"userId": ZOE, "type": "trak"}),
            '{"userId": "' + "".join(f"\\u{ord(letter):04x}" for letter in ZOE) + '", "broken',
        ]
        data = ("\n".join(lines) + "\n").encode()
        folder = Path(environment["ATC_HOME"]) / "landing" / str(day)
        (folder / "zs.ndjson.zst").write_bytes(zstandard.compress(data))
        (folder / "gz.jsonl.gz").write_bytes(gzip.compress(data.replace(b"-10", b"-11")))
    return environment


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that keeps its history in files, as Dagster does by default."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def definitions_with_a_talkative_job(environment: dict[str, str]) -> dg.Definitions:
    """The code location, with a check that fails and shows her, and a job whose log and error name her."""

    @dg.op
    def talk(context: dg.OpExecutionContext) -> None:
        context.log.info("looking at %s", ZOE)
        print(f"seen: {ZOE}")  # noqa: T201
        raise ValueError(f"customer {ZOE!r} is odd")

    @dg.job
    def talkative() -> None:
        talk()

    check = dg.AssetCheckKey(dg.AssetKey("micro_segment_memberships"), "everyone_is_in_a_segment")
    checked = dg.define_asset_job("checked", dg.AssetSelection.checks(check))
    built = build_definitions(environment)
    return dg.Definitions(
        assets=built.assets, asset_checks=built.asset_checks, resources=built.resources, jobs=[*(built.jobs or []), checked, talkative]
    )


def erase(definitions: dg.Definitions, instance: dg.DagsterInstance, **config: Any) -> dict[str, Any]:
    """Run the job; return what it told."""
    job = definitions.resolve_job_def("erase_customer")
    result = job.execute_in_process(instance=instance, run_config={"ops": {"erase": {"config": config}}})
    (output,) = [event.step_output_data for event in result.all_events if event.is_successful_output]
    return {name: value.value for name, value in output.metadata.items()}


def test_no_byte_is_left_in_the_lake_or_in_dagsters_home(
    world: dict[str, str], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """After a year's kind of runs, failing checks, an error and a log that name her: gone from every file, in every coding; the runs
    of others stay. What is left names her for a day, in the record of the erasure, and the sensor leaves nothing of that either."""
    home = Path(world["ATC_HOME"])
    definitions = definitions_with_a_talkative_job(world)
    named = {"ops": {"activation": {"config": {"past_days": [str(day) for day in DAYS]}}}}
    daily = run(world, FIRST, LAST, instance=instance, config=named)
    lake = Lake(root=f"{home}/lake")
    members = lake.read("micro_segment_memberships", LAST)
    lake.write("micro_segment_memberships", LAST, members.filter(pl.col("customer_id") != ZOE))
    runs = [
        definitions.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False) for job in ("checked", "talkative")
    ]
    everywhere = [home, Path(instance.root_directory)]
    before = files_that_name(ZOE, PHONE, under=everywhere)
    for kind in ("dagster_home/history/runs/index.db", f"history/runs/{runs[0].run_id}.db", "compute_logs", "home/outbox", "home/ledger"):
        assert any(kind in path for path in before), kind
    told = erase(definitions, instance, customer_id=ZOE)
    assert {one.split(":")[0] for one in told["runs_whose_record_names_them"].splitlines()} == {f"- {one.run_id}" for one in runs}
    capfd.readouterr()
    erase(definitions, instance, customer_id=ZOE, confirm=True)
    shown = capfd.readouterr().err
    assert f"  {runs[0].run_id}: checked" in shown
    (own,) = instance.get_runs(dg.RunsFilter(job_name="erase_customer"))
    left = files_that_name(ZOE, PHONE, under=everywhere)
    assert {path for path in left if own.run_id not in path} <= {"dagster_home/history/runs.db"}
    assert {one.run_id for one in instance.get_runs()} == {daily.run_id, own.run_id}
    assert lake.has("journey_assignments", LAST)

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=1, hours=1)

    monkeypatch.setattr("assets.jobs.forgetting.datetime", Tomorrow)
    with dg.build_sensor_context(instance=instance) as context:
        build_definitions(world).resolve_sensor_def("forget_erasures")(context)
    assert files_that_name(ZOE, PHONE, under=everywhere) == set()
    assert [one.run_id for one in instance.get_runs()] == [daily.run_id]
    assert not re.search("(?i)zoe", "".join(path.read_text() for path in (home / "tombstones").iterdir()))


def test_whoever_was_written_otherwise_is_told_and_erased_with_them(
    world: dict[str, str], instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ids in capitals, with blanks and coded are customers of their own: the report says where and how, nothing is removed until
    each place is decided, those named in also go with her, and prose that is said to mean something else stays."""
    home = Path(world["ATC_HOME"])
    coded = quote(quote(ZOE, safe=""), safe="")
    lines = [
        line(ZOE.upper(), FIRST, 120, event="Seen"),
        line(f" {ZOE}\u200b", FIRST, 121, event="Seen"),
        line("", FIRST, 122, userId=None, anonymousId=coded, event="Seen"),
        line("c01", FIRST, 123, event="Seen", properties={"url": f"https://shop.example/?u={quote(ZOE)}&v=1"}),
        json.dumps({"userId": "c02", "type": "track", "event": "Seen", "timestamp": f"{FIRST}T09:00:00Z"})[:-1]
        + f', "anonymousId": "{ZOE}", "anonymousId": "x"}}',
    ]
    (home / "landing" / str(FIRST) / "others.ndjson").write_text("\n".join(lines) + "\n")
    assert run(world, FIRST, FIRST, instance=instance).success
    definitions = build_definitions(world)
    told = erase(definitions, instance, customer_id=ZOE)
    written = str(told["how_it_is_written_there"]).replace("\\", "").replace("`", "")
    for place in ("customer_profiles.customer_id", "identity_map.id", "raw_events.user_id", "raw_events.properties", "landing.line"):
        assert f"| {place} |" in str(told["same_text_elsewhere"]).replace("\\", "")
    for way in (ZOE.upper(), coded, f"url: https://shop.example/?u={quote(ZOE)}", f"anonymousId: {ZOE}"):
        assert way in written, way
    assert f'also: [" {ZOE}\\u200b", "{ZOE.upper()}", "anon:{coded}"]' in capfd.readouterr().err
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    with pytest.raises(dg.Failure, match=r"Nothing was removed.*customer_profiles\.customer_id .*name it in also"):
        erase(definitions, instance, customer_id=ZOE, confirm=True)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    also = [ZOE.upper(), f" {ZOE}\u200b", f"anon:{coded}"]
    decided = ["raw_events.properties", "landing.line"]
    erase(definitions, instance, customer_id=ZOE, confirm=True, also=also, same_text=decided)
    left = files_that_name(ZOE, PHONE, under=[home])
    assert left == {f"home/landing/{FIRST}/others.ndjson", f"home/lake/raw_events/date={FIRST}/part.parquet"}
    assert (home / "landing" / str(FIRST) / "others.ndjson").read_text().split("\n")[:3] == ["", "", ""]
    assert run(world, FIRST, FIRST, instance=instance).success
    assert files_that_name(ZOE, PHONE, under=[home / "lake" / "customer_profiles", home / "lake" / "identity_map"]) == set()


def test_a_database_that_is_being_read_is_written_anew_at_the_next_look(
    world: dict[str, str], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody reads it SQLite must keep what was deleted: the sensor says so, and remembers; the job asks to be run again."""
    run(world, FIRST, FIRST, instance=instance, job="ingest_events")
    definitions = build_definitions(world)
    erase(definitions, instance, customer_id=ZOE)
    monkeypatch.setattr("assets.jobs.forgetting.A_DAY", timedelta(days=-1))
    monkeypatch.setattr("resources.erasure.records.BUSY_SECONDS", 0.1)
    sensor = definitions.resolve_sensor_def("forget_erasures")
    database = Path(instance.root_directory) / "history" / "runs.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from runs").fetchall()
        with dg.build_sensor_context(instance=instance) as context:
            skipped = sensor(context)
            assert isinstance(skipped, dg.SkipReason)
            assert str(skipped.skip_message).startswith("1 records of erasures deleted; SQLite keeps their bytes, until the next look")
            assert context.cursor
        with pytest.raises(dg.Failure, match=r"Run this again: Dagster's database is in use"):
            erase(definitions, instance, customer_id=ZOE, confirm=True)
    with dg.build_sensor_context(instance=instance, cursor=context.cursor) as again:
        sensor(again)
        assert not again.cursor
    assert files_that_name(ZOE, under=[Path(instance.root_directory)]) == set()


def test_checks_of_runs_that_were_deleted_by_hand_are_forgotten(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """``dagster run delete`` leaves the results of checks behind, and the bytes of the rest: the next erasure does not."""
    definitions = definitions_with_a_talkative_job(world)
    run(world, FIRST, FIRST, instance=instance)
    lake = Lake(root=f"{world['ATC_HOME']}/lake")
    members = lake.read("micro_segment_memberships", FIRST)
    lake.write("micro_segment_memberships", FIRST, members.filter(pl.col("customer_id") != ZOE))
    failed = definitions.resolve_job_def("checked").execute_in_process(instance=instance, raise_on_error=False)
    instance.delete_run(failed.run_id)
    assert any("index.db" in path for path in files_that_name(ZOE, under=[Path(instance.root_directory)]))
    told = erase(definitions, instance, customer_id=ZOE, confirm=True)
    assert told["runs_whose_record_names_them"] == f"- {failed.run_id}: deleted, its checks are not"
    (own,) = instance.get_runs(dg.RunsFilter(job_name="erase_customer"))
    left = files_that_name(ZOE, under=[Path(instance.root_directory)])
    assert {path for path in left if own.run_id not in path} <= {"dagster_home/history/runs.db"}


def test_a_count_is_no_customer(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """Of a customer called 12, the twelve rows of a table say nothing; a row that a check shows does."""
    world = world | {"ATC_HOME": f"{world['ATC_HOME']}-of-numbers"}
    landing = Path(world["ATC_HOME"]) / "landing" / str(FIRST)
    landing.mkdir(parents=True)
    lines = [line(str(number), FIRST, number, event="Order Completed", properties={"revenue": 5}) for number in range(1, 13)]
    (landing / "events.ndjson").write_text("\n".join(lines) + "\n")
    definitions = definitions_with_a_talkative_job(world)
    run(world, FIRST, FIRST, instance=instance)
    lake = Lake(root=f"{world['ATC_HOME']}/lake")
    members = lake.read("micro_segment_memberships", FIRST)
    lake.write("micro_segment_memberships", FIRST, members.filter(pl.col("customer_id") != "12"))
    failed = definitions.resolve_job_def("checked").execute_in_process(instance=instance, raise_on_error=False)
    told = erase(definitions, instance, customer_id="12")
    assert told["runs_whose_record_names_them"] == f"- {failed.run_id}: checked"


def test_records_elsewhere_in_dagsters_home_are_told(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """A tick's log that names her is of no run: the erasure names the file, and goes on when told that it means something else."""
    run(world, FIRST, FIRST, instance=instance, job="ingest_events")
    (Path(instance.root_directory) / "storage" / "ticks.err").write_text(f"odd: {ZOE.upper()}\n")
    definitions = definitions_with_a_talkative_job(world)
    with pytest.raises(dg.Failure, match=r"Nothing was removed.* in dagster/ticks\.err \(1 rows\)"):
        erase(definitions, instance, customer_id=ZOE, confirm=True)
    assert erase(definitions, instance, customer_id=ZOE, confirm=True, same_text=["dagster/ticks.err"])["left"]
    shutil.rmtree(world["ATC_HOME"])
