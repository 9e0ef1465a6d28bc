"""Tombstones: whom we have forgotten, by the fingerprints of their ids, so that they are kept out and nobody is named.

What belongs here: the files ``<home>/tombstones/*.json``. What does not: who is meant (``atc_pipeline.identity.erasure``), and keeping
them out (``atc_pipeline.events.ingest``).
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from resources.storage.documents import Documents


class Tombstones(dg.ConfigurableResource):
    """One JSON file per person: ``fingerprints``, and ``erasures`` - when, on whose request, how many rows of which table.

    A fingerprint (``atc_pipeline.rules.people.erasure_hash``) tells an id again; an id that can be guessed can be told from it too,
    so the folder deserves the protection the data had.
    """

    home: str = Field(description="The folder that holds tombstones/ (ATC_HOME).")

    def fingerprints(self) -> pl.Series:
        """Return the fingerprints of everybody erased, sorted."""
        tombstones = (self._documents.read(name) for name in self._documents.names())
        fingerprints = {fingerprint for tombstone in tombstones for fingerprint in tombstone["fingerprints"]}
        return pl.Series("fingerprint", sorted(fingerprints), dtype=pl.String)

    def has(self, fingerprints: Sequence[str]) -> bool:
        """Return whether one of them was erased before."""
        return bool(self.fingerprints().is_in(list(fingerprints)).any())

    def lay(self, fingerprints: Sequence[str], *, reference: str, at: datetime, rows: Mapping[str, int]) -> str:
        """Write down that a person is being erased; from now on ingest keeps them out, whatever becomes of the erasure.

        Return the name of the tombstone. What is removed next cannot be found again: it is on the disk before.
        """
        name = hashlib.sha256(" ".join(fingerprints).encode()).hexdigest()[:16]
        tombstone: dict[str, Any] = {"fingerprints": list(fingerprints), "erasures": []}
        if self._documents.has(name):
            tombstone = self._documents.read(name)
        erasure = {"begun_at": at.isoformat(timespec="seconds"), "reference": reference, "rows_found": dict(rows), "proved_at": None}
        tombstone["erasures"].append(erasure)
        self._documents.write(name, tombstone)
        return name

    def prove(self, name: str, *, at: datetime) -> None:
        """Write down that the last erasure was followed by a search that found nothing."""
        tombstone = self._documents.read(name)
        tombstone["erasures"][-1]["proved_at"] = at.isoformat(timespec="seconds")
        self._documents.write(name, tombstone)

    @property
    def _documents(self) -> Documents:
        return Documents(self.home, "tombstones")
