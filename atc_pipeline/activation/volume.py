"""How many messages are too many: a day's count by channel against what its last days had (SPEC 9.6).

What belongs here: that comparison. What does not: what is done about it (``days.activation``).
"""

import polars as pl

DAYS = 14
"""The last days with messages on a channel that it is compared with."""
TIMES, MORE = 3, 1000
"""A channel is held with more than so many times their median, if it is so many more, too."""
LOOKED_BACK = 90
"""Days in which those days are looked for."""


def unusual(planned: pl.DataFrame, before: pl.LazyFrame | None) -> pl.DataFrame:
    """One row per channel with too many messages: ``channel``, ``messages``, ``median`` of the last days.

    ``planned``: the day's messages. ``before``: those of the days before it. A channel that never had any is compared with nothing.
    """
    counted = planned.filter(pl.col("withheld").is_null()).group_by("channel").len("messages").sort("channel")
    if before is None:
        return counted.with_columns(median=pl.lit(None, pl.Float64)).clear()
    daily = before.filter(pl.col("withheld").is_null()).group_by("channel", "date").len("messages")
    recent = daily.sort("date", descending=True).group_by("channel", maintain_order=True).head(DAYS)
    medians = recent.group_by("channel").agg(median=pl.col("messages").median()).collect()
    is_unusual = (pl.col("messages") > TIMES * pl.col("median")) & (pl.col("messages") > pl.col("median") + MORE)
    return counted.join(medians, on="channel", how="inner").filter(is_unusual).sort("channel")
