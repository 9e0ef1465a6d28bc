"""Segment's HTTP API: an audience is a trait of the customer, and so is the one answer.

An ``identify`` says what is, not what happened: told twice or late it is still true. A ``track`` of "Audience Entered" would be counted
again.

What belongs here: events of Segment's, their limits, and what each answer means. What does not: trying again (``posting``), other
destinations.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from atc_pipeline.activation.differences import ANSWER
from atc_pipeline.rules.people import id_of
from resources.destinations.destination import MOST_ROWS, objects, outcome
from resources.destinations.posting import Post, Verdict, divided

HOST = "api.segment.io"
LARGEST_EVENT, LARGEST_BATCH = 32_000, 500_000
"""Bytes: more is answered with 400."""
AROUND = len('{"batch":[]}')


@dataclass(frozen=True)
class SegmentDestination:
    """``POST /v1/batch`` with one ``identify`` a customer: trait ``audience_<id>`` true or false, and the audience's fields; of the one
    answer ``journey``, ``journey_entered_on``, ``journey_ends_on`` and the traits that are published.

    Customers are known by ``userId`` or ``anonymousId``: no address of theirs is told, not even hashed. Segment answers 200 for whatever it
    can parse; 400 is for JSON or sizes it refuses, so that a batch is halved until what is refused is alone; 401 is the write key.
    """

    post: Post
    write_key: str = field(repr=False)
    most: int = MOST_ROWS
    is_dry: bool = False

    def tell(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row per row, as Segment answered."""
        answered = []
        for part, is_too_large in _batches(rows):
            if is_too_large:
                reason = f"is larger than Segment's {LARGEST_EVENT:,} bytes an event: fewer fields, or shorter"
                answered.append(outcome(part, "failed", reason, is_final=True))
            else:
                answered.append(divided(part, self._tell))
        return pl.concat(answered)

    def _tell(self, rows: pl.DataFrame) -> tuple[Verdict, pl.DataFrame]:
        body = '{"batch":[' + ",".join(_written(event(row)) for row in objects(rows)) + "]}"
        verdict = self.post(body.encode(), self._headers)
        return verdict, outcome(rows, verdict.status, verdict.reason)

    def _headers(self) -> Mapping[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"{self.write_key}:".encode()).decode()}


def event(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``identify`` of a row."""
    kind, identity = id_of(row["customer_id"])
    is_member = row["operation"] == "add"
    traits = {} if row["audience"] == ANSWER else {f"audience_{row['audience']}": is_member}
    return {
        "type": "identify",
        "messageId": row["message_id"],
        "userId" if kind == "user" else "anonymousId": identity,
        "traits": traits | row["fields"],
        "context": {"library": {"name": "atc_pipeline", "version": "1"}},
    }


def _batches(rows: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, bool]]:
    """Divide rows, in order, into batches that Segment takes, and single ones that it does not, with whether they are too large."""
    start, size = 0, AROUND
    for number, row in enumerate(objects(rows)):
        length = len(_written(event(row)).encode()) + 1
        if length - 1 > LARGEST_EVENT or size + length > LARGEST_BATCH:
            if number > start:
                yield rows.slice(start, number - start), False
            start, size = number, AROUND
        if length - 1 > LARGEST_EVENT:
            yield rows.slice(number, 1), True
            start = number + 1
            continue
        size += length
    if start < rows.height:
        yield rows.slice(start), False


def _written(event_of_row: Mapping[str, Any]) -> str:
    return json.dumps(event_of_row, ensure_ascii=False, separators=(",", ":"))
