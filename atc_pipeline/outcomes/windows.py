"""Windows: what metrics add up to for a customer in a stretch of days.

What belongs here: adding up. What does not: which stretch belongs to what (``maturing``), or keeping metrics by day
(``customers.metrics``).
"""

from collections.abc import Sequence

import polars as pl

from atc_pipeline.journeys.portfolio import Metric
from atc_pipeline.outcomes.tables import columns_of
from atc_pipeline.rules.measured import kept_columns, micro_of, number_of
from atc_pipeline.rules.numbers import MICRO, quotient


def sums_in(metrics: pl.LazyFrame, spans: pl.LazyFrame, measured: Sequence[Metric]) -> pl.LazyFrame:
    """One row per ``row`` of the spans, in order: each metric's sum over its days (``columns_of``), 0 where nothing happened.

    ``metrics``: rows of ``customer_metrics``, of customers as they are known by now; a day may have several. ``spans``: the number ``row``,
    ``customer_id``, ``after``: a date, not in it; ``until``: the last date in it; a row may have several.
    Whole numbers are added up: no order of rows matters.
    """
    kept = list(kept_columns(measured))
    within = (
        metrics.select("customer_id", "event_date", *kept)
        .join(spans.select("row", "customer_id", "after", "until"), on="customer_id", how="inner")
        .filter(pl.col("event_date") > pl.col("after"), pl.col("event_date") <= pl.col("until"))
    )
    sums = within.group_by("row").agg(pl.col(name).cast(pl.Int128).sum() for name in kept)
    whole = spans.select("row").unique().join(sums, on="row", how="left").sort("row").with_columns(pl.col(kept).fill_null(0))
    return whole.select("row", *(value for metric in measured for value in _values(metric)))


def _values(metric: Metric) -> list[pl.Expr]:
    number, money = pl.col(number_of(metric)), quotient(pl.col(micro_of(metric)).cast(pl.Float64), MICRO)
    values = {
        "count": [number],
        "any": [number > 0],
        "sum": [money],
        "avg": [money, number],
    }[metric.kind]
    return [value.cast(pl.Float64).alias(name) for name, value in zip(columns_of(metric), values, strict=True)]
