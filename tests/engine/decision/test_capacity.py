"""The optimum over the whole population: against every possible allocation, against HiGHS, its prices, and its proof.

What belongs here: wishes and places as frames. What does not: where they come from and what becomes of those squeezed out.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

import highspy
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.decision import capacity
from atc_pipeline.decision.capacity import Allocation, allocate

WISHES = {
    "customer": pl.UInt32(),
    "journey": pl.UInt16(),
    "mandatory": pl.Boolean(),
    "score": pl.Float64(),
    "fallback_score": pl.Float64(),
    "rank": pl.Int64(),
}
Total = tuple[int, int, int]
"""Mandatory placements, their score, and all gains, in micro-units."""


@dataclass(frozen=True)
class Wish:
    """One eligible option of a customer."""

    customer: int
    journey: int
    score: float
    rank: int
    mandatory: bool = False
    fallback_score: float = 0.0

    @property
    def worth(self) -> Total:
        """What granting it adds to the three aims."""
        score, fallback = round(self.score * 1e6), round(self.fallback_score * 1e6)
        return int(self.mandatory), score if self.mandatory else 0, score - fallback


@dataclass(frozen=True)
class Case:
    """Wishes, and the places of the limited journeys."""

    wishes: tuple[Wish, ...]
    places: Mapping[int, int]

    def allocate(self, random: Random | None = None) -> Allocation:
        """Allocate, with rows in random order if asked to."""
        wishes, places = list(self.wishes), list(self.places.items())
        if random:
            random.shuffle(wishes)
            random.shuffle(places)
        return allocate(
            pl.DataFrame([vars(wish) for wish in wishes], schema=WISHES),
            pl.DataFrame(places, schema={"journey": pl.UInt16, "places": pl.Int64}, orient="row"),
        )

    def granted(self, allocation: Allocation) -> list[Wish]:
        """Return the wishes granted; no customer holds two, nobody holds what nobody wished."""
        wishes = {(wish.customer, wish.journey): wish for wish in self.wishes}
        rows = allocation.granted.rows()
        assert len({customer for customer, _ in rows}) == len(rows)
        return [wishes[row] for row in rows]

    def by_customer(self) -> dict[int, list[Wish]]:
        """Return each customer's wishes, favourite first."""
        wishes: dict[int, list[Wish]] = {}
        for wish in sorted(self.wishes, key=lambda wish: (wish.customer, wish.rank)):
            wishes.setdefault(wish.customer, []).append(wish)
        return wishes


def total(wishes: list[Wish]) -> Total:
    """Add up what wishes are worth."""
    mandatory, score, gain = np.sum([(0, 0, 0), *(wish.worth for wish in wishes)], axis=0)
    return int(mandatory), int(score), int(gain)


def best_of_all(case: Case) -> tuple[Total, int]:
    """Return the optimum and its least sum of ranks, by trying every allocation there is."""
    customers = list(case.by_customer().values())
    best: list[tuple[Total, int]] = []
    for choice in product(*([*wishes, None] for wishes in customers)):
        chosen = [wish for wish in choice if wish]
        taken = Counter(wish.journey for wish in chosen)
        if all(taken[journey] <= places for journey, places in case.places.items()):
            best.append((total(chosen), -ranks(customers, chosen)))
    return max(best)


def ranks(customers: list[list[Wish]], granted: list[Wish]) -> int:
    """Add up the ranks of what everybody got, nothing ranking last."""
    got = {wish.customer: wish.rank for wish in granted}
    return sum(got.get(wishes[0].customer, wishes[-1].rank + 1) for wishes in customers)


def best_of_highs(case: Case) -> Total:
    """Return the optimum as HiGHS finds it, one aim after the other."""
    wishes = case.wishes
    solver = highspy.Highs()
    solver.silent()
    held = solver.addBinaries(len(wishes))
    for groups, most in (
        ([(wish.customer, 1) for wish in wishes], 1),
        ([(wish.journey, case.places.get(wish.journey, len(wishes))) for wish in wishes], 0),
    ):
        members: dict[tuple[int, int], list[int]] = {}
        for number, group in enumerate(groups):
            members.setdefault(group, []).append(number)
        for (_, limit), numbers in members.items():
            solver.addConstr(solver.qsum(held[number] for number in numbers) <= (most or limit))
    best = []
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("mip_abs_gap", 0.5)
    for aim in np.reshape([wish.worth for wish in wishes], (-1, 3)).T.tolist():
        if not any(aim):
            best.append(0)
            continue
        value = solver.qsum(weight * held[number] for number, weight in enumerate(aim) if weight)
        solver.maximize(value)
        got = np.rint(solver.getSolution().col_value).astype(int)
        best.append(sum(weight for weight, is_held in zip(aim, got, strict=True) if is_held))
        solver.addConstr(value >= best[-1] - 0.5)
    return best[0], best[1], best[2]


@st.composite
def cases(draw: Callable[..., Any]) -> Case:
    """Draw a few customers who want the same few journeys: ties, twins, no places, mandatory wishes of all sorts."""
    journeys = range(draw(st.integers(1, 4)))
    unit = draw(st.sampled_from([1.0, 1e-6, 0.37, 1e4, 3e8]))  # the last one does not fit into one weight
    is_mandatory = draw(st.sampled_from([st.just(value=False), st.booleans()]))
    scores = st.one_of(st.integers(-2, 5), st.floats(0, 5))
    wishes: list[Wish] = []
    for customer in range(draw(st.integers(0, 5))):
        fallback = unit * draw(st.integers(-2, 4))
        options = [
            (journey, unit * draw(scores), draw(is_mandatory))
            for journey in draw(st.lists(st.sampled_from(journeys), min_size=1, max_size=4, unique=True))
        ]
        if draw(st.booleans()):  # ranked as the engine does; the rest shows that nothing relies on it
            options.sort(key=lambda option: (not option[2], -option[1]))
        wishes += [
            Wish(customer * 7, journey, score, rank, mandatory, fallback)
            for rank, (journey, score, mandatory) in enumerate(options, start=1)
        ]
    return Case(tuple(wishes), draw(st.dictionaries(st.sampled_from(journeys), st.integers(0, 4))))


def crowd(random: Random, customers: int, journeys: int, *, mandatory: int, kind: str) -> Case:
    """Make up many customers who want more than there is, the first few journeys being mandatory."""
    wishes = []
    for customer in range(customers):
        level, options = random.lognormvariate(0, 1), []
        for journey in random.sample(range(journeys), random.randint(1, min(6, journeys))):
            score = {"ties": random.randint(1, 5), "continuous": random.random(), "same": level, "captive": 50 + random.random()}[kind]
            options.append((journey >= mandatory, -round(score * 1e-3, 6), journey))
        fallback = random.choice([0.0, 0.0, 0.001])
        wishes += [
            Wish(customer, journey, -score, rank, not is_optional, fallback)
            for rank, (is_optional, score, journey) in enumerate(sorted(options))
        ]
    return Case(tuple(wishes), {journey: random.randint(0, customers // journeys) for journey in range(journeys)})


@given(cases(), st.randoms(use_true_random=False))
def test_nothing_better_exists(case: Case, random: Random) -> None:
    """Of all allocations within the limits it is one of the best, whatever the order of rows."""
    allocation = case.allocate(random)
    granted = case.granted(allocation)
    customers = list(case.by_customer().values())
    assert (total(granted), -ranks(customers, granted)) == best_of_all(case)
    again = case.allocate()
    assert again.granted.equals(allocation.granted)
    assert again.journeys.equals(allocation.journeys)


@pytest.mark.slow
@given(cases())
def test_journeys_are_accounted_for(case: Case) -> None:
    """Each limited journey has its places, its first wishes, what it gave out, and the worth of a place more."""
    allocation = case.allocate()
    granted = case.granted(allocation)
    taken = Counter(wish.journey for wish in granted)
    wanted = Counter(wishes[0].journey for wishes in case.by_customer().values())
    assert allocation.journeys.schema == {
        "journey": pl.UInt16,
        "places": pl.Int64,
        "wanted": pl.Int64,
        "taken": pl.Int64,
        "price": pl.Float64,
    }
    assert allocation.journeys["journey"].to_list() == sorted(case.places)
    for row in allocation.journeys.iter_rows(named=True):
        journey, places = row["journey"], case.places[row["journey"]]
        with_one_more = Case(case.wishes, {**case.places, journey: places + 1})
        worth = total(with_one_more.granted(with_one_more.allocate()))[2] - total(granted)[2]
        assert row == {
            "journey": journey,
            "places": places,
            "wanted": wanted[journey],
            "taken": taken[journey],
            "price": worth / 1e6,
        }


@pytest.mark.slow
@pytest.mark.parametrize("mandatory", [0, 2])
@pytest.mark.parametrize("kind", ["ties", "continuous", "same", "captive"])
def test_highs_finds_nothing_better(kind: str, mandatory: int) -> None:
    """On cases too large to try everything, the three aims are those HiGHS reaches."""
    for seed in range(25):
        random = Random(seed)  # noqa: S311
        case = crowd(random, random.randint(1, 80), random.randint(1, 8), mandatory=mandatory, kind=kind)
        granted = case.granted(case.allocate(random))
        assert total(granted) == best_of_highs(case), seed
        taken = Counter(wish.journey for wish in granted)
        assert all(taken[journey] <= places for journey, places in case.places.items())


@pytest.mark.slow
@pytest.mark.parametrize("mandatory", [0, 3])
@pytest.mark.parametrize("kind", ["ties", "continuous"])
def test_highs_finds_nothing_better_for_5000_customers_and_30_journeys(kind: str, mandatory: int) -> None:
    """The same for a small business' whole day."""
    case = crowd(Random(3), 5_000, 30, mandatory=mandatory, kind=kind)  # noqa: S311
    assert total(case.granted(case.allocate())) == best_of_highs(case)


@pytest.mark.parametrize("kind", ["ties", "continuous", "same", "captive"])
def test_paths_alone_reach_the_optimum(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the auction gives up at once, and only a few may leave a journey before it is looked at again, nothing changes."""
    case = crowd(Random(5), 400, 6, mandatory=1, kind=kind)  # noqa: S311
    expected = total(case.granted(case.allocate()))
    monkeypatch.setattr(capacity, "WORTHWHILE", 1)
    monkeypatch.setattr(capacity, "LEAVE_AT_ONCE", 2)
    assert total(case.granted(case.allocate())) == expected


def test_who_loses_least_by_it_takes_the_second_best() -> None:
    """One place is wanted by two, and goes to the one whose next wish is further below, not to the higher score."""
    wishes = (Wish(1, 1, 9.0, 1), Wish(1, 2, 8.5, 2), Wish(2, 1, 5.0, 1), Wish(2, 2, 2.0, 2))
    allocation = Case(wishes, {1: 1}).allocate()
    assert allocation.granted.rows() == [(1, 2), (2, 1)]
    assert allocation.journeys.rows() == [(1, 1, 2, 1, 0.5)]


def test_mandatory_placements_come_before_any_score() -> None:
    """A mandatory wish with a low score takes the place, and the price says what a place for the other one is worth."""
    wishes = (Wish(1, 1, 0.5, 1, mandatory=True), Wish(2, 1, 90.0, 1))
    allocation = Case(wishes, {1: 1}).allocate()
    assert allocation.granted.rows() == [(1, 1)]
    assert allocation.journeys.rows() == [(1, 1, 2, 1, 90.0)]


def test_the_price_of_a_mandatory_place_can_be_negative() -> None:
    """A mandatory journey takes a customer from better things; one more place in it would take another one."""
    wishes = tuple(Wish(customer, 1, 1.0, 1, mandatory=True, fallback_score=3.0) for customer in (1, 2))
    assert Case(wishes, {1: 1}).allocate().journeys.rows() == [(1, 1, 2, 1, -2.0)]


def test_a_wish_that_gains_nothing_is_granted_while_there_is_room() -> None:
    """At equal score the customer's own order decides, and having nothing comes last; only a loss is refused."""
    wishes = (Wish(1, 1, 2.0, 1, fallback_score=2.0), Wish(2, 1, 1.0, 1), Wish(2, 2, 1.0, 2), Wish(3, 1, 1.0, 1, fallback_score=2.0))
    assert Case(wishes, {1: 3, 2: 1}).allocate().granted.rows() == [(1, 1), (2, 1)]


def test_nobody_and_nothing_limited() -> None:
    """Empty tables give empty tables, and without limits everybody gets what is best."""
    assert Case((), {}).allocate().granted.is_empty()
    assert Case((), {4: 2}).allocate().journeys.rows() == [(4, 2, 0, 0, 0.0)]
    assert Case((Wish(1, 1, 2.0, 2), Wish(1, 2, 3.0, 1)), {}).allocate().granted.rows() == [(1, 2)]


def test_scores_beyond_a_billion_count_as_that() -> None:
    """The largest numbers there are do no harm: they tie."""
    wishes = (Wish(1, 1, 1e300, 1), Wish(2, 1, 1e200, 1), Wish(3, 1, -1e300, 1, mandatory=True, fallback_score=1e300))
    assert Case(wishes, {1: 2}).allocate().granted.height == 2
    assert (3, 1) in Case(wishes, {1: 2}).allocate().granted.rows()


@pytest.mark.parametrize("held", [[0, 1], [-1, -1], [-1, 1]])
def test_the_proof_refuses_what_is_not_an_optimum(held: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """More than fit, a place left empty, and the place given to the wrong one are all found before anybody hears of it."""
    case = Case((Wish(1, 1, 9.0, 1), Wish(2, 1, 5.0, 1)), {1: 1})
    assert case.allocate().granted.rows() == [(1, 1)]
    monkeypatch.setattr(capacity, "_choose", lambda *_, **__: np.array(held))
    with pytest.raises(AssertionError, match="not given out in the best way"):
        case.allocate()
