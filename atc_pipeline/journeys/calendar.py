"""Time zones: which names can be used.

What belongs here: what both the portfolio and customers' own time zones must satisfy. What does not: days and hours.
"""

from datetime import datetime
from functools import cache
from zoneinfo import ZoneInfo

import polars as pl


@cache
def is_time_zone(name: str) -> bool:
    """Return whether Python and Polars both know the zone: each has names (``localtime``, ``Factory``) the other refuses."""
    try:
        ZoneInfo(name)
        pl.select(pl.lit(datetime(2000, 1, 1)).dt.replace_time_zone(name))  # noqa: DTZ001  # that is the question
    except (KeyError, OSError, ValueError, pl.exceptions.PolarsError):
        return False
    return True
