"""Versions of the portfolio on the disk: kept as they were, the newest valid one in use, and told by every file of the lake."""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from atc_pipeline.journeys.changes import changes
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.tables.store import WrittenBy
from resources.journeys import JourneysFile
from resources.storage.code import code_version
from resources.storage.lake import Lake
from tests.graph.small_world import JOURNEYS

DAY = date(2026, 3, 1)
ROWS = pl.DataFrame({"date": [DAY], "customer_id": ["c1"]})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A journeys.yaml."""
    path = tmp_path / "journeys.yaml"
    path.write_text(f"# as it was\n{JOURNEYS}")
    return path


def journeys(file: Path) -> JourneysFile:
    """Return the resource as each run gets it: anew."""
    return JourneysFile(path=str(file), home=str(file.parent / "home"))


def test_a_version_is_kept_as_its_text_was(file: Path) -> None:
    """The text with its comments, under its fingerprint; to ask which version is in use writes nothing."""
    fingerprint = journeys(file).in_use().portfolio.fingerprint
    assert not (file.parent / "home").exists()
    assert journeys(file).load().fingerprint == fingerprint
    assert (file.parent / "home" / "portfolios" / f"{fingerprint}.yaml").read_text() == file.read_text()


def test_a_refused_file_changes_nothing_and_is_told(file: Path) -> None:
    """The newest version that was valid runs on, also where an older one came back before; its messages say so."""
    first = journeys(file).load()
    text = file.read_text()
    file.write_text(text.replace("priority: 50", "priority: 60"))
    assert journeys(file).load().fingerprint != first.fingerprint
    file.write_text(text)
    journeys(file).load()
    file.write_text(text.replace("any: [newcomers]", "any: [newcomer]"))

    broken = journeys(file)
    assert broken.load().fingerprint == first.fingerprint
    assert broken.problem is not None
    assert "unknown segment 'newcomer'; did you mean 'newcomers'?" in broken.problem
    assert f"Refused: version {first.fingerprint} runs on" in broken.problem
    file.unlink()
    assert journeys(file).load().fingerprint == first.fingerprint


def test_a_refused_file_without_a_version_before_it_fails_in_words(file: Path) -> None:
    """Nothing else could run."""
    file.write_text("version: 1\n")
    with pytest.raises(dg.Failure, match="field 'calendar': is missing"):
        journeys(file).load()
    with pytest.raises(JourneysError):
        journeys(file).in_use()


def test_a_kept_version_that_is_gone_is_told_with_what_is_wrong_with_the_file(file: Path) -> None:
    """Both files are named."""
    fingerprint = journeys(file).load().fingerprint
    (file.parent / "home" / "portfolios" / f"{fingerprint}.yaml").unlink()
    file.write_text("version: 1\n")
    with pytest.raises(dg.Failure, match=rf"(?s)field 'calendar': is missing.*{fingerprint}\.yaml: cannot be read"):
        journeys(file).load()


def test_a_day_named_in_advance_is_not_changed_after_it(file: Path) -> None:
    """The one look at a journey's narrow interval would be chosen by what it shows: such a file is refused, and the version before runs."""
    text = file.read_text().replace("priority: 50", "priority: 50\n    measure: {decide_on: 2026-03-10}")
    file.write_text(text)
    first = journeys(file).load()
    file.write_text(text.replace("2026-03-10", "2199-01-01"))

    problem = journeys(file).in_use().problem

    assert problem is not None
    assert "journey 'rescue', field 'measure.decide_on': 2026-03-10 was to become 2199-01-01, but 2026-03-10 is over" in problem
    assert f"Refused: version {first.fingerprint} runs on" in problem
    file.write_text(text.replace("priority: 50", "priority: 60"))
    assert journeys(file).in_use().problem is None


def test_a_day_to_come_may_be_changed(file: Path) -> None:
    """Nobody has looked yet."""
    text = file.read_text().replace("priority: 50", "priority: 50\n    measure: {decide_on: 2199-01-01}")
    file.write_text(text)
    journeys(file).load()
    file.write_text(text.replace("2199-01-01", "2198-01-01"))

    assert journeys(file).in_use().problem is None


def learning(text: str, use: str) -> str:
    """The file with what is learned in this use."""
    assert "policy: {" in text
    return text.replace("policy: {", f"learning: {{use: {use}}}\npolicy: {{explore: 0.01, ")


def decided(file: Path) -> None:
    """A day was decided in the home of a file."""
    Lake(root=str(file.parent / "home" / "lake")).write("journey_assignments", DAY, ROWS)


def test_what_is_learned_decides_only_where_somebody_has_looked(file: Path) -> None:
    """Scores have another scale then: the very version must have been accepted, and any other edit is another version."""
    text = file.read_text()
    file.write_text(learning(text, "shadow"))
    first = journeys(file).load()
    decided(file)
    file.write_text(learning(text, "live"))
    problem = journeys(file).in_use().problem
    assert problem is not None
    assert "field 'learning.use': nobody has looked at what live does by this very version" in problem
    assert f"Refused: version {first.fingerprint} runs on" in problem

    journeys(file).accept(load_portfolio(file))
    assert journeys(file).in_use().problem is None
    file.write_text(learning(text, "live").replace("priority: 50", "priority: 60"))
    assert journeys(file).in_use().problem is not None

    file.write_text(learning(text, "live"))
    journeys(file).load()
    file.write_text(learning(text, "live").replace("priority: 50", "priority: 60"))
    assert journeys(file).in_use().problem is None  # live before


def test_a_home_may_begin_with_what_is_learned(file: Path) -> None:
    """There is nothing that it could be compared with, also where a first run with another use failed before it decided a day."""
    text = file.read_text()
    file.write_text(learning(text, "live"))
    assert journeys(file).in_use().problem is None

    file.write_text(learning(text, "shadow"))
    journeys(file).load()
    file.write_text(learning(text, "live"))
    assert journeys(file).in_use().problem is None
    decided(file)
    assert journeys(file).in_use().problem is not None


def test_a_version_is_kept_with_the_files_it_names(file: Path) -> None:
    """So that an old version resolves by itself, whatever has become of the files; a changed file is another version, told in words."""
    with_content(file, "Welcome!")
    first = journeys(file).load()
    with_content(file, "Welcome, everybody.")
    now = journeys(file)

    assert now.in_use().portfolio.fingerprint != first.fingerprint
    assert now.kept(first.fingerprint).fingerprint == first.fingerprint
    (edit,) = changes(now.kept(first.fingerprint), now.load()).words
    assert edit == "block hello: html <p>Welcome!</p> → <p>Welcome, everybody.</p>"
    kept = file.parent / "home" / "portfolios" / first.fingerprint / "content" / "hello.html"
    assert kept.read_text() == "<p>Welcome!</p>"


def test_a_file_that_is_gone_or_wrong_changes_nothing(file: Path) -> None:
    """The newest valid version runs on with its own files."""
    content = with_content(file, "Welcome!")
    first = journeys(file).load()
    content.write_text("<p>{{ nobody }}</p>")
    broken = journeys(file)
    assert broken.load().fingerprint == first.fingerprint
    assert "block 'hello', field 'html': content/hello.html:1: unknown column 'nobody'" in str(broken.problem)
    content.unlink()
    broken = journeys(file)
    assert broken.load().fingerprint == first.fingerprint
    assert "content/hello.html: cannot be read: No such file or directory" in str(broken.problem)


def with_content(file: Path, text: str) -> Path:
    """Have the portfolio name a file of this text."""
    if "blocks:" not in file.read_text():
        file.write_text(f"{file.read_text()}\nblocks: {{hello: {{text: Welcome, html: {{file: content/hello.html}}}}}}\n")
    path = file.parent / "content" / "hello.html"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"<p>{text}</p>")
    return path


def test_a_day_has_the_version_that_decided_it(file: Path, tmp_path: Path) -> None:
    """Of each day its own; of one that does not say, as files of older versions of ours, the one in use."""
    lake = Lake(root=str(tmp_path / "lake"))
    first = journeys(file).load()
    lake.write("journey_assignments", DAY, ROWS, portfolio=first.fingerprint)
    lake.write("journey_assignments", DAY + timedelta(days=1), ROWS)
    file.write_text(file.read_text().replace("priority: 50", "priority: 60"))
    now = journeys(file)
    assert now.of_day(lake, DAY).fingerprint == first.fingerprint != now.load().fingerprint
    assert [now.of_day(lake, DAY + timedelta(days=days)) for days in (1, 2)] == [now.load()] * 2


def test_every_file_says_who_wrote_it_and_its_version_is_of_its_rows(tmp_path: Path) -> None:
    """The same rows by another portfolio are the same version: nothing that stands on them is stale. Read back, they are whole."""
    lake = Lake(root=str(tmp_path / "lake"))
    versions = []
    for portfolio in ("0123456789ab", "ba9876543210", None):
        lake.write("numbers", DAY, ROWS, {"a": "b"}, portfolio)
        assert lake.written_by("numbers", DAY) == WrittenBy(portfolio, code_version())
        assert lake.definitions("numbers", DAY) == {"a": "b"}
        assert lake.read("numbers", DAY).equals(ROWS)
        versions.append(lake.version("numbers", DAY))
    lake.write("numbers", DAY, ROWS.with_columns(customer_id=pl.lit("c2")), {"a": "b"}, "0123456789ab")
    assert len({*versions, lake.version("numbers", DAY)}) == 2


def test_a_file_sealed_by_an_older_version_of_ours_is_whole_and_does_not_say(tmp_path: Path) -> None:
    """Its seal is shorter: two sums, and nobody's name."""
    lake = Lake(root=str(tmp_path / "lake"))
    path = lake.path("numbers", DAY)
    path.parent.mkdir(parents=True)
    path.write_bytes(Path(__file__).with_name("sealed_before_versions.parquet").read_bytes())
    assert lake.read("numbers", DAY).height == 1
    assert lake.version("numbers", DAY) is not None
    assert lake.written_by("numbers", DAY) == WrittenBy(None, None)
