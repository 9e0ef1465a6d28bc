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

from atc_pipeline.customers.tables import PURCHASE_MODELS
from atc_pipeline.journeys.portfolio import Predictions
from atc_pipeline.rules.numbers import MICRO

Floats = NDArray[np.float64]
Likelihood = Callable[[Floats], tuple[float, Floats]]
"""Log-likelihood and its gradient, by the parameters."""

HISTORY = {
    "orders": pl.Int64(),
    "first_order_on": pl.Date(),
    "last_order_on": pl.Date(),
    "valued_orders": pl.Int64(),
    "order_value_total": pl.Float64(),
}
"""What the models know of a customer: days with an order, the first and the last of them; on how many something of value was
ordered, and for how many micro-units (``rules.numbers.MICRO``)."""

PREDICTED = ("predicted_orders", "predicted_value", "churn_risk")

CUSTOMERS_PER_PARAMETER = 10
"""A model is fitted on at least so many customers with more than one order for each of its parameters."""

LARGEST = 1e4
"""Parameters are sought between 1 / LARGEST and LARGEST, in units of the population's mean observation time or order value.
Where all customers are alike the likelihood has no optimum but rises towards such a bound; predictions hardly change there."""

LARGEST_SLOPE = 1e-5
"""Where the likelihood per customer rises less than this by parameter (in logarithms), it is at its maximum."""
ATTEMPTS = 10
"""How often the search is taken up again where it stopped, its idea of the curvature forgotten: ridges need that."""

NEWTON_STEPS = 2
NEWTON_WIDTH = 1e-3
"""The curvature is measured so far to both sides; further than that nothing is left to polish."""

VALUE_DIGITS = 4
"""Significant digits of a customer's total that the value model is fitted on, so that millions have few different ones."""
LARGEST_VALUE = 1000
"""A customer's mean day is bounded at so many times the median day with a value: one order of 1e11 would drag everybody's value."""
DIGITS = 6
"""Significant digits that parameters are kept with: far below their sampling error, and above where the optimiser stops."""

NODES = 128
"""Nodes of the quadrature over the probability of leaving: relative errors stay below 1e-8, mostly 1e-12 (tests)."""
BLOCK = 8192
"""Histories integrated at once: a block is a few arrays of BLOCK x NODES numbers."""


@dataclass(frozen=True)
class OrderModel:
    """BG/NBD: rates of ordering are Gamma(r, alpha) per day, probabilities of leaving after an order Beta(a, b).

    ``fitted_on`` is the last day of the data.
    """

    fitted_on: date
    r: float
    alpha: float
    a: float
    b: float
    customers: int
    repeat_customers: int
    log_likelihood: float


@dataclass(frozen=True)
class ValueModel:
    """Gamma-Gamma: values of a customer's orders are Gamma(p, nu), and nu is Gamma(q, v); v in units of value.

    ``value_bound`` is what a customer's mean day counts for at most, ``bounded_customers`` are those it was more for.
    """

    value_fitted_on: date
    p: float
    q: float
    v: float
    value_bound: float
    bounded_customers: int
    valued_customers: int
    value_log_likelihood: float

    @property
    def fitted_on(self) -> date:
        """Last day of the data."""
        return self.value_fitted_on


class FitError(Exception):
    """A model cannot be fitted; the message says why."""


@dataclass(frozen=True)
class PurchaseModels:
    """The models in use on a day; either may be missing, and without orders nothing is predicted."""

    orders: OrderModel | None = None
    values: ValueModel | None = None

    @classmethod
    def of(cls, row: pl.DataFrame | None) -> Self:
        """Read a row of ``purchase_models``; None is the day before the first."""
        columns = row.row(0, named=True) if row is not None else {}
        return cls(_read_model(OrderModel, columns), _read_model(ValueModel, columns))

    def row(self, today: date, *, is_refitted: bool, note: str | None) -> pl.DataFrame:
        """Write a row of ``purchase_models``."""
        columns: dict[str, Any] = {"date": today, "is_refitted": is_refitted, "note": note}
        for model in (self.orders, self.values):
            columns |= asdict(model) if model else {}
        return pl.DataFrame([columns], schema=PURCHASE_MODELS.schema)


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
        return kept.row(today, is_refitted=False, note="there is no data before the first day")
    if any(_is_due(model, predictions.refit_days, today) for model in (kept.orders, kept.values)):
        customers_of_yesterday = customers_of_yesterday.collect().lazy()  # usually both are, and what they read is much of a profile
    orders, orders_note = _renew(fit_orders, customers_of_yesterday, kept.orders, predictions.refit_days, today)
    values, values_note = _renew(fit_values, customers_of_yesterday, kept.values, predictions.refit_days, today)
    is_refitted = orders is not kept.orders or values is not kept.values
    note = "; ".join(filter(None, [orders_note, values_note])) or None
    return PurchaseModels(orders, values).row(today, is_refitted=is_refitted, note=note)


Model = TypeVar("Model", OrderModel, ValueModel)


def _read_model(kind: type[Model], columns: Mapping[str, Any]) -> Model | None:
    values: dict[str, Any] = {field.name: columns.get(field.name) for field in fields(kind)}
    return None if None in values.values() else kind(**values)


def _renew(
    fit: Callable[[pl.LazyFrame, date], Model], customers: pl.LazyFrame, kept: Model | None, refit_days: int, today: date
) -> tuple[Model | None, str | None]:
    """Return the model for today, and why it is not a new one though it is time for one."""
    if not _is_due(kept, refit_days, today):
        return kept, None
    try:
        return fit(customers, today - timedelta(days=1)), None
    except FitError as problem:
        return kept, f"{problem}: " + (f"the fit of {kept.fitted_on} is kept" if kept else "no fit yet")


def _is_due(kept: OrderModel | ValueModel | None, refit_days: int, today: date) -> bool:
    return kept is None or (today - timedelta(days=1) - kept.fitted_on).days >= refit_days


def fit_orders(customers: pl.LazyFrame, fitted_on: date) -> OrderModel:
    """Fit BG/NBD by maximum likelihood to what is known at the end of ``fitted_on``; raises FitError.

    Equal histories are one row with a weight, and rows are sorted: the result does not depend on the order of customers.
    """
    rows = (
        customers.filter(pl.col("orders") > 0)
        .select(*_name_history(fitted_on))
        .group_by("x", "t_x", "T")
        .agg(weight=pl.len().cast(pl.Float64))
        .sort("x", "t_x", "T")
        .collect()
    )
    is_repeat = rows["x"] > 0
    number, repeat = int(rows["weight"].sum()), int(rows["weight"].filter(is_repeat).sum())
    _expect_enough(repeat, 4, "customers have ordered again")
    x, t_x, observed, weight = _arrays(rows, "x", "t_x", "T", "weight")
    unit = float(np.sum(weight * observed)) / number  # days
    likelihood = _order_likelihood(x, t_x / unit, observed / unit, weight)
    r, alpha, a, b = _maximise("orders", likelihood, 4, number)
    # A density of x moments, so by a unit of time to the power of x.
    reached = likelihood(np.array([r, alpha, a, b]))[0] - float(np.sum(weight * x)) * np.log(unit)
    return OrderModel(
        fitted_on=fitted_on,
        r=_round(r),
        alpha=_round(alpha * unit),
        a=_round(a),
        b=_round(b),
        customers=number,
        repeat_customers=repeat,
        log_likelihood=_round(reached),
    )


def fit_values(customers: pl.LazyFrame, fitted_on: date) -> ValueModel:
    """Fit Gamma-Gamma by maximum likelihood to number and total of the days with a value; raises FitError."""
    rows = (
        customers.filter((pl.col("valued_orders") > 0) & (pl.col("order_value_total") > 0))
        .group_by(n="valued_orders", total=pl.col("order_value_total").cast(pl.Float64).round_sig_figs(VALUE_DIGITS))
        .agg(weight=pl.len().cast(pl.Float64))
        .sort("n", "total")
        .collect()
    )
    repeat = int(rows["weight"].filter(rows["n"] > 1).sum())
    _expect_enough(repeat, 3, "customers have more than one order with a value")
    n, total, weight = _arrays(rows, "n", "total", "weight")
    number = int(weight.sum())
    bound = _round(LARGEST_VALUE * _median(total / n, weight * n))
    is_bounded = total > n * bound
    total = np.where(is_bounded, n * bound, total)
    unit = float(np.sum(weight * total) / np.sum(weight * n))  # micro-units
    likelihood = _value_likelihood(n, total / unit, weight)
    p, q, v = _maximise("values", likelihood, 3, number)
    if _round(q) <= 1:
        raise FitError(f"the values of orders are too uneven to have a mean (q = {q:.3g}, must be above 1)")
    reached = likelihood(np.array([p, q, v]))[0] - number * np.log(unit / MICRO)
    return ValueModel(
        value_fitted_on=fitted_on,
        p=_round(p),
        q=_round(q),
        v=_round(v * unit / MICRO),
        value_bound=bound / MICRO,
        bounded_customers=int(weight[is_bounded].sum()),
        valued_customers=number,
        value_log_likelihood=_round(reached),
    )


def _median(values: Floats, weight: Floats) -> float:
    """Return the least value that at least half of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    until = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(until, until[-1] / 2)])


def _expect_enough(number: int, parameters: int, what: str) -> None:
    least = CUSTOMERS_PER_PARAMETER * parameters
    if number < least:
        raise FitError(f"{number} {what}, at least {least} are needed")


def _name_history(today: date) -> list[pl.Expr]:
    """Name the paper's x, t_x and T: repeat orders, and days from the first order to the last and to today.

    Orders of one day are one purchase, as in the paper's data: whoever counted them, there were no more repeat orders than days
    since the first. A repeat order after no time at all would make every rate infinite.
    """
    t_x = (pl.col("last_order_on") - pl.col("first_order_on")).dt.total_days()
    observed = (pl.lit(today) - pl.col("first_order_on")).dt.total_days()
    return [pl.min_horizontal(pl.col("orders") - 1, t_x).alias("x"), t_x.alias("t_x"), observed.alias("T")]


def _maximise(what: str, likelihood: Likelihood, parameters: int, customers: float) -> list[float]:
    """Return the parameters of maximum likelihood, sought on a logarithmic scale."""
    from scipy.optimize import minimize  # noqa: PLC0415  # up to a second at every start, for what is done once in refit_days

    def loss(logarithms: Floats) -> tuple[float, Floats]:
        values = np.exp(logarithms)
        value, gradient = likelihood(values)
        return -value / customers, -gradient * values / customers

    limit = float(np.log(LARGEST))
    start = np.zeros(parameters)
    for _ in range(ATTEMPTS):
        optimum = minimize(
            loss,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(-limit, limit)] * parameters,
            options={"maxiter": 2000, "maxfun": 4000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 20},
        )
        # Whatever the optimiser thinks of where it has stopped: what counts is that there is no way up from there.
        slope = float(np.abs(optimum.x - np.clip(optimum.x - optimum.jac, -limit, limit)).max())
        if slope < LARGEST_SLOPE:
            return [float(value) for value in np.exp(_polish(lambda logarithms: loss(logarithms)[1], optimum.x, limit))]
        start = optimum.x
    raise FitError(f"no maximum of the likelihood of {what} found (slope {slope:.1g}, {optimum.message})")


def _polish(slope: Callable[[Floats], Floats], start: Floats, limit: float) -> Floats:
    """Take Newton's last steps to where ``slope`` is nothing, so that ``DIGITS`` digits are the same on every machine.

    An optimiser compares values, and those are level for half of a double's digits about the top.
    """
    at = start.copy()
    free = np.flatnonzero(np.abs(at) < limit)
    for _ in range(NEWTON_STEPS):
        around = [NEWTON_WIDTH * row for row in np.eye(len(at))[free]]
        curvature = np.array([(slope(at + offset) - slope(at - offset))[free] for offset in around]) / (2 * NEWTON_WIDTH)
        try:
            np.linalg.cholesky(curvature)
            step = np.linalg.solve(curvature, slope(at)[free])
        except np.linalg.LinAlgError:
            return start  # a plateau: any place on it will do
        at[free] -= step
        if not np.abs(at - start).max() < NEWTON_WIDTH:
            return start
    return at


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS - 1}e}")


def _arrays(rows: pl.DataFrame, *names: str) -> tuple[Floats, ...]:
    return tuple(rows[name].cast(pl.Float64).to_numpy() for name in names)


def _order_likelihood(x: Floats, t_x: Floats, observed: Floats, weight: Floats) -> Likelihood:
    """BG/NBD, equation 6 of the paper, for rows of equal histories."""
    from scipy.special import digamma, gammaln  # noqa: PLC0415  # see _maximise

    # Gamma functions are costly and need x only.
    counts, place = np.unique(x, return_inverse=True)
    of_count = np.bincount(place, weight)
    repeat = x > 0
    total = float(np.sum(weight))

    def likelihood(parameters: Floats) -> tuple[float, Floats]:
        r, alpha, a, b = parameters
        until_now, until_last = np.log(alpha + observed), np.log(alpha + t_x[repeat])
        shape = r + x
        gap = until_now[repeat] - until_last
        # Odds that a customer who ordered again has left since.
        odds = np.log(a / (b + x[repeat] - 1)) + shape[repeat] * gap
        value = np.sum(of_count * (gammaln(r + counts) + gammaln(b + counts) - gammaln(a + b + counts)))
        value += total * (r * np.log(alpha) - gammaln(r) - gammaln(b) + gammaln(a + b))
        value += np.sum(weight[repeat] * np.logaddexp(0.0, odds)) - np.sum(weight * shape * until_now)
        left = weight[repeat] * np.exp(-np.logaddexp(0.0, -odds))
        leaving = total * digamma(a + b) - np.sum(of_count * digamma(a + b + counts))
        by_r = np.sum(of_count * digamma(r + counts)) + total * (np.log(alpha) - digamma(r)) - np.sum(weight * until_now)
        by_r += np.sum(left * gap)
        by_alpha = total * r / alpha - np.sum(weight * shape / (alpha + observed))
        by_alpha += np.sum(left * shape[repeat] * (1 / (alpha + observed[repeat]) - 1 / (alpha + t_x[repeat])))
        by_a = leaving + np.sum(left) / a
        by_b = leaving + np.sum(of_count * digamma(b + counts)) - total * digamma(b) - np.sum(left / (b + x[repeat] - 1))
        return float(value), np.array([by_r, by_alpha, by_a, by_b])

    return likelihood


def _value_likelihood(n: Floats, total: Floats, weight: Floats) -> Likelihood:
    """Gamma-Gamma, equation 1a of the note, for rows of equal histories; its z is total / n."""
    from scipy.special import digamma, gammaln  # noqa: PLC0415  # see _maximise

    counts, place = np.unique(n, return_inverse=True)
    of_count = np.bincount(place, weight)
    customers = float(np.sum(weight))
    logs, constant = float(np.sum(weight * n * np.log(total))), float(np.sum(weight * np.log(total / n)))

    def likelihood(parameters: Floats) -> tuple[float, Floats]:
        p, q, v = parameters
        sizes = np.log(v + total)
        value = np.sum(of_count * (gammaln(p * counts + q) - gammaln(p * counts))) + customers * (q * np.log(v) - gammaln(q))
        value += p * logs - constant - np.sum(weight * (p * n + q) * sizes)
        shape = digamma(p * counts + q)
        by_p = np.sum(of_count * counts * (shape - digamma(p * counts))) + logs - np.sum(weight * n * sizes)
        by_q = np.sum(of_count * shape) + customers * (np.log(v) - digamma(q)) - np.sum(weight * sizes)
        by_v = customers * q / v - np.sum(weight * (p * n + q) / (v + total))
        return float(value), np.array([by_p, by_q, by_v])

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
        return _predict_histories(histories.struct.unnest(), known.orders, known.values, today, horizon_days).to_struct()

    predictions = pl.struct(*HISTORY).map_batches(
        predicted, return_dtype=pl.Struct(dict.fromkeys(PREDICTED, pl.Float64)), is_elementwise=True
    )
    return customers.with_columns(predictions.struct.unnest())


def _predict_histories(
    histories: pl.DataFrame, model: OrderModel, values: ValueModel | None, today: date, horizon_days: int
) -> pl.DataFrame:
    """One row per history, the columns ``PREDICTED``."""
    rows = histories.with_columns(*_name_history(today)).with_columns(has_ordered=pl.col("orders") > 0)
    pairs = rows.filter("has_ordered").select("x", "T").unique().sort("x", "T")
    x, observed = _arrays(pairs, "x", "T")
    expected = pairs.with_columns(while_active=_orders_while_active(x, observed, model, float(horizon_days)))
    rows = rows.join(expected, on=["x", "T"], how="left", maintain_order="left")
    x, t_x, observed = _arrays(rows.fill_null(0), "x", "t_x", "T")
    active = _is_active(x, t_x, observed, model)
    again = -np.expm1(-(model.r + x) * np.log1p(horizon_days / (model.alpha + observed)))
    orders = active * rows["while_active"].to_numpy()
    columns = {"predicted_orders": orders, "predicted_value": orders * _order_value(rows, values), "churn_risk": 1 - active * again}
    return pl.DataFrame(columns, nan_to_null=True).select(pl.when(rows["has_ordered"]).then(pl.col(name)).alias(name) for name in columns)


def _is_active(x: Floats, t_x: Floats, observed: Floats, model: OrderModel) -> Floats:
    """P(still a customer): certain for who has ordered once, as nobody leaves but after a repeat order."""
    odds = np.log(model.a / (model.b + np.maximum(x, 1) - 1)) + (model.r + x) * np.log((model.alpha + observed) / (model.alpha + t_x))
    return np.where(x > 0, np.exp(-np.logaddexp(0.0, odds)), 1.0)


def _orders_while_active(x: Floats, observed: Floats, model: OrderModel, horizon: float) -> Floats:
    """Expected orders within the horizon of who is a customer still: equation 10 of the paper without P(active).

    The paper writes it with a hypergeometric function and divides by a - 1. This is the integral that it stands for,

        E[(1 - (1 + p w) ** -(r + x)) / p],  w = horizon / (alpha + T),  p ~ Beta(a, b + x),

    whose terms are all positive: nothing cancels, whatever the history. The trapezoidal rule over logit p converges
    exponentially; beyond both ends the density is a geometric series and the rest of the integrand constant.
    """
    counts, place = np.unique(x, return_inverse=True)
    a, b = model.a, model.b + counts
    mode, width = np.log(a / b), 9 * np.sqrt(1 / a + 1 / b)
    flat = 25.0
    low = np.maximum(-flat - np.log1p((model.r + counts) * horizon / model.alpha + b), mode - width - 40 / a)
    high = np.minimum(flat + np.log1p(a), mode + width + 40 / b)
    step = (high - low) / (NODES - 1)
    logit = low[:, None] + step[:, None] * np.arange(NODES)
    leave, stay = -np.logaddexp(0.0, -logit), -np.logaddexp(0.0, logit)  # logarithms of p and 1 - p
    weight = a * leave + b[:, None] * stay
    weight = np.exp(weight - weight.max(axis=1, keepdims=True))
    weight[:, 0] /= -np.expm1(-a * step)
    weight[:, -1] /= -np.expm1(-b * step)
    leave = np.exp(leave)
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
    number, total = _arrays(rows.fill_null(0), "valued_orders", "order_value_total")
    value = np.minimum(total / MICRO, number * model.value_bound)
    return model.p * (model.v + value) / (model.p * number + model.q - 1)
