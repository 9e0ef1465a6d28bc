"""The link by which a message can be declined: who, from which channel and by which message, signed.

What belongs here: making the link and reading its token. What does not: who answers it (``sample.unsubscribe``, or a page of one's own:
docs/deploy.md tells the format), where in a message it stands (``mime``).
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from resources.channels import wire

BASE, SECRET = "ATC_UNSUBSCRIBE_URL", "ATC_UNSUBSCRIBE_SECRET"
SHORTEST_SECRET = 16
"""Letters. What is shorter could be guessed from one message, without asking anybody."""
_SIGNED = b"atc unsubscribe 1:"
"""What is signed begins with it, so that a signature of something else, made with the same secret, is none of a token."""


class Declined(NamedTuple):
    """What a token tells."""

    customer_id: str
    channel: str
    idempotency_key: str


class WrongLinkError(ValueError):
    """The environment does not tell how messages can be declined; the message never repeats a secret."""


@dataclass(frozen=True)
class Links:
    """Makes links ``<base>?token=<token>``.

    A token is ``<data>.<signature>``, both Base64 for URLs without padding: of the JSON list of customer, channel and key, and of its
    HMAC-SHA256. It hides nothing: whoever has the link has the message. It has no end: a link must work for as long as the message
    lies in a mailbox, and all it can do is to decline again. The first secret signs; tokens of all of them are read, so that one can be
    changed without breaking the links in messages that were sent.
    """

    base: str
    secrets: Sequence[str] = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read ``ATC_UNSUBSCRIBE_URL`` and ``ATC_UNSUBSCRIBE_SECRET`` (one secret, or the new one and older ones, parted by blanks).

        Raises WrongLinkError.
        """
        base, secrets = environment.get(BASE, "").strip(), environment.get(SECRET, "").split()
        for name, value in ((BASE, base), (SECRET, secrets)):
            if not value:
                raise WrongLinkError(f"{name} is not set, and no e-mail is sent that nobody can unsubscribe from (docs/deploy.md)")
        problem = wire.check_url(base) or (None if base.startswith("https://") else "does not begin with https://")
        if problem or set(base) & set("<>,\"'"):
            raise WrongLinkError(f"{BASE} {problem or 'has brackets, quotes or commas in it'}: expected https://host/path")
        if not base.isascii():
            raise WrongLinkError(f"{BASE} has letters outside of ASCII: write the host as xn--..., and the path percent-encoded")
        if any(len(secret) < SHORTEST_SECRET for secret in secrets):
            raise WrongLinkError(
                f"{SECRET} has a secret of fewer than {SHORTEST_SECRET} letters (blanks part secrets): make one with `openssl rand -hex 32`"
            )
        return cls(base, tuple(secrets))

    def link(self, declined: Declined) -> str:
        """Return the address that declines a message's channel for its customer."""
        return f"{self.base}{'&' if '?' in self.base else '?'}token={self.token(declined)}"

    def token(self, declined: Declined) -> str:
        """Sign what a link tells, with the first secret."""
        data = _base64(json.dumps(list(declined), ensure_ascii=False, separators=(",", ":")).encode())
        return f"{data}.{_base64(_signature(self.secrets[0], data))}"

    def read(self, token: str) -> Declined | None:
        """Return what a token tells; None where none of the secrets has signed it."""
        data, _, signature = token.partition(".")
        signed = signature.encode()
        if not any(hmac.compare_digest(_base64(_signature(secret, data)).encode(), signed) for secret in self.secrets):
            return None
        return Declined(*json.loads(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))))


def _signature(secret: str, data: str) -> bytes:
    return hmac.new(secret.encode(), _SIGNED + data.encode(), hashlib.sha256).digest()


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
