"""Relays on loopback: a real SMTP server that misbehaves for whom it is told to, and a raw one that plays a script."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import polars as pl
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from resources.channels.channel import Setting
from resources.channels.email import EmailChannel, connect

AT = datetime(2026, 1, 6, 9, 0, tzinfo=UTC)
SECRET = "a-secret-that-signs-links"  # noqa: S105
ENVIRONMENT = {
    "ATC_EMAIL_FROM": "Grocer <hello@grocer.example>",
    "ATC_UNSUBSCRIBE_URL": "https://grocer.example/unsubscribe",
    "ATC_UNSUBSCRIBE_SECRET": SECRET,
}

Phase = str
"""``EHLO``, ``MAIL``, ``RCPT``, or ``DATA``: the answer to the last dot."""


@dataclass
class Relay:
    """Takes mail; ``acts`` says by recipient at which phase it answers what, or ``drop``, how often (None: always)."""

    acts: dict[str, tuple[Phase, str, int | None]] = field(default_factory=dict)
    user: tuple[str, str] | None = None
    is_acting_before_drop: bool = True
    """Whether a message that is answered by a drop after its last dot had its effect."""
    delay_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.taken: list[tuple[str, str, bytes]] = []
        """Sender, recipient and content of each message that was taken."""
        self.connections = 0
        self.logins: list[str] = []
        self.options: list[list[str]] = []
        self._seen: Counter[str] = Counter()
        self.port = 0

    def messages(self) -> dict[str, EmailMessage]:
        """What was taken, by recipient, as the standard library reads it."""
        return {recipient: read(content) for _, recipient, content in self.taken}

    def keys(self) -> Counter[str]:
        """How often each key was taken."""
        return Counter(str(read(content)["Message-ID"]).strip("<>").partition("@")[0] for _, _, content in self.taken)

    def act(self, recipient: str, phase: Phase, server: SMTP) -> str | None:
        """Say what to answer, or drop."""
        at, answer, times = self.acts.get(recipient.partition("@")[0], ("", "", 0))
        if at != phase or (times is not None and self._seen[recipient] >= times):
            return None
        self._seen[recipient] += 1
        if answer == "drop":
            server.transport.abort()
            return "421 gone"
        return answer

    async def handle_EHLO(self, _: SMTP, session: Session, __: Envelope, hostname: str, responses: list[str]) -> list[str]:  # noqa: N802 - as aiosmtpd calls it
        """Count connections."""
        session.host_name = hostname
        self.connections += 1
        return responses

    async def handle_MAIL(self, server: SMTP, _: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802 - as aiosmtpd calls it
        """Take any sender."""
        if (answer := self.act("sender@", "MAIL", server)) is not None:
            return answer
        envelope.mail_from = address
        self.options.append(options)
        return "250 OK"

    async def handle_RCPT(self, server: SMTP, _: Session, envelope: Envelope, address: str, __: list[str]) -> str:  # noqa: N802 - as aiosmtpd calls it
        """Take any recipient, but as told."""
        if (answer := self.act(address, "RCPT", server)) is not None:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _: Session, envelope: Envelope) -> str:  # noqa: N802 - as aiosmtpd calls it
        """Take any message, but as told."""
        recipient = envelope.rcpt_tos[0]
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        before = len(self.taken)
        content = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content).encode()
        self.taken.append((str(envelope.mail_from), recipient, content))
        answer = self.act(recipient, "DATA", server)
        if answer is not None and not (answer.startswith("421 gone") and self.is_acting_before_drop):
            self.taken.pop(before)
        return answer or f"250 2.0.0 Ok: queued as Q{len(self.taken)}"

    def authenticate(self, _: SMTP, __: Session, ___: Envelope, mechanism: str, given: Any) -> AuthResult:
        """Know one user."""
        assert isinstance(given, LoginPassword)
        self.logins.append(mechanism)
        return AuthResult(handled=False, success=(given.login.decode(), given.password.decode()) == self.user)


@contextmanager
def running(relay: Relay, *, tls: ssl.SSLContext | None = None, is_implicit: bool = False, **more: Any) -> Iterator[Relay]:
    """Run it on loopback."""
    more |= {"authenticator": relay.authenticate} if relay.user else {}
    if tls and not is_implicit:
        more |= {"tls_context": tls, "require_starttls": True, "auth_required": relay.user is not None}
    else:
        more["auth_require_tls"] = False  # where it is implicit, aiosmtpd does not see it
    controller = _Controller(relay, "127.0.0.1", 0, ssl_context=tls if is_implicit else None, **more)
    controller.start()
    relay.port = controller.port
    try:
        yield relay
    finally:
        controller.stop()
        controller.loop.close()


class _Controller(Controller):
    def _trigger_server(self) -> None:
        """Connect once, as the library does, but to the port that the system chose."""
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Script:
    """A server that plays ``play`` to every connection, in a thread each."""

    def __init__(self, play: Callable[[socket.socket], None]) -> None:
        self._play = play
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads.append(threading.Thread(target=self._accept))
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(connection)
            thread = threading.Thread(target=self._answer, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._play(connection)


def saying(*answers: bytes, then: Callable[[socket.socket], None] = lambda _: None) -> Callable[[socket.socket], None]:
    """Play: say each answer after one more command was read (the first at once), then ``then``; after 354 the command is the message."""

    def play(connection: socket.socket) -> None:
        connection.sendall(answers[0])
        for before, answer in pairwise((*answers, b"")):
            heard = connection.recv(65536)
            while before.startswith(b"354") and heard and not heard.endswith(b"\r\n.\r\n"):
                heard += (more := connection.recv(65536))
                if not more:
                    return
            if not heard:
                return
            connection.sendall(answer)
        then(connection)

    return play


def drip(connection: socket.socket) -> None:
    """Send a byte of an answer that has no end, now and then."""
    while True:
        connection.sendall(b"2")
        time.sleep(0.05)


def read(content: bytes) -> EmailMessage:
    """Read a message as the standard library does."""
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def channel_to(
    port: int, home: Path, scheme: str = "smtp", environment: Mapping[str, str] | None = None, timeout: float = 10.0, connections: int = 4
) -> EmailChannel:
    """Connect as ``ATC_CHANNELS`` would, but try again at once."""
    host = "127.0.0.1" if scheme == "smtp" else "localhost"
    setting = Setting(str(home), lambda: AT, ENVIRONMENT | (environment or {}), timeout_seconds=timeout)
    channel = connect("email", f"{scheme}://{host}:{port}?connections={connections}", setting)
    return replace(channel, backoff_seconds=0.0)


def mails(*names: str, **more: str | None) -> pl.DataFrame:
    """One row per message, to ``<name>@home.example``; the key is made of the name."""
    return pl.DataFrame(
        [
            {
                "date": date(2026, 1, 5),
                "idempotency_key": f"{number:032x}",
                "customer_id": f"c-{name}",
                "address": f"{name}@home.example",
                "subject": f"Hello {name}",
                "text": f"Dear {name}",
                "html": f"<p>Dear {name}</p>",
            }
            | more
            for number, name in enumerate(names)
        ]
    )


def outcome(frame: pl.DataFrame) -> list[tuple[str, bool]]:
    """Status and finality of each message."""
    return list(frame.select("status", "is_final").iter_rows())
