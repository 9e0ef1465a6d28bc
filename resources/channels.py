"""Where messages go: one ``Channel`` per way out, and the resource that says which channel of ``journeys.yaml`` uses which.

What belongs here: turning a batch of messages into files or requests, and the answers into outcomes.
What does not: which messages to send, in which order, and remembering it (``delivery``, ``ledger``).
"""

import fcntl
import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import dagster as dg
import polars as pl
import requests
from pydantic import Field
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError
from urllib3.util.retry import Retry

Clock = Callable[[], datetime]

SIGNED_WITH = "ATC_WEBHOOK_SECRET"
"""The environment variable that holds the secret. Read when channels are connected, so it is never part of any configuration."""

PAYLOAD = ("idempotency_key", "date", "customer_id", "journey_id", "step_day", "channel", "content", "variant", "send_at")
"""What a receiver is told of a message. Why it was chosen (``decision``) stays here."""

TRY_AGAIN = frozenset({408, 429, *range(500, 600)})
NO_ANSWER = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


class Channel(Protocol):
    """A way out for messages."""

    @property
    def batch_size(self) -> int:
        """How many messages to hand over at once, at most."""

    @property
    def is_dry(self) -> bool:
        """Whether nothing leaves, so that nothing is to be remembered."""

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message: ``idempotency_key``, ``status`` and ``reason?``.

        ``delivered`` and ``failed`` are certain; ``unknown`` is everything that may have arrived.
        """


@dataclass
class DryRun:
    """Sends nothing, and counts what would have been sent."""

    batch_size: int = 10_000
    is_dry: bool = True
    messages: int = 0

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message, each ``would_send``."""
        self.messages += messages.height
        return _outcomes(messages, "would_send")


@dataclass(frozen=True)
class FileChannel:
    """Files for whoever fetches them: ``<outbox>/date=<D>/<journey>.ndjson``, one message a line, sorted by key.

    A file is replaced as a whole, and a message sent again replaces its line.
    """

    outbox: Path
    batch_size: int = 10_000
    is_dry: bool = False

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message, each ``delivered``: its line is in the file."""
        for (day, journey_id), group in messages.group_by("date", "journey_id", maintain_order=True):
            _merge_lines(self.outbox / f"date={day}" / f"{journey_id}.ndjson", _json_lines(group))
        return _outcomes(messages, "delivered")


@dataclass(frozen=True)
class WebhookChannel:
    """Signed HTTP POSTs of ``{"messages": [...]}``, every message with its ``idempotency_key``.

    ``Idempotency-Key`` is a hash of the batch's keys, ``X-ATC-Signature`` is made by ``sign``, anew for each attempt.
    A receiver may answer ``{"results": [{"idempotency_key", "status": "delivered" | "failed", "reason"?}]}``; a message it leaves
    out is ``unknown``. Any other 2xx answer means that all were delivered.

    Tried again within ``send``: no connection, 408, 429 and 5xx, after ``Retry-After`` seconds (at most ``RETRY_AFTER_MAX``) or
    with exponential backoff and jitter. Not tried again: other 3xx and 4xx (``failed``), and no answer after the request went out
    (``unknown``). After a 5xx every refusal is ``unknown`` too, since the receiver may have acted before it failed.
    """

    url: str
    secret: str = field(repr=False)
    now: Clock
    batch_size: int = 100
    timeout_seconds: float = 10.0
    retries: int = 4
    backoff_seconds: float = 0.5
    is_dry: bool = False

    RETRY_AFTER_MAX = 120  # seconds: a run waits meanwhile, and urllib3 would let it wait for six hours

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message, as the receiver answered."""
        body = ('{"messages":[' + ",".join(_json_lines(messages)) + "]}").encode()
        batch_key = hashlib.sha256("\n".join(messages["idempotency_key"]).encode()).hexdigest()[:32]
        status, reason, accepted = self._post(body, batch_key)
        results = None if accepted is None else _results(accepted)
        if results is None:
            return _outcomes(messages, status, reason)
        said = results.filter(pl.col("status").is_in(["delivered", "failed"])).unique("idempotency_key", keep="last")
        return (
            messages.select("idempotency_key")
            .join(said, on="idempotency_key", how="left", maintain_order="left")
            .with_columns(
                pl.col("status").fill_null("unknown"),
                pl.when(pl.col("status").is_null()).then(pl.lit("not in the receiver's results")).otherwise("reason").alias("reason"),
            )
        )

    def _post(self, body: bytes, batch_key: str) -> tuple[str, str | None, requests.Response | None]:
        """What became of the batch, why, and the answer if it was accepted."""
        host = urlsplit(self.url).hostname
        # urllib3 could retry by itself, but would send the first attempt's signature again, long after its time, and would forget
        # that an earlier attempt may have had its effect. So it only counts and waits here.
        retry = Retry(
            total=self.retries,
            backoff_factor=self.backoff_seconds,
            backoff_jitter=self.backoff_seconds,
            retry_after_max=self.RETRY_AFTER_MAX,
        )
        refused = "failed"
        with requests.Session() as session:
            while True:
                answer = None
                headers = {
                    "Content-Type": "application/json",
                    "Idempotency-Key": batch_key,
                    "X-ATC-Signature": sign(self.secret, body, self.now()),
                }
                try:
                    response = session.post(self.url, data=body, headers=headers, timeout=self.timeout_seconds, allow_redirects=False)
                except NO_ANSWER as error:
                    # The text of these errors has the whole URL, which may hold a token.
                    if not _never_left(error):
                        return "unknown", f"no answer from {host} ({type(error).__name__})", None
                    reason = f"no connection to {host} ({type(error).__name__})"
                else:
                    if 200 <= response.status_code < 300:
                        return "delivered", None, response
                    reason = f"{host} answered {response.status_code} {response.reason}".rstrip()
                    if response.status_code >= 500:
                        refused = "unknown"
                    if response.status_code not in TRY_AGAIN:
                        return refused, reason, None
                    answer = response.raw
                try:
                    retry = retry.increment("POST", self.url, response=answer)
                except MaxRetryError:
                    return refused, reason, None
                try:
                    retry.sleep(answer)
                except HTTPError:  # a Retry-After that is neither seconds nor a date
                    retry.sleep()


class Channels(dg.ConfigurableResource["Channels"]):
    """How each channel of ``journeys.yaml`` is reached: its webhook, else a file in the outbox; nothing at all unless ``live``."""

    home: str = Field(description="The folder that holds the outbox (ATC_HOME).")
    live: bool = Field(default=False, description="Whether messages are sent (ATC_LIVE); a dry run otherwise.")
    webhooks: dict[str, str] = Field(default={}, description="URL by channel (ATC_WEBHOOKS); other channels write files.")
    batch_size: int = Field(default=100, gt=0, description="Messages per webhook request.")
    timeout_seconds: float = Field(default=10.0, gt=0, description="How long a webhook may take to connect, and to answer.")
    retries: int = Field(default=4, ge=0, description="How often a webhook request is tried again.")

    @classmethod
    def from_environment(cls, home: str, environment: Mapping[str, str]) -> "Channels":
        """Configuration as ``ATC_LIVE`` (``true`` or ``false``) and ``ATC_WEBHOOKS`` (``email=https://...,app=https://...``) say."""
        live = environment.get("ATC_LIVE", "").strip().lower()
        if live not in {"", "0", "1", "false", "true"}:
            raise ValueError(f"ATC_LIVE is {live!r}; expected true or false")
        webhooks: dict[str, str] = {}
        for entry in filter(None, map(str.strip, environment.get("ATC_WEBHOOKS", "").split(","))):
            channel, _, url = (part.strip() for part in entry.partition("="))
            if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
                raise ValueError(f"ATC_WEBHOOKS has no URL for {channel!r}; expected <channel>=https://..., separated by commas")
            if channel in webhooks:
                raise ValueError(f"ATC_WEBHOOKS names the channel {channel!r} twice")
            webhooks[channel] = url
        return cls(home=home, live=live in {"1", "true"}, webhooks=webhooks)

    def connect(self, channels: Iterable[str], now: Clock) -> dict[str, Channel]:
        """A way out for each of these channels (those of ``journeys.yaml``). ``now`` dates the signatures.

        A webhook for a channel that does not exist is an error, and so is a live one without a secret: either would let messages
        go where nobody expects them.
        """
        names = sorted(channels)
        for name in sorted(self.webhooks.keys() - set(names)):
            nearest = "".join(f"; nearest: {match!r}" for match in get_close_matches(name, names, n=1, cutoff=0))
            raise ValueError(f"ATC_WEBHOOKS names {name!r}, which is no channel of journeys.yaml{nearest}")
        if not self.live:
            return dict.fromkeys(names, DryRun())
        secret = os.environ.get(SIGNED_WITH, "")
        if self.webhooks and not secret:
            raise ValueError(
                f"{SIGNED_WITH} is not set, and webhooks ({', '.join(sorted(self.webhooks))}) are not called without a signature"
            )
        file = FileChannel(Path(self.home) / "outbox")
        return {name: self._webhook(self.webhooks[name], secret, now) if name in self.webhooks else file for name in names}

    def _webhook(self, url: str, secret: str, now: Clock) -> WebhookChannel:
        return WebhookChannel(url, secret, now, self.batch_size, self.timeout_seconds, self.retries)


def sign(secret: str, body: bytes, at: datetime) -> str:
    """The header ``t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">``; Stripe's scheme, so that a receiver can refuse old requests."""
    seconds = int(at.timestamp())
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def _outcomes(messages: pl.DataFrame, status: str, reason: str | None = None) -> pl.DataFrame:
    return messages.select("idempotency_key", pl.lit(status).alias("status"), pl.lit(reason, pl.String).alias("reason"))


def _json_lines(messages: pl.DataFrame) -> list[str]:
    return messages.select(PAYLOAD).write_ndjson().split("\n")[:-1]


def _merge_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        present = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
        merged = (
            pl.DataFrame({"line": lines + present}, schema={"line": pl.String})
            .with_columns(pl.col("line").str.json_path_match("$.idempotency_key").alias("key"))
            .unique("key", keep="first")
            .sort("key")
        )
        for left in path.parent.glob(".*.part"):  # by a process that is gone: we hold its lock
            left.unlink()
        part = path.with_name(f".{path.name}.part")
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in merged["line"])
            file.flush()
            os.fsync(file.fileno())  # the ledger is about to call these delivered
        part.replace(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from merging into the same folder, else the later of two would undo the earlier."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _never_left(error: requests.RequestException) -> bool:
    """Whether there was no connection, so that the request cannot have arrived."""
    cause = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(getattr(cause, "reason", None), NewConnectionError)


def _results(response: requests.Response) -> pl.DataFrame | None:
    """One row per result of the answer, ``idempotency_key``, ``status?``, ``reason?``; None where the answer has no results."""
    try:
        answer = response.json()
    except ValueError:
        return None
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list):
        return None
    columns = ("idempotency_key", "status", "reason")
    rows = [[None if row.get(name) is None else str(row[name]) for name in columns] for row in results if isinstance(row, dict)]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
