"""A report as JSON: the rows that pages are made of, each with the sentence that people read.

What belongs here: what is in the document. What does not: any word (``wording``), reading tables (``reading``).
"""

import json
from collections.abc import Mapping, Sequence

import polars as pl
import polars.selectors as cs

from atc_pipeline.reports import wording
from atc_pipeline.reports.findings import Findings
from atc_pipeline.reports.journey import headline as of_journey
from atc_pipeline.reports.proof import headline


def proved(findings: Findings, journey_id: str | None = None) -> str:
    """Write the rows of ``uplift``, of one journey or of all; numbers as they are in the table."""
    rows = findings.uplift if journey_id is None else findings.uplift.filter(pl.col("journey_id") == journey_id)
    says = {
        (row.journey_id, row.metric, row.slice): wording.verdict_of(row, wording.unit_of(row.metric, findings.portfolio))
        for row in findings.estimates
    }
    ordered = rows.sort("journey_id", "metric", "slice")
    keys = ordered.select("journey_id", "metric", "slice").rows()
    told_rows = [row | {"says": says[key]} for key, row in zip(keys, _rows(ordered), strict=True)]
    whole = headline(findings) if journey_id is None else of_journey(journey_id, findings)
    return _written(findings, "proved", {"says": whole, "uplift": told_rows})


def described(findings: Findings, paths: pl.DataFrame, journey_id: str | None = None) -> str:
    """Write the rows of ``path_summary`` and ``journey_attribution``, and where one journey is asked for, of its movement."""
    frames = {"attribution": findings.attribution.sort("journey_id"), "movement": findings.movement.sort("journey_id", "day_index")}
    if journey_id is not None:
        frames = {name: frame.filter(pl.col("journey_id") == journey_id) for name, frame in frames.items()}
    return _written(findings, "described", {"paths": _rows(paths.sort("path"))} | {name: _rows(frame) for name, frame in frames.items()})


def _rows(frame: pl.DataFrame) -> Sequence[dict[str, object]]:
    return frame.drop("date").with_columns(cs.float().fill_nan(None)).to_dicts()


def _written(findings: Findings, standing: str, document: Mapping[str, object]) -> str:
    head = {"date": findings.day, "from": findings.since, "standing": standing}
    return json.dumps({**head, **document}, indent=1, default=str, ensure_ascii=False) + "\n"
