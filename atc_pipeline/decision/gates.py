"""The registry of gates: the tests an option must pass, in the order they are made, and what an option can be ruled (SPEC 7, 8).

A new gate is an entry in ``REGISTRY``, its test in ``TESTS`` of the module that knows the facts it needs, and its sentence in
``explanation.reasons``. Rulings, the funnel's columns and the schemas follow from the entry. Twelve gates fill ``BITS``: import
refuses one more, and says what to widen.

What belongs here: names, meanings, order and bits. What does not: the tests (``catalogue``, ``options``, ``memory``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from atc_pipeline.rules.limits import require_fits

Needs = Literal["journey", "today", "memory"]
"""The facts that a gate is tested on: ``journey``, those that are the same for everybody (tested in ``catalogue``); ``today``, the
customer's profile and the score (``options``); ``memory``, earlier days (``memory``)."""


@dataclass(frozen=True)
class Gate:
    """One gate. ``meaning``: what was so where an option failed it, as a sentence without its full stop."""

    name: str
    needs: Needs
    meaning: str


REGISTRY = (
    Gate("not_live", "journey", "It took no new customers"),
    Gate("blackout", "journey", "Nothing was to start on this day"),
    Gate("would_overrun", "journey", "It had to finish, and could not have in time"),
    Gate("suppressed", "today", "The customer was not to be contacted"),
    Gate("no_channel", "today", "None of its channels could be used"),
    Gate("unscored", "today", "The score was not a number"),
    Gate("reentry", "memory", "The customer had it before, and not long enough ago"),
    Gate("max_entries", "memory", "The customer had it often enough"),
    Gate("link", "memory", "A journey that must come before it was missing"),
    Gate("pairwise", "memory", "Another journey was too recent"),
    Gate("resting", "memory", "The customer had to rest after the last journey"),
    Gate("frequency_cap", "memory", "The customer had started as many journeys as allowed"),
)
"""Every gate, in the order tested: those of today's facts (SPEC 7) before those that need the past (SPEC 8, step 2)."""

LOSSES: Mapping[str, str] = {
    "in_flight": "The customer stayed in another journey",
    "outscored": "The customer got something better",
    "capacity": "No place was left",
}
"""How an option loses that fails no gate, and what was so then."""

BITS = 16
"""How many bits there are for an option's gates and its ruling: one for each gate, and as many as number the rulings."""


def require_room(gates: Sequence[Gate], bits: int) -> None:
    """Raise where these gates cannot be told apart, are in no order of tests, or do not fit the bits with their rulings."""
    names = [gate.name for gate in gates]
    if len({"chosen", *LOSSES, *names}) < 1 + len(LOSSES) + len(names):
        raise ValueError(f"each gate has a name of its own, and none that is another ruling's: {', '.join(names)}")
    if "memory" in [gate.needs for gate in gates[: sum(gate.needs != "memory" for gate in gates)]]:
        raise ValueError("gates that need memory are tested after all others: in atc_pipeline/decision/gates.py they come last")
    rulings = 1 + len(gates) + len(LOSSES)
    needed = len(gates) + (rulings - 1).bit_length()
    require_fits(needed, bits, f"bits for {len(gates)} gates and {rulings} rulings", f"BITS in atc_pipeline/decision/gates.py to {needed}")


require_room(REGISTRY, BITS)

PACKED: type[np.unsignedinteger] = np.min_scalar_type(2**BITS - 1).type
"""The type of numbers with so many bits."""

GATES = tuple(gate.name for gate in REGISTRY)

RULINGS = ("chosen", *GATES, *LOSSES)
"""What an option row can be ruled."""

MEANINGS: Mapping[str, str] = {**{gate.name: gate.meaning for gate in REGISTRY}, **LOSSES}
"""By each ruling but ``chosen``: what was so."""

Facts = TypeVar("Facts")

Shut = np.ndarray
"""For which rows a gate is shut: their numbers, or a flag for each row."""

NOWHERE: Shut = np.array([], dtype=np.intp)
"""A gate that is open for all."""


def needing(needs: Needs) -> tuple[str, ...]:
    """Name the gates that are tested on such facts, in order."""
    return tuple(gate.name for gate in REGISTRY if gate.needs == needs)


def bit(gate: str) -> np.unsignedinteger:
    """Return the bit that says of an option that it fails a gate: the lowest bit set is the first gate failed."""
    return PACKED(1 << GATES.index(gate))


def failed_of(needs: Needs, tests: Mapping[str, Callable[[Facts], Shut]], facts: Facts, rows: int) -> np.ndarray:
    """Test the gates that need such facts, and return by row the bits of those that are shut."""
    failed = np.zeros(rows, dtype=PACKED)
    for gate in needing(needs):
        shut = tests[gate](facts)
        if shut.dtype == bool:
            failed |= shut * bit(gate)
        else:
            failed[shut] |= bit(gate)
    return failed
