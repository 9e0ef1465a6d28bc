"""``plan`` and ``replay`` on the small world: what they say is what really happens when a copy of it is decided again."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.__main__ import main
from atc_pipeline.definitions import build_definitions
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.plan.planning import Past, plan
from atc_pipeline.plan.report import Report
from atc_pipeline.tables.store import Store
from resources.journeys import JourneysFile
from resources.storage.code import code_version
from resources.storage.lake import Lake
from resources.storage.memory import Memory
from resources.storage.overlay import Overlay
from tests.graph.small_world import DAYS, FIRST, JOURNEYS, make_world, run, tables

pytestmark = pytest.mark.slow

BEFORE, WINDOW = DAYS[:2], DAYS[2:]
CAPPED = JOURNEYS.replace("policy: {", "policy: {cap: {days: 3, starts: 2}, ")
NEW = """  - id: novelty
    length_days: 2
    queue: {any: [buyers]}
    priority: 90
    value: 20
    can_interrupt: true
    steps: [{day: 1, channel: app, content: news}]
"""
EDITS = {
    "a new journey": lambda text: text.replace("policy: {", f"{NEW}policy: {{"),
    "a priority": lambda text: text.replace("value: 3\n", "value: 3\n    priority: 900\n"),
    "a cap": lambda text: text.replace("starts: 2}", "starts: 1}"),
    "a removed journey": lambda text: text.replace("next_journeys: [tea_club]\n", "\n").replace(
        text[text.index("  - id: tea_club") : text.index("  - id: rescue")], ""
    ),
    "a new trait": lambda text: text.replace("traits:\n", "traits:\n  views: {count: Product Viewed, within_days: 3}\n").replace(
        'where: "orders >= 2"', 'where: "views >= 1"'
    ),
    "a changed segment": lambda text: text.replace('buyers: "orders > 0"', 'buyers: "spend > 14"').replace(
        "any: [buyers, everyone_else]", "any: [buyers]"
    ),
    "a holdout": lambda text: text.replace("value: 3\n", "value: 3\n    holdout: 0.6\n"),
}


@dataclass(frozen=True)
class Recorded:
    """A world after its four days."""

    environment: dict[str, str]

    @property
    def lake(self) -> Lake:
        """Return its lake."""
        return Lake(root=f"{self.environment['ATC_HOME']}/lake")

    @property
    def past(self) -> Past:
        """Return what was recorded."""
        journeys = JourneysFile(path=self.environment["ATC_JOURNEYS"], home=self.environment["ATC_HOME"])
        return Past(self.lake, partial(journeys.of_day, self.lake), code_version())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The small world with a cap, four days decided."""
    environment = make_world(tmp_path_factory.mktemp("recorded"), CAPPED)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, DAYS[-1], instance=instance).success
    return Recorded(environment)


@pytest.fixture
def pointed(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The commands are pointed at that world."""
    for name, value in recorded.environment.items():
        monkeypatch.setenv(name, value)
    return recorded


def really(recorded: Recorded, folder: Path, text: str) -> Lake:
    """Copy the world, change its file, and really run what a data engineer would: catch up, build queues, run the window's days."""
    home = folder / "home"
    shutil.copytree(recorded.environment["ATC_HOME"], home)  # makes the folder, too
    (folder / "journeys.yaml").write_text(text)
    environment = {"ATC_HOME": str(home), "ATC_JOURNEYS": str(folder / "journeys.yaml")}
    definitions = build_definitions(environment)
    queues = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={dg.AssetKey("micro_segment_memberships"), dg.AssetKey("journey_queues")}, asset_check_selection=set()
    )
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, DAYS[-1], instance=instance, job="catch_up").success
        for day in BEFORE:
            assert queues.execute_in_process(instance=instance, partition_key=str(day)).success
        assert run(environment, WINDOW[0], WINDOW[-1], instance=instance).success
    return Lake(root=str(home / "lake"))


def planned(recorded: Recorded, text: str, folder: Path) -> tuple[Report, list[Store]]:
    """Plan the window, and keep the stores of both sides."""
    (folder / "changed.yaml").write_text(text)
    stores: list[Store] = []

    @contextmanager
    def room(below: Store) -> Iterator[Store]:
        stores.append(Overlay(below, Memory()))
        yield stores[-1]

    after = load_portfolio(folder / "changed.yaml")
    return plan(recorded.past, after, WINDOW, room, file="changed.yaml", say=lambda _: None), stores


@pytest.mark.parametrize("edit", EDITS)
def test_a_plan_is_what_happens(edit: str, recorded: Recorded, tmp_path: Path) -> None:
    """Every answer, option and message of both days, and so every count by day and journey, is that of a copy really run."""
    text = EDITS[edit](CAPPED)
    assert text != CAPPED
    before = tables(recorded.environment)
    report, (_, after, _) = planned(recorded, text, tmp_path)
    assert tables(recorded.environment) == before
    happened = really(recorded, tmp_path / "copy", text)
    for day in WINDOW:
        for table in ("journey_queues", "scored_candidates", "journey_state", "journey_assignments", "outbound_messages"):
            ours = after.lazy(table, day).collect()
            assert_frame_equal(ours.drop("send_at", strict=False), happened.read(table, day).drop("send_at", strict=False))
    pairs = [
        (old["customer_id"], day, old["journey_id"], new["journey_id"])
        for day in WINDOW
        for old, new in zip(
            recorded.lake.read("journey_assignments", day).iter_rows(named=True),
            happened.read("journey_assignments", day).iter_rows(named=True),
            strict=True,
        )
        if old["journey_id"] != new["journey_id"]
    ]
    assert report.customers is not None
    assert report.customers.changed == len({customer for customer, *_ in pairs})
    assert [of.changed for of in report.customers.by_day] == [sum(at == day for _, at, *_ in pairs) for day in WINDOW]
    for journey in report.journeys:
        gained = {(customer, old or "none") for customer, _, old, new in pairs if new == journey.id}
        assert journey.gained == len({customer for customer, _ in gained})
        assert sum(moved.customers for moved in journey.gained_from) == len(gained)
    assert {example.customer_id for example in report.examples} <= {customer for customer, *_ in pairs}
    if edit == "a holdout":
        assert any(arm.changes_arm for arm in report.arms)
    else:
        assert pairs, "the edit changes nobody: it tests nothing"


def test_an_unchanged_file_differs_in_no_row(pointed: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody changes, no key either; nothing is written."""
    before = tables(pointed.environment)
    assert main(["plan", "--days", "3", "--format", "json", "--fail-on", "not_reproducible", "changes>0%"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["changes"], report["customers"]["changed"], report["window"]["days"]) == ([], 0, 3)
    assert report["verdict"]["held"] == ["not_reproducible", "changes>0%"]
    assert tables(pointed.environment) == before


def test_the_whole_world_is_replayed(pointed: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    """Every column of every day."""
    assert pointed.lake.days("journey_assignments") == DAYS
    assert main(["replay"]) == 0
    assert "2026-03-01 to 2026-03-04 (4 days): replayed to the last bit" in capsys.readouterr().out


@pytest.fixture
def tampered(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A copy of the world in which somebody gave a customer another journey on the third day."""
    shutil.copytree(recorded.environment["ATC_HOME"], tmp_path / "home")
    monkeypatch.setenv("ATC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ATC_JOURNEYS", recorded.environment["ATC_JOURNEYS"])
    lake = Lake(root=str(tmp_path / "home" / "lake"))
    rows = lake.read("journey_assignments", WINDOW[0])
    wrong = pl.when(customer_id="c03").then(pl.lit("elsewhere")).otherwise("journey_id").alias("journey_id")
    lake.write(
        "journey_assignments", WINDOW[0], rows.with_columns(wrong), portfolio=lake.written_by("journey_assignments", FIRST).portfolio
    )
    return lake


def test_a_row_that_was_tampered_with_is_named(tampered: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """Replay says table, day, customer, column and both values, exit code 1; a plan ends there, exit code 3."""
    assert main(["replay"]) == 1
    says = capsys.readouterr().out
    assert "1 days come out otherwise, 1 of them without a reason" in says
    assert f'journey_assignments of {WINDOW[0]}, c03: journey_id was recorded as "elsewhere" and comes out as' in says
    assert main(["plan", "--days", "2"]) == 3
    says = capsys.readouterr().out
    assert "The past cannot be reproduced: 2026-03-03" in says
    assert "c03" in says
    assert tampered.has("journey_assignments", FIRST)


def test_a_plan_that_is_accepted_lets_what_is_learned_decide(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells the scale of scores, and that nothing was drawn by chance; noted is the version that was looked at, if no rule failed."""
    shutil.copytree(recorded.environment["ATC_HOME"], tmp_path / "home")
    file = tmp_path / "journeys.yaml"
    file.write_text(CAPPED.replace("policy: {", "learning: {use: live}\npolicy: {explore: 0.01, "))
    monkeypatch.setenv("ATC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ATC_JOURNEYS", str(file))
    journeys = JourneysFile(path=str(file), home=str(tmp_path / "home"))
    assert journeys.in_use().problem is not None

    assert main(["plan", "--days", "2", "--journeys", str(file), "--accept", "--fail-on", "changes>-1%"]) == 1
    assert "is not accepted" in capsys.readouterr().out
    assert journeys.in_use().problem is not None
    assert main(["plan", "--days", "2", "--journeys", str(file), "--accept"]) == 0
    says = capsys.readouterr().out
    assert "SCALE OF SCORES" in says
    assert f"Version {load_portfolio(file).fingerprint} is accepted" in says
    assert "Nothing can be said: nothing is measured in money." in " ".join(says.split())
    assert journeys.in_use().problem is None
    assert main(["value", "--journeys", str(file)]) == 0
    assert "nothing is measured in money" in capsys.readouterr().out


def test_what_other_code_recorded_is_listed_with_that_said(
    tampered: Lake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no defect that an upgrade decides otherwise: the differences are listed, exit code 0."""
    assert tampered.has("journey_assignments", FIRST)
    monkeypatch.setattr("atc_pipeline.commands.planning.code_version", lambda: "0" * 12)
    assert main(["replay"]) == 0
    says = capsys.readouterr().out
    assert "0 of them without a reason" in says
    assert f"it was decided by code {code_version()}, and is replayed by 000000000000" in says
    assert main(["plan", "--days", "2"]) == 0
    assert "come out otherwise than they were recorded" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fail-on", "chnges>2%"], "no rule 'chnges>2%'; did you mean 'changes'"),
        (["--fail-on", "value>0"], "is written like value<0"),
        (["--to", "2026-03-09"], "nothing was decided for 2026-03-09: the lake has 2026-03-01 to 2026-03-04"),
        (["--to", "soon"], "expected a day such as 2026-03-04"),
        (["--journeys", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments: list[str], says: str, pointed: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, in words."""
    assert pointed.lake.days("journey_assignments")
    assert main(["plan", *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("format_", ["text", "md", "json"])
def test_a_broken_rule_is_an_exit_code(format_: str, pointed: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In every form, also when it is written into a file; in Markdown nobody is named."""
    (tmp_path / "changed.yaml").write_text(EDITS["a priority"](CAPPED))
    out = tmp_path / "report"
    command = ["plan", "--journeys", str(tmp_path / "changed.yaml"), "--days", "2", "--format", format_, "--out", str(out)]
    assert main([*command, "--fail-on", "changes>1%"]) == 1
    assert "would be in another journey" in capsys.readouterr().out
    assert "changes>1%" in out.read_text().replace("\\", "")
    customers = pointed.lake.read("journey_assignments", date(2026, 3, 4))["customer_id"]
    assert any(f"customer {customer}" in out.read_text() for customer in customers) == (format_ == "text")
