"""Signatures of requests after Standard Webhooks, so that whoever receives them verifies them with a library there is.

What belongs here: what a secret is, and the headers that are made with it. What does not: what is sent, and where to (``webhook``).
"""

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

SIGNED_WITH = "ATC_WEBHOOK_SECRET"
"""The environment variable with the secret, or with two of them while receivers change from the older to the newer."""
PREFIX = "whsec_"
MOST_SECRETS = 2
BYTES = range(24, 65)
"""What Standard Webhooks asks of a secret."""


def read_secrets(text: str) -> tuple[bytes, ...]:
    """Return the keys to sign with: one, or two while one is rotated, separated by a blank or a comma.

    ``whsec_`` goes before the base64 of a key. A text without it is one key, as it is (its UTF-8): what was used before there were others.
    Raises ValueError, which repeats nothing of the text.
    """
    parts = [part for part in re.split(r"[\s,]+", text) if part]
    if not any(part.startswith(PREFIX) for part in parts):
        return (text.encode(),)
    if len(parts) > MOST_SECRETS:
        raise ValueError(
            f"holds {len(parts)} secrets: expected one, or {MOST_SECRETS} while one is rotated, separated by a blank (one that has blanks "
            f"itself is written as {PREFIX} and its base64)"
        )
    return tuple(_key(part) for part in parts)


def headers(keys: Sequence[bytes], identity: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers of a request: which it is, when it was signed, and one signature for each key.

    ``identity`` is the same whenever the same is sent again, and has no dot in it.
    """
    moment, text = at.astimezone(UTC), body.decode()
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(Webhook(key).sign(identity, moment, text) for key in keys),
    }


def _key(part: str) -> bytes:
    if not part.startswith(PREFIX):
        return part.encode()
    encoded = part.removeprefix(PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in BYTES:
        raise ValueError(
            f"has a secret that begins with {PREFIX} and goes on with no base64 of {BYTES[0]} to {BYTES[-1]} bytes, "
            "as `openssl rand -base64 32` makes it"
        )
    return key
