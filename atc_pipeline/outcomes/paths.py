"""Paths: the journeys a customer is taken through, in order, until there is money or nothing happens any more (SPEC 13).

What belongs here: when a path begins and closes, and how many there were of each. What does not: what of it is whose doing
(``outcomes.attribution``), how long it takes (``outcomes.velocity``), what is proved (``outcomes.estimate``).
"""

from dataclasses import dataclass
from datetime import date

import polars as pl

from atc_pipeline.outcomes.tables import (
    ENTRY,
    OTHER_PATHS,
    PATH_DURATIONS,
    PATH_STEPS,
    PATH_SUMMARY,
    SIGHT,
    SILENT,
    TO,
)
from atc_pipeline.outcomes.velocity import QUARTILES, quartiles
from atc_pipeline.rules.arms import TREATED
from atc_pipeline.rules.numbers import MICRO, quotient
from atc_pipeline.rules.people import survivors

FEWEST = 20
"""Customers who took a path, below which it is told with others (SPEC 13)."""

_STEP = ("customer_id", "journey_id", "entered_on", "ended_on", "ended_reason", "first_seen_on", "sent", "responses")
_PATH = ("customer_id", "path_started_on")
_ORDER = ("customer_id", "entered_on", "journey_id")


@dataclass(frozen=True, eq=False)
class News:
    """What a day brings to paths, of customers as they are known on it.

    ``entries``: ``customer_id, journey_id, arm, first_seen_on``, of today. ``money``: ``customer_id, event_date, micro``, what arrived
    today, one row per customer and day. ``endings``: ``customer_id, journey_id, entered_on, ended_on, ended_reason``, of today.
    ``sent``: ``customer_id, journey_id, sent``, messages told of today to have been delivered. ``responses``: ``customer_id, event_date,
    responses``, what arrived today. ``absorbed``: who was ``absorbed`` by which ``customer_id`` today; yesterday's steps have their names.
    """

    entries: pl.DataFrame
    money: pl.DataFrame
    endings: pl.DataFrame
    sent: pl.DataFrame
    responses: pl.DataFrame
    absorbed: pl.DataFrame

    @property
    def whose(self) -> pl.Series:
        """Everybody whom it is about."""
        frames = (self.entries, self.money, self.endings, self.sent, self.responses, self.absorbed)
        names = [frame["customer_id"] for frame in frames]
        return pl.concat([*names, self.absorbed["absorbed"].alias("customer_id")]).unique()


def follow_paths(yesterday: pl.DataFrame | None, news: News, *, today: date, path_days: int) -> pl.DataFrame:
    """One row per step of the paths that are open today or close today, from those that were open yesterday and the day's news.

    ``yesterday``: ``path_steps`` of the day before, in its order. Whoever there is no news of, and whose path is not over, is as they
    were: so a day costs what happened on it. The open paths of merged customers are one path.
    """
    before = pl.DataFrame(schema=PATH_STEPS.schema) if yesterday is None else yesterday.filter(pl.col("closed_on").is_null())
    is_over = pl.col("last_entered_on").dt.offset_by(f"{path_days}d") <= today
    moves = before.select(is_over | pl.col("customer_id").is_in(news.whose.implode())).to_series()
    moved = survivors(before.filter(moves).lazy(), news.absorbed.lazy()).select(_STEP).collect()
    stays = before.filter(~moves).with_columns(pl.lit(today).alias("date"))
    steps = pl.concat([_brought_up(moved, news), _begun(news.entries, today)])
    steps = steps.sort(*_ORDER, *_STEP[3:]).unique(list(_ORDER), keep="first", maintain_order=True)
    return stays.merge_sorted(_closed_and_open(steps, news, today, path_days), "customer_id")


def _closed_and_open(steps: pl.DataFrame, news: News, today: date, path_days: int) -> pl.DataFrame:
    """Part steps into paths: those that money closes, those that are over, and those that are open."""
    closed, steps = _converted(steps, news.money.filter(pl.col("micro") > 0))
    over = pl.col("entered_on").max().over("customer_id").dt.offset_by(f"{path_days}d")
    is_over = over <= today
    rest = _without_control(steps, ("customer_id",)).with_columns(
        closed_on=pl.when(is_over).then(over), is_conversion=pl.when(is_over).then(statement=False), value=pl.lit(None, pl.Float64())
    )
    whose = ("customer_id", "closed_on")
    path = pl.col("journey_id").str.join(TO).over(*_PATH)
    return (
        _without_control(pl.concat([*closed, rest]), whose)
        .with_columns(
            pl.lit(today).alias("date"),
            path_started_on=pl.col("entered_on").min().over(*whose),
            last_entered_on=pl.col("entered_on").max().over(*whose),
        )
        .sort(*_PATH, *_ORDER[1:])
        .with_columns(
            position=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(*_PATH),
            path=pl.when(pl.col("journey_id") == SILENT).then(pl.lit(SILENT)).otherwise(path),
        )
        .select(*PATH_STEPS.schema)
    )


def _without_control(steps: pl.DataFrame, path: tuple[str, ...]) -> pl.DataFrame:
    """Leave out entries in control of whoever has touches on the path as well."""
    is_silent = pl.col("journey_id") == SILENT
    return steps.filter(~is_silent | is_silent.all().over(*path))


def _begun(entries: pl.DataFrame, today: date) -> pl.DataFrame:
    """Return the day's entries as steps: an entry in control is no touch, and has no name of its own."""
    nothing = {"ended_on": pl.Date(), "ended_reason": pl.String()}
    return entries.select(
        "customer_id",
        pl.when(pl.col("arm") == TREATED).then("journey_id").otherwise(pl.lit(SILENT)).alias("journey_id"),
        pl.lit(today).alias("entered_on"),
        *(pl.lit(None, dtype).alias(name) for name, dtype in nothing.items()),
        "first_seen_on",
        *(pl.lit(0, pl.Int64()).alias(name) for name in ("sent", "responses")),
    )


def _brought_up(steps: pl.DataFrame, news: News) -> pl.DataFrame:
    """Note what has ended, and what was sent and answered since; who is merged has been seen since the first of them was."""
    spell = ["customer_id", "journey_id", "entered_on"]
    endings = news.endings.select(*spell, now="ended_on", why="ended_reason").unique(spell, keep="first", maintain_order=True)
    last = steps.group_by("customer_id", "journey_id").agg(pl.col("entered_on").max())
    sent = news.sent.group_by("customer_id", "journey_id").agg(new=pl.col("sent").sum()).join(last, on=["customer_id", "journey_id"])
    answered = _answered(steps, news.responses)
    return (
        steps.join(endings, on=spell, how="left", maintain_order="left")
        .join(sent, on=spell, how="left", maintain_order="left")
        .join(answered, on=spell, how="left", maintain_order="left")
        .with_columns(
            ended_on=pl.coalesce("ended_on", "now"),
            ended_reason=pl.coalesce("ended_reason", "why"),
            first_seen_on=pl.col("first_seen_on").min().over("customer_id"),
            sent=pl.col("sent") + pl.col("new").fill_null(0),
            responses=pl.col("responses") + pl.col("answers").fill_null(0),
        )
        .select(_STEP)
    )


def _answered(steps: pl.DataFrame, responses: pl.DataFrame) -> pl.DataFrame:
    """Count responses by the step before them: the last that was entered on an earlier day."""
    rows = responses.filter(pl.col("responses") > 0).sort("event_date", "customer_id")
    entered = steps.select("customer_id", "journey_id", "entered_on").sort("entered_on", "customer_id", "journey_id")
    return (
        rows.join_asof(
            entered,
            left_on="event_date",
            right_on="entered_on",
            by="customer_id",
            allow_exact_matches=False,
            coalesce=False,
            check_sortedness=False,
        )
        .drop_nulls("journey_id")
        .group_by("customer_id", "journey_id", "entered_on")
        .agg(answers=pl.col("responses").sum())
    )


def _converted(steps: pl.DataFrame, money: pl.DataFrame) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    """Part the steps of paths that money closes from the others.

    A day's money closes what was entered before that day: messages of an entry go out the day after. What was entered on that day or
    later goes on as the next path, which other money that came late may close, too.
    """
    closed: list[pl.DataFrame] = []
    while True:
        first = steps.group_by("customer_id").agg(first=pl.col("entered_on").min())
        days = money.join(first, on="customer_id").filter(pl.col("event_date") > pl.col("first"))
        if days.is_empty():
            return closed, steps
        days = days.sort("customer_id", "event_date").unique("customer_id", keep="first", maintain_order=True)
        steps = steps.join(
            days.select("customer_id", closed_on="event_date", is_conversion=pl.lit(value=True), value=_units("micro")),
            on="customer_id",
            how="left",
            maintain_order="left",
        )
        is_closed = (pl.col("entered_on") < pl.col("closed_on")).fill_null(value=False)
        closed.append(steps.filter(is_closed))
        steps = steps.filter(~is_closed).select(_STEP)


def paths_of(steps: pl.DataFrame) -> pl.DataFrame:
    """One row per path, with its ``path`` as text, how it closed, and what was sent on it and answered."""
    of_all = pl.col("path", "closed_on", "is_conversion", "value", "first_seen_on").first()
    return steps.group_by(*_PATH, maintain_order=True).agg(of_all, pl.col("sent", "responses").sum())


def open_paths(steps: pl.DataFrame) -> pl.DataFrame:
    """One row per path that is open, with the same columns; what was sent on it is not counted yet."""
    rows = steps.filter(pl.col("closed_on").is_null() & (pl.col("position") == 1))
    nothing = [pl.lit(0, pl.Int64()).alias(name) for name in ("sent", "responses")]
    return rows.select(*_PATH, "path", "closed_on", "is_conversion", "value", "first_seen_on", *nothing)


def durations(paths: pl.DataFrame, *, until: date) -> pl.DataFrame:
    """One row per path, what its days are counted from, and days: how many converted then, and how many were left by then.

    ``until``: the day that paths which are open are looked at. Days from first sight are of those whose first sight is known.
    """
    ends = pl.col("closed_on").fill_null(until)
    counted = [
        paths.with_columns(counted_from=pl.lit(counted_from), days=(ends - pl.col(since)).dt.total_days()).filter(pl.col("days") >= 0)
        for counted_from, since in ((ENTRY, "path_started_on"), (SIGHT, "first_seen_on"))
    ]
    is_converted = pl.col("is_conversion").fill_null(value=False)
    return (
        pl.concat(counted)
        .group_by("path", "counted_from", "days")
        .agg(
            is_converted.sum().cast(pl.Int64).alias("converted"),
            (~is_converted).sum().cast(pl.Int64).alias("left"),
            _micro("value").sum().alias("micro"),
            pl.col("sent", "responses").sum(),
        )
        .with_columns(value=_units("micro"))
        .drop("micro")
    )


def summarise(closed: pl.DataFrame, running: pl.DataFrame, *, today: date) -> pl.DataFrame:
    """One row per path: how many took it, how many converted, and after how many days; rare ones are one row.

    ``closed``: ``path_durations``. ``running``: ``open_paths``, which are looked at until today.
    """
    still = durations(running, until=today).with_columns(open="left")
    ended = closed.drop("date").with_columns(open=pl.lit(0, pl.Int64()))
    rows = pl.concat([ended, still.select(ended.columns)])
    taken = pl.col("converted") + pl.col("left") - pl.col("open")
    is_entry = pl.col("counted_from") == ENTRY
    is_rare = taken.filter(is_entry).sum().over("path") < FEWEST
    journeys = pl.col("path").str.split(TO).list.n_unique() * (pl.col("path") != SILENT)
    rows = rows.with_columns(journeys=journeys * taken, taken=taken).with_columns(
        path=pl.when(is_rare).then(pl.lit(OTHER_PATHS)).otherwise("path")
    )
    counted = (
        rows.filter(is_entry)
        .group_by("path")
        .agg(
            pl.col("taken", "converted", "open", "sent", "responses", "journeys").sum(),
            _micro("value").sum().alias("micro"),
        )
        .with_columns(
            pl.lit(today).alias("date"),
            value=_units("micro"),
            journeys=pl.when(pl.col("taken") > 0).then(pl.col("journeys") / pl.col("taken")).otherwise(0.0),
        )
        .rename({"taken": "customers", "converted": "conversions"})
    )
    entry = quartiles(rows.filter(is_entry), ["path"])
    seen = quartiles(rows.filter(~is_entry), ["path"]).rename({name: f"seen_{name}" for name in QUARTILES})
    return counted.join(entry, on="path", how="left").join(seen, on="path", how="left").select(*PATH_SUMMARY.schema).sort("path")


def add_closed(yesterday: pl.DataFrame | None, steps: pl.DataFrame, *, today: date) -> pl.DataFrame:
    """One row per path and duration of all that ever closed: those of yesterday, and the paths that closed today."""
    closed = durations(paths_of(steps.filter(pl.col("closed_on").is_not_null())), until=today)
    names = [name for name in PATH_DURATIONS.schema if name != "date"]
    return (
        pl.concat([frame.select(names) for frame in (*([] if yesterday is None else [yesterday]), closed)])
        .group_by("path", "counted_from", "days")
        .agg(pl.col("converted", "left", "sent", "responses").sum(), _micro("value").sum().alias("micro"))
        .with_columns(pl.lit(today).alias("date"), value=_units("micro"))
        .select(*PATH_DURATIONS.schema)
        .sort(PATH_DURATIONS.key)
    )


def _micro(column: str) -> pl.Expr:
    """Money in whole micro-units: sums of it do not depend on the order of rows."""
    return (pl.col(column).fill_null(0) * MICRO).round().cast(pl.Int64)


def _units(column: str) -> pl.Expr:
    return quotient(pl.col(column).cast(pl.Float64), MICRO)
