"""Entries and what came of them, drawn: enough customers for an estimate, at the price of none of their days.

What belongs here: rows as the tables have them. What does not: how they come about, and any expectation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random

import polars as pl

from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.outcomes import tables
from tests.engine.proof import reference
from tests.engine.reference import DAY, Row
from tests.engine.worlds import to_yaml

TODAY = date(2026, 6, 30)
VARIANTS = [{"variant": name, "variant_probability": share} for name, share in (("x", 0.5), ("x", 0.5), ("y", 0.3), ("z", 0.2))]
JOURNEYS = {"many": 400, "fewer": 90, "two": 2, "lonely": 3, "nobody_out": 40, "silent": 60, "skewed": 250, "empty": 0}
"""How many customers entered each."""


def portfolio(folder: Path, random: Random, guardrails: Sequence[str]) -> Portfolio:
    """Return a portfolio of these journeys."""
    document = {
        "version": "1",
        "calendar": {"timezone": "UTC", "starts_on": date(2026, 1, 1)},
        "channels": {"email": {"consent": "none", "cost": 0.25}, "app": {"consent": "none"}},
        "segments": {"early": "tenure_days < 3", "keen": "tenure_days < 2"},
        "engagement": {"touch": ["Sent"], "response": ["Opened"]},
        "metrics": {
            "revenue": {"sum": "revenue", "of": "Order"},
            "orders": {"count": "Order"},
            "csat": {"avg": "rating", "of": "Survey"},
            "opted_out": {"any": "Unsubscribed"},
        },
        "measurement": {
            "money": "revenue",
            "margin": 0.5,
            "guardrails": list(guardrails),
            "min_nonzero": random.choice([1, 5, 50]),
            "expected_customers": random.choice([200, 5000]),
            "late_days": 2,
        },
        "journeys": [
            {
                "id": name,
                "length_days": 7,
                "queue": {"where": "true"},
                "holdout": 0.0 if name == "nobody_out" else 0.3,
                **({"variants": {"shares": {"x": 0.5, "y": 0.3, "z": 0.2}}} if name == "many" else {}),
                **({} if name == "two" else {"goal": {"event": "Order", "within_days": 7, "value": "revenue"}}),
            }
            for name in JOURNEYS
        ],
        "policy": {"holdout": 0.1},
    }
    path = folder / "journeys.yaml"
    path.write_text(to_yaml(document))
    return load_portfolio(path)


@dataclass
class Drawn:
    """What is known of some journeys' entries."""

    portfolio: Portfolio
    entries: list[Row]
    outcomes: list[Row]
    long: list[Row]

    def frame(self, table: str) -> pl.LazyFrame:
        """Return one of them as the engine has it."""
        made = {"entries": tables.journey_entries, "outcomes": tables.journey_outcomes, "long": tables.long_outcomes}[table]
        rows: Sequence[Row] = getattr(self, table)
        return pl.DataFrame(rows, made(self.portfolio).schema).lazy()


def draw(seed: int, folder: Path, *, guardrails: Sequence[str] = ("opted_out",), effect: float = 1.3) -> Drawn:
    """Draw the first half year of these journeys; ``effect``: how many times as much is brought by those who are treated."""
    random = Random(f"evidence {seed}")  # noqa: S311  # no secrets here
    of = portfolio(folder, random, guardrails)
    drawn = Drawn(of, [], [], [])
    for name, size in JOURNEYS.items():
        shares = [(0.3, None), (0.3, None), (0.5, None), (0.3, "b")][: 1 if name == "nobody_out" else 4]
        for number in range(size):
            entry = first_entry(random, name, f"c{number:04}", *random.choice(shares))
            if name == "nobody_out":
                entry |= {"holdout": 0.0} | ({} if entry["held_out_by"] == "policy" else {"arm": "treated", "held_out_by": None})
            again = [{**entry, "entry_number": 2, "date": entry["date"] + 9 * DAY}] if random.random() < 0.1 else []
            for each in [entry, *again]:
                each["matures_on"] = each["date"] + 9 * DAY
                drawn.entries.append(each)
                if each["matures_on"] <= TODAY:
                    drawn.outcomes.append(outcome(random, each, effect))
            drawn.long += [long_outcome(random, entry, effect)] if entry["date"] + 92 * DAY <= TODAY else []
    return drawn


def first_entry(random: Random, journey: str, customer: str, holdout: float, version: str | None) -> Row:
    """Draw a first entry."""
    chance = random.random()
    by = "policy" if chance < 0.1 else "journey" if random.random() < holdout else None
    worth = round(random.paretovariate(1.2) * 10, 2) if random.random() < 0.4 else 0.0
    answers = random.choice([0, 0, 1, 3])
    before = {"revenue": worth, "orders": float(random.choice([0, 1, 4])), "opted_out": 0.0, "responses": float(random.choice([0, 2]))}
    before |= {"csat_sum": float(answers * random.choice([2, 5])), "csat_count": float(answers)}
    return {
        "date": date(2026, 1, 1) + random.randrange(181) * DAY,
        "customer_id": customer,
        "journey_id": journey,
        "entry_number": 1,
        "decision": "start",
        "arm": "treated" if by is None else "control",
        "held_out_by": by,
        "holdout": holdout,
        "holdout_version": version,
        "policy_holdout": 0.1,
        "version": "1",
        **(random.choice(VARIANTS) if journey == "many" else {"variant": None, "variant_probability": None}),
        "is_drawn": False,
        "options": 1,
        "propensity_source": "prior",
        "window_days": 7,
        "goal_within_days": None if journey == "two" else 7,
        "is_quiet": False,
        "preferred_channel": random.choice([None, "email", "app"]),
        "segments": random.choice([["everyone_else"], ["early"], ["early", "keen"]]),
        **{f"{name}_before": value for name, value in before.items()},
    }


def amounts(random: Random, entry: Row, effect: float) -> Row:
    """Draw what a customer did, of whom more is to be expected who did more before, and who is treated."""
    factor = 0.0 if entry["journey_id"] == "silent" else effect if entry["arm"] == "treated" else 1.0
    buys = random.random() < (0.1 if entry["journey_id"] == "skewed" else 0.5)
    revenue = round(factor * (entry["revenue_before"] * 0.5 + random.lognormvariate(2, 1)), 2) if buys else 0.0
    if random.random() < 0.03:
        revenue = -12.5
    answers = random.choice([0, 1, 2]) if factor else 0
    return {
        "revenue": revenue,
        "orders": float(buys and factor > 0),
        "opted_out": float(random.random() < 0.05 * factor),
        "responses": float(random.choice([0, 0, 1, 7])),
        "csat_sum": sum((float(random.choice([1, 4, 5])) for _ in range(answers)), 0.0),
        "csat_count": float(answers),
    }


def before(entry: Row) -> Row:
    """Return what an entry says of the days before."""
    return {name: value for name, value in entry.items() if name.endswith("_before")}


def outcome(random: Random, entry: Row, effect: float) -> Row:
    """Draw what came of an entry."""
    did = amounts(random, entry, effect)
    has_goal = entry["goal_within_days"] is not None
    return {
        "date": entry["matures_on"],
        "journey_id": entry["journey_id"],
        "customer_id": entry["customer_id"],
        "entered_on": entry["date"],
        "known_as": entry["customer_id"],
        **{name: entry[name] for name in reference.FROM_THE_ENTRY if name in entry},
        "contaminated": False,
        "goal": did["orders"] > 0 if has_goal else None,
        "goal_on": None,
        "goal_value": max(0.0, did["revenue"]) if has_goal else None,
        "delivered": int(entry["arm"] == "treated"),
        "withheld": 0,
        **did,
        **before(entry),
    }


def long_outcome(random: Random, entry: Row, effect: float) -> Row:
    """Draw what came of a first entry in the long run."""
    names = ("journey_id", "customer_id", "arm", "held_out_by", "holdout", "holdout_version", "version")
    return {
        "date": entry["date"] + 92 * DAY,
        "entered_on": entry["date"],
        "known_as": entry["customer_id"],
        **{name: entry[name] for name in names},
        "contaminated": False,
        **amounts(random, entry, effect),
        **before(entry),
    }


def known_as(names: Mapping[str, str]) -> pl.Expr:
    """Return who a customer is by today."""
    return pl.col("customer_id").replace(names)
