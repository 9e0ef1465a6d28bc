"""Where two sets of tables differ: the engine's and the reference's.

What belongs here: which tables are compared, by which key, and when two values are equal. What does not: making either.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import polars as pl

from tests.engine import reference

KEYS = {
    "raw_events": ("date", "message_id"),
    "rejected_events": ("date", "source_file", "line"),
    "counts": ("date",),
    "identity_map": ("date", "id_type", "id"),
    "identity_counts": ("date",),
    "customer_profiles": ("date", "customer_id"),
    "micro_segment_memberships": ("date", "segment_id", "customer_id"),
    "journey_queues": ("date", "journey_id", "customer_id"),
    "scored_candidates": ("date", "customer_id", "journey_id"),
    "journey_state": ("date", "customer_id", "journey_id"),
    "journey_assignments": ("date", "customer_id"),
    "outbound_messages": ("date", "idempotency_key"),
}
"""The tables that are compared, in the order of the lineage, and what a row of each is."""

JSON_TEXTS = {"properties", "traits", "context"}


def is_same(column: str, ours: Any, theirs: Any) -> bool:
    """Return whether two values are equal: floats to 1e-9, JSON as what it says."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)
    if column in JSON_TEXTS and ours is not None and theirs is not None:
        return bool(json.loads(ours) == json.loads(theirs))
    return bool(ours == theirs) and type(ours) is type(theirs)


def differences(table: str, engine: pl.DataFrame, expected: Sequence[reference.Row]) -> list[str]:
    """Say where a table of the engine is not the reference's: missing rows, rows too many, values."""
    key = KEYS[table]
    found = {tuple(row[name] for name in key): row for row in engine.to_dicts()}
    wanted = {tuple(row[name] for name in key): row for row in expected}
    says = [f"row {at} is missing: {wanted[at]}" for at in wanted.keys() - found.keys()]
    says += [f"row {at} is too many: {found[at]}" for at in found.keys() - wanted.keys()]
    if len(found) != engine.height:
        says.append("two rows have the same key")
    for at in wanted.keys() & found.keys():
        names = wanted[at].keys() - {"line_hash"}
        says += [
            f"{at} {name}: the engine says {found[at].get(name, 'nothing')!r}, the reference {wanted[at][name]!r}"
            for name in sorted(names)
            if name not in found[at] or not is_same(name, found[at][name], wanted[at][name])
        ]
    return sorted(says)


def placements(assignments: pl.DataFrame) -> dict[str, str]:
    """Return customer -> journey of those who enter one: who gets the places of a full journey is the engine's to say."""
    return dict(assignments.filter(pl.col("decision").is_in(["start", "switch"])).select("customer_id", "journey_id").iter_rows())


def placements_by_day(assignments: pl.DataFrame, days: Sequence[date]) -> dict[date, dict[str, str]]:
    """Return the placements of each day."""
    return {day: placements(assignments.filter(pl.col("date") == day)) for day in days}


def compare(engine: Mapping[str, pl.DataFrame], expected: Mapping[str, Sequence[reference.Row]]) -> None:
    """Compare table by table, in the order of the lineage: the first that differs is where to look."""
    for table in KEYS:
        if table == "scored_candidates":
            objections = [f"{row['date']}: {row['says']}" for row in expected["objections"]]
            assert not objections, "\n".join(["who enters which journey is not an optimum:", *objections[:10]])
        says = differences(table, engine[table], expected[table]) if table in engine else []
        assert not says, "\n".join([f"{table} of the engine is not the reference's:", *says[:10]])
