"""A day in parts: read as one table, put in place as a whole, found again after a kill, erased and asked for as any other."""

from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest

from assets.checks import all_checks
from atc_pipeline.identity.tables import IDENTITY_MAP
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.rules.shards import shard_of
from atc_pipeline.tables.store import MissingDayError
from resources.journeys import JourneysFile
from resources.runners import Runner, WrongRunnerError
from resources.storage import parts
from resources.storage.files import put_folder
from resources.storage.kept import KeptPage
from resources.storage.lake import DamagedFileError, Lake
from resources.storage.spill import RunEndedError, Spill
from resources.storage.warehouse import Warehouse
from tests.graph.small_world import DAYS, make_world, run

DAY = date(2026, 3, 1)
NAMES = [f"c{number:03}" for number in range(100)]
SHARDS = 3
FINGERPRINT = "0123456789ab"


def write(lake: Lake, *, rows: pl.DataFrame | None = None, day: date = DAY, table: str = "t") -> pl.DataFrame:
    """Write a day in three parts, as a run does; return its rows."""
    frame = pl.DataFrame({"date": [day] * 100, "customer_id": NAMES}) if rows is None else rows
    for number in range(SHARDS):
        part = frame.filter(shard_of("customer_id", SHARDS) == number)
        lake.write_part(table, day, parts.writer(), number, part, {"a": "1"}, FINGERPRINT)
    lake.publish(table, day, SHARDS, {"a": "1"})
    return frame


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(root=str(tmp_path / "lake"))


def test_a_day_in_parts_is_read_as_one_table(lake: Lake) -> None:
    """All rows, in the order of the shards; days of both kinds beside each other."""
    rows = write(lake)
    lake.write("t", date(2026, 3, 2), rows.with_columns(date=date(2026, 3, 2)))
    assert lake.days("t") == [DAY, date(2026, 3, 2)]
    assert lake.read("t", DAY).sort("customer_id").equals(rows)
    both = lake.scan("t", lake.days("t"))
    assert both is not None
    assert both.collect().height == 200
    assert (lake.shards_of("t", DAY), lake.shards_of("t", date(2026, 3, 2))) == (SHARDS, 1)
    assert lake.definitions("t", DAY) == {"a": "1"}
    assert lake.written_by("t", DAY).portfolio == FINGERPRINT
    assert lake.size("t", DAY) == sum(path.stat().st_size for path in Path(lake.root).rglob("part.parquet")) - lake.size(
        "t", lake.days("t")[1]
    )


def test_a_part_is_found_by_its_number_and_of_another_number_of_them_there_is_none(lake: Lake) -> None:
    """A shard reads one file."""
    write(lake)
    part = lake.part("t", DAY, 1, SHARDS)
    assert part is not None
    assert part.select((shard_of("customer_id", SHARDS) == 1).all()).collect().item()
    assert lake.part("t", DAY, 1, SHARDS + 1) is None


def test_a_day_is_published_with_all_its_parts_or_not_at_all(lake: Lake) -> None:
    """A part that was never written keeps the day as it was."""
    before = write(lake)
    lake.write_part("t", DAY, parts.writer(), 0, before.head(1))
    with pytest.raises(FileNotFoundError, match="shards 1, 2 of 3 were never written"):
        lake.publish("t", DAY, SHARDS, None)
    assert lake.read("t", DAY).height == 100
    lake.recover(DAY)
    assert [path.name for path in (Path(lake.root) / "t").iterdir()] == [f"date={DAY}"]


def test_a_version_differs_when_any_part_does(lake: Lake) -> None:
    """What stands on the day is stale then."""
    rows = write(lake)
    first = lake.version("t", DAY)
    write(lake)
    assert lake.version("t", DAY) == first
    write(lake, rows=rows.head(99))
    assert lake.version("t", DAY) != first


def test_a_day_goes_from_parts_to_one_piece_and_back(lake: Lake) -> None:
    """Whoever changes ATC_SHARDS changes days that are made from then on."""
    rows = write(lake)
    lake.write("t", DAY, rows.head(5))
    assert (lake.shards_of("t", DAY), lake.read("t", DAY).height) == (1, 5)
    write(lake)
    assert (lake.shards_of("t", DAY), lake.read("t", DAY).height) == (SHARDS, 100)
    assert {path.name for path in (Path(lake.root) / "t" / f"date={DAY}").iterdir()} == {"manifest.json", *(f"shard={n}" for n in range(3))}


def test_what_an_attempt_by_shard_has_left_is_no_part_of_a_day_in_one_piece(lake: Lake, tmp_path: Path) -> None:
    """Whoever reads all files of the day, as DuckDB does, finds no rows twice."""
    rows = write(lake)
    lake.write_part("t", DAY, parts.writer(), 0, rows, {"a": "1"}, FINGERPRINT)  # and then its run fails
    lake.write("t", DAY, rows)
    assert Warehouse(home=str(tmp_path), lake=lake.root).query("select count(*) as n from t").item() == 100


def test_a_manifest_names_nobody(lake: Lake) -> None:
    """An id that is a number, as in it, is no trace of anybody: an erasure need not be told that it is only the same text."""
    write(lake)
    assert [type(file) for file in lake.kept() if file.path.name == parts.MANIFEST] == [KeptPage]


def test_a_task_of_a_run_that_has_ended_leaves_nothing(tmp_path: Path) -> None:
    """A cluster may not know that the run was killed; its folder is not made again."""
    with Spill(tmp_path) as spill:
        left = spill.left()
        left.put("a", 1)
        assert left.take("a") == 1
    with pytest.raises(RunEndedError, match="nothing is written for it any more"):
        left.put("b", 2)
    with pytest.raises(RunEndedError):
        left.park("c", pl.DataFrame({"x": [1]}))
    assert list(tmp_path.iterdir()) == []


def test_one_damaged_part_is_a_damaged_day(lake: Lake) -> None:
    """It is said which file."""
    write(lake)
    path = parts.part_of(Path(lake.root) / "t" / f"date={DAY}", 2)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"shard=2/part\.parquet: damaged"):
        lake.lazy("t", DAY)


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_a_killed_process_had_whole_is_put_in_place_and_the_rest_is_removed(lake: Lake, *, is_whole: bool) -> None:
    """Between the two renames the old day is aside and the new one is not there yet; whatever number the process had."""
    rows = write(lake)
    folder = Path(lake.root) / "t" / f"date={DAY}"
    write(lake, rows=rows.head(50))
    new, old = (folder.with_name(f".{folder.name}.{kind}.1-0123456789ab") for kind in ("new", "old"))
    folder.rename(new)
    write(lake)
    folder.rename(old)
    if not is_whole:
        (new / "manifest.json").unlink()
    with pytest.raises(MissingDayError):
        lake.lazy("t", DAY)
    lake.recover(DAY)
    assert lake.read("t", DAY).height == (50 if is_whole else 100)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_attempt_that_failed_does_not_take_the_day_with_it(lake: Lake) -> None:
    """The second rename fails: the old day is put back."""
    write(lake)
    folder = Path(lake.root) / "t" / f"date={DAY}"
    with pytest.raises(FileNotFoundError):
        put_folder(folder.with_name("nothing"), folder, folder.with_name(".old"))
    assert lake.read("t", DAY).height == 100


@pytest.mark.parametrize("damage", ["manifest", "part"])
def test_a_day_that_lost_a_file_is_damaged_and_says_what_to_do(lake: Lake, damage: str) -> None:
    """A power cut may leave a name without its content."""
    write(lake)
    folder = Path(lake.root) / "t" / f"date={DAY}"
    if damage == "manifest":
        (folder / "manifest.json").write_text("")
    else:
        parts.part_of(folder, 1).unlink()
    with pytest.raises(DamagedFileError, match=r"damaged \(.*Materialize t for 2026-03-01 again"):
        lake.lazy("t", DAY)


def test_duckdb_reads_days_of_both_kinds(lake: Lake, tmp_path: Path) -> None:
    """The view has the columns of the table, and not the number of the shard."""
    rows = write(lake)
    lake.write("t", date(2026, 3, 2), rows.with_columns(date=date(2026, 3, 2)))
    warehouse = Warehouse(home=str(tmp_path), lake=lake.root)
    assert warehouse.publish() == ["t"]
    lake.write("t", DAY, rows.head(3))  # after the views were made, a day becomes one of the other kind
    write(lake, day=date(2026, 3, 2), rows=rows.with_columns(date=date(2026, 3, 2)))
    with duckdb.connect(warehouse.path, read_only=True) as connection:
        assert connection.sql("select date, count(*) from t group by date order by date").fetchall() == [(DAY, 3), (date(2026, 3, 2), 100)]
    write(lake)
    counted = warehouse.query("select date, count(*) as n from t group by date order by date")
    assert counted.rows() == [(DAY, 100), (date(2026, 3, 2), 100)]
    assert warehouse.query("select * from t limit 1").columns == ["date", "customer_id"]


def test_a_customer_in_the_part_of_another_shard_is_said(tmp_path: Path) -> None:
    """The check of the schema sees it, as else a key could be there twice."""
    environment = make_world(tmp_path)
    lake = Lake(root=f"{environment['ATC_HOME']}/lake")
    journeys = JourneysFile(path=environment["ATC_JOURNEYS"], home=environment["ATC_HOME"])
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, DAYS[0], DAYS[0], instance=instance).success
    frame = lake.read("identity_map", DAYS[0])
    for number in range(2):
        lake.write_part("identity_map", DAYS[0], parts.writer(), number, frame.slice(0, 6) if number == 0 else frame.slice(6))
    lake.publish("identity_map", DAYS[0], 2, None)
    [check] = [each for each in all_checks(load_portfolio(Path(journeys.path))) if {str(key.name) for key in each.check_keys} == {"schema"}
               and next(iter(each.check_keys)).asset_key == dg.AssetKey(IDENTITY_MAP.name)]  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        job = dg.Definitions(
            assets=[dg.AssetSpec("identity_map")], asset_checks=[check], resources={"lake": lake, "journeys": journeys}
        ).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    [evaluation] = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert "is in shard" in str(evaluation.metadata["first_failing_rows"].value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ATC_RUNNER": "yarn"}, "expected local, spark://<host>:<port> or sc://<host>:<port>"),
        ({"ATC_SHARDS": "some"}, "expected a number from 1 to 1,000"),
        ({"ATC_SHARDS": "0"}, "expected a number from 1 to 1,000"),
        ({"ATC_RUNNER": "sc://host:1"}, "say of how many shards"),
        ({"ATC_RUNNER": "yarn;token=SECRET"}, "is 'yarn': expected"),
        ({"ATC_SHARDS": "2", "ATC_HOME": "s3://bucket/home"}, "a bucket has no folders"),
    ],
)
def test_settings_that_name_no_runner_are_refused(settings: dict[str, str], says: str) -> None:
    """By which setting, and what would do."""
    with pytest.raises(WrongRunnerError, match=says):
        Runner.from_environment(settings)


def test_a_token_is_shown_to_nobody() -> None:
    """Dagster shows what a resource is configured with."""
    runner = Runner.from_environment({"ATC_RUNNER": "sc://host:443/;use_ssl=true;token=SECRET", "ATC_SHARDS": "2"})
    assert runner.address == "sc://host:443/"
