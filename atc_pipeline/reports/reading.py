"""What reports are made from, read: the tables of a day, and what is counted up to it.

What belongs here: which days of which tables are read. What does not: what is said of them (``proof``, ``journey``, ``paths``).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import polars as pl

from atc_pipeline.days.outcomes import Uplift
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.learning.quality import BY_JOURNEY, DAYS, JUDGED, by_journey, judged
from atc_pipeline.learning.tables import GOAL_MODELS, MODEL_QUALITY
from atc_pipeline.outcomes.attribution import attribute_closed
from atc_pipeline.outcomes.cumulated import cumulate
from atc_pipeline.outcomes.movement import comparable
from atc_pipeline.outcomes.paths import add_closed, durations, paths_of, summarise
from atc_pipeline.outcomes.tables import (
    ENTRY,
    JOURNEY_ALTERNATIVES,
    JOURNEY_ATTRIBUTION,
    JOURNEY_DESCRIBED,
    JOURNEY_MOVEMENT,
    JOURNEY_SATISFACTION,
    OTHER_PATHS,
    PATH_DURATIONS,
    PATH_STEPS,
    PATH_SUMMARY,
    UPLIFT,
)
from atc_pipeline.outcomes.uplift import estimate_uplift
from atc_pipeline.outcomes.velocity import curves
from atc_pipeline.reports.findings import CURVES, FUNNEL, Findings
from atc_pipeline.rules.arms import TREATED
from atc_pipeline.rules.numbers import MICRO
from atc_pipeline.tables.store import Store
from atc_pipeline.tables.table import Table

FUNNEL_DAYS = 91
"""Days of entries that a funnel is of: thirteen weeks."""


def gather(store: Store, portfolio: Portfolio, day: date, since: date | None = None, *, with_journeys: bool = True) -> Findings:
    """Read what is known at the end of a day, of entries from ``since`` on; what was not made is left out.

    ``with_journeys``: also what pages of single journeys alone have, funnels and curves, which take the longest.
    """
    days = [known for known in store.days("journey_outcomes") if known <= day]
    outcomes = store.scan("journey_outcomes", days, may_lack=True)
    matured = pl.LazyFrame(schema=_MATURED) if outcomes is None else outcomes.select(*_MATURED)
    if since is not None:
        return _narrowed(store, portfolio, matured.filter(pl.col("entered_on") >= since), day, since, with_journeys=with_journeys)

    lately = [known for known in days if known > day - timedelta(days=FUNNEL_DAYS)] if portfolio.learning is not None else []

    def of_day(table: Table) -> pl.DataFrame:
        return store.lazy(table.name, day).collect() if store.has(table.name, day) else pl.DataFrame(schema=table.schema)

    return Findings(
        day,
        portfolio,
        uplift=of_day(UPLIFT),
        attribution=of_day(JOURNEY_ATTRIBUTION),
        paths=of_day(PATH_SUMMARY),
        movement=of_day(JOURNEY_MOVEMENT),
        described=of_day(JOURNEY_DESCRIBED),
        satisfaction=of_day(JOURNEY_SATISFACTION),
        alternatives=of_day(JOURNEY_ALTERNATIVES),
        funnel=_funnel(store, matured, day, day - timedelta(days=FUNNEL_DAYS - 1)) if with_journeys else pl.DataFrame(schema=FUNNEL),
        curves=_curves(store, portfolio, matured, day) if with_journeys else pl.DataFrame(schema=CURVES),
        velocity=_velocity(*_durations(store, day), of_day(PATH_SUMMARY), day),
        models=of_day(GOAL_MODELS),
        quality=_of_days(store, MODEL_QUALITY, lately),
        judged=_judged(store, lately),
        lately=pl.concat([pl.DataFrame(schema=BY_JOURNEY), *(by_journey(store.lazy("journey_outcomes", at)) for at in lately[-DAYS:])]),
        delivered=_delivered(store, matured, of_day(JOURNEY_MOVEMENT), day),
    )


def _of_days(store: Store, table: Table, days: Sequence[date]) -> pl.DataFrame:
    rows = store.scan(table.name, days, may_lack=True)
    return pl.DataFrame(schema=table.schema) if rows is None else rows.select(*table.schema).collect()


def _judged(store: Store, days: Sequence[date]) -> pl.DataFrame:
    """Return the entries that matured on these days and whose probability was learned."""
    return pl.concat([pl.DataFrame(schema=JUDGED), *(judged(store.lazy("journey_outcomes", day)).collect() for day in days)])


def _narrowed(store: Store, portfolio: Portfolio, matured: pl.LazyFrame, day: date, since: date, *, with_journeys: bool) -> Findings:
    """Estimate and describe anew, of entries and paths from a day on; what is only carried from day to day is left out."""
    uplift = estimated(store, portfolio, day, since)
    days = [known for known in store.days("path_steps") if since <= known <= day]
    steps = store.scan("path_steps", days, may_lack=True)
    if steps is None:
        return Findings(day, portfolio, uplift=uplift, since=since)
    begun = steps.filter(pl.col("path_started_on") >= since)
    closed = add_closed(None, begun.filter(pl.col("closed_on").is_not_null()).collect(), today=day)
    running = paths_of(begun.filter(pl.col("closed_on").is_null(), pl.col("date") == day).collect())
    paths = summarise(closed, running, today=day)
    return Findings(
        day,
        portfolio,
        uplift=uplift,
        attribution=attribute_closed(closed, uplift, portfolio.money, today=day),
        paths=paths,
        funnel=_funnel(store, matured, day, since) if with_journeys else pl.DataFrame(schema=FUNNEL),
        curves=_curves(store, portfolio, matured, day) if with_journeys else pl.DataFrame(schema=CURVES),
        velocity=_velocity(closed, running, paths, day),
        delivered=_delivered(store, matured, pl.DataFrame(schema=JOURNEY_MOVEMENT.schema), day),
        since=since,
    )


def estimated(store: Store, portfolio: Portfolio, day: date, since: date) -> pl.DataFrame:
    """Estimate ``uplift`` of a day anew, of entries from ``since`` on."""
    if not store.has("journey_entries", day):
        return pl.DataFrame(schema=UPLIFT.schema)
    whole = Uplift(store, portfolio).evidence(day)
    is_later, entered = pl.col("date") >= since, pl.col("entered_on") >= since
    evidence = replace(
        whole,
        entries=whole.entries.filter(is_later),
        outcomes=whole.outcomes.filter(entered),
        long=whole.long.filter(entered),
        recent=None if whole.recent is None else whole.recent.filter(entered),
    )
    return estimate_uplift(evidence, portfolio, today=day)


_MATURED = pl.Schema(
    {
        "date": pl.Date(),
        "journey_id": pl.String(),
        "known_as": pl.String(),
        "entered_on": pl.Date(),
        "arm": pl.String(),
        "held_out_by": pl.String(),
        "entry_number": pl.Int64(),
        "contaminated": pl.Boolean(),
        "window_days": pl.Int64(),
        "goal": pl.Boolean(),
        "delivered": pl.Int64(),
    }
)


def _delivered(store: Store, matured: pl.LazyFrame, movement: pl.DataFrame, day: date) -> int:
    """Count messages that were delivered, by whoever was told of most: outcomes, movement, or activation of days before."""
    days = [known for known in store.days("activation") if known <= day]
    handed = store.scan("activation", days, may_lack=True)
    of_entries = max(int(matured.select(pl.col("delivered").sum()).collect().item() or 0), int(movement["sent"].sum()))
    if handed is None:
        return of_entries
    return max(of_entries, int(handed.filter(pl.col("status") == "delivered").select(pl.len()).collect().item()))


def _funnel(store: Store, matured: pl.LazyFrame, day: date, first: date) -> pl.DataFrame:
    """Count by journey who came into its queue and what became of them, of entries from a day on."""
    days = [known for known in store.days("journey_entries") if first <= known <= day]
    entries, queues = (store.scan(table, days, may_lack=True) for table in ("journey_entries", "journey_queues"))
    if entries is None:
        return pl.DataFrame(schema=FUNNEL)
    is_treated = pl.col("arm") == TREATED
    counted = [
        entries.group_by("journey_id").agg(entered=pl.len(), control=(~is_treated).sum(), treated=is_treated.sum()),
        matured.filter(pl.col("entered_on") >= first, is_treated)
        .group_by("journey_id")
        .agg(
            matured=pl.len(),
            sent=(pl.col("delivered") > 0).sum(),
            goal=pl.when(pl.col("goal").is_not_null().any()).then(pl.col("goal").sum()),
        ),
    ]
    if queues is not None:
        counted.append(queues.filter(pl.col("queued_on") == pl.col("date")).group_by("journey_id").agg(queued=pl.len()))
    frames = [frame.collect().cast({name: pl.Int64() for name in frame.collect_schema() if name != "journey_id"}) for frame in counted]
    rows = pl.concat([pl.DataFrame(schema=FUNNEL), *frames], how="diagonal").group_by("journey_id")
    counts = [name for name in FUNNEL if name not in ("journey_id", "goal")]
    summed = rows.agg(pl.col(counts).sum(), pl.when(pl.col("goal").is_not_null().any()).then(pl.col("goal").sum()))
    return summed.filter(pl.col("entered") > 0).select(*FUNNEL).sort("journey_id")


def _curves(store: Store, portfolio: Portfolio, matured: pl.LazyFrame, day: date) -> pl.DataFrame:
    """Add up money since the entry, of first entries that have matured, whatever names their customers had."""
    metric = next((metric for metric in portfolio.measured if metric.id == portfolio.money), None)
    days = [known for known in store.days("customer_metrics") if known <= day]
    entries = comparable(matured.collect()).sort("journey_id", "entered_on", "known_as")
    kept = store.scan("customer_metrics", days, may_lack=True)
    if metric is None or entries.is_empty() or kept is None or not store.has("identity_map", day):
        return pl.DataFrame(schema=CURVES)
    spans = entries.with_row_index("row").select(
        "row", "journey_id", "arm", "entered_on", "window_days", customer_id="known_as", counted_until="date"
    )
    names = absorbed(store.lazy("identity_map", day)).select("customer_id", name="absorbed")
    known = names.join(spans.lazy().select("customer_id").unique(), on="customer_id", how="semi").collect()
    older = spans.join(known, on="customer_id").with_columns(customer_id="name").select(spans.columns)
    value = pl.col(f"{metric.id}.micro") if metric.kind == "sum" else pl.col(f"{metric.id}.n") * MICRO
    money = kept.select("date", "customer_id", "event_date", micro=value.fill_null(0).cast(pl.Int64))
    return cumulate(pl.concat([spans, older]), money).select(*CURVES)


def _durations(store: Store, day: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return ``path_durations`` of a day, and the paths that are open on it."""
    if not store.has("path_durations", day) or not store.has("path_steps", day):
        return pl.DataFrame(schema=PATH_DURATIONS.schema), paths_of(pl.DataFrame(schema=PATH_STEPS.schema))
    running = store.lazy("path_steps", day).filter(pl.col("closed_on").is_null()).collect()
    return store.lazy("path_durations", day).collect(), paths_of(running)


def _velocity(closed: pl.DataFrame, running: pl.DataFrame, paths: pl.DataFrame, day: date) -> pl.DataFrame:
    """Draw the curve of each path that is told by name: of all that closed, and of those open as far as they go."""
    named = paths.filter(pl.col("path") != OTHER_PATHS).select("path")
    names = ["path", "counted_from", "days", "converted", "left"]
    days = pl.concat([closed.select(names), durations(running, until=day).select(names)])
    counted = days.filter(pl.col("counted_from") == ENTRY).join(named, on="path", how="semi")
    drawn = curves(counted, ["path"]).select("path", "days", converted=1 - pl.col("survival"))
    return drawn.cast({"days": pl.Int64()}).sort("path", "days")
