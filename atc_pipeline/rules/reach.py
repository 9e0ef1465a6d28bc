"""Reach: on which channels a customer may be written to, and on which days nothing starts and nothing is sent (SPEC 7).

What belongs here: consent, and blackouts. What does not: what follows from them (``decision``, ``activation``).
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from atc_pipeline.journeys.portfolio import Channel, Journey, Period, Policy


def is_usable(channel: Channel) -> pl.Expr:
    """True where the customer may be reached on the channel: said yes, or did not say no where that is enough (SPEC 7)."""
    consent = pl.col(f"consent_{channel.id}")
    match channel.consent:
        case "opt_in":
            return consent.fill_null(value=False)
        case "opt_out":
            return consent.fill_null(value=True)
        case "none":
            return pl.lit(value=True)


def blackouts(policy: Policy, journey: Journey, first: date, last: date) -> Sequence[Period]:
    """Return the periods without starts and messages that touch the days from ``first`` to ``last``: the policy's, then the journey's."""
    return [period for period in (*policy.suppress, *journey.suppress) if period.first <= last and first <= period.last]
