"""Metrics by customer and day: what is measured of a day's events, so that no outcome rereads them (SPEC 10).

What belongs here: taking it out of the events of one arrival day, and what each metric is defined by. What does not: adding days up
(``outcomes``), or reading properties (``activity``), which this has done.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import polars as pl

from atc_pipeline.customers import features
from atc_pipeline.customers.accumulators import LOW_BITS
from atc_pipeline.customers.activity import roll_up
from atc_pipeline.journeys.portfolio import Metric, Portfolio, Selector, Trait
from atc_pipeline.rules.measured import LARGEST_DAY, MESSAGE_SENT, SENT, SENT_TYPE, kept, kept_columns, micro_of, number_of

_SENT = Trait(SENT, "most_frequent", pl.String(), "journey_id", Selector((MESSAGE_SENT,)))
"""Its tally is what is kept: the journeys that messages were sent for, each with their number."""


def measure(
    events: pl.LazyFrame, portfolio: Portfolio, *, arrival: date, absorbed: pl.LazyFrame | None = None, known: pl.LazyFrame | None = None
) -> pl.DataFrame:
    """One row per customer and event date on which something measured happened, of what arrived on the day: ``customer_metrics``.

    Arguments as of ``activity.roll_up``. Numbers are 0 where nothing of a metric happened.
    """
    counted = kept(portfolio)
    rolled = roll_up(_asked_for(events, counted), _only(portfolio, counted), arrival=arrival, absorbed=absorbed, known=known).activity
    columns = kept_columns(counted)
    happened = pl.any_horizontal(pl.lit(value=False), pl.col(SENT).list.len() > 0, *(pl.col(name) != 0 for name in columns))
    return (
        rolled.lazy()
        .select(
            "date", "customer_id", "event_date", *(_value(metric, name) for metric in counted for name in kept_columns([metric])), _sent()
        )
        .filter(happened)
        .collect()
    )


def definitions(portfolio: Portfolio, metrics: Sequence[Metric]) -> dict[str, str]:
    """Return what each of the metrics is defined by, and the calendar, as short fingerprints (``features.definitions``)."""
    return features.definitions(_only(portfolio, metrics))


def _only(portfolio: Portfolio, metrics: Sequence[Metric]) -> Portfolio:
    """Return the portfolio as if it defined nothing but these metrics, as traits."""
    traits = (*(metric.trait for metric in metrics), _SENT)
    return replace(
        portfolio,
        channels=(),
        topics=(),
        intents=(),
        engagement=None,
        predictions=None,
        journeys=(),
        segments=(),
        audiences=(),
        traits=traits,
    )


def _asked_for(events: pl.LazyFrame, metrics: Sequence[Metric]) -> pl.LazyFrame:
    """Leave out events that no metric names; none where a metric means every event."""
    named = [metric.selector.events for metric in metrics]
    if not all(named):
        return events
    return events.filter(pl.col("event").is_in(sorted({MESSAGE_SENT, *(event for events in named for event in events)})))


def _value(metric: Metric, name: str) -> pl.Expr:
    if name == number_of(metric):
        return pl.col(name).fill_null(0)
    assert name == micro_of(metric)
    high, low = (pl.col(f"{metric.id}.{part}").fill_null(0).cast(pl.Int128) for part in ("high", "low"))
    micro: pl.Expr = (high * 2**LOW_BITS + low).clip(-LARGEST_DAY, LARGEST_DAY).cast(pl.Int64).alias(name)
    return micro


def _sent() -> pl.Expr:
    tally = pl.col(f"{SENT}.tally").fill_null(pl.lit([], dtype=pl.List(pl.Struct({"value": pl.String(), "n": pl.Int64()}))))
    renamed: pl.Expr = tally.list.eval(pl.element().struct.rename_fields(["journey_id", "n"])).cast(SENT_TYPE).alias(SENT)
    return renamed
