"""The lineage as Dagster runs it."""

import json
import shutil
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets import checks
from assets.checks import schema_failures, stretches
from assets.schemas import schema_of
from atc_pipeline.days import catalog
from atc_pipeline.definitions import build_definitions
from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, FIRST, JOURNEYS, make_world, run, tables

pytestmark = pytest.mark.slow

LAST = DAYS[-1]
TOGETHER = (
    ("raw_events", "rejected_events"),
    ("customer_activity", "feature_coverage"),
    ("identity_map", "identity_changes"),
    ("customer_profiles", "purchase_models"),
    ("outbound_messages", "rendered_messages", "content_library"),
    ("audience_members", "audience_changes"),
    ("audience_syncs", "answers"),
    (
        "scored_candidates", "journey_state", "journey_assignments", "journey_funnel", "journey_entries", "entry_profiles",
        "journey_outcomes", "long_outcomes", "goal_models",
    ),
    (
        "path_steps",
        "path_durations",
        "path_summary",
        "journey_attribution",
        "journey_movement",
        "journey_alternatives",
        "journey_described",
        "journey_satisfaction",
    ),
    (),
)  # fmt: skip
"""Tables that one step makes; any other is alone."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The small world after its four days were run as one range."""
    environment = make_world(tmp_path_factory.mktemp("world"))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, LAST, instance=instance).success
    return environment


@pytest.fixture
def lake(world: dict[str, str]) -> Lake:
    """The lake of that world."""
    return Lake(root=f"{world['ATC_HOME']}/lake")


def test_definitions_are_loadable(world: dict[str, str]) -> None:
    """Every asset, check, job, schedule and sensor resolves."""
    dg.Definitions.validate_loadable(build_definitions(world))


def test_days_one_by_one_and_as_a_range_give_identical_bytes(world: dict[str, str], tmp_path: Path) -> None:
    """A range run and one run per day write the same files."""
    environment = make_world(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        for day in DAYS:
            assert run(environment, day, day, instance=instance).success
    assert tables(environment) == tables(world)


def test_row_and_file_order_do_not_matter(world: dict[str, str], tmp_path: Path) -> None:
    """The same lines in reverse order and split over files give the same tables, but for where each line stood."""
    environment = make_world(tmp_path)
    for day in DAYS:
        file = Path(environment["ATC_HOME"]) / "landing" / str(day) / "events.ndjson"
        lines = file.read_text().splitlines()[::-1]
        file.write_text("\n".join(lines[::2]))
        file.with_name("b.jsonl").write_text("\n".join(lines[1::2]))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, LAST, instance=instance).success
    ours, theirs = tables(environment), tables(world)
    placed = ("raw_events/", "rejected_events/")
    assert {path: data for path, data in ours.items() if not path.startswith(placed)} == {
        path: data for path, data in theirs.items() if not path.startswith(placed)
    }


def test_every_day_of_every_table_is_written_and_recorded(world: dict[str, str], lake: Lake) -> None:
    """Four days of each of the tables are in the lake."""
    assets = {key.to_user_string() for key in build_definitions(world).resolve_asset_graph().get_all_asset_keys()}
    assert {table: lake.days(table) for table in assets} == dict.fromkeys(assets, DAYS)
    assert assets == set(catalog.tables(load_portfolio(Path(world["ATC_JOURNEYS"]))))


def test_tables_are_as_tables_md_says(world: dict[str, str], lake: Lake) -> None:
    """Each table has the columns it is said to have, with their types, sorted by its key."""
    portfolio = load_portfolio(Path(world["ATC_JOURNEYS"]))
    for name, table in catalog.tables(portfolio).items():
        frame = lake.read(name, LAST)
        assert frame.schema == table.schema, name
        assert frame.equals(frame.sort(table.key)), name
        assert frame["date"].unique().to_list() in ([LAST], []), name


def test_bad_lines_are_kept_and_counted_and_the_run_goes_on(world: dict[str, str], lake: Lake) -> None:
    """Each day's two bad lines are in rejected_events with their reason, the repeated line is counted, the rest accepted."""
    for day in DAYS:
        rejected = lake.read("rejected_events", day)
        assert sorted(rejected["reason"]) == ["malformed_json", "missing_event_name"]
        landed = Path(world["ATC_HOME"], "landing", str(day), "events.ndjson").read_text().splitlines()
        assert lake.read("raw_events", day).height + rejected.height + 1 == len(landed)


def test_the_reconciliation_check_tells_the_counts(tmp_path: Path) -> None:
    """Lines read = accepted + duplicates + rejected is a check on raw_events, with its numbers as metadata."""
    environment = make_world(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(environment, FIRST, FIRST, instance=instance, job="ingest_events")
    check = next(one for one in result.get_asset_check_evaluations() if one.check_name == "every_line_accounted_for")
    counts = {name: check.metadata[name].value for name in ("lines", "accepted", "duplicates", "rejected")}
    assert check.passed
    assert counts["lines"] == counts["accepted"] + counts["duplicates"] + counts["rejected"]
    assert (counts["duplicates"], counts["rejected"]) == (1, 2)


def test_a_failing_check_names_its_rows_and_blocks_what_follows(tmp_path: Path) -> None:
    """A customer without a segment fails coverage, is shown, and no queue is built."""
    environment = make_world(tmp_path)
    definitions = build_definitions(environment)
    with dg.DagsterInstance.ephemeral() as instance:
        run(environment, FIRST, FIRST, instance=instance)
        lake = Lake(root=f"{environment['ATC_HOME']}/lake")
        members = lake.read("micro_segment_memberships", FIRST)
        lake.write("micro_segment_memberships", FIRST, members.filter(pl.col("customer_id") != "c05"))
        check = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("micro_segment_memberships"), "everyone_is_in_a_segment"))
        job = dg.define_asset_job("checked", check | dg.AssetSelection.assets("journey_queues").without_checks())
        again = dg.Definitions(
            assets=definitions.assets, asset_checks=definitions.asset_checks, resources=definitions.resources, jobs=[job]
        )
        failed = again.resolve_job_def("checked").execute_in_process(instance=instance, partition_key=str(FIRST), raise_on_error=False)
    evaluation = next(one for one in failed.get_asset_check_evaluations() if one.check_name == "everyone_is_in_a_segment")
    assert not failed.success
    assert not evaluation.passed
    assert evaluation.metadata["failing_rows"].value == 1
    assert "c05" in str(evaluation.metadata["first_failing_rows"].value)
    assert "journey_queues" not in {event.step_key for event in failed.all_events if event.is_step_success}


def test_a_schema_failure_names_column_check_value_and_row(world: dict[str, str], lake: Lake) -> None:
    """A negative waiting time and a key twice on a day are each found, with the row they are in."""
    schema = schema_of(catalog.tables(load_portfolio(Path(world["ATC_JOURNEYS"])))["journey_queues"])
    queues = lake.read("journey_queues", LAST)
    assert schema_failures(schema, queues).is_empty()
    broken = pl.concat([queues, queues.head(1)]).with_columns(
        waiting_days=pl.when(pl.int_range(pl.len()) == 2).then(-1).otherwise("waiting_days").cast(pl.Int64)
    )
    failures = schema_failures(schema, broken)
    negative = failures.filter(pl.col("column") == "waiting_days").row(0, named=True)
    assert negative["value"] == "-1"
    assert json.loads(negative["row"])["customer_id"] == queues["customer_id"][2]
    assert failures.height > 1


@pytest.mark.parametrize(
    ("files", "days", "lengths"),
    [
        pytest.param(31, 31, [4], id="all"),
        pytest.param(31, 3, [3, 1], id="not so many days"),
        pytest.param(2, 31, [3, 1], id="not so many bytes"),
        pytest.param(0.5, 31, [1, 1, 1, 1], id="a day at least"),
    ],
)
def test_a_range_is_checked_in_stretches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: float, days: int, lengths: list[int]
) -> None:
    """As many days together as there may be days, and bytes; a day that was never written has none."""
    lake = Lake(root=str(tmp_path))
    for day in DAYS[1:]:
        lake.write("numbers", day, pl.DataFrame({"number": [1, 2, 3, 4]}))
    monkeypatch.setattr(checks, "BYTES_AT_ONCE", files * lake.size("numbers", DAYS[1]))
    monkeypatch.setattr(checks, "DAYS_AT_ONCE", days)
    assert [len(some) for some in stretches(lake, "numbers", DAYS)] == lengths
    assert [day for some in stretches(lake, "numbers", DAYS) for day in some] == DAYS


def test_a_day_without_yesterday_fails_and_says_what_to_run(tmp_path: Path) -> None:
    """State cannot skip a day: the error names the table and the day that is missing."""
    environment = make_world(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(environment, DAYS[1], DAYS[1], instance=instance, must_succeed=False)
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert failure.step_key == "ingest"
    assert f"raw_events has no data for {FIRST}" in str(failure.step_failure_data.user_failure_data)


@pytest.mark.parametrize(
    ("table", "day", "asked", "says"),
    [
        pytest.param("raw_events", DAYS[1], "raw_events", "raw_events has no data for 2026-03-02", id="duplicates"),
        pytest.param("customer_activity", DAYS[0], "customer_profiles", "customer_activity has no data for 2026-03-01", id="features"),
        pytest.param("customer_activity", DAYS[0], "journey_state", "customer_activity has no data for 2026-03-01", id="goals"),
        pytest.param("customer_profiles", DAYS[2], "customer_profiles", "customer_profiles has no data for 2026-03-03", id="profiles"),
        pytest.param("purchase_models", DAYS[2], "customer_profiles", "purchase_models has no data for 2026-03-03", id="models"),
        pytest.param("identity_map", DAYS[2], "identity_map", "identity_map has no data for 2026-03-03", id="identity"),
        pytest.param("micro_segment_memberships", DAYS[2], "micro_segment_memberships", "memberships has no data", id="memberships"),
        pytest.param("micro_segment_memberships", DAYS[2], "segment_matrix", "memberships has no data", id="matrix"),
        pytest.param("journey_queues", DAYS[2], "journey_queues", "journey_queues has no data for 2026-03-03", id="queues"),
        pytest.param("journey_state", DAYS[2], "journey_state", "journey_state has no data for 2026-03-03", id="memory"),
    ],
)
def test_a_day_that_is_missing_behind_is_named_never_a_smaller_number(
    world: dict[str, str], tmp_path: Path, table: str, day: date, asked: str, says: str
) -> None:
    """Every stage that looks back refuses a hole in the days it stands on, and says which day to make first."""
    shutil.copytree(Path(world["ATC_HOME"]), tmp_path / "home")
    environment = world | {"ATC_HOME": str(tmp_path / "home")}
    if asked == "customer_profiles":
        with_predictions = JOURNEYS + "predictions: {order: Order Completed, value: revenue, horizon_days: 30}\n"
        environment |= make_world(tmp_path / "predicting", with_predictions)
        with dg.DagsterInstance.ephemeral() as instance:
            run(environment, FIRST, LAST, instance=instance)
    Lake(root=f"{environment['ATC_HOME']}/lake").path(table, day).unlink()
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(environment).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=instance, partition_key=str(LAST), asset_selection=[dg.AssetKey(asked)], raise_on_error=False
        )
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert says in failure.step_failure_data.user_failure_data.description


def test_when_a_day_fails_the_days_before_it_are_recorded(tmp_path: Path) -> None:
    """A range that breaks on its third day leaves two days recorded, so that a backfill resumes from the third."""
    environment = make_world(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        run(environment, FIRST, LAST, instance=instance, job="ingest_events")
        Path(environment["ATC_HOME"], "lake", "customer_activity", f"date={DAYS[2]}", "part.parquet").unlink()
        definitions = build_definitions(environment)
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            tags={"dagster/asset_partition_range_start": str(FIRST), "dagster/asset_partition_range_end": str(LAST)},
            asset_selection=[dg.AssetKey("customer_profiles"), dg.AssetKey("purchase_models")],
            raise_on_error=False,
        )
        assert not result.success
        assert instance.get_materialized_partitions(dg.AssetKey("customer_profiles")) == {str(FIRST), str(DAYS[1])}


def test_every_table_can_be_asked_for_alone_for_a_stretch_of_days(tmp_path: Path) -> None:
    """Also one of several that are made together; all of those are recorded for each day, and written as before."""
    environment = make_world(tmp_path)
    stretch = {str(DAYS[1]), str(DAYS[2])}
    tags = {"dagster/asset_partition_range_start": str(DAYS[1]), "dagster/asset_partition_range_end": str(DAYS[2])}
    with dg.DagsterInstance.ephemeral() as instance:
        run(environment, FIRST, LAST, instance=instance)
        before = tables(environment)
        definitions = build_definitions(environment)
        job = definitions.resolve_implicit_global_asset_job_def()
        for asset in definitions.resolve_asset_graph().get_all_asset_keys():
            result = job.execute_in_process(instance=instance, tags=tags, asset_selection=[asset])
            made = {(event.asset_key.to_user_string(), event.partition) for event in result.all_events if event.is_step_materialization}
            together = next(keys for keys in TOGETHER if asset.to_user_string() in keys or keys == ())
            assert made == {(name, day) for name in together or (asset.to_user_string(),) for day in stretch}
    assert tables(environment) == before


def test_rebuilding_one_journeys_queue_leaves_the_others_alone(tmp_path: Path) -> None:
    """A journey added later is backfilled by name: its rows appear, the others' stay byte for byte."""
    environment = make_world(tmp_path)
    lake = Lake(root=f"{environment['ATC_HOME']}/lake")
    with dg.DagsterInstance.ephemeral() as instance:
        run(environment, FIRST, LAST, instance=instance)
        before = {day: lake.read("journey_queues", day) for day in DAYS}
        added = JOURNEYS.replace("policy:", '  - {id: newcomer, length_days: 2, queue: {where: "orders = 1"}}\npolicy:')
        Path(environment["ATC_JOURNEYS"]).write_text(added)
        definitions = build_definitions(environment)
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            tags={"dagster/asset_partition_range_start": str(DAYS[1]), "dagster/asset_partition_range_end": str(LAST)},
            asset_selection=[dg.AssetKey("journey_queues")],
            run_config={"ops": {"journey_queues": {"config": {"journeys": ["newcomer"]}}}},
        )
        assert result.success
    for day in DAYS[1:]:
        after = lake.read("journey_queues", day)
        assert after.filter(pl.col("journey_id") != "newcomer").equals(before[day])
        assert after.filter(pl.col("journey_id") == "newcomer").height > 0
    waiting = lake.read("journey_queues", LAST).filter(pl.col("journey_id") == "newcomer")["waiting_days"]
    assert waiting.max() <= 2  # the backfill began two days before


def test_decisions_on_an_older_queue_are_reported_not_blocked(tmp_path: Path) -> None:
    """After the backfill above, the days already decided are named by a check that warns."""
    environment = make_world(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        run(environment, FIRST, LAST, instance=instance)
        added = JOURNEYS.replace("policy:", '  - {id: newcomer, length_days: 2, queue: {where: "orders = 1"}}\npolicy:')
        Path(environment["ATC_JOURNEYS"]).write_text(added)
        result = run(environment, FIRST, LAST, instance=instance, job="decide_again")
    check = [one for one in result.get_asset_check_evaluations() if one.check_name == "decisions_stand_on_these_queues"]
    assert result.success
    assert {one.partition for one in check if not one.passed} >= {str(day) for day in DAYS[:2]}
    assert {one.severity for one in check if not one.passed} == {dg.AssetCheckSeverity.WARN}


def test_the_example_portfolio_runs(tmp_path: Path) -> None:
    """The complete grammar by example goes through the whole lineage, every check included."""
    environment = make_world(tmp_path, Path(__file__).parents[1].joinpath("engine", "journeys", "journeys.example.yaml").read_text())
    days = [date(2026, 1, 1), date(2026, 1, 2)]
    for day, landed in zip(days, DAYS, strict=False):
        folder = Path(environment["ATC_HOME"]) / "landing" / str(day)
        folder.mkdir()
        text = (folder.parent / str(landed) / "events.ndjson").read_text()
        (folder / "events.ndjson").write_text(text.replace(str(landed), str(day)))
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(environment, days[0], days[-1], instance=instance)
    assert result.success
    failed = {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}
    # A dozen customers are no population, and two days do not have every event of the grammar.
    assert failed == {"models_could_be_fitted", "every_feature_is_found"}
    profiles = Lake(root=f"{environment['ATC_HOME']}/lake").read("customer_profiles", days[-1])
    assert profiles["orders"].sum() > 0
    assert profiles["spend_percentile"].max() == 1


def test_a_check_executed_by_itself_tests_the_latest_day(tmp_path: Path) -> None:
    """Without a partition, as the UI's Execute button runs it, a check looks at the last day of its table."""
    environment = make_world(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        run(environment, FIRST, LAST, instance=instance)
        definitions = build_definitions(environment)
        key = dg.AssetCheckKey(dg.AssetKey("journey_assignments"), "one_answer_per_customer")
        job = dg.define_asset_job("by_itself", dg.AssetSelection.checks(key))
        alone = dg.Definitions(
            assets=definitions.assets, asset_checks=definitions.asset_checks, resources=definitions.resources, jobs=[job]
        )
        result = alone.resolve_job_def("by_itself").execute_in_process(instance=instance)
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.passed
    assert evaluation.metadata["days_tested"].value == 1
