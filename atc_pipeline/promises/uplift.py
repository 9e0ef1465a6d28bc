"""What must hold of comparisons, or they prove nothing (SPEC 11): each rule finds the rows that break it.

What belongs here: promises about who is compared with whom, and their words. What does not: what promises share (``promise``), whether
outcomes are whole (``promises.maturing``), the verdict that follows (``outcomes.verdicts``).
"""

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from atc_pipeline.journeys.portfolio import SYSTEM, Portfolio
from atc_pipeline.outcomes.tables import ALL, HARMS, HELPS, LONG
from atc_pipeline.outcomes.verdicts import UNEVEN
from atc_pipeline.promises.promise import Promise, between, table
from atc_pipeline.rules.arms import CONTROL
from atc_pipeline.tables.store import Store


def messages_to_control(activation: pl.LazyFrame, assignments: pl.LazyFrame) -> pl.LazyFrame:
    """Return what was delivered for a journey that its customer is in, held out."""
    held_out = assignments.filter(pl.col("arm") == CONTROL).select("date", "customer_id", "journey_id")
    delivered = activation.filter(pl.col("status") == "delivered").select("date", "idempotency_key", "customer_id", "journey_id")
    return delivered.join(held_out, on=["date", "customer_id", "journey_id"], how="semi")


def messages_in_control(uplift: pl.LazyFrame) -> pl.LazyFrame:
    """Return journeys of which our own events say that messages went to customers who are held out."""
    return _once(uplift).filter(pl.col("sent_to_control") > 0).select("date", "journey_id", "sent_to_control")


def uneven_splits(uplift: pl.LazyFrame) -> pl.LazyFrame:
    """Return journeys whose customers were divided otherwise than by the shares that were to be held out."""
    return _once(uplift).filter(pl.col("sample_ratio_p") < UNEVEN).select("date", "journey_id", "sample_ratio_p")


def unlike_before(uplift: pl.LazyFrame) -> pl.LazyFrame:
    """Return metrics in which the arms differed before anything was sent; of so many that were looked at."""
    looked_at = _first(uplift).with_columns(tests=pl.col("before_p").count().over("date"))
    return looked_at.filter(pl.col("before_p") < UNEVEN / pl.col("tests")).select("date", "journey_id", "metric", "before_p", "tests")


def unstable_arms(uplift: pl.LazyFrame) -> pl.LazyFrame:
    """Return journeys with customers who are in both arms, and counted."""
    return _once(uplift).filter(pl.col("unstable") > 0).select("date", "journey_id", "unstable")


def proved_of_nothing(uplift: pl.LazyFrame) -> pl.LazyFrame:
    """Return journeys that are said to help or harm on a day before which nothing was ever delivered."""
    sent = pl.col("delivered").fill_null(0).sum().over("date")
    is_said = pl.col("verdict").is_in([HELPS, HARMS])
    return _first(uplift).filter(sent == 0).filter(is_said).select("date", "journey_id", "metric", "verdict", "verdict_reason")


def _first(uplift: pl.LazyFrame) -> pl.LazyFrame:
    """Return what is asked of all entries, and not of slices of them."""
    return uplift.filter(pl.col("slice") == pl.when(pl.col("journey_id") == SYSTEM).then(pl.lit(LONG)).otherwise(pl.lit(ALL)))


def _once(uplift: pl.LazyFrame) -> pl.LazyFrame:
    """Return one row per journey of what all its metrics have in common."""
    return _first(uplift).unique(["date", "journey_id"], keep="first", maintain_order=True)


def _sent_to_control(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    # What was handed over on the day before may be known only by now.
    since = sorted({*days, *(day - timedelta(days=1) for day in days)})
    parts = [
        between(messages_to_control, table("activation"), table("journey_assignments"))(store, portfolio, since),
        between(messages_in_control, table("uplift"))(store, portfolio, days),
    ]
    return pl.concat(parts, how="diagonal")


_LOOK = "look at who is in which arm of it (`journey_entries`): until it is mended, the verdict of these journeys is `broken`"

PROMISES = (
    Promise(
        "uplift",
        "control_is_silent",
        "Nothing was delivered for a journey to a customer who is held out of it, by what was handed over and by our own `Message Sent` "
        f"events (SPEC 11). If it fails, find out who sends for the journey beside us; {_LOOK}.",
        _sent_to_control,
    ),
    Promise(
        "uplift",
        "sample_ratio",
        "First entries are divided by the shares that were to be held out, but for what chance does once in a thousand (SPEC 11). If it "
        f"fails, entries of one arm were lost or made twice, or `holdout` is not what was drawn by; {_LOOK}.",
        between(uneven_splits, table("uplift")),
        is_blocking=False,
        is_error=True,
    ),
    Promise(
        "uplift",
        "alike_before",
        "Treated and control were alike in every metric before they entered, but for what chance does once in a thousand, of so many "
        f"looked at (SPEC 11). If it fails, something but the lots decides who is held out; {_LOOK}.",
        between(unlike_before, table("uplift")),
        is_blocking=False,
        is_error=True,
    ),
    Promise(
        "uplift",
        "arms_are_stable",
        "Nobody is counted in both arms of one journey; who merged with somebody of the other is not counted (SPEC 11). If it fails, the "
        f"lots were drawn anew, as by another `holdout_version`, for entries that are counted as one; {_LOOK}.",
        between(unstable_arms, table("uplift")),
        is_blocking=False,
        is_error=True,
    ),
    Promise(
        "uplift",
        "null_effect",
        "Where nothing was ever delivered, no journey is said to help or to harm (SPEC 11): it would be an effect of nothing. If it fails "
        "on more than one day in a row, look at the arms of that journey: an estimate is wrong, or somebody sends beside us.",
        between(proved_of_nothing, table("uplift")),
        is_blocking=False,
    ),
)
"""In the order of the lineage."""
