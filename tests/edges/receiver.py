"""The other end of the wire: a real HTTP server on loopback that receives messages, and can be told to misbehave.

It checks signatures with code of its own, and honours idempotency keys: a message seen again has no second effect.
"""

import contextlib
import hashlib
import hmac
import json
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOLERANCE_SECONDS = 300


@dataclass(frozen=True)
class Answer:
    """How one request is treated; by default the messages have their effect and the answer is an empty 200."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_acting: bool = True
    is_hanging: bool = False
    is_dropping: bool = False
    is_truncated: bool = False
    is_resetting: bool = False
    delay_seconds: float = 0.0
    """How late the answer comes."""


@dataclass(frozen=True)
class Request:
    """What arrived."""

    path: str
    headers: Mapping[str, str]
    messages: tuple[dict[str, Any], ...]

    @property
    def keys(self) -> list[str]:
        """The messages' idempotency keys."""
        return [message["idempotency_key"] for message in self.messages]


def is_genuine(secret: str, header: str, body: bytes, now: float) -> bool:
    """Whether the signature header was made with the secret for this body, not long ago."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    if not parts.get("t", "").isdecimal() or abs(now - int(parts["t"])) > TOLERANCE_SECONDS:
        return False
    expected = hmac.new(secret.encode(), b"%s.%s" % (parts["t"].encode(), body), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, parts.get("v1", ""))


class Receiver:
    """Answers as told by ``answers``, first to last, then with ``Answer()``; 401 to whoever signs wrongly."""

    def __init__(self, secret: str, now: Callable[[], float] = time.time) -> None:
        self.secret = secret
        self.now = now
        self.answers: deque[Answer] = deque()
        self.requests: list[Request] = []
        self.effects: list[dict[str, Any]] = []
        self._done: set[str] = set()
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        assert not self._server.errors, self._server.errors

    def url(self, path: str = "") -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self._server.server_port}/{path}"

    def know(self, keys: Iterable[str]) -> None:
        """Have seen messages before, which had their effect."""
        self._done.update(keys)
        self.effects += [{"idempotency_key": key} for key in sorted(self._done)]

    def wait_for(self, requests: int) -> None:
        """Return when so many requests have arrived in all."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.requests) >= requests, timeout=30)

    def receive(self, request: Request) -> Answer:
        """Note the request, let it have its effect, and say how to answer."""
        with self._news:
            answer = self.answers.popleft() if self.answers else Answer()
            self.requests.append(request)
            if answer.is_acting:
                self.effects += [message for message in request.messages if message["idempotency_key"] not in self._done]
                self._done.update(request.keys)
            self._news.notify_all()
        if answer.is_hanging:
            self._closing.wait(10)
        if answer.delay_seconds:
            self._closing.wait(answer.delay_seconds)
        return answer


class _Server(ThreadingHTTPServer):
    def __init__(self, *args: Any) -> None:
        self.errors: list[BaseException | None] = []
        super().__init__(*args)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        error = sys.exception()
        if not isinstance(error, ConnectionError):  # a sender that gave up or was killed is no error here
            self.errors.append(error)


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # the sender died while sending
                self.close_connection = True
                return
            if is_genuine(receiver.secret, self.headers["X-ATC-Signature"], body, receiver.now()):
                answer = receiver.receive(Request(self.path, dict(self.headers), tuple(json.loads(body)["messages"])))
            else:
                answer = Answer(401)
            if answer.is_resetting:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = answer.is_dropping or answer.is_hanging or answer.is_truncated or answer.is_resetting
            if answer.is_dropping or answer.is_hanging or answer.is_resetting:
                return
            with contextlib.suppress(ConnectionError):
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(answer.body) + answer.is_truncated))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    return Handler
