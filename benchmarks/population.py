"""Made-up customers and portfolios of any size, the same for the same seed.

What belongs here: profiles, ``journeys.yaml``, and the memory, queues and goal events that a decision day starts from. What does
not: running anything on them (``engine``, ``warehouse``), or measuring it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from ruamel.yaml import YAML

from atc_pipeline.customers.profiles import table_schema
from atc_pipeline.decision.tables import JOURNEY_STATE
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio

TODAY = date(2026, 11, 21)
SEED = 20_261_121
BLOCK = 50_000
"""Customers are drawn in blocks of so many, each from a seed of its own: a larger population begins with the smaller one."""

TOPICS = ("bags", "beauty", "books", "camping", "cooking", "cycling", "fitness", "games", "garden", "music", "shoes", "ski")
INTENTS = ("buying", "cancelling", "comparing", "gifting", "returning", "upgrading")
CHANNELS = {
    "email": {"consent": "opt_in"},
    "sms": {"consent": "opt_in"},
    "app": {"consent": "opt_out"},
    "website": {"consent": "none"},
}
CATEGORIES = ("accessories", "food", "home", "kids", "men", "outdoor", "sport", "women")
REFERRERS = ("ads", "affiliate", "direct", "newsletter", "search", "social")
INCOMES = ("high", "low", "middle")
PLANS = ("basic", "family", "free", "premium")
ZONES = ("Europe/Berlin", "Europe/Lisbon", "Europe/London", "Europe/Warsaw")
GOAL = "Order Completed"

TRAITS: Mapping[str, Mapping[str, object]] = {
    "orders": {"count": GOAL},
    "orders_90d": {"count": GOAL, "within_days": 90},
    "visits_7d": {"count": "Page Viewed", "within_days": 7},
    "visits_30d": {"count": "Page Viewed", "within_days": 30},
    "views_7d": {"count": "Product Viewed", "within_days": 7},
    "views_30d": {"count": "Product Viewed", "within_days": 30},
    "carts_30d": {"count": "Product Added", "within_days": 30},
    "searches_30d": {"count": "Products Searched", "within_days": 30},
    "coupons": {"count": "Coupon Redeemed"},
    "returned": {"count": "Order Refunded"},
    "calls_90d": {"count": "Support Called", "within_days": 90},
    "touches_30d": {"count": "Message Sent", "within_days": 30},
    "responses_30d": {"count": "Message Clicked", "within_days": 30},
    "reviews": {"count": "Review Written"},
    "spend": {"sum": "revenue", "of": GOAL},
    "spend_90d": {"sum": "revenue", "of": GOAL, "within_days": 90},
    "units": {"sum": "quantity", "of": GOAL, "each": "products"},
    "average_order": {"avg": "revenue", "of": GOAL},
    "smallest_order": {"min": "revenue", "of": GOAL},
    "biggest_order": {"max": "revenue", "of": GOAL},
    "first_referrer": {"first": "referrer", "of": "Page Viewed"},
    "last_plan": {"last": "plan", "of": "Subscription Changed"},
    "favourite_category": {"most_frequent": "category", "of": GOAL, "each": "products"},
    "categories_bought": {"unique_count": "category", "of": GOAL, "each": "products"},
    "days_since_order": {"days_since_last": GOAL},
    "days_since_visit": {"days_since_last": "Page Viewed"},
    "days_since_signup": {"days_since_first": "Signed Up"},
    "spend_percentile": {"percentile": "spend"},
    "income": {"profile": "income", "type": "string"},
    "age": {"profile": "age", "type": "number"},
    "has_children": {"profile": "has_children", "type": "boolean"},
    "unsubscribed": {"profile": "unsubscribed", "type": "boolean"},
}

NUMBERS = (
    "tenure_days", "orders", "visits_30d", "views_30d", "touches_30d", "spend", "spend_90d", "units", "average_order", "smallest_order",
    "biggest_order", "days_since_order", "days_since_visit", "days_since_signup", "spend_percentile", "age", "engagement",
    "predicted_orders", "predicted_value", "churn_risk", *(f"interest_{topic}" for topic in TOPICS),
)  # fmt: skip
"""Columns that conditions set a threshold on."""
WORDS = {"favourite_category": CATEGORIES, "first_referrer": REFERRERS, "income": INCOMES, "last_plan": PLANS}

Document = dict[str, object]
"""``journeys.yaml`` as plain values."""


@dataclass(frozen=True)
class World:
    """A folder with the tables that one decision day starts from, and its portfolios."""

    home: Path

    @property
    def journeys(self) -> Path:
        """The portfolio without limits."""
        return self.home / "journeys.yaml"

    @property
    def limited_journeys(self) -> Path:
        """The same portfolio, some journeys limited (``limit``)."""
        return self.home / "journeys_limited.yaml"

    def table(self, name: str) -> Path:
        """Where a table is kept: ``customer_profiles``, ``goal_events``, and yesterday's ``journey_queues``, ``journey_state``."""
        return self.home / f"{name}.parquet"


def write_profiles(world: World, *, customers: int, journeys: int) -> None:
    """Write the portfolio and one row per customer: what a first day starts from."""
    world.home.mkdir(parents=True, exist_ok=True)
    portfolio = write_portfolio(world.journeys, portfolio_document(journeys))
    profiles = draw_profiles(customers)
    expected = table_schema(portfolio)
    if dict(profiles.schema) != expected:
        raise AssertionError(f"the made-up profiles are not customer_profiles: {set(profiles.schema.items()) ^ set(expected.items())}")
    profiles.write_parquet(world.table("customer_profiles"), compression="zstd")


def write_portfolio(path: Path, document: Document) -> Portfolio:
    """Write ``journeys.yaml`` and load it as the pipeline would."""
    YAML().dump(document, path)
    return load_portfolio(path)


def draw_profiles(customers: int) -> pl.DataFrame:
    """One row per customer, sorted by ``customer_id``: the columns of ``customer_profiles``, without the state."""
    blocks = [_block(number) for number in range(-(-customers // BLOCK))]
    drawn = pl.concat(blocks).head(customers)
    ranks = (pl.col("spend").rank("max") / pl.len()).round(6)
    return drawn.with_columns(spend_percentile=ranks).rechunk()


def _block(number: int) -> pl.DataFrame:
    draw = np.random.default_rng([SEED, number])
    size = BLOCK
    # How often somebody comes: a few do all the time, many hardly ever. Everything else follows from it.
    pace = draw.gamma(0.7, 1.4, size)
    tenure = np.minimum(draw.exponential(400, size), 2200).astype(np.int64)
    months = np.minimum(tenure, 720) / 30
    visit = np.minimum(draw.exponential(20 / (pace + 0.05)), tenure).astype(np.int64)
    visits_30d = np.where(visit < 30, draw.poisson(1 + 4 * pace), 0)
    orders = draw.poisson(0.12 * pace * months)
    bought = orders > 0
    order = np.minimum(visit + draw.exponential(60, size), tenure).astype(np.int64)
    orders_90d = np.where(bought & (order < 90), np.minimum(orders, 1 + draw.poisson(0.3 * pace)), 0)
    basket = np.round(np.exp(draw.normal(3.6, 0.6, size)), 2)
    spend = np.round(orders * basket, 2)
    touches = draw.poisson(3, size)
    engagement = draw.beta(1.2, 4, size)
    quantity = orders * (1 + draw.poisson(1, size))
    shares = draw.gamma(0.25, 1, (len(TOPICS), size)) * (draw.random((len(TOPICS), size)) < 0.5)
    total = shares.sum(axis=0)
    interests = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
    first = number * size
    columns: dict[str, pl.Series] = {
        "date": pl.repeat(TODAY, size, eager=True),
        "customer_id": pl.Series([f"c{number:08d}" for number in range(first, first + size)]),
        "first_seen_on": _days_ago(tenure),
        "last_seen_on": _days_ago(visit),
        "tenure_days": pl.Series(tenure),
        "timezone": _words(draw, ZONES, size, known=0.9),
        **{f"consent_{name}": _flags(draw, size, known=0.75, true=0.85) for name in CHANNELS},
        **{f"interest_{topic}": pl.Series(interests[place]) for place, topic in enumerate(TOPICS)},
        **{f"intent_{name}": pl.Series(np.where(draw.random(size) < 0.2, draw.beta(1, 2, size), 0.0)) for name in INTENTS},
        "engagement": _known(engagement, touches > 0),
        "preferred_channel": _words(draw, tuple(CHANNELS), size, known=0.6),
        "best_hour": _known(draw.integers(7, 23, size), visits_30d > 0),
        "predicted_orders": _known(0.35 * pace * draw.random(size), bought),
        "predicted_value": _known(0.35 * pace * basket, bought),
        "churn_risk": _known(1 - np.exp(-order / 120), bought),
        "orders": pl.Series(orders),
        "orders_90d": pl.Series(orders_90d),
        "visits_7d": pl.Series(draw.binomial(visits_30d, 0.25)),
        "visits_30d": pl.Series(visits_30d),
        "views_7d": pl.Series(draw.binomial(2 * visits_30d, 0.25)),
        "views_30d": pl.Series(2 * visits_30d + draw.poisson(0.5, size)),
        "carts_30d": pl.Series(draw.binomial(visits_30d, 0.15)),
        "searches_30d": pl.Series(draw.binomial(visits_30d, 0.4)),
        "coupons": pl.Series(draw.binomial(orders, 0.2)),
        "returned": pl.Series(draw.binomial(orders, 0.08)),
        "calls_90d": pl.Series(draw.poisson(0.05, size)),
        "touches_30d": pl.Series(touches),
        "responses_30d": pl.Series(draw.binomial(touches, engagement)),
        "reviews": pl.Series(draw.binomial(orders, 0.05)),
        "spend": pl.Series(spend),
        "spend_90d": pl.Series(np.round(orders_90d * basket, 2)),
        "units": pl.Series(quantity.astype(np.float64)),
        "average_order": _known(basket, bought),
        "smallest_order": _known(np.round(basket * draw.uniform(0.3, 1, size), 2), bought),
        "biggest_order": _known(np.round(basket * draw.uniform(1, 3, size), 2), bought),
        "first_referrer": _words(draw, REFERRERS, size, known=0.95),
        "last_plan": _words(draw, PLANS, size, known=0.7),
        "favourite_category": _words(draw, CATEGORIES, size, known=0.5),
        "categories_bought": pl.Series(np.minimum(draw.binomial(orders, 0.7), len(CATEGORIES))),
        "days_since_order": _known(order, bought),
        "days_since_visit": pl.Series(visit),
        "days_since_signup": _known(tenure, draw.random(size) < 0.8),
        "spend_percentile": pl.repeat(0.0, size, eager=True),  # a matter of the whole population: `draw_profiles`
        "income": _words(draw, INCOMES, size, known=0.5),
        "age": _known(draw.integers(18, 90, size).astype(np.float64), draw.random(size) < 0.6),
        "has_children": _flags(draw, size, known=0.4, true=0.4),
        "unsubscribed": _flags(draw, size, known=0.3, true=0.1),
    }
    return pl.DataFrame(columns)


def _known(values: NDArray[np.generic], is_known: NDArray[np.bool_]) -> pl.Series:
    return pl.select(pl.when(pl.Series(is_known)).then(pl.Series(values))).to_series()


def _words(draw: np.random.Generator, words: Sequence[str], size: int, *, known: float) -> pl.Series:
    return _known(np.array(words, dtype=object)[draw.integers(0, len(words), size)], draw.random(size) < known)


def _flags(draw: np.random.Generator, size: int, *, known: float, true: float) -> pl.Series:
    return _known(draw.random(size) < true, draw.random(size) < known)


def _days_ago(days: NDArray[np.int64]) -> pl.Series:
    return pl.Series(np.datetime64(TODAY, "D") - days.astype("timedelta64[D]"))


def portfolio_document(journeys: int) -> Document:
    """Return a portfolio of so many journeys, each open to about a fifth of the customers by a condition on two columns.

    Thresholds are set on one block of customers. Conditions stand in the queues themselves: segments would be worked out before
    the decision, by the engine and by a warehouse alike.
    """
    draw = np.random.default_rng([SEED, journeys])
    sample = draw_profiles(BLOCK).head(20_000)
    ids = [f"{TOPICS[number % len(TOPICS)]}_{number:03d}" for number in range(journeys)]
    return {
        "version": "2026-11",
        "calendar": {"timezone": "Europe/Berlin", "starts_on": TODAY.replace(month=1, day=1).isoformat()},
        "channels": dict(CHANNELS),
        "traits": {name: dict(trait) for name, trait in TRAITS.items()},
        "interests": {
            "half_life_days": 30,
            "topics": {name: [{"event": "Product Viewed", "where": f"topic = '{name}'"}] for name in TOPICS},
        },
        "intents": {
            name: {"half_life_days": 7, "full_at": 5, "signals": [{"event": "Page Viewed", "where": f"path = '/{name}'"}]}
            for name in INTENTS
        },
        "engagement": {"touch": ["Message Sent"], "response": ["Message Clicked"], "half_life_days": 30},
        "journeys": [_journey(draw, sample, ids, number) for number in range(journeys)],
        "policy": {
            "none": "0.5 * engagement",
            "prior_propensity": 0.05,
            "waiting_weight": 0.2,
            "linked_boost": 1.5,
            "switch_margin": 0.25,
            "rest_days": 2,
            "cap": {"days": 14, "starts": "case when engagement >= 0.5 then 3 else 1 end"},
            "suppressed_when": "unsubscribed",
            "holdout": 0.05,
            "explore": 0.02,
        },
    }


def _journey(draw: np.random.Generator, sample: pl.DataFrame, ids: Sequence[str], number: int) -> dict[str, object]:
    def chance(share: float) -> bool:
        return bool(draw.random() < share)

    def draw_some(of: Sequence[str], most: int) -> list[str]:
        return [str(member) for member in draw.choice(of, size=int(draw.integers(1, most + 1)), replace=False)]

    # Service messages concern few; were they a fifth each, nobody would be left to decide about.
    mandatory = number % 40 == 39
    rest = [member for place, member in enumerate(ids) if place != number]
    length = int(draw.integers(5, 31))
    journey: dict[str, object] = {
        "id": ids[number],
        "length_days": length,
        "queue": {"where": _condition(draw, sample, share=0.02 if mandatory else float(draw.uniform(0.12, 0.32)))},
        "priority": 10 * int(draw.integers(0, 6)),
        "value": round(float(draw.uniform(8, 16)), 1),
        "channels": draw_some(tuple(CHANNELS), 3),
        "goal": {"event": GOAL, "within_days": length},
        "reentry": "never" if chance(0.3) else {"after_days": int(draw.integers(30, 120)), "from": "exit" if chance(0.5) else "entry"},
        "steps": [{"day": 1, "channel": "email", "content": f"{ids[number]}_1"}],
    }
    optional: dict[str, tuple[float, object]] = {
        "interests": (0.7, draw_some(TOPICS, 2)),
        "intents": (0.4, draw_some(INTENTS, 1)),
        "can_interrupt": (0.2, True),
        "interruptible": (0.1, False),
        "max_entries": (0.2, 3),
        "next_journeys": (0.15, draw_some(rest, 2)),
        "only_after": (0.05 if number else 0.0, [ids[int(draw.integers(0, max(number, 1)))]]),  # on earlier ones only: no circles
        "not_after": (0.15, [{"journey": draw_some(rest, 1)[0], "within_days": 14}]),
        "exit_when": (0.1, "days_since_order < 1"),
        "holdout": (0.1, 0.1),
    }
    journey |= {key: value for key, (share, value) in optional.items() if chance(share)}
    return journey | ({"mandatory": True} if mandatory else {})


def _condition(draw: np.random.Generator, sample: pl.DataFrame, *, share: float) -> str:
    """Write a condition on two columns that about this share of the customers meets."""
    while True:
        left, right = draw.choice(NUMBERS, size=2, replace=False)
        if draw.random() < 0.2:
            word = str(draw.choice(tuple(WORDS)))
            first = f"{word} in {WORDS[word][: len(WORDS[word]) // 2 + 1]}"
        else:
            first = _threshold(draw, sample, str(left), float(draw.uniform(0.4, 0.8)))
        among = sample.filter(pl.sql_expr(first))
        if among.height < share * sample.height:
            continue
        text = f"{first} and {_threshold(draw, among, str(right), share * sample.height / among.height)}"
        met = sample.filter(pl.sql_expr(text)).height / sample.height
        if 0.7 * share < met < 1.4 * share:
            return text


def _threshold(draw: np.random.Generator, among: pl.DataFrame, column: str, share: float) -> str:
    """Write a comparison that about this share of the rows passes; a null passes none."""
    values = among[column].drop_nulls()
    if values.is_empty():
        return f"{column} > 0"
    at_most = min(1.0, share * among.height / values.len())
    is_above = draw.random() < 0.5
    cut = values.quantile(1 - at_most if is_above else at_most, interpolation="nearest")
    return f"{column} {'>' if is_above else '<'} {cut:g}"


def write_yesterday(world: World, queues: pl.DataFrame) -> None:
    """Write yesterday's ``journey_queues`` and ``journey_state``, and the goal events seen by today.

    ``queues``: today's, one row per journey and customer. A tenth of them is new today; a third of the customers are in
    flight, in a journey they qualify for, and everyone was in up to four others before.
    """
    draw = np.random.default_rng([SEED, queues.height])
    yesterday = TODAY - timedelta(days=1)
    before = queues.filter(pl.Series(draw.random(queues.height) < 0.9))
    since = _days_ago(draw.integers(1, 60, before.height))
    before.with_columns(pl.lit(yesterday).alias("date"), queued_on=since).with_columns(
        waiting_days=(pl.lit(yesterday) - pl.col("queued_on")).dt.total_days()
    ).write_parquet(world.table("journey_queues"), compression="zstd")
    portfolio = load_portfolio(world.journeys)
    ids = pl.read_parquet(world.table("customer_profiles"), columns=["customer_id"])["customer_id"]
    state = _state(draw, ids, before, portfolio)
    state.write_parquet(world.table("journey_state"), compression="zstd")
    converted = state.filter(pl.col("ended_on").is_null()).select("customer_id").gather_every(20)
    converted.with_columns(event=pl.lit(GOAL), event_date=pl.lit(TODAY)).write_parquet(world.table("goal_events"), compression="zstd")


def _state(draw: np.random.Generator, ids: pl.Series, queues: pl.DataFrame, portfolio: Portfolio) -> pl.DataFrame:
    """One row per customer and journey ever entered, as of yesterday; one spell at a time."""
    lengths = pl.DataFrame(
        [(journey.id, journey.length_days) for journey in portfolio.journeys], schema=["journey_id", "length_days"], orient="row"
    )
    asked = queues.select("customer_id", "journey_id").filter(pl.Series(draw.random(queues.height) < 0.15))
    flying = (
        pl.DataFrame({"customer_id": ids})
        .filter(pl.Series(draw.random(len(ids)) < 0.36))
        .join(asked.unique("customer_id"), on="customer_id")
    )
    flying = flying.join(lengths, on="journey_id").sort("customer_id")
    # Up to length_days ago: some end today.
    ago = 1 + (draw.random(flying.height) * flying["length_days"].to_numpy()).astype(np.int64)
    now = flying.with_columns(entered_on=_days_ago(ago), ended_on=pl.lit(None, dtype=pl.Date))
    spells = draw.integers(0, 5, len(ids))
    start = draw.integers(0, lengths.height, len(ids))
    free_until = np.full(len(ids), 1, dtype=np.int64)
    free_until[ids.is_in(now["customer_id"].implode()).to_numpy()] = 31  # the longest journey in flight began no earlier
    past = []
    for number in range(4):
        chosen = (start + number) % lengths.height
        days = lengths["length_days"].to_numpy()[chosen]
        ended = free_until + draw.integers(0, 40, len(ids))
        entered = ended + 1 + (draw.random(len(ids)) * days).astype(np.int64)
        spell = pl.DataFrame(
            {
                "customer_id": ids,
                "journey_id": lengths["journey_id"].gather(chosen),
                "entered_on": _days_ago(entered),
                "ended_on": _days_ago(ended),
            }
        )
        past.append(spell.filter(pl.Series(spells > number)))
        free_until = entered
    earlier = pl.concat(past).join(now, on=["customer_id", "journey_id"], how="anti")
    rows = pl.concat([now.drop("length_days"), earlier])
    reasons = np.array(["completed", "completed", "converted", "exited", "interrupted"], dtype=object)
    is_recent = pl.col("entered_on") > TODAY - timedelta(days=14)
    is_over = pl.col("ended_on").is_not_null()
    return (
        rows.with_columns(
            pl.lit(TODAY - timedelta(days=1)).alias("date"),
            ended_reason=pl.when(is_over).then(pl.Series(reasons[draw.integers(0, len(reasons), rows.height)])),
            times_entered=pl.Series(draw.integers(1, 3, rows.height)),
            entry_score=pl.Series(np.round(draw.uniform(0.4, 2, rows.height), 6)),
            arm=pl.when(pl.Series(draw.random(rows.height) < 0.05)).then(pl.lit("control")).otherwise(pl.lit("treated")),
            recent_starts=pl.when(is_recent).then(pl.concat_list("entered_on")).otherwise(pl.lit([], dtype=pl.List(pl.Date))),
            left_on="ended_on",
            variant=pl.lit(None, pl.String),
        )
        .with_columns(is_finished=pl.col("ended_reason").is_in(["completed", "converted"]).fill_null(value=False))
        .with_columns(held_out_by=pl.when(pl.col("arm") == "control").then(pl.lit("journey")))
        .with_columns(times_completed=pl.col("is_finished").cast(pl.Int64), finished_on=pl.when("is_finished").then("ended_on"))
        .select(*JOURNEY_STATE.schema)
        .cast(JOURNEY_STATE.schema)
        .sort("customer_id", "journey_id")
    )


def limit(document: Document, demand: Mapping[str, int], in_flight: Mapping[str, int], *, share: float = 0.3) -> Document:
    """Limit the most wanted journeys, this share of all, to half of their demand: two in three per day, the third altogether."""
    journeys = document["journeys"]
    if not isinstance(journeys, list):
        raise TypeError("journeys is a list")
    wanted = sorted(demand, key=lambda name: (-demand[name], name))[: round(share * len(journeys))]
    capacities = {
        name: {"active": in_flight.get(name, 0) + demand[name] // 2} if place % 3 == 2 else {"daily_entries": demand[name] // 2}
        for place, name in enumerate(wanted)
    }
    limited = [journey | ({"capacity": capacities[journey["id"]]} if journey["id"] in capacities else {}) for journey in journeys]
    return document | {"journeys": limited}
