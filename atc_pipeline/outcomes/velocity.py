"""How long it takes: the share that has not got there by a day, where some are looked at before they could (SPEC 13).

E. L. Kaplan, P. Meier: Nonparametric estimation from incomplete observations. JASA 53 (1958), 457-481.

What belongs here: curves, and the days at which they pass a share. What does not: whose days these are (``outcomes.paths``).
"""

from collections.abc import Mapping, Sequence

import polars as pl

QUARTILES: Mapping[str, float] = {"lower_days": 0.75, "median_days": 0.5, "upper_days": 0.25}
"""A quarter, half, three quarters have got there: the share that has not."""

_NEARLY = 1e-12
"""Products of quotients are some bits off: a curve that comes down to one half is there."""


def curves(days: pl.DataFrame, by: Sequence[str] = ()) -> pl.DataFrame:
    """One row per group and number of days on which somebody got there: ``at_risk``, ``converted`` and ``survival`` after it.

    ``days``: ``converted`` and ``left`` by ``days``; whoever is left at a day was still looked at on it.
    """
    counted = days.group_by(*by, "days").agg(pl.col("converted", "left").sum()).sort(*by, "days").with_columns(of=pl.lit(0))
    of = list(by) or ["of"]
    gone = pl.col("converted") + pl.col("left")
    stays = (pl.col("at_risk") - pl.col("converted")) / pl.col("at_risk")
    return (
        counted.with_columns(at_risk=gone.cum_sum(reverse=True).over(of))
        .with_columns(survival=stays.cum_prod().over(of))
        .filter(pl.col("converted") > 0)
        .select(*by, "days", "at_risk", "converted", "survival")
    )


def quartiles(days: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """One row per group: after how many days a quarter, half and three quarters got there; null: not reached."""
    reached = (
        curves(days, by)
        .group_by(*by)
        .agg(
            pl.col("days").filter(pl.col("survival") <= share + _NEARLY).min().cast(pl.Float64).alias(name)
            for name, share in QUARTILES.items()
        )
    )
    return days.select(by).unique().join(reached, on=list(by), how="left").sort(by)
