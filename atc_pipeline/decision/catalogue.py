"""The catalogue of a day: every journey by number, with what ``journeys.yaml`` says of it today.

Inside the decision customers and journeys are numbers - a customer's row in the day's profiles, a journey's place among all
names - because millions of option rows of text cost ten times as much. Numbers follow the order of the names, so that what is
sorted by number is sorted by name.

What belongs here: facts of a journey that are the same for everybody, and the gates tested on them. What does not: anything about
a customer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from atc_pipeline.decision.gates import PACKED, bit, needing
from atc_pipeline.journeys.portfolio import NONE, Journey, Policy, Portfolio
from atc_pipeline.rules import reach
from atc_pipeline.rules.limits import require_fits

JOURNEY_BITS = 16
"""A journey's number is a ``UInt16`` wherever it is kept."""

MOST_JOURNEYS = 2**JOURNEY_BITS - 1
"""One less than there are numbers: how many journeys there are is one, too."""

MOST_CUSTOMERS = 2**32 - 1
"""A customer's number is a ``UInt32`` wherever it is kept."""

WIDER_JOURNEYS = "JOURNEY_BITS in atc_pipeline/decision/catalogue.py, and every UInt16 that holds a journey's number"
WIDER_CUSTOMERS = "MOST_CUSTOMERS in atc_pipeline/decision/catalogue.py, and every UInt32 that holds a customer's number"


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Journeys of today's portfolio, of the memory, and "none", in the order of their names; the position is the number.

    ``facts``: one row per number. Journeys only the memory knows (removed, draft) have ``is_known`` false and default facts.
    ``members``: the ``interests``, ``intents`` and ``channels`` of each journey. ``only_after``, ``not_after``: one row per pair of
    journeys, ``journey`` and ``earlier`` by number, the latter with ``within_days``.
    """

    facts: pl.DataFrame
    none: int
    members: Mapping[str, Sequence[tuple[str, ...]]]
    only_after: pl.DataFrame
    not_after: pl.DataFrame

    @property
    def journey_ids(self) -> pl.Series:
        """Names by number."""
        return self.facts["journey_id"]

    def numbers(self) -> pl.LazyFrame:
        """One row per journey: ``journey_id`` and its number ``journey``."""
        return self.facts.lazy().select("journey_id", journey=pl.int_range(pl.len(), dtype=pl.UInt16))

    def flags(self, name: str) -> np.ndarray:
        """One fact as an array by number."""
        return self.facts[name].to_numpy()


def catalogue_of(portfolio: Portfolio, remembered: Iterable[str], *, today: date) -> Catalogue:
    """Number the journeys of the portfolio and those of the memory."""
    known = {journey.id: journey for journey in portfolio.journeys}
    ids = sorted({*known, *remembered, NONE})
    require_fits(len(ids), MOST_JOURNEYS, "journeys of journeys.yaml and the memory", WIDER_JOURNEYS)

    def fact(of: Callable[[Journey], object], without: object) -> list[object]:
        return [of(known[name]) if name in known else without for name in ids]

    columns: dict[str, tuple[list[object], pl.DataType]] = {
        "journey_id": (list(ids), pl.String()),
        "is_known": ([name in known for name in ids], pl.Boolean()),
        "mandatory": (fact(lambda journey: journey.mandatory, without=False), pl.Boolean()),
        "priority": (fact(lambda journey: journey.priority, 0.0), pl.Float64()),
        "value": (fact(lambda journey: journey.value, None), pl.Float64()),
        "length_days": (fact(lambda journey: journey.length_days, None), pl.Int64()),
        "can_interrupt": (fact(lambda journey: journey.can_interrupt, without=False), pl.Boolean()),
        "interruptible": (fact(lambda journey: journey.interruptible, without=True), pl.Boolean()),
        "is_linked": (fact(lambda journey: bool(journey.only_after), without=False), pl.Boolean()),
        "again_after_days": (fact(lambda journey: journey.reentry.after_days if journey.reentry else None, None), pl.Int64()),
        "again_from_exit": (
            fact(lambda journey: journey.reentry is not None and journey.reentry.counted_from == "exit", without=False),
            pl.Boolean(),
        ),
        "max_entries": (fact(lambda journey: journey.max_entries, None), pl.Int64()),
    }
    failed = np.array(fact(lambda journey: _failed(journey, portfolio.policy, today), 0), dtype=PACKED)
    facts = pl.DataFrame({name: pl.Series(values, dtype=dtype) for name, (values, dtype) in columns.items()})
    facts = facts.with_columns(failed=pl.Series(failed))
    members = {kind: [getattr(known[name], kind) if name in known else () for name in ids] for kind in ("interests", "intents", "channels")}
    links = [(ids.index(journey.id), ids.index(before)) for journey in portfolio.journeys for before in journey.only_after if before in ids]
    pairs = [
        (ids.index(journey.id), ids.index(rule.journey), rule.within_days)
        for journey in portfolio.journeys
        for rule in journey.not_after
        if rule.journey in ids
    ]
    numbers = {"journey": pl.UInt16, "earlier": pl.UInt16}
    return Catalogue(
        facts,
        ids.index(NONE),
        members,
        only_after=pl.DataFrame(links, schema=numbers, orient="row"),
        not_after=pl.DataFrame(pairs, schema={**numbers, "within_days": pl.Int64}, orient="row"),
    )


def pairs_of(numbered: pl.DataFrame) -> np.ndarray:
    """Write ``customer`` and ``journey`` of each row as one number, in the order of the two."""
    return np.asarray(numbered["customer"].to_numpy().astype(np.uint64) << np.uint64(JOURNEY_BITS) | numbered["journey"].to_numpy())


def _failed(journey: Journey, policy: Policy, today: date) -> int:
    """Return the bits of the gates that a journey fails today for everybody."""
    return sum(int(bit(gate)) for gate in needing("journey") if TESTS[gate](journey, policy, today))


def _is_not_live(journey: Journey, _: Policy, today: date) -> bool:
    is_early = journey.starts_on is not None and today < journey.starts_on
    is_late = journey.ends_on is not None and today > journey.ends_on
    return journey.status != "live" or is_early or is_late


def _is_blacked_out(journey: Journey, policy: Policy, today: date) -> bool:
    return bool(reach.blackouts(policy, journey, today, today))


def _would_overrun(journey: Journey, policy: Policy, today: date) -> bool:
    last = today + timedelta(days=journey.length_days - 1)
    is_late = journey.ends_on is not None and last > journey.ends_on
    return journey.must_finish and (is_late or bool(reach.blackouts(policy, journey, today, last)))


TESTS: Mapping[str, Callable[[Journey, Policy, date], bool]] = {
    "not_live": _is_not_live,
    "blackout": _is_blacked_out,
    "would_overrun": _would_overrun,
}
"""By each gate that needs the journey's facts only (``gates.Gate.needs``): whether it is shut for everybody."""
