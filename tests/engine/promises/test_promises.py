"""The rules of promises: each one finds the rows that break it, and nothing else."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_STATE
from atc_pipeline.identity.tables import IDENTITY_MAP
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.outcomes.tables import journey_entries
from atc_pipeline.promises import entries
from atc_pipeline.promises.customers import lost_customers
from atc_pipeline.promises.decision import broken_rules, overfull_journeys, unaccounted_journeys
from atc_pipeline.promises.identity import broken_identities
from resources.storage.memory import Memory

TODAY = date(2026, 3, 2)
YESTERDAY = TODAY - timedelta(days=1)
SENT = {"date": pl.Date(), "customer_id": pl.String(), "journey_id": pl.String()}
NOTHING_SENT = pl.LazyFrame(schema=SENT)


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
        schema=JOURNEY_ASSIGNMENTS.schema,
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
    found = overfull_journeys(answers(TODAY, *today), NOTHING_SENT, portfolio).collect()
    assert found["journey_id"].to_list() == overfull
    entered = answers(TODAY, *today).filter(pl.col("decision").is_in(["start", "switch"]))
    assert overfull_journeys(answers(TODAY, *today), entered.select(*SENT), portfolio).collect().is_empty()


def names(*absorbed: tuple[str, str], day: date = TODAY) -> pl.LazyFrame:
    """Who was absorbed on a day, and by whom."""
    schema = {"date": pl.Date, "absorbed": pl.String, "customer_id": pl.String}
    return pl.LazyFrame([(day, *who) for who in absorbed], schema=schema, orient="row")


@pytest.mark.parametrize(
    ("yesterday", "today", "absorbed", "lost"),
    [
        pytest.param("u", {"u": 1}, [], "", id="who was there is there"),
        pytest.param("u", {"u": 1, "v": 0}, [], "", id="and who arrived"),
        pytest.param("uv", {"u": 1}, [], "v", id="gone"),
        pytest.param("u", {"u": 1, "v": 1}, [], "v", id="from nowhere"),
        pytest.param("u", {"u": 0}, [], "u", id="said to be new"),
        pytest.param("uv", {"u": 1}, [("v", "u")], "", id="absorbed"),
        pytest.param("uv", {"u": 1, "v": 1}, [("v", "u")], "v", id="absorbed and still there"),
        pytest.param("v", {"u": 1}, [("v", "u")], "", id="absorbed by somebody new, who was first seen when the absorbed was"),
        pytest.param("v", {"u": 0}, [("v", "u")], "u", id="absorbed by somebody new without the history"),
        pytest.param("vw", {}, [("v", "u"), ("w", "u")], "u", id="absorbed by nobody"),
    ],
)
def test_customers_are_those_of_yesterday_and_the_new_without_the_absorbed(
    yesterday: str, today: dict[str, int], absorbed: list[tuple[str, str]], lost: str
) -> None:
    """Who is gone, who comes from nowhere, and who should be gone."""
    schema = {"date": pl.Date, "customer_id": pl.String, "first_seen_on": pl.Date}
    profiles = pl.LazyFrame([(TODAY, one, TODAY - timedelta(days=age)) for one, age in today.items()], schema=schema, orient="row")
    before = pl.LazyFrame([(YESTERDAY, one, YESTERDAY) for one in yesterday], schema=schema, orient="row")
    found = lost_customers(profiles, before, names(*absorbed)).collect()
    assert "".join(sorted(found["customer_id"])) == lost


def rows(schema: dict[str, pl.DataType], day: date, *given: dict[str, object]) -> pl.LazyFrame:
    """One row per set of values given; the rest are null."""
    return pl.LazyFrame([{"date": day, **one} for one in given], schema=schema)


def is_in(customer: str, journey: str, decision: str = "continue", ended: tuple[str, str] = ("", "")) -> dict[str, object]:
    """A customer's journey, and the one that ended with its reason."""
    told = {"ended_journey_id": ended[0] or None, "ended_reason": ended[1] or None}
    return {"customer_id": customer, "decision": decision, "journey_id": journey, **told}


OVER_J, OVER_K = ({"journey_id": one, "entered_on": YESTERDAY, "ended_on": TODAY, "ended_reason": "merged"} for one in "jk")


@pytest.mark.parametrize(
    ("yesterday", "answer", "state", "absorbed", "adds_up"),
    [
        pytest.param({"u": "j"}, is_in("u", "j"), [], [], True, id="continued"),
        pytest.param({"u": "j"}, is_in("u", "k"), [], [], False, id="in another one"),
        pytest.param({"u": "j"}, is_in("u", "k", "switch", ("j", "interrupted")), [], [], True, id="left"),
        pytest.param({}, is_in("u", "j"), [], [], False, id="in none before"),
        pytest.param({"u": "j", "v": "k"}, is_in("u", "j"), [], [], False, id="gone"),
        pytest.param({"v": "j"}, is_in("u", "j"), [], [("v", "u")], True, id="goes on under the survivor's name"),
        pytest.param({"u": "j", "v": "k"}, is_in("u", "j"), [OVER_K], [("v", "u")], True, id="the other merged"),
        pytest.param(
            {"u": "j", "v": "k"},
            is_in("u", "j", ended=("k", "merged")),
            [OVER_K],
            [("v", "u")],
            True,
            id="and says so",
        ),
        pytest.param({"u": "j", "v": "k"}, is_in("u", "j"), [], [("v", "u")], False, id="the other was forgotten"),
        pytest.param(
            {"u": "j", "v": "k"},
            is_in("u", "k", "start", ("j", "completed")),
            [{"journey_id": "k", "entered_on": TODAY}],
            [("v", "u")],
            True,
            id="the other merged, and was entered again",
        ),
        pytest.param({"u": "j", "v": "j"}, is_in("u", "j"), [], [("v", "u")], True, id="both in one"),
        pytest.param({"u": "j", "v": "k"}, is_in("u", "l", "start"), [OVER_J, OVER_K], [("v", "u")], False, id="one must go on"),
        pytest.param({"u": "j"}, is_in("u", "l", "start"), [OVER_J], [], False, id="nobody merged"),
    ],
)
def test_journeys_in_flight_add_up(
    yesterday: dict[str, str],
    answer: dict[str, object],
    state: list[dict[str, object]],
    absorbed: list[tuple[str, str]],
    adds_up: bool,
) -> None:
    """Each journey of yesterday goes on, ended for a reason, or merged into another."""
    before = rows(JOURNEY_ASSIGNMENTS.schema, YESTERDAY, *(is_in(customer, journey) for customer, journey in yesterday.items()))
    memory = rows(JOURNEY_STATE.schema, TODAY, *({"customer_id": "u", **one} for one in state))
    found = unaccounted_journeys(rows(JOURNEY_ASSIGNMENTS.schema, TODAY, answer), before, memory, names(*absorbed))
    assert found.collect().is_empty() == adds_up


@pytest.mark.parametrize(
    ("counted_from", "entered", "is_broken"),
    [
        pytest.param("exit", [("v", 9, 5)], True, id="the absorbed was in it five days ago"),
        pytest.param("exit", [("v", 12, 10)], False, id="ten days ago"),
        pytest.param("exit", [("u", 12, 10), ("v", 12, 5)], True, id="the latest counts"),
        pytest.param("exit", [("u", 12, None)], True, id="until yesterday"),
        pytest.param("entry", [("u", 12, 11), ("v", 9, 8)], True, id="the latest entry counts"),
        pytest.param("entry", [("u", 12, None), ("v", 9, 8)], False, id="but a flight that went on is as old as it is"),
        pytest.param("entry", [("u", 9, None), ("v", 12, 11)], True, id="and no older"),
    ],
)
def test_what_absorbed_customers_were_in_counts_for_reentry(
    tmp_path: Path, counted_from: str, entered: list[tuple[str, int, int | None]], is_broken: bool
) -> None:
    """Ten days must pass after any of the merged left the journey, or entered it."""
    file = tmp_path / "journeys.yaml"
    file.write_text(
        "version: '1'\ncalendar: {timezone: UTC, starts_on: 2026-01-01}\n"
        f"journeys: [{{id: j, length_days: 5, queue: {{where: 'true'}}, reentry: {{after_days: 10, from: {counted_from}}}}}]\n",
        encoding="utf-8",
    )
    ages = [(who, TODAY - timedelta(days=first), None if last is None else TODAY - timedelta(days=last)) for who, first, last in entered]
    before = [{"customer_id": who, "journey_id": "j", "entered_on": first, "ended_on": last} for who, first, last in ages]
    start = rows(JOURNEY_ASSIGNMENTS.schema, TODAY, is_in("u", "j", "start"))
    state = rows(
        JOURNEY_STATE.schema, TODAY, {"customer_id": "u", "journey_id": "j", "entered_on": TODAY, "times_entered": 3, "recent_starts": []}
    )
    people = pl.LazyFrame({"date": [TODAY], "customer_id": ["u"]})
    found = broken_rules(
        start, state, rows(JOURNEY_STATE.schema, YESTERDAY, *before), people, names(("v", "u")), NOTHING_SENT, load_portfolio(file)
    )
    assert found.collect().is_empty() != is_broken
    found = broken_rules(
        start, state, rows(JOURNEY_STATE.schema, YESTERDAY, *before), people, names(("v", "u")), start.select(*SENT), load_portfolio(file)
    )
    assert found.collect().is_empty()


@pytest.mark.parametrize(
    ("today", "is_broken"),
    [
        pytest.param([("user", "u", "u", 9, "u"), ("user", "v", "u", 0, "u"), ("anonymous", "a", "u", 0, "u")], False, id="all follow"),
        pytest.param(
            [("user", "u", "u", 9, "u"), ("user", "v", "u", 0, "u"), ("anonymous", "a", "v", 9, "u")], True, id="one stays behind"
        ),
        pytest.param([("user", "u", "u", 9, "u"), ("anonymous", "a", "u", 0, "u"), ("user", "w", "anon:a", 9, "u")], True, id="a visitor"),
        pytest.param([("user", "u", "u", 9, "u"), ("user", "v", "u", 0, "u")], True, id="one is missing"),
        pytest.param([("user", "u", "u", 9, "u"), ("user", "v", "u", 0, "v"), ("user", "w", "w", 9, "w")], True, id="drawn by two names"),
        pytest.param([("user", "u", "u", 9, "v"), ("user", "v", "u", 0, "v"), ("user", "w", "w", 9, "w")], True, id="by another name"),
        pytest.param(
            [*(("user", one, one, 9, one) for one in "uvw"), ("user", "x", "x", 0, "anon:x"), ("anonymous", "x", "x", 0, "anon:x")],
            False,
            id="a new user who was a visitor",
        ),
    ],
)
def test_ids_lead_to_survivors(today: list[tuple[str, str, str, int, str]], is_broken: bool) -> None:
    """No id is somebody who was absorbed today, none is lost, and all of one person are drawn by one name, that of yesterday."""
    now = [(TODAY, kind, id, customer, TODAY - timedelta(days=age), arm, True, None) for kind, id, customer, age, arm in today]
    before = [(YESTERDAY, "user", one, one, YESTERDAY, one, True, None) for one in "uvw"]
    frames = (pl.LazyFrame(one, schema=IDENTITY_MAP.schema, orient="row") for one in (now, before))
    assert broken_identities(*frames).collect().is_empty() != is_broken


def test_days_of_before_there_were_entries_lack_none(portfolio: Portfolio) -> None:
    """An older version answered, and wrote no entries: of such a day nothing is missing, though others have some."""
    store = Memory()
    starts = [{"customer_id": "u", "decision": "start", "journey_id": "daily", "arm": "treated"}]
    for day in (YESTERDAY, TODAY):
        store.write("journey_assignments", day, pl.DataFrame([{"date": day, **row} for row in starts], schema=JOURNEY_ASSIGNMENTS.schema))
        store.write("journey_state", day, pl.DataFrame(schema=JOURNEY_STATE.schema))
    store.write("journey_entries", TODAY, pl.DataFrame(schema=journey_entries(portfolio).schema))
    assert entries._miswritten_entries(store, portfolio, [YESTERDAY, TODAY])["date"].to_list() == [TODAY]
