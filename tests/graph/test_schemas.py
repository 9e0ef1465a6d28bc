"""Every schema has been seen to fail: on each column's type, nulls and values, on the key, and on what is no column of the table.

What belongs here: each clause of each schema, broken once, on one row. What does not: checks as Dagster runs them
(``test_promises``).
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest

from assets import schemas
from assets.checks import schema_failures
from atc_pipeline.days.catalog import tables
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.tables.table import Table

EXAMPLE = Path(__file__).parents[1] / "engine" / "journeys" / "journeys.example.yaml"
"""The complete grammar: no column is without."""

START = date(2026, 1, 1)

COUNTS, SHARES, WORDS = (-1,), (-0.001, 1.001), ("?",)

VALUES: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "raw_events": {"type": WORDS, "line": (0,)},
    "rejected_events": {"reason": WORDS, "line": (0,)},
    "identity_map": {"id_type": WORDS},
    "identity_changes": {"id_type": WORDS, "change": WORDS},
    "customer_activity": {"events": COUNTS},
    "customer_metrics": {"goal:Order Completed.n": COUNTS, "responses.n": COUNTS},
    "feature_coverage": {"part": (0,), "events": COUNTS, "matched": COUNTS, "read": COUNTS, "skipped": COUNTS},
    "customer_profiles": {
        "tenure_days": COUNTS,
        "interest_handbags": SHARES,
        "interest_ski": SHARES,
        "intent_ready_to_buy": SHARES,
        "intent_cancelling": SHARES,
        "engagement": SHARES,
        "best_hour": (-1, 24),
        "predicted_orders": (-0.001,),
        "predicted_value": (-0.001,),
        "churn_risk": SHARES,
        "orders": COUNTS,
        "events_7d": COUNTS,
        "handbags_viewed_7d": COUNTS,
        "categories_bought": COUNTS,
        "days_since_order": COUNTS,
        "days_since_signup": COUNTS,
        "responses": COUNTS,
        "touches": COUNTS,
        "spend_percentile": SHARES,
    },
    "purchase_models": {},
    "micro_segment_memberships": {},
    "journey_queues": {"waiting_days": COUNTS},
    "scored_candidates": {"ruling": WORDS, "rank": (0,)},
    "journey_state": {"ended_reason": WORDS, "times_entered": (0,), "times_completed": COUNTS, "arm": WORDS, "held_out_by": WORDS},
    "journey_assignments": {
        "decision": WORDS,
        "day_index": (0,),
        "held_out_by": WORDS,
        "selection_probability": SHARES,
        "options": (0,),
    },
    "journey_funnel": dict.fromkeys(
        ("queued", "carried", "not_live", "blackout", "would_overrun", "suppressed", "no_channel", "unscored", "reentry", "max_entries",
         "link", "pairwise", "resting", "frequency_cap", "in_flight", "outscored", "capacity", "chosen", "started", "wanted", "places"),
        COUNTS,
    ),
    "journey_outcomes": {
        "arm": WORDS, "held_out_by": WORDS, "holdout": SHARES, "entry_number": (0,), "variant_probability": SHARES, "window_days": (0,),
        "delivered": COUNTS, "measured_days": COUNTS, "expected": SHARES, "propensity_source": WORDS,
    },
    "model_quality": dict.fromkeys(("matured", "goals", "drawn_matured", "drawn_goals"), COUNTS)
    | dict.fromkeys(("expected", "drawn_expected"), (-0.001,)),
    "entry_profiles": {},
    "goal_models": {"part": WORDS, "entries": COUNTS, "goals": COUNTS, "controls": COUNTS, "source": WORDS},
    "long_outcomes": {"arm": WORDS, "held_out_by": WORDS, "holdout": SHARES, "long_days": (0,)},
    "path_steps": {"position": (0,), "sent": COUNTS, "responses": COUNTS},
    "path_durations": {
        "counted_from": WORDS, **dict.fromkeys(("days", "converted", "left", "sent", "responses"), COUNTS),
    },
    "path_summary": dict.fromkeys(("customers", "conversions", "open", "sent", "responses"), COUNTS),
    "journey_attribution": {"paths": COUNTS, "conversions": COUNTS},
    "journey_movement": {
        "day_index": (0,),
        "survival": SHARES,
        **dict.fromkeys(
            ("at_risk", "converted", "exited", "interrupted", "completed", "unsubscribed", "sent", "responded", "watched_treated",
             "watched_control", "advanced_treated", "advanced_control"),
            COUNTS,
        ),
    },
    "journey_alternatives": {"day_index": (0,), "customers": COUNTS, "taken": COUNTS},
    "journey_described": dict.fromkeys(("quiet_treated", "quiet_control", "returned_treated", "returned_control"), COUNTS),
    "journey_satisfaction": dict.fromkeys(
        ("treated", "control", "answered_treated", "answered_control", "answers_treated", "answers_control"), COUNTS
    ),
    "uplift": dict.fromkeys(
        ("treated", "control", "treated_nonzero", "control_nonzero", "immature", "contaminated", "unstable", "sent_to_control",
         "delivered", "more_customers", "more_days"),
        COUNTS,
    ) | {"verdict": WORDS},
    "segment_matrix": {"customers": COUNTS, "entered": COUNTS, "served": COUNTS, "served_most": COUNTS},
    "journey_entries": {
        "entry_number": (0,),
        "decision": WORDS,
        "arm": WORDS,
        "held_out_by": WORDS,
        "holdout": SHARES,
        "policy_holdout": SHARES,
        "variant_probability": SHARES,
        "options": (0,),
        "selection_probability": SHARES,
        "propensity_source": WORDS,
        "window_days": (0,),
        "goal_within_days": (0,),
    },
    "outbound_messages": {"step_day": (0,), "hour_from": WORDS, "zone_from": WORDS, "rank": (0,), "withheld": WORDS},
    "rendered_messages": {"bytes": COUNTS},
    "content_library": {"share": SHARES, "words": COUNTS, "lix": (-0.001,), "customers": COUNTS},
    "activation": {"status": WORDS, "attempts": COUNTS},
    "sent_events": {"event": WORDS},
    "audience_members": {},
    "audience_syncs": {"operation": WORDS, "cause": WORDS, "status": WORDS},
    "answers": {"operation": WORDS, "status": WORDS},
    "audience_changes": {"change": WORDS},
}  # fmt: skip
"""By table and column whose values are bounded: those just beyond each bound."""


@cache
def tables_by_name() -> Mapping[str, Table]:
    """Return each table, for the complete grammar."""
    return tables(load_portfolio(EXAMPLE))


@cache
def schemas_by_table() -> Mapping[str, pa.DataFrameSchema]:
    """Return the schema of each table."""
    return {name: schemas.schema_of(table) for name, table in tables_by_name().items()}


def schema_of(table: str) -> pa.DataFrameSchema:
    """Return a table's schema."""
    return schemas_by_table()[table]


def sound_row(table: str) -> pl.DataFrame:
    """Return one row as the schema wants it: the least values, and nulls wherever they may be."""
    row = {name: _least(column) for name, column in schema_of(table).columns.items()}
    return pl.DataFrame([row], schema=_types(table))


def _types(table: str) -> dict[str, pl.DataType]:
    return {name: column.dtype.type for name, column in schema_of(table).columns.items()}


def _least(column: pa.Column) -> object:
    """Return a value that a column may have."""
    if column.nullable:
        return None
    for check in column.checks:
        bounds = check.statistics
        return bounds["allowed_values"][0] if "allowed_values" in bounds else bounds["min_value"]
    dtype = column.dtype.type
    if isinstance(dtype, pl.Struct):
        return dict.fromkeys((each.name for each in dtype.fields), None)
    if isinstance(dtype, pl.List):
        return []
    return pl.Series([0]).cast(pl.Int32 if dtype == pl.Date() else pl.Int64).cast(dtype)[0]


def failing(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return what fails, as the check finds it: Pandera is asked of the doubtful rows, and says what it says of all."""
    of_all = schema_failures(schema_of(table), rows)
    doubtful = schemas.doubtful(rows.lazy(), tables_by_name()[table])
    found = pl.DataFrame() if doubtful is None else schema_failures(schema_of(table), doubtful.collect())
    assert sorted(found.rows(), key=str) == sorted(of_all.rows(), key=str)
    return found


def failures(table: str, rows: pl.DataFrame) -> set[tuple[str, str]]:
    """Return which columns fail which checks."""
    found = failing(table, rows)
    return set(found.select("column", "check").iter_rows()) if found.height else set()


def one_a_day(table: str, changes: Sequence[tuple[str, object]]) -> tuple[pl.DataFrame, set[tuple[date, str]]]:
    """Return sound rows but for one value each, a day apart so that no key is twice; and which day lacks what."""
    row = sound_row(table)
    days = [START + timedelta(days=number) for number in range(len(changes))]
    rows = [row.with_columns(with_value(row, "date", day), with_value(row, *change)) for day, change in zip(days, changes, strict=True)]
    return pl.concat([row, *rows]), {(day, column) for day, (column, _) in zip(days, changes, strict=True)}


def with_value(row: pl.DataFrame, column: str, value: object) -> pl.Expr:
    """Return a value as a column of the type it has there."""
    return pl.lit(value).cast(row.schema[column]).alias(column)


def places(table: str, rows: pl.DataFrame) -> set[tuple[date, str]]:
    """Return on which days which columns fail."""
    found = failing(table, rows)
    return set(found.select("date", "column").iter_rows()) if found.height else set()


@pytest.mark.parametrize("table", VALUES)
def test_a_row_as_it_should_be_passes(table: str) -> None:
    """Nothing is found where nothing is wrong, also where the same key is there on another day."""
    row = sound_row(table)
    assert failures(table, row) == set()
    assert failures(table, pl.concat([row, row.with_columns(with_value(row, "date", START))])) == set()


@pytest.mark.parametrize("table", VALUES)
def test_a_null_is_found_where_none_may_be(table: str) -> None:
    """In each such column, and in its row."""
    never_null = [(name, None) for name, column in schema_of(table).columns.items() if not column.nullable and name != "date"]
    rows, expected = one_a_day(table, never_null)
    assert places(table, rows) == expected
    row = sound_row(table)
    assert failures(table, row.with_columns(with_value(row, "date", None))) == {("date", "not_nullable")}


@pytest.mark.parametrize("table", VALUES)
def test_a_value_beyond_its_bounds_is_found(table: str) -> None:
    """On each side, and in its row."""
    rows, expected = one_a_day(table, [(name, value) for name, values in VALUES[table].items() for value in values])
    assert places(table, rows) == expected


@pytest.mark.parametrize("table", VALUES)
def test_another_type_is_found(table: str) -> None:
    """Of each column: numbers as text, anything else as a number."""
    row = sound_row(table)
    others = [pl.lit("1" if dtype.is_numeric() else 1).alias(name) for name, dtype in row.schema.items()]
    found = {column for column, check in failures(table, row.with_columns(others)) if check.startswith("dtype")}
    assert found == set(row.columns)


@pytest.mark.parametrize("table", VALUES)
def test_a_key_twice_is_found(table: str) -> None:
    """On one day."""
    row = sound_row(table)
    assert {check for _, check in failures(table, pl.concat([row, row]))} == {"multiple_fields_uniqueness"}


@pytest.mark.parametrize("table", VALUES)
def test_what_is_no_number_is_judged_as_pandera_does(table: str) -> None:
    """A null where none may be; else above every number: beyond a highest value, not below a least one (``failing`` compares both)."""
    floats = [column for column in tables_by_name()[table].columns if column.dtype.is_float()]
    rows, _ = one_a_day(table, [(column.name, float("nan")) for column in floats])
    beyond = {column.name for column in floats if not column.is_nullable or column.at_most is not None}
    assert {column for _, column in places(table, rows)} == beyond


def test_rows_out_of_order_are_not_taken_for_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the same key is found wherever the two rows are, across the rows that are compared at once too; order alone is no fault."""
    row = sound_row("journey_queues")
    rows = pl.concat([row.with_columns(with_value(row, "customer_id", name)) for name in "abcdefg"])
    for at_once in (1, 2, 3, 100):
        monkeypatch.setattr(schemas, "ROWS_AT_ONCE", at_once)
        assert schemas.doubtful(rows.lazy(), tables_by_name()["journey_queues"]) is None
        assert failures("journey_queues", rows.reverse()) == set()
        assert len(failing("journey_queues", pl.concat([rows, row.with_columns(with_value(row, "customer_id", "b"))]))) > 0
        for place in range(rows.height):
            assert len(failing("journey_queues", pl.concat([rows[: place + 1], rows[place:]]))) > 0


@pytest.mark.parametrize("table", VALUES)
def test_columns_are_these_and_in_this_order(table: str) -> None:
    """One too many, any too few, and two that changed places are found."""
    row = sound_row(table)
    *columns, last_but_one, last = row.columns

    def found(rows: pl.DataFrame) -> set[tuple[str, str]]:
        return set(failing(table, rows).select("check", "value").iter_rows())

    assert found(row.with_columns(surplus=1)) == {("column_in_schema", "surplus")}
    assert found(row.select("date")) == {("column_in_dataframe", name) for name in row.columns[1:]}
    assert found(row.select(*columns, last, last_but_one)) == {("column_ordered", last)}


def test_every_bound_has_a_value_beyond_it() -> None:
    """Of every table that there is, and no others: a bound that was never seen to fail is none."""
    bounded = {
        table: {name: sum(map(_sides, column.checks)) for name, column in schema.columns.items() if column.checks}
        for table, schema in schemas_by_table().items()
    }
    assert bounded == {table: {name: len(values) for name, values in columns.items()} for table, columns in VALUES.items()}


def _sides(check: pa.Check) -> int:
    """Return how many bounds a check has."""
    return {"isin": 1, "greater_than_or_equal_to": 1, "in_range": 2}[check.name]
