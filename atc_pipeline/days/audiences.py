"""A day of audiences: who is to be in them, and what destinations are told so that they have what they should.

What belongs here: what a day of each reads, which days are told to destinations. What does not: who is a member
(``activation.audiences``), what differs (``activation.differences``), destinations and what they have (``resources.delivery``).
"""

from collections.abc import Callable, Collection, Sequence
from datetime import date, timedelta
from typing import Protocol

import polars as pl

from atc_pipeline.activation.audiences import audience_changes, columns_of_members, write_members
from atc_pipeline.activation.differences import (
    ANSWER,
    DIFFERENCE,
    KEY,
    differences,
    hold,
    keep_shared,
    wanted_answers,
    wanted_members,
)
from atc_pipeline.activation.tables import ACKNOWLEDGED, ANSWERS, AUDIENCE_SYNCS, REMOVE, UPDATE
from atc_pipeline.days.customers import profiles_of
from atc_pipeline.identity.map import absorbed, arms
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.tables.store import DamagedDayError, MissingDayError, Store, Tables

UPSTREAM = ("customer_profiles", "micro_segment_memberships", "journey_assignments")
"""What everybody is in, on every day."""


class EmptyDayError(MissingDayError):
    """A table has nobody in it on a day that must have somebody: an audience made of it would be emptied."""


class Members:
    """Writes who is to be in each audience, and who entered and left the journeys."""

    made_by = None

    def __init__(self, store: Store, portfolio: Portfolio) -> None:
        self.store, self.portfolio = store, portfolio

    def make(self, day: date) -> Tables:
        """Return ``audience_members`` and ``audience_changes``. Raises EmptyDayError."""
        assignments = self.store.lazy("journey_assignments", day)
        tables = {"audience_changes": audience_changes(assignments, today=day).collect()}
        if self.portfolio.audiences:
            _refuse_empty(self.store, self.portfolio, day)
        members = write_members(
            profiles_of(self.store, self.portfolio, day, columns_of_members(self.portfolio)),
            assignments,
            self.store.lazy("micro_segment_memberships", day),
            arms(self.store.lazy("identity_map", day)),
            self.portfolio,
            today=day,
        )
        return {"audience_members": members.collect(), **tables}


class Carrier(Protocol):
    """Tells destinations, and knows what they have."""

    def known(self) -> pl.DataFrame:
        """One row per audience, destination and customer that a destination has, or may have: ``differences.MEMBERSHIP``."""

    def tell(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Tell differences (``differences.DIFFERENCE``); one row for each, with ``status`` and ``reason``."""


class Synchronizing:
    """Tells every destination what it must be told of its audiences and of the one answer."""

    made_by = None

    def __init__(
        self,
        store: Store,
        portfolio: Portfolio,
        carrier: Callable[[date], Carrier],
        days: Sequence[date],
        *,
        erased: pl.Series | None = None,
        accepted: Collection[str] = (),
    ) -> None:
        """``carrier``: who tells a day's differences. ``days``: those that will be made. ``erased``: fingerprints of everybody erased.

        ``accepted``: audiences that may lose as many members as they would.
        """
        self.store, self.portfolio, self.carrier, self.accepted = store, portfolio, carrier, accepted
        self.erased = pl.Series(dtype=pl.String) if erased is None else erased
        self.earlier = {day: told_before(store, day) for day in days}
        self.kept: dict[date, pl.DataFrame] = {}
        """By day, one row per audience and destination: how many are there, were there, and differ."""
        self.unexplained: dict[date, pl.DataFrame] = {}
        """By day, who is wanted and would not be there with all that was acknowledged and still differs; or the other way round."""

    def make(self, day: date) -> Tables:
        """Return ``audience_syncs`` and ``answers``, once destinations were told. Raises EmptyDayError."""
        carrier = self.carrier(day)
        known = carrier.known()
        if known.is_empty() and not self.portfolio.audiences and self.portfolio.publish is None:
            self.kept[day], self.unexplained[day] = _counted(known, known, known), known.select(KEY)
            return {
                "audience_syncs": pl.DataFrame(schema=AUDIENCE_SYNCS.schema),
                "answers": pl.DataFrame(schema=ANSWERS.schema),
            }
        _refuse_empty(self.store, self.portfolio, day)
        assignments = self.store.lazy("journey_assignments", day)
        traits = self.portfolio.publish.traits if self.portfolio.publish else ()
        profiles = profiles_of(self.store, self.portfolio, day, {*columns_of_members(self.portfolio), *traits})
        members = wanted_members(self.store.lazy("audience_members", day), self.portfolio)
        wanted = pl.concat([members, wanted_answers(assignments, profiles, self.portfolio)])
        since = absorbed(self.store.lazy("identity_map", day))
        rows = differences(wanted, known.lazy(), profiles, since, self.erased, self.portfolio, today=day)
        rows, _ = hold(keep_shared(rows, wanted), known.lazy(), self.accepted)
        outcomes = pl.concat([_untold(rows), carrier.tell(rows.filter(pl.col("status").is_null()))])
        results = rows.drop("status").join(outcomes, on=KEY, how="left", maintain_order="left")
        self.unexplained[day] = unexplained(wanted, carrier.known() if _is_told(results) else known, results)
        self.kept[day] = _counted(wanted.select(KEY).collect(), known, results)
        return {"audience_syncs": self._syncs(results, day), "answers": self._answers(results, assignments, day)}

    def _syncs(self, results: pl.DataFrame, day: date) -> pl.DataFrame:
        rows = results.filter(pl.col("audience_id") != ANSWER).select(*AUDIENCE_SYNCS.schema)
        return _with_earlier(rows, self.earlier[day].get("audience_syncs"), AUDIENCE_SYNCS.key)

    def _answers(self, results: pl.DataFrame, assignments: pl.LazyFrame, day: date) -> pl.DataFrame:
        answers = assignments.filter(pl.col("arm") == "treated").select("customer_id", "journey_id", "entered_on", "ends_on")
        rows = results.lazy().filter(pl.col("audience_id") == ANSWER).join(answers, on="customer_id", how="left")
        return _with_earlier(rows.select(*ANSWERS.schema).collect(), self.earlier[day].get("answers"), ANSWERS.key)


def unexplained(wanted: pl.LazyFrame, known: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """Return who would not be where they are wanted when all that still differs was done, or would be where they are not.

    Acknowledged and differences are the members; who stays because an audience keeps its members counts as one.
    """
    still_open = results.lazy().filter(pl.col("status") != ACKNOWLEDGED)
    leaving = still_open.filter(pl.col("operation") == REMOVE)
    coming = still_open.filter(pl.col("operation") != REMOVE).select(*KEY, "checksum")
    has = known.lazy().filter(pl.col("acknowledged_at").is_not_null()).select(*KEY, "checksum")
    then = pl.concat([has.join(leaving, on=KEY, how="anti").join(coming, on=KEY, how="anti"), coming])
    lacking = wanted.select(*KEY, "checksum").join(then, on=[*KEY, "checksum"], how="anti").select(KEY)
    removed = results.lazy().filter((pl.col("operation") == REMOVE) & (pl.col("status") == ACKNOWLEDGED)).select(KEY)
    left_over = removed.join(known.lazy(), on=KEY, how="semi")
    return pl.concat([lacking, left_over]).sort(KEY).collect()


def places_of(portfolio: Portfolio, known: pl.DataFrame) -> pl.DataFrame:
    """One row per audience and destination that there is something to tell of: of the portfolio, and of what destinations have.

    ``known``: ``differences.MEMBERSHIP``.
    """
    to = [(audience.id, destination) for audience in portfolio.audiences for destination in audience.to]
    to += [(ANSWER, destination) for destination in (portfolio.publish.to if portfolio.publish else ())]
    ours = pl.DataFrame(to, schema={"audience_id": pl.String, "destination": pl.String}, orient="row")
    return pl.concat([ours, known.select(ours.columns)]).unique().sort(ours.columns)


def days_to_tell(days: Sequence[date], current: Collection[date], latest: date | None) -> set[date]:
    """Return which of the days are told: current ones that no later day is there of, since a set is as of one day.

    ``current``: those of the days that are not past. ``latest``: the last day there are members of.
    """
    return {day for day in days if day in current and (latest is None or day >= latest)}


def told_before(store: Store, day: date) -> Tables:
    """Read what an earlier run of the day has told, and what was acknowledged: it was, whatever a later run tells."""
    tables = {}
    for table in ("audience_syncs", "answers"):
        if store.has(table, day):
            try:
                tables[table] = store.lazy(table, day).filter(pl.col("status") == ACKNOWLEDGED).collect()
            except DamagedDayError:  # it is about to be made again
                continue
    return tables


def _with_earlier(rows: pl.DataFrame, earlier: pl.DataFrame | pl.LazyFrame | None, key: Sequence[str]) -> pl.DataFrame:
    if earlier is None:
        return rows.sort(key)
    frame = earlier.lazy().collect()
    return pl.concat([rows, frame.select(rows.columns).join(rows, on=list(key), how="anti")]).sort(key)


def _untold(rows: pl.DataFrame) -> pl.DataFrame:
    held = rows.filter(pl.col("status").is_not_null())
    return held.select(*KEY, "status", reason=pl.lit("too many would leave: accept_removal lets them"))


def _is_told(results: pl.DataFrame) -> bool:
    return results["status"].is_in([ACKNOWLEDGED, "failed", "unknown"]).any()


def _counted(wanted: pl.DataFrame, known: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """One row per audience and destination: ``members, had, add, update, remove, held, unchanged``."""
    place = ["audience_id", "destination"]
    if "operation" not in results.columns:
        results = pl.DataFrame(schema=DIFFERENCE)
    is_held = (pl.col("status") == "held").fill_null(value=False)
    counts = results.group_by(place).agg(
        *((pl.col("operation").eq(name) & ~is_held).sum().alias(name) for name in ("add", UPDATE, REMOVE)), held=is_held.sum()
    )
    both = [wanted.group_by(place).agg(members=pl.len()), known.group_by(place).agg(had=pl.len()), counts]
    joined = both[0]
    for frame in both[1:]:
        joined = joined.join(frame, on=place, how="full", coalesce=True)
    numbers = joined.with_columns(pl.exclude(place).fill_null(0).cast(pl.Int64)).sort(place)
    return numbers.with_columns(unchanged=pl.col("members") - pl.col("add") - pl.col(UPDATE))


def _refuse_empty(store: Store, portfolio: Portfolio, day: date) -> None:
    """Raise EmptyDayError where a table has nobody on a day after one that had somebody, and MissingDayError where there is none."""
    before = day - timedelta(days=1)
    for table in UPSTREAM:
        if not _is_empty(store, table, day):
            continue
        if table != "customer_profiles" and not _is_empty(store, "customer_profiles", day):
            raise EmptyDayError(_nobody(store, table, day))
        if day > portfolio.starts_on and store.has(table, before) and not _is_empty(store, table, before):
            raise EmptyDayError(_nobody(store, table, day))


def _is_empty(store: Store, table: str, day: date) -> bool:
    return store.lazy(table, day).select("customer_id").head(1).collect().is_empty()


def _nobody(store: Store, table: str, day: date) -> str:
    return (
        f"{table} of {day} in {store.place} has nobody in it: no audience is made of it, and no destination was told. "
        f"Make {table} of the day again, then this"
    )
