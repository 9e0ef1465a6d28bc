"""What may be said of a table, and how it is said in words."""

import re
from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest

from atc_pipeline.tables.table import CUSTOMER_ID, DATE, MOMENT, Column, Table
from atc_pipeline.tables.words import MOST_NAMED, meaning_of, range_of, type_of

WHOLE: Mapping[str, Any] = {
    "name": "customers",
    "meaning": "One row per customer.",
    "key": ("customer_id",),
    "columns": (DATE, CUSTOMER_ID, Column("orders", pl.Int64(), "How many.", at_least=0)),
}


def test_a_table_has_a_schema() -> None:
    """Its columns' types, in order."""
    assert Table(**WHOLE).schema == pl.Schema({"date": pl.Date(), "customer_id": pl.String(), "orders": pl.Int64()})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"columns": (*WHOLE["columns"], Column("age", pl.Int64(), ""))}, "columns without a meaning: age"),
        ({"columns": (*WHOLE["columns"], CUSTOMER_ID)}, "columns that are there twice: customer_id"),
        ({"columns": WHOLE["columns"][1:]}, "its columns do not begin with DATE: customer_id"),
        ({"key": ("customer_id", "day")}, "its key is of columns that it has not: day"),
        ({"meaning": "Customers."}, "its meaning does not begin with `One row per`: Customers."),
    ],
)
def test_a_table_that_is_not_wholly_described_is_refused(change: Mapping[str, Any], fault: str) -> None:
    """By name, with what is missing."""
    with pytest.raises(ValueError, match=f"^table customers: {re.escape(fault)}$"):
        Table(**{**WHOLE, **change})


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (pl.String(), "String"),
        (MOMENT, "Datetime(us, UTC)"),
        (pl.List(pl.Date()), "List(Date)"),
        (pl.List(pl.Struct({"value": pl.Int64()})), "List(Struct)"),
    ],
)
def test_types_are_named_without_their_fields(dtype: pl.DataType, name: str) -> None:
    """As docs/tables.md and the catalog name them."""
    assert type_of(dtype) == name


@pytest.mark.parametrize(
    ("bounds", "words"),
    [({}, ""), ({"at_least": 0}, "at least 0"), ({"at_most": 1}, "at most 1"), ({"at_least": 0, "at_most": 23}, "0 to 23")],
)
def test_ranges_are_told(bounds: Mapping[str, float], words: str) -> None:
    """Each side that there is."""
    assert range_of(Column("hour", pl.Int64(), "An hour.", **bounds)) == words


def test_words_of_a_column_are_told_and_bounded() -> None:
    """As text, and of many how many more there are."""
    few = Column("status", pl.String(), "What it is.", one_of=("would_send", "<b>"))
    many = Column("status", pl.String(), "What it is.", one_of=tuple(f"s{number}" for number in range(MOST_NAMED + 1234)))
    assert meaning_of(few) == r"What it is. One of: would_send, \<b\>."
    assert meaning_of(many).endswith(f", s{MOST_NAMED - 1} and 1,234 more.")
