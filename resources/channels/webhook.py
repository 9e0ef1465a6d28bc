"""The channel that posts: signed webhooks, tried again where that is safe.

What belongs here: what is posted, and what each answer means. What does not: one POST (``wire``), other channels.
"""

import hashlib
import hmac
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from atc_pipeline.escaping import plain
from resources.channels import wire
from resources.channels.channel import MOST_TOLD, OUTCOME, Clock, OnUnknown, Setting, WrongSettingError, json_lines, outcomes

SIGNED_WITH = "ATC_WEBHOOK_SECRET"
"""The environment variable with what requests are signed with."""

TRY_AGAIN = frozenset({408, 429, *range(500, 600)})


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
    schedules: bool = True
    on_unknown: OnUnknown = "resend"

    RETRY_AFTER_MAX = 120  # seconds: a run waits meanwhile
    PATIENCE = 300  # seconds, with one batch

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message, as the receiver answered."""
        body = ('{"messages":[' + ",".join(json_lines(messages)) + "]}").encode()
        keys = messages["idempotency_key"].to_list()
        status, reason, accepted = self._post(body, hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32])
        if accepted is None:
            return outcomes(messages, status, reason)
        try:
            results = _results(accepted.body, keys)
        except (ValueError, RecursionError):
            return outcomes(messages, "unknown", f"{wire.host_of(self.url)} answered {accepted.status} with results that cannot be read")
        if results is None:
            return outcomes(messages, "delivered")
        silence = ("unknown", "not in the receiver's results", False)
        rows = [(key, *results.get(key, silence)) for key in keys]
        return pl.DataFrame(rows, schema=OUTCOME, orient="row")

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


def connect(channel_id: str, address: str, setting: Setting) -> WebhookChannel:
    """Connect a channel to a URL. Raises WrongSettingError without a secret to sign with."""
    if (problem := wire.check_url(address)) is not None:
        raise WrongSettingError(f"the URL of {channel_id!r} {problem}")
    if not (secret := setting.environment.get(SIGNED_WITH, "")):
        raise WrongSettingError(f"{SIGNED_WITH} is not set, and the webhook of {channel_id!r} is not called without a signature")
    return WebhookChannel(address, secret, setting.now, setting.batch_size, setting.timeout_seconds, setting.retries)


def sign(secret: str, body: bytes, at: datetime) -> str:
    """The header ``t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">``; Stripe's scheme, so that a receiver can refuse old requests."""
    seconds = int(at.timestamp())
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


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
    by_key: dict[str, tuple[str, str | None, bool]] = {}
    for row in results:
        key = row.get("idempotency_key") if isinstance(row, dict) else None
        if not isinstance(key, str) or key not in asked or row.get("status") not in ("delivered", "failed"):
            continue
        reason = row.get("reason")
        shown = None if reason is None else plain(str(reason), MOST_TOLD)
        if key in by_key and by_key[key][0] != row["status"]:
            by_key[key] = ("unknown", "the receiver's results say both delivered and failed", False)
        else:
            by_key[key] = (row["status"], shown, True)
    return by_key
