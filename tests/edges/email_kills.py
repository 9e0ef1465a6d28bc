"""Senders of e-mail that are killed again and again: ``python -m tests.edges.email_kills 200``.

What belongs here: delivery with its ledger, killing it, counting. What does not: what must come of it
(``test_email_kills``).
"""

import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from resources.delivery.delivery import deliver
from resources.delivery.ledger import Ledger
from resources.storage.handed import Handed
from tests.edges.relay import Relay, channel_to, mails, running
from tests.edges.sender import outbound, processes, wall_clock

CONNECTIONS = 3


@dataclass
class Seen:
    """What was seen of all kills."""

    kills: int = 0
    failures: int = 0
    """Senders that ended by themselves, and not well."""
    messages: int = 0
    unknown: list[int] = field(default_factory=list)
    """Messages that nobody knows of, by kill."""
    recovered: int = 0
    """Messages that were taken, and were known to be only because it was noted."""
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


def written(count: int) -> pl.DataFrame:
    """Messages of a day with their texts, as ``deliver`` gives them to the channel."""
    columns = mails(*(f"m{number}" for number in range(count))).select("address", "subject", "text", "html")
    return outbound(count).with_columns(columns)


def send(port: int, home: Path, count: int) -> None:
    """Deliver what the ledger does not know to be delivered or in doubt."""
    channel = replace(channel_to(port, home, connections=CONNECTIONS), retries=1)
    deliver(written(count), {"email": channel}, Ledger.from_environment(str(home), {}), wall_clock)


def statuses(home: Path, count: int) -> dict[str, str]:
    """What the ledger knows of messages."""
    return dict(Ledger.from_environment(str(home), {}).statuses(outbound(count)["idempotency_key"]).iter_rows())


def kill_often(folder: Path, kills: int, seed: int, messages: int = 60) -> Seen:
    """Kill senders at random moments, each followed by one that goes on, until that many were killed."""
    seen, chance, number = Seen(), random.Random(seed), 0  # noqa: S311
    context = processes()
    while seen.kills < kills:
        home = folder / f"world-{number}"
        home.mkdir()
        number += 1
        with running(Relay(delay_seconds=0.004)) as relay:
            while True:
                sender = context.Process(target=send, args=[relay.port, home, messages])
                before = len(relay.taken)
                sender.start()
                while len(relay.taken) == before and sender.is_alive():
                    time.sleep(0.001)
                sender.join(chance.uniform(0, 0.1))
                is_over = sender.exitcode is not None or seen.kills == kills
                if not is_over:
                    os.kill(sender.pid or 0, signal.SIGKILL)
                    seen.kills += 1
                sender.join()
                if is_over:
                    seen.failures += bool(sender.exitcode)
                    break
                time.sleep(0.02)  # what the relay has in full it takes, though nobody hears of it
                handed = Handed.of(str(home))
                settled = {key for key, status in statuses(home, messages).items() if status != "pending"}
                seen.unknown.append(len(handed.noted() - settled))
                seen.recovered += len(handed.answered().keys() - settled)
            arrived, known = relay.keys(), statuses(home, messages)
        seen.messages += messages
        seen.twice += [key for key, times in arrived.items() if times > 1]
        seen.lost += [key for key in outbound(messages)["idempotency_key"] if known.get(key) != "unknown" and arrived[key] == 0]
        seen.lost += [key for key, status in known.items() if status not in {"delivered", "unknown"}]
    return seen


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(kill_often(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 36, seed=33))  # noqa: T201 - a command
