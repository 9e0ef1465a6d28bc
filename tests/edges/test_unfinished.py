"""What killed processes leave behind: the next one to write there removes it, and never what a living process is writing."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.identity.erasure import Person
from resources.channels.files import FileChannel
from resources.delivery.ledger import Ledger
from resources.erasure.erasing import NotErasedError, erase, search
from resources.erasure.tombstones import Tombstones
from resources.erasure.traces import keepers
from resources.storage.files import replacing
from resources.storage.lake import Lake
from resources.storage.landing import LandingZone
from resources.storage.outbox import Outbox
from resources.storage.spill import Spill
from resources.storage.warehouse import Warehouse

DAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
ANN = Person(frozenset({"ann"}))


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def message() -> pl.DataFrame:
    """One message to somebody else, as channels and the ledger take it."""
    texts = ("idempotency_key", "customer_id", "journey_id", "channel", "content", "variant", "decision")
    return pl.DataFrame({name: ["bob"] for name in texts}).with_columns(date=DAY, step_day=pl.lit(1), send_at=pl.lit(NOON))


def erase_ann(home: Path) -> None:
    """Erase somebody from what is in this home."""

    def every() -> list[object]:
        return list(
            keepers(Lake(root=f"{home}/lake"), LandingZone(root=f"{home}/landing"), Outbox(home / "outbox"), Ledger(home=str(home)))
        )

    found = search(every(), ANN)  # type: ignore[arg-type]  # a list of Keepers
    erase(ANN, every, found, Tombstones(home=str(home)), reference="", ours=[], now=lambda: NOON)  # type: ignore[arg-type]


def lay_tombstone(home: Path) -> None:
    """Write down an erasure."""
    Tombstones(home=str(home)).lay(ANN.fingerprints, reference="", at=NOON, rows={})


def forget(home: Path) -> None:
    """Write the ledger anew."""
    ledger = Ledger(home=str(home))
    ledger.claim(message(), NOON)
    ledger.forget(["ann"])


def replace(home: Path) -> None:
    """Write a landing file anew."""
    landed = home / "landing" / str(DAY) / "a.ndjson"
    landed.parent.mkdir(parents=True, exist_ok=True)
    landed.write_text("{}\n")
    with LandingZone(root=f"{home}/landing").rewriting(landed) as anew:
        anew.write_text("\n")


def send(home: Path) -> None:
    """Write a message into the outbox."""
    FileChannel(Outbox(home / "outbox")).send(message())


def write_day(home: Path) -> None:
    """Write a day of a table."""
    Lake(root=f"{home}/lake").write("raw_events", DAY, pl.DataFrame({"user_id": ["bob"]}))


PLACES: list[tuple[str, Callable[[Path], object]]] = [
    (".atc.duckdb.{pid}", lambda home: Warehouse(home=str(home), lake=f"{home}/lake").publish()),
    (".atc.duckdb.{pid}.wal", lambda home: Warehouse(home=str(home), lake=f"{home}/lake").publish()),
    (".ledger.duckdb.{pid}", forget),
    (".ledger.duckdb.{pid}.wal", forget),
    ("tombstones/.of-another.json.{pid}", lay_tombstone),
    (f"landing/{DAY}/.replaced.json.{{pid}}", replace),
    (f"lake/raw_events/date={DAY}/.part.parquet.{{pid}}", write_day),
    (f"lake/raw_events/date={DAY}/.part.parquet.erasing.{{pid}}", write_day),
    (f"outbox/date={DAY}/.another.ndjson.{{pid}}", send),
    ("lake/segment_matrix/.picture.svg.{pid}", lambda home: Lake(root=f"{home}/lake").put("segment_matrix", "picture.svg", "")),
    (f"lake.origins/.{DAY}.json.{{pid}}", lambda home: Lake(root=f"{home}/lake").origins.note(DAY, {}, [], None, 2)),
]


@pytest.mark.parametrize(("name", "write"), PLACES)
def test_the_next_to_write_removes_what_a_killed_process_has_left(
    tmp_path: Path, dead: int, name: str, write: Callable[[Path], object]
) -> None:
    """Of a process that is gone; the file of one that lives stays, and is whole."""
    left, living = (tmp_path / name.format(pid=pid) for pid in (dead, os.getppid()))
    for path in (left, living):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half a file")
    write(tmp_path)
    assert not left.exists()
    assert living.read_text() == "half a file"


@pytest.mark.parametrize("write", [lay_tombstone, forget, replace, send])
def test_what_cannot_be_made_again_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object]
) -> None:
    """Tombstones, the ledger, landing files and the outbox: the bytes, then the name, then the folder that has the name."""
    steps, flush, rename = list[tuple[str, int]](), os.fsync, Path.replace

    def flushing(file: int) -> None:
        steps.append(("flush", os.fstat(file).st_ino))
        flush(file)

    def renaming(path: Path, target: Path) -> Path:
        steps.append(("rename", path.stat().st_ino))
        folders.append(path.parent.stat().st_ino)
        return rename(path, target)

    folders: list[int] = []
    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(Path, "replace", renaming)
    write(tmp_path)
    renamed = [at for at, (step, _) in enumerate(steps) if step == "rename"]
    assert renamed
    for at, folder in zip(renamed, folders, strict=True):
        assert (steps[at - 1], steps[at + 1]) == (("flush", steps[at][1]), ("flush", folder))


def test_the_next_erasure_removes_what_killed_ones_have_left(tmp_path: Path, dead: int) -> None:
    """In the lake, the landing zone, the outbox and the home itself; while a living process writes there, nothing is removed."""
    lake = Lake(root=f"{tmp_path}/lake")
    lake.write("raw_events", DAY, pl.DataFrame({"user_id": ["ann", "bob"]}))
    (tmp_path / "landing" / str(DAY)).mkdir(parents=True)
    (tmp_path / "outbox" / f"date={DAY}").mkdir(parents=True)
    places = (
        f"lake/raw_events/date={DAY}/.part.parquet.erasing",
        f"lake/raw_events/date={DAY}/.part.parquet",
        "lake/segment_matrix/.picture.svg",
        f"landing/{DAY}/.a.ndjson.erasing",
        f"outbox/date={DAY}/.b.ndjson.erasing",
        ".ledger.duckdb",
    )
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{place}.{dead}").write_text("half a file of ann")
    living = tmp_path / f"{places[0]}.{os.getppid()}"
    living.write_text("half a file of ann")
    with pytest.raises(NotErasedError, match=r"Nothing was removed.*erasing\.\d+, which is being written"):
        erase_ann(tmp_path)
    assert (tmp_path / f"{places[1]}.{dead}").exists()
    living.unlink()
    erase_ann(tmp_path)
    assert [path for place in places for path in (tmp_path / place).parent.glob(".*.[0-9]*")] == []
    assert lake.read("raw_events", DAY)["user_id"].to_list() == ["bob"]


def test_what_a_killed_process_has_spilled_is_removed_by_the_next(tmp_path: Path) -> None:
    """The lock on its folder is gone with it."""
    (tmp_path / ".spill-killed").mkdir()
    (tmp_path / ".spill-killed" / "0.parquet").write_text("half a file")
    with Spill(tmp_path):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("problem", [OSError(5, "no disk"), KeyboardInterrupt()])
def test_what_is_broken_off_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, problem: BaseException) -> None:
    """By an error, or by whoever ends the run."""
    (tmp_path / "a.txt").write_text("old")

    def break_off() -> None:
        with replacing(tmp_path / "a.txt") as unfinished:
            unfinished.write_text("new")
            raise problem

    with pytest.raises(type(problem)):
        break_off()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


@pytest.mark.parametrize(("number", "status"), [(errno.EIO, "unknown"), (errno.EINVAL, "delivered")])
def test_a_message_that_may_not_outlive_a_power_cut_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: str
) -> None:
    """The folder cannot be flushed: the message is in the file, so it is not ``failed``; not every file system flushes folders."""
    flush = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    assert FileChannel(Outbox(tmp_path)).send(message())["status"].to_list() == [status]
    assert len(list(tmp_path.glob("*/*.ndjson"))) == 1


@pytest.mark.slow
def test_killed_for_real(tmp_path: Path) -> None:
    """A process that dies by SIGKILL at the rename leaves its file, and the next publication is alone in the folder again."""
    script = """
import os, signal, sys
from pathlib import Path
from resources.storage.warehouse import Warehouse
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Warehouse(home=sys.argv[1], lake=sys.argv[1]).publish()
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] != []
    Warehouse(home=str(tmp_path), lake=str(tmp_path)).publish()
    assert [path.name for path in tmp_path.iterdir()] == ["atc.duckdb"]
