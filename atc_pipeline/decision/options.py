"""Option rows: for each customer with an option, the queued journeys, the one in flight and "none", scored and ranked (SPEC 7).

What belongs here: what can be said of an option from today's facts. What does not: memory of earlier days (``memory``) and
the choice itself (``choice``).
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from atc_pipeline import rules
from atc_pipeline.decision.catalogue import Catalogue
from atc_pipeline.journeys.portfolio import CANDIDATE_TERMS, Channel, Portfolio

OPTIONS = {
    "customer": pl.UInt32(),
    "journey": pl.UInt16(),
    "waiting_days": pl.Int32(),
    "is_queued": pl.Boolean(),
    "is_incumbent": pl.Boolean(),
}
"""Columns of a numbered option: 12 bytes a row, 23 with its score, failed gates and rank."""

FACTORS = ("mandatory", "priority", "propensity", "value", "interest_match", "intent_match", "waiting_days", "linked_boost")
"""The factors that the ledger of losers shows beside the score."""


def number_options(queues: pl.LazyFrame, carried: pl.LazyFrame, customers: pl.LazyFrame, catalogue: Catalogue) -> pl.DataFrame:
    """One row per customer with at least one option and journey, "none" included, sorted: the columns ``OPTIONS``.

    ``carried``: one row per customer, ``customer``, ``journey``, ``is_incumbent``: options without a queue, of those in flight
    above all. ``customers``: ``customer_id`` and the number ``customer``.
    """
    # A queue is sorted by journey: naming each run of equal names once costs a tenth of looking up every row.
    runs = queues.select("customer_id", "journey_id", "waiting_days").with_columns(run=pl.col("journey_id").rle_id()).collect()
    named = runs.group_by("run", maintain_order=True).agg(pl.col("journey_id").first())
    known = catalogue.numbers().filter(pl.Series(catalogue.facts["is_known"])).collect()
    numbers = named.join(known, on="journey_id", how="left", maintain_order="left")["journey"]
    queued = (
        runs.lazy()
        .select("customer_id", "waiting_days", journey=numbers.gather(runs["run"]))
        .drop_nulls("journey")
        .join(customers, on="customer_id", how="inner")
        .select("customer", "journey", pl.col("waiting_days").cast(pl.Int32), is_queued=pl.lit(value=True))
    )
    options = queued.join(carried, on=["customer", "journey"], how="full", coalesce=True)
    nones = options.select("customer").unique().with_columns(journey=pl.lit(catalogue.none, dtype=pl.UInt16))
    return (
        pl.concat([options, nones], how="diagonal")
        .with_columns(pl.col("waiting_days").fill_null(0), pl.col("is_queued", "is_incumbent").fill_null(value=False))
        .select(*OPTIONS)
        .sort(pl.col("customer").cast(pl.UInt64) * 2**16 + pl.col("journey"))
        .collect()
    )


def score_options(
    options: pl.DataFrame, profiles: pl.DataFrame, finished: pl.Series, portfolio: Portfolio, catalogue: Catalogue
) -> pl.DataFrame:
    """Add ``score`` (null where it is no number) and ``failed``: the bits of the static gates that a row fails.

    ``profiles``: one row per customer number. ``finished``: by customer number, the journey number of the last finished
    journey, null without one. The journey in flight and "none" are subject to no gate.
    """
    policy = portfolio.policy
    is_none = pl.Series(options["journey"] == catalogue.none)
    none_scores = profiles.with_columns(score=rules.round_score(policy.none.expr).fill_null(0.0))["score"]
    read = [name for name in policy.score.columns if name in CANDIDATE_TERMS]
    own = profiles.select(name for name in policy.score.columns if name not in CANDIDATE_TERMS)
    scores = pl.DataFrame([is_none.alias("is_none:"), none_scores.gather(options["customer"]).alias("none:")]).with_columns(
        *factors_of(options, profiles, finished, portfolio, catalogue, read), *(column.gather(options["customer"]) for column in own)
    )
    scores = scores.with_columns(score=pl.when("is_none:").then("none:").otherwise(rules.round_score(policy.score.expr)))
    score = scores["score"]
    journeys = options["journey"].to_numpy()
    failed = catalogue.flags("failed")[journeys] | _gates_of_customers(options, profiles, portfolio, catalogue)
    failed |= np.where(score.is_null().to_numpy(), rules.bit("unscored"), 0).astype(np.uint16)
    failed[(is_none | options["is_incumbent"]).to_numpy()] = 0
    return options.with_columns(score, failed=pl.Series(failed, dtype=pl.UInt16))


def factors_of(
    options: pl.DataFrame, profiles: pl.DataFrame, finished: pl.Series, portfolio: Portfolio, catalogue: Catalogue, names: Sequence[str]
) -> pl.DataFrame:
    """Return the named terms of the options (SPEC 7): one row per option, in the same order."""
    policy, facts = portfolio.policy, catalogue.facts
    journeys, customers = options["journey"], options["customer"]
    of: dict[str, pl.Series] = {}
    for name in names:
        match name:
            case "interest_match":
                matches = [_interest_match(topics) for topics in catalogue.interests]
                of[name] = _by_set(matches, facts["interests"], options, profiles)
            case "intent_match":
                matches = [_intent_match(intents) for intents in catalogue.intents]
                of[name] = _by_set(matches, facts["intents"], options, profiles)
            case "linked_boost":
                leads = _leads(portfolio, catalogue)
                last = finished.fill_null(len(leads) - 1).to_numpy()
                of[name] = pl.Series(np.where(leads[last[customers.to_numpy()], journeys.to_numpy()], policy.linked_boost, 1.0))
            case "propensity":
                of[name] = pl.repeat(policy.prior_propensity, options.height, dtype=pl.Float64, eager=True)
            case "waiting_weight":
                of[name] = pl.repeat(policy.waiting_weight, options.height, dtype=pl.Float64, eager=True)
            case "waiting_days" | "is_queued" | "is_incumbent":
                of[name] = options[name]
            case _:
                of[name] = facts[name].gather(journeys)
    return pl.DataFrame({name: series.cast(CANDIDATE_TERMS[name]) for name, series in of.items()})


def rank_in_total_order(options: pl.DataFrame, catalogue: Catalogue) -> tuple[np.ndarray, np.ndarray]:
    """Order rows by customer and the total order of SPEC 7; return the order (row numbers), and each row's rank from 1.

    ``options`` are sorted by customer. Mandatory, then score, then priority, waiting and name: the first two and the customer
    fit one 64-bit key - a score has 9 significant digits, for which a double's upper 46 bits are enough -, and the rest is
    looked at only where keys are equal.
    """
    customer, journey = options["customer"].to_numpy(), options["journey"].to_numpy()
    score = options["score"].fill_null(np.nan).to_numpy() + 0.0  # -0.0 is 0.0
    bits = score.view(np.uint64)
    ascending = np.where(bits >> 63 == 1, ~bits, bits | np.uint64(1 << 63))
    descending = np.where(np.isnan(score), np.uint64(2**46 - 1), ~ascending >> np.uint64(18))
    within = customer - customer[0] if len(customer) else customer
    key = (within.astype(np.uint64) << 47) | (np.where(catalogue.flags("mandatory")[journey], 0, 1).astype(np.uint64) << 46) | descending
    order = pl.Series(key).arg_sort().to_numpy().copy()
    ordered = key[order]
    follows = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    if len(follows):
        tied = np.union1d(follows, follows - 1)
        rows = order[tied]
        priority, waiting = catalogue.flags("priority")[journey[rows]], options["waiting_days"].to_numpy()[rows]
        order[tied] = rows[np.lexsort((journey[rows], -waiting, -priority, ordered[tied]))]
    first = np.searchsorted(customer, customer, side="left")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - first[order] + 1
    return order, rank


def _gates_of_customers(options: pl.DataFrame, profiles: pl.DataFrame, portfolio: Portfolio, catalogue: Catalogue) -> np.ndarray:
    """Return the bits of ``suppressed`` and ``no_channel`` by option."""
    channels = {channel.id: channel for channel in portfolio.channels}
    suppressed = portfolio.policy.suppressed_when.expr if portfolio.policy.suppressed_when is not None else pl.lit(value=False)
    by_set = [
        (suppressed.cast(pl.UInt16) * rules.bit("suppressed"))
        + (~_is_reachable([channels[name] for name in names])).cast(pl.UInt16) * rules.bit("no_channel")
        for names in catalogue.channels
    ]
    return _by_set(by_set, catalogue.facts["channels"], options, profiles).to_numpy()


def _by_set(by_set: Sequence[pl.Expr], sets: pl.Series, options: pl.DataFrame, profiles: pl.DataFrame) -> pl.Series:
    """Work each distinct set's value out once per customer, and return each option's: that of its journey's set."""
    named = {f"set:{number}": value for number, value in enumerate(by_set)}
    columns = profiles.with_columns(**named).select(*named)
    if len(columns.columns) == 1:
        return columns.to_series().gather(options["customer"])
    flat = pl.concat([columns[name] for name in columns.columns])
    return flat.gather(sets.gather(options["journey"]) * profiles.height + options["customer"])


def _leads(portfolio: Portfolio, catalogue: Catalogue) -> np.ndarray:
    """Say which journey leads to which, by number; the last row is that of customers who have finished none."""
    numbers = {name: number for number, name in enumerate(catalogue.journey_ids)}
    leads = np.zeros((len(numbers) + 1, len(numbers)), dtype=bool)
    for journey in portfolio.journeys:
        for following in journey.next_journeys:
            if following in numbers:
                leads[numbers[journey.id], numbers[following]] = True
    return leads


def _interest_match(topics: Sequence[str]) -> pl.Expr:
    """Sum of the customer's interest in the topics, at most 1; 0 without topics."""
    return pl.min_horizontal(1.0, pl.sum_horizontal(f"interest_{topic}" for topic in topics)) if topics else pl.lit(0.0)


def _intent_match(intents: Sequence[str]) -> pl.Expr:
    """The strongest of the customer's intents; 0 without intents."""
    return pl.max_horizontal(f"intent_{intent}" for intent in intents) if intents else pl.lit(0.0)


def _is_reachable(channels: Sequence[Channel]) -> pl.Expr:
    """True where one of the channels may be used; a journey without channels needs none."""
    return pl.any_horizontal(rules.is_usable(channel) for channel in channels) if channels else pl.lit(value=True)
