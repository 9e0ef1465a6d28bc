"""Which journeys the money of closed paths is put down to, in four ways that disagree; none of them proves anything (SPEC 13).

E. Anderl, I. Becker, F. von Wangenheim, J. H. Schumann: Mapping the customer journey. IJRM 33 (2016), 457-474 (the removal effect).

What belongs here: how credit is shared. What does not: which paths there are (``outcomes.paths``), what is proved
(``outcomes.estimate``).
"""

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import polars as pl

from atc_pipeline.outcomes.tables import ENTRY, JOURNEY_ATTRIBUTION, MODELS, SILENT, TO

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
    rows = paths.sort(pl.col("journeys").list.join("\n"))
    journeys = sorted(set(rows["journeys"].explode().drop_nulls()))
    place = {journey: number for number, journey in enumerate(journeys)}
    taken = [[place[journey] for journey in path] for path in rows["journeys"]]
    counts = {what: rows[what].to_numpy().astype(float) for what in ("taken", "conversions", "value")}
    effects = removal_effects(taken, counts["taken"], counts["conversions"], len(journeys))
    shares = {
        "first": _shared([{path[0]: 1.0} for path in taken], counts, len(journeys)),
        "last": _shared([{path[-1]: 1.0} for path in taken], counts, len(journeys)),
        "linear": _shared([_evenly(path) for path in taken], counts, len(journeys)),
        "markov": _by_effect(effects, counts, len(journeys)),
    }
    on = _shared([dict.fromkeys(path, 1.0) for path in taken], counts, len(journeys))
    columns = {f"{what}_{model}": shares[model][what] for what in ("conversions", "value") for model in MODELS}
    schema = {"journey_id": pl.String(), "paths": pl.Int64(), "conversions": pl.Int64(), "value": pl.Float64()}
    return pl.DataFrame(
        {
            "journey_id": journeys,
            "paths": on["taken"].astype(int),
            "conversions": on["conversions"].astype(int),
            "value": on["value"],
            **columns,
            "removal_effect": [None] * len(journeys) if effects is None else effects,
        },
        schema={**schema, **dict.fromkeys(columns, pl.Float64()), "removal_effect": pl.Float64()},
    )


def removal_effects(paths: Sequence[Sequence[int]], taken: np.ndarray, conversions: np.ndarray, journeys: int) -> np.ndarray | None:
    """Return ``1 - P(conversion without the journey) / P(conversion)`` of each, by a chain of first order; None without a conversion.

    ``start -> journeys -> conversion | null``. ``P`` is solved for: ``(I - Q) x = r``. Without a journey, what leads to it is lost.
    """
    start = journeys
    moves, reached = np.zeros((journeys + 1, journeys)), np.zeros(journeys + 1)
    left = np.zeros(journeys + 1)
    for path, times, converted in zip(paths, taken, conversions, strict=True):
        for origin, target in zip([start, *path[:-1]], path, strict=True):
            moves[origin, target] += times
        reached[path[-1]] += converted
        left[path[-1]] += times - converted
    out = moves.sum(axis=1) + reached + left
    known = np.where(out > 0, out, 1.0)
    moves, reached = moves / known[:, None], reached / known
    whole = _probability(moves, reached)
    if whole <= 0:
        return None
    effects = []
    for journey in range(journeys):
        without = moves.copy()
        without[:, journey] = 0.0
        effects.append(round(1 - _probability(without, reached) / whole, _DIGITS))
    return np.array(effects)


def _probability(moves: np.ndarray, reached: np.ndarray) -> float:
    """Return the probability of a conversion from the start: of the last row, which nothing leads to."""
    chances = np.linalg.solve(np.eye(len(moves) - 1) - moves[:-1], reached[:-1])
    return float(moves[-1] @ chances + reached[-1])


def _evenly(path: Sequence[int]) -> Mapping[int, float]:
    shares: dict[int, float] = {}
    for journey in path:
        shares[journey] = shares.get(journey, 0.0) + 1 / len(path)
    return shares


def _shared(shares: Sequence[Mapping[int, float]], counts: Mapping[str, np.ndarray], journeys: int) -> dict[str, np.ndarray]:
    """Add up what each journey gets of each path, in the order of paths."""
    sums = {what: np.zeros(journeys) for what in counts}
    for row, path in enumerate(shares):
        for journey, share in path.items():
            for what, values in counts.items():
                sums[what][journey] += share * values[row]
    return sums


def _by_effect(effects: np.ndarray | None, counts: Mapping[str, np.ndarray], journeys: int) -> dict[str, np.ndarray]:
    whole = np.zeros(journeys) if effects is None else effects / effects.sum()
    return {what: whole * values.sum() for what, values in counts.items()}
