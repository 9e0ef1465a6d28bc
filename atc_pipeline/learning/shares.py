"""Shares of variants that adapt: new entries go where more came of it, and never to one alone (SPEC 11).

What belongs here: the probability of being best, the floor under each, when shares are drawn anew, and their rows in ``goal_models``. What
does not: the lots (``decision.arms``), which outcomes there are (``days.learning``), comparing variants (``outcomes``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from atc_pipeline.journeys.portfolio import Journey, Portfolio, Share
from atc_pipeline.learning.basis import Floats
from atc_pipeline.learning.tables import GOAL_MODELS, JOURNEY

REFIT_DAYS = 7
"""After so many days shares are drawn anew, where learning does not say (``refit_days``)."""
FLOOR = 0.1
"""Of an equal share, what each variant keeps."""
FINEST = 10_000
"""Shares are whole parts of so many: as many buckets as there are."""
NODES, WIDTH = 4_001, 8.0
"""Points at which the probability of being best is added up, of each variant over so many standard errors to either side."""
NAME = "share:"
TRIED = pl.Schema({"journey_id": pl.String(), "variant": pl.String(), "shares_since": pl.Date(), "value": pl.Float64()})
"""One row per mature first entry that was treated: what came of its variant, and since when it had been drawn by the shares it was."""


@dataclass(frozen=True)
class InForce:
    """The shares by which a journey's variants are drawn today, since when, and of how many entries they were made."""

    shares: tuple[Share, ...]
    since: date
    entries: int


def shares_for_day(
    yesterday: pl.DataFrame | None, tried: Callable[[Sequence[str]], pl.DataFrame], portfolio: Portfolio, *, today: date
) -> Mapping[str, InForce]:
    """Return the shares of journeys whose variants adapt, and have adapted; of others ``journeys.yaml`` says them.

    ``yesterday``: rows of ``goal_models``. ``tried``: returns ``TRIED`` of these journeys, of what had matured the day before.
    """
    adapting = {journey.id: journey for journey in portfolio.journeys if journey.adapt and journey.variants}
    kept = {} if yesterday is None else _read(yesterday, adapting)
    every = portfolio.learning.refit_days if portfolio.learning is not None else REFIT_DAYS
    due = [id_ for id_ in adapting if id_ not in kept or today - kept[id_].since >= timedelta(days=every)]
    if not due:
        return kept
    rows = tried(due)
    for id_ in due:
        theirs = rows.filter(pl.col("journey_id") == id_)
        drawn = adapted([variant.id for variant in adapting[id_].variants], theirs)
        if drawn is not None:
            kept[id_] = InForce(drawn, today, theirs.height)
    return kept


def adapted(variants: Sequence[str], tried: pl.DataFrame) -> tuple[Share, ...] | None:
    """Return the shares that what came of it asks for; None while one of the variants has not been tried twice beside the others.

    Entries that were drawn by other shares are another stratum: shares move with the seasons, and so does what comes of entries.
    """
    strata = (
        tried.filter(pl.col("variant").is_in(variants))
        .group_by("shares_since", "variant")
        .agg(number=pl.len(), mean=pl.col("value").sort().mean(), variance=pl.col("value").sort().var())
    )
    # The spread of all variants together: of few entries of a rare goal one alone has often none, and would be taken for certain.
    squares = (pl.col("variance") * (pl.col("number") - 1)).sum() / (pl.col("number") - 1).sum()
    whole = strata.filter(pl.col("number").min().over("shares_since") > 1, pl.len().over("shares_since") == len(variants))
    if whole.is_empty():
        return None
    weight = pl.col("number").sum().over("shares_since") / pl.col("number").sum()
    means = (
        whole.with_columns(weight=weight, variance=squares.over("shares_since"))
        .sort("shares_since", "variant")
        .group_by("variant", maintain_order=True)
        .agg(
            mean=(pl.col("mean") * pl.col("weight")).sum(),
            error=(pl.col("weight").pow(2) * pl.col("variance") / pl.col("number")).sum().sqrt(),
        )
    )
    known = {name: (mean, error) for name, mean, error in means.iter_rows()}
    best = best_of(np.array([known[name][0] for name in variants]), np.array([known[name][1] for name in variants]))
    return tuple(Share(name, share) for name, share in zip(variants, floored(best), strict=True))


def best_of(means: Floats, errors: Floats) -> Floats:
    """Return the probability that each is the largest, of normal ones with these means and errors, by quadrature."""
    from scipy.special import ndtr  # noqa: PLC0415  # see purchases: slow, for what is done once in refit_days

    least = float(np.abs(means).max(initial=0.0)) * 1e-9 + 1e-300
    errors = np.maximum(errors, least)
    at = np.unique(np.linspace(means - WIDTH * errors, means + WIDTH * errors, NODES))  # however much narrower one is than another
    below = ndtr((at[:, None] - means) / errors)
    steps = np.diff(below, axis=0)  # how likely each lies between two points: exact, however narrow it is
    middle = (below[1:] + below[:-1]) / 2
    chances = np.array([float((steps[:, place] * np.delete(middle, place, axis=1).prod(axis=1)).sum()) for place in range(len(means))])
    total = float(chances.sum())
    return chances / total if total > 0 else np.full(len(means), 1 / len(means))


def floored(best: Floats) -> list[float]:
    """Return shares in proportion, none below the floor, in whole parts of ``FINEST`` that add up to 1."""
    floor = FLOOR / len(best)
    shares = np.maximum(best / best.sum(), floor)
    for _ in range(len(best)):
        is_low = shares <= floor
        left = 1 - floor * is_low.sum()
        high = float(best[~is_low].sum())
        shares = np.where(is_low, floor, np.maximum(best / high * left, floor) if high > 0 else floor)
    parts = np.maximum(np.floor(shares / shares.sum() * FINEST + 1e-9), np.ceil(floor * FINEST - 1e-9)).astype(int)
    most = int(np.argmax(shares))
    parts[most] += FINEST - int(parts.sum())
    return [part / FINEST for part in parts.tolist()]


def rows_of(in_force: Mapping[str, InForce], today: date) -> pl.DataFrame:
    """Write shares as rows of ``goal_models``."""
    rows = [
        {"date": today, "part": JOURNEY, "journey_id": id_, "name": f"{NAME}{share.id}", "value": share.share, "fitted_on": of.since}
        | {"trained_to": of.since - timedelta(days=1), "entries": of.entries, "goals": 0, "controls": 0}
        for id_, of in sorted(in_force.items())
        for share in of.shares
    ]
    return pl.DataFrame(rows, schema=GOAL_MODELS.schema)


def _read(rows: pl.DataFrame, adapting: Mapping[str, Journey]) -> dict[str, InForce]:
    """Read the shares of a day; of a journey whose variants are others by now there are none."""
    kept = {}
    named = rows.filter((pl.col("part") == JOURNEY) & pl.col("name").str.starts_with(NAME))
    for (journey_id,), theirs in named.group_by("journey_id", maintain_order=True):
        journey = adapting.get(str(journey_id))
        shares = {name.removeprefix(NAME): value for name, value in theirs.select("name", "value").iter_rows()}
        if journey is not None and {variant.id for variant in journey.variants} == set(shares):
            in_order = tuple(Share(variant.id, shares[variant.id]) for variant in journey.variants)
            kept[journey.id] = InForce(in_order, theirs["fitted_on"][0], theirs["entries"][0])
    return kept
