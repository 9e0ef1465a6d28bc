"""What a changed ``journeys.yaml`` makes necessary: features, metrics, micro-segments and queues that the lake lacks, or has otherwise.

What belongs here: reading that off the days themselves, so that whoever asks after a crash sees what is left to do. What does not: making
any of it (``days.customers``, ``days.decision``), or what changed in words (``journeys.changes``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from atc_pipeline.customers import features
from atc_pipeline.days.customers import Memberships, Metrics
from atc_pipeline.days.decision import Queues
from atc_pipeline.days.features import Definitions
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.tables.store import Store

DECIDED = "journey_assignments"
"""Says which days are decided: a lake in which nothing was ever decided has not begun."""


@dataclass(frozen=True)
class Additions:
    """What is to be made: features and metrics from the first day of the lake on, the rest from ``first`` to ``last``."""

    first: date
    last: date
    features: tuple[str, ...]
    metrics: tuple[str, ...]
    segments: tuple[str, ...]
    queues: tuple[str, ...]

    def __bool__(self) -> bool:
        """Tell whether anything is."""
        return bool(self.features or self.metrics or self.segments or self.queues)

    @property
    def words(self) -> str:
        """Say it in a line."""
        parts = {
            "traits, interests, intents or predictions": self.features,
            "metrics": self.metrics,
            "micro-segments": self.segments,
            "queues": self.queues,
        }
        named = [f"{what}: {', '.join(names)}" for what, names in parts.items() if names]
        return "; ".join(named) if named else "nothing"


def window_of(store: Store, portfolio: Portfolio) -> list[date]:
    """Return the last ``calendar.backfill_days`` days that are decided, as far as they follow each other."""
    decided = [day for day in store.days(DECIDED) if day >= portfolio.starts_on]
    if not decided:
        return []
    known, last = set(decided), decided[-1]
    days = [last]
    while len(days) < portfolio.backfill_days and (before := days[-1] - timedelta(days=1)) in known:
        days.append(before)
    return days[::-1]


def additions(store: Store, portfolio: Portfolio) -> Additions | None:
    """Return what is new or defined anew in the days of the window; None where nothing was decided yet.

    Raises OutdatedDayError where everything must be made again, and what a store raises of a day that is missing or damaged.
    """
    days = window_of(store, portfolio)
    if not days:
        return None
    definitions = Definitions(store, features.definitions(portfolio), portfolio.starts_on)
    behind = [feature for table in ("customer_activity", "customer_profiles") for feature in definitions.changed(table, days[-1])]
    memberships, queues = Memberships(store, portfolio), Queues(store, portfolio)
    return Additions(
        days[0],
        days[-1],
        _in_order(behind),
        _in_order(Metrics(store, portfolio).behind(days[-1])),
        _in_order(name for day in days for name in memberships.changed(day)),
        _in_order(name for day in days for name in queues.changed(day)),
    )


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
