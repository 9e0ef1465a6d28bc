"""What promises share: comparing a day with the one before it."""

import polars as pl


def a_day_later(yesterday: pl.LazyFrame, absorbed: pl.LazyFrame) -> pl.LazyFrame:
    """Date yesterday's rows by the day after, under the names of those who absorbed their customers."""
    who = absorbed.select("date", pl.col("absorbed").alias("customer_id"), pl.col("customer_id").alias("survivor:"))
    return (
        yesterday.with_columns(pl.col("date").dt.offset_by("1d"))
        .join(who, on=["date", "customer_id"], how="left")
        .with_columns(customer_id=pl.coalesce("survivor:", "customer_id"))
        .drop("survivor:")
    )
