"""The channel that sends e-mail, by a relay that is known by name: several connections, each message once.

What belongs here: what the environment says of it, sharing messages among connections, and trying again what certainly did not arrive.
What does not: one connection (``smtp``), one message (``mime``), the link it is declined by (``unsubscribe``), DKIM (the relay's: it
signs what leaves it, and has the key).
"""

import random
import re
import ssl
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import polars as pl

from atc_pipeline.content.templates import SLOTS
from resources.channels import wire
from resources.channels.channel import MORE, OUTCOME, Clock, OnUnknown, Setting, WrongSettingError
from resources.channels.mime import Letterhead, Mail, UnfitError, read_address, read_mailbox
from resources.channels.smtp import Connection, NotSentError, Relay, Tls, Verdict, Watch
from resources.channels.unsubscribe import Links, WrongLinkError
from resources.storage.handed import Handed

FROM, REPLY_TO = "ATC_EMAIL_FROM", "ATC_EMAIL_REPLY_TO"
USER, PASSWORD = "ATC_SMTP_USER", "ATC_SMTP_PASSWORD"
KEY_HEADER = "ATC_SMTP_KEY_HEADER"
PREFERENCES, MAILTO = "ATC_PREFERENCES_URL", "ATC_UNSUBSCRIBE_MAILTO"
SCHEMES: Mapping[str, tuple[Tls, int]] = {"smtp": ("none", 25), "smtp+starttls": ("starttls", 587), "smtps": ("implicit", 465)}
"""How a connection is encrypted, and the port where none is named."""
T = TypeVar("T")

CONNECTIONS, MOST_CONNECTIONS = 4, 50
PER_CONNECTION = 100
"""Messages that go over a connection before it is made anew: OpenSMTPD takes no more, and others are not far from it."""
MOST_UNKNOWN = 3
"""Messages of a batch that the relay had in full and did not answer for, after which it gets no more of them: each waits for a person."""
MOST_IN_VAIN = 3
"""Messages in a row that a connection broke at, as often as they were tried, after which the rest of the batch is left alone."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
EXPECTED = "smtp+starttls://host:587, smtps://host:465 or smtp://host:25, with ?connections=4 where it is another number"
_COLUMNS = ("idempotency_key", "customer_id", "address", "subject", "text", "html")
_NO_HEADER = frozenset({"date", "from", "to", "cc", "bcc", "subject", "sender", "reply-to", "message-id", "mime-version"})


@dataclass(frozen=True)
class EmailChannel:
    """E-mail over several connections to one relay; each is used by a thread of its own, and left when the batch is through.

    ``delivered``: the relay answered 2xx to the last dot. ``failed``: it refused, finally with 5xx, or was certainly not given the
    message. ``unknown``: it had the message in full, and no answer came. Tried again within ``send``, on a new connection: what was cut
    off before its last dot. A message is noted in ``handed`` before that dot, and again when it was taken, so that after a kill at
    most one message per connection is unknown; one that was taken and is handed over again, as whoever was to remember it died, is
    ``delivered`` without being sent.
    """

    relay: Relay
    letterhead: Letterhead
    handed: Handed
    now: Clock
    connections: int = CONNECTIONS
    retries: int = 4
    backoff_seconds: float = 0.5
    is_dry: bool = False
    schedules: bool = False

    @property
    def batch_size(self) -> int:
        """What every connection may carry."""
        return self.connections * PER_CONNECTION

    @property
    def on_unknown(self) -> OnUnknown:
        """What may have arrived is sent again only where the relay knows the key."""
        return "resend" if self.letterhead.key_header else "hold"

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message, as the relay answered."""
        try:
            arrived = self.handed.answered()
        except OSError as problem:
            reason = f"what was handed over before cannot be read: {problem.strerror}"
            verdicts = dict.fromkeys(messages["idempotency_key"], Verdict("failed", reason))
        else:
            verdicts = {
                key: Verdict("delivered", is_final=True, provider_id=arrived[key] or None)
                for key in messages["idempotency_key"]
                if key in arrived
            }
            columns = [pl.col(name) if name in messages.columns else pl.lit(None, pl.String).alias(name) for name in _COLUMNS]
            rows = [row for row in messages.select(columns).iter_rows(named=True) if row["idempotency_key"] not in verdicts]
            verdicts |= _Shift(self, rows).work()
        answers = [(key, *verdicts[key]) for key in messages["idempotency_key"]]
        return pl.DataFrame(answers, schema=OUTCOME | {"provider_id": MORE["provider_id"]}, orient="row")


class _Shift:
    """A batch, shared among connections."""

    def __init__(self, channel: EmailChannel, rows: list[dict[str, Any]]) -> None:
        self._channel, self._rows = channel, deque(rows)
        self._verdicts: dict[str, Verdict] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._why = ""
        self._unknown = self._in_vain = 0
        self._trust = ssl.create_default_context() if rows and channel.relay.tls != "none" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def work(self) -> dict[str, Verdict]:
        """Hand over what can be, and say of each message what became of it."""
        if not self._rows:
            return {}
        most = min(self._channel.connections, len(self._rows))
        with Watch() as watch, ThreadPoolExecutor(most, thread_name_prefix="e-mail") as pool:
            workers = [pool.submit(self._carry, watch) for _ in range(most)]
            try:
                for worker in workers:
                    worker.result()
                if self._rows and any(verdict.status == "delivered" for verdict in self._verdicts.values()):
                    self._carry(watch)  # given back by a connection that could not be made, when all others had gone home
            finally:
                self._over.set()  # whoever is told to stop finishes the message in hand
        for row in self._rows:
            self._settle(row["idempotency_key"], Verdict("failed", self._why or "the sender was told to stop"))
        return self._verdicts

    def _carry(self, watch: Watch) -> None:
        """Take messages over one connection, made anew where it breaks, until none is left or none can be made."""
        connection: Connection | None = None
        try:
            while (row := self._next()) is not None:
                try:
                    mail = self._channel.letterhead.compose(row, self._channel.now())
                except UnfitError as problem:
                    self._settle(row["idempotency_key"], Verdict("failed", str(problem), is_final=True))
                    continue
                connection = self._hand_over(mail, row, connection, watch)
                if connection is None:
                    return
        finally:
            if connection is not None:
                connection.leave()

    def _hand_over(self, mail: Mail, row: dict[str, Any], connection: Connection | None, watch: Watch) -> Connection | None:
        """Hand over one message; return the connection for the next, or None where there is none to be had."""
        relay, why = self._channel.relay, ""
        for attempt in range(self._channel.retries + 1):
            if attempt > 1 and self._over.wait(self._channel.backoff_seconds * (2.0 ** (attempt - 1) + random.random())):  # noqa: S311
                break
            is_connecting = connection is None or not connection.is_open
            try:
                if connection is None or not connection.is_open:
                    connection = Connection(relay, self._trust, watch).establish()
                is_connecting = False
                verdict = connection.hand_over(mail, lambda: self._channel.handed.note([mail.key]))
            except NotSentError as problem:
                why = f"{'no connection to' if is_connecting else 'cut off by'} {relay.host} ({problem})"
                if problem.is_hopeless:
                    break
                continue
            except OSError as problem:  # of the note
                self._give_up(row, f"what is handed over cannot be noted, and so is not handed over: {problem.strerror or problem}")
                self._over.set()
                return None
            self._note_outcome(mail.key, verdict, is_silent=connection.is_silent)
            return connection
        if connection is not None and not is_connecting:
            self._settle(mail.key, Verdict("failed", why))  # perhaps the relay takes others, and breaks off at this one
            self._count(why, is_in_vain=True)
            return connection
        self._give_up(row, why)
        return None

    def _note_outcome(self, key: str, verdict: Verdict, *, is_silent: bool) -> None:
        """Remember what became of a message; a relay that leaves several unanswered, or stands still, gets no more of the batch."""
        try:
            if verdict.status == "delivered":
                self._channel.handed.answer(key, verdict.provider_id)
            elif verdict.status == "failed":
                self._channel.handed.forget([key])
        except OSError:
            pass  # it stays noted, and is known here
        self._settle(key, verdict)
        self._count(verdict.reason or "", is_in_vain=False, is_unknown=verdict.status == "unknown", is_silent=is_silent)

    def _count(self, why: str, *, is_in_vain: bool, is_unknown: bool = False, is_silent: bool = False) -> None:
        """End the shift when the relay has shown that it takes nothing."""
        with self._lock:
            self._in_vain = self._in_vain + 1 if is_in_vain else 0
            self._unknown += is_unknown
            if is_silent or self._unknown == MOST_UNKNOWN or self._in_vain == MOST_IN_VAIN:
                self._why = f"not tried: of the messages before it the last had {why}"
                self._over.set()

    def _give_up(self, row: dict[str, Any], why: str) -> None:
        """Leave a message to other connections, if there are any."""
        with self._lock:
            self._rows.appendleft(row)
            self._why = self._why or why

    def _next(self) -> dict[str, Any] | None:
        with self._lock:
            return None if self._over.is_set() or not self._rows else self._rows.popleft()

    def _settle(self, key: str, verdict: Verdict) -> None:
        self._verdicts[key] = verdict


def connect(channel_id: str, address: str, setting: Setting) -> EmailChannel:
    """The way out for ``smtp://host:25``, ``smtp+starttls://host:587`` and ``smtps://host:465``, with ``?connections=4``.

    Raises WrongSettingError.
    """
    try:
        letterhead = _letterhead(channel_id, setting.environment)
        relay, connections = _relay(address, letterhead.sender.domain, setting)
    except (WrongLinkError, UnfitError) as problem:
        raise WrongSettingError(f"channel {channel_id!r}: {problem}") from None
    return EmailChannel(relay, letterhead, Handed.of(setting.home), setting.now, connections, setting.retries)


def _relay(address: str, greeting: str, setting: Setting) -> tuple[Relay, int]:
    """Read where the relay is, and over how many connections to speak to it. Raises UnfitError."""
    try:
        parts = urlsplit(address)
        tls, standard = SCHEMES[parts.scheme]
        host, port = parts.hostname or "", parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except (KeyError, ValueError):
        raise UnfitError(f"the address of the relay is none: expected {EXPECTED}") from None
    if parts.username is not None or parts.password is not None:
        raise UnfitError(f"the address of the relay has a user or a password in it: they belong into {USER} and {PASSWORD}")
    if not re.fullmatch(r"[A-Za-z0-9.-]+|[0-9a-f:]+", host) or parts.path not in {"", "/"} or parts.fragment or port == 0:
        raise UnfitError(f"the address of the relay is none: expected {EXPECTED}")
    count = query.pop("connections", str(CONNECTIONS))
    if query:
        raise UnfitError("the address of the relay asks for more than connections, and that is all it may ask for")
    if not re.fullmatch("[0-9]{1,2}", count) or not 1 <= int(count) <= MOST_CONNECTIONS:
        raise UnfitError(f"connections of the relay's address is no number from 1 to {MOST_CONNECTIONS}")
    user, password = setting.environment.get(USER, ""), setting.environment.get(PASSWORD, "")
    if bool(user) != bool(password):
        raise UnfitError(f"of {USER} and {PASSWORD} only one is set")
    if not (user + password).isascii():
        raise UnfitError(f"{USER} or {PASSWORD} has letters outside of ASCII, which no login of SMTP takes")
    if user and tls == "none" and host not in _LOOPBACK:
        raise UnfitError(f"{USER} is set, and smtp:// would show the password to everybody on the way: use smtp+starttls:// or smtps://")
    return Relay(host, port or standard, tls, greeting, setting.timeout_seconds, user=user, password=password), int(count)


def _letterhead(channel_id: str, environment: Mapping[str, str]) -> Letterhead:
    """Read from whom e-mail is, and how it is declined. Raises UnfitError or WrongLinkError."""
    links = Links.from_environment(environment)
    text = environment.get(FROM, "").strip()
    if not text:
        raise UnfitError(f"{FROM} is not set: expected the sender, as in Grocer <hello@grocer.example>")
    name, sender = _read(FROM, text, read_mailbox)
    if not sender.is_ascii:
        raise UnfitError(f"{FROM} has letters outside of ASCII before the @, which not every receiver could answer to")
    key_header = environment.get(KEY_HEADER, "").strip()
    if key_header and (not re.fullmatch("[A-Za-z][A-Za-z0-9-]{0,60}", key_header) or key_header.lower() in _NO_HEADER):
        raise UnfitError(f"{KEY_HEADER} names no header of its own: expected a name like Idempotency-Key, of letters, digits and -")
    preferences = environment.get(PREFERENCES, "").strip()
    if preferences and (wire.check_url(preferences) or not preferences.startswith("https://") or not preferences.isascii()):
        raise UnfitError(f"{PREFERENCES} is no address: expected https://host/path")
    reply_to, mailto = environment.get(REPLY_TO, "").strip(), environment.get(MAILTO, "").strip()
    return Letterhead(
        channel_id,
        name,
        sender,
        links,
        SLOTS,
        _read(REPLY_TO, reply_to, read_address) if reply_to else None,
        preferences,
        _read(MAILTO, mailto, read_address) if mailto else None,
        key_header,
    )


def _read(variable: str, text: str, read: Callable[[str], T]) -> T:
    try:
        return read(text)
    except UnfitError as problem:
        raise UnfitError(f"{variable}: {problem}") from None
