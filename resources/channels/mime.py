"""A message as the bytes that a relay gets: headers that nothing can break out of, a text and an HTML part.

What belongs here: addresses, headers, encodings, and putting in what is known only at the time of sending. What does not: what a message
says (its row comes rendered), the link it is declined by (``unsubscribe``), how bytes travel (``smtp``).

Parts are encoded by ``binascii``, in C, and headers written here: the standard library's messages take three to ten times as long for what
is the same to a reader (the tests read it back with them).
"""

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime

import idna

from resources.channels.unsubscribe import Declined, Links

LONGEST_LINE = 998
"""Bytes of a line (RFC 5322); no relay need take more."""
LONGEST_SUBJECT = 500
"""Letters. A subject is cut on the screen after 60; one that is longer than this is a mistake, and 998 bytes hold no more in UTF-8."""
LONGEST_LOCAL, LONGEST_DOMAIN = 64, 253
_UNENCODED = 66
"""Letters of a subject in ASCII that fit on a line with its name; a longer one is folded, as encoded words."""
_WORD_BYTES = 45
"""Bytes of UTF-8 that fit an encoded word of 75 letters."""

_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+)*")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")
_KEY = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202d\u202e]+")
"""What ends a line or turns one around, in a header."""
_EXCESS = 6
"""From a sixth of letters outside of ASCII on (fewer of those that take three bytes), Base64 is shorter than quoted-printable."""


class UnfitError(ValueError):
    """No message can be made of this, now or later; the text says why, and has nothing of a person in it."""


@dataclass(frozen=True)
class Address:
    """Where mail goes: a local part, which may have any letters, and a domain in ASCII, as DNS knows it."""

    local: str
    domain: str

    @property
    def is_ascii(self) -> bool:
        """Whether every relay can take it; for the rest one must know SMTPUTF8 (RFC 6531)."""
        return self.local.isascii()

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


def read_address(text: str) -> Address:
    """Read an address that stands alone. Quoted local parts and numeric hosts are refused: nobody's are, but an attacker's.

    A domain in other letters becomes its name in DNS by IDNA 2008: by that of 2003, which Python brings along, ``straße.example``
    would be another's. Raises UnfitError.
    """
    local, at, domain = text.strip(" ").rpartition("@")
    if not at or len(local.encode()) > LONGEST_LOCAL or not _ATOM.fullmatch(local) or any(_is_unseen(letter) for letter in local):
        raise UnfitError("the address is none: expected name@host")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True, std3_rules=True).decode()
        except UnicodeError:  # which idna.IDNAError is
            raise UnfitError("the host of the address is no name there can be") from None
    domain = domain.lower()
    if len(domain) > LONGEST_DOMAIN or not _HOST.fullmatch(domain) or domain.rpartition(".")[2].isdigit():
        raise UnfitError("the host of the address is no name there can be")
    return Address(local, domain)


def read_mailbox(text: str) -> tuple[str, Address]:
    """Read ``Name <name@host>`` or ``name@host``: the name, which may be empty, and the address. Raises UnfitError."""
    named = _NAMED.fullmatch(text.strip())
    name = named["name"].strip().strip('"').strip() if named else ""
    return _ACTING.sub(" ", name), read_address((named["address"] if named else text).strip())


@dataclass(frozen=True)
class Mail:
    """A message that is ready: to whom, and the bytes, lines ended by CRLF, without the dots of SMTP."""

    key: str
    sender: Address
    recipient: Address
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Letterhead:
    """What all e-mails of a channel have in common.

    ``slots``: what the rendered texts have in the place of what is put in here, by its name. ``key_header``: what a relay that knows
    idempotency calls the key. ``mailto``: where a message can be declined by mail, too.
    """

    channel: str
    sender_name: str
    sender: Address
    links: Links
    slots: Mapping[str, str]
    reply_to: Address | None = None
    preferences: str = ""
    mailto: Address | None = None
    key_header: str = ""

    def compose(self, row: Mapping[str, object], at: datetime) -> Mail:
        """Make a message of its row, with its texts. Raises UnfitError."""
        if row["address"] is None:
            raise UnfitError("there is no address: say of the channel in journeys.yaml which column has it (to: email)")
        key, recipient = str(row["idempotency_key"]), read_address(str(row["address"]))
        if not _KEY.fullmatch(key):
            raise UnfitError("the key is none that a header can hold")
        declined = Declined(str(row["customer_id"]), self.channel, key)
        link = self.links.link(declined)
        values = {"unsubscribe_url": link, "preferences_url": self._preferences(declined, link), "message_id": key}
        subject = self._filled(str(row["subject"] or ""), values)
        bodies = [_part(subtype, text) for subtype, text in self._bodies(row, values)]
        boundary = f"=_{key}"  # which neither encoding can write: there an equals sign is followed by digits, or is the last
        to_decline = [f"<{link}>"] + ([f"<mailto:{self.mailto}?subject={self.links.token(declined)}>"] if self.mailto else [])
        headers = [
            ("Date", format_datetime(at)),
            ("From", f"{_phrase(self.sender_name)}<{self.sender}>"),
            *([("Reply-To", f"<{self.reply_to}>")] if self.reply_to else []),
            ("To", f"<{recipient}>"),
            ("Subject", _words(subject, _UNENCODED)),
            ("Message-ID", f"<{key}@{self.sender.domain}>"),
            ("List-Unsubscribe", ",\r\n ".join(to_decline)),
            ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
            *([(self.key_header, key)] if self.key_header else []),
            ("MIME-Version", "1.0"),
        ]
        head = "\r\n".join(f"{name}: {value}" for name, value in headers).encode()
        if any(len(line) > LONGEST_LINE for line in head.split(b"\r\n")):
            raise UnfitError(f"a header is longer than {LONGEST_LINE} bytes: the id of the customer is too long for an unsubscribe link")
        if len(bodies) == 1:
            return Mail(key, self.sender, recipient, head + b"\r\n" + bodies[0])
        edge = f"--{boundary}".encode()
        start = head + f'\r\nContent-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n'.encode()
        return Mail(key, self.sender, recipient, start + b"".join(edge + b"\r\n" + body for body in bodies) + edge + b"--\r\n")

    def _bodies(self, row: Mapping[str, object], values: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return subtype and text of each part, the plainest first, as readers take the last they know."""
        text, markup = str(row["text"] or ""), str(row["html"] or "")
        escaped = {name: html.escape(value) for name, value in values.items()}
        parts = [("plain", self._filled(text, values))] if text else []
        parts += [("html", self._filled(markup, escaped))] if markup else []
        if not parts:
            raise UnfitError("there is no text and no HTML: say of the channel in journeys.yaml that its medium is email")
        return parts

    def _filled(self, text: str, values: Mapping[str, str]) -> str:
        for name, marker in self.slots.items():
            if marker[0] in text:  # found ten times as fast as the whole, and mostly not there
                text = text.replace(marker, values[name])
        return text

    def _preferences(self, declined: Declined, link: str) -> str:
        if not self.preferences:
            return link
        return f"{self.preferences}{'&' if '?' in self.preferences else '?'}token={self.links.token(declined)}"


def _part(subtype: str, text: str) -> bytes:
    """Encode a part, with its headers: short lines of ASCII, whatever is in it."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    content = lines.removesuffix("\n").replace("\n", "\r\n").encode() + b"\r\n"
    if (len(text.encode()) - len(text)) * _EXCESS > len(text):
        encoding, encoded = "base64", base64.encodebytes(content).replace(b"\n", b"\r\n")
    else:
        encoding, encoded = "quoted-printable", binascii.b2a_qp(content, istext=True)
    return f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + encoded


def _words(text: str, most: int) -> str:
    """Write text for a header: as it is where that is short, plain and in ASCII, else as encoded words (RFC 2047), a line each.

    What acts in a header, line breaks above all, becomes a blank. Raises UnfitError where the text is too long.
    """
    shown = _ACTING.sub(" ", text).strip()
    if len(shown) > LONGEST_SUBJECT:
        raise UnfitError(f"the subject has {len(shown):,} letters, and {LONGEST_SUBJECT} at most are sent")
    if shown.isascii() and len(shown) <= most and "=?" not in shown:
        return shown
    words, start, size = [], 0, 0
    for number, letter in enumerate(shown):
        width = len(letter.encode())
        if size + width > _WORD_BYTES:
            words.append(shown[start:number])
            start, size = number, 0
        size += width
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(word.encode()).decode()}?=" for word in (*words, shown[start:]))


def _phrase(name: str) -> str:
    """Write the name before an address."""
    if not name:
        return ""
    written = _words(name, _UNENCODED)
    if written.startswith("=?"):
        return f"{written} "
    escaped = written.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" '


def _is_unseen(letter: str) -> bool:
    """Whether a letter is a blank, a control character, one that hides, or half of one."""
    return not letter.isascii() and unicodedata.category(letter)[0] in "CZ"
