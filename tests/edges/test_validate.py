"""``python -m atc_pipeline validate``: whether ``journeys.yaml`` can be used, and wherever else a mistake in it is met.

What belongs here: commands and what a terminal shows. What does not: which mistakes there are (``test_journeys``).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
GOOD = 'version: "1"\ncalendar: {timezone: UTC, starts_on: 2026-01-01}\nsegments: {new: tenure_days < 7}\n'
PAUSED = GOOD + "journeys: [{id: a, status: paused, length_days: 1, queue: {any: [new]}}]\n"
BAD = GOOD.replace("tenure_days", "tenure_day")
TOLD = "journeys.yaml:3: segment 'new': unknown column 'tenure_day'; did you mean 'tenure_days'?\n"


def python(home: Path, *arguments: str) -> tuple[int, str, str]:
    """Run Python in a fresh interpreter; return its exit code and what it said."""
    environment = os.environ | {
        "ATC_HOME": str(home / "home"),
        "ATC_JOURNEYS": str(home / "journeys.yaml"),
        "PYTHONPATH": str(PROJECT),
        "DAGSTER_HOME": str(home),
    }
    done = subprocess.run([sys.executable, *arguments], cwd=home, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_portfolio_that_can_be_used_is_counted(tmp_path: Path) -> None:
    """One line and exit code 0; the file in use, or the one named."""
    (tmp_path / "journeys.yaml").write_text(PAUSED)
    (tmp_path / "other.yaml").write_text(GOOD)
    rest = "0 traits, 0 interests, 0 intents, 0 channels: ok\n"

    assert python(tmp_path, "-m", "atc_pipeline", "validate") == (0, f"journeys.yaml: 1 journey (1 paused), 1 segment, {rest}", "")
    assert python(tmp_path, "-m", "atc_pipeline", "validate", "other.yaml") == (0, f"other.yaml: 0 journeys, 1 segment, {rest}", "")


@pytest.mark.slow
def test_a_mistake_is_told_without_a_traceback(tmp_path: Path) -> None:
    """Exit code 1 and the messages alone, from every command that needs the portfolio and from Dagster's own."""
    (tmp_path / "journeys.yaml").write_text(BAD)

    assert python(tmp_path, "-m", "atc_pipeline", "validate") == (1, "", TOLD)
    code, _, said = python(tmp_path, "-c", "import atc_pipeline.definitions")
    assert (code, said) == (1, f"atc_pipeline.journeys.problems.JourneysError: {TOLD}")
    code, said, told = python(tmp_path, "-m", "sample.demo")
    assert (code, said, told) == (1, "", TOLD)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["dagster", "duckdb"])
def test_validating_imports_nothing_that_takes_seconds(module: str) -> None:
    """An editor may call it at every save."""
    code = (
        "import sys, runpy; sys.argv = ['x', 'validate']\n"
        "try: runpy.run_module('atc_pipeline', run_name='__main__')\n"
        f"except SystemExit: print({module!r} in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "False"
