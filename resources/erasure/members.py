"""Memberships of a person at destinations: who is erased is removed there first, and forgotten here only where that was acknowledged.

What belongs here: finding and removing them. What does not: telling destinations (``resources.delivery.synchronizing``), the order of an
erasure (``erasing``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from atc_pipeline.activation.differences import ANSWER, DIFFERENCE, NO_ANSWER
from atc_pipeline.activation.tables import ERASED, REMOVE
from atc_pipeline.identity.erasure import Person
from resources.channels.channel import Clock
from resources.delivery.memberships import Memberships
from resources.delivery.synchronizing import synchronize
from resources.destinations.destination import Destination
from resources.erasure.traces import Trace


@dataclass(frozen=True)
class Members:
    """What destinations have, or may have, of a person. Until each has confirmed that it removed them, an erasure is not done.

    ``connect``: destinations by name, of those named. Where it tells nobody (a dry run), nothing is confirmed.
    """

    memberships: Memberships
    connect: Callable[[Sequence[str]], Mapping[str, Destination]] = field(repr=False)
    now: Clock = field(repr=False)

    @property
    def where(self) -> str:
        """Return where it is, for messages."""
        return self.memberships.place

    def find(self, person: Person) -> Trace:
        """Count the rows of theirs, and name the destinations."""
        rows = self._theirs(person)
        return Trace("memberships", f"at {', '.join(rows['destination'].unique().sort())}", theirs=rows.height) if rows.height else NOTHING

    def remove(self, person: Person) -> None:
        """Have them removed by the identifiers that were sent; then write the table anew without them, if all have confirmed it."""
        rows = self._theirs(person)
        synchronize(_removals(rows, self.now().date()), self.connect(rows["destination"].unique().to_list()), self.memberships, self.now)
        if self._theirs(person).is_empty():
            self.memberships.forget(sorted(person.customers))

    def _theirs(self, person: Person) -> pl.DataFrame:
        return self.memberships.rows().filter(pl.col("customer_id").is_in(sorted(person.customers)))


NOTHING = Trace("memberships", "nowhere")


def _removals(rows: pl.DataFrame, day: date) -> pl.DataFrame:
    fields = pl.when(pl.col("audience_id") == ANSWER).then(pl.lit(NO_ANSWER))
    removals = rows.rename({"identifiers": "sent"}).with_columns(
        date=pl.lit(day), operation=pl.lit(REMOVE), cause=pl.lit(ERASED), fields=fields, identifiers=pl.lit(None), status=pl.lit(None)
    )
    return removals.select(*DIFFERENCE).cast(pl.Schema(DIFFERENCE))
