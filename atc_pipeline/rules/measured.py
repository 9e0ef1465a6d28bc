"""What is measured, as it is kept: in which columns ``customer_metrics`` has the metrics.

What belongs here: their names and types. What does not: filling them (``customers``), adding them up (``outcomes``).
"""

from collections.abc import Iterable

import polars as pl

from atc_pipeline.journeys.portfolio import Metric, Portfolio

LARGEST_DAY = 2**63 - 1
"""In micro-units: what a customer's day counts for at most, either way. It takes 93 events of the largest value to get there."""

SENT, MESSAGE_SENT = "sent:journeys", "Message Sent"
"""The column of the journeys that messages were sent for, and the event of ours that says so."""
SENT_TYPE = pl.List(pl.Struct({"journey_id": pl.String(), "n": pl.Int64()}))


def kept(portfolio: Portfolio) -> tuple[Metric, ...]:
    """Return the metrics that are kept by day: of the file, built in, and of goals."""
    return (*portfolio.measured, *portfolio.goal_metrics)


def number_of(metric: Metric) -> str:
    """Name the column of how many there were: of a count, of whether there is any, and of an average."""
    return f"{metric.id}.n"


def micro_of(metric: Metric) -> str:
    """Name the column of what they add up to, in micro-units: of a sum, and of an average."""
    return f"{metric.id}.micro"


def kept_columns(metrics: Iterable[Metric]) -> dict[str, pl.DataType]:
    """Return the columns and types that metrics are kept in by customer and day, 0 where nothing happened."""
    columns: dict[str, pl.DataType] = {}
    for metric in metrics:
        if metric.kind != "sum":
            columns[number_of(metric)] = pl.Int64()
        if metric.kind in ("sum", "avg"):
            columns[micro_of(metric)] = pl.Int64()
    return columns
