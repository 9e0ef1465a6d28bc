"""What every table must look like: Pandera schemas, one per table, built for the portfolio at hand.

Asset checks validate with them and the catalog shows them. Stages do not import this module (Pandera costs seconds).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandera.polars as pa
import polars as pl

from atc_pipeline.activation import messages
from atc_pipeline.activation.tables import MESSAGES
from atc_pipeline.customers import profiles, remembered
from atc_pipeline.customers.tables import COVERAGE, MEMBERSHIPS, PURCHASE_MODELS
from atc_pipeline.decision.gates import GATES, RULINGS
from atc_pipeline.decision.tables import ASSIGNMENTS, CANDIDATES, FUNNEL, QUEUES, STATE
from atc_pipeline.escaping import markdown
from atc_pipeline.events.tables import RAW_EVENTS, REASONS, REJECTED_EVENTS, TYPES
from atc_pipeline.identity.tables import ANONYMOUS, CLAIMED, IDENTITY_CHANGES, IDENTITY_MAP, IGNORED, MERGED, USER
from atc_pipeline.journeys.portfolio import Portfolio, Trait
from atc_pipeline.outcomes.tables import MATRIX


@dataclass(frozen=True)
class Table:
    """A table of the lake: its key, its columns in order, which may be null, and what else must hold."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, pl.DataType]
    nullable: frozenset[str]
    descriptions: Mapping[str, str]
    checks: Mapping[str, pa.Check]

    def schema(self) -> pa.DataFrameSchema:
        """Build the Pandera schema: exactly these columns and types, no null where none may be, no key twice on a day."""
        return pa.DataFrameSchema(
            {
                name: pa.Column(
                    dtype,
                    checks=self.checks.get(name),
                    nullable=name in self.nullable,
                    description=self.descriptions.get(name),
                )
                for name, dtype in self.columns.items()
            },
            name=self.name,
            unique=["date", *self.key],
            strict=True,
            ordered=True,
        )


_NEVER_NEGATIVE = pa.Check.ge(0)
_SHARE = pa.Check.in_range(0, 1)
_POSITIVE = pa.Check.ge(1)

_DESCRIPTIONS = {
    "date": "The business day this row is about: the partition.",
    "customer_id": "`userId`, or `anon:<anonymousId>` while no user is known.",
    "journey_id": "A journey of journeys.yaml.",
    "segment_id": "A micro-segment of journeys.yaml, or everyone_else.",
    "entered_on": "Day of the last entry.",
    "arm": "treated, or control: takes the place and is sent nothing.",
    "score": "policy.score; null where it is no number.",
    "priority": "As journeys.yaml says.",
    "channel": "The channel of journeys.yaml.",
}


def tables(portfolio: Portfolio) -> dict[str, Table]:
    """Describe every table of the lake for this portfolio, by name."""
    return {table.name: table for build in _BUILDERS for table in [build(portfolio)]}


def _table(
    name: str,
    key: tuple[str, ...],
    columns: Mapping[str, pl.DataType],
    *,
    nullable: frozenset[str] | set[str] = frozenset(),
    descriptions: Mapping[str, str] | None = None,
    checks: Mapping[str, pa.Check] | None = None,
) -> Table:
    told = {column: text for column, text in (_DESCRIPTIONS | dict(descriptions or {})).items() if column in columns}
    return Table(name, key, columns, frozenset(nullable), told, dict(checks or {}))


def _raw_events(_: Portfolio) -> Table:
    return _table(
        "raw_events",
        ("message_id",),
        RAW_EVENTS,
        nullable={"event", "user_id", "anonymous_id", "previous_id", "received_at", "properties", "traits", "context", "extra"},
        descriptions={
            "message_id": "Segment's messageId; a hash of the line where it had none.",
            "type": "track, page, screen, identify, alias or group.",
            "timestamp": "When it happened (UTC), the sender's clock corrected.",
            "event_date": "The day it happened, in the calendar's time zone.",
            "properties": "JSON text, as it arrived.",
            "traits": "JSON text, as it arrived.",
            "context": "JSON text, as it arrived.",
            "extra": "The line's other fields, as one JSON object.",
            "source_file": "File in the landing zone.",
            "line": "Line in that file, from 1.",
            "event": "Name of a track event.",
            "user_id": "userId, as it arrived.",
            "anonymous_id": "anonymousId, as it arrived.",
            "previous_id": "previousId of an alias.",
            "received_at": "receivedAt (UTC).",
        },
        checks={"type": pa.Check.isin(TYPES), "line": _POSITIVE},
    )


def _rejected_events(_: Portfolio) -> Table:
    return _table(
        "rejected_events",
        ("source_file", "line"),
        REJECTED_EVENTS,
        descriptions={
            "source_file": "File in the landing zone.",
            "line": "Line in that file, from 1.",
            "reason": "The first test the line failed.",
            "raw": "The line, as it arrived.",
        },
        checks={"reason": pa.Check.isin(REASONS), "line": _POSITIVE},
    )


def _identity_map(_: Portfolio) -> Table:
    return _table(
        "identity_map",
        ("id_type", "id"),
        IDENTITY_MAP,
        nullable={"seen_at"},
        descriptions={
            "id_type": "user or anonymous.",
            "id": "userId or anonymousId, as it arrived.",
            "customer_id": "Who it is: the end of a user's aliases; of a visitor, the user first seen with, else `anon:<anonymousId>`.",
            "valid_from": "The arrival day since which it has been this customer.",
            "arm_id": "The name under which that customer was first known: holdouts and exploration are drawn by it.",
            "is_seen": "False of a user whom only an alias has named so far, as its previousId.",
            "seen_at": "The first time of a visitor on the day first seen; null of users.",
        },
        checks={"id_type": pa.Check.isin([ANONYMOUS, USER])},
    )


def _identity_changes(_: Portfolio) -> Table:
    return _table(
        "identity_changes",
        ("message_id", "id_type", "id"),
        IDENTITY_CHANGES,
        nullable={"id", "customer_id"},
        descriptions={
            "message_id": "The event that says so.",
            "id_type": "user for an alias of a user, anonymous for a visitor who turned out to be one, or is said to.",
            "id": "Whose customer changed, or who an ignored alias was about.",
            "customer_id": "Who it is now; null where nobody was named.",
            "change": "merged or claimed: a customer of the day before is absorbed. "
            "second_alias, alias_cycle, alias_of_nobody, second_claim (of a visitor): the alias is ignored.",
        },
        checks={
            "id_type": pa.Check.isin([ANONYMOUS, USER]),
            "change": pa.Check.isin([MERGED, CLAIMED, *IGNORED]),
        },
    )


def _customer_activity(portfolio: Portfolio) -> Table:
    columns = remembered.rollup_schema(portfolio)
    key = ("customer_id", "event_date")
    return _table(
        "customer_activity",
        key,
        columns,
        nullable=set(columns) - {"date", *key, "events"},
        descriptions={"event_date": "The day the events happened; they arrived on `date`.", "events": "Events of that day."},
        checks={"events": _POSITIVE},
    )


def _feature_coverage(_: Portfolio) -> Table:
    counts = ("events", "matched", "read", "skipped")
    return _table(
        "feature_coverage",
        ("feature", "part", "event"),
        COVERAGE,
        nullable={"sample", "sample_message_id"},
        descriptions={
            "feature": "A trait, interest, intent, side of the engagement, prediction, goal, or consent.",
            "part": "Which signal of an interest or intent, from 1.",
            "event": "An event that it names; * = any.",
            "events": "Events of that name that arrived on `date`.",
            "matched": "Events or items that the part as a whole matched.",
            "read": "Values of them that were read.",
            "skipped": "Values that could not be read.",
            "sample": "What one of these looks like.",
            "sample_message_id": "The event it is in.",
        },
        checks={"part": _POSITIVE, **dict.fromkeys(counts, _NEVER_NEGATIVE)},
    )


def _customer_profiles(portfolio: Portfolio) -> Table:
    columns = profiles.table_schema(portfolio) | {profiles.STATE: pl.Struct(profiles.state_schema(portfolio))}
    interests = {f"interest_{topic.id}": _SHARE for topic in portfolio.topics}
    intents = {f"intent_{intent.id}": _SHARE for intent in portfolio.intents}
    never_null = {
        "date", "customer_id", "first_seen_on", "last_seen_on", "tenure_days", profiles.STATE, *interests, *intents,
        *(trait.id for trait in portfolio.traits if trait.kind in ("count", "sum", "unique_count", "unique_list")),
    }  # fmt: skip
    return _table(
        "customer_profiles",
        ("customer_id",),
        columns,
        nullable=set(columns) - never_null,
        descriptions={
            "first_seen_on": "The first day an event of the customer arrived.",
            "last_seen_on": "The last day an event of the customer arrived.",
            "tenure_days": "Days since first_seen_on.",
            "timezone": "The last context.timezone.",
            **{f"consent_{channel.id}": "true, false, or null: never said." for channel in portfolio.channels},
            **dict.fromkeys(interests, "This topic's share of the customer's decayed interest."),
            **dict.fromkeys(intents, "Strength of the intent, 0 to 1."),
            "engagement": "Decayed responses / decayed touches; null without touches.",
            "preferred_channel": "The channel with most decayed responses.",
            "best_hour": "Hour of the customer's day with most events in 90 days.",
            "predicted_orders": "Expected days with an order within the horizon (BG/NBD).",
            "predicted_value": "Their expected value (Gamma-Gamma).",
            "churn_risk": "Probability of no order within the horizon (BG/NBD).",
            **{trait.id: _about(trait) for trait in portfolio.traits},
            profiles.STATE: "What tomorrow's profile is computed from: sums, counts, first and last words.",
        },
        checks=interests
        | intents
        | {"tenure_days": _NEVER_NEGATIVE, "engagement": _SHARE, "churn_risk": _SHARE, "best_hour": pa.Check.in_range(0, 23)}
        | dict.fromkeys(("predicted_orders", "predicted_value"), _NEVER_NEGATIVE)
        | {trait.id: _SHARE for trait in portfolio.traits if trait.kind == "percentile"}
        | {trait.id: _NEVER_NEGATIVE for trait in portfolio.traits if trait.dtype == pl.Int64()},
    )


def _purchase_models(_: Portfolio) -> Table:
    columns = PURCHASE_MODELS
    return _table(
        "purchase_models",
        (),
        columns,
        nullable=set(columns) - {"date", "is_refitted"},
        descriptions={
            "fitted_on": "Last day of the data that BG/NBD was fitted on; null before the first fit.",
            **dict.fromkeys(("r", "alpha"), "BG/NBD: rates of ordering are Gamma(r, alpha) a day."),
            **dict.fromkeys(("a", "b"), "BG/NBD: probabilities of leaving after an order are Beta(a, b)."),
            "customers": "Customers with an order.",
            "repeat_customers": "Customers with orders on more than one day.",
            "value_fitted_on": "Last day of the data that Gamma-Gamma was fitted on.",
            "value_bound": "What a customer's mean day with a value counts for at most: 1,000 times the median.",
            "bounded_customers": "Customers for whom it would have been more.",
            **dict.fromkeys(("p", "q", "v"), "Gamma-Gamma: values of orders are Gamma(p, nu), nu is Gamma(q, v)."),
            "is_refitted": "Whether a model is a new fit today.",
            "note": "Why the last fit was kept, or why there is none.",
        },
        checks={},
    )


def _about(trait: Trait) -> str:
    of = ", ".join(trait.selector.events) or "any event" if trait.selector else ""
    words = [trait.kind.replace("_", " "), trait.property or "", f"of {of}" if of else ""]
    words += [f"within {trait.within_days} days"] if trait.within_days else []
    words += [f"where {trait.selector.where.text}"] if trait.selector and trait.selector.where else []
    return markdown(" ".join(word for word in words if word))


def _micro_segment_memberships(_: Portfolio) -> Table:
    return _table(
        "micro_segment_memberships",
        ("segment_id", "customer_id"),
        MEMBERSHIPS,
        descriptions={"member_since": "First day of the unbroken spell."},
    )


def _journey_queues(portfolio: Portfolio) -> Table:
    return _table(
        "journey_queues",
        ("journey_id", "customer_id"),
        QUEUES,
        descriptions={"queued_on": "First day of the unbroken spell.", "waiting_days": "Days since queued_on."},
        checks={"waiting_days": _NEVER_NEGATIVE, "journey_id": pa.Check.isin([journey.id for journey in portfolio.journeys])},
    )


def _scored_candidates(_: Portfolio) -> Table:
    return _table(
        "scored_candidates",
        ("customer_id", "journey_id"),
        CANDIDATES,
        nullable={"propensity", "value", "interest_match", "intent_match", "waiting_days", "linked_boost", "score", "margin"},
        descriptions={
            "journey_id": "A journey of journeys.yaml, or none: the option of no journey.",
            "is_queued": "The customer qualifies today.",
            "is_incumbent": "The customer is in it.",
            "mandatory": "In the band above all others.",
            "propensity": "Probability of the goal.",
            "value": "What the goal is worth.",
            "interest_match": "Sum of the customer's interest in the journey's topics.",
            "intent_match": "The strongest of the journey's intents.",
            "linked_boost": "Above 1 where the last finished journey leads to this one.",
            "ruling": "chosen, or the first gate failed.",
            "failed_gates": "All gates failed, in the order tested.",
            "rank": "Place in the total order among the customer's options.",
            "margin": "Score of the chosen option - own score.",
        },
        checks={"ruling": pa.Check.isin(RULINGS), "rank": _POSITIVE},
    )


def _journey_state(_: Portfolio) -> Table:
    return _table(
        "journey_state",
        ("customer_id", "journey_id"),
        STATE,
        nullable={"ended_on", "ended_reason", "left_on", "finished_on"},
        descriptions={
            "ended_on": "Day of the last ending; null while in flight.",
            "ended_reason": "withdrawn, converted, exited, completed, interrupted or merged.",
            "times_entered": "Entries so far.",
            "times_completed": "Spells completed or converted.",
            "entry_score": "Score on the day of the last entry.",
            "recent_starts": "Entries within the frequency cap's window.",
            "left_on": "Last day the journey ended, kept when it is entered again.",
            "finished_on": "Last day the journey was completed or converted.",
        },
        checks={
            "times_entered": _POSITIVE,
            "times_completed": _NEVER_NEGATIVE,
            "arm": pa.Check.isin(["treated", "control"]),
            "ended_reason": pa.Check.isin(["withdrawn", "converted", "exited", "completed", "interrupted", "merged"]),
        },
    )


def _journey_assignments(_: Portfolio) -> Table:
    return _table(
        "journey_assignments",
        ("customer_id",),
        ASSIGNMENTS,
        nullable=set(ASSIGNMENTS) - {"date", "customer_id", "decision"},
        descriptions={
            "decision": "start, continue, switch or none.",
            "journey_id": "The one journey the customer is in; null for none.",
            "day_index": "Day of the journey, from 1.",
            "ends_on": "Last day of the journey, if nothing ends it before.",
            "score": "Score of the chosen option, of none too; null without options.",
            "runner_up": "The best other option that failed no gate.",
            "runner_up_score": "Its score.",
            "ended_journey_id": "The journey that ended today, if one did.",
            "ended_reason": "Why it ended.",
            "selection_probability": "Probability of this choice, for learning.",
        },
        checks={
            "decision": pa.Check.isin(["start", "continue", "switch", "none"]),
            "day_index": _POSITIVE,
            "selection_probability": _SHARE,
        },
    )


def _journey_funnel(_: Portfolio) -> Table:
    return _table(
        "journey_funnel",
        ("journey_id",),
        FUNNEL,
        nullable={"places", "price"},
        descriptions={
            "queued": "Customers who qualify today.",
            "carried": "Customers who came into the day in it, and whom nothing ended.",
            **dict.fromkeys(GATES, "Customers turned away by this gate first."),
            "in_flight": "Customers who stay in another journey.",
            "outscored": "Customers who get something better.",
            "capacity": "Customers for whom no place was left.",
            "chosen": "Customers who are in it today.",
            "started": "Of these, who entered today.",
            "wanted": "Customers for whom it is the best that may be had, places aside.",
            "places": "Places for those who enter today; null = without limit.",
            "price": "What one more place is worth, in units of score.",
        },
        checks=dict.fromkeys(["queued", "carried", *RULINGS, "started", "wanted", "places"], _NEVER_NEGATIVE),
    )


def _segment_matrix(_: Portfolio) -> Table:
    return _table(
        "segment_matrix",
        ("segment_id",),
        MATRIX,
        nullable={"journey_id"},
        descriptions={
            "customers": "Customers in it today.",
            "entered": "Of these, who were not in it yesterday.",
            "left": "Customers of yesterday who are not in it today.",
            "served": "Customers who are in any journey today, control included.",
            "journey_id": "The journey most of these are in; null where nobody is in one.",
            "served_most": "Customers who are in that journey.",
        },
        checks=dict.fromkeys(["customers", "entered", "served", "served_most"], _NEVER_NEGATIVE),
    )


def _outbound_messages(_: Portfolio) -> Table:
    return _table(
        "outbound_messages",
        ("idempotency_key", "customer_id"),  # a key alone, unless somebody finds two texts with one SHA-256: key_collision
        MESSAGES,
        nullable={"variant", "withheld"},
        descriptions={
            "idempotency_key": "The same message has the same key forever.",
            "step_day": "Day of the journey the step is for, from 1.",
            "content": "What is sent, as the step names it.",
            "variant": "The content variant, if the step names one.",
            "send_at": "The customer's first best hour after the day, in UTC.",
            "withheld": "Why it is not sent; null = it is.",
        },
        checks={"step_day": _POSITIVE, "withheld": pa.Check.isin(messages.WITHHELD)},
    )


def _activation(_: Portfolio) -> Table:
    columns = {name: MESSAGES[name] for name in ("date", "idempotency_key", "customer_id", "journey_id", "channel")}
    return _table(
        "activation",
        ("idempotency_key", "customer_id"),
        columns | {"status": pl.String(), "reason": pl.String()},
        nullable={"reason"},
        descriptions={
            "idempotency_key": "The message.",
            "status": "would_send in a dry run; delivered; failed (certainly not arrived), unknown (perhaps), pending (another process "
            "sends it), not_tried (its channel was given up before its turn); withheld.",
            "reason": "Why it was not delivered, or is withheld; a receiver's words are cut.",
        },
        checks={"status": pa.Check.isin(["would_send", "delivered", "failed", "unknown", "pending", "not_tried", "withheld"])},
    )


_BUILDERS: tuple[Callable[[Portfolio], Table], ...] = (
    _raw_events,
    _rejected_events,
    _identity_map,
    _identity_changes,
    _customer_activity,
    _feature_coverage,
    _customer_profiles,
    _purchase_models,
    _micro_segment_memberships,
    _journey_queues,
    _scored_candidates,
    _journey_state,
    _journey_assignments,
    _journey_funnel,
    _segment_matrix,
    _outbound_messages,
    _activation,
)
