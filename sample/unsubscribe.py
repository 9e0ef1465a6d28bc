"""Who answers the links by which messages are declined: a page with a button, and an event in the landing zone when it is pressed.

A reference, to be run behind a web server that speaks HTTPS, or read by whoever has a page already. It imports nothing of ours: a token
is ``<data>.<signature>``, both Base64 for URLs without padding; the data is the JSON list of customer, channel and message, the
signature its HMAC-SHA256 (``signature_of``).

    ATC_UNSUBSCRIBE_SECRET=... python -m sample.unsubscribe --landing .atc/landing --timezone Europe/Berlin --port 8080

POST unsubscribes, by the button or by a mailbox (RFC 8058, one click), whatever its body: a withdrawal that is lost is worse than
anything a body could tell. GET and HEAD do not: programs that look at links before people do would unsubscribe everybody.

What belongs here: the page, the token, and writing the event. What does not: making links (``resources.channels.unsubscribe``).
"""

import argparse
import base64
import hashlib
import hmac
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from zoneinfo import ZoneInfo

SECRET = "ATC_UNSUBSCRIBE_SECRET"  # noqa: S105 - the name of the variable
SIGNED = b"atc unsubscribe 1:"
VISITOR = "anon:"
LONGEST_TOKEN = 4096
LONGEST_BODY = 8192
"""Bytes. A mailbox sends 40; more is not read."""
SECONDS = 10
"""For one request in all; who takes longer is cut off."""
MOST_AT_ONCE = 50
"""Requests; who comes when there are so many is sent away at once, and comes again."""

HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Security-Policy", "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Robots-Tag", "noindex"),
    ("Cache-Control", "no-store"),
]
PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    "<main><h1>{title}</h1>{content}</main></html>"
)
BUTTON = '<form method="post"><button name="List-Unsubscribe" value="One-Click">Unsubscribe</button></form>'

Request = socket.socket | tuple[bytes, socket.socket]
Client = Any  # as socketserver has it
Start = Callable[[str, list[tuple[str, str]]], object]


class Declined(NamedTuple):
    """What a token tells."""

    customer_id: str
    channel: str
    key: str


@dataclass(frozen=True)
class Unsubscribing:
    """A WSGI application. ``secrets``: any of them may have signed a token. ``timezone``: by whose days the landing zone is."""

    landing: Path
    secrets: Sequence[str] = field(repr=False)
    timezone: ZoneInfo
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Answer a request."""
        query = str(environ.get("QUERY_STRING", ""))
        tokens = parse_qs(query).get("token", []) if len(query) <= 2 * LONGEST_TOKEN else []
        declined = read_token(tokens[0], self.secrets) if len(tokens) == 1 else None
        method = environ["REQUEST_METHOD"]
        if method == "POST":
            _read_body(environ)
        if declined is None:
            return _answer(
                start, "400 Bad Request", "This link does not work", "<p>Perhaps it was cut short. Please use the whole link.</p>"
            )
        if method in {"GET", "HEAD"}:
            page = _answer(start, "200 OK", "Unsubscribe", f"<p>We will not write to you this way any more.</p>{BUTTON}")
            return page if method == "GET" else [b""]
        if method != "POST":
            return _answer(start, "405 Method Not Allowed", "Nothing was done", "", [("Allow", "GET, HEAD, POST")])
        try:
            self.land(declined)
        except OSError as problem:
            logging.getLogger(__name__).error("an Unsubscribed could not be written: %s", problem.strerror)  # noqa: TRY400
            return _answer(
                start, "503 Service Unavailable", "That did not work", f"<p>Please try again.</p>{BUTTON}", [("Retry-After", "60")]
            )
        return _answer(start, "200 OK", "You are unsubscribed", "<p>It may take until tomorrow for everything to know.</p>")

    def land(self, declined: Declined) -> None:
        """Write the event, whole or not at all, among those that arrive today. Raises OSError.

        Declined again within the hour it is the same event, and is written once; later it is another: they may have come back between.
        """
        now = self.now()
        hour = now.astimezone(UTC).strftime("%Y-%m-%dT%H")
        message_id = hashlib.sha256(f"{hour}:{json.dumps(declined)}".encode()).hexdigest()[:32]
        folder = self.landing / str(now.astimezone(self.timezone).date())
        path = folder / f"unsubscribed-{message_id}.ndjson"
        if path.exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{path.name}.{os.getpid()}-{threading.get_ident()}"  # which nobody reads: it begins with a dot
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                file.write(f"{json.dumps(event(declined, now, message_id))}\n")
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def event(declined: Declined, at: datetime, message_id: str) -> dict[str, object]:
    """Return the event of Segment's Email Spec that withdraws consent."""
    is_visitor = declined.customer_id.startswith(VISITOR)
    return {
        "messageId": message_id,
        "type": "track",
        "event": "Unsubscribed",
        **({"anonymousId": declined.customer_id.removeprefix(VISITOR)} if is_visitor else {"userId": declined.customer_id}),
        "timestamp": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "properties": {"channel": declined.channel, "idempotency_key": declined.key},
    }


def read_token(token: str, secrets: Sequence[str]) -> Declined | None:
    """Return what a token tells; None where none of the secrets has signed it."""
    if len(token) > LONGEST_TOKEN or not token.isascii():
        return None
    data, _, signature = token.partition(".")
    if not any(hmac.compare_digest(signature_of(data, secret), signature) for secret in secrets):
        return None
    return Declined(*json.loads(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))))


def signature_of(data: str, secret: str) -> str:
    """Sign what a token tells."""
    digest = hmac.new(secret.encode(), SIGNED + data.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _answer(start: Start, status: str, title: str, content: str, more: Sequence[tuple[str, str]] = ()) -> list[bytes]:
    page = PAGE.format(title=title, content=content).encode()
    start(status, [*HEADERS, *more, ("Content-Length", str(len(page)))])
    return [page]


def _read_body(environ: dict[str, Any]) -> None:
    """Take a body off the line, so that whoever sent it hears the answer."""
    length = str(environ.get("CONTENT_LENGTH") or "0")
    if length.isdecimal() and len(length) < 10:
        environ["wsgi.input"].read(min(int(length), LONGEST_BODY))


class _Handler(WSGIRequestHandler):
    timeout = SECONDS

    def handle(self) -> None:
        """Answer one request, and end it when its time is over: timeouts of sockets begin anew with every byte."""
        timer = threading.Timer(SECONDS, self._end)
        timer.daemon = True
        timer.start()
        try:
            with suppress(OSError):  # a visitor who left, or was cut off
                super().handle()
        finally:
            timer.cancel()

    def _end(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log of requests: tokens are in it."""


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request, and no more than so many at once."""

    daemon_threads = True
    request_queue_size = MOST_AT_ONCE

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Request, client_address: Client) -> None:
        """Answer in a thread, if there is a place."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Request, client_address: Client) -> None:
        """Answer, and make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def server_bind(self) -> None:
        """Bind, without asking DNS for a name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()


def serve(application: Unsubscribing, host: str, port: int) -> Server:
    """Return a server for it, which listens already."""
    return make_server(host, port, application, server_class=Server, handler_class=_Handler)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m sample.unsubscribe", description="Answers unsubscribe links.")
    parser.add_argument("--landing", type=Path, required=True, help="the landing zone, as in .atc/landing")
    parser.add_argument("--timezone", type=ZoneInfo, default=ZoneInfo("UTC"), help="that of calendar in journeys.yaml (default UTC)")
    parser.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1, for a web server in front that speaks HTTPS")
    parser.add_argument("--port", type=int, default=8080, help="default 8080")
    given = parser.parse_args()
    secrets = os.environ.get(SECRET, "").split()
    if not secrets:
        parser.error(f"{SECRET} is not set: it must be the one that messages are signed with")
    with serve(Unsubscribing(given.landing, secrets, given.timezone), given.host, given.port) as server, suppress(KeyboardInterrupt):
        print(f"http://{given.host}:{server.server_port}/")
        server.serve_forever()


if __name__ == "__main__":
    main()
