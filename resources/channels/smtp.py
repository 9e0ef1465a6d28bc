"""One connection to a relay, and what became of each message that went over it.

What belongs here: the dialogue, that it ends, and telling what was certainly not taken from what may have been. What does not: what
a message is made of (``mime``), several connections and trying again (``resources.channels.email``).
"""

import contextlib
import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from atc_pipeline.escaping import plain
from resources.channels.channel import MOST_TOLD
from resources.channels.mime import Mail

Tls = Literal["none", "starttls", "implicit"]

PHASES = 3
"""To connect, with TLS and all, and to hand over a message up to its end, may each take three times the timeout in all."""
SLOWEST = 10_000
"""Bytes a second. A message may take longer by what it takes at that speed."""
LONGEST_ANSWER = 100
"""Lines. An answer that does not end is none."""
LONGEST_LINE = 2_000
"""Bytes; SMTP has 512."""
_ABOUT_US = frozenset({530, 534, 535, 538})
"""Answers that ask for a login or refuse one, at whichever command: no word about the message."""
_TOO_LARGE = 552
_NAMES = re.compile(
    r"queued as (?P<postfix>[\w.-]+)|\bid=(?P<exim>[\w.-]+)|^2\.\d\.\d (?P<opensmtpd>[\w.-]+) Message accepted|^ok (?P<ses>[\w.-]{20,})",
    re.IGNORECASE,
)
"""Where relays tell what they call a message they took: Postfix, Exim, OpenSMTPD, Amazon."""


class Verdict(NamedTuple):
    """What became of a message; ``status`` is ``delivered``, ``failed`` or ``unknown``."""

    status: str
    reason: str | None = None
    is_final: bool = False
    provider_id: str | None = None


class NotSentError(Exception):
    """The connection is of no more use, and the message certainly did not arrive. ``is_hopeless``: another one would be the same."""

    def __init__(self, why: str, *, is_hopeless: bool = False) -> None:
        self.is_hopeless = is_hopeless
        super().__init__(why)


@dataclass(frozen=True)
class Relay:
    """Where mail is handed over, as whom, and how long it may take.

    ``answer_seconds``: how long a relay may think about a message it has in full. RFC 5321 asks for ten minutes, so that what is
    scanned for long is not taken for lost.
    """

    host: str
    port: int
    tls: Tls
    greeting: str
    timeout_seconds: float = 10.0
    answer_seconds: float = 600.0
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


class Watch:
    """Ends connections when their time is over: timeouts of sockets begin anew with every byte."""

    INTERVAL = 0.1  # seconds

    def __init__(self) -> None:
        self._connections: set[Connection] = set()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="watch over e-mail connections")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def add(self, connection: "Connection") -> None:
        """Look after a connection."""
        with self._lock:
            self._connections.add(connection)

    def drop(self, connection: "Connection") -> None:
        """Look after it no more."""
        with self._lock:
            self._connections.discard(connection)

    def _look(self) -> None:
        while not self._over.wait(self.INTERVAL):
            with self._lock:
                for connection in self._connections:
                    connection.end_if_late()


class Connection(smtplib.SMTP):
    """A connection that ends. Each method that speaks says what is certain, or raises NotSentError."""

    def __init__(self, relay: Relay, trust: ssl.SSLContext, watch: Watch) -> None:
        super().__init__(local_hostname=relay.greeting, timeout=relay.timeout_seconds)
        self._host = relay.host  # whose certificate STARTTLS is to show: smtplib knows it only of those it connects at once
        self.relay, self._trust, self._watch = relay, trust, watch
        self._doing = ""
        self._watched: socket.socket | None = None
        self._ends_at = 0.0
        self._is_late = False

    def establish(self) -> Self:
        """Connect, with TLS and login as the relay is to have them. Raises NotSentError."""
        watch, relay = self._watch, self.relay
        watch.add(self)
        try:
            with self._phase("to connect", PHASES * relay.timeout_seconds):
                self._greet()
        except smtplib.SMTPAuthenticationError as problem:
            self.abandon()
            raise NotSentError(f"it refused the login ({_shown(problem.smtp_code, problem.smtp_error)})", is_hopeless=True) from problem
        except smtplib.SMTPNotSupportedError as problem:
            self.abandon()
            what = "STARTTLS" if relay.tls == "starttls" and "starttls" not in self.esmtp_features else "a login"
            raise NotSentError(f"it does not offer {what}", is_hopeless=True) from problem
        except ssl.SSLCertVerificationError as problem:
            self.abandon()
            raise NotSentError(f"certificate: {problem.verify_message}", is_hopeless=True) from problem
        except (OSError, ValueError) as problem:  # smtplib's errors are among the first
            self.abandon()
            raise NotSentError(self._why(problem)) from problem
        return self

    def hand_over(self, mail: Mail, commit: Callable[[], None]) -> Verdict:
        """Hand over a message; ``commit`` is called when only its end is missing. Raises NotSentError; what that raises is raised."""
        content, seconds = mail.content, PHASES * self.relay.timeout_seconds + len(mail.content) / SLOWEST
        try:
            with self._phase("to take a message", seconds):
                if (refusal := self._offer(mail)) is not None:
                    return refusal
                assert self.sock is not None
                self.sock.settimeout(seconds)  # which sendall takes for the whole of what it sends
                if content.startswith(b"."):
                    content = b"." + content
                self.send(content.replace(b"\r\n.", b"\r\n.."))
        except (OSError, ValueError) as problem:
            self.abandon()
            raise NotSentError(self._why(problem)) from problem
        try:
            commit()
        except BaseException:
            self.abandon()  # without the last dot it is no message
            raise
        return self._end_message()

    def abandon(self) -> None:
        """Close the connection without a word."""
        self._watch.drop(self)
        self.close()
        if self._watched is not None:
            self._watched.close()
            self._watched = None

    def leave(self) -> None:
        """Say goodbye, and close."""
        with contextlib.suppress(OSError, ValueError), self._phase("to say goodbye", self.relay.timeout_seconds):
            self.docmd("QUIT")
        self.abandon()

    def end_if_late(self) -> None:
        """End the connection when its time is over; called by the watch."""
        if time.monotonic() > self._ends_at > 0 and (watched := self._watched) is not None:
            self._is_late = True
            with contextlib.suppress(OSError):  # the other side was faster
                watched.shutdown(socket.SHUT_RDWR)

    def getreply(self) -> tuple[int, bytes]:
        """Read an answer of bounded length; what is none is the end of the connection."""
        if self.file is None:
            assert self.sock is not None
            self.file = self.sock.makefile("rb")
        lines: list[bytes] = []
        while len(lines) < LONGEST_ANSWER:
            line = self.file.readline(LONGEST_LINE + 1)
            if not line:
                raise smtplib.SMTPServerDisconnected("it closed the connection")
            if not line.endswith(b"\n") or not line[:3].isdigit() or line[3:4] not in {b" ", b"-", b"\r", b"\n"}:
                raise smtplib.SMTPServerDisconnected("its answer is no SMTP")
            lines.append(line[4:].strip(b" \t\r\n"))
            if line[3:4] != b"-":
                return int(line[:3]), b"\n".join(lines)
        raise smtplib.SMTPServerDisconnected(f"its answer has more than {LONGEST_ANSWER} lines")

    def _get_socket(self, host: str, port: int, timeout: float | None) -> socket.socket:
        """Connect, and keep a descriptor for the watch: TLS takes the other one away."""
        connection = socket.create_connection((host, port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the last dot waits for the other side to have had enough
        self._watched = connection.dup()
        if self.relay.tls == "implicit":
            return self._trust.wrap_socket(connection, server_hostname=host)
        return connection

    def _greet(self) -> None:
        relay = self.relay
        code, text = self.connect(relay.host, relay.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, text)
        self.ehlo_or_helo_if_needed()
        if relay.tls == "starttls":
            code, text = self.starttls(context=self._trust)
            if code != 220:
                raise smtplib.SMTPResponseException(code, text)
            self.ehlo_or_helo_if_needed()  # what was offered before may have been said by somebody else
        if relay.user:
            self.login(relay.user, relay.password)

    def _offer(self, mail: Mail) -> Verdict | None:
        """Say from whom, to whom and that there is a message; the refusal, or None where the relay waits for it."""
        if not mail.recipient.is_ascii and not self.has_extn("smtputf8"):
            why = "the address has letters outside of ASCII, and the relay does not offer SMTPUTF8"
            return Verdict("failed", why, is_final=True)
        largest = self.esmtp_features.get("size", "")
        if largest.isdigit() and 0 < int(largest[:18]) < len(mail.content):
            return Verdict("failed", f"the message has {len(mail.content):,} bytes, and the relay takes {largest[:18]}", is_final=True)
        options = [f"SIZE={len(mail.content)}"] if self.has_extn("size") else []
        if not mail.recipient.is_ascii:
            self.command_encoding = "utf-8"
            options += ["BODY=8BITMIME"] if self.has_extn("8bitmime") else []
            options.append("SMTPUTF8")
        else:
            self.command_encoding = "ascii"
        for command, expected in (
            (" ".join([f"MAIL FROM:<{mail.sender}>", *options]), 250),
            (f"RCPT TO:<{mail.recipient}>", 250),
            ("DATA", 354),
        ):
            code, text = self.docmd(command)
            is_taken = code == expected or (expected == 250 and 200 <= code < 300)
            if is_taken:
                continue
            if code == 421 or not 400 <= code < 600:
                raise smtplib.SMTPServerDisconnected(_shown(code, text))
            # Before a recipient is named, only a size is the message's fault.
            is_final = code >= 500 and code not in _ABOUT_US and (not command.startswith("MAIL") or code == _TOO_LARGE)
            refusal = Verdict("failed", f"refused at {command[:4]}: {_shown(code, text)}", is_final)
            code, text = self.docmd("RSET")
            if code != 250:
                self.abandon()
            return refusal
        return None

    def _end_message(self) -> Verdict:
        """Send the last dot, after which a message may have arrived, and read what became of it."""
        host, seconds = self.relay.host, self.relay.answer_seconds
        try:
            with self._phase("to answer for a message", seconds):
                assert self.sock is not None
                self.sock.settimeout(seconds)
                self.send(b".\r\n")
                code, text = self.getreply()
                self.sock.settimeout(self.relay.timeout_seconds)
        except (OSError, ValueError) as problem:
            self.abandon()
            return Verdict("unknown", f"no answer from {host} for a message it had in full ({self._why(problem)})")
        shown = _shown(code, text)
        if 200 <= code < 300:
            name = _NAMES.search(text.decode("utf-8", "replace"))
            return Verdict("delivered", is_final=True, provider_id=next(filter(None, name.groups())) if name else None)
        if code == 421:
            self.abandon()
        if 400 <= code < 600:
            return Verdict("failed", f"refused with its content: {shown}", is_final=code >= 500 and code not in _ABOUT_US)
        self.abandon()
        return Verdict("unknown", f"{host} answered what is neither yes nor no: {shown}")

    @property
    def is_open(self) -> bool:
        """Whether another message may go over it."""
        return self._watched is not None

    @property
    def is_silent(self) -> bool:
        """Whether it ended because the relay took too long."""
        return self._is_late

    @contextlib.contextmanager
    def _phase(self, what: str, seconds: float) -> Iterator[None]:
        self._doing, self._ends_at = f"{what} within {seconds:g} seconds", time.monotonic() + seconds
        try:
            yield
        finally:
            self._ends_at = 0.0

    def _why(self, problem: Exception) -> str:
        if isinstance(problem, smtplib.SMTPResponseException):
            return _shown(problem.smtp_code, problem.smtp_error)
        cause: BaseException = problem
        while (earlier := cause.__cause__ or cause.__context__) is not None:
            cause = earlier
        if self._is_late or isinstance(cause, TimeoutError):
            self._is_late = True
            return f"it took too long {self._doing}"
        return plain((cause.strerror if isinstance(cause, OSError) else None) or str(problem) or type(problem).__name__, MOST_TOLD)


def _shown(code: int, text: bytes | str) -> str:
    """Write an answer for a log: in one line, harmless, and short."""
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return plain(f"{code} {' '.join(words.split())}".strip(), MOST_TOLD)
