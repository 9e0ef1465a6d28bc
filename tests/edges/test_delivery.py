"""Delivery: nothing is lost and nothing has its effect twice, whatever fails or is killed."""

import json
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import duckdb
import polars as pl
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.activation.tables import ACTIVATION
from resources.channels.channel import Channel, DryRun, OnUnknown
from resources.channels.files import FileChannel
from resources.delivery.delivery import deliver, unanswered_messages
from resources.delivery.ledger import LEDGER, Ledger, LedgerError
from resources.storage.outbox import Outbox
from tests.edges.receiver import Answer, Receiver
from tests.edges.sender import SECRET, outbound, processes, send_all, wall_clock, ways_out


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An HTTP server."""
    with Receiver(SECRET) as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path, address: str) -> Ledger:
    """An empty ledger, of each kind."""
    return Ledger.from_environment(str(tmp_path), {LEDGER: address})


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
    schedules: bool = True
    on_unknown: OnUnknown = "resend"
    batches: list[list[str]] = field(default_factory=list)

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """Answer for all messages, or for none."""
        self.batches.append(messages["customer_id"].to_list())
        answers = messages.select(
            "idempotency_key", status=pl.lit(self.answer), reason=pl.lit(None, pl.String), is_final=pl.lit(self.answer == "delivered")
        )
        return answers.drop_nulls("status")


def test_a_dry_run_says_what_would_be_sent_and_leaves_no_trace(tmp_path: Path) -> None:
    """Every message is accounted for; there is no ledger, no outbox, nothing."""
    dry = DryRun()
    activation = deliver(outbound(3, withheld=[1]), {"email": dry}, Ledger(home=str(tmp_path / "home")), wall_clock)
    assert activation.columns == list(ACTIVATION.schema)
    assert activation["reason"].to_list() == [None, "no_consent", None]
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
    assert deliver(messages.with_columns(withheld=pl.lit("suppressed")), ways, ledger, wall_clock)["status"].equals(first["status"])
    assert len(receiver.requests) == 1
    assert statuses(ledger, messages) == ["delivered"] * 6


@pytest.mark.parametrize(
    ("answer", "status", "effects"),
    [
        pytest.param(Answer(403, is_acting=False), "failed", 0, id="refused"),
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


def statuses_as_seen_by_others(address: str, home: Path) -> list[tuple[str]]:
    """All statuses, as another client of the database sees them."""
    asked = "select status from deliveries order by idempotency_key"
    if address:
        with psycopg.connect(address) as connection:
            return connection.execute(asked).fetchall()
    with duckdb.connect(f"{home}/ledger.duckdb", read_only=True) as file:
        return file.sql(asked).fetchall()


def test_the_ledger_is_written_before_each_batch_and_closed_while_it_is_sent(ledger: Ledger, address: str, tmp_path: Path) -> None:
    """While a batch is on its way it is pending, those before it are settled, those after it unheard of; anybody may read that."""
    seen = []

    class Witness(Recorder):
        def send(self, messages: pl.DataFrame) -> pl.DataFrame:
            seen.append(statuses_as_seen_by_others(address, tmp_path))
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
    """The run's log and the table say why messages were not delivered."""
    receiver.answers.append(Answer(403, is_acting=False))
    activation = deliver(outbound(3), ways_out(tmp_path, receiver.url()), ledger, wall_clock)
    assert activation["reason"].to_list() == ["127.0.0.1 answered 403 Forbidden"] * 3
    assert caplog.messages == ["email: 3 of 3 messages failed: 127.0.0.1 answered 403 Forbidden"]


def test_what_a_receiver_says_is_text(tmp_path: Path, receiver: Receiver, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """Its words reach the log and the table without control characters, and not at any length."""
    said = {"idempotency_key": outbound(1)["idempotency_key"][0], "status": "failed", "reason": "\x1b[2J\r\n\u202eno" + "!" * 10_000}
    receiver.answers.append(Answer(body=json.dumps({"results": [said]}).encode()))
    (reason,) = deliver(outbound(1), ways_out(tmp_path, receiver.url()), ledger, wall_clock)["reason"]
    assert reason.startswith(r"\x1b[2J\r\n\u202eno!!!")
    assert len(reason) < 300
    assert caplog.messages == [f"email: 1 of 1 messages failed: {reason}"]


def test_a_channel_that_is_not_connected_is_an_error_before_anything_is_sent(ledger: Ledger) -> None:
    """The message names the channel; the other channels have not begun."""
    email = Recorder()
    with pytest.raises(ValueError, match=r"messages go out by 'sms', but only these channels are connected: \['email'\]"):
        deliver(outbound(2, ["email", "sms"]), {"email": email}, ledger, wall_clock)
    assert not email.batches


def test_two_messages_with_one_key_concern_nobody_else(ledger: Ledger) -> None:
    """Both are withheld with the reason, since one of them would silently never be sent; the others go out."""
    email = Recorder()
    twins = pl.concat([outbound(3), outbound(1).with_columns(customer_id=pl.lit("twin"))])
    activation = deliver(twins, {"email": email}, ledger, wall_clock)
    assert activation.select("customer_id", "status", "reason").rows() == [
        ("c0", "withheld", "key_collision"),
        ("twin", "withheld", "key_collision"),
        ("c1", "delivered", None),
        ("c2", "delivered", None),
    ]
    assert email.batches == [["c1", "c2"]]


def test_what_went_out_under_another_key_is_the_same_message(ledger: Ledger) -> None:
    """Delivered under an older key or as a visitor it stays delivered; what may have arrived is sent again under the key it had, and
    only a key of that customer counts."""
    before = outbound(4).with_columns(
        idempotency_key=pl.format("before {}", "customer_id"), customer_id=pl.format("anon:{}", "customer_id")
    )
    first = Recorder()
    deliver(before.head(1), {"email": first}, ledger, wall_clock)
    deliver(before[1:2], {"email": Recorder(answer="unknown")}, ledger, wall_clock)
    deliver(before[2:3], {"email": first}, ledger, wall_clock)
    names = outbound(4).select("idempotency_key", name=pl.format("anon:{}", "customer_id"), other_key=pl.format("before {}", "customer_id"))
    names = names.with_columns(name=pl.when(pl.col("name") != "anon:c2").then("name").otherwise(pl.lit("somebody else")))
    sent: list[str] = []

    class Keys(Recorder):
        def send(self, messages: pl.DataFrame) -> pl.DataFrame:
            sent.extend(messages["idempotency_key"])
            return super().send(messages)

    again = [deliver(outbound(4), {"email": Keys()}, ledger, wall_clock, names) for _ in range(2)]
    key = outbound(4)["idempotency_key"]
    assert sent == [key[2], key[3], "before c1"]
    for activation in again:
        assert activation.select("idempotency_key", "status").rows() == [(one, "delivered") for one in key]


@pytest.mark.slow
def test_a_dead_receiver_stops_its_channel_and_no_other(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """After three batches in a row that were not taken the rest is not tried, and says so; a refusal by message is a sign of life."""

    class Choosy(Recorder):
        def send(self, messages: pl.DataFrame) -> pl.DataFrame:
            return super().send(messages).with_columns(is_final=pl.lit(value=True))

    dead, alive, choosy = Recorder("unknown"), Recorder(), Choosy("failed")
    messages = outbound(30, ["app", "email", "website"])
    activation = deliver(messages, {"app": dead, "email": choosy, "website": alive}, ledger, wall_clock)
    assert [len(channel.batches) for channel in (dead, choosy, alive)] == [3, 5, 5]
    counts = activation.group_by("channel", "status").len().sort("channel", "status").rows()
    assert counts == [("app", "not_tried", 4), ("app", "unknown", 6), ("email", "failed", 10), ("website", "delivered", 10)]
    assert activation.filter(pl.col("status") == "not_tried")["reason"].unique().to_list() == [
        "the channel was given up after 3 batches in a row that were not taken"
    ]
    assert len(statuses(ledger, messages)) == 26
    assert any("app: given up for this run" in line for line in caplog.messages)
    again = deliver(messages, {"app": dead, "email": choosy, "website": alive}, ledger, wall_clock)
    assert again.filter(pl.col("channel") == "app")["status"].value_counts(sort=True).rows() == [("unknown", 6), ("not_tried", 4)]


def test_what_nobody_answered_for_is_found_again(ledger: Ledger) -> None:
    """Unknown, pending of the dead, refused as a whole, never tried; not what a receiver decided, what is withheld or was never sent."""
    ledger.claim(outbound(6), wall_clock())
    final = {"delivered": True, "failed": True, "unknown": False, "refused": False}
    rows = [
        (f"{number:016x}", "failed" if word == "refused" else word, word, is_final) for number, (word, is_final) in enumerate(final.items())
    ]
    ledger.settle(pl.DataFrame(rows, schema=["idempotency_key", "status", "reason", "is_final"], orient="row"))
    messages = outbound(9, withheld=[5])
    unanswered = unanswered_messages(messages, messages["idempotency_key"][7:8], ledger, None)
    assert unanswered["customer_id"].to_list() == ["c2", "c3", "c4", "c7"]
    assert unanswered.columns == messages.columns


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


@contextmanager
def no_room_for_more_than(size: int) -> Iterator[None]:
    """Let files grow no larger than so many bytes, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_fails_the_files_and_no_other_channel(tmp_path: Path, receiver: Receiver, ledger: Ledger) -> None:
    """What cannot be written whole is failed with the reason and leaves nothing; the rest goes on; with room again it is delivered once."""
    ways = ways_out(tmp_path, receiver.url())
    messages = outbound(8, ["email", "website"]).with_columns(content=pl.lit("w" * 2_000_000))
    deliver(outbound(1), ways, ledger, wall_clock)
    with no_room_for_more_than(4_000_000):
        activation = deliver(messages, ways, ledger, wall_clock)
    assert set(activation.select("channel", "status", "reason").rows()) == {
        ("email", "delivered", None),
        ("website", "failed", "outbox: File too large"),
    }
    assert not list(tmp_path.glob("outbox/*/*"))
    assert not list(tmp_path.glob("outbox/*/.*"))
    assert set(deliver(messages, ways, ledger, wall_clock)["status"]) == {"delivered"}
    assert outbox(tmp_path) == messages.filter(pl.col("channel") == "website")["idempotency_key"].to_list()
    assert len(receiver.effects) == 4


@pytest.mark.parametrize("case", ["a name too long", "no folder", "read-only", "damaged"])
def test_an_outbox_that_cannot_be_written_fails_its_messages(tmp_path: Path, ledger: Ledger, case: str) -> None:
    """Each with the reason, and never an exception."""
    messages = outbound(2)
    file = tmp_path / "outbox" / "date=2026-01-05" / "journey_0.ndjson"
    if case == "a name too long":
        messages = messages.with_columns(journey_id=pl.lit("j" * 300))
    elif case == "no folder":
        file.parents[1].touch()
    elif case == "read-only":
        file.mkdir(parents=True)  # what even root cannot write
    else:
        file.parent.mkdir(parents=True)
        file.write_bytes(b"\xff\n")
    activation = deliver(messages, {"email": FileChannel(Outbox(tmp_path / "outbox"))}, ledger, wall_clock)
    assert activation["status"][0] == "failed"
    assert activation["reason"][0].startswith("outbox: ")
    assert activation["status"][1] == ("failed" if case in ("a name too long", "no folder") else "delivered")


def test_a_ledger_that_cannot_be_written_lets_nothing_out(tmp_path: Path) -> None:
    """Without a place to write down what leaves, nothing does; the error names the ledger, and with room again all of it goes out."""
    email, ledger = Recorder(batch_size=10_000), Ledger(home=str(tmp_path))
    deliver(outbound(1), {"email": email}, ledger, wall_clock)
    messages = outbound(20_000).with_columns(decision=pl.col("idempotency_key").str.reverse() + "x" * 500)
    with no_room_for_more_than(600_000), pytest.raises(LedgerError, match=r"the delivery ledger .*ledger.duckdb cannot be read or written"):
        deliver(messages, {"email": email}, ledger, wall_clock)
    assert len(email.batches) == 1
    assert set(deliver(messages, {"email": email}, ledger, wall_clock)["status"]) == {"delivered"}
    assert sorted(customer for batch in email.batches for customer in batch) == sorted(messages["customer_id"])


def start(messages: pl.DataFrame, home: Path, url: str, batch_size: int) -> ForkServerProcess:
    """A process of its own that delivers the messages, with the ledger of the test."""
    process = processes().Process(target=send_all, args=(messages, home, url, batch_size, os.environ.get(LEDGER, "")))
    process.start()
    return process


def kill(process: ForkServerProcess) -> None:
    """End a process as the kernel would: nothing is flushed, nothing is cleaned up."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


KILLS = int(os.environ.get("KILLS", "20"))
"""How often senders are killed; more than in the suite when somebody wants to know."""


@pytest.mark.slow
def test_kills_lose_nothing_and_double_nothing(tmp_path: Path, receiver: Receiver, ledger: Ledger, address: str) -> None:
    """A sender killed at many random moments, then run to its end: every message had its effect once and is delivered, and no message
    was sent twice but those the ledger held for uncertain when it was sent again."""
    moments = random.Random(20260105)  # noqa: S311
    messages = outbound(15 * KILLS)
    uncertain = [set[str]()]
    for life in range(KILLS):
        sender = start(messages, tmp_path, receiver.url(str(life)), batch_size=3)
        receiver.wait_for(len(receiver.requests) + moments.randint(1, 3))
        time.sleep(moments.uniform(0, 0.1))
        kill(sender)
        assert sender.exitcode == -signal.SIGKILL
        known = ledger.statuses(messages["idempotency_key"])
        uncertain.append(set(known.filter(pl.col("status") != "delivered")["idempotency_key"]))
    send_all(messages, tmp_path, receiver.url(str(KILLS)), batch_size=100, address=address)

    keys = messages["idempotency_key"].to_list()
    assert sorted(effect["idempotency_key"] for effect in receiver.effects) == keys
    assert statuses(ledger, messages) == ["delivered"] * messages.height
    sent = [[key for request in receiver.requests if request.path == f"/{life}" for key in request.keys] for life in range(KILLS + 1)]
    for life in range(1, KILLS + 1):
        before = {key for earlier in sent[:life] for key in earlier}
        assert before & set(sent[life]) <= uncertain[life]
        assert len(sent[life]) == len(set(sent[life]))
    assert any(uncertain), "no kill fell between claiming and settling: this test shows nothing"


@pytest.mark.slow
def test_kills_while_writing_files_lose_nothing_and_double_nothing(tmp_path: Path, ledger: Ledger, address: str) -> None:
    """A sender killed at 6 random moments, then run to its end: every message is one line of its journey's file."""
    moments = random.Random(20260105)  # noqa: S311
    messages = outbound(300, ["website"])
    for _ in range(6):
        sender = start(messages, tmp_path, "", batch_size=3)
        sender.join(moments.uniform(0.2, 0.6))
        kill(sender)
    send_all(messages, tmp_path, "", batch_size=100, address=address)
    assert outbox(tmp_path) == messages["idempotency_key"].to_list()
    assert statuses(ledger, messages) == ["delivered"] * 300


@pytest.mark.slow
def test_two_processes_send_every_message_once(tmp_path: Path, receiver: Receiver, ledger: Ledger) -> None:
    """They share the work: no message is sent twice, not even with the same key, and neither fails."""
    messages = outbound(60, ["email", "website"])
    senders = [start(messages, tmp_path, receiver.url(), batch_size=5) for _ in range(2)]
    for sender in senders:
        sender.join()
    assert [sender.exitcode for sender in senders] == [0, 0]
    by_channel = messages.sort("idempotency_key").partition_by("channel", as_dict=True)
    assert sorted(key for request in receiver.requests for key in request.keys) == by_channel["email",]["idempotency_key"].to_list()
    assert outbox(tmp_path) == by_channel["website",]["idempotency_key"].to_list()
    assert statuses(ledger, messages) == ["delivered"] * 60


@pytest.mark.slow
def test_two_threads_send_every_message_once(tmp_path: Path, receiver: Receiver, ledger: Ledger) -> None:
    """Two clicks in one process are two senders; what the other has in hand is told as pending, and nothing as delivered that is not."""
    messages = outbound(60)
    with ThreadPoolExecutor(2) as clicks:
        runs = [clicks.submit(deliver, messages, ways_out(tmp_path, receiver.url(), 5), ledger, wall_clock) for _ in range(2)]
    assert sorted(key for request in receiver.requests for key in request.keys) == messages["idempotency_key"].to_list()
    assert set(pl.concat([run.result() for run in runs])["status"]) <= {"delivered", "pending"}
    assert statuses(ledger, messages) == ["delivered"] * 60
