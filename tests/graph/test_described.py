"""What is described is said to be no proof, wherever the catalog speaks of it."""

from pathlib import Path

import dagster as dg
import pytest

from atc_pipeline.definitions import build_definitions

JOURNEYS = Path(__file__).parents[2] / "journeys.yaml"
DESCRIBED = {
    "path_steps", "path_durations", "path_summary", "journey_attribution", "journey_movement", "journey_alternatives", "journey_described",
    "journey_satisfaction",
}  # fmt: skip


@pytest.fixture(scope="module")
def specs() -> dict[str, dg.AssetSpec]:
    """What the graph says of each of the tables that one step describes."""
    assets = build_definitions({"ATC_JOURNEYS": str(JOURNEYS)}).assets or ()
    (step,) = (each for each in assets if isinstance(each, dg.AssetsDefinition) and each.op.name == "describe")
    return {spec.key.to_user_string(): spec for spec in step.specs}


def test_what_is_described_says_that_it_is_not_proved(specs: dict[str, dg.AssetSpec]) -> None:
    """All tables of the step, in their metadata and in the words that stand under their names."""
    assert set(specs) == DESCRIBED
    assert {name: spec.metadata.get("evidence") for name, spec in specs.items()} == dict.fromkeys(DESCRIBED, "not_proved")
    assert [name for name, spec in specs.items() if "Described, not proved." not in (spec.description or "")] == []
    assert {spec.group_name for spec in specs.values()} == {"proof"}


def test_no_table_that_is_described_speaks_of_uplift(specs: dict[str, dg.AssetSpec]) -> None:
    """Neither of itself nor of a column: the word is kept for what a comparison by lot has shown."""
    spoken = {name: [spec.description or "", *_words(spec)] for name, spec in specs.items()}
    assert [name for name, words in spoken.items() if any("uplift" in word.lower() for word in words)] == []
    assert all(len(words) > 1 for words in spoken.values())


def _words(spec: dg.AssetSpec) -> list[str]:
    return [text for column in spec.metadata["dagster/column_schema"].columns for text in (column.name, column.description or "")]
