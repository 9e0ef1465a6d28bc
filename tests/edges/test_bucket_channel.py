"""Messages as objects of a bucket, with a real S3 server: each is in one object once, whatever fails or is killed."""

import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import polars as pl
import pytest

from resources.channels import bucket as way
from resources.channels.bucket import BucketChannel
from resources.channels.channel import Setting, WrongSettingError
from resources.delivery.delivery import deliver
from resources.delivery.ledger import Ledger
from resources.storage import bucket as s3
from resources.storage.objects import Address
from tests.edges.bucket_server import NAME, Proxy, bucket, objects, serving, settle
from tests.edges.sender import DAY, outbound, processes, wall_clock

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "4"))
"""How often a sender is killed; more than in the suite when somebody wants to know."""
FOLDER = f"date={DAY}/till"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server, of which each test takes a prefix."""
    with serving() as url:
        yield url


@pytest.fixture
def prefix(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A prefix of the test's own."""
    settle(monkeypatch, server)
    return f"{tmp_path.name}/handed over"


def till(prefix: str, batch_size: int = 10_000) -> BucketChannel:
    """The channel as a run connects it."""
    channel = way.connect("till", f"s3://{NAME}/{prefix}", Setting("home", wall_clock))
    return replace(channel, batch_size=batch_size)


def keys(prefix: str) -> list[list[str]]:
    """Return the keys in each object, by their order there."""
    return [[json.loads(line)["idempotency_key"] for line in content.splitlines()] for content in objects(prefix).values()]


def test_a_batch_that_is_written_twice_is_one_object(prefix: str) -> None:
    """The name tells the day, the channel and the batch; of a message that has changed since, what was written first stays."""
    messages = outbound(3, ["till"])
    first = till(prefix).send(messages.reverse())
    written = objects(prefix)
    again = till(prefix).send(messages.with_columns(send_at=pl.col("send_at") + timedelta(hours=1)))
    assert first.sort("idempotency_key").equals(again)
    assert set(again.select("status", "reason", "is_final").rows()) == {("delivered", None, True)}
    assert objects(prefix) == written
    ((name, content),) = written.items()
    assert name.startswith(f"{FOLDER}/")
    assert [json.loads(line)["customer_id"] for line in content.splitlines()] == ["c0", "c1", "c2"]


def test_a_message_is_in_one_object_however_batches_are_cut(prefix: str) -> None:
    """What an earlier run has written, whole or in part of a batch, is not written again; each day has a folder of its own."""
    messages = outbound(6, ["till"])
    till(prefix).send(messages[1:3])
    channel = till(prefix)
    for batch in (messages[:2], messages[2:5], messages):
        assert set(channel.send(batch)["status"]) == {"delivered"}
    assert sorted(key for lines in keys(prefix) for key in lines) == messages["idempotency_key"].to_list()
    tomorrow = messages.with_columns(date=pl.lit(DAY + timedelta(days=1)), idempotency_key=pl.lit("b") + pl.col("idempotency_key"))
    channel.send(pl.concat([messages, tomorrow]))
    assert {name.partition("/")[0]: content.count(b"\n") for name, content in objects(prefix).items()}[
        f"date={DAY + timedelta(days=1)}"
    ] == 6


def test_what_a_run_wrote_itself_is_not_read(prefix: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch costs a listing and an object."""
    with Proxy(server) as proxy:
        settle(monkeypatch, proxy.url)
        channel = till(prefix)
        for batch in outbound(9, ["till"]).iter_slices(3):
            channel.send(batch)
    assert [method for method, _ in proxy.seen] == ["GET", "PUT"] * 3
    assert all("list-type=2" in path for method, path in proxy.seen if method == "GET")


@pytest.mark.parametrize("content", [b"", b"not ours\xff\n", b'{"idempotency_key":"somebody else\'s"}\n'])
def test_another_object_of_that_name_is_not_replaced(prefix: str, content: bytes) -> None:
    """Its messages have failed with a reason that names it, and can be tried again once it is moved away."""
    channel = till(prefix)
    channel.send(outbound(2))
    (name,) = objects(prefix)
    channel.objects.remove(name)
    channel.objects.create(name, content)
    outcomes = till(prefix).send(outbound(2))
    assert set(outcomes.select("status", "is_final").rows()) == {("failed", False)}
    assert outcomes["reason"][0].startswith(f"s3://{NAME}/{prefix}/{name} is there, and is no batch of these messages")
    assert objects(prefix) == {name: content}


@pytest.mark.parametrize(("method", "status", "outcome"), [("PUT", 503, "unknown"), ("PUT", 403, "failed"), ("GET", 403, "failed")])
def test_what_a_store_that_refuses_means(
    prefix: str, server: str, monkeypatch: pytest.MonkeyPatch, method: str, status: int, outcome: str
) -> None:
    """Refused is failed, no answer is unknown, each with a reason and never an exception; the next run makes it good."""
    monkeypatch.setattr(s3, "MOST_RETRIES", 1)
    with Proxy(server) as proxy:
        settle(monkeypatch, proxy.url)
        proxy.trouble = lambda number, asked, path: status if asked == method else None  # noqa: ARG005
        outcomes = till(prefix).send(outbound(2))
    assert set(outcomes.select("status", "is_final").rows()) == {(outcome, False)}
    assert outcomes["reason"][0].startswith(f"s3://{NAME}/{prefix}/{FOLDER}")
    assert str(status) in outcomes["reason"][0]
    assert outcomes["reason"].str.len_chars().max() < 250
    settle(monkeypatch, server)
    assert till(prefix).send(outbound(2))["status"].to_list() == ["delivered"] * 2


def test_an_answer_that_is_lost_is_no_second_object(prefix: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has the object and says 503: the request is repeated, is told that it is there, and that is it."""
    with Proxy(server) as proxy:
        settle(monkeypatch, proxy.url)
        channel = till(prefix)
        lost: list[bytes] = []

        def lose(number: int, method: str, path: str) -> int | None:  # noqa: ARG001
            if method != "PUT" or lost:
                return None
            settle(monkeypatch, server)
            lost.append(b"")
            till(prefix).send(outbound(2))
            return 503

        proxy.trouble = lose
        assert channel.send(outbound(2))["status"].to_list() == ["delivered"] * 2
    assert lost
    assert len(objects(prefix)) == 1


class Dying(BucketChannel):
    """A channel whose process is killed after it has put so many objects, before anybody hears of the last."""

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """Put, and die."""
        outcomes = super().send(messages)
        if len(self._keys) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcomes


def send_and_die(messages: pl.DataFrame, home: Path, prefix: str, url: str) -> None:
    """Deliver by batches of three, in a process that may have been forked off before there was a server."""
    settle(pytest.MonkeyPatch(), url)
    whole = till(prefix, 3)
    deliver(messages, {"till": Dying(whole.objects, "till", 3)}, Ledger(home=str(home)), wall_clock)


@pytest.mark.parametrize("batch_size", [3, 4, 100])
def test_a_kill_between_put_and_settle_is_one_object_and_delivered_in_the_end(
    prefix: str, server: str, tmp_path: Path, batch_size: int
) -> None:
    """However the next run cuts its batches: every message is in one object once, and the ledger has it."""
    messages = outbound(10, ["till"])
    ledger = Ledger(home=str(tmp_path))
    process: ForkServerProcess = processes().Process(target=send_and_die, args=(messages, tmp_path, prefix, server))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    before = objects(prefix)
    assert ledger.statuses(messages["idempotency_key"])["status"].to_list() == ["delivered"] * 3 + ["pending"] * 3
    activation = deliver(messages, {"till": till(prefix, batch_size)}, ledger, wall_clock)
    assert activation["status"].to_list() == ["delivered"] * 10
    after = objects(prefix)
    assert before.items() <= after.items()
    assert sorted(key for lines in keys(prefix) for key in lines) == messages["idempotency_key"].to_list()


def send_all(messages: pl.DataFrame, home: Path, prefix: str, url: str, batch_size: int) -> None:
    """Deliver in a process of its own."""
    settle(pytest.MonkeyPatch(), url)
    deliver(messages, {"till": till(prefix, batch_size)}, Ledger(home=str(home)), wall_clock)


def test_kills_lose_nothing_and_double_nothing(prefix: str, server: str, tmp_path: Path) -> None:
    """A sender that is killed again and again, and cuts its batches otherwise each time: every message is in one object once."""
    moments = random.Random(20260105)  # noqa: S311
    messages = outbound(40 * KILLS, ["till"])
    unsure = 0
    for life in range(KILLS):
        process: ForkServerProcess = processes().Process(target=send_all, args=(messages, tmp_path, prefix, server, 2 + life % 4))
        process.start()
        before = len(bucket(prefix).all())
        while process.is_alive() and len(bucket(prefix).all()) < before + 2:
            pass
        process.join(life % 2 * moments.uniform(0, 0.05))  # at once, most often before the ledger has it, or any time
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        unsure += "pending" in Ledger(home=str(tmp_path)).statuses(messages["idempotency_key"])["status"].to_list()
    send_all(messages, tmp_path, prefix, server, 100)
    assert unsure, "no kill fell between claiming and settling: this test shows nothing"
    assert sorted(key for lines in keys(prefix) for key in lines) == messages["idempotency_key"].to_list()
    assert set(Ledger(home=str(tmp_path)).statuses(messages["idempotency_key"])["status"]) == {"delivered"}


def test_what_speaks_to_buckets_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the channel is refused when it is connected, with what to install."""
    monkeypatch.setitem(sys.modules, "resources.storage.bucket", None)
    monkeypatch.delitem(sys.modules, "resources.storage.bucket")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(WrongSettingError, match="'till' goes out to a bucket, and obstore is not installed: `pip install obstore`"):
        way.connect("till", "s3://shop/prefix", Setting("home", wall_clock))


@pytest.mark.parametrize(
    "address", ["s3://", "s3:///x", "s3://hush:hush@shop/x", "s3://shop/../hush", "s3://shop/a//hush", "s3://shop?hush"]
)
def test_an_address_that_is_no_bucket_is_refused(address: str) -> None:
    """Nothing of it is repeated: it may be a secret at the wrong place."""
    with pytest.raises(WrongSettingError, match="the address of 'till' is no s3://<bucket>/<prefix>") as error:
        way.connect("till", address, Setting("home", wall_clock))
    assert "hush" not in str(error.value)


def test_an_address_has_a_prefix_or_none() -> None:
    """Slashes at the end are no part of it."""
    assert [Address.of(text) for text in ("s3://shop", "S3://shop/a/b/")] == [Address("shop", ""), Address("shop", "a/b")]
