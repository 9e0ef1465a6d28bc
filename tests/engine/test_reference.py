"""The reference is code too: hand-computed cases of each sentence of SPEC that it implements."""

import gzip
import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import highspy
import polars as pl
import pytest

from atc_pipeline.journeys.portfolio import (
    Cap,
    Channel,
    Condition,
    Engagement,
    Goal,
    Hours,
    Intent,
    Journey,
    MessageCap,
    NotAfter,
    Period,
    Policy,
    Portfolio,
    Predictions,
    Queue,
    Reentry,
    Segment,
    Selector,
    Signal,
    Step,
    Topic,
    Trait,
)
from tests.engine.reference import (
    Memory,
    Occurrence,
    PurchaseModel,
    Row,
    Spell,
    Worth,
    arm_of,
    audience_changes,
    beta_mean,
    customer_of,
    decide_day,
    elements,
    explored,
    identity_counts,
    identity_map,
    ingest,
    members,
    memberships,
    messages,
    objections,
    occurrences,
    optimum,
    predictions,
    profiles,
    queues,
    rounded,
    run,
    state_rows,
    survivors,
    total_worth,
    who_is,
    whole,
    xxh64,
)

TODAY = date(2026, 1, 10)
DAY = timedelta(days=1)
NUMBER, TEXT, COUNT, FLAG = pl.Float64(), pl.String(), pl.Int64(), pl.Boolean()


def ago(days: int) -> date:
    """Return the day so many days before today."""
    return TODAY - days * DAY


def numeric(text: str, **columns: pl.DataType) -> Condition:
    """Compile a number."""
    return Condition(text, pl.sql_expr(text).cast(pl.Float64), columns)


def condition(text: str, **columns: pl.DataType) -> Condition:
    """Compile a condition."""
    return Condition(text, pl.sql_expr(text).fill_null(value=False), columns)


def journey(journey_id: str, **changes: Any) -> Journey:
    """Return a journey of ten days that changes nothing."""
    plain = Journey(
        id=journey_id, name=journey_id, owner=None, description=None, status="live", starts_on=None, ends_on=None, length_days=10,
        queue=Queue((), (), (), None), priority=0.0, value=1.0, mandatory=False, interests=(), intents=(), channels=(), goal=None,
        exit_on_goal=True, exit_when=None, next_journeys=(), only_after=(), not_after=(), reentry=None, max_entries=None,
        can_interrupt=False, interruptible=True, must_finish=False, daily_entries=None, active=None, holdout=0.0,
        holdout_version=None, suppress=(), steps=(),
    )  # fmt: skip
    return replace(plain, **changes)


def policy(**changes: Any) -> Policy:
    """Return a policy that scores a journey by its value, and nothing with 0."""
    plain = Policy(
        score=numeric("value", value=NUMBER), none=numeric("0.0"), prior_propensity=0.05, waiting_weight=0.0, linked_boost=1.5,
        switch_margin=0.25, rest_days=0, cap=None, suppress=(), suppressed_when=None, holdout=0.0, explore=0.0, keep_candidates=None,
        patience_days=2,
    )  # fmt: skip
    return replace(plain, **changes)


def portfolio(*journeys: Journey, policies: Mapping[str, Any] | None = None, **changes: Any) -> Portfolio:
    """Return a portfolio of these journeys with two channels and nothing else."""
    plain = Portfolio(
        version="1", timezone="Europe/Berlin", starts_on=date(2026, 1, 1), ends_on=None, backfill_days=30, blocked=(),
        channels=(Channel("email", "opt_in", False), Channel("app", "opt_out", False), Channel("web", "none", False)),
        traits=(), interest_half_life_days=10.0, topics=(), intents=(), engagement=None, predictions=None, segments=(),
        journeys=journeys, audiences=(), publish=None, policy=policy(**(policies or {})),
    )  # fmt: skip
    return replace(plain, **changes)


def profile(**changes: Any) -> Row:
    """Return the profile of customer c today, who has said nothing."""
    said = {"consent_email": None, "consent_app": None, "consent_web": None}
    return {"date": TODAY, "customer_id": "c", "timezone": None, "best_hour": None, "tenure_days": 5, **said, **changes}


def decided(
    config: Portfolio,
    queued: Mapping[str, int],
    past: Mapping[str, list[Spell]] | None = None,
    events: list[Row] | None = None,
    **profile_changes: Any,
) -> tuple[dict[str, Row], Row, dict[str, Row]]:
    """Decide today for customer c: queued journeys with waiting days, earlier stays -> rows by journey, assignment, state."""
    memory = Memory({("c", name): list(spells) for name, spells in (past or {}).items()})
    people = [profile(**profile_changes)]
    queue_rows = [{"customer_id": "c", "journey_id": name, "waiting_days": days} for name, days in queued.items()]
    tables = decide_day(memory, events or [], people, queue_rows, config, TODAY)
    rows, state = ({row["journey_id"]: row for row in tables[table]} for table in ("scored_candidates", "journey_state"))
    return rows, tables["journey_assignments"][0], state


def stay(entered: int, ended: int | None = None, reason: str | None = None, score: float = 1.0) -> Spell:
    """Return a stay by days ago."""
    return Spell(
        ago(entered),
        score,
        "treated",
        ended_on=None if ended is None else ago(ended),
        ended_reason=reason or (None if ended is None else "completed"),
    )


# --- SPEC 1 ----------------------------------------------------------------------------------------------------------


def land(folder: Path, day: date, *lines: dict[str, Any] | bytes, name: str = "a.ndjson") -> Path:
    """Write lines of a day; return the landing zone."""
    target = folder / "landing" / day.isoformat() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    data = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    target.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder / "landing"


GOOD = {"messageId": "m", "type": "track", "event": "E", "userId": "c", "timestamp": "2026-01-10T10:00:00Z"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"x" * 32_769, "too_large"),
        (b"x" * 32_768, "malformed_json"),
        (b"[1]", "malformed_json"),
        (b'{"a": NaN}', "malformed_json"),
        (b"\xff", "malformed_json"),
        ({**GOOD, "type": "trak", "userId": ""}, "unknown_type"),
        ({**GOOD, "userId": "0", "event": ""}, "missing_identity"),
        ({**GOOD, "userId": "00-0"}, "missing_identity"),
        ({**GOOD, "event": "", "timestamp": "x"}, "missing_event_name"),
        ({**GOOD, "timestamp": "x"}, "bad_timestamp"),
        ({**GOOD, "timestamp": None, "receivedAt": "2026-01-10T10:00:00Z"}, "bad_timestamp"),
        ({**GOOD, "timestamp": "2026-01-10T10:00:00+14:01"}, "bad_timestamp"),
        ({**GOOD, "timestamp": "2026-01-10T10:00:00-12:60"}, "bad_timestamp"),
        ({**GOOD, "timestamp": "1999-12-31T23:59:59.999Z"}, "bad_timestamp"),
        ({**GOOD, "timestamp": "2026-01-11T23:00:00.001Z"}, "from_the_future"),
    ],
)
def test_a_bad_line_is_kept_with_the_first_reason_that_applies(tmp_path: Path, line: dict[str, Any] | bytes, reason: str) -> None:
    """Rejects are tested in the order of SPEC 1 and keep file, line and text."""
    raw, rejected, counts = ingest(land(tmp_path, TODAY, b"", line), TODAY, portfolio(), [])
    assert [(row["reason"], row["source_file"], row["line"]) for row in rejected] == [(reason, "2026-01-10/a.ndjson", 2)]
    assert not raw
    assert counts == {"lines": 1, "accepted": 0, "duplicates": 0, "rejected": 1}


def test_the_future_begins_24_hours_after_the_end_of_the_arrival_day(tmp_path: Path) -> None:
    """In Berlin in winter the day ends at 23:00 UTC; that moment one day later is still accepted, and has a later event date."""
    raw, _, _ = ingest(land(tmp_path, TODAY, {**GOOD, "timestamp": "2026-01-11T23:00:00Z"}), TODAY, portfolio(), [])
    assert [row["event_date"] for row in raw] == [date(2026, 1, 12)]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ({"timestamp": "2026-01-10T12:00:00+02:00"}, datetime(2026, 1, 10, 10, tzinfo=UTC)),
        ({"timestamp": "2026-01-10T12:00:00"}, datetime(2026, 1, 10, 12, tzinfo=UTC)),
        ({"timestamp": "2026-01-10 12:00:00.5 UTC"}, datetime(2026, 1, 10, 12, 0, 0, 500_000, tzinfo=UTC)),
        ({"timestamp": "2026-01-10 12:00:00 +0200"}, datetime(2026, 1, 10, 10, tzinfo=UTC)),
        ({"timestamp": "2026-01-10 12:00:00+02"}, datetime(2026, 1, 10, 10, tzinfo=UTC)),
        (
            {"originalTimestamp": "2026-01-10T08:00:00Z", "sentAt": "2026-01-10T08:00:30Z", "receivedAt": "2026-01-10T10:00:00Z"},
            datetime(2026, 1, 10, 9, 59, 30, tzinfo=UTC),
        ),
    ],
)
def test_a_timestamp_is_read_or_corrected_for_the_clock_of_the_client(tmp_path: Path, stamps: dict[str, str], expected: datetime) -> None:
    """``receivedAt - (sentAt - originalTimestamp)`` where there is no ``timestamp``; zoneless is UTC."""
    event = {key: value for key, value in GOOD.items() if key != "timestamp"}
    raw, _, _ = ingest(land(tmp_path, TODAY, {**event, **stamps}), TODAY, portfolio(), [])
    assert [row["timestamp"] for row in raw] == [expected]


def test_half_a_surrogate_pair_is_replaced_and_nothing_else() -> None:
    """Not a whole pair, and not what only looks like an escape."""
    assert whole('{"a\\ud83d": "\\ud83d\\ude00 \\ude00 \\\\ud83d \\uD83D\\u0041 \\n"}') == (
        '{"a\\ufffd": "\\ud83d\\ude00 \\ufffd \\\\ud83d \\ufffd\\u0041 \\n"}'
    )


def test_event_files_have_many_names(tmp_path: Path) -> None:
    """Of any case, in either form of folder and below; a mark before a line is none of it; a whole number may have a point."""
    marked = b"\xef\xbb\xbf" + json.dumps({**GOOD, "messageId": "1"}).encode()
    land(tmp_path, TODAY, marked, {**GOOD, "messageId": "2", "userId": 42.0}, name="A.JSON")
    landing = land(tmp_path, TODAY, {**GOOD, "messageId": "3"}, name="_left/alone.json")
    (landing / f"date={TODAY}").mkdir()
    (landing / f"date={TODAY}" / "b.GZ").write_bytes(gzip.compress(json.dumps({**GOOD, "messageId": "4"}).encode()))
    raw, _, counts = ingest(landing, TODAY, portfolio(), [])
    assert [(row["message_id"], row["user_id"]) for row in raw] == [("1", "c"), ("2", "42"), ("4", "c")]
    assert counts["lines"] == 3


def test_the_earliest_of_equal_message_ids_is_kept_for_three_arrival_days(tmp_path: Path) -> None:
    """Duplicates are counted within the day and against the two days before, and an id is new again after that."""
    later = {**GOOD, "timestamp": "2026-01-10T11:00:00Z"}
    landing = land(tmp_path, TODAY, later, GOOD, name="a.ndjson.gz")
    for days in (1, 2, 3):
        land(tmp_path, TODAY + days * DAY, later)
    history: list[Row] = []
    kept = []
    for days in (0, 1, 2, 3):
        raw, _, counts = ingest(landing, TODAY + days * DAY, portfolio(), history)
        history += raw
        kept.append((counts["accepted"], counts["duplicates"]))
    assert kept == [(1, 1), (0, 1), (0, 1), (1, 0)]
    assert history[0]["timestamp"] == datetime(2026, 1, 10, 10, tzinfo=UTC)


def test_values_keep_their_json_text() -> None:
    """An object is split into the texts of its members, an array into those of its elements."""
    text = ' {"a" : 1.0, "b\\n":[1, {"x": "}"}] ,"c":{}} '
    assert members(text) == {"a": "1.0", "b\n": '[1, {"x": "}"}]', "c": "{}"}
    assert elements(members(text)["b\n"]) == ("1", '{"x": "}"}')
    assert members("[]") == {}
    assert elements("{}") == ()


# --- SPEC 2 ----------------------------------------------------------------------------------------------------------


def sight(
    days: int,
    user: str | None = None,
    anonymous: str | None = None,
    previous: str | None = None,
    hour: int = 12,
    arrived: int | None = None,
) -> Row:
    """Return an event that shows these ids so many days ago; with a ``previous`` one it is an alias."""
    said = {"user_id": user, "anonymous_id": anonymous, "previous_id": previous}
    return {**event(days, kind="track" if previous is None else "alias", arrived=arrived, hour=hour), **said}


def known(events: list[Row], day: date = TODAY) -> dict[str, tuple[str, int]]:
    """Return, for each id, its customer and for how many days it has been that one; anonymous ids start with ``~``."""
    rows = identity_map(events, day)
    names = {"user": "", "anonymous": "~"}
    return {names[row["id_type"]] + row["id"]: (row["customer_id"], (day - row["valid_from"]).days) for row in rows}


def test_every_id_that_says_who_somebody_is_has_a_row() -> None:
    """Blocked ids are nobody, whatever they come with; the map is sorted and knows nothing of tomorrow."""
    events = [sight(3, "u", "0"), sight(2, "null", "a"), sight(1, "u"), sight(-1, "later")]
    assert known(events) == {"u": ("u", 3), "~a": ("anon:a", 2)}
    assert known(events, ago(3)) == {"u": ("u", 0)}
    assert [(row["id_type"], row["id"]) for row in identity_map(events, TODAY)] == [("anonymous", "a"), ("user", "u")]


def test_an_alias_points_to_who_somebody_is_from_its_arrival_on_and_a_chain_to_its_end() -> None:
    """A is B since two days, and C since one; whoever is named as a previous id is known from that day, too."""
    events = [sight(5, "A"), sight(4, "B"), sight(2, "B", previous="A"), sight(1, "C", previous="B"), sight(1, "C", previous="never seen")]
    assert known(events, ago(2)) == {"A": ("B", 0), "B": ("B", 2)}
    assert known(events) == {"A": ("C", 1), "B": ("C", 1), "C": ("C", 1), "never seen": ("C", 1)}


def test_an_alias_may_come_before_the_previous_id_is_seen() -> None:
    """Whoever turns up under that id is who the alias said."""
    assert known([sight(3, "B", previous="A"), sight(1, "A")]) == {"A": ("B", 3), "B": ("B", 3)}


def test_aliases_are_followed_in_the_order_of_arrival_then_time_then_id() -> None:
    """What happened before but arrived after comes second, and a second alias is ignored, even one that says the same."""
    early = sight(1, "early", previous="A", hour=8)
    events = [sight(5, "late", previous="A", arrived=0), sight(1, "noon", previous="A"), early, sight(0, "early", previous="A")]
    assert known(events)["A"] == ("early", 1)
    assert [(identity_counts(events, ago(days))["second_alias"]) for days in (1, 0)] == [1, 2]


@pytest.mark.parametrize(
    ("user", "previous", "reason"),
    [
        ("A", "A", "alias_cycle"),
        ("A", "C", "alias_cycle"),
        ("B", "C", "alias_cycle"),
        ("C", "A", "second_alias"),
        ("A", "null", "alias_of_nobody"),
        ("anonymous", "C", "alias_of_nobody"),
        (None, "C", "alias_of_nobody"),
    ],
)
def test_an_alias_that_leads_nowhere_is_ignored_and_counted(user: str | None, previous: str, reason: str) -> None:
    """A is B, and B is C; an alias that is a circle comes after what it would have to be."""
    events = [sight(3, "B", previous="A"), sight(2, "C", previous="B"), sight(0, user, "a", previous=previous)]
    if (user, previous) == ("A", "A"):
        events = events[2:]
    counts = identity_counts(events, TODAY)
    assert {name: counts[name] for name in ("second_alias", "alias_cycle", "alias_of_nobody") if counts[name]} == {reason: 1}
    assert len(known(events)) == (2 if len(events) == 1 else 4)


def test_an_anonymous_id_belongs_for_good_to_the_first_user_seen_with_it() -> None:
    """By arrival, then time: the visitor of three days ago is U, and V on the same device is V. U's alias takes the device along."""
    events = [sight(3, None, "a"), sight(2, "U", "a"), sight(2, "V", "a", hour=13), sight(9, "W", "a", arrived=1)]
    assert known(events, ago(3)) == {"~a": ("anon:a", 0)}
    assert known(events) == {"~a": ("U", 2), "U": ("U", 2), "V": ("V", 2), "W": ("W", 1)}
    who = who_is(events)
    assert [customer_of(one, who) for one in events] == ["U", "U", "V", "W"]
    assert known([*events, sight(0, "V", previous="U")])["~a"] == ("V", 0)


def test_all_of_a_days_events_are_read_with_what_is_known_at_its_end() -> None:
    """The alias comes last in the day, and everything before it is the survivor's already."""
    events = [sight(0, "A", hour=8), sight(0, None, "a", hour=9), sight(0, "A", "a", hour=10), sight(0, "B", previous="A", hour=11)]
    assert [row["customer_id"] for row in profiles(events, TODAY, portfolio())] == ["B"]
    assert survivors(events, TODAY) == {"A": "B", "anon:a": "B"}


def test_the_customers_of_a_day_are_those_of_the_day_before_and_the_new_ones_without_the_merged() -> None:
    """Two were, one is new, one is gone. Who comes and is merged on the same day is not counted."""
    events = [sight(2, "A"), sight(1, None, "a"), sight(0, "A", "a"), sight(0, "B"), sight(0, "B", previous="not seen before")]
    counts = identity_counts(events, TODAY)
    assert [counts[name] for name in ("yesterday", "new", "merged", "today")] == [2, 1, 1, 2]


def test_a_merge_moves_the_past_from_its_day_on() -> None:
    """Yesterday there were two profiles with what each had done; today there is one with all of it, as old as the older one."""
    events = [
        {**sight(9, "A"), "properties": json.dumps({"n": 5})},
        {**sight(4, None, "a"), "properties": json.dumps({"n": 2})},
        {**sight(3, "B"), "properties": json.dumps({"n": 1})},
        sight(0, "B", "a"),
        sight(0, "B", previous="A"),
    ]
    config = portfolio(traits=(trait("sum", "n"),))
    before = {row["customer_id"]: (row["t"], row["tenure_days"]) for row in profiles(events, ago(1), config)}
    assert before == {"A": (5.0, 8), "B": (1.0, 2), "anon:a": (2.0, 3)}
    after = [
        (row["customer_id"], row["t"], row["first_seen_on"], row["last_seen_on"], row["tenure_days"])
        for row in profiles(events, TODAY, config)
    ]
    assert after == [("B", 8.0, ago(9), TODAY, 9)]


def test_a_spell_is_as_old_as_the_oldest_of_those_merged() -> None:
    """In a segment and in a queue, for those who were in it yesterday."""
    old = Segment("old", condition("tenure_days = 5", tenure_days=COUNT))
    config = portfolio(journey("j"), segments=(old,))
    now = {"x": "c", "y": "c", "z": "d"}
    member = [
        {"segment_id": "old", "customer_id": who, "member_since": ago(days)} for who, days in (("c", 2), ("x", 4), ("y", 3), ("z", 9))
    ]
    rows = memberships([profile()], member, TODAY, config, now)
    assert [(row["customer_id"], row["member_since"]) for row in rows] == [("c", ago(4))]
    queued = [{"journey_id": "j", "customer_id": who, "queued_on": ago(days)} for who, days in (("x", 4), ("z", 9))]
    waiting = queues([profile(), profile(customer_id="d"), profile(customer_id="e")], [], queued, TODAY, config, now)
    assert [(row["customer_id"], row["waiting_days"]) for row in waiting] == [("c", 4), ("d", 9), ("e", 0)]


def merged(own: Mapping[str, list[Spell]], *absorbed: Mapping[str, list[Spell]], cap: int = 30) -> tuple[dict[str, Row], dict[str, str]]:
    """Merge x, y, ... into c today: journey -> stays of each -> the state by journey, and what has ended."""
    people = {"c": own, **dict(zip("xyz", absorbed, strict=False))}
    memory = Memory({(who, name): list(spells) for who, mine in people.items() for name, spells in mine.items()})
    ended = memory.merge(dict.fromkeys("xyz", "c"), TODAY)
    rows = state_rows(memory, TODAY, portfolio(policies={"cap": Cap(cap, numeric("9.0"))}))
    assert {row["customer_id"] for row in rows} <= {"c"}
    return {row["journey_id"]: row for row in rows}, ended


def told(row: Row, *names: str) -> list[Any]:
    """Return some values of a row."""
    return [row[name] for name in names]


def test_what_merged_customers_have_been_through_adds_up() -> None:
    """Counts add, starts are all kept, the latest entry comes with its score and arm, the latest end with its reason."""
    mine = [stay(20, 15), stay(9, 2, "exited", score=3.0)]
    theirs = [replace(stay(7, 4, score=5.0), arm="control"), stay(9, 8)]
    rows, ended = merged({"j": mine}, {"j": theirs, "k": [stay(9, 5)]}, cap=10)
    assert ended == {}
    assert told(rows["j"], "entered_on", "entry_score", "arm", "ended_on", "ended_reason") == [ago(7), 5.0, "control", ago(2), "exited"]
    assert told(rows["j"], "times_entered", "times_completed", "recent_starts") == [4, 3, [ago(9), ago(9), ago(7)]]
    assert told(rows["k"], "entered_on", "times_entered") == [ago(9), 1]


def test_of_equal_days_the_survivors_count_then_those_of_the_least_absorbed() -> None:
    """Entries and ends on the same day, with other scores and reasons."""
    x, y = [stay(7, 4, "exited", score=2.0)], [stay(7, 4, "converted", score=3.0)]
    for own, score, reason in (({"j": [stay(7, 4, "completed", score=1.0)]}, 1.0, "completed"), ({}, 2.0, "exited")):
        rows, _ = merged(own, {"j": x}, {"j": y})
        assert told(rows["j"], "entry_score", "ended_reason") == [score, reason]


def test_of_journeys_in_flight_the_survivors_own_goes_on_and_the_others_end_merged() -> None:
    """However late the others were entered; in its own journey a second flight only counts."""
    rows, ended = merged({"j": [stay(8)]}, {"k": [stay(2)]}, {"j": [stay(3, score=4.0)]})
    assert ended == {"c": "k"}
    assert told(rows["j"], "entered_on", "entry_score", "ended_on", "times_entered", "recent_starts") == [
        ago(8),
        1.0,
        None,
        2,
        [ago(8), ago(3)],
    ]
    assert told(rows["k"], "entered_on", "ended_on", "ended_reason", "times_completed") == [ago(2), TODAY, "merged", 0]


@pytest.mark.parametrize(
    ("x", "y", "goes_on", "entered"),
    [
        ({"j": [stay(8)]}, {"k": [stay(2)]}, "k", 2),
        ({"k": [stay(2)]}, {"j": [stay(2)]}, "j", 2),
        ({"j": [stay(2, score=1.0)]}, {"j": [stay(2, score=4.0)]}, "j", 2),
        ({"j": [stay(8)]}, {"j": [stay(2, score=4.0)]}, "j", 2),
    ],
)
def test_without_one_of_the_survivors_the_latest_flight_goes_on_under_the_survivors_name(
    x: dict[str, list[Spell]], y: dict[str, list[Spell]], goes_on: str, entered: int
) -> None:
    """Ties: the least journey, then the least customer."""
    rows, ended = merged({}, x, y)
    assert told(rows[goes_on], "entered_on", "ended_on") == [ago(entered), None]
    assert [row["journey_id"] for row in rows.values() if row["ended_on"] is None] == [goes_on]
    assert ended == ({"c": "j" if goes_on == "k" else "k"} if len(rows) == 2 else {})
    assert rows[goes_on]["times_entered"] == 3 - len(rows)
    assert rows[goes_on]["entry_score"] == (4.0 if x.keys() == y.keys() and x["j"][0].entered_on != y["j"][0].entered_on else 1.0)


def test_a_flight_goes_on_as_it_began_though_the_same_journey_was_entered_and_left_later() -> None:
    """Its day, arm and score are those it was entered with, and they still are when it has ended."""
    memory = Memory({("c", "j"): [stay(9, score=1.0)], ("x", "j"): [stay(5, 2, score=7.0)]})
    memory.merge({"x": "c"}, ago(1))
    running = state_rows(memory, ago(1), portfolio())[0]
    assert told(running, "entered_on", "ended_on", "entry_score", "times_entered", "times_completed") == [ago(9), None, 1.0, 2, 1]
    memory.end("c", "j", TODAY, "exited")
    assert told(state_rows(memory, TODAY, portfolio())[0], "entered_on", "ended_on", "ended_reason") == [ago(9), TODAY, "exited"]


def test_the_merge_comes_first_and_the_assignment_tells_it_where_nothing_else_ended() -> None:
    """Customer c goes on in j, x's k ends; where j is over today, that is what is told; k may not be entered again."""
    alias = sight(0, "c", previous="x")
    for entered, decision, ended in ((3, "continue", ("k", "merged")), (10, "none", ("j", "completed"))):
        memory = Memory({("c", "j"): [stay(entered)], ("x", "k"): [stay(2)]})
        queued = [{"customer_id": "c", "journey_id": "k", "waiting_days": 0}]
        tables = decide_day(memory, [alias], [profile()], queued, portfolio(journey("j"), journey("k")), TODAY)
        row = tables["journey_assignments"][0]
        assert told(row, "decision", "ended_journey_id", "ended_reason") == [decision, *ended]
        assert {one["journey_id"]: one["ended_reason"] for one in tables["journey_state"]}["k"] == "merged"
        assert [one["ruling"] for one in tables["scored_candidates"] if one["journey_id"] == "k"] == ["reentry"]


def test_a_goal_that_the_absorbed_one_reached_is_the_survivors() -> None:
    """The order came under the other name, and converts the journey on the day of the merge."""
    config = portfolio(journey("j", goal=Goal("E", 10, None)))
    happened = [sight(2, "x"), sight(0, "c", previous="x")]
    rows = [
        decide_day(Memory({("c", "j"): [stay(3)]}), events, [profile()], [], config, TODAY)["journey_assignments"][0]["ended_reason"]
        for events in (happened[:1], happened)
    ]
    assert rows == [None, "converted"]


# --- SPEC 3 ----------------------------------------------------------------------------------------------------------


def event(days: int, name: str | None = "E", kind: str = "track", arrived: int | None = None, hour: int = 12, **said: Any) -> Row:
    """Return an accepted event of customer c so many days ago."""
    event.count = getattr(event, "count", 0) + 1  # type: ignore[attr-defined]
    texts = {key: json.dumps(said[key]) if key in said else None for key in ("properties", "traits", "context")}
    return {
        "date": ago(days if arrived is None else arrived),
        "message_id": f"m{event.count:04}",  # type: ignore[attr-defined]
        "type": kind,
        "event": name,
        "user_id": said.get("user", "c"),
        "anonymous_id": None,
        "previous_id": None,
        "timestamp": datetime(TODAY.year, TODAY.month, TODAY.day, hour, tzinfo=UTC) - days * DAY,
        "event_date": ago(days),
        "received_at": said.get("received"),
        **texts,
    }


def trait(
    kind: Any,
    prop: str | None = None,
    dtype: pl.DataType = NUMBER,
    where: Condition | None = None,
    each: str | None = None,
    w: int | None = None,
) -> Trait:
    """Return a trait over events E."""
    selector = None if kind in {"profile", "percentile"} else Selector(("E",), each, where)
    return Trait("t", kind, dtype, prop, selector, w)


SOME = [
    event(9, properties={"n": 5, "s": "b", "items": [{"s": "x", "n": 1}, {"s": "y", "n": 2}, 7]}),
    event(4, properties={"n": "5", "s": "a"}),
    event(3, properties={"n": 2.5, "s": "a"}),
    event(3, "F", properties={"n": 100, "s": "f"}),
    event(0, properties={"n": True, "s": "b"}),
    event(-1, properties={"n": 1000, "s": "tomorrow"}, arrived=0),
    event(0, properties={"n": 1000, "s": "not here yet"}, arrived=-1),
    event(0, None, "identify", traits={"n": 3, "s": "old", "d": "2000-01-31"}),
    event(0, None, "identify", traits={"n": "3", "s": "new", "d": "soon"}),
]
IS_A = condition("s = 'a'", s=TEXT)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (trait("count"), 4),
        (trait("count", w=4), 2),
        (trait("count", w=5), 3),
        (trait("count", where=IS_A), 2),
        (trait("count", each="items"), 2),
        (trait("sum", "n"), 12.5),
        (trait("sum", "n", each="items", where=condition("s = 'y'", s=TEXT)), 2.0),
        (trait("sum", "nothing"), 0.0),
        (trait("avg", "n"), 12.5 / 3),
        (trait("min", "n"), 2.5),
        (trait("max", "n"), 5.0),
        (trait("max", "nothing"), None),
        (trait("first", "s", TEXT), "b"),
        (trait("last", "s", TEXT), "b"),
        (trait("first", "s", TEXT, each="items"), "x"),
        (trait("last", "s", TEXT, each="items"), "y"),
        (trait("last", "n", TEXT), "true"),
        (trait("first", "n", TEXT, where=IS_A), "5"),
        (trait("last", "n", TEXT, where=IS_A), "2.5"),
        (trait("most_frequent", "s", TEXT), "a"),
        (trait("most_frequent", "n", TEXT, each="items"), None),
        (trait("most_frequent", "s", TEXT, w=4), None),
        (trait("most_frequent", "s", TEXT, w=10), "a"),
        (trait("unique_count", "s", COUNT), 2),
        (trait("unique_count", "s", COUNT, each="items"), 2),
        (trait("unique_count", "nothing", COUNT), 0),
        (trait("unique_count", "n", COUNT, w=5), 3),
        (trait("unique_list", "s", pl.List(TEXT)), ["a", "b"]),
        (trait("unique_list", "s", pl.List(TEXT), w=3), ["b"]),
        (trait("unique_list", "n", pl.List(TEXT)), ["2.5", "5", "true"]),
        (trait("unique_list", "nothing", pl.List(TEXT)), []),
        (trait("days_since_first", dtype=COUNT), 9),
        (trait("days_since_last", dtype=COUNT), 0),
        (trait("days_since_last", dtype=COUNT, where=IS_A), 3),
        (trait("days_since_last", dtype=COUNT, where=IS_A, w=3), None),
        (trait("profile", "s", TEXT), "new"),
        (trait("profile", "n", NUMBER), 3.0),
        (trait("profile", "d", pl.Date()), date(2000, 1, 31)),
    ],
)
def test_each_kind_of_trait_is_what_the_table_says(given: Trait, expected: object) -> None:
    """Windows are ``(D - w, D]`` in event dates; wrong types are skipped; tomorrow's events are not seen today."""
    assert profiles(SOME, TODAY, portfolio(traits=(given,)))[0]["t"] == expected


def test_a_percentile_is_the_share_of_customers_with_a_value_who_have_no_more() -> None:
    """Ties share the higher rank, and nobody without a value is ranked."""
    amounts = {"a": 1, "b": 3, "c": 3, "d": None, "e": 9}
    rows = profiles(
        [event(0, user=name, properties={"n": n}) for name, n in amounts.items()],
        TODAY,
        portfolio(traits=(replace(trait("max", "n"), id="best"), trait("percentile", "best"))),
    )
    assert [row["t"] for row in rows] == [0.25, 0.75, 0.75, None, 1.0]


def test_a_customer_exists_from_the_first_arrival() -> None:
    """An event dated tomorrow makes a customer today; one that arrives late does not make the customer older."""
    rows = profiles(
        [event(-1, user="new", arrived=0), event(9, user="late", arrived=2), event(8, user="late", arrived=1)], TODAY, portfolio()
    )
    seen = {row["customer_id"]: (row["first_seen_on"], row["last_seen_on"], row["tenure_days"]) for row in rows}
    assert seen == {"new": (TODAY, TODAY, 0), "late": (ago(2), ago(1), 2)}


def test_an_unknown_visitor_is_a_customer_by_the_anonymous_id() -> None:
    """``anon:`` before the anonymous id while no user is known."""
    rows = profiles([{**event(0), "user_id": None, "anonymous_id": "a1"}], TODAY, portfolio())
    assert [row["customer_id"] for row in rows] == ["anon:a1"]


@pytest.mark.parametrize(
    ("said", "email", "app"),
    [
        ([], None, None),
        ([("identify", {"consent_email": True})], True, None),
        ([("identify", {"consent_email": True}), ("Unsubscribed", {})], False, False),
        ([("Unsubscribed", {"channel": "app"}), ("identify", {"consent_email": "yes"})], None, False),
        ([("Unsubscribed", {}), ("Subscribed", {"channel": "app"}), ("Subscribed", {})], False, True),
        ([("Subscribed", {"channel": "Email"}), ("Unsubscribed", {"channel": "fax"})], False, False),
        ([("identify", {"CONSENT_EMAIL": "true", "consent_app": "TRUE"})], True, None),
        ([("identify", {"consent_email": 1, "consent_app": 0})], True, False),
        ([("identify", {"consent_email": "true", "consent_app": "Off "}), ("Unsubscribed", {"channel": " APP"})], True, False),
    ],
)
def test_the_last_word_on_consent_wins(said: list[tuple[str, dict[str, Any]]], email: bool | None, app: bool | None) -> None:
    """Unsubscribing from nothing in particular, or of ours, withdraws everything; what is unclear grants nothing."""
    events = [
        event(0, None, "identify", hour=hour, traits=words) if kind == "identify" else event(0, kind, hour=hour, properties=words)
        for hour, (kind, words) in enumerate([("E", {}), *said])
    ]
    row = profiles(events, TODAY, portfolio())[0]
    assert (row["consent_email"], row["consent_app"]) == (email, app)


def test_a_grant_counts_only_if_it_is_later_in_both_ways() -> None:
    """By its own time and by arrival; a withdrawal from a clock that is fast counts at once, a grant when it is time."""

    def told(*words: tuple[int, int, int, bool]) -> list[bool | None]:
        said = [event(ago_, None, "identify", arrived=came, hour=hour, traits={"consent_email": word}) for ago_, hour, came, word in words]
        return [profiles(said, ago(day), portfolio())[0]["consent_email"] for day in (1, 0)]

    assert told((3, 12, 3, False), (2, 12, 2, True)) == [True, True]
    assert told((3, 12, 1, False), (2, 12, 2, True)) == [False, False]  # the withdrawal is older, and came later
    assert told((2, 12, 2, False), (3, 12, 1, True)) == [False, False]  # the grant is older
    assert told((0, 6, 1, True), (1, 12, 1, False)) == [False, False]  # nobody knows when the grant of tomorrow came
    assert told((0, 6, 1, True), (1, 12, 2, True)) == [True, True]
    assert told((0, 6, 1, True)) == [None, True]
    assert told((1, 8, 1, True), (0, 4, 1, False)) == [False, False]


def test_interest_is_a_share_of_decayed_weights_and_intent_a_capped_sum() -> None:
    """Weight 4 ten days ago at half-life 10 is 2, against 1 today: shares 2/3 and 1/3; 1.5 of full 2 is 0.75."""
    bags, ski = Signal(Selector(("E",)), 4.0), Signal(Selector(("F",)), 1.0)
    intent = Intent("buy", 1.0, 2.0, (Signal(Selector(("F",)), 1.0), Signal(Selector(("G",)), 1.0)))
    config = portfolio(topics=(Topic("bags", (bags,)), Topic("ski", (ski,))), intents=(intent,))
    row = profiles([event(10), event(0, "F"), event(1, "G"), event(0, "x", user="d")], TODAY, config)
    assert [row[0]["interest_bags"], row[0]["interest_ski"], row[0]["intent_buy"]] == pytest.approx([2 / 3, 1 / 3, 0.75])
    assert (row[1]["interest_bags"], row[1]["intent_buy"]) == (0.0, 0.0)


def test_engagement_is_answered_touches_and_unknown_without_touches() -> None:
    """One answer today to a touch today and one ten days ago at half-life 10: 1 / 1.5; at most 1."""
    config = portfolio(engagement=Engagement(("T",), ("R",), 10.0))
    events = [event(0, "R"), event(0, "T"), event(10, "T"), event(0, "R", user="d"), event(0, "R", user="e"), event(1, "T", user="e")]
    assert [row["engagement"] for row in profiles(events, TODAY, config)] == [pytest.approx(2 / 3), None, 1.0]


def test_equally_frequent_values_are_taken_in_code_point_order() -> None:
    """Upper case, then lower case, then accents; a third value that is there once does not count."""
    says = [event(0, properties={"s": s}) for s in "éaZéaZ0"]
    assert profiles(says, TODAY, portfolio(traits=(trait("most_frequent", "s", TEXT),)))[0]["t"] == "Z"
    assert profiles(says, TODAY, portfolio(traits=(trait("unique_list", "s", pl.List(TEXT)),)))[0]["t"] == ["0", "Z", "a", "é"]
    assert profiles(says[:2], TODAY, portfolio(traits=(trait("most_frequent", "s", TEXT),)))[0]["t"] is None


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], None),
        ([(0, "fax"), (0, None), (0, ["app"])], None),
        ([(0, "web"), (10, "email"), (10, "email")], "email"),
        ([(1, "web"), (10, "email"), (10, "email")], "email"),
        ([(0, "web"), (0, "email"), (0, "email"), (-1, "web"), (-1, "web")], "email"),
        ([(0, "web"), (11, "email"), (11, "email")], "web"),
    ],
)
def test_the_preferred_channel_is_one_of_ours_with_most_decayed_responses(answers: list[tuple[int, Any]], expected: str | None) -> None:
    """Two of ten days ago at half-life 10 are as good as one of today, and then the first by name; tomorrow's is not seen."""
    events = [event(0), *(event(days, "R", arrived=max(days, 0), properties={"channel": said}) for days, said in answers)]
    config = portfolio(engagement=Engagement(("T",), ("R",), 10.0))
    assert profiles(events, TODAY, config)[0]["preferred_channel"] == expected


def at(moment: str, zone: str | None = None, arrived: int = 0) -> Row:
    """Return an event of customer c at a moment of UTC, sent from a time zone."""
    when = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    said = {} if zone is None else {"context": {"timezone": zone}}
    berlin = when.astimezone(ZoneInfo("Europe/Berlin"))
    return {**event(0, arrived=arrived, **said), "timestamp": when, "event_date": berlin.date()}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([at("2026-01-09T10:00")], 11),
        ([at("2026-01-09T10:00"), at("2026-01-10T18:00"), at("2026-01-08T18:30")], 19),
        ([at("2026-01-09T18:00"), at("2026-01-10T10:00")], 11),
        ([at("2026-01-09T10:00", "Mars/Olympus")], 11),
        ([at("2026-01-09T10:00", "Asia/Kolkata")], 15),
        ([at("2026-01-09T10:00", "Asia/Kolkata"), at("2026-01-09T10:30"), at("2026-01-09T11:10")], 16),
        ([at("2026-01-08T10:00", "Asia/Tokyo"), at("2026-01-09T10:00", "America/New_York")], 5),
        ([at("2026-01-08T10:00", "Asia/Tokyo"), at("2026-01-09T10:00", "Mars/Olympus")], 11),
        ([at("2025-10-24T10:00"), at("2025-10-25T10:00"), at("2026-01-10T10:00")], 12),
        ([at("2025-10-12T22:00"), at("2025-10-12T22:10"), at("2026-01-10T10:00")], 0),
        ([at("2025-10-12T21:59"), at("2025-10-12T21:50"), at("2026-01-10T10:00")], 11),
        ([at("2026-01-11T07:00"), at("2026-01-11T07:00"), at("2026-01-10T10:00")], 11),
        ([at("2025-10-12T21:59")], None),
    ],
)
def test_the_best_hour_is_that_with_most_events_in_90_days_where_the_customer_is_today(events: list[Row], expected: int | None) -> None:
    """In the last time zone said if there is one of that name, else the calendar's, by its clock on each day; the earliest of equals."""
    assert profiles(events, TODAY, portfolio())[0]["best_hour"] == expected


CDNOW = PurchaseModel(r=0.243, alpha=4.414, a=0.793, b=2.426, p=6.25, q=3.74, v=15.44)
"""As published by Fader, Hardie & Lee (2005) and Fader & Hardie (2013); time in weeks, which nothing here minds."""
OVER_39 = Predictions("E", "n", horizon_days=39, refit_days=7)


def occurrences_of(*days: int, values: tuple[float, ...] = ()) -> list[Occurrence]:
    """Return orders so many days ago, and what they were worth."""
    worth = [*values, *[None] * (len(days) - len(values))]
    return occurrences(Selector(("E",)), [event(one, properties={"n": value}) for one, value in zip(days, worth, strict=True)])


def test_predicted_orders_are_those_of_the_published_example() -> None:
    """Two more orders, the last 30.43 weeks after the first, 38.86 weeks ago: 1.226 expected in 39 weeks (Fader, Hardie & Lee)."""
    orders = predictions(occurrences_of(3886, 2000, 843), TODAY, replace(OVER_39, horizon_days=3900), replace(CDNOW, alpha=441.4))
    assert orders["predicted_orders"] == pytest.approx(1.226, abs=5e-4)


def test_a_customer_of_one_order_is_still_there_and_may_just_not_order_again() -> None:
    """Nobody leaves before the second order: no order in the horizon has the chance ((alpha + T) / (alpha + T + t)) ** r."""
    row = predictions(occurrences_of(10), TODAY, OVER_39, CDNOW)
    assert row["churn_risk"] == pytest.approx((14.414 / 53.414) ** 0.243)


def test_orders_of_a_day_are_one_transaction_worth_all_of_them() -> None:
    """Ordering again after no time at all would mean an infinite rate."""
    once = predictions(occurrences_of(30, 10, values=(0.0, 50.0)), TODAY, OVER_39, CDNOW)
    assert predictions(occurrences_of(30, 10, 10, values=(0.0, 20.0, 30.0)), TODAY, OVER_39, CDNOW) == once


def test_churn_is_to_have_left_or_not_to_order_in_the_horizon() -> None:
    """One repeat order, 20 days after the first, 30 days ago: P(there) = 1 / (1 + a / b ((alpha + T) / (alpha + t_x)) ** (r + 1))."""
    row = predictions(occurrences_of(30, 10), TODAY, OVER_39, CDNOW)
    is_there = 1 / (1 + 0.793 / 2.426 * (34.414 / 24.414) ** 1.243)
    assert row["churn_risk"] == pytest.approx(1 - is_there * (1 - (34.414 / 73.414) ** 1.243))


def test_expected_orders_over_a_short_time_are_its_length_times_the_rate() -> None:
    """With a horizon that is short against everything else, (r + x) / (alpha + T) per day while there."""
    row = predictions(occurrences_of(3000, 2000, 1000), TODAY, replace(OVER_39, horizon_days=1), CDNOW)
    gone = 0.793 / 3.426 * (3004.414 / 2004.414) ** 2.243
    assert row["predicted_orders"] == pytest.approx(2.243 / 3004.414 / (1 + gone), rel=1e-3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), 6.25 * 15.44 / 2.74),
        ((0.0, -5.0), 6.25 * 15.44 / 2.74),
        ((20.0,), 6.25 * (15.44 + 20) / (6.25 + 2.74)),
        ((20.0, 30.0, 0.0), 6.25 * (15.44 + 50) / (12.5 + 2.74)),
    ],
)
def test_an_order_is_expected_to_be_worth_between_what_it_was_and_what_it_is_for_everybody(
    values: tuple[float, ...], expected: float
) -> None:
    """Orders of no value do not count; without any other it is the mean of the population."""
    row = predictions(occurrences_of(30, 20, 10, values=values), TODAY, OVER_39, CDNOW)
    assert row["predicted_value"] == pytest.approx(row["predicted_orders"] * expected)


def test_nothing_is_predicted_without_an_order_or_a_model() -> None:
    """Null, not zero; and tomorrow's order is not one yet."""
    config = portfolio(predictions=OVER_39)
    events = [event(-1, arrived=0), event(1, user="d", properties={"n": 5})]
    told_ = [row["churn_risk"] is None for model in (CDNOW, None) for row in profiles(events, TODAY, config, model)]
    assert told_ == [True, False, True, True]


def test_a_mean_over_beta_is_exact_where_it_is_known() -> None:
    """The mean of p is a / (a + b), of its square a (a + 1) / ((a + b) (a + b + 1)); also where it piles up at the ends."""
    for a, b in ((0.8, 2.4), (1.0, 1.0), (0.05, 0.07), (0.01, 30.0), (40.0, 0.5), (2.0, 500.0)):
        assert beta_mean(lambda p: p, a, b) == pytest.approx(a / (a + b), rel=1e-10)
        assert beta_mean(lambda p: p * p, a, b) == pytest.approx(a * (a + 1) / ((a + b) * (a + b + 1)), rel=1e-10)


# --- SPEC 4 and 6 ----------------------------------------------------------------------------------------------------


def test_nobody_is_without_a_segment_and_spells_are_unbroken() -> None:
    """Whoever is in no segment is in ``everyone_else``; a day outside starts a new spell."""
    config = portfolio(segments=(Segment("old", condition("tenure_days > 3", tenure_days=COUNT)),))
    first = memberships([profile(), profile(customer_id="d", tenure_days=0)], [], ago(2), config)
    assert [(row["segment_id"], row["customer_id"]) for row in first] == [("everyone_else", "d"), ("old", "c")]
    second = memberships([profile(), profile(customer_id="d")], first, ago(1), config)
    assert [(row["segment_id"], row["customer_id"], row["member_since"]) for row in second] == [("old", "c", ago(2)), ("old", "d", ago(1))]


@pytest.mark.parametrize(
    ("queue", "expected"),
    [
        (Queue((), (), (), None), "cde"),
        (Queue(("s1", "s2"), (), (), None), "cd"),
        (Queue((), ("s1", "s2"), (), None), "c"),
        (Queue(("s1",), (), ("s2",), None), "d"),
        (Queue(("s2", "everyone_else"), (), (), None), "ce"),
        (Queue((), (), (), condition("tenure_days = 5", tenure_days=COUNT)), "c"),
    ],
)
def test_a_queue_is_any_all_none_and_where(queue: Queue, expected: str) -> None:
    """Customer c is in both segments, d in the first, e in neither; only c has tenure 5."""
    people = [profile(), profile(customer_id="d", tenure_days=4), profile(customer_id="e", tenure_days=None)]
    members_ = [{"segment_id": s, "customer_id": c} for s, c in [("s1", "c"), ("s2", "c"), ("s1", "d"), ("everyone_else", "e")]]
    rows = queues(people, members_, [], TODAY, portfolio(journey("a", queue=queue)))
    assert "".join(row["customer_id"] for row in rows) == expected


def test_who_would_leave_at_once_does_not_queue_and_waiting_counts_from_the_start_of_the_spell() -> None:
    """``exit_when`` empties a queue; ``waiting_days`` are days since ``queued_on``."""
    before = [{"journey_id": "a", "customer_id": "c", "queued_on": ago(3)}]
    journeys = (journey("a"), journey("b", exit_when=condition("tenure_days = 5", tenure_days=COUNT)), journey("new"))
    rows = queues([profile()], [], before, TODAY, portfolio(*journeys))
    assert [(row["journey_id"], row["queued_on"], row["waiting_days"]) for row in rows] == [("a", ago(3), 3), ("new", TODAY, 0)]


# --- SPEC 7 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "gates"),
    [
        ({}, []),
        ({"status": "paused"}, ["not_live"]),
        ({"starts_on": TODAY + DAY}, ["not_live"]),
        ({"starts_on": TODAY, "ends_on": TODAY}, []),
        ({"ends_on": ago(1)}, ["not_live"]),
        ({"suppress": (Period(ago(1), TODAY),)}, ["blackout"]),
        ({"suppress": (Period(TODAY + 9 * DAY, TODAY + 9 * DAY),)}, []),
        ({"suppress": (Period(TODAY + 9 * DAY, TODAY + 9 * DAY),), "must_finish": True}, ["would_overrun"]),
        ({"suppress": (Period(TODAY + 10 * DAY, TODAY + 11 * DAY),), "must_finish": True}, []),
        ({"ends_on": TODAY + 8 * DAY, "must_finish": True}, ["would_overrun"]),
        ({"ends_on": TODAY + 9 * DAY, "must_finish": True}, []),
        ({"channels": ("email",)}, ["no_channel"]),
        ({"channels": ("email", "app")}, []),
        ({"channels": ("web",)}, []),
        ({"value": float("nan")}, ["unscored"]),
        ({"value": float("-inf")}, ["unscored"]),
        ({"status": "paused", "channels": ("email",), "value": float("nan")}, ["not_live", "no_channel", "unscored"]),
    ],
)
def test_static_gates_in_their_order(changes: dict[str, Any], gates: list[str]) -> None:
    """All failing gates are kept; the first one is the ruling."""
    rows, assignment, _ = decided(portfolio(journey("a", **changes)), {"a": 0})
    assert rows["a"]["failed_gates"] == gates
    assert rows["a"]["ruling"] == (gates[0] if gates else "chosen")
    assert assignment["decision"] == ("none" if gates else "start")


def test_the_suppressed_and_the_blacked_out_start_nothing() -> None:
    """Policy-wide gates hold for every journey; app is usable until consent is refused."""
    config = portfolio(
        journey("a", channels=("app",)),
        policies={"suppress": (Period(TODAY, TODAY),), "suppressed_when": condition("tenure_days = 5", tenure_days=COUNT)},
    )
    rows, _, _ = decided(config, {"a": 0}, consent_app=False)
    assert rows["a"]["failed_gates"] == ["blackout", "suppressed", "no_channel"]


def test_the_default_score_multiplies_its_factors() -> None:
    """Interests add up to at most 1, intents count by the largest, a link from the last finished journey boosts."""
    text = (
        "propensity * value * (1 + interest_match) * (1 + intent_match) * (1 + priority / 100.0)"
        " * (1 + waiting_weight * least(waiting_days, 30) / 30.0) * linked_boost"
    )
    names = ("propensity", "value", "interest_match", "intent_match", "priority", "waiting_weight", "linked_boost")
    score = numeric(text, **dict.fromkeys(names, NUMBER), waiting_days=COUNT)
    a = journey("a", value=12.0, priority=80.0, interests=("x", "y"), intents=("i", "k"))
    config = portfolio(a, journey("b", next_journeys=("a",)), journey("d"), policies={"score": score, "waiting_weight": 2.0})
    said = {"interest_x": 0.7, "interest_y": 0.6, "intent_i": 0.25, "intent_k": 0.5}
    rows, _, _ = decided(config, {"a": 15, "d": 0}, {"b": [stay(9, 4)], "d": [stay(4, 1, "exited")]}, **said)
    assert rows["a"]["score"] == pytest.approx(0.05 * 12 * 2 * 1.5 * 1.8 * 2 * 1.5)
    assert [rows["a"][name] for name in ("interest_match", "intent_match", "linked_boost")] == [1.0, 0.5, 1.5]
    assert [rows["d"][name] for name in ("interest_match", "intent_match", "linked_boost", "score")] == [0.0, 0.0, 1.0, 0.05]


def test_scores_have_nine_digits() -> None:
    """What differs in the tenth digit is equal; what is not a number is no score."""
    assert rounded(1 / 3) == 0.333333333
    assert rounded(123456789.4) == 123456789.0
    assert rounded(-2.001953125) == -2.00195313
    assert rounded(1e-20) == 1e-20
    assert rounded(-0.0) == 0.0
    assert rounded(float("inf")) is None
    assert rounded(None) is None


@pytest.mark.parametrize(
    ("none", "changes", "decision", "ruling"),
    [
        ("1.0", {"value": 1.0, "priority": 99.0}, "none", "outscored"),
        ("1.0", {"value": 1.1}, "start", "chosen"),
        ("1.0", {"value": 0.5, "mandatory": True}, "start", "chosen"),
        ("tenure_days + null", {"value": 0.0}, "none", "outscored"),
        ("(tenure_days - 5) / (tenure_days - 5)", {"value": 0.1}, "start", "chosen"),
    ],
)
def test_none_is_beaten_by_a_strictly_greater_score_or_a_mandatory_journey(
    none: str, changes: dict[str, Any], decision: str, ruling: str
) -> None:
    """A null or NaN for doing nothing counts as 0."""
    rows, assignment, _ = decided(portfolio(journey("a", **changes), policies={"none": numeric(none, tenure_days=COUNT)}), {"a": 0})
    assert (assignment["decision"], rows["a"]["ruling"]) == (decision, ruling)
    assert rows["none"]["ruling"] == ("chosen" if decision == "none" else "outscored")


def test_the_total_order_and_the_ledger_of_losers() -> None:
    """Mandatory, score, priority, waiting, name; rank, margin and runner-up follow it, over rows that failed gates too."""
    journeys = (
        journey("low", mandatory=True, value=-5.0),
        journey("high", value=9.0, status="paused"),
        journey("even_a", value=2.0),
        journey("even_b", value=2.0),
        journey("even_c", value=2.0),
        journey("even_p", value=2.0, priority=1.0),
        journey("blank", value=float("nan")),
    )
    rows, assignment, _ = decided(portfolio(*journeys), {**dict.fromkeys([one.id for one in journeys], 0), "even_c": 4})
    assert sorted(rows, key=lambda name: rows[name]["rank"]) == ["low", "high", "even_p", "even_c", "even_a", "even_b", "none", "blank"]
    assert [row["rank"] for row in sorted(rows.values(), key=lambda row: row["rank"])] == list(range(1, 9))
    assert {name: row["ruling"] for name, row in rows.items()} == {
        "low": "chosen", "high": "not_live", "even_p": "outscored", "even_c": "outscored",
        "even_a": "outscored", "even_b": "outscored", "none": "outscored", "blank": "unscored",
    }  # fmt: skip
    assert (rows["low"]["margin"], rows["high"]["margin"], rows["none"]["margin"], rows["blank"]["margin"]) == (0.0, -14.0, -5.0, None)
    assert (assignment["journey_id"], assignment["runner_up"], assignment["runner_up_score"]) == ("low", "even_p", 2.0)
    assert rows["even_p"]["failed_gates"] == ["outscored"]
    assert rows["low"]["failed_gates"] == []


def test_a_customer_without_options_has_no_rows_and_the_decision_none() -> None:
    """One assignment row per customer, with or without options."""
    rows, assignment, state = decided(portfolio(journey("a")), {})
    assert (rows, state) == ({}, {})
    told = ("decision", "journey_id", "score", "runner_up", "selection_probability")
    assert [assignment[name] for name in told] == ["none", None, None, None, 1.0]


# --- SPEC 8.1 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entered", "changes", "events", "reason"),
    [
        (9, {}, [], None),
        (10, {}, [], "completed"),
        (11, {}, [], "completed"),
        (3, {"goal": Goal("G", 2, None)}, [3], None),
        (3, {"goal": Goal("G", 2, None)}, [2], "converted"),
        (3, {"goal": Goal("G", 2, None)}, [1], "converted"),
        (3, {"goal": Goal("G", 2, None)}, [0], None),
        (3, {"goal": Goal("G", 9, None)}, [0], "converted"),
        (3, {"goal": Goal("G", 9, None)}, [-1], None),
        (3, {"goal": Goal("G", 9, None), "exit_on_goal": False}, [0], None),
        (10, {"goal": Goal("G", 10, None), "exit_when": condition("true")}, [0], "converted"),
        (10, {"exit_when": condition("tenure_days = 5", tenure_days=COUNT)}, [], "exited"),
        (10, {"exit_when": condition("tenure_days = 6", tenure_days=COUNT)}, [], "completed"),
    ],
)
def test_a_journey_ends_by_its_goal_then_its_exit_then_its_length(
    entered: int, changes: dict[str, Any], events: list[int], reason: str | None
) -> None:
    """The goal counts after the day of entry, until its window or today, whichever is earlier."""
    goals = [event(days, "G", arrived=0) for days in events]
    rows, assignment, state = decided(portfolio(journey("a", **changes)), {}, {"a": [stay(entered)]}, goals)
    assert (state["a"]["ended_reason"], assignment["ended_reason"]) == (reason, reason)
    assert state["a"]["ended_on"] == (TODAY if reason else None)
    assert state["a"]["times_completed"] == (1 if reason in {"converted", "completed"} else 0)
    assert assignment["decision"] == ("none" if reason else "continue")
    assert (assignment["day_index"], assignment["ended_journey_id"]) == ((None, "a") if reason else (entered + 1, None))
    assert set(rows) == (set() if reason else {"a", "none"})


def test_a_journey_that_is_gone_ends_withdrawn_and_another_may_start_the_same_day() -> None:
    """State is yesterday's, metadata today's."""
    _, assignment, state = decided(portfolio(journey("b")), {"b": 0}, {"a": [stay(1)]})
    assert (assignment["decision"], assignment["journey_id"], assignment["ended_journey_id"]) == ("start", "b", "a")
    assert state["a"]["ended_reason"] == "withdrawn"


# --- SPEC 8.2 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "past", "gates"),
    [
        ({}, {}, []),
        ({}, {"a": [stay(9, 5)]}, ["reentry"]),
        ({"reentry": Reentry(5, "exit")}, {"a": [stay(9, 5)]}, []),
        ({"reentry": Reentry(6, "exit")}, {"a": [stay(9, 5)]}, ["reentry"]),
        ({"reentry": Reentry(9, "entry")}, {"a": [stay(9, 5)]}, []),
        ({"reentry": Reentry(10, "entry")}, {"a": [stay(9, 5)]}, ["reentry"]),
        ({"reentry": Reentry(1, "exit"), "max_entries": 2}, {"a": [stay(9, 5)]}, []),
        ({"reentry": Reentry(1, "exit"), "max_entries": 2}, {"a": [stay(9, 8), stay(7, 5)]}, ["max_entries"]),
        ({"max_entries": 1}, {"a": [stay(9, 5)]}, ["reentry", "max_entries"]),
        ({"only_after": ("b", "d")}, {}, ["link"]),
        ({"only_after": ("b", "d")}, {"b": [stay(9, 5, "exited")]}, ["link"]),
        ({"only_after": ("b", "d")}, {"b": [stay(9, 8, "converted"), stay(7, 5, "exited")]}, []),
        ({"not_after": (NotAfter("b", 5),)}, {"b": [stay(9, 5)]}, []),
        ({"not_after": (NotAfter("b", 6),)}, {"b": [stay(9, 5)]}, []),
        ({"not_after": (NotAfter("b", 7),)}, {"b": [stay(9, 5)]}, ["pairwise"]),
    ],
)
def test_memory_gates_of_one_journey(changes: dict[str, Any], past: dict[str, list[Spell]], gates: list[str]) -> None:
    """A stay covers its days from entry to the day before it ended; five days ago is in a window of six days, that stay is not."""
    rows, _, _ = decided(portfolio(journey("a", **changes), journey("b"), journey("d")), {"a": 0}, past)
    assert rows["a"]["failed_gates"] == gates


def test_a_journey_in_flight_is_a_journey_the_customer_is_in_today() -> None:
    """A pairwise rule against the incumbent stops the challenger even with a window of one day."""
    challenger = journey("a", value=99.0, can_interrupt=True, not_after=(NotAfter("b", 1),))
    rows, assignment, _ = decided(portfolio(challenger, journey("b")), {"a": 0}, {"b": [stay(3)]})
    assert (rows["a"]["ruling"], assignment["decision"]) == ("pairwise", "continue")


@pytest.mark.parametrize(
    ("rest_days", "mandatory", "past", "gates"),
    [
        (4, False, {"b": [stay(9, 5)]}, []),
        (5, False, {"b": [stay(9, 5)]}, []),
        (6, False, {"b": [stay(9, 5)]}, ["resting"]),
        (6, True, {"b": [stay(9, 5)]}, []),
        (1, False, {"b": [stay(10)]}, ["resting"]),
        (0, False, {"b": [stay(10)]}, []),
    ],
)
def test_customers_rest_between_journeys(rest_days: int, mandatory: bool, past: dict[str, list[Spell]], gates: list[str]) -> None:
    """Resting counts from the last end of any journey, today's included; mandatory journeys are exempt."""
    rows, _, _ = decided(portfolio(journey("a", mandatory=mandatory), journey("b"), policies={"rest_days": rest_days}), {"a": 0}, past)
    assert rows["a"]["failed_gates"] == gates


@pytest.mark.parametrize(
    ("starts", "days", "gates"),
    [
        ("1.0", 5, []),
        ("1.0", 6, ["frequency_cap"]),
        ("2.0", 6, []),
        ("2.0", 9, ["frequency_cap"]),
        ("null", 9, []),
        ("0.0", 1, ["frequency_cap"]),
    ],
)
def test_starts_are_capped_in_any_window(starts: str, days: int, gates: list[str]) -> None:
    """Starts 5 and 8 days ago, of any journey, plus this one; mandatory is not exempt; null is no cap."""
    config = portfolio(journey("a", mandatory=True), policies={"cap": Cap(days, numeric(starts))})
    rows, _, state = decided(config, {"a": 0}, {"b": [stay(8, 6)], "d": [stay(5, 2)]})
    assert rows["a"]["failed_gates"] == gates
    assert state["b"]["recent_starts"] == ([ago(8)] if days == 9 else [])


# --- SPEC 8.3 --------------------------------------------------------------------------------------------------------

LOUD = {"can_interrupt": True}


@pytest.mark.parametrize(
    ("challenger", "incumbent", "decision"),
    [
        ({**LOUD, "value": 5.0}, {"value": 4.0}, "continue"),
        ({**LOUD, "value": 5.01}, {"value": 4.0}, "switch"),
        ({"value": 99.0}, {"value": 4.0}, "continue"),
        ({**LOUD, "value": -2.9}, {"value": -4.0}, "continue"),
        ({**LOUD, "value": 99.0}, {"value": 4.0, "interruptible": False}, "continue"),
        ({"value": 99.0, "mandatory": True}, {"value": 4.0, "interruptible": False}, "continue"),
        ({"value": 4.0, "mandatory": True}, {"value": 99.0}, "switch"),
        ({**LOUD, "value": 99.0}, {"value": 4.0, "mandatory": True}, "continue"),
        ({"value": 4.0, "mandatory": True}, {"value": 4.0, "mandatory": True}, "switch"),
        ({"value": 4.0, "mandatory": True}, {"value": 4.0, "mandatory": True, "priority": 1.0}, "continue"),
        ({**LOUD, "value": 6.0, "mandatory": True}, {"value": 4.0, "mandatory": True, "priority": 1.0}, "switch"),
        ({**LOUD, "value": 2.51}, {"value": float("nan")}, "switch"),
        ({**LOUD, "value": 2.5}, {"value": float("nan")}, "continue"),
        ({**LOUD, "value": 0.5}, {"value": -9.0}, "continue"),
    ],
)
def test_who_may_interrupt_whom(challenger: dict[str, Any], incumbent: dict[str, Any], decision: str) -> None:
    """Entry score 2 stands in where today's is missing; margin 0.25; "none" scores 0.7, and the incumbent need not beat it."""
    config = portfolio(journey("a", **challenger), journey("b", **incumbent), policies={"none": numeric("0.7")})
    rows, assignment, state = decided(config, {"a": 0, "b": 0}, {"b": [stay(3, score=2.0)]})
    assert assignment["decision"] == decision
    switched = decision == "switch"
    assert {name: row["ruling"] for name, row in rows.items()} == (
        {"a": "chosen", "b": "outscored", "none": "outscored"} if switched else {"a": "in_flight", "b": "chosen", "none": "in_flight"}
    )
    assert (state["b"]["ended_reason"], assignment["ended_journey_id"]) == (("interrupted", "b") if switched else (None, None))
    assert ("a" in state) == switched
    assert (assignment["entered_on"], assignment["day_index"]) == ((TODAY, 1) if switched else (ago(3), 4))


def test_the_best_eligible_challenger_wins_even_below_one_that_may_not_interrupt() -> None:
    """Rank and the right to interrupt are different things; the higher-ranked row is ruled outscored."""
    config = portfolio(journey("a", value=9.0), journey("b", value=8.0, **LOUD), journey("d", value=7.0, **LOUD), journey("z", value=1.0))
    rows, assignment, _ = decided(config, {"a": 0, "b": 0, "d": 0}, {"z": [stay(3)]})
    assert (assignment["decision"], assignment["journey_id"], assignment["runner_up"]) == ("switch", "b", "a")
    assert (rows["a"]["ruling"], rows["a"]["margin"], rows["z"]["is_queued"]) == ("outscored", -1.0, False)


def test_the_journey_in_flight_is_subject_to_no_gate() -> None:
    """Paused, blacked out and unreachable, it goes on; it has no failed gates."""
    running = journey("b", status="paused", suppress=(Period(TODAY, TODAY),), channels=("email",), value=float("nan"))
    rows, assignment, _ = decided(portfolio(running), {}, {"b": [stay(3)]})
    assert (assignment["decision"], rows["b"]["failed_gates"], rows["b"]["score"]) == ("continue", [], None)
    assert rows["none"]["margin"] is None


# --- SPEC 8.4 and 8.6 ------------------------------------------------------------------------------------------------


def test_a_start_is_remembered() -> None:
    """Entering counts, keeps the score, and forgets the end of an earlier stay."""
    config = portfolio(journey("a", reentry=Reentry(1, "exit"), length_days=4), policies={"cap": Cap(6, numeric("9.0"))})
    _, assignment, state = decided(config, {"a": 0}, {"a": [stay(7, 5)]})
    told = ("decision", "journey_id", "entered_on", "day_index", "ends_on", "arm", "score")
    assert [assignment[name] for name in told] == ["start", "a", TODAY, 1, TODAY + 3 * DAY, "treated", 1.0]
    kept = ("entered_on", "ended_on", "ended_reason", "times_entered", "times_completed", "entry_score", "arm", "recent_starts")
    assert [state["a"][name] for name in kept] == [TODAY, None, None, 2, 1, 1.0, "treated", [TODAY]]


def test_the_control_arm_is_a_bucket_of_the_customer() -> None:
    """The hash is XXH64 with seed 0; holdout 1 takes everyone, 0 nobody, a share those below it."""
    assert f"{xxh64(''):016x}" == "ef46db3751d8e999"
    assert f"{xxh64('a'):016x}" == "d24ec4f1a98c6e5b"
    bucket = xxh64("a:c") % 10_000
    for share, arm in ((0.0, "treated"), (bucket / 10_000, "treated"), ((bucket + 1) / 10_000, "control"), (1.0, "control")):
        assert arm_of("c", journey("a", holdout=share), portfolio()) == arm
    assert arm_of("c", journey("a"), portfolio(policies={"holdout": 1.0})) == "control"


# --- SPEC 8.5 --------------------------------------------------------------------------------------------------------


def fair(*journeys: Journey, **policies: Any) -> Portfolio:
    """Return a portfolio in which every customer has a score of their own for each journey, as ``compete`` says it."""
    score = numeric("value * interest_match", value=NUMBER, interest_match=NUMBER)
    offered = [replace(one, value=100.0, interests=(one.id,)) for one in journeys]
    return portfolio(*offered, policies={"score": score, "switch_margin": 0.0, **policies})


def compete(
    config: Portfolio,
    wanted: Mapping[str, Mapping[str, float]],
    past: Mapping[tuple[str, str], list[Spell]] | None = None,
    delivered: list[Row] | None = None,
    placements: Mapping[str, str] | None = None,
) -> dict[str, list[Row]]:
    """Decide today for some customers: customer -> journey -> score of what each is queued for or in."""
    memory = Memory({at: list(spells) for at, spells in (past or {}).items()})
    columns = [f"interest_{one.id}" for one in config.journeys]
    people, queue_rows = [], []
    for customer, scores in wanted.items():
        shares = {f"interest_{name}": score / 100 for name, score in scores.items()}
        people.append(profile(customer_id=customer, **{**dict.fromkeys(columns, 0.0), **shares}))
        queue_rows += [{"customer_id": customer, "journey_id": name, "waiting_days": 0} for name in scores]
    return decide_day(memory, [], people, queue_rows, config, TODAY, delivered or [], placements)


def rulings(tables: Mapping[str, list[Row]]) -> dict[str, str]:
    """Return "customer:journey" -> ruling."""
    return {f"{row['customer_id']}:{row['journey_id']}": row["ruling"] for row in tables["scored_candidates"]}


def assigned(tables: Mapping[str, list[Row]]) -> dict[str, tuple[str, str | None]]:
    """Return customer -> decision and journey."""
    return {row["customer_id"]: (row["decision"], row["journey_id"]) for row in tables["journey_assignments"]}


def test_places_go_to_where_the_population_gains_most() -> None:
    """One place in each: p for a (10) leaves q nothing; p for b (9) and q for a (8) is 17, and r gets none of b (1)."""
    config = fair(journey("a", daily_entries=1), journey("b", active=1), journey("z"))
    tables = compete(config, {"p": {"a": 10, "b": 9}, "q": {"a": 8}, "r": {"b": 1}, "s": {"z": 5}})
    assert assigned(tables) == {"p": ("start", "b"), "q": ("start", "a"), "r": ("none", None), "s": ("start", "z")}
    assert rulings(tables) == {
        "p:a": "capacity", "p:b": "chosen", "p:none": "outscored", "q:a": "chosen", "q:none": "outscored",
        "r:b": "capacity", "r:none": "chosen", "s:z": "chosen", "s:none": "outscored",
    }  # fmt: skip
    p, q, r, s = tables["journey_assignments"]
    assert [row["selection_probability"] for row in (p, q, r, s)] == [None, 1.0, None, 1.0]
    assert [(row["runner_up"], row["runner_up_score"]) for row in (p, q, r)] == [("a", 10.0), ("none", 0.0), ("b", 1.0)]
    squeezed = tables["scored_candidates"][0]
    assert (squeezed["failed_gates"], squeezed["margin"]) == (["capacity"], -1.0)


def test_mandatory_placements_come_first_then_their_scores_then_all_gains() -> None:
    """To give p a and q m would be 101, but p scores more in m; two in m and n are more than one, whatever they score."""
    config = fair(journey("m", mandatory=True, daily_entries=1), journey("n", mandatory=True), journey("a"))
    assert assigned(compete(config, {"p": {"m": 2, "a": 100}, "q": {"m": 1}})) == {"p": ("start", "m"), "q": ("none", None)}
    tables = compete(config, {"p": {"m": 90, "n": 1}, "q": {"m": 1}})
    assert assigned(tables) == {"p": ("start", "n"), "q": ("start", "m")}
    assert rulings(tables)["p:m"] == "capacity"


def test_what_counts_is_the_gain_over_the_journey_in_flight() -> None:
    """Switching from z (9) to a (10) gains 1 for p, starting a gains 5 for q; p goes on, and is not in flight by choice."""
    config = fair(journey("a", daily_entries=1, can_interrupt=True), journey("z"))
    tables = compete(config, {"p": {"a": 10, "z": 9}, "q": {"a": 5}}, {("p", "z"): [stay(2)]})
    assert assigned(tables) == {"p": ("continue", "z"), "q": ("start", "a")}
    assert [rulings(tables)[name] for name in ("p:a", "p:z", "p:none")] == ["capacity", "chosen", "in_flight"]
    assert [row["selection_probability"] for row in tables["journey_assignments"]] == [None, 1.0]


def test_an_option_that_is_not_eligible_keeps_its_ruling_in_a_full_journey() -> None:
    """Nobody is squeezed out of what they could not have: worse than nothing, behind a gate, or without the right to interrupt."""
    config = fair(journey("a", daily_entries=0), journey("z"), none=numeric("3.0"))
    past = {("q", "a"): [stay(9, 5)], ("r", "z"): [stay(2)]}
    ruled = rulings(compete(config, {"p": {"a": 2}, "q": {"a": 50}, "r": {"a": 50, "z": 5}, "s": {"a": 4}}, past))
    assert [ruled[name] for name in ("p:a", "q:a", "r:a", "s:a")] == ["outscored", "reentry", "in_flight", "capacity"]


@pytest.mark.parametrize(
    ("limits", "started"),
    [
        ({}, 5),
        ({"daily_entries": 2}, 2),
        ({"daily_entries": 0}, 0),
        ({"active": 3}, 1),
        ({"active": 1}, 0),
        ({"active": 0}, 0),
        ({"daily_entries": 2, "active": 3}, 1),
        ({"daily_entries": 1, "active": 9}, 1),
    ],
)
def test_places_are_the_smaller_of_both_limits(limits: dict[str, int], started: int) -> None:
    """Two are in it after step 1: one more ended today, and the one who leaves by a switch makes room only tomorrow."""
    config = fair(journey("a", **limits), journey("b", can_interrupt=True))
    past = {("in", "a"): [stay(2)], ("out", "a"): [stay(2)], ("done", "a"): [stay(10)]}
    wanted = {**{f"w{number}": {"a": 5} for number in range(5)}, "in": {"a": 5}, "out": {"a": 5, "b": 9}, "done": {}}
    told = assigned(compete(config, wanted, past))
    assert [told["in"], told["out"], told["done"]] == [("continue", "a"), ("switch", "b"), ("none", None)]
    assert [told[f"w{number}"] for number in range(5)].count(("start", "a")) == started


def test_placements_of_somebody_else_are_followed_where_nothing_speaks_against_them() -> None:
    """Two are alike and there is one place: either may have it; nobody may have it, both, or what was not wished."""
    config = fair(journey("a", daily_entries=1), journey("b"))
    wanted = {"p": {"a": 5}, "q": {"a": 5}, "r": {"a": 4, "b": 3}}
    for lucky, other in ("pq", "qp"):
        tables = compete(config, wanted, placements={lucky: "a", "r": "b"})
        assert tables["objections"] == []
        assert [assigned(tables)[who] for who in (lucky, other, "r")] == [("start", "a"), ("none", None), ("start", "b")]
    for placements, objection in (
        ({"r": "b"}, "p gets None although there is room in a"),
        ({"p": "a", "q": "a", "r": "b"}, "2 enter a, and there is room for 1"),
        ({"p": "b", "q": "a", "r": "b"}, "p did not wish to enter b"),
        ({"p": "a"}, "r gets None although there is room in b"),
        ({"r": "a"}, "(mandatory placements, their score, gain) are (0, 0, 4000000), and can be (0, 0, 8000000)"),
    ):
        assert objection in [row["says"] for row in compete(config, wanted, placements=placements)["objections"]]


Market = tuple[dict[str, dict[str, Worth]], dict[str, int]]


def market(case: int, customers: int, journeys: int) -> Market:
    """Draw what customers wish, with ties and wishes that gain nothing, and how many places there are."""
    random = Random(case)  # noqa: S311  # no secrets here
    wishes: dict[str, dict[str, Worth]] = {}
    for customer in range(customers):
        fallback = random.choice([0, 1, 3])
        drawn = []
        for name in random.sample(range(journeys), random.randint(0, min(4, journeys))):
            mandatory = random.random() < 0.2
            drawn.append((mandatory, random.choice([-3, 1, 2, 5] if mandatory else [fallback + more for more in (0, 1, 2, 2, 5)]), name))
        drawn.sort(reverse=True)
        wishes[f"c{customer}"] = {
            f"j{name}": (int(mandatory), score if mandatory else 0, score - fallback, len(drawn) - index)
            for index, (mandatory, score, name) in enumerate(drawn)
        }
    return wishes, {f"j{name}": random.choice([0, 1, 1, 2, 3]) for name in range(journeys) if random.random() < 0.8}


def optimum_by_trying(wishes: Mapping[str, Mapping[str, Worth]], free: Mapping[str, int]) -> tuple[int, int, int]:
    """Return the best total of all ways to place everybody."""
    return max(
        total_worth(wishes, {who: name for who, name in zip(wishes, names, strict=True) if name is not None})
        for names in itertools.product(*[[None, *mine] for mine in wishes.values()])
        if all(names.count(name) <= limit for name, limit in free.items())
    )


def optimum_by_highs(wishes: Mapping[str, Mapping[str, Worth]], free: Mapping[str, int]) -> tuple[int, int, int]:
    """Return the best total by three linear programs, each holding what the ones before reached."""
    solver = highspy.Highs()
    solver.silent()
    pairs = [(who, name, worth) for who, mine in wishes.items() for name, worth in mine.items()]
    variables = [solver.addBinary() for _ in pairs]
    for customer in wishes:
        solver.addConstr(sum(one for one, (who, _, _) in zip(variables, pairs, strict=True) if who == customer) + 0 * variables[0] <= 1)
    for journey, limit in free.items():
        solver.addConstr(
            sum(one for one, (_, name, _) in zip(variables, pairs, strict=True) if name == journey) + 0 * variables[0] <= limit
        )
    reached = []
    for part in range(3):
        total = sum(worth[part] * one for one, (_, _, worth) in zip(variables, pairs, strict=True)) + 0 * variables[0]
        solver.maximize(total)
        reached.append(round(solver.getInfo().objective_function_value))
        solver.addConstr(total >= reached[-1])
    return reached[0], reached[1], reached[2]


@pytest.mark.parametrize("case", range(40))
def test_the_optimum_is_the_best_of_all_placements(case: int) -> None:
    """By trying them all, with limits of nothing, ties and losses."""
    wishes, free = market(case, customers=5, journeys=3)
    got = optimum(wishes, free)
    assert total_worth(wishes, got) == optimum_by_trying(wishes, free)
    assert objections(wishes, free, got) == []


@pytest.mark.parametrize("case", range(20))
def test_the_optimum_is_that_of_highs(case: int) -> None:
    """Where there are too many ways to try, an established solver is asked."""
    wishes, free = market(case, customers=40, journeys=6)
    got = optimum(wishes, free)
    assert total_worth(wishes, got) == optimum_by_highs(wishes, free)
    assert objections(wishes, free, got) == []


# --- SPEC 8.7 --------------------------------------------------------------------------------------------------------


def names_that(explore: float, picks: int, of: int) -> list[str]:
    """Return customers who are made to explore today and draw this option of so many; an option below 0 is no exploring."""
    found = []
    for name in [f"c{number}" for number in range(40)]:
        explores = xxh64(f"explore:{name}:2026-01-10") % 10_000 < round(explore * 10_000)
        if (xxh64(f"pick:{name}:2026-01-10") % of if explores else -1) == picks:
            found.append(name)
    return found


def test_an_explorer_gets_what_is_drawn_and_everybodys_probability_is_stored() -> None:
    """With e = 0.6 and three options the best has 0.4 + 0.2, each other 0.2, whoever drew it."""
    config = fair(*(journey(name) for name in "cba"), explore=0.6)
    scores = {"a": 5, "b": 9, "c": 7}
    for picks, journey_id, probability in ((-1, "b", 0.6), (0, "a", 0.2), (1, "b", 0.6), (2, "c", 0.2)):
        name = names_that(0.6, picks, 3)[0]
        tables = compete(config, {name: scores})
        assert assigned(tables) == {name: ("start", journey_id)}
        assert tables["journey_assignments"][0]["selection_probability"] == pytest.approx(probability)
        assert {row["ruling"] for row in tables["scored_candidates"] if row["journey_id"] != journey_id} == {"outscored"}


def test_a_draw_is_between_eligible_options_only() -> None:
    """What fails a gate or does not beat "none" is not drawn; one option left is certain, and none left is no draw."""
    name = names_that(0.6, 0, 1)[0]
    config = fair(journey("a", status="paused"), journey("b"), journey("c"), explore=0.6, none=numeric("3.0"))
    tables = compete(config, {name: {"a": 50, "b": 2, "c": 4}, "nobody": {"b": 1}})
    assert assigned(tables) == {name: ("start", "c"), "nobody": ("none", None)}
    assert [row["selection_probability"] for row in tables["journey_assignments"]] == pytest.approx([1.0, 1.0])


def test_nobody_explores_in_flight_or_against_a_mandatory_journey() -> None:
    """They get the best, with certainty."""
    config = fair(
        journey("a"), journey("b", can_interrupt=True), journey("c", can_interrupt=True), journey("m", mandatory=True), explore=1.0
    )
    first, second = names_that(1.0, 1, 2)[:2]
    wanted = {first: {"a": 1, "b": 7, "c": 5}, second: {"b": 7, "m": 1}}
    tables = compete(config, wanted, {(first, "a"): [stay(2)]})
    assert assigned(tables) == {first: ("switch", "b"), second: ("start", "m")}
    assert [row["selection_probability"] for row in tables["journey_assignments"]] == [1.0, 1.0]


def test_an_explorer_competes_with_the_drawn_option_only() -> None:
    """No room for it: "none" is chosen, the better ones are outscored, and no probability is known."""
    name = names_that(1.0, 0, 2)[0]
    config = fair(journey("a", daily_entries=0), journey("b"), explore=1.0)
    tables = compete(config, {name: {"a": 5, "b": 9}})
    assert rulings(tables) == {f"{name}:a": "capacity", f"{name}:b": "outscored", f"{name}:none": "chosen"}
    row = tables["journey_assignments"][0]
    assert [row[told] for told in ("decision", "selection_probability", "runner_up")] == ["none", None, "b"]


def test_frequencies_of_the_draw_are_the_probabilities_said() -> None:
    """2,000 customers, e = 0.6, three options: 0.6, 0.2 and 0.2 within 0.05 (more than four standard deviations)."""
    options: list[Row] = [{"journey_id": name} for name in "bca"]
    drawn = [explored(f"c{number}", options, TODAY, 0.6) for number in range(2_000)]
    for name, expected in (("b", 0.6), ("a", 0.2), ("c", 0.2)):
        chances = [probability for wishes, probability in drawn if wishes[0]["journey_id"] == name]
        assert len(chances) / len(drawn) == pytest.approx(expected, abs=0.05)
        assert chances == pytest.approx([expected] * len(chances))


# --- SPEC 8.9: what was delivered stays ------------------------------------------------------------------------------


def delivered_row(customer: str, decision: str, journey_id: str, **changes: Any) -> Row:
    """Return an assignment row as it was delivered this morning."""
    entered_on = ago(2) if decision == "continue" else TODAY
    index = {"entered_on": entered_on, "day_index": (TODAY - entered_on).days + 1, "ends_on": entered_on + 9 * DAY}
    row = {"date": TODAY, "customer_id": customer, "decision": decision, "journey_id": journey_id, **index, "arm": "treated", "score": 0.7}
    told = {"runner_up": "gone", "runner_up_score": 0.1, "selection_probability": 0.3, "ended_journey_id": None, "ended_reason": None}
    return {**row, **told, **changes}


def test_a_delivered_start_stays_and_takes_its_place_first() -> None:
    """It is paused, full, and not even queued any more: p keeps the row, and only one of q and r finds room."""
    config = fair(journey("a", daily_entries=2), journey("b"))
    row = delivered_row("p", "start", "a")
    tables = compete(config, {"p": {"b": 9}, "q": {"a": 1}, "r": {"a": 2}}, delivered=[row])
    assert tables["journey_assignments"][0] == {**row, "stands": True}
    assert assigned(tables) == {"p": ("start", "a"), "q": ("none", None), "r": ("start", "a")}
    assert [rulings(tables)[name] for name in ("p:a", "p:b", "p:none")] == ["chosen", "outscored", "outscored"]
    option = tables["scored_candidates"][0]
    assert [option[told] for told in ("journey_id", "is_queued", "is_incumbent", "score", "margin")] == ["a", False, False, 0.0, 0.0]
    state = tables["journey_state"][0]
    assert [state[told] for told in ("entered_on", "ended_on", "entry_score", "times_entered")] == [TODAY, None, 0.7, 1]
    paused = fair(journey("a", status="paused", daily_entries=0), journey("b"))
    assert assigned(compete(paused, {"p": {"b": 9}}, delivered=[row])) == {"p": ("start", "a")}


def test_a_delivered_day_goes_on_although_the_journey_would_end_or_yield() -> None:
    """The goal came in after the messages went out: today's row stays, and tomorrow the goal is still there to be seen."""
    a = journey("a", exit_when=condition("tenure_days = 5", tenure_days=COUNT))
    config = fair(a, journey("b", can_interrupt=True, mandatory=True))
    row = delivered_row("p", "continue", "a")
    tables = compete(config, {"p": {"b": 9}}, {("p", "a"): [stay(2)]}, [row])
    assert tables["journey_assignments"] == [{**row, "stands": True}]
    assert rulings(tables) == {"p:a": "chosen", "p:b": "in_flight", "p:none": "in_flight"}
    assert [(state["entered_on"], state["ended_on"]) for state in tables["journey_state"]] == [(ago(2), None)]


def test_what_a_delivered_row_says_has_ended_has_ended() -> None:
    """By the reason in the row: b was left for a, whatever would be found today; c was over, and so it stays."""
    config = fair(journey("a"), journey("b", length_days=2), journey("c"))
    left = delivered_row("p", "switch", "a", ended_journey_id="b", ended_reason="interrupted")
    over = delivered_row("q", "start", "a", ended_journey_id="c", ended_reason="converted")
    past = {("p", "b"): [stay(2)], ("q", "c"): [stay(2)]}
    tables = compete(config, {"p": {"a": 5}, "q": {"a": 5}}, past, [left, over])
    assert tables["journey_assignments"] == [{**row, "stands": True} for row in (left, over)]
    ended = {row["journey_id"]: (row["ended_on"], row["ended_reason"]) for row in tables["journey_state"] if row["ended_on"]}
    assert ended == {"b": (TODAY, "interrupted"), "c": (TODAY, "converted")}
    assert rulings(tables) == {"p:a": "chosen", "p:b": "outscored", "p:none": "outscored", "q:a": "chosen", "q:none": "outscored"}
    removed = compete(fair(journey("a")), {"p": {"a": 5}}, {("p", "b"): [stay(2)]}, [left])
    assert removed["journey_assignments"] == [{**left, "stands": True}]


@pytest.mark.parametrize(
    ("row", "past"),
    [
        (delivered_row("p", "start", "gone"), {}),
        (delivered_row("p", "continue", "a"), {}),
        (delivered_row("p", "continue", "a"), {("p", "a"): [stay(9, 5)]}),
        (delivered_row("p", "switch", "a", ended_journey_id="b", ended_reason="interrupted"), {}),
    ],
)
def test_a_delivered_row_that_cannot_be_told_any_more_is_decided_anew(row: Row, past: dict[tuple[str, str], list[Spell]]) -> None:
    """Its journey was removed, or yesterday was decided otherwise since."""
    config = fair(journey("a"), journey("b"))
    assert assigned(compete(config, {"p": {"b": 5}}, past, [row])) == {"p": ("start", "b")}


def test_who_was_sent_something_is_not_explored_with_again() -> None:
    """The draw of the row stands, and the others draw for themselves."""
    name, other = names_that(1.0, 0, 2)[:2]
    row = delivered_row(name, "start", "b")
    tables = compete(fair(journey("a"), journey("b"), explore=1.0), {name: {"a": 5, "b": 9}, other: {"a": 5, "b": 9}}, delivered=[row])
    assert assigned(tables) == {name: ("start", "b"), other: ("start", "a")}
    assert [one["selection_probability"] for one in tables["journey_assignments"]] == [0.3, 0.5]


# --- SPEC 9 ----------------------------------------------------------------------------------------------------------


def assignment_of(**changes: Any) -> Row:
    """Return the assignment of customer c, who starts journey a today."""
    plain = {"customer_id": "c", "journey_id": "a", "entered_on": TODAY, "day_index": 1, "arm": "treated", "decision": "start"}
    plain |= {"ends_on": TODAY + 9 * DAY, "score": 1.0}
    return {**plain, "ended_journey_id": None, **changes}


def test_todays_steps_are_sent_tomorrow_morning_in_the_customers_time() -> None:
    """10:00 in Tokyo is 01:00 UTC, in Berlin in winter 09:00 UTC."""
    steps = (Step(1, ("web",), "hello", "b"), Step(2, ("web",), "again", None))
    config = portfolio(journey("a", steps=steps))
    for zone, hour in (("Asia/Tokyo", 1), (None, 9)):
        rows = messages([assignment_of()], [profile(timezone=zone)], TODAY, config)
        assert [(row["content"], row["variant"], row["send_at"]) for row in rows] == [
            ("hello", "b", datetime(2026, 1, 11, hour, tzinfo=UTC))
        ]
        assert rows[0]["idempotency_key"] == "3ed3b1455bd7992e434cb7ab5018edba"
        assert rows[0]["withheld"] is None
    assert messages([assignment_of(arm="control")], [profile()], TODAY, config) == []
    assert [row["content"] for row in messages([assignment_of(day_index=2)], [profile()], TODAY, config)] == ["again"]


def test_a_step_is_withheld_with_the_first_reason() -> None:
    """A suppressed customer, then consent, an address, bounces, readiness, then the day it would arrive on, which is tomorrow."""
    tomorrow, told = (Period(TODAY + DAY, TODAY + DAY),), condition("tenure_days = 5", tenure_days=COUNT)
    late = Hours(0, 24, (1,))  # on Tuesdays; today is a Saturday
    for changes, channel, days, suppressed, reason in (
        ({"consent_email": None}, {}, (), told, "suppressed"),
        ({"consent_email": None}, {"to": "mail"}, tomorrow, None, "no_consent"),
        ({"mail": " ", "bounced_email": True}, {"to": "mail"}, tomorrow, None, "no_address"),
        ({"mail": "c@x", "bounced_email": True}, {"to": "mail", "when": condition("false")}, tomorrow, None, "bounced"),
        ({}, {"when": condition("tenure_days > 5", tenure_days=COUNT)}, tomorrow, None, "not_ready"),
        ({}, {}, tomorrow, None, "blackout"),
        ({}, {"hours": late}, (), None, None),
        ({}, {"hours": Hours(0, 24, (2,))}, (), None, "expired"),
        ({}, {}, (Period(TODAY, TODAY),), None, None),
    ):
        config = portfolio(
            journey("a", steps=(Step(1, ("email",), "x", None),), suppress=days),
            policies={"suppressed_when": suppressed},
            channels=(Channel("email", "opt_in", False, **channel),),
        )
        (row,) = messages([assignment_of()], [profile(**{"consent_email": True, **changes})], TODAY, config)
        assert (row["withheld"], row["tried"]) == (reason, [f"email:{reason}"] if reason not in (None, "suppressed") else [])


def test_the_preferred_channel_comes_first_and_what_is_passed_over_is_told() -> None:
    """Then the list as it is written; of several, none left is no_channel."""
    step = Step(1, ("email", "app", "web"), "x")
    config = portfolio(journey("a", steps=(step,)))
    (row,) = messages([assignment_of()], [profile(preferred_channel="app")], TODAY, config)
    assert (row["channel"], row["tried"], row["channels"]) == ("app", [], "email|app|web")
    listed = portfolio(journey("a", steps=(replace(step, choose="listed"),)))
    (row,) = messages([assignment_of()], [profile(preferred_channel="app")], TODAY, listed)
    assert (row["channel"], row["tried"]) == ("app", ["email:no_consent"])
    closed = portfolio(journey("a", steps=(Step(1, ("email", "app"), "x"),)))
    (row,) = messages([assignment_of()], [profile(consent_app=False)], TODAY, closed)
    assert (row["withheld"], row["channel"], row["tried"]) == ("no_channel", "email|app", ["email:no_consent", "app:no_consent"])


def test_a_channel_takes_so_many_a_day_the_best_first_and_so_many_of_one_customer() -> None:
    """Two places: for the mandatory journey, then the higher score; the third goes on to the next channel."""
    journeys = [journey(name, mandatory=name == "m", steps=(Step(1, ("app", "web"), "x"),)) for name in ("a", "m")]
    config = portfolio(*journeys, channels=(Channel("app", "none", False, per_day=2), Channel("web", "none", False)))
    who = [assignment_of(customer_id=name, score=score) for name, score in (("c", 1.0), ("d", 3.0), ("e", 3.0))]
    who.append(assignment_of(customer_id="m", journey_id="m", score=None))
    rows = messages(who, [profile(customer_id=row["customer_id"], consent_app=None) for row in who], TODAY, config)
    assert {row["customer_id"]: row["channel"] for row in rows} == {"m": "app", "d": "app", "e": "web", "c": "web"}
    assert {row["customer_id"]: row["tried"] for row in rows}["c"] == ["app:no_places"]
    capped = portfolio(*journeys, channels=(Channel("app", "none", False, cap=MessageCap(3, 1)), Channel("web", "none", False)))
    sent = {"customer_id": "c", "journey_id": "z", "channel": "app", "content": "y", "step_day": 1, "withheld": None}
    for age, channel in ((1, "web"), (2, "web"), (3, "app")):
        (row,) = messages([assignment_of()], [profile()], TODAY, capped, [{**sent, "date": ago(age)}])
        assert row["channel"] == channel
    (row,) = messages([assignment_of(journey_id="m")], [profile()], TODAY, capped, [{**sent, "date": ago(1)}])
    assert row["channel"] == "app"


def test_audiences_change_where_somebody_enters_or_leaves() -> None:
    """A switch is one of each; going on is none."""
    rows = audience_changes(
        [assignment_of(decision="switch", ended_journey_id="b"), assignment_of(customer_id="d", decision="continue")], TODAY
    )
    assert [(row["journey_id"], row["customer_id"], row["change"]) for row in rows] == [("a", "c", "entered"), ("b", "c", "left")]


# --- All of it -------------------------------------------------------------------------------------------------------


def test_a_few_days_of_one_customer(tmp_path: Path) -> None:
    """Starts on the first day, is told so, buys on the third and leaves, may return two days later."""
    a = journey("a", goal=Goal("E", 10, None), reentry=Reentry(2, "exit"), steps=(Step(1, ("web",), "hello", None),))
    landing = land(tmp_path, ago(4), {**GOOD, "event": "Seen", "timestamp": f"{ago(4)}T10:00:00Z"})
    land(tmp_path, ago(2), {**GOOD, "messageId": "n", "timestamp": f"{ago(2)}T10:00:00Z"})
    tables = run(landing, portfolio(a), [ago(days) for days in (4, 3, 2, 1, 0)])
    assert [row["decision"] for row in tables["journey_assignments"]] == ["start", "continue", "none", "none", "start"]
    assert [row["ruling"] for row in tables["scored_candidates"] if row["journey_id"] == "a"] == [
        "chosen",
        "chosen",
        "reentry",
        "reentry",
        "chosen",
    ]
    assert [row["waiting_days"] for row in tables["journey_queues"]] == [0, 1, 2, 3, 4]
    assert [row["date"] for row in tables["outbound_messages"]] == [ago(4), TODAY]
    assert [row["change"] for row in tables["audience_changes"]] == ["entered", "left", "entered"]


def test_an_edited_portfolio_holds_from_its_day_on(tmp_path: Path) -> None:
    """A journey that is taken out on the second day ends withdrawn."""
    landing = land(tmp_path, ago(1), {**GOOD, "timestamp": f"{ago(1)}T10:00:00Z"})
    tables = run(landing, portfolio(journey("a")), [ago(1), TODAY], {TODAY: portfolio()})
    assert [(row["decision"], row["ended_reason"]) for row in tables["journey_assignments"]] == [("start", None), ("none", "withdrawn")]
