"""Tombstones: whom we have forgotten, by the fingerprints of their ids, so that they are kept out and nobody is named.

What belongs here: the files ``<home>/tombstones/*.json``. What does not: who is meant (``atc_pipeline.identity.erasure``), and keeping
them out (``atc_pipeline.events.ingest``).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from resources.storage.files import replacing


class Tombstones(dg.ConfigurableResource):
    """One JSON file per person: ``fingerprints``, and ``erasures`` - when, on whose request, how many rows of which table.

    A fingerprint (``atc_pipeline.rules.people.erasure_hash``) tells an id again; an id that can be guessed can be told from it too,
    so the folder deserves the protection the data had.
    """

    home: str = Field(description="The folder that holds tombstones/ (ATC_HOME).")

    def fingerprints(self) -> pl.Series:
        """Return the fingerprints of everybody erased, sorted."""
        found = {one for path in self._folder.glob("*.json") for one in json.loads(path.read_text())["fingerprints"]}
        return pl.Series("fingerprint", sorted(found), dtype=pl.String)

    def has(self, fingerprints: Sequence[str]) -> bool:
        """Return whether one of them was erased before."""
        return bool(self.fingerprints().is_in(list(fingerprints)).any())

    def lay(self, fingerprints: Sequence[str], *, reference: str, at: datetime, found: Mapping[str, int]) -> Path:
        """Write down that a person is being erased; from now on ingest keeps them out, whatever becomes of the erasure."""
        path = self._folder / f"{hashlib.sha256(' '.join(fingerprints).encode()).hexdigest()[:16]}.json"
        tombstone: dict[str, Any] = {"fingerprints": list(fingerprints), "erasures": []}
        if path.exists():
            tombstone = json.loads(path.read_text())
        erasure = {"begun_at": at.isoformat(timespec="seconds"), "reference": reference, "rows_found": dict(found), "proved_at": None}
        tombstone["erasures"].append(erasure)
        _write(path, tombstone)
        return path

    def prove(self, path: Path, *, at: datetime) -> None:
        """Write down that the last erasure was followed by a search that found nothing."""
        tombstone = json.loads(path.read_text())
        tombstone["erasures"][-1]["proved_at"] = at.isoformat(timespec="seconds")
        _write(path, tombstone)

    @property
    def _folder(self) -> Path:
        return Path(self.home) / "tombstones"


def _write(path: Path, tombstone: Mapping[str, Any]) -> None:
    with replacing(path, is_ours=True, is_lasting=True) as unfinished:  # what is removed next cannot be found again
        unfinished.write_text(json.dumps(tombstone, indent=1))
