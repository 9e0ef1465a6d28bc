"""What Segment's own Python client posts goes through ingest as it is.

What belongs here: the real client, a collector on loopback that writes landing files, and what comes out. What does not:
lines that we made up (``test_events``).
"""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from segment.analytics.client import Client

from atc_pipeline.events.ingest import ingest
from resources.storage.landing import LandingZone

TODAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


class Collector(HTTPServer):
    """Receives batches as Segment does, and keeps each message as a line with the times that a collector adds."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lines: list[dict[str, Any]] = []
        self.encodings: list[str | None] = []


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        """Unpack a batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        encoding = self.headers["Content-Encoding"]
        batch = json.loads(gzip.decompress(body) if encoding == "gzip" else body)
        self.server.encodings.append(encoding)
        self.server.lines += [message | {"sentAt": batch["sentAt"], "receivedAt": NOON.isoformat()} for message in batch["batch"]]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on loopback."""
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


PROPERTIES = {
    "revenue": 19.5,
    "count": 3,
    "huge": 2**53 + 1,
    "is_gift": False,
    "nothing": None,
    "text": 'é "quoted" \\ \n 日本 \U0001f600',
    "products": [{"category": "tea", "price": 9.75, "quantity": 2}],
    "on": date(2026, 3, 1),
    "at": NOON,
    "exact": Decimal("1.10"),
}


@pytest.mark.parametrize("is_gzipped", [False, True])
def test_all_six_calls_of_the_client_are_accepted_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_gzipped: bool) -> None:
    """Ids, names and documents of each call come out as the client sent them, compressed or not."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with collecting() as collector:
        failures: list[object] = []
        host = f"http://127.0.0.1:{collector.server_port}"
        client = Client("key", host=host, gzip=is_gzipped, on_error=lambda *problem: failures.append(problem), upload_interval=0.05)
        context = {"timezone": "Europe/Berlin", "page": {"url": "https://shop.example/tea"}}
        client.identify("ann", {"email": "ann@shop.example", "consent_email": True}, context=context, timestamp=NOON)
        client.track("ann", "Order Completed", PROPERTIES, anonymous_id="phone", timestamp=NOON)
        client.page("ann", "Teas", "Green", {"url": "https://shop.example/tea"}, timestamp=NOON)
        client.screen("ann", "Basket", properties={"items": 2}, timestamp=NOON)
        client.group("ann", "household-1", {"size": 3}, timestamp=NOON)
        client.alias("old-ann", "ann", timestamp=NOON)
        client.track(7, "Numbered", timestamp=NOON, message_id="mine")
        client.join()
    assert not failures
    assert set(collector.encodings) == {"gzip" if is_gzipped else None}

    folder = tmp_path / str(TODAY)
    folder.mkdir()
    (folder / "batch.ndjson").write_text("".join(f"{json.dumps(line)}\n" for line in collector.lines))
    done = ingest(LandingZone(root=str(tmp_path)).read(TODAY), pl.Series(dtype=pl.String), arrival=TODAY, timezone="Europe/Berlin")

    assert (done.lines, done.accepted.height, done.rejected.height, done.duplicates) == (7, 7, 0, 0)
    sent = {line["messageId"]: line for line in collector.lines}
    assert {line["type"] for line in collector.lines} == {"identify", "track", "page", "screen", "group", "alias"}
    for row in done.accepted.iter_rows(named=True):
        line = sent[row["message_id"]]
        given = {name: line.get(name) for name in ("type", "event", "anonymousId", "previousId")}
        assert given == {"type": row["type"], "event": row["event"], "anonymousId": row["anonymous_id"], "previousId": row["previous_id"]}
        assert row["user_id"] == str(line["userId"])
        assert row["timestamp"] == datetime.fromisoformat(line["timestamp"])  # the client keeps milliseconds
        for name in ("properties", "traits", "context"):
            assert (None if row[name] is None else json.loads(row[name])) == line.get(name)
        extra = json.loads(row["extra"])
        assert extra.get("groupId") == line.get("groupId")
        assert extra.get("name") == line.get("name")
