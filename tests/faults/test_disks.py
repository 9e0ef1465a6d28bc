"""Disks that are full, or read-only: the run says which file and what to do, and the next one makes the same bytes."""

import pickle
import resource
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.faults.attempt import Attempt, Order, Report, carry_out, order, processes, run, run_well
from tests.faults.killing import Calm
from tests.faults.mounts import NOT_ALLOWED, apart
from tests.faults.world import DAYS, World, differences, morning_after, receiving, resume_from

pytestmark = pytest.mark.slow

DAY = DAYS[2]
ROOMS = (20_000, 60_000, 140_000, 220_000)
"""Bytes that are free."""


def test_a_file_that_may_not_grow_stops_the_run_with_a_sentence(tmp_path: Path, calm: Calm) -> None:
    """No file may have more than so many bytes: a table, the ledger, the views. Nothing is left half written, and nothing sent twice."""
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        clock.now = morning_after(DAY)
        for most in (900, 6000, 200_000):
            report = run(order(world, DAY, prepare=partial(allow, most)))
            assert len(report.failures) == 1, report.failures
            assert "cannot be " in report.failures[0]
            assert "File too large" in report.failures[0]
            assert world.left_behind() == []
        run_well(order(world, DAY))
        assert differences(world, calm.after[DAY]) == []


def test_a_full_disk_stops_the_run_with_a_sentence(tmp_path: Path, calm: Calm) -> None:
    """The home is on a disk with a little more room each time, so that each run comes further; once there is enough the day is made."""
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        clock.now = morning_after(DAY)
        *full, well = on_a_disk(world, [*(f"size={used(world) + room}" for room in ROOMS), "size=100m"])
        for report in full:
            assert report.failures
            for failure in report.failures:  # of steps that do not stand on each other there may be two
                assert "cannot be " in failure
                assert "Is the disk full" in failure or "Make room for it" in failure
        assert len({report.stage for report in full}) > 1, "each time in the same place: choose other rooms"
        assert well.failures == []
        assert differences(world, calm.after[DAY]) == []


def test_a_read_only_disk_stops_the_run_with_a_sentence(tmp_path: Path, calm: Calm) -> None:
    """The whole home, then the lake alone; nothing is sent meanwhile, and once both can be written the day is made."""
    with receiving() as (receiver, clock):
        world = resume_from(calm.before[DAY], tmp_path / "world", receiver, clock)
        clock.now = morning_after(DAY)
        home, lake, well = on_a_disk(world, ["ro", "rw", "rw"], read_only={1: "home/lake"})
        assert len(home.failures) == len(lake.failures) == 1, (home.failures, lake.failures)
        assert "Read-only file system" in home.failures[0]
        assert "make the folder writable" in home.failures[0]
        assert "cannot be written (Read-only file system" in lake.failures[0]
        assert well.failures == []
        assert differences(world, calm.after[DAY]) == []


def allow(most: int) -> None:
    """Let this process write no file larger than so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def used(world: World) -> int:
    """Return the bytes of a disk that the world takes now."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in world.folder.rglob("*") if path.is_file())


def on_a_disk(world: World, steps: Sequence[str], read_only: Mapping[int, str] | None = None) -> list[Report]:
    """Run the day once on a disk of its own after each step, which is how it is mounted then; the world is on it, and afterwards as it was.

    ``read_only``: folders that cannot be written to in a step. Only the process that runs sees the disk.
    """
    reports = []
    work = order(world, DAY)
    work = replace(work, environment=work.environment | {"TMPDIR": str(world.folder.parent)})
    theirs, ours = [], []
    for _ in steps:
        mine, yours = Pipe(duplex=False)
        ours.append(mine)
        theirs.append(yours)
    call = pickle.dumps((_run_on_a_disk, work, world.folder, steps, read_only or {}))
    process = processes().Process(target=apart, args=(call, theirs))
    process.start()
    for wire in theirs:
        wire.close()
    for wire in ours:
        attempt = Attempt(process, wire)
        attempt.listen(120)
        reports.append(attempt.report)
    process.join(60)
    if process.exitcode == NOT_ALLOWED:
        pytest.skip("no disk can be mounted here: the tests of files that may not grow stand in for it")
    assert process.exitcode == 0
    shutil.rmtree(world.folder)
    world.folder.with_suffix(".after").rename(world.folder)
    return reports


def _run_on_a_disk(work: Order, folder: Path, steps: Sequence[str], read_only: Mapping[int, str], wires: Sequence[Connection]) -> None:
    before = folder.with_suffix(".before")
    shutil.copytree(folder, before)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    shutil.copytree(before, folder, dirs_exist_ok=True)
    for number, (options, wire) in enumerate(zip(steps, wires, strict=True)):
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
        if number in read_only:
            place = folder / read_only[number]
            subprocess.run(["mount", "--bind", place, place], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        carry_out(work, wire)
        wire.close()
        if number in read_only:
            subprocess.run(["umount", folder / read_only[number]], check=True)
    shutil.copytree(folder, folder.with_suffix(".after"))
