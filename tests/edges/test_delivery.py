"""Delivery: nothing is lost and nothing has its effect twice, whatever fails or is killed."""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.channels import Channel, DryRun
from resources.delivery import deliver
from resources.ledger import Ledger
from tests.edges.receiver import Answer, Receiver
from tests.edges.sender import SECRET, outbound, processes, send_all, wall_clock, ways_out


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An HTTP server."""
    with Receiver(SECRET) as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An empty ledger."""
    return Ledger(home=str(tmp_path))


def statuses(ledger: Ledger, messages: pl.DataFrame) -> list[str]:
    """What the ledger knows of the messages, by key."""
    return ledger.statuses(messages["idempotency_key"])["status"].to_list()


def outbox(home: Path) -> list[str]:
    """The keys of all lines of all files, sorted."""
    lines = [line for path in home.glob("outbox/*/*.ndjson") for line in path.read_text("utf-8").splitlines()]
    return sorted(json.loads(line)["idempotency_key"] for line in lines)


@dataclass
class Recorder:
    """A channel that keeps what it is given and answers as told."""

    answer: str | None = "delivered"
    batch_size: int = 2
    is_dry: bool = False
    batches: list[list[str]] = field(default_factory=list)

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """Answer for all messages, or for none."""
        self.batches.append(messages["customer_id"].to_list())
        answers = messages.select("idempotency_key", status=pl.lit(self.answer), reason=pl.lit(None, pl.String))
        return answers.drop_nulls("status")


def test_a_dry_run_says_what_would_be_sent_and_leaves_no_trace(tmp_path: Path) -> None:
    """Every message is accounted for; there is no ledger, no outbox, nothing."""
    dry = DryRun()
    activation = deliver(outbound(3, withheld=[1]), {"email": dry}, Ledger(home=str(tmp_path / "home")), wall_clock)
    assert activation.columns == ["date", "idempotency_key", "customer_id", "journey_id", "channel", "status"]
    assert activation["status"].to_list() == ["would_send", "withheld", "would_send"]
    assert dry.messages == 2
    assert not list(tmp_path.iterdir())


def test_what_was_delivered_is_not_sent_again(tmp_path: Path, receiver: Receiver, ledger: Ledger) -> None:
    """A second run sends nothing and reports the same; so does a dry run, and a run that would withhold what is gone already."""
    messages = outbound(7, ["email", "website"], withheld=[2])
    ways = ways_out(tmp_path, receiver.url())
    first = deliver(messages, ways, ledger, wall_clock)
    assert first["status"].to_list() == ["delivered", "delivered", "withheld", "delivered", "delivered", "delivered", "delivered"]
    assert [len(request.keys) for request in receiver.requests] == [3]
    assert outbox(tmp_path) == [f"{number:016x}" for number in (1, 3, 5)]
    assert deliver(messages, ways, ledger, wall_clock).equals(first)
    assert deliver(messages, dict.fromkeys(ways, DryRun()), ledger, wall_clock).equals(first)
    assert deliver(messages.with_columns(withheld=pl.lit("suppressed")), ways, ledger, wall_clock).equals(first)
    assert len(receiver.requests) == 1
    assert statuses(ledger, messages) == ["delivered"] * 6


@pytest.mark.parametrize(
    ("answer", "status", "effects"),
    [
        pytest.param(Answer(400, is_acting=False), "failed", 0, id="refused"),
        pytest.param(Answer(is_dropping=True), "unknown", 2, id="answer lost"),
        pytest.param(Answer(is_dropping=True, is_acting=False), "unknown", 0, id="request lost"),
    ],
)
def test_what_was_not_delivered_is_sent_again_with_the_same_key(
    tmp_path: Path, receiver: Receiver, ledger: Ledger, answer: Answer, status: str, effects: int
) -> None:
    """Both outcomes are reported and remembered; the next run sends the same keys, and the receiver acts once."""
    messages = outbound(2)
    receiver.answers.append(answer)
    first = deliver(messages, ways_out(tmp_path, receiver.url()), ledger, wall_clock)
    assert first["status"].to_list() == statuses(ledger, messages) == [status] * 2
    assert len(receiver.effects) == effects
    second = deliver(messages, ways_out(tmp_path, receiver.url()), ledger, wall_clock)
    assert second["status"].to_list() == statuses(ledger, messages) == ["delivered"] * 2
    assert receiver.requests[0].keys == receiver.requests[1].keys
    assert len(receiver.effects) == 2


def test_the_ledger_is_written_before_each_batch_and_closed_while_it_is_sent(ledger: Ledger) -> None:
    """While a batch is on its way it is pending, those before it are settled, those after it unheard of; anybody may read that."""
    seen = []

    class Witness(Recorder):
        def send(self, messages: pl.DataFrame) -> pl.DataFrame:
            with duckdb.connect(f"{ledger.home}/ledger.duckdb", read_only=True) as connection:
                seen.append(connection.sql("select status from deliveries order by idempotency_key").fetchall())
            return super().send(messages)

    deliver(outbound(3), {"email": Witness()}, ledger, wall_clock)
    assert seen == [[("pending",), ("pending",)], [("delivered",), ("delivered",), ("pending",)]]


def test_a_sender_that_breaks_leaves_its_batch_pending(ledger: Ledger) -> None:
    """The error is not hidden, earlier batches stay delivered, and the next run sends the rest."""

    class Breaking(Recorder):
        def send(self, messages: pl.DataFrame) -> pl.DataFrame:
            if self.batches:
                raise OSError("disk full")
            return super().send(messages)

    with pytest.raises(OSError, match="disk full"):
        deliver(outbound(5), {"email": Breaking()}, ledger, wall_clock)
    assert statuses(ledger, outbound(5)) == ["delivered", "delivered", "pending", "pending"]
    rest = Recorder()
    assert set(deliver(outbound(5), {"email": rest}, ledger, wall_clock)["status"]) == {"delivered"}
    assert rest.batches == [["c2", "c3"], ["c4"]]


def test_a_message_the_channel_says_nothing_of_is_unknown(ledger: Ledger) -> None:
    """No news is not good news."""
    assert deliver(outbound(2), {"email": Recorder(answer=None)}, ledger, wall_clock)["status"].to_list() == ["unknown"] * 2
    assert statuses(ledger, outbound(2)) == ["unknown"] * 2


def test_a_message_another_process_delivers_meanwhile_is_left_to_it(ledger: Ledger) -> None:
    """The claim has the last word on what is sent, and the result says what is true."""
    other = Recorder()

    class Overtaken(Recorder):
        def send(self, messages: pl.DataFrame) -> pl.DataFrame:
            if not self.batches:
                deliver(outbound(6)[2:5], {"email": other}, ledger, wall_clock)
            return super().send(messages)

    overtaken = Overtaken()
    activation = deliver(outbound(6), {"email": overtaken}, ledger, wall_clock)
    assert activation["status"].to_list() == ["delivered"] * 6
    assert other.batches + overtaken.batches == [["c2", "c3"], ["c4"], ["c0", "c1"], ["c5"]]


def test_reasons_are_logged(tmp_path: Path, receiver: Receiver, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """The tables have no room for reasons, so the run's log says why messages were not delivered."""
    receiver.answers.append(Answer(400, is_acting=False))
    deliver(outbound(3), ways_out(tmp_path, receiver.url()), ledger, wall_clock)
    assert caplog.messages == ["email: 3 of 3 messages failed: 127.0.0.1 answered 400 Bad Request"]


def test_a_channel_that_is_not_connected_is_an_error_before_anything_is_sent(ledger: Ledger) -> None:
    """The message names the channel; the other channels have not begun."""
    email = Recorder()
    with pytest.raises(ValueError, match=r"messages go out by 'sms', but only these channels are connected: \['email'\]"):
        deliver(outbound(2, ["email", "sms"]), {"email": email}, ledger, wall_clock)
    assert not email.batches


def test_two_messages_with_one_key_are_an_error(ledger: Ledger) -> None:
    """One of them would silently never be sent."""
    twins = pl.concat([outbound(2), outbound(1)])
    with pytest.raises(ValueError, match=r"two messages have the key 0000000000000000 \(customer c0, journey journey_0\)"):
        deliver(twins, {"email": Recorder()}, ledger, wall_clock)


def test_a_day_without_messages_has_an_empty_result(ledger: Ledger) -> None:
    """The columns are there all the same."""
    activation = deliver(outbound(1).clear(), {"email": Recorder()}, ledger, wall_clock)
    assert activation.schema == deliver(outbound(1), {"email": DryRun()}, ledger, wall_clock).schema
    assert activation.is_empty()


@given(st.permutations(range(6)))
def test_the_result_does_not_depend_on_the_order_of_messages(order: list[int]) -> None:
    """The same messages in any order give the same table, sorted by key."""
    messages = outbound(6, ["email", "website"], withheld=[3])
    channels: dict[str, Channel] = {"email": DryRun(), "website": DryRun()}
    ledger = Ledger(home="nowhere")
    assert deliver(messages[order], channels, ledger, wall_clock).equals(deliver(messages, channels, ledger, wall_clock))


def start(messages: pl.DataFrame, home: Path, url: str, batch_size: int) -> ForkServerProcess:
    """A process of its own that delivers the messages."""
    process = processes().Process(target=send_all, args=(messages, home, url, batch_size))
    process.start()
    return process


def kill(process: ForkServerProcess) -> None:
    """End a process as the kernel would: nothing is flushed, nothing is cleaned up."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_twenty_kills_lose_nothing_and_double_nothing(tmp_path: Path, receiver: Receiver, ledger: Ledger) -> None:
    """A sender killed at 20 random moments, then run to its end: every message had its effect once and is delivered, and no message
    was sent twice but those the ledger held for uncertain when it was sent again."""
    moments = random.Random(20260105)  # noqa: S311
    messages = outbound(300)
    uncertain = [set[str]()]
    for life in range(20):
        sender = start(messages, tmp_path, receiver.url(str(life)), batch_size=3)
        receiver.wait_for(len(receiver.requests) + moments.randint(1, 3))
        time.sleep(moments.uniform(0, 0.1))
        kill(sender)
        assert sender.exitcode == -signal.SIGKILL
        known = ledger.statuses(messages["idempotency_key"])
        uncertain.append(set(known.filter(pl.col("status") != "delivered")["idempotency_key"]))
    send_all(messages, tmp_path, receiver.url("20"), batch_size=100)

    keys = messages["idempotency_key"].to_list()
    assert sorted(effect["idempotency_key"] for effect in receiver.effects) == keys
    assert statuses(ledger, messages) == ["delivered"] * 300
    sent = [[key for request in receiver.requests if request.path == f"/{life}" for key in request.keys] for life in range(21)]
    for life in range(1, 21):
        before = {key for earlier in sent[:life] for key in earlier}
        assert before & set(sent[life]) <= uncertain[life]
        assert len(sent[life]) == len(set(sent[life]))
    assert any(uncertain), "no kill fell between claiming and settling: this test shows nothing"


def test_kills_while_writing_files_lose_nothing_and_double_nothing(tmp_path: Path, ledger: Ledger) -> None:
    """A sender killed at 6 random moments, then run to its end: every message is one line of its journey's file."""
    moments = random.Random(20260105)  # noqa: S311
    messages = outbound(300, ["website"])
    for _ in range(6):
        sender = start(messages, tmp_path, "", batch_size=3)
        sender.join(moments.uniform(0.2, 0.6))
        kill(sender)
    send_all(messages, tmp_path, "", batch_size=100)
    assert outbox(tmp_path) == messages["idempotency_key"].to_list()
    assert statuses(ledger, messages) == ["delivered"] * 300


def test_two_processes_may_send_the_same_messages(tmp_path: Path, receiver: Receiver, ledger: Ledger) -> None:
    """They take turns at the ledger and at the files; every message has its effect once, and neither fails."""
    messages = outbound(60, ["email", "website"])
    senders = [start(messages, tmp_path, receiver.url(), batch_size=5) for _ in range(2)]
    for sender in senders:
        sender.join()
    assert [sender.exitcode for sender in senders] == [0, 0]
    by_channel = messages.sort("idempotency_key").partition_by("channel", as_dict=True)
    assert sorted(effect["idempotency_key"] for effect in receiver.effects) == by_channel["email",]["idempotency_key"].to_list()
    assert outbox(tmp_path) == by_channel["website",]["idempotency_key"].to_list()
    assert statuses(ledger, messages) == ["delivered"] * 60
