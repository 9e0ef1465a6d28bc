"""The model of a day: where probabilities come from, when it is fitted anew, what is written, and what it says of a customer."""

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atc_pipeline.journeys.document import parse_document
from atc_pipeline.journeys.portfolio import NONE, Portfolio
from atc_pipeline.journeys.resolution import resolve
from atc_pipeline.learning.basis import Basis
from atc_pipeline.learning.fit import LEAST, MOST, Rows, fit, solve
from atc_pipeline.learning.model import TRAINING, GoalModel, GoalProbabilities, counts_of, model_for_day, of_entries
from atc_pipeline.rules.probabilities import MODEL, PRIOR, RATES

TODAY = date(2026, 6, 1)
JOURNEYS = ("often", "rarely", "hardly")


@dataclass(frozen=True)
class Kept:
    """Entries to learn from (``learning.model.History``)."""

    entries: pl.DataFrame

    def counts(self) -> pl.DataFrame:
        """One row per journey."""
        return counts_of(self.entries)

    def rows(self) -> pl.DataFrame:
        """One row per entry."""
        return self.entries


def portfolio(journeys: tuple[str, ...] = JOURNEYS, learning: str = "") -> Portfolio:
    """Journeys that have the same goal, learned of by two features; ``untold`` has none."""
    listed = "".join(
        f"\n  - {{id: {id_}, length_days: 7, queue: {{where: 'true'}}"
        + ("" if id_ == "untold" else ", holdout: 0.2, goal: {event: Order Completed, within_days: 14}")
        + "}"
        for id_ in journeys
    )
    text = f"""
version: "1"
calendar: {{timezone: UTC, starts_on: 2026-01-01}}
channels: {{email: {{consent: none}}}}
traits:
  orders: {{count: Order Completed, within_days: 30}}
  visits: {{count: Page Viewed, within_days: 30}}
learning: {{features: [orders, visits]{learning}}}
policy: {{explore: 0.02, prior_propensity: 0.07}}
journeys:{listed}
"""
    return resolve(parse_document(text, "journeys.yaml"))


def entries(number: int = 3_000, signal: float = 0.8, journeys: tuple[str, ...] = JOURNEYS) -> Kept:
    """Entries of which ``orders`` tells, by ``signal``, whether they reach the goal."""
    rng = np.random.default_rng(11)
    orders, is_treated = rng.poisson(2, number), rng.random(number) < 0.8
    rows = pl.DataFrame(
        {
            "entered_on": pl.Series(rng.integers(0, 90, number)),
            "customer_id": [f"c{place:05}" for place in rng.integers(0, number // 2, number)],
            "journey_id": pl.Series(journeys).gather(rng.integers(0, len(journeys), number)),
            "is_treated": is_treated,
            "goal": rng.random(number) < 1 / (1 + np.exp(-(-2 + signal * orders + 0.5 * is_treated))),
            "orders": orders,
            "visits": rng.poisson(5, number),
        }
    ).with_columns(entered_on=pl.lit(TODAY - timedelta(days=120)).dt.offset_by(pl.format("{}d", "entered_on")))
    return Kept(rows.select(*TRAINING, "orders", "visits").sort("entered_on", "customer_id", "journey_id"))


def learn(history: Kept, known: Portfolio, today: date = TODAY, yesterday: pl.DataFrame | None = None) -> GoalModel:
    """Return the model of the day."""
    return model_for_day(yesterday, history, known, today=today)


def plain(model: GoalModel, profiles: pl.DataFrame, journey_id: str, is_treated: bool) -> list[float]:
    """Work the probability out number by number, from the rows as they are written."""
    written = model.rows(portfolio(), TODAY)
    numbers = {(part, id_, name): value for part, id_, name, value in written.select("part", "journey_id", "name", "value").iter_rows()}
    chances = []
    for row in profiles.iter_rows(named=True):
        logit = numbers["shared", None, "g"] + numbers["journey", journey_id, "a"]
        logit += is_treated * (numbers["shared", None, "tau"] + numbers["journey", journey_id, "tau"])
        for name in ("orders", "visits"):
            low, high = numbers["basis", None, f"{name}:low"], numbers["basis", None, f"{name}:high"]
            value = row[name]
            x = 0.0 if value is None else min(max((value - low) / (high - low), 0.0), 1.0)
            terms = {name: x, f"{name}?": float(value is None)}
            for percentile in (35, 65):
                knot = numbers["basis", None, f"{name}:{percentile}"]
                terms[f"{name}>{percentile}"] = 0.0 if value is None else max(0.0, x - knot)
            for term, number in terms.items():
                if ("basis", None, f"{term}:mean") in numbers:
                    weight = numbers["shared", None, f"w:{term}"] + numbers["journey", journey_id, f"v:{term}"]
                    logit += weight * (number - numbers["basis", None, f"{term}:mean"]) / numbers["basis", None, f"{term}:scale"]
        chances.append(min(max(1 / (1 + np.exp(-logit)), LEAST), MOST))
    return chances


PROFILES = pl.DataFrame(
    {"orders": [0, 1, 2, 9, None, 10**9, -5], "visits": [5, None, 3, 8, None, 0, 10**9]}, schema={"orders": pl.Int64, "visits": pl.Int64}
)


def foretell(model: GoalModel, known: Portfolio, profiles: pl.DataFrame, journeys: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return propensity and baseline: a row per customer, a column per journey."""
    customer = np.repeat(np.arange(profiles.height), len(journeys))
    journey = np.tile(np.arange(len(journeys)), profiles.height)
    propensity, baseline = GoalProbabilities(model, known).of(profiles, customer, journey, pl.Series(journeys))
    return propensity.reshape(-1, len(journeys)), baseline.reshape(-1, len(journeys))


def test_probabilities_are_what_the_written_numbers_say() -> None:
    """Of every customer and journey, both arms: whatever is unknown, or beyond what was ever seen."""
    model = learn(entries(), portfolio())
    propensity, baseline = foretell(model, portfolio(), PROFILES, JOURNEYS)

    assert model.source("often", portfolio()) == MODEL
    for place, journey_id in enumerate(JOURNEYS):
        assert propensity[:, place] == pytest.approx(plain(model, PROFILES, journey_id, is_treated=True), abs=1e-6)
        assert baseline[:, place] == pytest.approx(plain(model, PROFILES, journey_id, is_treated=False), abs=1e-6)


def test_a_probability_does_not_depend_on_who_and_what_else_is_asked() -> None:
    """To the last bit: one customer or all, one journey or all, written and read again."""
    known = portfolio()
    model = learn(entries(), known)
    read = GoalModel.of(model.rows(known, TODAY))
    propensity, _ = foretell(model, known, PROFILES, JOURNEYS)

    assert np.array_equal(propensity, foretell(read, known, PROFILES, JOURNEYS)[0])
    for place, journey_id in enumerate(JOURNEYS):
        for row in range(PROFILES.height):
            assert foretell(model, known, PROFILES[row : row + 1], (journey_id, NONE))[0][0, 0] == propensity[row, place]


def test_where_a_probability_comes_from_is_asked_by_journey_and_not_by_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked by entry, a day of many entries into many journeys took longer than all else of it."""
    known = portfolio()
    learned = GoalProbabilities(learn(entries(), known), known)
    asked: list[str] = []
    numbers: list[int] = []

    def source(_model: GoalModel, journey_id: str, _portfolio: Portfolio) -> str:
        asked.append(journey_id)
        return MODEL

    monkeypatch.setattr(GoalModel, "source", source)
    for number in (len(JOURNEYS), 300):
        journeys = pl.Series("journey_id", JOURNEYS).gather(np.arange(number) % len(JOURNEYS))
        entered = pl.DataFrame({"customer_id": [f"c{place}" for place in range(number)], "orders": [1] * number, "visits": [1] * number})
        asked.clear()
        of_entries(learned, entered.with_columns(journeys))
        numbers.append(len(asked))

    assert numbers[0] == numbers[1]


def test_a_day_is_written_and_read_the_same() -> None:
    """Carried forward, a model says the same rows, but for the date."""
    known = portfolio()
    model = replace(learn(entries(), known), outside={"rarely": 2})
    rows = model.rows(known, TODAY)

    assert_frame_equal(GoalModel.of(rows).rows(known, TODAY), rows)


def test_the_same_entries_give_the_same_rows() -> None:
    """Byte for byte."""
    assert learn(entries(), portfolio()).rows(portfolio(), TODAY).equals(learn(entries(), portfolio()).rows(portfolio(), TODAY))


def test_too_few_goals_are_the_prior() -> None:
    """Nothing is learned, and told why; what it says is the policy's."""
    known = portfolio(learning=", min_goals: 100000")
    model = learn(entries(), known)
    propensity, baseline = foretell(model, known, PROFILES, JOURNEYS)

    assert {model.source(id_, known) for id_ in JOURNEYS} == {PRIOR}
    assert model.note is not None
    assert "min_goals" in model.note
    assert (propensity == 0.07).all()
    assert (baseline == 0).all()


def test_where_no_feature_tells_anything_rates_are_used() -> None:
    """Of a journey nobody has entered, those of all."""
    known = portfolio((*JOURNEYS, "fresh", "untold"))
    model = learn(entries(signal=0.0), known)
    propensity, baseline = foretell(model, known, PROFILES[:1], ("often", "fresh", "untold"))

    assert [model.source(id_, known) for id_ in ("often", "fresh", "untold")] == [RATES, RATES, PRIOR]
    treated = entries(signal=0.0).entries.filter("is_treated")["goal"]
    control = entries(signal=0.0).entries.filter(~pl.col("is_treated"))["goal"]
    assert propensity[0, 1] == pytest.approx(treated.mean(), rel=1e-5)
    assert baseline[0, 1] == pytest.approx(control.mean(), rel=1e-5)
    assert propensity[0, 2] == 0.07


def test_a_journey_unknown_to_the_model_has_its_rate_until_it_has_entries_enough() -> None:
    """``min_entries`` of it are a reason to fit anew before the week is over; fewer are none."""
    known = portfolio((*JOURNEYS, "fresh"))
    first = learn(entries(), known)
    more = entries(journeys=(*JOURNEYS, "fresh"))
    place = pl.int_range(pl.len()).over("journey_id")
    few, enough = (Kept(more.entries.filter((pl.col("journey_id") != "fresh") | (place < number))) for number in (19, 20))
    tomorrow = TODAY + timedelta(days=1)

    assert first.source("fresh", known) == RATES
    assert learn(few, known, tomorrow, first.rows(known, TODAY)).fitted_on == TODAY
    assert learn(enough, known, tomorrow, first.rows(known, TODAY)).fitted_on == tomorrow


@pytest.mark.parametrize(("days", "is_fitted"), [(1, False), (6, False), (7, True)])
def test_it_is_fitted_anew_when_it_is_old(days: int, is_fitted: bool) -> None:
    """``refit_days`` after the last time, and not before."""
    known = portfolio()
    rows = learn(entries(), known).rows(known, TODAY)
    later = TODAY + timedelta(days=days)
    model = learn(entries(), known, later, rows)

    assert model.fitted_on == (later if is_fitted else TODAY)
    assert model.trained_to == (model.fitted_on or TODAY) - timedelta(days=1)


def test_a_fit_that_fails_keeps_the_last_and_is_tried_again() -> None:
    """It says why; the next day that can be fitted, it is."""
    known = portfolio()
    first = learn(entries(), known)
    everybody = Kept(entries().entries.with_columns(goal=pl.lit(value=True)))
    week, after = TODAY + timedelta(days=7), TODAY + timedelta(days=8)
    failed = learn(everybody, known, week, first.rows(known, TODAY))

    assert failed.fitted_on == TODAY
    assert failed.note is not None
    assert "is kept" in failed.note
    assert np.array_equal(foretell(failed, known, PROFILES, JOURNEYS)[0], foretell(first, known, PROFILES, JOURNEYS)[0])
    again = learn(entries(), known, after, failed.rows(known, week))
    assert (again.fitted_on, again.note) == (after, None)


def test_days_that_go_wrong_are_counted_also_while_fits_fail() -> None:
    """Three in a row, and the journey's own rate is used, until a fit."""
    known = portfolio()
    rows, day = learn(entries(), known).rows(known, TODAY), TODAY + timedelta(days=6)
    everybody = Kept(entries().entries.with_columns(goal=pl.lit(value=True)))
    sources = []
    for _ in range(3):
        model = model_for_day(rows, everybody, known, today=day, outside={"rarely": True, "often": False})
        rows, day = model.rows(known, day), day + timedelta(days=1)
        sources.append((model.source("rarely", known), model.source("often", known)))

    assert sources == [(MODEL, MODEL), (MODEL, MODEL), (RATES, MODEL)]
    assert learn(entries(), known, day, rows).source("rarely", known) == MODEL


def test_without_a_control_group_nothing_is_caused() -> None:
    """By rates: what happens anyway is all that happens. By the model: nobody who is left alone was ever seen."""
    known = portfolio()
    treated = Kept(entries(signal=0.0).entries.with_columns(is_treated=pl.lit(value=True)))
    propensity, baseline = foretell(learn(treated, known), known, PROFILES, JOURNEYS)

    assert np.array_equal(propensity, baseline)


def test_a_feature_that_is_none_any_more_is_a_reason_to_fit_anew() -> None:
    """Until then it would be read in profiles that do not have it."""
    known = portfolio()
    rows = learn(entries(), known).rows(known, TODAY)
    narrowed = resolve(parse_document(_without_visits(), "journeys.yaml"))
    tomorrow = TODAY + timedelta(days=1)
    model = learn(Kept(entries().entries.drop("visits")), narrowed, tomorrow, rows)

    assert model.fitted_on == tomorrow
    assert list(GoalProbabilities(model, narrowed).columns) == ["orders"]


def _without_visits() -> str:
    return """
version: "1"
calendar: {timezone: UTC, starts_on: 2026-01-01}
channels: {email: {consent: none}}
traits: {orders: {count: Order Completed, within_days: 30}}
learning: {features: [orders]}
policy: {explore: 0.02}
journeys: [{id: often, length_days: 7, queue: {where: 'true'}, holdout: 0.2, goal: {event: Order Completed, within_days: 14}}]
"""


def test_what_moved_a_probability_adds_up() -> None:
    """The parts of features, and what is usual, make the logit."""
    known = portfolio()
    model = learn(entries(), known)
    profile = PROFILES[3:4]
    learned = GoalProbabilities(model, known)
    parts = learned.contributions(profile, "often")
    shared, own = model.known[None].coefficients, model.known["often"].coefficients
    assert shared is not None
    assert own is not None
    usual = shared[0] + own[0]
    baseline = foretell(model, known, profile, ("often",))[1][0, 0]

    assert next(iter(parts)) == "orders"
    assert usual + sum(parts.values()) == pytest.approx(np.log(baseline / (1 - baseline)), abs=1e-6)


def test_a_general_optimiser_finds_the_same() -> None:
    """Of the loss as SPEC 12 writes it, a column for each coefficient; by BFGS, which knows nothing of journeys."""
    from scipy.optimize import minimize  # noqa: PLC0415  # slow to import

    kept = entries(600).entries
    journey = kept["journey_id"].replace_strict(JOURNEYS, range(3), return_dtype=pl.Int64).to_numpy()
    treated, goal = kept["is_treated"].to_numpy(), kept["goal"].to_numpy()
    features = kept.select("orders", "visits")
    basis = Basis.of(features, features.schema)
    terms = (basis.matrix(features) - basis.means) / basis.scales
    solved = solve(terms, Rows(features, JOURNEYS, journey, np.arange(600), treated, goal), 30.0, None)

    columns = np.column_stack([np.ones(600), terms, treated])
    design = np.hstack([columns, *(columns * (journey == number)[:, None] for number in range(3))])
    own = [1.0, *[150.0] * terms.shape[1], 15.0]
    penalty = np.array([0.0, *[30.0] * terms.shape[1], 3.0, *own, *own, *own])

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        logit = design @ at
        chance = 1 / (1 + np.exp(-logit))
        return float(np.sum(np.logaddexp(0, logit) - goal * logit) + 0.5 * penalty @ at**2), design.T @ (chance - goal) + penalty * at

    expected = minimize(loss, np.zeros(design.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-7, "maxiter": 2000}).x
    assert np.concatenate([solved.shared, *solved.own]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scale", [1e308, 1e-300])
def test_numbers_at_the_ends_of_what_there_is_are_learned_from(scale: float) -> None:
    """Their difference is none that a double holds, or hardly one."""
    rng = np.random.default_rng(2)
    values = rng.choice([-1.0, 0.0, 1.0], 800) * scale
    goal = rng.random(800) < np.where(values > 0, 0.8, 0.2)
    rows = Rows(pl.DataFrame({"far": values}), ["a"], np.zeros(800, dtype=np.int64), np.arange(800), rng.random(800) < 0.9, goal)

    assert fit(rows, {"far": pl.Float64()}).wins
