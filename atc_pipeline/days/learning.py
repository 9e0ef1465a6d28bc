"""A day of learning: what is read to say what is known of goals, before the day is decided.

What belongs here: which days of what are read, and how little. What does not: what is learned (``learning``), what came of an entry
(``days.maturing``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import polars as pl

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.learning.model import TRAINING, GoalModel, GoalProbabilities, counts_of, model_for_day
from atc_pipeline.learning.quality import BY_JOURNEY, DAYS, by_journey, outside
from atc_pipeline.learning.shares import TRIED, InForce, shares_for_day
from atc_pipeline.rules.arms import POLICY, TREATED
from atc_pipeline.tables.store import Store

MODELS, OUTCOMES, PROFILES = "goal_models", "journey_outcomes", "entry_profiles"
_OF_OUTCOMES = ("customer_id", "journey_id", "entered_on", "known_as", "arm", "held_out_by", "goal")


class Learning:
    """Says what is known of goals on a day; of days that follow each other it keeps what it has read."""

    def __init__(self, store: Store, portfolio: Portfolio, *, is_recorded: bool = False) -> None:
        """``is_recorded``: take what was known on a day as it was recorded, and learn nothing anew."""
        self.store, self.portfolio, self.is_recorded = store, portfolio, is_recorded
        self.past = Past(store, portfolio)

    def model(self, day: date) -> GoalModel:
        """Return the model to decide the day with: by nothing but what had matured the day before."""
        if self.portfolio.learning is None:
            return GoalModel()
        if self.is_recorded:
            recorded = self._of(day)
            return GoalModel() if recorded is None else GoalModel.of(recorded)
        self.past.until(day - timedelta(days=1))
        return model_for_day(self._before(day), self.past, self.portfolio, today=day, outside=self.past.outside())

    def shares(self, day: date) -> Mapping[str, InForce]:
        """Return the shares of variants that have adapted, as of the day."""
        if self.is_recorded:
            return shares_for_day(self._of(day), lambda _: pl.DataFrame(schema=TRIED), self.portfolio, today=day)
        if not any(journey.adapt for journey in self.portfolio.journeys):
            return {}
        last = day - timedelta(days=1)
        return shares_for_day(self._before(day), lambda ids: self._tried(ids, last), self.portfolio, today=day)

    def _of(self, day: date) -> pl.DataFrame | None:
        """Read what was known on a day; None where nobody wrote it down."""
        return self.store.lazy(MODELS, day).collect() if self.store.has(MODELS, day) else None

    def _before(self, day: date) -> pl.DataFrame | None:
        """Read what was known the day before; before the first day there was nothing."""
        return self._of(day - timedelta(days=1)) if day > self.portfolio.starts_on else None

    def _tried(self, ids: Sequence[str], last: date) -> pl.DataFrame:
        """Return what had come of variants by a day, of treated first entries (``shares.TRIED``)."""
        days = [day for day in self.store.days(OUTCOMES) if day <= last]
        outcomes = self.store.scan(OUTCOMES, days, may_lack=True) if days else None
        value = self.portfolio.money or "goal"
        if outcomes is None or not {value, "shares_since"} <= set(outcomes.collect_schema()):
            return pl.DataFrame(schema=TRIED)
        is_tried = (pl.col("arm") == TREATED) & (pl.col("entry_number") == 1) & ~pl.col("contaminated") & pl.col("variant").is_not_null()
        rows = outcomes.filter(is_tried & pl.col("journey_id").is_in(list(ids)))
        return rows.select("journey_id", "variant", "shares_since", value=pl.col(value).cast(pl.Float64)).drop_nulls("value").collect()

    def probabilities(self, model: GoalModel) -> GoalProbabilities | None:
        """Return what the model says of customers; None where nothing is learned."""
        return None if self.portfolio.learning is None else GoalProbabilities(model, self.portfolio)


@dataclass
class Past:
    """What had matured by a day, of entries of the days that are learned from, read once (``learning.model.History``)."""

    store: Store
    portfolio: Portfolio
    last: date | None = None
    _outcomes: dict[date, pl.DataFrame] = field(default_factory=dict)
    _quality: dict[date, pl.DataFrame] = field(default_factory=dict)
    _features: dict[date, pl.DataFrame] = field(default_factory=dict)

    def until(self, day: date) -> None:
        """Look at it as of the end of this day."""
        self.last = day

    def counts(self) -> pl.DataFrame:
        """Count them by journey."""
        return counts_of(self._matured())

    def rows(self) -> pl.DataFrame:
        """One row per entry, with what is known of its customer then."""
        rows = self._matured().sort("entered_on", "customer_id", "journey_id")
        days = rows["entered_on"].unique().sort()
        self._features = {day: known for day, known in self._features.items() if day >= self._first()}
        features = pl.concat([self.features_of(day).with_columns(entered_on=pl.lit(day)) for day in days])
        joined = rows.join(features, on=["entered_on", "customer_id", "journey_id"], how="left", maintain_order="left")
        return joined.with_columns(customer_id="known_as").drop("known_as")

    def outside(self) -> Mapping[str, bool]:
        """Say of each journey whether its goals were too far from what was expected of them lately."""
        assert self.last is not None
        first = self.last - timedelta(days=DAYS - 1)
        self._quality = {day: sums for day, sums in self._quality.items() if day >= first}
        for day in self._unread(first, self._quality):
            self._quality[day] = by_journey(self.store.lazy(OUTCOMES, day))
        return outside(pl.concat([pl.DataFrame(schema=BY_JOURNEY), *(self._quality[day] for day in sorted(self._quality))]))

    def _matured(self) -> pl.DataFrame:
        """Return what is learned from, in any order: no longer ago than ``history_days``, and none of those whom ``policy`` held out.

        Where no journey has a control group of its own, those are all that is known of being left alone.
        """
        first = self._first()
        self._outcomes = {day: rows for day, rows in self._outcomes.items() if day >= first}
        for day in self._unread(first, self._outcomes):
            self._outcomes[day] = self._read(day)
        matured = pl.concat([pl.DataFrame(schema=_SCHEMA), *(self._outcomes[day] for day in sorted(self._outcomes))])
        is_held_out_by_journeys = any(journey.holdout > 0 for journey in self.portfolio.journeys)
        counts = (pl.col("entered_on") >= first) & (~pl.col("is_of_policy") | (not is_held_out_by_journeys))
        return matured.filter(counts).drop("is_of_policy")

    def _first(self) -> date:
        assert self.portfolio.learning is not None
        assert self.last is not None
        return self.last + timedelta(days=1) - timedelta(days=self.portfolio.learning.history_days)

    def _unread(self, first: date, read: Mapping[date, pl.DataFrame]) -> Iterator[date]:
        """Yield the days from ``first`` to the last that have outcomes, and were not read."""
        assert self.last is not None
        day = max(first, self.portfolio.starts_on)
        while day <= self.last:
            if day not in read and self.store.has(OUTCOMES, day):
                yield day
            day += timedelta(days=1)

    def _read(self, day: date) -> pl.DataFrame:
        return (
            self.store.lazy(OUTCOMES, day)
            .filter(pl.col("goal").is_not_null() & ~pl.col("contaminated"))
            .select(*_OF_OUTCOMES)
            .with_columns(is_treated=pl.col("arm") == TREATED, is_of_policy=(pl.col("held_out_by") == POLICY).fill_null(value=False))
            .select(*_SCHEMA)
            .collect()
        )

    def features_of(self, day: date) -> pl.DataFrame:
        """Return what is known of those who entered on a day, by entry; what was not kept then is read in the profiles of the day."""
        assert self.portfolio.learning is not None
        if day not in self._features:
            features = self.portfolio.learning.features
            entered = self.store.lazy("journey_entries", day).select("customer_id", "journey_id")
            kept = self.store.lazy(PROFILES, day) if self.store.has(PROFILES, day) else entered
            known = _of_types(kept, features)
            lacking = {name: dtype for name, dtype in features.items() if name not in known}
            rows = kept.select("customer_id", "journey_id", *known)
            if lacking and self.store.has("customer_profiles", day):
                profiles = self.store.lazy("customer_profiles", day)
                there = _of_types(profiles, lacking)
                rows = rows.join(profiles.select("customer_id", *there), on="customer_id", how="left", maintain_order="left")
                lacking = {name: dtype for name, dtype in lacking.items() if name not in there}
            nothing = {name: pl.lit(None, dtype) for name, dtype in lacking.items()}
            self._features[day] = rows.with_columns(**nothing).select("customer_id", "journey_id", *features).collect()
        return self._features[day]


_SCHEMA = pl.Schema({**TRAINING, "known_as": pl.String(), "is_of_policy": pl.Boolean()})


def _of_types(frame: pl.LazyFrame, columns: Mapping[str, pl.DataType]) -> list[str]:
    """Return those of the columns that are there, and of the type that is expected."""
    there = frame.collect_schema()
    return [name for name, dtype in columns.items() if there.get(name) == dtype]
