"""Attribution: credit adds up to what there was, and the chain is solved as in the textbook."""

import polars as pl
import pytest

from atc_pipeline.outcomes.attribution import attribute
from atc_pipeline.outcomes.tables import MODELS

ANDERL = [(["C1", "C2", "C3"], 1, 1, 10.0), (["C1"], 1, 0, 0.0), (["C2", "C3"], 1, 0, 0.0)]
SCHEMA = {"journeys": pl.List(pl.String()), "taken": pl.Int64(), "conversions": pl.Int64(), "value": pl.Float64()}


def table(rows: list[tuple[list[str], int, int, float]]) -> pl.DataFrame:
    """Return paths as a frame."""
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_the_chain_is_that_of_the_textbook() -> None:
    """C1 > C2 > C3 converts, C1 and C2 > C3 do not: removal 0.5, 1, 1 and credit 0.2, 0.4, 0.4 (acceptance test 6)."""
    credit = attribute(table(ANDERL))
    assert credit["journey_id"].to_list() == ["C1", "C2", "C3"]
    assert credit["removal_effect"].to_list() == pytest.approx([0.5, 1, 1])
    assert credit["conversions_markov"].to_list() == pytest.approx([0.2, 0.4, 0.4])
    assert credit["value_markov"].to_list() == pytest.approx([2, 4, 4])


def test_first_last_and_linear_are_what_they_are_called() -> None:
    """A journey that is on a path twice has two of its shares."""
    credit = attribute(table([(["a", "b", "a", "c"], 3, 2, 8.0)]))
    assert credit["conversions_first"].to_list() == [2, 0, 0]
    assert credit["conversions_last"].to_list() == [0, 0, 2]
    assert credit["value_linear"].to_list() == [4, 2, 2]
    assert credit.select("journey_id", "paths", "conversions", "value").rows() == [("a", 3, 2, 8.0), ("b", 3, 2, 8.0), ("c", 3, 2, 8.0)]


@pytest.mark.parametrize("seed", range(5))
def test_every_model_adds_up_to_what_there_was(seed: int) -> None:
    """Drawn paths with re-entries: conversions and money of each model are those of the paths, whatever the order of rows."""
    lengths = pl.Series(range(40)).sample(40, with_replacement=True, seed=seed) % 5 + 1
    names = pl.Series(["a", "b", "c", "d"]).sample(200, with_replacement=True, seed=seed)
    paths = [names[at : at + length].to_list() for at, length in zip(range(0, 160, 4), lengths, strict=True)]
    rows = [(path, 3 + number % 4, number % 3, 1.25 * (number % 3)) for number, path in enumerate(paths)]
    credit = attribute(table(rows))
    for model in MODELS:
        assert credit[f"conversions_{model}"].sum() == pytest.approx(sum(row[2] for row in rows))
        assert credit[f"value_{model}"].sum() == pytest.approx(sum(row[3] for row in rows))
    assert attribute(table(rows[::-1])).equals(credit)
    assert credit["removal_effect"].is_between(0, 1).all()


def test_nothing_is_removed_from_nothing() -> None:
    """Without a conversion there is no effect to take a journey out of; without a path there is no journey."""
    credit = attribute(table([(["a", "b"], 4, 0, 0.0)]))
    assert credit["removal_effect"].to_list() == [None, None]
    assert credit["conversions_markov"].to_list() == [0, 0]
    assert attribute(table([])).is_empty()
