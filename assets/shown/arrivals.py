"""What a run says of the landing zone: what it has passed over, and days on which nothing arrived.

What belongs here: two checks that warn, and how they are shown. What does not: which files are read (``resources.storage.landing``).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

import dagster as dg
import polars as pl

from assets.shown.facts import markdown_table
from atc_pipeline.events.lines import Lines
from atc_pipeline.journeys.portfolio import Portfolio
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone, PassedOver

SHOWN = 20
"""Files and folders that are named; the others are counted."""
LETTERS = 250
"""Of a name or a reason: the reason ends with what to do."""
DAYS_BEFORE = 14
"""Days before one without lines that tell whether there usually are some."""

PASSED_OVER = dg.AssetCheckSpec(
    "files_passed_over",
    asset="raw_events",
    description="Every file and folder of the landing zone is read, or named here (SPEC 1). Rename, convert or remove what is named "
    "and run the day again; what begins with a dot or an underscore is left alone.",
    blocking=False,
)
ARRIVED = dg.AssetCheckSpec(
    "lines_arrived",
    asset="raw_events",
    description=f"There is a landing zone, and no day is without a line where at least half of the {DAYS_BEFORE} days before had some. "
    "Look at ATC_HOME and at whatever fills the landing zone; run the day again once its files are there.",
    blocking=False,
)


class Arrivals:
    """Reads the landing zone for the days of a run, and notes what of it is passed over."""

    def __init__(self, landing: LandingZone, portfolio: Portfolio, last: date) -> None:
        """``last``: of the days that will be read; with it, what is of no day is looked for."""
        self.landing, self.portfolio, self.last = landing, portfolio, last
        self.by_day: dict[date, list[PassedOver]] = {}
        self.of_no_day: list[PassedOver] = []

    def of_day(self, day: date) -> Iterator[list[Lines]]:
        """Read a day's lines, in blocks."""
        if day == self.last:
            self.of_no_day = self._of_no_day(self.portfolio.starts_on, self.portfolio.ends_on)
        self.by_day[day] = self.landing.passed_over(day)
        return self.landing.read(day, self.by_day[day])

    def _of_no_day(self, starts_on: date, ends_on: date | None) -> list[PassedOver]:
        """Return what is in the landing zone and read by no run at all."""
        days = self.landing.days()
        early, late = [day for day in days if day < starts_on], [day for day in days if ends_on is not None and day > ends_on]
        return [
            *self.landing.strangers(),
            *(PassedOver(str(day), f"it arrived before calendar.starts_on, {starts_on}: no run reads it") for day in early),
            *(PassedOver(str(day), f"it arrived after calendar.ends_on, {ends_on}: no run reads it") for day in late),
        ]

    def facts(self, mended: Mapping[date, int]) -> Mapping[date, Mapping[str, object]]:
        """Describe how each day was read, the last one with what is of no day; nothing of a day without anything out of the ordinary.

        ``mended``: by day, how many lines had half a surrogate pair in a text.
        """
        passed = {day: [*names, *(self.of_no_day if day == self.last else ())] for day, names in self.by_day.items()}
        described = {day: _facts_of_day(names, mended[day]) for day, names in passed.items()}
        return {day: facts for day, facts in described.items() if facts}

    def passed_over(self) -> dg.AssetCheckResult:
        """Name what was passed over on these days, and what is of no day."""
        passed = [*self.of_no_day, *(entry for day in sorted(self.by_day) for entry in self.by_day[day])]
        return dg.AssetCheckResult(
            asset_key="raw_events",
            check_name=PASSED_OVER.name,
            passed=not passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=PASSED_OVER.description if passed else None,
            metadata={"passed_over": len(passed), "first_passed_over": _named(passed)},
        )

    def lines_arrived(self, lake: Lake, lines: Mapping[date, int]) -> dg.AssetCheckResult:
        """Name the days without a line where there usually are some; ``lines``: how many there were, by day."""
        known = self.landing.days()
        empty = [day for day, number in lines.items() if not number and _is_odd(lake, day, known)]
        is_there = self.landing.is_there()
        what = f"{self.landing.root} is no folder" if not is_there else "no line on some days" if empty else "as usual"
        return dg.AssetCheckResult(
            asset_key="raw_events",
            check_name=ARRIVED.name,
            passed=is_there and not empty,
            severity=dg.AssetCheckSeverity.WARN,
            description=None if is_there and not empty else ARRIVED.description,
            metadata={"arrived": what, "days_without_lines": ", ".join(map(str, empty[:SHOWN]))},
        )


def _facts_of_day(passed: Sequence[PassedOver], mended: int) -> Mapping[str, object]:
    described = {"files_passed_over": len(passed), "first_passed_over": _named(passed)} if passed else {}
    return described | ({"lines_with_half_a_surrogate_pair": mended} if mended else {})


def _is_odd(lake: Lake, day: date, known: Sequence[date]) -> bool:
    """True where a day without lines is unusual: at least half of the days before had some; or none had, though files did arrive once."""
    before = [before for ago in range(1, DAYS_BEFORE + 1) if lake.has("raw_events", before := day - timedelta(days=ago))]
    full = sum(any(lake.rows(table, at) for table in ("raw_events", "rejected_events") if lake.has(table, at)) for at in before)
    return 2 * full >= len(before) if full else any(at < day for at in known)


def _named(passed: Sequence[PassedOver]) -> dg.MetadataValue:
    shown = [{"file": entry.name, "why": entry.why} for entry in passed[:SHOWN]]
    return markdown_table(pl.DataFrame(shown, schema={"file": pl.String, "why": pl.String}), letters=LETTERS)
