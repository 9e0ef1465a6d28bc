"""A journey is added, changed or removed: one run makes what is new, and leaves every other row as it was."""

import shutil
from collections.abc import Collection, Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets.jobs.additions import ONLY_NEW, RefusedFileError
from atc_pipeline.days.additions import additions
from atc_pipeline.definitions import build_definitions
from atc_pipeline.journeys.resolution import load_portfolio
from resources.journeys import JourneysFile
from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, FIRST, make_world, run, tables

pytestmark = pytest.mark.slow

LAST = DAYS[-1]
RANGE = (str(FIRST), str(LAST))
FOR_NEWCOMERS = (
    '  - {id: greet, length_days: 2, queue: {any: [newcomers], where: "orders < 5"}, steps: [{day: 1, channel: app, content: hi}]}\n'
)
FOR_BUYERS = "  - {id: again, length_days: 2, queue: {all: [buyers]}, steps: [{day: 1, channel: app, content: hi}]}\n"
NEW_JOURNEY = [("policy:", f"{FOR_NEWCOMERS}policy:")]
CHANGED_CONDITION = [('buyers: "orders > 0"', 'buyers: "orders > 1"')]
CHANGED_TRAIT = [("spend_2d: {sum: revenue, of: Order Completed, within_days: 2}", "spend_2d: {sum: revenue, of: Order Completed}")]
NEW_SEGMENT = [("segments:", 'segments:\n  spenders: "spend_2d > 15"')]
PROFILES = {"customer_activity", "feature_coverage", "customer_profiles", "purchase_models"}
REMOVED = "  - id: rescue"


def edit(environment: dict[str, str], edits: list[tuple[str, str]]) -> None:
    """Change the portfolio."""
    path = Path(environment["ATC_JOURNEYS"])
    for old, new in edits:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days of the small world, decided before anything changes; a segment reads the trait that will change."""
    folder = tmp_path_factory.mktemp("made")
    environment = make_world(folder)
    edit(environment, NEW_SEGMENT)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, LAST, instance=instance).success
    return folder


@pytest.fixture
def world(made: Path, tmp_path: Path) -> dict[str, str]:
    """A copy of them."""
    return copy(made, tmp_path / "world")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """One history for all runs of a test."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def copy(made: Path, folder: Path) -> dict[str, str]:
    """Return the environment of a copy of the world."""
    shutil.copytree(made, folder)
    return {"ATC_HOME": str(folder / "home"), "ATC_JOURNEYS": str(folder / "journeys.yaml")}


def lake(environment: dict[str, str]) -> Lake:
    """Return the world's lake."""
    return Lake(root=f"{environment['ATC_HOME']}/lake")


def rows(environment: dict[str, str], table: str, without: Collection[str] = ()) -> list[pl.DataFrame]:
    """Return each day of a table, but for the rows of some micro-segments or journeys."""
    named_by = {"micro_segment_memberships": "segment_id", "journey_queues": "journey_id"}[table]
    return [lake(environment).read(table, day).filter(~pl.col(named_by).is_in(without)) for day in DAYS]


def differing(environment: dict[str, str], before: dict[str, bytes]) -> set[str]:
    """Name the tables with another byte than before."""
    after = tables(environment)
    return {path.split("/")[0] for path in {*before, *after} if before.get(path) != after.get(path)}


def add(environment: dict[str, str], instance: dg.DagsterInstance, first: date = FIRST) -> dg.ExecuteInProcessResult:
    """Run the job with what it is configured with, as from its page."""
    return run(environment, first, LAST, instance=instance, job="add_journeys", config=ONLY_NEW)


class Watcher:
    """The sensor journeys_file, looking again and again."""

    def __init__(self, environment: dict[str, str], instance: dg.DagsterInstance) -> None:
        self.environment, self.instance, self.cursor = environment, instance, ""
        self.definitions = build_definitions(environment)  # as it was loaded: whatever happens to the file later

    def look(self) -> tuple[str | None, str | None] | str:
        """Return the days that it asks for, or why it does not."""
        sensor = self.definitions.resolve_sensor_def("journeys_file")
        journeys = JourneysFile(path=self.environment["ATC_JOURNEYS"], home=self.environment["ATC_HOME"])
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources={"journeys": journeys}) as context:
            tick = sensor.evaluate_tick(context)
        self.cursor = tick.cursor or self.cursor
        if not tick.run_requests:
            return str(tick.skip_message)
        (request,) = tick.run_requests
        return request.tags.get("dagster/asset_partition_range_start"), request.tags.get("dagster/asset_partition_range_end")


def test_the_job_makes_only_what_is_new_without_being_told(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """Whoever launches it from its page need not configure anything."""
    before = tables(world)
    assert run(world, LAST, LAST, instance=instance, job="add_journeys").success
    assert differing(world, before) == set()


def test_an_unchanged_file_makes_nothing(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """Not a byte; nor does the sensor ask for it, also where a comment is new."""
    before, watcher = tables(world), Watcher(world, instance)
    assert "nothing is new" in watcher.look()
    edit(world, [("policy:", "# a comment\npolicy:")])
    assert "nothing is new" in watcher.look()
    assert add(world, instance).success
    assert differing(world, before) == set()


def test_a_new_journey_has_its_queue_on_past_days_and_nothing_else_moves(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """Whoever qualified already has waited already; only files of queues are written; what was decided stands."""
    before, queues, watcher = tables(world), rows(world, "journey_queues"), Watcher(world, instance)
    edit(world, NEW_JOURNEY)
    assert watcher.look() == RANGE
    assert add(world, instance).success
    assert differing(world, before) == {"journey_queues"}
    for was, now in zip(queues, rows(world, "journey_queues", ["greet"]), strict=True):
        assert now.equals(was)
    greeted = lake(world).read("journey_queues", DAYS[1]).filter(pl.col("journey_id") == "greet")
    assert greeted.height > 0
    assert greeted["waiting_days"].max() == 1
    assert "nothing is left to make" in watcher.look()
    after = tables(world)
    assert add(world, instance).success
    assert differing(world, after) == set()


@pytest.mark.parametrize(
    ("edits", "segments", "journeys", "more"),
    [
        (CHANGED_CONDITION, ["buyers", "everyone_else"], ["tea_club"], set()),
        ([("  - id: rescue", "  - id: saved")], [], ["saved"], set()),
        ([*NEW_JOURNEY, *CHANGED_TRAIT], ["spenders", "everyone_else"], ["tea_club", "greet"], PROFILES),
    ],
    ids=["a segment's condition", "a renamed journey", "a journey and a trait"],
)  # fmt: skip
def test_what_changed_is_as_if_the_days_were_made_anew_and_the_rest_is_as_it_was(
    made: Path,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    edits: list[tuple[str, str]],
    segments: list[str],
    journeys: list[str],
    more: set[str],
) -> None:
    """From the first day of the lake on all rows are those of a run that makes everything; a removed journey's stay."""
    added, anew = copy(made, tmp_path / "added"), copy(made, tmp_path / "anew")
    was = {table: rows(added, table, named) for table, named in (("micro_segment_memberships", segments), ("journey_queues", journeys))}
    before = tables(added)
    for environment in (added, anew):
        edit(environment, edits)
    new = additions(lake(added), load_portfolio(Path(added["ATC_JOURNEYS"])))
    assert new is not None
    assert set(new.segments) == set(segments)
    assert set(new.queues) == set(journeys)
    assert add(added, instance).success
    assert run(anew, FIRST, LAST, instance=instance).success
    made_again = {"journey_queues", *(["micro_segment_memberships"] if segments else []), *more}
    assert differing(added, before) <= made_again
    for table, made_now in (("micro_segment_memberships", segments), ("journey_queues", journeys)):
        for now, kept in zip(rows(added, table, made_now), was[table], strict=True):
            assert now.equals(kept)
        there = {name for frame in rows(anew, table) for name in frame.to_series(1)}
        for now, whole in zip(rows(added, table), rows(anew, table), strict=True):
            assert now.filter(now.to_series(1).is_in(there)).equals(whole)
    left = additions(lake(added), load_portfolio(Path(added["ATC_JOURNEYS"])))
    assert not left


def test_a_removed_journey_is_as_it_was_on_past_days(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """Nothing past is touched, and there is nothing to make."""
    path = Path(world["ATC_JOURNEYS"])
    before, text = tables(world), path.read_text()
    path.write_text(text[: text.index(REMOVED)] + text[text.index("policy:") :])
    assert "journey rescue is removed" in Watcher(world, instance).look()
    assert add(world, instance).success
    assert differing(world, before) == set()


def test_a_changed_content_file_is_noticed_without_a_change_of_journeys_yaml(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """It is another version of the portfolio, told in words; nothing past is made of it, and one that is wrong is refused."""
    path, watcher = Path(world["ATC_JOURNEYS"]), Watcher(world, instance)
    content = path.parent / "content" / "hello.html"
    content.parent.mkdir()
    content.write_text("<p>Hello</p>")
    edit(world, [("policy:", "blocks: {hello: {text: Hello, html: {file: content/hello.html}}}\npolicy:")])
    assert "block hello is new (Hello): nothing is left to make" in watcher.look()
    first = watcher.cursor
    content.write_text("<p>Hello there</p>")
    assert "nothing is left to make" in watcher.look()
    assert watcher.cursor != first
    content.write_text("<p>{{ nobody }}</p>")
    with pytest.raises(RefusedFileError, match=r"content/hello\.html:1: unknown column 'nobody'"):
        watcher.look()


def test_a_run_that_was_killed_is_gone_on_with(made: Path, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """What is left is read off the days: those that are done are not written again, and the last bytes are the same."""
    calm, killed = copy(made, tmp_path / "calm"), copy(made, tmp_path / "killed")
    for environment in (calm, killed):
        edit(environment, NEW_JOURNEY)
    assert add(calm, instance).success
    assert run(killed, FIRST, DAYS[1], instance=instance, job="add_journeys", config=ONLY_NEW).success  # as far as it had come
    half = {
        path: content for path, content in tables(killed).items() if path.endswith((f"{FIRST}/part.parquet", f"{DAYS[1]}/part.parquet"))
    }
    assert Watcher(killed, instance).look() == RANGE
    assert add(killed, instance).success
    assert tables(killed) == tables(calm)
    assert {path: tables(killed)[path] for path in half} == half


def test_days_decided_before_the_queue_was_built_wait_longer_afterwards(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """A day that was decided with the new journey before its queue was built for earlier days is built again on them."""
    edit(world, [("policy:", f"{FOR_BUYERS}policy:")])
    assert run(world, LAST, LAST, instance=instance).success

    def waiting() -> object:
        return lake(world).read("journey_queues", LAST).filter(pl.col("journey_id") == "again")["waiting_days"].max()

    assert waiting() == 0
    watcher = Watcher(world, instance)
    assert watcher.look() == RANGE
    assert add(world, instance).success
    assert waiting() == len(DAYS) - 1
    assert "nothing is new" in watcher.look()


def test_days_of_before_this_was_kept_stay_as_they_are_and_a_new_journey_is_built(
    world: dict[str, str], instance: dg.DagsterInstance
) -> None:
    """A file that does not say what it was made by: whoever has rows in it counts as unchanged."""
    for table in ("journey_queues", "micro_segment_memberships"):
        for day in DAYS:
            lake(world).write(table, day, lake(world).read(table, day))
    queues = rows(world, "journey_queues")
    edit(world, [*NEW_JOURNEY, ('where: "orders >= 2"', 'where: "orders >= 1"')])
    assert add(world, instance).success
    for was, now in zip(queues, rows(world, "journey_queues", ["greet"]), strict=True):
        assert now.filter(pl.col("journey_id") != "rescue").equals(was.filter(pl.col("journey_id") != "rescue"))
    assert lake(world).read("journey_queues", DAYS[1]).filter(pl.col("journey_id") == "greet").height > 0
    assert not additions(lake(world), load_portfolio(Path(world["ATC_JOURNEYS"])))


def test_only_a_policy_changes_and_nothing_is_made(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """The next decision uses it: the sensor says what differs, and asks for nothing."""
    edit(world, [("priority: 50", "priority: 40")])
    says = Watcher(world, instance).look()
    assert "journey rescue: priority 50 → 40: nothing is left to make, the next decision uses it" in says


def test_a_file_that_is_refused_starts_nothing_and_warns_in_runs(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """The tick fails with its messages; a run goes on with the version before, and its check says why."""
    before, watcher = tables(world), Watcher(world, instance)
    edit(world, [("any: [newcomers]", "any: [newcommers]")])
    with pytest.raises(Exception, match="unknown segment 'newcommers'; did you mean 'newcomers'"):
        watcher.look()
    result = add(world, instance)
    assert result.success
    assert differing(world, before) == set()
    (check,) = [check for check in result.get_asset_check_evaluations() if check.check_name == "journeys_file_is_valid"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "did you mean 'newcomers'" in str(check.description)


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        ([("timezone: Europe/Berlin", "timezone: Europe/Lisbon")], f"materialize everything again from {FIRST} on"),
        ([("starts_on: 2026-03-01", "starts_on: 2026-02-01")], "materialize everything again from 2026-02-01 on"),
    ],
)
def test_where_everything_is_to_be_made_again_the_sensor_says_so(
    world: dict[str, str], instance: dg.DagsterInstance, edits: list[tuple[str, str]], says: str
) -> None:
    """Another time zone, or earlier days: it asks for nothing, and says to reload the code location."""
    watcher = Watcher(world, instance)
    edit(world, edits)
    told = watcher.look()
    assert says in told
    assert "reload the code location" in told


def test_a_run_that_failed_is_asked_for_again_later_or_when_the_file_changes(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """Not every ten seconds; and not while one is under way."""
    watcher = Watcher(world, instance)
    edit(world, NEW_JOURNEY)
    assert watcher.look() == RANGE
    assert "tried 1 times without success" in watcher.look()
    edit(world, [("orders < 5", "orders < 4")])
    started = instance.create_run_for_job(watcher.definitions.resolve_job_def("add_journeys"), status=dg.DagsterRunStatus.STARTED)
    assert f"run {started.run_id} of add_journeys is not over yet" in watcher.look()
    instance.report_run_failed(started)
    assert watcher.look() == RANGE


def test_where_nothing_was_decided_nothing_is_asked_for(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """The sensor runs by itself, and begins nothing."""
    environment = make_world(tmp_path)
    assert "nothing was decided yet" in Watcher(environment, instance).look()


def test_the_run_tells_what_is_new_and_how_long_the_queues_are(world: dict[str, str], instance: dg.DagsterInstance) -> None:
    """In the metadata of the latest day's queues."""
    edit(world, NEW_JOURNEY)
    result = add(world, instance)
    (last,) = [made for made in result.asset_materializations_for_node("journey_queues") if made.partition == str(LAST)]
    assert "journey greet is new" in str(last.metadata["what_changed"].value)
    assert f"Plan for journeys.yaml (version {last.metadata['portfolio'].value})" in str(last.metadata["plan"].value)
    assert str(FIRST) in str(last.metadata["queues"].value)
