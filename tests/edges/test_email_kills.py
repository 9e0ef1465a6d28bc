"""Senders of e-mail that are killed lose nothing and send nothing twice."""

from pathlib import Path

import pytest

from tests.edges.email_kills import CONNECTIONS, kill_often


@pytest.mark.slow
def test_a_kill_leaves_one_message_in_doubt_for_each_connection_at_most(tmp_path: Path) -> None:
    """None lost, none twice; what was taken is known even where whoever was to remember it died."""
    seen = kill_often(tmp_path, 6, seed=33)

    assert (seen.lost, seen.twice, seen.kills, seen.failures) == ([], [], 6, 0)
    assert max(seen.unknown) <= CONNECTIONS
    assert seen.recovered, "no message was taken that nobody had heard of: this test shows nothing"
