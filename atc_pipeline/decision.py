"""The decision: at most one journey per customer, every day - end, keep, switch, start or nothing (SPEC 8).

What belongs here: memory, its gates, and the choice. What does not: anything an option row can say without the past
(``candidates``), and what is sent (``messages``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from atc_pipeline import rules
from atc_pipeline.journeys.portfolio import NONE, Journey, Portfolio

STATE = {
    "date": pl.Date(),
    "customer_id": pl.String(),
    "journey_id": pl.String(),
    "entered_on": pl.Date(),
    "ended_on": pl.Date(),
    "ended_reason": pl.String(),
    "times_entered": pl.Int64(),
    "times_completed": pl.Int64(),
    "entry_score": pl.Float64(),
    "arm": pl.String(),
    "recent_starts": pl.List(pl.Date()),
    "left_on": pl.Date(),
    "finished_on": pl.Date(),
}
"""``left_on`` and ``finished_on``: the last day this journey ended, and completed or converted; kept when it is entered again."""

CANDIDATES = {
    "date": pl.Date(),
    "customer_id": pl.String(),
    "journey_id": pl.String(),
    "is_queued": pl.Boolean(),
    "is_incumbent": pl.Boolean(),
    "mandatory": pl.Boolean(),
    "priority": pl.Float64(),
    "propensity": pl.Float64(),
    "value": pl.Float64(),
    "interest_match": pl.Float64(),
    "intent_match": pl.Float64(),
    "waiting_days": pl.Int64(),
    "linked_boost": pl.Float64(),
    "score": pl.Float64(),
    "ruling": pl.String(),
    "failed_gates": pl.List(pl.String()),
    "rank": pl.Int64(),
    "margin": pl.Float64(),
}

ASSIGNMENTS = {
    "date": pl.Date(),
    "customer_id": pl.String(),
    "decision": pl.String(),
    "journey_id": pl.String(),
    "entered_on": pl.Date(),
    "day_index": pl.Int64(),
    "ends_on": pl.Date(),
    "arm": pl.String(),
    "score": pl.Float64(),
    "runner_up": pl.String(),
    "runner_up_score": pl.Float64(),
    "selection_probability": pl.Float64(),
    "ended_journey_id": pl.String(),
    "ended_reason": pl.String(),
}

FINISHED = ("completed", "converted")
"""The reasons for ending that count as having been through the journey."""


@dataclass(frozen=True, eq=False)
class Decided:
    """One day's decision: its option rows ruled, the memory after it, and one row per customer."""

    candidates: pl.DataFrame
    state: pl.DataFrame
    assignments: pl.DataFrame


def no_state() -> pl.DataFrame:
    """Return the memory before the first day of the lake."""
    return pl.DataFrame(schema=STATE)


def goal_lookback_days(portfolio: Portfolio, lateness_days: int) -> int:
    """How many arrival days before D can hold goal events that still count on D."""
    return max((journey.goal.within_days for journey in portfolio.journeys if journey.goal), default=0) + lateness_days


def advance(state: pl.DataFrame, goals: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio, *, today: date) -> pl.DataFrame:
    """End the journeys that end today (SPEC 8, step 1): one row per customer and journey ever entered.

    ``goals``: one row per customer, ``event`` and ``event_date`` seen by today (``goal_events``). The first reason counts:
    withdrawn, converted, exited, completed.
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
    in_flight = state.lazy().filter(pl.col("ended_on").is_null()).join(facts, on="journey_id", how="left")
    deadline = pl.min_horizontal(pl.lit(today), pl.col("entered_on") + pl.duration(days=pl.col("within_days")))
    converted = (
        in_flight.join(goals, left_on=["customer_id", "goal"], right_on=["customer_id", "event"], how="inner")
        .filter((pl.col("event_date") > pl.col("entered_on")) & (pl.col("event_date") <= deadline))
        .select("customer_id", "journey_id", is_converted=pl.lit(value=True))
        .unique()
    )
    ended_reason = rules.one_of(
        [
            (pl.col("length_days").is_null(), pl.lit("withdrawn")),
            (pl.col("is_converted"), pl.lit("converted")),
            (pl.col("is_exited"), pl.lit("exited")),
            (_days_since("entered_on", today) >= pl.col("length_days"), pl.lit("completed")),
        ],
        otherwise=pl.lit(None, dtype=pl.String),
    )
    is_finished = pl.col("ended_reason").is_in(FINISHED).fill_null(value=False)
    ended = (
        in_flight.join(converted, on=["customer_id", "journey_id"], how="left")
        .join(_exits(profiles, journeys), on=["customer_id", "journey_id"], how="left")
        .with_columns(ended_reason=ended_reason)
        .with_columns(
            ended_on=pl.when(pl.col("ended_reason").is_not_null()).then(pl.lit(today)),
            left_on=pl.when(pl.col("ended_reason").is_not_null()).then(pl.lit(today)).otherwise("left_on"),
            times_completed=pl.col("times_completed") + is_finished.cast(pl.Int64),
            finished_on=pl.when(is_finished).then(pl.lit(today)).otherwise("finished_on"),
        )
        .select(*STATE)
    )
    return pl.concat([state.lazy().filter(pl.col("ended_on").is_not_null()), ended]).collect()


def _exits(profiles: pl.LazyFrame, journeys: Sequence[Journey]) -> pl.LazyFrame:
    """One row per customer and journey whose ``exit_when`` holds today."""
    leave = [pl.when(one.exit_when.expr).then(pl.lit(one.id)) for one in journeys if one.exit_when is not None]
    return (
        profiles.select("customer_id", journey_id=pl.concat_list(pl.lit(None, dtype=pl.String), *leave))
        .explode("journey_id")
        .drop_nulls("journey_id")
        .with_columns(is_exited=pl.lit(value=True))
    )


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


def in_flight(state: pl.DataFrame) -> pl.DataFrame:
    """One row per customer who is in a journey: ``customer_id``, ``journey_id``."""
    return state.filter(pl.col("ended_on").is_null()).select("customer_id", "journey_id")


def last_finished(state: pl.DataFrame) -> pl.DataFrame:
    """One row per customer who has completed or converted: the last such journey."""
    return (
        state.filter(pl.col("finished_on").is_not_null())
        .sort("customer_id", "finished_on", "journey_id")
        .group_by("customer_id", maintain_order=True)
        .agg(pl.col("journey_id").last())
    )


def decide(options: pl.LazyFrame, state: pl.DataFrame, profiles: pl.LazyFrame, portfolio: Portfolio, *, today: date) -> Decided:
    """Rule every option row and pick at most one journey per customer (SPEC 8, steps 2 to 4 and 6).

    ``options``: ``candidates.build_options`` of today. ``state``: ``advance`` of today.
    """
    ruled = _rule(options, state, profiles, portfolio, today)
    chosen = _chosen(ruled, state, portfolio, today)
    keep = portfolio.policy.keep_candidates
    kept = ruled if keep is None else ruled.filter((pl.col("rank") <= keep) | (pl.col("ruling") == "chosen"))
    return Decided(
        candidates=kept.with_columns(pl.lit(today).alias("date")).select(*CANDIDATES).cast(CANDIDATES).sort("customer_id", "journey_id"),  # type: ignore[arg-type]
        state=_remember(state, chosen, portfolio, today),
        assignments=_assign(chosen, ruled, state, profiles, portfolio, today),
    )


def _rule(options: pl.LazyFrame, state: pl.DataFrame, profiles: pl.LazyFrame, portfolio: Portfolio, today: date) -> pl.DataFrame:
    ranked = rules.rank_in_total_order(_with_memory_gates(options, state, profiles, portfolio, today))
    gated = rules.with_failed_gates(ranked.collect())
    passes = pl.col("gates_failed") == 0
    is_none = pl.col("journey_id") == NONE
    none = gated.filter(is_none).select("customer_id", none_score="score")
    incumbents = (
        gated.filter("is_incumbent")
        .join(state.select("customer_id", "journey_id", "entry_score"), on=["customer_id", "journey_id"], how="left")
        .with_columns(yields_at=pl.col("score").fill_null(pl.col("entry_score")))
        .select(
            "customer_id",
            incumbent_rank="rank",
            incumbent_is_mandatory="mandatory",
            incumbent_is_interruptible="interruptible",
            yields_above=pl.col("yields_at") + portfolio.policy.switch_margin * pl.col("yields_at").abs(),
        )
    )
    has_incumbent = pl.col("incumbent_rank").is_not_null()
    may_interrupt = (
        pl.col("incumbent_is_interruptible")
        & (pl.col("mandatory") | ~pl.col("incumbent_is_mandatory"))
        & (
            (pl.col("mandatory") & (pl.col("rank") < pl.col("incumbent_rank")))
            | (pl.col("can_interrupt") & (pl.col("score") > pl.col("yields_above")))
        )
    )
    outranks_none = pl.col("mandatory") | (pl.col("score") > pl.col("none_score"))
    is_eligible = ~is_none & ~pl.col("is_incumbent") & passes & outranks_none & (~has_incumbent | may_interrupt.fill_null(value=False))
    contested = (
        gated.join(none, on="customer_id", how="left").join(incumbents, on="customer_id", how="left").with_columns(is_eligible=is_eligible)
    )
    winners = contested.filter("is_eligible").group_by("customer_id").agg(winner=pl.col("rank").min())
    has_winner = pl.col("winner").is_not_null()
    is_chosen = rules.one_of([(has_winner, pl.col("rank") == pl.col("winner")), (has_incumbent, pl.col("is_incumbent"))], otherwise=is_none)
    stays = has_incumbent & ~has_winner
    ruling = rules.one_of(
        [
            (pl.col("is_chosen"), pl.lit("chosen")),
            (~passes, pl.col("failed_gates").list.first()),
            (stays, pl.lit("in_flight")),
        ],
        otherwise=pl.lit("outscored"),
    )
    decided = (
        contested.join(winners, on="customer_id", how="left")
        .with_columns(is_chosen=is_chosen, passes_gates=passes, has_incumbent=has_incumbent)
        .with_columns(ruling=ruling)
    )
    scores = decided.filter("is_chosen").select("customer_id", chosen_score="score")
    return decided.join(scores, on="customer_id", how="left").with_columns(
        failed_gates=rules.one_of(
            [(pl.col("is_chosen"), pl.lit([], dtype=pl.List(pl.String))), (~pl.col("passes_gates"), pl.col("failed_gates"))],
            otherwise=pl.concat_list("ruling"),
        ),
        margin=pl.col("chosen_score") - pl.col("score"),
    )


def _with_memory_gates(
    options: pl.LazyFrame, state: pl.DataFrame, profiles: pl.LazyFrame, portfolio: Portfolio, today: date
) -> pl.LazyFrame:
    past = state.lazy()
    policy = portfolio.policy
    rested = past.group_by("customer_id").agg(last_ended_on=pl.col("left_on").max())
    is_challenger = ~pl.col("is_incumbent") & (pl.col("journey_id") != NONE)
    counted_from = pl.when("reentry_from_exit").then("ended_on").otherwise("entered_on")
    tests = {
        "reentry": pl.col("entered_on").is_not_null()
        & (pl.col("reentry_after_days").is_null() | ((pl.lit(today) - counted_from).dt.total_days() < pl.col("reentry_after_days"))),
        "max_entries": pl.col("times_entered") >= pl.col("max_entries"),
        "link": pl.col("is_linked") & pl.col("is_link_met").is_null(),
        "pairwise": pl.col("is_too_close").is_not_null(),
        "resting": (_days_since("last_ended_on", today) < policy.rest_days) & ~pl.col("mandatory"),
        "frequency_cap": pl.col("starts").fill_null(0) + 1 > pl.col("allowed_starts"),
    }
    return (
        options.join(_journey_facts(portfolio.journeys), on="journey_id", how="left")
        .join(
            past.select("customer_id", "journey_id", "entered_on", "ended_on", "times_entered"),
            on=["customer_id", "journey_id"],
            how="left",
        )
        .join(_links_met(past, portfolio.journeys), on=["customer_id", "journey_id"], how="left")
        .join(_too_close(past, portfolio.journeys, today), on=["customer_id", "journey_id"], how="left")
        .join(rested, on="customer_id", how="left")
        .join(_starts(past, profiles, portfolio, today), on="customer_id", how="left")
        .with_columns((is_challenger & test.fill_null(value=False)).alias(rules.gate(name)) for name, test in tests.items())
    )


def _journey_facts(journeys: Sequence[Journey]) -> pl.LazyFrame:
    columns: dict[str, tuple[pl.DataType, Callable[[Journey], object]]] = {
        "journey_id": (pl.String(), lambda journey: journey.id),
        "reentry_after_days": (pl.Int64(), lambda journey: journey.reentry.after_days if journey.reentry else None),
        "reentry_from_exit": (pl.Boolean(), lambda journey: journey.reentry is not None and journey.reentry.counted_from == "exit"),
        "max_entries": (pl.Int64(), lambda journey: journey.max_entries),
        "is_linked": (pl.Boolean(), lambda journey: bool(journey.only_after)),
        "can_interrupt": (pl.Boolean(), lambda journey: journey.can_interrupt),
        "interruptible": (pl.Boolean(), lambda journey: journey.interruptible),
    }
    return pl.LazyFrame(
        {name: [fact(journey) for journey in journeys] for name, (_, fact) in columns.items()},
        schema={name: dtype for name, (dtype, _) in columns.items()},
    )


def _links_met(past: pl.LazyFrame, journeys: Sequence[Journey]) -> pl.LazyFrame:
    """One row per customer and linked journey of which a prerequisite was completed or converted."""
    pairs = [(journey.id, before) for journey in journeys for before in journey.only_after]
    links = pl.LazyFrame(pairs, schema={"journey_id": pl.String, "before": pl.String}, orient="row")
    completed = past.filter(pl.col("times_completed") > 0).select("customer_id", before="journey_id")
    return completed.join(links, on="before", how="inner").select("customer_id", "journey_id", is_link_met=pl.lit(value=True)).unique()


def _too_close(past: pl.LazyFrame, journeys: Sequence[Journey], today: date) -> pl.LazyFrame:
    """One row per customer and journey that must not follow another one the customer was in within so many days.

    Only the latest spell matters: an earlier one cannot reach further. A spell covers entered_on up to the day before ended_on.
    """
    pairs = [(journey.id, other.journey, other.within_days) for journey in journeys for other in journey.not_after]
    forbidden = pl.LazyFrame(pairs, schema={"journey_id": pl.String, "other": pl.String, "within_days": pl.Int64}, orient="row")
    last_day_in = pl.col("ended_on").dt.offset_by("-1d").fill_null(today)
    return (
        past.select("customer_id", "ended_on", other="journey_id")
        .join(forbidden, on="other", how="inner")
        .filter((pl.lit(today) - last_day_in).dt.total_days() < pl.col("within_days"))
        .select("customer_id", "journey_id", is_too_close=pl.lit(value=True))
        .unique()
    )


def _starts(past: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio, today: date) -> pl.LazyFrame:
    """One row per customer: how many starts the cap allows (null = any number), and how many were made in its window."""
    cap = portfolio.policy.cap
    if cap is None:
        return profiles.select("customer_id", allowed_starts=pl.lit(None, dtype=pl.Float64), starts=pl.lit(0))
    starts = (
        past.select("customer_id", "recent_starts")
        .explode("recent_starts")
        .filter((pl.col("recent_starts") > today - timedelta(days=cap.days)) & (pl.col("recent_starts") < today))
        .group_by("customer_id")
        .agg(starts=pl.len().cast(pl.Int64))
    )
    return profiles.select("customer_id", allowed_starts=cap.starts.expr.cast(pl.Float64)).join(starts, on="customer_id", how="left")


def _chosen(ruled: pl.DataFrame, state: pl.DataFrame, portfolio: Portfolio, today: date) -> pl.DataFrame:
    """One row per customer with options: what was decided, and for starts and switches the arm drawn."""
    is_new = ~pl.col("is_incumbent") & (pl.col("journey_id") != NONE)
    decision = rules.one_of(
        [
            (pl.col("journey_id") == NONE, pl.lit("none")),
            (pl.col("is_incumbent"), pl.lit("continue")),
            (pl.col("has_incumbent"), pl.lit("switch")),
        ],
        otherwise=pl.lit("start"),
    )
    held_out = [rules.is_held_out(portfolio.version, portfolio.policy.holdout)]
    held_out += [(pl.col("journey_id") == one.id) & rules.is_held_out(one.id, one.holdout) for one in portfolio.journeys if one.holdout > 0]
    kept = state.select("customer_id", "journey_id", kept_entered_on="entered_on", kept_arm="arm")
    return (
        ruled.filter(pl.col("is_chosen"))
        .join(kept, on=["customer_id", "journey_id"], how="left")
        .with_columns(
            decision=decision,
            entered_on=pl.when(is_new).then(pl.lit(today)).when("is_incumbent").then("kept_entered_on"),
            arm=pl.when(is_new)
            .then(pl.when(pl.any_horizontal(held_out)).then(pl.lit("control")).otherwise(pl.lit("treated")))
            .when("is_incumbent")
            .then("kept_arm"),
        )
        .select("customer_id", "journey_id", "decision", "entered_on", "arm", "score")
    )


def _remember(state: pl.DataFrame, chosen: pl.DataFrame, portfolio: Portfolio, today: date) -> pl.DataFrame:
    """Write today's switches, starts and entries into the memory: one row per customer and journey ever entered."""
    switched = chosen.filter(pl.col("decision") == "switch").select("customer_id", is_switched=pl.lit(value=True))
    is_interrupted = pl.col("is_switched") & pl.col("ended_on").is_null()
    entries = chosen.filter(pl.col("decision").is_in(["start", "switch"])).select(
        "customer_id", "journey_id", is_entered=pl.lit(value=True), new_arm="arm", new_score="score"
    )
    return (
        state.join(switched, on="customer_id", how="left")
        .with_columns(
            ended_reason=pl.when(is_interrupted).then(pl.lit("interrupted")).otherwise("ended_reason"),
            ended_on=pl.when(is_interrupted).then(pl.lit(today)).otherwise("ended_on"),
            left_on=pl.when(is_interrupted).then(pl.lit(today)).otherwise("left_on"),
        )
        .join(entries, on=["customer_id", "journey_id"], how="full", coalesce=True)
        .with_columns(
            pl.lit(today).alias("date"),
            entered_on=pl.when("is_entered").then(pl.lit(today)).otherwise("entered_on"),
            ended_on=pl.when("is_entered").then(None).otherwise("ended_on"),
            ended_reason=pl.when("is_entered").then(None).otherwise("ended_reason"),
            times_entered=pl.col("times_entered").fill_null(0) + pl.col("is_entered").fill_null(value=False).cast(pl.Int64),
            times_completed=pl.col("times_completed").fill_null(0),
            entry_score=pl.when("is_entered").then("new_score").otherwise("entry_score"),
            arm=pl.when("is_entered").then("new_arm").otherwise("arm"),
        )
        .pipe(_note_starts, portfolio, today)
        .select(*STATE)
        .cast(STATE)  # type: ignore[arg-type]  # a dict of data types is a schema
        .sort("customer_id", "journey_id")
    )


def _note_starts(state: pl.DataFrame, portfolio: Portfolio, today: date) -> pl.DataFrame:
    """Add today's entries to ``recent_starts`` and drop those that no cap will count again."""
    window = portfolio.policy.cap.days if portfolio.policy.cap else 0
    is_touched = pl.col("is_entered").is_not_null() | (pl.col("recent_starts").list.len() > 0)
    starts = pl.concat_list(
        pl.col("recent_starts").fill_null([]),
        pl.when("is_entered").then(pl.lit([today])).otherwise(pl.lit([], dtype=pl.List(pl.Date))),
    )
    # Most rows have no recent start, and lists cost far more than anything else here: only the others are looked into.
    touched = state.filter(is_touched).with_columns(recent_starts=starts.list.filter(pl.element() > today - timedelta(days=window)))
    return pl.concat([state.filter(~is_touched), touched])


def _assign(
    chosen: pl.DataFrame, ruled: pl.DataFrame, state: pl.DataFrame, profiles: pl.LazyFrame, portfolio: Portfolio, today: date
) -> pl.DataFrame:
    """One row per customer of today's profiles: the one answer."""
    runners_up = (
        ruled.filter(~pl.col("is_chosen") & pl.col("passes_gates"))
        .sort("customer_id", "rank")
        .group_by("customer_id", maintain_order=True)
        .agg(runner_up=pl.col("journey_id").first(), runner_up_score=pl.col("score").first())
    )
    switched = chosen.filter(pl.col("decision") == "switch").select("customer_id")
    left = in_flight(state).join(switched, on="customer_id", how="semi").with_columns(ended_reason=pl.lit("interrupted"))
    ended = state.filter(pl.col("ended_on") == today).select("customer_id", "journey_id", "ended_reason")
    lengths = pl.DataFrame(
        [(journey.id, journey.length_days) for journey in portfolio.journeys],
        schema={"journey_id": pl.String, "length_days": pl.Int64},
        orient="row",
    )
    return (
        profiles.select("customer_id")
        .collect()
        .join(chosen, on="customer_id", how="left")
        .join(runners_up, on="customer_id", how="left")
        .join(pl.concat([ended, left]).rename({"journey_id": "ended_journey_id"}), on="customer_id", how="left")
        .join(lengths, on="journey_id", how="left")
        .with_columns(
            pl.lit(today).alias("date"),
            decision=pl.col("decision").fill_null("none"),
            journey_id=pl.when(pl.col("journey_id") != NONE).then("journey_id"),
            day_index=_days_since("entered_on", today) + 1,
            ends_on=pl.col("entered_on") + pl.duration(days=pl.col("length_days") - 1),
            selection_probability=pl.lit(1.0),
        )
        .select(*ASSIGNMENTS)
        .cast(ASSIGNMENTS)  # type: ignore[arg-type]  # a dict of data types is a schema
        .sort("customer_id")
    )


def _days_since(column: str, today: date) -> pl.Expr:
    return (pl.lit(today) - pl.col(column)).dt.total_days()
