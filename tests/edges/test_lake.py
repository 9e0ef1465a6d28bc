"""The lake's files: which of them a run that goes through days holds in memory."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from resources.lake import Lake, Rolling


def test_a_window_that_grows_too_large_on_the_way_is_not_held_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run from the first day on begins with one small day; what is read stays the same, and is held again when it is small."""
    lake, first = Lake(root=str(tmp_path)), date(2026, 1, 1)
    for number, rows in enumerate((1, 1, 20_000, 1, 1, 1)):
        day = first + timedelta(days=number)
        lake.write(
            "numbers", day, pl.DataFrame({"date": pl.repeat(day, rows, eager=True), "n": pl.int_range(rows, eager=True).hash(number)})
        )
    monkeypatch.setattr(Rolling, "LARGEST_KEPT", lake.path("numbers", first + timedelta(days=2)).stat().st_size)
    rolling = Rolling(lake, "numbers", 2, ["date", "n"], since=first)
    heights, is_held = [], []
    for number in range(6):
        day = first + timedelta(days=number)
        heights.append(rolling.until(day).filter(pl.col("date") >= day - timedelta(days=2)).collect().height)
        is_held.append(rolling._kept is not None)
    assert heights == [1, 2, 20_002, 20_002, 20_002, 3]
    assert is_held == [True, True, False, False, False, True]
