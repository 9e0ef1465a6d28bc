"""A day of uplift: all days are read once, none may be missing, and what was sent lately is seen."""

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl
import pytest

from atc_pipeline.customers.metrics import definitions
from atc_pipeline.customers.tables import customer_metrics
from atc_pipeline.days.growing import Growing
from atc_pipeline.days.outcomes import Late
from atc_pipeline.identity.map import absorbed
from atc_pipeline.identity.tables import IDENTITY_MAP
from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.outcomes.tables import journey_entries
from atc_pipeline.rules.measured import SENT
from atc_pipeline.tables.store import MissingDayError
from resources.storage.memory import Memory

FIRST = date(2026, 3, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(5)]
COLUMNS: Mapping[str, pl.DataType] = {"date": pl.Date(), "n": pl.Int64(), "new": pl.Int64()}
JOURNEYS = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-03-01}
channels: {email: {consent: none, cost: 0.01}, post: {consent: none, cost: 0.5}}
metrics: {revenue: {sum: revenue, of: Order Completed}}
measurement: {money: revenue, window_days: 20}
journeys:
  - {id: a, length_days: 7, queue: {where: "true"}, holdout: 0.1, steps: [{day: 1, channels: [email, post], content: x}]}
policy: {holdout: 0.1}
"""


def stored(*days: date) -> Memory:
    """A store with a row of each day; the first day knows nothing of the new column."""
    store = Memory()
    for number, day in enumerate(days):
        row = {"date": [day], "n": [number]} | ({"new": [number]} if number else {})
        store.write("t", day, pl.DataFrame(row))
    return store


@pytest.mark.parametrize("largest", [0, 2**20])
def test_days_grow(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows whether what was read is kept or not; a column that older days have not is null there."""
    monkeypatch.setattr(Growing, "LARGEST_KEPT", largest)
    table = Growing(stored(*DAYS), "t", COLUMNS, FIRST)
    for number, day in enumerate(DAYS):
        if number:
            rows = table.until(day).collect().sort("n")
            assert rows["n"].to_list() == list(range(number + 1))
            assert rows["new"].to_list() == [None, *range(1, number + 1)]
    assert table.until(DAYS[2]).collect().height == 3


def test_a_day_between_may_not_be_missing() -> None:
    """Fewer rows would be a smaller number, in silence."""
    with pytest.raises(MissingDayError, match="t has no data for 2026-03-02 in memory: materialize t for 2026-03-02 first"):
        Growing(stored(DAYS[0], *DAYS[2:]), "t", COLUMNS, FIRST).until(DAYS[-1])


def test_a_lake_that_is_older_than_the_table_has_it_from_its_first_day_on() -> None:
    """Days before it there are none of."""
    assert Growing(stored(*DAYS[2:]), "t", COLUMNS, FIRST).until(DAYS[-1]).collect().height == 3


def portfolio() -> Portfolio:
    """One journey, of which half the customers may be written to by letter."""
    return resolve(parse_document(JOURNEYS, "journeys.yaml"))


def late(of: Portfolio, entries: list[dict[str, object]], done: list[dict[str, object]]) -> tuple[pl.DataFrame, float, Mapping[str, int]]:
    """What is seen on the last day of these entries, and of what was done on it."""
    store, schema = Memory(), customer_metrics(of).schema
    for day in DAYS:
        rows = [{"date": day, "revenue.micro": 0, SENT: [], **row} for row in done] if day == DAYS[-1] else []
        store.write("customer_metrics", day, pl.DataFrame(rows, schema=schema), definitions(of, of.measured))
    rows = [{"journey_id": "a", "entry_number": 1, "version": "1", "policy_holdout": 0.1, "revenue_before": 1.0, **row} for row in entries]
    nobody = absorbed(pl.LazyFrame(schema=IDENTITY_MAP.schema))
    return Late(store, of).of(DAYS[-1], pl.LazyFrame(rows, schema=journey_entries(of).schema), nobody)


def entry(customer: str, arm: str, by: str | None = None) -> dict[str, object]:
    """An entry of the first day, which has not matured."""
    return {"customer_id": customer, "arm": arm, "held_out_by": by, "date": FIRST, "matures_on": FIRST + timedelta(days=23)}


def test_messages_to_control_are_seen_before_outcomes_say_so() -> None:
    """Of two who are held out the one who was sent something; and each message costs what the dearest channel does."""
    entries = [entry("c1", "control", "journey"), entry("c2", "control", "journey"), entry("t", "treated")]
    sent = [{"customer_id": name, "event_date": DAYS[-1], SENT: [{"journey_id": "a", "n": 2}]} for name in ("c1", "t")]
    _, cost, wrong = late(portfolio(), entries, sent)
    assert (cost, dict(wrong)) == (2.0, {"a": 1})


def test_what_everybody_brought_lately() -> None:
    """Who is held out by the policy is control of the system, and who is by the journey alone is treated."""
    entries = [entry("p", "control", "policy"), entry("j", "control", "journey"), entry("t", "treated")]
    recent, *_ = late(portfolio(), entries, [{"customer_id": "t", "event_date": DAYS[-1], "revenue.micro": 2_500_000}])
    rows = recent.sort("customer_id").select("customer_id", "arm", "money", "money_before").rows()
    assert rows == [("j", "treated", 0.0, 1.0), ("p", "control", 0.0, 1.0), ("t", "treated", 2.5, 1.0)]
