"""What every table has in common."""

import polars as pl

AT = pl.Datetime("us", "UTC")
"""A moment."""
