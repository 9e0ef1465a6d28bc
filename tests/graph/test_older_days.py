"""Whose mistake it is: a day that is older than journeys.yaml is the user's to make again, any other error is shown as what it is."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from polars.exceptions import ColumnNotFoundError, PolarsError, SchemaError, StructFieldNotFoundError

from atc_pipeline.days import outcomes
from atc_pipeline.definitions import build_definitions
from atc_pipeline.tables.store import Tables
from tests.graph.small_world import FIRST, JOURNEYS, make_world, run

pytestmark = pytest.mark.slow

WITH_A_NEW_TRAIT = JOURNEYS.replace("segments:\n", 'segments:\n  nightly: "views > 0"\n').replace(
    "traits:\n", "traits:\n  views: {count: Product Viewed}\n"
)


def failure(result: dg.ExecuteInProcessResult) -> dg.DagsterEvent:
    """Return the event of the step that failed."""
    return next(event for event in result.all_events if event.is_step_failure)


def test_a_day_older_than_journeys_yaml_is_named_and_the_remedy_works(tmp_path: Path) -> None:
    """A trait is new, and only the decision is made again: the profiles are named, and after catch_up it runs."""
    environment = make_world(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, FIRST, instance=instance).success
        Path(environment["ATC_JOURNEYS"]).write_text(
            WITH_A_NEW_TRAIT.replace('queue: {where: "orders >= 2"}', 'queue: {where: "orders >= 2 or views > 1"}')
        )
        told = failure(run(environment, FIRST, FIRST, instance=instance, job="decide_again", must_succeed=False)).step_failure_data
        assert told.user_failure_data is not None
        assert (told.user_failure_data.description or "").startswith(
            f"customer_profiles of {FIRST} was written without what journeys.yaml needs now: views. Run the job catch_up"
        )
        only_changed: dict[str, object] = {"ops": {op: {"config": {"only_changed": True}} for op in ("customer_activity", "profile")}}
        assert run(environment, FIRST, FIRST, instance=instance, job="catch_up", config=only_changed).success
        assert run(environment, FIRST, FIRST, instance=instance, job="decide_again").success


@pytest.mark.parametrize("kind", [ColumnNotFoundError, SchemaError, StructFieldNotFoundError])
def test_a_bug_of_ours_is_not_told_as_the_users_mistake(kind: type[PolarsError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step asks for a column that nobody ever wrote: the error itself is shown, and nothing of journeys.yaml or of catching up."""

    def make(_: outcomes.Matrix, __: date) -> Tables:
        raise kind("a_column_of_ours")

    monkeypatch.setattr(outcomes.Matrix, "make", make)
    job = build_definitions(make_world(tmp_path)).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            instance=instance, partition_key=str(FIRST), asset_selection=[dg.AssetKey("segment_matrix")], raise_on_error=False
        )
    data = failure(result).step_failure_data
    assert data.user_failure_data is None
    assert data.error is not None
    cause = data.error.cause or data.error
    assert cause.cls_name == kind.__name__
    assert "a_column_of_ours" in cause.message
    assert "journeys.yaml" not in f"{data.error}"
