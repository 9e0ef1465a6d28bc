"""``ATC_HOME``: which folders everything can be kept in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resources.storage.home import WrongHomeError, home_of
from resources.storage.lake import Lake
from resources.storage.warehouse import Warehouse

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("said", [{}, {"ATC_HOME": ""}, {"ATC_HOME": " "}])
def test_no_home_is_the_usual_one(said: dict[str, str]) -> None:
    """``ATC_HOME=`` in a file of settings names nothing: not the project's own folder, where lake and landing zone would be code."""
    assert home_of(said, PROJECT) == PROJECT / ".atc"


@pytest.mark.parametrize("name", ["[prod]", "a*b", "it's", 'dou"ble', "sp ace", "ünïcode", "{a,b}", "%41", "$HOME", "a=b;c", "new\nline"])
def test_any_other_name_is_a_name(tmp_path: Path, name: str) -> None:
    """Patterns, quotes, blanks: the views are written, and read what is there."""
    home = home_of({"ATC_HOME": str(tmp_path / name)}, PROJECT)
    home.mkdir()
    assert Warehouse(home=str(home), lake=str(home / "lake")).publish() == []
    assert Lake(root=str(home / "lake")).days("raw_events") == []
    assert (home / "atc.duckdb").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("what?", "has a ? in it, and DuckDB"),
        ("back\\slash", "has a \\ in it, and DuckDB"),
        ("\udcff", "\\udcff is no UTF-8"),
    ],
)
def test_what_the_database_cannot_open_is_refused_at_once(tmp_path: Path, name: str, told: str) -> None:
    """And not by the last step of the first day, with a traceback."""
    with pytest.raises(WrongHomeError) as refusal:
        home_of({"ATC_HOME": str(tmp_path / name)}, PROJECT)
    assert told in str(refusal.value)


@pytest.mark.slow
@pytest.mark.parametrize("command", [["-m", "atc_pipeline", "segments"], ["-c", "import atc_pipeline.definitions"]])
def test_a_refused_home_is_told_without_a_traceback(tmp_path: Path, command: list[str]) -> None:
    """By the commands and by the code location alike."""
    environment = os.environ | {"ATC_HOME": f"{tmp_path}/what?", "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{tmp_path}/what? has a ? in it" in done.stderr
    assert 'File "' not in done.stderr
