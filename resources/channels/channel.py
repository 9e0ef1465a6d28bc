"""What a channel is: a way out for messages, what it is connected with, and what it answers for each.

What belongs here: the protocol, the dry run, and what a receiver is told. What does not: any way out (one module each).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

import polars as pl

from atc_pipeline.escaping import plain

Clock = Callable[[], datetime]

OnUnknown = Literal["resend", "hold"]
"""What becomes of a message that may have arrived: it is sent again where the same key has one effect, else held until somebody knows."""

PAYLOAD = ("idempotency_key", "date", "customer_id", "journey_id", "step_day", "channel", "content", "variant", "send_at")
"""What a receiver is told of a message. Why it was chosen (``decision``) stays here."""
RENDERED = ("medium", "address", "subject", "preheader", "text", "html", "link", "fields")
"""What a receiver is told besides of a message that is rendered here; of a message that has none of one, not even that."""

MOST_TOLD = 200
"""Characters of a reason that are kept."""


class WrongSettingError(ValueError):
    """The environment says how to reach channels in a way that cannot be understood; the message never repeats a secret."""


@dataclass(frozen=True)
class Setting:
    """What a way out is connected with beside its address. Secrets are read from ``environment``, and shown nowhere."""

    home: str
    now: Clock
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    batch_size: int = 100
    timeout_seconds: float = 10.0
    retries: int = 4


class Channel(Protocol):
    """A way out for messages."""

    @property
    def batch_size(self) -> int:
        """How many messages to hand over at once, at most."""

    @property
    def is_dry(self) -> bool:
        """Whether nothing leaves, so that nothing is to be remembered."""

    @property
    def schedules(self) -> bool:
        """Whether it takes messages before they are due, with the ``send_at`` of each, and keeps to that."""

    @property
    def on_unknown(self) -> OnUnknown:
        """What becomes of a message that may have arrived."""

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message: ``idempotency_key``, ``status``, ``reason?`` and ``is_final``. Never an exception.

        ``delivered`` and ``failed`` are certain; ``unknown`` is everything that may have arrived. ``is_final``: whether the receiver
        decided it of this message, so that to try again is of no use. Two columns more where there is anything to say (``MORE``):
        ``provider_id``, what the receiver calls the message, and ``wait_seconds``, for how long it asks to be left alone.
        """


@dataclass
class DryRun:
    """Sends nothing, and counts what would have been sent."""

    batch_size: int = 10_000
    is_dry: bool = True
    schedules: bool = True
    on_unknown: OnUnknown = "resend"
    messages: int = 0

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message, each ``would_send``."""
        self.messages += messages.height
        return outcomes(messages, "would_send")


OUTCOME = {"idempotency_key": pl.String, "status": pl.String, "reason": pl.String, "is_final": pl.Boolean}
MORE = {"provider_id": pl.String, "wait_seconds": pl.Float64}


def outcomes(messages: pl.DataFrame, status: str, reason: str | None = None) -> pl.DataFrame:
    """One row per message, all with the same outcome."""
    shown = None if reason is None else plain(reason, MOST_TOLD)
    return messages.select(
        "idempotency_key", status=pl.lit(status), reason=pl.lit(shown, pl.String), is_final=pl.lit(status == "delivered")
    )


def json_lines(messages: pl.DataFrame) -> list[str]:
    """Write each message as the JSON object that a receiver gets: ``PAYLOAD``, and of ``RENDERED`` what it has."""
    rendered = [name for name in RENDERED if name in messages.columns and messages[name].null_count() < messages.height]
    if not rendered:
        return messages.select(PAYLOAD).write_ndjson().split("\n")[:-1]
    lines = dict[int, str]()
    is_there = [pl.col(name).is_not_null().alias(f"has_{name}") for name in rendered]
    for shape, alike in messages.with_row_index("row").group_by(is_there, maintain_order=True):
        present = [name for name, is_present in zip(rendered, shape, strict=True) if is_present]
        lines.update(zip(alike["row"], alike.select(*PAYLOAD, *present).write_ndjson().split("\n")[:-1], strict=True))
    return [lines[row] for row in range(messages.height)]


def batch_key(messages: pl.DataFrame) -> str:
    """Return what names a batch: a hash of its messages' keys, whatever their order and whatever else is in them."""
    return hashlib.sha256("\n".join(sorted(messages["idempotency_key"])).encode()).hexdigest()[:32]
