"""E-mail to a relay on loopback, against ``smtplib.sendmail`` of finished bytes over as many connections; and what the bytes cost.

What belongs here: the relay (aiosmtpd, in a process of its own), both senders, and the time to make a message in three ways. What does
not: whether messages arrive (the tests of e-mail).
"""

import smtplib
import tempfile
import time
from asyncio.base_events import Server
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median

import polars as pl
from aiosmtpd.controller import Controller

from resources.channels.channel import Setting
from resources.channels.email import EmailChannel, connect

HTML_BYTES = 30_000
"""Of a newsletter: what MJML makes of a handful of blocks."""
ENVIRONMENT = {
    "ATC_EMAIL_FROM": "Grocer <hello@grocer.example>",
    "ATC_UNSUBSCRIBE_URL": "https://grocer.example/unsubscribe",
    "ATC_UNSUBSCRIBE_SECRET": "of-nobody-and-for-nothing",
}
AT = datetime(2026, 1, 6, 9, tzinfo=UTC)


class _Sink:
    """Takes every message, and keeps none."""

    async def handle_DATA(self, *_: object) -> str:  # noqa: N802 - as aiosmtpd calls it
        return "250 2.0.0 Ok: queued as Q1"


class _Controller(Controller):
    def _trigger_server(self) -> None:
        """Connect once, as the library does, but to the port that the system chose."""
        assert isinstance(self.server, Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


def _serve(pipe: Connection) -> None:
    controller = _Controller(_Sink(), "127.0.0.1", 0)
    controller.start()
    pipe.send(controller.port)
    pipe.recv()
    controller.stop()


@contextmanager
def relay() -> Iterator[int]:
    """Run a relay in a process of its own; yield its port."""
    context = get_context("forkserver")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=[there])
    process.start()
    try:
        yield int(here.recv())
    finally:
        here.send(None)
        process.join()


def messages(count: int) -> pl.DataFrame:
    """One row per message, each with a text and HTML of its own."""
    paragraph = '<p style="margin:0 0 16px;font-family:Arial,sans-serif;color:#333333">This week&#8217;s harvest is in — for {name}.</p>\n'
    rows = []
    for number in range(count):
        line = paragraph.format(name=f"customer {number}")
        rows.append(
            {
                "date": date(2026, 1, 5),
                "idempotency_key": f"{number:032x}",
                "customer_id": f"customer-{number}",
                "address": f"customer-{number}@home.example",
                "subject": f"Customer {number}, it has been a while",
                "text": f"Dear customer {number},\n\nthis week's harvest is in.\n" * 10,
                "html": f"<html><body>{line * (HTML_BYTES // len(line))}</body></html>",
            }
        )
    return pl.DataFrame(rows)


def bare(port: int, finished: Sequence[tuple[str, bytes]], connections: int) -> tuple[float, float]:
    """Send finished bytes by ``smtplib.sendmail``, and return the seconds, and those of this process alone."""

    def carry(share: Sequence[tuple[str, bytes]]) -> None:
        with smtplib.SMTP("127.0.0.1", port, "grocer.example") as connection:
            for recipient, content in share:
                connection.sendmail("hello@grocer.example", [recipient], content)

    began, worked = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(carry, [finished[number::connections] for number in range(connections)]))
    return time.perf_counter() - began, time.process_time() - worked


def ours(channel: EmailChannel, rows: pl.DataFrame) -> tuple[float, float]:
    """Send rows by the channel, as delivery does: a batch at a time, each forgotten when it is settled; return the same seconds."""
    began, worked = time.perf_counter(), time.process_time()
    for batch in rows.iter_slices(channel.batch_size):
        outcomes = channel.send(batch)
        assert (outcomes["status"] == "delivered").all(), outcomes.filter(pl.col("status") != "delivered")
        channel.handed.forget(outcomes["idempotency_key"])
    return time.perf_counter() - began, time.process_time() - worked


def measure_smtp(count: int, connections: int, runs: int) -> None:
    """Print both speeds, their ratio, and what making a message costs."""
    rows = messages(count)
    with tempfile.TemporaryDirectory() as home, relay() as port:
        channel = connect("email", f"smtp://127.0.0.1:{port}?connections={connections}", Setting(home, lambda: AT, ENVIRONMENT))
        made = [channel.letterhead.compose(row, AT) for row in rows.iter_rows(named=True)]
        finished = [(str(mail.recipient), mail.content) for mail in made]
        pairs = [(bare(port, finished, connections), ours(channel, rows)) for _ in range(runs)]
    print(f"{count} messages of {len(finished[0][1]) / 1000:.0f} kB over {connections} connections, medians of {runs} runs")
    for name, taken in zip(("smtplib.sendmail of finished bytes", "channel, with making them"), zip(*pairs, strict=True), strict=True):
        elapsed, worked = (median(seconds) / count * 1e6 for seconds in zip(*taken, strict=True))
        print(f"  {name:<36}{elapsed:8.0f} us a message, of which this process worked {worked:.0f}")
    print(f"  {'speed, in parts of the bare one':<36}{median(first[0] / second[0] for first, second in pairs):8.2f}")
    sample = list(rows.head(200).iter_rows(named=True))
    letterhead = channel.letterhead
    for name, make in (
        ("made by the channel", lambda row: letterhead.compose(row, AT).content),
        ("by email.mime (legacy)", _legacy),
        ("by email.message.EmailMessage", _modern),
    ):
        print(f"  {name:<36}{_cost(make, sample):8.0f} us a message")


def _cost(make: Callable[[dict[str, object]], bytes], sample: Sequence[dict[str, object]]) -> float:
    """Microseconds of this process for one message, the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        for row in sample:
            make(row)
        best = min(best, time.process_time() - began)
    return best / len(sample) * 1e6


def _legacy(row: dict[str, object]) -> bytes:
    message = MIMEMultipart("alternative")
    message["From"], message["To"], message["Subject"] = ENVIRONMENT["ATC_EMAIL_FROM"], str(row["address"]), str(row["subject"])
    message.attach(MIMEText(str(row["text"]), "plain", "utf-8"))
    message.attach(MIMEText(str(row["html"]), "html", "utf-8"))
    return message.as_bytes()


def _modern(row: dict[str, object]) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = ENVIRONMENT["ATC_EMAIL_FROM"], str(row["address"]), str(row["subject"])
    message.set_content(str(row["text"]))
    message.add_alternative(str(row["html"]), subtype="html")
    return message.as_bytes()
