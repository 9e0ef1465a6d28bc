"""What must hold of entries (SPEC 10): each rule finds the rows that break it.

What belongs here: promises about who was exposed to what. What does not: promises about the answers (``decision``), and about what came
of them.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.promises.decision import DECIDE_AGAIN
from atc_pipeline.promises.promise import Promise, between, table
from atc_pipeline.rules.arms import CONTROL
from atc_pipeline.tables.store import Store


def miswritten_entries(entries: pl.LazyFrame, assignments: pl.LazyFrame, state: pl.LazyFrame) -> pl.LazyFrame:
    """Return starts and switches without an entry, entries without one, and those that differ from the answer or from the memory."""
    key = ["date", "customer_id", "journey_id"]
    same = ["decision", "arm", "held_out_by", "variant", "selection_probability"]
    answers = assignments.filter(pl.col("decision").is_in(["start", "switch"])).select(*key, *same)
    number = state.select(*key, times_entered="times_entered")
    is_other = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_answered")) for name in same)
    return (
        entries.select(*key, *same, "entry_number")
        .join(answers, on=key, how="full", coalesce=True, suffix="_answered")
        .join(number, on=key, how="left")
        .filter(is_other | pl.col("entry_number").ne_missing(pl.col("times_entered")))  # of one that is missing the decision is null
    )


def misnamed_controls(entries: pl.LazyFrame) -> pl.LazyFrame:
    """Return control entries that nobody holds out, treated ones that are held out, and those held out by what holds nobody out."""
    by_nobody = pl.coalesce(
        pl.when(pl.col("held_out_by") == "policy").then(pl.col("policy_holdout") == 0),
        pl.when(pl.col("held_out_by") == "journey").then(pl.col("holdout") == 0),
        pl.lit(value=False),
    )
    return entries.filter(((pl.col("arm") == CONTROL) != pl.col("held_out_by").is_not_null()) | by_nobody)


def _miswritten_entries(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    written = [day for day in days if store.has("journey_entries", day)]  # days of an older version have answers and no entries
    rule = between(miswritten_entries, table("journey_entries"), table("journey_assignments"), table("journey_state"))
    return rule(store, portfolio, written)


PROMISES = (
    Promise(
        "journey_entries",
        "one_entry_per_start",
        "Every start and every switch of the day is an entry, as it was answered and remembered, and nothing else is (SPEC 10). "
        + DECIDE_AGAIN,
        _miswritten_entries,
    ),
    Promise(
        "journey_entries",
        "control_is_held_out",
        "Control is who is held out, by policy.holdout or else by the journey's own, and nobody else is (SPEC 10). " + DECIDE_AGAIN,
        between(misnamed_controls, table("journey_entries")),
    ),
)
"""In the order of the lineage."""
