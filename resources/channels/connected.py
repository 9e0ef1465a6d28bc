"""Where messages go: one ``Channel`` per way out, and the resource that says which channel of ``journeys.yaml`` uses which.

What belongs here: turning a batch of messages into files or requests, and the answers into outcomes.
What does not: which messages to send, in which order, and remembering it (``delivery``, ``ledger``).
"""

import fcntl
import hashlib
import hmac
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import dagster as dg
import polars as pl
from pydantic import Field

from atc_pipeline.escaping import plain
from resources.channels import wire

Clock = Callable[[], datetime]

LIVE, WEBHOOKS, SIGNED_WITH = "ATC_LIVE", "ATC_WEBHOOKS", "ATC_WEBHOOK_SECRET"
"""Environment variables. The last two hold secrets (URLs have tokens in them): they are read when channels are connected, and are
part of no configuration, which Dagster keeps and shows."""

PAYLOAD = ("idempotency_key", "date", "customer_id", "journey_id", "step_day", "channel", "content", "variant", "send_at")
"""What a receiver is told of a message. Why it was chosen (``decision``) stays here."""

TRY_AGAIN = frozenset({408, 429, *range(500, 600)})
MOST_TOLD = 200
"""Characters of a reason that are kept."""


class WrongSettingError(ValueError):
    """The environment says how to reach channels in a way that cannot be understood; the message never repeats a secret."""


class Channel(Protocol):
    """A way out for messages."""

    @property
    def batch_size(self) -> int:
        """How many messages to hand over at once, at most."""

    @property
    def is_dry(self) -> bool:
        """Whether nothing leaves, so that nothing is to be remembered."""

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message: ``idempotency_key``, ``status``, ``reason?`` and ``is_final``. Never an exception.

        ``delivered`` and ``failed`` are certain; ``unknown`` is everything that may have arrived. ``is_final``: whether the receiver
        decided it of this message, so that to try again is of no use.
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

    A file is replaced as a whole, and a message sent again replaces its line. What cannot be written is ``failed``: no reader
    saw any of it.
    """

    outbox: Path
    batch_size: int = 10_000
    is_dry: bool = False

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message: ``delivered`` where its line is in the file."""
        outcomes = []
        for (day, journey_id), group in messages.group_by("date", "journey_id", maintain_order=True):
            try:
                _merge_lines(self.outbox / f"date={day}" / f"{journey_id}.ndjson", _json_lines(group))
            except OSError as problem:
                outcomes.append(_outcomes(group, "failed", f"outbox: {problem.strerror or problem}"))
            except UnicodeDecodeError:
                outcomes.append(_outcomes(group, "failed", "outbox: the file that is there is damaged; move it away"))
            else:
                outcomes.append(_outcomes(group, "delivered"))
        return messages.select("idempotency_key").join(pl.concat(outcomes), on="idempotency_key", how="left", maintain_order="left")


@dataclass(frozen=True)
class WebhookChannel:
    """Signed HTTP POSTs of ``{"messages": [...]}``, every message with its ``idempotency_key``.

    ``Idempotency-Key`` is a hash of the batch's keys, ``X-ATC-Signature`` is made by ``sign``, anew for each attempt.
    A receiver may answer ``{"results": [{"idempotency_key", "status": "delivered" | "failed", "reason"?}]}``; a message it leaves
    out, or of which it says two things, is ``unknown``, and so are all if what looks like JSON cannot be read. Any other 2xx answer
    means that all were delivered.

    Tried again within ``send``: no connection, 408, 429 and 5xx, after ``Retry-After`` seconds (at most ``RETRY_AFTER_MAX``) or
    with exponential backoff and jitter, for ``PATIENCE`` seconds. Not tried again: other 3xx and 4xx (``failed``), and no answer after
    the request went out (``unknown``). After a 5xx every refusal is ``unknown`` too, since the receiver may have acted before it failed.
    """

    url: str = field(repr=False)
    secret: str = field(repr=False)
    now: Clock
    batch_size: int = 100
    timeout_seconds: float = 10.0
    retries: int = 4
    backoff_seconds: float = 0.5
    is_dry: bool = False

    RETRY_AFTER_MAX = 120  # seconds: a run waits meanwhile
    PATIENCE = 300  # seconds, with one batch

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message, as the receiver answered."""
        body = ('{"messages":[' + ",".join(_json_lines(messages)) + "]}").encode()
        keys = messages["idempotency_key"].to_list()
        status, reason, accepted = self._post(body, hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32])
        if accepted is None:
            return _outcomes(messages, status, reason)
        try:
            said = _results(accepted.body, keys)
        except (ValueError, RecursionError):
            return _outcomes(messages, "unknown", f"{wire.host_of(self.url)} answered {accepted.status} with results that cannot be read")
        if said is None:
            return _outcomes(messages, "delivered")
        silence = ("unknown", "not in the receiver's results", False)
        rows = [(key, *said.get(key, silence)) for key in keys]
        return pl.DataFrame(rows, schema=_OUTCOME, orient="row")

    def _post(self, body: bytes, batch_key: str) -> tuple[str, str | None, wire.Answer | None]:
        """What became of the batch, why, and the answer if it was accepted."""
        host = wire.host_of(self.url)
        refused = "failed"
        began = time.monotonic()
        for attempt in range(self.retries + 1):
            headers = {
                "Content-Type": "application/json",
                "Idempotency-Key": batch_key,
                "X-ATC-Signature": sign(self.secret, body, self.now()),
            }
            answer = wire.post(self.url, body, headers, self.timeout_seconds)
            asked = None
            if isinstance(answer, wire.NoAnswer):
                if answer.was_sent:
                    return "unknown", f"no answer from {host} ({answer.why})", None
                reason = f"no connection to {host} ({answer.why})"
            else:
                if 200 <= answer.status < 300:
                    return "delivered", None, answer
                reason = f"{host} answered {answer.status} {answer.phrase}".rstrip()
                if not 300 <= answer.status < 500:
                    refused = "unknown"  # a server that failed, or a status there is none of
                if answer.status not in TRY_AGAIN:
                    return refused, reason, None
                if answer.retry_after is not None:
                    asked = wire.seconds_until(answer.retry_after, self.now(), self.RETRY_AFTER_MAX)
            pause = self._backoff(attempt) if asked is None else asked
            if attempt == self.retries or time.monotonic() - began + pause > self.PATIENCE:
                break
            if pause:
                time.sleep(pause)
        return refused, reason, None

    def _backoff(self, attempt: int) -> float:
        """Seconds to wait after an attempt: none after the first, then twice as long each time, and a little more, so that senders part."""
        return self.backoff_seconds * (2.0**attempt + random.random()) if attempt else 0.0  # noqa: S311


class Channels(dg.ConfigurableResource["Channels"]):
    """How each channel of ``journeys.yaml`` is reached: its webhook, else a file in the outbox; nothing at all unless ``live``."""

    home: str = Field(description="The folder that holds the outbox (ATC_HOME).")
    live: str = Field(default="", description="ATC_LIVE: exactly `true` sends; `false` or nothing is a dry run; all else is refused.")
    webhooks: list[str] = Field(default=[], description="Channels that ATC_WEBHOOKS has a URL for; other channels write files.")
    batch_size: int = Field(default=100, gt=0, description="Messages per webhook request.")
    timeout_seconds: float = Field(default=10.0, gt=0, description="How long a webhook may take to connect, and to answer.")
    retries: int = Field(default=4, ge=0, description="How often a webhook request is tried again.")

    @classmethod
    def from_environment(cls, home: str, environment: Mapping[str, str]) -> "Channels":
        """Configuration as ``ATC_LIVE`` and ``ATC_WEBHOOKS`` (``email=https://...,app=https://...``) say, without any URL.

        What cannot be understood is logged, and refused by ``connect``: all that sends nothing goes on.
        """
        webhooks: list[str] = []
        try:
            webhooks = sorted(_webhooks(environment.get(WEBHOOKS, "")))
            _is_live(environment.get(LIVE, ""))
        except WrongSettingError as problem:
            logging.getLogger(__name__).error("nothing will be sent: %s", problem)  # noqa: TRY400 - an operator's mistake, and no traceback
        return cls(home=home, live=plain(environment.get(LIVE, ""), 40), webhooks=webhooks)

    @property
    def is_live(self) -> bool:
        """Whether messages are sent. Raises WrongSettingError where that is not clear."""
        return _is_live(self.live)

    def connect(self, channels: Iterable[str], now: Clock) -> dict[str, Channel]:
        """A way out for each of these channels (those of ``journeys.yaml``). ``now`` dates the signatures.

        A webhook for a channel that does not exist is an error, and so is a live one without a secret: either would let messages
        go where nobody expects them. Raises WrongSettingError.
        """
        names = sorted(channels)
        is_live = self.is_live
        webhooks = _webhooks(os.environ.get(WEBHOOKS, ""), names)
        for name in sorted(webhooks.keys() - set(names)):
            nearest = "".join(f"; nearest: {match!r}" for match in get_close_matches(name, names, n=1, cutoff=0))
            raise WrongSettingError(f"{WEBHOOKS} names {name!r}, which is no channel of journeys.yaml{nearest}")
        if sorted(webhooks) != sorted(self.webhooks):
            raise WrongSettingError(
                f"{WEBHOOKS} has URLs for {sorted(webhooks)}, and had them for {sorted(self.webhooks)} when the code location was loaded: "
                "reload it, with the variable in the environment of all of Dagster's processes"
            )
        if not is_live:
            return dict.fromkeys(names, DryRun())
        secret = os.environ.get(SIGNED_WITH, "")
        if webhooks and not secret:
            raise WrongSettingError(
                f"{SIGNED_WITH} is not set, and webhooks ({', '.join(sorted(webhooks))}) are not called without a signature"
            )
        file = FileChannel(Path(self.home) / "outbox")
        return {name: self._webhook(webhooks[name], secret, now) if name in webhooks else file for name in names}

    def _webhook(self, url: str, secret: str, now: Clock) -> WebhookChannel:
        return WebhookChannel(url, secret, now, self.batch_size, self.timeout_seconds, self.retries)


def sign(secret: str, body: bytes, at: datetime) -> str:
    """The header ``t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">``; Stripe's scheme, so that a receiver can refuse old requests."""
    seconds = int(at.timestamp())
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def _is_live(live: str) -> bool:
    if live not in {"", "false", "true"}:
        raise WrongSettingError(f"{LIVE} is {plain(live, 40)!r}: expected exactly true (messages are sent) or false (a dry run)")
    return live == "true"


def _webhooks(text: str, channels: Collection[str] = ()) -> dict[str, str]:
    """Read URLs by channel. Errors show no part of the text but names of these channels: the rest may be part of a token."""
    webhooks: dict[str, str] = {}
    entries = [entry.strip() for entry in text.split(",")]
    for number, entry in enumerate(entries, start=1):
        if not entry:
            continue
        channel, _, url = (part.strip() for part in entry.partition("="))
        which = f"for {channel!r}" if channel in channels else f"in entry {number} of {len(entries)}"
        expected = "expected <channel>=https://host/..., separated by commas (a comma of a URL is written %2C)"
        if not re.fullmatch("[a-z0-9_]+", channel):
            raise WrongSettingError(f"{WEBHOOKS} has no channel {which}; {expected}")
        if (problem := wire.check_url(url)) is not None:
            raise WrongSettingError(f"{WEBHOOKS} has no URL {which}: what is there {problem}; {expected}")
        if channel in webhooks:
            raise WrongSettingError(f"{WEBHOOKS} names a channel twice, {which}")
        webhooks[channel] = url
    return webhooks


_OUTCOME = {"idempotency_key": pl.String, "status": pl.String, "reason": pl.String, "is_final": pl.Boolean}


def _outcomes(messages: pl.DataFrame, status: str, reason: str | None = None) -> pl.DataFrame:
    told = None if reason is None else plain(reason, MOST_TOLD)
    return messages.select("idempotency_key", status=pl.lit(status), reason=pl.lit(told, pl.String), is_final=pl.lit(status == "delivered"))


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
        try:
            with part.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in merged["line"])
                file.flush()
                os.fsync(file.fileno())  # the ledger is about to call these delivered
            part.replace(path)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from merging into the same folder, else the later of two would undo the earlier."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _results(body: bytes, keys: Sequence[str]) -> dict[str, tuple[str, str | None, bool]] | None:
    """Read what an answer says of these messages: status, reason and whether that is final; None where it has no results.

    Raises ValueError or RecursionError where it cannot be read.
    """
    text = body.decode("utf-8-sig").lstrip()
    answer = json.loads(text) if text.startswith(("{", "[")) else None
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list):
        return None
    asked = set(keys)
    said: dict[str, tuple[str, str | None, bool]] = {}
    for row in results:
        key = row.get("idempotency_key") if isinstance(row, dict) else None
        if not isinstance(key, str) or key not in asked or row.get("status") not in ("delivered", "failed"):
            continue
        reason = row.get("reason")
        told = None if reason is None else plain(str(reason), MOST_TOLD)
        if key in said and said[key][0] != row["status"]:
            said[key] = ("unknown", "the receiver's results say both delivered and failed", False)
        else:
            said[key] = (row["status"], told, True)
    return said
