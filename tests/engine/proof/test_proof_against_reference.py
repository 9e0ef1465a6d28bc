"""The engine against the reference: who entered what, and what came of it, row by row, whatever happens on the way."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.engine.proof.twins import compare, run
from tests.engine.proof.worlds import draw_world

MORE = 1 if settings.default.derandomize else 50
"""Two worlds in CI, more with --hypothesis-profile=default."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2 * MORE))
def test_entries_and_outcomes_are_the_references(seed: int, tmp_path: Path) -> None:
    """Merges, logins, late events, refunds, entries again, edits of what an entry keeps: every row says what SPEC says."""
    compare(run(draw_world(seed), tmp_path))


def test_entries_and_outcomes_of_a_few_days_are_the_references(tmp_path: Path) -> None:
    """A week of a dozen customers, so that something is compared whenever tests run."""
    compare(run(draw_world(6, size=12, length=7), tmp_path))
