"""The page *paths*: which journeys customers came through, how many converted, how long it took, and who gets the credit.

Described, not proved: who takes a path chose it, or was chosen for it. What is proved stands beside it.

What belongs here: which of it is said, and in which order. What does not: words that all pages share (``wording``), drawing.
"""

from collections.abc import Iterator

import polars as pl

from atc_pipeline.explanation.words import count
from atc_pipeline.outcomes.tables import OTHER_PATHS, SILENT, TO
from atc_pipeline.pictures import attribution, curves, figures
from atc_pipeline.reports import wording
from atc_pipeline.reports.estimates import primary_metric
from atc_pipeline.reports.findings import Findings
from atc_pipeline.reports.page import Page, Picture, Section, Table
from atc_pipeline.reports.wording import called, unit_of

_SHOWN = 25
"""Paths that are told; of more, the most taken."""


def paths(findings: Findings, journey_id: str | None = None) -> Page:
    """Tell what is known of paths; of those with a journey, where it is named."""
    rows = of_journey(findings.paths, journey_id)
    about = f" through {called(journey_id, findings.portfolio)}" if journey_id else ""
    sections = [*_conversion(rows, findings), *_velocity(rows, findings), *_attribution(journey_id, findings)]
    since = f", begun from {wording.on(findings.since)} on" if findings.since else ""
    title = f"Paths{about}: what customers came through, as of {wording.on(findings.day)}{since}"
    return Page("Paths", title, _headline(rows), tuple(sections))


def of_journey(rows: pl.DataFrame, journey_id: str | None) -> pl.DataFrame:
    """Keep the paths with a journey, where it is named; those most taken come first."""
    ordered = rows.sort("customers", "path", descending=[True, False])
    if journey_id is None:
        return ordered
    return ordered.filter(pl.col("path").str.split(TO).list.contains(journey_id))


def _headline(rows: pl.DataFrame) -> str:
    if rows.is_empty():
        return "No path is known yet."
    customers, conversions, opened = (int(rows[name].sum()) for name in ("customers", "conversions", "open"))
    return (
        f"{count(customers, 'customer')} on {count(rows.height, 'kind')} of paths: {count(conversions, 'path')} closed with a conversion, "
        f"{opened:,} are open. Described, not proved."
    )


def _conversion(rows: pl.DataFrame, findings: Findings) -> Iterator[Section]:
    if rows.is_empty():
        return
    unit = unit_of(primary_metric(findings.portfolio), findings.portfolio)
    table = Table(
        ("path", "customers", "converted", "share", unit.noun, "a quarter by day", "half", "three quarters", "open", "sent", "answers"),
        tuple(
            (
                _path(row["path"], findings),
                f"{row['customers']:,}",
                f"{row['conversions']:,}",
                figures.share(row["conversions"] / row["customers"]) if row["customers"] else figures.NOTHING,
                figures.amount(row["value"]),
                *(_reached(row[name]) for name in ("lower_days", "median_days", "upper_days")),
                f"{row['open']:,}",
                *(f"{row[name]:,}" for name in ("sent", "responses")),
            )
            for row in rows.head(_SHOWN).iter_rows(named=True)
        ),
    )
    notes = (
        "A path that converts more may only have been taken by better customers: what a journey changed is on the page proof.",
        "Days from the path's first entry until a quarter, half and three quarters have converted; “not reached”: fewer did.",
        "Customers are of paths that closed; open ones count in the days, as far as they go.",
    )
    more = (f"And {count(rows.height - _SHOWN, 'more path')}.",) if rows.height > _SHOWN else ()
    of = f"{count(int(rows['customers'].sum()), 'customer')}; paths end with a conversion, or some time after the last entry."
    yield Section("Conversion by path", "described", of, table=table, notes=(*more, *notes))


def _velocity(rows: pl.DataFrame, findings: Findings) -> Iterator[Section]:
    order = rows["path"].to_list()
    by_path = {path: points.sort("days") for (path,), points in findings.velocity.group_by("path")}
    drawn = [path for path in order if path in by_path][: curves.MOST]
    if not drawn:
        return
    lines = [
        curves.Line(
            f"{_path(path, findings)} ({count(int(rows.filter(pl.col('path') == path)['customers'][0]), 'customer')})",
            [(0.0, 0.0), *_stairs(by_path[path].select("days", "converted").rows())],
        )
        for path in drawn
    ]
    title = "How fast paths convert: share converted by days after the first entry"
    svg = curves.draw(
        title, "Kaplan-Meier: open paths count as far as they go; described, not proved", lines, figures.share, "days after the first entry"
    )
    of = f"The {count(len(drawn), 'most taken path')} of {rows.height:,}; open paths are counted as far as they go."
    yield Section("How fast", "described", of, picture=Picture(svg, "Share converted by days after the path's first entry"))


def _stairs(points: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Between two days with conversions nothing changes."""
    before = 0.0
    for days, converted in points:
        yield days, before
        yield days, converted
        before = converted


def _attribution(journey_id: str | None, findings: Findings) -> Iterator[Section]:
    rows = findings.attribution.sort(pl.max_horizontal("value_markov", "value_linear"), "journey_id", descending=[True, False])
    if journey_id is not None:
        rows = rows.filter(pl.col("journey_id") == journey_id)
    if rows.is_empty():
        return
    unit = unit_of(primary_metric(findings.portfolio), findings.portfolio)
    every = list(rows.iter_rows(named=True))
    drawn = [
        attribution.Row(
            called(row["journey_id"], findings.portfolio),
            _beside(row["value_markov"], row["proved"]),
            [row[f"value_{model}"] for model in attribution.MODELS],
            row["proved"],
            row["proved_low"],
            row["proved_high"],
        )
        for row in every
    ]
    title = f"Attributed and proved: {unit.noun} by journey"
    svg = attribution.draw(
        title, "what four ways of sharing out closed paths say, above; what the comparison says, below", drawn, figures.round_value
    )
    table = Table(
        ("journey", "first", "last", "linear", "markov", "removal effect", "proved", "interval", "attributed / proved"),
        tuple(
            (
                called(row["journey_id"], findings.portfolio),
                *(figures.amount(row[f"value_{model}"]) for model in attribution.MODELS),
                figures.share(row["removal_effect"]),
                figures.signed(row["proved"]),
                figures.between(row["proved_low"], row["proved_high"]),
                _ratio(row["value_markov"], row["proved"]),
            )
            for row in every
        ),
    )
    conversions = sum(row["conversions_linear"] for row in every)
    of = f"{unit.noun.capitalize()} of {conversions:,.0f} conversions of closed paths, shared out four ways: each adds up to the same."
    note = (
        "Attribution shares out what customers did anyway; the proof says what they did because of the journey. The two never add up: "
        "proved is of first entries that have matured, against their control group, and comes with its interval."
    )
    says = "Money attributed to each journey by four models, beside what is proved"
    yield Section("Attribution beside proof", "described", of, picture=Picture(svg, says), table=table, notes=(note,))


def _beside(attributed: float, proved: float | None) -> str:
    if proved is None:
        return f"markov {figures.amount(attributed)}; nothing proved"
    return f"markov {figures.amount(attributed)}; proved {figures.signed(proved)}"


def _ratio(attributed: float, proved: float | None) -> str:
    return figures.amount(attributed / proved) if proved is not None and proved > 0 else figures.NOTHING


def _reached(days: float | None) -> str:
    return "not reached" if days is None else figures.amount(days) if days % 1 else f"{days:,.0f}"


def _path(path: str, findings: Findings) -> str:
    """Write a path by the names of its journeys."""
    if path in {SILENT, OTHER_PATHS}:
        return {SILENT: "held out only", OTHER_PATHS: "paths of fewer than 20 customers"}[path]
    return " → ".join(called(journey_id, findings.portfolio) for journey_id in path.split(TO))
