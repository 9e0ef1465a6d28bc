"""Claims about the pipeline as a whole: each holds on a small world, and fails where what it claims is not so."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import polars as pl
import pytest

from atc_pipeline.certificate import faults, future
from atc_pipeline.certificate.claim import Scale
from atc_pipeline.certificate.driving import SHOWN, Driven
from atc_pipeline.certificate.faults import FAULTS, broken_worlds_are_noticed
from atc_pipeline.certificate.future import future_is_not_seen
from atc_pipeline.certificate.pipeline import Observed, looking_is_safe, observe_together, pipeline_is_right
from atc_pipeline.days.outcomes import Matrix
from atc_pipeline.tables.store import Tables
from resources.storage.trials import Trials
from sample.world import SCENARIOS, World, make

WORLDS = 200
DAYS, WINDOW = 16, 7


class Hasty(World):
    """The world, measured over windows that close within days."""

    @property
    def portfolio(self) -> str:
        """Return the journeys.yaml."""
        return super().portfolio.replace("window_days: 28", f"window_days: {WINDOW}")


def observed(truth: float, *, missed: int = 0, false: int = 0, left: int = 0) -> Observed:
    """Return what was seen of 200 worlds of two journeys: of so many the interval misses, a verdict is false, or looks miss."""
    rows = [
        {
            "world": world,
            "journey_id": journey,
            "truth": truth,
            "effect": truth,
            "fixed_low": truth + (0.5 if world < missed else -1.0),
            "fixed_high": truth + 1.0,
            "verdict": "undecided",
            "customers": 500,
        }
        for world in range(WORLDS)
        for journey in ("care", "news")
    ]
    looks = [
        {"world": world, "journey_id": journey, "days": 80, "is_always_covered": world >= left, "is_ever_false": world < false}
        for world in range(WORLDS)
        for journey in ("care", "news")
    ]
    return Observed(pl.DataFrame(rows), pl.DataFrame(looks))


@pytest.mark.parametrize(
    ("missed", "rejected", "is_met"),
    [(0, 0, True), (12, 18, True), (18, 0, False), (13, 0, False), (0, 19, False)],
    ids=["all covered", "as the bar says", "too few of a journey", "too few in all", "too many rejected"],
)
def test_a_pipeline_that_misses_too_often_is_not_right(missed: int, rejected: int, is_met: bool) -> None:
    """Of 200 worlds at most 17 of a journey may be missed, and 6 % in all; 18 may be rejected where nothing was planted."""
    claim = pipeline_is_right({"planted": observed(5.0, missed=missed), "nothing": observed(0.0, missed=rejected)}, "")
    assert claim.passed is is_met
    assert f"covered in {WORLDS - missed} of {WORLDS}" in claim.figures["care, planted"]
    assert claim.figures["news, nothing planted"] == f"rejected in {rejected} of {WORLDS}"


@pytest.mark.parametrize(("false", "left", "is_met"), [(0, 0, True), (10, 10, True), (11, 0, False), (0, 11, False)])
def test_verdicts_that_are_ever_false_too_often_are_not_safe(false: int, left: int, is_met: bool) -> None:
    """In 5 % of worlds a verdict may ever be false, and in 5 % the truth may ever be outside of the interval."""
    seen: Mapping[str, Observed] = {"planted": observed(5.0), "nothing": observed(0.0, false=false, left=left)}
    assert looking_is_safe(seen, "").passed is is_met


@pytest.mark.slow
def test_a_world_is_observed_beside_its_truth() -> None:
    """From events to the table of uplift: each journey of each of two worlds has an interval that holds what was planted, a truth that is
    that of the entries that count, and was looked at on every day from the first that matured."""
    driven = Driven.into(Trials().empty(), Hasty(SCENARIOS["planted"], 3, count=2, customers=500, days=DAYS), left_out=SHOWN)
    seen = observe_together(driven)
    journeys = {journey.id for journey in driven.portfolio.journeys}
    assert set(seen.last.select("world", "journey_id").iter_rows()) == {(world, journey) for world in (0, 1) for journey in journeys}
    entries = driven.all_of("journey_entries").filter((pl.col("entry_number") == 1) & (pl.col("matures_on") <= driven.world.days[-1]))
    counted = entries.filter(pl.col("held_out_by").ne_missing("policy")).select(pl.len()).collect().item()
    assert counted * 0.98 <= seen.last["customers"].sum() <= counted
    truth = {journey: seen.last.filter(pl.col("journey_id") == journey)["truth"].to_list() for journey in ("care", "pester")}
    assert min(truth["care"]) > 0 > max(truth["pester"])
    assert 1 <= seen.looks["days"].max() <= DAYS - WINDOW


@pytest.mark.slow
def test_each_fault_is_noticed_and_nothing_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that are lost, customers who change sides, messages to control: noticed within the week; what is not broken never is. A fault
    that nobody could notice makes the claim fail."""
    monkeypatch.setattr(faults, "CUSTOMERS", 8_000)
    monkeypatch.setattr(faults, "LEAST", 5_000)
    monkeypatch.setattr(faults, "TRIALS", {Scale.QUICK: 1})
    claim = broken_worlds_are_noticed(Scale.QUICK, make, Trials())
    assert claim.passed, claim.figures
    assert claim.figures["nothing"] == "in none of 1"
    monkeypatch.setattr(faults, "FAULTS", (replace(FAULTS[-1], is_noticed=True),))
    assert not broken_worlds_are_noticed(Scale.QUICK, make, Trials()).passed


@pytest.mark.slow
def test_a_step_that_looks_ahead_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim holds of the steps as they are; it does not where one reads the latest day that arrived, whatever day it makes."""
    monkeypatch.setattr(future, "CUSTOMERS", {Scale.QUICK: 60})
    monkeypatch.setattr(future, "DAYS", 6)
    monkeypatch.setattr(future, "SEEN", 4)
    monkeypatch.setattr(future, "MADE_AGAIN", 1)
    claim = future_is_not_seen(Scale.QUICK, make, Trials())
    assert claim.passed, claim.figures
    asked = Matrix.make

    def peek(self: Matrix, day: date) -> Tables:
        latest = self.store.days("raw_events")[-1]
        arrived = self.store.lazy("raw_events", latest).select(pl.len().cast(pl.Int64)).collect().item()
        (matrix,) = asked(self, day).values()
        return {"segment_matrix": matrix.lazy().collect().with_columns(members=pl.lit(arrived, pl.Int64))}

    monkeypatch.setattr(Matrix, "make", peek)
    assert not future_is_not_seen(Scale.QUICK, make, Trials()).passed
