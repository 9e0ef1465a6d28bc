"""Tables whose columns journeys.yaml decides on are as the stages make them."""

from pathlib import Path
from typing import get_args

import polars as pl
import pytest

from atc_pipeline.customers import profiles, remembered
from atc_pipeline.customers.accumulators import Merge
from atc_pipeline.customers.tables import _PARTS, customer_activity, customer_profiles
from atc_pipeline.journeys.resolution import load_portfolio

ROOT = Path(__file__).parents[3]
PORTFOLIOS = (ROOT / "journeys.yaml", ROOT / "tests" / "engine" / "journeys" / "journeys.example.yaml")


@pytest.mark.parametrize("path", PORTFOLIOS, ids=lambda path: path.name)
def test_columns_are_those_that_stages_make(path: Path) -> None:
    """By name, type and order: conditions are compiled, rollups added up and profiles made from lists of their own."""
    portfolio = load_portfolio(path)
    state = {profiles.STATE: pl.Struct(profiles.state_schema(portfolio))}
    assert customer_profiles(portfolio).schema == pl.Schema(profiles.table_schema(portfolio) | state)
    assert customer_activity(portfolio).schema == pl.Schema(remembered.rollup_schema(portfolio))


def test_every_way_to_remember_has_its_words() -> None:
    """And none has words that is no way."""
    assert set(_PARTS) == set(get_args(Merge))
