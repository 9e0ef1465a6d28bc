"""The tables that a day's decision ends in, made of the numbers it was decided in: one answer per customer, and why (SPEC 7, 8).

What belongs here: answers, option rows, memory and funnel as they are written. What does not: any choice (``choice``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from atc_pipeline.decision import choice, memory
from atc_pipeline.decision.arms import DRAWN, Shares, draw
from atc_pipeline.decision.catalogue import Catalogue, pairs_of
from atc_pipeline.decision.gates import RULINGS
from atc_pipeline.decision.options import FACTORS, with_factors
from atc_pipeline.decision.tables import DECISIONS, JOURNEY_ASSIGNMENTS, JOURNEY_FUNNEL, JOURNEY_STATE, SCORED_CANDIDATES
from atc_pipeline.journeys.portfolio import Portfolio

IS_ENTRY = pl.col("decision").is_in(["start", "switch"])
"""True where the customer enters the journey."""


@dataclass(frozen=True, eq=False)
class Shard:
    """Customers from number ``offset`` on: profiles, what lots are drawn by, memory, last finished journeys, and options contested."""

    offset: int
    profiles: pl.DataFrame
    arm_ids: pl.Series
    past: pl.DataFrame
    finished: pl.Series
    contested: choice.Contest


@dataclass(frozen=True, eq=False)
class Done:
    """A shard after the choice: what the tables of the day are made of."""

    shard: Shard
    settled: choice.Settled
    state: pl.DataFrame
    assignments: pl.DataFrame


def settle(
    shard: Shard,
    is_limited: np.ndarray,
    granted: pl.DataFrame,
    delivered: pl.DataFrame,
    portfolio: Portfolio,
    catalogue: Catalogue,
    today: date,
    shares: Shares | None = None,
) -> Done:
    """Rule the rows of a shard, remember what starts, and write down each customer's answer."""
    contested = shard.contested
    settled = choice.settle(contested, is_limited, _rows_of(contested, granted), _rows_of(contested, delivered))
    answers = _answers(shard, settled, delivered, portfolio, catalogue, today, shares)
    remembered = memory.remember(
        shard.past,
        answers.filter(pl.col("is_entry")).select("customer", "journey", new_score="score", **{f"new_{name}": name for name in DRAWN}),
        answers.filter(pl.col("left").is_not_null()).select("customer", journey="left"),
        portfolio,
        today=today,
    )
    return Done(
        shard,
        settled,
        named_state(remembered, shard.profiles["customer_id"], catalogue, today),
        _assignments(shard, answers, delivered, portfolio, catalogue, today),
    )


def _rows_of(contested: choice.Contest, named: pl.DataFrame) -> np.ndarray:
    """By group, the row of the option that ``named`` (``customer``, ``journey``) names; NOBODY for groups it does not name."""
    row = np.full(len(contested.first), choice.NOBODY)
    named_rows = np.searchsorted(pairs_of(contested.options), pairs_of(named))
    row[contested.group[named_rows]] = named_rows
    return row


def _answers(
    shard: Shard,
    settled: choice.Settled,
    delivered: pl.DataFrame,
    portfolio: Portfolio,
    catalogue: Catalogue,
    today: date,
    shares: Shares | None,
) -> pl.DataFrame:
    """One row per customer with options: the option chosen, what became of the journey in flight, and what is to be remembered."""
    contested, journey = shard.contested, shard.contested.options["journey"]
    has_incumbent = contested.incumbent != choice.NOBODY
    is_carried = settled.chosen == contested.incumbent
    is_none = settled.chosen == contested.none
    running = journey.gather(np.where(has_incumbent, contested.incumbent, 0))
    in_flight = shard.past.filter(memory.IN_FLIGHT).select(
        "customer", carried_since="entered_on", **{f"carried_{name}": name for name in DRAWN}
    )
    runner_up = pl.select(row=pl.when(pl.Series(settled.runner_up) != choice.NOBODY).then(pl.Series(settled.runner_up))).to_series()
    answers = contested.options.select("customer", "journey", "score")[settled.chosen].with_columns(
        decision=pl.Series(np.select([is_none, is_carried, has_incumbent], DECISIONS[:-1], default=DECISIONS[-1]), dtype=pl.String),
        runner_up=journey.gather(runner_up),
        runner_up_score=contested.options["score"].gather(runner_up),
        probability=pl.Series(settled.probability).fill_nan(None),
        left=pl.when(pl.Series(has_incumbent & ~is_carried)).then(running),
        is_none=pl.Series(is_none),
        is_entry=pl.Series(~is_none & ~is_carried),
        is_drawn=pl.Series(contested.is_drawn),
        options=pl.Series(contested.competing),
    )
    lots = _lots(answers.filter("is_entry"), shard.arm_ids, portfolio, catalogue, shares)
    answers = answers.join(lots, on="customer", how="left", maintain_order="left").join(
        in_flight, on="customer", how="left", maintain_order="left"
    )
    if delivered.height:
        sent = delivered.select("customer", sent_score="score", **{f"sent_{name}": name for name in DRAWN})
        stands = pl.col("sent_arm").is_not_null()
        answers = answers.join(sent, on="customer", how="left", maintain_order="left").with_columns(
            **{f"drawn_{name}": pl.when(stands).then(f"sent_{name}").otherwise(f"drawn_{name}") for name in DRAWN},
            score=pl.when(stands).then("sent_score").otherwise("score"),
        )
    return answers.with_columns(
        entered_on=pl.when("is_entry").then(pl.lit(today)).when(~pl.col("is_none")).then("carried_since"),
        **{name: pl.when("is_entry").then(f"drawn_{name}").when(~pl.col("is_none")).then(f"carried_{name}") for name in DRAWN},
        **{name: pl.when("is_entry").then(name) for name in ("is_drawn", "options")},
    )


def _lots(entries: pl.DataFrame, arm_ids: pl.Series, portfolio: Portfolio, catalogue: Catalogue, shares: Shares | None) -> pl.DataFrame:
    """One row per entry: ``customer``, and what is drawn for it once and for all (``DRAWN``), each as ``drawn_<name>``."""
    named = entries.select("customer", arm_ids.gather(entries["customer"]), journey_id=catalogue.journey_ids.gather(entries["journey"]))
    return draw(named, portfolio, shares).select("customer", **{f"drawn_{name}": name for name in DRAWN})


def _assignments(
    shard: Shard, answers: pl.DataFrame, delivered: pl.DataFrame, portfolio: Portfolio, catalogue: Catalogue, today: date
) -> pl.DataFrame:
    """One row per customer: the one answer. A decision that was delivered is repeated as it was."""
    left = answers.filter(pl.col("left").is_not_null()).select("customer", ended="left", ended_reason=pl.lit("interrupted"))
    ended = shard.past.filter(pl.col("ended_on") == today).select("customer", ended="journey", ended_reason="ended_reason")
    # Customers who merged may have been in several journeys: told is the one that ended for a reason of its own, if one did.
    ended = pl.concat([ended, left]).sort(pl.col("ended_reason") == "merged", "ended").unique("customer", keep="first", maintain_order=True)
    lengths = catalogue.numbers().collect().with_columns(catalogue.facts["length_days"]).select("journey", "length_days")
    new = (
        shard.profiles.select("customer_id", customer=pl.int_range(pl.len(), dtype=pl.UInt32))
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
            portfolio=pl.lit(portfolio.fingerprint),
            stands=pl.lit(value=False),
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
    stands = delivered.with_columns(stands=pl.lit(value=True)).select(*JOURNEY_ASSIGNMENTS.schema)
    return pl.concat([new.join(delivered, on="customer_id", how="anti"), stands]).sort("customer_id")


def named_state(remembered: pl.DataFrame, ids: pl.Series | None, catalogue: Catalogue, today: date) -> pl.DataFrame:
    """Give the numbered memory its names back: the columns ``JOURNEY_STATE``."""
    customers = remembered["customer_id"] if ids is None else ids.gather(remembered["customer"])
    return (
        remembered.with_columns(
            pl.lit(today).alias("date"), customers.alias("customer_id"), journey_id=catalogue.journey_ids.gather(remembered["journey"])
        )
        .select(*JOURNEY_STATE.schema)
        .cast(JOURNEY_STATE.schema)
    )


def candidates(done: Done, portfolio: Portfolio, catalogue: Catalogue, today: date) -> pl.DataFrame:
    """One row per customer of the shard and option: every factor, the score, and why it won or lost."""
    shard, settled, contested = done.shard, done.settled, done.shard.contested
    options = contested.options
    score = options["score"].fill_null(np.nan).to_numpy()
    factors = with_factors(options, shard.profiles, shard.finished, portfolio, catalogue, FACTORS)
    is_none = pl.Series(options["journey"] == catalogue.none)
    is_beside = portfolio.learning is not None and portfolio.learning.use == "shadow" and "learned_propensity" in options.columns
    nothing = pl.lit(None, pl.Float64)
    # Of a prior, nobody knows what happens to whom nothing is sent: the score takes 0 for it.
    is_learned = ~is_none & (pl.col("learned_baseline") > 0) if is_beside else pl.lit(value=False)
    table = factors.select(
        pl.lit(today).alias("date"),
        shard.profiles["customer_id"].gather(options["customer"]).alias("customer_id"),
        catalogue.journey_ids.gather(options["journey"]).alias("journey_id"),
        options["is_queued"],
        options["is_incumbent"],
        "mandatory",
        "priority",
        pl.when(~is_none).then("propensity").alias("propensity"),
        pl.when(~is_none & (pl.col("baseline") > 0)).then("baseline").alias("baseline"),
        *((pl.when(is_learned).then(name) if is_beside else nothing).alias(name) for name in ("learned_propensity", "learned_baseline")),
        *(pl.when(~is_none).then(name).alias(name) for name in FACTORS if name not in _AS_THEY_ARE),
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


_AS_THEY_ARE = ("mandatory", "priority", "propensity", "baseline")


def funnel(done: Sequence[Done], limited: pl.DataFrame, catalogue: Catalogue, today: date) -> pl.DataFrame:
    """One row per journey of the portfolio: how many wanted it, where they were lost, how many got it, and what one place is worth.

    ``limited``: the ``places`` and the ``price`` of journeys with such places, by ``journey_id``.
    """
    journeys, rulings = catalogue.facts.height, len(RULINGS)
    counts = np.zeros((journeys, rulings), dtype=np.int64)
    more = {name: np.zeros(journeys, dtype=np.int64) for name in ("queued", "carried", "started", "wanted")}
    for part in done:
        contested, settled = part.shard.contested, part.settled
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
    return (
        table.filter(catalogue.facts["is_known"])
        .join(limited, on="journey_id", how="left", maintain_order="left")
        .with_columns(pl.lit(today).alias("date"))
        .select(*JOURNEY_FUNNEL.schema)
        .cast(JOURNEY_FUNNEL.schema)
    )


def funnel_of(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up the funnels of a day's shards: of the places, which are everybody's, each says the same."""
    same = ["places", "price"]
    names = [name for name in JOURNEY_FUNNEL.schema if name not in ("date", *JOURNEY_FUNNEL.key, *same)]
    summed = pl.concat(parts).group_by("date", *JOURNEY_FUNNEL.key).agg(pl.col(names).sum(), pl.col(same).first())
    return summed.select(*JOURNEY_FUNNEL.schema).sort(JOURNEY_FUNNEL.key)
