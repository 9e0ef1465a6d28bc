"""Extremes of what an estimate may be given: nothing, one customer, all alike, all the money in one hand, very much of it.

What belongs here: that each has an answer, and no number that is none. What does not: what is right in between (``certificate.estimator``).
"""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars import selectors as cs

from atc_pipeline.outcomes.tables import HELPS, NO_HOLDOUT, TOO_EARLY, UPLIFT, VERDICTS, journey_entries, journey_outcomes, long_outcomes
from atc_pipeline.outcomes.uplift import Evidence, estimate_uplift
from tests.engine.outcomes.entries import FIRST, TODAY, portfolio

DAYS = 28
OF = portfolio()


def evidence(of: Any = OF, *, treated: int, control: int, holdout: float = 0.5, **columns: Any) -> Evidence:
    """Entries of journey ``j0``, spread over four weeks, treated first; ``columns``: of what came of them, else 0."""
    n = treated + control
    zeros = {name: np.zeros(n) for name in ("revenue", "revenue_before", "csat_sum", "csat_count", "csat_sum_before", "csat_count_before")}
    rows = pl.DataFrame(
        {
            "journey_id": ["j0"] * n,
            "customer_id": [f"c{number}" for number in range(n)],
            "entered_on": [FIRST + timedelta(days=number % DAYS) for number in range(n)],
            "arm": ["treated"] * treated + ["control"] * control,
            "held_out_by": [None] * treated + ["journey"] * control,
            **zeros,
            **columns,
        },
        schema_overrides={
            "journey_id": pl.String,
            "customer_id": pl.String,
            "entered_on": pl.Date,
            "arm": pl.String,
            "held_out_by": pl.String,
        },
    ).with_columns(
        known_as="customer_id",
        matures_on=pl.col("entered_on") + pl.duration(days=17),
        holdout=pl.lit(holdout),
        entry_number=pl.lit(1),
        version=pl.lit(of.version),
        contaminated=pl.lit(False),
        delivered=pl.lit(0),
        opted_out=pl.lit(0.0),
        opted_out_before=pl.lit(0.0),
        segments=pl.lit([], pl.List(pl.String)),
    )

    def form(table: Any, day: str) -> pl.LazyFrame:
        dated = rows.with_columns(date=day)
        return dated.select(
            pl.col(name).cast(dtype) if name in dated.columns else pl.lit(None, dtype).alias(name) for name, dtype in table.schema.items()
        ).lazy()

    return Evidence(
        form(journey_entries(of), "entered_on"), form(journey_outcomes(of), "matures_on"), long_outcomes(of).schema.to_frame().lazy()
    )


def uplift(given: Evidence, of: Any = OF, today: date = TODAY) -> pl.DataFrame:
    """Estimate."""
    return estimate_uplift(given, of, today=today)


def money(rows: pl.DataFrame) -> dict[str, Any]:
    """Return the row of money of all customers."""
    return rows.row(by_predicate=(pl.col("journey_id") == "j0") & (pl.col("metric") == "revenue") & (pl.col("slice") == "all"), named=True)


RNG = np.random.default_rng(11)
SPENT = np.round(RNG.gamma(0.5, 60.0, 400), 2)
WHALE = np.where(np.arange(400) == 7, 5e9, SPENT)

EXTREMES: dict[str, dict[str, Any]] = {
    "nobody": {"treated": 0, "control": 0},
    "one treated": {"treated": 1, "control": 0},
    "one held out": {"treated": 0, "control": 1},
    "one of each": {"treated": 1, "control": 1},
    "two of each": {"treated": 2, "control": 2, "revenue": np.array([1.0, 2.0, 3.0, 4.0])},
    "nobody spends": {"treated": 200, "control": 200},
    "all spend the same": {"treated": 200, "control": 200, "revenue": np.full(400, 9.99), "revenue_before": np.full(400, 9.99)},
    "each arm spends the same": {"treated": 200, "control": 200, "revenue": np.repeat([2.0, 1.0], 200)},
    "only treated spend": {"treated": 200, "control": 200, "revenue": np.where(np.arange(400) < 200, SPENT, 0.0)},
    "only control spends": {"treated": 200, "control": 200, "revenue": np.where(np.arange(400) < 200, 0.0, SPENT)},
    "nobody spent before": {"treated": 200, "control": 200, "revenue": SPENT},
    "as before, to the cent": {"treated": 200, "control": 200, "revenue": SPENT, "revenue_before": SPENT},
    "only before": {"treated": 200, "control": 200, "revenue_before": SPENT},
    "all of it is given back": {"treated": 200, "control": 200, "revenue": -SPENT, "revenue_before": -SPENT},
    "a whale": {"treated": 200, "control": 200, "revenue": WHALE, "revenue_before": WHALE},
    "a cent": {"treated": 200, "control": 200, "revenue": np.where(np.arange(400) % 2 == 0, 0.01, 0.0)},
    "a millionth": {"treated": 200, "control": 200, "revenue": np.where(np.arange(400) % 2 == 0, 1e-6, 0.0)},
    "much, and nearly the same": {"treated": 200, "control": 200, "revenue": 5e9 + np.arange(400) / 100},
    "nobody treated": {"treated": 0, "control": 400, "holdout": 1.0, "revenue": SPENT},
    "nobody held out": {"treated": 400, "control": 0, "holdout": 0.0, "revenue": SPENT},
    "one rates": {"treated": 200, "control": 200, "csat_sum": np.eye(1, 400)[0] * 5, "csat_count": np.eye(1, 400)[0]},
    "only treated rate": {"treated": 200, "control": 200, "csat_sum": np.repeat([4.0, 0], 200), "csat_count": np.repeat([1.0, 0], 200)},
}


@pytest.mark.parametrize("extreme", EXTREMES.values(), ids=EXTREMES)
@pytest.mark.parametrize("cap_at", [None, 0.99, 0.0], ids=["as it is", "capped", "capped at the least"])
def test_every_extreme_has_an_answer(extreme: dict[str, Any], cap_at: float | None) -> None:
    """Numbers are numbers or unknown, never nan or infinite; an interval holds its effect; each row has a verdict."""
    of = replace(OF, measurement=replace(OF.measurement, cap_at=cap_at, guardrails=("csat", "opted_out")))
    rows = uplift(evidence(of, **extreme), of)

    assert rows.schema == UPLIFT.schema
    assert rows.select((~cs.float().is_finite()).sum()).sum_horizontal().item() == 0
    known = rows.drop_nulls("effect")
    for low, high in (("fixed_low", "fixed_high"), ("anytime_low", "anytime_high")):
        assert known.filter(~pl.col("effect").is_between(low, high)).is_empty()
    assert set(rows["verdict"]) <= {*VERDICTS, "exploratory"}
    assert rows.filter(~pl.col("p_anytime").is_between(0, 1) | ~pl.col("sample_ratio_p").is_between(0, 1)).is_empty()


@pytest.mark.parametrize(
    "extreme", ["one treated", "one held out", "one of each", "nobody", "nobody spends", "only treated spend", "nobody treated"]
)
def test_it_is_too_early_where_there_is_little(extreme: str) -> None:
    """Of one customer, or of an arm that does nothing, nothing is said but that."""
    assert money(uplift(evidence(**EXTREMES[extreme])))["verdict"] == TOO_EARLY


def test_nobody_held_out_is_told() -> None:
    """Without control there is no estimate, and the verdict says why."""
    of = portfolio(holdout=0.0)
    row = money(uplift(evidence(of, **EXTREMES["nobody held out"]), of))

    assert (row["verdict"], row["effect"]) == (NO_HOLDOUT, None)


def test_what_was_before_explains_all() -> None:
    """Whoever spends what they spent before, to the cent: nothing is left to doubt, and theta is 1."""
    row = money(uplift(evidence(**EXTREMES["as before, to the cent"])))

    assert row["theta"] == pytest.approx(1)
    assert row["variance_left"] == pytest.approx(0, abs=1e-12)
    assert row["effect"] == pytest.approx(0, abs=1e-9)


def test_nothing_before_adjusts_nothing() -> None:
    """Where nobody did anything before, the adjusted figure is the plain one."""
    row = money(uplift(evidence(**EXTREMES["nobody spent before"])))

    assert (row["theta"], row["effect"]) == (0, row["effect_unadjusted"])


def test_a_small_variance_of_much_money_is_seen() -> None:
    """Cents of difference between customers of billions are not lost in the digits of floats."""
    row = money(uplift(evidence(**EXTREMES["much, and nearly the same"])))

    assert row["std_error"] == pytest.approx(np.std(np.arange(200) / 100, ddof=1) * np.sqrt(2 / 200), rel=0.02)


def test_the_interval_and_the_evidence_say_the_same() -> None:
    """The anytime interval leaves out 0 exactly where its p is at most 5 %."""
    for scale in np.linspace(0, 40, 21):
        given = evidence(treated=200, control=200, revenue=SPENT + np.repeat([scale, 0], 200))
        row = money(uplift(given))
        assert (row["anytime_low"] > 0 or row["anytime_high"] < 0) == (row["p_anytime"] <= 0.05)


def test_arms_without_variance_that_differ() -> None:
    """What is certain is not undone by dividing by 0: where the interval leaves out 0, so does the evidence."""
    row = money(uplift(evidence(**EXTREMES["each arm spends the same"])))

    assert row["effect"] == 1
    assert row["p_anytime"] <= 0.05


def test_an_average_of_nothing_is_unknown() -> None:
    """Where nobody in an arm has rated, there is no average, and no difference of it."""
    for extreme in ("nobody spends", "only treated rate"):
        rows = uplift(evidence(**EXTREMES[extreme])).filter(metric="csat", slice="all", journey_id="j0")
        assert rows["effect"].to_list() == [None]


def test_very_much_money_counts_as_the_most_there_is() -> None:
    """A customer of 100 billion counts as 10 billion (SPEC 11.2): squares of more do not fit."""
    row = money(uplift(evidence(treated=200, control=200, revenue=np.where(np.arange(400) == 7, 1e11, 0.0))))

    assert row["mean_treated"] == pytest.approx(1e10 / 200)


def test_unknown_money_is_not_the_most() -> None:
    """Where outcomes of earlier days do not know the metric, capping leaves them unknown."""
    of = replace(OF, measurement=replace(OF.measurement, cap_at=0.99))
    unknown = pl.Series([None if number % 2 == 0 else spent for number, spent in enumerate(SPENT.tolist())], dtype=pl.Float64)
    row = money(uplift(evidence(of, treated=200, control=200, revenue=unknown), of))

    assert (row["treated"], row["control"]) == (100, 100)
    assert row["mean_control"] == pytest.approx(SPENT[201::2].mean(), rel=0.05)


def test_a_large_effect_helps() -> None:
    """The frames of this module can say so at all."""
    row = money(uplift(evidence(treated=2_000, control=2_000, revenue=np.tile(SPENT, 10) + np.repeat([20.0, 0], 2_000))))

    assert row["verdict"] == HELPS
