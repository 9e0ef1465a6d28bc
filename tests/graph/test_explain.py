"""``python -m atc_pipeline explain`` on the small world: what the lake says about a customer, and what it cannot."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.__main__ import main
from resources.storage.lake import Lake
from tests.graph.small_world import DAYS, FIRST, line, make_world, run

LAST = DAYS[-1]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The small world after its four days."""
    environment = make_world(tmp_path_factory.mktemp("world"))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, LAST, instance=instance).success
    return environment


@pytest.fixture
def lake(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Lake:
    """The lake of that world, which the commands are pointed at."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Lake(root=f"{environment['ATC_HOME']}/lake")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it said, as one line."""
    code = main(["explain", *arguments])
    captured = capsys.readouterr()
    assert not (captured.err if code == 0 else captured.out)
    return code, " ".join((captured.out + captured.err).split())


def test_every_customer_and_day_can_be_explained(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """All twelve customers on all four days: the answer of journey_assignments, and every option row, is in it."""
    for day in DAYS:
        options = lake.read("scored_candidates", day)
        for customer, journey in lake.read("journey_assignments", day).select("customer_id", "journey_id").iter_rows():
            code, text = told(capsys, customer, "--day", str(day), "--all")
            assert code == 0
            assert f"Customer {customer} on " in text
            assert (f'"{journey}": day ' if journey else "Today left alone") in text
            for ruling in options.filter(pl.col("customer_id") == customer)["ruling"]:
                assert (ruling if ruling != "chosen" else "CHOSEN") in text
            assert "cannot be said" not in text
            assert "journeys.yaml of that day" not in text


def test_the_latest_day_is_the_default(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --day the latest day decided is told."""
    assert lake.days("journey_assignments")[-1] == LAST
    assert told(capsys, "c00") == told(capsys, "c00", "--day", str(LAST))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["c0"], "customer 'c0' is not known on 2026-03-04; did you mean"),
        (["C01"], "did you mean"),
        (["?"], "there are 12 customers, for instance c00, c01, c02"),
        (["c01", "--day", "2026-05-01"], "nothing was decided for 2026-05-01: the lake has 2026-03-01 to 2026-03-04, nearest 2026-03-04"),
        (["c01", "--day", "yesterday"], "--day yesterday: expected a day such as 2026-03-04"),
    ],
)
def test_a_question_without_an_answer_says_what_to_ask_instead(
    lake: Lake, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Unknown customers and days end with code 1 and the nearest that exist, never with a stack trace."""
    assert lake.days("journey_assignments")
    code, text = told(capsys, *arguments)
    assert code == 1
    assert said in text


@pytest.mark.slow
def test_whoever_was_merged_is_told_as_who_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for an absorbed user, or a visitor who has logged in, the survivor's day is told, and that it is; before, their own."""
    environment = make_world(tmp_path / "world")
    first, second = DAYS[:2]
    lines = {
        first: [line("", first, 100, userId=None, anonymousId="phone", event="Product Viewed")],
        second: [line("c03", second, 105, type="alias", previousId="c04"), line("c03", second, 106, anonymousId="phone", event="Seen")],
    }
    for day, texts in lines.items():
        (Path(environment["ATC_HOME"]) / "landing" / str(day) / "more.ndjson").write_text("\n".join(texts) + "\n")
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, first, second, instance=instance).success
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    _, of_survivor = told(capsys, "c03")
    for asked in ("c04", "anon:phone"):
        assert told(capsys, asked) == (0, f"{asked} is customer c03 on {second}: they are one person, whose day this is. {of_survivor}")
        code, before = told(capsys, asked, "--day", str(first))
        assert code == 0
        assert before.startswith(f"Customer {asked} on ")


def test_an_empty_lake_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything was run, both commands say so."""
    monkeypatch.setenv("ATC_HOME", str(tmp_path))
    assert told(capsys, "c01") == (1, f"no decisions in {tmp_path}/lake yet: run make demo, or materialize the assets")
    assert main(["sql", "select 1"]) == 1
    assert "run make demo" in capsys.readouterr().err


def test_a_day_is_told_by_the_version_that_decided_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What journeys.yaml says now, or that it is refused, changes nothing about a day that is over."""
    before = explained(lake.days("journey_assignments"), capsys)
    (tmp_path / "journeys.yaml").write_text("version: 1\n")
    monkeypatch.setenv("ATC_JOURNEYS", str(tmp_path / "journeys.yaml"))
    assert explained(lake.days("journey_assignments"), capsys) == before


def explained(days: Sequence[date], capsys: pytest.CaptureFixture[str]) -> str:
    """Explain a customer on each of these days, and tell their path and the segments."""
    commands = [["explain", "c01", "--day", str(day), "--all"] for day in days]
    assert not any(main(command) for command in [*commands, ["journey", "c01"], ["segments"]])
    return capsys.readouterr().out


def test_a_version_that_is_gone_is_named(lake: Lake, environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A day is not told by another version than its own: the file that is missing is named."""
    kept = Path(environment["ATC_HOME"]) / "portfolios"
    fingerprint = lake.written_by("journey_assignments", LAST).portfolio
    journeys = Path(environment["ATC_JOURNEYS"])
    text = journeys.read_text()
    away = (kept / f"{fingerprint}.yaml").rename(kept / "away")
    journeys.write_text(text.replace("priority: 50", "priority: 51"))
    try:
        code, says = told(capsys, "c01")
        assert (code, f"{fingerprint}.yaml: cannot be read" in says) == (1, True)
    finally:
        away.rename(kept / f"{fingerprint}.yaml")
        journeys.write_text(text)
