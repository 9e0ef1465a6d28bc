"""What must not matter to entries, outcomes and uplift does not: the order of rows, the length of runs, names, the unit of money."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import polars_hash
import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.days.course import Course
from atc_pipeline.days.decision import Decision
from atc_pipeline.days.step import write_day
from atc_pipeline.journeys.portfolio import Portfolio
from resources.storage.landing import LandingZone
from resources.storage.memory import Memory
from tests.engine.proof.twins import Made, disagreements, portfolios, report, run
from tests.engine.proof.worlds import draw_world
from tests.engine.worlds import World

pytestmark = pytest.mark.slow

TABLES = ("customer_metrics", "journey_entries", "journey_outcomes", "long_outcomes", "uplift")
"""What is compared: everything that is proved, and what it is proved from."""


def small(seed: int) -> World:
    """Draw a world of a few customers."""
    return draw_world(seed, size=12, length=8)


def tables(made: Made) -> dict[str, pl.DataFrame]:
    """Return these tables, with the rows of all days."""
    days = {table: [day for day in made.world.days if made.store.has(table, day)] for table in TABLES}
    return {table: pl.concat([made.store.read(table, day) for day in days[table]], how="diagonal") for table in TABLES}


def assert_same(ours: Mapping[str, pl.DataFrame], theirs: Mapping[str, pl.DataFrame]) -> None:
    """Compare to the last bit."""
    for table in TABLES:
        assert ours[table].height
        assert_frame_equal(ours[table], theirs[table], check_exact=True)


def told(world: World, change: Callable[[dict[str, Any]], dict[str, Any]]) -> World:
    """Return a world in which every event is told otherwise."""
    files = {
        name: b"\n".join(json.dumps(change(json.loads(line))).encode() for line in data.split(b"\n")) for name, data in world.files.items()
    }
    return replace(world, files=files)


def written(world: World, change: Callable[[str], str]) -> World:
    """Return a world whose journeys.yaml, at any time, is written otherwise."""
    return replace(world, journeys=change(world.journeys), edited={day: change(text) for day, text in world.edited.items()})


@pytest.mark.parametrize("seed", [2])
def test_the_order_of_lines_files_and_shards_changes_nothing(seed: int, tmp_path: Path) -> None:
    """The lines of each day in another order, and customers decided a few at a time: the same tables, to the last bit."""
    world = small(seed)
    assert_same(tables(run(world, tmp_path)), tables(run(world.shuffled(Random(seed)), tmp_path, shard=5)))  # noqa: S311


def test_a_run_of_many_days_is_as_many_runs_of_one(tmp_path: Path) -> None:
    """Windows that are kept from day to day or read again: the same tables, however long a run is."""
    world = small(3)
    made = run(world, tmp_path)
    store, landed, loaded = Memory(), LandingZone(root=str(world.write(tmp_path))).read, portfolios(world, tmp_path)
    for day in world.days:
        Course(store, loaded[day], landed, shard=64).run(day)
    assert_same(tables(made), tables(Made(world, store, loaded)))


# --- Names -----------------------------------------------------------------------------------------------------------


def lots(portfolio: Portfolio) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Return what is drawn from a name: a salt, and the buckets at which something else comes out."""
    yield portfolio.version, (round(portfolio.policy.holdout * 10_000),)
    for journey in portfolio.journeys:
        salt = journey.id if journey.holdout_version is None else f"{journey.id}:{journey.holdout_version}"
        yield salt, (round(journey.holdout * 10_000),)
        shares = [share.share for share in journey.variants]
        yield f"variant:{journey.id}", tuple(round(sum(shares[: at + 1]) * 10_000) for at in range(len(shares)))


def drawn(names: list[str], portfolios_: Iterable[Portfolio]) -> list[tuple[int, ...]]:
    """Return all that is drawn from each name."""
    columns = []
    for salt, bounds in sorted({lot for portfolio in portfolios_ for lot in lots(portfolio)}):
        salted = pl.DataFrame({"salted": [f"{salt}:{name}" for name in names]})
        buckets = salted.select(polars_hash.col("salted").nchash.xxhash64() % 10_000).to_series().to_list()
        columns += [[bucket < bound for bucket in buckets] for bound in bounds]
    return list(zip(*columns, strict=True))


def namesakes(names: list[str], portfolios_: list[Portfolio], prefix: str = "") -> dict[str, str]:
    """Return another name for each, in the same order, from which the same is drawn: the name and the first number that fits."""
    new: dict[str, str] = {}
    for name, wanted in zip(names, drawn([prefix + name for name in names], portfolios_), strict=True):
        for start in count(0, 2_000):
            tried = [f"{name}-{number}" for number in range(start, start + 2_000)]
            outcomes = drawn([prefix + each for each in tried], portfolios_)
            if wanted in outcomes:
                new[name] = tried[outcomes.index(wanted)]
                break
    return new


def test_names_are_nothing_but_names(tmp_path: Path) -> None:
    """Everybody under another name, in the same order, with the same lots: the same tables, but for the names."""
    world = written(small(4), lambda text: re.sub(r"explore: [0-9.]+", "explore: 0.0", text))
    loaded = list(portfolios(world, tmp_path).values())
    users, visitors = ([f"{letter}{number:02}" for number in range(24)] for letter in "ua")
    new = namesakes(users, loaded) | namesakes(visitors, loaded, "anon:")
    ids = ("userId", "anonymousId", "previousId")
    renamed = told(world, lambda event: {name: new[value] if name in ids else value for name, value in event.items()})
    ours, theirs = tables(run(world, tmp_path)), tables(run(renamed, tmp_path))
    now = new | {f"anon:{name}": f"anon:{new[name]}" for name in visitors}
    people = ("customer_id", "known_as")
    for table, frame in ours.items():
        columns = [name for name in people if name in frame.columns]
        named = frame.with_columns(pl.col(name).replace_strict(now, default=pl.col(name)) for name in columns)
        assert frame.height
        assert_frame_equal(named, theirs[table], check_exact=True)


# --- Money -----------------------------------------------------------------------------------------------------------


def scaled(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event with ten times the money, which no rounding may touch."""
    properties = dict(event.get("properties", {}))
    if "revenue" in properties:
        value = 0.125 if properties["revenue"] == 0.1234567 else properties["revenue"]
        properties["revenue"] = value if value is None else round(float(value) * 10, 6)
    return {**event, "properties": properties} if properties else event


def rounded(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event whose money has few decimals."""
    if event.get("properties", {}).get("revenue") == 0.1234567:
        return {**event, "properties": {**event["properties"], "revenue": 0.125}}
    return event


def in_tenths(text: str) -> str:
    """Return journeys.yaml for ten times the money: every threshold and weight of it."""
    for plain, tenfold in (
        ("spend >= 12", "spend >= 120"),
        ("spend > 30", "spend > 300"),
        ("revenue > 20", "revenue > 200"),
        ("0.1 * spend", "0.01 * spend"),
        ("cost: 0.5", "cost: 5.0"),
    ):
        text = text.replace(plain, tenfold)
    return text


MONEY = re.compile(r"(revenue|money|goal_value|goal:.*:revenue)(_before|\.micro)?")
OF_MONEY = (
    "mean_treated",
    "mean_control",
    "effect",
    "effect_unadjusted",
    "std_error",
    "fixed_low",
    "fixed_high",
    "anytime_low",
    "anytime_high",
    "smallest_visible",
    "total",
    "total_low",
    "total_high",
    "net",
    "given_up",
)
"""What of an estimate is told in the metric's own unit."""


@pytest.mark.parametrize("seed", [6])
def test_ten_times_the_money_is_ten_times_the_money(seed: int, tmp_path: Path) -> None:
    """Cents instead of dimes: sums, effects and their intervals are ten times as large, and nothing else changes."""
    world = told(small(seed), rounded)
    ours, theirs = tables(run(world, tmp_path)), tables(run(written(told(world, scaled), in_tenths), tmp_path))
    for table, frame in ours.items():
        is_money = pl.col("metric").is_in(["revenue", "money", "goal_value"]) if table == "uplift" else pl.lit(value=True)
        names = [name for name in frame.columns if (name in OF_MONEY if table == "uplift" else MONEY.fullmatch(name))]
        tenfold = frame.with_columns(pl.when(is_money).then(pl.col(name) * 10).otherwise(pl.col(name)).alias(name) for name in names)
        left_out = [name for name in ("portfolio", "score", "propensity", "verdict_reason") if name in frame.columns]
        assert names
        assert_frame_equal(tenfold.drop(left_out), theirs[table].drop(left_out), rel_tol=1e-9, abs_tol=1e-9)


# --- What stands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0])
def test_what_was_delivered_leaves_the_entries_as_they_were(seed: int, tmp_path: Path) -> None:
    """A day decided again, of which some messages are out: its entries say what they said, of those who keep their row, too."""
    made = run(small(seed), tmp_path)
    for day in made.world.days[3::4]:
        before = made.store.read("journey_entries", day)
        decided = made.store.read("journey_assignments", day)
        random = Random(seed)  # noqa: S311
        sent = decided.filter(pl.Series([arm == "treated" and random.random() < 0.6 for arm in decided["arm"]], dtype=pl.Boolean))
        write_day(made.store, Decision(made.store, made.loaded[day], sent, shard=64), day)
        assert sent.height
        assert_frame_equal(made.store.read("journey_entries", day), before, check_exact=True)


# --- Erasure ---------------------------------------------------------------------------------------------------------

NAMES = ("customer_id", "known_as", "user_id", "anonymous_id", "previous_id", "id")


def erase(store: Memory, names: set[str]) -> None:
    """Take every row about a person out of every table, as an erasure does."""
    for table in [table for table, days in store._frames.items() if days]:
        for day in store.days(table):
            frame = store.read(table, day)
            is_theirs = pl.any_horizontal(pl.lit(value=False), *(pl.col(name).is_in(names) for name in NAMES if name in frame.columns))
            store._frames[table][day] = frame.filter(~is_theirs.fill_null(value=False))


def test_an_erased_customer_leaves_and_nobody_else_does(tmp_path: Path) -> None:
    """From that day on there is nothing of theirs in either arm, and everybody else's rows are what they would have been."""
    world = small(4)
    whole, made = run(world, tmp_path), run(replace(world, days=world.days[:5]), tmp_path)
    others = b"".join(line for data in world.files.values() for line in data.split(b"\n") if b"previousId" in line)
    place = next(name[-2:] for name in tables(made)["journey_outcomes"]["customer_id"].sort() if name[-2:].encode() not in others)
    names = {f"u{place}", f"a{place}", f"anon:a{place}"}
    erase(made.store, names)
    kept = {
        name: b"\n".join(line for line in data.split(b"\n") if names.isdisjoint(map(str, json.loads(line).values())))
        for name, data in world.files.items()
    }
    landed = LandingZone(root=str(replace(world, files=kept).write(tmp_path))).read
    course = Course(made.store, whole.loaded[world.days[4]], landed, shard=64)
    for day in world.days[5:]:
        if whole.loaded[day] is not course.ingestion.portfolio:
            course = Course(made.store, whole.loaded[day], landed, shard=64)
        course.run(day)
    after = Made(world, made.store, whole.loaded)
    ours, theirs = tables(whole), tables(after)
    for table in ("customer_metrics", "journey_entries", "journey_outcomes", "long_outcomes"):
        assert_frame_equal(ours[table].filter(~pl.col("customer_id").is_in(names)), theirs[table], check_exact=True)
    assert not disagreements(after.rows("uplift", world.days[-1]), report(after, world.days[-1]))
