"""Erasing: the order of search, tombstone, removal and proof that makes a kill harmless.

What belongs here: that order. What does not: what is theirs (``atc_pipeline.identity.erasure``), how files are searched and rewritten
(``traces``), what is remembered (``tombstones``), and telling people (``assets.jobs.erasure``).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from itertools import compress

import polars as pl

from atc_pipeline.identity.erasure import Person
from resources.erasure.tombstones import Tombstones
from resources.erasure.traces import LANDED, UNREADABLE, Foreign, Keeper, Trace

FILE_NAMES = "landing file names"

Clock = Callable[[], datetime]


class NotErasedError(Exception):
    """Something of the person is left, or may be: what, where, and what to do."""


def search(keepers: Iterable[Keeper], person: Person) -> list[tuple[Keeper, Trace]]:
    """Search every file of the system, and the names of those that came from outside; return what has something of the person."""
    searched = list(keepers)
    traces = [(keeper, trace) for keeper in searched if (trace := _find(keeper, person))]
    landed = [(keeper, keeper.name) for keeper in searched if isinstance(keeper, Foreign) and keeper.place == LANDED]
    is_named = person.spellings.are_in(pl.Series([name for _, name in landed], dtype=pl.String))
    for keeper, name in compress(landed, is_named):
        traces.append((keeper, Trace(LANDED, name, elsewhere=Counter({FILE_NAMES: 1}), written=Counter({(FILE_NAMES, name): 1}))))
    return traces


def _find(keeper: Keeper, person: Person) -> Trace:
    try:
        return keeper.find(person)
    except UNREADABLE as problem:
        raise NotErasedError(
            f"{keeper.where}: cannot be read, so nobody can say whom it names ({problem}). Is its upload complete? "
            "Run this again when it is, or when the file is gone."
        ) from problem


def erase(
    person: Person,
    keepers: Callable[[], Sequence[Keeper]],
    traces: Sequence[tuple[Keeper, Trace]],
    tombstones: Tombstones,
    *,
    reference: str,
    ours: Collection[str],
    now: Clock,
) -> list[Trace]:
    """Lay the tombstone, remove what was found, and prove it by searching every file again; return what is rightly left.

    The last keeper - the latest identity map - is rewritten when all others were searched and found clean. So whoever kills
    this at any moment and runs it again still knows the person's ids, and what is left is removed and proved.

    ``ours``: where, as ``<place>.<column>``, the same text means something else. Raises NotErasedError before anything is removed
    where a place is not among them, and after, where something is left.
    """
    _refuse(_undecided(traces, ours), "Nothing was removed: their ids are also")
    removed = Counter[str]()
    for _, trace in traces:
        removed[trace.place] += trace.theirs
    tombstone = tombstones.lay(person.fingerprints, reference=reference, at=now(), rows=+removed)
    last = keepers()[-1]
    for keeper, trace in traces:
        if trace.theirs and keeper != last:
            keeper.remove(person)
    left = search(keepers()[:-1], person)
    _refuse(_theirs(left) | _undecided(left, ours), "Run this again: their ids are still")
    if _find(last, person).theirs:
        last.remove(person)
    left += search([last], person)
    _refuse(_theirs(left) | _undecided(left, ours), "Run this again: their ids are still")
    tombstones.prove(tombstone, at=now())
    return [trace for _, trace in left]


def places_of_same_text(traces: Iterable[Trace]) -> Counter[str]:
    """Count the rows, by place, that hold the text of an id, or one that may be meant for it, where it does not say whose they are."""
    return sum((trace.elsewhere for trace in traces), Counter())


def _theirs(traces: Iterable[tuple[Keeper, Trace]]) -> dict[str, int]:
    return {f"{trace.place} {trace.file}": trace.theirs for _, trace in traces if trace.theirs}


def _undecided(traces: Iterable[tuple[Keeper, Trace]], ours: Collection[str]) -> dict[str, int]:
    """Count the rows where the same text stands in a place that nobody has said the meaning of."""
    return {place: rows for place, rows in sorted(places_of_same_text(trace for _, trace in traces).items()) if place not in ours}


def _refuse(places: dict[str, int], says: str) -> None:
    if places:
        where = ", ".join(f"{place} ({rows} rows)" for place, rows in places.items())
        raise NotErasedError(
            f"{says} in {where}. Where the text is an id of theirs, written otherwise, name it in also; where it means something else "
            "(a quantity of 42 is not customer 42), name the place in same_text; in others' rows, and in files that are none of ours, see "
            "to it by hand. Without confirm the report shows how it is written."
        )
