"""Which journeys the money of closed paths is put down to, in four ways that disagree; none of them proves anything (SPEC 13).

E. Anderl, I. Becker, F. von Wangenheim, J. H. Schumann: Mapping the customer journey. IJRM 33 (2016), 457-474 (the removal effect).

What belongs here: how credit is shared. What does not: which paths there are (``outcomes.paths``), what is proved
(``outcomes.estimate``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Self

import numpy as np
import polars as pl

from atc_pipeline.outcomes.tables import ENTRY, JOURNEY_ATTRIBUTION, MODELS, SILENT, TO

_CREDIT = [name for name in JOURNEY_ATTRIBUTION.schema if name != "date" and not name.startswith("proved")]
_DIGITS = 12
"""Of a removal effect: what a solver does in another order differs in the last bits."""


def attribute_closed(closed: pl.DataFrame, uplift: pl.DataFrame, money: str | None, *, today: date) -> pl.DataFrame:
    """One row per journey on a path that ever closed: its credit in four ways, and beside it what is proved.

    ``closed``: ``path_durations``; the silent path touches no journey. ``uplift``: the table of today, of which ``money`` is read.
    """
    touched = closed.filter((pl.col("counted_from") == ENTRY) & (pl.col("path") != SILENT))
    paths = (
        touched.sort("path", "days")
        .group_by("path", maintain_order=True)
        .agg(taken=pl.col("converted").sum() + pl.col("left").sum(), conversions=pl.col("converted").sum(), value=pl.col("value").sum())
        .with_columns(journeys=pl.col("path").str.split(TO))
    )
    is_whole = (pl.col("slice") == "all") & (pl.col("metric") == pl.lit(money, pl.String))
    proved = uplift.filter(is_whole).select("journey_id", proved="total", proved_low="total_low", proved_high="total_high")
    rows = attribute(paths).join(proved, on="journey_id", how="left", maintain_order="left")
    return rows.with_columns(pl.lit(today).alias("date")).select(*JOURNEY_ATTRIBUTION.schema).sort("journey_id")


def attribute(paths: pl.DataFrame) -> pl.DataFrame:
    """One row per journey: ``conversions_<model>`` and ``value_<model>`` of each of four models, and its ``removal_effect``.

    ``paths``: ``journeys`` (in order), how many times it was ``taken`` and closed, and of these the ``conversions`` and their ``value``.
    Each model's columns add up to the paths' conversions and value. Beside them, of all paths that a journey is on: ``paths``,
    ``conversions``, ``value``, which overlap. The removal effect is null while nothing was converted.
    """
    if paths.is_empty():
        return pl.DataFrame(schema={name: dtype for name, dtype in JOURNEY_ATTRIBUTION.schema.items() if name in _CREDIT})
    touched = _Touched.of(paths)
    effects = removal_effects(touched)
    shares = {
        "first": touched.shared(touched.rows[touched.is_first], touched.codes[touched.is_first]),
        "last": touched.shared(touched.rows[touched.is_last], touched.codes[touched.is_last]),
        "linear": touched.shared(touched.rows, touched.codes, 1 / touched.lengths),
        "markov": _by_effect(effects, touched),
    }
    on = touched.shared(*np.unique(np.stack([touched.rows, touched.codes]), axis=1))
    columns = {f"{what}_{model}": shares[model][what] for what in ("conversions", "value") for model in MODELS}
    return pl.DataFrame(
        {
            "journey_id": touched.journeys,
            "paths": on["taken"].astype(int),
            "conversions": on["conversions"].astype(int),
            "value": on["value"],
            **columns,
            "removal_effect": [None] * len(touched.journeys) if effects is None else effects,
        },
        schema={name: dtype for name, dtype in JOURNEY_ATTRIBUTION.schema.items() if name in _CREDIT},
    )


@dataclass(frozen=True, eq=False)
class _Touched:
    """The touches of paths, one after the other: the number of the path, and of the journey, of each."""

    journeys: list[str]
    rows: np.ndarray
    codes: np.ndarray
    counts: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, paths: pl.DataFrame) -> Self:
        """Number paths in their order, whatever order they come in, so that sums are the same."""
        sorted_paths = paths.sort(pl.col("journeys").list.join("\n"))
        touches = sorted_paths.with_row_index("row").select("row", "journeys").explode("journeys")
        journeys = touches["journeys"].unique().sort()
        codes = touches["journeys"].replace_strict(journeys, pl.int_range(len(journeys), eager=True), return_dtype=pl.Int64())
        counts = {what: sorted_paths[what].to_numpy().astype(float) for what in ("taken", "conversions", "value")}
        return cls(journeys.to_list(), touches["row"].to_numpy().astype(np.int64), codes.to_numpy(), counts)

    @property
    def is_first(self) -> np.ndarray:
        return np.asarray(np.diff(self.rows, prepend=-1) != 0)

    @property
    def is_last(self) -> np.ndarray:
        return np.asarray(np.diff(self.rows, append=-1) != 0)

    @property
    def lengths(self) -> np.ndarray:
        """Of the path of each touch."""
        return np.asarray(np.bincount(self.rows)[self.rows])

    def shared(self, rows: np.ndarray, codes: np.ndarray, share: np.ndarray | float = 1.0) -> dict[str, np.ndarray]:
        """Add up by journey what paths have, times the share of each touch, in their order."""
        return {what: np.bincount(codes, values[rows] * share, len(self.journeys)) for what, values in self.counts.items()}


def removal_effects(touched: _Touched) -> np.ndarray | None:
    """Return ``1 - P(conversion without the journey) / P(conversion)`` of each, by a chain of first order; None without a conversion.

    ``start -> journeys -> conversion | null``. ``P`` is solved for: ``(I - Q) x = r``. Without a journey, what leads to it is lost.
    """
    journeys = len(touched.journeys)
    origins = np.where(touched.is_first, journeys, np.roll(touched.codes, 1))
    taken, conversions = (touched.counts[what][touched.rows] for what in ("taken", "conversions"))
    moves = np.bincount(origins * journeys + touched.codes, taken, (journeys + 1) * journeys).reshape(journeys + 1, journeys)
    ends = touched.is_last
    reached, ended = (np.bincount(touched.codes[ends], of[ends], journeys + 1) for of in (conversions, taken))
    out = moves.sum(axis=1) + ended
    known = np.where(out > 0, out, 1.0)
    chance, arrives = moves / known[:, None], reached / known
    whole = _probability(chance, arrives)
    if whole <= 0:
        return None
    effects = []
    for journey in range(journeys):
        without = chance.copy()
        without[:, journey] = 0.0
        effects.append(round(1 - _probability(without, arrives) / whole, _DIGITS))
    return np.array(effects)


def _probability(moves: np.ndarray, reached: np.ndarray) -> float:
    """Return the probability of a conversion from the start: of the last row, which nothing leads to."""
    chances = np.linalg.solve(np.eye(len(moves) - 1) - moves[:-1], reached[:-1])
    return float(moves[-1] @ chances + reached[-1])


def _by_effect(effects: np.ndarray | None, touched: _Touched) -> dict[str, np.ndarray]:
    whole = np.zeros(len(touched.journeys)) if effects is None else effects / effects.sum()
    return {what: whole * values.sum() for what, values in touched.counts.items()}
