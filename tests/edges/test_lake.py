"""The lake's files: named as they are called, whole or refused; and which of them a run holds in memory."""

import os
import resource
import subprocess
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.days.rolling import Rolling
from atc_pipeline.tables.store import MissingDayError, window
from resources.storage import seal
from resources.storage.lake import DamagedFileError, Lake, UnwritableError

DAY = date(2026, 1, 1)


def test_a_window_that_grows_too_large_on_the_way_is_not_held_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run from the first day on begins with one small day; what is read stays the same, and is held again when it is small."""
    lake, first = Lake(root=str(tmp_path)), date(2026, 1, 1)
    for number, rows in enumerate((1, 1, 20_000, 1, 1, 1)):
        day = first + timedelta(days=number)
        lake.write(
            "numbers", day, pl.DataFrame({"date": pl.repeat(day, rows, eager=True), "n": pl.int_range(rows, eager=True).hash(number)})
        )
    monkeypatch.setattr(Rolling, "LARGEST_KEPT", lake.path("numbers", first + timedelta(days=2)).stat().st_size)
    rolling = Rolling(lake, "numbers", 2, {"date": pl.Date(), "n": pl.UInt64()}, since=first)
    heights, is_held = [], []
    for number in range(6):
        day = first + timedelta(days=number)
        heights.append(rolling.until(day).filter(pl.col("date") >= day - timedelta(days=2)).collect().height)
        is_held.append(rolling._kept is not None)
    assert heights == [1, 2, 20_002, 20_002, 20_002, 3]
    assert is_held == [True, True, False, False, False, True]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake in a folder whose name looks like a pattern, with three days of one table."""
    made = Lake(root=str(tmp_path / "lake [1]*"))
    for number in range(3):
        made.write("numbers", DAY + timedelta(days=number), frame(number))
    return made


def frame(number: int) -> pl.DataFrame:
    """A few rows of a day."""
    return pl.DataFrame({"date": [DAY + timedelta(days=number)] * 1000, "n": pl.int_range(1000, eager=True) * (number + 7919) % 1009})


def test_who_reads_while_a_day_is_replaced_has_the_day_as_it_was(lake: Lake) -> None:
    """Whoever has no turn reads one file to the end, whatever a run puts in its place meanwhile."""
    before = lake.lazy("numbers", DAY), lake.scan("numbers", lake.days("numbers"))
    lake.write("numbers", DAY, frame(6).head(10).with_columns(more=pl.lit("other columns")))
    assert before[0].collect().equals(frame(0))
    assert before[1] is not None
    assert before[1].sort("date", "n").collect().equals(pl.concat(frame(number) for number in range(3)).sort("date", "n"))
    assert lake.read("numbers", DAY).height == 10


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(lake: Lake) -> None:
    """Brackets and stars in the path are letters; a neighbour that the pattern would find is not read."""
    Lake(root=lake.root.replace("[1]*", "1x")).write("numbers", DAY, frame(5))
    days = lake.days("numbers")
    assert lake.read("numbers", DAY).equals(frame(0))
    assert lake.lazy("numbers", DAY).collect().equals(frame(0))
    found = lake.scan("numbers", days)
    assert found is not None
    assert found.collect().height == 3000
    assert lake.rows("numbers", DAY) == 1000


def test_a_changed_bit_anywhere_is_named_before_it_is_read(lake: Lake) -> None:
    """Polars gives other values for most of these in silence; the seal tells each, and a file cut short."""
    path = lake.path("numbers", DAY)
    whole = path.read_bytes()
    damaged = [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in range(0, len(whole), 37)]
    for broken in (*damaged, whole[:-1], whole[: len(whole) // 2], b""):
        path.write_bytes(broken)
        for read in (lake.read, lake.lazy):
            with pytest.raises(DamagedFileError, match=rf"damaged \(.+\)\. Materialize numbers for {DAY} again"):
                read("numbers", DAY)
        with pytest.raises(DamagedFileError):
            lake.scan("numbers", [DAY])
    path.write_bytes(whole)
    assert lake.read("numbers", DAY).equals(frame(0))


def test_the_same_rows_are_the_same_bytes_and_others_are_another_version(tmp_path: Path) -> None:
    """The seal depends on nothing but what is in the file; rows taken out leave the version, and the seal holds."""
    lakes = [Lake(root=str(tmp_path / name)) for name in ("a", "b")]
    for each in lakes:
        each.write("numbers", DAY, frame(0).lazy(), {"made": "by"})
    assert lakes[0].path("numbers", DAY).read_bytes() == lakes[1].path("numbers", DAY).read_bytes()
    version = lakes[0].version("numbers", DAY)
    lakes[1].write("numbers", DAY, frame(1), {"made": "by"})
    assert lakes[1].version("numbers", DAY) != version
    path = lakes[0].path("numbers", DAY)
    told = {key: text for key, text in pl.read_parquet_metadata(path).items() if key != "ARROW:schema"}
    frame(0).head(10).write_parquet(path, metadata=told)
    with pytest.raises(DamagedFileError):
        lakes[0].read("numbers", DAY)
    seal.lay(path)
    assert lakes[0].read("numbers", DAY).height == 10
    assert lakes[0].version("numbers", DAY) == version


def test_what_killed_processes_were_writing_is_tidied_by_the_next(lake: Lake) -> None:
    """A file of a process that is gone is removed, one of a living process and others' files stay."""
    folder = lake.path("numbers", DAY).parent
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name in (f".part.parquet.{gone.pid}", f".part.parquet.{os.getppid()}", "notes.txt"):
        (folder / name).write_text("")
    lake.write("numbers", DAY, frame(0))
    assert {path.name for path in folder.iterdir()} == {"part.parquet", f".part.parquet.{os.getppid()}", "notes.txt"}


@pytest.mark.parametrize("is_lazy", [False, True])
def test_a_full_disk_is_named_and_the_day_stays_as_it_was(lake: Lake, is_lazy: bool) -> None:
    """No file may grow beyond a kilobyte: the old day is there, nothing is left behind, and the message says what to do."""
    before = lake.path("numbers", DAY).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(UnwritableError, match=r"part\.parquet: cannot be written \(.+\)\. Is the disk full"):
            lake.write("numbers", DAY, frame(1).lazy() if is_lazy else frame(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert lake.path("numbers", DAY).read_bytes() == before
    assert len(list(lake.path("numbers", DAY).parent.iterdir())) == 1


def test_a_window_refuses_a_hole_but_not_what_was_before_the_first_day(lake: Lake) -> None:
    """Days before the lake begins are no holes; one that is missing is named."""
    last = DAY + timedelta(days=2)
    before = [DAY + timedelta(days=number) for number in (-1, 0, 1)]
    found = window(lake, "numbers", before, DAY)
    assert found is not None
    assert found.collect().height == 2000
    assert window(lake, "numbers", before[:1], DAY) is None
    lake.path("numbers", before[2]).unlink()
    with pytest.raises(MissingDayError, match=f"numbers has no data for {before[2]}"):
        window(lake, "numbers", before, DAY)
    with pytest.raises(MissingDayError, match=f"numbers has no data for {before[2]}"):
        Rolling(lake, "numbers", 5, {"n": pl.Int64()}, since=DAY).until(last)


@pytest.mark.parametrize("is_lazy", [False, True])
def test_a_disk_that_is_full_at_any_byte_is_told_as_such(tmp_path: Path, *, is_lazy: bool) -> None:
    """Also when there is room for all the columns and not for the footer, where Polars does not pass on what the system said."""
    lake = Lake(root=str(tmp_path))
    wide = pl.DataFrame({f"column_{number}": [number] for number in range(300)})
    lake.write("wide", DAY, wide)
    path = lake.path("wide", DAY)
    whole = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in range(0, len(whole), len(whole) // 40):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        try:
            with pytest.raises(UnwritableError, match="Is the disk full"):
                lake.write("wide", DAY, wide.lazy() if is_lazy else wide)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == whole
    assert [left.name for left in path.parent.iterdir()] == [path.name]
