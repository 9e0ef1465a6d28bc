"""Small worlds in which something comes of journeys: many entries, short windows, and all that may go wrong on the way.

What belongs here: portfolios that measure, edits of what an entry keeps, and who did what when. What does not: any expectation.
Unlike ``tests.engine.worlds`` these are drawn from a seed alone: what a world is like is told by its number.
"""

import json
from copy import deepcopy
from datetime import UTC, date, datetime, time
from random import Random
from typing import Any

from tests.engine.worlds import DAY, World, to_yaml

ORDER, REFUND, VIEW, OPENED, SURVEY, LEFT = (
    "Order Completed",
    "Order Refunded",
    "Product Viewed",
    "Message Opened",
    "Survey Answered",
    "Unsubscribed",
)
METRICS: dict[str, dict[str, Any]] = {
    "revenue": {"sum": "revenue", "of": [ORDER, REFUND]},
    "orders": {"count": ORDER},
    "big_orders": {"count": ORDER, "where": "revenue > 20"},
    "items": {"sum": "quantity", "of": ORDER, "each": "products"},
    "csat": {"avg": "rating", "of": SURVEY},
    "item_price": {"avg": "price", "of": ORDER, "each": "products"},
    "opted_out": {"any": LEFT},
    "looked": {"any": VIEW, "where": "category = 'ski'"},
    "anything": {"count": "*"},
}
LATE = (0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 5, 8, -1)
"""How many days after it happened an event arrives: some of them come before what they are about matures, some after."""


def portfolio(random: Random, days: tuple[date, ...]) -> dict[str, Any]:
    """Draw what the marketers wrote."""
    metrics = {name: METRICS[name] for name in random.sample(sorted(METRICS), random.choice([2, 4, 6]))}
    if random.random() < 0.7:
        metrics["revenue"] = METRICS["revenue"]
    measurement: dict[str, Any] = {
        "before_days": random.choice([1, 3, 6]),
        "long_days": random.choice([2, 4, 6]),
        "late_days": random.choice([0, 1, 2]),
        "min_nonzero": random.choice([1, 2, 50]),
        "expected_customers": random.choice([20, 200]),
    }
    if "revenue" in metrics and random.random() < 0.7:
        measurement |= {"money": "revenue", "margin": 0.25}
    if random.random() < 0.3:
        measurement["window_days"] = random.choice([1, 2, 4])
    guards = [name for name in ("opted_out", "csat") if name in metrics]
    if guards:
        measurement["guardrails"] = guards
    document: dict[str, Any] = {
        "version": "1",
        "calendar": {"timezone": random.choice(["UTC", "Europe/Berlin", "America/New_York"]), "starts_on": days[0]},
        "channels": {"email": {"consent": "none", "cost": 0.5}, "app": {"consent": "opt_out"}},
        "traits": {"orders_seen": {"count": ORDER}, "spend": {"sum": "revenue", "of": ORDER, "within_days": 3}},
        "segments": {"buyers": "orders_seen > 0", "spenders": "spend >= 12", "new": "tenure_days < 2"},
        "metrics": metrics,
        "measurement": measurement,
        "paths": {"quiet_days": random.choice([1, 3])},
        "journeys": [journey(random, number, metrics) for number in range(random.choice([3, 4, 5]))],
        "policy": {
            "score": random.choice(["value", "value + 0.1 * tenure_days", "value * (1 + 0.1 * spend)"]),
            "none": "-1000000000.0",
            "holdout": random.choice([0.0, 0.2, 0.4]),
            "explore": random.choice([0.0, 0.3, 0.9]),
            "keep_candidates": random.choice(["all", 1]),
            "rest_days": random.choice([0, 0, 1]),
            "switch_margin": random.choice([0.0, 0.2]),
        },
    }
    if random.random() < 0.7:
        document["engagement"] = {"touch": ["Message Sent"], "response": [OPENED], "half_life_days": 7}
    if random.random() < 0.6:
        document["predictions"] = {"order": ORDER, "value": "revenue"}
    return document


def journey(random: Random, number: int, metrics: dict[str, Any]) -> dict[str, Any]:
    """Draw a journey that many enter, and leave soon."""
    length = random.choice([1, 1, 2, 3, 5])
    said: dict[str, Any] = {
        "id": f"j{number}",
        "length_days": length,
        "queue": random.choice([{"where": "true"}, {"where": "true"}, {"any": ["buyers"]}, {"any": ["new", "spenders"]}]),
        "value": random.choice([1, 2, 3, 5]),
    }
    optional: dict[str, tuple[float, Any]] = {
        "holdout": (0.8, random.choice([0.0, 0.3, 0.5])),
        "holdout_version": (0.3, "b"),
        "reentry": (0.7, {"after_days": random.choice([0, 1, 3]), "from": random.choice(["entry", "exit"])}),
        "can_interrupt": (0.4, True),
        "mandatory": (0.1, True),
        "exit_when": (0.2, "spend > 30"),
        "exit_on_goal": (0.2, False),
        "capacity": (0.2, {"daily_entries": 3}),
        "variants": (0.4, {"shares": random.choice([{"x": 0.5, "y": 0.5}, {"x": 0.2, "y": 0.7, "z": 0.1}])}),
    }
    said |= {name: value for name, (odds, value) in optional.items() if random.random() < odds}
    if random.random() < 0.7:
        said["goal"] = {"event": random.choice([ORDER, ORDER, OPENED, SURVEY])}
        said["goal"] |= {"within_days": random.choice([1, 2, 4])} if random.random() < 0.7 else {}
        if said["goal"]["event"] == ORDER and random.random() < 0.7:
            said["goal"]["value"] = "revenue"
    if random.random() < 0.5:
        within = said.get("goal", {}).get("within_days", length if "goal" in said else 1)
        said["measure"] = {"window_days": max(within, random.choice([1, 2, 4, 5]))}
    elif random.random() < 0.3:
        said["measure"] = {"metrics": random.sample(sorted(metrics), 2)}
    steps = [{"day": day, "channel": random.choice(["email", "app"]), "content": f"text{day}"} for day in range(1, length + 1)]
    said["steps"] = [step for step in steps if random.random() < 0.7]
    if "variants" in said and said["steps"]:
        said["steps"][0]["variant"] = "x"
    return said


def edited(random: Random, document: dict[str, Any]) -> dict[str, Any]:
    """Draw what the marketers change on the way."""
    changed = deepcopy(document)
    journeys = changed["journeys"]
    for each in random.sample(journeys, 2):
        kind = random.choice(["holdout", "holdout_version", "window", "draft", "length", "goal", "variants"])
        if kind == "holdout":
            each["holdout"] = random.choice([0.0, 0.2, 0.6])
        elif kind == "holdout_version":
            each["holdout_version"] = random.choice(["b", "c"])
        elif kind == "window":
            each["measure"] = {"window_days": 5}
        elif kind == "draft":
            each["status"] = random.choice(["draft", "paused"])
        elif kind == "length":
            each["length_days"] = 6
        elif kind == "goal" and "goal" in each:
            each["goal"] |= {"within_days": 3}
        elif kind == "variants":
            each.pop("variants", None)
            each["steps"] = [{name: value for name, value in step.items() if name != "variant"} for step in each["steps"]]
    if random.random() < 0.5:
        changed["version"] = random.choice(["2", "3"])
    if random.random() < 0.3:
        changed["policy"]["holdout"] = random.choice([0.0, 0.5])
    if random.random() < 0.3 and len(journeys) > 3:
        del journeys[-1]
    return changed


def lines(random: Random, days: tuple[date, ...], size: int) -> dict[date, list[bytes]]:
    """Draw who did what: known customers, visitors who log in one day, and some who turn out to be one."""
    arrived: dict[date, list[bytes]] = {day: [] for day in days}
    number = 0

    def add(happened: date, arrives: date, **said: Any) -> None:
        nonlocal number
        number += 1
        if arrives in arrived:
            moment = datetime.combine(happened, time(random.choice([9, 12, 15]), number % 60), UTC)
            event = {"messageId": f"m{number:05}", "timestamp": moment.isoformat().replace("+00:00", "Z"), **said}
            arrived[arrives].append(json.dumps(event).encode())

    for place in range(size):
        begins = random.choice([days[0], days[0], days[0], random.choice(days)])
        logs_in = random.choice([None, None, begins, random.choice(days)])
        activity = random.choice([0.1, 0.4, 0.8])
        add(begins, begins, type="track", event=VIEW, properties={"category": "ski"}, **who(place, begins, logs_in))
        for day in (day for day in days if day >= begins):
            while random.random() < activity:
                add(day, day + random.choice(LATE) * DAY, **action(random), **who(place, day, logs_in))
        if logs_in is not None:
            add(logs_in, logs_in + random.choice([0, 0, 1]) * DAY, type="identify", userId=f"u{place:02}", anonymousId=f"a{place:02}")
    for _ in range(random.choice([0, 2, 4])):
        one, other = random.sample(range(size), 2)
        day = random.choice(days[2:])
        add(day, day, type="alias", userId=f"u{one:02}", previousId=f"u{other:02}")
    return arrived


def who(place: int, day: date, logs_in: date | None) -> dict[str, str]:
    """Return the ids of a customer's event: a visitor's until there is a login."""
    return {"anonymousId": f"a{place:02}"} if logs_in is not None and day < logs_in else {"userId": f"u{place:02}"}


def action(random: Random) -> dict[str, Any]:
    """Draw an event."""
    event = random.choice([ORDER, ORDER, ORDER, REFUND, VIEW, OPENED, OPENED, SURVEY, LEFT])
    properties: dict[str, Any] = {}
    if event == ORDER:
        products = [
            {"quantity": random.choice([1, 2, "3", None]), "price": random.choice([0.1, 7.25])} for _ in range(random.choice([0, 1, 2]))
        ]
        properties = {"revenue": random.choice([0.1, 0.2, 12.5, 25.25, 99.99, 0.1234567, "4.5", None]), "products": products}
    elif event == REFUND:
        properties = {"revenue": random.choice([-0.1, -12.5, -99.99])}
    elif event == SURVEY:
        properties = {"rating": random.choice([1, 3, 4, 5, "5", "good"])}
    elif event == VIEW:
        properties = {"category": random.choice(["ski", "poker"])}
    elif event in {OPENED, LEFT}:
        properties = {"channel": random.choice(["email", "app"])}
    return {"type": "track", "event": event, "properties": properties}


def draw_world(seed: int, *, size: int = 24, length: int = 16) -> World:
    """Draw a world: two edits of the portfolio in some two weeks."""
    random = Random(f"proof {seed}")  # noqa: S311  # no secrets here
    first = random.choice([date(2026, 1, 1), date(2026, 3, 20), date(2026, 10, 15)])
    days = tuple(first + number * DAY for number in range(length))
    document = portfolio(random, days)
    edits: dict[date, str] = {}
    if random.random() < 0.7:
        once = edited(random, document)
        # What is edited once stays: a goal that nobody counted for a while would have to be caught up on, which is not in question here.
        edits = {days[length // 3]: to_yaml(once), days[2 * length // 3]: to_yaml(edited(random, once))}
    files = {f"{day}/events.ndjson": b"\n".join(arrived) for day, arrived in lines(random, days, size).items() if arrived}
    return World(to_yaml(document), edits, days, files)
