"""The command that certifies: what it prints, the page it writes, and how it ends.

What belongs here: the command, on claims that cost nothing. What does not: any claim (``test_estimator``, ``test_verdicts``).
"""

from dataclasses import replace
from pathlib import Path

import pytest

from atc_pipeline.certificate.claim import Claim, Scale
from docs import certificate

HOLDS = Claim("truth is told", "tried on two tables; seed 1", "2 of 2", {"first": "2 of 2", "second": "2 of 2"}, passed=True)
FAILS = Claim("nothing fails", "tried once", "1 of 1", {"only": "0 of 1"}, passed=False)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page is written."""
    path = tmp_path / "certificate.md"
    monkeypatch.setattr(certificate, "PAGE", path)
    return path


def test_all_is_written(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every claim with its bar and its figures, which code it was, and 0."""
    monkeypatch.setattr(
        certificate,
        "CLAIMS",
        {"one": lambda _: HOLDS, "two": lambda _: iter([replace(HOLDS, name="more is"), replace(HOLDS, name="most is")])},
    )

    assert certificate.main([]) == 0
    written = page.read_text(encoding="utf-8")
    assert "| truth is told | tried on two tables; seed 1 | 2 of 2 | yes | 0 s |" in written
    assert "## Truth is told\n\n| scenario | figures |\n|---|---|\n| first | 2 of 2 |\n| second | 2 of 2 |" in written
    assert "Version " in written
    assert "3 of 3 claims hold" in capsys.readouterr().out


def test_a_claim_that_does_not_hold_is_an_error(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with 1; the page says so too, and the others are tried all the same."""
    monkeypatch.setattr(certificate, "CLAIMS", {"one": lambda _: FAILS, "two": lambda _: HOLDS})

    assert certificate.main([]) == 1
    assert "| nothing fails | tried once | 1 of 1 | NO |" in page.read_text(encoding="utf-8")
    assert "NO  nothing fails (0 s)\n      only: 0 of 1\n" in capsys.readouterr().out


def test_quick_writes_nothing(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It only prints; and it is quick that claims are tried with."""
    scales: list[Scale] = []
    monkeypatch.setattr(certificate, "CLAIMS", {"one": lambda scale: scales.append(scale) or HOLDS})

    assert certificate.main(["quick"]) == 0
    assert scales == [Scale.QUICK]
    assert not page.exists()


def test_one_is_tried_again_and_the_others_stay(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says by which code it was found."""
    monkeypatch.setattr(certificate, "CLAIMS", {"one": lambda _: HOLDS, "two": lambda _: FAILS})
    certificate.main([])
    monkeypatch.setattr(certificate, "CLAIMS", {"one": lambda _: HOLDS, "two": lambda _: replace(FAILS, passed=True)})
    monkeypatch.setattr(certificate, "_version", lambda: "another")

    assert certificate.main(["two"]) == 0
    written = page.read_text(encoding="utf-8")
    assert "| truth is told | tried on two tables; seed 1 | 2 of 2 | yes |" in written
    assert "| nothing fails | tried once | 1 of 1 | yes |" in written
    assert ": truth is told." in written
    assert "Version another" in written


def test_anything_else_is_refused(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A word that it does not know is not taken for all."""
    assert certificate.main(["qiuck"]) == 2
    assert capsys.readouterr().err == f"python -m docs.certificate [quick] [{'|'.join(certificate.CLAIMS)} ...]\n"
    assert not page.exists()
