"""Gates: the tests an option must pass, in the order they are made, and what an option can be ruled (SPEC 7, 8).

What belongs here: their names, order and bits. What does not: the tests themselves (``options``, ``memory``).
"""

STATIC_GATES = ("not_live", "blackout", "would_overrun", "suppressed", "no_channel", "unscored")
"""Gates that need today's facts only, in the order tested (SPEC 7)."""

MEMORY_GATES = ("reentry", "max_entries", "link", "pairwise", "resting", "frequency_cap")
"""Gates that need the past, tested after the static ones, in this order (SPEC 8, step 2)."""

GATES = (*STATIC_GATES, *MEMORY_GATES)

RULINGS = ("chosen", *GATES, "in_flight", "outscored", "capacity")
"""What an option row can be ruled."""


def bit(gate: str) -> int:
    """Return the bit that says of an option that it fails a gate: the lowest bit set is the first gate failed."""
    return 1 << GATES.index(gate)
