"""When a message may arrive: the customer's best hour, where the customer lives (SPEC 9).

What belongs here: hours, time zones and clocks that change. What does not: which messages there are (``messages``).
"""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import count
from zoneinfo import ZoneInfo, available_timezones

import polars as pl

from atc_pipeline.journeys.calendar import is_time_zone

DEFAULT_HOUR = 10
"""Local hour at which customers are reached whose best hour is not known."""


@cache
def _time_zones() -> set[str]:
    return available_timezones()  # which looks at hundreds of files


def with_send_at(messages: pl.LazyFrame, profiles: pl.LazyFrame, default: str, first: date, after: datetime) -> pl.LazyFrame:
    """Add ``send_at``: the first time not before ``after`` that it is the customer's best hour where the customer lives, from ``first`` on.

    An hour that the clocks skip is the next one; one that comes twice is the first.
    """
    homes = profiles.select("timezone", "best_hour").unique().collect()
    zones = [name for name in homes["timezone"].unique() if name in _time_zones() and is_time_zone(name)]
    zone = pl.when(pl.col("timezone").is_in(zones)).then("timezone").alias("zone")
    rows = []
    for name, hour in homes.select(zone, "best_hour").unique().iter_rows():  # a few per time zone
        place, at = ZoneInfo(name or default), time(DEFAULT_HOUR if hour is None else hour)
        moments = (datetime.combine(first + timedelta(days=days), at, place).astimezone(UTC) for days in count())
        rows.append((name, hour, next(moment for moment in moments if moment >= after)))
    times = pl.LazyFrame(rows, schema={"zone": pl.String, "best_hour": pl.Int64, "send_at": pl.Datetime("us", "UTC")}, orient="row")
    return messages.with_columns(zone).join(times, on=["zone", "best_hour"], how="left", nulls_equal=True)
