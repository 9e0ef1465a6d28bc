"""Comparing arms: from customers to exact sums, and from sums to estimates, of all metrics and comparisons at once.

Sums are of whole micro-units, in 128 bits, and leave Polars as whole numbers of Python: no estimate depends on the order of rows, or on
how they were divided.

What belongs here: adding up, and the columns of an estimate. What does not: who counts and what is compared (``uplift``), the arithmetic
(``estimate``).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import polars.selectors as cs

from atc_pipeline.journeys.portfolio import Metric
from atc_pipeline.outcomes import estimate
from atc_pipeline.outcomes.estimate import Difference, Exact, Moments, Numbers, Places, Ratio, Sums
from atc_pipeline.outcomes.tables import columns_of
from atc_pipeline.rules.numbers import MICRO

LARGEST = 1e10
"""A customer's sum beyond it counts as it: squares of micro-units are added up in 128 bits, which hold a million such customers."""
LARGEST_COUNT = 1e6
"""So does a count: squares are added up in 64 bits, which hold nine million such customers."""
FEWEST = 2
"""Customers that an arm needs to have a variance."""

COMPARISON = ("metric", "journey_id", "slice")
STRATUM = ("holdout", "holdout_version")
"""Customers are only compared with those of whom the same share was held out, by the same lots (SPEC 11)."""
IS_TREATED = "is_treated"
VALUES = ("y", "x", "p", "q")
"""What is known of a customer, in whole units: the outcome and the same before; of a ratio also what each is divided by."""
PRODUCTS = tuple(a + b for number, a in enumerate(VALUES) for b in VALUES[number:])
NUMBERS: Mapping[str, pl.DataType] = dict.fromkeys(("n", "nonzero"), pl.Int64()) | dict.fromkeys((*VALUES, *PRODUCTS), pl.Int128())
"""Of each metric: ``n`` customers of whom it is known, and of whom it is not 0, sums of their values and of products of these."""
STRETCH = (pl.col("from_on").min(), pl.col("to_on").max())
"""The days of entry of several groups together."""


@dataclass(frozen=True)
class Asked:
    """A metric as it is read: columns of y and, of a ratio, of what y is divided by (p); the same before (x, q), where there is that.

    ``is_counted``: its values are whole numbers.
    """

    id: str
    y: str
    x: str | None = None
    p: str | None = None
    q: str | None = None
    is_counted: bool = False

    @property
    def unit(self) -> int:
        """Return how many units of its sums one of its values is."""
        return 1 if self.is_counted else MICRO

    @property
    def values(self) -> dict[str, str]:
        """Name the column of each of its values."""
        columns = {"y": self.y, "x": self.x, "p": self.p, "q": self.q}
        return {name: column for name, column in columns.items() if column is not None}


def asked(metric: Metric) -> Asked:
    """Say how a metric of the file is read."""
    y, *p = columns_of(metric)
    if p:
        return Asked(metric.id, y, f"{y}_before", p[0], f"{p[0]}_before")
    return Asked(metric.id, y, f"{y}_before", is_counted=metric.kind in ("count", "any"))


def add_up(rows: pl.LazyFrame, by: Sequence[str], metrics: Sequence[Asked], *more: pl.Expr) -> pl.DataFrame:
    """One row per group and ``metric``: of its ``NUMBERS`` those that any of the metrics has; and from when to when the group entered."""
    names = [name for name in (*VALUES, *PRODUCTS) if any(set(name) <= set(metric.values) for metric in metrics)]
    numbers: dict[str, pl.Expr] = {}
    sums = []
    for place, metric in enumerate(metrics):
        y = _whole(metric, metric.y)
        numbers |= {
            f"{value}:{place}": y if value == "y" else pl.when(y.is_not_null()).then(_whole(metric, column))
            for value, column in metric.values.items()
        }
        wide = pl.Int64() if metric.is_counted else pl.Int128()
        y, read = pl.col(f"y:{place}"), {value: pl.col(f"{value}:{place}").cast(wide) for value in metric.values}
        known = (y.count().cast(pl.Int64).alias("n"), (y != 0).sum().cast(pl.Int64).alias("nonzero"))
        added = (_sum(name, read).cast(pl.Int128).alias(name) for name in names)
        sums.append(pl.struct(pl.lit(metric.id).alias("metric"), *known, *added).alias(f":{place}"))
    days = (pl.col("entered_on").min().alias("from_on"), pl.col("entered_on").max().alias("to_on"))
    groups = rows.with_columns(**numbers).group_by(*by).agg(*sums, *days, *more)
    return groups.unpivot(cs.starts_with(":"), index=~cs.starts_with(":"), value_name=":").drop("variable").unnest(":").collect()


def _sum(name: str, values: Mapping[str, pl.Expr]) -> pl.Expr:
    """Add up a value, or products of two; 0 where a metric does not have it."""
    if not set(name) <= values.keys():
        return pl.lit(0)
    first, *second = (values[value] for value in name)
    return math.prod(second, start=first).sum()


def _whole(metric: Asked, column: str) -> pl.Expr:
    """Return a value in whole units; null, which adds up to nothing, where there is none."""
    most = LARGEST_COUNT if metric.is_counted else LARGEST
    number = pl.col(column).cast(pl.Float64).clip(-most, most)
    return (number if metric.is_counted else number * MICRO).round().cast(pl.Int64)


def again(sums: pl.DataFrame, by: Sequence[str], *more: pl.Expr) -> pl.DataFrame:
    """Add sums up once more, by less."""
    return sums.group_by(*by, "metric").agg(cs.by_name(*NUMBERS, require_all=False).sum(), *STRETCH, *more)


def compare(sums: pl.DataFrame, metrics: Sequence[Asked], expected: float) -> pl.DataFrame:
    """One row per comparison (``COMPARISON``): counts and means of both arms, and the estimate where both have somebody to show for it.

    ``sums``: ``NUMBERS``, one row per comparison, stratum and arm (``IS_TREATED``); null is 0. ``expected``: for how many customers the
    anytime interval is narrowest.
    """
    key = [*COMPARISON, *STRATUM]
    known = sums.lazy().filter(pl.col("n") > 0).select(*key, IS_TREATED, *NUMBERS)
    treated, control = (known.filter(pl.col(IS_TREATED) == arm).drop(IS_TREATED) for arm in (True, False))
    read = pl.LazyFrame(
        {"metric": [of.id for of in metrics], "unit": [of.unit for of in metrics], "is_ratio": [bool(of.p) for of in metrics]}
    )
    strata = (
        treated.join(control, on=key, how="full", coalesce=True, nulls_equal=True, suffix=":c")
        .with_columns(pl.exclude(key).fill_null(0))
        .join(read, on="metric")
        .sort(key)
        .collect()
    )
    counts = (
        strata.lazy()
        .group_by(*COMPARISON)
        .agg(
            treated=pl.col("n").sum(),
            control=pl.col("n:c").sum(),
            treated_nonzero=pl.col("nonzero").sum(),
            control_nonzero=pl.col("nonzero:c").sum(),
            plain_treated=_plain(""),
            plain_control=_plain(":c"),
        )
    )
    is_ratio, answered = pl.col("is_ratio"), (pl.col("p") != 0) & (pl.col("p:c") != 0)
    # Where nobody of an arm has answered there is no ratio.
    usable = strata.filter((pl.col("n") >= FEWEST) & (pl.col("n:c") >= FEWEST) & (~is_ratio | answered))
    estimates = pl.concat(
        [_estimates(usable.filter(~is_ratio), expected, is_ratio=False), _estimates(usable.filter(is_ratio), expected, is_ratio=True)]
    )
    return (
        counts.join(estimates.lazy(), on=COMPARISON, how="left")
        .with_columns(
            mean_treated=pl.coalesce("mean_treated", "plain_treated"),
            mean_control=pl.coalesce("mean_control", "plain_control"),
        )
        .drop("plain_treated", "plain_control")
        .collect()
    )


def _plain(arm: str) -> pl.Expr:
    """Return the mean of all strata of an arm as they are; null where there is nothing to divide by."""
    per = pl.when("is_ratio").then(f"p{arm}").otherwise(pl.col(f"n{arm}").cast(pl.Int128) * pl.col("unit")).sum().cast(pl.Float64)
    return pl.when(per != 0).then(pl.col(f"y{arm}").sum().cast(pl.Float64) / per)


def _estimates(strata: pl.DataFrame, expected: float, *, is_ratio: bool) -> pl.DataFrame:
    place = strata.select(pl.struct(*COMPARISON).rle_id()).to_series().to_numpy().astype(np.int64)
    treated, control = (_ratios if is_ratio else _values)(strata)
    adjusted = estimate.difference(treated, control, place)
    plain = estimate.difference(treated, control, place, is_adjusted=False)
    variance, customers, freedom = adjusted.variance, adjusted.customers, adjusted.freedom
    fixed, anytime = estimate.fixed_width(variance, freedom), estimate.anytime_width(variance, customers, expected)
    before = estimate.difference(_before(treated), _before(control), place, is_adjusted=False)
    before_p = estimate.p_fixed(before.effect, before.variance, before.freedom)
    has_before = np.bincount(place, weights=treated.xx + control.xx) > 0
    mean_treated, mean_control = _means(strata, place, adjusted) if is_ratio else (adjusted.treated, adjusted.control)
    relative, _ = estimate.relative(replace(adjusted, control=mean_control))
    columns = {
        "customers": customers,
        "freedom": freedom,
        "mean_treated": mean_treated,
        "mean_control": mean_control,
        "effect": adjusted.effect,
        "effect_unadjusted": plain.effect,
        "std_error": adjusted.error,
        "error_unadjusted": plain.error,
        "theta": adjusted.theta,
        "variance_left": adjusted.variance_left,
        "fixed_low": adjusted.effect - fixed,
        "fixed_high": adjusted.effect + fixed,
        "anytime_low": adjusted.effect - anytime,
        "anytime_high": adjusted.effect + anytime,
        "relative": relative,
        "p_anytime": estimate.p_anytime(estimate.log_evidence(adjusted.effect, variance, customers, expected)),
        "half_customers": np.where(variance > 0, estimate.customers_for_half(customers, expected), np.nan),
        "smallest_visible": estimate.smallest_visible(variance),
        "before_p": np.where(has_before, before_p, np.nan),
    }
    numbers = pl.DataFrame({name: np.asarray(value, dtype=np.float64) for name, value in columns.items()}, nan_to_null=True)
    return strata.select(*COMPARISON).unique(maintain_order=True).hstack(numbers)


def _exact(strata: pl.DataFrame, name: str) -> Exact:
    return np.array(strata[name].to_list(), dtype=object)


def _values(strata: pl.DataFrame) -> tuple[Moments, Moments]:
    unit = strata["unit"].to_numpy().astype(np.float64)
    treated, control = (
        estimate.moments(Sums(*(_exact(strata, f"{name}{arm}") for name in ("n", "y", "x", "yy", "xx", "yx"))), unit) for arm in ("", ":c")
    )
    return treated, control


def _ratios(strata: pl.DataFrame) -> tuple[Moments, Moments]:
    """Of a ratio: what its customers add to it, about the ratio of both arms together, stratum by stratum; the same before."""
    columns = {f"{name}{arm}": _exact(strata, f"{name}{arm}") for arm in ("", ":c") for name in ("n", *VALUES, *PRODUCTS)}
    total = {name: (columns[name] + columns[f"{name}:c"]).astype(np.float64) for name in ("n", *VALUES)}
    ratios = {name: estimate.quotient(total[name], total[per]) for name, per in (("y", "p"), ("x", "q"))}
    means = {name: estimate.quotient(total[name], total["n"]) for name in ("p", "q")}

    def arm(of: str) -> Moments:
        n = columns[f"n{of}"]
        mean = {name: estimate.quotient(columns[f"{name}{of}"].astype(np.float64), n.astype(np.float64)) for name in VALUES}

        def about(a: str, b: str) -> Numbers:
            product = a + b if a + b in PRODUCTS else b + a
            return estimate.central(n, columns[f"{a}{of}"], columns[f"{b}{of}"], columns[f"{product}{of}"])

        def ratio(a: str, per: str) -> Ratio:
            return Ratio(n.astype(np.float64), mean[a], mean[per], about(a, a), about(per, per), about(a, per))

        y, yy = estimate.linearised(ratio("y", "p"), ratios["y"], means["p"])
        x, xx = estimate.linearised(ratio("x", "q"), ratios["x"], means["q"])
        both = about("y", "x") - ratios["x"] * about("y", "q") - ratios["y"] * about("p", "x") + ratios["y"] * ratios["x"] * about("p", "q")
        return Moments(n.astype(np.float64), y, x, yy, xx, estimate.quotient(both, means["p"] * means["q"]))

    return arm(""), arm(":c")


def _means(strata: pl.DataFrame, place: Places, of: Difference) -> tuple[Numbers, Numbers]:
    """Of a ratio: control's is that of its sums, and that of the treated so much more as the linearised values say; nan of nothing."""
    y, p = (np.bincount(place, weights=_exact(strata, f"{name}:c").astype(np.float64)).astype(np.float64) for name in ("y", "p"))
    control = np.where(p != 0, estimate.quotient(y, p), np.nan)
    return control + of.treated - of.control, control


def _before(arm: Moments) -> Moments:
    return Moments(arm.n, arm.x, arm.x, arm.xx, arm.xx, arm.xx)
