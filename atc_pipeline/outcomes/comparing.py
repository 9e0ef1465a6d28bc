"""Comparing arms: from customers to exact sums, and from sums to estimates, of many comparisons at once.

Sums are of whole micro-units, in 128 bits, and leave Polars as whole numbers of Python: no estimate depends on the order of rows, or on
how they were divided.

What belongs here: adding up, and the columns of an estimate. What does not: who counts and what is compared (``uplift``), the arithmetic
(``estimate``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

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

COMPARISON = ("journey_id", "slice")
STRATUM = ("holdout", "holdout_version")
"""Customers are only compared with those of whom the same share was held out, by the same lots (SPEC 11)."""
IS_TREATED = "is_treated"


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

    @property
    def products(self) -> list[tuple[str, str]]:
        """Return the pairs of values whose products are added up."""
        names = list(self.values)
        return [(a, b) for number, a in enumerate(names) for b in names[number:]]


def asked(metric: Metric) -> Asked:
    """Say how a metric of the file is read."""
    y, *p = columns_of(metric)
    if p:
        return Asked(metric.id, y, f"{y}_before", p[0], f"{p[0]}_before")
    return Asked(metric.id, y, f"{y}_before", is_counted=metric.kind in ("count", "any"))


def add_up(rows: pl.LazyFrame, by: Sequence[str], metrics: Sequence[Asked], *more: pl.Expr) -> pl.DataFrame:
    """One row per group: of each metric ``<id>.n`` customers of whom it is known, ``.nonzero``, sums and sums of products of its values."""
    numbers: dict[str, pl.Expr] = {}
    sums = []
    for place, metric in enumerate(metrics):
        y = _whole(metric, metric.y)
        numbers |= {
            f"{value}:{place}": y if value == "y" else pl.when(y.is_not_null()).then(_whole(metric, column))
            for value, column in metric.values.items()
        }
        wide = pl.Int64() if metric.is_counted else pl.Int128()
        read = {value: pl.col(f"{value}:{place}") for value in metric.values}
        sums += [
            read["y"].count().cast(pl.Int64).alias(f"{metric.id}.n"),
            (read["y"] != 0).sum().cast(pl.Int64).alias(f"{metric.id}.nonzero"),
            *(number.cast(wide).sum().alias(f"{metric.id}.{value}") for value, number in read.items()),
            *((read[a].cast(wide) * read[b].cast(wide)).sum().alias(f"{metric.id}.{a}{b}") for a, b in metric.products),
        ]
    return rows.with_columns(**numbers).group_by(*by).agg(*sums, *more).collect()


def _whole(metric: Asked, column: str) -> pl.Expr:
    """Return a value in whole units; null, which adds up to nothing, where there is none."""
    most = LARGEST_COUNT if metric.is_counted else LARGEST
    number = pl.col(column).cast(pl.Float64).clip(-most, most)
    return (number if metric.is_counted else number * MICRO).round().cast(pl.Int64)


def again(sums: pl.DataFrame, by: Sequence[str], *more: pl.Expr) -> pl.DataFrame:
    """Add sums up once more, by less."""
    return sums.group_by(*by).agg(pl.col(r"^.*\..*$").sum(), *more)


def compare(sums: pl.DataFrame, metric: Asked, expected: float) -> pl.DataFrame:
    """One row per comparison (``COMPARISON``): counts and means of both arms, and the estimate where both have somebody to show for it.

    ``sums``: one row per comparison, stratum and arm (``IS_TREATED``), of ``add_up``. ``expected``: for how many customers the anytime
    interval is narrowest.
    """
    key = [*COMPARISON, *STRATUM]
    names = ["n", "nonzero", *metric.values, *(a + b for a, b in metric.products)]
    known = sums.filter(pl.col(f"{metric.id}.n") > 0)
    read = known.select(*key, IS_TREATED, *(pl.col(f"{metric.id}.{name}").alias(name) for name in names))
    treated, control = (read.filter(pl.col(IS_TREATED) == arm).drop(IS_TREATED) for arm in (True, False))
    strata = treated.join(control, on=key, how="full", coalesce=True, nulls_equal=True, suffix=":c").sort(key)
    strata = strata.with_columns(pl.col(name).fill_null(0) for name in strata.columns if name not in key)
    counts = strata.group_by(*COMPARISON, maintain_order=True).agg(
        treated=pl.col("n").sum(),
        control=pl.col("n:c").sum(),
        treated_nonzero=pl.col("nonzero").sum(),
        control_nonzero=pl.col("nonzero:c").sum(),
        plain_treated=_plain(metric, ""),
        plain_control=_plain(metric, ":c"),
    )
    is_usable = (pl.col("n") >= FEWEST) & (pl.col("n:c") >= FEWEST)
    if metric.p is not None:  # where nobody of an arm has answered there is no ratio
        is_usable &= (pl.col("p") != 0) & (pl.col("p:c") != 0)
    usable = strata.filter(is_usable)
    estimates = _estimates(usable.with_columns(place=pl.struct(*COMPARISON).rle_id()), metric, expected)
    return (
        counts.join(estimates, on=COMPARISON, how="left")
        .with_columns(
            pl.lit(metric.id).alias("metric"),
            mean_treated=pl.coalesce("mean_treated", "plain_treated"),
            mean_control=pl.coalesce("mean_control", "plain_control"),
        )
        .drop("plain_treated", "plain_control")
    )


def _plain(metric: Asked, arm: str) -> pl.Expr:
    per = pl.col(f"p{arm}").sum().cast(pl.Float64) if metric.p else pl.col(f"n{arm}").sum().cast(pl.Float64) * metric.unit
    return pl.when(per != 0).then(pl.col(f"y{arm}").sum().cast(pl.Float64) / per)


def _estimates(strata: pl.DataFrame, metric: Asked, expected: float) -> pl.DataFrame:
    place = strata["place"].to_numpy().astype(np.int64)
    treated, control = (_ratios if metric.p else _values)(strata, metric)
    adjusted = estimate.difference(treated, control, place)
    plain = estimate.difference(treated, control, place, is_adjusted=False)
    variance, customers, freedom = adjusted.variance, adjusted.customers, adjusted.freedom
    fixed, anytime = estimate.fixed_width(variance, freedom), estimate.anytime_width(variance, customers, expected)
    before = estimate.difference(_before(treated), _before(control), place, is_adjusted=False)
    before_p = estimate.p_fixed(before.effect, before.variance, before.freedom)
    has_before = np.bincount(place, weights=treated.xx + control.xx) > 0
    mean_treated, mean_control = _means(strata, place, adjusted) if metric.p else (adjusted.treated, adjusted.control)
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
    numbers = pl.DataFrame({name: np.asarray(value, dtype=np.float64) for name, value in columns.items()})
    return strata.select(*COMPARISON).unique(maintain_order=True).hstack(numbers).with_columns(pl.col(numbers.columns).fill_nan(None))


def _exact(strata: pl.DataFrame, name: str) -> Exact:
    return np.array(strata[name].to_list() if name in strata.columns else [0] * strata.height, dtype=object)


def _values(strata: pl.DataFrame, metric: Asked) -> tuple[Moments, Moments]:
    treated, control = (
        estimate.moments(Sums(*(_exact(strata, f"{name}{arm}") for name in ("n", "y", "x", "yy", "xx", "yx"))), metric.unit)
        for arm in ("", ":c")
    )
    return treated, control


def _ratios(strata: pl.DataFrame, metric: Asked) -> tuple[Moments, Moments]:
    """Of a ratio: what its customers add to it, about the ratio of both arms together, stratum by stratum; the same before."""
    columns = {f"{name}{arm}": _exact(strata, f"{name}{arm}") for arm in ("", ":c") for name in ("n", *metric.values)}
    total = {name: (columns[name] + columns[f"{name}:c"]).astype(np.float64) for name in ("n", *metric.values)}
    ratios = {name: estimate.quotient(total[name], total[per]) for name, per in (("y", "p"), ("x", "q"))}
    means = {name: estimate.quotient(total[name], total["n"]) for name in ("p", "q")}

    def arm(of: str) -> Moments:
        n = columns[f"n{of}"]
        mean = {name: estimate.quotient(columns[f"{name}{of}"].astype(np.float64), n.astype(np.float64)) for name in metric.values}

        def about(a: str, b: str) -> Numbers:
            product = next(pair for pair in (a + b, b + a) if f"{pair}{of}" in strata.columns)
            return estimate.central(n, columns[f"{a}{of}"], columns[f"{b}{of}"], _exact(strata, f"{product}{of}"))

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
