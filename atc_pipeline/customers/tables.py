"""Tables of customers: their columns and types.

What belongs here: what the columns are. What does not: how rows come about (``activity``, ``profiles``, ``segments``, ``purchases``).
"""

import polars as pl

MEMBERSHIPS = {
    "date": pl.Date(),
    "segment_id": pl.String(),
    "customer_id": pl.String(),
    "member_since": pl.Date(),
}


PURCHASE_MODELS = {
    "date": pl.Date(),
    "fitted_on": pl.Date(),
    "r": pl.Float64(),
    "alpha": pl.Float64(),
    "a": pl.Float64(),
    "b": pl.Float64(),
    "customers": pl.Int64(),
    "repeat_customers": pl.Int64(),
    "log_likelihood": pl.Float64(),
    "value_fitted_on": pl.Date(),
    "p": pl.Float64(),
    "q": pl.Float64(),
    "v": pl.Float64(),
    "value_bound": pl.Float64(),
    "bounded_customers": pl.Int64(),
    "valued_customers": pl.Int64(),
    "value_log_likelihood": pl.Float64(),
    "is_refitted": pl.Boolean(),
    "note": pl.String(),
}
"""One row per day: the models in use on it. Parameters are null before the first fit."""


COVERAGE = {
    "date": pl.Date(),
    "feature": pl.String(),
    "part": pl.Int64(),
    "event": pl.String(),
    "events": pl.Int64(),
    "matched": pl.Int64(),
    "read": pl.Int64(),
    "skipped": pl.Int64(),
    "sample": pl.String(),
    "sample_message_id": pl.String(),
}
"""One row per feature, part of it (the first, second signal of an interest) and event named: how many of these events arrived on
the day; and of the part as a whole, how many events or items it matched, how many values were read and how many skipped, with what
one of those looks like and where it is. What it looks like is no value: that may name somebody."""
