"""A day's decision, from queues and memory to one answer per customer (SPEC 7, 8).

Customers are decided in shards, each by itself and on any core; only limited places are given out over the whole population,
between the two halves of the work. The same input gives the same tables however many shards and threads there are.

What belongs here: the order of the steps, and the tables they end in. What does not: any rule of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from atc_pipeline.decision import capacity, choice, memory
from atc_pipeline.decision.catalogue import Catalogue, catalogue_of
from atc_pipeline.decision.gates import RULINGS
from atc_pipeline.decision.options import FACTORS, code_options, number_queues, options_of, score_options, with_factors
from atc_pipeline.decision.tables import JOURNEY_ASSIGNMENTS, JOURNEY_FUNNEL, JOURNEY_STATE, SCORED_CANDIDATES
from atc_pipeline.journeys.portfolio import CANDIDATE_TERMS, Portfolio
from atc_pipeline.rules.lots import BUCKETS, bucket
from atc_pipeline.rules.people import survivors
from atc_pipeline.tables.parts import in_parallel, lazily

DECISIONS = ("none", "continue", "switch", "start")

SHARD = 32_768
"""Customers decided at once: their arrays stay in the caches (measured at a million: 131,072 at once take a third longer)."""


@dataclass(frozen=True, eq=False)
class Decided:
    """One day's decision: its option rows ruled (made shard by shard, when they are asked for), the memory after it, one row per
    customer, and one per journey."""

    candidates: pl.LazyFrame
    state: pl.DataFrame
    assignments: pl.DataFrame
    funnel: pl.DataFrame


@dataclass(frozen=True, eq=False)
class _Shard:
    """Customers from number ``offset`` on: profiles, what lots are drawn by, memory, last finished journeys, and options contested."""

    offset: int
    profiles: pl.DataFrame
    arm_ids: pl.Series
    past: pl.DataFrame
    finished: pl.Series
    contested: choice.Contest


@dataclass(frozen=True, eq=False)
class _Done:
    """A shard after the choice: what the tables of the day are made of."""

    shard: _Shard
    settled: choice.Settled
    state: pl.DataFrame
    assignments: pl.DataFrame


def decide(
    queues: pl.LazyFrame,
    profiles: pl.LazyFrame,
    state: pl.DataFrame,
    goals: pl.LazyFrame,
    portfolio: Portfolio,
    *,
    today: date,
    delivered: pl.DataFrame | None = None,
    absorbed: pl.LazyFrame | None = None,
    arms: pl.LazyFrame | None = None,
    shard: int = SHARD,
) -> Decided:
    """Rule every option row and pick at most one journey per customer (SPEC 8).

    ``state``: the memory of yesterday, of customers as they are today (``memory.merge``). ``goals``: ``memory.goal_events``.
    ``delivered``: the assignments that messages of today were delivered for, if the day was activated before: they stand, and take
    their places first. ``absorbed``: who is somebody else by now (``identity.absorbed``), as far as these were written to under
    older names. ``arms``: who draws lots by another name than their own (``identity.arms``).
    """
    people = profiles.select(columns_needed(portfolio)).sort("customer_id").collect()
    customers = people.lazy().select("customer_id", customer=pl.int_range(pl.len(), dtype=pl.UInt32))
    catalogue = catalogue_of(portfolio, state["journey_id"].unique(), today=today)
    arm_ids = _arm_ids(people, arms)
    past = memory.number(state, customers, catalogue)
    kept, others = _kept(delivered, absorbed, past, customers, catalogue)
    past = memory.advance(past, goals.join(customers, on="customer_id"), people, kept, portfolio, today=today)
    kept, given_up = _kept_after_all(kept, others, past, today)
    past = memory.note_given_up(past, given_up, today=today)
    coded = code_options(number_queues(queues, customers, catalogue), _carried(past, kept))

    numbers_only = past.drop("date", "customer_id", "journey_id")

    def contest(offset: int) -> _Shard:
        these = people.slice(offset, shard)
        mine = _slice(numbers_only, offset, shard)
        finished = memory.last_finished(mine, these.height)
        options = options_of(coded, offset, shard, catalogue)
        scored = score_options(options, these, finished, portfolio, catalogue)
        shut = memory.gates_of(options, mine, these, portfolio, catalogue, today=today)
        scored = scored.with_columns(pl.col("failed") | pl.Series(shut))
        entry_scores = _entry_scores(mine, these.height)
        their_arms = arm_ids.slice(offset, shard)
        contested = choice.contest(scored, entry_scores, their_arms, portfolio, catalogue, today=today)
        return _Shard(offset, these, their_arms, mine, finished, contested)

    shards = in_parallel(contest, range(0, people.height, shard))
    places = _places(past, pl.concat([kept, given_up]), portfolio, catalogue)
    is_limited = np.zeros(catalogue.facts.height, dtype=bool)
    is_limited[places["journey"]] = True
    wishes = [choice.wishes_for(one.contested, is_limited, catalogue, one.offset) for one in shards] or [pl.DataFrame(schema=choice.WISHES)]
    allocation = capacity.allocate(pl.concat(wishes).join(kept.select("customer"), on="customer", how="anti"), places)

    def settle(one: _Shard) -> _Done:
        granted = allocation.granted.filter(pl.col("customer").is_between(one.offset, one.offset + shard, closed="left"))
        granted = granted.select(pl.col("customer") - one.offset, "journey")
        return _settle(one, is_limited, granted, _slice(kept, one.offset, shard), portfolio, catalogue, today)

    done = in_parallel(settle, shards)
    unseen = past.filter(pl.col("customer").is_null())  # remembered, and without a profile today
    remembered = pl.concat([*(one.state for one in done), _named_state(unseen, None, catalogue, today)])
    return Decided(
        candidates=lazily(lambda: (_candidates(one, portfolio, catalogue, today) for one in done), SCORED_CANDIDATES.schema),
        state=remembered if unseen.is_empty() else remembered.sort("customer_id", "journey_id"),
        assignments=pl.concat([one.assignments for one in done]) if done else pl.DataFrame(schema=JOURNEY_ASSIGNMENTS.schema),
        funnel=_funnel(done, allocation.journeys, catalogue, today),
    )


def columns_needed(portfolio: Portfolio) -> list[str]:
    """Name the profile's columns that deciding reads."""
    policy = portfolio.policy
    conditions = [policy.score, policy.none, policy.suppressed_when, policy.cap.starts if policy.cap else None]
    read = {name for one in conditions if one is not None for name in one.columns if name not in CANDIDATE_TERMS or one is not policy.score}
    for journey in portfolio.journeys:
        read |= {f"interest_{topic}" for topic in journey.interests} | {f"intent_{intent}" for intent in journey.intents}
        read |= {f"consent_{channel}" for channel in journey.channels}
        read |= set(journey.exit_when.columns) if journey.exit_when is not None else set()
    return ["customer_id", *sorted(read - {"customer_id"})]


def _arm_ids(people: pl.DataFrame, arms: pl.LazyFrame | None) -> pl.Series:
    """By customer number, the name that lots are drawn by: that under which they were first known (SPEC 2)."""
    if arms is None:
        return people["customer_id"].alias("arm_id")
    known = people.lazy().select("customer_id").join(arms, on="customer_id", how="left", maintain_order="left")
    return known.select(pl.coalesce("arm_id", "customer_id").alias("arm_id")).collect().to_series()


def _kept(
    delivered: pl.DataFrame | None, absorbed: pl.LazyFrame | None, past: pl.DataFrame, customers: pl.LazyFrame, catalogue: Catalogue
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row per assignment that stands because it was delivered, numbered, by customer; and those of older names that do not yet.

    It falls, and the customer is decided anew, where it cannot be true any more: its journey is gone from the portfolio, or
    yesterday, decided again since, left the customer somewhere else. Somebody may have been written to under several names: what
    they have now counts before older ones, then the latest entry. What started under an older name has begun all the same
    (``_kept_after_all``).
    """
    if delivered is None or delivered.is_empty():
        nothing = pl.DataFrame(schema={**JOURNEY_ASSIGNMENTS.schema, "customer": pl.UInt32, "journey": pl.UInt16})
        return nothing, nothing
    running = past.lazy().filter(pl.col("ended_on").is_null()).select("customer", running="journey_id", running_since="entered_on")
    known = catalogue.numbers().collect().filter(catalogue.facts["is_known"])
    is_entry = pl.col("decision").is_in(["start", "switch"])
    goes_on = (pl.col("running") == pl.col("journey_id")) & (pl.col("running_since") == pl.col("entered_on"))
    begins = pl.col("running").eq_missing(pl.col("ended_journey_id"))  # merged is told only where a journey continues
    fits = pl.when(is_entry).then(begins).otherwise(goes_on)
    rows = (
        survivors(delivered.lazy().select(*JOURNEY_ASSIGNMENTS.schema, name="customer_id"), absorbed)
        .join(customers, on="customer_id")
        .join(known.lazy(), on="journey_id")
        .join(running, on="customer", how="left")
        .with_columns(fits=fits.fill_null(value=False), is_own=pl.col("name") == pl.col("customer_id"))
        .sort("customer", "fits", "is_own", "entered_on", "journey_id", "name", descending=[False, True, True, True, False, False])
        .with_columns(is_kept=pl.col("fits") & pl.col("customer").is_first_distinct(), is_entry=is_entry)
        .collect()
    )
    columns = [*JOURNEY_ASSIGNMENTS.schema, "customer", "journey"]
    kept = rows.filter("is_kept").select(columns)
    others = rows.filter(~pl.col("is_kept") & ~pl.col("is_own") & pl.col("is_entry"))
    is_in_one = pl.col("running").is_not_null() | pl.col("customer").is_in(kept["customer"].implode())
    return kept, others.filter(is_in_one).sort("customer", "journey_id", "name").select(columns)


def _kept_after_all(kept: pl.DataFrame, others: pl.DataFrame, past: pl.DataFrame, today: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Let starts under older names stand where what the customer was in has ended today; return what stands, and what gives way.

    What gives way was started and has ended ``merged`` (``memory.note_given_up``), unless it is the very journey that goes on.
    """
    if others.is_empty():
        return kept, others
    in_flight = past.filter(pl.col("ended_on").is_null())
    ended = past.filter((pl.col("ended_on") == today) & (pl.col("ended_reason") != "merged"))
    free = others.join(kept, on="customer", how="anti").join(in_flight, on="customer", how="anti").unique("customer", keep="first")
    stands = (
        free.drop("ended_journey_id", "ended_reason")
        .join(ended.select("customer", "ended_reason", ended_journey_id="journey_id"), on="customer")
        .with_columns(decision=pl.lit("start"))
        .select(kept.columns)
    )
    kept = pl.concat([kept, stands]).sort("customer")
    return kept, others.join(kept, on=["customer", "journey"], how="anti")


def _carried(past: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """One row per customer and journey that is an option without a queue: in flight, or delivered already."""
    in_flight = past.filter(pl.col("ended_on").is_null() & pl.col("customer").is_not_null())
    delivered = kept.join(in_flight, on=["customer", "journey"], how="anti")
    return pl.concat(
        [
            in_flight.select("customer", "journey", is_incumbent=pl.lit(value=True)),
            delivered.select("customer", "journey", is_incumbent=pl.lit(value=False)),
        ]
    )


def _slice(numbered: pl.DataFrame, offset: int, length: int) -> pl.DataFrame:
    """Return the rows of the customers from ``offset`` on, numbered from 0; ``numbered`` is sorted by customer, nulls last."""
    customer = numbered["customer"]
    start, end = (int(customer.drop_nulls().search_sorted(number)) for number in (offset, offset + length))
    return numbered.slice(start, end - start).with_columns(pl.col("customer") - offset)


def _entry_scores(past: pl.DataFrame, customers: int) -> np.ndarray:
    """By customer number: the score at entry of the journey in flight; NaN without one."""
    in_flight = past.filter(pl.col("ended_on").is_null())
    scores = np.full(customers, np.nan)
    scores[in_flight["customer"]] = in_flight["entry_score"].fill_null(np.nan).to_numpy()
    return scores


def _places(past: pl.DataFrame, kept: pl.DataFrame, portfolio: Portfolio, catalogue: Catalogue) -> pl.DataFrame:
    """One row per limited journey: ``journey``, and the ``places`` it has for others than those already delivered (SPEC 8, step 5)."""
    limited = [one for one in portfolio.journeys if one.daily_entries is not None or one.active is not None]
    if not limited:
        return pl.DataFrame(schema={"journey": pl.UInt16, "places": pl.Int64})
    in_flight = _counted(past.filter(pl.col("ended_on").is_null())["journey_id"])
    taken = _counted(kept.filter(pl.col("decision").is_in(["start", "switch"]))["journey_id"])
    number = {name: number for number, name in enumerate(catalogue.journey_ids)}
    places = []
    for one in limited:
        limits = [one.daily_entries, None if one.active is None else one.active - in_flight.get(one.id, 0)]
        left = min(limit for limit in limits if limit is not None)
        places.append((number[one.id], max(0, left - taken.get(one.id, 0))))
    return pl.DataFrame(sorted(places), schema={"journey": pl.UInt16, "places": pl.Int64}, orient="row")


def _counted(names: pl.Series) -> dict[str, int]:
    return dict(names.value_counts().iter_rows())


def _settle(
    one: _Shard,
    is_limited: np.ndarray,
    granted: pl.DataFrame,
    delivered: pl.DataFrame,
    portfolio: Portfolio,
    catalogue: Catalogue,
    today: date,
) -> _Done:
    """Rule the rows of a shard, remember what starts, and write down each customer's answer."""
    contested = one.contested
    settled = choice.settle(contested, is_limited, _rows_of(contested, granted), _rows_of(contested, delivered))
    answers = _answers(one, settled, delivered, portfolio, catalogue, today)
    remembered = memory.remember(
        one.past,
        answers.filter(pl.col("is_entry")).select("customer", "journey", new_arm="arm", new_score="score"),
        answers.filter(pl.col("left").is_not_null()).select("customer", journey="left"),
        portfolio,
        today=today,
    )
    return _Done(
        one,
        settled,
        _named_state(remembered, one.profiles["customer_id"], catalogue, today),
        _assignments(one, answers, delivered, catalogue, today),
    )


def _rows_of(contested: choice.Contest, named: pl.DataFrame) -> np.ndarray:
    """By group, the row of the option that ``named`` (``customer``, ``journey``) names; NOBODY for groups it does not name."""
    options = contested.options
    keys = options["customer"].to_numpy().astype(np.int64) << 16 | options["journey"].to_numpy()
    wanted = named["customer"].to_numpy().astype(np.int64) << 16 | named["journey"].to_numpy()
    rows = np.searchsorted(keys, wanted)
    found = np.full(len(contested.first), choice.NOBODY)
    found[contested.group[rows]] = rows
    return found


def _answers(
    one: _Shard, settled: choice.Settled, delivered: pl.DataFrame, portfolio: Portfolio, catalogue: Catalogue, today: date
) -> pl.DataFrame:
    """One row per customer with options: the option chosen, what became of the journey in flight, and what is to be remembered."""
    contested, journey = one.contested, one.contested.options["journey"]
    has_incumbent = contested.incumbent != choice.NOBODY
    is_carried = settled.chosen == contested.incumbent
    is_none = settled.chosen == contested.none
    running = journey.gather(np.where(has_incumbent, contested.incumbent, 0))
    in_flight = one.past.filter(pl.col("ended_on").is_null()).select("customer", carried_since="entered_on", carried_arm="arm")
    runner_up = pl.select(row=pl.when(pl.Series(settled.runner_up) != choice.NOBODY).then(pl.Series(settled.runner_up))).to_series()
    answers = contested.options.select("customer", "journey", "score")[settled.chosen].with_columns(
        decision=pl.Series(np.select([is_none, is_carried, has_incumbent], DECISIONS[:-1], default=DECISIONS[-1]), dtype=pl.String),
        runner_up=journey.gather(runner_up),
        runner_up_score=contested.options["score"].gather(runner_up),
        probability=pl.Series(settled.probability).fill_nan(None),
        left=pl.when(pl.Series(has_incumbent & ~is_carried)).then(running),
        is_none=pl.Series(is_none),
        is_entry=pl.Series(~is_none & ~is_carried),
    )
    arms = _arms(answers.filter("is_entry"), one.arm_ids, portfolio, catalogue)
    answers = answers.join(arms, on="customer", how="left", maintain_order="left").join(
        in_flight, on="customer", how="left", maintain_order="left"
    )
    if delivered.height:
        sent = delivered.select("customer", sent_arm="arm", sent_score="score")
        answers = answers.join(sent, on="customer", how="left", maintain_order="left").with_columns(
            drawn_arm=pl.coalesce("sent_arm", "drawn_arm"),
            score=pl.when(pl.col("sent_arm").is_null()).then("score").otherwise("sent_score"),
        )
    return answers.with_columns(
        entered_on=pl.when("is_entry").then(pl.lit(today)).when(~pl.col("is_none")).then("carried_since"),
        arm=pl.when("is_entry").then("drawn_arm").when(~pl.col("is_none")).then("carried_arm"),
    )


def _arms(entries: pl.DataFrame, arm_ids: pl.Series, portfolio: Portfolio, catalogue: Catalogue) -> pl.DataFrame:
    """One row per entry, ``customer`` and ``drawn_arm``: held out of everything, or of this journey (SPEC 8, step 6)."""
    named = entries.select(
        "customer", arm_ids.gather(entries["customer"]), *catalogue.facts.select("salt", "held_out")[entries["journey"]].get_columns()
    )
    of_everything = bucket(portfolio.version) < round(portfolio.policy.holdout * BUCKETS)
    is_control = of_everything | (bucket(pl.col("salt")) < pl.col("held_out"))
    return named.select("customer", drawn_arm=pl.when(is_control).then(pl.lit("control")).otherwise(pl.lit("treated")))


def _assignments(one: _Shard, answers: pl.DataFrame, delivered: pl.DataFrame, catalogue: Catalogue, today: date) -> pl.DataFrame:
    """One row per customer: the one answer. A decision that was delivered is repeated as it was."""
    left = answers.filter(pl.col("left").is_not_null()).select("customer", ended="left", ended_reason=pl.lit("interrupted"))
    ended = one.past.filter(pl.col("ended_on") == today).select("customer", ended="journey", ended_reason="ended_reason")
    # Customers who merged may have been in several journeys: told is the one that ended for a reason of its own, if one did.
    ended = pl.concat([ended, left]).sort(pl.col("ended_reason") == "merged", "ended").unique("customer", keep="first", maintain_order=True)
    lengths = catalogue.numbers().collect().with_columns(catalogue.facts["length_days"]).select("journey", "length_days")
    new = (
        one.profiles.select("customer_id", customer=pl.int_range(pl.len(), dtype=pl.UInt32))
        .join(answers, on="customer", how="left", maintain_order="left")
        .join(ended, on="customer", how="left", maintain_order="left")
        .join(lengths, on="journey", how="left", maintain_order="left")
        .with_columns(
            pl.lit(today).alias("date"),
            decision=pl.col("decision").fill_null("none"),
            journey=pl.when(~pl.col("is_none")).then("journey"),
            day_index=(pl.lit(today) - pl.col("entered_on")).dt.total_days() + 1,
            ends_on=pl.col("entered_on") + pl.duration(days=pl.col("length_days") - 1),
            selection_probability=pl.when(pl.col("decision").is_null()).then(1.0).otherwise("probability"),
        )
    )
    names = catalogue.journey_ids
    new = (
        new.with_columns(
            journey_id=names.gather(new["journey"]),
            runner_up=names.gather(new["runner_up"]),
            ended_journey_id=names.gather(new["ended"]),
        )
        .select(*JOURNEY_ASSIGNMENTS.schema)
        .cast(JOURNEY_ASSIGNMENTS.schema)
    )
    if delivered.is_empty():
        return new
    return pl.concat([new.join(delivered, on="customer_id", how="anti"), delivered.select(*JOURNEY_ASSIGNMENTS.schema)]).sort("customer_id")


def _named_state(remembered: pl.DataFrame, ids: pl.Series | None, catalogue: Catalogue, today: date) -> pl.DataFrame:
    """Give the numbered memory its names back: the columns ``JOURNEY_STATE``."""
    customers = remembered["customer_id"] if ids is None else ids.gather(remembered["customer"])
    return (
        remembered.with_columns(
            pl.lit(today).alias("date"), customers.alias("customer_id"), journey_id=catalogue.journey_ids.gather(remembered["journey"])
        )
        .select(*JOURNEY_STATE.schema)
        .cast(JOURNEY_STATE.schema)
    )


def _candidates(one: _Done, portfolio: Portfolio, catalogue: Catalogue, today: date) -> pl.DataFrame:
    """One row per customer of the shard and option: every factor, the score, and why it won or lost."""
    shard, settled, contested = one.shard, one.settled, one.shard.contested
    options = contested.options
    score = options["score"].fill_null(np.nan).to_numpy()
    factors = with_factors(options, shard.profiles, shard.finished, portfolio, catalogue, FACTORS)
    is_none = pl.Series(options["journey"] == catalogue.none)
    table = factors.select(
        pl.lit(today).alias("date"),
        shard.profiles["customer_id"].gather(options["customer"]).alias("customer_id"),
        catalogue.journey_ids.gather(options["journey"]).alias("journey_id"),
        options["is_queued"],
        options["is_incumbent"],
        "mandatory",
        "priority",
        *(pl.when(~is_none).then(name).alias(name) for name in FACTORS if name not in ("mandatory", "priority")),
        options["score"],
        pl.Series("ruling", RULINGS).gather(settled.ruling),
        choice.failed_gates(settled, contested).alias("failed_gates"),
        pl.Series("rank", contested.rank),
        pl.Series("margin", score[settled.chosen][contested.group] - score).fill_nan(None),
    ).cast(SCORED_CANDIDATES.schema)
    # A journey that was removed, and left by a switch that stands because it was delivered, is no option any more.
    table = table.filter(is_none | catalogue.facts["is_known"].gather(options["journey"]))
    keep = portfolio.policy.keep_candidates
    return table if keep is None else table.filter((pl.col("rank") <= keep) | (pl.col("ruling") == "chosen"))


def _funnel(done: Sequence[_Done], limited: pl.DataFrame, catalogue: Catalogue, today: date) -> pl.DataFrame:
    """One row per journey of the portfolio: how many wanted it, where they were lost, how many got it, and what one place is worth."""
    journeys, rulings = catalogue.facts.height, len(RULINGS)
    counts = np.zeros((journeys, rulings), dtype=np.int64)
    more = {name: np.zeros(journeys, dtype=np.int64) for name in ("queued", "carried", "started", "wanted")}
    for one in done:
        contested, settled = one.shard.contested, one.settled
        journey, is_incumbent = contested.options["journey"].to_numpy(), contested.options["is_incumbent"].to_numpy()
        wish = contested.wish[contested.wish != choice.NOBODY]
        counts += np.bincount(journey.astype(np.int64) * rulings + settled.ruling, minlength=journeys * rulings).reshape(journeys, rulings)
        for name, rows in {
            "queued": contested.options["is_queued"].to_numpy(),
            "carried": is_incumbent,
            "started": (settled.ruling == choice.CHOSEN) & ~is_incumbent,
            "wanted": wish,
        }.items():
            more[name] += np.bincount(journey[rows], minlength=journeys)
    table = pl.DataFrame({"journey_id": catalogue.journey_ids, **dict(zip(RULINGS, counts.T, strict=True)), **more})
    places = limited.select("places", "price", journey_id=catalogue.journey_ids.gather(limited["journey"]))
    return (
        table.filter(catalogue.facts["is_known"])
        .join(places, on="journey_id", how="left", maintain_order="left")
        .with_columns(pl.lit(today).alias("date"))
        .select(*JOURNEY_FUNNEL.schema)
        .cast(JOURNEY_FUNNEL.schema)
    )
