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


class Measured:
    """What metrics add up to for customers, whatever names they had; of days that follow each other it keeps what it has read."""

    def __init__(self, store: Store, portfolio: Portfolio) -> None:
        self.store, self.portfolio = store, portfolio
        self.definitions = {
            metric.id: Definitions(store, metrics.definitions(portfolio, [metric]), portfolio.starts_on) for metric in kept(portfolio)
        }
        of = portfolio.measurement
        longest = max((portfolio.window_days(journey) for journey in portfolio.journeys), default=1)
        self.days_before = max(of.before_days, of.long_days + of.late_days, longest + of.late_days) - 1
        self._rolling: Rolling | None = None

    def sums(self, day: date, spans: pl.DataFrame, counted: Sequence[Metric]) -> pl.DataFrame:
        """Return ``windows.sums_in`` of these spans, of what arrived by the day; their customers as they are known on it.

        Raises MissingDayError, and OutdatedDayError where a metric is new or defined otherwise since one of the days was made.
        """
        if spans.is_empty():
            return sums_in(pl.LazyFrame(schema=self.columns(counted)), spans.lazy(), counted)
        return sums_in(self.rows(day, spans, counted), self.by_name(day, spans), counted)

    def rows(self, day: date, spans: pl.DataFrame, counted: Sequence[Metric]) -> pl.LazyFrame:
        """Read what arrived from the first day of the spans on, under the names that customers had."""
        after = spans["after"].min()
        assert isinstance(after, date)
        first = max(after + timedelta(days=1), self._since())
        for metric in counted:
            days = ((first + timedelta(days=number)) for number in range((day - first).days + 1))
            self.definitions[metric.id].require(TABLE, days)
        rows = self._until(day).select(*self.columns(counted))
        covered = day - timedelta(days=self.days_before)
        older = [first + timedelta(days=number) for number in range((covered - first).days)]
        more = self.store.scan(TABLE, older, may_lack=True) if older else None
        return rows if more is None else pl.concat([more.select(*self.columns(counted)), rows], how="diagonal")

    def by_name(self, day: date, spans: pl.DataFrame) -> pl.LazyFrame:
        """Return the spans once for each name that their customers ever had: less to look up than all that happened."""
        names = absorbed(self.store.lazy("identity_map", day)).select("customer_id", name="absorbed")
        older = spans.lazy().join(names, on="customer_id", how="inner").with_columns(customer_id="name").select(spans.columns)
        return pl.concat([spans.lazy(), older])

    @staticmethod
    def columns(counted: Sequence[Metric]) -> dict[str, pl.DataType]:
        """Name what is read of ``customer_metrics``, with its type."""
        return {"customer_id": pl.String(), "event_date": pl.Date(), **kept_columns(counted)}

    def _until(self, day: date) -> pl.LazyFrame:
        if self._rolling is None:
            columns = {"date": pl.Date(), **self.columns(kept(self.portfolio)), SENT: SENT_TYPE}
            self._rolling = Rolling(self.store, TABLE, self.days_before, columns, since=self._since(), may_lack=True)
        return self._rolling.until(day)

    def _since(self) -> date:
        """Return the first day that there is: a lake that an older version began has none before, and they count as nothing."""
        days = self.store.days(TABLE)
        return max(self.portfolio.starts_on, days[0]) if days else self.portfolio.starts_on
