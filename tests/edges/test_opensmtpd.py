"""A real relay of Debian's, which takes e-mail from us and passes it on.

What belongs here: OpenSMTPD with a configuration of its own, on free ports of loopback, and what comes out at its other side. What does
not: a relay that misbehaves, and TLS (``test_email``): that of OpenSMTPD 6.8 fails with OpenSSL 3 at every handshake, whoever asks.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.edges.browser import needed
from tests.edges.relay import Relay, channel_to, mails, outcome, running
from tests.edges.web import free_port

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 30
SOCKET = Path("/var/run/smtpd.sock")


@contextmanager
def opensmtpd(folder: Path, onward: int) -> Iterator[int]:
    """Run it; it relays what it takes to a port. Its queue and its socket are the system's: there is only one at a time."""
    program = needed("smtpd")
    without = "not root: OpenSMTPD starts only as such" if os.geteuid() else "one is running" if _is_running() else ""
    if without and os.environ.get("CI"):
        pytest.fail(without)
    if without:
        pytest.skip(without)
    port = free_port()
    (folder / "smtpd.conf").write_text(
        f"listen on 127.0.0.1 port {port} hostname localhost\n"
        f'action "onward" relay host "smtp://127.0.0.1:{onward}"\nmatch from any for any action "onward"\n'
    )
    log = folder / "smtpd.log"
    with log.open("wb") as file:
        process = subprocess.Popen([program, "-d", "-f", folder / "smtpd.conf"], stdout=file, stderr=file)
    try:
        end = time.monotonic() + PATIENCE_SECONDS
        while b"smtp" not in _said(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        SOCKET.unlink(missing_ok=True)


def _said(port: int) -> bytes:
    """What it greets with, in small letters."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            return connection.recv(1000).lower()
    except OSError:
        return b""


def _is_running() -> bool:
    return SOCKET.exists() and subprocess.run(["smtpctl", "show", "status"], check=False, capture_output=True).returncode == 0


def test_a_real_relay_takes_everything_and_passes_it_on(tmp_path: Path) -> None:
    """Over several connections: each message once, as it was written; the relay's names of them are remembered."""
    names = [f"m{number}" for number in range(60)]
    text = "Grüße, 日本\n.\n..\nFrom here\n" + "long " * 300
    with running(Relay()) as receiver, opensmtpd(tmp_path, receiver.port) as port:
        outcomes = channel_to(port, tmp_path, connections=3).send(mails(*names, text=text, subject="Grüße, 日本\nBcc: x"))
        end = time.monotonic() + PATIENCE_SECONDS
        while len(receiver.taken) < len(names) and time.monotonic() < end:
            time.sleep(0.1)

    assert outcome(outcomes) == [("delivered", True)] * len(names)
    assert outcomes["provider_id"].n_unique() == len(names)
    assert sorted(receiver.messages()) == sorted(f"{name}@home.example" for name in names)
    assert set(receiver.keys().values()) == {1}
    for name, message in ((recipient.partition("@")[0], message) for recipient, message in receiver.messages().items()):
        assert (str(message["To"]), str(message["Subject"]), message["Bcc"]) == (f"{name}@home.example", "Grüße, 日本 Bcc: x", None)
        plain, markup = (message.get_body((subtype,)) for subtype in ("plain", "html"))
        assert plain is not None
        assert markup is not None
        assert plain.get_content().replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")
        assert markup.get_content().strip() == f"<p>Dear {name}</p>"
