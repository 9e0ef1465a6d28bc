"""All pages of a day as one file: proof first, then each journey, then what is learned, then paths.

What belongs here: which pages there are. What does not: what is on them (``proof``, ``journey``, ``learning``, ``paths``), writing files.
"""

from collections.abc import Sequence

from atc_pipeline.journeys.portfolio import SYSTEM
from atc_pipeline.reports import wording
from atc_pipeline.reports.findings import Findings
from atc_pipeline.reports.html import html
from atc_pipeline.reports.journey import journey
from atc_pipeline.reports.learning import learning
from atc_pipeline.reports.page import Page
from atc_pipeline.reports.paths import paths
from atc_pipeline.reports.proof import proof

MOST_JOURNEYS = 60
"""Journeys with a page of their own; of more, those most entered."""


def booklet(findings: Findings) -> str:
    """Lay all pages out in one HTML document."""
    title = f"What journeys changed, and what is only described: {wording.on(findings.day)}"
    footer = (
        f"Made from the tables of {wording.on(findings.day)}, portfolio {findings.portfolio.fingerprint}. "
        "No customer is named here. What is proved comes from a comparison by lot; what is described may have other reasons."
    )
    return html(title, pages(findings), footer)


def pages(findings: Findings) -> Sequence[Page]:
    """List the pages of a day."""
    learned = [learning(findings)] if findings.portfolio.learning is not None else []
    return [proof(findings), *(journey(journey_id, findings) for journey_id in _journeys(findings)), *learned, paths(findings)]


def _journeys(findings: Findings) -> Sequence[str]:
    """List the journeys of which anything is known, in the order of the portfolio; those no longer in it come last."""
    entered = {row.journey_id: 0 for row in findings.estimates if row.journey_id != SYSTEM}
    for row in findings.estimates:
        if row.journey_id in entered:
            entered[row.journey_id] = max(entered[row.journey_id], row.treated + row.control + row.immature)
    for frame in (findings.movement, findings.funnel):
        entered |= {journey_id: entered.get(journey_id, 0) for journey_id in frame["journey_id"].unique()}
    known = [journey_id for journey_id in findings.journeys if journey_id in entered]
    ordered = [*known, *sorted(entered.keys() - set(known))]
    most = set(sorted(ordered, key=lambda journey_id: (-entered[journey_id], journey_id))[:MOST_JOURNEYS])
    return [journey_id for journey_id in ordered if journey_id in most]
