"""Whole runs that are killed: the tables come out the same, and nobody hears from us twice."""

import os
import random
import resource
import signal
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from resources.delivery.ledger import Ledger
from tests.edges.receiver import Receiver
from tests.graph.small_world import DAYS, FIRST, make_world, run, tables

pytestmark = pytest.mark.slow

SECRET = "between the two of us"  # noqa: S105
KILLS = int(os.environ.get("KILLS", "20"))
LAST = DAYS[-1]


def processes() -> ForkServerContext:
    """Processes that need not import the libraries anew."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["dagster", "dagster_duckdb", "pandera.polars", "polars", "pyarrow", "requests"])
    return context


def run_live(environment: dict[str, str]) -> None:
    """Run the four days as one range, and send what is due on them for real."""
    os.environ |= environment | {"ATC_WEBHOOK_SECRET": SECRET, "no_proxy": "127.0.0.1"}
    named = {"ops": {"activation": {"config": {"past_days": [str(day) for day in DAYS]}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        run(environment, FIRST, LAST, instance=instance, config=named)


def finish(environment: dict[str, str]) -> float:
    """Run to the end; return the seconds it took."""
    began = time.monotonic()
    process = processes().Process(target=run_live, args=(environment,))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    return time.monotonic() - began


def test_kills_give_the_same_tables_and_no_message_twice(tmp_path: Path) -> None:
    """A run killed with SIGKILL at many random moments and then left to finish writes the bytes of an undisturbed one."""
    chance = random.Random(20)  # noqa: S311
    with Receiver(SECRET) as undisturbed, Receiver(SECRET) as receiver:
        live = {"ATC_LIVE": "true", "ATC_WEBHOOKS": f"email={undisturbed.url()},app={undisturbed.url()}"}
        calm = make_world(tmp_path / "calm") | live
        finish(calm)
        seconds = finish(calm)  # again: sends nothing more, and tells how long a run takes once the libraries are loaded
        killed = make_world(tmp_path / "killed") | live | {"ATC_WEBHOOKS": f"email={receiver.url()},app={receiver.url()}"}
        exits = []
        for _ in range(KILLS):
            process = processes().Process(target=run_live, args=(killed,))
            process.start()
            process.join(chance.uniform(0.1, 1.1) * seconds)
            assert process.pid is not None
            process.kill()
            process.join(60)
            exits.append(process.exitcode)
        finish(killed)
        expected = {message["idempotency_key"] for message in undisturbed.effects}
        effects = Counter(message["idempotency_key"] for message in receiver.effects)
    assert exits.count(-signal.SIGKILL) >= KILLS // 2, "most runs ended before they were killed: this test shows nothing"
    assert tables(killed) == tables(calm)
    assert expected
    assert effects == Counter(expected)
    statuses = Ledger(home=killed["ATC_HOME"]).statuses(pl.Series(sorted(expected)))
    assert set(statuses["status"]) == {"delivered"}
    assert statuses.height == len(expected)


@pytest.mark.parametrize("most", [900, 4000, 6000])
def test_a_full_disk_stops_the_run_with_a_sentence_and_the_next_run_makes_the_same_bytes(tmp_path: Path, most: int) -> None:
    """No file may grow beyond so many bytes: the run says which file and what to do; nothing is left half written."""
    calm, full = make_world(tmp_path / "calm"), make_world(tmp_path / "full")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with dg.DagsterInstance.ephemeral() as instance:
        run(calm, FIRST, LAST, instance=instance)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        try:
            failed = run(full, FIRST, LAST, instance=instance, must_succeed=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        (failure,) = (event for event in failed.all_events if event.is_step_failure)
        assert "cannot be written (File too large" in failure.step_failure_data.user_failure_data.description
        assert not list(Path(full["ATC_HOME"]).rglob(".part.parquet*"))
        assert run(full, FIRST, LAST, instance=instance).success
    assert tables(full) == tables(calm)
