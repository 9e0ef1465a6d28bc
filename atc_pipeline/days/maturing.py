"""A day of maturing: what is read to say what came of entries whose windows are over.

What belongs here: which days of what are read, how it is known which are enough, and what is written beside the day for the next one. What
does not: what came of an entry (``outcomes.maturing``), what an entry is (``days.entries``), the decision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from atc_pipeline.days.measured import Measured
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.outcomes import maturing
from atc_pipeline.outcomes.tables import journey_entries, journey_outcomes, long_outcomes
from atc_pipeline.rules.people import survivors
from atc_pipeline.tables.store import Store, Tables

ENTRIES = "journey_entries"
OPEN_SINCE = "measurement.open_since"
"""Under this name a day of ``journey_entries`` says when the earliest entry began that has not matured."""
LONG_UNTIL = "measurement.long_until"
"""The last day of entry of which the long run is told."""
VERSION, VERSION_SINCE = "version", "version.since"
"""The portfolio's ``version``, and the first day that was decided by it."""
_NO_ENDINGS = pl.Schema({"row": pl.UInt32(), "ended_on": pl.Date(), "ended_reason": pl.String()})


@dataclass(frozen=True, eq=False)
class Names:
    """Who is who by now: ``absorbed`` of those asked for, and ``name``, ``customer_id`` of all names of theirs."""

    absorbed: pl.LazyFrame
    every: pl.DataFrame


@dataclass(frozen=True, eq=False)
class Entered:
    """A day's entries, and when the first and the last of them mature; there is neither where nobody entered."""

    rows: pl.DataFrame
    first: date | None
    last: date | None

    @classmethod
    def of(cls, rows: pl.DataFrame) -> "Entered":
        """Look when they mature."""
        first, last = rows["matures_on"].min(), rows["matures_on"].max()
        assert first is None or isinstance(first, date)
        assert last is None or isinstance(last, date)
        return cls(rows, first, last)

    def maturing_on(self, day: date) -> pl.DataFrame | None:
        """Return those that mature on the day; None where nothing can."""
        if self.first is None or self.last is None or not self.first <= day <= self.last:
            return None
        return self.rows.filter(pl.col("matures_on") == day)


class Maturing:
    """Says what came of the entries whose windows are over; of days that follow each other it keeps entries that are open."""

    def __init__(self, store: Store, portfolio: Portfolio, measured: Measured | None = None) -> None:
        """``measured``: of the same store and portfolio, if there is one already."""
        self.store, self.portfolio = store, portfolio
        self.measured = Measured(store, portfolio) if measured is None else measured
        self.made_by: Mapping[str, str] = {}
        """What the day made last says beside its tables, for the next one."""
        self._entries: dict[date, Entered] = {}

    def of(self, day: date, entries: pl.DataFrame, state: pl.DataFrame, assignments: pl.DataFrame) -> Tables:
        """Return ``journey_outcomes`` and ``long_outcomes``; ``entries``, ``assignments``: those of the day, which nobody has written yet.

        ``state``: the memory after its decision.
        """
        known = self._said_on(day - timedelta(days=1)) if day > self.portfolio.starts_on else {}
        open_ = self._open(day, known)
        long_ = self._closed_in_the_long_run(day, known)
        self._entries[day] = Entered.of(entries.select(*self._schema))
        still_open = [at for at, entered in (*open_.items(), (day, self._entries[day])) if entered.last is not None and entered.last > day]
        self.made_by = {
            OPEN_SINCE: min(still_open, default=day).isoformat(),
            LONG_UNTIL: self._long_until(day, known).isoformat(),
            VERSION: self.portfolio.version,
            VERSION_SINCE: self._version_since(day, known).isoformat(),
        }
        ripe = (entered.maturing_on(day) for entered in open_.values())
        matured = _together([rows for rows in ripe if rows is not None], self._schema)
        closed = _together(list(long_.values()), self._schema)
        triggers = _together([self._triggers(at, rows) for at, rows in long_.items()], self._schema)
        firsts = closed.filter(pl.col("entry_number") == 1)
        everybody = pl.concat([matured["customer_id"], firsts["customer_id"], triggers["customer_id"]]).unique()
        come, lasting = journey_outcomes(self.portfolio), long_outcomes(self.portfolio)
        lasted: list[pl.DataFrame] = []
        outcomes: list[pl.DataFrame] = []
        if everybody.len():
            names = self._names(day, everybody)
            rows = self.measured.rows(day, names.every, _earliest(pl.concat([matured, firsts, triggers])))
            if matured.height:
                entered = pl.concat(of_day.rows for of_day in (*open_.values(), self._entries[day]))
                outcomes.append(self._come_of(day, matured, rows, entered, state, assignments, names))
            lasted += [self._in_the_long_run(day, firsts, rows, state, names)] if firsts.height else []
            lasted += [self._of_all(day, triggers, rows, names)] if triggers.height else []
        self.measured.forget()
        return {
            "journey_outcomes": maturing.dated(outcomes, come.schema, come.key, day),
            "long_outcomes": maturing.dated(lasted, lasting.schema, lasting.key, day),
        }

    def _come_of(
        self,
        day: date,
        matured: pl.DataFrame,
        rows: pl.DataFrame,
        entered: pl.DataFrame,
        state: pl.DataFrame,
        assignments: pl.DataFrame,
        names: Names,
    ) -> pl.DataFrame:
        entries = maturing.known_by_now(matured, names.absorbed)
        self._require_goals(day, entries)
        theirs = names.every.lazy().select(customer_id="name", known_as="customer_id")
        later = entered.lazy().select("customer_id", "journey_id", "date").join(theirs, on="customer_id").collect()
        again = maturing.next_entries(entries, later)
        ended = maturing.endings(entries, state, self._endings_before(entries, again, {day: assignments}, names))
        contaminated = self._in_two_arms(day, entries, state, names)
        return maturing.mature(entries, rows, again, ended, contaminated, self.portfolio)

    def _in_the_long_run(self, day: date, firsts: pl.DataFrame, rows: pl.DataFrame, state: pl.DataFrame, names: Names) -> pl.DataFrame:
        entries = maturing.known_by_now(firsts, names.absorbed)
        return maturing.in_the_long_run(entries, rows, self._in_two_arms(day, entries, state, names), self.portfolio)

    def _of_all(self, day: date, triggers: pl.DataFrame, rows: pl.DataFrame, names: Names) -> pl.DataFrame:
        entries = maturing.known_by_now(maturing.as_system(triggers), names.absorbed)
        return maturing.in_the_long_run(entries, rows, self._in_two_arms_of_all(day, entries, names), self.portfolio)

    @property
    def _schema(self) -> pl.Schema:
        return journey_entries(self.portfolio).schema

    def _said_on(self, day: date) -> Mapping[str, str]:
        return self.store.definitions(ENTRIES, day) if self.store.has(ENTRIES, day) else {}

    def _open(self, day: date, known: Mapping[str, str]) -> dict[date, Entered]:
        """Return the days of entry that may have entries that have not matured; of a lake without, all that there are."""
        since = date.fromisoformat(known[OPEN_SINCE]) if OPEN_SINCE in known else self.portfolio.starts_on
        self._entries = {at: rows for at, rows in self._entries.items() if since <= at < day}
        days = [since + timedelta(days=number) for number in range((day - since).days)]
        return {at: self._read(at) for at in days if at in self._entries or self.store.has(ENTRIES, at)}

    def _read(self, day: date) -> Entered:
        """Read a day's entries, with nulls for what they were written without."""
        if day not in self._entries:
            rows = self.store.lazy(ENTRIES, day)
            there = rows.collect_schema()
            lacking = {name: pl.lit(None, dtype) for name, dtype in self._schema.items() if name not in there}
            self._entries[day] = Entered.of(rows.with_columns(**lacking).select(*self._schema).cast(self._schema).collect())
        return self._entries[day]

    def _long_until(self, day: date, known: Mapping[str, str]) -> date:
        until = day - timedelta(days=self.portfolio.measurement.long_days + self.portfolio.measurement.late_days)
        return max(until, date.fromisoformat(known[LONG_UNTIL])) if LONG_UNTIL in known else until

    def _closed_in_the_long_run(self, day: date, known: Mapping[str, str]) -> dict[date, pl.DataFrame]:
        """Return the days of entry whose long windows have closed, and were not told of: one, but where the window was made shorter."""
        until = self._long_until(day, known)
        before = date.fromisoformat(known[LONG_UNTIL]) if LONG_UNTIL in known else until - timedelta(days=1)
        days = [before + timedelta(days=number) for number in range(1, (until - before).days + 1)]
        return {at: self._read(at).rows for at in days if self.store.has(ENTRIES, at)}

    def _version_since(self, day: date, known: Mapping[str, str]) -> date:
        """Return the first day decided by this ``version``; of a lake that was decided before that was kept, its first day."""
        if day <= self.portfolio.starts_on or VERSION not in known:
            return self.portfolio.starts_on
        return date.fromisoformat(known[VERSION_SINCE]) if known[VERSION] == self.portfolio.version else day

    def _triggers(self, day: date, entries: pl.DataFrame) -> pl.DataFrame:
        """Return which entries of a day were the first into any journey since the version of that day began."""
        before = day - timedelta(days=1)
        if entries.is_empty() or day <= self.portfolio.starts_on:
            return entries
        since = date.fromisoformat(self._said_on(day).get(VERSION_SINCE, self.portfolio.starts_on.isoformat()))
        if since >= day:
            return entries
        entered = self.store.lazy("journey_state", before).filter(pl.col("entered_on") >= since).select("customer_id")
        now = absorbed(self.store.lazy("identity_map", day), since=day).collect().lazy()
        return maturing.triggers(entries, survivors(entered, now))

    def _names(self, day: date, customers: pl.Series) -> Names:
        merged = absorbed(self.store.lazy("identity_map", day)).select("absorbed", "customer_id").collect().lazy()
        asked = customers.to_frame("customer_id").lazy()
        theirs = merged.join(asked, left_on="absorbed", right_on="customer_id", how="semi").collect().lazy()
        now = survivors(asked, theirs).unique()
        older = merged.join(now, on="customer_id", how="semi").select(name="absorbed", customer_id="customer_id")
        return Names(theirs, pl.concat([now.select(name="customer_id", customer_id="customer_id"), older]).collect())

    def _require_goals(self, day: date, entries: pl.DataFrame) -> None:
        for (journey_id,), theirs in entries.group_by("journey_id"):
            self.measured.require_goals(maturing.goals_of(self.portfolio, [str(journey_id)]), _earliest(theirs), day)

    def _endings_before(self, entries: pl.DataFrame, again: pl.DataFrame, made: Mapping[date, pl.DataFrame], names: Names) -> pl.DataFrame:
        """Read how entries ended of which the memory knows a later one: from the memory of the day before that.

        ``made``: answers of a day that are not written yet, or were before it was decided again.
        """
        parts = [pl.DataFrame(schema=_NO_ENDINGS)]
        now = names.every.lazy().select(customer_id="name", known_as="customer_id")
        for (next_on,), rows in entries.join(again, on="row").group_by("next_on"):
            assert isinstance(next_on, date)
            wanted = rows.lazy().select("row", "known_as", "journey_id", entered_on="date")
            before = next_on - timedelta(days=1)
            if not self.store.has("journey_state", before):
                continue
            # A few names are looked up before anything else is read: a twelfth of the time of a join, measured at a million customers.
            few = names.every.join(rows.select(customer_id="known_as"), on="customer_id", how="semi")["name"]
            are_these = pl.col("customer_id").is_in(few.implode())
            then = self.store.lazy("journey_state", before).filter(are_these).join(now, on="customer_id")
            ended = then.join(wanted, on=["known_as", "journey_id", "entered_on"]).select("customer_id", *_NO_ENDINGS).collect()
            over = ended.drop_nulls("ended_on").select(*_NO_ENDINGS)
            parts.append(over)
            if rows["row"].is_in(over["row"].implode()).all():
                continue
            # What ended on the very day on which it was entered again is in that day's answers.
            that_day = wanted.filter(~pl.col("row").is_in(over["row"].implode()))
            answers = (made[next_on].lazy() if next_on in made else self.store.lazy("journey_assignments", next_on)).filter(are_these)
            there = answers.select("customer_id", "ended_reason", journey_id="ended_journey_id").drop_nulls().join(now, on="customer_id")
            parts.append(
                that_day.join(there, on=["known_as", "journey_id"]).select("row", "ended_reason", ended_on=pl.lit(next_on))
                .select(*_NO_ENDINGS).collect()
            )  # fmt: skip
            # Where they do not say it of somebody who became another that day, another ending stood before it.
            gone = ended.lazy().filter(pl.col("ended_on").is_null()).join(answers, on="customer_id", how="anti")
            merged = gone.select("row", ended_on=pl.lit(next_on), ended_reason=pl.lit("merged"))
            parts.append(merged.cast(pl.Schema(_NO_ENDINGS)).collect())
        return pl.concat(parts).unique("row", keep="first", maintain_order=True).sort("row")

    def _in_two_arms(self, day: date, entries: pl.DataFrame, state: pl.DataFrame, names: Names) -> pl.Series:
        """Return the numbers of first entries that are contaminated. Only who ever had several names, and entered twice, may be."""
        often = state.lazy().filter(pl.col("times_entered") > 1).select("journey_id", known_as="customer_id")
        doubtful = (
            entries.lazy()
            .filter(pl.col("entry_number") == 1)
            .join(_of_several_names(names), on="known_as", how="semi")
            .join(often, on=["known_as", "journey_id"], how="semi")
            .select("known_as")
        )
        firsts = self._entries_of(day, doubtful, names).filter(pl.col("entry_number") == 1)
        return maturing.in_two_arms(entries, firsts)

    def _in_two_arms_of_all(self, day: date, entries: pl.DataFrame, names: Names) -> pl.Series:
        """Return the numbers of first entries into any journey that are contaminated."""
        doubtful = entries.lazy().join(_of_several_names(names), on="known_as", how="semi").select("known_as")
        every = self._entries_of(day, doubtful, names)
        versions = entries.select("version").unique()
        since = {at: self._said_on(at).get(VERSION_SINCE, self.portfolio.starts_on.isoformat()) for at in entries["date"].unique()}
        first_day = date.fromisoformat(min(since.values(), default=day.isoformat()))
        firsts = (
            every.join(versions, on="version", how="semi")
            .filter(pl.col("date") >= first_day)
            .sort("date", "customer_id")
            .unique(["customer_id", "version"], keep="first", maintain_order=True)
        )
        return maturing.in_two_arms(entries, maturing.as_system(firsts), ("known_as", "version"))

    def _entries_of(self, day: date, customers: pl.LazyFrame, names: Names) -> pl.DataFrame:
        """Read all entries of these customers up to the day, under whatever names, with ``known_as``."""
        columns = ["date", "customer_id", "journey_id", "entry_number", "arm", "held_out_by", "policy_holdout", "version"]
        theirs = names.every.lazy().join(customers.unique(), left_on="customer_id", right_on="known_as", how="semi")
        wanted = theirs.select(customer_id="name", known_as="customer_id").collect()
        today = self._entries[day].rows.lazy().select(columns)
        days = [] if wanted.is_empty() else [at for at in self.store.days(ENTRIES) if at < day]
        past = self.store.scan(ENTRIES, days, may_lack=True) if days else None
        rows = today if past is None else pl.concat([past.select(columns), today])
        return rows.join(wanted.lazy(), on="customer_id").sort("date", "customer_id", "journey_id").collect()


def _of_several_names(names: Names) -> pl.LazyFrame:
    return names.every.lazy().group_by(known_as="customer_id").agg(names=pl.len()).filter(pl.col("names") > 1).select("known_as")


def _together(rows: list[pl.DataFrame], schema: pl.Schema) -> pl.DataFrame:
    return pl.concat(rows) if rows else pl.DataFrame(schema=schema)


def _earliest(entries: pl.DataFrame) -> date:
    first = entries["date"].min()
    assert isinstance(first, date)
    return first
