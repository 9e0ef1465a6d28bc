"""The page *learning*: what is foretold of goals, whether it decides, how well it did, and what moves it.

What belongs here: which of it is said, and in which order. What does not: what is learned (``learning``), drawing, reading tables.
"""

import math
from collections.abc import Iterator

import polars as pl

from atc_pipeline.explanation.words import all_of, count
from atc_pipeline.learning.model import GoalModel, Moves
from atc_pipeline.learning.quality import DAYS, HIGH, LOW, outside
from atc_pipeline.learning.tables import EVERY, JOURNEY, SHARED
from atc_pipeline.pictures import calibration, curves, figures
from atc_pipeline.pictures import moves as moved
from atc_pipeline.reports import wording
from atc_pipeline.reports.findings import Findings
from atc_pipeline.reports.page import Page, Picture, Section, Table
from atc_pipeline.reports.wording import called
from atc_pipeline.rules.probabilities import MODEL, PRIOR, RATES

TENTHS = 10
"""Groups of entries by what was foretold of them."""
MOST_FEATURES = 12
"""Features whose weight is shown: those that move it most."""
SOURCES = {
    MODEL: "by the customer: the model",
    RATES: "by the journey alone: its own rate",
    PRIOR: "by nobody: policy.prior_propensity",
}
"""In words, where a probability comes from."""
HOW_TO_READ = (
    "A probability is foretold at the entry, by nothing but what had matured on the day before, and never changed afterwards.",
    "Described means: how well it was foretold says nothing about what a journey causes. That is said under Proof.",
)


def learning(findings: Findings) -> Page:
    """Tell what is learned, and how well it did."""
    sections = [
        *_known(findings),
        *_calibrated(findings),
        *_by_week(findings),
        *_by_journey(findings),
        *_moved_by(findings),
        Section("How to read this", lines=HOW_TO_READ),
    ]
    return Page("Learning", f"Learning: what is foretold, as of {wording.on(findings.day)}", headline(findings), tuple(sections))


def headline(findings: Findings) -> str:
    """Say in a sentence whether something is learned, and whether it decides."""
    learned = findings.portfolio.learning
    if learned is None:
        return "Nothing is learned: journeys.yaml has no section `learning`."
    shared = findings.models.filter(pl.col("part") == SHARED)
    if shared.is_empty():
        return "Nothing is learned yet."
    first = shared.row(0, named=True)
    use = "It decides (live)." if learned.use == "live" else "It is only written down beside the score (shadow)."
    if first["source"] == PRIOR:
        return f"Nothing is learned yet: {first['note'] or 'nothing has matured'}. {use}"
    by = (
        "customers are told apart"
        if first["source"] == MODEL
        else "journeys are told apart, customers not: that foretold no better than chance may"
    )
    return f"Learned from {first['entries']:,} entries with {count(first['goals'], 'goal')}: {by}. {use}"


def _known(findings: Findings) -> Iterator[Section]:
    shared = findings.models.filter(pl.col("part") == SHARED)
    if shared.is_empty():
        return
    first = shared.row(0, named=True)
    lines = []
    if first["fitted_on"] is not None:
        lines.append(
            f"Fitted on {wording.on(first['fitted_on'])}, from {first['entries']:,} entries that had matured by "
            f"{wording.on(first['trained_to'])}, {first['controls']:,} of them in control."
        )
    if first["log_loss"] is not None:
        better = first["log_loss_rates"] - first["log_loss"]
        by_chance = ", no more than chance may do" if better > 0 and first["source"] == RATES else ""
        by = f"{'better' if better > 0 else 'worse'} by {abs(better):.4f}{by_chance}"
        lines.append(
            f"The latest fifth of them, foretold from the rest: log-loss {first['log_loss']:.4f}, by the rates of journeys alone "
            f"{first['log_loss_rates']:.4f} ({by}); penalty {first['lambda']:g}."
        )
    lines += [f"{first['note'][0].upper()}{first['note'][1:]}."] if first["note"] else []
    rows = findings.models.filter((pl.col("part") == JOURNEY) & pl.col("name").is_in(["rate", "baseline_rate", "tau", "a"]))
    shared_effect = dict(shared.select("name", "value").iter_rows()).get("tau")
    table = []
    for journey_id in findings.journeys:
        theirs = rows.filter(pl.col("journey_id") == journey_id)
        if theirs.is_empty():
            continue
        numbers = dict(theirs.select("name", "value").iter_rows())
        own = numbers.get("tau")
        # Of a journey that holds nobody out an effect is what penalties make of it, and no finding.
        is_held_out = theirs["controls"][0] > 0
        effect = shared_effect + own if own is not None and shared_effect is not None and is_held_out else None
        table.append(
            (
                called(journey_id, findings.portfolio),
                SOURCES[theirs["source"][0]],
                f"{theirs['entries'][0]:,}",
                f"{theirs['goals'][0]:,}",
                f"{theirs['controls'][0]:,}",
                figures.share(numbers.get("rate")),
                figures.share(numbers.get("baseline_rate") if theirs["controls"][0] else None),  # else nobody was
                figures.NOTHING if effect is None else f"× {math.exp(effect):.2f}",
            )
        )
    heads = ("journey", "foretold", "entries", "goals", "in control", "reach it, treated", "left alone", "odds when treated")
    of = f"{first['entries']:,} mature entries, treated and control, first ones and later ones."
    yield Section("What is known", "described", of, (), tuple(lines), None, Table(heads, tuple(table), frozenset({"foretold"})))


def _calibrated(findings: Findings) -> Iterator[Section]:
    judged = findings.judged
    if judged.height < TENTHS:
        return
    # What was foretold the same stays together, whatever came of it: parted by that, it would look as if it had been foretold wrongly.
    tenth = ((pl.col("expected").rank("average") - 0.5) * TENTHS / judged.height).floor()
    groups = (
        judged.sort("expected", "goal")
        .group_by(tenth.alias("tenth"), maintain_order=True)
        .agg(
            entries=pl.len(),
            expected=pl.col("expected").mean(),
            observed=pl.col("goal").mean(),
            error=(pl.col("expected") * (1 - pl.col("expected"))).sum().sqrt() / pl.len(),
        )
        .sort("tenth")
        .to_dicts()
    )
    tenths = [
        calibration.Tenth(
            row["expected"],
            row["observed"],
            max(0.0, row["expected"] - 2 * row["error"]),
            min(1.0, row["expected"] + 2 * row["error"]),
        )
        for row in groups
    ]
    of = (
        f"{judged.height:,} entries that matured in the last thirteen weeks and whose probability was learned, in "
        f"{count(len(groups), 'group')} by it: a tenth of them in each, but that those foretold the same stay together."
    )
    says = "; ".join(f"foretold {figures.share(tenth.expected)}, came {figures.share(tenth.observed)}" for tenth in tenths)
    title = "What was foretold, and what came"
    picture = Picture(calibration.draw(title, "groups of entries by what was foretold of them", tenths, figures.share), says)
    table = Table(
        ("group, by what was foretold", "entries", "foretold", "came"),
        tuple(
            (f"{number}", f"{row['entries']:,}", figures.share(row["expected"]), figures.share(row["observed"]))
            for number, row in enumerate(groups, start=1)
        ),
    )
    yield Section("As it was foretold", "described", of, (), (), picture, table, is_drawn=True)


def _by_week(findings: Findings) -> Iterator[Section]:
    rows = findings.quality.filter((pl.col("journey_id") == EVERY) & (pl.col("expected") > 0)).sort("date")
    weeks = (
        rows.group_by_dynamic("date", every="1w", closed="left")
        .agg(pl.col("matured", "goals", "expected", "drawn_matured", "drawn_goals", "drawn_expected").sum())
        .filter(pl.col("expected") > 0)
    )
    if weeks.height < 2:  # of one week there is no line
        return
    first = weeks["date"][0]
    points = [((row["date"] - first).days / 7, row["goals"] / row["expected"]) for row in weeks.to_dicts()]
    band = [
        (at, max(0.0, 1 - 2 / math.sqrt(row["expected"])), 1 + 2 / math.sqrt(row["expected"]))
        for (at, _), row in zip(points, weeks.to_dicts(), strict=True)
    ]
    drawn = weeks.sum()
    lines = [curves.Line("goals that came, by those foretold", points), curves.Line("as foretold", [(at, 1.0) for at, _ in points], band)]
    picture = curves.draw(
        "Goals that came, by those foretold", "by week of maturing; the band is what chance alone does", lines, figures.round_value,
        f"weeks since {wording.on(first)}",
    )  # fmt: skip
    of = (
        f"{int(drawn['matured'][0]):,} entries that matured since {wording.on(first)}; {float(drawn['expected'][0]):,.0f} goals were "
        f"foretold, {int(drawn['goals'][0]):,} came."
    )
    notes = []
    if drawn["drawn_matured"][0]:
        notes.append(
            f"Of those that exploration drew, {int(drawn['drawn_matured'][0]):,}: {float(drawn['drawn_expected'][0]):,.1f} were foretold, "
            f"{int(drawn['drawn_goals'][0]):,} came."
        )
    yield Section("Week by week", "described", of, picture=Picture(picture, of), notes=tuple(notes))


def _by_journey(findings: Findings) -> Iterator[Section]:
    lately = findings.lately
    if lately.is_empty():
        return
    far = outside(lately)
    sums = lately.group_by("journey_id").agg(pl.col("matured", "goals", "expected").sum()).sort("journey_id")
    table = Table(
        ("journey", "entries", "foretold", "came", "came by foretold", ""),
        tuple(
            (
                called(row["journey_id"], findings.portfolio),
                f"{row['matured']:,}",
                f"{row['expected']:,.1f}",
                f"{row['goals']:,}",
                f"{row['goals'] / row['expected']:.2f}" if row["expected"] else figures.NOTHING,
                "too far" if far.get(row["journey_id"]) else "",
            )
            for row in sums.to_dicts()
        ),
        frozenset({""}),
    )
    names = [called(id_, findings.portfolio) for id_, is_far in far.items() if is_far]
    note = (
        f"{all_of(names)}: outside of {LOW:g} to {HIGH:g}, which chance does less than once in a thousand times. Three days in a row, and "
        "the journey's own rate is used until the next fit."
    )
    of = f"Entries that matured in the last {DAYS} days, by the probabilities as they were foretold at the entry."
    yield Section("Journey by journey", "described", of, table=table, notes=(note,) if names else ())


def _moved_by(findings: Findings) -> Iterator[Section]:
    """Show what the features do to the odds, between the ends of what they are: those that do most."""
    model = GoalModel.of(findings.models)
    moves = model.moves()[:MOST_FEATURES]
    if not moves:
        return
    title = "What moves it most"
    rows = [_row_of(move) for move in moves]
    heads = ("feature", "lowest", "odds", "highest", "odds there", "odds if unknown")
    table = Table(heads, tuple(_cells_of(move) for move in moves))
    caption = "what multiplies the odds of the goal, beside a usual customer, everything else the same"
    says = "; ".join(f"{row.name}: {row.words}" for row in rows)
    of = (
        f"Of the model fitted on {model.counted.entries:,} mature entries: what all journeys share. The command explain says it of a "
        "single customer. A feature that moves it may stand for another that causes it."
    )
    is_used = MODEL in set(findings.models.filter(pl.col("part") == JOURNEY)["source"])
    unused = () if is_used else ("No journey uses the model today: this is what it would do.",)
    yield Section(title, "described", of, notes=unused, picture=Picture(moved.draw(title, caption, rows), says), table=table, is_drawn=True)


def _row_of(move: Moves) -> moved.Row:
    factors = [math.exp(part) for _, part in move.points]
    (low, _), (high, _) = move.points[0], move.points[-1]
    unknown = None if move.unknown is None else math.exp(move.unknown)
    is_one = len(move.points) == 1
    words = f"at {_value(low)} × {factors[0]:.2f}" + ("" if is_one else f", at {_value(high)} × {factors[-1]:.2f}")
    best = max(range(len(factors)), key=lambda place: abs(math.log(factors[place])))
    if 0 < best < len(factors) - 1:  # it turns on the way
        words += f", at {_value(move.points[best][0])} × {factors[best]:.2f}"
    words += "" if unknown is None else f", unknown × {unknown:.2f}"
    return moved.Row(move.feature, words, factors[0], factors[-1], factors[1:-1], unknown)


def _cells_of(move: Moves) -> tuple[str, ...]:
    (low, of_low), (high, of_high) = move.points[0], move.points[-1]
    unknown = figures.NOTHING if move.unknown is None else f"× {math.exp(move.unknown):.2f}"
    return move.feature, _value(low), f"× {math.exp(of_low):.2f}", _value(high), f"× {math.exp(of_high):.2f}", unknown


def _value(value: float) -> str:
    return figures.round_value(float(f"{value:.3g}"))
