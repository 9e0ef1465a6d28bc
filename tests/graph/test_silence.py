"""What could not be read, was not understood or never came is said in a check that warns, and stops nothing."""

import json
from pathlib import Path

import dagster as dg
import pytest

from resources.storage.lake import Lake
from tests.graph.small_world import FIRST, JOURNEYS, line, make_world, run

TYPO = ("  orders: {count: Order Completed}\n", "  orders: {count: Order Completed}\n  returns: {count: Order Complted}\n")
WARNS = ("values_are_readable", "consent_is_understood", "every_feature_is_found")


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """Return the checks of a run by name, but for the schemas."""
    return {check.check_name: check for check in result.get_asset_check_evaluations() if check.check_name != "schema"}


@pytest.mark.slow
def test_a_day_that_is_as_it_should_be_warns_of_nothing(tmp_path: Path) -> None:
    """All three pass."""
    with dg.DagsterInstance.ephemeral() as instance:
        checks = evaluations(run(make_world(tmp_path), FIRST, FIRST, instance=instance))
    assert [checks[name].passed for name in WARNS] == [True] * 3


@pytest.mark.slow
def test_what_was_passed_over_is_said_with_what_to_do(tmp_path: Path) -> None:
    """Which trait, how many, what it looks like and where it is - but not the value, which may name somebody."""
    environment = make_world(tmp_path, JOURNEYS.replace(*TYPO))
    more = [line("c01", FIRST, 90, event="Order Completed", properties={"revenue": "Ann Smith"})]
    more += [line("c02", FIRST, 91, type="identify", traits={"consent_email": "perhaps Ann"})]
    more += [line("c03", FIRST, 92, event="Unsubscribed", properties={"channel": "Ann's list"})]
    (Path(environment["ATC_HOME"]) / "landing" / str(FIRST) / "more.ndjson").write_text("\n".join(more))
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(environment, FIRST, FIRST, instance=instance)
    assert result.success
    checks = evaluations(result)
    assert {(checks[name].passed, checks[name].severity) for name in WARNS} == {(False, dg.AssetCheckSeverity.WARN)}
    shown = {name: str(checks[name].metadata["first_failing_rows"].value) for name in WARNS}
    assert "spend" in shown["values_are_readable"]
    assert "text of 9 characters" in shown["values_are_readable"]
    assert f"{FIRST}-90" in shown["values_are_readable"]
    assert "consent" in shown["consent_is_understood"]
    assert "Order Complted" in shown["every_feature_is_found"]
    assert "Order Completed" in shown["every_feature_is_found"]
    metadata = next(one for one in result.asset_materializations_for_node("customer_activity") if one.label == "feature_coverage").metadata
    told = json.dumps([*shown.values(), str(metadata["values_skipped"].value)])
    assert "Ann" not in told
    assert "| orders |" in str(metadata["matched_by_feature"].value)
    coverage = Lake(root=f"{environment['ATC_HOME']}/lake").read("feature_coverage", FIRST)
    assert "Ann" not in str(coverage.rows())
