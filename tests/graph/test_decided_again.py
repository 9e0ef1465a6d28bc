"""A day that was activated is decided again: what was delivered stands. And what the funnel of a day says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.decision.gates import RULINGS
from resources.delivery.ledger import Ledger
from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, FIRST, JOURNEYS, line, make_world, run

pytestmark = pytest.mark.slow

SECOND = FIRST + timedelta(days=1)
LIMITED = JOURNEYS.replace("    length_days: 3\n", "    length_days: 3\n    capacity: {daily_entries: 2}\n")


def deliver(ledger: Ledger, answers: pl.DataFrame, status: str, key: str) -> None:
    """Write into the ledger that these customers have a message of the day."""
    messages = answers.select(
        pl.format("{}:{}", pl.lit(key), "customer_id").alias("idempotency_key"),
        "date",
        "customer_id",
        "journey_id",
        pl.lit("app").alias("channel"),
        decision=pl.struct(pl.all()).struct.json_encode(),
    )
    ledger.claim(messages, datetime(2026, 3, 3, 5, tzinfo=UTC))
    ledger.settle(messages.select("idempotency_key", status=pl.lit(status)))


def test_who_was_written_to_keeps_the_decision_and_the_others_are_decided_anew(tmp_path: Path) -> None:
    """Delivered and unknown stand to the last column, failed does not; the edited file decides for everybody else.

    Each row says which version decided it.
    """
    environment = make_world(tmp_path)
    home = Path(environment["ATC_HOME"])
    lake, ledger = Lake(root=str(home / "lake")), Ledger(home=str(home))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, SECOND, instance=instance).success
        before = lake.read("journey_assignments", SECOND)
        started = before.filter(pl.col("decision").is_in(["start", "switch"]))
        assert started.height >= 3
        delivered, unknown, failed = started[:1], started[1:2], started[2:]
        for rows, status in ((delivered, "delivered"), (unknown, "unknown"), (failed, "failed")):
            deliver(ledger, rows, status, status)
        # From now on nothing is worth starting.
        Path(environment["ATC_JOURNEYS"]).write_text(JOURNEYS.replace('none: "0.01"', 'none: "1000"'))
        assert run(environment, SECOND, SECOND, instance=instance, job="decide_again").success
    after = lake.read("journey_assignments", SECOND)
    kept = pl.concat([delivered, unknown]).with_columns(stands=pl.lit(value=True))
    assert after.join(kept, on="customer_id", how="semi").equals(kept)
    assert after.filter(pl.col("decision").is_in(["start", "switch"]))["customer_id"].to_list() == kept["customer_id"].to_list()
    assert dict(after.group_by("portfolio", "stands").len().select("portfolio", "stands").iter_rows()) == {
        str(lake.written_by("journey_assignments", FIRST).portfolio): True,
        str(lake.written_by("journey_assignments", SECOND).portfolio): False,
    }
    chosen = lake.read("scored_candidates", SECOND).filter(pl.col("ruling") == "chosen")
    assert chosen.join(kept, on=["customer_id", "journey_id"], how="semi").height == kept.height


def test_what_was_sent_to_a_visitor_stands_for_the_user_whose_login_comes_late(tmp_path: Path) -> None:
    """The day is decided again with the login: one person, in the journey begun as a visitor, after what the user was in until today.

    That a user may not enter it twice stops nothing: the message is out.
    """
    once = """journeys:
  - {id: hello, length_days: 1, queue: {where: "tenure_days >= 0"}, channels: [app], steps: [{day: 1, channel: app, content: hi}]}
policy: {}
"""
    environment = make_world(tmp_path, JOURNEYS.split("journeys:")[0] + once)
    home = Path(environment["ATC_HOME"])
    lake, ledger = Lake(root=str(home / "lake")), Ledger(home=str(home))
    folder = home / "landing" / str(SECOND)
    (folder / "visitor.ndjson").write_text(line("", SECOND, 90, event="Product Viewed", userId=None, anonymousId="v"))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, SECOND, instance=instance).success
        before = lake.read("journey_assignments", SECOND)
        visitor = before.filter(customer_id="anon:v", decision="start")
        user = before.filter(pl.col("ended_reason") == "completed")["customer_id"][0]
        assert visitor.height == 1
        deliver(ledger, visitor, "delivered", "as_visitor")
        sent = lake.read("activation", SECOND).with_columns(
            status=pl.when(customer_id="anon:v").then(pl.lit("delivered")).otherwise("status")
        )
        lake.write("activation", SECOND, sent)
        (folder / "login.ndjson").write_text(line(user, SECOND, 91, type="identify", anonymousId="v"))
        again = run(environment, SECOND, SECOND, instance=instance)
        assert again.success
        assert all(check.passed or check.check_name == "decisions_stand_on_these_queues" for check in again.get_asset_check_evaluations())
    after = lake.read("journey_assignments", SECOND)
    assert after.filter(customer_id="anon:v").is_empty()
    ended = {"ended_journey_id": pl.lit("hello"), "ended_reason": pl.lit("completed"), "stands": pl.lit(value=True)}
    assert after.filter(customer_id=user).equals(visitor.with_columns(customer_id=pl.lit(user), **ended))
    in_flight = lake.read("journey_state", SECOND).filter(pl.col("ended_on").is_null(), customer_id=user)
    assert in_flight["journey_id"].to_list() == visitor["journey_id"].to_list()


def test_the_funnel_adds_up_and_shows_the_places(tmp_path: Path) -> None:
    """Every option of a journey is lost at one gate or chosen, and a full journey has its places, those who wanted in, and a price."""
    environment = make_world(tmp_path, LIMITED)
    lake = Lake(root=str(Path(environment["ATC_HOME"]) / "lake"))
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(environment, FIRST, DAYS[-1], instance=instance)
        assert result.success
        told = [event for event in result.get_asset_materialization_events() if event.asset_key == dg.AssetKey("journey_funnel")]
    assert len(told) == len(DAYS)
    shown = told[0].materialization.metadata
    assert {"funnel", "lost_at", "limited_places"} <= shown.keys()
    for day in DAYS:
        funnel, options = lake.read("journey_funnel", day), lake.read("scored_candidates", day)
        counted = options.filter(pl.col("journey_id") != "none").group_by("journey_id").len("rows")
        summed = funnel.select("journey_id", rows=pl.sum_horizontal(RULINGS)).filter(pl.col("rows") > 0)
        assert dict(summed.iter_rows()) == dict(counted.iter_rows())
    first = lake.read("journey_funnel", FIRST).filter(pl.col("journey_id") == "welcome").row(0, named=True)
    assert (first["places"], first["started"]) == (2, 2)
    assert first["wanted"] > 2
    assert first["capacity"] == first["wanted"] - 2
    assert first["price"] > 0
