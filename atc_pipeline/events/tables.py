"""Tables of events, and the words in them: the types of an event, and why a line is rejected.

What belongs here: what the tables are. What does not: how rows come about (``ingest``).
"""

import polars as pl

from atc_pipeline.tables.table import DATE, MOMENT, Column, Entry, Table

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

SOURCE_FILE = Column("source_file", pl.String(), "File in the landing zone.")
LINE = Column("line", pl.Int64(), "Line in that file, from 1.", at_least=1)

RAW_EVENTS = Table(
    "raw_events",
    "One row per accepted event of the Segment Spec that arrived on the day, duplicates removed.",
    key=("message_id",),
    columns=(
        DATE,
        Column("message_id", pl.String(), "Segment's messageId; a hash of the line where it had none."),
        Column("type", pl.String(), "The kind of call.", one_of=TYPES),
        Column("event", pl.String(), "Name of a track event.", is_nullable=True),
        Column("user_id", pl.String(), "userId, as it arrived.", is_nullable=True),
        Column("anonymous_id", pl.String(), "anonymousId, as it arrived.", is_nullable=True),
        Column("previous_id", pl.String(), "previousId of an alias.", is_nullable=True),
        Column("timestamp", MOMENT, "When it happened (UTC), the sender's clock corrected."),
        Column("event_date", pl.Date(), "The day it happened, in the calendar's time zone."),
        Column("received_at", MOMENT, "receivedAt (UTC).", is_nullable=True),
        Column("properties", pl.String(), "JSON text, as it arrived.", is_nullable=True),
        Column("traits", pl.String(), "JSON text, as it arrived.", is_nullable=True),
        Column("context", pl.String(), "JSON text, as it arrived.", is_nullable=True),
        SOURCE_FILE,
        LINE,
        Column("extra", pl.String(), "The line's other fields, as one JSON object.", is_nullable=True),
    ),
)

REJECTED_EVENTS = Table(
    "rejected_events",
    "One row per line that arrived on the day and was not accepted: file, line, reason, text. Nothing is lost.",
    key=("source_file", "line"),
    columns=(
        DATE,
        SOURCE_FILE,
        LINE,
        Column("reason", pl.String(), "The first test the line failed.", one_of=REASONS),
        Column("raw", pl.String(), "The line, as it arrived."),
    ),
)

TABLES: tuple[Entry, ...] = (RAW_EVENTS, REJECTED_EVENTS)
