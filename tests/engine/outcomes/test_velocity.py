"""Velocity against a textbook: after how many days how many have got there, where some are looked at before they could."""

import polars as pl
import pytest

from atc_pipeline.outcomes.velocity import curves, quartiles

CAME_BACK = [6, 6, 6, 7, 10, 13, 16, 22, 23]
STILL_WELL = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
FREIREICH = pl.DataFrame(
    {
        "group": ["6-MP"] * 21,
        "days": CAME_BACK + STILL_WELL,
        "converted": [1] * len(CAME_BACK) + [0] * len(STILL_WELL),
        "left": [0] * len(CAME_BACK) + [1] * len(STILL_WELL),
    }
)
"""Weeks of remission of the 21 patients who had 6-mercaptopurine (Freireich et al. 1963, as in Kalbfleisch and Prentice)."""


def test_the_curve_is_that_of_the_textbook() -> None:
    """Freireich's 6-MP arm: seven steps, four digits each (acceptance test 7)."""
    steps = curves(FREIREICH)
    assert steps["days"].to_list() == [6, 7, 10, 13, 16, 22, 23]
    assert steps["survival"].round(4).to_list() == [0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482]
    assert steps["at_risk"].to_list() == [21, 17, 15, 12, 11, 7, 6]


def test_the_median_is_where_the_curve_passes_one_half() -> None:
    """A quarter is there at 13; three quarters are never reached, and that is said as nothing, not as the last day."""
    assert quartiles(FREIREICH, ["group"]).rows(named=True) == [
        {"group": "6-MP", "lower_days": 13.0, "median_days": 23.0, "upper_days": None}
    ]


def test_a_curve_that_comes_down_to_one_half_is_there() -> None:
    """Of ten, five get there one by one: the product of five quotients is one half but for the last bits, and the fifth is the median."""
    days = pl.DataFrame({"group": "of ten", "days": [1, 2, 3, 4, 5, 9], "converted": [1, 1, 1, 1, 1, 0], "left": [0, 0, 0, 0, 0, 5]})
    assert quartiles(days, ["group"])["median_days"].to_list() == [5.0]


@pytest.mark.parametrize("copies", [1, 3])
def test_groups_are_curves_of_their_own(copies: int) -> None:
    """Whoever else is in the frame, in whatever order: a group of which nobody gets there has no quartile."""
    never = FREIREICH.with_columns(group=pl.lit("never"), left=pl.col("left") + pl.col("converted"), converted=pl.lit(0, pl.Int64()))
    both = pl.concat([never, FREIREICH] * copies).sample(fraction=1, shuffle=True, seed=7)
    assert quartiles(both, ["group"]).rows() == [("6-MP", 13.0, 23.0, None), ("never", None, None, None)]
