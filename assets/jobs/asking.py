"""How a sensor asks for a run: in one run for a stretch of days, again after pauses that grow, and not while one is under way.

What belongs here: what the sensors that start runs have in common. What does not: what any of them looks at.
"""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from assets.daily import STATE_TAG

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Asked:
    """How often a run was asked for in one situation, and when last."""

    situation: str
    times: int = 0
    at: datetime = datetime(1, 1, 1, tzinfo=UTC)

    @classmethod
    def read(cls, cursor: str | None, situation: str) -> "Asked":
        """Return what the cursor remembers of this situation; a cursor of an older kind remembers nothing."""
        asked = json.loads(cursor) if cursor else {}
        if asked.get("situation") != situation:
            return cls(situation)
        return cls(situation, asked["times"], datetime.fromisoformat(asked["at"]))

    @property
    def not_before(self) -> datetime:
        """Return when to try again."""
        return self.at if not self.times else self.at + min(FIRST_PAUSE * 2 ** (min(self.times, 10) - 1), LONGEST_PAUSE)

    def again(self, now: datetime) -> "Asked":
        """Count one more."""
        return Asked(self.situation, self.times + 1, now)

    def written(self) -> str:
        """Return the cursor."""
        return json.dumps({"situation": self.situation, "times": self.times, "at": self.at.isoformat()})


FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=5), timedelta(hours=6)


def stretch(first: date, last: date, key: str) -> dg.RunRequest:
    """Ask for one run from the first day to the last: each day stands on the one before."""
    key = f"{first}...{last}:{key}"
    if first == last:
        return dg.RunRequest(run_key=key, partition_key=str(first), tags=STATE_TAG)
    stretch = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
    return dg.RunRequest(run_key=key, tags=STATE_TAG | stretch)
