"""Tables of what came of it.

What belongs here: what the tables are. What does not: how rows come about (``matrix``).
"""

import polars as pl

from atc_pipeline.tables.table import DATE, SEGMENT_ID, Column, Entry, Table

SEGMENT_MATRIX = Table(
    "segment_matrix",
    "One row per micro-segment per day: its size, who came and went, the journey that serves most of it.",
    key=("segment_id",),
    columns=(
        DATE,
        SEGMENT_ID,
        Column("customers", pl.Int64(), "Customers in it today.", at_least=0),
        Column("entered", pl.Int64(), "Of these, who were not in it yesterday.", at_least=0),
        Column("left", pl.Int64(), "Customers of yesterday who are not in it today."),
        Column("served", pl.Int64(), "Customers who are in any journey today, control included.", at_least=0),
        Column("journey_id", pl.String(), "The journey most of these are in; null where nobody is in one.", is_nullable=True),
        Column("served_most", pl.Int64(), "Customers who are in that journey.", at_least=0),
    ),
)

TABLES: tuple[Entry, ...] = (SEGMENT_MATRIX,)
