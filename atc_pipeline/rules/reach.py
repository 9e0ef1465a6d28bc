"""Named rules, each one expression: who a customer is, how options are ordered, which bucket a customer falls into.

What belongs here: rules that more than one stage needs, or that a reader looks up by name. What does not: I/O.
"""

import polars as pl

from atc_pipeline.journeys.portfolio import Channel


def is_usable(channel: Channel) -> pl.Expr:
    """True where the customer may be reached on the channel: said yes, or did not say no where that is enough (SPEC 7)."""
    consent = pl.col(f"consent_{channel.id}")
    match channel.consent:
        case "opt_in":
            return consent.fill_null(value=False)
        case "opt_out":
            return consent.fill_null(value=True)
        case _:
            return pl.lit(value=True)
