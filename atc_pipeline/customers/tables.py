"""Tables of customers. Some have columns for what journeys.yaml defines, so they are said for a portfolio.

What belongs here: what the tables are. What does not: how rows come about (``activity``, ``metrics``, ``profiles`` and
the other modules of the room).
"""

from collections.abc import Iterator, Mapping

import polars as pl

from atc_pipeline.customers.accumulators import Accumulator, Merge
from atc_pipeline.customers.profiles import STATE, built_in, state_schema
from atc_pipeline.customers.remembered import HOURS, in_rollup
from atc_pipeline.escaping import markdown
from atc_pipeline.journeys.kinds import KINDS
from atc_pipeline.journeys.portfolio import Metric, Portfolio, Trait
from atc_pipeline.rules.measured import SENT, SENT_TYPE, kept, kept_columns, number_of
from atc_pipeline.tables.table import CUSTOMER_ID, DATE, SEGMENT_ID, Column, Entry, Table


def customer_activity(portfolio: Portfolio) -> Table:
    """What the portfolio asks for of the events of a day."""
    return Table(
        "customer_activity",
        "One row per customer and event date, of what arrived on the day: the rollup that keeps the daily cost flat.",
        key=("customer_id", "event_date"),
        columns=(
            DATE,
            CUSTOMER_ID,
            Column("event_date", pl.Date(), "The day the events happened; they arrived on `date`."),
            *(column for accumulator in in_rollup(portfolio) for column in _remembered(accumulator)),
        ),
    )


def _remembered(accumulator: Accumulator) -> Iterator[Column]:
    """What is kept of a quantity; null where no event of the day says anything of it."""
    if accumulator.name == "events":
        yield Column("events", pl.Int64(), "Events of that day that are not ours.", at_least=0)
        return
    meanings = _PARTS[accumulator.merge]
    for name, dtype in accumulator.columns().items():
        part = name.rpartition(".")[2]
        yield Column(name, dtype, meanings.get(part, meanings[""]), is_nullable=True)


_WORD = {"at": "When that was said.", "id": "The message that says so."}
_PARTS: Mapping[Merge, Mapping[str, str]] = {
    "add": {"high": "Sum of the values: so many times 2^28 micro-units, and `.low`.", "low": "See `.high`.", "": "How many of that day."},
    "least": {"least": "The least value of that day, in micro-units.", "": "The first such day."},
    "greatest": {
        "greatest": "The greatest value of that day, in micro-units.",
        "at": "The last hard bounce of that day.",
        "said": "When the last address of that day was first said.",
        "": "The last such day.",
    },
    "earliest": _WORD | {"": "What was said first on that day."},
    "latest": _WORD | {"": "What was said last on that day."},
    "decay": {"": "Weights of that day's signals, in micro-units, nothing of them faded yet."},
    "tally": {
        HOURS: "When events happened: quarters of an hour since 1970, each with its number of events.",
        "": "The different values of that day, sorted, each with its number.",
    },
    "consent": {
        "withdrawn": "The latest withdrawal by its own time.",
        "withdrawn_arrived": "The latest withdrawal by arrival, as a number.",
        "": "Grants that no withdrawal undoes, with their own time and arrival.",
    },
}
"""What the columns of an accumulator mean, by how it merges and by the part of it that a column's name ends in."""


def customer_metrics(portfolio: Portfolio) -> Table:
    """What is measured of the events of a day."""
    return Table(
        "customer_metrics",
        "One row per customer and event date on which something measured happened, of what arrived on the day.",
        key=("customer_id", "event_date"),
        columns=(
            DATE,
            CUSTOMER_ID,
            Column("event_date", pl.Date(), "The day the events happened; they arrived on `date`."),
            *(column for metric in kept(portfolio) for column in _measured(metric)),
            Column(SENT, SENT_TYPE, "Messages sent that day, by the journey they were for: what `Message Sent` says."),
        ),
    )


def _measured(metric: Metric) -> Iterator[Column]:
    name = markdown(metric.id)
    for column, dtype in kept_columns([metric]).items():
        if column == number_of(metric):
            yield Column(column, dtype, f"{name}: how many of that day.", at_least=0)
        else:
            yield Column(column, dtype, f"{name}: what they add up to, in micro-units.")


FEATURE_COVERAGE = Table(
    "feature_coverage",
    "One row per trait or signal and event it names: how many matched that day, and how many values were skipped.",
    key=("feature", "part", "event"),
    columns=(
        DATE,
        Column("feature", pl.String(), "A trait, interest, intent, side of the engagement, prediction, goal, or consent."),
        Column("part", pl.Int64(), "Which signal of an interest or intent, from 1.", at_least=1),
        Column("event", pl.String(), "An event that it names; * = any."),
        Column("events", pl.Int64(), "Events of that name that arrived on `date`.", at_least=0),
        Column("matched", pl.Int64(), "Events or items that the part as a whole matched.", at_least=0),
        Column("read", pl.Int64(), "Values of them that were read.", at_least=0),
        Column("skipped", pl.Int64(), "Values that could not be read.", at_least=0),
        # What it looks like is no value: that may name somebody.
        Column("sample", pl.String(), "What one of these looks like.", is_nullable=True),
        Column("sample_message_id", pl.String(), "The event it is in.", is_nullable=True),
    ),
)


def customer_profiles(portfolio: Portfolio) -> Table:
    """What is known of each customer: what is built in, then the portfolio's traits."""
    return Table(
        "customer_profiles",
        "One row per customer per day: the system of record of traits, interests, intents, consent and predictions.",
        key=("customer_id",),
        columns=(
            DATE,
            CUSTOMER_ID,
            *(
                Column(name, column.dtype, column.meaning, is_nullable=column.is_nullable, at_least=column.at_least, at_most=column.at_most)
                for name, column in built_in(portfolio).items()
            ),
            *(_trait(trait) for trait in portfolio.traits),
            Column(
                STATE,
                pl.Struct(state_schema(portfolio)),
                "What tomorrow's profile is computed from: sums, counts, first and last words.",
            ),
        ),
    )


def _trait(trait: Trait) -> Column:
    kind = KINDS[trait.kind]
    return Column(trait.id, trait.dtype, _about(trait), is_nullable=kind.is_nullable, at_least=kind.at_least, at_most=kind.at_most)


def _about(trait: Trait) -> str:
    """Say how a trait is defined."""
    of = ", ".join(trait.selector.events) or "any event" if trait.selector else ""
    words = [trait.kind.replace("_", " "), trait.property or "", f"of {of}" if of else ""]
    words += [f"within {trait.within_days} days"] if trait.within_days else []
    words += [f"where {trait.selector.where.text}"] if trait.selector and trait.selector.where else []
    return markdown(" ".join(word for word in words if word))


PURCHASE_MODELS = Table(
    "purchase_models",
    "One row per day: the purchase models in use, fitted on the profiles of the day before or earlier.",
    key=(),
    columns=(
        DATE,
        Column("fitted_on", pl.Date(), "Last day of the data that BG/NBD was fitted on; null before the first fit.", is_nullable=True),
        Column("r", pl.Float64(), "BG/NBD: rates of ordering are Gamma(r, alpha) a day.", is_nullable=True),
        Column("alpha", pl.Float64(), "BG/NBD: rates of ordering are Gamma(r, alpha) a day.", is_nullable=True),
        Column("a", pl.Float64(), "BG/NBD: probabilities of leaving after an order are Beta(a, b).", is_nullable=True),
        Column("b", pl.Float64(), "BG/NBD: probabilities of leaving after an order are Beta(a, b).", is_nullable=True),
        Column("customers", pl.Int64(), "Customers with an order.", is_nullable=True),
        Column("repeat_customers", pl.Int64(), "Customers with orders on more than one day.", is_nullable=True),
        Column("log_likelihood", pl.Float64(), "BG/NBD: logarithm of the likelihood of what was observed.", is_nullable=True),
        Column("value_fitted_on", pl.Date(), "Last day of the data that Gamma-Gamma was fitted on.", is_nullable=True),
        Column("p", pl.Float64(), "Gamma-Gamma: values of orders are Gamma(p, nu), nu is Gamma(q, v).", is_nullable=True),
        Column("q", pl.Float64(), "Gamma-Gamma: values of orders are Gamma(p, nu), nu is Gamma(q, v).", is_nullable=True),
        Column("v", pl.Float64(), "Gamma-Gamma: values of orders are Gamma(p, nu), nu is Gamma(q, v).", is_nullable=True),
        Column(
            "value_bound",
            pl.Float64(),
            "What a customer's mean day with a value counts for at most: 1,000 times the median.",
            is_nullable=True,
        ),
        Column("bounded_customers", pl.Int64(), "Customers for whom it would have been more.", is_nullable=True),
        Column("valued_customers", pl.Int64(), "Customers with a value that Gamma-Gamma was fitted on.", is_nullable=True),
        Column("value_log_likelihood", pl.Float64(), "Gamma-Gamma: logarithm of the likelihood of what was observed.", is_nullable=True),
        Column("is_refitted", pl.Boolean(), "Whether a model is a new fit today."),
        Column("note", pl.String(), "Why the last fit was kept, or why there is none.", is_nullable=True),
    ),
)

MICRO_SEGMENT_MEMBERSHIPS = Table(
    "micro_segment_memberships",
    "One row per micro-segment and customer per day; everyone is always in at least one.",
    key=("segment_id", "customer_id"),
    columns=(
        DATE,
        SEGMENT_ID,
        CUSTOMER_ID,
        Column("member_since", pl.Date(), "First day of the unbroken spell."),
    ),
)

TABLES: tuple[Entry, ...] = (
    customer_activity, FEATURE_COVERAGE, customer_metrics, customer_profiles, PURCHASE_MODELS, MICRO_SEGMENT_MEMBERSHIPS,
)  # fmt: skip
