"""What promises read before they apply a rule: the rows of a store that they find, and those that they must not.

What belongs here: few rows in a store in memory, by promise. What does not: the rules between frames (``test_broken_rows``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.activation.tables import ACTIVATION, ANSWERS, AUDIENCE_MEMBERS, AUDIENCE_SYNCS, KEY_COLLISION, OUTBOUND_MESSAGES
from atc_pipeline.customers.tables import FEATURE_COVERAGE, MICRO_SEGMENT_MEMBERSHIPS, PURCHASE_MODELS
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_STATE
from atc_pipeline.identity.tables import IDENTITY_CHANGES, IDENTITY_MAP, MERGED
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.outcomes.tables import PATH_STEPS
from atc_pipeline.promises.catalog import PROMISES
from resources.storage.memory import Memory

TODAY = date(2026, 3, 10)
YESTERDAY, TOMORROW = TODAY - timedelta(days=1), TODAY + timedelta(days=1)
LONG_AGO, TODAY_IS_FIRST = date(2026, 3, 1), TODAY

CALENDAR = 'version: "1"\ncalendar: {{timezone: UTC, starts_on: {starts_on}}}\n'

DAILY = """
traits: {spend: {sum: n, of: Bought}}
journeys: [{id: daily, length_days: 5, queue: {where: "true"}, capacity: {daily_entries: 1}}]
"""

STEPS = """
channels: {app: {consent: none}, post: {consent: none}}
traits: {spend: {sum: n, of: Bought}}
journeys:
  - id: daily
    length_days: 5
    queue: {where: "true"}
    steps:
      - {day: 1, channel: app, content: hello}
      - {day: 2, channel: app, content: more, when: spend > 5}
      - {day: 2, channel: post, content: most, when: spend > 50}
"""
"""A step for everybody, and two on one day with conditions of their own."""

VARIANTS = """
channels: {app: {consent: none}}
journeys:
  - id: daily
    length_days: 5
    queue: {where: "true"}
    variants: {shares: {a: 0.5, b: 0.5}}
    steps:
      - {day: 1, channel: app, content: hello, variant: a}
      - {day: 1, channel: app, content: more, variant: b}
      - {day: 2, channel: app, content: more}
"""
"""Two steps that are one message: each customer gets that of their variant; and one that is everybody's."""

LIMITS = """
channels:
  app: {consent: none}
  email: {consent: none, hours: {from: 8, to: 21, days: [mon, tue, wed, thu, fri]}, cap: {days: 2, messages: 1}, per_day: 2}
  post: {consent: none, hours: {from: 2, to: 4}}
journeys:
  - {id: daily, length_days: 5, queue: {where: "true"}}
  - {id: care, length_days: 5, queue: {where: "true"}, mandatory: true}
"""
"""A channel with every limit, one with none, and one with hours of its own."""

QUIET = "suppress: [{from: 2026-03-11, to: 2026-03-11}]"
JOURNEY_IS_QUIET = f"""
channels: {{app: {{consent: none}}}}
journeys:
  - {{id: daily, length_days: 5, queue: {{where: "true"}}, {QUIET}}}
  - {{id: care, length_days: 5, queue: {{where: "true"}}}}
"""
"""Of two journeys, one with a blackout tomorrow."""
ALL_ARE_QUIET = JOURNEY_IS_QUIET.replace(f", {QUIET}", "") + f"policy: {{{QUIET}}}\n"
BOTH_ARE_QUIET = JOURNEY_IS_QUIET + f"policy: {{{QUIET.replace('-11', '-12')}}}\n"

AUDIENCES = """
channels: {ads: {consent: opt_in, medium: audience}, email: {consent: none, medium: email, to: email}}
traits: {email: {profile: email, type: string}}
segments: {buyers: "tenure_days > 5"}
audiences:
  of_daily: {journey: daily, channel: ads, match: [email], to: [meta]}
  of_buyers: {segment: buyers, channel: ads, match: [email], to: [meta]}
journeys: [{id: daily, length_days: 5, queue: {where: "true"}}]
"""

SCHEMAS = {
    "path_steps": PATH_STEPS.schema,
    "activation": ACTIVATION.schema,
    "answers": ANSWERS.schema,
    "audience_members": AUDIENCE_MEMBERS.schema,
    "audience_syncs": AUDIENCE_SYNCS.schema,
    "customer_profiles": {
        "date": pl.Date(),
        "customer_id": pl.String(),
        "first_seen_on": pl.Date(),
        "spend": pl.Float64(),
        "email": pl.String(),
        "consent_ads": pl.Boolean(),
    },
    "feature_coverage": FEATURE_COVERAGE.schema,
    "identity_changes": IDENTITY_CHANGES.schema,
    "identity_map": IDENTITY_MAP.schema,
    "journey_assignments": JOURNEY_ASSIGNMENTS.schema,
    "journey_state": JOURNEY_STATE.schema,
    "micro_segment_memberships": MICRO_SEGMENT_MEMBERSHIPS.schema,
    "outbound_messages": OUTBOUND_MESSAGES.schema,
    "purchase_models": PURCHASE_MODELS.schema,
}

FIND = {f"{promise.table}.{promise.name}": promise.find for promise in PROMISES}
DELIVERED, IN_FULL = "activation.messages_are_delivered", "journey_assignments.no_journey_is_overfull"
LOST, ADD_UP = "customer_profiles.no_customer_is_lost", "journey_assignments.journeys_in_flight_add_up"

Row = Mapping[str, object]


@dataclass(frozen=True)
class Kept:
    """A promise, what is kept in a store by table and day, and what of a column is found today.

    ``sections``: of journeys.yaml, beside its calendar. ``lacking``: columns that no table has.
    """

    promise: str
    what: str
    column: str
    found: Sequence[object]
    tables: Mapping[tuple[str, date], Sequence[Row]]
    starts_on: date = field(default=LONG_AGO, kw_only=True)
    sections: str = field(default=DAILY, kw_only=True)
    lacking: Sequence[str] = field(default=(), kw_only=True)


def person(name: str) -> Row:
    """Return a customer who was first seen long ago."""
    return {"customer_id": name, "first_seen_on": LONG_AGO}


def user(name: str, customer: str, since: date) -> Row:
    """Return whose id a user's is."""
    return {"id_type": "user", "id": name, "customer_id": customer, "valid_from": since, "arm_id": customer, "is_seen": True}


def enters(customer: str) -> Row:
    """Return the answer to a customer who starts the journey."""
    return {"customer_id": customer, "decision": "start", "journey_id": "daily"}


def was_sent(customer: str, status: str) -> Row:
    """Return what has become of a message of the journey."""
    return {"idempotency_key": customer, "customer_id": customer, "journey_id": "daily", "status": status}


MET = {"feature": "spend", "part": 1, "event": "Bought", "read": 0, "skipped": 0}
TWO_ENTER = {("journey_assignments", TODAY): [enters("u"), enters("v")]}
ALL_THERE = {("identity_map", TODAY): [user("u", "u", LONG_AGO), user("v", "v", LONG_AGO)]}
CONTINUED: Row = {"customer_id": "u", "decision": "continue", "journey_id": "daily"}


def is_on(customer: str, day: int, arm: str = "treated") -> Row:
    """Return the answer to a customer on a day of the journey."""
    return {**CONTINUED, "customer_id": customer, "arm": arm, "day_index": day}


def is_planned(customer: str, step_day: int, channels: str = "app", content: str | None = None) -> Row:
    """Return the message of a step: ``content`` is as the steps above have it, if not told otherwise."""
    says = content or {(1, "app"): "hello", (2, "app"): "more", (2, "post"): "most"}[step_day, channels]
    of = {"journey_id": "daily", "step_day": step_day, "channels": channels, "content": says}
    return {"idempotency_key": customer, "customer_id": customer, **of}


def arrives(customer: str, at: datetime, channel: str = "email", journey: str = "daily", **more: object) -> Row:
    """Return a message that is to be sent, to a customer in Vienna."""
    sent = {"channel": channel, "journey_id": journey, "zone": "Europe/Vienna", "send_at": at}
    return {"idempotency_key": customer, "customer_id": customer, **sent, **more}


def synced(customer: str, status: str) -> Row:
    """Return what has become of a customer who is to be added to an audience."""
    return {"audience_id": "of_daily", "destination": "meta", "customer_id": customer, "operation": "add", "status": status}


def answered(customer: str, status: str) -> Row:
    """Return what has become of the one answer to a customer."""
    return {"destination": "crm", "customer_id": customer, "operation": "add", "status": status}


def gets(*messages: tuple[str, str], withheld: str | None = None) -> list[Row]:
    """Return messages of channels to customers."""
    return [arrives(customer, NOON, channel, withheld=withheld) for customer, channel in messages]


DUE, IN_HOURS = "outbound_messages.every_step_due_is_accounted_for", "outbound_messages.messages_arrive_within_hours"
NO_BLACKOUT, CAPS = "outbound_messages.nothing_arrives_in_a_blackout", "outbound_messages.caps_hold"
PLACES, MAY_BE_TOLD = "outbound_messages.places_hold", "audience_members.members_may_be_told_of"
PLAIN, LARGE = "audience_members.identifiers_are_plain", "audience_members.audiences_are_large_enough"
OF_MEMBERS, SHRINKS = "audience_syncs.differences_are_of_members", "audience_syncs.audience_shrinks"
ACKNOWLEDGES = "audience_syncs.destinations_have_acknowledged"

NOON, NIGHT = datetime(2026, 3, 10, 11, tzinfo=UTC), datetime(2026, 3, 11, 2, tzinfo=UTC)
SATURDAY, LATE = datetime(2026, 3, 14, 11, tzinfo=UTC), datetime(2026, 3, 10, 23, 30, tzinfo=UTC)
DAY_AFTER_TOMORROW = datetime(2026, 3, 12, 11, tzinfo=UTC)

MESSAGES, ASSIGNMENTS, PROFILES = ("outbound_messages", TODAY), ("journey_assignments", TODAY), ("customer_profiles", TODAY)
MEMBERS, SYNCS, ANSWERED = ("audience_members", TODAY), ("audience_syncs", TODAY), ("answers", TODAY)
MEMBERSHIPS = ("micro_segment_memberships", TODAY)
ON_THEIR_DAYS: Mapping[tuple[str, date], Sequence[Row]] = {
    ASSIGNMENTS: [is_on("u", 1), is_on("v", 2), is_on("w", 2), is_on("x", 2), is_on("y", 1, "control")],
    PROFILES: [{"customer_id": name, "spend": spend} for name, spend in (("u", None), ("v", 9.0), ("w", 99.0), ("x", 1.0), ("y", 9.0))],
}
"""The first step is due, the second, the second and the third, and none: for lack of what is asked, and for being held out."""
AS_DUE = [is_planned("u", 1), is_planned("v", 2), is_planned("w", 2), is_planned("w", 2, "post")]
OF_VARIANTS: Mapping[tuple[str, date], Sequence[Row]] = {
    ASSIGNMENTS: [is_on("u", 1) | {"variant": "a"}, is_on("v", 1) | {"variant": "b"}, is_on("w", 1), is_on("x", 2) | {"variant": "a"}],
}
OF_ALL = is_planned("x", 2)
AS_DRAWN = [is_planned("u", 1, content="hello"), is_planned("v", 1, content="more"), OF_ALL]
MISTAKEN = [is_planned("u", 1, content="more"), is_planned("v", 1, content="more"), OF_ALL]
IN_AUDIENCES: Mapping[tuple[str, date], Sequence[Row]] = {
    MEMBERS: [{"audience_id": name, "customer_id": "u", "identifiers": "{}"} for name in ("of_daily", "of_buyers")],
    ASSIGNMENTS: [],
    MEMBERSHIPS: [],
    PROFILES: [{**person("u"), "consent_ads": True}],
}
"""What breaks a promise, wherever all four are there."""

KEPT = (
    Kept(DUE, "each step has its row", "customer_id", [], {**ON_THEIR_DAYS, MESSAGES: AS_DUE}, sections=STEPS),
    Kept(DUE, "a row is missing", "customer_id", ["u"], {**ON_THEIR_DAYS, MESSAGES: AS_DUE[1:]}, sections=STEPS),
    Kept(DUE, "a row too many", "customer_id", ["x"], {**ON_THEIR_DAYS, MESSAGES: [*AS_DUE, is_planned("x", 2)]}, sections=STEPS),
    Kept(DUE, "each has the step of their variant", "customer_id", [], {**OF_VARIANTS, MESSAGES: AS_DRAWN}, sections=VARIANTS),
    Kept(DUE, "the step of another variant", "customer_id", ["u", "u"], {**OF_VARIANTS, MESSAGES: MISTAKEN}, sections=VARIANTS),
    Kept(DUE, "nothing is planned yet", "customer_id", [], ON_THEIR_DAYS, sections=STEPS),
    Kept(DUE, "nothing is decided", "customer_id", [], {MESSAGES: AS_DUE}, sections=STEPS),
    Kept(
        IN_HOURS,
        "what is sent on a channel with hours, out of them",
        "customer_id",
        ["v", "w", "x"],
        {
            MESSAGES: [
                arrives("t", NIGHT, withheld="no_consent"),
                arrives("u", NOON),
                arrives("v", NIGHT),
                arrives("w", SATURDAY),
                arrives("x", NOON, "post"),
                arrives("y", NIGHT, "post"),
                arrives("z", NIGHT, "app"),
            ]
        },
        sections=LIMITS,
    ),
    Kept(IN_HOURS, "nothing is planned", "customer_id", [], {}, sections=LIMITS),
    Kept(IN_HOURS, "of an older version", "customer_id", [], {MESSAGES: [arrives("v", NIGHT)]}, sections=LIMITS, lacking=["zone"]),
    *(
        Kept(
            NO_BLACKOUT,
            what,
            "customer_id",
            arriving,
            {
                MESSAGES: [
                    arrives("u", NOON),
                    arrives("v", LATE),
                    arrives("w", LATE, journey="care"),
                    arrives("x", DAY_AFTER_TOMORROW, journey="care"),
                    arrives("y", LATE, withheld="blackout"),
                ]
            },
            sections=sections,
        )
        for what, sections, arriving in (
            ("of a journey", JOURNEY_IS_QUIET, ["v"]),
            ("of all", ALL_ARE_QUIET, ["v", "w"]),
            ("of a journey, and another of all", BOTH_ARE_QUIET, ["v", "x"]),
        )
    ),
    Kept(
        CAPS,
        "more than may be, with one today that is not exempt",
        "customer_id",
        ["u"],
        {
            ("outbound_messages", YESTERDAY): [
                *gets(("u", "email"), ("y", "email"), ("y", "email")),
                arrives("x", NOON, journey="care"),
            ],
            MESSAGES: [
                *gets(("u", "email"), ("v", "email"), ("w", "email"), ("w", "app")),
                *gets(("v", "email"), withheld="channel_cap"),
                arrives("x", NOON, journey="care"),
            ],
        },
        sections=LIMITS,
    ),
    Kept(CAPS, "nothing is planned", "customer_id", [], {}, sections=LIMITS),
    Kept(
        PLACES,
        "as many as there are, and as many as there may be where there is no limit",
        "channel",
        [],
        {
            MESSAGES: [
                *gets(("u", "email"), ("v", "email"), ("u", "app"), ("v", "app"), ("w", "app")),
                *gets(("w", "email"), withheld="no_places"),
            ]
        },
        sections=LIMITS,
    ),
    Kept(PLACES, "one more", "channel", ["email"], {MESSAGES: gets(("u", "email"), ("v", "email"), ("w", "email"))}, sections=LIMITS),
    Kept(
        MAY_BE_TOLD,
        "nothing to be known by, in no journey and no segment",
        "fault",
        ["not in the segment", "unknown", "not treated in the journey", "unknown"],
        IN_AUDIENCES,
        sections=AUDIENCES,
    ),
    *(
        Kept(
            MAY_BE_TOLD,
            f"without {gone[0]}",
            "customer_id",
            [],
            {place: rows for place, rows in IN_AUDIENCES.items() if place != gone},
            sections=AUDIENCES,
        )
        for gone in IN_AUDIENCES
    ),
    Kept(
        PLAIN,
        "of two, one is hashed",
        "hashed",
        [1, 1],
        {PROFILES: [{"customer_id": "u", "email": "0" * 64}, {"customer_id": "v", "email": "v@example.com"}]},
        sections=AUDIENCES,
    ),
    Kept(PLAIN, "there are no profiles", "hashed", [], {}, sections=AUDIENCES),
    Kept(PLAIN, "there are no audiences", "hashed", [], {PROFILES: [{"customer_id": "u", "email": "0" * 64}]}),
    Kept(PLAIN, "profiles of before the address", "hashed", [], {PROFILES: [person("u")]}, sections=AUDIENCES, lacking=["email"]),
    Kept(
        LARGE,
        "of two, one is large",
        "audience_id",
        ["of_buyers"],
        {MEMBERS: [{"audience_id": "of_daily", "customer_id": str(number)} for number in range(1000)]},
        sections=AUDIENCES,
    ),
    Kept(LARGE, "nobody was looked for", "audience_id", [], {}, sections=AUDIENCES),
    Kept(LARGE, "there are no audiences", "audience_id", [], {MEMBERS: []}),
    Kept(
        OF_MEMBERS,
        "what was acknowledged before stays, whoever left since",
        "customer_id",
        ["v"],
        {SYNCS: [synced("u", "acknowledged"), synced("v", "failed")], MEMBERS: []},
        sections=AUDIENCES,
    ),
    Kept(OF_MEMBERS, "nothing is synchronized", "customer_id", [], {MEMBERS: []}, sections=AUDIENCES),
    Kept(OF_MEMBERS, "no members are known", "customer_id", [], {SYNCS: [synced("v", "failed")]}, sections=AUDIENCES),
    Kept(
        SHRINKS,
        "what is held, of audiences",
        "would_leave",
        [1],
        {SYNCS: [synced("u", "held"), synced("v", "failed")]},
        sections=AUDIENCES,
    ),
    Kept(SHRINKS, "and of answers", "audience_id", ["answer"], {ANSWERED: [answered("u", "held")]}, sections=AUDIENCES),
    Kept(
        ACKNOWLEDGES,
        "what may not have been done, of audiences",
        "status",
        ["failed"],
        {SYNCS: [synced("u", "acknowledged"), synced("v", "failed")]},
        sections=AUDIENCES,
    ),
    Kept(ACKNOWLEDGES, "and of answers", "audience_id", ["answer"], {ANSWERED: [answered("u", "failed")]}, sections=AUDIENCES),
    Kept(
        DELIVERED,
        "what was not delivered, and what was withheld for its key",
        "status",
        ["failed", "withheld"],
        {
            ("activation", TODAY): [
                was_sent("u", "delivered"),
                was_sent("v", "failed"),
                {**was_sent("w", "withheld"), "reason": KEY_COLLISION},
                {**was_sent("x", "withheld"), "reason": "no_consent"},
            ]
        },
    ),
    Kept(
        "outbound_messages.keys_are_unique",
        "what is withheld for its key, and nothing else that is",
        "idempotency_key",
        ["u"],
        {
            ("outbound_messages", TODAY): [
                {"idempotency_key": "u", "withheld": KEY_COLLISION},
                {"idempotency_key": "v", "withheld": "no_consent"},
                {"idempotency_key": "w"},
            ]
        },
    ),
    Kept(
        "purchase_models.models_could_be_fitted",
        "a note, where there is one",
        "note",
        ["too few"],
        {("purchase_models", TODAY): [{"note": "too few"}, {"note": None}]},
    ),
    Kept(
        "purchase_models.models_could_be_fitted",
        "on the first day there is nothing to fit on",
        "note",
        [],
        {("purchase_models", TODAY): [{"note": "too few"}]},
        starts_on=TODAY_IS_FIRST,
    ),
    Kept(
        "feature_coverage.every_feature_is_found",
        "what came on a later day does not count",
        "feature",
        ["spend"],
        {
            ("feature_coverage", TODAY): [{**MET, "events": 0, "matched": 0}],
            ("feature_coverage", TOMORROW): [{**MET, "events": 1, "matched": 1}],
        },
    ),
    Kept(
        "identity_map.ids_lead_to_survivors",
        "an id of the day before is missing",
        "ids",
        [1],
        {
            ("identity_map", YESTERDAY): [user("u", "u", LONG_AGO), user("v", "v", LONG_AGO)],
            ("identity_map", TODAY): [user("u", "u", LONG_AGO)],
        },
    ),
    Kept(
        LOST,
        "who was absorbed is not lost",
        "customer_id",
        ["w"],
        {
            ("customer_profiles", YESTERDAY): [person("u"), person("v"), person("w")],
            ("customer_profiles", TODAY): [person("u")],
            ("identity_changes", TODAY): [{"id_type": "user", "id": "v", "customer_id": "u", "change": MERGED}],
        },
    ),
    Kept(
        LOST,
        "on the first day of the calendar nobody was there before",
        "customer_id",
        [],
        {("customer_profiles", YESTERDAY): [person("v")], ("customer_profiles", TODAY): [person("u")]},
        starts_on=TODAY_IS_FIRST,
    ),
    Kept(
        ADD_UP,
        "on the first day of the calendar nobody was in a journey before",
        "customer_id",
        [],
        {
            ("journey_assignments", YESTERDAY): [CONTINUED],
            ("journey_assignments", TODAY): [{"customer_id": "u", "decision": "none"}],
            ("journey_state", TODAY): [],
        },
        starts_on=TODAY_IS_FIRST,
    ),
    Kept(
        "path_steps.no_path_is_lost",
        "on the first day of the calendar nobody was on a path before",
        "customer_id",
        [],
        {("path_steps", YESTERDAY): [{"customer_id": "u", "position": 1}], ("path_steps", TODAY): [{"customer_id": "v", "position": 1}]},
        starts_on=TODAY_IS_FIRST,
    ),
    Kept(IN_FULL, "two enter where one may, and nothing was sent before", "journey_id", ["daily"], TWO_ENTER),
    Kept(
        IN_FULL,
        "what was sent stands",
        "journey_id",
        [],
        {**TWO_ENTER, **ALL_THERE, ("activation", TODAY): [was_sent("u", "delivered"), was_sent("v", "pending")]},
    ),
    Kept(
        IN_FULL,
        "what did not arrive does not",
        "journey_id",
        ["daily"],
        {**TWO_ENTER, **ALL_THERE, ("activation", TODAY): [was_sent("u", "delivered"), was_sent("v", "failed")]},
    ),
    Kept(
        IN_FULL,
        "and nobody's name is looked up where nothing arrived",
        "journey_id",
        ["daily"],
        {**TWO_ENTER, ("activation", TODAY): [was_sent("u", "failed"), was_sent("v", "failed")]},
    ),
)


@pytest.mark.parametrize(("promise", "kept"), [pytest.param(each.promise, each, id=f"{each.promise}: {each.what}") for each in KEPT])
def test_a_promise_finds_what_breaks_it_in_a_store_and_nothing_else(promise: str, kept: Kept, tmp_path: Path) -> None:
    """Of the day that is asked for."""
    path = tmp_path / "journeys.yaml"
    path.write_text(CALENDAR.format(starts_on=kept.starts_on) + kept.sections, encoding="utf-8")
    store = Memory()
    for (name, day), rows in kept.tables.items():
        frame = pl.DataFrame([{"date": day, **row} for row in rows], schema=SCHEMAS[name])
        store.write(name, day, frame.drop(kept.lacking, strict=False))
    found = FIND[promise](store, load_portfolio(path), [TODAY])
    assert (found[kept.column].to_list() if found.height else []) == kept.found
