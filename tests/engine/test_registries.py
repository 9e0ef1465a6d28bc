"""Registries: what is known under one name in several places is known in all of them.

What belongs here: trait kinds and built-in profile columns, which the grammar, the engine, the reference and the drawn worlds share.
"""

import json
from datetime import date
from pathlib import Path

import pytest

from atc_pipeline.customers import traits
from atc_pipeline.customers.accumulators import Accumulator
from atc_pipeline.customers.features import definitions
from atc_pipeline.customers.profiles import built_in, built_in_values
from atc_pipeline.customers.purchases import PREDICTED
from atc_pipeline.journeys import columns, document, kinds
from atc_pipeline.journeys.editors import json_schema
from atc_pipeline.journeys.portfolio import Trait
from atc_pipeline.journeys.resolution import load_portfolio
from tests.engine import reference, worlds

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "engine" / "journeys" / "journeys.example.yaml"


def test_every_kind_of_trait_is_known_everywhere() -> None:
    """A kind with an entry in one place and none in another would be accepted and then fail, or never be tried."""
    written = [model for name, model in json.loads(json_schema())["$defs"].items() if name.endswith("Trait")]
    drawn = {**worlds.NUMBERS, **worlds.OTHERS}.values()
    long = worlds.every_trait(0, 1).values()
    places = {
        "customers/traits.py": set(traits.KINDS),
        "journeys/document.py": set(document.TRAITS),
        "what journeys/document.py calls them": {model.kind for model in document.TRAITS.values()},
        "journeys.schema.json": {key for model in written for key in model["required"] if key in kinds.KINDS},
        "tests/engine/reference.py": reference.KINDS,
        "worlds of tests/engine/worlds.py": {key for options in drawn for option in options for key in option if key in kinds.KINDS}
        | {"percentile"},
        "histories of tests/engine/worlds.py": {key for trait in long for key in trait if key in kinds.KINDS},
    }
    assert places == {place: set(kinds.KINDS) for place in places}


@pytest.mark.parametrize("name", kinds.KINDS)
def test_a_kind_reads_no_more_than_it_remembers(name: str) -> None:
    """Its value is made of the columns of its accumulators, and has its type."""
    kind = kinds.KINDS[name]
    dtype = kind.dtype or kinds.PROFILE_TYPES["string"]
    trait = Trait("x", name, dtype)
    remembered = {column for part in traits.of_trait(trait) for column in part.columns()}
    assert set(traits.value_of(trait, date(2026, 1, 1)).meta.root_names()) <= remembered
    assert bool(remembered) == (kind.takes != "trait")


def test_a_window_is_of_what_is_remembered() -> None:
    """A kind whose accumulators lost their window would count all history."""
    for name, kind in kinds.KINDS.items():
        parts: tuple[Accumulator, ...] = traits.of_trait(Trait("x", name, kind.dtype or kinds.PROFILE_TYPES["date"], within_days=7))
        assert [part.within_days for part in parts] == [7] * len(parts)


def test_every_built_in_column_has_a_value() -> None:
    """And no value is of a column that is not there; those that a model sets are the model's."""
    for path in (ROOT / "journeys.yaml", EXAMPLE):
        portfolio = load_portfolio(path)
        assert list(built_in_values(portfolio, portfolio.starts_on)) == list(built_in(portfolio))
    assert tuple(column.name for column in columns.BUILT_IN if column.section == "predictions") == PREDICTED


def test_definitions_are_what_the_lake_says() -> None:
    """Every file of a profile carries these: another fingerprint for the same definition would make all days again."""
    assert definitions(load_portfolio(EXAMPLE)) == DEFINITIONS


DEFINITIONS = {
    "calendar": "256eb3ec5c57",
    "consent_app": "1d9507b814ef",
    "consent_email": "5ba6c87b7e8b",
    "consent_sales": "17b12b960a77",
    "consent_website": "37723ac70889",
    "interests": "f416cc48e65e",
    "intent_ready_to_buy": "a4cd43660ba1",
    "intent_cancelling": "67b0c1601068",
    "engagement": "cc19b6845fd0",
    "predictions": "2eb199c2eda9",
    "orders": "85bb2a1cb10e",
    "events_7d": "05b98f24b2c6",
    "spend": "d016d6dcbb79",
    "spend_90d": "5148a3ed4bf5",
    "biggest_order": "e843b92ebe59",
    "smallest_order": "816604be2957",
    "average_order": "0b6c7bb4efac",
    "handbags_viewed_7d": "a37ec9f35068",
    "ski_products": "e593f9f61456",
    "poker_result_7d": "425df0e1f4b4",
    "first_referrer": "d210fa6d5474",
    "last_plan": "82829cb2ee8b",
    "favourite_category": "5bdcfdef26ea",
    "categories_bought": "cde72dd7a3ea",
    "category_list": "aa976b1175e0",
    "days_since_order": "1c344402c5b3",
    "days_since_signup": "ef81e760a2b6",
    "responses": "6a5c903089d1",
    "touches": "942f6018dd84",
    "spend_percentile": "78e3ac95f22d",
    "income": "36ce78f2f527",
    "unsubscribed": "f19ee6a2f9c6",
}
"""Of ``READING`` 3."""
