"""Memory: one row per customer and journey ever entered, carried from day to day, and the gates that need it (SPEC 8).

What belongs here: how journeys end, what is remembered of them, what the past forbids. What does not: today's options
(``options``) and the choice among them (``choice``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import polars as pl

from atc_pipeline.decision.arms import DRAWN, held_out_by
from atc_pipeline.decision.catalogue import Catalogue, pairs_of
from atc_pipeline.decision.gates import NOWHERE, Shut, failed_of
from atc_pipeline.decision.tables import JOURNEY_STATE
from atc_pipeline.journeys.portfolio import Journey, Portfolio
from atc_pipeline.rules.arms import CONTROL
from atc_pipeline.rules.numbers import one_of
from atc_pipeline.rules.people import whose

FINISHED = ("completed", "converted")
"""The reasons for ending that count as having been through the journey."""

IN_FLIGHT = pl.col("ended_on").is_null()
"""True where the customer is in the journey."""


def no_state() -> pl.DataFrame:
    """Return the memory before the first day of the lake."""
    return pl.DataFrame(schema=JOURNEY_STATE.schema)


KEPT_LATER: Mapping[str, pl.DataType] = {name: JOURNEY_STATE.schema[name] for name in ("held_out_by", "variant")}
"""Columns of the memory that days of older versions lack."""


def complete(state: pl.LazyFrame) -> pl.LazyFrame:
    """Add what the memory of an older version lacks, as null."""
    there = state.collect_schema().names()
    lacking = {name: pl.lit(None, dtype) for name, dtype in KEPT_LATER.items() if name not in there}
    return state.with_columns(**lacking).select(*JOURNEY_STATE.schema)


def draw_again(state: pl.DataFrame, arm_ids: pl.LazyFrame, portfolio: Portfolio) -> pl.DataFrame:
    """Find out who holds control customers out of whom an older version did not keep it: the lot is the same (SPEC 8, step 6).

    ``arm_ids``: ``identity.map.arms``. Null stays whoever is held out by nothing any more.
    """
    is_lost = (pl.col("arm") == CONTROL) & pl.col("held_out_by").is_null()
    lost = state.lazy().with_row_index("row:").filter(is_lost).join(arm_ids, on="customer_id", how="left", maintain_order="left")
    named = lost.select("row:", "journey_id", arm_id=pl.coalesce("arm_id", "customer_id")).collect()
    held_out = state["held_out_by"].scatter(named["row:"], held_out_by(named, portfolio))
    return state.with_columns(held_out)


def goal_lookback_days(portfolio: Portfolio, lateness_days: int) -> int:
    """How many arrival days before D can hold goal events that still count on D."""
    return max((journey.goal.within_days for journey in portfolio.journeys if journey.goal), default=0) + lateness_days


def merge(state: pl.DataFrame, absorbed: pl.LazyFrame | None, *, today: date) -> pl.DataFrame:
    """Give what is remembered of absorbed customers to those who absorbed them (SPEC 2): one row per customer and journey.

    ``state``: the memory of yesterday. ``absorbed``: ``identity.map.absorbed``. Counts add, the latest entry and the latest ending win.
    Of several journeys in flight one goes on: the survivor's own, else the one entered last; the others end ``merged`` today.
    The one that goes on keeps its entry, its arm, its variant and its score: it is on the same day of the journey as it would have been.
    """
    if absorbed is None:
        return state
    now = absorbed.select(survivor="customer_id", customer_id="absorbed")
    absorbed_rows = state.lazy().join(now, on="customer_id", how="inner").select(*state.columns, "survivor").collect()
    if absorbed_rows.is_empty():
        return state
    survivors = absorbed_rows.select(customer_id="survivor").unique()
    involved = pl.concat([survivors, absorbed_rows.select("customer_id")]).unique()
    own = state.join(survivors, on="customer_id", how="semi").with_columns(survivor="customer_id")
    untouched = state.join(involved, on="customer_id", how="anti")
    rows = pl.concat([own, absorbed_rows]).with_columns(is_own=pl.col("customer_id") == pl.col("survivor"))
    return pl.concat([untouched, _merged(rows, today).select(state.columns).cast(state.schema)])


def _merged(rows: pl.DataFrame, today: date) -> pl.DataFrame:
    """Make one row per ``survivor`` and journey of the rows of each: ``is_own``, and those of ``customer_id`` who was absorbed."""
    of_customer, of_journey = ["survivor"], ["survivor", "journey_id"]
    in_order = rows.sort(
        "survivor", IN_FLIGHT, "is_own", "entered_on", "journey_id", "customer_id", descending=[False, True, True, True, False, False]
    ).with_columns(goes_on=IN_FLIGHT & (pl.int_range(pl.len()).over(of_customer) == 0))
    # Another flight of the very journey that goes on has not ended: it is the same one, entered twice.
    is_over = IN_FLIGHT & ~pl.col("goes_on").any().over(of_journey)
    ended = in_order.with_columns(
        ended_on=pl.when(is_over).then(pl.lit(today)).otherwise("ended_on"),
        ended_reason=pl.when(is_over).then(pl.lit("merged")).otherwise("ended_reason"),
        left_on=pl.when(is_over).then(pl.lit(today)).otherwise("left_on"),
    )
    by_entry = ["goes_on", "entered_on", "is_own", "customer_id"]
    by_ending = ["ended_on", "is_own", "customer_id"]
    is_over_now = ~pl.col("goes_on").any()

    def latest(column: str, by: Sequence[str]) -> pl.Expr:
        descending = [name != "customer_id" for name in by]
        return pl.col(column).sort_by(*by, descending=descending, nulls_last=True).first()

    return (
        ended.group_by(of_journey)
        .agg(
            pl.col("date").first(),
            *(latest(name, by_entry) for name in ("entered_on", "entry_score", *DRAWN)),
            *(pl.when(is_over_now).then(latest(name, by_ending)).alias(name) for name in ("ended_on", "ended_reason")),
            pl.col("times_entered", "times_completed").sum(),
            pl.col("recent_starts").list.explode(empty_as_null=False).sort(),
            pl.col("left_on", "finished_on").max(),
        )
        .rename({"survivor": "customer_id"})
    )


def note_given_up(past: pl.DataFrame, given_up: pl.DataFrame, *, today: date) -> pl.DataFrame:
    """Remember what was started today under an older name of somebody who is in another journey: it has ended ``merged`` (SPEC 2).

    ``past``: numbered. ``given_up``: assignments of today with the numbers ``customer`` and ``journey``. Where it is the very journey
    that goes on, it was entered twice.
    """
    if given_up.is_empty():
        return past
    key = ["customer", "journey"]
    starts = given_up.group_by(key, maintain_order=True).agg(
        pl.col("customer_id", "journey_id", "date").first(),
        *(pl.col(name).first().alias(f"{name}:") for name in (*DRAWN, "score")),
        more=pl.len().cast(pl.Int64),
    )
    both = past.join(starts, on=key, how="full", coalesce=True, suffix="+")
    is_over = pl.col("more").is_not_null() & (pl.col("ended_on").is_not_null() | pl.col("times_entered").is_null())
    ended = {"entered_on": pl.lit(today), "ended_on": pl.lit(today), "left_on": pl.lit(today), "ended_reason": pl.lit("merged")}
    ended |= {"entry_score": pl.col("score:"), **{name: pl.col(f"{name}:") for name in DRAWN}}
    start = pl.when(pl.col("more").is_not_null()).then(pl.lit([today], dtype=pl.List(pl.Date)))
    none = pl.lit([], dtype=pl.List(pl.Date))
    return (
        both.with_columns(
            *(pl.coalesce(name, f"{name}+").alias(name) for name in ("customer_id", "journey_id", "date")),
            *(pl.when(is_over).then(value).otherwise(name).alias(name) for name, value in ended.items()),
            times_entered=pl.col("times_entered").fill_null(0) + pl.col("more").fill_null(0),
            times_completed=pl.col("times_completed").fill_null(0),
            recent_starts=pl.concat_list(pl.col("recent_starts").fill_null(none), start.fill_null(none)),
        )
        .select(past.columns)
        .cast(past.schema)
        .sort("customer", "journey", nulls_last=True)
    )


def number(state: pl.DataFrame, customers: pl.LazyFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Add the numbers ``customer`` (null for those without a profile today) and ``journey``, sorted by both."""
    names = pl.Enum(catalogue.journey_ids)
    return (
        state.lazy()
        .join(customers, on="customer_id", how="left")
        .with_columns(journey=pl.col("journey_id").cast(names).to_physical().cast(pl.UInt16))
        .sort("customer", "journey", nulls_last=True)
        .collect()
    )


def advance(
    past: pl.DataFrame, goals: pl.LazyFrame, profiles: pl.DataFrame, kept: pl.DataFrame, portfolio: Portfolio, *, today: date
) -> pl.DataFrame:
    """End the journeys that end today (SPEC 8, step 1): one row per customer and journey ever entered, numbered as before.

    ``goals``: one row per ``customer``, ``event`` and ``event_date`` seen by today (``goal_events``). The first reason counts:
    withdrawn, converted, exited, completed. ``kept``: assignments of today that stand (``customer``, ``ended_journey_id``,
    ``ended_reason``): for these customers ends what ended then.
    """
    journeys = portfolio.journeys
    facts = pl.LazyFrame(
        {
            "journey_id": [journey.id for journey in journeys],
            "length_days": [journey.length_days for journey in journeys],
            "goal": [journey.goal.event if journey.goal and journey.exit_on_goal else None for journey in journeys],
            "within_days": [journey.goal.within_days if journey.goal else None for journey in journeys],
        },
        schema={"journey_id": pl.String, "length_days": pl.Int64, "goal": pl.String, "within_days": pl.Int64},
    )
    key = ["customer", "journey_id"]
    in_flight = past.lazy().select(*key, "entered_on").filter(past["ended_on"].is_null()).join(facts, on="journey_id", how="left")
    deadline = pl.min_horizontal(pl.lit(today), pl.col("entered_on") + pl.duration(days=pl.col("within_days")))
    converted = (
        in_flight.join(goals, left_on=["customer", "goal"], right_on=["customer", "event"], how="inner")
        .filter((pl.col("event_date") > pl.col("entered_on")) & (pl.col("event_date") <= deadline))
        .select(*key, is_converted=pl.lit(value=True))
        .unique()
    )
    ended_reason = one_of(
        [
            (pl.col("length_days").is_null(), pl.lit("withdrawn")),
            (pl.col("is_converted"), pl.lit("converted")),
            (pl.col("is_exited"), pl.lit("exited")),
            (_days_since("entered_on", today) >= pl.col("length_days"), pl.lit("completed")),
        ],
        otherwise=pl.lit(None, dtype=pl.String),
    )
    ended = (
        in_flight.join(kept.lazy(), on="customer", how="anti")
        .join(converted, on=key, how="left")
        .join(_exits(profiles, journeys), on=key, how="left")
        .select(*key, ends_as=ended_reason)
        .drop_nulls("ends_as")
    )
    as_kept = kept.lazy().select("customer", journey_id="ended_journey_id", ends_as="ended_reason").drop_nulls()
    as_kept = as_kept.filter(~pl.col("ends_as").is_in(["interrupted", "merged"]))  # ended later today, and before today's first step
    is_finished = pl.col("ends_as").is_in(FINISHED)
    return (
        past.lazy()
        .join(pl.concat([ended, as_kept]), on=key, how="left", maintain_order="left")
        .with_columns(
            ended_reason=pl.coalesce("ends_as", "ended_reason"),
            ended_on=pl.when(pl.col("ends_as").is_not_null()).then(pl.lit(today)).otherwise("ended_on"),
            left_on=pl.when(pl.col("ends_as").is_not_null()).then(pl.lit(today)).otherwise("left_on"),
            times_completed=pl.col("times_completed") + is_finished.fill_null(value=False).cast(pl.Int64),
            finished_on=pl.when(is_finished).then(pl.lit(today)).otherwise("finished_on"),
        )
        .drop("ends_as")
        .collect()
    )


def _exits(profiles: pl.DataFrame, journeys: Sequence[Journey]) -> pl.LazyFrame:
    """One row per customer and journey whose ``exit_when`` holds today."""
    exits = [
        profiles.lazy()
        .select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("customer"), is_exited=journey.exit_when.expr)
        .with_columns(journey_id=pl.lit(journey.id))
        for journey in journeys
        if journey.exit_when is not None
    ]
    none = pl.LazyFrame(schema={"customer": pl.UInt32, "is_exited": pl.Boolean, "journey_id": pl.String})
    return pl.concat([none, *(exited.filter("is_exited") for exited in exits)])


def goal_events(activity: pl.LazyFrame, columns: Sequence[str], *, today: date) -> pl.LazyFrame:
    """One row per customer, goal event and date on which it happened, from rollups that arrived by today.

    ``columns``: the rollup's ``goal.<event>`` counts.
    """
    return (
        activity.filter(pl.col("event_date") <= today)
        .select("customer_id", "event_date", *columns)
        .unpivot(on=list(columns), index=["customer_id", "event_date"], variable_name="event", value_name="times")
        .filter(pl.col("times") > 0)
        .select("customer_id", "event_date", event=pl.col("event").str.strip_prefix("goal."))
    )


def goals_awaited(state: pl.DataFrame, portfolio: Portfolio) -> dict[str, date]:
    """Return the goals of the journeys in flight, each with the day on which the first of them was entered: it counts after that."""
    goals = {journey.id: journey.goal.event for journey in portfolio.journeys if journey.goal and journey.exit_on_goal}
    in_flight = state.filter(IN_FLIGHT).group_by("journey_id").agg(pl.col("entered_on").min())
    awaited: dict[str, date] = {}
    for journey, entered_on in in_flight.iter_rows():
        if journey in goals:
            awaited[goals[journey]] = min(entered_on, awaited.get(goals[journey], entered_on))
    return awaited


def goals_in(events: pl.LazyFrame, goals: Sequence[str], blocked: Sequence[str]) -> pl.LazyFrame:
    """One row per customer, goal event and date on which it happened, as ``goal_events``, from ``raw_events``, under their own names."""
    reached = events.filter(pl.col("event").is_in(goals))
    return reached.select(whose(blocked), "event_date", "event").unique()


def cap_days(portfolio: Portfolio) -> int:
    """Return over how many days starts are remembered."""
    return portfolio.policy.cap.days if portfolio.policy.cap else 0


def recall_starts(state: pl.DataFrame, started: pl.LazyFrame) -> pl.DataFrame:
    """Write ``recent_starts`` anew, where they were remembered over fewer days than they count for now.

    ``started``: one row per start, ``customer_id``, ``journey_id``, ``entered_on``, of customers as they are in ``state``.
    """
    recent = started.group_by("customer_id", "journey_id").agg(recent_starts=pl.col("entered_on").sort())
    again = state.lazy().drop("recent_starts").join(recent, on=["customer_id", "journey_id"], how="left", maintain_order="left")
    return again.with_columns(pl.col("recent_starts").fill_null([])).select(state.columns).collect()


def last_finished(past: pl.DataFrame, customers: int) -> pl.Series:
    """By customer number, the number of the journey last completed or converted; null without one."""
    last = (
        past.filter(pl.col("finished_on").is_not_null())
        .sort("customer", "finished_on", "journey")
        .group_by("customer", maintain_order=True)
        .agg(pl.col("journey").last())
    )
    finished = pl.repeat(None, customers, dtype=pl.UInt32, eager=True)
    return finished.scatter(last["customer"], last["journey"].cast(pl.UInt32))


@dataclass(frozen=True, eq=False)
class Remembered:
    """What gates are tested on that need the past: numbered and sorted options, and the numbered memory of their customers."""

    options: pl.DataFrame
    past: pl.DataFrame
    profiles: pl.DataFrame
    portfolio: Portfolio
    catalogue: Catalogue
    today: date

    @cached_property
    def pairs(self) -> np.ndarray:
        """Return customer and journey of each option as one number."""
        return pairs_of(self.options)

    def rows(self, named: pl.DataFrame) -> Shut:
        """Find the options that ``named`` (one row per ``customer`` and ``journey``) names; what is no option is left out."""
        if not len(self.pairs) or named.is_empty():
            return NOWHERE
        wanted = pairs_of(named)
        at = np.searchsorted(self.pairs, wanted)
        return np.asarray(at[self.pairs[np.minimum(at, len(self.pairs) - 1)] == wanted])

    def of_customers(self, is_shut: np.ndarray) -> Shut:
        """Return the options of the customers flagged."""
        return is_shut[self.options["customer"].to_numpy()] if is_shut.any() else NOWHERE

    @cached_property
    def entered(self) -> pl.DataFrame:
        """One row per customer and journey entered before, with what the catalogue says today of entering it again."""
        rules_of = self.catalogue.facts.select("again_after_days", "again_from_exit", "max_entries")
        entries = self.past.select("customer", "journey", "entered_on", "ended_on", "times_entered")
        return entries.hstack(rules_of[self.past["journey"]])


def gates_of(remembered: Remembered) -> np.ndarray:
    """Return by option the bits of the gates that the past shuts (SPEC 8, step 2), whether or not the option is subject to them."""
    return failed_of("memory", TESTS, remembered, remembered.options.height)


def _entered_too_recently(remembered: Remembered) -> Shut:
    counted_from = pl.when("again_from_exit").then("ended_on").otherwise("entered_on")
    since = (pl.lit(remembered.today) - counted_from).dt.total_days()
    is_too_soon = pl.col("again_after_days").is_null() | (since < pl.col("again_after_days"))
    return remembered.rows(remembered.entered.filter(is_too_soon))


def _entered_too_often(remembered: Remembered) -> Shut:
    return remembered.rows(remembered.entered.filter(pl.col("times_entered") >= pl.col("max_entries")))


def _without_link(remembered: Remembered) -> Shut:
    """Find options of linked journeys but those of customers who completed or converted in a prerequisite."""
    is_linked = remembered.catalogue.flags("is_linked")
    if not is_linked.any():
        return NOWHERE
    completed = remembered.past.lazy().filter(pl.col("times_completed") > 0).select("customer", earlier="journey")
    met = completed.join(remembered.catalogue.only_after.lazy(), on="earlier", how="inner").select("customer", "journey").unique().collect()
    is_shut: np.ndarray = is_linked[remembered.options["journey"].to_numpy()]
    is_shut[remembered.rows(met)] = False
    return is_shut


def _too_close(remembered: Remembered) -> Shut:
    """Find options of journeys that must not follow another one the customer was in within so many days.

    Only the latest spell matters: an earlier one cannot reach further. A spell covers entered_on up to the day before ended_on, and
    entered_on even where what was started gave way at once.
    """
    last_day_in = pl.max_horizontal("entered_on", pl.col("ended_on").dt.offset_by("-1d").fill_null(remembered.today))
    close = (
        remembered.past.lazy()
        .select("customer", "entered_on", "ended_on", earlier="journey")
        .join(remembered.catalogue.not_after.lazy(), on="earlier", how="inner")
        .filter((pl.lit(remembered.today) - last_day_in).dt.total_days() < pl.col("within_days"))
        .select("customer", "journey")
        .unique()
        .collect()
    )
    return remembered.rows(close)


def _resting(remembered: Remembered) -> Shut:
    """Find the options, but for mandatory ones, of customers who left a journey less than ``rest_days`` ago."""
    since = _days_since("left_on", remembered.today)
    rests = remembered.past.group_by("customer").agg(pl.col("left_on").max()).filter(since < remembered.portfolio.policy.rest_days)
    is_resting = np.zeros(remembered.profiles.height, dtype=bool)
    is_resting[rests["customer"]] = True
    shut = remembered.of_customers(is_resting)
    return shut if shut is NOWHERE else shut & ~remembered.catalogue.flags("mandatory")[remembered.options["journey"].to_numpy()]


def _capped(remembered: Remembered) -> Shut:
    """Find the options of customers who had as many starts in the cap's window as it allows (null = no cap)."""
    cap, profiles = remembered.portfolio.policy.cap, remembered.profiles
    if cap is None:
        return NOWHERE
    today = remembered.today
    recent = (
        remembered.past.filter(pl.col("recent_starts").list.len() > 0)
        .select("customer", "recent_starts")
        .explode("recent_starts")
        .filter((pl.col("recent_starts") > today - timedelta(days=cap.days)) & (pl.col("recent_starts") < today))
    )
    starts = np.bincount(recent["customer"].to_numpy(), minlength=profiles.height)
    allowed = profiles.with_columns(allowed=cap.starts.expr.cast(pl.Float64), starts=pl.Series(starts, dtype=pl.Float64))
    is_capped = allowed.select((pl.col("starts") + 1 > pl.col("allowed")).fill_null(value=False)).to_series()
    return remembered.of_customers(is_capped.to_numpy())


TESTS: Mapping[str, Callable[[Remembered], Shut]] = {
    "reentry": _entered_too_recently,
    "max_entries": _entered_too_often,
    "link": _without_link,
    "pairwise": _too_close,
    "resting": _resting,
    "frequency_cap": _capped,
}
"""By each gate that needs the past (``gates.Gate.needs``): the options it is shut for."""


def remember(past: pl.DataFrame, entries: pl.DataFrame, interrupted: pl.DataFrame, portfolio: Portfolio, *, today: date) -> pl.DataFrame:
    """Write today's entries and interruptions into the numbered memory: one row per customer and journey ever entered.

    ``entries``: ``customer``, ``journey``, ``new_score``, and ``DRAWN`` as ``new_<name>``. ``interrupted``: ``customer``, ``journey``.
    """
    key = ["customer", "journey"]
    is_entered = pl.col("new_arm").is_not_null()
    is_interrupted = pl.col("is_interrupted") & IN_FLIGHT
    first_entries = entries.join(past, on=key, how="anti")
    return (
        pl.concat([past.join(entries, on=key, how="left", maintain_order="left"), first_entries], how="diagonal")
        .join(interrupted.with_columns(is_interrupted=pl.lit(value=True)), on=key, how="left", maintain_order="left")
        .with_columns(
            ended_reason=pl.when(is_entered).then(None).when(is_interrupted).then(pl.lit("interrupted")).otherwise("ended_reason"),
            ended_on=pl.when(is_entered).then(None).when(is_interrupted).then(pl.lit(today)).otherwise("ended_on"),
            left_on=pl.when(is_interrupted).then(pl.lit(today)).otherwise("left_on"),
            times_entered=pl.col("times_entered").fill_null(0) + is_entered.cast(pl.Int64),
            times_completed=pl.col("times_completed").fill_null(0),
            entry_score=pl.when(is_entered).then("new_score").otherwise("entry_score"),
            **{name: pl.when(is_entered).then(f"new_{name}").otherwise(name) for name in DRAWN},
            entered_on=pl.when(is_entered).then(pl.lit(today)).otherwise("entered_on"),
        )
        .pipe(_note_starts, portfolio, today)
        .sort(*key)
    )


def _note_starts(memory: pl.DataFrame, portfolio: Portfolio, today: date) -> pl.DataFrame:
    """Add today's entries to ``recent_starts`` and drop those that no cap will count again."""
    window = cap_days(portfolio)
    is_entered, oldest = pl.col("new_arm").is_not_null(), pl.col("recent_starts").list.first()  # they are in order
    forgotten = today - timedelta(days=window)
    start = pl.lit([today] if window else [], dtype=pl.List(pl.Date))
    # Lists cost far more than anything else here, so most rows are not touched, and few ones opened.
    is_same = ~is_entered & (oldest.is_null() | (oldest > forgotten))
    is_first = is_entered & oldest.is_null()
    more = pl.concat_list("recent_starts", pl.when(is_entered).then(start).otherwise(pl.lit([], dtype=pl.List(pl.Date))))
    return pl.concat(
        [
            memory.filter(is_same),
            memory.filter(is_first).with_columns(recent_starts=start),
            memory.filter(~is_same & ~is_first).with_columns(recent_starts=more.list.filter(pl.element() > forgotten)),
        ]
    )


def _days_since(column: str, today: date) -> pl.Expr:
    return (pl.lit(today) - pl.col(column)).dt.total_days()
