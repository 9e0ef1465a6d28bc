"""Reach: on which channels a customer may be written to, and on which days nothing starts and nothing is sent (SPEC 7).

What belongs here: consent and addresses, and blackouts. What does not: what follows from them (``decision``, ``activation``).
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from atc_pipeline.journeys.portfolio import Channel, Journey, Period, Policy


def is_usable(channel: Channel) -> pl.Expr:
    """True where the customer may be written to on the channel, and can be: nothing of ``obstacles`` holds (SPEC 7)."""
    return ~pl.any_horizontal(obstacle for _, obstacle in obstacles(channel))


def obstacles(channel: Channel) -> Sequence[tuple[str, pl.Expr]]:
    """Why a customer cannot be reached on a channel, in the order tested: the reason, and for whom it holds (SPEC 9.2)."""
    consent = pl.col(f"consent_{channel.id}")
    match channel.consent:
        case "opt_in":
            reasons = [("no_consent", ~consent.fill_null(value=False))]
        case "opt_out":
            reasons = [("no_consent", ~consent.fill_null(value=True))]
        case "none":
            reasons = [("no_consent", pl.lit(value=False))]
    if channel.to is not None:
        reasons += [
            ("no_address", pl.col(channel.to).is_null() | (pl.col(channel.to).str.strip_chars() == "")),
            ("bounced", pl.col(f"bounced_{channel.id}").fill_null(value=False)),
        ]
    return reasons


def columns(channel: Channel) -> set[str]:
    """Name the profile's columns that say whether a customer can be reached on a channel."""
    return {name for _, obstacle in obstacles(channel) for name in obstacle.meta.root_names()}


def blackouts(policy: Policy, journey: Journey, first: date, last: date) -> Sequence[Period]:
    """Return the periods without starts and messages that touch the days from ``first`` to ``last``: the policy's, then the journey's."""
    return [period for period in (*policy.suppress, *journey.suppress) if period.first <= last and first <= period.last]
