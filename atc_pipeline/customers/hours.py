"""Hours of the day: how often a customer was active at each, where the customer lives (SPEC 3, ``best_hour``).

Events are tallied by quarters of an hour in UTC (``remembered.HOURS``), because what hour that was depends on where the
customer turns out to live. The running state has 24 counts of local hours; it is counted anew for who moved or was merged.

What belongs here: those counts and the best of them. What does not: when a message is sent (``activation.timing``).
"""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from atc_pipeline.customers.merging import spread
from atc_pipeline.customers.remembered import HOURS, QUARTER_HOUR
from atc_pipeline.journeys.calendar import is_time_zone

HOURS_A_DAY = 24
COUNTS = pl.Array(pl.Int32(), HOURS_A_DAY)


def count(customers: pl.DataFrame, *, moved: pl.DataFrame, within: Callable[[], pl.DataFrame], timezone: str) -> pl.Series:
    """Return 24 counts per row of ``customers``, in their order.

    ``customers``: ``row`` (their number in that order), ``zone`` and ``zone_before`` (today's and yesterday's time zone; null or
    nonsense = the calendar's ``timezone``), ``is_merged``, and yesterday's counts. ``moved``: one row per customer and quarter of an hour
    that came into the window (``n`` above 0) or left it (below): ``row``, ``value``, ``n``. ``within``: one row per rollup of the window,
    ``row`` and ``hours``, read only where somebody has another time zone than yesterday or was merged.
    """
    there = pl.concat([customers["zone"], customers["zone_before"]]).unique().drop_nulls()
    zones = sorted({timezone, *filter(is_time_zone, there)})
    numbers = {zone: number for number, zone in enumerate(zones)}
    zone, zone_before = (
        pl.col(name).replace_strict(numbers, default=numbers[timezone], return_dtype=pl.UInt32) for name in ("zone", "zone_before")
    )
    known = customers.with_columns(
        zone=zone,
        is_anew=pl.col("is_merged").fill_null(value=False) | (pl.col("hours").is_not_null() & (zone != zone_before)),
    )
    counts, is_anew = _counts_before(known), known["is_anew"].to_numpy()
    _add(counts, known["zone"], zones, moved.filter(~is_anew[moved["row"].to_numpy()]))
    if is_anew.any():
        quarters = spread([within()], "row", HOURS)
        _add(counts, known["zone"], zones, quarters.filter(is_anew[quarters["row"].to_numpy()]))
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


def _add(counts: np.ndarray, zone: pl.Series, zones: Sequence[str], rows: pl.DataFrame) -> None:
    """Add rows to their customers' counts, each at the hour it was where the customer lives: in the customer's of the ``zones``."""
    if rows.is_empty():
        return
    quarters = rows["value"].unique().sort()
    moments = pl.from_epoch(quarters * QUARTER_HOUR).dt.replace_time_zone("UTC")
    hours = np.array([moments.dt.convert_time_zone(name).dt.hour().to_numpy() for name in zones])
    customers = rows["row"].to_numpy()
    hour = hours[zone.to_numpy()[customers], np.searchsorted(quarters.to_numpy(), rows["value"].to_numpy())]
    np.add.at(counts.reshape(-1), customers * np.int64(HOURS_A_DAY) + hour, rows["n"].to_numpy())
