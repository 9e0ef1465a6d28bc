"""The last look before a batch goes out: who has said no since it was planned, whose address has died, who was erased (SPEC 9.6).

It reads what has landed, also what nobody has ingested yet: of each file once, and of that only the lines in which one of a few event
names stands. A name that is written with escapes, which no sender does, is only seen by the next plan.

What belongs here: finding those events, and matching them with what is about to go out. What does not: what they mean
(``atc_pipeline.activation.withdrawal``), files (``resources.storage.landing``).
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import polars as pl

from atc_pipeline.activation.tables import WITHDRAWN
from atc_pipeline.activation.withdrawal import NEWS, receipts, refusals
from atc_pipeline.escaping import log_line
from atc_pipeline.events.ingest import judge
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.rules.people import VISITOR, erasure_hash, survivors, whose
from atc_pipeline.tables.table import MOMENT
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone, UnreadableFileError

SECONDS = 10.0
"""A look that is no older counts as one before the batch: a folder of 20,000 files takes a tenth of a second to be listed."""
BEFORE = timedelta(days=7)
"""How long before the first of its days a file may say it arrived that has landed since."""

_WORDS = [name.encode() for name in NEWS]
_REFUSED = {"customer_id": pl.String(), "channel": pl.String(), "arrival": pl.Date(), "landed_at": MOMENT}
_RECEIPT = {"key": pl.String(), "message_id": pl.String()}


def last_look(
    lake: Lake, landing: LandingZone, erased: pl.Series, portfolio: Portfolio, days: Iterable[date], clock: Callable[[], float]
) -> "LastLook":
    """Prepare to look for what has landed since the events of these days were read."""
    planned_at = {day: lake.written_at("raw_events", day) for day in days if lake.has("raw_events", day)}
    mapped = lake.days("identity_map")[-1:]
    renamed = absorbed(lake.lazy("identity_map", mapped[0])).collect().lazy() if mapped else None
    return LastLook(landing, portfolio, planned_at, renamed, erased, clock)


@dataclass
class LastLook:
    """What has landed since the plans of some days. ``planned_at``: when the events of each were read.

    ``absorbed``: who is somebody else by now. ``erased``: the fingerprints of everybody who was. ``clock``: seconds that only go forward.
    """

    landing: LandingZone
    portfolio: Portfolio
    planned_at: Mapping[date, datetime]
    absorbed: pl.LazyFrame | None
    erased: pl.Series
    clock: Callable[[], float]
    _seen: dict[str, str] = field(default_factory=dict)
    _refusals: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_REFUSED))
    _receipts: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_RECEIPT))
    _looked_at: float | None = None

    def object(self, batch: pl.DataFrame) -> pl.DataFrame:
        """One row per message of a batch that is not to go out: ``idempotency_key``, ``reason``."""
        self._look()
        if self._refusals.is_empty() and self.erased.is_empty():
            return pl.DataFrame(schema={"idempotency_key": pl.String, "reason": pl.String})
        theirs = survivors(batch.lazy().select("idempotency_key", "date", "customer_id", "channel"), self.absorbed)
        planned = pl.LazyFrame(
            {"date": list(self.planned_at), "planned_at": list(self.planned_at.values())}, schema={"date": pl.Date, "planned_at": MOMENT}
        )
        says_no = (
            theirs.join(self._refusals.lazy(), on=["customer_id", "channel"], how="inner")
            .join(planned, on="date", how="left")
            .filter((pl.col("arrival") > pl.col("date")) | (pl.col("landed_at") >= pl.col("planned_at")))
        )
        gone = [says_no.select("idempotency_key")]
        if not self.erased.is_empty():
            visitor = pl.col("customer_id").str.strip_prefix(VISITOR).alias("visitor")
            fingerprint = (
                pl.when(pl.col("customer_id").str.starts_with(VISITOR))
                .then(erasure_hash("anonymous", "visitor"))
                .otherwise(erasure_hash("user", "customer_id"))
            )
            every = pl.concat([theirs, batch.lazy().select(theirs.collect_schema().names())]).with_columns(visitor)
            gone.append(every.filter(fingerprint.is_in(self.erased.implode())).select("idempotency_key"))
        return pl.concat(gone).unique().with_columns(reason=pl.lit(WITHDRAWN)).collect()

    def receipts(self) -> pl.DataFrame:
        """One row per event that says a message arrived: ``key?``, ``message_id?``."""
        self._look()
        return self._receipts

    def _look(self) -> None:
        now = self.clock()
        if not self.planned_at or (self._looked_at is not None and now - self._looked_at < SECONDS):
            return
        for file in self.landing.landed(min(self.planned_at) - BEFORE):
            is_news = any(file.day > day or file.landed_at >= planned_at for day, planned_at in self.planned_at.items())
            if not is_news or self._seen.get(file.name) == file.version:
                continue
            try:
                block = self.landing.lines_with(file, _WORDS)
            except UnreadableFileError as problem:  # its upload may not be complete; it is looked at again
                logging.getLogger(__name__).warning(log_line(str(problem)))
                continue
            self._seen[file.name] = file.version
            if block:
                self._take_in(
                    judge(block, arrival=file.day, timezone=self.portfolio.timezone, blocked=self.portfolio.blocked).fit, file.landed_at
                )
        self._looked_at = now

    def _take_in(self, events: pl.DataFrame, landed_at: datetime) -> None:
        news = events.filter((pl.col("type") == "track") & pl.col("event").is_in(NEWS))
        named = survivors(news.lazy().with_columns(whose(self.portfolio.blocked)), self.absorbed).collect()
        refused = refusals(named, self.portfolio).select("customer_id", "channel", arrival="date", landed_at=pl.lit(landed_at, MOMENT))
        self._refusals = pl.concat([self._refusals, refused.cast(_REFUSED)])  # type: ignore[arg-type]  # a schema is a mapping of types
        self._receipts = pl.concat([self._receipts, receipts(named)])
