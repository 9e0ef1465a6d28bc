"""Worlds that many tests begin with."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from tests.graph.small_world import FIRST, make_world
from tests.graph.watching import FOUR, ONE, THREE, Watcher


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    """The small world, nothing run yet."""
    return make_world(tmp_path)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """One history for all runs of a test."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def watcher(tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    """The small world with its first three days run; six days are over, and four of them have files."""
    keys = [str(FIRST + timedelta(days=number)) for number in range(6)]
    monkeypatch.setattr(dg.DailyPartitionsDefinition, "get_partition_keys", lambda *_, **__: keys)
    watching = Watcher(make_world(tmp_path), instance)
    (watching.landing / FOUR).rename(tmp_path / FOUR)
    watching.run(ONE, THREE)
    return watching
