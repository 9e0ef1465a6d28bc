"""Channels: what a receiver sees, and what each of its answers means."""

import base64
import hashlib
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from resources.channels.channel import PAYLOAD, RENDERED, Channel, DryRun, Setting, WrongSettingError, json_lines
from resources.channels.connected import WAYS, Channels
from resources.channels.files import FileChannel
from resources.channels.signing import headers, read_secrets
from resources.channels.webhook import MOST_HALVES, WebhookChannel
from resources.storage.outbox import Outbox
from tests.edges.receiver import TOLERANCE_SECONDS, Answer, Receiver, Request, is_genuine
from tests.edges.sender import DAY, SECRET, outbound, wall_clock

Connect = Callable[..., dict[str, Channel]]
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
texts = st.text(st.characters(codec="utf-8"))
secrets = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: "whsec_" not in text)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An HTTP server."""
    with Receiver(SECRET) as running:
        yield running


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the sender would have waited between attempts."""
    waited: list[float] = []
    monkeypatch.setattr("resources.channels.webhook.time.sleep", waited.append)
    return waited


def webhook(receiver: Receiver) -> WebhookChannel:
    """A channel that is tried again twice, at once."""
    return WebhookChannel(receiver.url("email"), SECRET, wall_clock, retries=2, backoff_seconds=0)


@given(secrets, texts, moments)
def test_a_signature_is_verified_by_whoever_has_the_secret(secret: str, text: str, at: datetime) -> None:
    """The library for receivers agrees for every secret, body and time, also where the time is told in another zone."""
    signed = headers(read_secrets(secret), "a", at.astimezone(timezone(timedelta(hours=9))), text.encode())
    assert is_genuine(secret.encode(), signed, text.encode(), at.timestamp())


@given(secrets, texts, moments, secrets, texts, st.integers(1, TOLERANCE_SECONDS))
def test_a_signature_is_good_for_one_secret_one_body_and_a_short_time(
    secret: str, text: str, at: datetime, other_secret: str, other_text: str, seconds: int
) -> None:
    """Another secret, body or batch is refused, and so is an old request or one whose time was moved."""
    body, now = text.encode(), at.timestamp()
    signed = headers(read_secrets(secret), "a", at, body)
    assert is_genuine(other_secret.encode(), signed, body, now) == (hmac_key(other_secret) == hmac_key(secret))
    assert is_genuine(secret.encode(), signed, other_text.encode(), now) == (other_text == text)
    assert not is_genuine(secret.encode(), signed | {"webhook-id": "b"}, body, now)
    assert not is_genuine(secret.encode(), signed, body, now + TOLERANCE_SECONDS + 2)
    moved = signed | {"webhook-timestamp": str(int(now) + seconds)}
    assert not is_genuine(secret.encode(), moved, body, now)


def hmac_key(secret: str) -> bytes:
    """What HMAC makes of a secret: short ones are padded with zeros, long ones hashed."""
    key = secret.encode()
    return (hashlib.sha256(key).digest() if len(key) > 64 else key).rstrip(b"\0")


OLD, NEW, OTHER = (f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in range(3))


@pytest.mark.parametrize("between", [" ", ",", " , ", "\n"])
def test_while_a_secret_is_rotated_either_is_good(receiver: Receiver, between: str) -> None:
    """Each request has a signature of both: receivers change over when they like. Nobody else's is good."""
    channel = replace(webhook(receiver), secret=f"{OLD}{between}{NEW}")
    outcomes = []
    for receiver.secret in (OLD, NEW, OTHER):
        outcomes.append(channel.send(outbound(1))["status"][0])
    assert outcomes == ["delivered", "delivered", "failed"]
    assert receiver.requests[0].headers["webhook-signature"].count("v1,") == 2


def test_a_secret_of_before_is_replaced_like_any_other(receiver: Receiver) -> None:
    """A text as it is, beside its successor; the text alone may have blanks and commas in it, and is good as base64 as well."""
    for secret in ("plain", "whsec_" + base64.b64encode(b"between, the two of us").decode()):
        receiver.secret = secret if secret.startswith("whsec_") else secret.encode()
        text = f"plain {NEW}" if secret == "plain" else "between, the two of us"  # noqa: S105
        assert replace(webhook(receiver), secret=text).send(outbound(1))["status"].to_list() == ["delivered"]


def test_a_request_that_is_replayed_is_refused(receiver: Receiver) -> None:
    """Whoever recorded it has its signature, and not the time: five minutes later it has no effect any more."""
    webhook(receiver).send(outbound(1))
    (recorded,) = receiver.requests
    receiver.now = lambda: time.time() + TOLERANCE_SECONDS + 2
    answer = requests.post(receiver.url("email"), data=recorded.body, headers=recorded.headers, timeout=10)
    assert answer.status_code == 401
    assert len(receiver.requests) == 1


def test_a_webhook_gets_signed_batches_of_messages(receiver: Receiver) -> None:
    """The body has what a receiver needs of each message and not why it was chosen; the batch's key depends on the messages' keys only."""
    messages = outbound(3)
    outcomes = webhook(receiver).send(messages)
    webhook(receiver).send(messages.with_columns(content=pl.lit("welcome_2")).reverse())
    webhook(receiver).send(messages.head(2))
    first, second, third = receiver.requests
    assert outcomes["status"].to_list() == ["delivered"] * 3
    assert first.path == "/email"
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["webhook-id"] == second.headers["webhook-id"] != third.headers["webhook-id"]
    assert "Idempotency-Key" not in first.headers
    assert "X-ATC-Signature" not in first.headers
    assert first.keys == messages["idempotency_key"].to_list()
    assert set(first.messages[0]) == set(PAYLOAD)
    assert first.messages[0] == {
        "idempotency_key": "0000000000000000",
        "date": "2026-01-05",
        "customer_id": "c0",
        "journey_id": "journey_0",
        "step_day": 1,
        "channel": "email",
        "content": "welcome_1",
        "variant": None,
        "send_at": "2026-01-06T10:00:00+00:00",
    }


def test_a_receiver_gets_what_is_rendered_here_and_nothing_empty(receiver: Receiver, tmp_path: Path) -> None:
    """A message has what it has: of a channel that is data nothing more than before, byte for byte, whatever else is in the batch."""
    plain = outbound(4)
    nothing = pl.lit(None, pl.String)
    is_mail, is_place = pl.col("customer_id") == "c1", pl.col("customer_id") == "c3"
    messages = plain.with_columns(
        medium=pl.when(is_mail).then(pl.lit("email")).when(is_place).then(pl.lit("slot")),
        address=pl.when(is_mail).then(pl.lit("ann@example.com")),
        subject=pl.when(is_mail).then(pl.lit('"We" \u2028 miss you')),
        text=pl.when(is_mail | is_place).then(pl.lit("Hi")),
        html=nothing,
        fields=pl.when(is_place).then(pl.lit('{"headline":"Hi"}')),
        tried=pl.Series([["app:bounced"]] * 4),
    )
    before, after = json_lines(plain), json_lines(messages)
    assert [after[row] == before[row] for row in range(4)] == [True, False, True, False]
    assert before[0].endswith('"variant":null,"send_at":"2026-01-06T10:00:00+00:00"}')
    told = [{name: value for name, value in json.loads(line).items() if name not in PAYLOAD} for line in after]
    mail = {"medium": "email", "address": "ann@example.com", "subject": '"We" \u2028 miss you', "text": "Hi"}
    assert told == [{}, mail, {}, {"medium": "slot", "text": "Hi", "fields": '{"headline":"Hi"}'}]
    assert json_lines(messages.with_columns(nothing.alias(name) for name in RENDERED)) == before
    webhook(receiver).send(messages)
    FileChannel(Outbox(tmp_path)).send(messages)
    written = [line for path in sorted(tmp_path.rglob("*.ndjson")) for line in path.read_text("utf-8").split("\n")[:-1]]
    assert receiver.requests[0].body == ('{"messages":[' + ",".join(after) + "]}").encode()
    assert sorted(written) == sorted(after)


def test_a_wrong_secret_is_refused(receiver: Receiver) -> None:
    """The receiver's 401 is a failure, and nothing had an effect."""
    outcomes = replace(webhook(receiver), secret="guessed").send(outbound(1))  # noqa: S106
    assert outcomes.rows() == [("0000000000000000", "failed", "127.0.0.1 answered 401 Unauthorized", False)]
    assert not receiver.effects


BUSY = Answer(429, {"Retry-After": "7"}, is_acting=False)
BAD = Answer(400, is_acting=False)
BROKEN = Answer(500, is_acting=False)


@pytest.mark.parametrize(
    ("answers", "status", "requests", "waited"),
    [
        pytest.param([], "delivered", 1, [], id="ok"),
        pytest.param([Answer(204)], "delivered", 1, [], id="no content"),
        pytest.param([Answer(body=b"thanks")], "delivered", 1, [], id="no JSON"),
        pytest.param([Answer(body=b'["thanks"]')], "delivered", 1, [], id="other JSON"),
        pytest.param([Answer(body=b'{"results": "fine"}')], "delivered", 1, [], id="other results"),
        pytest.param([BROKEN, BROKEN], "delivered", 3, [], id="5xx, then ok"),
        pytest.param([BROKEN] * 3, "unknown", 3, [], id="5xx to the end"),
        pytest.param([BROKEN, Answer(403, is_acting=False)], "unknown", 2, [], id="5xx may have acted before the 403"),
        pytest.param([BROKEN, *[BAD] * 3], "unknown", 4, [], id="5xx may have acted before the 400, and of either half"),
        pytest.param([BUSY], "delivered", 2, [7], id="429, then ok after Retry-After"),
        pytest.param([BUSY] * 3, "failed", 3, [7, 7], id="429 to the end"),
        pytest.param([Answer(503, {"Retry-After": "86400"})], "unknown", 1, [], id="a day is too long to wait"),
        pytest.param([Answer(503, {"Retry-After": "soon"})], "delivered", 2, [], id="Retry-After that nobody understands"),
        pytest.param([Answer(408, is_acting=False)], "delivered", 2, [], id="408, then ok"),
        pytest.param([BAD] * 3, "failed", 3, [], id="400, and of either half"),
        pytest.param([Answer(404, is_acting=False)], "failed", 1, [], id="404"),
        pytest.param([Answer(302, {"Location": "/elsewhere"}, is_acting=False)], "failed", 1, [], id="redirects are not followed"),
        pytest.param([Answer(is_hanging=True)], "unknown", 1, [], id="no answer in time"),
        pytest.param([Answer(is_dropping=True)], "unknown", 1, [], id="connection lost after reading"),
        pytest.param([Answer(is_truncated=True)], "unknown", 1, [], id="connection lost while answering"),
        pytest.param([BUSY, Answer(is_dropping=True)], "unknown", 2, [7], id="connection lost the second time"),
    ],
)
def test_what_an_answer_means(
    receiver: Receiver, waits: list[float], answers: list[Answer], status: str, requests: int, waited: list[float]
) -> None:
    """Certain where the receiver said so, unknown where it may have acted, and tried again only where that is of use."""
    receiver.answers.extend(answers)
    patience = 0.5 if any(answer.is_hanging for answer in answers) else 10
    outcomes = replace(webhook(receiver), timeout_seconds=patience).send(outbound(2))
    receiver.wait_for(requests)
    assert outcomes["status"].to_list() == [status] * 2
    assert outcomes["reason"].is_null().all() == (status == "delivered")
    assert len(receiver.requests) == requests
    assert waits == waited
    assert len(receiver.effects) in ({2} if status == "delivered" else {0, 2} if status == "unknown" else {0})


def refusing(*numbers: int, status: int = 422) -> Callable[[Request], Answer]:
    """Refuse every batch in which one of these messages is."""
    bad = {f"{number:016x}" for number in numbers}
    return lambda request: Answer(status, is_acting=False) if bad & set(request.keys) else Answer()


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_batch_is_halved_until_the_bad_row_is_alone(receiver: Receiver, status: int) -> None:
    """The bad row has failed for good, with the receiver's words; all others arrive, once. Each part is known by its own keys."""
    receiver.rule = refusing(5, status=status)
    outcomes = webhook(receiver).send(outbound(8))
    assert outcomes["idempotency_key"].to_list() == outbound(8)["idempotency_key"].to_list()
    bad, rest = outcomes[5].row(0, named=True), outcomes.filter(pl.int_range(8) != 5)
    assert (bad["status"], bad["is_final"]) == ("failed", True)
    assert bad["reason"].startswith(f"127.0.0.1 answered {status} ")
    assert rest.select("status", "reason", "is_final").unique().rows() == [("delivered", None, True)]
    assert [len(request.keys) for request in receiver.requests] == [8, 4, 4, 2, 1, 1, 2]
    assert len(receiver.effects) == 7
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 7


def test_a_message_that_is_too_large_is_alone_in_the_end(receiver: Receiver) -> None:
    """A receiver with a limit of bytes gets as many at once as it takes, and what is too large by itself has failed."""
    receiver.rule = lambda request: Answer(413, is_acting=False) if len(request.body) > 2_000 else Answer()
    messages = outbound(16).with_columns(content=pl.when(pl.col("customer_id") == "c3").then(pl.lit("x" * 3_000)).otherwise("content"))
    outcomes = webhook(receiver).send(messages)
    assert outcomes.filter(pl.col("status") != "delivered")["idempotency_key"].to_list() == [f"{3:016x}"]
    assert len(receiver.effects) == 15


def test_halving_has_an_end(receiver: Receiver) -> None:
    """Of many bad rows, what is not found by so many requests is tried again another time; so is all of what nothing was taken of."""
    receiver.rule = refusing(*range(0, 100, 3))
    outcomes = webhook(receiver).send(outbound(100))
    assert len(receiver.requests) == 1 + MOST_HALVES
    assert len(receiver.effects) == outcomes.filter(pl.col("status") == "delivered").height > 10
    assert set(outcomes.filter(pl.col("status") != "delivered").select("status", "is_final").rows()) == {
        ("failed", False),
        ("failed", True),
    }
    receiver.requests.clear()
    receiver.rule = refusing(*range(100))
    assert webhook(receiver).send(outbound(100)).select("status", "is_final").unique().rows() == [("failed", False)]
    assert len(receiver.requests) == 1 + MOST_HALVES


@pytest.mark.parametrize(
    ("answer", "status"),
    [(Answer(403, is_acting=False), "failed"), (Answer(is_dropping=True, is_acting=False), "unknown")],
    ids=["refused", "lost"],
)
def test_halving_stops_where_another_answer_comes(receiver: Receiver, answer: Answer, status: str) -> None:
    """The other parts are not sent, and are what they were: refused, and tried again another time."""
    receiver.answers.extend([BAD, answer])
    outcomes = webhook(receiver).send(outbound(4))
    assert outcomes.select("status", "is_final").rows() == [(status, False)] * 2 + [("failed", False)] * 2
    assert len(receiver.requests) == 2


def test_halving_is_over_when_the_time_of_a_batch_is(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part may be slow; together they take no longer than a batch may."""
    clock = [0.0]
    monkeypatch.setattr("resources.channels.webhook.time.monotonic", lambda: clock[0])

    def slow(request: Request) -> Answer:
        clock[0] += 120
        return refusing(7)(request)

    receiver.rule = slow
    outcomes = webhook(receiver).send(outbound(8))
    assert [len(request.keys) for request in receiver.requests] == [8, 4, 4]
    assert outcomes.select("status", "is_final").rows() == [("delivered", True)] * 4 + [("failed", False)] * 4


@pytest.mark.parametrize(("asked", "requests", "wait"), [("3600", 1, 3600.0), ("7", 3, 7.0), ("99999999", 1, 86400.0)])
def test_a_receiver_says_how_long_to_leave_it_alone(receiver: Receiver, waits: list[float], asked: str, requests: int, wait: float) -> None:
    """A short while is waited for; what is longer, or asked for again and again, is told to whoever hands over."""
    receiver.answers.extend([Answer(429, {"Retry-After": asked}, is_acting=False)] * requests)
    outcomes = webhook(receiver).send(outbound(2))
    assert len(receiver.requests) == requests
    assert len(waits) == requests - 1
    assert outcomes["wait_seconds"].to_list() == [wait] * 2
    assert "wait_seconds" not in webhook(receiver).send(outbound(2)).columns


def test_the_receiver_may_answer_for_each_message(receiver: Receiver) -> None:
    """Each message gets its own result; what the receiver leaves out, or calls by a name we do not know, is unknown."""
    key = outbound(5)["idempotency_key"]
    results = [
        {"idempotency_key": key[3], "status": "queued"},
        {"idempotency_key": key[1], "status": "failed", "reason": "mailbox full"},
        {"idempotency_key": key[0], "status": "delivered"},
        {"idempotency_key": key[4], "status": "failed"},
        {"idempotency_key": "a stranger's", "status": "delivered"},
        {"status": "failed"},
        "and so on",
    ]
    receiver.answers.append(Answer(207, body=json.dumps({"results": results}).encode()))
    assert webhook(receiver).send(outbound(5)).rows() == [
        (key[0], "delivered", None, True),
        (key[1], "failed", "mailbox full", True),
        (key[2], "unknown", "not in the receiver's results", False),
        (key[3], "unknown", "not in the receiver's results", False),
        (key[4], "failed", None, True),
    ]


def test_an_unreachable_receiver_means_failed(waits: list[float]) -> None:
    """Without a connection nothing can have arrived. The reason does not give away the URL, which may hold a token."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/token"
        outcomes = WebhookChannel(url, SECRET, wall_clock, retries=3).send(outbound(1))
    assert outcomes.rows() == [("0000000000000000", "failed", "no connection to 127.0.0.1 (Connection refused)", False)]
    assert len(waits) == 2  # the first time it tries again at once


def test_waits_grow_and_differ(receiver: Receiver, waits: list[float]) -> None:
    """Each wait is twice the one before, and up to ``backoff_seconds`` longer, so that senders do not come back together."""
    receiver.answers.extend([BROKEN] * 10)
    replace(webhook(receiver), retries=4, backoff_seconds=0.5).send(outbound(1))
    assert [int(wait / 0.5) for wait in waits] == [2, 4, 8]
    assert len({wait % 0.5 for wait in waits}) == 3


def test_every_attempt_is_signed_anew() -> None:
    """A receiver that refuses old requests accepts a late attempt."""
    clock = [NOON]

    def an_hour_later() -> datetime:
        clock.append(clock[-1] + timedelta(hours=1))
        return clock[-2]

    with Receiver(SECRET, now=lambda: clock[-2].timestamp()) as running:  # noqa: PLW0108 - the clock moves
        running.answers.append(BROKEN)
        outcomes = replace(webhook(running), now=an_hour_later).send(outbound(1))
        first, second = (request.headers["webhook-timestamp"] for request in running.requests)
    assert outcomes["status"].to_list() == ["delivered"]
    assert (first, second) == (str(int(NOON.timestamp())), str(int(NOON.timestamp()) + 3600))


def test_files_are_kept_per_day_and_journey(tmp_path: Path) -> None:
    """Every line is in the file of its day and journey, as a webhook would have got it; nothing else is left in the outbox."""
    tomorrow = DAY + timedelta(days=1)
    messages = outbound(4).with_columns(date=pl.Series([DAY, DAY, tomorrow, DAY]))
    assert FileChannel(Outbox(tmp_path)).send(messages).rows() == [(key, "delivered", None, True) for key in messages["idempotency_key"]]
    assert lines(tmp_path) == {
        "date=2026-01-05/journey_0.ndjson": ["0000000000000000"],
        "date=2026-01-05/journey_1.ndjson": ["0000000000000001", "0000000000000003"],
        "date=2026-01-06/journey_0.ndjson": ["0000000000000002"],
    }
    line = json.loads((tmp_path / "date=2026-01-06" / "journey_0.ndjson").read_text("utf-8"))
    assert tuple(line) == PAYLOAD
    assert line["send_at"] == "2026-01-06T10:00:00+00:00"


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(0, 9), unique=True, min_size=1), max_size=4))
def test_sending_again_leaves_each_line_once(batches: list[list[int]]) -> None:
    """Whatever is sent in whatever order and however often: one line per key, sorted by key, text of every kind intact."""
    messages = outbound(10).with_columns(journey_id=pl.lit("welcome"), content=pl.lit('"ü\u2028\r\n\0'))
    with tempfile.TemporaryDirectory() as folder:
        channel = FileChannel(Outbox(Path(folder)))
        for batch in batches:
            channel.send(messages[batch])
        sent = sorted({number for batch in batches for number in batch})
        assert lines(Path(folder)) == ({"date=2026-01-05/welcome.ndjson": [f"{number:016x}" for number in sent]} if sent else {})


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure before the last step leaves the old file and nothing else, and is the outcome of the messages."""
    channel = FileChannel(Outbox(tmp_path))
    channel.send(outbound(1))
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        outcomes = channel.send(outbound(3))
    old = lines(tmp_path)
    channel.send(outbound(3))
    assert set(outcomes.select("status", "reason", "is_final").rows()) == {("failed", "outbox: disk full", False)}
    assert old == {"date=2026-01-05/journey_0.ndjson": ["0000000000000000"]}
    assert lines(tmp_path)["date=2026-01-05/journey_0.ndjson"] == ["0000000000000000", "0000000000000002"]


def test_a_reader_keeps_the_file_it_opened(tmp_path: Path) -> None:
    """A file is never changed under whoever is reading it."""
    channel = FileChannel(Outbox(tmp_path))
    channel.send(outbound(1))
    with (tmp_path / "date=2026-01-05" / "journey_0.ndjson").open(encoding="utf-8") as reader:
        channel.send(outbound(5))
        assert reader.read().count("\n") == 1


def test_senders_of_one_file_take_turns(tmp_path: Path) -> None:
    """Four at once, one message at a time: no line is lost to a sender that had read the file before."""
    channel = FileChannel(Outbox(tmp_path))
    messages = outbound(40).with_columns(journey_id=pl.lit("welcome"))
    with ThreadPoolExecutor(4) as senders:
        list(senders.map(channel.send, messages.iter_slices(1)))
    assert lines(tmp_path) == {"date=2026-01-05/welcome.ndjson": messages["idempotency_key"].to_list()}


def fail(*_: object) -> None:
    """Stand in for a call that finds the disk full."""
    raise OSError("disk full")


def lines(outbox: Path) -> dict[str, list[str]]:
    """Keys by file."""
    return {
        str(path.relative_to(outbox)): [json.loads(line)["idempotency_key"] for line in path.read_text("utf-8").split("\n")[:-1]]
        for path in sorted(outbox.rglob("*"))
        if path.is_file()
    }


def test_a_dry_run_counts() -> None:
    """Every message is one that would be sent."""
    channel = DryRun()
    assert channel.send(outbound(2)).rows() == [(f"{number:016x}", "would_send", None, False) for number in range(2)]
    channel.send(outbound(3))
    assert channel.messages == 5


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Channels as the environment configures them."""

    def connected(**environment: str) -> dict[str, Channel]:
        for name in ("ATC_LIVE", "ATC_CHANNELS", "ATC_WEBHOOKS", "ATC_WEBHOOK_SECRET"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Channels.from_environment(str(tmp_path), environment).connect(["website", "email", "app"], wall_clock)

    return connected


@pytest.mark.parametrize("live", [{}, {"ATC_LIVE": ""}, {"ATC_LIVE": "false"}])
def test_nothing_is_live_unless_configured(connect: Connect, live: dict[str, str]) -> None:
    """Every channel is a dry run, with webhooks and without, and no secret is needed."""
    channels = connect(**live, ATC_WEBHOOKS="email=https://example.com/hook")
    assert channels.keys() == {"app", "email", "website"}
    assert all(channel.is_dry for channel in channels.values())


def test_live_channels_are_webhooks_or_files(connect: Connect, tmp_path: Path) -> None:
    """A channel with a webhook uses it, any other writes files; connecting touches nothing."""
    urls = " email = https://example.com/hook?a=b , app=http://127.0.0.1:1,"
    channels = connect(ATC_LIVE="true", ATC_WEBHOOKS=urls, ATC_WEBHOOK_SECRET=SECRET)
    assert channels == {
        "app": WebhookChannel("http://127.0.0.1:1", SECRET, wall_clock),
        "email": WebhookChannel("https://example.com/hook?a=b", SECRET, wall_clock),
        "website": FileChannel(Outbox(tmp_path / "outbox")),
    }
    assert not list(tmp_path.iterdir())


def test_a_channel_is_connected_by_the_scheme_of_its_address(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """ATC_CHANNELS reaches every way out; ATC_WEBHOOKS stays for those that are posted to."""
    calls: list[tuple[str, str]] = []

    def tubes(channel_id: str, address: str, setting: Setting) -> Channel:
        calls.append((channel_id, address))
        assert setting.environment["TUBE_KEY"] == "key"
        return DryRun(schedules=False)

    monkeypatch.setattr("resources.channels.connected.WAYS", {**WAYS, "tube+sealed": tubes})
    channels = connect(
        ATC_LIVE="true",
        ATC_CHANNELS="app=Tube+Sealed://station:1",
        ATC_WEBHOOKS="email=http://127.0.0.1:1",
        ATC_WEBHOOK_SECRET=SECRET,
        TUBE_KEY="key",
    )
    assert calls == [("app", "Tube+Sealed://station:1")]
    assert not channels["app"].schedules
    assert channels["email"] == WebhookChannel("http://127.0.0.1:1", SECRET, wall_clock)


def test_no_secret_is_shown(connect: Connect) -> None:
    """Neither what signs nor what may be part of a URL is in what a traceback or a log would show of channels or of the configuration."""
    environment = {"ATC_LIVE": "true", "ATC_WEBHOOKS": "email=https://user:hush1@example.com/hush2?t=hush3", "ATC_WEBHOOK_SECRET": "hush4"}
    assert "hush" not in repr(connect(**environment))
    assert "hush" not in repr(Channels.from_environment("home", environment))


def test_files_need_no_secret(connect: Connect, tmp_path: Path) -> None:
    """Live without webhooks is complete."""
    assert set(connect(ATC_LIVE="true").values()) == {FileChannel(Outbox(tmp_path / "outbox"))}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        *(
            ({"ATC_LIVE": word}, "ATC_LIVE is ")
            for word in ("perhaps", "1", "0", "TRUE", "True", " true", "true ", "yes", "False", "\u202etrue")
        ),
        ({"ATC_LIVE": "yes"}, "ATC_LIVE is 'yes': expected exactly true (messages are sent) or false (a dry run)"),
        ({"ATC_WEBHOOKS": "https://example.com/?hush=hush"}, "ATC_WEBHOOKS has no channel in entry 1 of 1; expected <channel>=https://"),
        ({"ATC_WEBHOOKS": "email=example.com/hush"}, "ATC_WEBHOOKS has no URL for 'email': what is there does not begin with https://"),
        ({"ATC_WEBHOOKS": "email=http://a:99999/hush"}, "ATC_WEBHOOKS has no URL for 'email': what is there has a port that is no number"),
        ({"ATC_WEBHOOKS": "email=http://a:0/hush"}, "ATC_WEBHOOKS has no URL for 'email': what is there has the port 0"),
        ({"ATC_WEBHOOKS": "email=http://a:hush"}, "ATC_WEBHOOKS has no URL for 'email': what is there has a port that is no number"),
        ({"ATC_WEBHOOKS": "email=https:///hush"}, "ATC_WEBHOOKS has no URL for 'email': what is there names no host"),
        ({"ATC_WEBHOOKS": "email=https://[hush"}, "ATC_WEBHOOKS has no URL for 'email': what is there has a port that is no number from 1"),
        ({"ATC_WEBHOOKS": "email=https://*/hush"}, "ATC_WEBHOOKS has no URL for 'email': what is there names a host that cannot be one"),
        ({"ATC_WEBHOOKS": f"email=https://{'a' * 64}.de/"}, "ATC_WEBHOOKS has no URL for 'email': what is there names a host that cannot"),
        ({"ATC_WEBHOOKS": "email=https://a/hu sh"}, "ATC_WEBHOOKS has no URL for 'email': what is there has blanks or control characters"),
        (
            {"ATC_WEBHOOKS": "email=https://a/\x1bhush"},
            "ATC_WEBHOOKS has no URL for 'email': what is there has blanks or control characters",
        ),
        ({"ATC_WEBHOOKS": "email=https://a/#hush"}, "ATC_WEBHOOKS has no URL for 'email': what is there has a #"),
        ({"ATC_WEBHOOKS": "email=https://a/?t=x,hush==y"}, "ATC_WEBHOOKS has no URL in entry 2 of 2: what is there does not begin"),
        ({"ATC_WEBHOOKS": "email=http://a,email=http://b"}, "ATC_WEBHOOKS names a channel twice, for 'email'"),
        ({"ATC_CHANNELS": "email=hush://hush"}, "ATC_CHANNELS has no address for 'email': what is there does not begin with http"),
        ({"ATC_CHANNELS": "email=hush"}, "ATC_CHANNELS has no address for 'email': what is there does not begin with http"),
        ({"ATC_CHANNELS": "email=https://a/#hush"}, "ATC_CHANNELS has no address for 'email': what is there has a #"),
        (
            {"ATC_CHANNELS": "email=https://a/hush", "ATC_WEBHOOKS": "email=https://b/hush"},
            "ATC_CHANNELS and ATC_WEBHOOKS both have an address for 'email'",
        ),
        ({"ATC_CHANNELS": "emial=http://a"}, "ATC_CHANNELS names 'emial', which is no channel of journeys.yaml; nearest: 'email'"),
        ({"ATC_WEBHOOKS": "emial=http://a"}, "ATC_WEBHOOKS names 'emial', which is no channel of journeys.yaml; nearest: 'email'"),
        *(
            ({"ATC_LIVE": "true", "ATC_WEBHOOKS": "email=http://a", "ATC_WEBHOOK_SECRET": secret}, f"ATC_WEBHOOK_SECRET {problem}")
            for secret, problem in {
                "whsec_hush": "has a secret that begins with whsec_ and goes on with no base64 of 24 to 64 bytes, as `openssl rand",
                f"{OLD}hush": "has a secret that begins with whsec_ and goes on with no base64",
                f"{OLD} whsec_{'hush' * 30}": "has a secret that begins with whsec_ and goes on with no base64",
                f"{OLD} {NEW} hush": "holds 3 secrets: expected one, or 2 while one is rotated, separated by a blank",
            }.items()
        ),
        (
            {"ATC_LIVE": "true", "ATC_WEBHOOKS": "email=http://a,app=http://b"},
            "ATC_WEBHOOK_SECRET is not set, and the webhook of 'app' is not called without a signature",
        ),
    ],
)
def test_wrong_configuration_is_refused_and_explained(
    connect: Connect, caplog: pytest.LogCaptureFixture, environment: dict[str, str], message: str
) -> None:
    """The message names the variable and what was expected, and shows nothing that may be part of a token; nor does any log."""
    with pytest.raises(WrongSettingError) as error:
        connect(**environment)
    assert str(error.value).startswith(message)
    assert "hush" not in str(error.value) + caplog.text


def test_webhooks_that_the_run_does_not_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without the variable that the code location had would write files instead, and call them delivered."""
    monkeypatch.delenv("ATC_WEBHOOKS", raising=False)
    channels = Channels.from_environment(str(tmp_path), {"ATC_LIVE": "true", "ATC_WEBHOOKS": "email=https://example.com/hook"})
    with pytest.raises(WrongSettingError, match=r"have addresses for \[\], and had them for \['email=https'\]"):
        channels.connect(["email"], wall_clock)
