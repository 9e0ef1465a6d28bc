"""What a relay gets is what was written, to whoever reads it, and nothing in it breaks out of its place.

What belongs here: bytes, read back by the standard library. What does not: how they travel (``test_email``).
"""

import html
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.content.templates import SLOTS
from resources.channels.mime import Address, Letterhead, UnfitError, read_address, read_mailbox
from resources.channels.unsubscribe import Declined, Links
from tests.edges.relay import read

AT = datetime(2026, 1, 6, 9, 30, tzinfo=UTC)
LINKS = Links("https://grocer.example/u", ("a-secret-that-signs-links",))
HEAD = Letterhead("email", "Grocer", Address("hello", "grocer.example"), LINKS, SLOTS)
ROW = {
    "idempotency_key": "ab" * 16,
    "customer_id": "ann",
    "address": "ann@home.example",
    "subject": "Hi",
    "text": "Dear",
    "html": "<p>Dear</p>",
}
OUTSIDE = "\r\nBcc: all@attack.example\r\n\r\nNot yours"
HOSTILE = [
    "{{7*7}}",
    "<script>alert(1)</script>",
    OUTSIDE,
    "\nBcc: x",
    "\rBcc: x",
    "a\x00b",
    "\u2028Bcc: x",
    "\u202eevil",
    "=?utf-8?q?x?=",
    "\x85Bcc: x",
]
ALLOWED = {
    *("date", "from", "reply-to", "to", "subject", "message-id", "list-unsubscribe", "list-unsubscribe-post"),
    *("mime-version", "content-type", "idempotency-key"),
}


def body(content: bytes, subtype: str) -> str:
    """The text of a part, with the line ends that it was written with."""
    part = read(content).get_body((subtype,))
    assert part is not None
    return bytes(part.get_payload(decode=True)).decode()  # type: ignore[arg-type]


def test_a_message_is_read_back_as_it_was_written() -> None:
    """Every header and both parts, the plain one first."""
    head = Letterhead(
        "email", "Grün & Söhne", HEAD.sender, LINKS, SLOTS, Address("care", "grocer.example"), "", Address("stop", "grocer.example")
    )
    message = read(head.compose(ROW | {"subject": "Grüße, 日本"}, AT).content)

    assert message.defects == []
    assert (str(message["From"]), str(message["To"])) == ("Grün & Söhne <hello@grocer.example>", "ann@home.example")
    assert (str(message["Subject"]), str(message["Reply-To"])) == ("Grüße, 日本", "care@grocer.example")
    assert parsedate_to_datetime(str(message["Date"])) == AT
    assert str(message["Message-ID"]) == f"<{ROW['idempotency_key']}@grocer.example>"
    declined = Declined("ann", "email", ROW["idempotency_key"])
    https, mailto = (part.strip() for part in str(message["List-Unsubscribe"]).split(","))
    assert https == f"<{LINKS.link(declined)}>"
    assert mailto == f"<mailto:stop@grocer.example?subject={LINKS.token(declined)}>"
    assert str(message["List-Unsubscribe-Post"]) == "List-Unsubscribe=One-Click"
    assert [part.get_content_type() for part in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_any_text_arrives_as_it_is(text: str) -> None:
    """In both parts, but for line ends: they are CRLF, and the last is the part's own. It travels in short lines of ASCII."""
    mail = HEAD.compose(ROW | {"text": text, "html": text}, AT)
    expected = re.sub("\r\n|[\r\n]", "\r\n", text)
    for subtype in ("plain", "html"):
        arrived = body(mail.content, subtype)
        assert arrived.removesuffix("\r\n") == expected.removesuffix("\r\n")
    bodies = mail.content.partition(b"\r\n\r\n")[2]
    assert bodies.isascii()
    assert all(len(line) <= 76 for line in bodies.split(b"\r\n"))
    assert b"\n" not in bodies.replace(b"\r\n", b"")
    assert b"\r" not in bodies.replace(b"\r\n", b"")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_subject_is_one_header(text: str) -> None:
    """Whatever is in it: no header is added, and what ends a line is a blank."""
    message = read(HEAD.compose(ROW | {"subject": text}, AT).content)

    assert {name.lower() for name in message} <= ALLOWED
    shown = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202d\u202e]+", " ", text).strip()
    # The standard library's reader makes one blank of several where a line is folded or decoded.
    assert "".join(str(message["Subject"]).split()) == "".join(shown.split())


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_profile_is_inert(attack: str) -> None:
    """In the subject and both bodies it is text; as an id it is part of a signed link; no header and no recipient comes of it."""
    mail = HEAD.compose(ROW | {"subject": f"Hi {attack}", "text": attack, "html": html.escape(attack), "customer_id": attack}, AT)
    message = read(mail.content)

    assert {name.lower() for name in message} <= ALLOWED
    assert message["Bcc"] is None
    assert str(mail.recipient) == "ann@home.example"
    assert len(list(message.walk())) == 3
    token = str(message["List-Unsubscribe"]).strip("<>").partition("token=")[2]
    assert LINKS.read(token) == Declined(attack, "email", ROW["idempotency_key"])


@pytest.mark.parametrize(
    "address",
    [
        *(f"ann{attack}@home.example" for attack in HOSTILE if attack not in {"{{7*7}}", "=?utf-8?q?x?="}),
        *("", "ann", "@home.example", "ann@", "ann@home.example, bob@home.example", "ann@home.example>\r\nRCPT TO:<bob@home.example"),
        *("<ann@home.example>", "ann@[127.0.0.1]", "ann@127.0.0.1", '"a b"@home.example', "ann@home..example", "a..b@home.example"),
        *("ann@-home.example", "ann@home_.example", f"{'a' * 65}@home.example", f"ann@{'a' * 64}.example", "ann@\u202ehome.example"),
        *("ann\u00a0@home.example", "ann@home.example\nDATA", "ann @home.example", f"ann@{'x' * 1_000_000}"),
    ],
)
def test_a_hostile_address_is_refused(address: str) -> None:
    """What is no plain address gets no message, and the reason repeats none of it."""
    with pytest.raises(UnfitError) as refusal:
        HEAD.compose(ROW | {"address": address}, AT)

    assert "ann" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" Ann.O'Neil+tea@Home.EXAMPLE ", Address("Ann.O'Neil+tea", "home.example")),
        ("ann@straße.example", Address("ann", "xn--strae-oqa.example")),
        ("ann@日本.example", Address("ann", "xn--wgv71a.example")),
        ("änn@home.example", Address("änn", "home.example")),
        ("{{7*7}}@home.example", Address("{{7*7}}", "home.example")),
    ],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    """A domain of other letters by IDNA 2008, in which ``straße`` is not ``strasse``."""
    assert read_address(text) == address


@pytest.mark.parametrize(
    ("text", "name"),
    [("Grocer <a@b.example>", "Grocer"), ('"Grocer, Inc." <a@b.example>', "Grocer, Inc."), ("a@b.example", ""), ("<a@b.example>", "")],
)
def test_a_sender_has_a_name_or_none(text: str, name: str) -> None:
    """As mail programs write it; and it comes back so from the header."""
    assert read_mailbox(text) == (name, Address("a", "b.example"))
    head = Letterhead("email", name, Address("a", "b.example"), LINKS, SLOTS)
    assert [each.display_name for each in read(head.compose(ROW, AT).content)["From"].addresses] == [name]


def test_what_is_known_only_now_is_put_in() -> None:
    """Slots, in the text as they are, in HTML escaped, in the subject too."""
    links = Links("https://grocer.example/u?x=1&y=2", ("a-secret-that-signs-links",))
    head = Letterhead("email", "", HEAD.sender, links, SLOTS, preferences="https://grocer.example/p")
    text = " ".join(SLOTS[name] for name in sorted(SLOTS))
    row = ROW | {"text": text, "html": f'<a href="{SLOTS["unsubscribe_url"]}">x</a>', "subject": f"[{SLOTS['message_id']}]"}
    content = head.compose(row, AT).content
    declined = Declined("ann", "email", ROW["idempotency_key"])

    assert body(content, "plain").split() == [
        ROW["idempotency_key"],
        f"https://grocer.example/p?token={links.token(declined)}",
        links.link(declined),
    ]
    assert body(content, "html").strip() == f'<a href="{html.escape(links.link(declined))}">x</a>'
    assert str(read(content)["Subject"]) == f"[{ROW['idempotency_key']}]"


def test_without_html_there_is_one_part() -> None:
    """And without any text there is no message."""
    assert read(HEAD.compose(ROW | {"html": None}, AT).content).get_content_type() == "text/plain"
    with pytest.raises(UnfitError, match="no text and no HTML"):
        HEAD.compose(ROW | {"html": None, "text": None}, AT)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"subject": "x" * 1_000_000}, "1,000,000 letters"),
        ({"customer_id": "x" * 30_000}, "id of the customer is too long"),
        ({"idempotency_key": "a\r\nb"}, "key"),
    ],
)
def test_what_no_header_can_hold_is_refused(fault: dict[str, str], why: str) -> None:
    """With a reason, and for good: no relay would take it."""
    with pytest.raises(UnfitError, match=why):
        HEAD.compose(ROW | fault, AT)


def test_a_relay_that_knows_keys_is_told() -> None:
    """Under the name that it knows."""
    head = Letterhead("email", "", HEAD.sender, LINKS, SLOTS, key_header="Idempotency-Key")
    assert read(head.compose(ROW, AT).content)["Idempotency-Key"] == ROW["idempotency_key"]
