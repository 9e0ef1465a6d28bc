"""What a day learns from: which entries, what is known of their customers, and how little is read.

What belongs here: tables of a few rows, written by hand. What does not: what is learned of them (``test_model``), whole days
(``test_days``).
"""

from collections import Counter
from datetime import date, timedelta

import polars as pl
import pytest

from atc_pipeline.days.learning import Learning, Past
from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.rules.arms import CONTROL, TREATED
from resources.storage.memory import Memory

TODAY = date(2026, 6, 1)
YESTERDAY = TODAY - timedelta(days=1)
FIRST = TODAY - timedelta(days=60)
"""The first day of which entries are learned from."""
OUTCOMES = {
    "customer_id": pl.String(),
    "journey_id": pl.String(),
    "entered_on": pl.Date(),
    "known_as": pl.String(),
    "arm": pl.String(),
    "held_out_by": pl.String(),
    "goal": pl.Boolean(),
    "contaminated": pl.Boolean(),
}


class Counted(Memory):
    """A store that counts what is read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[tuple[str, date]] = Counter()

    def lazy(self, table: str, day: date) -> pl.LazyFrame:
        """Read a day, and count it."""
        self.reads[table, day] += 1
        return super().lazy(table, day)


def portfolio(holdout: float = 0.2) -> Portfolio:
    """Two journeys, learned of by two features; policy holds out a tenth."""
    listed = "".join(
        f"\n  - {{id: {id_}, length_days: 7, queue: {{where: 'true'}}, holdout: {holdout},"
        " goal: {event: Order Completed, within_days: 14}}"
        for id_ in ("news", "club")
    )
    text = f"""
version: "1"
calendar: {{timezone: UTC, starts_on: 2026-01-01}}
channels: {{email: {{consent: none}}}}
traits: {{orders: {{count: Order Completed, within_days: 30}}, visits: {{count: Page Viewed, within_days: 30}}}}
learning: {{features: [orders, visits], history_days: 60, min_goals: 1}}
policy: {{explore: 0.02, holdout: 0.1}}
journeys:{listed}
"""
    return resolve(parse_document(text, "journeys.yaml"))


def outcome(customer: str, entered_on: date = FIRST, **more: object) -> dict[str, object]:
    """What came of an entry into ``news`` that was treated and reached the goal, but for what is said."""
    usual = {"journey_id": "news", "known_as": customer, "arm": TREATED, "held_out_by": None, "goal": True, "contaminated": False}
    return {"customer_id": customer, "entered_on": entered_on, **usual, **more}


def past(outcomes: dict[date, list[dict[str, object]]], known: Portfolio | None = None, store: Memory | None = None) -> Past:
    """Look at outcomes by the day on which they matured; who entered is written down on the day of entry."""
    store = store or Memory()
    for day, rows in outcomes.items():
        store.write("journey_outcomes", day, pl.DataFrame(rows, schema=OUTCOMES))
    entered = pl.DataFrame([row for rows in outcomes.values() for row in rows], schema=OUTCOMES)
    for (day,), theirs in entered.group_by("entered_on"):
        assert isinstance(day, date)
        store.write("journey_entries", day, theirs.select("customer_id", "journey_id"))
    looked_at = Past(store, known or portfolio())
    looked_at.until(YESTERDAY)
    return looked_at


def kept(**orders: int | None) -> pl.DataFrame:
    """What was kept of those who entered ``news``, by customer: their orders."""
    return pl.DataFrame(
        [(name, "news", number) for name, number in orders.items()],
        schema={"customer_id": pl.String(), "journey_id": pl.String(), "orders": pl.Int64()},
        orient="row",
    )


def names(looked_at: Past) -> list[str]:
    """Name the customers who are learned from, in order."""
    return looked_at.rows()["customer_id"].to_list()


def test_what_matured_by_the_day_before_is_learned_from() -> None:
    """And was entered no longer ago than learning looks back, be it the tenth entry: what matures today is not known yet."""
    looked_at = past(
        {
            TODAY: [outcome("matures today", FIRST + timedelta(days=1))],
            YESTERDAY: [outcome("last", FIRST + timedelta(days=2)), outcome("first"), outcome("too long ago", FIRST - timedelta(days=1))],
            TODAY - timedelta(days=9): [outcome("first", FIRST, journey_id="club", arm=CONTROL, held_out_by="journey", goal=False)],
        }
    )

    assert names(looked_at) == ["first", "first", "last"]
    assert looked_at.counts().rows() == [("club", 1, 0, 1), ("news", 2, 2, 0)]


def test_what_tells_nothing_of_the_goal_is_left_out() -> None:
    """Journeys without one, and who was in both arms."""
    looked_at = past({YESTERDAY: [outcome("no goal", goal=None), outcome("both arms", contaminated=True), outcome("told", goal=False)]})

    assert names(looked_at) == ["told"]


@pytest.mark.parametrize(("holdout", "learned_from"), [(0.2, ["of journey", "treated"]), (0.0, ["of journey", "of policy", "treated"])])
def test_whom_policy_holds_out_tells_only_where_no_journey_holds_out(holdout: float, learned_from: list[str]) -> None:
    """They are left alone by all journeys, which is something else than by one."""
    rows = [outcome("treated"), *(outcome(f"of {by}", arm=CONTROL, held_out_by=by, goal=False) for by in ("policy", "journey"))]

    assert names(past({YESTERDAY: rows}, portfolio(holdout))) == learned_from


def test_rows_are_in_the_order_of_the_names_that_entered() -> None:
    """Who became somebody else is that person; a feature is looked up by the name of then."""
    store = Memory()
    store.write("entry_profiles", FIRST, kept(a=3, z=5))
    rows = past({YESTERDAY: [outcome("z"), outcome("a", known_as="z")]}, store=store).rows()

    assert rows.select("customer_id", "orders").rows() == [("z", 3), ("z", 5)]


def test_what_was_not_kept_at_entry_is_read_in_the_profiles_of_that_day() -> None:
    """And what these did not have either, or as something else, nobody knows; what was kept is what counts."""
    days = [FIRST + timedelta(days=number) for number in range(4)]
    store = Memory()
    store.write("entry_profiles", days[0], kept(ann=1, bob=None))
    whole = {"customer_id": ["ann", "bob"], "orders": [70, 80], "visits": [7, 8]}
    store.write("customer_profiles", days[0], pl.DataFrame(whole))
    store.write("customer_profiles", days[1], pl.DataFrame(whole))  # from before there was learning
    store.write("customer_profiles", days[2], pl.DataFrame(whole).with_columns(visits=pl.lit("many")))
    looked_at = past({YESTERDAY: [outcome(name, day) for day in days for name in ("ann", "bob")]}, store=store)

    assert looked_at.rows().select("customer_id", "orders", "visits").rows() == [
        *(("ann", 1, 7), ("bob", None, 8)),
        *(("ann", 70, 7), ("bob", 80, 8)),
        *(("ann", 70, None), ("bob", 80, None)),
        *(("ann", None, None), ("bob", None, None)),
    ]


def test_a_day_is_read_once() -> None:
    """In a range of days, which see one more each, and give up the days that are too long ago: as if each had been looked at alone."""
    store = Counted()
    days = [TODAY - timedelta(days=number) for number in range(70)]
    looked_at = past({day: [outcome(f"of {day}", day - timedelta(days=20))] for day in days}, store=store)
    store.reads.clear()
    learned_from = {}
    for day in days[2::-1]:
        looked_at.until(day)
        learned_from[day] = looked_at.rows()
    reads = dict(store.reads)

    assert set(reads.values()) == {1}
    assert ("journey_outcomes", days[61]) in reads
    assert ("journey_outcomes", days[62]) not in reads
    for day, rows in learned_from.items():
        alone = Past(store, portfolio())
        alone.until(day)
        assert alone.rows().equals(rows)
        assert rows.height == 40  # of the 60 days that entries are of, those of the last 20 have not matured


def test_what_was_recorded_is_taken_as_it_was() -> None:
    """A plan compares two files by what was known, and learns nothing anew; nor does it know what was not recorded."""
    store = Memory()
    past({YESTERDAY: [outcome(f"c{number}", goal=number % 2 == 0) for number in range(40)]}, store=store)
    known = Learning(store, portfolio()).model(TODAY).rows(portfolio(), TODAY)
    store.write("goal_models", TODAY, known)
    past({YESTERDAY: [outcome("another")]}, store=store)
    recorded = Learning(store, portfolio(), is_recorded=True)

    assert "rate" in known["name"]
    assert recorded.model(TODAY).rows(portfolio(), TODAY).equals(known)
    assert not recorded.model(YESTERDAY).known
