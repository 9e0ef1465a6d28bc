"""When a message may arrive: the customer's hour, where the customer lives, within the hours of the channel (SPEC 9.5).

What belongs here: hours, time zones and clocks that change. What does not: which messages there are (``messages``), and on which
channel (``choosing``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import count
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import polars as pl

from atc_pipeline.journeys.calendar import is_time_zone
from atc_pipeline.journeys.portfolio import Hours

DEFAULT_HOUR = 10
"""Local hour at which customers are reached whose best hour is not known."""

MINUTES_A_DAY = 24 * 60
_DAY = timedelta(days=1)
_EPOCH, _EPOCH_DAY = datetime(1970, 1, 1, tzinfo=UTC), date(1970, 1, 1)


@cache
def _time_zones() -> set[str]:
    return available_timezones()  # which looks at hundreds of files


def arrival(first: date, after: datetime, clock: time, place: ZoneInfo, hours: Hours | None) -> datetime:
    """Return the first time not before ``after``, on a local day from ``first`` on, that it is ``clock`` there, clamped into ``hours``.

    A day that is not among those of ``hours`` is passed over. An hour that the clocks skip is the next one, and one that comes twice is
    the first; where the next one is outside ``hours``, that day has no such hour.
    """
    at = (
        clock
        if hours is None or hours.first <= clock.hour < hours.end
        else time(hours.first if clock.hour < hours.first else hours.end - 1)
    )
    for days in count():
        moment = datetime.combine(first + days * _DAY, at, place).astimezone(UTC)
        if moment >= after and (hours is None or is_open(moment.astimezone(place), hours)):
            return moment
    raise AssertionError


def is_open(local: datetime, hours: Hours) -> bool:
    """Return whether a message may arrive then: ``local`` is the time where the customer lives."""
    return hours.first <= local.hour < hours.end and local.weekday() in hours.days


@dataclass(frozen=True, eq=False)
class Homes:
    """Where and when customers of some rows are reached, as numbers: by row the ``zone`` and the ``cell``, a zone and a minute of the day.

    ``names``: the zones by their numbers, the calendar's first; ``is_known``: by row, whether it is the customer's own.
    """

    names: Sequence[str]
    zone: np.ndarray
    is_known: np.ndarray
    cell: np.ndarray

    @classmethod
    def of(cls, timezone: pl.Series, minute: pl.Series, default: str) -> "Homes":
        """Number the homes of rows: ``timezone`` as customers tell it, ``default`` where it is none; ``minute`` of the local day."""
        named = [name for name in timezone.unique().drop_nulls() if name in _time_zones() and is_time_zone(name)]
        number = timezone.cast(pl.Enum(named), strict=False).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        return cls((default, *named), number + 1, number >= 0, (number + 1) * MINUTES_A_DAY + minute.to_numpy())


@dataclass(frozen=True, eq=False)
class Arrivals:
    """By each kind of hours and each cell of some homes: when it is, in microseconds UTC, and on which local day since 1970."""

    at: np.ndarray
    local_on: np.ndarray

    @classmethod
    def of(cls, homes: Homes, kinds: Sequence[Hours | None], first: date, after: datetime) -> "Arrivals":
        """Work each of them out once, however many customers live there: a few per time zone."""
        size = (len(kinds), len(homes.names) * MINUTES_A_DAY)
        at, local_on = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int32)
        lived_in = np.zeros(size[1], dtype=bool)
        lived_in[homes.cell] = True
        for cell in np.flatnonzero(lived_in).tolist():
            zone, minute = divmod(cell, MINUTES_A_DAY)
            place, clock = ZoneInfo(homes.names[zone]), time(minute // 60, minute % 60)
            for kind, hours in enumerate(kinds):
                moment = arrival(first, after, clock, place, hours)
                at[kind, cell] = (moment - _EPOCH) // timedelta(microseconds=1)
                local_on[kind, cell] = (moment.astimezone(place).date() - _EPOCH_DAY).days
        return cls(at, local_on)


def ends_of_days(homes: Homes, local_on: np.ndarray) -> np.ndarray:
    """Return, by row, when the local day is over, in microseconds UTC; ``local_on``: the day since 1970."""
    days, day_of = np.unique(local_on, return_inverse=True)
    pair = homes.zone * len(days) + day_of
    ends = np.zeros(len(homes.names) * len(days), dtype=np.int64)
    needed = np.zeros(len(ends), dtype=bool)
    needed[pair] = True
    for each in np.flatnonzero(needed).tolist():
        zone, number = divmod(each, len(days))
        end = datetime.combine(_EPOCH_DAY + int(days[number] + 1) * _DAY, time(), ZoneInfo(homes.names[zone]))
        ends[each] = (end.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    return np.asarray(ends[pair])


def day_number(day: date) -> int:
    """Return which day since 1970 it is."""
    return (day - _EPOCH_DAY).days


def minute_of(clock: time) -> int:
    """Return which minute of the day it is."""
    return clock.hour * 60 + clock.minute
