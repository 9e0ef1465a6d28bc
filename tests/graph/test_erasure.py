"""The job ``erase_customer``: what it says, what it removes, and that the days after it go on as if nobody were missing."""

import json
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.definitions import build_definitions
from resources.delivery.ledger import Ledger
from resources.erasure.tombstones import Tombstones
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from tests.graph.small_world import DAYS, FIRST, JOURNEYS, line, make_world, run

pytestmark = pytest.mark.slow

THIRD, LAST = DAYS[2:]
MEASURED = JOURNEYS.replace(
    "traits:",
    "metrics: {revenue: {sum: revenue, of: Order Completed}}\n"
    "measurement: {money: revenue, window_days: 1, long_days: 1, late_days: 0}\ntraits:",
)
"""What is measured is known on the day after."""
HERS = ("c03", "c04", "phone", "anon:phone")
"""c04 became c03, whose phone it is; c05 used it once."""


def make_merging_world(folder: Path) -> dict[str, str]:
    """Write the small world, with a visitor who turns out to be c03, an alias of c04, and a device that c05 borrows."""
    environment = make_world(folder, MEASURED)
    bought = {"event": "Order Completed", "properties": {"revenue": 5}}
    for day in DAYS:
        lines = [
            line("", day, 100, userId=None, anonymousId="phone", **bought),
            line("c04", day, 102, **bought),
            line("c03", day, 103, type="trak"),
            '{"userId": "c03", "broken',
        ]
        if day > FIRST:
            lines.append(line("c05", day, 101, anonymousId="phone", **bought))
            lines.append(line("c03", day, 104, anonymousId="phone", timestamp=f"{day}T00:00:01Z", **bought))
            lines.append(line("c03", day, 105, type="alias", previousId="c04"))
        path = Path(environment["ATC_HOME"]) / "landing" / str(day) / "more.ndjson"
        path.write_text("\n".join(lines) + "\n")
    return environment


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three of four days of that world, sent for real: the outbox and the ledger know everybody, too."""
    environment = make_merging_world(tmp_path_factory.mktemp("world")) | {"ATC_LIVE": "true"}
    named = {"ops": {"activation": {"config": {"past_days": [str(day) for day in DAYS]}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, THIRD, instance=instance, config=named).success
    return environment


@pytest.fixture
def world(made: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A copy of it."""
    shutil.copytree(made["ATC_HOME"], tmp_path / "home")
    return made | {"ATC_HOME": str(tmp_path / "home")}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def erase(environment: dict[str, str], instance: dg.DagsterInstance, **config: object) -> dict[str, object]:
    """Run the job; return what it told, or raise what it failed with."""
    job = build_definitions(environment).resolve_job_def("erase_customer")
    result = job.execute_in_process(instance=instance, run_config={"ops": {"erase": {"config": config}}})
    (output,) = [event.step_output_data for event in result.all_events if event.is_successful_output]
    return {name: value.value for name, value in output.metadata.items()}


def named_in(home: Path, *names: str) -> set[str]:
    """Files with one of the ids in quotes: Parquet row by row, the rest line by line."""
    found = set()
    for path in home.rglob("*"):
        if path.is_file() and path.suffix != ".duckdb":
            is_table = path.suffix == ".parquet"
            rows = pl.read_parquet(path, hive_partitioning=False).iter_rows() if is_table else path.read_text().splitlines()
            for row in rows:
                text = json.dumps(row, default=str).replace("\\", "")
                if any(f'"{name}"' in text for name in names) and not ('"phone"' in text and '"c05"' in text):
                    found.add(path.relative_to(home).as_posix())
    return found


def others(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that are not hers."""
    columns = [name for name in ("customer_id", "user_id") if name in frame.columns]
    keep = frame.filter(~pl.any_horizontal(False, *(pl.col(name).is_in(HERS).fill_null(False) for name in columns)))
    if "anonymous_id" in frame.columns:
        keep = keep.filter(pl.col("user_id").is_not_null() | pl.col("anonymous_id").ne_missing("phone"))
    return keep.filter(~pl.col("raw").str.contains('"c03"')) if "raw" in frame.columns else keep


def test_a_dry_run_tells_everything_and_changes_nothing(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """Rows by table, ids by kind, and not a byte is written; asked for by an absorbed id or her phone, it is the same person."""
    home = Path(world["ATC_HOME"])
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    told = erase(world, instance, customer_id="c03")
    assert told["ids"] == "2 of users, 1 of anonymous visitors"
    measured = ("customer_metrics", "journey_entries", "entry_profiles", "journey_outcomes", "long_outcomes")
    for table in (
        "raw_events",
        "rejected_events",
        "identity_map",
        "customer_profiles",
        "journey_state",
        "landing",
        "outbox",
        "ledger",
        *measured,
    ):
        assert f"| {table} |" in str(told["would_be_removed"])
    assert "left" not in told
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    assert [erase(world, instance, customer_id=asked) for asked in ("c04", "anon:phone")] == [told, told]


def test_an_erased_person_is_nowhere_and_the_others_are_as_they_were(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """All tables of all days, landing zone, outbox and ledger; her phone stays where c05 used it."""
    home = Path(world["ATC_HOME"])
    lake = Lake(root=str(home / "lake"))
    before = {path: pl.read_parquet(path, hive_partitioning=False) for path in Path(lake.root).rglob("part.parquet")}
    assert len(named_in(home, *HERS)) > 30
    told = erase(world, instance, customer_id="c03", confirm=True, reference="GDPR-17")
    assert str(told["left"]).startswith("0 found in ")
    assert told["others_rows_left_same_device"] > 0
    assert named_in(home, *HERS) == set()
    for path, frame in before.items():
        assert pl.read_parquet(path, hive_partitioning=False).equals(others(frame)), path
    assert Ledger(home=str(home)).search(HERS).is_empty()
    assert not Ledger(home=str(home)).search(["c05"]).is_empty()
    assert not re.search("c03|c04|phone", "".join(path.read_text() for path in (home / "tombstones").iterdir()))


def test_the_days_after_go_on_without_them(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """The next day's run, whose landing zone still names them, passes every check and keeps them out; so does a re-run of all days
    from landing files that were put back."""
    home = Path(world["ATC_HOME"])
    landing = home / "landing"
    shutil.copytree(landing, home.with_name("backup"))
    erase(world, instance, customer_id="c03", confirm=True)
    shutil.copytree(home.with_name("backup") / str(LAST), landing / str(LAST), dirs_exist_ok=True)
    result = run(world, LAST, LAST, instance=instance)
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    counted = next(check for check in result.get_asset_check_evaluations() if check.check_name == "every_line_accounted_for")
    assert counted.metadata["erased"].value == 7
    assert {name for name in named_in(home, *HERS) if name.startswith("lake/")} <= {f"lake/rejected_events/date={LAST}/part.parquet"}
    lake = Lake(root=str(home / "lake"))
    once = {(table, day): lake.read(table, day).drop("^.*_percentile$") for table in ("raw_events", "customer_profiles") for day in DAYS}
    shutil.copytree(home.with_name("backup"), landing, dirs_exist_ok=True)
    again = run(world, FIRST, LAST, instance=instance)
    assert again.success
    assert all(check.passed for check in again.get_asset_check_evaluations() if check.severity == dg.AssetCheckSeverity.ERROR)
    # Ranks are among those who are left: days made again count one customer less than days she was taken out of.
    assert all(lake.read(table, day).drop("^.*_percentile$").equals(frame) for (table, day), frame in once.items())


def test_the_sensor_does_not_run_the_days_again(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """Landing files were rewritten, and for the sensor nothing has changed."""
    sensor = build_definitions(world).resolve_sensor_def("landing_zone")
    landing = LandingZone(root=f"{world['ATC_HOME']}/landing")
    with dg.build_sensor_context(instance=instance, cursor=None) as context:
        cursor = sensor(context, landing=landing).cursor
    erase(world, instance, customer_id="c03", confirm=True)
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        assert isinstance(sensor(context, landing=landing), dg.SkipReason)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"customer_id": "c3"}, "nothing is known of this customer_id.*even_if_unknown: true"),
        ({"customer_id": "c3", "confirm": True}, "nothing is known of this customer_id"),
        ({"customer_id": "-1"}, "identifies nobody"),
        ({"customer_id": "c03", "reference": "for C04, by phone"}, "reference contains an id"),
        ({"customer_id": "c05", "confirm": True, "same_text": ["landing.line"]}, "Nothing was removed.*raw_events.properties"),
    ],
)
def test_what_cannot_be_done_is_said_without_naming_anybody(
    world: dict[str, str], instance: dg.DagsterInstance, config: dict[str, object], says: str
) -> None:
    """Typing errors, blocked values, telltale references and text that may be somebody else's stop the job before it begins."""
    lake = Lake(root=f"{world['ATC_HOME']}/lake")
    events = lake.read("raw_events", FIRST)
    invited = pl.when(pl.col("user_id") == "c01").then(pl.lit('{"invited_by": "c05"}')).otherwise("properties")
    lake.write("raw_events", FIRST, events.with_columns(properties=invited))
    with pytest.raises(dg.Failure, match=says) as failure:
        erase(world, instance, **config)
    assert not re.search(r"\bc\d+\b", str(failure.value.description))
    assert not (Path(world["ATC_HOME"]) / "tombstones").exists()


def test_somebody_unknown_can_be_kept_out(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """With even_if_unknown the tombstone is laid for whoever may come; asked again, they are known as erased."""
    erase(world, instance, customer_id="c99", confirm=True, even_if_unknown=True)
    assert Tombstones(home=world["ATC_HOME"]).fingerprints().len() == 5
    assert erase(world, instance, customer_id="c99")["rows"] == 0


def test_events_newer_than_the_map_must_be_mapped_first(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """Which ids are whose is only known to the day of the latest map."""
    Lake(root=f"{world['ATC_HOME']}/lake").write("raw_events", LAST, pl.DataFrame({"user_id": ["c03"]}))
    with pytest.raises(dg.Failure, match=f"events of {LAST} are in, but identity_map ends on {THIRD}.*run that day first"):
        erase(world, instance, customer_id="c03")


def test_runs_whose_record_names_the_person_are_told(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """A failed check shows its rows, and Dagster keeps them: the job names that run, and no other names them."""
    lake = Lake(root=f"{world['ATC_HOME']}/lake")
    assert run(world, LAST, LAST, instance=instance).success
    members = lake.read("micro_segment_memberships", LAST)
    lake.write("micro_segment_memberships", LAST, members.filter(pl.col("customer_id") != "c03"))
    check = dg.AssetCheckKey(dg.AssetKey("micro_segment_memberships"), "everyone_is_in_a_segment")
    definitions = build_definitions(world)
    job = dg.define_asset_job("checked", dg.AssetSelection.checks(check))
    again = dg.Definitions(assets=definitions.assets, asset_checks=definitions.asset_checks, resources=definitions.resources, jobs=[job])
    failed = again.resolve_job_def("checked").execute_in_process(instance=instance, raise_on_error=False)
    told = erase(world, instance, customer_id="c03")
    assert told["runs_whose_record_names_them"] == f"- {failed.run_id}: checked"
    assert "| dagster | 1 | 1 |" in str(told["would_be_removed"])
    kept = erase(world, instance, customer_id="c03", same_text=["dagster"], confirm=True)
    assert "runs_whose_record_names_them" not in kept
    assert instance.get_run_by_id(failed.run_id) is not None
    assert erase(world, instance, customer_id="c03", confirm=True)["rows"] == 1
    assert instance.get_run_by_id(failed.run_id) is None
    assert len(instance.get_runs(dg.RunsFilter(job_name="erase_customer"))) == 1  # the last one, whose own record is kept for a day


def test_the_records_of_erasures_are_deleted_a_day_later(world: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their configuration names the person; the records of other runs stay."""
    sensor = build_definitions(world).resolve_sensor_def("forget_erasures")
    with dg.DagsterInstance.ephemeral() as instance:
        erase(world, instance, customer_id="c03")
        run(world, LAST, LAST, instance=instance, job="ingest_events")

        def look() -> str | None:
            with dg.build_sensor_context(instance=instance) as context:
                skipped = sensor(context)
            assert isinstance(skipped, dg.SkipReason)
            return skipped.skip_message

        assert look() == "0 records of erasures deleted"

        class Tomorrow(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:
                return datetime.now(tz) + timedelta(days=1, hours=1)

        monkeypatch.setattr("assets.jobs.forgetting.datetime", Tomorrow)
        assert look() == "1 records of erasures deleted"
        assert [one.job_name for one in instance.get_runs()] == ["ingest_events"]


def test_one_day_is_enough_to_be_erased(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """Where only events were ingested, and nothing else exists yet, the id stands for itself."""
    environment = make_world(tmp_path)
    assert run(environment, FIRST, FIRST, instance=instance, job="ingest_events").success
    shutil.rmtree(Path(environment["ATC_HOME"]) / "lake" / "identity_map", ignore_errors=True)
    assert erase(environment, instance, customer_id="c01", confirm=True)["ids"] == "1 of users, 0 of anonymous visitors"
    assert named_in(Path(environment["ATC_HOME"]), "c01") == set()


def test_days_in_parts_are_searched_and_the_next_day_is_made_of_them(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """Made by shard, a person lies in one part of each table, whose others are as they were; and the next day keeps her out."""
    world = make_merging_world(tmp_path) | {"ATC_SHARDS": "3"}
    home = Path(world["ATC_HOME"])
    assert run(world, FIRST, THIRD, instance=instance).success
    parts = {path: pl.read_parquet(path, hive_partitioning=False) for path in (home / "lake").rglob("shard=*/part.parquet")}
    assert len(parts) > 50
    told = erase(world, instance, customer_id="c03", confirm=True)
    assert str(told["left"]).startswith("0 found in ")
    assert named_in(home, *HERS) == set()
    assert [path for path, frame in parts.items() if not pl.read_parquet(path, hive_partitioning=False).equals(others(frame))] == []
    result = run(world, LAST, LAST, instance=instance)
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert {name for name in named_in(home, *HERS) if name.startswith("lake/")} <= {f"lake/rejected_events/date={LAST}/part.parquet"}
