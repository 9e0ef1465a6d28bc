"""Receivers that answer oddly, or with intent: each costs its own batch, in bounded time and memory, and never the run."""

import gzip
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from resources.channels import wire
from resources.channels.files import FileChannel
from resources.channels.webhook import WebhookChannel
from resources.delivery.delivery import deliver
from resources.delivery.ledger import Ledger
from resources.storage.outbox import Outbox
from tests.edges.browser import needed
from tests.edges.receiver import Receiver
from tests.edges.sender import SECRET, outbound, wall_clock
from tests.edges.web import free_port

KEYS = outbound(2)["idempotency_key"].to_list()
PATIENCE = 0.3
"""Seconds each wait may take; a request three times as long."""
Answering = Callable[[socket.socket], None]


@contextmanager
def receiver(answer: Answering, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that reads each request to its end and then does as told, whatever HTTP says; yields its URL."""
    closing = threading.Event()

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            stream = tls.wrap_socket(connection, server_side=True) if tls else connection
            request = b""
            while b"]}" not in request and (more := stream.recv(65536)):
                request += more
            answer(stream)

    def accept() -> None:
        while not closing.is_set():
            with suppress(OSError):
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{listening.getsockname()[1]}/hook?token=hush"
        closing.set()
        with suppress(OSError), socket.create_connection(listening.getsockname()):
            pass
        thread.join()


def says(*parts: bytes) -> Answering:
    """Send all of it and close."""
    return lambda connection: connection.sendall(b"".join(parts))


def body(content: bytes, *headers: bytes) -> Answering:
    """Accept the request, with this body."""
    head = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(content), *headers]
    return says(b"\r\n".join(head) + b"\r\n\r\n" + content)


def results(*rows: object) -> Answering:
    """Accept the request, with these results."""
    return body(json.dumps({"results": rows}).encode())


def forever(first: bytes, again: bytes, pause: float = 0.0) -> Answering:
    """Begin, and then never end."""

    def drip(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(again)
            time.sleep(pause)

    return drip


def bomb(wrap: Callable[[bytes], bytes], name: bytes) -> Answering:
    """A few kilobytes that are 300 MB unpacked."""
    return body(wrap(b" " * 300_000_000), b"Content-Encoding: " + name)


def reset(connection: socket.socket) -> None:
    """Begin a body, and end the connection as a crash would."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def silent(connection: socket.socket) -> None:
    """Say nothing until the sender has had enough."""
    connection.recv(1)


OK = b"HTTP/1.1 200 OK\r\n"
ODD = {
    "brackets": (body(b"[" * 100_000), "unknown"),
    "braces": (body(b'{"results":' * 100_000), "unknown"),
    "half a JSON": (body(b'{"results": ['), "unknown"),
    "a number of 5,000 digits": (body(b'{"results": [], "n": ' + b"9" * 5000 + b"}"), "unknown"),
    "half a character": (body(b'{"results": [{"idempotency_key": "\\ud800", "status": "\\ud800", "reason": "\\ud800"}]}'), "unknown"),
    "no UTF-8": (body(b'{"results": "\xff\xfe"}'), "unknown"),
    "no text at all": (body(b"\xff\x00\x80"), "unknown"),
    "others' keys": (results({"idempotency_key": "ffff", "status": "failed"}), "unknown"),
    "a status that is an object": (results(*({"idempotency_key": key, "status": {"delivered": True}} for key in KEYS)), "unknown"),
    "a key that is a list": (results(*({"idempotency_key": [key], "status": "delivered"} for key in KEYS)), "unknown"),
    "both": (results(*({"idempotency_key": key, "status": word} for key in KEYS for word in ("delivered", "failed"))), "unknown"),
    "twice the same": (results(*({"idempotency_key": key, "status": "delivered"} for key in KEYS * 2)), "delivered"),
    "a reason that is an object": (
        results(*({"idempotency_key": key, "status": "failed", "reason": {"a": [1]}} for key in KEYS)),
        "failed",
    ),
    "a byte order mark": (body(b'\xef\xbb\xbf{"ok": true}'), "delivered"),
    "larger than may be": (body(b" " * (wire.LARGEST_ANSWER + 1)), "unknown"),
    "no end": (forever(OK + b"\r\n", b" " * 65536), "unknown"),
    "chunks without end": (forever(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.05), "unknown"),
    "a chunk of any size": (says(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", b"x"), "unknown"),
    "chunks of no number": (says(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "unknown"),
    "gzip bomb": (bomb(gzip.compress, b"gzip"), "unknown"),
    "deflate bomb": (bomb(zlib.compress, b"deflate"), "unknown"),
    "gzip bomb in a bomb": (bomb(lambda data: gzip.compress(gzip.compress(data)), b"gzip, gzip"), "unknown"),
    "no gzip": (body(b"{}", b"Content-Encoding: gzip"), "unknown"),
    "a byte at a time, of the body": (forever(OK + b"Content-Length: 100000\r\n\r\n", b" ", 0.05), "unknown"),
    "a byte at a time, of the headers": (forever(OK, b"a", 0.05), "unknown"),
    "a byte at a time, of the status": (forever(b"HTTP/1.1 2", b"0", 0.05), "unknown"),
    "continue without end": (forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), "unknown"),
    "switching protocols": (says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "unknown"),
    "a status there is none of": (says(b"HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n"), "unknown"),
    "a status that is no number": (says(b"HTTP/1.1 OK\r\n\r\n"), "unknown"),
    "headers without end": (forever(OK, b"X-Header: " + b"x" * 1000 + b"\r\n"), "unknown"),
    "a header without end": (forever(OK + b"X: ", b"x" * 1000), "unknown"),
    "headers that are none": (
        says(OK + b"\x00\x01: \xff\r\nno colon\r\nSet-Cookie: =\xff; expires=Fri, 31 Dec 99999\r\n\r\n"),
        "delivered",
    ),
    "a reason without end": (says(b"HTTP/1.1 400 " + b"\x1b[2J" + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n"), "failed"),
    "a length that is none": (says(OK + b"Content-Length: -1\r\n\r\n{}"), "delivered"),
    "junk": (says(b"\x00\xff" * 1000), "unknown"),
    "a web page of 1991": (says(b"<html>hello</html>"), "unknown"),
    "nothing": (says(b""), "unknown"),
    "silence": (silent, "unknown"),
    "reset": (reset, "unknown"),
    "to nowhere": (says(b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n"), "failed"),
    "to a file, with a gigabyte": (forever(b"HTTP/1.1 307 X\r\nLocation: file:///etc/passwd\r\n\r\n", b" " * 65536), "failed"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "status"), [pytest.param(*case, id=name) for name, case in ODD.items()])
def test_an_odd_answer_is_the_end_of_its_batch(
    answer: Answering, status: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes back: one status for the batch with a short reason, in time, without the memory it asks for; no log has the URL."""
    caplog.set_level("DEBUG")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with receiver(answer) as url:
        channel = WebhookChannel(url, SECRET, wall_clock, timeout_seconds=PATIENCE, retries=0)
        tracemalloc.start()
        began = time.monotonic()
        outcomes = channel.send(outbound(2))
        seconds, (_, most) = time.monotonic() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert outcomes["status"].to_list() == [status] * 2
    assert outcomes["reason"].is_null().all() == (status == "delivered")
    assert outcomes["reason"].str.len_chars().fill_null(0).max() < 300  # type: ignore[operator]
    assert not outcomes["reason"].str.contains("[[:cntrl:]]|hush").any()
    assert seconds < 3 * PATIENCE + 2
    assert most < 40 * 2**20
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    ("header", "waited"),
    [
        (b"7", [7.0]),
        (b"0", []),
        (b"9" * 5000, []),
        (b"-5", []),
        (b"nan", []),
        (b"1e9", []),
        (b"\xb2", []),
        (b"Fri, 31 Dec 99999 23:59:59 GMT", []),
        (b"120", [120.0]),
        (b"121", []),
        (b"Fri, 31 Dec 9999 23:59:59 -2359", []),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", []),
        (b"Mon, 05 Jan 2026 12:00:30 GMT", [30.0]),
        (b"Mon, 99 Jan 2026 12:00:30 GMT", []),
    ],
)
def test_how_long_to_wait_is_bounded(header: bytes, waited: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds or a date, at most two minutes, and no repetition where it is longer; what cannot be read is as if it were not there."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    waits: list[float] = []
    monkeypatch.setattr("resources.channels.webhook.time.sleep", waits.append)
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    with receiver(says(b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\nRetry-After: " + header + b"\r\n\r\n")) as url:
        outcomes = WebhookChannel(url, SECRET, lambda: noon, retries=1).send(outbound(1))
    assert outcomes["status"].to_list() == ["failed"]
    assert waits == waited


def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a batch may be tried again, five minutes are enough."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    clock = [0.0]
    monkeypatch.setattr("resources.channels.webhook.time.sleep", lambda seconds: clock.append(clock[-1] + seconds))
    monkeypatch.setattr("resources.channels.webhook.time.monotonic", lambda: clock[-1])
    with receiver(says(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 120\r\n\r\n")) as url:
        outcomes = WebhookChannel(url, SECRET, wall_clock, retries=99).send(outbound(1))
    assert outcomes["status"].to_list() == ["unknown"]
    assert clock[-1] == 240.0


def test_a_batch_that_is_too_large_to_be_read_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that answers by the length of a body, and hangs up without reading any of it, gets as much at once as it takes."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    lengths = []

    def serve() -> None:
        while lengths.count(0) == 0:
            connection, _ = listening.accept()
            with suppress(OSError), connection:
                request = connection.recv(65536)
                head, _, rest = request.partition(b"\r\n\r\n")
                lengths.append(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0))
                if lengths[-1] > 3_000_000:
                    connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    continue
                while len(rest) < lengths[-1] and (more := connection.recv(65536)):
                    rest += more
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/hook"
        outcomes = WebhookChannel(url, SECRET, wall_clock, retries=0).send(outbound(8).with_columns(content=pl.lit("x" * 1_000_000)))
        with suppress(OSError), socket.create_connection(listening.getsockname()) as last:
            last.sendall(b"GET / HTTP/1.1\r\n\r\n")
        thread.join()
    assert outcomes["status"].to_list() == ["delivered"] * 8
    assert [length // 1_000_000 for length in lengths] == [8, 4, 2, 2, 4, 2, 2, 0]


@pytest.mark.slow
def test_a_proxy_that_takes_a_megabyte_gets_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's nginx, with the limit it has by default: all that is no larger by itself arrives."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    nginx, port = needed("nginx"), free_port()
    for folder in (tmp_path, *(parent for parent in tmp_path.parents if "pytest-of-" in str(parent))):
        folder.chmod(0o755)  # where nginx runs as root, its workers do not
    with Receiver(SECRET) as behind:
        paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        site = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {behind.url()}; }} }}"
        main = f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}} http {{ access_log off; {paths} {site} }}"
        (tmp_path / "nginx.conf").write_text(main)
        process = subprocess.Popen([nginx, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)])
        try:
            messages = outbound(40).with_columns(
                content=pl.when(pl.col("customer_id") == "c7").then(pl.lit("x" * 1_100_000)).otherwise(pl.lit("x" * 100_000))
            )
            channel = WebhookChannel(f"http://127.0.0.1:{port}/", SECRET, wall_clock, retries=9, backoff_seconds=0.1)
            outcomes = channel.send(messages)
        finally:
            process.terminate()
            process.wait(30)
        assert outcomes.filter(pl.col("status") != "delivered").rows() == [
            (f"{7:016x}", "failed", "127.0.0.1 answered 413 Request Entity Too Large", True)
        ]
        assert len(behind.effects) == 39


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_a_certificate_of_ones_own_means_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent to a server that cannot show who it is, nor to one that speaks no TLS; so it certainly did not arrive."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with receiver(body(b"{}"), tls) as url:
        outcomes = WebhookChannel(url, SECRET, wall_clock, retries=0).send(outbound(1))
    assert outcomes.select("status", "reason").rows() == [("failed", "no connection to 127.0.0.1 (certificate: self-signed certificate)")]
    with receiver(body(b"{}")) as url:
        outcomes = WebhookChannel(url.replace("http:", "https:"), SECRET, wall_clock, timeout_seconds=PATIENCE, retries=0).send(outbound(1))
    assert outcomes["status"].to_list() == ["failed"]


def test_a_host_that_is_not_there_means_failed() -> None:
    """A name nobody has is no doubt."""
    outcomes = WebhookChannel("https://nowhere.invalid/hush", SECRET, wall_clock, retries=0).send(outbound(1))
    assert outcomes["status"].to_list() == ["failed"]
    assert outcomes["reason"][0].startswith("no connection to nowhere.invalid (")


def test_the_rest_of_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch's odd answer is that batch's, the next is delivered, and so is the other channel."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    answers = iter([body(b"[" * 100_000), *[body(b"")] * 9])

    def one_by_one(connection: socket.socket) -> None:
        next(answers)(connection)

    with receiver(one_by_one) as url:
        ways = {
            "email": WebhookChannel(url, SECRET, wall_clock, batch_size=2, retries=0),
            "website": FileChannel(Outbox(tmp_path / "outbox")),
        }
        activation = deliver(outbound(8, ["email", "website"]), ways, Ledger(home=str(tmp_path)), wall_clock)
    assert activation.group_by("channel", "status").len().sort("channel", "status").rows() == [
        ("email", "delivered", 2),
        ("email", "unknown", 2),
        ("website", "delivered", 4),
    ]
    assert activation.filter(pl.col("status") == "unknown")["reason"].unique().to_list() == [
        "127.0.0.1 answered 200 with results that cannot be read"
    ]
