"""What a destination is: somebody who keeps audiences and the one answer, and answers for each customer it is told of.

What belongs here: the protocol, the dry run, and what is told. What does not: any destination (one module each).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from atc_pipeline.escaping import plain
from resources.channels.channel import MOST_TOLD

MOST_ROWS = 10_000
"""Customers a request, at most (SPEC 9.10)."""

ROW = ("message_id", "date", "audience_id", "customer_id", "operation", "identifiers", "fields")
"""What a destination is told of a customer. ``operation``: add or remove; whoever changed is removed first, and then added."""

OUTCOME = {"status": pl.String, "reason": pl.String, "is_final": pl.Boolean}


class Destination(Protocol):
    """Somebody who is told."""

    @property
    def most(self) -> int:
        """How many customers to tell of at once, at most."""

    @property
    def is_dry(self) -> bool:
        """Whether nobody is told, so that nothing is to be remembered."""

    def tell(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row per row, in order: ``status`` (``acknowledged``, ``failed``, ``unknown``), ``reason?``, ``is_final``. Never an exception.

        ``rows``: ``ROW``, of one operation. ``failed`` is certain; ``unknown`` is everything that may have been done. ``is_final``:
        whether the destination decided it of this customer.
        """


@dataclass(frozen=True)
class Rehearsal:
    """Tells nobody."""

    most: int = MOST_ROWS
    is_dry: bool = True

    def tell(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row per row, each ``would_send``."""
        return outcome(rows, "would_send")


def outcome(rows: pl.DataFrame, status: str, reason: str | None = None, *, is_final: bool | None = None) -> pl.DataFrame:
    """One row per row, all with the same outcome."""
    shown = None if reason is None else plain(reason, MOST_TOLD)
    is_decided = status == "acknowledged" if is_final is None else is_final
    return pl.DataFrame([(status, shown, is_decided)] * rows.height, schema=OUTCOME, orient="row")


def outcomes(answers: Iterable[tuple[str, str | None, bool]]) -> pl.DataFrame:
    """One row per outcome."""
    return pl.DataFrame(list(answers), schema=OUTCOME, orient="row")


def objects(rows: pl.DataFrame) -> Sequence[dict[str, Any]]:
    """Return each row as it is told: identifiers and fields are objects, and what there is none of is left out."""
    return [
        {
            "message_id": row["message_id"],
            "date": row["date"].isoformat(),
            "audience": row["audience_id"],
            "customer_id": row["customer_id"],
            "operation": row["operation"],
            "identifiers": json.loads(row["identifiers"] or "{}"),
            "fields": json.loads(row["fields"] or "{}"),
        }
        for row in rows.select(ROW).iter_rows(named=True)
    ]
