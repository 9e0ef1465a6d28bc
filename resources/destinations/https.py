"""The destination that is posted to: signed after Standard Webhooks, so that it is verified with a library there is.

What belongs here: what is posted, and what each answer means. What does not: trying again (``posting``), other destinations.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from atc_pipeline.escaping import plain
from resources.channels.channel import MOST_TOLD, Clock
from resources.channels.signing import headers
from resources.destinations.destination import MOST_ROWS, objects, outcome, outcomes
from resources.destinations.posting import Post, Verdict, divided


@dataclass(frozen=True)
class HttpsDestination:
    """Signed HTTP POSTs of ``{"rows": [...]}``, every row with its ``message_id``.

    It may answer ``{"results": [{"message_id", "status": "acknowledged" | "failed", "reason"?}]}``; a row it leaves out is ``unknown``, and
    so are all if what looks like JSON cannot be read. Any other 2xx means that all were done. ``webhook-id`` is a hash of the rows'.
    """

    post: Post
    keys: Sequence[bytes] = field(repr=False)
    now: Clock
    most: int = MOST_ROWS
    is_dry: bool = False

    def tell(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row per row, as the destination answered."""
        return divided(rows, self._tell)

    def _tell(self, rows: pl.DataFrame) -> tuple[Verdict, pl.DataFrame]:
        body = json.dumps({"rows": objects(rows)}, ensure_ascii=False, separators=(",", ":")).encode()
        ids = rows["message_id"].to_list()
        identity = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:32]
        verdict = self.post(body, lambda: headers(self.keys, identity, self.now(), body))
        if verdict.accepted is None:
            return verdict, outcome(rows, verdict.status, verdict.reason)
        try:
            results = _results(verdict.accepted.body)
        except (ValueError, RecursionError):
            return verdict, outcome(rows, "unknown", "answered with results that cannot be read")
        if results is None:
            return verdict, outcome(rows, "acknowledged")
        silence = ("unknown", "not in the destination's results", False)
        return verdict, outcomes(results.get(message_id, silence) for message_id in ids)


def _results(body: bytes) -> dict[str, tuple[str, str | None, bool]] | None:
    """Read what an answer says of each row; None where it has no results. Raises ValueError or RecursionError."""
    text = body.decode("utf-8-sig").lstrip()
    answer = json.loads(text) if text.startswith(("{", "[")) else None
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list):
        return None
    read: dict[str, tuple[str, str | None, bool]] = {}
    for row in results:
        key = row.get("message_id") if isinstance(row, dict) else None
        if not isinstance(key, str) or row.get("status") not in ("acknowledged", "failed"):
            continue
        reason = row.get("reason")
        shown = None if reason is None or row["status"] == "acknowledged" else plain(str(reason), MOST_TOLD)
        is_contradicted = key in read and read[key][0] != row["status"]
        read[key] = ("unknown", "the results say two things", False) if is_contradicted else (row["status"], shown, True)
    return read
