"""Tables of what leaves: their columns and types.

What belongs here: what the columns are. What does not: how rows come about (``messages``).
"""

import polars as pl

MESSAGES = {
    "date": pl.Date(),
    "idempotency_key": pl.String(),
    "customer_id": pl.String(),
    "journey_id": pl.String(),
    "step_day": pl.Int64(),
    "channel": pl.String(),
    "content": pl.String(),
    "variant": pl.String(),
    "send_at": pl.Datetime("us", "UTC"),
    "withheld": pl.String(),
}
