"""``status``: what is closed, what is to be run, what did not arrive."""

import json
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.__main__ import main
from atc_pipeline.commands.command import Place
from atc_pipeline.commands.standing import standing
from atc_pipeline.days.catalog import tables
from atc_pipeline.definitions import build_definitions
from atc_pipeline.explanation.status import Status
from resources.delivery.ledger import Ledger
from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, line, make_world, run

pytestmark = pytest.mark.slow

ONE, TWO, THREE, FOUR = DAYS
NOON = datetime.combine(FOUR, time(11), UTC)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The small world with its first three days run, and the fourth without files."""
    world = make_world(tmp_path_factory.mktemp("world"))
    (Path(world["ATC_HOME"]) / "landing" / str(FOUR) / "events.ndjson").unlink()
    with dg.DagsterInstance.ephemeral() as instance:
        run(world, ONE, THREE, instance=instance)
    return world


def status(world: dict[str, str], now: datetime) -> Status:
    """Return how things stand at some time."""
    return standing(Place.of(world), now)


def test_where_all_is_done_nothing_needs_anybody(ran: dict[str, str]) -> None:
    """It is noon of the fourth day, and nothing has come yet."""
    stands = status(ran, NOON)
    assert stands.needs_attention == []
    assert (stands.closed, stands.missing, stands.repair, stands.running) == (THREE, [], None, None)
    assert stands.file.since == ONE
    assert stands.today is not None
    assert (stands.today.files, stands.today.decided_at) == (0, None)
    assert "Nothing needs you." in stands.text()


def test_days_that_nobody_has_run_are_named_with_the_command(ran: dict[str, str]) -> None:
    """From seven on the day just over should be there; before that it waits for the schedule."""
    later = NOON + timedelta(days=2)
    stands = status(ran, later)
    assert stands.missing == [FOUR, FOUR + timedelta(days=1)]
    assert stands.needs_attention == ["late", "repair"]
    assert stands.repair is not None
    assert stands.repair.command.endswith(f"--partition-range {FOUR}...{FOUR + timedelta(days=1)}")
    assert stands.repair.why == f"{FOUR} is missing"
    at_six = datetime.combine(FOUR + timedelta(days=1), time(5), UTC)
    assert status(ran, at_six).needs_attention == []


def test_a_late_file_says_which_day_is_stale_and_why(ran: dict[str, str]) -> None:
    """The first day to run again, through the latest."""
    late = Path(ran["ATC_HOME"]) / "landing" / str(TWO) / "late.ndjson"
    late.write_text(line("late", TWO, 7, event="Product Viewed"))
    try:
        stands = status(ran, NOON)
    finally:
        late.unlink()
    assert stands.repair is not None
    assert (stands.repair.first, stands.repair.last) == (TWO, THREE)
    assert "was made from other files than are in the landing zone now" in stands.repair.why
    assert stands.needs_attention == ["repair"]


def test_a_file_that_is_refused_is_told_with_its_messages(ran: dict[str, str]) -> None:
    """The version before runs on."""
    portfolio = Path(ran["ATC_JOURNEYS"])
    text = portfolio.read_text()
    portfolio.write_text(text.replace("length_days: 3", "length_days: 0"))
    try:
        stands = status(ran, NOON)
    finally:
        portfolio.write_text(text)
    assert stands.needs_attention == ["file"]
    assert "length_days" in str(stands.file.refused)
    assert stands.file.since == ONE


def test_messages_that_did_not_arrive_are_counted_and_it_is_said_who_tries_them_again(ran: dict[str, str]) -> None:
    """Within two days the next run does; afterwards nobody; what has arrived since is not counted."""
    lake, ledger = Lake(root=f"{ran['ATC_HOME']}/lake"), Ledger(home=ran["ATC_HOME"])
    sent = lake.read("activation", THREE)
    assert sent.height > 1
    lake.write("activation", THREE, sent.with_columns(status=pl.lit("unknown")))
    batch = sent.select("idempotency_key", "date", "customer_id", "journey_id", "channel", decision=pl.lit("{}"))
    ledger.claim(batch, NOON)
    ledger.settle(sent.select("idempotency_key", status=pl.lit("unknown"), is_final=pl.lit(value=False)))
    ledger.settle(sent[:1].select("idempotency_key", status=pl.lit("delivered"), is_final=pl.lit(value=True)))
    try:
        soon, late = status(ran, NOON), status(ran, NOON + timedelta(days=3))
    finally:
        lake.write("activation", THREE, sent)
    assert sum(row.messages for row in soon.undelivered) == sent.height - 1
    assert {(row.day, row.status, row.will_be_tried) for row in soon.undelivered} == {(THREE, "unknown", True)}
    assert soon.needs_attention == []
    assert {row.will_be_tried for row in late.undelivered} == {False}
    assert "undelivered" in late.needs_attention
    assert f'"past_days": ["{THREE}"]' in late.undelivered[0].what_to_do


def test_who_has_the_turn_is_what_is_running(ran: dict[str, str]) -> None:
    """A run that holds the lake is named, and asking disturbs nobody."""
    turn = Lake(root=f"{ran['ATC_HOME']}/lake").turn
    held = turn.take("a1b2", "daily", print)
    assert "run a1b2 of daily" in str(status(ran, NOON).running)
    turn.give_back(held)
    assert status(ran, NOON).running is None


def test_it_works_on_nothing_and_ends_with_a_code_that_cron_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty home is no error; a file that cannot be read is one."""
    world = make_world(tmp_path)
    for name, value in (world | {"ATC_HOME": str(tmp_path / "nowhere")}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert main(["status"]) == 0
    assert "nothing was decided yet" in capsys.readouterr().out
    Path(world["ATC_JOURNEYS"]).write_text("journeys: 7")
    assert main(["status", "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["needs_attention"] == ["file"]
    assert not (tmp_path / "nowhere").exists()


def test_it_knows_the_tables_that_the_graph_makes(ran: dict[str, str]) -> None:
    """The sensor looks at the assets, and ``status`` at the catalog: they are the same."""
    definitions = build_definitions(ran)
    made = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert made == set(tables(Place.of(ran).journeys.in_use().portfolio))
