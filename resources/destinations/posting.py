"""One request to a destination, tried again where that is safe, and divided where a part of it is refused.

Membership is a set, and to be told twice is to be told once: so what may have arrived is simply told again on the next run.

What belongs here: when to try again, and halving. What does not: what is posted (``https``, ``segment``), one POST
(``resources.channels.wire``).
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from resources.channels import wire
from resources.channels.channel import Clock
from resources.destinations.destination import OUTCOME, outcome

TRY_AGAIN = frozenset({408, 429, *range(500, 600)})
NOT_AS_IT_IS = frozenset({400, 413, 422})
"""Refused for what is in the request, or for how much of it; other refusals are of whoever asks, and a part would fare no better."""
MOST_HALVES = 64
"""Requests for the parts of one, at most: enough to find six bad rows among a hundred."""
RETRY_AFTER_MAX = 120
"""Seconds: a run waits meanwhile."""


class Verdict(NamedTuple):
    """What became of a request: the answer if it was accepted, or else what is to be said of its rows."""

    accepted: wire.Answer | None
    status: str = "acknowledged"
    reason: str | None = None
    is_divisible: bool = False


@dataclass(frozen=True)
class Post:
    """POSTs to one URL. After a 5xx a refusal is ``unknown``, too: the destination may have acted before it failed."""

    url: str = field(repr=False)
    now: Clock
    timeout_seconds: float = 10.0
    retries: int = 4
    backoff_seconds: float = 0.5

    def __call__(self, body: bytes, headers: Callable[[], Mapping[str, str]]) -> Verdict:
        """Post it until it is accepted or refused, or no more. ``headers`` are made anew each time."""
        host, refused, reason = wire.host_of(self.url), "failed", ""
        for attempt in range(self.retries + 1):
            answer = wire.post(self.url, body, {"Content-Type": "application/json", **headers()}, self.timeout_seconds)
            asked = None
            if isinstance(answer, wire.NoAnswer):
                if answer.was_sent:
                    return Verdict(None, "unknown", f"no answer from {host} ({answer.why})")
                reason = f"no connection to {host} ({answer.why})"
            else:
                if 200 <= answer.status < 300:
                    return Verdict(answer)
                reason = f"{host} answered {answer.status} {answer.phrase}".rstrip()
                if not 300 <= answer.status < 500:
                    refused = "unknown"
                if answer.status not in TRY_AGAIN:
                    return Verdict(None, refused, reason, is_divisible=answer.status in NOT_AS_IT_IS)
                if answer.retry_after is not None:
                    asked = wire.seconds_until(answer.retry_after, self.now(), RETRY_AFTER_MAX)
            if attempt < self.retries:
                time.sleep(self.backoff_seconds * (2.0**attempt + random.random()) if asked is None else asked)  # noqa: S311
        return Verdict(None, refused, reason)


def divided(rows: pl.DataFrame, tell: Callable[[pl.DataFrame], tuple[Verdict, pl.DataFrame]]) -> pl.DataFrame:
    """Tell of rows, and of their halves where they are refused for what is in them, until those that are the reason are alone.

    ``tell``: posts some rows, and returns the verdict with an outcome of each.
    """
    left, parts, tries = [(0, rows)], list[tuple[int, pl.DataFrame]](), 0
    while left:
        offset, part = left.pop()
        tries += 1
        verdict, answered = tell(part)
        if not verdict.is_divisible:
            parts.append((offset, answered))
        elif part.height == 1:
            parts.append((offset, outcome(part, verdict.status, verdict.reason, is_final=True)))
        elif tries + len(left) >= MOST_HALVES:
            parts.append((offset, outcome(part, verdict.status, verdict.reason)))
        else:
            half = part.height // 2
            left += [(offset + half, part.slice(half)), (offset, part.head(half))]
    ordered = [answered for _, answered in sorted(parts, key=lambda each: each[0])]
    return pl.concat([pl.DataFrame(schema=OUTCOME), *ordered])
