"""Senders of e-mail that are killed again and again: ``python -m tests.edges.email_kills 200``.

What belongs here: a sender that remembers as delivery does, killing it, counting. What does not: what must come of it
(``test_email_kills``).
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

from resources.storage.handed import Handed
from tests.edges.relay import Relay, channel_to, mails, running

CONNECTIONS = 3
PER_BATCH = 15
HELD = "unknown"


@dataclass
class Seen:
    """What was seen of all kills."""

    kills: int = 0
    survived: int = 0
    messages: int = 0
    unknown: list[int] = field(default_factory=list)
    """Messages that nobody knows of, by kill."""
    recovered: int = 0
    """Messages that were taken, and were known to be only because it was noted."""
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


def remembered(home: Path) -> dict[str, str]:
    """What became of messages, as it is remembered for good: one line each, written batch by batch."""
    path = home / "remembered"
    return dict(line.split() for line in path.read_text().splitlines()) if path.exists() else {}


def settle(home: Path, outcomes: dict[str, str]) -> None:
    """Remember, and then, as it is remembered here, no longer there."""
    with (home / "remembered").open("a") as file:
        file.write("".join(f"{key} {status}\n" for key, status in outcomes.items()))
    Handed.of(str(home)).forget(outcomes)


def send_the_rest(port: int, home: Path, count: int) -> None:
    """Hold what may have arrived, and send whatever else nobody knows of, a batch at a time."""
    channel = replace(channel_to(port, home, connections=CONNECTIONS), retries=1)
    known = remembered(home)
    settle(home, {key: HELD for key in channel.handed.noted() if key not in known})
    known = remembered(home)
    messages = mails(*(f"m{number}" for number in range(count)))
    left = messages.filter(~messages["idempotency_key"].is_in(list(known)))
    for batch in left.iter_slices(PER_BATCH):
        outcomes = channel.send(batch)
        settle(home, {key: status for key, status in outcomes.select("idempotency_key", "status").iter_rows() if status != "failed"})


def kill_often(folder: Path, kills: int, seed: int, messages: int = 60) -> Seen:
    """Kill senders at random moments, each followed by one that goes on, until that many were killed."""
    seen, chance, number = Seen(), random.Random(seed), 0  # noqa: S311
    context = get_context("forkserver")
    context.set_forkserver_preload(["resources.channels.email", "aiosmtpd.controller"])
    while seen.kills < kills:
        home = folder / f"world-{number}"
        home.mkdir()
        number += 1
        with running(Relay(delay_seconds=0.004)) as relay:
            while True:
                sender = context.Process(target=send_the_rest, args=[relay.port, home, messages])
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
                    seen.survived += 1
                    break
                time.sleep(0.02)  # what the relay has in full it takes, though nobody hears of it
                handed, known = Handed.of(str(home)), remembered(home)
                seen.unknown.append(len(handed.noted() - known.keys()))
                seen.recovered += len(handed.answered().keys() - known.keys())
            arrived, known = relay.keys(), remembered(home)
        expected = {f"{each:032x}" for each in range(messages)}
        seen.messages += messages
        seen.twice += [key for key, times in arrived.items() if times > 1]
        seen.lost += [key for key in expected if known.get(key) != HELD and arrived[key] == 0]
        seen.lost += [key for key, times in Counter(known.keys() - expected).items() if times]
    return seen


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(kill_often(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 36, seed=33))  # noqa: T201 - a command
