"""Draws ``pictures/proof.svg``: the forest of an example whose truth is known, drawn by the certificate's laws (``make docs``).

What belongs here: which journeys there are in the example. What does not: any estimate or stroke; both are the engine's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from atc_pipeline.certificate.drawn import Drawn, Scenario, draw
from atc_pipeline.certificate.laws import Money
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.outcomes.uplift import Evidence, estimate_uplift
from atc_pipeline.pictures import figures, forest
from atc_pipeline.reports import wording
from atc_pipeline.reports.estimates import of_journeys
from atc_pipeline.reports.findings import Findings
from atc_pipeline.reports.proof import forest_rows

PICTURE = Path(__file__).parent / "pictures" / "proof.svg"
SEED = 2026


@dataclass(frozen=True)
class Planted:
    """A journey of the example: how many first entries, which share held out, and what being treated really adds."""

    id: str
    name: str
    customers: int
    holdout: float
    lift: float


EXAMPLE = (
    Planted("welcome", "Welcome", 24_000, 0.2, 0.22),
    Planted("club", "Tea club", 5_000, 0.1, 0.1),
    Planted("thanks", "Loyalty thank-you", 160_000, 0.5, 0.0),
    Planted("weekend", "Weekend nudge", 30_000, 0.2, -0.15),
    Planted("miss_you", "We miss you", 450, 0.1, 0.25),
    Planted("birthday", "Birthday", 9_000, 0.2, 0.06),
)
_SHOP = Money(orders=2.4, shape=1.5, sigma=0.5)


def picture() -> str:
    """Return the picture."""
    drawn = [_drawn(planted, number) for number, planted in enumerate(EXAMPLE)]
    portfolio = _portfolio(drawn)
    today = max(_scenario(planted).ends_on for planted in EXAMPLE)
    evidence = Evidence(
        *(pl.concat([getattr(each.evidence, name) for each in drawn]) for name in ("entries", "outcomes", "long")),
    )
    findings = Findings(today, portfolio, uplift=estimate_uplift(evidence, portfolio, today=today))
    rows = of_journeys(findings.estimates, portfolio)
    unit = wording.unit_of("revenue", portfolio)
    shown = [
        replace(row, beneath=f"{row.beneath} · truth {figures.signed_share(planted.lift)}")
        for row, planted in zip(forest_rows(rows, unit, findings), EXAMPLE, strict=True)
    ]
    title = "An example with planted effects: what each journey changes, against being left alone"
    said = (
        "revenue per customer, in percent of what held-out customers spent; made-up customers, whose truth is known; "
        "intervals are right at every look"
    )
    return forest.draw(title, said, shown, figures.signed_share, wording.LEGEND)


def _scenario(planted: Planted) -> Scenario:
    return Scenario(planted.id, planted.name, _SHOP, planted.customers, planted.lift, holdouts=(planted.holdout,))


def _drawn(planted: Planted, number: int) -> Drawn:
    drawn = draw(_scenario(planted), 1, (SEED, number))
    named = {name: getattr(drawn.evidence, name).with_columns(journey_id=pl.lit(planted.id)) for name in ("entries", "outcomes", "long")}
    (journey,) = drawn.portfolio.journeys
    called = replace(journey, id=planted.id, name=planted.name)
    return replace(drawn, evidence=replace(drawn.evidence, **named), portfolio=replace(drawn.portfolio, journeys=(called,)))


def _portfolio(drawn: Sequence[Drawn]) -> Portfolio:
    return replace(drawn[0].portfolio, journeys=tuple(journey for each in drawn for journey in each.portfolio.journeys))


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
