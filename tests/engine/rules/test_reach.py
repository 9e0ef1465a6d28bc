"""Reach: the days on which nothing starts and nothing is sent, and that what checks the decision knows them by itself."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.decision import memory, queues
from atc_pipeline.decision.decide import decide
from atc_pipeline.journeys.portfolio import Period, Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.promises.decision import broken_rules
from atc_pipeline.rules import reach

POLICY = Period(date(2026, 6, 3), date(2026, 6, 4))
JOURNEY = Period(date(2026, 6, 4), date(2026, 6, 5))


@pytest.fixture
def portfolio(tmp_path: Path) -> Portfolio:
    """One journey with days of its own on which it rests, beside those on which all do."""
    path = tmp_path / "journeys.yaml"
    path.write_text(
        """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-01}
policy: {none: "-1", suppress: [{from: 2026-06-03, to: 2026-06-04}]}
journeys: [{id: a, length_days: 1, queue: {where: "true"}, suppress: [{from: 2026-06-04, to: 2026-06-05}]}]
"""
    )
    return load_portfolio(path)


@pytest.mark.parametrize(
    ("first", "last", "periods"),
    [
        (2, 2, []),
        (3, 3, [POLICY]),
        (4, 4, [POLICY, JOURNEY]),
        (5, 5, [JOURNEY]),
        (6, 6, []),
        (1, 3, [POLICY]),
        (1, 9, [POLICY, JOURNEY]),
        (5, 9, [JOURNEY]),
    ],
)
def test_blackouts_are_the_periods_that_touch_the_days(portfolio: Portfolio, first: int, last: int, periods: list[Period]) -> None:
    """Both ends of both are within; those of the policy are named before the journey's own."""
    days = date(2026, 6, first), date(2026, 6, last)
    assert reach.blackouts(portfolio.policy, portfolio.journeys[0], *days) == periods


@pytest.mark.parametrize("day", [3, 4, 5])
def test_a_decision_that_knew_of_no_blackout_breaks_a_promise(portfolio: Portfolio, monkeypatch: pytest.MonkeyPatch, day: int) -> None:
    """What checks the starts reads the periods itself, so that a mistake in the rule the decision goes by is seen."""
    today = date(2026, 6, day)
    none = pl.LazyFrame(schema={"customer_id": pl.String, "segment_id": pl.String, "event": pl.String, "event_date": pl.Date})
    profiles = pl.LazyFrame({"date": [today], "customer_id": ["x"]})
    queued = queues.queue_customers(profiles, none, None, portfolio.journeys, today=today)

    def broken() -> int:
        made = decide(queued, profiles, memory.no_state(), none.drop("segment_id"), portfolio, today=today)
        absorbed = pl.LazyFrame(schema={"date": pl.Date, "absorbed": pl.String, "customer_id": pl.String})
        sent = pl.LazyFrame(schema={"date": pl.Date, "customer_id": pl.String, "journey_id": pl.String})
        yesterday = memory.no_state().lazy()
        rows = broken_rules(made.assignments.lazy(), made.state.lazy(), yesterday, profiles, absorbed, sent, portfolio)
        return rows.collect().height

    assert broken() == 0
    monkeypatch.setattr(reach, "blackouts", lambda *_: [])
    assert broken() == 1
