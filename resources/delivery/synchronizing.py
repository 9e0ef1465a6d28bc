"""Synchronizing: differences told to their destinations, removals first, with memberships written before and after.

What belongs here: the order of writing down and telling that makes a kill harmless, and when to give a destination up. What does not: what
differs (``atc_pipeline.activation.differences``), how a destination is told (``destinations``), how it is remembered (``memberships``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import dagster as dg
import polars as pl

from atc_pipeline.activation.differences import ANSWER, KEY, message_id
from atc_pipeline.activation.tables import ACKNOWLEDGED, ADD, FAILED, REMOVE, UPDATE
from atc_pipeline.escaping import log_line
from atc_pipeline.rules.lots import hexadecimal, xxh64
from resources.channels.channel import Clock
from resources.delivery.ledger import LedgerError
from resources.delivery.memberships import Memberships
from resources.destinations.destination import ROW, Destination

GIVEN_UP_AFTER = 3
"""Requests in a row of which a destination took and decided nothing, after which it is left alone for the run."""

OUTCOME = {**dict.fromkeys(KEY, pl.String), "status": pl.String, "reason": pl.String, "is_final": pl.Boolean}


@dataclass(frozen=True)
class Synchronizer:
    """Tells destinations in a run for a ``day``, and knows what they have."""

    day: date
    destinations: Mapping[str, Destination]
    memberships: Memberships
    now: Clock

    def known(self) -> pl.DataFrame:
        """One row per audience, destination and customer that a destination has, or may have."""
        try:
            return self.memberships.rows()
        except LedgerError as problem:
            raise self._failure(problem) from problem

    def tell(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Tell differences; one row for each, with ``status`` and ``reason``."""
        try:
            return synchronize(rows, self.destinations, self.memberships, self.now)
        except LedgerError as problem:
            raise self._failure(problem) from problem

    def _failure(self, problem: LedgerError) -> dg.Failure:
        return dg.Failure(
            description=f"{self.day}: no destination was told any more: {problem}. See to what it says, and run the day again: what was "
            "acknowledged is remembered, and to be told twice is to be told once",
            allow_retries=False,
        )


def synchronize(rows: pl.DataFrame, destinations: Mapping[str, Destination], memberships: Memberships, now: Clock) -> pl.DataFrame:
    """One row per difference: ``KEY, status, reason``. A destination that is none of these would be told nothing, and is an error."""
    outcomes = [pl.DataFrame(schema=OUTCOME)]
    for (name,), own in rows.group_by("destination", maintain_order=True):
        destination = destinations.get(str(name))
        if destination is None:
            raise ValueError(f"differences are for {name!r}, but only these destinations are connected: {sorted(destinations)}")
        outcomes += _Telling(destination, memberships, now).all_of(own)
    return pl.concat(outcomes).select(*KEY, "status", "reason")


@dataclass
class _Telling:
    """What is told to one destination in a run."""

    destination: Destination
    memberships: Memberships
    now: Clock
    in_vain: int = 0

    def all_of(self, rows: pl.DataFrame) -> list[pl.DataFrame]:
        """Remove, and then add; whoever is removed and added again is told of in that order."""
        if self.destination.is_dry:
            return [rows.select(KEY).hstack(self.destination.tell(rows))]
        is_replaced = (pl.col("operation") == UPDATE) & (pl.col("audience_id") != ANSWER)
        removed = self._batches(rows.filter((pl.col("operation") == REMOVE) | is_replaced), REMOVE, self._remove)
        final = removed.join(rows.filter(pl.col("operation") == REMOVE), on=KEY, how="semi")
        stopped = removed.filter(pl.col("status") != ACKNOWLEDGED).join(final, on=KEY, how="anti")
        adding = rows.filter(pl.col("operation") != REMOVE).join(stopped, on=KEY, how="anti", maintain_order="left")
        return [final, stopped, self._batches(adding, ADD, self._add)]

    def _batches(self, rows: pl.DataFrame, operation: str, tell: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
        outcomes = [pl.DataFrame(schema=OUTCOME)]
        for batch in _as_told(rows, operation, self.now().isoformat()).iter_slices(max(1, self.destination.most)):
            if self.in_vain >= GIVEN_UP_AFTER:
                why = f"not tried: given up after {GIVEN_UP_AFTER} requests in a row that were not taken"
                outcomes.append(batch.select(*KEY, status=pl.lit(FAILED), reason=pl.lit(why), is_final=pl.lit(value=False)))
                continue
            outcome = tell(batch)
            _log_troubles(outcome)
            self.in_vain = 0 if outcome["is_final"].any() else self.in_vain + 1
            outcomes.append(outcome)
        return pl.concat(outcomes)

    def _remove(self, batch: pl.DataFrame) -> pl.DataFrame:
        outcome = batch.select(KEY).hstack(self.destination.tell(batch))
        self.memberships.drop(outcome.filter(pl.col("status") == ACKNOWLEDGED))
        return outcome

    def _add(self, batch: pl.DataFrame) -> pl.DataFrame:
        new = self.memberships.claim(batch)
        outcome = batch.select(KEY).hstack(self.destination.tell(batch))
        self.memberships.acknowledge(outcome.filter(pl.col("status") == ACKNOWLEDGED), self.now())
        # Of whom a destination certainly has nothing, nothing is kept; of whom it may have something from before, that stays.
        self.memberships.drop(outcome.filter(pl.col("status") == FAILED).join(new, on=KEY, how="semi"))
        return outcome


def _as_told(rows: pl.DataFrame, operation: str, at: str) -> pl.DataFrame:
    """Return rows as a destination is told them: the identifiers that were sent where it is to remove them."""
    identifiers = pl.coalesce("sent", pl.lit("{}")) if operation == REMOVE else pl.col("identifiers")
    fields = pl.when(pl.col("audience_id") == ANSWER).then("fields") if operation == REMOVE else pl.col("fields")
    # A set may change to and fro on a day, and whoever takes an id it knows for a repetition must not take that for one.
    identity_of_row = pl.concat_str(*KEY, pl.lit(operation), pl.lit(at), separator=":")
    identity = (
        pl.when(pl.col("audience_id") == ANSWER)
        .then(message_id("destination", "customer_id", "date"))
        .otherwise(hexadecimal(xxh64(identity_of_row)))
    )
    named = rows.with_columns(message_id=identity, operation=pl.lit(operation), identifiers=identifiers, fields=fields)
    return named.select(*dict.fromkeys([*KEY, *ROW, "checksum"]))


def _log_troubles(outcome: pl.DataFrame) -> None:
    """Say why customers were not taken, the five commonest reasons of a request."""
    troubles = outcome.filter(pl.col("status") != ACKNOWLEDGED).group_by("destination", "status", "reason").len("customers")
    for row in troubles.sort("customers", "status", "reason", descending=[True, False, False]).head(5).iter_rows(named=True):
        dg.get_dagster_logger(__name__).warning(
            log_line(f"{row['destination']}: {row['customers']} of {outcome.height} {row['status']}: {row['reason'] or 'no reason given'}")
        )
