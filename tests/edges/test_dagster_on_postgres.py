"""Dagster's own records in PostgreSQL: what is done with them in files is done with them there."""

import json
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.events import EngineEventData

from assets.jobs.dead_runs import dead_runs
from atc_pipeline.definitions import build_definitions
from resources.storage.processes import HOST
from tests.edges.postgres import Postgres, name_of
from tests.edges.web import ROOT
from tests.graph.small_world import FIRST, line, make_world, run

pytestmark = pytest.mark.slow

ZOE = "zoe.kern@mail.example"
RECORDS = ["event_logs", "runs", "run_tags", "asset_check_executions", "asset_keys", "job_ticks", "bulk_actions", "kvs"]
GONE = 2**31 - 2
"""The number of no process: more than the kernel gives out."""


@pytest.fixture
def database(server: Postgres) -> str:
    """The address of a database of its own."""
    return server.database()


@pytest.fixture
def instance(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance of deploy/dagster.yaml."""
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", database.replace("postgresql:", "postgresql+psycopg2:"))
    monkeypatch.setenv("ATC_HISTORY", str(tmp_path / "history"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text((ROOT / "deploy" / "dagster.yaml").read_text())
    with dg.DagsterInstance.get() as instance:
        yield instance


def test_the_instance_of_a_team_differs_in_its_records_only() -> None:
    """Limits of the queue, logs and all else are those that a laptop has."""
    alone, team = (yaml.safe_load((ROOT / folder / "dagster.yaml").read_text()) for folder in ("dagster_home", "deploy"))
    assert team.pop("storage") == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    alone.pop("storage")
    assert team == alone


def definitions_with_a_talkative_job(environment: dict[str, str]) -> dg.Definitions:
    """The code location, and a job whose log and error name her, as does what it says of a table and of a check."""

    @dg.op
    def talk(context: dg.OpExecutionContext) -> None:
        context.log_event(dg.AssetMaterialization("raw_events", metadata={"first": ZOE}))
        context.log_event(dg.AssetCheckEvaluation(asset_key=dg.AssetKey("raw_events"), check_name="odd", passed=False, description=ZOE))
        raise ValueError(f"customer {ZOE!r} is odd")

    @dg.job
    def talkative() -> None:
        talk()

    built = build_definitions(environment)
    return dg.Definitions(
        assets=built.assets,
        asset_checks=built.asset_checks,
        resources=built.resources,
        jobs=[*(built.jobs or []), talkative],
        sensors=built.sensors,
    )


def erase(definitions: dg.Definitions, instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    """Run the job."""
    job = definitions.resolve_job_def("erase_customer")
    return job.execute_in_process(instance=instance, run_config={"ops": {"erase": {"config": {"customer_id": ZOE} | config}}})


def tables_that_name_her(server: Postgres, database: str, *, but: str = "") -> set[str]:
    """Tables of Dagster's with rows that have her id, but those of a run."""
    return {
        table
        for table in RECORDS
        for (row,) in server.ask(name_of(database), f"select row_to_json({table})::text from {table}")  # noqa: S608
        if ZOE in json.dumps(json.loads(str(row))).replace("\\", "") and not (but and but in str(row))
    }


def test_erasure_removes_the_records_that_name_somebody(
    tmp_path: Path,
    server: Postgres,
    database: str,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Events, checks and the latest of a table's records go; the erasure's own names her for a day, and says that deleted rows are the
    database's to forget; results of checks whose run was deleted by hand go, too."""
    environment = make_world(tmp_path / "world")
    landing = Path(environment["ATC_HOME"]) / "landing" / str(FIRST)
    (landing / "zoe.ndjson").write_text(line(ZOE, FIRST, 100, event="Seen") + "\n")
    definitions = definitions_with_a_talkative_job(environment)
    talkative = definitions.resolve_job_def("talkative")
    by_hand, named = (talkative.execute_in_process(instance=instance, raise_on_error=False).run_id for _ in range(2))
    ingested = run(environment, FIRST, FIRST, instance=instance, job="ingest_events").run_id
    instance.delete_run(by_hand)
    instance.compute_log_manager.delete_logs(prefix=[by_hand])
    assert {"event_logs", "asset_check_executions"} <= tables_that_name_her(server, database)
    own = erase(definitions, instance, confirm=True).run_id
    shown = capfd.readouterr().err
    assert f"{named}: talkative" in shown
    assert f"{by_hand}: deleted, its checks are not" in shown
    assert "Dagster's records are in a database that is none of its files" in shown
    assert {record.run_id for record in instance.get_runs()} == {ingested, own}
    assert tables_that_name_her(server, database, but=own) == set()

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=1, hours=1)

    monkeypatch.setattr("assets.jobs.forgetting.datetime", Tomorrow)
    with dg.build_sensor_context(instance=instance) as context:
        definitions.resolve_sensor_def("forget_erasures")(context)
    assert tables_that_name_her(server, database) == set()


def test_a_text_that_is_of_no_run_is_told(tmp_path: Path, server: Postgres, database: str, instance: dg.DagsterInstance) -> None:
    """A tick that names her is nobody's to delete: the erasure says in which table it is, and removes nothing."""
    environment = make_world(tmp_path / "world")
    landing = Path(environment["ATC_HOME"]) / "landing" / str(FIRST)
    (landing / "zoe.ndjson").write_text(line(ZOE, FIRST, 100, event="Seen") + "\n")
    run(environment, FIRST, FIRST, instance=instance, job="ingest_events")
    server.ask(name_of(database), f"insert into job_ticks (job_origin_id, status, type, tick_body) values ('x', 'x', 'x', '{ZOE}')")  # noqa: S608
    with pytest.raises(dg.Failure, match=r"Nothing was removed.* in dagster/job_ticks \(1 rows\)"):
        erase(build_definitions(environment), instance, confirm=True)


@pytest.mark.parametrize(
    ("tags", "is_marked"),
    [
        pytest.param({HOST: socket.gethostname()}, True, id="here"),
        pytest.param({HOST: "another-host"}, False, id="elsewhere"),
        pytest.param({}, False, id="by hand, before it has said where"),
        pytest.param({".dagster/grpc_info": "{}"}, True, id="by the code location"),
    ],
)
def test_only_runs_of_this_host_are_marked_as_dead(instance: dg.DagsterInstance, tags: dict[str, str], is_marked: bool) -> None:
    """A number of a process says nothing on another host, whose run may well live."""
    record = instance.create_run_for_job(talkless, tags=tags, status=dg.DagsterRunStatus.STARTED)
    instance.report_engine_event("Started process", record, EngineEventData.in_process(GONE))
    with dg.build_sensor_context(instance=instance) as context:
        dead_runs()(context)
    (status,) = {found.status for found in instance.get_runs()}
    assert status == (dg.DagsterRunStatus.FAILURE if is_marked else dg.DagsterRunStatus.STARTED)


@dg.job
def talkless() -> None:
    """Do nothing."""
