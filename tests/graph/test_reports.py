"""Reports on a lake: what the commands print, what Dagster keeps, and the file of the day."""

import json
from datetime import timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets.shown.proof import KEPT_LETTERS, KEPT_WORDS, paths_of, proof_of
from atc_pipeline.__main__ import main
from atc_pipeline.identity.erasure import Person
from atc_pipeline.outcomes.tables import JOURNEY_ATTRIBUTION, JOURNEY_MOVEMENT, PATH_SUMMARY, UPLIFT, journey_outcomes
from atc_pipeline.reports.reading import gather
from resources.delivery.ledger import Ledger
from resources.erasure.traces import keepers
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.memory import Memory
from resources.storage.outbox import Outbox
from tests.engine.reports import hand_made
from tests.engine.reports.hand_made import TODAY
from tests.graph.small_world import DAYS, FIRST, JOURNEYS, make_world, run


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A home with the tables of one day."""
    file = tmp_path / "journeys.yaml"
    file.write_text(hand_made.JOURNEYS)
    monkeypatch.setenv("ATC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ATC_JOURNEYS", str(file))
    lake = Lake(root=str(tmp_path / "home" / "lake"))
    for table, frame in {
        UPLIFT: hand_made.uplift(),
        PATH_SUMMARY: hand_made.paths(),
        JOURNEY_ATTRIBUTION: hand_made.attribution(),
        JOURNEY_MOVEMENT: hand_made.movement(),
    }.items():
        lake.write(table.name, TODAY, frame)
    return lake


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; return its exit code, what it says, and what it complains of."""
    code = main([*arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.usefixtures("lake")
def test_uplift_tells_the_latest_day(capsys: pytest.CaptureFixture[str]) -> None:
    """The system first, then every journey; of one journey its own page."""
    code, every, _ = told(capsys, "uplift")
    _, alone, _ = told(capsys, "uplift", "club")

    assert code == 0
    assert every.startswith("Proof: what journeys changed, as of 30 September 2026\n")
    assert every.index("THE WHOLE SYSTEM (proved)") < every.index("JOURNEYS (proved)")
    assert alone.startswith("Tea club\n")
    assert "28 % is the smallest change this control group could show" in alone


@pytest.mark.usefixtures("lake")
def test_paths_tell_what_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    """And of one journey the paths with it."""
    _, every, _ = told(capsys, "paths", "--day", str(TODAY))
    _, alone, _ = told(capsys, "paths", "club", "--to", str(TODAY))

    assert "Welcome & hello → Tea club" in every
    assert "held out only" in every
    assert "held out only" not in alone


@pytest.mark.parametrize("command", ["uplift", "paths"])
@pytest.mark.usefixtures("lake")
def test_other_forms(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Markdown for a page, JSON for a program."""
    _, page, _ = told(capsys, command, "--format", "md")
    _, document, _ = told(capsys, command, "--format", "json")

    assert page.startswith("## ")
    assert json.loads(document)["date"] == str(TODAY)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["uplift", "clb"], "no journey 'clb' on 2026-09-30; did you mean club?"),
        (["uplift", "--to", "2026-09-29"], "uplift has no data for 2026-09-29: the lake has 2026-09-30 to 2026-09-30"),
        (["paths", "--to", "yesterday"], "--to yesterday: expected a day such as 2026-09-30"),
        (["uplift", "--from", "2026-10-01"], "--from 2026-10-01 is after 2026-09-30"),
    ],
)
@pytest.mark.usefixtures("lake")
def test_what_cannot_be_told_is_said(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    """Which day or journey there is instead."""
    code, _, complaint = told(capsys, *arguments)

    assert (code, complaint.strip()) == (2, says)


@pytest.mark.usefixtures("lake")
def test_before_anything_was_made_the_commands_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty home."""
    monkeypatch.setenv("ATC_HOME", str(tmp_path / "empty"))

    assert told(capsys, "uplift")[::2] == (1, "uplift is not in the lake yet: run make demo, or materialize the assets\n")


def test_dagster_keeps_pictures_and_words_and_where_the_file_is(lake: Lake, tmp_path: Path) -> None:
    """No more than can be kept for ever; the file has all."""
    portfolio = hand_made.portfolio(tmp_path)
    proved, described = proof_of(lake, portfolio, TODAY), paths_of(lake, portfolio, TODAY)
    file = Path(described["file"].value)

    assert file == Path(lake.root, "reports", f"{TODAY}.html")
    assert file.read_text().startswith("<!doctype html>")
    assert "Weekend nudge" in file.read_text()
    assert proved["says"].startswith("All journeys together help")
    assert described["standing"] == "described, not proved"
    for facts in (proved, described):
        assert facts["picture"].value.startswith("![")
        assert len(facts["picture"].value) <= KEPT_LETTERS + 100
        assert len(dg.serialize_value(dg.AssetMaterialization("one", metadata=facts))) < 100_000


def test_what_dagster_keeps_is_bounded(tmp_path: Path) -> None:
    """Of three hundred journeys the picture is in the file alone, and the words are cut."""
    lake, portfolio = Lake(root=str(tmp_path / "lake")), hand_made.portfolio(tmp_path)
    rows = [hand_made.estimate(f"j{number:03}{'x' * 60}", "helps", (900, 100), (3.0, 2.0), 0.1) for number in range(300)]
    lake.write("uplift", TODAY, hand_made.uplift(*rows))
    facts = proof_of(lake, portfolio, TODAY)

    assert "picture" not in facts
    assert len(facts["report"].value) <= KEPT_WORDS + 100
    assert facts["report"].value.endswith("… the file has the rest\n")


def test_a_report_is_no_table(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is kept beside the tables is found by no query."""
    paths_of(lake, hand_made.portfolio(tmp_path), TODAY)
    code, says, _ = told(capsys, "sql", "select count(*) from uplift")

    assert (code, f"{hand_made.uplift().height}" in says) == (0, True)
    assert lake.days("reports") == []


def test_erasure_takes_no_figure_of_a_report_for_an_id(lake: Lake, tmp_path: Path) -> None:
    """Customer 610 is in no report, though the number is; somebody who is called like a journey is told."""
    paths_of(lake, hand_made.portfolio(tmp_path), TODAY)
    home = str(tmp_path / "home")
    every = keepers(lake, LandingZone(root=f"{home}/landing"), Outbox(tmp_path / "home" / "outbox"), Ledger.from_environment(home, {}))
    (report,) = [keeper for keeper in every if keeper.where.endswith(".html")]

    assert "610" in Path(report.where).read_text()
    assert not report.find(Person(frozenset({"610"})))
    assert report.find(Person(frozenset({"610", "newsletter"})))


def test_of_a_day_is_read_what_is_there(tmp_path: Path) -> None:
    """Outcomes of all days up to it, and nothing of later ones; tables that were not made are left out."""
    store, portfolio = Memory(), hand_made.portfolio(tmp_path)
    row = dict.fromkeys(journey_outcomes(portfolio).schema) | {
        "journey_id": "welcome", "customer_id": "a", "known_as": "a", "arm": "treated", "entry_number": 1, "contaminated": False,
        "window_days": 28, "goal": True, "delivered": 2, "withheld": 0, "entered_on": TODAY - timedelta(days=40),
    }  # fmt: skip
    for days, delivered in ((1, 2), (0, 1), (-1, 50)):
        frame = pl.DataFrame(
            [row | {"date": TODAY - timedelta(days=days), "delivered": delivered}], schema=journey_outcomes(portfolio).schema
        )
        store.write("journey_outcomes", TODAY - timedelta(days=days), frame)
    entries = pl.DataFrame({"journey_id": ["welcome", "welcome"], "arm": ["treated", "control"]})
    store.write("journey_entries", TODAY - timedelta(days=40), entries)
    queued = pl.DataFrame({"date": [TODAY] * 3, "journey_id": "welcome", "queued_on": [TODAY, TODAY, TODAY - timedelta(days=1)]})
    store.write("journey_queues", TODAY - timedelta(days=40), queued)

    findings = gather(store, portfolio, TODAY)

    assert findings.delivered == 3
    assert findings.uplift.is_empty()
    assert findings.curves.is_empty()
    assert findings.funnel.row(0, named=True) == {
        "journey_id": "welcome", "queued": 2, "entered": 2, "control": 1, "treated": 1, "matured": 2, "sent": 2, "goal": 2,
    }  # fmt: skip


MEASURED = JOURNEYS.replace(
    "    goal: {event: Order Completed}\n",
    "    goal: {event: Order Completed, within_days: 1}\n    holdout: 0.4\n    measure: {window_days: 1}\n",
).replace("traits:\n", "metrics: {revenue: {sum: revenue, of: Order Completed}}\nmeasurement: {money: revenue, late_days: 0}\ntraits:\n", 1)


@pytest.mark.slow
def test_a_run_carries_proof_and_writes_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On its last day: pictures and words with `uplift` and `path_summary`, and one file; the commands say the same of the lake."""
    environment = make_world(tmp_path, MEASURED)
    for name, setting in environment.items():
        monkeypatch.setenv(name, setting)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, DAYS[-1], instance=instance).success
        events = {name: instance.get_latest_materialization_event(dg.AssetKey(name)) for name in ("uplift", "path_summary")}
        facts = {name: event.asset_materialization.metadata for name, event in events.items() if event and event.asset_materialization}
    report = Path(environment["ATC_HOME"], "lake", "reports", f"{DAYS[-1]}.html")

    assert str(facts["uplift"]["says"].value).startswith("Nothing was sent")
    assert "(proved)" in str(facts["uplift"]["report"].value)
    assert facts["path_summary"]["file"].value == str(report)
    assert [path.name for path in report.parent.iterdir()] == [report.name], "of the last day alone"
    assert "Nothing was sent" in report.read_text()
    for command in (["uplift"], ["uplift", "welcome"], ["uplift", "--from", str(DAYS[1])], ["paths"], ["paths", "--from", str(DAYS[1])]):
        code, page, _ = told(capsys, *command)
        assert (code, len(page) > 100) == (0, True), command
    _, every, _ = told(capsys, "uplift", "--format", "json")
    _, later, _ = told(capsys, "uplift", "--from", str(FIRST), "--format", "json")
    assert json.loads(later)["uplift"] == json.loads(every)["uplift"], "from the first day on is all there is"
    _, whole, _ = told(capsys, "paths", "--format", "json")
    _, narrowed, _ = told(capsys, "paths", "--from", str(FIRST), "--format", "json")
    assert json.loads(narrowed)["paths"] == json.loads(whole)["paths"]
    assert json.loads(narrowed)["attribution"] == json.loads(whole)["attribution"]
