"""The near end of the wire: messages to send, and a function that sends them in a process of its own, to be killed or raced."""

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import polars as pl

from resources.channels.channel import Channel
from resources.channels.files import FileChannel
from resources.channels.webhook import WebhookChannel
from resources.delivery.delivery import deliver
from resources.delivery.ledger import LEDGER, Ledger
from resources.storage.outbox import Outbox

SECRET = "between the two of us"  # noqa: S105
DAY = date(2026, 1, 5)
os.environ["no_proxy"] = "127.0.0.1"  # whatever proxy this machine needs, the receiver is on this side of it
wall_clock = partial(datetime.now, UTC)


def outbound(count: int, channels: Sequence[str] = ("email",), withheld: Sequence[int] = ()) -> pl.DataFrame:
    """One row per message (numbered from 0, by the channels in turn), as ``deliver`` takes them."""
    return pl.DataFrame(
        [
            {
                "date": DAY,
                "idempotency_key": f"{number:016x}",
                "customer_id": f"c{number}",
                "journey_id": f"journey_{number % 2}",
                "step_day": 1,
                "channel": channels[number % len(channels)],
                "content": "welcome_1",
                "variant": None,
                "send_at": datetime(2026, 1, 6, 10, tzinfo=UTC),
                "withheld": "no_consent" if number in withheld else None,
                "decision": f'{{"score":{number}}}',
            }
            for number in range(count)
        ],
        schema_overrides={"variant": pl.String, "withheld": pl.String, "send_at": pl.Datetime("us", "UTC")},
    )


def ways_out(home: Path, url: str, batch_size: int = 100) -> dict[str, Channel]:
    """Email by webhook, and a website whose messages are files."""
    return {
        "email": WebhookChannel(url, SECRET, wall_clock, batch_size=batch_size, retries=2, backoff_seconds=0),
        "website": FileChannel(Outbox(home / "outbox"), batch_size=batch_size),
    }


def processes() -> ForkServerContext:
    """Processes that start without importing everything anew, and without what this one has open."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["dagster_duckdb", "polars", "pyarrow", "requests", "tests.edges.telling"])
    return context


def send_all(messages: pl.DataFrame, home: Path, url: str, batch_size: int, address: str = "") -> None:
    """Deliver the messages; ``address``: what ``ATC_LEDGER`` is to say."""
    os.environ[LEDGER] = address
    deliver(messages, ways_out(home, url, batch_size), Ledger.from_environment(str(home), os.environ), wall_clock)
