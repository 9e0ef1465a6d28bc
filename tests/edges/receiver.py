"""The other end of the wire: a real HTTP server on loopback that receives messages, and can be told to misbehave.

It verifies signatures with the library of Standard Webhooks, and honours idempotency keys: a message seen again has no second effect.
"""

import contextlib
import json
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

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
    body: bytes

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What is in it."""
        messages: list[dict[str, Any]] = json.loads(self.body)["messages"]
        return messages

    @property
    def keys(self) -> list[str]:
        """The messages' idempotency keys."""
        return [message["idempotency_key"] for message in self.messages]


class _Library(Webhook):
    """The library, by a clock of the test's."""

    def __init__(self, secret: str | bytes, now: float) -> None:
        super().__init__(secret)
        self.shift = time.time() - now

    def _Webhook__verify_timestamp(self, header: str) -> datetime:  # noqa: N802 - as Python has it
        super()._Webhook__verify_timestamp(str(float(header) + self.shift))
        return datetime.fromtimestamp(float(header), UTC)


def is_genuine(secret: str | bytes, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether a request was signed with the secret, not long ago, as the library for receivers has it; bytes are a secret as it is."""
    try:
        _Library(secret, now).verify(body, dict(headers), json_parse=False)
    except WebhookVerificationError:
        return False
    return True


class Receiver:
    """Answers as told by ``answers``, first to last, then by its ``rule``; 401 to whoever signs wrongly."""

    def __init__(self, secret: str, now: Callable[[], float] = time.time) -> None:
        self.secret = secret if secret.startswith("whsec_") else secret.encode()
        self.now = now
        self.answers: deque[Answer] = deque()
        self.rule: Callable[[Request], Answer] = lambda request: Answer()  # noqa: ARG005
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
            answer = self.answers.popleft() if self.answers else self.rule(request)
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
            if is_genuine(receiver.secret, dict(self.headers), body, receiver.now()):
                answer = receiver.receive(Request(self.path, dict(self.headers), body))
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
