"""The metrics of the last days, for whoever adds them up.

What belongs here: which days are read, how long they are kept in memory, and that they were all made by today's definitions. What does
not: adding up (``outcomes.windows``), or which days belong to what.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from atc_pipeline.customers import metrics
from atc_pipeline.days.features import Definitions
from atc_pipeline.days.rolling import Rolling
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import Metric, Portfolio
from atc_pipeline.outcomes.windows import sums_in
from atc_pipeline.rules.measured import SENT, SENT_TYPE, kept, kept_columns
from atc_pipeline.tables.store import Store

TABLE = "customer_metrics"
AHEAD = 2
"""Days by which an event may be dated after the day on which it arrived, rounded up (SPEC 1: ``from_the_future``)."""
LARGEST_KEPT = 16 * 2**20
"""Bytes of Parquet up to which the days are kept in memory: of more, few customers' rows are wanted, and a scan finds them for less."""


class Measured:
    """What was measured of some customers; of days that follow each other it keeps what it has read, where that is little."""

    def __init__(self, store: Store, portfolio: Portfolio) -> None:
        self.store, self.portfolio = store, portfolio
        self.of_customers = Definitions(store, metrics.definitions(portfolio, portfolio.measured), portfolio.starts_on)
        self.of_goals = {
            metric.id: Definitions(store, metrics.definitions(portfolio, [metric]), portfolio.starts_on)
            for metric in portfolio.goal_metrics
        }
        of = portfolio.measurement
        longest = max((portfolio.window_days(journey) for journey in portfolio.journeys), default=1)
        self.days_before = max(of.before_days, portfolio.paths.quiet_days, of.long_days + of.late_days, longest + of.late_days) + AHEAD
        self._rolling: Rolling | None = None
        self._read: tuple[date, pl.LazyFrame] | None = None
        self._begun: date | None = None

    def sums(self, day: date, spans: pl.DataFrame, counted: Sequence[Metric]) -> pl.DataFrame:
        """Return ``windows.sums_in`` of these spans, of what arrived by the day; their customers as they are known on it.

        Raises what ``rows`` does.
        """
        if spans.is_empty():
            rows = pl.DataFrame(schema=self._columns())
        else:
            after = spans["after"].min()
            assert isinstance(after, date)
            rows = self.rows(day, self.names(day, spans["customer_id"].unique()), after)
        return sums_in(rows.lazy(), spans.lazy(), counted).collect()

    def names(self, day: date, customers: pl.Series) -> pl.DataFrame:
        """One row per name that these customers, as they are known on the day, ever had: ``name``, ``customer_id``."""
        asked = customers.alias("customer_id").to_frame().lazy()
        older = absorbed(self.store.lazy("identity_map", day)).select(name="absorbed", customer_id="customer_id")
        return pl.concat(
            [asked.select(name="customer_id", customer_id="customer_id"), older.join(asked, on="customer_id", how="semi")]
        ).collect()

    def rows(self, day: date, names: pl.DataFrame, after: date) -> pl.DataFrame:
        """One row of ``customer_metrics`` for each of what happened after a date to these customers, as far as it arrived by the day.

        ``names``: ``name`` and ``customer_id``, of each customer every name that they ever had. The rows are under the ``customer_id``.
        Raises MissingDayError, and OutdatedDayError where a metric is new or defined otherwise since one of the days was made.
        """
        first = self._first(after)
        self.of_customers.require(TABLE, _days(first, day))
        columns = [*self._columns(), SENT]
        rows = self._until(day).select(columns)
        older = _days(first, day - timedelta(days=self.days_before + 1))
        more = self.store.scan(TABLE, older, may_lack=True) if older else None
        if more is not None:
            there = more.collect_schema()
            rows = pl.concat([more.select(name for name in columns if name in there), rows], how="diagonal")
        return (
            rows.join(names.lazy().select(pl.col("name").alias("customer_id"), known_as="customer_id"), on="customer_id", how="inner")
            .filter(pl.col("event_date") > after)
            .with_columns(customer_id="known_as")
            .drop("known_as")
            .collect()
        )

    def forget(self) -> None:
        """Let go of what was read for a day: made again it is read again."""
        self._read = None

    def require_goals(self, goals: Sequence[Metric], after: date, day: date) -> None:
        """Raise OutdatedDayError where days after a date were made before what is counted of goals was what it is."""
        for metric in goals:
            self.of_goals[metric.id].require(TABLE, _days(self._first(after), day))

    def _columns(self) -> dict[str, pl.DataType]:
        return {"customer_id": pl.String(), "event_date": pl.Date(), **kept_columns(kept(self.portfolio))}

    def _first(self, after: date) -> date:
        return max(after + timedelta(days=1 - AHEAD), self._since())

    def _until(self, day: date) -> pl.LazyFrame:
        if self._read is not None and self._read[0] == day:
            return self._read[1]
        if self._rolling is None:
            columns = {"date": pl.Date(), **self._columns(), SENT: SENT_TYPE}
            self._rolling = Rolling(self.store, TABLE, self.days_before, columns, since=self._since(), may_lack=True)
            self._rolling.LARGEST_KEPT = LARGEST_KEPT
        self._read = day, self._rolling.until(day)
        return self._read[1]

    def _since(self) -> date:
        """Return the first day that there is: a lake that an older version began has none before, and they count as nothing."""
        if self._begun is None:
            days = self.store.days(TABLE)
            if not days:
                return self.portfolio.starts_on
            self._begun = max(self.portfolio.starts_on, days[0])
        return self._begun


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
