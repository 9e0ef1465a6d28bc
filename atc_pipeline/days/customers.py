"""A day of customers: what their events add up to, their profiles, and the micro-segments they are in.

What belongs here: what a day of each reads, and what of it is made again. What does not: how anything is computed (``customers``).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta

import polars as pl

from atc_pipeline.customers import features, metrics, remembered
from atc_pipeline.customers.activity import Rollup, roll_up, roll_up_again
from atc_pipeline.customers.coverage import gathered
from atc_pipeline.customers.profiles import (
    STATE,
    built_in,
    count_values,
    lookback_days,
    purchases,
    rank_values,
    ranked,
    rollup_columns,
    state_schema,
    table_schema,
    update_again,
    update_profiles,
)
from atc_pipeline.customers.purchases import PREDICTED, model_for_day, predict
from atc_pipeline.customers.segments import assign_segments
from atc_pipeline.customers.segments import definitions as segment_definitions
from atc_pipeline.customers.tables import FEATURE_COVERAGE
from atc_pipeline.days.features import CALENDAR, Definitions
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.days.spells import Spells
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import EVERYONE_ELSE, Portfolio
from atc_pipeline.rules.measured import kept
from atc_pipeline.tables.store import Store, Tables, with_columns, yesterday_of


class Activity:
    """Takes out of a day's events what the portfolio asks for."""

    def __init__(self, store: Store, portfolio: Portfolio, *, only_changed: bool = False) -> None:
        """``only_changed``: of days that are there, make only what was defined anew since."""
        self.store, self.portfolio, self.only_changed = store, portfolio, only_changed
        self.made_by = features.definitions(portfolio)
        self.definitions = Definitions(store, self.made_by, portfolio.starts_on)

    def make(self, day: date) -> Tables:
        """Return ``customer_activity`` and ``feature_coverage``; with ``only_changed`` nothing where nothing has changed."""
        if self.only_changed and not self.is_behind(day) and self.definitions.agrees("customer_activity", day):
            return {}
        events, people = self.store.lazy("raw_events", day), self.store.lazy("identity_map", day)
        merged, known = absorbed(people), people.select("customer_id")
        if self.only_changed:
            changed = self.definitions.changed("customer_activity", day)
            rolled = roll_up_again(self._before(day), events, self.portfolio, changed, arrival=day, absorbed=merged, known=known)
        else:
            rolled = roll_up(events, self.portfolio, arrival=day, absorbed=merged, known=known)
        return {"customer_activity": rolled.activity, "feature_coverage": rolled.coverage}

    reads_events = True

    @property
    def is_by_shard(self) -> bool:
        """Whether whole days are made."""
        return not self.only_changed

    def gather(self, table: str, parts: Sequence[pl.DataFrame]) -> pl.DataFrame | None:
        """Add up ``feature_coverage``."""
        return gathered(parts) if table == "feature_coverage" else None

    def is_behind(self, day: date) -> bool:
        """Return whether something of the day is new or defined anew since it was made. Raises OutdatedDayError."""
        return bool(self.definitions.changed("customer_activity", day))

    def _before(self, day: date) -> Rollup:
        is_covered = self.store.has("feature_coverage", day)
        coverage = self.store.lazy("feature_coverage", day).collect() if is_covered else pl.DataFrame(schema=FEATURE_COVERAGE.schema)
        return Rollup(self.store.lazy("customer_activity", day).collect(), coverage)


class Metrics:
    """Takes out of a day's events what is measured of customers."""

    def __init__(self, store: Store, portfolio: Portfolio, *, only_changed: bool = False) -> None:
        """``only_changed``: of days that are there, make those of which a metric is new or defined anew."""
        self.store, self.portfolio, self.only_changed = store, portfolio, only_changed
        self.made_by = metrics.definitions(portfolio, kept(portfolio))
        self.definitions = Definitions(store, self.made_by, portfolio.starts_on)

    def make(self, day: date) -> Tables:
        """Return ``customer_metrics``; with ``only_changed`` nothing where nothing has changed."""
        if self.only_changed and not self.is_behind(day) and self.definitions.agrees("customer_metrics", day):
            return {}
        events, people = self.store.lazy("raw_events", day), self.store.lazy("identity_map", day)
        known = people.select("customer_id")
        return {"customer_metrics": metrics.measure(events, self.portfolio, arrival=day, absorbed=absorbed(people), known=known)}

    reads_events = True

    @property
    def is_by_shard(self) -> bool:
        """Whether whole days are made."""
        return not self.only_changed

    def gather(self, table: str, parts: Sequence[pl.DataFrame]) -> None:
        """Gather nothing: its table is by customer."""

    def is_behind(self, day: date) -> bool:
        """Return whether something of the day is new or defined anew since it was made. Raises OutdatedDayError."""
        return bool(self.behind(day))

    def behind(self, day: date) -> list[str]:
        """Return the metrics that the day was made without, or by other definitions; all where it is not there. Raises OutdatedDayError."""
        if not self.store.has("customer_metrics", day):
            return [name for name in self.made_by if name != CALENDAR]
        return self.definitions.changed("customer_metrics", day)


class Profiles:
    """Adds what arrived to what was known; fits the purchase models when it is time, and predicts."""

    def __init__(self, store: Store, portfolio: Portfolio, *, only_changed: bool = False) -> None:
        """``only_changed``: of days that are there, make only what was defined anew since."""
        self.store, self.portfolio, self.only_changed = store, portfolio, only_changed
        self.definitions = Definitions(store, features.definitions(portfolio), portfolio.starts_on)
        self.made_by = self.definitions.with_history
        schema = remembered.rollup_schema(portfolio)
        columns = {name: schema[name] for name in rollup_columns(portfolio)}
        self.activity = Rolling(store, "customer_activity", lookback_days(portfolio), columns, since=portfolio.starts_on)

    def make(self, day: date) -> Tables:
        """Return ``customer_profiles`` and ``purchase_models``; with ``only_changed`` nothing where nothing has changed."""
        if self.only_changed:
            return self._again(day)
        half, values = self.begin(day, self.before(day))
        return self.finish(day, half, self.combine([values]))

    def before(self, day: date) -> pl.DataFrame:
        """Return the models of purchases to predict with, which are fitted to everybody; without predictions, that there are none."""
        if self.portfolio.predictions is None:
            return model_for_day(None, None, None, today=day)
        yesterday = self._yesterday(day)
        before = yesterday_of(self.store, "purchase_models", day, self.portfolio.starts_on)
        bought = None if yesterday is None else purchases(yesterday)
        return model_for_day(bought, None if before is None else before.collect(), self.portfolio.predictions, today=day)

    def begin(self, day: date, known: pl.DataFrame) -> tuple[tuple[pl.DataFrame, pl.DataFrame], pl.DataFrame]:
        """Return the profiles but for what needs everybody, with the models ``known``; and how often each value is there to be ranked."""
        self._require(day)
        updated = update_profiles(
            self._yesterday(day), self.activity.until(day), self.portfolio, today=day, absorbed=self._merged(day)
        ).collect()
        return (updated, known), count_values(updated, self.portfolio)

    def combine(self, summaries: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Rank the values of everybody."""
        return rank_values(summaries)

    def finish(self, day: date, half: tuple[pl.DataFrame, pl.DataFrame], small: pl.DataFrame) -> Tables:
        """Return ``customer_profiles`` and ``purchase_models``."""
        updated, models = half
        return {"customer_profiles": self._predicted(day, ranked(updated, small, self.portfolio), models), "purchase_models": models}

    reads_events = False

    @property
    def is_by_shard(self) -> bool:
        """Whether whole days are made."""
        return not self.only_changed

    def gather(self, table: str, parts: Sequence[pl.DataFrame]) -> pl.DataFrame | None:
        """Return the models, which are the same everywhere."""
        return parts[0] if table == "purchase_models" else None

    def agree(self, made_by: Sequence[Mapping[str, str] | None]) -> Mapping[str, str] | None:
        """Return what all say."""
        return made_by[0]

    def _again(self, day: date) -> Tables:
        """Make again what was defined anew."""
        if not self.is_behind(day) and self.definitions.agrees("customer_profiles", day):
            return {}
        self._require(day)
        features_again = [*self.definitions.changed("customer_profiles", day), *self._built_in_since(day)]
        kept, activity, yesterday = self.store.lazy("customer_profiles", day), self.activity.until(day), self._yesterday(day)
        merged = self._merged(day)
        profiles = update_again(kept, yesterday, activity, self.portfolio, features_again, today=day, absorbed=merged).collect()
        if self.portfolio.predictions is None or "predictions" in features_again:
            models = self.before(day)
            return {"customer_profiles": self._predicted(day, profiles, models), "purchase_models": models}
        return {"customer_profiles": profiles, "purchase_models": self.store.lazy("purchase_models", day).collect()}

    def _require(self, day: date) -> None:
        """Raise OutdatedDayError where a day that is read was made by other definitions."""
        self.definitions.require_window("customer_activity", day, self.activity.days_before)
        if day > self.portfolio.starts_on:
            self.definitions.require("customer_profiles", [day - timedelta(days=1)])

    def _merged(self, day: date) -> pl.LazyFrame:
        return absorbed(self.store.lazy("identity_map", day), since=day - timedelta(days=self.activity.days_before))

    def _predicted(self, day: date, profiles: pl.DataFrame, models: pl.DataFrame) -> pl.DataFrame:
        if self.portfolio.predictions is None:
            return profiles
        expected = predict(purchases(profiles.lazy()), models, today=day, horizon_days=self.portfolio.predictions.horizon_days)
        return profiles.with_columns(expected.select(PREDICTED).collect())

    def is_behind(self, day: date) -> bool:
        """Return whether something of the day is new or defined anew since it was made. Raises OutdatedDayError."""
        return bool(self.definitions.changed("customer_profiles", day) or self._lacking(day))

    def _built_in_since(self, day: date) -> list[str]:
        """Return the features with a built-in column that the day lacks, as it was made before there was one."""
        lacking, known = self._lacking(day), built_in(self.portfolio)
        return features.of_sections(self.portfolio, {known[name].section for name in lacking})

    def _lacking(self, day: date) -> list[str]:
        """Return the built-in columns that the day was made before."""
        there = set(self.store.lazy("customer_profiles", day).collect_schema())
        return [name for name in built_in(self.portfolio) if name not in there]

    def _yesterday(self, day: date) -> pl.LazyFrame | None:
        if day <= self.portfolio.starts_on:
            return None
        before, state = day - timedelta(days=1), {STATE: pl.Struct(state_schema(self.portfolio))}
        return with_columns(self.store, "customer_profiles", before, state, self.portfolio.starts_on)


class Memberships:
    """Sees who is in which micro-segment, and since when."""

    def __init__(self, store: Store, portfolio: Portfolio, *, only_changed: bool = False) -> None:
        """``only_changed``: of days that are there, make only micro-segments that are new or defined anew since; rows of others stay."""
        self.store, self.portfolio, self.only_changed = store, portfolio, only_changed
        self.spells = Spells(store, "micro_segment_memberships", "segment_id", segment_definitions(portfolio), portfolio.starts_on)
        self.made_by: Mapping[str, str] | None = None
        """By what the day made last was made."""

    def changed(self, day: date) -> list[str]:
        """Return the micro-segments of which the day's rows are not by today's definitions, nor on the day before as it is."""
        return self.spells.changed(day)

    def make(self, day: date) -> Tables:
        """Return ``micro_segment_memberships``; nothing where nothing has changed."""
        only = self.changed(day) if self.only_changed else None
        if only is not None and not only:
            return {}
        read = [segment for segment in self.portfolio.segments if only is None or segment.id in only or EVERYONE_ELSE in only]
        members = assign_segments(
            profiles_of(self.store, self.portfolio, day, {name for segment in read for name in segment.condition.columns}),
            yesterday_of(self.store, "micro_segment_memberships", day, self.portfolio.starts_on),
            read,
            today=day,
            absorbed=absorbed(self.store.lazy("identity_map", day), since=day),
            only=only,
        ).collect()
        self.made_by = self.spells.expected(day)
        if only is not None:
            kept = self.store.lazy("micro_segment_memberships", day).filter(~pl.col("segment_id").is_in(only)).collect()
            members = pl.concat([kept, members]).sort("segment_id", "customer_id")
            self.made_by = self.spells.recorded(day) | {name: self.made_by[name] for name in only}
        return {"micro_segment_memberships": members}

    reads_events = False

    @property
    def is_by_shard(self) -> bool:
        """Whether whole days are made."""
        return not self.only_changed

    def gather(self, table: str, parts: Sequence[pl.DataFrame]) -> None:
        """Gather nothing: its table is by customer."""


def profiles_of(store: Store, portfolio: Portfolio, day: date, columns: Iterable[str]) -> pl.LazyFrame:
    """Read the day's profiles, which must have these columns as today's portfolio defines them. Raises OlderDayError."""
    schema = table_schema(portfolio)
    return with_columns(store, "customer_profiles", day, {name: schema[name] for name in columns}, portfolio.starts_on)
