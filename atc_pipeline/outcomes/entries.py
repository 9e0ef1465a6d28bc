"""Entries: who was exposed to which journey, with all that was true then (SPEC 10).

What belongs here: what is written down of a start or a switch. What does not: lots and scores (``decision``), what came of it
(``maturing``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import polars as pl

from atc_pipeline.journeys.portfolio import RESPONSES, Metric, Portfolio, goal_metric
from atc_pipeline.outcomes.tables import columns_of, journey_entries
from atc_pipeline.rules.probabilities import PRIOR

IS_ENTRY = pl.col("decision").is_in(["start", "switch"])
"""True of an answer by which the customer enters the journey."""
_KEY = ("version:", "journey_id")

Sums = Callable[[pl.DataFrame, Sequence[Metric]], pl.DataFrame]
"""Adds up metrics in spans, as ``windows.sums_in`` does."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of customers on the day: the day's profiles and memberships, and what metrics add up to in spans (``Sums``)."""

    profiles: pl.LazyFrame
    memberships: pl.LazyFrame
    sums: Sums
    learned: pl.DataFrame | None = None
    adapted: Mapping[str, tuple[date, Mapping[str, float]]] = field(default_factory=dict)
    """``learned``: of the day's entries, where something is learned: ``propensity``, ``baseline``, ``propensity_source`` and
    ``model_fitted_on``. ``adapted``: by journey whose variants have adapted, since when they are drawn by which shares.
    """


def write_entries(
    assignments: pl.DataFrame,
    state: pl.DataFrame,
    known: Known,
    portfolio: Portfolio,
    *,
    today: date,
    versions: Mapping[str, Portfolio] | None = None,
) -> pl.DataFrame:
    """One row per answer of the day that enters a journey, by customer and journey.

    ``state``: the memory after the answers. ``versions``: portfolios by their fingerprints: an answer that stands, as it was delivered
    before, is measured as the version says that decided it; where that is not told or gone, as ``portfolio`` does.
    """
    table = journey_entries(portfolio)
    known_versions = {**(versions or {}), portfolio.fingerprint: portfolio}
    version = pl.when(pl.col("portfolio").is_in(list(known_versions))).then("portfolio").otherwise(pl.lit(portfolio.fingerprint))
    entered = assignments.filter(IS_ENTRY).sort("customer_id", "journey_id").with_columns(version.alias("version:"))
    entered = entered.with_row_index("row")
    sums = _before(entered, known.sums, portfolio, today)
    people = known.profiles.join(entered.lazy().select("customer_id"), on="customer_id", how="semi").select(
        "customer_id", preferred_channel="preferred_channel" if portfolio.engagement is not None else pl.lit(None, pl.String)
    )
    rows = (
        entered.lazy()
        .join(state.lazy().select("customer_id", "journey_id", entry_number="times_entered"), on=["customer_id", "journey_id"], how="left")
        .join(_rules(known_versions).lazy(), on=_KEY, how="left")
        .join(_shares(known_versions, portfolio, known.adapted).lazy(), on=[*_KEY, "variant"], how="left")
        .join(people, on="customer_id", how="left")
        .join(_learned(known.learned), on=["customer_id", "journey_id"], how="left")
        .join(_segments(entered, known.memberships), on="customer_id", how="left")
        .join(sums.lazy(), on="row", how="left")
        .sort("row")
        .with_columns(
            pl.lit(today).alias("date"),
            pl.col("segments").fill_null([]),
            **_probabilities(known.learned),
            matures_on=pl.lit(today) + pl.duration(days=pl.col("window_days") + pl.col("late_days")),
        )
    )
    return rows.select(*table.schema).cast(table.schema).collect()


LEARNED = pl.Schema(
    {
        "customer_id": pl.String(),
        "journey_id": pl.String(),
        "propensity": pl.Float64(),
        "baseline": pl.Float64(),
        "propensity_source": pl.String(),
        "model_fitted_on": pl.Date(),
    }
)
"""What is known of the goal of an entry, and by what (``Known.learned``)."""


def _learned(learned: pl.DataFrame | None) -> pl.LazyFrame:
    rows = (pl.DataFrame(schema=LEARNED) if learned is None else learned).lazy()
    return rows.select("customer_id", "journey_id", **{f"learned_{name}": name for name in LEARNED if not name.endswith("_id")})


def _probabilities(learned: pl.DataFrame | None) -> dict[str, pl.Expr]:
    """Say the probability of each entry: what was learned, if that is done, and else what the version says that decided it."""
    if learned is None:
        return {"baseline": pl.lit(None, pl.Float64), "propensity_source": pl.lit(PRIOR), "model_fitted_on": pl.lit(None, pl.Date)}
    return {
        "propensity": pl.coalesce("learned_propensity", "propensity"),
        "baseline": pl.col("learned_baseline"),
        "propensity_source": pl.col("learned_propensity_source").fill_null(PRIOR),
        "model_fitted_on": pl.col("learned_model_fitted_on"),
    }


def _rules(versions: Mapping[str, Portfolio]) -> pl.DataFrame:
    """One row per version and journey of it: how its entries are held out, scored and measured."""
    rows = [
        (
            name,
            journey.id,
            journey.holdout,
            journey.holdout_version,
            portfolio.policy.holdout,
            portfolio.version,
            portfolio.policy.prior_propensity,
            portfolio.window_days(journey),
            portfolio.measurement.late_days,
            journey.goal.within_days if journey.goal else None,
        )
        for name, portfolio in versions.items()
        for journey in portfolio.journeys
    ]
    schema = {
        "version:": pl.String,
        "journey_id": pl.String,
        "holdout": pl.Float64,
        "holdout_version": pl.String,
        "policy_holdout": pl.Float64,
        "version": pl.String,
        "propensity": pl.Float64,
        "window_days": pl.Int64,
        "late_days": pl.Int64,
        "goal_within_days": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _shares(versions: Mapping[str, Portfolio], now: Portfolio, adapted: Mapping[str, tuple[date, Mapping[str, float]]]) -> pl.DataFrame:
    """One row per version, journey and variant of it: the probability with which it is drawn, and since when, where that has adapted."""
    rows = []
    for name, portfolio in versions.items():
        for journey in portfolio.journeys:
            since, shares = adapted.get(journey.id, (None, {})) if portfolio is now else (None, {})
            rows += [(name, journey.id, variant.id, shares.get(variant.id, variant.share), since) for variant in journey.variants]
    schema = {
        "version:": pl.String,
        "journey_id": pl.String,
        "variant": pl.String,
        "variant_probability": pl.Float64,
        "shares_since": pl.Date,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _segments(entered: pl.DataFrame, memberships: pl.LazyFrame) -> pl.LazyFrame:
    """One row per customer who is in a micro-segment: all of theirs, sorted."""
    members = memberships.join(entered.lazy().select("customer_id"), on="customer_id", how="semi")
    return members.group_by("customer_id").agg(segments=pl.col("segment_id").sort())


def _signs_of_life(portfolio: Portfolio) -> list[Metric]:
    """Return what a quiet customer does none of: answers, and orders."""
    signs = [RESPONSES] if portfolio.engagement is not None else []
    signs += [goal_metric(portfolio.predictions.order)] if portfolio.predictions is not None else []
    return [metric for metric in (*portfolio.measured, *portfolio.goal_metrics) if metric.id in signs]


def _before(entered: pl.DataFrame, add_up: Sums, portfolio: Portfolio, today: date) -> pl.DataFrame:
    """One row per entry: what each metric added up to before it, ``<column>_before``, and ``is_quiet``.

    Where neither answers nor orders are known, nobody is quiet: nobody could be seen to come back.
    """
    spans = entered.select("row", "customer_id", until=pl.lit(today))

    def sums(days: int, of: Sequence[Metric]) -> pl.DataFrame:
        return add_up(spans.with_columns(after=pl.lit(today - timedelta(days=days))), of) if of else spans.select("row")

    before, signs = sums(portfolio.measurement.before_days, portfolio.measured), _signs_of_life(portfolio)
    lately = sums(portfolio.paths.quiet_days, signs)
    is_quiet = pl.all_horizontal(pl.col(metric.id) == 0 for metric in signs) if signs else pl.lit(value=False)
    names = [name for metric in portfolio.measured for name in columns_of(metric)]
    return before.select("row", *(pl.col(name).alias(f"{name}_before") for name in names)).join(
        lately.select("row", is_quiet=is_quiet), on="row"
    )
