"""Days decided again, from what the store holds of each, by the version that decided it: the same to the last bit, or it is told.

What belongs here: deciding again, and comparing with what was recorded. What does not: another portfolio (``courses``), printing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from atc_pipeline.days.decision import Decision
from atc_pipeline.days.entries import Versions
from atc_pipeline.decision import tables
from atc_pipeline.explanation.reading import PortfolioOf
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.learning.tables import GOAL_MODELS, entry_profiles
from atc_pipeline.outcomes.tables import journey_entries, journey_outcomes, long_outcomes
from atc_pipeline.tables.store import Store
from atc_pipeline.tables.table import Table

DECIDED = (tables.SCORED_CANDIDATES, tables.JOURNEY_STATE, tables.JOURNEY_ASSIGNMENTS, tables.JOURNEY_FUNNEL)
"""What is compared."""
MEASURED = (journey_entries, entry_profiles, journey_outcomes, long_outcomes, lambda _: GOAL_MODELS)
"""What is compared as well, on days that have it: those of older versions have none."""
STANDS_ON = ("customer_profiles", "micro_segment_memberships", "journey_queues", "customer_metrics")
"""What is read as it was recorded, and may have been made again by another version since."""
DIFFERENCES = pl.Schema(
    {"table": pl.String, "date": pl.Date, "key": pl.String, "column": pl.String, "recorded": pl.String, "replayed": pl.String}
)
_MOST = 1000
"""Differences of a table's day that are listed; of more, how many there are."""


@dataclass(frozen=True, eq=False)
class ReplayedDay:
    """A day decided again: one row per cell that is another (``DIFFERENCES``), how many, and why that may be."""

    day: date
    differences: pl.DataFrame
    number: int
    reasons: tuple[str, ...]

    @property
    def is_defect(self) -> bool:
        """Whether it should have been the same: nothing says why it is not."""
        return bool(self.number) and not self.reasons


def replay(
    store: Store, portfolio_of: PortfolioOf, days: Iterable[date], code: str, versions: Versions | None = None
) -> Iterator[ReplayedDay]:
    """Decide each day again on the recorded day before, and compare all columns; ``code``: which code does so.

    ``versions``: what decided answers that stand. Raises MissingDayError where what a day stands on is not there.
    """
    step: Decision | None = None
    for day in days:
        portfolio = portfolio_of(day)
        if step is None or step.portfolio.fingerprint != portfolio.fingerprint:
            step = Decision(store, portfolio, versions=versions)
        step.delivered = standing(store, day)
        made = step.make(day)
        compared = [*DECIDED, *(table for table in (of(portfolio) for of in MEASURED) if store.has(table.name, day))]
        cells = [differences(table, store.lazy(table.name, day).collect(), made[table.name].lazy().collect()) for table in compared]
        yield ReplayedDay(
            day,
            pl.concat([rows.head(_MOST) for rows in cells]),
            sum(rows.height for rows in cells),
            tuple(reasons(store, day, portfolio, code)),
        )


def standing(store: Store, day: date) -> pl.DataFrame:
    """Return the assignments of a day that were not decided but stood, as they were delivered before."""
    recorded = store.lazy("journey_assignments", day)
    if "stands" not in recorded.collect_schema():  # recorded before this was: nobody can say
        return pl.DataFrame(schema=tables.JOURNEY_ASSIGNMENTS.schema)
    there = recorded.collect_schema()
    lacking = [pl.lit(None, dtype).alias(name) for name, dtype in tables.JOURNEY_ASSIGNMENTS.schema.items() if name not in there]
    return recorded.filter("stands").with_columns(lacking).select(*tables.JOURNEY_ASSIGNMENTS.schema).collect()


def differences(table: Table, recorded: pl.DataFrame, replayed: pl.DataFrame) -> pl.DataFrame:
    """One row per cell that is another, as ``DIFFERENCES``; a row that is on one side only differs in its key."""
    if recorded.equals(replayed):
        return pl.DataFrame(schema=DIFFERENCES)
    key = pl.concat_str(*(pl.col(name).cast(pl.String) for name in table.key), separator=" ", ignore_nulls=True).alias("key")
    both = recorded.select(key, recorded=pl.struct(pl.all())).join(
        replayed.select(key, replayed=pl.struct(pl.all())), on="key", how="full", coalesce=True
    )
    frames = [_cells(both.filter(pl.col("recorded").is_null() | pl.col("replayed").is_null()), "row", _text("recorded"), _text("replayed"))]
    matched = both.drop_nulls(["recorded", "replayed"])
    for name in dict.fromkeys([*recorded.columns, *replayed.columns]):
        sides = [pl.col(side).struct.field(name) if name in frame.columns else pl.lit(None) for side, frame in _sides(recorded, replayed)]
        cells = matched.filter(sides[0].ne_missing(sides[1])) if _same_type(recorded, replayed, name) else matched
        frames.append(_cells(cells, name, *(_text_of(side) for side in sides)))
    cells = pl.concat(frames)
    if cells.is_empty():  # all cells are the same: the order of rows or columns, or a type, is not
        cells = pl.DataFrame([("", "order or types", str(recorded.schema), str(replayed.schema))], schema=_CELL, orient="row")
    day = recorded["date"][0] if recorded.height else replayed["date"][0]
    return cells.select(pl.lit(table.name).alias("table"), pl.lit(day).alias("date"), "key", "column", "recorded", "replayed").sort("key")


_CELL = pl.Schema({name: DIFFERENCES[name] for name in ("key", "column", "recorded", "replayed")})


def _sides(recorded: pl.DataFrame, replayed: pl.DataFrame) -> Sequence[tuple[str, pl.DataFrame]]:
    return (("recorded", recorded), ("replayed", replayed))


def _same_type(recorded: pl.DataFrame, replayed: pl.DataFrame, name: str) -> bool:
    return recorded.schema.get(name) == replayed.schema.get(name)


def _text(side: str) -> pl.Expr:
    return pl.when(pl.col(side).is_null()).then(pl.lit("no row")).otherwise(pl.lit("a row"))


def _text_of(value: pl.Expr) -> pl.Expr:
    return pl.struct(value.alias("value")).struct.json_encode().str.strip_prefix('{"value":').str.strip_suffix("}")


def _cells(rows: pl.DataFrame, name: str, recorded: pl.Expr, replayed: pl.Expr) -> pl.DataFrame:
    return rows.select("key", pl.lit(name).alias("column"), recorded.alias("recorded"), replayed.alias("replayed")).cast(_CELL)


def reasons(store: Store, day: date, portfolio: Portfolio, code: str) -> Iterator[str]:
    """Say why a day may come out otherwise: other code, or tables made again since by another version."""
    wrote = store.written_by("journey_assignments", day)
    if wrote.code != code:
        yield f"it was decided by code {wrote.code or 'of before versions were kept'}, and is replayed by {code}"
    elif wrote.portfolio is None:
        yield "nobody said by which version of the portfolio it was decided"
    for table in STANDS_ON:
        made = store.written_by(table, day).portfolio if store.has(table, day) else None
        if made is not None and made != portfolio.fingerprint:
            yield f"{table} was made again by version {made}, after version {portfolio.fingerprint} had decided the day"
