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
from resources.erasure.traces import LANDED, UNREADABLE, Foreign, Found, Keeper

FILE_NAMES = "landing file names"

Clock = Callable[[], datetime]


class NotErasedError(Exception):
    """Something of the person is left, or may be: what, where, and what to do."""


def search(keepers: Iterable[Keeper], person: Person) -> list[tuple[Keeper, Found]]:
    """Search every file of the system, and the names of those that came from outside; return what has something of the person."""
    searched = list(keepers)
    found = [(keeper, found) for keeper in searched if (found := _find(keeper, person))]
    landed = [(keeper, keeper.name) for keeper in searched if isinstance(keeper, Foreign) and keeper.place == LANDED]
    is_named = person.spellings.are_in(pl.Series([name for _, name in landed], dtype=pl.String))
    for keeper, name in compress(landed, is_named):
        found.append((keeper, Found(LANDED, name, elsewhere=Counter({FILE_NAMES: 1}), written=Counter({(FILE_NAMES, name): 1}))))
    return found


def _find(keeper: Keeper, person: Person) -> Found:
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
    found: Sequence[tuple[Keeper, Found]],
    tombstones: Tombstones,
    *,
    reference: str,
    ours: Collection[str],
    now: Clock,
) -> list[Found]:
    """Lay the tombstone, remove what was found, and prove it by searching every file again; return what is rightly left.

    The last keeper - the latest identity map - is rewritten when all others were searched and found clean. So whoever kills
    this at any moment and runs it again still knows the person's ids, and what is left is removed and proved.

    ``ours``: where, as ``<place>.<column>``, the same text means something else. Raises NotErasedError before anything is removed
    where a place is not among them, and after, where something is left.
    """
    _refuse(_undecided(found, ours), "Nothing was removed: their ids are also")
    removed = Counter[str]()
    for _, one in found:
        removed[one.place] += one.theirs
    tombstone = tombstones.lay(person.fingerprints, reference=reference, at=now(), found=+removed)
    last = keepers()[-1]
    for keeper, one in found:
        if one.theirs and keeper != last:
            keeper.remove(person)
    left = search(keepers()[:-1], person)
    _refuse(_theirs(left) | _undecided(left, ours), "Run this again: their ids are still")
    if _find(last, person).theirs:
        last.remove(person)
    left += search([last], person)
    _refuse(_theirs(left) | _undecided(left, ours), "Run this again: their ids are still")
    tombstones.prove(tombstone, at=now())
    return [one for _, one in left]


def places_of_same_text(found: Iterable[Found]) -> Counter[str]:
    """Count the rows, by place, that hold the text of an id, or one that may be meant for it, where it does not say whose they are."""
    return sum((one.elsewhere for one in found), Counter())


def _theirs(found: Iterable[tuple[Keeper, Found]]) -> dict[str, int]:
    return {f"{one.place} {one.file}": one.theirs for _, one in found if one.theirs}


def _undecided(found: Iterable[tuple[Keeper, Found]], ours: Collection[str]) -> dict[str, int]:
    """Count the rows where the same text stands in a place that nobody has said the meaning of."""
    return {place: rows for place, rows in sorted(places_of_same_text(one for _, one in found).items()) if place not in ours}


def _refuse(places: dict[str, int], says: str) -> None:
    if places:
        where = ", ".join(f"{place} ({rows} rows)" for place, rows in places.items())
        raise NotErasedError(
            f"{says} in {where}. Where the text is an id of theirs, written otherwise, name it in also; where it means something else "
            "(a quantity of 42 is not customer 42), name the place in same_text; in others' rows, and in files that are none of ours, see "
            "to it by hand. Without confirm the report shows how it is written."
        )
