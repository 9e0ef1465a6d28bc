"""Every store keeps tables by day alike: the lake, memory, a scratch folder, and one laid over another."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.exceptions import ColumnNotFoundError
from polars.testing import assert_frame_equal

from atc_pipeline.tables.store import MissingDayError, Store, WrittenBy
from resources.storage.code import code_version
from resources.storage.lake import Lake
from resources.storage.memory import Memory
from resources.storage.overlay import Overlay
from resources.storage.scratch import scratch

FIRST = date(2026, 1, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]


def rows(day: date, **columns: object) -> pl.DataFrame:
    """Two customers' rows of a day."""
    return pl.DataFrame({"date": [day, day], "customer_id": ["a", "b"], **columns})


def lake(folder: Path, _opened: ExitStack) -> Store:
    """The lake."""
    return Lake(root=str(folder))


def memory(_folder: Path, _opened: ExitStack) -> Store:
    """Memory."""
    return Memory()


def folder_to_throw_away(_folder: Path, opened: ExitStack) -> Store:
    """A scratch folder."""
    return opened.enter_context(scratch())


def laid_over_nothing(_folder: Path, _opened: ExitStack) -> Store:
    """Memory over a store that has nothing."""
    return Overlay(Memory(), Memory())


def laid_over_other_days(folder: Path, _opened: ExitStack) -> Store:
    """Memory over a lake that has other rows of the same days."""
    below = Lake(root=str(folder))
    for day in DAYS[:2]:
        below.write("numbers", day, rows(day, number=[-1, -1]), {"made": "before"}, "p" * 12)
    return Overlay(below, Memory())


KINDS = (lake, memory, folder_to_throw_away, laid_over_nothing, laid_over_other_days)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store of each kind, with two days of a table in it."""
    kind: Callable[[Path, ExitStack], Store] = request.param
    with ExitStack() as opened:
        made = kind(tmp_path, opened)
        for number, day in enumerate(DAYS[:2]):
            frame = rows(day, number=[number, number + 10])
            made.write("numbers", day, frame if number else frame.lazy(), {"column": f"by {number}"}, "0123456789ab")
        yield made


def test_what_was_written_is_read(store: Store) -> None:
    """Days, rows, sizes, and what they were made by."""
    assert store.days("numbers") == DAYS[:2]
    assert [store.has("numbers", day) for day in DAYS] == [True, True, False]
    assert_frame_equal(store.lazy("numbers", DAYS[1]).collect(), rows(DAYS[1], number=[1, 11]))
    assert store.size("numbers", DAYS[0]) > 0
    assert store.definitions("numbers", DAYS[0]) == {"column": "by 0"}
    assert store.written_by("numbers", DAYS[1]) == WrittenBy("0123456789ab", code_version())
    assert store.days("nothing") == []


def test_a_day_is_replaced_whole(store: Store) -> None:
    """With what it was made by: nothing of the old one is left."""
    store.write("numbers", DAYS[0], rows(DAYS[0], other=["x", "y"]))
    assert store.lazy("numbers", DAYS[0]).collect().columns == ["date", "customer_id", "other"]
    assert store.definitions("numbers", DAYS[0]) == {}
    assert store.written_by("numbers", DAYS[0]).portfolio is None


def test_days_are_scanned_together_the_latest_first(store: Store) -> None:
    """The latest says which columns there are; an earlier one that lacks a column is an error, or has nulls in it."""
    assert store.scan("numbers", [DAYS[2]]) is None
    scanned = store.scan("numbers", DAYS)
    assert scanned is not None
    assert_frame_equal(scanned.collect(), pl.concat([rows(DAYS[1], number=[1, 11]), rows(DAYS[0], number=[0, 10])]))
    store.write("numbers", DAYS[2], rows(DAYS[2], number=[2, 12], more=[True, False]))
    filled = store.scan("numbers", DAYS, may_lack=True)
    strict = store.scan("numbers", DAYS)
    assert filled is not None
    assert strict is not None
    assert filled.select("more").collect()["more"].to_list() == [True, False, None, None, None, None]
    with pytest.raises(ColumnNotFoundError):
        strict.select("more").collect()


@pytest.mark.parametrize("read", ["lazy", "definitions", "written_by", "size"])
def test_a_day_that_is_not_there_is_named(store: Store, read: str) -> None:
    """With what to make first."""
    with pytest.raises(MissingDayError, match=f"numbers has no data for {DAYS[2]} in .*materialize numbers for {DAYS[2]} first"):
        getattr(store, read)("numbers", DAYS[2])


def test_what_is_laid_over_hides_and_leaves_alone_what_is_below(tmp_path: Path) -> None:
    """Days of both are scanned together; the store below has not a byte more."""
    below = Lake(root=str(tmp_path))
    for day in DAYS[:2]:
        below.write("numbers", day, rows(day, number=[1, 1]))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    over = Overlay(below, Memory())
    for day in DAYS[1:]:
        over.write("numbers", day, rows(day, number=[2, 2]))
    assert over.days("numbers") == DAYS
    scanned = over.scan("numbers", DAYS)
    assert scanned is not None
    assert scanned.collect()["number"].to_list() == [2, 2, 2, 2, 1, 1]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_scratch_folder_is_gone_when_its_block_ends() -> None:
    """Also after an exception."""
    folders = []

    def fail() -> None:
        with scratch() as store:
            store.write("numbers", FIRST, rows(FIRST))
            folders.append(Path(store.root))
            assert folders[0].exists()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not folders[0].exists()


def test_memory_may_forget_all_but_the_last_days() -> None:
    """Of a table that is not kept whole; what is forgotten is as if it had never been written."""
    store = Memory(days_kept=1, whole=["whole"])
    for day in DAYS:
        for table in ("numbers", "whole"):
            store.write(table, day, rows(day, number=[1, 2]))
    assert store.days("whole") == DAYS
    assert store.days("numbers") == DAYS[-2:]
    with pytest.raises(MissingDayError, match=f"numbers has no data for {DAYS[0]}"):
        store.lazy("numbers", DAYS[0])
