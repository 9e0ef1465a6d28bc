"""Estimates of the engine against the reference, on entries and outcomes that are drawn: every figure of every row."""

from pathlib import Path

import pytest
from hypothesis import settings

from atc_pipeline.outcomes.uplift import Evidence, estimate_uplift
from tests.engine.proof import evidence
from tests.engine.proof.reference import Report, benjamini_hochberg
from tests.engine.proof.twins import disagreements

MORE = 1 if settings.default.derandomize else 50
"""Two drawings in CI, more with --hypothesis-profile=default."""
NAMESAKES = {"c0003": "c0001", "c0007": "c0001", "c0011": "c0010", "c0021": "c0020", "c0031": "c0030"}
"""Who is who by today, of those who entered something."""


@pytest.mark.parametrize("seed", range(2 * MORE))
def test_every_figure_is_the_references(seed: int, tmp_path: Path) -> None:
    """Shares that changed, ratios, refunds, arms of nobody, customers who became one: slices, variants and the long run, too."""
    drawn = evidence.draw(seed, tmp_path)
    names = NAMESAKES if seed % 2 else {}
    report = Report(drawn.entries, drawn.outcomes, drawn.long, lambda name: names.get(name, name), drawn.portfolio, evidence.TODAY)
    entries = drawn.frame("entries").with_columns(known_as=evidence.known_as(names))
    rows = estimate_uplift(Evidence(entries, drawn.frame("outcomes"), drawn.frame("long")), drawn.portfolio, today=evidence.TODAY)
    says = disagreements(rows.to_dicts(), report)
    assert not says, "\n".join(says[:10])


@pytest.mark.parametrize("seed", [0, 2])
def test_the_family_is_adjusted_as_benjamini_and_hochberg_say(seed: int, tmp_path: Path) -> None:
    """Money of each journey that holds somebody out; where it is too early to say something, it counts as nothing against chance."""
    drawn = evidence.draw(seed, tmp_path, guardrails=[], effect=40.0)
    rows = estimate_uplift(
        Evidence(drawn.frame("entries"), drawn.frame("outcomes"), drawn.frame("long")), drawn.portfolio, today=evidence.TODAY
    )
    asked = {row["journey_id"]: row for row in rows.filter(metric="revenue", slice="all").to_dicts() if row["verdict"] != "no_holdout"}
    wanted = benjamini_hochberg({name: 1.0 if row["verdict"] == "too_early" else row["p_anytime"] for name, row in asked.items()})
    assert {name: row["p_adjusted"] for name, row in asked.items()} == pytest.approx(wanted)
    assert min(wanted.values()) < 0.05
    for name, row in asked.items():
        assert (row["verdict"] in {"helps", "harms"}) == (wanted[name] <= 0.05)
