"""The delivery ledger under load: claiming and settling a million messages, batch after batch: ``python -m benchmarks.ledger [MESSAGES]``.

What belongs here: that measure, and its ratio of the last messages to the first. What does not: sending, and databases on a server.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import pairwise

import polars as pl

from resources.delivery.ledger import Ledger

BATCH = 10_000
PART = 100_000
"""Messages at each end that are compared."""
_AT = datetime(2026, 1, 6, 10, tzinfo=UTC)


def measure(home: str, messages: int) -> Iterator[tuple[int, float]]:
    """Yield how many messages were claimed and settled after how many seconds."""
    ledger, began = Ledger(home=home), time.perf_counter()
    yield 0, 0.0
    with ledger.sender() as sender:
        for first in range(0, messages, BATCH):
            batch = _batch(first, min(BATCH, messages - first))
            claimed = ledger.claim(batch, _AT, sender)
            ledger.settle(claimed.select("idempotency_key", status=pl.lit("delivered"), is_final=pl.lit(value=True)))
            yield first + batch.height, time.perf_counter() - began


def main() -> None:
    """Measure, and print microseconds a message: all, the first and the last part, and their ratio."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as home:
        marks = list(measure(home, messages))
    spans = [(after[0], after[1] - before[1]) for before, after in pairwise(marks)]
    part = min(PART, messages // 2)
    first = sum(seconds for count, seconds in spans if count <= part) / part * 1e6
    last = sum(seconds for count, seconds in spans if count > messages - part) / part * 1e6
    print(f"{messages:,} messages: {marks[-1][1] / messages * 1e6:.1f} us a message")
    print(f"first {part:,}: {first:.1f} us; last {part:,}: {last:.1f} us; ratio {last / first:.2f}")


def _batch(first: int, count: int) -> pl.DataFrame:
    number = pl.int_range(first, first + count, eager=True).alias("number")
    key = pl.col("number").hash(1).cast(pl.String).str.zfill(20) + pl.col("number").cast(pl.String).str.zfill(12)
    return number.to_frame().select(
        idempotency_key=key,
        date=pl.lit(date(2026, 1, 5)),
        customer_id=pl.format("c{}", "number"),
        journey_id=pl.lit("winback"),
        channel=pl.lit("email"),
        decision=pl.concat_str(pl.lit('{"journey_id":"winback","arm":"treated","score":'), pl.col("number"), pl.lit("}")),
        send_at=pl.lit(_AT, pl.Datetime("us", "UTC")),
        content_hash=pl.lit("0123456789abcdef"),
    )


if __name__ == "__main__":
    main()
