"""Ingest: what a line must be, and that every line is accounted for."""

import hashlib
import json
from datetime import date
from typing import Any

import polars as pl

from atc_pipeline.events import Ingested, Lines, ingest

TODAY = date(2026, 1, 10)
GOOD = {"messageId": "m", "type": "track", "event": "E", "userId": "c", "timestamp": "2026-01-10T10:00:00Z"}


def ingested(*lines: dict[str, Any] | bytes, recent: tuple[str, ...] = (), erased: tuple[str, ...] = ()) -> Ingested:
    """Ingest lines of one file; ``erased`` are ids as ``user:<id>`` or ``anonymous:<id>``."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    block = [Lines("a.ndjson", 1, b"".join(line + b"\n" for line in raw))]
    hashes = pl.Series([hashlib.sha256(one.encode()).hexdigest() for one in erased], dtype=pl.String)
    done = ingest([block], pl.Series(recent, dtype=pl.String), arrival=TODAY, timezone="Europe/Berlin", erased=hashes)
    assert done.lines == len(raw) == done.accepted.height + done.rejected.height + done.duplicates + done.erased
    return done


def test_lines_that_name_an_erased_id_leave_their_count_only() -> None:
    """As user, previous id, or anonymous visitor without a user, accepted, rejected or repeated; others on the same device and
    namesakes stay."""
    by = {**GOOD, "anonymousId": "phone"}
    lines = (
        {**GOOD, "userId": "gone"},
        {**GOOD, "userId": "gone"},
        {**GOOD, "userId": "gone", "type": "trak"},
        {**GOOD, "userId": "gone", "properties": {"long": "x" * 33_000}},
        {**by, "messageId": "p", "userId": None},
        {**by, "messageId": "q", "userId": "-1"},
        {**by, "messageId": "c"},
        {**GOOD, "type": "alias", "previousId": "gone", "messageId": "n"},
        {**GOOD, "type": "alias", "previousId": "phone", "messageId": "n"},
        {**GOOD, "userId": 7},
        {**GOOD, "anonymousId": "gone", "messageId": "a"},
        {**GOOD, "userId": "phone", "messageId": "b"},
        b'{"userId": "gone"',
    )
    done = ingested(*lines, erased=("user:gone", "anonymous:phone", "user:7"))
    assert done.erased == 9
    assert done.accepted["message_id"].to_list() == ["a", "b", "c"]
    assert done.rejected["reason"].to_list() == ["malformed_json"]
