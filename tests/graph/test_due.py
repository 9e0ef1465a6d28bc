"""``send_due`` as a run does it: what waits for its hour goes out then, once, and not to who should not get it any more."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.activation import volume
from atc_pipeline.commands.command import Place
from atc_pipeline.commands.standing import standing
from atc_pipeline.days.activation import texts_of
from atc_pipeline.definitions import build_definitions
from atc_pipeline.journeys.resolution import load_portfolio
from resources.delivery.ledger import Ledger
from resources.storage.lake import Lake
from tests.edges.test_handing_over import Relay
from tests.graph.small_world import DAYS, FIRST, JOURNEYS, line, make_world, run

pytestmark = pytest.mark.slow

MORNING = datetime(2026, 3, 2, 4, tzinfo=UTC)
PATIENT = JOURNEYS.replace("email: {consent: opt_in}", "email: {consent: opt_in, late_hours: 96}")


class World:
    """The small world, with e-mail by a relay that takes nothing before its hour."""

    def __init__(self, environment: dict[str, str], instance: dg.DagsterInstance, relay: Relay) -> None:
        self.environment, self.instance, self.relay = environment, instance, relay
        self.now = MORNING

    @property
    def lake(self) -> Lake:
        """Its tables."""
        return Lake(root=f"{self.environment['ATC_HOME']}/lake")

    def emails(self, day: Any = FIRST, *columns: str) -> list[Any]:
        """What became of the day's e-mails that were planned, by customer."""
        rows = self.lake.read("activation", day).filter(pl.col("channel") == "email").sort("customer_id")
        planned = self.lake.read("outbound_messages", day).filter(pl.col("withheld").is_null())
        kept = rows.join(planned, on="idempotency_key", how="semi")
        return kept.select(*columns).rows() if columns else kept["status"].to_list()

    def run(self, day: Any = FIRST, **options: Any) -> dg.ExecuteInProcessResult:
        """Run the daily job for a day."""
        return run(self.environment, day, day, instance=self.instance, **options)

    def job(self, name: str, config: dict[str, Any] | None = None, *, must_succeed: bool = True) -> dg.ExecuteInProcessResult:
        """Run another job."""
        job = build_definitions(self.environment).resolve_job_def(name)
        op = {"send_due": "hand_over", "settle_unknown": "settle"}[name]
        given = {"ops": {op: {"config": config}}} if config else None
        return job.execute_in_process(instance=self.instance, run_config=given, raise_on_error=must_succeed)

    def land(self, *lines: str, day: Any = DAYS[1], name: str = "late.ndjson") -> None:
        """Put events where nobody has ingested them yet."""
        path = Path(self.environment["ATC_HOME"]) / "landing" / str(day) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{text}\n" for text in lines))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


SENDING = {"ATC_LIVE": "true", "ATC_CHANNELS": "email=tube://station"}


@contextmanager
def sending(environment: dict[str, str], instance: dg.DagsterInstance) -> Iterator[World]:
    """The world with its relay and its clock, live, at five in the morning after the first day."""
    relay = Relay(on_unknown="hold")
    world = World(environment, instance, relay)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in SENDING.items():
            patched.setenv(name, value)
        patched.setattr("resources.channels.connected.WAYS", {"tube": lambda *_: relay})
        patched.setattr("assets.activation._now", lambda: world.now)
        patched.setattr("assets.jobs.due._now", lambda: world.now)
        yield world


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the world after its first day."""
    folder = tmp_path_factory.mktemp("due")
    environment = make_world(folder, PATIENT) | SENDING
    with dg.DagsterInstance.ephemeral() as ephemeral, sending(environment, ephemeral) as world:
        assert world.run().success
        assert world.relay.sent == []
    return folder


@pytest.fixture
def world(ran: Path, tmp_path: Path, instance: dg.DagsterInstance) -> Iterator[World]:
    """A copy of it."""
    copy = shutil.copytree(ran, tmp_path / "world")
    environment = {"ATC_HOME": str(copy / "home"), "ATC_JOURNEYS": str(copy / "journeys.yaml")} | SENDING
    with sending(environment, instance) as world:
        yield world


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What a run failed with."""
    (failed,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    told = failed.step_failure_data.user_failure_data
    assert told is not None
    return str(told.description)


def contents(home: Path) -> dict[str, bytes]:
    """Every file, but the lock of the turn."""
    return {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file() and not path.name.endswith((".turn", ".lock"))}


def test_messages_wait_for_their_hour_and_go_once(world: World) -> None:
    """The day's run hands over nothing but what schedules itself; at its hour send_due does, the table says so; then there is nothing."""
    count = len(world.emails())
    assert world.emails() == ["waiting"] * count
    assert count > 1
    stands = standing(Place.of(world.environment), world.now)
    assert [(row.status, row.will_be_tried) for row in stands.undelivered] == [("waiting", True)]
    assert [row.will_be_tried for row in standing(Place.of(world.environment), world.now + timedelta(hours=9)).undelivered] == [False]
    hours = world.lake.read("outbound_messages", FIRST).filter(pl.col("channel") == "email")["send_at"].unique().sort().to_list()
    world.now = hours[0] - timedelta(minutes=1)
    world.job("send_due")
    assert world.relay.sent == []
    world.now = hours[-1]
    result = world.job("send_due")
    assert world.emails() == ["delivered"] * count
    assert {row[0] for row in world.emails(FIRST, "sent_at")} == {hours[-1]}
    assert [event.partition for event in result.all_events if event.is_step_materialization] == [str(FIRST)]
    assert len(set(world.relay.sent)) == len(world.relay.sent) == count
    before = contents(Path(world.environment["ATC_HOME"]) / "lake")
    world.job("send_due")
    assert len(world.relay.sent) == count
    assert contents(Path(world.environment["ATC_HOME"]) / "lake") == before
    assert world.run().success
    assert world.emails() == ["delivered"] * count


def test_a_dry_run_writes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a table nor a ledger; it says how many would have been due. What was a dry run stays one when sending begins."""
    dry = world.environment | {"ATC_LIVE": ""}
    as_planned = world.lake.read("activation", FIRST)
    is_waiting = pl.col("status") == "waiting"
    status = pl.when(is_waiting).then(pl.lit("would_send")).otherwise("status")
    world.lake.write("activation", FIRST, as_planned.with_columns(status=status))
    count = len(world.emails())
    world.now += timedelta(hours=12)
    before = contents(Path(dry["ATC_HOME"]))
    job = build_definitions(dry).resolve_job_def("send_due")
    result = job.execute_in_process(instance=world.instance)
    (output,) = [event.step_output_data for event in result.all_events if event.is_successful_output]
    assert f"| email | {count} |" in output.metadata["DRY RUN: would be due"].value
    assert contents(Path(dry["ATC_HOME"])) == before
    monkeypatch.setenv("ATC_LIVE", "true")
    world.job("send_due")
    assert world.relay.sent == []


def test_who_says_no_meanwhile_gets_nothing(world: World) -> None:
    """Unsubscribed, a complaint, a hard bounce: landed and not ingested yet. A soft bounce, another channel, or words about them do not."""
    waiting = [row[0] for row in world.emails(FIRST, "customer_id")]
    assert len(waiting) >= 6
    no = waiting[:3]
    properties = {"channel": "EMAIL"}
    world.land(
        line(no[0], DAYS[1], 900, event="Unsubscribed", properties=properties),
        line(no[1], DAYS[1], 901, event="Email Marked as Spam"),
        line(no[2], DAYS[1], 902, event="Email Bounced", properties={"bounce_type": "Hard-Bounce"}),
        line(waiting[3], DAYS[1], 903, event="Email Bounced", properties={"bounce_type": "soft"}),
        line(waiting[4], DAYS[1], 904, event="Unsubscribed", properties={"channel": "app"}),
        line(waiting[5], DAYS[1], 905, event="Product Viewed", properties={"title": "Unsubscribed, Email Bounced"}),
        '{"event": "Unsubscribed", broken',
    )
    world.land(line(waiting[-1], FIRST, 906, event="Unsubscribed"), day=FIRST, name="of the day itself, but later.ndjson")
    world.now += timedelta(hours=12)
    world.job("send_due")
    gone = {*no, waiting[-1]}
    assert set(world.relay.sent) == set(waiting) - gone
    told = {customer: (status, reason) for customer, status, reason in world.emails(FIRST, "customer_id", "status", "reason")}
    assert {told[customer] for customer in gone} == {("withheld", "withdrawn")}


def test_who_has_left_the_journey_meanwhile_gets_nothing(world: World) -> None:
    """The next day was decided before the hour of the message: it is for those who are still in that entry, or whose entry had its end."""
    planned = world.lake.read("outbound_messages", FIRST).filter((pl.col("channel") == "email") & pl.col("withheld").is_null())
    entered = world.lake.read("journey_assignments", FIRST).select("customer_id", "entered_on", "ends_on")
    world.now = MORNING + timedelta(days=1)
    world.relay.schedules = False
    world.run(DAYS[1])
    after = world.lake.read("journey_assignments", DAYS[1]).select("customer_id", journey_now="journey_id", entered_now="entered_on")
    both = planned.join(entered, on="customer_id").join(after, on="customer_id")
    left = both.filter(
        (pl.col("ends_on") >= DAYS[1])
        & ~(pl.col("journey_now").eq_missing(pl.col("journey_id")) & pl.col("entered_now").eq_missing(pl.col("entered_on")))
    )["customer_id"].to_list()
    assert 0 < len(left) < planned.height
    world.now = MORNING + timedelta(days=1, hours=1)
    world.job("send_due")
    told = dict(world.emails(FIRST, "customer_id", "reason"))
    assert sorted(customer for customer, reason in told.items() if reason == "withdrawn") == sorted(left)
    assert not set(world.relay.sent) & set(left)


def test_only_the_last_days_are_looked_at(world: World) -> None:
    """A message that waited for more than patience_days + 2 days is nobody's business any more."""
    world.now = MORNING + timedelta(days=4)
    world.job("send_due")
    assert world.relay.sent == []
    assert set(world.emails()) == {"waiting"}


def test_a_channel_with_far_more_than_usual_is_held_until_somebody_accepts_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails with the figures, other channels go on, nothing of it goes out by itself, and accept_volume lets it go."""
    world.relay.schedules = True
    monkeypatch.setattr(volume, "TIMES", 0)
    monkeypatch.setattr(volume, "MORE", -100)
    monkeypatch.setattr("atc_pipeline.days.activation.volume.unusual", _only_email(volume.unusual))
    world.now += timedelta(days=1)
    result = world.run(DAYS[1], must_succeed=False)
    assert f"{DAYS[1]} email: " in failure(result)
    assert "accept_volume" in failure(result)
    assert set(world.emails(DAYS[1])) == {"held"}
    statuses = Counter(world.lake.read("activation", DAYS[1]).filter(pl.col("channel") == "app")["status"])
    assert statuses["delivered"] > 0
    stands = standing(Place.of(world.environment), world.now)
    assert ("held", False) in [(row.status, row.will_be_tried) for row in stands.undelivered]
    world.job("send_due")
    assert set(world.emails(DAYS[1])) == {"held"}
    wrong = world.job("send_due", {"accept_volume": ["emial"]}, must_succeed=False)
    assert failure(wrong).startswith("accept_volume: emial: no channel of journeys.yaml")
    world.job("send_due", {"accept_volume": ["email"]})
    assert set(world.emails(DAYS[1])) == {"delivered"}


def _only_email(unusual: Any) -> Any:
    return lambda planned, before: unusual(planned, before).filter(pl.col("channel") == "email")


def test_a_channel_that_breaks_fails_the_run_at_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its table is written and recorded, the other channel has delivered, the rest waits, and the next run goes on where it can."""
    monkeypatch.setattr("resources.delivery.round.IN_A_ROW", 2)
    count = len(world.emails())
    world.relay.batch_size, world.relay.answers = 1, {f"c{number:02}": "failed" for number in range(12)}
    world.now += timedelta(hours=6)
    result = world.job("send_due", must_succeed=False)
    assert failure(result).startswith("stopped for this run: email: 2 messages in a row were not delivered")
    assert Counter(world.emails()) == {"failed": 2, "waiting": count - 2}
    world.relay.answers = {}
    world.job("send_due")
    assert set(world.emails()) == {"delivered"}


def test_what_may_have_arrived_is_listed_and_settled(world: World) -> None:
    """It is not sent again; an Email Delivered event settles one, somebody the other, and the table follows."""
    first, second = [row[0] for row in world.emails(FIRST, "customer_id")][:2]
    world.relay.answers = {first: "unknown", second: "unknown"}
    world.now += timedelta(hours=6)
    world.job("send_due")
    world.relay.answers = {}
    world.job("send_due")
    assert Counter(world.relay.sent)[first] == 1
    keys = dict(world.emails(FIRST, "customer_id", "idempotency_key"))
    stands = standing(Place.of(world.environment), world.now)
    assert [(row.status, row.messages) for row in stands.undelivered] == [("unknown", 2)]
    assert "settle_unknown" in stands.undelivered[0].what_to_do
    world.land(line(first, DAYS[1], 900, event="Email Delivered", properties={"message_id": f"<{keys[first]}@shop.example>"}))
    assert failure(world.job("settle_unknown", {"messages": {"x": "failed"}}, must_succeed=False)).startswith("nothing was settled: 'x'")
    world.job("settle_unknown", {"messages": {keys[second]: "failed"}})
    world.job("send_due")
    assert set(world.emails()) == {"delivered"}
    assert Counter(world.relay.sent) == Counter([*keys, second])


def test_what_waits_for_somebody_who_is_erased_never_goes(world: World) -> None:
    """Nothing of them is left to be sent, and whom a tombstone names is not written to."""
    (gone, *others) = [row[0] for row in world.emails(FIRST, "customer_id")]
    job = build_definitions(world.environment).resolve_job_def("erase_customer")
    config = {"ops": {"erase": {"config": {"customer_id": gone, "confirm": True}}}}
    job.execute_in_process(instance=world.instance, run_config=config)
    world.now += timedelta(hours=6)
    world.job("send_due")
    assert sorted(world.relay.sent) == sorted(others)


def test_the_schedule_starts_a_run_only_where_something_waits(world: World, tmp_path: Path) -> None:
    """Not in a dry run, not beside another, not for what waited too long; when something waits it does."""
    storage = tmp_path / "dagster"
    storage.mkdir()

    def tick() -> Any:
        repository = build_definitions(world.environment).get_repository_def()
        schedule = repository.get_schedule_def("send_due")
        with dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=world.now + timedelta(hours=6),
            repository_def=repository,
            resources={name: build_definitions(world.environment).resources[name] for name in ("journeys", "channels")},
        ) as context:
            return schedule.evaluate_tick(context)

    with dg.DagsterInstance.local_temp(str(storage)) as instance:
        assert len(tick().run_requests) == 1
        job = build_definitions(world.environment).resolve_job_def("send_due")
        assert job.tags["atc/state"] == "lake"
        queued = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert "has not ended" in tick().skip_message
        instance.delete_run(queued.run_id)
        world.now += timedelta(days=9)
        assert tick().skip_message == "nothing waits"
        world.environment["ATC_LIVE"] = ""
        assert tick().skip_message.startswith("a dry run")


def test_the_text_that_goes_is_the_one_that_was_rendered(world: World) -> None:
    """The row of rendered_messages; what is data has none, and of a channel that has a medium such a message would not go."""
    planned = world.lake.read("outbound_messages", FIRST).filter((pl.col("channel") == "email") & pl.col("withheld").is_null())
    rendered = planned.head(2).select("date", "idempotency_key", text=pl.format("Hello {}", "customer_id"), content_hash=pl.lit("ab"))
    world.lake.write("rendered_messages", FIRST, rendered)
    portfolio = load_portfolio(Path(world.environment["ATC_JOURNEYS"]))
    channels = tuple(replace(channel, medium="email") for channel in portfolio.channels)
    lacks = texts_of(world.lake, FIRST, replace(portfolio, channels=channels))(planned)["lacks_text"]
    assert lacks.to_list() == [False, False] + [True] * (planned.height - 2)
    seen: list[tuple[str, str | None, str | None]] = []
    send = world.relay.send

    def reading(messages: pl.DataFrame) -> pl.DataFrame:
        seen.extend(messages.select("idempotency_key", "text", "html").rows())
        return send(messages)

    world.relay.send = reading  # type: ignore[method-assign]
    world.now += timedelta(hours=6)
    world.job("send_due")
    texts = dict(rendered.select("idempotency_key", "text").iter_rows())
    assert sorted(seen) == sorted((key, texts.get(key), None) for key in planned["idempotency_key"])


def test_columns_that_a_table_of_an_older_version_lacks_are_added(world: World) -> None:
    """What was activated by it and waits is not lost."""
    older = world.lake.read("activation", FIRST).drop("sent_at", "attempts", "provider_id")
    world.lake.write("activation", FIRST, older)
    world.now += timedelta(hours=6)
    world.job("send_due")
    assert set(world.emails()) == {"delivered"}
    assert set(Ledger(home=os.fspath(world.environment["ATC_HOME"])).rows()["status"]) == {"delivered"}
    assert json.loads(Ledger(home=world.environment["ATC_HOME"]).rows()["decision"][0])["date"] == str(FIRST)
