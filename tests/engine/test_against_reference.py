"""The engine against the reference: the same tables, whatever the portfolio and whatever arrives."""

import copy
import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.customers import profiles
from atc_pipeline.days.customers import Activity
from atc_pipeline.days.step import write_day
from atc_pipeline.decision.memory import no_state
from atc_pipeline.decision.tables import JOURNEY_QUEUES
from atc_pipeline.events.tables import RAW_EVENTS
from atc_pipeline.identity.tables import IDENTITY_MAP
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from resources.storage.memory import Memory
from tests.engine import reference
from tests.engine.by_engine import SHARD, decide_by_engine, run_engine
from tests.engine.comparison import KEYS, compare, placements, placements_by_day
from tests.engine.worlds import DAY, Crowd, World, cases, decision_worlds, draw, reachable_worlds, to_yaml, worlds

pytestmark = pytest.mark.slow


def load(world: World, folder: Path) -> dict[date, Portfolio]:
    """Load the world's portfolio and its later versions, by the day from which they hold."""
    return {day: load_portfolio(path) for day, path in world.write_journeys(folder).items()}


@cases(6, 10)
def test_every_table_is_the_references(case: int, is_limited: bool, tmp_path: Path) -> None:
    """Portfolios, histories and bad input at random: each table of each day is what SPEC says, row by row."""

    def check(world: World, _: Random) -> None:
        landing, loaded = world.write(tmp_path), load(world, tmp_path)
        first = loaded[world.days[0]]
        engine = run_engine(landing, first, world.days, loaded)
        compare(engine, reference.run(landing, first, world.days, loaded, placements_by_day(engine["journey_assignments"], world.days)))

    draw(case, worlds(is_limited=is_limited), check)


@pytest.mark.parametrize("case", range(8))
def test_addresses_are_the_references(case: int, tmp_path: Path) -> None:
    """Addresses that change, are late and bounce, of customers who become one: each profile of each day is what SPEC says."""

    def check(world: World, _: Random) -> None:
        landing, loaded = world.write(tmp_path), load(world, tmp_path)
        first = loaded[world.days[0]]
        engine = run_engine(landing, first, world.days, loaded)
        compare(engine, reference.run(landing, first, world.days, loaded, placements_by_day(engine["journey_assignments"], world.days)))

    draw(case, reachable_worlds(), check)


class Twins:
    """The engine and the reference, who decide the same days and have to agree on each; both remember.

    The engine remembers in a store, as it always does; who is who, and who is queued for what, is told to both.
    """

    def __init__(self, crowd: Crowd, happened: Sequence[reference.Row], shard: int = SHARD) -> None:
        self.crowd, self.shard = crowd, shard
        self.happened = happened
        self.store, self.memory = Memory(), reference.Memory()
        self.sent: list[reference.Row] = []
        self.arrived: set[date] = set()

    def arrive(self, portfolio: Portfolio, day: date) -> None:
        """Write, once, what arrived on a day, who is who by then, and the day's rollup."""
        if day in self.arrived:
            return
        self.arrived.add(day)
        arrived = [event for event in self.happened if event["date"] == day]
        self.store.write("raw_events", day, pl.DataFrame(arrived, RAW_EVENTS.schema))
        self.store.write("identity_map", day, pl.DataFrame(reference.identity_map(self.happened, day), IDENTITY_MAP.schema))
        write_day(self.store, Activity(self.store, portfolio), day)

    def by_engine(
        self, people: pl.DataFrame, queued: pl.DataFrame, portfolio: Portfolio, day: date, delivered: pl.DataFrame | None = None
    ) -> dict[str, pl.DataFrame]:
        """Decide a day by the engine alone."""
        self.arrive(portfolio, day)
        self.store.write("customer_profiles", day, people)
        self.store.write("journey_queues", day, queued)
        return decide_by_engine(self.store, portfolio, day, delivered, self.shard)

    def gone(self, day: date) -> dict[str, str]:
        """Return who is somebody else by now, and who: the map is the reference's, it is not in question here."""
        return reference.survivors(self.happened, day)

    def drawn(
        self, portfolio: Portfolio, day: date, queued: list[reference.Row] | None = None
    ) -> tuple[list[reference.Row], list[reference.Row]]:
        """Return the profiles and queues of those who are there on a day."""
        gone = self.gone(day)
        people = self.crowd.profiles(portfolio, day, gone)
        return people, self.crowd.queues(portfolio, day, gone) if queued is None else queued

    def decide(
        self, portfolio: Portfolio, day: date, delivered: pl.DataFrame | None = None, queued: list[reference.Row] | None = None
    ) -> dict[str, pl.DataFrame]:
        """Decide a day for the crowd by both, compare, remember, and return the engine's tables."""
        people, queued = self.drawn(portfolio, day, queued)
        people_frame, queue_frame = pl.DataFrame(people, profiles.table_schema(portfolio)), pl.DataFrame(queued, JOURNEY_QUEUES.schema)
        engine = self.by_engine(people_frame, queue_frame, portfolio, day, delivered)
        rows = [] if delivered is None else delivered.to_dicts()
        entered, gone = placements(engine["journey_assignments"]), self.gone(day)
        earlier = [{**row, "customer_id": gone.get(row["customer_id"], row["customer_id"])} for row in self.sent]
        expected = reference.decide_day(self.memory, self.happened, people, queued, portfolio, day, rows, entered, earlier)
        compare(engine, expected)
        self.sent += expected["outbound_messages"]
        return engine


@cases(6, 12)
def test_every_decision_is_the_references(case: int, is_limited: bool, tmp_path: Path) -> None:
    """Customers who are queued for anything, whatever their profile says: every ruling, placement, score, memory and message."""

    def check(world: World, random: Random) -> None:
        loaded, crowd = load(world, tmp_path), Crowd.drawn(random) if is_limited else Crowd(random)
        twins, portfolio = Twins(crowd, crowd.events(world.days) + crowd.aliases(world.days)), loaded[world.days[0]]
        for day in world.days:
            portfolio = loaded.get(day, portfolio)
            twins.decide(portfolio, day)

    draw(case, decision_worlds(is_limited=is_limited), check)


@cases(1, 2)
def test_every_decision_of_a_month_is_the_references(case: int, is_limited: bool, tmp_path: Path) -> None:
    """Journeys are removed, paused, shortened, lengthened, drafted and revived on the way, with customers in them."""

    def check(world: World, random: Random) -> None:
        loaded, crowd = load(world, tmp_path), Crowd(random, size=8)
        twins, portfolio = Twins(crowd, crowd.events(world.days) + crowd.aliases(world.days)), loaded[world.days[0]]
        for day in world.days:
            portfolio = loaded.get(day, portfolio)
            twins.decide(portfolio, day)

    draw(case, decision_worlds(30, is_limited=is_limited), check)


@cases(4, 8)
def test_what_was_delivered_stays_when_days_are_decided_again(case: int, is_limited: bool, tmp_path: Path) -> None:
    """Three days anew, with other profiles, queues, goals, merges and an edited portfolio: who was sent something keeps the day's row.

    From the second of them on, the day before may have left customers elsewhere than their delivered row says.
    """

    def check(world: World, random: Random) -> None:
        loaded, crowd = load(world, tmp_path), Crowd(random)
        days = world.days[:5]
        twins = Twins(crowd, crowd.events(days) + crowd.aliases(days))
        decided, remembered = {}, {}
        for day in days:
            remembered[day] = copy.deepcopy(twins.memory)
            decided[day] = twins.decide(loaded[days[0]], day)["journey_assignments"]
        late = crowd.aliases(days[1:])  # one that arrived on a day before those made again would have had that day made again, too
        again = Twins(crowd, [*twins.happened, *crowd.events(days), *late])
        again.store, again.memory = twins.store, remembered[days[2]]
        again.sent = [row for row in twins.sent if row["date"] < days[2]]
        for day in days[:2]:
            again.arrive(loaded[days[0]], day)
        for day in days[2:]:
            is_sent = [row["arm"] == "treated" and random.random() < 0.6 for row in decided[day].iter_rows(named=True)]
            sent = decided[day].filter(pl.Series(is_sent, dtype=pl.Boolean))
            rows = again.decide(loaded[max(loaded)], day, sent)["journey_assignments"]
            if day == days[2] and not loaded.keys() - {days[0]} and not late:
                stands = sent.with_columns(stands=pl.lit(value=True))
                assert_frame_equal(rows.join(sent, on="customer_id", how="semi"), stands, check_exact=True)

    draw(case, decision_worlds(is_limited=is_limited), check)


@cases(1, 2)
def test_the_order_of_rows_changes_no_decision(case: int, is_limited: bool, tmp_path: Path) -> None:
    """Customers, queues and memory in another order: the same tables, to the last bit, whoever else would have done for a place."""

    def check(world: World, random: Random) -> None:
        loaded, crowd = load(world, tmp_path), Crowd(random)
        twins, portfolio = Twins(crowd, crowd.events(world.days) + crowd.aliases(world.days)), loaded[world.days[0]]
        for day in world.days:
            portfolio = loaded.get(day, portfolio)
            drawn = twins.drawn(portfolio, day)
            people = pl.DataFrame(drawn[0], profiles.table_schema(portfolio))
            queued = pl.DataFrame(drawn[1], JOURNEY_QUEUES.schema)
            ours = twins.by_engine(people, queued, portfolio, day)
            if day != world.days[0]:
                key = ("journey_state", day - DAY)
                shuffled = twins.store.read(*key).sample(fraction=1, shuffle=True, seed=case)
                twins.store.write(*key, shuffled, twins.store.definitions(*key))
            theirs = twins.by_engine(people.reverse(), queued.sample(fraction=1, shuffle=True, seed=case), portfolio, day)
            for table, frame in ours.items():
                assert_frame_equal(frame, theirs[table], check_exact=True)

    draw(case, decision_worlds(is_limited=is_limited), check)


@cases(2, 2)
def test_the_order_of_files_and_lines_changes_nothing(case: int, is_limited: bool, tmp_path: Path) -> None:
    """The same lines of a day in other files and another order: the same tables, apart from where a line was read."""

    def check(world: World, random: Random) -> None:
        tables = []
        for name, one in (("as_drawn", world), ("shuffled", world.shuffled(random))):
            (tmp_path / name).mkdir(exist_ok=True)
            loaded = load(one, tmp_path / name)
            tables.append(run_engine(one.write(tmp_path / name), loaded[one.days[0]], one.days, loaded))
        for table in KEYS.keys() - {"rejected_events"}:
            ours, theirs = (each[table].drop("source_file", "line", strict=False) for each in tables)
            assert_frame_equal(ours, theirs, check_exact=True)

    draw(case, worlds(is_limited=is_limited), check)


def portfolio_of(folder: Path, journeys: Mapping[str, Mapping[str, Any]], **policy: Any) -> Portfolio:
    """Return a portfolio of these journeys, which score what they are worth."""
    document = {
        "version": "1",
        "calendar": {"timezone": "UTC", "starts_on": date(2026, 1, 1)},
        "journeys": [{"id": name, "length_days": 1, "queue": {"where": "true"}, **journey} for name, journey in journeys.items()],
        "policy": {"score": "value", **policy},
    }
    path = folder / "journeys.yaml"
    path.write_text(to_yaml(document))
    return load_portfolio(path)


def test_options_are_chosen_as_often_as_their_stored_probability_says(tmp_path: Path) -> None:
    """Of customers with the same options each is drawn with the frequency stored beside it, within five standard deviations.

    Ids and days are fixed, and so are the draws: this holds or it does not.
    """
    portfolio = portfolio_of(tmp_path, {"a": {"value": 1}, "b": {"value": 3}, "c": {"value": 2}}, explore=0.4)
    twins = Twins(Crowd(Random(1), size=3_000), [], shard=1_000)  # noqa: S311  # no secrets here
    drawn = []
    for day in (date(2026, 1, 1), date(2026, 1, 2)):
        people = pl.DataFrame(twins.crowd.profiles(portfolio, day), profiles.table_schema(portfolio))
        queued = pl.DataFrame(twins.crowd.queues(portfolio, day), JOURNEY_QUEUES.schema)
        options = queued.group_by("customer_id").agg(pl.col("journey_id").sort().str.join("").alias("queued"))
        chosen = twins.by_engine(people, queued, portfolio, day)["journey_assignments"]
        drawn.append(chosen.join(options, on="customer_id").select("queued", "journey_id", "selection_probability"))
        twins.store.write("journey_state", day, no_state())  # tomorrow they are new again
    cells = pl.concat(drawn).group_by("queued", "journey_id").agg(pl.len(), pl.col("selection_probability").unique())
    for (queued_for,), group in cells.group_by("queued"):
        everybody = group["len"].sum()
        assert group["journey_id"].sort().str.join("").item() == queued_for
        assert group["selection_probability"].explode().sum() == pytest.approx(1)
        for count, (probability,) in group.select("len", "selection_probability").iter_rows():
            deviation = math.sqrt(probability * (1 - probability) / everybody)
            assert count / everybody == pytest.approx(probability, abs=5 * deviation + 1e-9)


def test_a_pressure_rule_lets_three_start_in_any_fourteen_days_and_the_first_three_win(tmp_path: Path) -> None:
    """Adobe's rule over 60 days: whoever wants starts until there are three, and is held until the first of them is 14 days ago.

    A better journey comes up every fifth day: no place is kept for it.
    """
    again = {"reentry": {"after_days": 0}}
    portfolio = portfolio_of(tmp_path, {"daily": again, "special": {**again, "value": 9}}, cap={"days": 14, "starts": "3"})
    random = Random(1)  # noqa: S311  # no secrets here
    twins = Twins(Crowd(random, size=8), [])
    starts: dict[str, list[int]] = {customer: [] for customer in twins.crowd.customers}
    for number in range(60):
        day = date(2026, 1, 1) + number * timedelta(days=1)
        wants = [who for index, who in enumerate(starts) if random.random() < 1 - index / len(starts)]
        offered = ["daily", "special"] if number % 5 == 4 else ["daily"]
        place = {"date": day, "queued_on": day, "waiting_days": 0}
        queued = [{**place, "journey_id": name, "customer_id": who} for name in offered for who in wants]
        started = placements(twins.decide(portfolio, day, queued=queued)["journey_assignments"])
        expected = {who: offered[-1] for who in wants if sum(number - 14 < earlier for earlier in starts[who]) < 3}
        assert started == expected
        for who in started:
            starts[who].append(number)
    assert starts["c00"] == [first + more for first in range(0, 60, 14) for more in range(3)]
    for mine in starts.values():
        assert max(sum(first <= one < first + 14 for one in mine) for first in range(60)) == 3


def test_five_cents_are_five_cents_whoever_else_is_there(tmp_path: Path) -> None:
    """Sums are exact: Polars divides more than one row by a constant as a product with its inverse, which is not."""
    day = date(2026, 1, 1)
    journeys = {
        "version": "1",
        "calendar": {"timezone": "UTC", "starts_on": day},
        "traits": {"spend": {"sum": "revenue", "of": "Order Completed"}, "average": {"avg": "revenue", "of": "Order Completed"}},
        "segments": {"five": "spend >= 0.05 and average >= 0.05"},
    }
    event = {"type": "track", "event": "Order Completed", "timestamp": f"{day}T10:00:00Z", "properties": {"revenue": 0.05}}
    lines = [json.dumps({**event, "messageId": f"m{number}", "userId": f"u{number}"}) for number in range(6)]
    world = World(to_yaml(journeys), {}, (day,), {f"{day}/events.ndjson": "\n".join(lines).encode()})
    landing, loaded = world.write(tmp_path), load(world, tmp_path)
    engine = run_engine(landing, loaded[day], world.days, loaded)
    assert engine["customer_profiles"].select("spend", "average").unique().rows() == [(0.05, 0.05)]
    compare(engine, reference.run(landing, loaded[day], world.days, loaded))
