"""Days that go wrong in ways that users meet: each is survived, or stops with a sentence that says what to do."""

import gzip
import json
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.definitions import build_definitions
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.promises import decision
from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, FIRST, JOURNEYS, line, make_world, run

pytestmark = pytest.mark.slow

SECOND = DAYS[1]


def land(environment: dict[str, str], *lines: str, name: str = "more.ndjson") -> Path:
    """Add a file to the first day's folder."""
    path = Path(environment["ATC_HOME"]) / "landing" / str(FIRST) / name
    path.write_text("\n".join(lines) + "\n")
    return path


def failure(environment: dict[str, str], job: str = "daily") -> str:
    """Run the first two days, which fail; return what the failing step says."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(environment, FIRST, SECOND, instance=instance, job=job, must_succeed=False)
    assert not result.success
    event = next(event for event in result.all_events if event.is_step_failure)
    data = event.step_failure_data
    return f"{data.user_failure_data.description if data.user_failure_data else ''}{data.error}"


def succeed(environment: dict[str, str], *warnings: str) -> Lake:
    """Run the first two days, with no other warnings than these; return the lake."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(environment, FIRST, SECOND, instance=instance)
    assert result.success
    assert {check.check_name for check in result.get_asset_check_evaluations() if not check.passed} == set(warnings)
    return Lake(root=f"{environment['ATC_HOME']}/lake")


def test_properties_beyond_measure_stop_nothing(tmp_path: Path) -> None:
    """An integer of 4,400 digits, text holding 5,000 brackets, 1e999, sums near the limit: accepted, and they count for nothing."""
    environment = make_world(tmp_path)
    bought = {"event": "Order Completed"}
    long = line("big", FIRST, 901, **bought, properties={"revenue": "@"}).replace('"@"', "9" * 4400)
    deep = line("big", FIRST, 902, **bought, properties="[" * 5000)
    vast = line("big", FIRST, 903, **bought, properties={"revenue": "@"}).replace('"@"', "1e999")
    huge = line("big", FIRST, 904, **bought, properties={"revenue": 8e12})
    zone = line("big", FIRST, 905, **bought, context={"timezone": "Factory"}, properties={"revenue": 5})
    land(environment, long, deep, vast, huge, zone)
    profile = (
        succeed(environment, "values_are_readable")
        .read("customer_profiles", SECOND)
        .row(by_predicate=pl.col("customer_id") == "big", named=True)
    )
    assert (profile["orders"], profile["spend"], profile["timezone"]) == (5, 5.0, "Factory")


def test_days_on_which_every_line_is_rejected_run(tmp_path: Path) -> None:
    """A lake without a single customer is decided, described and checked like any other."""
    environment = make_world(tmp_path)
    for file in (Path(environment["ATC_HOME"]) / "landing").rglob("*.ndjson"):
        file.write_text("{broken\n")
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, SECOND, instance=instance).success
    assert Lake(root=f"{environment['ATC_HOME']}/lake").read("journey_assignments", SECOND).is_empty()


def test_a_portfolio_without_journeys_runs(tmp_path: Path) -> None:
    """A calendar and nothing else is a portfolio: profiles are kept and everyone is assigned nothing."""
    environment = make_world(tmp_path, 'version: "1"\ncalendar: {timezone: Europe/Berlin, starts_on: 2026-03-01}\n')
    lake = succeed(environment)
    assert lake.read("journey_assignments", SECOND)["decision"].unique().to_list() == ["none"]
    assert lake.read("micro_segment_memberships", SECOND)["segment_id"].unique().to_list() == ["everyone_else"]


def test_keeping_the_best_candidate_keeps_the_chosen_too(tmp_path: Path) -> None:
    """With keep_candidates: 1 the ledger is short, and its checks still pass."""
    environment = make_world(tmp_path, JOURNEYS.replace("policy: {", "policy: {keep_candidates: 1, "))
    kept = succeed(environment).read("scored_candidates", SECOND)
    assert kept.filter(pl.col("ruling") == "chosen")["customer_id"].n_unique() == kept["customer_id"].n_unique()
    assert kept.filter((pl.col("rank") > 1) & (pl.col("ruling") != "chosen")).is_empty()


def test_a_half_uploaded_file_is_named(tmp_path: Path) -> None:
    """A truncated .gz stops the day with its path and the remedy."""
    environment = make_world(tmp_path)
    path = land(environment, name="late.ndjson.gz")
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-20])
    told = failure(environment)
    assert str(path) in told
    assert "Is its upload complete?" in told


def test_a_landing_zone_that_cannot_be_looked_into_is_named(tmp_path: Path) -> None:
    """A file in its place, or a folder of somebody else: a sentence that says so, not a traceback."""
    environment = make_world(tmp_path)
    landing = Path(environment["ATC_HOME"]) / "landing"
    landing.rename(landing.with_name("elsewhere"))
    landing.write_text("")
    assert failure(environment).startswith(f"{landing}: cannot be looked into ")


def test_a_journey_with_a_goal_nobody_had_needs_no_backfill(tmp_path: Path) -> None:
    """Adding a journey is editing one file: the next day runs, although earlier rollups do not count its goal."""
    environment = make_world(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, FIRST, instance=instance).success
        added = '  - {id: club, length_days: 9, queue: {where: "orders = 1"}, goal: {event: Joined}}\npolicy:'
        Path(environment["ATC_JOURNEYS"]).write_text(JOURNEYS.replace("policy:", added))
        assert run(environment, SECOND, SECOND, instance=instance).success


def test_a_trait_called_orders_counts_orders_beside_predictions(tmp_path: Path) -> None:
    """The models see days with an order; a trait of the same name as what they read stays what it is."""
    environment = make_world(tmp_path, JOURNEYS.replace("segments:", "predictions: {order: Order Completed, value: revenue}\nsegments:"))
    land(environment, *(line("twice", FIRST, number, event="Order Completed", properties={"revenue": 5}) for number in (901, 902)))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, FIRST, instance=instance).success
    profiles = Lake(root=f"{environment['ATC_HOME']}/lake").read("customer_profiles", FIRST)
    assert profiles.row(by_predicate=pl.col("customer_id") == "twice", named=True)["orders"] == 2


def test_starts_beyond_the_cap_or_too_soon_again_are_found(tmp_path: Path) -> None:
    """The check that no rule is broken sees a cap and a reentry gap that an edited memory breaks."""
    environment = make_world(tmp_path, JOURNEYS.replace("policy: {", 'policy: {cap: {days: 9, starts: "2"}, '))
    lake = succeed(environment)
    portfolio = load_portfolio(Path(environment["ATC_JOURNEYS"]))
    profiles, state = lake.lazy("customer_profiles", SECOND), lake.lazy("journey_state", SECOND)
    before, answers = lake.lazy("journey_state", FIRST), lake.lazy("journey_assignments", SECOND)
    nobody = pl.LazyFrame(schema={"date": pl.Date, "absorbed": pl.String, "customer_id": pl.String})
    nothing = answers.select("date", "customer_id", "journey_id").clear()
    started = answers.filter(pl.col("decision").is_in(["start", "switch"]))
    assert started.collect().height > 0
    assert decision.broken_rules(answers, state, before, profiles, nobody, nothing, portfolio).collect().is_empty()
    crowded = state.with_columns(recent_starts=pl.lit([FIRST, FIRST, SECOND]))
    found = decision.broken_rules(answers, crowded, before, profiles, nobody, nothing, portfolio).collect()
    assert set(found["customer_id"]) == set(started.collect()["customer_id"])
    club = started.with_columns(journey_id=pl.lit("tea_club"))
    just_left = state.with_columns(date=FIRST, journey_id=pl.lit("tea_club"), ended_on=SECOND)
    again = state.with_columns(journey_id=pl.lit("tea_club"), times_entered=2, recent_starts=pl.lit([SECOND]))
    assert (
        decision.broken_rules(club, again.unique("customer_id"), just_left.unique("customer_id"), profiles, nobody, nothing, portfolio)
        .collect()
        .height
        > 0
    )


def test_parquet_and_zstandard_files_are_read_like_lines(tmp_path: Path) -> None:
    """The same event as .jsonl.zst and as Parquet, its properties as text, as a warehouse exports them."""
    zstandard = pytest.importorskip("zstandard")
    environment = make_world(tmp_path)
    packed = line("zst", FIRST, 910, event="Order Completed", properties={"revenue": 7})
    land(environment, name="a.jsonl.zst").write_bytes(zstandard.compress(packed.encode()))
    row = {"messageId": "p1", "type": "track", "userId": "pq", "event": "Order Completed", "timestamp": f"{FIRST}T08:00:00Z"}
    frame = pl.DataFrame([row | {"properties": json.dumps({"revenue": 9})}])
    frame.write_parquet(land(environment, name="b.parquet"))
    people = succeed(environment).read("customer_profiles", FIRST)
    assert dict(people.filter(pl.col("customer_id").is_in(["zst", "pq"])).select("customer_id", "spend").iter_rows()) == {
        "zst": 7.0,
        "pq": 9.0,
    }


def test_definitions_name_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The webhook's secret is read from the environment when it is needed, and is in no resource's configuration."""
    environment = make_world(tmp_path) | {"ATC_WEBHOOKS": "email=http://127.0.0.1:9/", "ATC_WEBHOOK_SECRET": "not to be seen"}
    monkeypatch.setenv("ATC_WEBHOOK_SECRET", "not to be seen")
    definitions = build_definitions(environment)
    assert "not to be seen" not in repr(list((definitions.resources or {}).values()))
