"""Every promise, blinded, makes a test fail: as ``python -m tests.blinding`` says it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_no_promise_is_blind_without_a_test_that_fails() -> None:
    """Rules, their clauses and checks, each in turn; a promise without an example is named here."""
    done = subprocess.run([sys.executable, "-m", "tests.blinding"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(", 0 unseen\n")
