"""The channel that posts: signed webhooks, tried again where that is safe.

What belongs here: what is posted, and what each answer means. What does not: one POST (``wire``), other channels.
"""

import json
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from atc_pipeline.escaping import plain
from resources.channels import signing, wire
from resources.channels.channel import (
    MOST_TOLD,
    OUTCOME,
    Clock,
    OnUnknown,
    Setting,
    WrongSettingError,
    batch_key,
    json_lines,
    outcomes,
)
from resources.channels.slots import Slots

TRY_AGAIN = frozenset({408, 429, *range(500, 600)})
NOT_AS_IT_IS = frozenset({400, 413, 422})
"""Refused for what is in the request, or for how much. Other refusals (401, 403, 404, 410, ...) are of whoever asks, or wherever: part of
a batch would fare no better."""
MOST_HALVES = 64
"""Requests for the parts of one batch, at most: enough to find six bad rows among a hundred."""
LONGEST_PAUSE = 86_400.0
"""Seconds for which a receiver may ask to be left alone."""


class _Verdict(NamedTuple):
    """What became of one request and its repetitions."""

    status: str
    reason: str | None = None
    accepted: wire.Answer | None = None
    is_divisible: bool = False
    wait_seconds: float | None = None


@dataclass(frozen=True)
class WebhookChannel:
    """Signed HTTP POSTs of ``{"messages": [...]}``, every message with its ``idempotency_key``.

    ``webhook-id`` is a hash of the batch's keys: the same for the same messages, whenever they are sent. ``webhook-timestamp`` and
    ``webhook-signature`` are made by ``signing``, anew for each attempt.
    A receiver may answer ``{"results": [{"idempotency_key", "status": "delivered" | "failed", "reason"?}]}``; a message it leaves
    out, or of which it says two things, is ``unknown``, and so are all if what looks like JSON cannot be read. Any other 2xx answer
    means that all were delivered.

    Tried again within ``send``: no connection, 408, 429 and 5xx, after ``Retry-After`` seconds (at most ``RETRY_AFTER_MAX``) or
    with exponential backoff and jitter, for ``PATIENCE`` seconds. Not tried again: other 3xx and 4xx (``failed``), and no answer after
    the request went out (``unknown``). After a 5xx every refusal is ``unknown`` too, since the receiver may have acted before it failed.
    A batch that is refused for what is in it (``NOT_AS_IT_IS``) is halved until the rows that are the reason are alone.
    """

    url: str = field(repr=False)
    secret: str = field(repr=False)
    """As ``signing.read_secrets`` takes it."""
    now: Clock
    batch_size: int = 100
    timeout_seconds: float = 10.0
    retries: int = 4
    backoff_seconds: float = 0.5
    is_dry: bool = False
    schedules: bool = True
    on_unknown: OnUnknown = "resend"
    slots: Slots = field(default_factory=Slots)

    RETRY_AFTER_MAX = 120  # seconds: a run waits meanwhile; who asks for longer is left alone for this run
    PATIENCE = 300  # seconds, with one batch

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message, as the receiver answered."""
        return self.slots.complete(messages, self._send)

    def _send(self, messages: pl.DataFrame) -> pl.DataFrame:
        until = time.monotonic() + self.PATIENCE
        whole = self._post(messages, until, "failed")
        parts = self._in_parts(messages, whole, until) if whole.is_divisible and messages.height > 1 else [(messages, whole)]
        every = pl.concat([self._outcomes(part, verdict) for part, verdict in parts], how="diagonal")
        if any(verdict.accepted for _, verdict in parts):
            alone = [part["idempotency_key"][0] for part, verdict in parts if verdict.is_divisible and part.height == 1]
            # Where nothing was taken the receiver refuses everything, and not these rows: that may be mended, and is tried again.
            is_culprit = pl.col("idempotency_key").is_in(alone) & (pl.col("status") == "failed")
            every = every.with_columns(is_final=pl.col("is_final") | is_culprit)
        return messages.select("idempotency_key").join(every, on="idempotency_key", how="left", maintain_order="left")

    def _in_parts(self, messages: pl.DataFrame, whole: _Verdict, until: float) -> list[tuple[pl.DataFrame, _Verdict]]:
        """Send a refused batch in ever smaller parts, one after the other to the bottom: however many rows are bad, some are done with."""
        waiting = deque((half, whole) for half in _halves(messages))
        verdicts = list[tuple[pl.DataFrame, _Verdict]]()
        requests, is_answering = 0, True
        while waiting and is_answering and requests < MOST_HALVES and time.monotonic() < until:
            part, before = waiting.popleft()
            verdict = self._post(part, until, before.status)
            requests += 1
            if verdict.is_divisible and part.height > 1:
                waiting.extendleft((half, verdict) for half in reversed(_halves(part)))
                continue
            verdicts.append((part, verdict))
            is_answering = verdict.accepted is not None or verdict.is_divisible
        # These were refused with others, and nobody knows whether for their sake.
        return verdicts + [(part, before._replace(is_divisible=False)) for part, before in waiting]

    def _outcomes(self, messages: pl.DataFrame, verdict: _Verdict) -> pl.DataFrame:
        """One row per message of a request, in which they had one answer."""
        if verdict.accepted is None:
            refused = outcomes(messages, verdict.status, verdict.reason)
            return refused if verdict.wait_seconds is None else refused.with_columns(wait_seconds=verdict.wait_seconds)
        keys = messages["idempotency_key"].to_list()
        try:
            results = _results(verdict.accepted.body, keys)
        except (ValueError, RecursionError):
            answered = f"{wire.host_of(self.url)} answered {verdict.accepted.status}"
            return outcomes(messages, "unknown", f"{answered} with results that cannot be read")
        if results is None:
            return outcomes(messages, "delivered")
        silence = ("unknown", "not in the receiver's results", False)
        rows = [(key, *results.get(key, silence)) for key in keys]
        return pl.DataFrame(rows, schema=OUTCOME, orient="row")

    def _post(self, messages: pl.DataFrame, until: float, refused: str) -> _Verdict:
        """Send one request until it is answered for good. ``refused``: what a refusal means, after what was answered before."""
        host = wire.host_of(self.url)
        body = ('{"messages":[' + ",".join(json_lines(messages)) + "]}").encode()
        keys, identity = signing.read_secrets(self.secret), batch_key(messages)
        asked: float | None = None
        for attempt in range(self.retries + 1):
            headers = {"Content-Type": "application/json", **signing.headers(keys, identity, self.now(), body)}
            answer = wire.post(self.url, body, headers, self.timeout_seconds)
            asked = None
            if isinstance(answer, wire.NoAnswer):
                if answer.was_sent:
                    return _Verdict("unknown", f"no answer from {host} ({answer.why})")
                reason = f"no connection to {host} ({answer.why})"
            else:
                if 200 <= answer.status < 300:
                    return _Verdict("delivered", accepted=answer)
                reason = f"{host} answered {answer.status} {answer.phrase}".rstrip()
                if not 300 <= answer.status < 500:
                    refused = "unknown"  # a server that failed, or a status there is none of
                if answer.status not in TRY_AGAIN:
                    return _Verdict(refused, reason, is_divisible=answer.status in NOT_AS_IT_IS)
                if answer.retry_after is not None:
                    asked = wire.seconds_until(answer.retry_after, self.now(), LONGEST_PAUSE)
            pause = self._backoff(attempt) if asked is None else asked
            if attempt == self.retries or pause > self.RETRY_AFTER_MAX or time.monotonic() + pause > until:
                break
            if pause:
                time.sleep(pause)
        return _Verdict(refused, reason, wait_seconds=asked or None)

    def _backoff(self, attempt: int) -> float:
        """Seconds to wait after an attempt: none after the first, then twice as long each time, and a little more, so that senders part."""
        return self.backoff_seconds * (2.0**attempt + random.random()) if attempt else 0.0  # noqa: S311


def _halves(messages: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    middle = messages.height // 2
    return messages[:middle], messages[middle:]


def connect(channel_id: str, address: str, setting: Setting) -> WebhookChannel:
    """Connect a channel to a URL. Raises WrongSettingError without a secret to sign with."""
    if (problem := wire.check_url(address)) is not None:
        raise WrongSettingError(f"the URL of {channel_id!r} {problem}")
    if not (secret := setting.environment.get(signing.SIGNED_WITH, "")):
        raise WrongSettingError(f"{signing.SIGNED_WITH} is not set, and the webhook of {channel_id!r} is not called without a signature")
    try:
        signing.read_secrets(secret)
    except ValueError as problem:
        raise WrongSettingError(f"{signing.SIGNED_WITH} {problem}") from None
    slots = Slots.from_environment(setting.environment)
    return WebhookChannel(address, secret, setting.now, setting.batch_size, setting.timeout_seconds, setting.retries, slots=slots)


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
