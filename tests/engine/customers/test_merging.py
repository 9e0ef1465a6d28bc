"""Rows merge to the same whatever their order and however they lie in frames, and groups without rows have nothing."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from atc_pipeline.customers.accumulators import Accumulator
from atc_pipeline.customers.merging import merged

SUM, WIDE = Accumulator("n", "add", pl.Int64()), Accumulator("w", "decay", pl.Int64())
LEAST, GREATEST = Accumulator("least", "least", pl.Date()), Accumulator("greatest", "greatest", pl.Int64())
FIRST, LAST = Accumulator("first", "earliest", pl.String()), Accumulator("last", "latest", pl.String())
TALLY = Accumulator("tally", "tally", pl.String())
ALL = (SUM, WIDE, LEAST, GREATEST, FIRST, LAST, TALLY)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SCHEMA = {"row": pl.UInt32(), **{name: dtype for accumulator in ALL for name, dtype in accumulator.columns().items()}}
SCHEMA |= {"tally": pl.String(), "w": pl.Int128()}


def row(number: int, place: int) -> dict[str, object]:
    """Make up a row of a group: words of the same moment, a sum of more than 64 bits."""
    word = {"at": NOON, "id": f"m{place}", "value": f"v{place}"}
    words = {f"{name}.{part}": value for name in ("first", "last") for part, value in word.items()}
    on = date(2026, 1, 1 + place)
    return {"row": number, "n": place, "w": 2**62, "least": on, "greatest": -place, **words, "tally": "ab"[place % 2]}


@pytest.mark.parametrize("seed", range(5))
def test_rows_merge_in_any_order(seed: int) -> None:
    """Words of one moment by their ids, tallies sorted, sums exact."""
    rows = [row(number, place) for number in (1, 3) for place in range(5)]
    rows = [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]
    frame = pl.DataFrame([*rows, {"row": 4}], schema=SCHEMA)
    parts = [frame.select("row", "w", "n"), frame[:4].drop("w", "n"), frame[4:].drop("w", "n")]
    whole = merged(parts, "row", 6, ALL)
    assert whole.height == 6
    tally = [{"value": "a", "n": 3}, {"value": "b", "n": 2}]
    full = (10, 5 * 2**62, date(2026, 1, 1), 0, NOON, "m0", "v0", NOON, "m4", "v4", tally)
    nothing = (0, 0, *[None] * 9)
    assert whole.rows() == [nothing, full, nothing, full, nothing, nothing]


def test_tallies_of_tallies_take_away_what_leaves() -> None:
    """A value of which nothing is left is not in it, and of a group without one there is none."""
    tallies = [[("b", 2), ("a", 1)], [("a", -1), ("b", 1)], [("c", 1)], [("c", -1)]]
    entries = [[{"value": value, "n": n} for value, n in tally] for tally in tallies]
    frame = pl.DataFrame({"row": [0, 0, 1, 1], "tally": entries}, schema={"row": pl.UInt32(), **TALLY.columns()})
    assert merged([frame], "row", 2, [TALLY])["tally"].to_list() == [[{"value": "b", "n": 3}], None]
