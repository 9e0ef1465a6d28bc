"""The registry of gates: every gate has its test and fits its bits, and nothing wraps where numbers are packed.

What belongs here: registry and limits. What does not: when a gate is shut (``test_against_reference``), and its words (``explanation``).
"""

import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from atc_pipeline.decision import capacity, catalogue, choice, decide, gates, memory, options, queues
from atc_pipeline.decision.gates import BITS, GATES, LOSSES, REGISTRY, RULINGS, Gate, require_room
from atc_pipeline.decision.tables import JOURNEY_FUNNEL, SCORED_CANDIDATES
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.rules.limits import LimitError, require_fits

TODAY = date(2026, 6, 3)


@pytest.mark.parametrize(("needs", "module"), [("journey", catalogue), ("today", options), ("memory", memory)])
def test_every_gate_is_tested_where_its_facts_are_known(needs: gates.Needs, module: Any) -> None:
    """A gate without a test, and a test without a gate, are mistakes."""
    assert tuple(module.TESTS) == gates.needing(needs)


def test_every_gate_has_a_column_in_the_funnel_and_a_meaning() -> None:
    """Whoever is turned away is counted under the name of the gate, in the order tested."""
    assert [name for name in JOURNEY_FUNNEL.schema if name in RULINGS] == [*RULINGS[1:], "chosen"]
    assert set(gates.MEANINGS) == set(RULINGS) - {"chosen"}
    assert len(set(gates.MEANINGS.values())) == len(gates.MEANINGS)


MORE = Gate("full_moon", "memory", "The moon was full")


def bits_for(number: int) -> int:
    """Return how many bits so many gates and their rulings take, "chosen" being ruling 0."""
    return number + (number + len(LOSSES)).bit_length()


FITTING = max(number for number in range(BITS) if bits_for(number) <= BITS)
BEYOND = tuple(replace(MORE, name=f"moon_{number}") for number in range(FITTING + 1 - len(REGISTRY)))
TOO_MANY = (
    f"bits for {FITTING + 1} gates and {FITTING + 5} rulings: {bits_for(FITTING + 1)}, and at most {BITS} fit; "
    f"to have more, widen BITS in atc_pipeline/decision/gates.py to {bits_for(FITTING + 1)}"
)


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        ((*REGISTRY, *BEYOND), TOO_MANY),
        ((*REGISTRY[:-1], replace(MORE, name="link")), "a name of its own"),
        ((*REGISTRY[:-1], replace(MORE, name="chosen")), "a name of its own"),
        ((*REGISTRY[:-1], replace(MORE, needs="today")), "after all others"),
    ],
    ids=["too many", "twice", "a ruling", "order"],
)
def test_a_registry_that_would_rule_wrongly_is_refused(registry: tuple[Gate, ...], message: str) -> None:
    """More than fit the bits, a name that says two things, and gates that need memory before those that do not."""
    require_room((*REGISTRY, *BEYOND)[:FITTING], BITS)
    with pytest.raises((LimitError, ValueError), match=message):
        require_room(registry, BITS)


def spelt_wrongly(module: ModuleType, names: tuple[str, ...], others: tuple[str, ...]) -> list[int]:
    """Return the combinations of gates that ``choice`` rules or spells otherwise than one reads them off the bits."""
    every = np.arange(2 ** len(names)).astype(module.PACKED)
    spelt = choice.failed_gates(SimpleNamespace(ruling=choice.FIRST_GATE[every]), SimpleNamespace(failed=every))  # type: ignore[arg-type]
    expected = [[name for place, name in enumerate(names) if bits >> place & 1] for bits in range(len(every))]
    rulings = ("chosen", *names, *others)
    firsts = [rulings.index(failed[0]) if failed else 0 for failed in expected]
    return [bits for bits in range(len(every)) if spelt[bits].to_list() != expected[bits] or choice.FIRST_GATE[bits] != firsts[bits]]


def test_all_combinations_of_gates_are_ruled_and_spelt_as_they_are() -> None:
    """The first gate failed is the ruling, and all are named; who fails none is named by how it lost."""
    others = tuple(LOSSES)
    assert spelt_wrongly(gates, GATES, others) == []
    lost = SimpleNamespace(ruling=np.array([RULINGS.index(name) for name in ("chosen", *others)], np.uint8))
    named = choice.failed_gates(lost, SimpleNamespace(failed=np.zeros(4, gates.PACKED)))  # type: ignore[arg-type]
    assert named.to_list() == [[], *([name] for name in others)]


def imported(name: str, source: str, then: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Import a module as if its source were another one, and run what comes ``then``, in which it is ``module``."""
    edited = folder / "edited.py"
    edited.write_text(source)
    script = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location({name!r}, {str(edited)!r})\n"
        f"sys.modules[{name!r}] = module = importlib.util.module_from_spec(spec)\n"
        f"spec.loader.exec_module(module)\n{then}"
    )
    # Without bytecode, which Python knows again by the second and the size of its source: two of the same second pass for one.
    return subprocess.run([sys.executable, "-B", "-c", script], check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_one_gate_more_than_fits_is_refused_at_import_and_works_when_its_bits_are_there(tmp_path: Path) -> None:
    """Nothing else has to change than what the message says."""
    end = ')\n"""Every gate,'
    source = Path(gates.__file__).read_text()
    assert end in source
    entries = "".join(f"    Gate({gate.name!r}, 'memory', 'x'),\n" for gate in BEYOND)
    more = source.replace(end, f"{entries}{end}")
    then = (
        "from tests.engine.decision.test_gates import spelt_wrongly\n"
        f"assert len(module.GATES) == {FITTING + 1}\n"
        "assert spelt_wrongly(module, module.GATES, tuple(module.LOSSES)) == []\n"
    )
    refused = imported(gates.__name__, more, then, tmp_path)
    assert refused.returncode == 1
    assert f"LimitError: {TOO_MANY}" in refused.stderr
    wider = more.replace(f"\nBITS = {BITS}\n", f"\nBITS = {bits_for(FITTING + 1)}\n")
    widened = imported(gates.__name__, wider, then, tmp_path)
    assert widened.returncode == 0, widened.stderr


@pytest.mark.slow
def test_an_option_with_more_bits_than_its_number_has_is_refused_at_import(tmp_path: Path) -> None:
    """Whoever gives more bits to one part is told that another must have fewer."""
    source = Path(options.__file__).read_text()
    wider = source.replace('"customer": 28', '"customer": 29')
    assert imported(options.__name__, source, "", tmp_path).returncode == 0
    assert "LimitError: bits of an option: 65, and at most 64 fit" in imported(options.__name__, wider, "", tmp_path).stderr


PORTFOLIO = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-01}
channels: {email: {consent: opt_in}}
interests: {half_life_days: 30, topics: {tea: [{event: Viewed}]}}
policy: {none: "-1"}
journeys:
  - {id: a, length_days: 10, queue: {where: "true"}, interests: [tea], channels: [email]}
  - {id: b, length_days: 10, queue: {where: "true"}}
"""
CUSTOMERS = ("x", "y", "z")


@pytest.fixture
def portfolio(tmp_path: Path) -> Portfolio:
    """Two journeys that everybody is queued for; one of them has a channel, and a topic."""
    path = tmp_path / "journeys.yaml"
    path.write_text(PORTFOLIO)
    return load_portfolio(path)


PROFILES = pl.LazyFrame(
    {"customer_id": CUSTOMERS, "consent_email": [True, False, None], "interest_tea": [0.5, 0.0, 0.0]},
    schema={"customer_id": pl.String, "consent_email": pl.Boolean, "interest_tea": pl.Float64},
)
NO_MEMBERS = pl.LazyFrame(schema={"customer_id": pl.String, "segment_id": pl.String})
NO_GOALS = pl.LazyFrame(schema={"customer_id": pl.String, "event": pl.String, "event_date": pl.Date})


def decided(portfolio: Portfolio) -> pl.DataFrame:
    """Queue and decide three customers, and return the option rows."""
    queued = queues.queue_customers(PROFILES, NO_MEMBERS, None, portfolio.journeys, today=TODAY)
    return decide.decide(queued, PROFILES, memory.no_state(), NO_GOALS, portfolio, today=TODAY).candidates.collect()


@pytest.mark.parametrize(
    ("module", "name", "number"),
    [
        (queues, "MOST_CUSTOMERS", 3),
        (queues, "MOST_JOURNEYS", 2),
        (decide, "MOST_CUSTOMERS", 3),
        (catalogue, "MOST_JOURNEYS", 3),  # "none" is one, too
        (options, "MOST_OPTIONS", 9),
        (options, "MOST_CELLS", 6),  # of three customers: whether a set of channels is usable, and interests in a topic and in nothing
    ],
)
def test_a_limit_holds_as_many_as_it_says_and_refuses_one_more(
    monkeypatch: pytest.MonkeyPatch, portfolio: Portfolio, module: ModuleType, name: str, number: int
) -> None:
    """The same world, decided with a limit that it just keeps and with one that it breaks: no row differs, or none is made."""
    expected = decided(portfolio)
    assert expected.height == 9
    assert expected.schema == SCORED_CANDIDATES.schema
    monkeypatch.setattr(module, name, number)
    assert decided(portfolio).equals(expected)
    monkeypatch.setattr(module, name, number - 1)
    with pytest.raises(LimitError, match="widen"):
        decided(portfolio)


def test_each_table_by_customer_asserts_how_many_cells_it_has(monkeypatch: pytest.MonkeyPatch, portfolio: Portfolio) -> None:
    """The table of channels and that of interests are both refused, each by its own name."""
    monkeypatch.setattr(options, "MOST_CELLS", 5)
    channels = replace(portfolio, journeys=tuple(replace(journey, interests=()) for journey in portfolio.journeys))
    interests = replace(portfolio, journeys=tuple(replace(journey, channels=()) for journey in portfolio.journeys))
    for without, what in ((channels, "sets of channels"), (interests, "interests")):
        with pytest.raises(LimitError, match=what):
            decided(without)


def coded(customer: int = 0, journey: int = 0, waiting_days: int = 0) -> pl.DataFrame:
    """Write one queued option as a number, and read it back."""
    numbers = {"customer": [customer], "journey": [journey], "waiting_days": [waiting_days]}
    queued = pl.DataFrame(numbers, schema={"customer": pl.UInt32, "journey": pl.UInt16, "waiting_days": pl.Int64})
    carried = pl.DataFrame(schema={"customer": pl.UInt32, "journey": pl.UInt16, "is_incumbent": pl.Boolean})
    facts = SimpleNamespace(none=1)
    rows = options.options_of(options.code_options(queued, carried), customer, 1, facts)  # type: ignore[arg-type]
    return rows.filter("is_queued").select("journey", "waiting_days")


@pytest.mark.parametrize(("name", "most"), [("customer", 2**28 - 1), ("journey", 2**16 - 1), ("waiting_days", 2**18 - 1)])
def test_an_option_is_read_back_as_it_was_written_up_to_the_last_bit(name: str, most: int) -> None:
    """One more bit would be another customer, another journey, or another source."""
    numbers = {"journey": 0, "waiting_days": 0} | ({} if name == "customer" else {name: most})
    assert coded(**{name: most}).row(0, named=True) == numbers


@pytest.mark.parametrize(("name", "number"), [("customer", 2**28), ("waiting_days", 2**18)])
def test_a_number_that_does_not_fit_its_bits_of_an_option_is_refused(name: str, number: int) -> None:
    """A journey cannot be: its number has as many bits in the option as in its column."""
    with pytest.raises(LimitError, match=f"largest {name} of an option: {number:,}, .* widen the bits of '{name}' in BITS"):
        coded(**{name: number})


def allocated(rank: int) -> list[tuple[int, int]]:
    """Give out two places that two customers wish for, each of them in both journeys."""
    wishes = {"customer": [0, 0, 1, 1], "journey": [0, 1, 0, 1], "mandatory": False, "score": 1.0, "fallback_score": 0.0}
    places = pl.DataFrame({"journey": [0, 1], "places": [1, 1]}, schema={"journey": pl.UInt16, "places": pl.Int64})
    return capacity.allocate(pl.DataFrame(wishes | {"rank": [1, rank, rank, 1]}, schema=choice.WISHES), places).granted.rows()


def test_weights_that_would_wrap_are_refused() -> None:
    """Scores are bounded so that they never do; ranks are not, and a sum that wrapped would give places to the wrong customers."""
    assert allocated(2**56) == [(0, 0), (1, 1)]
    with pytest.raises(LimitError, match=r"largest weight of an option: .* widen the weights in atc_pipeline/decision/capacity.py"):
        allocated(2**60)


def test_all_journeys_that_numbers_can_be_given_to_are_and_one_more_is_refused(portfolio: Portfolio) -> None:
    """Those of the portfolio, those that only the memory knows, and "none"."""
    names = [f"j{number:05}" for number in range(catalogue.MOST_JOURNEYS - 3)]
    numbers = catalogue.catalogue_of(portfolio, names, today=TODAY).numbers().collect()
    assert numbers.height == numbers["journey"].n_unique() == 2**16 - 1
    with pytest.raises(LimitError, match="65,536, and at most 65,535 fit"):
        catalogue.catalogue_of(portfolio, [*names, "k"], today=TODAY)


def test_as_many_as_fit_are_allowed() -> None:
    """The limit itself is within it, and who is refused reads how many there are and what to widen."""
    require_fits(7, 7, "things", "the house")
    with pytest.raises(LimitError, match=r"^things: 8, and at most 7 fit; to have more, widen the house$"):
        require_fits(8, 7, "things", "the house")
