"""Movement: how far customers get in a journey, where they drop out, and what else they could have had (SPEC 13).

Everything is counted on the day it happens and carried on: who is in a journey on a day of it either stays or ends that day, so that
nobody has to be waited for.

What belongs here: counting by day of the journey, of entries and by arm. What does not: paths through several (``outcomes.paths``),
what is proved (``outcomes.estimate``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from atc_pipeline.journeys.portfolio import NONE, RESPONSES, Portfolio
from atc_pipeline.outcomes.tables import JOURNEY_ALTERNATIVES, JOURNEY_DESCRIBED, JOURNEY_MOVEMENT, JOURNEY_SATISFACTION, columns_of
from atc_pipeline.rules.arms import CONTROL, POLICY, TREATED
from atc_pipeline.rules.numbers import MICRO, quotient

ENDINGS = {
    "converted": "converted",
    "exited": "exited",
    "withdrawn": "exited",
    "interrupted": "interrupted",
    "merged": "interrupted",
    "completed": "completed",
}
"""Under what an ending is counted, by its reason."""
LOSSES = ("exited", "interrupted", "unsubscribed")
"""Neither the goal nor the end of the journey explains them."""
FEWEST = 20
"""Customers on a day of a journey, below which it is not looked at for the largest loss."""
APART = 0.001
"""How unlikely different shares of who answers must be for averages not to be compared."""

_AT = ("journey_id", "day_index")
_ENDED = list(dict.fromkeys(ENDINGS.values()))
_COUNTED = [column.name for column in JOURNEY_MOVEMENT.columns if column.dtype == pl.Int64() and column.name not in _AT]


@dataclass(frozen=True, eq=False)
class Moves:
    """What a day adds, of customers as they are known on it.

    ``present``: ``journey_id, entered_on, arm``, of everybody in a journey when the day began, and of the day's entries. ``endings``:
    ``customer_id, journey_id, entered_on, arm, ended_reason``, of the day. ``refused``: ``customer_id, journey_id, entered_on, arm``, of
    whoever is in a journey and said no on one of its channels. ``messages``: ``journey_id, day_index, sent, responded``, of delivered
    messages whose days for responses are over. ``watched``: ``journey_id, day_index, arm, is_advanced``, of first entries that were in
    it on a day after which the goal's days are over.
    """

    present: pl.LazyFrame
    endings: pl.DataFrame
    refused: pl.DataFrame
    messages: pl.DataFrame
    watched: pl.DataFrame


def count_moves(yesterday: pl.DataFrame | None, moves: Moves, *, today: date) -> pl.DataFrame:
    """One row per journey and day of it, of all days so far: those of yesterday, and what today adds."""
    present = moves.present.filter(pl.col("arm") == TREATED).group_by(*_reached(today)).agg(at_risk=pl.len()).collect()
    ended = moves.endings.filter(pl.col("arm") == TREATED)
    spell = ["customer_id", "journey_id", "entered_on"]
    refused = moves.refused.filter(pl.col("arm") == TREATED).unique(spell).join(ended, on=spell, how="anti")
    counted = [
        present,
        ended.group_by(*_reached(today)).agg(
            (pl.col("ended_reason").replace_strict(ENDINGS, return_dtype=pl.String()) == name).sum().alias(name) for name in _ENDED
        ),
        refused.group_by(*_reached(today)).agg(unsubscribed=pl.len()),
        moves.messages.select(*_AT, "sent", "responded"),
        moves.watched.group_by(*_AT).agg(
            of.cast(pl.Int64).sum().alias(f"{what}_{arm}")
            for arm in (TREATED, CONTROL)
            for what, of in (
                ("watched", pl.col("arm") == arm),
                ("advanced", (pl.col("arm") == arm) & pl.col("is_advanced")),
            )
        ),
    ]
    rows = [frame.cast({name: pl.Int64() for name in frame.columns if name in _COUNTED}) for frame in counted]
    before = [] if yesterday is None else [yesterday.select(*_AT, *_COUNTED)]
    nothing = pl.DataFrame(schema={name: JOURNEY_MOVEMENT.schema[name] for name in (*_AT, *_COUNTED)})
    summed = pl.concat([nothing, *before, *rows], how="diagonal")
    counts = summed.group_by(*_AT).agg(pl.col(_COUNTED).fill_null(0).sum()).sort(_AT)
    stays = pl.when(pl.col("at_risk") > 0).then((1 - pl.sum_horizontal(_ENDED) / pl.col("at_risk")).clip(0, 1)).otherwise(1.0)
    return counts.with_columns(
        pl.lit(today).alias("date"),
        stays.cum_prod().over("journey_id").alias("survival"),
        *(
            pl.when(pl.col(f"watched_{arm}") > 0).then(pl.col(f"advanced_{arm}") / pl.col(f"watched_{arm}")).alias(f"advance_{arm}")
            for arm in (TREATED, CONTROL)
        ),
    ).select(*JOURNEY_MOVEMENT.schema)


def _reached(today: date) -> tuple[pl.Expr, pl.Expr]:
    """Which day of the journey today is."""
    return pl.col("journey_id"), ((pl.lit(today) - pl.col("entered_on")).dt.total_days() + 1).alias("day_index")


def dropped(moves: Moves, *, today: date) -> pl.DataFrame:
    """One row per treated customer and journey that was left today though neither the goal nor its end explains it.

    ``customer_id, journey_id, day_index``. Who says no and stays has not left, and nobody has whose journey was withdrawn, or who merged.
    """
    is_lost = pl.col("ended_reason").is_in(["exited", "interrupted"])
    lost = moves.endings.filter((pl.col("arm") == TREATED) & is_lost)
    return lost.select("customer_id", *_reached(today)).unique(["customer_id", "journey_id"])


def count_alternatives(yesterday: pl.DataFrame | None, lost: pl.DataFrame, candidates: pl.LazyFrame, *, today: date) -> pl.DataFrame:
    """One row per journey, day of it and journey that failed no gate for those who dropped out of it then: of all days so far.

    ``lost``: ``dropped``. ``candidates``: the options of the day.
    """
    could = candidates.filter((pl.col("failed_gates").list.len() == 0) & (pl.col("journey_id") != NONE))
    had = (
        could.select("customer_id", alternative="journey_id", is_taken=pl.col("ruling") == "chosen")
        .join(lost.lazy(), on="customer_id", how="inner")
        .filter(pl.col("alternative") != pl.col("journey_id"))
        .group_by(*_AT, "alternative")
        .agg(customers=pl.len().cast(pl.Int64), taken=pl.col("is_taken").sum().cast(pl.Int64))
        .collect()
    )
    names = [*JOURNEY_ALTERNATIVES.key, "customers", "taken"]
    return (
        pl.concat([frame.select(names) for frame in (*([] if yesterday is None else [yesterday]), had)])
        .group_by(JOURNEY_ALTERNATIVES.key)
        .agg(pl.col("customers", "taken").sum())
        .with_columns(pl.lit(today).alias("date"))
        .select(*JOURNEY_ALTERNATIVES.schema)
        .sort(JOURNEY_ALTERNATIVES.key)
    )


def describe_journeys(
    yesterday: pl.DataFrame | None, movement: pl.DataFrame, outcomes: pl.DataFrame, portfolio: Portfolio, *, today: date
) -> pl.DataFrame:
    """One row per journey: the day with the largest loss by ``movement``, and how many who were quiet came back.

    ``outcomes``: ``journey_outcomes`` of today. An order is seen by its money.
    """
    signs = [RESPONSES] if any(metric.id == RESPONSES for metric in portfolio.measured) else []
    signs += [portfolio.money] if portfolio.money is not None else []
    has_returned = pl.any_horizontal(pl.lit(value=False), *(pl.col(name) > 0 for name in signs))
    quiet = comparable(outcomes).filter("is_quiet")
    counts = ["quiet_treated", "quiet_control", "returned_treated", "returned_control"]
    counted = quiet.group_by("journey_id").agg(
        of.sum().cast(pl.Int64).alias(f"{what}_{arm}")
        for what, also in (("quiet", pl.lit(value=True)), ("returned", has_returned))
        for arm in (TREATED, CONTROL)
        for of in [(pl.col("arm") == arm) & also]
    )
    worst = worst_days(movement)
    known = pl.concat([frame.select("journey_id") for frame in (movement, counted)]).unique()
    rows = [known, counted, *([] if yesterday is None else [yesterday.select("journey_id", *counts)])]
    nothing = pl.DataFrame(schema={"journey_id": pl.String(), **dict.fromkeys(counts, pl.Int64())})
    return (
        pl.concat([nothing, *rows], how="diagonal")
        .group_by("journey_id")
        .agg(pl.col(counts).fill_null(0).sum())
        .join(worst, on="journey_id", how="left")
        .with_columns(pl.lit(today).alias("date"))
        .select(*JOURNEY_DESCRIBED.schema)
        .sort("journey_id")
    )


def worst_days(movement: pl.DataFrame) -> pl.DataFrame:
    """One row per journey with a loss: the day of it on which most of those who were in it were lost, for no reason of ours.

    Of days as bad as each other the first. A day with fewer than ``FEWEST`` in it is not looked at.
    """
    lost = pl.sum_horizontal(LOSSES)
    return (
        movement.select("journey_id", worst_day="day_index", worst_lost=lost, worst_at_risk="at_risk")
        .filter((pl.col("worst_at_risk") >= FEWEST) & (pl.col("worst_lost") > 0))
        .sort("journey_id", pl.col("worst_lost") / pl.col("worst_at_risk"), "worst_day", descending=[False, True, False])
        .unique("journey_id", keep="first", maintain_order=True)
    )


def comparable(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Keep first entries whose arms only the journey's own lot tells apart (SPEC 11)."""
    is_first = (pl.col("entry_number") == 1) & ~pl.col("contaminated")
    return outcomes.filter(is_first & (pl.col("held_out_by").is_null() | (pl.col("held_out_by") != POLICY)))


def describe_answers(yesterday: pl.DataFrame | None, outcomes: pl.DataFrame, portfolio: Portfolio, *, today: date) -> pl.DataFrame:
    """One row per journey and average: who answered what, by arm, of all that matured so far; ``outcomes``: of today.

    Where other shares of the arms answered than chance explains, their averages are of different people, and are not compared.
    """
    rows = comparable(outcomes)
    counted = [] if yesterday is None else [yesterday.select(*JOURNEY_SATISFACTION.key, *_answer_counts(), *_answer_sums())]
    for metric in portfolio.measured:
        if metric.kind == "avg":
            total, number = columns_of(metric)
            counted.append(_answers(rows, metric.id, total, number))
    nothing = pl.DataFrame(
        schema={name: JOURNEY_SATISFACTION.schema[name] for name in (*JOURNEY_SATISFACTION.key, *_answer_counts(), *_answer_sums())}
    )
    summed = (
        pl.concat([nothing, *counted])
        .group_by(JOURNEY_SATISFACTION.key)
        .agg(pl.col(_answer_counts()).sum(), *((pl.col(name) * MICRO).round().cast(pl.Int64).sum() for name in _answer_sums()))
        .with_columns(_in_units(_answer_sums()))
        .sort(JOURNEY_SATISFACTION.key)
    )
    of = ("answered_treated", "treated", "answered_control", "control")
    chances = [by_chance(*row) for row in summed.select(of).iter_rows()]
    return (
        summed.with_columns(
            pl.lit(today).alias("date"),
            pl.Series("answer_rate_p", chances, pl.Float64()),
            *(
                pl.when(pl.col(f"answers_{arm}") > 0).then(pl.col(f"sum_{arm}") / pl.col(f"answers_{arm}")).alias(f"average_{arm}")
                for arm in (TREATED, CONTROL)
            ),
        )
        .with_columns(not_comparable=(pl.col("answer_rate_p") < APART).fill_null(value=False))
        .select(*JOURNEY_SATISFACTION.schema)
    )


def _answer_counts() -> list[str]:
    return [name for arm in (TREATED, CONTROL) for name in (arm, f"answered_{arm}", f"answers_{arm}")]


def _answer_sums() -> list[str]:
    return [f"sum_{arm}" for arm in (TREATED, CONTROL)]


def _answers(rows: pl.DataFrame, metric: str, total: str, number: str) -> pl.DataFrame:
    """Count who answered by journey and arm."""
    micro = (pl.col(total) * MICRO).round().cast(pl.Int64)
    by_arm = [
        expression.alias(f"{name}{arm}")
        for arm in (TREATED, CONTROL)
        for is_arm in [pl.col("arm") == arm]
        for name, expression in (
            ("", is_arm.sum().cast(pl.Int64)),
            ("answered_", (is_arm & (pl.col(number) > 0)).sum().cast(pl.Int64)),
            ("answers_", pl.col(number).filter(is_arm).sum().round().cast(pl.Int64)),
            ("sum_", micro.filter(is_arm).sum()),
        )
    ]
    counted = rows.group_by("journey_id").agg(by_arm).with_columns(pl.lit(metric).alias("metric"), *_in_units(_answer_sums()))
    return counted.select(*JOURNEY_SATISFACTION.key, *_answer_counts(), *_answer_sums())


def _in_units(columns: Sequence[str]) -> Sequence[pl.Expr]:
    return [quotient(pl.col(name).cast(pl.Float64), MICRO).alias(name) for name in columns]


def by_chance(first: int, of_first: int, second: int, of_second: int) -> float | None:
    """Return how likely shares so different would be by chance: the two-sided test of two proportions; None where there is no share."""
    if not of_first or not of_second:
        return None
    pooled = (first + second) / (of_first + of_second)
    variance = pooled * (1 - pooled) * (1 / of_first + 1 / of_second)
    if not variance:
        return 1.0
    return math.erfc(abs(first / of_first - second / of_second) / math.sqrt(2 * variance))
