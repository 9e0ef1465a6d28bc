"""What must hold of paths and of credit for them (SPEC 13): each rule finds the rows that break it.

What belongs here: promises about what is described, and their words. What does not: promises about what is proved, and what promises
share (``promise``).
"""

import polars as pl

from atc_pipeline.outcomes.tables import ENTRY, MODELS, SILENT
from atc_pipeline.promises.promise import Promise, absorbed_on, after_first_day, between, table
from atc_pipeline.rules.arms import TREATED

PATH = ("date", "customer_id", "path_started_on")
_CENT = 0.01
"""Shares of many paths are added up in floating point; a conversion less is a hundred times that."""


def broken_paths(steps: pl.LazyFrame) -> pl.LazyFrame:
    """Return paths whose steps are not whole, or closed otherwise than one path closes, and customers with two that are open."""
    place = pl.col("position") - 1
    paths = steps.group_by(PATH).agg(
        steps=pl.len(),
        places=place.n_unique(),
        last_place=place.max(),
        began_on=pl.col("entered_on").min(),
        last_entered_on=pl.col("entered_on").max(),
        ways=pl.struct("closed_on", "is_conversion", "value").n_unique(),
        closed_on=pl.col("closed_on").first(),
        silent=(pl.col("journey_id") == SILENT).sum(),
    )
    return paths.with_columns(open_paths=pl.col("closed_on").is_null().sum().over("date", "customer_id")).filter(
        (pl.col("places") != pl.col("steps"))
        | (pl.col("last_place") != pl.col("steps") - 1)
        | (pl.col("began_on") != pl.col("path_started_on"))
        | (pl.col("ways") != 1)
        | (pl.col("closed_on") <= pl.col("last_entered_on"))
        | ((pl.col("silent") > 0) & (pl.col("silent") < pl.col("steps")))
        | (pl.col("open_paths") > 1)
    )


def lost_paths(steps: pl.LazyFrame, yesterday: pl.LazyFrame, absorbed: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers with a path that was open yesterday, and who have none today, open or closed."""
    names = absorbed.select("date", pl.col("absorbed").alias("customer_id"), survivor="customer_id")
    before = (
        yesterday.filter(pl.col("closed_on").is_null())
        .select(pl.col("date").dt.offset_by("1d"), "customer_id")
        .unique()
        .join(names, on=["date", "customer_id"], how="left")
        .select("date", pl.coalesce("survivor", "customer_id").alias("customer_id"))
        .unique()
    )
    return before.join(steps.select("date", "customer_id"), on=["date", "customer_id"], how="anti")


def unfollowed_entries(steps: pl.LazyFrame, entries: pl.LazyFrame) -> pl.LazyFrame:
    """Return entries of the day as treated that are no step of a path, and steps of the day that nobody entered so."""
    key = ["date", "customer_id", "journey_id"]
    begun = steps.filter((pl.col("entered_on") == pl.col("date")) & (pl.col("journey_id") != SILENT)).select(
        *key, is_step=pl.lit(value=True)
    )
    entered = entries.filter(pl.col("arm") == TREATED).select(*key, is_entry=pl.lit(value=True))
    return begun.join(entered, on=key, how="full", coalesce=True).filter(pl.col("is_step").is_null() | pl.col("is_entry").is_null())


def uncredited_conversions(attribution: pl.LazyFrame, durations: pl.LazyFrame) -> pl.LazyFrame:
    """Return days on which a way to share credit gives away more or less than the conversions, and the money, of closed paths."""
    is_touched = (pl.col("counted_from") == ENTRY) & (pl.col("path") != SILENT)
    closed = durations.group_by("date").agg(
        conversions=pl.col("converted").filter(is_touched).sum().cast(pl.Float64), value=pl.col("value").filter(is_touched).sum()
    )
    names = [f"{what}_{model}" for what in ("conversions", "value") for model in MODELS]
    credit = attribution.group_by("date").agg(pl.col(names).sum())
    apart = [(pl.col(name).fill_null(0) - pl.col(name.partition("_")[0])).abs() > _CENT for name in names]
    return closed.join(credit, on="date", how="left").filter(pl.any_horizontal(apart))


PROMISES = (
    Promise(
        "path_steps",
        "paths_are_whole",
        "The steps of a path are numbered from 1, begin with its first day and close in one way, after the last of them; control is on "
        "none with a touch, and nobody has two open paths (SPEC 13). Make path_steps again, from the first day that is wrong.",
        between(broken_paths, table("path_steps")),
    ),
    Promise(
        "path_steps",
        "no_path_is_lost",
        "Every path that was open yesterday is there today, under the name that its customer has now, open or closed (SPEC 13). "
        "Make path_steps again, from the first day that is wrong.",
        after_first_day(lost_paths, "path_steps", absorbed_on),
    ),
    Promise(
        "path_steps",
        "every_touch_is_a_step",
        "Every entry of the day as treated is a step of a path, and every step that begins today is such an entry (SPEC 13). Make "
        "path_steps again: the day was decided again since.",
        between(unfollowed_entries, table("path_steps"), table("journey_entries")),
    ),
    Promise(
        "journey_attribution",
        "credit_adds_up",
        "Each way to share credit gives away the conversions and the money of closed paths, no more and no less (SPEC 13). Make "
        "path_durations and journey_attribution again.",
        between(uncredited_conversions, table("journey_attribution"), table("path_durations")),
    ),
)
