"""A day of outcomes: the segment matrix, what journeys are worth, and how well goals were foretold.

What belongs here: what a day of each reads. What does not: counting (``outcomes.matrix``), estimating (``outcomes.uplift``), pictures.
"""

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl

from atc_pipeline.customers import metrics
from atc_pipeline.days.features import Definitions
from atc_pipeline.days.growing import Growing
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.learning.quality import model_quality
from atc_pipeline.learning.tables import JOURNEY, MODEL_QUALITY, SHARED
from atc_pipeline.outcomes.matrix import segment_matrix
from atc_pipeline.outcomes.tables import columns_of, journey_entries, journey_outcomes, long_outcomes
from atc_pipeline.outcomes.uplift import RUN_RATE_DAYS, Evidence, estimate_uplift
from atc_pipeline.outcomes.verdicts import price_of_message
from atc_pipeline.rules.arms import CONTROL, POLICY, TREATED
from atc_pipeline.rules.measured import SENT, SENT_TYPE, micro_of
from atc_pipeline.rules.numbers import MICRO, quotient
from atc_pipeline.rules.people import survivors
from atc_pipeline.tables.store import Store, Tables, yesterday_of


class Matrix:
    """Counts how large each micro-segment is, who came and went, and what serves most of it."""

    made_by = None

    def __init__(self, store: Store, portfolio: Portfolio) -> None:
        self.store, self.portfolio = store, portfolio

    def make(self, day: date) -> Tables:
        """Return ``segment_matrix``."""
        yesterday = yesterday_of(self.store, "micro_segment_memberships", day, self.portfolio.starts_on)
        today, answers = self.store.lazy("micro_segment_memberships", day), self.store.lazy("journey_assignments", day)
        return {"segment_matrix": segment_matrix(today, yesterday, answers, today=day).collect()}


class Uplift:
    """Estimates what each journey and all of them are worth, of all that has matured; what was read stays from one day to the next."""

    made_by = None

    def __init__(self, store: Store, portfolio: Portfolio) -> None:
        self.store, self.portfolio = store, portfolio
        since = portfolio.starts_on
        self.entries, self.outcomes, self.long = (
            Growing(store, table.name, {name: dtype for name, dtype in table.schema.items() if name not in _UNREAD}, since)
            for table in (journey_entries(portfolio), journey_outcomes(portfolio), long_outcomes(portfolio))
        )
        self.late = Late(store, portfolio)

    def make(self, day: date) -> Tables:
        """Return ``uplift``."""
        return {"uplift": estimate_uplift(self.evidence(day), self.portfolio, today=day)}

    def evidence(self, day: date) -> Evidence:
        """Return what the estimates of a day stand on."""
        entries = self.entries.until(day)
        # Some became one with others after their entries had matured.
        names = absorbed(self.store.lazy("identity_map", day)).collect().lazy()
        recent, cost, sent_to_control = self.late.of(day, entries, names)
        known = survivors(entries.with_columns(entered_as="customer_id"), names).rename(
            {"customer_id": "known_as", "entered_as": "customer_id"}
        )
        return Evidence(known, self.outcomes.until(day), self.long.until(day), recent.lazy(), cost, sent_to_control)


_UNREAD = {
    "decision", "is_drawn", "options", "selection_probability", "score", "propensity", "baseline", "propensity_source", "model_fitted_on",
    "expected",
    "goal_within_days", "is_quiet", "portfolio", "goal_on", "ended_on", "ended_reason", "withheld", "window_days", "measured_days",
}  # fmt: skip
"""Columns of entries and outcomes that no estimate reads."""


class Quality:
    """Says how well the probabilities did that were said at entry, of what matured on the day."""

    made_by = None

    def __init__(self, store: Store, portfolio: Portfolio) -> None:
        self.store, self.portfolio = store, portfolio

    def make(self, day: date) -> Tables:
        """Return ``model_quality``; nothing is in it where nothing is learned."""
        if self.portfolio.learning is None:
            return {"model_quality": pl.DataFrame(schema=MODEL_QUALITY.schema)}
        rates = (
            self.store.lazy("goal_models", day)
            .filter(pl.col("part").is_in([SHARED, JOURNEY]) & pl.col("name").is_in(["rate", "baseline_rate"]))
            .collect()
            .pivot("name", index="journey_id", values="value")
        )
        lacking = [pl.lit(None, pl.Float64).alias(name) for name in ("rate", "baseline_rate") if name not in rates.columns]
        rows = model_quality(self.store.lazy("journey_outcomes", day), rates.with_columns(lacking))
        return {"model_quality": rows.select(pl.lit(day).alias("date"), pl.all()).cast(MODEL_QUALITY.schema)}


class Late:
    """Sees what everybody who was ever in a journey brought lately, and what was sent for entries of which outcomes do not say it yet."""

    def __init__(self, store: Store, portfolio: Portfolio) -> None:
        self.store, self.portfolio = store, portfolio
        longest = max((portfolio.window_days(journey) for journey in portfolio.journeys), default=1)
        self.money = next((metric for metric in portfolio.measured if metric.id == portfolio.money), None)
        self.days_before = max(RUN_RATE_DAYS, longest + portfolio.measurement.late_days) - 1
        columns = {"date": pl.Date(), "customer_id": pl.String(), "event_date": pl.Date(), SENT: SENT_TYPE}
        if self.money is not None:
            columns[micro_of(self.money)] = pl.Int64()
        self._columns = columns
        self._rolling: Rolling | None = None
        self._definitions = Definitions(
            store, metrics.definitions(portfolio, [self.money] if self.money is not None else []), portfolio.starts_on
        )

    def of(self, day: date, entries: pl.LazyFrame, names: pl.LazyFrame) -> tuple[pl.DataFrame, float, Mapping[str, int]]:
        """Return ``uplift.RECENT``, what the messages of its days cost, and by journey the customers in control who were sent some.

        ``names``: who is who by now, of ``absorbed``.
        """
        first = day - timedelta(days=self.days_before)
        done = survivors(self._until(day), names).filter(pl.col("event_date").is_between(first, day)).collect()
        is_late = pl.col("event_date") > day - timedelta(days=RUN_RATE_DAYS)
        sent = done.filter(pl.col(SENT).list.len() > 0).select("customer_id", "event_date", SENT).explode(SENT).unnest(SENT)
        return self._recent(entries, done.filter(is_late), names), self._cost(sent.filter(is_late)), _in_control(entries, sent, names, day)

    def _until(self, day: date) -> pl.LazyFrame:
        if self._rolling is None:
            since = max([self.portfolio.starts_on, *self.store.days("customer_metrics")[:1]])
            self._rolling = Rolling(self.store, "customer_metrics", self.days_before, self._columns, since=since, may_lack=True)
        first = max(self._rolling.since, day - timedelta(days=self.days_before))
        self._definitions.require("customer_metrics", (first + timedelta(days=number) for number in range((day - first).days + 1)))
        return self._rolling.until(day)

    def _recent(self, entries: pl.LazyFrame, done: pl.DataFrame, names: pl.LazyFrame) -> pl.DataFrame:
        before = None if self.money is None else f"{columns_of(self.money)[0]}_before"
        triggers = (
            entries.filter(pl.col("version") == self.portfolio.version)
            .sort("date", "customer_id", "journey_id")
            .unique("customer_id", keep="first", maintain_order=True)
            .select(
                "customer_id",
                entered_on="date",
                arm=pl.when(pl.col("held_out_by").eq_missing(POLICY)).then(pl.lit(CONTROL)).otherwise(pl.lit(TREATED)),
                holdout="policy_holdout",
                money_before=pl.lit(0.0) if before is None else pl.col(before).fill_null(0.0),
            )
        )
        micro = pl.lit(0) if self.money is None else pl.col(micro_of(self.money))
        brought = done.lazy().group_by("customer_id").agg(micro=micro.cast(pl.Int128).sum())
        known = survivors(triggers.with_columns(entered_as="customer_id"), names).rename({"customer_id": "known_as"})
        money = quotient(pl.col("micro").fill_null(0).cast(pl.Float64), MICRO)
        return (
            known.join(brought.rename({"customer_id": "known_as"}), on="known_as", how="left")
            .select(
                pl.col("entered_as").alias("customer_id"), "known_as", "entered_on", "arm", "holdout", money.alias("money"), "money_before"
            )
            .collect()
        )

    def _cost(self, sent: pl.DataFrame) -> float:
        counts = dict(sent.group_by("journey_id").agg(pl.col("n").sum()).sort("journey_id").iter_rows())
        return float(sum(counts.get(journey.id, 0) * price_of_message(journey, self.portfolio) for journey in self.portfolio.journeys))


def _in_control(entries: pl.LazyFrame, sent: pl.DataFrame, names: pl.LazyFrame, day: date) -> dict[str, int]:
    """Count customers in control, of entries that have not matured, who were sent messages for the journey after they entered it.

    Whoever was ever treated in it too, perhaps under another name, was sent them for that.
    """
    who = ["customer_id", "journey_id"]
    # Few were sent anything lately: first theirs.
    theirs = survivors(entries.select(*who, "date", "arm", "matures_on"), names).join(sent.lazy(), on=who, how="semi")
    held_out = theirs.filter((pl.col("arm") == CONTROL) & (pl.col("matures_on") > day))
    never_treated = held_out.join(theirs.filter(pl.col("arm") == TREATED), on=who, how="anti")
    wrong = never_treated.join(sent.lazy(), on=who).filter(pl.col("event_date") > pl.col("date"))
    counts = wrong.group_by("journey_id").agg(pl.col("customer_id").n_unique().cast(pl.Int64)).collect()
    return dict(counts.iter_rows())
