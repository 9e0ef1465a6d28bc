"""Money since the entry: what customers of either arm had spent so many days after it, for the curves of a report.

What belongs here: adding up day by day. What does not: estimates, which stand on whole windows (``estimate``).
"""

import numpy as np
import polars as pl

SPANS = pl.Schema(
    {
        "row": pl.UInt32(),
        "customer_id": pl.String(),
        "journey_id": pl.String(),
        "arm": pl.String(),
        "entered_on": pl.Date(),
        "window_days": pl.Int64(),
        "counted_until": pl.Date(),
    }
)
"""One row per entry and name of its customer: what arrived after ``counted_until`` does not count."""


def cumulate(spans: pl.DataFrame, money: pl.LazyFrame) -> pl.DataFrame:
    """One row per journey, arm and day after the entry: ``customers``, their ``mean`` money up to then, and its ``std_error``.

    ``money``: ``date`` (of arrival), ``customer_id``, ``event_date``, ``micro``. Of entries with shorter windows than the journey's latest
    has, none count. Sums are made in the order of rows' numbers: no order of what comes in matters.
    """
    entries = spans.unique("row").sort("row")
    latest = entries.sort("entered_on", "row").group_by("journey_id").agg(length=pl.col("window_days").last())
    entries = entries.join(latest, on="journey_id").filter(pl.col("window_days") >= pl.col("length")).sort("row")
    groups = entries.group_by("journey_id", "arm", "length").agg(customers=pl.len().cast(pl.Int64)).sort("journey_id", "arm")
    if groups.is_empty():
        return _none()
    groups = groups.with_row_index("group")
    longest = int(groups["length"].to_numpy().max())
    numbered = entries.join(groups.select("journey_id", "arm", "group"), on=["journey_id", "arm"])
    after = (pl.col("event_date") - pl.col("entered_on")).dt.total_days()
    spent = (
        money.join(
            spans.lazy().select("row", "customer_id", "entered_on", "counted_until"),
            on="customer_id",
            how="inner",
        )
        .filter(pl.col("date") <= pl.col("counted_until"), after > 0)
        .group_by("row", after.alias("days"))
        .agg(pl.col("micro").sum())
        .join(numbered.lazy().select("row", "group", "length"), on="row", how="inner")
        .filter(pl.col("days") <= pl.col("length"))
        .sort("row", "days")
        .with_columns(so_far=pl.col("micro").cum_sum().over("row"))
        .with_columns(before=pl.col("so_far") - pl.col("micro"))
        .collect()
    )
    place = spent["group"].to_numpy().astype(np.int64) * (longest + 1) + spent["days"].to_numpy()
    so_far, before = (spent[name].to_numpy() / 1_000_000 for name in ("so_far", "before"))
    size = groups.height * (longest + 1)
    sums, squares = (
        np.bincount(place, weights=weights, minlength=size).reshape(groups.height, longest + 1).cumsum(axis=1)
        for weights in (so_far - before, so_far**2 - before**2)
    )
    numbers = groups["customers"].to_numpy()[:, None]
    mean = sums / numbers
    variance = np.maximum(squares - numbers * mean**2, 0) / np.maximum(numbers - 1, 1)
    table = pl.DataFrame(
        {
            "group": np.repeat(groups["group"].to_numpy(), longest + 1),
            "days": np.tile(np.arange(longest + 1, dtype=np.int64), groups.height),
            "mean": mean.ravel(),
            "std_error": np.sqrt(variance / numbers).ravel(),
        },
        schema_overrides={"group": pl.UInt32},
    )
    return (
        groups.join(table, on="group")
        .filter((pl.col("days") > 0) & (pl.col("days") <= pl.col("length")))
        .select(*_none().columns)
        .sort("journey_id", "arm", "days")
    )


def _none() -> pl.DataFrame:
    schema = {"journey_id": pl.String(), "arm": pl.String(), "days": pl.Int64(), "customers": pl.Int64()}
    return pl.DataFrame(schema=schema | {"mean": pl.Float64(), "std_error": pl.Float64()})
