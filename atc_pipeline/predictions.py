"""Purchase models: how many orders to expect of a customer, what they are worth, and the risk that there are none (SPEC 3).

Orders follow BG/NBD (Fader, Hardie & Lee 2005, "'Counting Your Customers' the Easy Way: An Alternative to the Pareto/NBD
Model", Marketing Science 24): while active, a customer orders at a rate of their own, and after each order may leave for
good. Their values follow Gamma-Gamma (Fader & Hardie 2013, "The Gamma-Gamma Model of Monetary Value"): orders scatter about
a mean of the customer's own. Both are fitted by maximum likelihood on the whole population.

What belongs here: fitting the two models, when to fit anew, and what they say of one customer. What does not: where orders
are counted, and the profile they are written into.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date, timedelta
from typing import Any, Self, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special
from scipy.optimize import minimize

from atc_pipeline.journeys.portfolio import Predictions
from atc_pipeline.rules import MICRO

Floats = NDArray[np.float64]
Likelihood = Callable[[Floats], tuple[float, Floats]]
"""Log-likelihood and its gradient, by the parameters."""

HISTORY = {
    "orders": pl.Int64(),
    "first_order_on": pl.Date(),
    "last_order_on": pl.Date(),
    "valued_orders": pl.Int64(),
    "order_value_total": pl.Int64(),
}
"""What the models know of a customer: orders, their first and last day, and of those with a value, number and total in
micro-units (``rules.MICRO``)."""

PREDICTED = ("predicted_orders", "predicted_value", "churn_risk")

CUSTOMERS_PER_PARAMETER = 10
"""A model is fitted on at least so many customers with more than one order for each of its parameters."""

LARGEST = np.exp(12.0)
"""Parameters are sought between 1 / LARGEST and LARGEST, in units of the population's mean observation time or order value.
Where all customers are alike the likelihood has no optimum but rises towards such a bound; predictions hardly change there."""

DIGITS = 6
"""Significant digits that parameters are kept with: far below their sampling error, and above where the optimiser stops."""

NODES = 128
"""Nodes of the quadrature over the probability of leaving: relative errors stay below 1e-8, mostly 1e-12 (tests)."""
BLOCK = 8192
"""Histories integrated at once: a block is a few arrays of BLOCK x NODES numbers."""


@dataclass(frozen=True)
class OrderModel:
    """BG/NBD: rates of ordering are Gamma(r, alpha) per day, probabilities of leaving after an order Beta(a, b)."""

    fitted_on: date
    """Last day of the data."""
    r: float
    alpha: float
    a: float
    b: float
    customers: int
    repeat_customers: int
    log_likelihood: float


@dataclass(frozen=True)
class ValueModel:
    """Gamma-Gamma: values of a customer's orders are Gamma(p, nu), and nu is Gamma(q, v); v in units of value."""

    value_fitted_on: date
    """Last day of the data."""
    p: float
    q: float
    v: float
    valued_customers: int
    value_log_likelihood: float

    @property
    def mean(self) -> float:
        """Expected value of an order of a customer of whom nothing is known."""
        return self.p * self.v / (self.q - 1)


class FitError(Exception):
    """A model cannot be fitted; the message says why."""


PURCHASE_MODELS = {
    "date": pl.Date(),
    "fitted_on": pl.Date(),
    "r": pl.Float64(),
    "alpha": pl.Float64(),
    "a": pl.Float64(),
    "b": pl.Float64(),
    "customers": pl.Int64(),
    "repeat_customers": pl.Int64(),
    "log_likelihood": pl.Float64(),
    "value_fitted_on": pl.Date(),
    "p": pl.Float64(),
    "q": pl.Float64(),
    "v": pl.Float64(),
    "valued_customers": pl.Int64(),
    "value_log_likelihood": pl.Float64(),
    "is_refitted": pl.Boolean(),
    "note": pl.String(),
}
"""One row per day: the models in use on it. Parameters are null before the first fit."""


@dataclass(frozen=True)
class PurchaseModels:
    """The models in use on a day: either may be missing; without orders there are no predictions at all."""

    orders: OrderModel | None = None
    values: ValueModel | None = None

    @classmethod
    def of(cls, row: pl.DataFrame | None) -> Self:
        """Read a row of ``purchase_models``."""
        told = row.row(0, named=True) if row is not None else {}
        return cls(_read(OrderModel, told), _read(ValueModel, told))

    def row(self, today: date, *, is_refitted: bool, note: str | None) -> pl.DataFrame:
        """Write a row of ``purchase_models``."""
        told = {"date": today, "is_refitted": is_refitted, "note": note}
        for model in (self.orders, self.values):
            told |= asdict(model) if model else {}
        return pl.DataFrame([told], schema=PURCHASE_MODELS)


Model = TypeVar("Model", OrderModel, ValueModel)


def _read(kind: type[Model], told: Mapping[str, Any]) -> Model | None:
    values = {field.name: told.get(field.name) for field in fields(kind)}
    return None if None in values.values() else kind(**values)


def model_for_day(
    customers_of_yesterday: pl.LazyFrame | None, yesterday: pl.DataFrame | None, predictions: Predictions | None, *, today: date
) -> pl.DataFrame:
    """One row of ``purchase_models``: the models to predict with today, fitted on data of yesterday or before.

    ``customers_of_yesterday``: one row per customer with the columns of ``HISTORY``; ``yesterday``: this function's result of
    the day before; both None on the first day of the lake. Each model is fitted anew when it is ``refit_days`` old. An attempt
    that fails is repeated the next day; until then the last fit is kept, and ``note`` says why.
    """
    if predictions is None:
        return PurchaseModels().row(today, is_refitted=False, note=None)
    kept = PurchaseModels.of(yesterday)
    if customers_of_yesterday is None:
        return kept.row(today, is_refitted=False, note="no data before the first day")
    data_until = today - timedelta(days=1)
    oldest = data_until - timedelta(days=predictions.refit_days)
    orders, values, notes = kept.orders, kept.values, []
    if orders is None or orders.fitted_on <= oldest:
        try:
            orders = fit_orders(customers_of_yesterday, fitted_on=data_until)
        except FitError as problem:
            notes.append(_kept("orders", str(problem), orders and orders.fitted_on))
    if values is None or values.value_fitted_on <= oldest:
        try:
            values = fit_values(customers_of_yesterday, fitted_on=data_until)
        except FitError as problem:
            notes.append(_kept("values", str(problem), values and values.value_fitted_on))
    is_refitted = (orders, values) != (kept.orders, kept.values)
    return PurchaseModels(orders, values).row(today, is_refitted=is_refitted, note="; ".join(notes) or None)


def _kept(what: str, problem: str, fitted_on: date | None) -> str:
    return f"{what}: {problem}; " + (f"the fit of {fitted_on} is kept" if fitted_on else "no fit yet")


def fit_orders(customers: pl.LazyFrame | pl.DataFrame, *, fitted_on: date) -> OrderModel:
    """Fit BG/NBD by maximum likelihood to what is known at the end of ``fitted_on``; raises FitError.

    Equal histories are one row with a weight, and rows are sorted: the result does not depend on the order of customers.
    """
    rows = (
        customers.lazy()
        .filter(pl.col("orders") > 0)
        .select(*_history(fitted_on))
        .group_by("x", "t_x", "T")
        .agg(weight=pl.len().cast(pl.Float64))
        .sort("x", "t_x", "T")
        .collect()
    )
    is_repeat = rows["x"] > 0
    number, repeat = int(rows["weight"].sum()), int(rows["weight"].filter(is_repeat).sum())
    _expect_enough(repeat, 4, "customers have ordered again")
    x, t_x, observed, weight = (rows[name].cast(pl.Float64).to_numpy() for name in ("x", "t_x", "T", "weight"))
    days = float(np.sum(weight * observed)) / number
    r, alpha, a, b = _maximise(_order_likelihood(x, t_x / days, observed / days, weight), 4, number)
    # The density of x orders at given times has the unit 1 / time^x.
    likelihood, _ = _order_likelihood(x, t_x / days, observed / days, weight)(np.array([r, alpha, a, b]))
    likelihood -= float(np.sum(weight * x)) * np.log(days)
    return OrderModel(fitted_on, *_rounded(r, alpha * days, a, b), number, repeat, *_rounded(likelihood))


def fit_values(customers: pl.LazyFrame | pl.DataFrame, *, fitted_on: date) -> ValueModel:
    """Fit Gamma-Gamma by maximum likelihood to number and total of the orders with a value; raises FitError."""
    rows = (
        customers.lazy()
        .filter((pl.col("valued_orders") > 0) & (pl.col("order_value_total") > 0))
        .group_by(n="valued_orders", total=pl.col("order_value_total"))
        .agg(weight=pl.len().cast(pl.Float64))
        .sort("n", "total")
        .collect()
    )
    repeat = int(rows["weight"].filter(rows["n"] > 1).sum())
    _expect_enough(repeat, 3, "customers have more than one order with a value")
    n, total, weight = (rows[name].cast(pl.Float64).to_numpy() for name in ("n", "total", "weight"))
    number, unit = float(np.sum(weight)), float(np.sum(weight * total) / np.sum(weight * n))
    p, q, v = _maximise(_value_likelihood(n, total / unit, weight), 3, number)
    if q <= 1:
        raise FitError(f"the values of orders are too uneven to have a mean (q = {q:.3g})")
    likelihood, _ = _value_likelihood(n, total / unit, weight)(np.array([p, q, v]))
    likelihood -= number * np.log(unit / MICRO)
    return ValueModel(fitted_on, *_rounded(p, q, v * unit / MICRO), int(number), *_rounded(likelihood))


def _expect_enough(found: int, parameters: int, what: str) -> None:
    least = CUSTOMERS_PER_PARAMETER * parameters
    if found < least:
        raise FitError(f"{found} {what}, at least {least} are needed")


def _history(today: date) -> list[pl.Expr]:
    """Name the paper's x, t_x and T: repeat orders, and days from the first order to the last and to today."""
    t_x = (pl.col("last_order_on") - pl.col("first_order_on")).dt.total_days()
    observed = (pl.lit(today) - pl.col("first_order_on")).dt.total_days()
    return [(pl.col("orders") - 1).alias("x"), t_x.alias("t_x"), observed.alias("T")]


def _maximise(likelihood: Likelihood, parameters: int, customers: float) -> list[float]:
    """Return the parameters of maximum likelihood, sought on a logarithmic scale."""

    def loss(logarithms: Floats) -> tuple[float, Floats]:
        values = np.exp(logarithms)
        value, gradient = likelihood(values)
        return -value / customers, -gradient * values / customers

    limit = float(np.log(LARGEST))
    found = minimize(
        loss,
        np.zeros(parameters),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-limit, limit)] * parameters,
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 20},
    )
    # Where the optimiser can do no better it may say so as a failure; what counts is that the slope is gone.
    slope = found.x - np.clip(found.x - found.jac, -limit, limit)
    if not np.isfinite(found.fun) or not np.abs(slope).max() < 1e-5:
        raise FitError(f"the likelihood has no maximum that can be found ({found.message})")
    return [float(value) for value in np.exp(found.x)]


def _rounded(*values: float) -> list[float]:
    return [float(f"{value:.{DIGITS - 1}e}") for value in values]


def _order_likelihood(x: Floats, t_x: Floats, observed: Floats, weight: Floats) -> Likelihood:
    """BG/NBD, equation 6 of the paper, for rows of equal histories."""
    # Gamma functions are costly and need x only.
    counts, place = np.unique(x, return_inverse=True)
    of_count = np.bincount(place, weight)
    repeat = x > 0
    total = float(np.sum(weight))

    def likelihood(parameters: Floats) -> tuple[float, Floats]:
        r, alpha, a, b = parameters
        value = (
            np.sum(of_count * (special.gammaln(r + counts) + special.gammaln(b + counts) - special.gammaln(a + b + counts)))
            + total * (r * np.log(alpha) - special.gammaln(r) - special.gammaln(b) + special.gammaln(a + b))
        )  # fmt: skip
        until_now, until_last = np.log(alpha + observed), np.log(alpha + t_x[repeat])
        shape = r + x
        gap = until_now[repeat] - until_last
        # Odds that a customer who ordered again has left since.
        odds = np.log(a / (b + x[repeat] - 1)) + shape[repeat] * gap
        value += np.sum(weight * -shape * until_now) + np.sum(weight[repeat] * np.logaddexp(0.0, odds))
        left = weight[repeat] * special.expit(odds)
        digamma = special.digamma
        both = np.sum(of_count * digamma(a + b + counts)) - total * digamma(a + b)
        gradient = np.array(
            [
                np.sum(of_count * digamma(r + counts))
                + total * (np.log(alpha) - digamma(r))
                - np.sum(weight * until_now)
                + np.sum(left * gap),
                total * r / alpha
                - np.sum(weight * shape / (alpha + observed))
                + np.sum(left * shape[repeat] * (1 / (alpha + observed[repeat]) - 1 / (alpha + t_x[repeat]))),
                -both + np.sum(left) / a,
                np.sum(of_count * digamma(b + counts)) - total * digamma(b) - both - np.sum(left / (b + x[repeat] - 1)),
            ]
        )
        return float(value), gradient

    return likelihood


def _value_likelihood(n: Floats, total: Floats, weight: Floats) -> Likelihood:
    """Gamma-Gamma, equation 1a of the note, for rows of equal histories; its z is total / n."""
    counts, place = np.unique(n, return_inverse=True)
    of_count = np.bincount(place, weight)
    customers = float(np.sum(weight))
    logs, constant = float(np.sum(weight * n * np.log(total))), float(np.sum(weight * np.log(total / n)))

    def likelihood(parameters: Floats) -> tuple[float, Floats]:
        p, q, v = parameters
        sizes = np.log(v + total)
        value = (
            np.sum(of_count * (special.gammaln(p * counts + q) - special.gammaln(p * counts)))
            + customers * (q * np.log(v) - special.gammaln(q))
            + p * logs
            - constant
            - np.sum(weight * (p * n + q) * sizes)
        )
        both = special.digamma(p * counts + q)
        gradient = np.array(
            [
                np.sum(of_count * counts * (both - special.digamma(p * counts))) + logs - np.sum(weight * n * sizes),
                np.sum(of_count * both) + customers * (np.log(v) - special.digamma(q)) - np.sum(weight * sizes),
                customers * q / v - np.sum(weight * (p * n + q) / (v + total)),
            ]
        )
        return float(value), gradient

    return likelihood


def predict(customers: pl.LazyFrame, models: pl.DataFrame, *, today: date, horizon_days: int) -> pl.LazyFrame:
    """Set what is expected of each customer in the ``horizon_days`` after ``today``, by a row of ``purchase_models``.

    ``predicted_orders`` and ``predicted_value`` are never negative, ``churn_risk`` = P(no order) is in [0, 1]; all null for
    who has never ordered and where no model was ever fitted. Reads the columns of ``HISTORY``.
    """
    known = PurchaseModels.of(models)
    if known.orders is None:
        return customers.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in PREDICTED)

    def predicted(histories: pl.Series) -> pl.Series:
        assert known.orders is not None
        return _predicted(histories.struct.unnest(), known.orders, known.values, today, horizon_days).to_struct()

    told = pl.struct(*HISTORY).map_batches(predicted, return_dtype=pl.Struct(dict.fromkeys(PREDICTED, pl.Float64)), is_elementwise=True)
    return customers.with_columns(told.struct.unnest())


def _predicted(histories: pl.DataFrame, model: OrderModel, values: ValueModel | None, today: date, horizon_days: int) -> pl.DataFrame:
    """One row per history, the columns ``PREDICTED``."""
    rows = histories.with_columns(*_history(today)).with_columns(has_ordered=pl.col("orders") > 0)
    pairs = rows.filter("has_ordered").select("x", "T").unique().sort("x", "T")
    x, observed = (pairs[name].cast(pl.Float64).to_numpy() for name in ("x", "T"))
    expected = pairs.with_columns(while_active=_orders_while_active(x, observed, model, float(horizon_days)))
    rows = rows.join(expected, on=["x", "T"], how="left", maintain_order="left")
    x, t_x, observed = (rows[name].cast(pl.Float64).fill_null(0.0).to_numpy() for name in ("x", "t_x", "T"))
    active = _is_active(x, t_x, observed, model)
    is_silent = -np.expm1(-(model.r + x) * np.log1p(horizon_days / (model.alpha + observed)))
    orders = active * rows["while_active"].to_numpy()
    columns = {"predicted_orders": orders, "predicted_value": orders * _order_value(rows, values), "churn_risk": 1 - active * is_silent}
    return pl.DataFrame(columns, nan_to_null=True).select(pl.when(rows["has_ordered"]).then(pl.col(name)).alias(name) for name in columns)


def _is_active(x: Floats, t_x: Floats, observed: Floats, model: OrderModel) -> Floats:
    """P(still a customer): certain for who has ordered once, as nobody leaves but after a repeat order."""
    odds = np.log(model.a / (model.b + np.maximum(x, 1) - 1)) + (model.r + x) * np.log((model.alpha + observed) / (model.alpha + t_x))
    return np.where(x > 0, special.expit(-odds), 1.0)


def _orders_while_active(x: Floats, observed: Floats, model: OrderModel, horizon: float) -> Floats:
    """Expected orders within the horizon of who is a customer still: equation 10 of the paper without P(active).

    The paper writes it with a hypergeometric function and divides by a - 1. This is the integral that it stands for,

        E[(1 - (1 + p w) ** -(r + x)) / p],  w = horizon / (alpha + T),  p ~ Beta(a, b + x),

    whose terms are all positive: nothing cancels, whatever the history. The trapezoidal rule over logit p converges
    exponentially; beyond both ends the density is a geometric series and the rest of the integrand constant.
    """
    counts, place = np.unique(x, return_inverse=True)
    a, b = model.a, model.b + counts
    mode, width = np.log(a / b), 9 * np.sqrt(1 / a + 1 / b) + 1
    flat = 25.0
    low = np.maximum(-flat - np.log1p((model.r + counts) * horizon / model.alpha + b), mode - width - 40 / a)
    high = np.minimum(flat + np.log1p(a), mode + width + 40 / b)
    logit = np.linspace(low, high, NODES, axis=1)
    step = (high - low) / (NODES - 1)
    weight = a * special.log_expit(logit) + b[:, None] * special.log_expit(-logit)
    weight = np.exp(weight - weight.max(axis=1, keepdims=True))
    weight[:, 0] /= -np.expm1(-a * step)
    weight[:, -1] /= -np.expm1(-b * step)
    leave = special.expit(logit)
    weight /= weight.sum(axis=1, keepdims=True) * leave
    orders = np.empty_like(x)
    for start in range(0, len(x), BLOCK):
        block = slice(start, start + BLOCK)
        shape, w = model.r + x[block, None], horizon / (model.alpha + observed[block, None])
        terms = -np.expm1(-shape * np.log1p(leave[place[block]] * w))
        orders[block] = (terms * weight[place[block]]).sum(axis=1)
    return orders


def _order_value(rows: pl.DataFrame, model: ValueModel | None) -> Floats:
    """Expected value of a customer's next order: between the mean of their own and that of the population."""
    if model is None:
        return np.full(len(rows), np.nan)
    number = rows["valued_orders"].cast(pl.Float64).fill_null(0.0).to_numpy()
    total = rows["order_value_total"].cast(pl.Float64).fill_null(0.0).to_numpy() / MICRO
    return model.p * (model.v + total) / (model.p * number + model.q - 1)
