"""What was delivered already: decisions of the day that messages went out for stand when it is decided again (SPEC 8, "Re-running").

What belongs here: which of them stand, which fall, and what gives way. What does not: what is decided anew (``choice``).
"""

from datetime import date

import polars as pl

from atc_pipeline.decision.catalogue import Catalogue
from atc_pipeline.decision.memory import IN_FLIGHT
from atc_pipeline.decision.records import IS_ENTRY
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS
from atc_pipeline.rules.people import survivors


def kept(
    delivered: pl.DataFrame | None, absorbed: pl.LazyFrame | None, past: pl.DataFrame, customers: pl.LazyFrame, catalogue: Catalogue
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row per assignment that stands because it was delivered, numbered, by customer; and those of older names that do not yet.

    It falls, and the customer is decided anew, where it cannot be true any more: its journey is gone from the portfolio, or
    yesterday, decided again since, left the customer somewhere else. Somebody may have been written to under several names: what
    they have now counts before older ones, then the latest entry. What started under an older name has begun all the same
    (``kept_after_all``).
    """
    if delivered is None or delivered.is_empty():
        nothing = pl.DataFrame(schema={**JOURNEY_ASSIGNMENTS.schema, "customer": pl.UInt32, "journey": pl.UInt16})
        return nothing, nothing
    running = past.lazy().filter(IN_FLIGHT).select("customer", running="journey_id", running_since="entered_on")
    known = catalogue.numbers().collect().filter(catalogue.facts["is_known"])
    goes_on = (pl.col("running") == pl.col("journey_id")) & (pl.col("running_since") == pl.col("entered_on"))
    begins = pl.col("running").eq_missing(pl.col("ended_journey_id"))  # merged is told only where a journey continues
    fits = pl.when(IS_ENTRY).then(begins).otherwise(goes_on)
    rows = (
        survivors(delivered.lazy().select(*JOURNEY_ASSIGNMENTS.schema, name="customer_id"), absorbed)
        .join(customers, on="customer_id")
        .join(known.lazy(), on="journey_id")
        .join(running, on="customer", how="left")
        .with_columns(fits=fits.fill_null(value=False), is_own=pl.col("name") == pl.col("customer_id"))
        .sort("customer", "fits", "is_own", "entered_on", "journey_id", "name", descending=[False, True, True, True, False, False])
        .with_columns(is_kept=pl.col("fits") & pl.col("customer").is_first_distinct(), is_entry=IS_ENTRY)
        .collect()
    )
    columns = [*JOURNEY_ASSIGNMENTS.schema, "customer", "journey"]
    kept = rows.filter("is_kept").select(columns)
    older = rows.filter(~pl.col("is_kept") & ~pl.col("is_own") & pl.col("is_entry"))
    is_in_one = pl.col("running").is_not_null() | pl.col("customer").is_in(kept["customer"].implode())
    return kept, older.filter(is_in_one).sort("customer", "journey_id", "name").select(columns)


def kept_after_all(kept: pl.DataFrame, older: pl.DataFrame, past: pl.DataFrame, today: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Let starts under older names stand where what the customer was in has ended today; return what stands, and what gives way.

    What gives way was started and has ended ``merged`` (``memory.note_given_up``), unless it is the very journey that goes on.
    """
    if older.is_empty():
        return kept, older
    in_flight = past.filter(IN_FLIGHT)
    ended = past.filter((pl.col("ended_on") == today) & (pl.col("ended_reason") != "merged"))
    free = older.join(kept, on="customer", how="anti").join(in_flight, on="customer", how="anti").unique("customer", keep="first")
    stands = (
        free.drop("ended_journey_id", "ended_reason")
        .join(ended.select("customer", "ended_reason", ended_journey_id="journey_id"), on="customer")
        .with_columns(decision=pl.lit("start"))
        .select(kept.columns)
    )
    kept = pl.concat([kept, stands]).sort("customer")
    return kept, older.join(kept, on=["customer", "journey"], how="anti")


def carried(past: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """One row per customer and journey that is an option without a queue: in flight, or delivered already."""
    in_flight = past.filter(IN_FLIGHT & pl.col("customer").is_not_null())
    delivered = kept.join(in_flight, on=["customer", "journey"], how="anti")
    return pl.concat(
        [
            in_flight.select("customer", "journey", is_incumbent=pl.lit(value=True)),
            delivered.select("customer", "journey", is_incumbent=pl.lit(value=False)),
        ]
    )
