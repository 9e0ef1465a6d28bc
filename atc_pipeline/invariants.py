"""What must hold on every day, whatever the portfolio: each invariant returns the rows that break it (SPEC 2, 4, 8).

Frames hold one or more days, told apart by ``date``; a ``yesterday`` frame is the same table one day earlier.

What belongs here: promises between tables or days. What does not: what one table looks like (``schemas``).
"""

import polars as pl

from atc_pipeline.journeys.portfolio import EVERYONE_ELSE, NONE, Portfolio


def uncovered_customers(profiles: pl.LazyFrame, memberships: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers in no micro-segment, and customers in the residual segment beside another one."""
    counted = memberships.group_by("date", "customer_id").agg(segments=pl.len(), is_residual=(pl.col("segment_id") == EVERYONE_ELSE).any())
    return (
        profiles.select("date", "customer_id")
        .join(counted, on=["date", "customer_id"], how="left")
        .filter(pl.col("segments").is_null() | (pl.col("is_residual") & (pl.col("segments") > 1)))
    )


def lost_customers(profiles: pl.LazyFrame, yesterday: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers of yesterday who are gone, and new ones who were first seen on another day."""
    days = pl.col("date").dt.offset_by("1d")
    before = yesterday.select("customer_id", date=days, was_there=pl.lit(value=True))
    now = profiles.select("date", "customer_id", "first_seen_on")
    return (
        now.join(before, on=["date", "customer_id"], how="full", coalesce=True)
        .filter(pl.col("first_seen_on").is_null() | (pl.col("was_there").is_null() != (pl.col("first_seen_on") == pl.col("date"))))
        .select("date", "customer_id", "first_seen_on", "was_there")
    )


def misruled_options(candidates: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """Return customers without exactly one chosen option and one "none", or with rulings that contradict the gates failed.

    Where only the best candidates are kept, "none" may not be among them.
    """
    fewest_nones = 1 if portfolio.policy.keep_candidates is None else 0
    is_chosen = pl.col("ruling") == "chosen"
    first = pl.col("failed_gates").list.first()
    contradicts = pl.when(is_chosen).then(first.is_not_null()).otherwise(first.is_null() | (first != pl.col("ruling")))
    return (
        candidates.group_by("date", "customer_id")
        .agg(
            chosen=is_chosen.sum(),
            nones=(pl.col("journey_id") == NONE).sum(),
            incumbents=pl.col("is_incumbent").sum(),
            contradictions=contradicts.sum(),
        )
        .filter(
            (pl.col("chosen") != 1)
            | ~pl.col("nones").is_between(fewest_nones, 1)
            | (pl.col("incumbents") > 1)
            | (pl.col("contradictions") > 0)
        )
    )


def unassigned_customers(profiles: pl.LazyFrame, assignments: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers without a row in the assignments, and rows without a customer."""
    return (
        profiles.select("date", "customer_id", in_profiles=pl.lit(value=True))
        .join(
            assignments.select("date", "customer_id", in_assignments=pl.lit(value=True)),
            on=["date", "customer_id"],
            how="full",
            coalesce=True,
        )
        .filter(pl.col("in_profiles").is_null() | pl.col("in_assignments").is_null())
    )


def double_booked_customers(state: pl.LazyFrame, assignments: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers who are in two journeys, or in another one than they are assigned."""
    in_flight = (
        state.filter(pl.col("ended_on").is_null())
        .group_by("date", "customer_id")
        .agg(journeys=pl.len(), in_flight=pl.col("journey_id").first())
    )
    return (
        assignments.select("date", "customer_id", "journey_id")
        .join(in_flight, on=["date", "customer_id"], how="full", coalesce=True)
        .filter((pl.col("journeys") > 1) | ~pl.col("journey_id").eq_missing(pl.col("in_flight")))
    )


def unaccounted_journeys(assignments: pl.LazyFrame, yesterday: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers whose journey of yesterday is neither continued nor ended today."""
    before = yesterday.filter(pl.col("journey_id").is_not_null()).select(
        "customer_id", date=pl.col("date").dt.offset_by("1d"), was_in="journey_id"
    )
    is_continued = (pl.col("decision") == "continue") & (pl.col("journey_id") == pl.col("was_in"))
    is_ended = pl.col("ended_journey_id") == pl.col("was_in")
    was_in_none = pl.col("was_in").is_null() & ((pl.col("decision") == "continue") | pl.col("ended_journey_id").is_not_null())
    return (
        assignments.select("date", "customer_id", "decision", "journey_id", "ended_journey_id")
        .join(before, on=["date", "customer_id"], how="full", coalesce=True)
        .filter((pl.col("was_in").is_not_null() & ~(is_continued | is_ended).fill_null(value=False)) | was_in_none.fill_null(value=True))
    )


def broken_rules(
    assignments: pl.LazyFrame, state: pl.LazyFrame, yesterday: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio
) -> pl.LazyFrame:
    """Return starts and switches that reentry, the number of entries, a blackout or the frequency cap forbids.

    ``state``, ``yesterday``: the memory after the decision of the day, and of the day before.
    """
    key = ["date", "customer_id", "journey_id"]
    before = yesterday.select("customer_id", "journey_id", pl.col("date").dt.offset_by("1d"), last_entry="entered_on", last_exit="ended_on")
    since = pl.when("reentry_from_exit").then(pl.col("last_exit").fill_null(pl.col("date"))).otherwise("last_entry")
    was_entered = pl.col("last_entry").is_not_null()
    is_too_soon = was_entered & ((pl.col("date") - since).dt.total_days() < pl.col("reentry_after_days"))
    return (
        assignments.filter(pl.col("decision").is_in(["start", "switch"]))
        .select(*key, "decision")
        .join(state.select(*key, "times_entered"), on=key, how="left")
        .join(before, on=key, how="left")
        .join(_entry_rules(portfolio), on="journey_id", how="left")
        .join(_starts_too_many(state, profiles, portfolio), on=["date", "customer_id"], how="left")
        .with_columns(is_blackout=_is_blackout(portfolio), is_too_soon=is_too_soon)
        .filter(
            pl.col("times_entered").is_null()
            | (pl.col("times_entered") > pl.col("most_entries"))
            | pl.col("is_too_soon")
            | pl.col("is_blackout")
            | (pl.col("starts_too_many") > 0)
        )
    )


def _entry_rules(portfolio: Portfolio) -> pl.LazyFrame:
    rows = [
        (
            journey.id,
            1 if journey.reentry is None else journey.max_entries,
            journey.reentry.after_days if journey.reentry else None,
            journey.reentry is not None and journey.reentry.counted_from == "exit",
        )
        for journey in portfolio.journeys
    ]
    schema = {
        "journey_id": pl.String,
        "most_entries": pl.Int64,
        "reentry_after_days": pl.Int64,
        "reentry_from_exit": pl.Boolean,
    }
    return pl.LazyFrame(rows, schema=schema, orient="row")


def _is_blackout(portfolio: Portfolio) -> pl.Expr:
    everywhere = [pl.col("date").is_between(period.first, period.last) for period in portfolio.policy.suppress]
    in_journeys = [
        (pl.col("journey_id") == journey.id) & pl.col("date").is_between(period.first, period.last)
        for journey in portfolio.journeys
        for period in journey.suppress
    ]
    return pl.any_horizontal(pl.lit(value=False), *everywhere, *in_journeys)


def _starts_too_many(state: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """One row per customer and day: starts within the cap's window, today included, beyond what the cap allows."""
    cap = portfolio.policy.cap
    if cap is None:
        return pl.LazyFrame(schema={"date": pl.Date, "customer_id": pl.String, "starts_too_many": pl.Float64})
    allowed = profiles.select("date", "customer_id", allowed=cap.starts.expr.cast(pl.Float64))
    return (
        state.group_by("date", "customer_id")
        .agg(starts=pl.col("recent_starts").list.len().sum())
        .join(allowed, on=["date", "customer_id"], how="inner")
        .select("date", "customer_id", starts_too_many=pl.col("starts").cast(pl.Float64) - pl.col("allowed"))
    )


def overfull_journeys(assignments: pl.LazyFrame, yesterday: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """Return journeys that more customers entered than there were places: ``entered``, ``places``.

    A place that a switch frees opens the day after, so whoever is interrupted still counts as in flight (SPEC 8, step 5).
    """
    key = ["date", "journey_id"]
    limits = pl.LazyFrame(
        [(one.id, one.daily_entries, one.active) for one in portfolio.journeys],
        schema={"journey_id": pl.String, "daily_entries": pl.Int64, "active": pl.Int64},
        orient="row",
    ).filter(pl.col("daily_entries").is_not_null() | pl.col("active").is_not_null())
    entered = assignments.filter(pl.col("decision").is_in(["start", "switch"])).group_by(key).agg(entered=pl.len())
    before = yesterday.drop_nulls("journey_id").group_by("journey_id", pl.col("date").dt.offset_by("1d")).agg(before=pl.len())
    ended = assignments.filter(pl.col("ended_reason") != "interrupted").group_by("date", journey_id="ended_journey_id").agg(ended=pl.len())
    left = pl.col("active") - (pl.col("before").fill_null(0).cast(pl.Int64) - pl.col("ended").fill_null(0).cast(pl.Int64))
    return (
        entered.join(limits, on="journey_id")
        .join(before, on=key, how="left")
        .join(ended, on=key, how="left")
        .with_columns(places=pl.max_horizontal(0, pl.min_horizontal("daily_entries", left)))
        .filter(pl.col("entered").cast(pl.Int64) > pl.col("places"))
        .select(*key, "entered", "places")
    )


def unexpected_messages(messages: pl.LazyFrame, assignments: pl.LazyFrame) -> pl.LazyFrame:
    """Return messages to customers who are not treated in that journey today."""
    treated = assignments.filter(pl.col("arm") == "treated").select("date", "customer_id", "journey_id")
    return messages.select("date", "idempotency_key", "customer_id", "journey_id", "step_day").join(
        treated, on=["date", "customer_id", "journey_id"], how="anti"
    )


def outdated_options(candidates: pl.LazyFrame, queues: pl.LazyFrame) -> pl.LazyFrame:
    """Return options of days decided before on a queue that has changed since (SPEC 6)."""
    decided_on = candidates.select("date").unique()
    now = queues.join(decided_on, on="date", how="semi").select("date", "journey_id", "customer_id", now="waiting_days")
    then = candidates.filter("is_queued").select("date", "journey_id", "customer_id", then="waiting_days")
    return now.join(then, on=["date", "journey_id", "customer_id"], how="full", coalesce=True).filter(
        ~pl.col("now").eq_missing(pl.col("then"))
    )
