"""Tables of events: their columns and types, the types of an event, and why a line is rejected.

What belongs here: what the columns are. What does not: how rows come about (``ingest``).
"""

import polars as pl

TYPES = ("track", "page", "screen", "identify", "alias", "group")

REASONS = (
    "too_large",
    "malformed_json",
    "unknown_type",
    "missing_identity",
    "missing_event_name",
    "bad_timestamp",
    "from_the_future",
)
"""Why a line is rejected, in the order tested."""

RAW_EVENTS = {
    "date": pl.Date(),
    "message_id": pl.String(),
    "type": pl.String(),
    "event": pl.String(),
    "user_id": pl.String(),
    "anonymous_id": pl.String(),
    "previous_id": pl.String(),
    "timestamp": pl.Datetime("us", "UTC"),
    "event_date": pl.Date(),
    "received_at": pl.Datetime("us", "UTC"),
    "properties": pl.String(),
    "traits": pl.String(),
    "context": pl.String(),
    "source_file": pl.String(),
    "line": pl.Int64(),
    "extra": pl.String(),
}

REJECTED_EVENTS = {
    "date": pl.Date(),
    "source_file": pl.String(),
    "line": pl.Int64(),
    "reason": pl.String(),
    "raw": pl.String(),
}
