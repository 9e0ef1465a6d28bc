"""One HTTP POST that ends, whatever the other side does: in time, in bounded memory and without an exception.

What belongs here: what a URL may be, and getting an answer over it. What does not: what an answer means, and trying again (``channels``).
"""

import logging
import socket
import ssl
import threading
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

LARGEST_ANSWER = 2**20
"""Bytes of an answer that are read, decompressed: results for thousands of messages. Whatever is larger is no answer to a batch."""
PHASES = 3
"""A request may take three times its timeout in all: to connect, to send, to be answered. Each single wait is bounded by the timeout."""

for _talker in ("urllib3.connection", "urllib3.connectionpool"):
    # They log whole URLs, tokens and all: the paths at DEBUG, and at WARNING when a receiver's headers are odd.
    logging.getLogger(_talker).setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Answer:
    """What came back: the status line, how long to wait before asking again, and of a 2xx the body."""

    status: int
    phrase: str
    retry_after: str | None
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class NoAnswer:
    """Nothing that can be understood came back. ``was_sent``: whether anything of the request can have arrived."""

    was_sent: bool
    why: str


def check_url(url: str) -> str | None:
    """Say what is wrong with a URL to post to, without repeating any of it; None where nothing is."""
    if any(character.isspace() or unicodedata.category(character).startswith("C") for character in url):
        return "has blanks or control characters in it"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "has a port that is no number from 1 to 65535, or brackets that are no address"
    if parts.scheme not in {"http", "https"}:
        return "does not begin with https:// or http://"
    if not parts.hostname:
        return "names no host"
    if len(parts.hostname) > 253 or any(len(label) > 63 for label in parts.hostname.split(".")):
        return "names a host that cannot be one"
    if port == 0:
        return "has the port 0; a port is a number from 1 to 65535"
    if "#" in url:
        return "has a #, and what follows it would never be sent (a # of a token is written %23)"
    try:
        requests.Request("POST", url).prepare()
    except (requests.RequestException, UnicodeError):
        return "names a host that cannot be one"
    return None


def host_of(url: str) -> str:
    """Return what of a URL may be shown: no credentials, path or query, any of which may be a token."""
    return urlsplit(url).hostname or ""


def post(url: str, body: bytes, headers: Mapping[str, str], timeout_seconds: float) -> Answer | NoAnswer:
    """Send one request over a connection of its own. Redirects are not followed; proxies are those of the environment."""
    with _Watch(PHASES * timeout_seconds) as watch, _Adapter(watch) as adapter, requests.Session() as session:
        try:
            request = session.prepare_request(requests.Request("POST", url, data=body, headers=dict(headers)))
            around = session.merge_environment_settings(url, {}, None, None, None)  # proxies, and whom to trust
            # Not session.send: it follows a redirect far enough to read its whole body and to parse its Location.
            with adapter.send(
                request, stream=True, timeout=timeout_seconds, verify=around["verify"] or True, proxies=dict(around["proxies"])
            ) as response:
                phrase, retry_after = response.reason or "", response.headers.get("Retry-After")
                is_accepted = 200 <= response.status_code < 300
                received = response.raw.read(LARGEST_ANSWER + 1, decode_content=True) if is_accepted else b""
                answer = Answer(response.status_code, phrase, retry_after, received)
        except Exception as error:  # noqa: BLE001 - whatever a receiver can provoke in three libraries is no answer, and no more than that
            return NoAnswer(watch.is_connected, f"none within {PHASES * timeout_seconds:g} seconds" if watch.is_over else _why(error))
    if watch.is_over:  # a body that ends where the connection does looks whole when the connection is ended
        return NoAnswer(was_sent=True, why=f"no whole one within {PHASES * timeout_seconds:g} seconds")
    if len(answer.body) > LARGEST_ANSWER:
        return NoAnswer(was_sent=True, why=f"larger than {LARGEST_ANSWER:,} bytes")
    return answer


def seconds_until(retry_after: str, now: datetime, at_most: float) -> float | None:
    """Read a Retry-After: seconds, or a date; None where it is neither. Never negative, never more than ``at_most``."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return min(at_most, float(text[:400]))  # of more digits even a float is infinite
    try:
        until = parsedate_to_datetime(text)
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(at_most, max(0.0, seconds))


def _why(error: Exception) -> str:
    """Name the first cause of an error in words that have no URL in them."""
    cause: BaseException = error
    while (earlier := cause.__cause__ or cause.__context__) is not None:
        cause = earlier
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate: {cause.verify_message}"
    return cause.strerror if isinstance(cause, OSError) and cause.strerror else type(error).__name__


class _Watch:
    """Ends connections when their time is over: timeouts of sockets begin anew with every byte."""

    def __init__(self, seconds: float) -> None:
        self.is_connected = False
        """Whether a connection was complete, TLS and all. Before that nothing of a request is sent."""
        self.is_over = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()

    def guard(self, connection: socket.socket) -> None:
        """Watch a connection, by a descriptor of its own: TLS takes the other one away."""
        with self._lock:
            self._sockets.append(connection.dup())
        if self.is_over:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):  # the other side was faster
                    connection.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Makes connections that are watched."""

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch
        super().__init__(max_retries=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the class above has it
        """Return the pool for a request, whose connections report to the watch."""
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        plain, watch = pool.ConnectionCls, self.watch  # type: ignore[attr-defined]  # the annotation names a class too general

        class Watched(plain):  # type: ignore[misc, valid-type]  # with or without TLS, as the pool has it
            def _new_conn(self) -> socket.socket:
                connection: socket.socket = super()._new_conn()
                watch.guard(connection)
                return connection

            def connect(self) -> None:
                super().connect()
                watch.is_connected = True

        pool.ConnectionCls = Watched  # type: ignore[attr-defined]
        return pool
