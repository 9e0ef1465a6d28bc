"""Sending as a run does it: what is refused, what an outage looks like, what the next runs make good, and what nobody ever sees."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.activation.tables import KEY_COLLISION
from atc_pipeline.definitions import build_definitions
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.promises.catalog import PROMISES
from resources.channels.webhook import WebhookChannel
from resources.delivery.ledger import Ledger
from resources.storage.lake import Lake
from tests.edges.receiver import Answer, Receiver
from tests.graph.small_world import DAYS, FIRST, line, make_world, run

pytestmark = pytest.mark.slow

SECRET = "between the two of us"  # noqa: S105
TOKEN = "hush-a-token"  # noqa: S105


class Clock:
    """The time of the runs: 5:00 in Berlin after the day they are of."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 4, tzinfo=UTC)

    def timestamp(self) -> float:
        """Return the time, as a receiver's clock has it."""
        return self.now.timestamp()

    def after(self, day: date) -> None:
        """Let it be the morning after a day."""
        self.now = datetime(day.year, day.month, day.day, 4, tzinfo=UTC) + timedelta(days=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What ``activation``, and what tells of it, take for the time."""
    clock = Clock()
    for module in ("activation", "sent"):
        monkeypatch.setattr(f"assets.{module}._now", lambda: clock.now)
    return clock


@pytest.fixture
def receiver(clock: Clock) -> Iterator[Receiver]:
    """Where both channels' webhooks lead."""
    with Receiver(SECRET, now=clock.timestamp) as running:
        yield running


@pytest.fixture
def live(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a world that sends, by webhooks whose URLs have tokens everywhere a URL can have one."""
    url = receiver.url(f"{TOKEN}?t={TOKEN}").replace("http://", f"http://{TOKEN}:{TOKEN}@")
    sending = {"ATC_LIVE": "true", "ATC_WEBHOOKS": f"email={url},app={url}", "ATC_WEBHOOK_SECRET": SECRET, "no_proxy": "127.0.0.1"}
    for name, value in sending.items():
        monkeypatch.setenv(name, value)
    return make_world(tmp_path) | sending


def run_day(
    environment: dict[str, str], day: date, clock: Clock, instance: dg.DagsterInstance, **options: Any
) -> dg.ExecuteInProcessResult:
    """Run a day on the morning after."""
    clock.after(day)
    return run(environment, day, day, instance=instance, **options)


def activation(environment: dict[str, str], day: date) -> Counter[str]:
    """How many messages of the day ended how."""
    rows = Lake(root=f"{environment['ATC_HOME']}/lake").read("activation", day)
    return Counter(rows.filter(pl.col("status") != "withheld")["status"])


def outage(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    """What the check of the day's messages said."""
    (found,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "messages_are_delivered"]
    return found


@pytest.mark.parametrize("word", ["yes", "1", "TRUE", "True", " true", "on"])
def test_a_word_that_is_not_true_sends_nothing_and_says_so(tmp_path: Path, word: str, clock: Clock) -> None:
    """The code location loads and everything before activation is made; that fails with the variable, what it is and what is expected."""
    environment = make_world(tmp_path) | {"ATC_LIVE": word}
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_day(environment, FIRST, clock, instance, must_succeed=False)
    failures = {event.step_key: event.step_failure_data for event in result.all_events if event.event_type_value == "STEP_FAILURE"}
    assert failures.keys() == {"activation", "synchronize_destinations"}
    told = failures["activation"].user_failure_data
    assert told is not None
    assert told.description == f"nothing was sent: ATC_LIVE is {word!r}: expected exactly true (messages are sent) or false (a dry run)"
    assert Lake(root=f"{environment['ATC_HOME']}/lake").has("outbound_messages", FIRST)
    assert not (tmp_path / "home" / "ledger.duckdb").exists()
    assert not (tmp_path / "home" / "outbox").exists()


def test_an_outage_is_red_and_the_next_day_makes_it_good(live: dict[str, str], receiver: Receiver, clock: Clock) -> None:
    """No answer on the first day: its check fails with figures, the run does not. The next day's run sends those messages again with
    their keys, at an hour that is still to come; a refusal that a receiver gave by message stays one."""
    with dg.DagsterInstance.ephemeral() as instance:
        receiver.answers.extend([Answer(is_dropping=True)] * 2)
        first = run_day(live, FIRST, clock, instance)
        receiver.answers.clear()
        sent = [message for request in receiver.requests for message in request.messages]
        check = outage(first)
        assert activation(live, FIRST) == {"unknown": len(sent)}
        assert not check.passed
        assert check.severity == dg.AssetCheckSeverity.ERROR
        assert "no answer from 127.0.0.1" in str(check.metadata["first_failing_rows"].value)

        receiver.requests.clear()
        second = run_day(live, DAYS[1], clock, instance)
        assert outage(second).passed
        again = {message["idempotency_key"]: message for request in receiver.requests for message in request.messages}
        assert {message["idempotency_key"] for message in sent} <= again.keys()
        assert all(again[message["idempotency_key"]]["send_at"] > clock.now.isoformat() for message in sent)
        told = [one.metadata["tried_again"].value for one in second.asset_materializations_for_node("activation")]
        assert "delivered" in str(told)
        keys = pl.Series([message["idempotency_key"] for message in sent])
        assert set(Ledger(home=live["ATC_HOME"]).statuses(keys)["status"]) == {"delivered"}
        count = len(receiver.requests)
        run_day(live, DAYS[2], clock, instance, job="activate", must_succeed=False)
        assert not {key for request in receiver.requests[count:] for key in request.keys} & set(keys)
    effects = Counter(message["idempotency_key"] for message in receiver.effects)
    assert set(effects.values()) == {1}


def test_what_was_refused_as_a_whole_or_not_tried_is_sent_later_and_a_verdict_is_not(
    live: dict[str, str], receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that is not let in (401), then given up: all of it goes out the day after. What it refused by message does not."""
    one_by_one = partial(WebhookChannel, secret=SECRET, batch_size=1)
    monkeypatch.setattr("resources.channels.connected.WAYS", {"http": lambda _, url, setting: one_by_one(url, now=setting.now)})
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr("resources.delivery.delivery.GIVEN_UP_AFTER", 1)
        receiver.answers.extend([Answer(401, is_acting=False)] * 2)
        run_day(live, FIRST, clock, instance)
        receiver.answers.clear()
        assert not receiver.effects
        missed = activation(live, FIRST)
        assert set(missed) == {"failed", "not_tried"}
        run_day(live, DAYS[1], clock, instance)
        days = Counter(message["date"] for message in receiver.effects)
        assert days[str(FIRST)] == missed.total()
        receiver.effects.clear()
        planned = Lake(root=f"{live['ATC_HOME']}/lake").read("outbound_messages", DAYS[1])
        keys = planned.filter(pl.col("withheld").is_null())["idempotency_key"]
        ledger = Ledger(home=live["ATC_HOME"])
        assert set(ledger.statuses(keys)["status"]) == {"delivered"}


def test_what_waited_too_long_or_was_never_sent_is_not_sent(live: dict[str, str], receiver: Receiver, clock: Clock) -> None:
    """After two days nothing is tried any more, and a day that was a dry run stays one."""
    with dg.DagsterInstance.ephemeral() as instance:
        receiver.answers.extend([Answer(is_dropping=True)] * 2)
        run_day(live, FIRST, clock, instance)
        receiver.answers.clear()
        clock.now = datetime(2026, 3, 20, tzinfo=UTC)  # so that the second day is past and not sent
        run(live, DAYS[1], DAYS[2], instance=instance)
        assert set(activation(live, DAYS[1])) == {"would_send"}
        count = len(receiver.requests)
        run_day(live, DAYS[3], clock, instance)
    dates = {message["date"] for request in receiver.requests[count:] for message in request.messages}
    assert dates == {str(DAYS[3])}


def test_a_late_file_after_an_outage_forgets_nothing(
    live: dict[str, str], receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sensor runs the day of the outage again with the day just over: what was refused or not tried goes out with that run, and the
    past day's table does not say that all is well; where the outage lasts, the day's check stays red."""
    one_by_one = partial(WebhookChannel, secret=SECRET, batch_size=1)
    monkeypatch.setattr("resources.channels.connected.WAYS", {"http": lambda _, url, setting: one_by_one(url, now=setting.now)})
    monkeypatch.setattr("resources.delivery.delivery.GIVEN_UP_AFTER", 1)
    with dg.DagsterInstance.ephemeral() as instance:
        receiver.answers.extend([Answer(401, is_acting=False)] * 20)
        run_day(live, FIRST, clock, instance)
        missed = activation(live, FIRST)
        assert set(missed) == {"failed", "not_tried"}
        clock.after(DAYS[1])
        again = run(live, FIRST, DAYS[1], instance=instance)
        assert activation(live, FIRST) == missed
        told = [check for check in again.get_asset_check_evaluations() if check.check_name == "messages_are_delivered"]
        assert str(FIRST) in {check.partition for check in told if not check.passed}
        receiver.answers.clear()
        run(live, FIRST, DAYS[1], instance=instance)
    days = Counter(message["date"] for message in receiver.effects)
    assert days[str(FIRST)] == missed.total()
    assert set(Counter(message["idempotency_key"] for message in receiver.effects).values()) == {1}


def test_nothing_keeps_a_token(
    live: dict[str, str],
    receiver: Receiver,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Runs that deliver, meet odd headers, get no answer, cannot read the variable: no run, event, snapshot, log or file has a token."""
    storage = tmp_path / "dagster"
    storage.mkdir()
    odd = [Answer(headers={"X\x00": "odd", " ": ":"}), Answer(302, {"Location": "http://["}), Answer(is_dropping=True), Answer(500)]
    with dg.DagsterInstance.local_temp(str(storage)) as instance:
        run_day(live, FIRST, clock, instance)
        receiver.answers.extend(odd * 3)
        run_day(live, DAYS[1], clock, instance)
        for broken in (f"email=http://127.0.0.1:{TOKEN}/{TOKEN}", f"{TOKEN}", f"http://{TOKEN}/?a={TOKEN}", f"email=https://a b/{TOKEN}"):
            monkeypatch.setenv("ATC_WEBHOOKS", broken)
            assert not run_day(live | {"ATC_WEBHOOKS": broken}, DAYS[2], clock, instance, must_succeed=False).success
        snapshot = build_definitions(os.environ | live).get_repository_def()
        assert TOKEN not in repr(snapshot.get_top_level_resources())
    assert receiver.effects
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in kept)
    assert [path for path in kept if TOKEN.encode() in path.read_bytes()] == []
    assert TOKEN not in "".join(capfd.readouterr())


def test_what_older_versions_delivered_is_not_sent_again(live: dict[str, str], receiver: Receiver, clock: Clock) -> None:
    """After the upgrade the ledger has keys of 16 digits: a day run again says delivered, and sends nothing."""
    with dg.DagsterInstance.ephemeral() as instance:
        run_day(live | {"ATC_LIVE": ""}, FIRST, clock, instance)
        lake = Lake(root=f"{live['ATC_HOME']}/lake")
        due = lake.read("outbound_messages", FIRST).filter(pl.col("withheld").is_null())
        entered = lake.read("journey_assignments", FIRST).select("customer_id", "entered_on")
        text = pl.format("{}:{}:{}:{}:{}", "customer_id", "journey_id", pl.col("entered_on").cast(pl.String), "step_day", "channel")
        older = due.join(entered, on="customer_id").with_columns(number=text.nchash.xxhash64(), decision=pl.lit("{}"))  # type: ignore[attr-defined]
        older = older.with_columns(idempotency_key=pl.Series([f"{number:016x}" for number in older["number"]]))
        ledger = Ledger(home=live["ATC_HOME"])
        ledger.claim(older, clock.now)
        ledger.settle(older.select("idempotency_key", status=pl.lit("delivered")))
        run_day(live, FIRST, clock, instance, job="activate")
    assert activation(live, FIRST) == {"delivered": due.height}
    assert not receiver.requests


VISITOR = """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-03-01}
channels: {app: {consent: none}}
journeys:
  - {id: welcome, length_days: 5, queue: {where: "tenure_days >= 0"}, channels: [app], steps: [{day: 1, channel: app, content: hello}]}
"""


def test_who_was_written_to_as_a_visitor_is_not_written_to_again(tmp_path: Path, clock: Clock) -> None:
    """A login of the day that arrives after its messages went out: the day is run again, and the person has one message."""
    environment = make_world(tmp_path, VISITOR) | {"ATC_LIVE": "true"}
    landing = tmp_path / "home" / "landing" / str(FIRST)
    (landing / "events.ndjson").write_text(json.dumps({"type": "page", "anonymousId": "a1", "timestamp": f"{FIRST}T10:00:00Z"}) + "\n")
    outbox = tmp_path / "home" / "outbox" / f"date={FIRST}" / "welcome.ndjson"
    with dg.DagsterInstance.ephemeral() as instance:
        run_day(environment, FIRST, clock, instance)
        before = outbox.read_text()
        (landing / "login.ndjson").write_text(line("u1", FIRST, 1, type="identify", anonymousId="a1") + "\n")
        run_day(environment, FIRST, clock, instance)
    sent = Lake(root=f"{environment['ATC_HOME']}/lake").read("activation", FIRST)
    assert before.count("\n") == 1
    assert outbox.read_text() == before
    assert sent.select("customer_id", "status").rows() == [("u1", "delivered")]


@pytest.mark.parametrize("named", ["2026-02-28", "01.03.2026", "9999-01-01"])
def test_a_past_day_that_is_none_of_the_calendar_is_refused(tmp_path: Path, named: str) -> None:
    """A typing error sends nothing, and is not a run that went well."""
    environment = make_world(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        named_day = {"ops": {"activation": {"config": {"past_days": [named]}}}}
        result = run(environment, DAYS[0], DAYS[0], instance=instance, config=named_day, must_succeed=False)
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert failure.step_key == "activation"
    assert f"past_days: {named}: no day of the calendar" in failure.step_failure_data.user_failure_data.description


def test_a_ledger_that_cannot_be_read_decides_and_sends_nothing(tmp_path: Path) -> None:
    """What was sent must stand when its day is decided again, so a file that is no ledger stops the decision, with a sentence."""
    environment = make_world(tmp_path)
    (Path(environment["ATC_HOME"]) / "ledger.duckdb").write_text("no database")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(environment, FIRST, FIRST, instance=instance, must_succeed=False)
    (failed,) = result.filter_events(lambda event: event.is_step_failure)
    told = failed.step_failure_data.user_failure_data
    assert failed.step_key == "decide"
    assert told is not None
    assert "nothing was decided" in (told.description or "")
    assert "ledger.duckdb" in (told.description or "")


def test_messages_of_one_key_are_found_whether_planned_or_met_in_the_ledger(tmp_path: Path) -> None:
    """Both checks have a row that breaks them: two of one key in the plan, and one that was kept back while sending."""
    lake, portfolio = Lake(root=str(tmp_path)), load_portfolio(Path(make_world(tmp_path / "world")["ATC_JOURNEYS"]))
    planned = [(FIRST, "k", "welcome", "email", KEY_COLLISION), (FIRST, "l", "welcome", "email", "no_consent")]
    columns = ["date", "idempotency_key", "journey_id", "channel"]
    lake.write("outbound_messages", FIRST, pl.DataFrame(planned, schema=[*columns, "withheld"], orient="row"))
    sent = [(*row[:4], "withheld", row[4]) for row in planned]
    lake.write("activation", FIRST, pl.DataFrame(sent, schema=[*columns, "status", "reason"], orient="row"))
    found = {
        promise.name: promise.find(lake, portfolio, [FIRST])
        for promise in PROMISES
        if promise.name in ("keys_are_unique", "messages_are_delivered")
    }
    assert found["keys_are_unique"]["idempotency_key"].to_list() == ["k"]
    assert found["messages_are_delivered"].select("reason", "messages").rows() == [(KEY_COLLISION, 1)]
