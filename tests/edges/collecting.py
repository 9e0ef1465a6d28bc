"""Destinations on loopback: Segment's HTTP API with its limits, and one that is posted to and verifies with a library.

Each keeps what it was told, as a set would be kept, and can be told to misbehave.
"""

import base64
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook, WebhookVerificationError

WRITE_KEY = "write-key"
SECRET = "whsec_" + base64.b64encode(b"between the two of us, 24+").decode()
Answer = tuple[int, Mapping[str, str], bytes]


class Collecting:
    """A server that hands each request to ``judge``; ``answers`` come first, and act as they say (``is_acting``)."""

    def __init__(self) -> None:
        self.answers: deque[tuple[int | None, Mapping[str, str], bool]] = deque()
        """Status (None: the connection is dropped), headers, and whether what was asked is done all the same."""
        self.requests: list[list[dict[str, Any]]] = []
        self.sizes: list[int] = []
        self.people: dict[tuple[str, str], dict[str, Any]] = {}
        """By audience and customer, what is known of each who is in it."""
        self.on_request: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self._server.server_port}/v1/batch"

    def judge(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Say how a request is answered, and do what it asks."""
        raise NotImplementedError

    def receive(self, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """Answer a request as told; None where the connection is dropped."""
        with self._lock:
            self.sizes.append(len(body))
            if not self.answers:
                answer = self.judge(headers, body)
            else:
                status, more, is_acting = self.answers.popleft()
                if is_acting:
                    self.judge(headers, body)
                if status is None:
                    return None
                answer = (status, more, b"")
        self.on_request()
        return answer


class SegmentApi(Collecting):
    """``POST /v1/batch``: 401 without the write key, 400 for what is too large or no JSON or of nobody, else 200."""

    def judge(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Take identifies, as they were meant."""
        if headers["Authorization"] != "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode():
            return 401, {}, b'{"success": false, "message": "invalid write key"}'
        events = json.loads(body)["batch"]
        is_too_large = len(body) > 500_000 or any(len(json.dumps(event, separators=(",", ":")).encode()) > 32_768 for event in events)
        if is_too_large or not all(event.get("userId") or event.get("anonymousId") for event in events):
            return 400, {}, b'{"success": false, "message": "malformed"}'
        self.requests.append(events)
        for event in events:
            customer = event.get("userId") or f"anon:{event['anonymousId']}"
            for name, value in event["traits"].items():
                if name.startswith("audience_") and value:
                    self.people[name.removeprefix("audience_"), customer] = event["traits"]
                elif name.startswith("audience_"):
                    self.people.pop((name.removeprefix("audience_"), customer), None)
                elif name == "journey":
                    self.people["answer", customer] = event["traits"]
        return 200, {}, b'{"success": true}'


class Posted(Collecting):
    """Verifies signatures with ``standardwebhooks``; a customer whose name has ``bad`` in it is refused by row."""

    def __init__(self, secret: str = SECRET) -> None:
        super().__init__()
        self.webhook = Webhook(secret)
        self.refuses_batches = False

    def judge(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Take rows one by one."""
        try:
            self.webhook.verify(body, {name.lower(): value for name, value in headers.items()})
        except WebhookVerificationError:
            return 401, {}, b""
        rows = json.loads(body)["rows"]
        if self.refuses_batches and any("bad" in row["customer_id"] for row in rows):
            return 422, {}, b""
        self.requests.append(rows)
        results = []
        for row in rows:
            is_bad = "bad" in row["customer_id"]
            results.append({"message_id": row["message_id"], "status": "failed" if is_bad else "acknowledged", "reason": "no such person"})
            if is_bad:
                continue
            key = (row["audience"], row["customer_id"])
            if row["operation"] == "add":
                self.people[key] = row["identifiers"]
            else:
                self.people.pop(key, None)
        return 200, {}, json.dumps({"results": results}).encode()


def _handler(collecting: Collecting) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # the sender died
                self.close_connection = True
                return
            answer = collecting.receive(dict(self.headers), body)
            if answer is None:
                self.close_connection = True
                return
            status, headers, text = answer
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)
            except ConnectionError:  # whoever asked is gone
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    return Handler


def wait_until(happened: Callable[[], bool]) -> None:
    """Return when it has; fail after half a minute."""
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
