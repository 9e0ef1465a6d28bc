"""Dagster's records in SQLite, kept open: what they say is what the stock log says."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite import sqlite_event_log

from resources.storage import history
from resources.storage.history import keep_open
from tests.graph.small_world import FIRST, make_world, run

TABLE = dg.AssetKey("table")
TABLES = {
    "event_logs": "dagster_event_type, asset_key, partition, step_key",
    "asset_keys": "asset_key, last_materialization is not null, last_run_id is not null",
    "asset_event_tags": "asset_key, key, event_id",
    "asset_check_executions": "asset_key, check_name, partition, execution_status, evaluation_event_storage_id",
}


def recorded(storage: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return what every file of an instance's event log says, but for names of runs and times."""
    rows: dict[str, list[tuple[object, ...]]] = {}
    for path in sorted((storage / "history" / "runs").glob("*.db")):
        with closing(sqlite3.connect(path)) as database:
            for table, columns in TABLES.items():
                key = f"{'index' if path.stem == 'index' else 'run'}.{table}"
                rows[key] = rows.get(key, []) + list(database.execute(f"select {columns} from {table} order by rowid"))  # noqa: S608
    return rows


@pytest.mark.slow
def test_the_history_is_that_of_the_stock_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same events, asset keys, tags and checks, in the same order, for a range of days with all checks."""
    for name in ("stock", "kept"):
        if name == "stock":
            monkeypatch.setattr("assets.daily.keep_open", lambda _: None)
        else:
            monkeypatch.undo()
        (tmp_path / name / "dagster").mkdir(parents=True)
        with dg.DagsterInstance.local_temp(str(tmp_path / name / "dagster")) as instance:
            assert run(make_world(tmp_path / name), FIRST, FIRST + timedelta(days=2), instance=instance).success

    kept = recorded(tmp_path / "kept" / "dagster")
    assert kept == recorded(tmp_path / "stock" / "dagster")
    assert {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"} <= {row[0] for row in kept["index.event_logs"]}


def test_files_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events are asked for, by as many instances of this process as there are."""
    opened: list[str] = []
    stock = sqlite_event_log.create_engine
    monkeypatch.setattr(sqlite_event_log, "create_engine", lambda address, **more: (opened.append(address), stock(address, **more))[1])
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert keep_open(instance) is None
        assert keep_open(instance) is None
        opened.clear()
        for _ in range(3):
            instance.report_runless_asset_event(dg.AssetMaterialization(TABLE))
        assert len(instance.fetch_materializations(TABLE, limit=10).records) == 3
    assert all("index" in address for address in opened)  # has_table, which opens nothing for good


def test_another_storage_is_left_as_it_is() -> None:
    """Nothing of an instance in memory is changed."""
    with dg.DagsterInstance.ephemeral() as instance:
        keep_open(instance)
        assert "_connect" not in vars(instance.event_log_storage)


def test_another_version_is_left_as_it_is_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this stands on may be another there: Dagster's own log goes on, and why is told."""
    monkeypatch.setattr(history, "dagster_version", "1.14.0")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        slower = keep_open(instance)
        assert slower is not None
        assert slower.startswith("Dagster 1.14.0 is another than resources/storage/history.py knows")
        assert "_connect" not in vars(instance.event_log_storage)
        instance.report_runless_asset_event(dg.AssetMaterialization(TABLE))
        assert len(instance.fetch_materializations(TABLE, limit=10).records) == 1
