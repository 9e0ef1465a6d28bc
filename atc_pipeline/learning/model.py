"""The model of a day: fitted anew or carried forward, from what had matured the day before, and what it says of a customer (SPEC 12).

What belongs here: when to fit anew, which source a journey's probabilities have, the rows of ``goal_models``. What does not: the fit itself
(``fit``), which entries there are to learn from (``days``).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Protocol, Self

import numpy as np
import polars as pl

from atc_pipeline.journeys.portfolio import Learning, Portfolio
from atc_pipeline.learning.basis import KNOTS, Basis, Feature, Floats, Term, exactly, feature_of, rounded
from atc_pipeline.learning.fit import LEAST, MOST, FitError, Rows, fit, overall, rates
from atc_pipeline.learning.tables import BASIS, GOAL_MODELS, JOURNEY, QUALITY, SHARED
from atc_pipeline.rules.numbers import significant
from atc_pipeline.rules.probabilities import MODEL, PRIOR, RATES

TRAINING = {
    "entered_on": pl.Date(),
    "customer_id": pl.String(),
    "journey_id": pl.String(),
    "is_treated": pl.Boolean(),
    "goal": pl.Boolean(),
}
"""Columns of what is learned from, besides the features: one row per entry, by (entered_on, customer_id, journey_id)."""

DRIFTED = 3
"""Days in a row on which goals were not as expected, after which a journey's own rate is used until the next fit."""
OUTSIDE = "days_outside"
"""Under this name a row of ``quality`` says how many days in a row they were not."""


def counts_of(entries: pl.DataFrame) -> pl.DataFrame:
    """One row per journey of such entries: ``journey_id``, ``entries``, ``goals``, ``controls``."""
    return (
        entries.group_by("journey_id")
        .agg(
            entries=pl.len().cast(pl.Int64),
            goals=pl.col("goal").sum().cast(pl.Int64),
            controls=(~pl.col("is_treated")).sum().cast(pl.Int64),
        )
        .sort("journey_id")
    )


class History(Protocol):
    """What had matured by the day before, entered no longer ago than is learned from."""

    def counts(self) -> pl.DataFrame:
        """Count them by journey (``counts_of``)."""

    def rows(self) -> pl.DataFrame:
        """One row per entry, with the columns of ``TRAINING`` and the features, in order."""


@dataclass(frozen=True)
class Counted:
    """Entries that something was learned from, how many of them reached the goal, and how many were in control."""

    entries: int = 0
    goals: int = 0
    controls: int = 0


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of one journey, or by the id None of all: rates when treated and in control, and the model's coefficients."""

    counted: Counted
    rate: float
    baseline_rate: float
    coefficients: Floats | None = None


@dataclass(frozen=True)
class Moves:
    """What a feature adds to the logit of any journey's goal, beside what is usual: at values from its low end to its high one.

    ``points``: (value, what it adds); in between it goes straight, beyond the ends it stays. ``unknown``: what is added where there is no
    value; None if everybody had it.
    """

    feature: str
    points: tuple[tuple[float, float], ...]
    unknown: float | None

    @property
    def size(self) -> float:
        """Return how far apart the logits of two customers may be by it."""
        parts = [part for _, part in self.points] + ([] if self.unknown is None else [self.unknown])
        return max(parts) - min(parts)


@dataclass(frozen=True, eq=False)
class GoalModel:
    """What is known of goals on a day. ``known``: by journey; None is what all share, and there until something is known.

    ``wins``: the model foretold the latest fifth better than rates. ``outside``: by journey, on how many days in a row goals were not
    as expected.
    """

    known: Mapping[str | None, Known] = field(default_factory=dict)
    basis: Basis | None = None
    fitted_on: date | None = None
    trained_to: date | None = None
    penalty: float | None = None
    log_loss: float | None = None
    log_loss_rates: float | None = None
    wins: bool = False
    counted: Counted = Counted()
    outside: Mapping[str, int] = field(default_factory=dict)
    note: str | None = None

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Self:
        """Read the rows of a day of ``goal_models``."""
        shared = rows.filter(pl.col("part") == SHARED)
        if shared.is_empty():
            return cls()
        first = shared.row(0, named=True)
        values: dict[str | None, dict[str, float]] = {}
        counted: dict[str | None, Counted] = {}
        named = rows.filter(pl.col("part").is_in([SHARED, JOURNEY])).drop_nulls("value")
        named = named.filter(~pl.col("name").str.starts_with("share:"))  # of variants, which is another matter (``shares``)
        for (journey_id,), theirs in named.group_by("journey_id"):
            id_ = None if journey_id is None else str(journey_id)
            values[id_] = dict(theirs.select("name", "value").iter_rows())
            counted[id_] = Counted(*theirs.select("entries", "goals", "controls").row(0))
        basis = _basis_of(rows.filter(pl.col("part") == BASIS))
        known = {
            id_: Known(counted[id_], numbers["rate"], numbers["baseline_rate"], _coefficients_of(numbers, basis))
            for id_, numbers in values.items()
            if "rate" in numbers
        }
        outside = rows.filter((pl.col("part") == QUALITY) & (pl.col("name") == OUTSIDE)).select("journey_id", "value").iter_rows()
        return cls(
            known,
            basis,
            first["fitted_on"],
            first["trained_to"],
            first["lambda"],
            first["log_loss"],
            first["log_loss_rates"],
            first["source"] == MODEL,
            Counted(first["entries"], first["goals"], first["controls"]),
            {str(journey_id): int(days) for journey_id, days in outside},
            first["note"],
        )

    def rows(self, portfolio: Portfolio, today: date) -> pl.DataFrame:
        """Write the rows of the day."""
        ids = sorted({*(id_ for id_ in self.known if id_ is not None), *(journey.id for journey in portfolio.journeys)})
        rows: list[tuple[object, ...]] = []
        for name, value in self._basis_numbers().items():
            rows.append((BASIS, None, name, value, self.counted, None))
        general = self._general(portfolio)
        for name, value in (self._numbers(None) or {"g": None}).items():
            rows.append((SHARED, None, name, value, self.counted, general))
        for id_ in ids:
            numbers = self._numbers(id_) or {"a": None}
            counted = self.known[id_].counted if id_ in self.known else Counted()
            source = self.source(id_, portfolio)
            rows += [(JOURNEY, id_, name, value, counted, source) for name, value in numbers.items()]
        rows += [(QUALITY, id_, OUTSIDE, float(days), self.counted, None) for id_, days in sorted(self.outside.items())]
        return pl.DataFrame(
            {
                "date": [today] * len(rows),
                "part": [row[0] for row in rows],
                "journey_id": [row[1] for row in rows],
                "name": [row[2] for row in rows],
                "value": [row[3] for row in rows],
                "fitted_on": [self.fitted_on] * len(rows),
                "trained_to": [self.trained_to] * len(rows),
                **{name: [getattr(row[4], name) for row in rows] for name in ("entries", "goals", "controls")},
                "lambda": [self.penalty] * len(rows),
                "log_loss": [self.log_loss] * len(rows),
                "log_loss_rates": [self.log_loss_rates] * len(rows),
                "source": [row[5] for row in rows],
                "note": [self.note] * len(rows),
            },
            schema=GOAL_MODELS.schema,
        )

    def source(self, journey_id: str, portfolio: Portfolio) -> str:
        """Say where the probabilities of a journey come from."""
        journey = next((journey for journey in portfolio.journeys if journey.id == journey_id), None)
        if self._general(portfolio) == PRIOR or journey is None or journey.goal is None:
            return PRIOR
        known = self.known.get(journey_id)
        has_model = self.wins and known is not None and known.coefficients is not None and self.fits(portfolio)
        return MODEL if has_model and self.outside.get(journey_id, 0) < DRIFTED else RATES

    def moves(self) -> Sequence[Moves]:
        """Return what each feature does to the odds, as far as all journeys share it; what moves them most comes first."""
        shared = self.known[None].coefficients if None in self.known else None
        if self.basis is None or shared is None:
            return []
        weights = shared[1:-1] / self.basis.scales
        moves = []
        for feature in self.basis.features:
            places = [place for place, term in enumerate(self.basis.terms) if feature_of(term.name) == feature.name]
            if not places:
                continue
            shares = (0.0, *feature.knots, 1.0) if feature.high > feature.low else (0.0,)
            values = sorted({feature.low + share * (feature.high - feature.low) for share in shares})
            rows = {known.name: [known.low] * (len(values) + 1) for known in self.basis.features} | {feature.name: [*values, None]}
            terms = self.basis.matrix(pl.DataFrame(rows, schema=dict.fromkeys(rows, pl.Float64())))[:, places]
            parts = [float(part) for part in (terms - self.basis.means[places]) @ weights[places]]
            has_missing = any(self.basis.terms[place].name.endswith("?") for place in places)
            moves.append(Moves(feature.name, tuple(zip(values, parts[:-1], strict=True)), parts[-1] if has_missing else None))
        return sorted(moves, key=lambda move: (-move.size, move.feature))

    def fits(self, portfolio: Portfolio) -> bool:
        """Say whether all features of the model are still learned by."""
        features = portfolio.learning.features if portfolio.learning is not None else {}
        return self.basis is not None and all(feature.name in features for feature in self.basis.features)

    def _general(self, portfolio: Portfolio) -> str:
        least = portfolio.learning.min_goals if portfolio.learning is not None else 1
        if None not in self.known or self.counted.goals < least:
            return PRIOR
        return MODEL if self.wins else RATES

    def _basis_numbers(self) -> dict[str, float | None]:
        if self.basis is None:
            return {}
        numbers: dict[str, float | None] = {}
        for feature in self.basis.features:
            numbers |= {f"{feature.name}:low": feature.low, f"{feature.name}:high": feature.high}
            numbers |= {f"{feature.name}:{percentile}": knot for percentile, knot in zip(KNOTS, feature.knots, strict=False)}
        for term in self.basis.terms:
            numbers |= {f"{term.name}:mean": term.mean, f"{term.name}:scale": term.scale}
        return numbers

    def _numbers(self, journey_id: str | None) -> dict[str, float | None]:
        """Name the numbers of a journey, or of what all share."""
        known = self.known.get(journey_id)
        if known is None:
            return {}
        numbers: dict[str, float | None] = {"rate": known.rate, "baseline_rate": known.baseline_rate}
        if known.coefficients is not None and self.basis is not None:
            names = _names(self.basis, is_shared=journey_id is None)
            numbers |= dict(zip(names, (float(value) for value in known.coefficients), strict=True))
        return numbers


def model_for_day(
    yesterday: pl.DataFrame | None, history: History, portfolio: Portfolio, *, today: date, outside: Mapping[str, bool] | None = None
) -> GoalModel:
    """Return the model to decide with today: that of ``yesterday`` (rows of ``goal_models``), or one fitted anew.

    It is fitted when there is none, when it is ``refit_days`` old, when a feature of it is none any more, or when a journey of today is
    unknown to it that has ``min_entries`` mature entries. A fit that fails keeps the last, is tried again the next day, and is told.
    ``outside``: by journey, whether goals were not as expected over the 28 days up to yesterday (``quality.outside``).
    """
    assert portfolio.learning is not None
    kept = GoalModel() if yesterday is None else GoalModel.of(yesterday)
    lasting = replace(kept, outside=_days_outside(kept, outside or {}), note=None)
    if not _is_due(kept, history, portfolio, portfolio.learning, today):
        return lasting
    counts = history.counts()
    goals = int(counts["goals"].sum())
    if goals < portfolio.learning.min_goals:
        counted = Counted(int(counts["entries"].sum()), goals, int(counts["controls"].sum()))
        note = f"{goals} goals have matured, {portfolio.learning.min_goals} are needed (learning.min_goals)"
        return GoalModel(counted=counted, note=note)
    return _learned(history.rows(), lasting, portfolio.learning, today)


def _is_due(kept: GoalModel, history: History, portfolio: Portfolio, learning: Learning, today: date) -> bool:
    if kept.fitted_on is None or (today - kept.fitted_on).days >= learning.refit_days or not kept.fits(portfolio) or kept.note:
        return True
    unknown = {journey.id for journey in portfolio.journeys if journey.goal is not None and journey.id not in kept.known}
    if not unknown:
        return False
    return bool((history.counts().filter(pl.col("journey_id").is_in(sorted(unknown)))["entries"] >= learning.min_entries).any())


def _days_outside(kept: GoalModel, outside: Mapping[str, bool]) -> dict[str, int]:
    """Count on; a journey that has drifted stays so until the next fit."""
    days = {id_: number for id_, number in kept.outside.items() if number >= DRIFTED}
    return days | {id_: kept.outside.get(id_, 0) + 1 for id_, is_outside in outside.items() if is_outside and id_ not in days}


def _learned(rows: pl.DataFrame, kept: GoalModel, learning: Learning, today: date) -> GoalModel:
    ids = rows["journey_id"].unique().sort().to_list()
    training = Rows(
        rows.select(*learning.features),
        ids,
        rows["journey_id"].replace_strict(ids, list(range(len(ids))), return_dtype=pl.Int64).to_numpy(),
        rows["customer_id"].rank("dense").cast(pl.Int64).to_numpy() - 1,
        rows["is_treated"].to_numpy(),
        rows["goal"].to_numpy(),
    )
    try:
        fitted = fit(training, learning.features)
    except FitError as problem:
        if kept.fitted_on is not None:
            return replace(kept, note=f"{problem}: the fit of {kept.fitted_on} is kept")
        return replace(_of_rates(training), note=f"{problem}: no fit yet, the rates of journeys are used")
    learned = _of_rates(training)
    coefficients = {None: fitted.coefficients.shared, **dict(zip(ids, fitted.coefficients.own, strict=True))}
    kept_numbers = {id_: np.array([rounded(value) for value in numbers]) for id_, numbers in coefficients.items()}
    return replace(
        learned,
        known={id_: replace(known, coefficients=kept_numbers[id_]) for id_, known in learned.known.items()},
        basis=fitted.basis,
        fitted_on=today,
        trained_to=today - timedelta(days=1),
        penalty=fitted.penalty,
        log_loss=rounded(fitted.log_loss),
        log_loss_rates=rounded(fitted.log_loss_rates),
        wins=fitted.wins,
    )


def _of_rates(rows: Rows) -> GoalModel:
    """Return what is known without a model."""
    by_journey, together = rates(rows), overall(rows)

    def counted(is_theirs: np.ndarray) -> Counted:
        return Counted(int(is_theirs.sum()), int(rows.goal[is_theirs].sum()), int((~rows.is_treated[is_theirs]).sum()))

    everybody = counted(np.ones(len(rows), dtype=bool))
    known: dict[str | None, Known] = {None: Known(everybody, rounded(together[0]), rounded(together[1]))}
    for number, id_ in enumerate(rows.journey_ids):
        rate, baseline_rate = (rounded(float(share)) for share in by_journey[number])
        known[id_] = Known(counted(rows.journey == number), rate, baseline_rate)
    return GoalModel(known=known, counted=everybody)


@dataclass(frozen=True, eq=False)
class GoalProbabilities:
    """What a model says of customers, as ``rules.probabilities.Probabilities``."""

    model: GoalModel
    portfolio: Portfolio

    @property
    def sources(self) -> Mapping[str, str]:
        """Return by journey where its probabilities come from."""
        return {journey.id: self.model.source(journey.id, self.portfolio) for journey in self.portfolio.journeys}

    @property
    def columns(self) -> Collection[str]:
        """Name the profile's columns that are read."""
        basis = self.model.basis
        return [feature.name for feature in basis.features] if basis is not None and MODEL in self.sources.values() else []

    def of(
        self, profiles: pl.DataFrame, customer: np.ndarray, journey: np.ndarray, journey_ids: pl.Series
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return propensity and baseline of each option; of the prior these are ``policy.prior_propensity`` and 0."""
        sources = self.sources
        learned = [place for place, id_ in enumerate(journey_ids) if sources.get(id_) == MODEL]
        treated, control = np.full(len(journey_ids), self.portfolio.policy.prior_propensity), np.zeros(len(journey_ids))
        for place, id_ in enumerate(journey_ids):
            if sources.get(id_) == RATES:
                known = self.model.known.get(id_) or self.model.known[None]
                treated[place], control[place] = significant(np.clip([known.rate, known.baseline_rate], LEAST, MOST))
        propensity, baseline = treated[journey], control[journey]
        if not learned:
            return propensity, baseline
        weights, constants, effects = self._folded([journey_ids[place] for place in learned])
        assert self.model.basis is not None
        logits = exactly(self.model.basis.matrix(profiles), weights)
        column = np.full(len(journey_ids), -1)
        column[learned] = np.arange(len(learned))
        rows = np.flatnonzero(column[journey] >= 0)
        of_row = column[journey[rows]]
        logit = logits.ravel()[customer[rows].astype(np.int64) * len(learned) + of_row] + constants[of_row]
        propensity[rows], baseline[rows] = _probability(logit + effects[of_row]), _probability(logit)
        return propensity, baseline

    def contributions(self, profile: pl.DataFrame, journey_id: str) -> Mapping[str, float]:
        """Return by feature what the value of a customer adds to the logit, beside what is usual; the most first."""
        if self.model.basis is None or self.model.source(journey_id, self.portfolio) != MODEL:
            return {}
        basis = self.model.basis
        coefficients = self._of(journey_id)
        parts = ((basis.matrix(profile)[0] - basis.means) / basis.scales) * coefficients[1:-1]
        sums: dict[str, float] = {}
        for term, part in zip(basis.terms, parts, strict=True):
            name = feature_of(term.name)
            sums[name] = sums.get(name, 0.0) + float(part)
        return dict(sorted(sums.items(), key=lambda item: (-abs(item[1]), item[0])))

    def _folded(self, journey_ids: Sequence[str]) -> tuple[Floats, Floats, Floats]:
        """Return weights of the basis as it is (a column per journey), what is added, and the effect of being treated."""
        basis = self.model.basis
        assert basis is not None
        together = np.array([self._of(id_) for id_ in journey_ids])
        weights = (together[:, 1:-1] / basis.scales).T
        return weights, together[:, 0] - (together[:, 1:-1] * (basis.means / basis.scales)).sum(axis=1), together[:, -1]

    def _of(self, journey_id: str) -> Floats:
        shared, own = self.model.known[None].coefficients, self.model.known[journey_id].coefficients
        assert shared is not None
        assert own is not None
        return shared + own


def of_entries(learned: GoalProbabilities, entered: pl.DataFrame) -> pl.DataFrame:
    """One row per entry: its probabilities, where they come from, and when the model was fitted if they are one's.

    ``entered``: ``customer_id``, ``journey_id``, and what is learned by.
    """
    ids = entered["journey_id"].unique().sort()
    places = {id_: place for place, id_ in enumerate(ids)}
    journey = entered["journey_id"].replace_strict(places, return_dtype=pl.Int64).to_numpy() if places else np.zeros(0, dtype=np.int64)
    propensity, baseline = learned.of(entered, np.arange(entered.height), journey, ids)
    of_journey = learned.sources
    sources = pl.Series([of_journey.get(id_, PRIOR) for id_ in ids], dtype=pl.String).gather(journey)
    return entered.select(
        "customer_id",
        "journey_id",
        propensity=pl.Series(propensity),
        baseline=pl.when(sources != PRIOR).then(pl.Series(baseline)),
        propensity_source=sources,
        model_fitted_on=pl.when(sources != PRIOR).then(pl.lit(learned.model.fitted_on, pl.Date)),
    )


def _probability(logits: Floats) -> Floats:
    with np.errstate(over="ignore"):  # then it is LEAST
        return np.asarray(significant(np.clip(1 / (1 + np.exp(-logits)), LEAST, MOST)))


def _names(basis: Basis, *, is_shared: bool) -> list[str]:
    first, letter = ("g", "w") if is_shared else ("a", "v")
    return [first, *(f"{letter}:{term.name}" for term in basis.terms), "tau"]


def _coefficients_of(numbers: Mapping[str, float], basis: Basis | None) -> Floats | None:
    if basis is None or "tau" not in numbers:
        return None
    return np.array([numbers[name] for name in _names(basis, is_shared="g" in numbers)])


def _basis_of(rows: pl.DataFrame) -> Basis | None:
    if rows.is_empty():
        return None
    numbers: dict[str, float] = dict(rows.select("name", "value").iter_rows())
    names = [name.removesuffix(":low") for name in numbers if name.endswith(":low")]
    terms = [name.removesuffix(":mean") for name in numbers if name.endswith(":mean")]
    return Basis(
        tuple(
            Feature(
                name,
                numbers[f"{name}:low"],
                numbers[f"{name}:high"],
                tuple(numbers[f"{name}:{percentile}"] for percentile in KNOTS if f"{name}:{percentile}" in numbers),
            )
            for name in names
        ),
        tuple(Term(name, numbers[f"{name}:mean"], numbers[f"{name}:scale"]) for name in terms),
    )
