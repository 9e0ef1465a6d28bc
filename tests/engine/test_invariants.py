"""The invariants: each one finds the rows that break it, and nothing else."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline import invariants
from atc_pipeline.decision.day import ASSIGNMENTS
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio

TODAY = date(2026, 3, 2)
YESTERDAY = TODAY - timedelta(days=1)


@pytest.fixture
def portfolio(tmp_path: Path) -> Portfolio:
    """Two limited journeys and one without limits."""
    file = tmp_path / "journeys.yaml"
    file.write_text(
        """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-03-01}
journeys:
  - {id: daily, length_days: 5, queue: {where: "tenure_days >= 0"}, capacity: {daily_entries: 1}}
  - {id: seats, length_days: 5, queue: {where: "tenure_days >= 0"}, capacity: {active: 2}}
  - {id: open, length_days: 5, queue: {where: "tenure_days >= 0"}}
""",
        encoding="utf-8",
    )
    return load_portfolio(file)


def answers(day: date, *rows: tuple[str, str | None, str | None, str | None]) -> pl.LazyFrame:
    """One row per customer: decision, journey, and which journey ended why."""
    return pl.LazyFrame(
        [
            {
                "date": day,
                "customer_id": f"c{number}",
                "decision": decision,
                "journey_id": journey,
                "ended_journey_id": ended,
                "ended_reason": reason,
            }
            for number, (decision, journey, ended, reason) in enumerate(rows)
        ],
        schema=ASSIGNMENTS,
    )


ENTERS, STAYS = ("start", "seats", None, None), ("continue", "seats", None, None)


@pytest.mark.parametrize(
    ("today", "overfull"),
    [
        pytest.param([("start", "daily", None, None)], [], id="as many a day as may"),
        pytest.param([("start", "daily", None, None), ("switch", "daily", None, None)], ["daily"], id="one more"),
        pytest.param([("start", "open", None, None)] * 9, [], id="no limit"),
        pytest.param([STAYS, ENTERS], [], id="the last place"),
        pytest.param([STAYS, ENTERS, ENTERS], ["seats"], id="no place left"),
        pytest.param([("none", None, "seats", "completed"), STAYS, ENTERS], [], id="a journey that ended gave its place"),
        pytest.param([("continue", "open", "seats", "merged"), STAYS, ENTERS], [], id="and so did one that merged"),
        pytest.param([("switch", "open", "seats", "interrupted"), STAYS, ENTERS], ["seats"], id="a switch frees it tomorrow only"),
        pytest.param([STAYS] * 3, [], id="fewer places than in flight is no breach"),
        pytest.param([*[STAYS] * 3, ENTERS], ["seats"], id="but nobody may enter"),
    ],
)
def test_a_journey_is_overfull_when_more_enter_than_there_are_places(
    portfolio: Portfolio, today: list[tuple[str, str, str | None, str | None]], overfull: list[str]
) -> None:
    """Daily entries, and active places of those in flight after what ended."""
    found = invariants.overfull_journeys(answers(TODAY, *today), portfolio).collect()
    assert found["journey_id"].to_list() == overfull
