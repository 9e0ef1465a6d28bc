"""Hours of the day: how often a customer was active at each, where the customer lives (SPEC 3, ``best_hour``).

Events are tallied by quarters of an hour in UTC (``remembered.HOURS``), because what hour that was depends on where the
customer turns out to live. The running state has 24 counts of local hours; it is counted anew for who moved or was merged.

What belongs here: those counts and the best of them. What does not: when a message is sent (``activation.timing``).
"""

import numpy as np
import polars as pl

from atc_pipeline.customers.remembered import QUARTER_HOUR
from atc_pipeline.journeys.calendar import is_time_zone

HOURS_A_DAY = 24
COUNTS = pl.Array(pl.Int32(), HOURS_A_DAY)


def count(customers: pl.DataFrame, *, moved: pl.LazyFrame, within: pl.LazyFrame, timezone: str) -> pl.Series:
    """Return 24 counts per row of ``customers``, in their order.

    ``customers``: ``row`` (their number in that order), ``zone`` and ``zone_before`` (today's and yesterday's time zone; null or
    nonsense = the calendar's ``timezone``), ``is_merged``, and yesterday's counts. ``moved``: one row per customer and quarter of an hour
    that came into the window (``n`` above 0) or left it (below): ``value``, ``n``. ``within``: the same for all of the window,
    read only where somebody has another time zone than yesterday or was merged.
    """
    zone_names = pl.concat([customers["zone"], customers["zone_before"]]).unique().drop_nulls()
    zones = {zone: zone for zone in zone_names if is_time_zone(zone)}
    zone = pl.col("zone").replace_strict(zones, default=timezone, return_dtype=pl.String)
    zone_before = pl.col("zone_before").replace_strict(zones, default=timezone, return_dtype=pl.String)
    known = customers.with_columns(
        zone=zone,
        is_anew=pl.col("is_merged").fill_null(value=False) | (pl.col("hours").is_not_null() & (zone != zone_before)),
    )
    counts = _counts_before(known)
    _add(counts, known.filter(~pl.col("is_anew")), moved)
    if known["is_anew"].any():
        _add(counts, known.filter("is_anew"), within)
    return pl.Series("hours", counts)


def best(counts: pl.Series) -> pl.Series:
    """Return the hour with most events, the earliest of several; null without events."""
    matrix = counts.to_numpy()
    hour = pl.Series("best_hour", matrix.argmax(axis=1), dtype=pl.Int64)
    return pl.select(pl.when(pl.Series(matrix.any(axis=1))).then(hour)).to_series()


def _counts_before(known: pl.DataFrame) -> np.ndarray:
    counts = np.zeros((known.height, HOURS_A_DAY), dtype=np.int32)
    kept = known.filter(pl.col("hours").is_not_null() & ~pl.col("is_anew"))
    counts[kept["row"].to_numpy()] = kept["hours"].to_numpy()
    return counts


def _add(counts: np.ndarray, customers: pl.DataFrame, rows: pl.LazyFrame) -> None:
    """Add the rows of these customers to their counts, each at the hour it was where the customer lives."""
    quarters = rows.join(customers.lazy().select("row", "zone"), on="row").select("row", "zone", "value", "n").collect()
    for (zone,), part in quarters.partition_by("zone", as_dict=True).items():
        moments = pl.from_epoch(part["value"] * QUARTER_HOUR).dt.replace_time_zone("UTC").dt.convert_time_zone(str(zone))
        places = part["row"].to_numpy().astype(np.int64) * HOURS_A_DAY + moments.dt.hour().to_numpy()
        np.add.at(counts.reshape(-1), places, part["n"].to_numpy())
