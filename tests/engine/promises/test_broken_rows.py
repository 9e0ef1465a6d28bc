"""Every rule between tables or days has been seen to fail: each of its clauses has the fewest rows that break it.

What belongs here: one table of examples, by rule, and that no rule is without. What does not: a rule's finer points, which have
tests of their own (``test_promises``), and checks as Dagster runs them (``tests/graph/test_promises.py``).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.activation.tables import ACTIVATION, AUDIENCE_MEMBERS, AUDIENCE_SYNCS, OUTBOUND_MESSAGES, RENDERED_MESSAGES
from atc_pipeline.content.templates import SLOTS
from atc_pipeline.customers import coverage
from atc_pipeline.customers.tables import FEATURE_COVERAGE, MICRO_SEGMENT_MEMBERSHIPS
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_QUEUES, JOURNEY_STATE, SCORED_CANDIDATES
from atc_pipeline.events.tables import RAW_EVENTS
from atc_pipeline.identity.tables import IDENTITY_MAP
from atc_pipeline.journeys.portfolio import EVERYONE_ELSE, NONE, Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.learning.tables import GOAL_MODELS
from atc_pipeline.outcomes.tables import ENTRY, JOURNEY_ATTRIBUTION, MODELS, PATH_DURATIONS, PATH_STEPS, SIGHT, SILENT, UPLIFT
from atc_pipeline.promises.catalog import MODULES

TODAY = date(2026, 3, 10)
YESTERDAY = TODAY - timedelta(days=1)
BEFORE = TODAY - timedelta(days=5)
TOMORROW = TODAY + timedelta(days=1)
BLACKOUT = TODAY + timedelta(days=5)

JOURNEYS = f"""
version: "1"
calendar: {{timezone: UTC, starts_on: 2026-03-01}}
channels: {{app: {{consent: none}}, email: {{consent: opt_in, medium: email, to: email}}, ads: {{consent: opt_in, medium: audience}}}}
traits: {{email: {{profile: email, type: string}}}}
segments: {{buyers: "tenure_days > 5"}}
audiences:
  of_once: {{journey: once, channel: ads, match: [email], to: [meta]}}
  buying: {{segment: buyers, channel: ads, match: [email], to: [meta]}}
journeys:
  - {{id: once, length_days: 5, queue: {{where: "true"}}}}
  - {{id: twice, length_days: 5, queue: {{where: "true"}}, reentry: {{after_days: 4, from: exit}}, max_entries: 2}}
  - {{id: closed, length_days: 5, queue: {{where: "true"}}, suppress: [{{from: {TODAY}, to: {TODAY}}}]}}
  - {{id: daily, length_days: 5, queue: {{where: "true"}}, capacity: {{daily_entries: 1}}}}
  - {{id: seats, length_days: 5, queue: {{where: "true"}}, capacity: {{active: 2}}}}
policy:
  cap: {{days: 7, starts: "2"}}
  suppress: [{{from: {BLACKOUT}, to: {BLACKOUT}}}]
"""

PROFILES = {"date": pl.Date(), "customer_id": pl.String(), "first_seen_on": pl.Date(), "consent_ads": pl.Boolean()}
ENTRIES = {
    **{name: JOURNEY_ASSIGNMENTS.schema[name] for name in ("date", "customer_id", "journey_id", "decision", "arm", "held_out_by")},
    **{name: JOURNEY_ASSIGNMENTS.schema[name] for name in ("variant", "selection_probability")},
    "entry_number": pl.Int64(),
    "holdout": pl.Float64(),
    "policy_holdout": pl.Float64(),
}
SENT = {"date": pl.Date(), "customer_id": pl.String(), "journey_id": pl.String()}
ABSORBED = {"date": pl.Date(), "absorbed": pl.String(), "customer_id": pl.String()}
PAID = {"date": pl.Date(), "customer_id": pl.String(), "event_date": pl.Date()}
OUTCOMES = {
    "date": pl.Date(), "journey_id": pl.String(), "customer_id": pl.String(), "known_as": pl.String(), "entered_on": pl.Date(),
    "window_days": pl.Int64(), "money": pl.Float64(),
}  # fmt: skip
TABLES = {
    "paid": PAID | {"in_events": pl.Int64()},
    "kept": PAID | {"kept": pl.Int64()},
    "due": {"date": pl.Date(), "journey_id": pl.String(), "customer_id": pl.String(), "matures_on": pl.Date()},
    "outcomes": OUTCOMES,
    "with_money": OUTCOMES,
    "paid_by_then": PAID | {"micro": pl.Int64()},
    "absorbed": ABSORBED,
    "activity": {"date": pl.Date(), "customer_id": pl.String(), "events": pl.Int64()},
    "activation": ACTIVATION.schema,
    "assignments": JOURNEY_ASSIGNMENTS.schema,
    "attribution": JOURNEY_ATTRIBUTION.schema,
    "candidates": SCORED_CANDIDATES.schema,
    "coverage": FEATURE_COVERAGE.schema,
    "durations": PATH_DURATIONS.schema,
    "entries": ENTRIES,
    "events": RAW_EVENTS.schema,
    "identity_map": IDENTITY_MAP.schema,
    "members": AUDIENCE_MEMBERS.schema,
    "memberships": MICRO_SEGMENT_MEMBERSHIPS.schema,
    "messages": OUTBOUND_MESSAGES.schema,
    "profiles": PROFILES,
    "queues": JOURNEY_QUEUES.schema,
    "rendered": RENDERED_MESSAGES.schema,
    "sent": SENT,
    "steps": PATH_STEPS.schema,
    "state": JOURNEY_STATE.schema,
    "syncs": AUDIENCE_SYNCS.schema,
    "uplift": UPLIFT.schema,
    "goal_models": GOAL_MODELS.schema,
}
"""The columns of a rule's argument; ``yesterday`` is the rule's first table but where a rule says otherwise."""
OF_YESTERDAY = {
    "broken_identities": "identity_map",
    "broken_rules": "state",
    "lost_customers": "profiles",
    "lost_paths": "steps",
    "unaccounted_journeys": "assignments",
}

RULES: Mapping[str, Callable[..., pl.LazyFrame]] = {
    **{
        name: rule
        for module in MODULES
        for name, rule in inspect.getmembers(module, inspect.isfunction)
        if rule.__module__ == module.__name__ and not name.startswith("_")
    },
    "unreadable": coverage.unreadable,
    "unclear_consent": coverage.unclear_consent,
}
KEYS = {
    "miscounted_events": "date",
    "uncredited_conversions": "date",
    "overfull_journeys": "journey_id",
    "failed_fits": "date",
    "wasted_propensities": "journey_id",
    "unreadable": "feature",
    "unclear_consent": "feature",
} | dict.fromkeys(("messages_in_control", "uneven_splits", "unlike_before", "unstable_arms", "proved_of_nothing"), "journey_id")
"""What the rows of a rule are about, other than customers."""

OURS = '{"library": {"name": "atc_pipeline"}}'
Row = Mapping[str, object]
Rows = Mapping[str, Sequence[Row]]


def told_of(journey: str, metric: str = "money", **more: object) -> Row:
    """Return an estimate of a journey about which there is nothing to object."""
    fine = {"slice": "all", "sample_ratio_p": 0.4, "before_p": 0.5, "unstable": 0, "sent_to_control": 0, "delivered": 3}
    return {"journey_id": journey, "metric": metric, "verdict": "undecided", **fine, **more}


def option(journey: str, ruling: str, *failed: str, **more: object) -> Row:
    """Return an option of customer u."""
    defaults = {"customer_id": "u", "is_queued": True, "is_incumbent": False, "failed_gates": list(failed)}
    return {"journey_id": journey, "ruling": ruling, **defaults, **more}


def answer(customer: str, decision: str, journey: str | None, **more: object) -> Row:
    """Return the answer to a customer."""
    return {"customer_id": customer, "decision": decision, "journey_id": journey, "arm": "treated" if journey else None, **more}


def flight(customer: str, journey: str, **more: object) -> Row:
    """Return what is remembered of a customer's only entry into a journey, today."""
    return {"customer_id": customer, "journey_id": journey, "entered_on": TODAY, "times_entered": 1, "recent_starts": [TODAY], **more}


def paid(customer: str, days_ago: int = 1, **more: object) -> Row:
    """Return what a customer paid on a date."""
    return {"customer_id": customer, "event_date": TODAY - timedelta(days=days_ago), **more}


def came_of(customer: str, money: float, **more: object) -> Row:
    """Return an outcome of three days."""
    return {
        "journey_id": "once", "customer_id": customer, "known_as": customer, "entered_on": BEFORE, "window_days": 3, "money": money, **more,
    }  # fmt: skip


def entry(customer: str, journey: str, decision: str = "start", held_out_by: str | None = None, **more: object) -> Row:
    """Return an entry, the customer's first."""
    drawn = {"arm": "control" if held_out_by else "treated", "held_out_by": held_out_by}
    of = {"customer_id": customer, "journey_id": journey, "decision": decision, "entry_number": 1, "holdout": 0.1, "policy_holdout": 0.1}
    return {**of, **drawn, **more}


def user(name: str, customer: str | None = None, arm: str | None = None, since: date = BEFORE) -> Row:
    """Return who a user is: by default one who was never anybody else."""
    customer = customer or name
    return {"id_type": "user", "id": name, "customer_id": customer, "valid_from": since, "arm_id": arm or customer, "is_seen": True}


def message(customer: str, journey: str, **more: object) -> Row:
    """Return a message of a journey's first day."""
    return {"idempotency_key": f"{customer}:{journey}", "customer_id": customer, "journey_id": journey, "step_day": 1, **more}


def said(customer: str, **more: object) -> Row:
    """Return what an e-mail says."""
    link = SLOTS["unsubscribe_url"]
    fit = {
        "subject": "Tea",
        "text": f"Tea. {link}",
        "html": f'<p>Tea</p><a href="{link}">Unsubscribe</a>',
        "channel": "email",
        "content": "tea",
    }
    return {"idempotency_key": customer, "customer_id": customer, **fit, **more}


def member(customer: str, audience: str = "of_once", **more: object) -> Row:
    """Return a member of an audience."""
    return {"audience_id": audience, "customer_id": customer, "identifiers": f'{{"email":"{"0" * 64}"}}', **more}


def told(customer: str, operation: str, destination: str = "meta") -> Row:
    """Return what is told of a customer."""
    return {"audience_id": "of_once", "destination": destination, "customer_id": customer, "operation": operation}


def feature(name: str, skipped: int, read: int, **more: object) -> Row:
    """Return how many values of a feature were skipped and read."""
    return {"feature": name, "part": 1, "event": "Bought", "events": skipped + read, "skipped": skipped, "read": read, **more}


def touch(customer: str, position: int, journey: str = "once", **more: object) -> Row:
    """Return a step of a customer's path, which began five days ago."""
    entered_on = BEFORE + timedelta(days=position - 1)
    step = {"customer_id": customer, "path_started_on": BEFORE, "position": position, "journey_id": journey, "entered_on": entered_on}
    return {**step, **more}


def closed(customer: str, position: int, **more: object) -> Row:
    """Return a step of a path that closed today."""
    return touch(customer, position, **{"closed_on": TODAY, "is_conversion": True, "value": 5.0, **more})


def duration(path: str, counted_from: str, converted: int, left: int, value: float) -> Row:
    """Return how many times a path closed after three days."""
    return {"path": path, "counted_from": counted_from, "days": 3, "converted": converted, "left": left, "value": value}


def credit(journey: str, conversions: float, value: float, **more: float) -> Row:
    """Return what a journey is given of paths, by every model alike but where told otherwise."""
    shares = {f"{what}_{model}": of for what, of in (("conversions", conversions), ("value", value)) for model in MODELS}
    return {"journey_id": journey, **shares, **more}


def people(*names: str) -> list[Row]:
    """Return customers who were first seen before yesterday."""
    return [{"customer_id": name, "first_seen_on": BEFORE} for name in names]


SOUND: Mapping[str, Rows] = {
    "broken_paths": {
        "steps": [
            touch("u", 1),
            touch("u", 2, "twice"),
            *(closed("v", position) for position in (1, 2, 3)),
            touch("v", 1, path_started_on=TODAY, entered_on=TODAY),
            touch("w", 1, SILENT),
            touch("w", 2, SILENT),
        ]
    },
    "lost_paths": {
        "steps": [touch("u", 1), closed("v", 1), touch("x", 1)],
        "yesterday": [touch("u", 1), touch("v", 1), touch("w", 1), touch("x", 1), closed("y", 1)],
        "absorbed": [{"absorbed": "w", "customer_id": "u"}],
    },
    "unfollowed_entries": {
        "steps": [
            touch("u", 1, entered_on=TODAY),
            touch("v", 1, SILENT, entered_on=TODAY),
            touch("w", 1),
            touch("w", 2, "twice", entered_on=TODAY),
        ],
        "entries": [
            {"customer_id": "u", "journey_id": "once", "arm": "treated"},
            {"customer_id": "v", "journey_id": "once", "arm": "control"},
            {"customer_id": "w", "journey_id": "twice", "arm": "treated"},
        ],
    },
    "uncredited_conversions": {
        "attribution": [credit("once", 1.5, 20.0), credit("twice", 0.5, 10.0)],
        "durations": [
            duration("once > twice", ENTRY, 2, 3, 30.0),
            duration("once > twice", SIGHT, 2, 3, 30.0),
            duration(SILENT, ENTRY, 1, 1, 7.0),
        ],
    },
    "wrong_members": {
        "members": [member("u"), member("v", "buying"), member("w", "buying")],
        "assignments": [answer("u", "start", "once"), answer("v", "none", None), answer("w", "start", "twice")],
        "memberships": [{"segment_id": "buyers", "customer_id": name} for name in "vw"],
        "profiles": [row | {"consent_ads": True} for row in people("u", "v", "w")],
    },
    "misdirected": {
        "members": [member("u"), member("v")],
        "syncs": [told("u", "add"), told("v", "update"), told("w", "remove"), told("u", "remove", "no_more")],
    },
    "miscounted_events": {
        "activity": [{"customer_id": "u", "events": 2}, {"customer_id": "v", "events": 0}],
        "events": [{"context": None}, {"context": '{"library": {"name": "analytics.js"}}'}, {"context": OURS}],
    },
    "uncovered_customers": {
        "profiles": people("u", "v"),
        "memberships": [
            {"segment_id": "buyers", "customer_id": "u"},
            {"segment_id": "readers", "customer_id": "u"},
            {"segment_id": EVERYONE_ELSE, "customer_id": "v"},
        ],
    },
    "broken_identities": {
        "identity_map": [user("u"), user("v", "u", since=TODAY), user("w", since=TODAY)],
        "yesterday": [user("u"), user("v")],
    },
    "lost_customers": {
        "profiles": [*people("u"), {"customer_id": "new", "first_seen_on": TODAY}],
        "yesterday": people("u", "v"),
        "absorbed": [{"absorbed": "v", "customer_id": "u"}],
    },
    "misruled_options": {
        "candidates": [
            option("once", "chosen", is_incumbent=True),
            option("twice", "reentry", "reentry", "resting"),
            option(NONE, "outscored", "outscored"),
        ]
    },
    "unassigned_customers": {"profiles": people("u", "v"), "assignments": [answer("u", "start", "once"), answer("v", "none", None)]},
    "double_booked_customers": {
        "state": [flight("u", "once"), flight("u", "twice", ended_on=BEFORE), flight("v", "once", ended_on=TODAY)],
        "assignments": [answer("u", "start", "once"), answer("v", "none", None)],
    },
    "unaccounted_journeys": {
        "assignments": [
            answer("u", "continue", "once"),
            answer("v", "none", None, ended_journey_id="once", ended_reason="completed"),
            answer("w", "start", "once"),
            answer("x", "none", None),
            answer("y", "continue", "once", ended_journey_id="twice", ended_reason="merged"),
        ],
        "yesterday": [
            answer("u", "continue", "once"),
            answer("v", "continue", "once"),
            answer("x", "none", None),
            answer("y", "continue", "once"),
            answer("z", "continue", "twice"),
        ],
        "state": [flight("y", "twice", entered_on=BEFORE, ended_on=TODAY, ended_reason="merged")],
        "absorbed": [{"absorbed": "z", "customer_id": "y"}],
    },
    "broken_rules": {
        "assignments": [answer("u", "start", "twice"), answer("v", "switch", "once"), answer("w", "continue", "closed")],
        "state": [
            flight("u", "twice", times_entered=2, recent_starts=[TODAY]),
            flight("v", "once", recent_starts=[TODAY]),
            flight("v", "daily", ended_on=TODAY, recent_starts=[BEFORE]),
            flight("w", "closed"),
        ],
        "yesterday": [flight("u", "twice", entered_on=BEFORE, ended_on=BEFORE)],
        "profiles": people("u", "v", "w"),
        "absorbed": [],
        "sent": [],
    },
    "miswritten_entries": {
        "entries": [entry("u", "once"), entry("v", "twice", "switch", "journey", entry_number=2)],
        "assignments": [
            answer("u", "start", "once"),
            answer("v", "switch", "twice", arm="control", held_out_by="journey"),
            answer("w", "continue", "once"),
            answer("x", "none", None),
        ],
        "state": [flight("u", "once"), flight("v", "twice", times_entered=2), flight("w", "once"), flight("x", "once", ended_on=TODAY)],
    },
    "money_apart": {
        "paid": [paid("u", in_events=10_000_000), paid("u", in_events=-2_500_000), paid("u", 2, in_events=5), paid("w", in_events=0)],
        "kept": [paid("u", kept=7_500_000), paid("u", 2, kept=5), paid("v", kept=0)],
    },
    "unmatched_outcomes": {
        "due": [
            {"date": BEFORE, "journey_id": "once", "customer_id": "u", "matures_on": TODAY},
            {"date": YESTERDAY, "journey_id": "once", "customer_id": "u", "matures_on": TODAY},
        ],
        "outcomes": [came_of("u", 0.0), came_of("u", 0.0, entered_on=YESTERDAY)],
    },
    "misadded_money": {
        "with_money": [came_of("u", 7.5), came_of("w", 0.0), came_of("v", 0.000001, known_as="v2")],
        "paid_by_then": [
            paid("u", micro=100, event_date=BEFORE),
            paid("u", micro=7_000_000, event_date=BEFORE + timedelta(days=1)),
            paid("u", micro=500_000, event_date=BEFORE + timedelta(days=3)),
            paid("u", micro=100, event_date=BEFORE + timedelta(days=4)),
            paid("v2", micro=1, event_date=BEFORE + timedelta(days=2)),
            paid("v", micro=100, event_date=BEFORE + timedelta(days=2)),
        ],
    },
    "misnamed_controls": {
        "entries": [
            entry("u", "once"),
            entry("v", "once", held_out_by="policy", holdout=0.0),
            entry("w", "once", held_out_by="journey", policy_holdout=0.0),
            entry("x", "once", holdout=0.0, policy_holdout=0.0),
        ]
    },
    "messages_to_control": {
        "activation": [
            {"customer_id": name, "journey_id": "once", "status": status} for name, status in (("u", "delivered"), ("v", "failed"))
        ],
        "assignments": [
            answer("u", "start", "once"),
            answer("v", "start", "once", arm="control"),
            answer("w", "start", "once", arm="control"),
        ],
    },
    **{
        rule: {
            "uplift": [
                told_of("once"),
                told_of("twice", sample_ratio_p=None, before_p=None, delivered=None),
                told_of("daily", "orders", before_p=0.0004, verdict="helps"),
                told_of("daily", slice="segment:a", sample_ratio_p=0.0, before_p=0.0, verdict="harms"),
                told_of("system", slice="long", verdict="helps", delivered=None),
                told_of("system", slice="run_rate", sample_ratio_p=0.0),
            ]
        }
        for rule in ("messages_in_control", "uneven_splits", "unlike_before", "unstable_arms", "proved_of_nothing")
    },
    "failed_fits": {
        "goal_models": [
            {"part": "shared", "name": "g", "source": "model"},
            {"part": "shared", "name": "tau", "source": "model"},
            {"part": "shared", "name": "g", "source": "prior", "note": "3 goals have matured", "date": YESTERDAY},
        ]
    },
    "wasted_propensities": {
        "goal_models": [
            {"part": "journey", "journey_id": "once", "name": "baseline_rate", "value": 0.3, "source": "rates", "controls": 9},
            {"part": "journey", "journey_id": "once", "name": "rate", "value": 0.9, "source": "rates", "controls": 9},
            {"part": "journey", "journey_id": "twice", "name": "baseline_rate", "value": 0.9, "source": "prior", "controls": 9},
            {"part": "journey", "journey_id": "daily", "name": "baseline_rate", "value": 0.9, "source": "rates", "controls": 0},
            {"part": "shared", "name": "baseline_rate", "value": 0.9, "source": "rates", "controls": 9},
        ]
    },
    "overfull_journeys": {
        "assignments": [
            answer("u", "start", "daily"),
            answer("v", "switch", "seats", ended_journey_id="daily", ended_reason="interrupted"),
            answer("w", "continue", "seats"),
            answer("x", "none", None, ended_journey_id="seats", ended_reason="completed"),
        ],
        "sent": [],
    },
    "unfit_texts": {
        "rendered": [said("u", preheader="Tea again"), said("v", html=None), said("w", text="[1] of 2 at https://tea.example")]
    },
    "unsubscribable_emails": {"rendered": [said("u"), said("v", channel="app", html=None)]},
    "unrendered_messages": {
        "rendered": [said("u")],
        "messages": [
            {"idempotency_key": "u", "customer_id": "u", "channel": "email", "content": "tea"},
            {"idempotency_key": "v", "customer_id": "v", "channel": "email", "content": "tea", "withheld": "suppressed"},
            {"idempotency_key": "w", "customer_id": "w", "channel": "app", "content": "tea"},
        ],
    },
    "unexpected_messages": {
        "messages": [message("u", "once")],
        "assignments": [answer("u", "continue", "once"), answer("v", "continue", "once", arm="control")],
    },
    "unplanned_deliveries": {
        "activation": [
            {"idempotency_key": "u:once", "customer_id": "u", "status": "delivered"},
            {"idempotency_key": "v:once", "customer_id": "v", "status": "failed"},
        ],
        "messages": [message("u", "once")],
    },
    "outdated_options": {
        "candidates": [
            option("once", "chosen", waiting_days=3),
            option("twice", "outscored", "outscored", is_queued=False),
            option(NONE, "outscored", "outscored", is_queued=False),
        ],
        "queues": [
            {"journey_id": "once", "customer_id": "u", "waiting_days": 3},
            {"journey_id": "twice", "customer_id": "u", "waiting_days": 9, "date": YESTERDAY},
        ],
    },
    "unreadable": {"coverage": [feature("spend", 1, 99), feature("age", 0, 0), feature("consent.email", 9, 0)]},
    "unclear_consent": {"coverage": [feature("consent.email", 0, 9), feature("spend", 9, 0)]},
}
"""Rows that break no rule, as many as it takes to have something on both sides of each clause."""


@dataclass(frozen=True)
class Broken:
    """A rule, what is wrong, which tables differ from the sound ones, and whose rows are found; ``policy``: a line more."""

    rule: str
    what: str
    found: Sequence[str | date | None]
    tables: Rows
    policy: str = field(default="", kw_only=True)


def _misruled(what: str, found: Sequence[str], *options: Row, policy: str = "") -> Broken:
    return Broken("misruled_options", what, found, {"candidates": options}, policy=policy)


def _started(what: str, journey: str, policy: str = "", **tables: Sequence[Row]) -> Broken:
    return Broken("broken_rules", what, ["u"], {"assignments": [answer("u", "start", journey)], **tables}, policy=policy)


REJECTED = option(NONE, "outscored", "outscored")
KEPT = "keep_candidates: 1"
WAS_IN_ONCE: Rows = {"yesterday": [answer("u", "continue", "once")], "state": [], "absorbed": []}

BROKEN = (
    Broken(
        "miswritten_entries", "a start without an entry", ["u"], {"entries": [entry("v", "twice", "switch", "journey", entry_number=2)]}
    ),
    Broken(
        "miswritten_entries",
        "an entry of who stays in it",
        ["w"],
        {
            "entries": [
                entry("u", "once"),
                entry("v", "twice", "switch", "journey", entry_number=2),
                entry("w", "once"),
            ]
        },
    ),
    *(
        Broken(
            "miswritten_entries",
            f"another {name}",
            ["u"],
            {"entries": [entry("u", "once") | {name: value}, entry("v", "twice", "switch", "journey", entry_number=2)]},
        )
        for name, value in {
            "decision": "switch",
            "arm": "control",
            "held_out_by": "policy",
            "variant": "offer",
            "selection_probability": 0.5,
            "entry_number": 2,
        }.items()
    ),
    Broken("money_apart", "less is kept", ["u"], {"kept": [paid("u", kept=7_499_999), paid("u", 2, kept=5)]}),
    Broken("money_apart", "nothing is kept", ["u", "u"], {"kept": []}),
    Broken("money_apart", "more is kept than there is", ["v"], {"kept": [*SOUND["money_apart"]["kept"], paid("v", 2, kept=1)]}),
    Broken("unmatched_outcomes", "an entry without an outcome", ["u"], {"outcomes": [came_of("u", 0.0)]}),
    Broken("unmatched_outcomes", "an outcome without an entry", ["u"], {"due": SOUND["unmatched_outcomes"]["due"][:1]}),
    Broken(
        "unmatched_outcomes",
        "an outcome on another day",
        ["u", "u"],
        {"outcomes": [came_of("u", 0.0, date=YESTERDAY), came_of("u", 0.0, entered_on=YESTERDAY)]},
    ),
    Broken("misadded_money", "a micro-unit is missing", ["u"], {"with_money": [came_of("u", 7.499999)]}),
    Broken("misadded_money", "a micro-unit too much", ["w"], {"with_money": [came_of("w", 0.000001)]}),
    Broken("misadded_money", "under the older name", ["v"], {"with_money": [came_of("v", 0.000001)]}),
    Broken("misnamed_controls", "control that nobody holds out", ["u"], {"entries": [entry("u", "once", arm="control")]}),
    Broken("misnamed_controls", "treated and held out", ["u"], {"entries": [entry("u", "once", arm="treated", held_out_by="policy")]}),
    Broken(
        "misnamed_controls",
        "a policy that holds nobody out",
        ["u"],
        {"entries": [entry("u", "once", "start", "policy", policy_holdout=0.0)]},
    ),
    Broken(
        "misnamed_controls", "a journey that holds nobody out", ["u"], {"entries": [entry("u", "once", "start", "journey", holdout=0.0)]}
    ),
    Broken("miscounted_events", "ours counts", [TODAY], {"activity": [{"customer_id": "u", "events": 3}]}),
    Broken("miscounted_events", "one of others does not", [TODAY], {"activity": [{"customer_id": "u", "events": 1}]}),
    Broken("uncovered_customers", "in no segment", ["u", "v"], {"memberships": []}),
    Broken(
        "uncovered_customers",
        "in the residual segment beside another",
        ["u"],
        {
            "memberships": [
                *({"segment_id": segment, "customer_id": "u"} for segment in ("buyers", EVERYONE_ELSE)),
                {"segment_id": EVERYONE_ELSE, "customer_id": "v"},
            ]
        },
    ),
    Broken(
        "uncovered_customers",
        "in a segment on another day",
        ["u"],
        {"profiles": people("u"), "memberships": [{"segment_id": "buyers", "customer_id": "u", "date": YESTERDAY}]},
    ),
    Broken(
        "broken_identities",
        "an id is said to be who was absorbed",
        ["v"],
        {"identity_map": [user("u"), user("v", "u", since=TODAY), user("x", "v")]},
    ),
    Broken(
        "broken_identities",
        "who was absorbed on an earlier day was looked for on that day",
        [],
        {"identity_map": [user("u"), user("v", "u"), user("x", "v")]},
    ),
    Broken("broken_identities", "an id of the day before is missing", [None], {"identity_map": [user("u")]}),
    Broken(
        "broken_identities",
        "one customer is drawn by two names",
        ["u"],
        {"identity_map": [user("u"), user("v", "u", "v", since=TODAY)]},
    ),
    Broken(
        "broken_identities",
        "a customer is drawn by another name than the day before",
        ["u"],
        {"identity_map": [user("u", arm="v"), user("v", "u", "v", since=TODAY)]},
    ),
    Broken(
        "broken_identities", "whose ids stay as they were is not looked at again", [], {"identity_map": [user("u", arm="w"), user("v")]}
    ),
    Broken(
        "broken_identities",
        "each is compared once, whoever else they were on the day before",
        ["u"],
        {
            "identity_map": [user("u", arm="w"), user("v", "u", arm="w"), user("x", "u", "w", since=TODAY)],
            "yesterday": [user("u"), user("v", "u")],
        },
    ),
    Broken("lost_customers", "gone though nobody absorbed them", ["v"], {"absorbed": []}),
    Broken("lost_customers", "still there though absorbed", ["v"], {"profiles": people("u", "v")}),
    Broken("lost_customers", "new, and first seen another day", ["new"], {"profiles": people("u", "new")}),
    Broken(
        "lost_customers",
        "there yesterday, and first seen today",
        ["u"],
        {"profiles": [{"customer_id": "u", "first_seen_on": TODAY}]},
    ),
    _misruled("none is chosen", ["u"], option("once", "capacity", "capacity"), REJECTED),
    _misruled("two are chosen", ["u"], option("once", "chosen"), option("twice", "chosen"), REJECTED),
    _misruled('there is no "none"', ["u"], option("once", "chosen")),
    _misruled('"none" is there twice', ["u"], option("once", "chosen"), REJECTED, REJECTED),
    _misruled('"none" is there twice among the kept', ["u"], option("once", "chosen"), REJECTED, REJECTED, policy=KEPT),
    _misruled('where few are kept, "none" may be lost', [], option("once", "chosen"), policy=KEPT),
    _misruled(
        "the customer is in two",
        ["u"],
        option("once", "chosen", is_incumbent=True),
        option("twice", "in_flight", "in_flight", is_incumbent=True),
        REJECTED,
    ),
    _misruled("the chosen failed a gate", ["u"], option("once", "chosen", "resting"), REJECTED),
    _misruled("another failed none", ["u"], option("once", "chosen"), option("twice", "reentry"), REJECTED),
    _misruled("another is ruled by the second gate it failed", ["u"], option("once", "chosen"), option(NONE, "link", "reentry", "link")),
    _misruled(
        "what one customer lacks another has twice",
        ["u", "v"],
        option("once", "chosen"),
        REJECTED,
        option("twice", "chosen"),
        {**REJECTED, "customer_id": "v"},
    ),
    Broken("unassigned_customers", "a customer without an answer", ["v"], {"assignments": [answer("u", "start", "once")]}),
    Broken("unassigned_customers", "an answer to nobody", ["v"], {"profiles": people("u")}),
    Broken(
        "unassigned_customers",
        "an answer of another day",
        ["u", "u"],
        {"profiles": people("u"), "assignments": [answer("u", "none", None, date=YESTERDAY)]},
    ),
    Broken("double_booked_customers", "in flight twice", ["u"], {"state": [flight("u", "once"), flight("u", "twice")]}),
    Broken("double_booked_customers", "in flight in another one than answered", ["u"], {"state": [flight("u", "twice")]}),
    Broken("double_booked_customers", "in flight though answered none", ["v"], {"state": [flight("u", "once"), flight("v", "once")]}),
    Broken("double_booked_customers", "in none though answered one", ["u"], {"state": []}),
    Broken("double_booked_customers", "in flight and without an answer", ["u"], {"assignments": []}),
    Broken("double_booked_customers", "ended though answered", ["u"], {"state": [flight("u", "once", ended_on=TODAY)]}),
    Broken("unaccounted_journeys", "neither continued nor ended", ["u"], {"assignments": [answer("u", "none", None)], **WAS_IN_ONCE}),
    Broken(
        "unaccounted_journeys",
        "who was in none brings none into a merger",
        [],
        {
            "assignments": [answer("u", "continue", "once")],
            "yesterday": [answer("u", "continue", "once"), answer("v", "none", None)],
            "state": [],
            "absorbed": [{"absorbed": "v", "customer_id": "u"}],
        },
    ),
    Broken("unaccounted_journeys", "continued in another one", ["u"], {"assignments": [answer("u", "continue", "twice")], **WAS_IN_ONCE}),
    Broken("unaccounted_journeys", "started anew, not continued", ["u"], {"assignments": [answer("u", "start", "once")], **WAS_IN_ONCE}),
    Broken(
        "unaccounted_journeys",
        "another one ended",
        ["u"],
        {"assignments": [answer("u", "none", None, ended_journey_id="twice", ended_reason="completed")], **WAS_IN_ONCE},
    ),
    Broken(
        "unaccounted_journeys",
        "merged with nobody",
        ["u"],
        {"assignments": [answer("u", "none", None, ended_journey_id="once", ended_reason="merged")], **WAS_IN_ONCE},
    ),
    Broken("unaccounted_journeys", "without an answer today", ["u"], {"assignments": [], **WAS_IN_ONCE}),
    Broken(
        "unaccounted_journeys",
        "continued from nothing",
        ["u"],
        {"assignments": [answer("u", "continue", "once")], "yesterday": [], "state": [], "absorbed": []},
    ),
    Broken(
        "unaccounted_journeys",
        "ended from nothing",
        ["u"],
        {
            "assignments": [answer("u", "start", "once", ended_journey_id="twice", ended_reason="exited")],
            "yesterday": [answer("u", "none", None)],
            "state": [],
            "absorbed": [],
        },
    ),
    Broken("unaccounted_journeys", "of two merged, the memory forgot one", ["y"], {"state": []}),
    Broken(
        "unaccounted_journeys",
        "of two merged, the memory ended one for another reason",
        ["y"],
        {"state": [flight("y", "twice", entered_on=BEFORE, ended_on=TODAY, ended_reason="completed")]},
    ),
    Broken(
        "unaccounted_journeys",
        "of two merged, the memory ended one on another day",
        ["y"],
        {"state": [flight("y", "twice", entered_on=BEFORE, ended_on=BEFORE, ended_reason="merged")]},
    ),
    Broken(
        "unaccounted_journeys",
        "of two merged, none goes on",
        ["y", "y"],
        {
            "assignments": [answer("y", "start", "daily")],
            "yesterday": [answer("y", "continue", "once"), answer("z", "continue", "twice")],
            "state": [flight("y", journey, entered_on=BEFORE, ended_on=TODAY, ended_reason="merged") for journey in ("once", "twice")],
        },
    ),
    _started("unknown to the memory", "once", state=[]),
    _started("once more than ever allowed", "once", state=[flight("u", "once", times_entered=2)], yesterday=[]),
    _started("once more than max_entries", "twice", state=[flight("u", "twice", times_entered=3)]),
    _started("too soon after the exit", "twice", yesterday=[flight("u", "twice", entered_on=BEFORE, ended_on=YESTERDAY)]),
    _started("while still in it", "twice", yesterday=[flight("u", "twice", entered_on=BEFORE)]),
    _started("on a day the journey is blacked out", "closed", state=[flight("u", "closed")]),
    Broken(
        "broken_rules",
        "on a day it is blacked out no more",
        [],
        {
            "assignments": [answer("u", "start", "closed", date=TOMORROW)],
            "state": [flight("u", "closed", date=TOMORROW)],
            "profiles": [{**person, "date": TOMORROW} for person in people("u")],
        },
    ),
    Broken("broken_rules", "for the first time it is never too soon", [], {"yesterday": []}),
    _started(
        "on a day all are blacked out",
        "once",
        assignments=[answer("u", "start", "once", date=BLACKOUT)],
        state=[flight("u", "once", date=BLACKOUT)],
        profiles=[{**person, "date": BLACKOUT} for person in people("u")],
    ),
    _started(
        "beyond the cap",
        "once",
        state=[flight("u", "once", recent_starts=[TODAY]), flight("u", "daily", ended_on=TODAY, recent_starts=[BEFORE, YESTERDAY])],
    ),
    Broken("broken_rules", "by a switch, too", ["v"], {"assignments": [answer("v", "switch", "closed")], "state": [flight("v", "closed")]}),
    Broken(
        "broken_rules",
        "what was sent already stands",
        [],
        {
            "assignments": [answer("u", "start", "closed")],
            "state": [flight("u", "closed")],
            "sent": [{"customer_id": "u", "journey_id": "closed"}],
        },
    ),
    Broken(
        "broken_rules",
        "something else was sent",
        ["u"],
        {
            "assignments": [answer("u", "start", "closed")],
            "state": [flight("u", "closed")],
            "sent": [{"customer_id": "u", "journey_id": "once"}, {"customer_id": "v", "journey_id": "closed"}],
        },
    ),
    Broken("overfull_journeys", "more than may a day", ["daily"], {"assignments": [answer(name, "start", "daily") for name in "uv"]}),
    Broken(
        "overfull_journeys",
        "more than there are places",
        ["seats"],
        {"assignments": [answer("u", "start", "seats"), answer("v", "switch", "seats"), answer("w", "continue", "seats")]},
    ),
    Broken(
        "overfull_journeys",
        "on a place that opens tomorrow",
        ["seats"],
        {
            "assignments": [
                answer("u", "start", "seats"),
                answer("v", "continue", "seats"),
                answer("w", "switch", "daily", ended_journey_id="seats", ended_reason="interrupted"),
            ]
        },
    ),
    Broken(
        "overfull_journeys",
        "one of two was sent before",
        ["daily"],
        {"assignments": [answer(name, "start", "daily") for name in "uv"], "sent": [{"customer_id": "u", "journey_id": "daily"}]},
    ),
    Broken(
        "overfull_journeys",
        "both were sent before",
        [],
        {
            "assignments": [answer(name, "start", "daily") for name in "uv"],
            "sent": [{"customer_id": name, "journey_id": "daily"} for name in "uv"],
        },
    ),
    Broken(
        "messages_to_control",
        "who is held out was written to",
        ["v"],
        {"activation": [{"customer_id": name, "journey_id": "once", "status": "delivered"} for name in "uv"]},
    ),
    Broken(
        "messages_to_control",
        "for another journey, or on another day",
        [],
        {
            "activation": [
                {"customer_id": "v", "journey_id": "twice", "status": "delivered"},
                {"customer_id": "v", "journey_id": "once", "status": "delivered", "date": YESTERDAY},
            ]
        },
    ),
    Broken(
        "messages_in_control",
        "two were told something",
        ["twice"],
        {"uplift": [told_of("once"), *(told_of("twice", metric, sent_to_control=2) for metric in ("money", "orders"))]},
    ),
    Broken(
        "uneven_splits", "a journey", ["once"], {"uplift": [told_of("once", sample_ratio_p=0.0009), told_of("twice", sample_ratio_p=0.001)]}
    ),
    Broken("uneven_splits", "the system", ["system"], {"uplift": [told_of("system", slice="long", sample_ratio_p=0.0)]}),
    Broken(
        "unlike_before", "the only one looked at", ["once"], {"uplift": [told_of("once", before_p=0.0009), told_of("twice", before_p=None)]}
    ),
    Broken("unlike_before", "one of two looked at", [], {"uplift": [told_of("once", before_p=0.0009), told_of("twice")]}),
    Broken(
        "unstable_arms", "somebody is in both", ["once"], {"uplift": [told_of("once", unstable=1), told_of("once", "orders", unstable=1)]}
    ),
    *(
        Broken(
            "failed_fits",
            f"by {source}",
            [TODAY],
            {"goal_models": [{"part": "shared", "name": name, "source": source, "note": "no minimum"} for name in ("g", "tau")]},
        )
        for source in ("model", "rates")
    ),
    *(
        Broken(
            "wasted_propensities",
            f"by {source}",
            ["twice"],
            {
                "goal_models": [
                    {"part": "journey", "journey_id": "twice", "name": "baseline_rate", "value": 0.31, "source": source, "controls": 1}
                ]
            },
        )
        for source in ("model", "rates")
    ),
    *(
        Broken(
            "proved_of_nothing",
            f"it {verdict}",
            ["once"],
            {"uplift": [told_of("once", verdict=verdict, delivered=0), told_of("twice", delivered=0, verdict="harmless")]},
        )
        for verdict in ("helps", "harms")
    ),
    *(
        Broken("unfit_texts", f"{part}: {text[:20]!r}", ["u"], {"rendered": [said("u", **{part: text}), said("v")]})
        for part, text in [
            ("subject", "Dear {{ first_name }}"),
            ("text", "{% if x %}"),
            ("html", "<p>{{ x }}</p>"),
            ("preheader", "Dear [Name]"),
            ("text", "Lorem ipsum"),
            ("text", " "),
            ("subject", "Tea\r\nBcc: x@example.com"),
            ("preheader", "Tea\nand more"),
            ("text", "at http://tea.example"),
            ("html", '<a HREF=" http://tea.example">x</a>'),
            ("html", "<a href='javascript:alert(1)'>x</a>"),
            ("html", "x" * (102 * 1024 + 1)),
        ]
    ),
    Broken("unsubscribable_emails", "not in its text", ["u"], {"rendered": [said("u", text="Tea"), said("v")]}),
    Broken("unsubscribable_emails", "not in its HTML", ["u"], {"rendered": [said("u", html="<p>Tea</p>"), said("v")]}),
    Broken("unsubscribable_emails", "it has none", ["u"], {"rendered": [said("u", html=None), said("v")]}),
    Broken("unrendered_messages", "nothing is said", ["u"], {"rendered": []}),
    Broken("unrendered_messages", "who is withheld is told something", ["v"], {"rendered": [said("u"), said("v")]}),
    Broken("unrendered_messages", "of another content", ["u", "u"], {"rendered": [said("u", content="coffee")]}),
    Broken("unrendered_messages", "of another day", ["u", "u"], {"rendered": [said("u", date=YESTERDAY)]}),
    Broken("wrong_members", "is in another journey", ["w"], {"members": [member("w")]}),
    Broken(
        "wrong_members",
        "is in another segment",
        ["v"],
        {"memberships": [{"segment_id": "readers", "customer_id": "v"}, {"segment_id": "buyers", "customer_id": "w"}]},
    ),
    Broken(
        "wrong_members",
        "is held out",
        ["u", "w"],
        {
            "assignments": [
                answer("u", "start", "once", arm="control"),
                answer("v", "none", None),
                answer("w", "start", "twice", arm="control"),
            ]
        },
    ),
    Broken(
        "wrong_members",
        "never gave consent, or withdrew it",
        ["u", "v"],
        {"profiles": [{"customer_id": name, "consent_ads": said} for name, said in (("u", None), ("v", False), ("w", True))]},
    ),
    Broken("wrong_members", "has nothing to be known by", ["u"], {"members": [member("u", identifiers="{}")]}),
    Broken("wrong_members", "of no audience", ["u"], {"members": [member("u", "nobodys")]}),
    Broken("misdirected", "who is no member is added", ["w"], {"syncs": [told("w", "add")]}),
    Broken("misdirected", "who is one is removed", ["u"], {"syncs": [told("u", "remove")]}),
    Broken("unexpected_messages", "to a customer in no journey", ["w"], {"messages": [message("u", "once"), message("w", "once")]}),
    Broken("unexpected_messages", "to one who is held out", ["v"], {"messages": [message("v", "once")]}),
    Broken("unexpected_messages", "of another journey", ["u"], {"messages": [message("u", "twice")]}),
    Broken("unexpected_messages", "of another day", ["u"], {"messages": [message("u", "once", date=YESTERDAY)]}),
    Broken("broken_paths", "a place twice", ["u"], {"steps": [touch("u", 1), touch("u", 1, "twice"), touch("u", 3)]}),
    Broken("broken_paths", "a place is missing", ["u"], {"steps": [touch("u", 1), touch("u", 3)]}),
    Broken("broken_paths", "it began on another day", ["u"], {"steps": [touch("u", 1, entered_on=YESTERDAY)]}),
    Broken("broken_paths", "it closed in two ways", ["u"], {"steps": [closed("u", 1), closed("u", 2, value=6.0)]}),
    Broken("broken_paths", "a step on the day it closed", ["u"], {"steps": [closed("u", 1), closed("u", 2, entered_on=TODAY)]}),
    Broken("broken_paths", "control beside a touch", ["u"], {"steps": [touch("u", 1), touch("u", 2, SILENT)]}),
    Broken(
        "broken_paths",
        "two that are open",
        ["u", "u"],
        {"steps": [touch("u", 1), touch("u", 1, path_started_on=YESTERDAY, entered_on=YESTERDAY), touch("v", 1)]},
    ),
    Broken("lost_paths", "it is neither open nor closed", ["v"], {"steps": [touch("u", 1), touch("x", 1)]}),
    Broken("lost_paths", "absorbed by nobody", ["w"], {"absorbed": []}),
    Broken("lost_paths", "whose name is another one by now", ["x"], {"steps": [touch("u", 1), closed("v", 1), touch("w", 1)]}),
    Broken("unfollowed_entries", "an entry is no step", ["u"], {"steps": [touch("w", 2, "twice", entered_on=TODAY)]}),
    Broken("unfollowed_entries", "a step that nobody entered", ["u", "w"], {"entries": []}),
    Broken(
        "unfollowed_entries",
        "entered in control",
        ["u"],
        {
            "entries": [
                {"customer_id": "u", "journey_id": "once", "arm": "control"},
                {"customer_id": "w", "journey_id": "twice", "arm": "treated"},
            ]
        },
    ),
    *(
        Broken(
            "uncredited_conversions",
            f"{what} by {model}",
            [TODAY],
            {"attribution": [credit("once", 2.0, 30.0, **{f"{what}_{model}": 3.5})]},
        )
        for what in ("conversions", "value")
        for model in MODELS
    ),
    Broken("uncredited_conversions", "no credit at all", [TODAY], {"attribution": []}),
    Broken("unplanned_deliveries", "a message that nobody planned", ["u"], {"messages": [message("u", "twice")]}),
    Broken("unplanned_deliveries", "one of another day", ["u"], {"messages": [message("u", "once", date=YESTERDAY)]}),
    Broken(
        "unplanned_deliveries",
        "one that may have arrived, and was planned for somebody else",
        ["u"],
        {"activation": [{"idempotency_key": "v:once", "customer_id": "u", "status": "unknown"}], "messages": [message("v", "once")]},
    ),
    Broken("outdated_options", "waits longer by now", ["u"], {"queues": [{"journey_id": "once", "customer_id": "u", "waiting_days": 4}]}),
    Broken(
        "outdated_options",
        "what was an option without waiting stands on no queue",
        [],
        {"candidates": [option("once", "chosen", is_queued=False, waiting_days=3)], "queues": []},
    ),
    Broken("outdated_options", "waits no more", ["u"], {"queues": []}),
    Broken(
        "outdated_options",
        "two queues whose days of waiting have changed places",
        ["u"],
        {
            "candidates": [option("once", "chosen", waiting_days=3), option("twice", "outscored", "outscored", waiting_days=5)],
            "queues": [
                {"journey_id": "once", "customer_id": "u", "waiting_days": 5},
                {"journey_id": "twice", "customer_id": "u", "waiting_days": 3},
            ],
        },
    ),
    Broken(
        "outdated_options",
        "was not an option",
        ["u", "v"],
        {
            "queues": [
                {"journey_id": "once", "customer_id": "u", "waiting_days": 3},
                {"journey_id": "once", "customer_id": "v", "waiting_days": 0},
                {"journey_id": "twice", "customer_id": "u", "waiting_days": 0},
            ]
        },
    ),
    Broken("unreadable", "more than one in a hundred was skipped", ["spend"], {"coverage": [feature("spend", 2, 98)]}),
    Broken(
        "unreadable",
        "more than one in a hundred, over the days",
        ["spend"],
        {"coverage": [feature("spend", 0, 50, date=YESTERDAY), feature("spend", 2, 50)]},
    ),
    Broken("unreadable", "all were skipped", ["spend"], {"coverage": [feature("spend", 1, 0)]}),
    Broken("unclear_consent", "one word is neither yes nor no", ["consent.email"], {"coverage": [feature("consent.email", 1, 999)]}),
    Broken("unclear_consent", "one is about another channel", ["consent.*"], {"coverage": [feature("consent.*", 1, 0)]}),
)


@pytest.fixture
def journeys(tmp_path: Path) -> Path:
    """Two journeys with rules for entering, one blacked out, two with limits."""
    path = tmp_path / "journeys.yaml"
    path.write_text(JOURNEYS, encoding="utf-8")
    return path


def found(rule: str, tables: Rows, portfolio: Portfolio) -> list[str | None]:
    """Return whose rows a rule finds in these tables."""
    wanted = inspect.signature(RULES[rule]).parameters
    frames = {name: _frame(rule, name, tables[name]) for name in wanted if name != "portfolio"}
    more = {"portfolio": portfolio} if "portfolio" in wanted else {}
    rows = RULES[rule](**frames, **more).collect()
    return sorted(rows[KEYS.get(rule, "customer_id")], key=str)


def _frame(rule: str, name: str, rows: Sequence[Row]) -> pl.LazyFrame:
    day, table = (YESTERDAY, OF_YESTERDAY[rule]) if name == "yesterday" else (TODAY, name)
    return pl.LazyFrame([{"date": day, **row} for row in rows], schema=TABLES[table])


@pytest.mark.parametrize("rule", SOUND)
def test_sound_rows_break_no_rule(rule: str, journeys: Path) -> None:
    """Nothing is found where nothing is wrong."""
    assert found(rule, SOUND[rule], load_portfolio(journeys)) == []


@pytest.mark.parametrize(("rule", "example"), [pytest.param(each.rule, each, id=f"{each.rule}: {each.what}") for each in BROKEN])
def test_broken_rows_are_found_and_no_others(rule: str, example: Broken, journeys: Path) -> None:
    """What is wrong is found in whose rows it is."""
    journeys.write_text(f"{JOURNEYS}  {example.policy}\n", encoding="utf-8")
    assert found(rule, {**SOUND[rule], **example.tables}, load_portfolio(journeys)) == example.found


def test_every_rule_has_a_row_that_breaks_it() -> None:
    """And rows that do not: a rule that was never seen to fail is no promise."""
    assert {each.rule for each in BROKEN if each.found} == set(RULES)
    assert set(SOUND) == set(RULES)
