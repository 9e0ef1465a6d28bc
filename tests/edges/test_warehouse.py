"""The SQL door: it reads the lake, opens nothing else and writes nothing.

What belongs here: attacks through ``sql``, and lakes in odd places. What does not: what the tables hold.
"""

import resource
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest

from resources.storage.lake import Lake
from resources.storage.warehouse import Warehouse

DAY = date(2026, 1, 1)


def warehouse_in(home: Path) -> Warehouse:
    """Return the door to a lake with one table of one day."""
    Lake(root=str(home / "lake")).write("journey_funnel", DAY, pl.DataFrame({"date": [DAY], "journey_id": ["welcome"]}))
    return Warehouse(home=str(home), lake=str(home / "lake"))


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "attack",
    [
        # writing
        "copy (select 1) to '{part}' (format parquet)",
        "copy (select 1) to '{outside}/new.csv'",
        "explain analyze copy (select 1) to '{part}'",
        "EXPLAIN (analyze, format json) copy (select 1) to '{part}'",
        "explain /* */ analyze copy (select 1) to '{part}'",
        "copy (pivot journey_funnel on journey_id) to '{part}'",
        "with x as (copy (select 1) to '{part}') from x",
        "from journey_funnel where journey_id in (with x as (copy (select 1) to '{part}') from x)",
        "from query('with x as (copy (select 1) to ''{part}'') from x')",
        "explain analyze with x as (copy (select 1) to '{part}') from x",
        "from json_execute_serialized_sql(json_serialize_sql('with x as (copy (select 1) to ''{part}'') from x'))",
        "from enable_profiling(save_location := '{lake}/profile.json')",
        "select 1; copy (select 1) to '{part}'",
        "from query('copy (select 1) to ''{part}''')",
        "export database '{outside}/export'",
        "export database '{lake}/export'",
        "attach '{lake}/own.db'; create table own.t as select 1",
        "create table t as select 1",
        "insert into journey_funnel select * from journey_funnel",
        "with x as (insert into journey_funnel values ('a') returning *) from x",
        "drop view journey_funnel",
        # reading what is not the lake
        "from read_text('{outside}/secret.csv')",
        "from '{outside}/secret.csv'",
        "from read_csv('{lake}/../outside/secret.csv')",
        "from read_blob('{lake}/journey_funnel/../../outside/secret.csv')",
        "from glob('{outside}/*')",
        "from glob('{lake}/../*')",
        "from parquet_metadata('{outside}/secret.csv')",
        "from sniff_csv('{outside}/secret.csv')",
        "from read_ndjson_objects('/etc/passwd')",
        "from read_text('/proc/self/environ')",
        "attach '{outside}/other.db'",
        "select getenv('HOME')",
        # changing what may be read
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "set allowed_directories = ['/']",
        "reset enable_external_access",
        "pragma enable_logging",
        "call enable_logging()",
        "prepare p as select 1",
        "",
    ],
)
def test_a_query_reads_the_lake_and_nothing_else(tmp_path: Path, attack: str) -> None:
    """No statement writes, neither into the lake nor elsewhere; no function opens another file; no setting is given back."""
    warehouse = warehouse_in(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text("a,b\n1,2\n")
    lake = tmp_path / "lake"
    part = lake / "journey_funnel" / f"date={DAY}" / "part.parquet"
    before = contents(tmp_path)

    with pytest.raises(duckdb.Error):
        warehouse.query(attack.format(part=part, outside=outside, lake=lake))

    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "query",
    [
        "select journey_id from journey_funnel",
        "FROM journey_funnel;",
        "with f as (from journey_funnel) select * from f",
        "describe journey_funnel",
        "show tables",
        "explain select * from journey_funnel",
        "explain analyze from journey_funnel",
        "pivot journey_funnel on journey_id in ('welcome') using count(*)",
        "select day from (select unnest(generate_series(date '2026-01-01', date '2026-01-03', interval 1 day)) as day)",
        "from range(3) union all select 'copy'",
        "with recursive r as (select 1 as a union all select a + 1 from r where a < 3) from r",
    ],
)
def test_whatever_reads_is_answered(tmp_path: Path, query: str) -> None:
    """The door is for questions of every form."""
    assert warehouse_in(tmp_path).query(query).height


def test_a_pivot_without_values_is_told_how_to_be_written(tmp_path: Path) -> None:
    """It would have to create a type first."""
    with pytest.raises(duckdb.Error, match=r"name the values, as in pivot t on x in \('a', 'b'\)"):
        warehouse_in(tmp_path).query("pivot journey_funnel on journey_id using count(*)")


@pytest.mark.parametrize("name", ["[2026]", "it's", "a*b", "{x}", "ü 1", "$HOME", "~"])
def test_a_lake_may_be_anywhere(tmp_path: Path, name: str) -> None:
    """Paths are names, never patterns: in the door and in the file others open."""
    (tmp_path / "2").mkdir()
    warehouse = warehouse_in(tmp_path / name)

    assert warehouse.query("select journey_id from journey_funnel").item() == "welcome"
    warehouse.publish()
    with duckdb.connect(str(warehouse.path), read_only=True) as connection:
        assert connection.sql("select journey_id from journey_funnel").fetchall() == [("welcome",)]
        comment = connection.sql("select comment from duckdb_views() where view_name = 'journey_funnel'").fetchall()
    assert comment == [(f"All days of journey_funnel in {tmp_path / name / 'lake'}. Moved? The next run writes the views anew.",)]


def test_a_full_disk_leaves_the_views_that_were_there(tmp_path: Path) -> None:
    """DuckDB closes a file that it could not write without a word: the old one stays, nothing is left beside it, and it is told."""
    Lake(root=str(tmp_path / "lake")).write("numbers", date(2026, 1, 1), pl.DataFrame({"n": [1]}))
    warehouse = Warehouse(home=str(tmp_path), lake=str(tmp_path / "lake"))
    warehouse.publish()
    before = warehouse.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (0, 5_000, len(before) - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        try:
            with pytest.raises(dg.Failure, match="Is the disk full"):
                warehouse.publish()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert warehouse.path.read_bytes() == before
        assert {path.name for path in tmp_path.iterdir()} == {"lake", warehouse.path.name}
