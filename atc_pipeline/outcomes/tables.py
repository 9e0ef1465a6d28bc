"""Tables of what came of it: their columns and types.

What belongs here: what the columns are. What does not: how rows come about (``matrix``).
"""

import polars as pl

MATRIX = {
    "date": pl.Date(),
    "segment_id": pl.String(),
    "customers": pl.Int64(),
    "entered": pl.Int64(),
    "left": pl.Int64(),
    "served": pl.Int64(),
    "journey_id": pl.String(),
    "served_most": pl.Int64(),
}
