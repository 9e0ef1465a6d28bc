"""Option rows: for each customer with an option, the queued journeys, the one in flight and "none", scored and ranked (SPEC 7).

What belongs here: what can be said of an option from today's facts. What does not: memory of earlier days (``memory``) and
the choice itself (``choice``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import polars as pl

from atc_pipeline.decision.catalogue import JOURNEY_BITS, Catalogue
from atc_pipeline.decision.gates import NOWHERE, Shut, failed_of
from atc_pipeline.journeys.portfolio import CANDIDATE_TERMS, Portfolio
from atc_pipeline.rules import reach
from atc_pipeline.rules.limits import require_fits
from atc_pipeline.rules.numbers import scores
from atc_pipeline.rules.probabilities import Probabilities

OPTIONS = {
    "customer": pl.UInt32(),
    "journey": pl.UInt16(),
    "waiting_days": pl.Int32(),
    "is_queued": pl.Boolean(),
    "is_incumbent": pl.Boolean(),
}
"""Columns of a numbered option."""

BITS = {"customer": 28, "journey": JOURNEY_BITS, "source": 2, "waiting_days": 18}
"""An option as one 64-bit number: what it is made of, from the top, and in how many bits."""
require_fits(sum(BITS.values()), 64, "bits of an option", "the number in code_options and options_of of atc_pipeline/decision/options.py")
SOURCE = np.uint64(BITS["waiting_days"])
JOURNEY = SOURCE + np.uint64(BITS["source"])
CUSTOMER = JOURNEY + np.uint64(BITS["journey"])
"""How far up each part of the number begins."""
QUEUED, IN_FLIGHT, CARRIED, NOTHING = (np.uint64(number) for number in range(4))  # 0 is what a queue's row says without saying it
"""Where an option comes from: the queue, yesterday's journey, a delivered decision, or being no option at all ("none")."""

MOST_OPTIONS = 2**31 - 1
"""Options of a shard are numbered in an ``int32``."""
MOST_CELLS = 2**32
"""The cells of a table by customer of a shard are numbered in a ``uint32``."""
SMALLER = "the numbers in atc_pipeline/decision/options.py, or decide fewer customers at once (SHARD in decide.py)"

FACTORS = ("mandatory", "priority", "propensity", "baseline", "value", "interest_match", "intent_match", "waiting_days", "linked_boost")
"""The factors that the ledger of losers shows beside the score."""


def number_queues(queues: pl.LazyFrame, customers: pl.LazyFrame, catalogue: Catalogue) -> pl.DataFrame:
    """One row per queued customer and journey of the portfolio: the numbers ``customer`` and ``journey``, and ``waiting_days``.

    ``customers``: ``customer_id`` and its number ``customer``.
    """
    # Joining by hashes costs a fifth of joining by text. Two customers of one hash have never been seen; then the text decides.
    key = pl.col("customer_id").hash()
    if not customers.select(key.is_unique().all()).collect().item():
        key = pl.col("customer_id")
    # A queue is sorted by journey: looking up each run of equal names costs a tenth of looking up every row.
    rows = queues.select("waiting_days", "journey_id", key=key).with_columns(run=pl.col("journey_id").rle_id()).collect()
    known = catalogue.numbers().collect().filter(catalogue.facts["is_known"])
    runs = rows.group_by("run", maintain_order=True).agg(pl.col("journey_id").first())
    journeys = runs.join(known, on="journey_id", how="left", maintain_order="left")["journey"]
    return (
        rows.lazy()
        .select("waiting_days", "key", journey=journeys.gather(rows["run"]))
        .drop_nulls("journey")
        .join(customers.select("customer", key=key), on="key", how="inner")
        .select("customer", "journey", "waiting_days")
        .collect()
    )


def code_options(queued: pl.DataFrame, carried: pl.DataFrame) -> np.ndarray:
    """Write every option as one number, and sort them: by customer and journey, an option of two sources twice.

    ``queued``: ``number_queues``. ``carried``: one row per option without a queue, ``customer``, ``journey``, ``is_incumbent``.
    """
    for name, numbers in {
        "customer": [queued["customer"], carried["customer"]],
        "journey": [queued["journey"], carried["journey"]],
        "waiting_days": [queued["waiting_days"]],
    }.items():
        largest = max(int(column.max() or 0) for column in numbers)  # type: ignore[arg-type]  # whole numbers
        wider = f"the bits of {name!r} in BITS of atc_pipeline/decision/options.py at the cost of others"
        require_fits(largest, 2 ** BITS[name] - 1, f"largest {name} of an option", wider)
    coded = np.concatenate([_coded(queued), _coded(carried)])
    coded[: queued.height] |= queued["waiting_days"].cast(pl.UInt32).to_numpy()
    coded[queued.height :] |= np.where(carried["is_incumbent"].to_numpy(), IN_FLIGHT, CARRIED) << SOURCE
    coded.sort()
    return coded


def _coded(numbered: pl.DataFrame) -> np.ndarray:
    coded = numbered["customer"].to_numpy().astype(np.uint64)
    coded <<= CUSTOMER - JOURNEY
    coded |= numbered["journey"].to_numpy()
    coded <<= JOURNEY
    return coded


def options_of(coded: np.ndarray, offset: int, length: int, catalogue: Catalogue) -> pl.DataFrame:
    """One row per customer with at least one option and journey, "none" included, sorted: the columns ``OPTIONS``.

    ``coded``: ``code_options``; taken are ``length`` customers from number ``offset`` on, which are numbered from 0.
    """
    start = np.searchsorted(coded, np.uint64(offset) << CUSTOMER)
    last = (min(offset + length, 2 ** BITS["customer"]) << int(CUSTOMER)) - 1  # what follows the last number has no 64 bits
    end = np.searchsorted(coded, np.uint64(last), side="right")
    coded_here = coded[start:end] - (np.uint64(offset) << CUSTOMER)
    has_options = np.zeros(length, dtype=bool)
    has_options[(coded_here >> CUSTOMER).astype(np.int64)] = True
    nones = np.flatnonzero(has_options).astype(np.uint64) << CUSTOMER | np.uint64(catalogue.none) << JOURNEY | NOTHING << SOURCE
    coded_here = np.sort(np.concatenate([coded_here, nones]))
    option, source = coded_here >> JOURNEY, coded_here >> SOURCE & np.uint64(2 ** BITS["source"] - 1)
    is_incumbent = source == IN_FLIGHT
    is_same = option[1:] == option[:-1]  # as the row before: in flight, or delivered, and queued as well
    if is_same.any():
        is_incumbent[:-1] |= is_same & is_incumbent[1:]
        kept = np.concatenate([[0], np.flatnonzero(~is_same) + 1])
        coded_here, option, source, is_incumbent = coded_here[kept], option[kept], source[kept], is_incumbent[kept]
    return pl.DataFrame(
        {
            "customer": (option >> (CUSTOMER - JOURNEY)).astype(np.uint32),
            "journey": option.astype(np.uint16),
            "waiting_days": np.where(source == QUEUED, coded_here.astype(np.int32) & np.int32(2 ** BITS["waiting_days"] - 1), np.int32(0)),
            "is_queued": source == QUEUED,
            "is_incumbent": is_incumbent,
        },
        schema=OPTIONS,
    )


def with_probabilities(
    options: pl.DataFrame, profiles: pl.DataFrame, probabilities: Probabilities | None, catalogue: Catalogue
) -> pl.DataFrame:
    """Add ``learned_propensity`` and ``learned_baseline`` where something is learned; ``profiles``: one row per customer number."""
    if probabilities is None:
        return options
    customer, journey = options["customer"].to_numpy(), options["journey"].to_numpy()
    propensity, baseline = probabilities.of(profiles, customer, journey, catalogue.journey_ids)
    return options.with_columns(learned_propensity=pl.Series(propensity), learned_baseline=pl.Series(baseline))


def score_options(
    options: pl.DataFrame, profiles: pl.DataFrame, finished: pl.Series, portfolio: Portfolio, catalogue: Catalogue
) -> pl.DataFrame:
    """Add ``score`` (null where it is no number) and ``failed``: the bits of the static gates that a row fails.

    ``profiles``: one row per customer number. ``finished``: by customer number, the journey number of the last finished
    journey, null without one.
    """
    policy = portfolio.policy
    none_scores = scores(profiles, policy.none.expr).fill_null(0.0)
    read = [name for name in policy.score.columns if name in CANDIDATE_TERMS]
    own = profiles.select(name for name in policy.score.columns if name not in CANDIDATE_TERMS)
    terms = with_factors(options, profiles, finished, portfolio, catalogue, read)
    score = scores(terms.with_columns(column.gather(options["customer"]) for column in own), policy.score.expr)
    nones = np.flatnonzero(options["journey"].to_numpy() == catalogue.none)
    score = score.scatter(nones, none_scores.gather(options["customer"].gather(nones)))
    scored = options.with_columns(score)
    failed = catalogue.flags("failed")[options["journey"].to_numpy()]
    failed |= failed_of("today", TESTS, Today(scored, profiles, portfolio, catalogue), options.height)
    return scored.with_columns(failed=pl.Series(failed))


@dataclass(frozen=True, eq=False)
class Today:
    """What gates are tested on that need no memory: options with their ``score``, and the profiles of their customers."""

    options: pl.DataFrame
    profiles: pl.DataFrame
    portfolio: Portfolio
    catalogue: Catalogue


def _suppressed(today: Today) -> Shut:
    if today.portfolio.policy.suppressed_when is None:
        return NOWHERE
    is_suppressed = today.profiles.with_columns(suppressed=today.portfolio.policy.suppressed_when.expr)["suppressed"].fill_null(value=False)
    return np.asarray(is_suppressed.to_numpy()[today.options["customer"].to_numpy()])


def _without_channel(today: Today) -> Shut:
    """Find options none of whose channels is usable: tested once for each customer and each set of channels that a journey has."""
    usable = {channel.id: reach.is_usable(channel) for channel in today.portfolio.channels}
    of_journeys = [tuple(sorted(channels)) for channels in today.catalogue.members["channels"]]
    sets = sorted(set(of_journeys))
    if sets == [()]:
        return NOWHERE
    require_fits(today.profiles.height * len(sets), MOST_CELLS, "customers decided at once times sets of channels", SMALLER)
    is_shut = np.zeros((today.profiles.height, len(sets)), dtype=bool)
    for place, channels in enumerate(sets):
        if channels:
            is_reachable = pl.any_horizontal(usable[name] for name in channels)
            is_shut[:, place] = today.profiles.with_columns(shut=~is_reachable)["shut"].to_numpy()
    set_of = np.array([sets.index(channels) for channels in of_journeys], dtype=np.uint32)
    cells = today.options["customer"].to_numpy() * np.uint32(len(sets)) + set_of[today.options["journey"].to_numpy()]
    return np.asarray(is_shut.ravel()[cells])


def _unscored(today: Today) -> Shut:
    score = today.options["score"]
    return score.is_null().to_numpy() if score.null_count() else NOWHERE


TESTS: Mapping[str, Callable[[Today], Shut]] = {
    "suppressed": _suppressed,
    "no_channel": _without_channel,
    "unscored": _unscored,
}
"""By each gate that needs the day's facts and no memory (``gates.Gate.needs``): the options it is shut for."""


def with_factors(
    options: pl.DataFrame, profiles: pl.DataFrame, finished: pl.Series, portfolio: Portfolio, catalogue: Catalogue, names: Sequence[str]
) -> pl.DataFrame:
    """Add the named terms of SPEC 7 to the options, in the types that ``policy.score`` knows them by."""
    return options.with_columns(
        **{name: _factor(name, options, profiles, finished, portfolio, catalogue) for name in names},
    ).cast({name: CANDIDATE_TERMS[name] for name in names})


def _factor(
    name: str, options: pl.DataFrame, profiles: pl.DataFrame, finished: pl.Series, portfolio: Portfolio, catalogue: Catalogue
) -> pl.Series | pl.Expr:
    match name:
        case "interest_match":  # sum of the customer's interest in the topics, at most 1; 0 without topics
            interests = {topic.id: pl.col(f"interest_{topic.id}") for topic in portfolio.topics}
            return pl.Series(np.minimum(1.0, _combined("interests", interests, np.add, options, profiles, catalogue)))
        case "intent_match":  # the strongest of the customer's intents; 0 without intents
            intents = {intent.id: pl.col(f"intent_{intent.id}") for intent in portfolio.intents}
            return pl.Series(_combined("intents", intents, np.maximum, options, profiles, catalogue))
        case "linked_boost":
            leads = _leads(portfolio, catalogue)
            if finished.null_count() == len(finished) or not leads.any():
                return pl.lit(1.0)
            last = finished.fill_null(len(leads) - 1).gather(options["customer"]).to_numpy()
            boosts = np.where(leads, portfolio.policy.linked_boost, 1.0).ravel()
            return pl.Series(boosts[last * np.uint32(leads.shape[1]) + options["journey"].to_numpy()])
        case "propensity":
            return pl.col("learned_propensity") if _is_live(portfolio) else pl.lit(portfolio.policy.prior_propensity)
        case "baseline":
            return pl.col("learned_baseline") if _is_live(portfolio) else pl.lit(0.0)
        case "uplift":
            prior = pl.lit(portfolio.policy.prior_propensity)
            return pl.col("learned_propensity") - pl.col("learned_baseline") if _is_live(portfolio) else prior
        case "waiting_weight":
            return pl.lit(portfolio.policy.waiting_weight)
        case "waiting_days" | "is_queued" | "is_incumbent":
            return options[name]
        case "priority" | "value" | "mandatory" | "length_days":
            return catalogue.facts[name].gather(options["journey"])
        case _:
            raise ValueError(f"policy.score may name {name!r}, and atc_pipeline/decision/options.py does not say what it is")


def _is_live(portfolio: Portfolio) -> bool:
    """Say whether what is learned decides."""
    return portfolio.learning is not None and portfolio.learning.use == "live"


def rank_in_total_order(options: pl.DataFrame, first: np.ndarray, catalogue: Catalogue) -> tuple[np.ndarray, np.ndarray]:
    """Order rows by customer and the total order of SPEC 7; return the order (row numbers), and each row's rank from 1.

    ``options`` are sorted by customer, ``first`` says at which row each one begins. One 64-bit number per row is sorted, four
    times as fast as sorting row numbers: the customer's place, the mandatory band, the score's upper bits, and the row's place
    among the customer's. Where the upper bits are equal, the exact score, priority, waiting and name are compared.
    """
    require_fits(options.height, MOST_OPTIONS, "options decided at once", SMALLER)
    journey = options["journey"].to_numpy()
    score = options["score"].fill_null(-np.inf).to_numpy() + 0.0  # -0.0 is 0.0
    sizes = np.diff(first, append=len(journey))
    begins = np.repeat(first.astype(np.int32), sizes)
    bits_of_place = np.uint64(int(sizes.max(initial=1) - 1).bit_length())
    bits_of_score = np.uint64(63 - int(max(len(first) - 1, 0)).bit_length()) - bits_of_place

    bits = score.view(np.int64)
    ascending = (bits ^ (bits >> 63 & np.int64(2**63 - 1))).view(np.uint64) ^ np.uint64(2**63)
    key = ~ascending >> (np.uint64(64) - bits_of_score)
    key |= (~catalogue.flags("mandatory")).astype(np.uint64)[journey] << bits_of_score
    key |= np.repeat(np.arange(len(first), dtype=np.uint64) << (bits_of_score + np.uint64(1)), sizes)
    key <<= bits_of_place
    places = np.arange(len(journey), dtype=np.int32) - begins
    key |= places.astype(np.uint64)
    key.sort()
    order = begins + (key & ((np.uint64(1) << bits_of_place) - np.uint64(1))).astype(np.int32)

    key >>= bits_of_place
    follows = np.flatnonzero(key[1:] == key[:-1]) + 1
    if len(follows):
        tied = np.union1d(follows, follows - 1)
        rows = order[tied]
        priority, waiting = catalogue.flags("priority")[journey[rows]], options["waiting_days"].to_numpy()[rows]
        order[tied] = rows[np.lexsort((journey[rows], -waiting, -priority, -score[rows], key[tied]))]
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = places + 1
    return order, rank


def _combined(
    kind: str, values: Mapping[str, pl.Expr], combine: np.ufunc, options: pl.DataFrame, profiles: pl.DataFrame, catalogue: Catalogue
) -> np.ndarray:
    """Return by option the customer's values for the journey's interests or intents, combined; 0 where it has none."""
    members = catalogue.members[kind]
    used = sorted({name for of_journey in members for name in of_journey})
    longest = max(map(len, members), default=0)
    if not used:
        return np.zeros(options.height)
    # By customer, then name: an option's values lie side by side. The last one, 0, fills up journeys that have fewer than others.
    require_fits(profiles.height * (len(used) + 1), MOST_CELLS, f"customers decided at once times {kind}", SMALLER)
    table = np.zeros((profiles.height, len(used) + 1))
    columns = profiles.with_columns(**{name: values[name] for name in used})
    for place, name in enumerate(used):
        table[:, place] = columns[name].to_numpy()
    places = np.array([[used.index(name) for name in of_journey] + [len(used)] * (longest - len(of_journey)) for of_journey in members])
    flat, first = pl.Series(table.ravel()), options["customer"] * (len(used) + 1)
    by_place = [flat.gather(first + pl.Series(place, dtype=pl.UInt32).gather(options["journey"])).to_numpy() for place in places.T]
    return np.asarray(reduce(combine, by_place))


def _leads(portfolio: Portfolio, catalogue: Catalogue) -> np.ndarray:
    """Say which journey leads to which, by number; the last row is that of customers who have finished none."""
    numbers = {name: number for number, name in enumerate(catalogue.journey_ids)}
    leads = np.zeros((len(numbers) + 1, len(numbers)), dtype=bool)
    for journey in portfolio.journeys:
        for following in journey.next_journeys:
            if following in numbers:
                leads[numbers[journey.id], numbers[following]] = True
    return leads
