"""What must hold of queues, options, assignments and memory (SPEC 6 to 8): each rule finds the rows that break it.

What belongs here: promises about the decision, and their words. What does not: what promises share (``promise``).
"""

from collections.abc import Sequence
from datetime import date
from functools import partial

import polars as pl

from atc_pipeline.activation.tables import MAY_HAVE_ARRIVED
from atc_pipeline.decision.tables import JOURNEY_STATE
from atc_pipeline.identity.map import absorbed
from atc_pipeline.journeys.portfolio import NONE, Portfolio
from atc_pipeline.promises.promise import Promise, a_day_later, absorbed_on, after_first_day, between, day_before, table
from atc_pipeline.rules.people import survivors
from atc_pipeline.tables.store import Store


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


def unaccounted_journeys(assignments: pl.LazyFrame, yesterday: pl.LazyFrame, state: pl.LazyFrame, absorbed: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers whose journey of yesterday is neither continued nor ended today, and those who go on with none.

    Of the journeys that merged customers were in, one goes on or ends like any other; the rest end ``merged``, which ``state``
    tells, unless they have been entered again.
    """
    before = a_day_later(yesterday.filter(pl.col("journey_id").is_not_null()).select("date", "customer_id", was_in="journey_id"), absorbed)
    is_over = ((pl.col("ended_on") == pl.col("date")) & (pl.col("ended_reason") == "merged")) | (pl.col("entered_on") == pl.col("date"))
    merged = state.filter(is_over).select("date", "customer_id", was_in="journey_id", is_merged=pl.lit(value=True))
    is_continued = (pl.col("decision") == "continue") & (pl.col("journey_id") == pl.col("was_in"))
    is_ended = (pl.col("ended_journey_id") == pl.col("was_in")) & (pl.col("ended_reason") != "merged")
    goes_on = (is_continued | is_ended).fill_null(value=False)
    is_merged = pl.col("is_merged").fill_null(value=False)
    was_in_none = pl.col("was_in").is_null() & ((pl.col("decision") == "continue") | pl.col("ended_journey_id").is_not_null())
    return (
        assignments.select("date", "customer_id", "decision", "journey_id", "ended_journey_id", "ended_reason")
        .join(before.unique(), on=["date", "customer_id"], how="full", coalesce=True)
        .join(merged, on=["date", "customer_id", "was_in"], how="left")
        .with_columns(goes_on=goes_on, none_goes_on=~goes_on.any().over("date", "customer_id"))
        .filter(
            (pl.col("was_in").is_not_null() & (~(pl.col("goes_on") | is_merged) | pl.col("none_goes_on")))
            | was_in_none.fill_null(value=True)
        )
        .drop("goes_on", "none_goes_on", "is_merged")
    )


def broken_rules(
    assignments: pl.LazyFrame,
    state: pl.LazyFrame,
    yesterday: pl.LazyFrame,
    profiles: pl.LazyFrame,
    absorbed: pl.LazyFrame,
    sent: pl.LazyFrame,
    portfolio: Portfolio,
) -> pl.LazyFrame:
    """Return starts and switches that reentry, the number of entries, a blackout or the frequency cap forbids.

    ``state``, ``yesterday``: the memory after the decision of the day, and of the day before. ``sent``: ``date``, ``customer_id`` and
    ``journey_id`` of what was sent already when the day was decided: that stands, whatever is known or allowed by now.
    """
    key = ["date", "customer_id", "journey_id"]
    before = _entered_before(yesterday, absorbed)
    since = pl.when("reentry_from_exit").then(pl.col("last_exit").fill_null(pl.col("date"))).otherwise("last_entry")
    was_entered = pl.col("last_entry").is_not_null()
    is_too_soon = was_entered & ((pl.col("date") - since).dt.total_days() < pl.col("reentry_after_days"))
    return (
        assignments.filter(pl.col("decision").is_in(["start", "switch"]))
        .select(*key, "decision")
        .join(sent, on=key, how="anti")
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


def _entered_before(yesterday: pl.LazyFrame, absorbed: pl.LazyFrame) -> pl.LazyFrame:
    """One row per day, customer and journey entered before: ``last_entry``, ``last_exit`` (null while in flight).

    Rows of merged customers become one. A flight that goes on keeps the day it began on, whatever began after it elsewhere.
    """
    last_entry, is_in_flight = pl.col("entered_on"), pl.col("ended_on").is_null()
    return (
        a_day_later(yesterday.select("date", "customer_id", "journey_id", "entered_on", "ended_on"), absorbed)
        .group_by("date", "customer_id", "journey_id")
        .agg(
            last_entry=pl.when(is_in_flight.any()).then(last_entry.filter(is_in_flight).min()).otherwise(last_entry.max()),
            last_exit=pl.when(~is_in_flight.any()).then(pl.col("ended_on").max()),
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
    """True on days without starts; read off the periods and not by ``rules.reach``, which the decision goes by and this is to check."""
    everywhere = [pl.col("date").is_between(period.first, period.last) for period in portfolio.policy.suppress]
    in_journeys = [
        (pl.col("journey_id") == journey.id) & pl.col("date").is_between(period.first, period.last)
        for journey in portfolio.journeys
        for period in journey.suppress
    ]
    return pl.any_horizontal(pl.lit(value=False), *everywhere, *in_journeys)


def _starts_too_many(state: pl.LazyFrame, profiles: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """One row per customer and day: by how much one more start is beyond what the cap allows, after those within its window."""
    cap = portfolio.policy.cap
    if cap is None:
        return pl.LazyFrame(schema={"date": pl.Date, "customer_id": pl.String, "starts_too_many": pl.Float64})
    allowed = profiles.select("date", "customer_id", allowed=cap.starts.expr.cast(pl.Float64))
    earlier = (
        state.select("date", "customer_id", "recent_starts")
        .explode("recent_starts")
        .filter(pl.col("recent_starts") < pl.col("date"))
        .group_by("date", "customer_id")
        .agg(starts=pl.len().cast(pl.Int64))
    )
    return allowed.join(earlier, on=["date", "customer_id"], how="left").select(
        "date", "customer_id", starts_too_many=pl.col("starts").fill_null(0) + 1.0 - pl.col("allowed")
    )


def overfull_journeys(assignments: pl.LazyFrame, sent: pl.LazyFrame, portfolio: Portfolio) -> pl.LazyFrame:
    """Return journeys that more customers entered than there were places: ``entered``, ``places``.

    Places that were taken by what was ``sent`` already are taken, also where they are more than there are by now.

    In flight when places were given out are those who continue and, because a place that a switch frees opens the day after,
    those who are interrupted (SPEC 8, step 5).
    """
    key = ["date", "journey_id"]
    limits = pl.LazyFrame(
        [(journey.id, journey.daily_entries, journey.active) for journey in portfolio.journeys],
        schema={"journey_id": pl.String, "daily_entries": pl.Int64, "active": pl.Int64},
        orient="row",
    ).filter(pl.col("daily_entries").is_not_null() | pl.col("active").is_not_null())
    starts = assignments.filter(pl.col("decision").is_in(["start", "switch"])).select(*key, "customer_id")
    was_sent = sent.unique().with_columns(was_sent=pl.lit(value=True))
    starts = starts.join(was_sent, on=[*key, "customer_id"], how="left")
    entered = starts.group_by(key).agg(entered=pl.len(), anew=pl.col("was_sent").is_null().sum())
    continued = assignments.filter(pl.col("decision") == "continue").select(*key)
    interrupted = assignments.filter(pl.col("ended_reason") == "interrupted").select("date", journey_id="ended_journey_id")
    in_flight = pl.concat([continued, interrupted]).group_by(key).agg(in_flight=pl.len())
    left = pl.col("active") - pl.col("in_flight").fill_null(0).cast(pl.Int64)
    return (
        entered.join(limits, on="journey_id")
        .join(in_flight, on=key, how="left")
        .with_columns(places=pl.max_horizontal(0, pl.min_horizontal("daily_entries", left)))
        .filter((pl.col("entered").cast(pl.Int64) > pl.col("places")) & (pl.col("anew") > 0))
        .select(*key, "entered", "places")
    )


def outdated_options(candidates: pl.LazyFrame, queues: pl.LazyFrame) -> pl.LazyFrame:
    """Return customers of days decided before whose queues, or days of waiting, have changed since (SPEC 6).

    What is compared is one number for all queues of a customer: less than half the time of rows, and a quarter of the memory.
    """
    decided_on = candidates.select("date").unique()
    now, then = (
        rows.group_by("date", "customer_id").agg(
            pl.struct("journey_id", "waiting_days").hash().bitwise_xor().alias(name), pl.len().alias(f"queues_{name}")
        )
        for name, rows in (("now", queues.join(decided_on, on="date", how="semi")), ("then", candidates.filter("is_queued")))
    )
    both = now.join(then, on=["date", "customer_id"], how="full", coalesce=True)
    return both.filter(~pl.col("now").eq_missing(pl.col("then"))).drop("now", "then")


def _misruled_options(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    rule = partial(misruled_options, portfolio=portfolio)
    return between(rule, table("scored_candidates"))(store, portfolio, days)


def _outdated_options(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    if portfolio.policy.keep_candidates is not None:
        return pl.DataFrame()  # losers that were not kept cannot be told from options that were not there
    return between(outdated_options, table("scored_candidates"), table("journey_queues"))(store, portfolio, days)


def _broken_rules(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    rule = partial(broken_rules, portfolio=portfolio)
    before = day_before("journey_state", JOURNEY_STATE.schema)
    sources = [table("journey_assignments"), table("journey_state"), before, table("customer_profiles"), absorbed_on, _sent]
    return between(rule, *sources)(store, portfolio, days)


def _overfull_journeys(store: Store, portfolio: Portfolio, days: Sequence[date]) -> pl.DataFrame:
    rule = partial(overfull_journeys, portfolio=portfolio)
    return between(rule, table("journey_assignments"), _sent)(store, portfolio, days)


def _sent(store: Store, days: Sequence[date]) -> pl.LazyFrame:
    """Read what was sent on these days before they were decided again, under the names that people have on them by now."""
    schema = {"date": pl.Date(), "customer_id": pl.String(), "journey_id": pl.String()}
    arrivals = [pl.DataFrame(schema=schema)]
    for day in days:
        sent = store.scan("activation", [day])
        arrived = None if sent is None else sent.filter(pl.col("status").is_in(MAY_HAVE_ARRIVED)).select(*schema).collect()
        if arrived is not None and arrived.height:
            arrivals.append(survivors(arrived.lazy(), absorbed(store.lazy("identity_map", day))).collect())
    return pl.concat(arrivals).lazy()


DECIDE_AGAIN = (
    "If it fails, run the job decide_again from the first day that fails through the latest; until it holds, nothing of these days is sent."
)

PROMISES = (
    Promise(
        "journey_queues",
        "decisions_stand_on_these_queues",
        "No day was decided on an older queue: a backfill that starts earlier lengthens the waiting (SPEC 6). Run the job decide_again "
        "from the first day that is named through the latest, or leave the past as it was decided.",
        _outdated_options,
        is_blocking=False,
    ),
    Promise(
        "scored_candidates",
        "rulings_add_up",
        'Every option is ruled once: one chosen and one "none" per customer, rulings that follow from the gates failed (SPEC 7). '
        + DECIDE_AGAIN,
        _misruled_options,
    ),
    Promise(
        "journey_assignments",
        "one_answer_per_customer",
        "One row per customer of the day's profiles, and no other (SPEC 8). " + DECIDE_AGAIN,
        between(unassigned_customers, table("customer_profiles"), table("journey_assignments")),
    ),
    Promise(
        "journey_assignments",
        "nobody_is_in_two_journeys",
        "At most one journey per customer, and the memory agrees with the answer (SPEC 8). " + DECIDE_AGAIN,
        between(double_booked_customers, table("journey_state"), table("journey_assignments")),
    ),
    Promise(
        "journey_assignments",
        "journeys_in_flight_add_up",
        "In flight yesterday = continued + ended today, those that merged among them (SPEC 8). " + DECIDE_AGAIN,
        after_first_day(unaccounted_journeys, "journey_assignments", table("journey_state"), absorbed_on),
    ),
    Promise(
        "journey_assignments",
        "no_rule_is_broken",
        "No start against reentry, the number of entries or the frequency cap, none on a blacked-out day (SPEC 8). " + DECIDE_AGAIN,
        _broken_rules,
    ),
    Promise(
        "journey_assignments",
        "no_journey_is_overfull",
        "No more customers enter a journey than its daily entries and its active places allow (SPEC 8). " + DECIDE_AGAIN,
        _overfull_journeys,
    ),
)
"""In the order of the lineage."""
