"""Whether the day just over is decided by 07:00: a check that is red while it is not, and the sensor that looks.

Dagster's own freshness policies know no partitions: any day that is made again would be taken for a fresh one.

What belongs here: the check, and when it is evaluated. What does not: which day is due (``resources.storage.repair``).
"""

import os
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import dagster as dg

from atc_pipeline.journeys.portfolio import Portfolio
from resources.channels.alerts import tell
from resources.journeys import JourneysFile
from resources.storage.lake import Lake
from resources.storage.repair import DECIDED_BY, LAST_MADE, command, due_by, is_closed

CHECK = "yesterday_is_decided"
KEY = dg.AssetCheckKey(dg.AssetKey(LAST_MADE), CHECK)
SELECTION = dg.AssetSelection.checks(KEY)
"""It is about today's clock, not about the days of a run: no run but its own evaluates it."""


def freshness_check() -> dg.AssetChecksDefinition:
    """Build the check, which can be executed by hand, too."""

    @dg.asset_check(
        asset=LAST_MADE,
        name=CHECK,
        description=f"From {DECIDED_BY:%H:%M} on, where the business is, the day just over has been decided after it was over. If it "
        "fails, run what it names; it is looked at every minute, and green again once the day is decided.",
    )
    def yesterday_is_decided(lake: Lake, journeys: JourneysFile) -> dg.AssetCheckResult:
        verdict = judge(lake, journeys.in_use().portfolio, datetime.now(UTC))
        return dg.AssetCheckResult(passed=verdict.passed, description=verdict.says, metadata={"day": str(verdict.day)})

    return yesterday_is_decided


def freshness_sensor(lake: Lake) -> dg.SensorDefinition:
    """Evaluate the check when its answer has changed, without a run; tell that it fails, once a day."""

    @dg.sensor(
        name="freshness",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks whether the day just over is decided by {DECIDED_BY:%H:%M}: the check {CHECK} of {LAST_MADE} is red while it "
        "is not, and ATC_ALERT_WEBHOOK, where that is set, is told once.",
    )
    def freshness(context: dg.SensorEvaluationContext, journeys: JourneysFile) -> dg.SensorResult | dg.SkipReason:
        portfolio, now = journeys.in_use().portfolio, datetime.now(UTC)
        lake.origins.refresh()
        verdict = judge(lake, portfolio, now)
        if verdict.day is None:
            return dg.SkipReason("no day is due: nothing was decided yet, or the calendar has ended")
        state = f"{verdict.day} is {'decided' if verdict.passed else 'not decided'}"
        if state == context.cursor:
            return dg.SkipReason(state)
        if verdict.says is not None:
            context.log.error(verdict.says)
            tell(verdict.says.split("\n"), os.environ, context.log.warning)
        evaluation = dg.AssetCheckEvaluation(
            asset_key=KEY.asset_key,
            check_name=CHECK,
            passed=verdict.passed,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"day": str(verdict.day)},
            description=verdict.says,
        )
        return dg.SensorResult(asset_events=[evaluation], cursor=state)

    return freshness


class Verdict(NamedTuple):
    """Which day is due, and what is wrong with it; None where no day is due, and where nothing is wrong."""

    day: date | None
    says: str | None

    @property
    def passed(self) -> bool:
        """Return whether nothing is wrong."""
        return self.says is None


def judge(lake: Lake, portfolio: Portfolio, now: datetime) -> Verdict:
    """Say whether the day that is due is decided. None is before the first one that was, and after the calendar's end."""
    days, day = lake.days(LAST_MADE), due_by(now, portfolio.timezone)
    if not days or day < days[0] or (portfolio.ends_on is not None and day > portfolio.ends_on):
        return Verdict(None, None)
    if is_closed(lake, day, portfolio.timezone):
        return Verdict(day, None)
    latest = max(known for known in days if known <= day)
    state = "was decided only while it ran" if latest == day else f"is not decided ({latest} is the latest that is)"
    first = min(day, latest + timedelta(days=1))
    says = f"{day} {state}, and should be by {DECIDED_BY:%H:%M} ({portfolio.timezone}).\nTo run it: {command(first, day)}"
    return Verdict(day, says)
