"""What comes back of what we did: which events, whose, when, and that their bytes are the tables' alone."""

import json
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from atc_pipeline.activation.sent import tell
from atc_pipeline.activation.tables import ACTIVATION, OUTBOUND_MESSAGES, SENT_EVENTS
from atc_pipeline.days.sent import arrives_on
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_STATE
from atc_pipeline.rules.lots import hexadecimal, xxh64
from tests.engine.test_reference import portfolio

TODAY = date(2026, 3, 1)
HOSTILE = 'a"},{"\\\n\u2028</script>{{7*7}}'


def frame(schema: dict[str, pl.DataType], *rows: dict[str, Any]) -> pl.LazyFrame:
    """Return rows of a table of which nothing else is known."""
    return pl.LazyFrame([{"date": TODAY, **row} for row in rows], schema=schema, orient="row") if rows else pl.LazyFrame(schema=schema)


def entered(customer: str, **row: object) -> dict[str, Any]:
    """Return the assignment of who enters a journey."""
    spell = {"journey_id": "welcome", "entered_on": TODAY, "day_index": 1, "ends_on": date(2026, 3, 5), "arm": "treated", "score": 0.5}
    return {"customer_id": customer, "decision": "start", **spell, **row}


def told(
    assignments: list[dict[str, Any]] | None = None,
    state: list[dict[str, Any]] | None = None,
    messages: list[dict[str, Any]] | None = None,
    syncs: pl.LazyFrame | None = None,
    *,
    is_reversed: bool = False,
) -> pl.DataFrame:
    """Return the events of a day of these rows; ``messages`` are both planned and handed over."""
    tables = [
        frame(JOURNEY_ASSIGNMENTS.schema, *(assignments or [])),
        frame(JOURNEY_STATE.schema, *(state or [])),
        frame(
            OUTBOUND_MESSAGES.schema,
            *({name: row.get(name) for name in OUTBOUND_MESSAGES.schema if name != "date"} for row in messages or []),
        ),
        frame(ACTIVATION.schema, *({name: row.get(name) for name in ACTIVATION.schema if name != "date"} for row in messages or [])),
    ]
    return tell(*(table.reverse() if is_reversed else table for table in tables), syncs, today=TODAY, timezone="Europe/Berlin")


def message(customer: str, status: str, **row: object) -> dict[str, Any]:
    """Return a message and what became of it."""
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    plain = {
        "journey_id": "welcome",
        "step_day": 1,
        "channel": "email",
        "content": "hello",
        "variant": None,
        "send_at": at,
        "withheld": None,
    }
    return {"idempotency_key": f"key of {customer}", "customer_id": customer, "status": status, "reason": None, **plain, **row}


def lines(events: pl.DataFrame) -> list[dict[str, Any]]:
    """Read the lines of events."""
    return [json.loads(line) for line in events["line"]]


def test_both_arms_are_exposed_and_only_who_enters_or_ends_today() -> None:
    """Control is told of like treated: comparing them is what the events are for."""
    state = {"journey_id": "tea", "entered_on": date(2026, 2, 1), "ended_on": TODAY, "ended_reason": "goal", "arm": "control"}
    events = lines(
        told(
            [entered("a"), entered("b", arm="control", decision="switch"), entered("c", decision="continue", entered_on=date(2026, 2, 1))],
            [{"customer_id": "d", **state}, {"customer_id": "e", **state, "ended_on": date(2026, 2, 28)}],
        )
    )
    assert {(event["event"], event["userId"], event["properties"]["arm"]) for event in events} == {
        ("Journey Started", "a", "treated"),
        ("Journey Started", "b", "control"),
        ("Journey Ended", "d", "control"),
    }
    assert {event["timestamp"] for event in events} == {"2026-03-01T23:00:00.000000Z"}, "the day is over at 23:00 UTC, in Berlin"


def test_what_was_handed_over_is_sent_what_failed_is_failed_and_nothing_else_is_said() -> None:
    """Nobody knows what is unknown, and what is withheld never happened."""
    statuses = ("delivered", "failed", "unknown", "pending", "withheld", "would_send", "not_tried")
    events = told(messages=[message(status, status) for status in statuses])
    assert set(events.select("customer_id", "event", "idempotency_key").rows()) == {
        ("delivered", "Message Sent", "key of delivered"),
        ("failed", "Message Failed", "key of failed"),
    }


def test_a_message_is_told_of_on_the_day_after_whenever_it_will_arrive() -> None:
    """Its event arrives then: one from the future would be refused (SPEC 1)."""
    events = told(messages=[message("late", "delivered", send_at=datetime(2026, 3, 4, 9, tzinfo=UTC)), message("now", "delivered")])
    assert dict(events.select("customer_id", pl.col("timestamp").dt.to_string("%Y-%m-%dT%H:%M:%S%.6f")).iter_rows()) == {
        "late": "2026-03-02T22:59:59.999999",
        "now": "2026-03-02T09:00:00.000000",
    }


def test_a_visitor_is_named_as_one_and_every_event_is_ours() -> None:
    """``anon:`` is our own name for who has no user."""
    visitor, user = lines(told([entered("anon:x"), entered("u")]).sort("customer_id"))
    assert (visitor["anonymousId"], "userId" in visitor, user["userId"], "anonymousId" in user) == ("x", False, "u", False)
    assert visitor["context"] == user["context"] == {"library": {"name": "atc_pipeline"}}
    assert {visitor["type"], user["type"]} == {"track"}


def test_an_id_is_the_hash_of_event_and_key() -> None:
    """The same whenever it is written; a table with nothing of the day has no events."""
    key = "Message Sent:key of u"
    (found,) = told(messages=[message("u", "delivered")])["message_id"]
    assert found == pl.select(hexadecimal(xxh64(pl.lit(key)))).item()
    assert told().is_empty()
    assert list(told().columns) == [*SENT_EVENTS.schema, "line"]


def test_the_lines_are_the_same_whatever_the_order_of_rows_and_hostile_text_stays_text() -> None:
    """One line each, whatever a customer is called and a receiver says."""
    rows = [entered(HOSTILE), entered("u")], None, [message(HOSTILE, "failed", reason=HOSTILE), message("u", "delivered")]
    events = told(*rows)
    assert events.equals(told(*rows, is_reversed=True))
    assert all("\n" not in line for line in events["line"])
    (failed,) = [event for event in lines(events) if event["event"] == "Message Failed"]
    assert (failed["userId"], failed["properties"]["reason"]) == (HOSTILE, HOSTILE)


def test_who_is_acknowledged_as_a_member_has_entered_and_who_is_no_more_has_left() -> None:
    """An update is neither, and what nobody acknowledged has not happened."""
    columns = ("audience_id", "destination", "customer_id", "operation", "status")
    rows = [("ads", "meta", "u", "add", "acknowledged"), ("ads", "meta", "v", "remove", "acknowledged")]
    rows += [
        ("ads", "meta", "w", "update", "acknowledged"),
        ("ads", "meta", "x", "add", "failed"),
        ("ads", "google", "u", "add", "acknowledged"),
    ]
    events = told(syncs=pl.LazyFrame(rows, schema=columns, orient="row"))
    facts = sorted((event["event"], event["userId"], event["properties"]["destination"]) for event in lines(events))
    assert facts == [("Audience Entered", "u", "google"), ("Audience Entered", "u", "meta"), ("Audience Exited", "v", "meta")]
    assert events["message_id"].n_unique() == 3


def test_a_day_is_told_of_on_the_day_after_it_or_today_if_that_is_later() -> None:
    """Never on the day itself, which would be made again by what it sent, and never on a day that is closed."""
    config = portfolio()
    assert arrives_on(TODAY, datetime(2026, 3, 1, 12, tzinfo=UTC), config) == date(2026, 3, 2)
    assert arrives_on(TODAY, datetime(2026, 3, 2, 4, tzinfo=UTC), config) == date(2026, 3, 2)
    assert arrives_on(TODAY, datetime(2026, 3, 8, 23, 30, tzinfo=UTC), config) == date(2026, 3, 9)
