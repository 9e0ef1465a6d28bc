"""What must hold of messages (SPEC 9): each promise finds the rows that break it."""

import polars as pl


def unexpected_messages(messages: pl.LazyFrame, assignments: pl.LazyFrame) -> pl.LazyFrame:
    """Return messages to customers who are not treated in that journey today."""
    treated = assignments.filter(pl.col("arm") == "treated").select("date", "customer_id", "journey_id")
    return messages.select("date", "idempotency_key", "customer_id", "journey_id", "step_day").join(
        treated, on=["date", "customer_id", "journey_id"], how="anti"
    )
