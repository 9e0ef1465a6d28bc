"""E-mail over real connections: what arrived is delivered, what certainly did not has failed, and the rest is unknown.

What belongs here: the channel and servers on loopback that misbehave. What does not: what a message is made of (``test_mime``), a relay
of Debian's (``test_opensmtpd``).
"""

import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from resources.channels.channel import Setting, WrongSettingError
from resources.channels.connected import Channels
from resources.channels.email import connect
from resources.channels.unsubscribe import Declined, Links
from resources.storage.handed import Handed
from tests.edges.relay import AT, ENVIRONMENT, SECRET, Relay, Script, channel_to, drip, mails, outcome, read, running, saying

HELLO = b"220 here\r\n"
OFFER = b"250-here\r\n250 SIZE 1000000\r\n"
OK = b"250 ok\r\n"
GO = b"354 go\r\n"


def test_a_message_arrives_once_and_as_it_was_made(tmp_path: Path) -> None:
    """By its own recipient alone, from the sender; what the relay calls it is told."""
    with running(Relay()) as relay:
        outcomes = channel_to(relay.port, tmp_path).send(mails("ann", "bob"))

    assert outcome(outcomes) == [("delivered", True)] * 2
    assert set(outcomes["provider_id"]) == {"Q1", "Q2"}
    assert sorted(to for _, to, _ in relay.taken) == ["ann@home.example", "bob@home.example"]
    assert {sender for sender, _, _ in relay.taken} == {"hello@grocer.example"}
    message = relay.messages()["ann@home.example"]
    assert str(message["To"]) == "ann@home.example"
    token = str(message["List-Unsubscribe"]).strip("<>").partition("token=")[2]
    assert Links("", (SECRET,)).read(token) == Declined("c-ann", "email", "0" * 32)


def test_lines_of_dots_arrive(tmp_path: Path) -> None:
    """A line of one dot ends a message, unless it is doubled on the way."""
    text = ".\r\n..\r\n.a\r\n.\r\n"
    with running(Relay()) as relay:
        channel_to(relay.port, tmp_path).send(mails("ann", text=text, html=None))

    assert relay.messages()["ann@home.example"].get_content() == text


@pytest.mark.parametrize(
    ("phase", "answer", "expected"),
    [
        ("RCPT", "451 4.2.0 busy", ("failed", False)),
        ("RCPT", "550 5.1.1 no such user", ("failed", True)),
        ("RCPT", "530 5.7.0 log in first", ("failed", False)),
        ("DATA", "451 4.3.0 later", ("failed", False)),
        ("DATA", "552 5.3.4 too large", ("failed", True)),
        ("DATA", "421 4.3.2 going down", ("failed", False)),
        ("DATA", "354 more?", ("unknown", False)),
        ("DATA", "drop", ("unknown", False)),
    ],
)
def test_an_answer_to_one_message_is_about_that_message(tmp_path: Path, phase: str, answer: str, expected: tuple[str, bool]) -> None:
    """4xx is not final, 5xx is, and what was cut off between the last dot and the answer may have arrived; the others do arrive."""
    with running(Relay({"bob": (phase, answer, None)})) as relay:
        channel = channel_to(relay.port, tmp_path, connections=1)
        outcomes = channel.send(mails("ann", "bob", "cy"))

    assert outcome(outcomes) == [("delivered", True), expected, ("delivered", True)]
    assert channel.handed.noted() == ({f"{1:032x}"} if expected[0] == "unknown" else set())
    if answer != "drop":
        assert answer in outcomes["reason"][1]


@pytest.mark.parametrize(("answer", "is_final"), [("550 5.7.1 not you", False), ("552 5.3.4 too large", True), ("451 4.3.0 later", False)])
def test_before_a_recipient_is_named_only_a_size_is_the_messages_fault(tmp_path: Path, answer: str, *, is_final: bool) -> None:
    """A sender that is refused is our mistake, and the message may go out when that is corrected."""
    with running(Relay({"sender": ("MAIL", answer, None)})) as relay:
        assert outcome(channel_to(relay.port, tmp_path).send(mails("ann"))) == [("failed", is_final)]


@pytest.mark.parametrize("answer", ["drop", "421 4.3.2 too many"])
def test_what_was_cut_off_before_its_last_dot_is_sent_again(tmp_path: Path, answer: str) -> None:
    """On a new connection, and arrives once."""
    with running(Relay({"ann": ("RCPT", answer, 2)})) as relay:
        assert outcome(channel_to(relay.port, tmp_path, connections=1).send(mails("ann", "bob"))) == [("delivered", True)] * 2

    assert len(relay.taken) == 2
    assert relay.connections == 3


def test_a_message_at_which_the_relay_always_breaks_off_stops_no_other(tmp_path: Path) -> None:
    """It has failed, and may be tried on another day; a relay that breaks off at one after the other is left alone."""
    with running(Relay({"ann": ("RCPT", "drop", None)})) as relay:
        outcomes = channel_to(relay.port, tmp_path, connections=1).send(mails("ann", "bob"))
        assert outcome(outcomes) == [("failed", False), ("delivered", True)]
        assert "cut off" in outcomes["reason"][0]
        relay.acts = {"sender": ("MAIL", "drop", None)}
        before = relay.connections
        many = channel_to(relay.port, tmp_path, connections=1).send(mails(*map(str, range(2, 30))).with_row_index().drop("index")[2:])
    assert set(outcome(many)) == {("failed", False)}
    assert relay.connections - before == 3 * 5
    assert many["reason"].str.starts_with("not tried").sum() == many.height - 3


def test_nobody_there_is_no_exception(tmp_path: Path) -> None:
    """Nothing was sent, and the reason names the host."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    outcomes = channel_to(port, tmp_path).send(mails("ann", "bob"))

    assert outcome(outcomes) == [("failed", False)] * 2
    assert set(outcomes["reason"]) == {"no connection to 127.0.0.1 (Connection refused)"}


def test_a_relay_that_takes_one_connection_gets_all_over_that(tmp_path: Path) -> None:
    """Connections that cannot be made leave their messages to those that are."""
    gone = 0

    def once(connection: socket.socket) -> None:
        nonlocal gone
        if script.connections > 1:
            connection.sendall(b"421 4.7.0 too many connections\r\n")
            return
        connection.sendall(HELLO)
        while command := connection.recv(65536):
            if command.startswith((b"ehlo", b"QUIT", b"MAIL", b"RCPT", b"DATA")):
                connection.sendall(OFFER if command.startswith(b"ehlo") else GO if command == b"DATA\r\n" else OK)
            elif command.endswith(b".\r\n"):
                time.sleep(0.02)
                gone += 1
                connection.sendall(OK)

    with Script(once) as script:
        outcomes = channel_to(script.port, tmp_path).send(mails(*"abcdefgh"))
    assert outcome(outcomes) == [("delivered", True)] * 8
    assert gone == 8


@pytest.mark.parametrize(
    ("play", "expected", "why"),
    [
        (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "failed", "no SMTP"),
        (saying(b"554 not you\r\n"), "failed", "554 not you"),
        (saying(b"2" * 100_000), "failed", "no SMTP"),
        (saying(b"220-on and on\r\n" * 1_000), "failed", "more than 100 lines"),
        (saying(HELLO, OFFER, b"no\r\n"), "failed", "no SMTP"),
        (saying(HELLO, OFFER, OK, OK, b"250 no 354\r\n"), "failed", "250 no 354"),
        (saying(HELLO, OFFER, OK, OK, GO, b"no\r\n"), "unknown", "no SMTP"),
        (saying(HELLO, OFFER, OK, OK, GO, b"999 what\r\n"), "unknown", "neither yes nor no"),
    ],
    ids=["web server", "refused", "endless line", "endless answer", "word", "no 354", "word at the end", "code at the end"],
)
def test_an_answer_that_is_none_is_told_apart(tmp_path: Path, play: object, expected: str, why: str) -> None:
    """Before the last dot nothing has arrived; after it nobody knows."""
    with Script(play) as script:  # type: ignore[arg-type]
        outcomes = channel_to(script.port, tmp_path).send(mails("ann"))

    assert outcome(outcomes) == [(expected, False)]
    assert why in outcomes["reason"][0]


@pytest.mark.parametrize(
    ("play", "expected"),
    [
        (drip, "failed"),
        (saying(HELLO, then=drip), "failed"),
        (saying(HELLO, OFFER, OK, then=drip), "failed"),
        (saying(HELLO, OFFER, OK, OK, GO, then=drip), "unknown"),
        (saying(HELLO, OFFER, OK, OK, GO, then=lambda connection: connection.recv(1) and None), "unknown"),
    ],
    ids=["greeting", "offer", "recipient", "end", "silence at the end"],
)
def test_a_tar_pit_ends(tmp_path: Path, play: object, expected: str) -> None:
    """A byte now and then keeps no phase going; after the last dot the relay has its own, longer, time, and gets no more after it."""
    with Script(play) as script:  # type: ignore[arg-type]
        channel = channel_to(script.port, tmp_path, timeout=0.1, connections=1)
        channel = replace(channel, retries=1, relay=replace(channel.relay, answer_seconds=0.5))
        began = time.monotonic()
        outcomes = channel.send(mails("ann", "bob"))
        assert time.monotonic() - began < 3
    assert outcome(outcomes) == [(expected, False), ("failed", False)]
    assert "took too long" in outcomes["reason"][0]


def test_a_slow_answer_is_waited_for(tmp_path: Path) -> None:
    """Longer than anything else: what a relay looks at for long is not lost."""
    with running(Relay(delay_seconds=1.0)) as relay:
        assert outcome(channel_to(relay.port, tmp_path, timeout=0.3).send(mails("ann"))) == [("delivered", True)]


def test_what_was_taken_before_a_kill_is_not_sent_again(tmp_path: Path) -> None:
    """It is remembered that the relay took it, though nobody had heard of it."""
    with running(Relay()) as relay:
        first = channel_to(relay.port, tmp_path).send(mails("ann"))
        again = channel_to(relay.port, tmp_path).send(mails("ann"))
        Handed.of(str(tmp_path)).forget(mails("ann")["idempotency_key"])

    assert first.rows() == again.rows()
    assert len(relay.taken) == 1
    assert Handed.of(str(tmp_path)).answered() == {}


def test_nothing_is_sent_that_cannot_be_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the message was cut off before its last dot."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Handed, "note", full)
    with running(Relay()) as relay:
        outcomes = channel_to(relay.port, tmp_path).send(mails("ann", "bob"))

    assert outcome(outcomes) == [("failed", False)] * 2
    assert "cannot be noted" in outcomes["reason"][0]
    assert relay.taken == []


def test_a_message_larger_than_the_relay_takes_is_not_sent(tmp_path: Path) -> None:
    """It says how much in advance (SIZE)."""
    with running(Relay(), data_size_limit=5_000) as relay:
        outcomes = channel_to(relay.port, tmp_path).send(mails("ann", text="x" * 6_000))
        channel_to(relay.port, tmp_path).send(mails("x", "bob")[1:])

    assert outcome(outcomes) == [("failed", True)]
    assert "and the relay takes 5000" in outcomes["reason"][0]
    assert [to for _, to, _ in relay.taken] == ["bob@home.example"]
    assert relay.options[-1] == [f"SIZE={len(relay.taken[0][2])}"]


@pytest.mark.parametrize("is_offered", [True, False])
def test_letters_outside_of_ascii_go_only_where_they_are_taken(tmp_path: Path, *, is_offered: bool) -> None:
    """Of a name before the @, that is; a host has a name in ASCII, and a relay needs to know nothing."""
    with running(Relay(), enable_SMTPUTF8=is_offered) as relay:
        outcomes = channel_to(relay.port, tmp_path).send(mails("änn", "bob", subject="Grüße"))

    assert outcome(outcomes) == [("delivered", True) if is_offered else ("failed", True), ("delivered", True)]
    if is_offered:
        assert str(relay.messages()["änn@home.example"]["To"]) == "änn@home.example"
        assert ["SMTPUTF8" in options for options in sorted(relay.options, key=len)] == [False, True]
    else:
        assert "SMTPUTF8" in outcomes["reason"][0]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext, ssl.SSLContext]:
    """A certificate authority that can be trusted, a certificate for localhost, and one for somebody else."""
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    contexts = []
    for name in ("localhost", "attack.example"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.issue_cert(name).configure_cert(context)
        contexts.append(context)
    return path, contexts[0], contexts[1]


Authority = tuple[Path, ssl.SSLContext, ssl.SSLContext]


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_mail_and_login_are_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority, scheme: str) -> None:
    """By STARTTLS or from the first byte, with a certificate that is trusted; the right password is taken, a wrong one ends it."""
    path, genuine, _ = authority
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    relay = Relay(user=("grocer", "secret-password"))
    with running(relay, tls=genuine, is_implicit=scheme == "smtps"):
        login = {"ATC_SMTP_USER": "grocer", "ATC_SMTP_PASSWORD": "secret-password"}
        assert outcome(channel_to(relay.port, tmp_path, scheme, login).send(mails("ann"))) == [("delivered", True)]
        outcomes = channel_to(relay.port, tmp_path, scheme, login | {"ATC_SMTP_PASSWORD": "wrong-password"}).send(mails("x", "bob")[1:])

    assert outcome(outcomes) == [("failed", False)]
    assert "refused the login (535" in outcomes["reason"][0]
    assert "-password" not in outcomes["reason"][0]
    assert len(relay.taken) == 1
    assert relay.logins[0] == "PLAIN"


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
@pytest.mark.parametrize("fault", ["unknown authority", "another host"])
def test_a_wrong_certificate_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority, scheme: str, fault: str
) -> None:
    """Nothing is said to a relay that is not the one that was asked for."""
    path, genuine, foreign = authority
    if fault == "another host":
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = foreign if fault == "another host" else genuine
    with running(Relay(), tls=context, is_implicit=scheme == "smtps") as relay:
        outcomes = channel_to(relay.port, tmp_path, scheme).send(mails("ann"))

    assert outcome(outcomes) == [("failed", False)]
    assert "certificate: " in outcomes["reason"][0]
    assert relay.taken == []


def test_mail_that_is_to_be_encrypted_never_goes_in_the_clear(tmp_path: Path) -> None:
    """Somebody on the way may have taken the offer of STARTTLS away."""
    with running(Relay()) as relay:
        outcomes = channel_to(relay.port, tmp_path, "smtp+starttls").send(mails("ann"))

    assert outcome(outcomes) == [("failed", False)]
    assert "does not offer STARTTLS" in outcomes["reason"][0]
    assert relay.taken == []


def test_a_relay_that_knows_keys_may_be_asked_again(tmp_path: Path) -> None:
    """Else what may have arrived is held."""
    with running(Relay()) as relay:
        channel = channel_to(relay.port, tmp_path, environment={"ATC_SMTP_KEY_HEADER": "Idempotency-Key"})
        channel.send(mails("ann"))

    assert (channel.on_unknown, channel_to(25, tmp_path).on_unknown, channel.schedules) == ("resend", "hold", False)
    assert read(relay.taken[0][2])["Idempotency-Key"] == "0" * 32


@pytest.mark.parametrize(
    ("address", "changed", "why"),
    [
        ("smtp://relay", {"ATC_UNSUBSCRIBE_URL": ""}, "ATC_UNSUBSCRIBE_URL is not set, and no e-mail is sent that nobody can unsubscribe"),
        ("smtp://relay", {"ATC_UNSUBSCRIBE_SECRET": ""}, "ATC_UNSUBSCRIBE_SECRET is not set"),
        ("smtp://relay", {"ATC_UNSUBSCRIBE_SECRET": "hunter2"}, "fewer than 16 letters"),
        ("smtp://relay", {"ATC_UNSUBSCRIBE_URL": "http://grocer.example/u"}, "does not begin with https://"),
        ("smtp://relay", {"ATC_UNSUBSCRIBE_URL": "https://grocer.example/u>,<x"}, "brackets, quotes or commas"),
        ("smtp://relay", {"ATC_EMAIL_FROM": ""}, "ATC_EMAIL_FROM is not set"),
        ("smtp://relay", {"ATC_EMAIL_FROM": "Grocer <hello>"}, "ATC_EMAIL_FROM: the address is none"),
        ("smtp://relay", {"ATC_EMAIL_FROM": "Grocer <hello@grocer.example>\r\nBcc: x"}, "ATC_EMAIL_FROM: the address is none"),
        ("smtp://relay", {"ATC_EMAIL_FROM": "grüße@grocer.example"}, "letters outside of ASCII before the @"),
        ("smtp://relay", {"ATC_EMAIL_REPLY_TO": "care"}, "ATC_EMAIL_REPLY_TO: the address is none"),
        ("smtp://relay", {"ATC_UNSUBSCRIBE_MAILTO": "care"}, "ATC_UNSUBSCRIBE_MAILTO: the address is none"),
        ("smtp://relay", {"ATC_PREFERENCES_URL": "ftp://x"}, "ATC_PREFERENCES_URL is no address"),
        ("smtp://relay", {"ATC_SMTP_KEY_HEADER": "Bcc"}, "ATC_SMTP_KEY_HEADER names no header of its own"),
        ("smtp://relay", {"ATC_SMTP_KEY_HEADER": "a: b\r\nBcc"}, "ATC_SMTP_KEY_HEADER names no header of its own"),
        ("smtp://relay", {"ATC_SMTP_USER": "hunter2"}, "only one is set"),
        ("smtp://relay", {"ATC_SMTP_USER": "u", "ATC_SMTP_PASSWORD": "hunter2"}, "would show the password to everybody"),
        ("smtps://relay", {"ATC_SMTP_USER": "ü", "ATC_SMTP_PASSWORD": "hunter2"}, "letters outside of ASCII"),
        ("smtps://u:hunter2@relay", {}, "they belong into ATC_SMTP_USER and ATC_SMTP_PASSWORD"),
        ("smtps://", {}, "expected smtp+starttls://host:587"),
        ("smtps://relay:99999", {}, "expected smtp+starttls://host:587"),
        ("smtps://relay/hunter2", {}, "expected smtp+starttls://host:587"),
        ("smtps://relay?connections=0", {}, "no number from 1 to 50"),
        ("smtps://relay?connections=hunter2", {}, "no number from 1 to 50"),
        ("smtps://relay?hunter2=1", {}, "asks for more than connections"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(tmp_path: Path, address: str, changed: dict[str, str], why: str) -> None:
    """Before anything is sent, by the name of the variable, and without a secret."""
    with pytest.raises(WrongSettingError) as refusal:
        connect("email", address, Setting(str(tmp_path), lambda: AT, ENVIRONMENT | changed))

    assert why in str(refusal.value)
    assert str(refusal.value).startswith("channel 'email': ")
    assert "hunter2" not in str(refusal.value)


def test_an_address_says_host_port_and_connections(tmp_path: Path) -> None:
    """The usual port where none is named, and no secret in what is printed."""
    secrets = {"ATC_SMTP_USER": "grocer-user", "ATC_SMTP_PASSWORD": "hunter2"}
    setting = Setting(str(tmp_path), lambda: AT, ENVIRONMENT | secrets)
    channels = [connect("email", address, setting) for address in ("smtp+starttls://r.example", "smtps://r.example:1?connections=9")]

    assert [(each.relay.host, each.relay.port, each.relay.tls, each.connections) for each in channels] == [
        ("r.example", 587, "starttls", 4),
        ("r.example", 1, "implicit", 9),
    ]
    assert not any(secret in repr(channels) for secret in ("hunter2", "grocer-user", SECRET))


def test_the_environment_says_that_a_channel_is_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By ``ATC_CHANNELS``; live, it is refused without a link to decline it by, and dry it is not asked for one."""
    with running(Relay()) as relay:
        told = {"ATC_CHANNELS": f"email=smtp://127.0.0.1:{relay.port}", "ATC_LIVE": "true"} | ENVIRONMENT
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        channels = Channels.from_environment(str(tmp_path), told)
        assert outcome(channels.connect(["email"], lambda: AT)["email"].send(mails("ann"))) == [("delivered", True)]
        monkeypatch.delenv("ATC_UNSUBSCRIBE_URL")
        with pytest.raises(WrongSettingError, match="channel 'email': ATC_UNSUBSCRIBE_URL is not set"):
            channels.connect(["email"], lambda: AT)
        assert channels.model_copy(update={"live": "false"}).connect(["email"], lambda: AT)["email"].is_dry
    assert len(relay.taken) == 1
