"""What is remembered about a customer so that no day rereads history: the accumulators that a portfolio needs.

``activity`` fills them per customer and event date, ``profiles`` merges them into the running state and into windows.

What belongs here: which accumulators there are, and where each is kept. What does not: how they merge (``accumulators``), which
ones a trait needs (``traits``), what each feature of a profile is defined by (``features``), and reading events (``activity``).
"""

from functools import lru_cache

import polars as pl

from atc_pipeline.customers import addresses
from atc_pipeline.customers.accumulators import Accumulator, sum_of
from atc_pipeline.customers.traits import of_trait
from atc_pipeline.journeys.portfolio import Portfolio

QUARTER_HOUR = 900
"""Seconds: every time zone's offset is a whole number of these, so that an hour anywhere can be told later."""
HOURS = "hours"
"""When a customer's events happened: quarters of an hour since 1970, tallied; the running state keeps 24 counts of local hours."""
PURCHASE_DAYS, SETTLED = "predictions.days", "predictions.settled"
"""Recent days with an order; the number of older ones, in the running state only."""
VALUED_DAYS, SETTLED_VALUED = "predictions.valued_days", "predictions.settled_valued"
"""The same for days on which something of value was ordered."""
PURCHASES_WITHIN_DAYS = 90
"""An order that arrives later than that counts as on a day of its own."""
HOURS_WITHIN_DAYS = 90
"""Days that ``best_hour`` looks back (SPEC 3)."""


@lru_cache(maxsize=8)
def of_profiles(portfolio: Portfolio) -> tuple[Accumulator, ...]:
    """Return what profiles are made from, but for the hours."""
    return (
        Accumulator("timezone", "latest", pl.String()),
        *(Accumulator(f"consent_{channel.id}", "consent", pl.Boolean()) for channel in portfolio.channels),
        *addresses.bounces(portfolio).values(),
        *interests(portfolio),
        *(Accumulator(f"intent_{intent.id}", "decay", pl.Int64(), intent.half_life_days) for intent in portfolio.intents),
        *engagement(portfolio),
        *responses_by_channel(portfolio).values(),
        *purchases(portfolio),
        *(part for trait in portfolio.traits for part in of_trait(trait)),
    )


@lru_cache(maxsize=8)
def carried(portfolio: Portfolio) -> tuple[Accumulator, ...]:
    """Return the accumulators of the running state: everything without a window, the windows that slide, and ``fading_days``."""
    return (*(accumulator for accumulator in of_profiles(portfolio) if not accumulator.is_reread), *fading_days(portfolio))


def reread(portfolio: Portfolio) -> list[Accumulator]:
    """Return the accumulators of the windows that are merged anew every day."""
    return [accumulator for accumulator in of_profiles(portfolio) if accumulator.is_reread]


def interests(portfolio: Portfolio) -> list[Accumulator]:
    """Return the decayed signals of each topic: shares of one total, whenever that was last added to."""
    half_life = portfolio.interest_half_life_days
    return [Accumulator(f"interest_{topic.id}", "decay", pl.Int64(), half_life, on="interests.on") for topic in portfolio.topics]


def fading_days(portfolio: Portfolio) -> list[Accumulator]:
    """Return the days that decayed sums of the state are as of: in the running state only."""
    days = dict.fromkeys(accumulator.on for accumulator in of_profiles(portfolio) if accumulator.on is not None)
    return [Accumulator(day, "greatest", pl.Date()) for day in days]


def engagement(portfolio: Portfolio) -> list[Accumulator]:
    """Return decayed touches and decayed responses, if the portfolio defines engagement."""
    if portfolio.engagement is None:
        return []
    half_life = portfolio.engagement.half_life_days
    sides = ("engagement.touches", "engagement.responses")
    return [Accumulator(side, "decay", pl.Int64(), half_life, on=f"{side}.on") for side in sides]


def responses_by_channel(portfolio: Portfolio) -> dict[str, Accumulator]:
    """Return the decayed responses on each channel, by channel in alphabetical order."""
    if portfolio.engagement is None:
        return {}
    half_life = portfolio.engagement.half_life_days
    channels = sorted(channel.id for channel in portfolio.channels)
    on = "engagement.responses.on"
    return {channel: Accumulator(f"engagement.on.{channel}", "decay", pl.Int64(), half_life, on=on) for channel in channels}


def purchases(portfolio: Portfolio) -> list[Accumulator]:
    """Return what purchases are predicted from: first and last day of the orders, the days with an order, and their value.

    All orders of a day are one transaction, as the models want it: a second one after no time at all would mean an infinite
    rate. Days are told apart for PURCHASES_WITHIN_DAYS, then only counted (``SETTLED``), so that the state does not grow.
    """
    if portfolio.predictions is None:
        return []
    return [
        Accumulator("predictions.first_on", "least", pl.Date()),
        Accumulator("predictions.last_on", "greatest", pl.Date()),
        *sum_of("predictions.value"),
        Accumulator(PURCHASE_DAYS, "tally", pl.Date(), within_days=PURCHASES_WITHIN_DAYS),
        Accumulator(VALUED_DAYS, "tally", pl.Date(), within_days=PURCHASES_WITHIN_DAYS),
    ]


def goals(portfolio: Portfolio) -> list[Accumulator]:
    """Return one count per event that is some journey's goal."""
    events = sorted({journey.goal.event for journey in portfolio.journeys if journey.goal})
    return [Accumulator(goal_column(event), "add", pl.Int64()) for event in events]


def goal_column(event: str) -> str:
    """Name the rollup's count of a goal event."""
    return f"goal.{event}"


@lru_cache(maxsize=8)
def in_rollup(portfolio: Portfolio) -> tuple[Accumulator, ...]:
    """Return the accumulators of ``customer_activity``."""
    return (
        Accumulator("events", "add", pl.Int64()),
        Accumulator(HOURS, "tally", pl.Int64()),
        *of_profiles(portfolio),
        *addresses.said(portfolio).values(),
        *goals(portfolio),
    )


def rollup_schema(portfolio: Portfolio) -> dict[str, pl.DataType]:
    """Columns and types of ``customer_activity``."""
    keys = {"date": pl.Date(), "customer_id": pl.String(), "event_date": pl.Date()}
    return keys | {name: dtype for accumulator in in_rollup(portfolio) for name, dtype in accumulator.columns().items()}
