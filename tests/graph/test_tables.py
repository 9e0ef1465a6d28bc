"""Tables are told once: what the graph, the catalog and docs/tables.md say of them is what the rooms say."""

import re
from pathlib import Path

import dagster as dg
import pytest

from assets.shown.catalog import with_tables
from atc_pipeline.days.catalog import tables
from atc_pipeline.definitions import build_definitions
from atc_pipeline.journeys.kinds import KINDS
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from docs.tables import PAGE, page

JOURNEYS = Path(__file__).parents[2] / "journeys.yaml"


@pytest.fixture(scope="module")
def portfolio() -> Portfolio:
    """The portfolio that ships."""
    return load_portfolio(JOURNEYS)


@pytest.fixture(scope="module")
def specs() -> dict[str, dg.AssetSpec]:
    """What the graph says of each of its assets."""
    assets = build_definitions({"ATC_JOURNEYS": str(JOURNEYS)}).assets or ()
    return {spec.key.to_user_string(): spec for each in assets if isinstance(each, dg.AssetsDefinition) for spec in each.specs}


def test_every_asset_is_a_table_and_every_table_an_asset(portfolio: Portfolio, specs: dict[str, dg.AssetSpec]) -> None:
    """And each has its section in docs/tables.md."""
    sections = re.findall("^## ([a-z_]+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(specs) == set(tables(portfolio)) == set(sections)
    assert len(sections) == len(specs)


def test_tables_md_is_as_the_code_says() -> None:
    """And has a trait of each kind in it."""
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"
    assert [kind for kind in KINDS if f"\n| `<{kind}>` |" not in page()] == []


def test_the_catalog_tells_what_a_row_is_and_every_column(portfolio: Portfolio, specs: dict[str, dg.AssetSpec]) -> None:
    """Before a single run, with keys, nulls and bounds."""
    for name, table in tables(portfolio).items():
        assert (specs[name].description or "").startswith(table.meaning)
        shown = specs[name].metadata["dagster/column_schema"]
        assert [column.name for column in shown.columns] == list(table.schema)
        assert all(column.description for column in shown.columns)
    by_name = {column.name: column for column in specs["customer_profiles"].metadata["dagster/column_schema"].columns}
    assert (by_name["customer_id"].constraints.nullable, by_name["customer_id"].constraints.other) == (False, ["key"])
    assert (by_name["best_hour"].constraints.nullable, by_name["best_hour"].constraints.other) == (True, ["0 to 23"])


def test_what_an_asset_says_of_itself_follows(specs: dict[str, dg.AssetSpec]) -> None:
    """Of those that say something."""
    meaning, own = (specs["activation"].description or "").split("\n\n")
    assert meaning.startswith("One row per message")
    assert own.startswith("Past days are never sent unless named")


def test_an_asset_that_no_room_tells_of_is_refused(portfolio: Portfolio) -> None:
    """When the code location is loaded, by name."""

    @dg.asset
    def unknown() -> None:
        """Nobody says what it is."""

    with pytest.raises(LookupError, match=r"no tables\.py of a room says what the table of the asset unknown is"):
        with_tables([unknown], portfolio)
