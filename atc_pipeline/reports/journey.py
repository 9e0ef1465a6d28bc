"""The page of one journey: who got how far, what it changed and when, where they left it, its steps, variants and slices.

What belongs here: which of it is said, and in which order. What does not: words that all pages share (``wording``), drawing.
"""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from atc_pipeline.explanation.words import all_of
from atc_pipeline.journeys.portfolio import Journey
from atc_pipeline.outcomes.tables import ALL, EXPLORATORY, LONG, NO_HOLDOUT
from atc_pipeline.pictures import curves, fates, figures, funnel
from atc_pipeline.reports import wording
from atc_pipeline.reports.estimates import Estimate, primary_metric
from atc_pipeline.reports.findings import Findings
from atc_pipeline.reports.page import Page, Picture, Section, Table
from atc_pipeline.reports.proof import forest_of
from atc_pipeline.reports.wording import called, unit_of
from atc_pipeline.rules.arms import CONTROL, TREATED

Z_95 = 1.959964
"""Half the width, in standard errors, of the band around a curve."""

ENDINGS: Mapping[str, str] = {
    "converted": "reached the goal",
    "completed": "ran its full length",
    "exited": "left early",
    "interrupted": "interrupted",
}
"""How a journey may end, from below; ``unsubscribed`` is counted beside them, and ends nothing by itself."""


def journey(journey_id: str, findings: Findings) -> Page:
    """Tell what is known of a journey."""
    rows = [row for row in findings.estimates if row.journey_id == journey_id]
    name, resolved = called(journey_id, findings.portfolio), findings.journeys.get(journey_id)
    shown = next((row for row in rows if row.metric == primary_metric(findings.portfolio) and row.slice == ALL), None)
    sections = [
        *_verdict(shown, rows, findings),
        *_funnel(journey_id, findings),
        *_curves(journey_id, shown, findings),
        *_fates(journey_id, findings),
        *_steps(journey_id, resolved, findings),
        *_returned(journey_id, findings),
        *_answers(journey_id, findings),
        *_variants(rows, findings),
        *_slices(rows, findings),
        *_metrics(rows, findings),
    ]
    return Page(name, name, headline(journey_id, findings), tuple(sections))


def headline(journey_id: str, findings: Findings) -> str:
    """Say in a sentence what is known of a journey."""
    primary = primary_metric(findings.portfolio)
    row = next((row for row in findings.estimates if (row.journey_id, row.metric, row.slice) == (journey_id, primary, ALL)), None)
    if row is None:
        return f"{called(journey_id, findings.portfolio)}: nothing is known yet, as no first entry has matured."
    return f"{wording.sentence_of(row, unit_of(primary, findings.portfolio), findings.portfolio)}."


def _verdict(shown: Estimate | None, rows: Sequence[Estimate], findings: Findings) -> Iterator[Section]:
    if shown is None or shown.verdict == NO_HOLDOUT:
        return
    unit = unit_of(shown.metric, findings.portfolio)
    unadjusted = f"Without the adjustment by what they did before: {unit.change(shown.effect_unadjusted)}."
    left = "" if shown.variance_left is None else f" The adjustment left {figures.share(shown.variance_left)} of the variance."
    lines = [unadjusted + left] if shown.effect_unadjusted is not None else []
    long = next((row for row in rows if row.metric == shown.metric and row.slice == LONG and row.effect is not None), None)
    if long is not None:
        days = findings.portfolio.measurement.long_days
        lines.append(
            f"In the {days} days after the first entry, re-entries included: {unit.change(long.effect)} "
            f"({unit.between(long.low, long.high)}), {wording.arms_of(long)}."
        )
    if shown.given_up is not None:
        lines.append(f"Held out, {shown.control:,} customers did without {figures.signed(shown.given_up)} {unit.noun} in all.")
    made = "" if shown.total is None else f" {figures.signed(shown.total)} {unit.noun} in all"
    interval = f" ({figures.between(shown.total_low, shown.total_high)})" if shown.total_low is not None else ""
    lines = [f"For those treated:{made}{interval}.", *lines] if made else lines
    yield Section("What it changed", "proved", f"{wording.standing_of(shown)}.", lines=tuple(lines))


def _funnel(journey_id: str, findings: Findings) -> Iterator[Section]:
    rows = findings.funnel.filter(pl.col("journey_id") == journey_id)
    if rows.is_empty():
        return
    counts = rows.row(0, named=True)
    stages = [
        ("came into the queue", counts["queued"], ""),
        ("entered", counts["entered"], _share(counts["entered"], counts["queued"], "of those queued")),
        ("of these treated", counts["treated"], _share(counts["treated"], counts["entered"], "of those who entered")),
        ("matured", counts["matured"], _share(counts["matured"], counts["treated"], "of the treated")),
        ("were sent something", counts["sent"], _share(counts["sent"], counts["matured"], "of those matured")),
        ("reached the goal", counts["goal"], _share(counts["goal"], counts["matured"], "of those matured")),
    ]
    known = [funnel.Stage(name, number, share) for name, number, share in stages if number is not None]
    title = f"{called(journey_id, findings.portfolio)}: from the queue to the goal"
    picture = funnel.draw(title, "entries, re-entries included; described, not proved", known)
    table = Table(("stage", "customers", "share"), tuple((stage.name, f"{stage.number:,}", stage.share) for stage in known))
    of = (
        f"{counts['entered']:,} entries, of which {counts['control']:,} were held out and sent nothing; "
        f"of the {counts['treated']:,} treated {counts['matured']:,} have matured."
    )
    yield Section(
        "From the queue to the goal",
        "described",
        of,
        picture=Picture(picture, "How many get from one stage to the next"),
        table=table,
        is_drawn=True,
    )


def _share(part: int | None, whole: int | None, words: str) -> str:
    return f"{figures.share(part / whole)} {words}" if part is not None and whole else ""


def _curves(journey_id: str, shown: Estimate | None, findings: Findings) -> Iterator[Section]:
    rows = findings.curves.filter(pl.col("journey_id") == journey_id).sort("days")
    by_arm = {arm: rows.filter(pl.col("arm") == arm) for arm in (TREATED, CONTROL)}
    if any(points.is_empty() for points in by_arm.values()):
        return
    lines = [_line(arm, points) for arm, points in by_arm.items()]
    numbers = {arm: int(points["customers"][-1]) for arm, points in by_arm.items()}
    unit = unit_of(primary_metric(findings.portfolio), findings.portfolio)
    title = f"{called(journey_id, findings.portfolio)}: {unit.noun} per customer since the entry"
    caption = "cumulated; bands: 95 % at each single day, without the adjustment; only the verdict is right at every look"
    drawn = curves.draw(title, caption, lines, figures.round_value, "days after the entry")
    of = f"First entries that have matured: {numbers[TREATED]:,} treated, {numbers[CONTROL]:,} held out" + (
        f"; {shown.immature:,} more have not matured yet." if shown else "."
    )
    last = max(rows["days"].to_list())
    table = Table(
        ("days after the entry", "treated", "held out", "difference"),
        tuple(_at(by_arm, day) for day in sorted({*(day for day in (1, 3, 7, 14, 21, 28, 60, 90) if day < last), last})),
    )
    yield Section(
        "Money since the entry",
        "proved",
        of,
        picture=Picture(drawn, "Money per customer by days after the entry, in both arms"),
        table=table,
        is_drawn=True,
    )


def _line(arm: str, points: pl.DataFrame) -> curves.Line:
    rows = points.select("days", "mean", "std_error").rows()
    name = "treated" if arm == TREATED else "held out"
    mean = rows[-1][1]
    return curves.Line(
        f"{name}: {figures.amount(mean)}",
        [(0, 0.0), *((days, mean) for days, mean, _ in rows)],
        [(0, 0.0, 0.0), *((days, mean - Z_95 * error, mean + Z_95 * error) for days, mean, error in rows)],
    )


def _at(by_arm: Mapping[str, pl.DataFrame], day: int) -> tuple[str, ...]:
    treated, control = (by_arm[arm].filter(pl.col("days") == day)["mean"].to_list() for arm in (TREATED, CONTROL))
    difference = treated[0] - control[0] if treated and control else None
    return (f"{day}", *(figures.amount(values[0] if values else None) for values in (treated, control)), figures.signed(difference))


def _fates(journey_id: str, findings: Findings) -> Iterator[Section]:
    rows = findings.movement.filter(pl.col("journey_id") == journey_id).sort("day_index")
    if rows.is_empty() or not rows["at_risk"][0]:
        return
    described = findings.described.filter(pl.col("journey_id") == journey_id, pl.col("worst_day").is_not_null())
    still, ended = 1.0, dict.fromkeys(ENDINGS, 0.0)
    shares: dict[str, list[float]] = {ending: [] for ending in (*ENDINGS, "running")}
    by_day = {row["day_index"]: row for row in rows.iter_rows(named=True)}
    for index in range(1, max(by_day) + 1):
        row = by_day.get(index, _NOBODY)
        at_risk = row["at_risk"]
        for ending in ENDINGS:
            ended[ending] += still * row[ending] / at_risk if at_risk else 0.0
            shares[ending].append(ended[ending])
        still *= 1 - sum(row[ending] for ending in ENDINGS) / at_risk if at_risk else 1.0
        shares["running"].append(max(0.0, 1 - sum(ended.values())))
    names = {**ENDINGS, "running": "still in it"}
    drawn = [fates.Fate(kind, names[kind], values) for kind, values in shares.items() if any(values)]
    worst = described.row(0, named=True) if described.height else None
    note = None if worst is None else (worst["worst_day"], f"day {worst['worst_day']}: most are lost")
    title = f"{called(journey_id, findings.portfolio)}: what became of those who entered"
    picture = fates.draw(title, "treated entries, by day of the journey; entries still running count as far as they go", drawn, note)
    lines = () if worst is None else (_worst(worst), *_alternatives(journey_id, worst["worst_day"], findings))
    table = Table(
        ("day", "still in it", *ENDINGS.values(), "unsubscribed"),
        tuple(
            (f"{row['day_index']}", f"{row['at_risk']:,}", *(f"{row[ending]:,}" for ending in ENDINGS), f"{row['unsubscribed']:,}")
            for row in rows.iter_rows(named=True)
            if any(row[ending] for ending in (*ENDINGS, "unsubscribed"))
        ),
    )
    of = f"{rows['at_risk'][0]:,} treated entries, re-entries included, whether they have matured or not."
    yield Section(
        "Where they left it",
        "described",
        of,
        lines=lines,
        picture=Picture(picture, "Shares by day of the journey"),
        table=table,
        is_drawn=True,
    )


_NOBODY = dict.fromkeys(("at_risk", *ENDINGS), 0)


def _worst(row: Mapping[str, int]) -> str:
    share = figures.share(row["worst_lost"] / row["worst_at_risk"])
    lost = f"{row['worst_lost']:,} of {row['worst_at_risk']:,} ({share})"
    return f"Most are lost on day {row['worst_day']}: {lost} left, were interrupted or unsubscribed."


def _alternatives(journey_id: str, day_index: int, findings: Findings) -> Iterator[str]:
    """Say what those lost on a day could have had instead."""
    rows = findings.alternatives.filter(pl.col("journey_id") == journey_id, pl.col("day_index") == day_index)
    rows = rows.sort("customers", "alternative", descending=[True, False]).head(_ALTERNATIVES)
    if rows.height:
        names = [
            f"{called(row['alternative'], findings.portfolio)} ({row['customers']:,}, {row['taken']:,} took it)"
            for row in rows.iter_rows(named=True)
        ]
        yield f"What they could have had that day instead: {all_of(names)}."


_ALTERNATIVES = 3


def _steps(journey_id: str, resolved: Journey | None, findings: Findings) -> Iterator[Section]:
    rows = findings.movement.filter(pl.col("journey_id") == journey_id, pl.col("sent") > 0).sort("day_index")
    if rows.is_empty():
        return
    table = Table(
        ("step", "day", "sent", "answered within 3 days", "treated, reaching the goal", "held out", "change"),
        tuple(
            (
                _step(row["day_index"], resolved),
                f"{row['day_index']}",
                f"{row['sent']:,}",
                f"{row['responded']:,}" + (f" ({figures.share(row['responded'] / row['sent'])})" if row["sent"] else ""),
                *(_advanced(row[f"advance_{arm}"], row[f"watched_{arm}"]) for arm in (TREATED, CONTROL)),
                _points(row["advance_treated"], row["advance_control"]),
            )
            for row in rows.iter_rows(named=True)
        ),
    )
    notes = (
        "Answers are described: who answers may have come anyway.",
        "The last three columns compare first entries still in it on that day with control on that day: proved, but without an interval.",
    )
    of = f"{rows['sent'].sum():,} messages delivered to {int(rows['at_risk'].to_numpy().max()):,} treated entries."
    yield Section("Steps", "described", of, table=table, notes=notes)


def _step(day_index: int, resolved: Journey | None) -> str:
    contents = [step.content for step in resolved.steps if step.day == day_index] if resolved else []
    return ", ".join(contents) or "sent on another day than planned"


def _advanced(share: float | None, watched: int | None) -> str:
    return figures.NOTHING if share is None else f"{figures.share(share)} of {watched:,}"


def _points(treated: float | None, control: float | None) -> str:
    return figures.NOTHING if treated is None or control is None else f"{figures.signed(100 * (treated - control))} points"


def _returned(journey_id: str, findings: Findings) -> Iterator[Section]:
    """Say how many who were quiet came back, in both arms."""
    rows = findings.described.filter(pl.col("journey_id") == journey_id, pl.col("quiet_treated") + pl.col("quiet_control") > 0)
    for row in rows.iter_rows(named=True):
        days = findings.portfolio.paths.quiet_days
        shares = {arm: row[f"returned_{arm}"] / row[f"quiet_{arm}"] if row[f"quiet_{arm}"] else None for arm in (TREATED, CONTROL)}
        line = (
            f"Of those without a response or an order in the {days} days up to the entry, {figures.share(shares[TREATED])} of the treated "
            f"and {figures.share(shares[CONTROL])} of those held out came back in the window: {_points(shares[TREATED], shares[CONTROL])}."
        )
        of = f"First entries that have matured, of quiet customers: {row['quiet_treated']:,} treated, {row['quiet_control']:,} held out."
        yield Section("Coming back", "exploratory", of, lines=(line,))


def _answers(journey_id: str, findings: Findings) -> Iterator[Section]:
    """Say what both arms answered, and whether they may be compared."""
    rows = findings.satisfaction.filter(pl.col("journey_id") == journey_id).sort("metric")
    if rows.is_empty():
        return
    every = list(rows.iter_rows(named=True))
    table = Table(
        ("asked", "treated who answered", "held out who answered", "average, treated", "average, held out", "comparable"),
        tuple(
            (
                row["metric"],
                *(f"{row[f'answered_{arm}']:,} of {row[arm]:,}" for arm in (TREATED, CONTROL)),
                *(figures.amount(row[f"average_{arm}"]) for arm in (TREATED, CONTROL)),
                "no: other shares answered" if row["not_comparable"] else "yes",
            )
            for row in every
        ),
        frozenset({"comparable"}),
    )
    of = f"First entries that have matured: {every[0][TREATED]:,} treated, {every[0][CONTROL]:,} held out."
    note = "Where more answer in one arm than in the other, their averages are of different people."
    yield Section("Satisfaction", "described", of, table=table, notes=(note,))


def _variants(rows: Sequence[Estimate], findings: Findings) -> Iterator[Section]:
    variants = [row for row in rows if row.slice.startswith("variant:")]
    if not variants:
        return
    table = Table(
        ("variant against the first", "measured by", "customers", "against", "of these", "of those", "change", "interval"),
        tuple(_compared(row, findings) for row in variants),
        frozenset({"measured by"}),
    )
    of = "Treated first entries that have matured; variants were drawn by lot at the entry."
    yield Section("Variants", "proved", of, table=table, notes=_hints(variants))


def _slices(rows: Sequence[Estimate], findings: Findings) -> Iterator[Section]:
    primary = primary_metric(findings.portfolio)
    slices = [row for row in rows if row.slice.startswith(("segment:", "month:", "channel:")) and row.metric == primary]
    if not slices:
        return
    unit = unit_of(primary, findings.portfolio)
    table = Table(
        ("slice, as it was at the entry", "treated", "held out", f"{unit.noun}, treated", f"{unit.noun}, held out", "change", "interval"),
        tuple(
            (
                row.slice.replace(":", " ", 1),
                f"{row.treated:,}",
                f"{row.control:,}",
                unit.value(row.mean_treated),
                unit.value(row.mean_control),
                unit.change(row.effect),
                unit.between(row.low, row.high),
            )
            for row in slices
        ),
    )
    drawn = forest_of(slices, unit, findings, by_slice=True) if any(row.scale is not None for row in slices) else None
    of = "Matured first entries; nobody asked for these in advance, and of twenty slices one looks good by chance."
    picture = None if drawn is None else Picture(drawn, "What the journey changes in each slice, with intervals")
    yield Section("Slices", "exploratory", of, picture=picture, table=table)


def _metrics(rows: Sequence[Estimate], findings: Findings) -> Iterator[Section]:
    primary = primary_metric(findings.portfolio)
    secondary = [row for row in rows if row.slice == ALL and row.metric != primary and row.effect is not None]
    if not secondary:
        return
    table = Table(
        ("metric", "treated", "held out", "of these", "of those", "change", "interval", "verdict"),
        tuple(
            (
                unit.noun,
                f"{row.treated:,}",
                f"{row.control:,}",
                unit.value(row.mean_treated),
                unit.value(row.mean_control),
                unit.change(row.effect),
                unit.between(row.low, row.high),
                wording.WORDS.get(row.verdict, row.verdict),
            )
            for row in secondary
            for unit in [unit_of(row.metric, findings.portfolio)]
        ),
        frozenset({"verdict"}),
    )
    of = "Matured first entries. Exploratory, but for what must not suffer, which has a verdict."
    yield Section("Other metrics", "exploratory", of, table=table)


def _compared(row: Estimate, findings: Findings) -> tuple[str, ...]:
    unit = unit_of(row.metric, findings.portfolio)
    first, _, variant = row.slice.removeprefix("variant:").partition("/")
    return (
        f"{variant} against {first}",
        unit.noun,
        f"{row.treated:,}",
        f"{row.control:,}",
        unit.value(row.mean_treated),
        unit.value(row.mean_control),
        unit.change(row.effect),
        unit.between(row.low, row.high),
    )


def _hints(rows: Sequence[Estimate]) -> tuple[str, ...]:
    return (
        ("An interval around nothing means that the variants cannot be told apart yet.",)
        if any(row.verdict == EXPLORATORY for row in rows)
        else ()
    )
