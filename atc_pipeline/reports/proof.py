"""The page *proof*: what all journeys together made, then each of them, and whether the comparisons are sound.

What belongs here: which of it is said, and in which order. What does not: words that all pages share (``wording``), drawing.
"""

from collections.abc import Iterator, Sequence

from atc_pipeline.explanation.words import all_of, count
from atc_pipeline.outcomes.tables import BROKEN, HARMLESS, HARMS, HELPS, LONG, NEGLIGIBLE, NO_HOLDOUT, RUN_RATE, TOO_EARLY, UNDECIDED
from atc_pipeline.outcomes.uplift import RUN_RATE_DAYS
from atc_pipeline.outcomes.verdicts import duration
from atc_pipeline.pictures import figures, forest
from atc_pipeline.reports import wording
from atc_pipeline.reports.estimates import Estimate, guarded, of_journeys, of_system, primary_metric
from atc_pipeline.reports.findings import Findings
from atc_pipeline.reports.page import Figure, Page, Picture, Section, Standing, Table
from atc_pipeline.reports.wording import Unit, called, unit_of

RARE = 0.001
"""How rare a split or a difference before the entry may be by chance, before nothing is believed any more (SPEC 11)."""

HOW_TO_READ = (
    "Proved means: lots decided who is sent something and who is not, and the two groups were compared, whatever was delivered or opened.",
    "An interval is right at every look: you may look every day, and stop on any.",
    "What journeys changed overlaps and is never added up: the sum is what the comparison of the whole system says.",
)


def proof(findings: Findings) -> Page:
    """Tell what is proved of the system and of each journey."""
    rows = findings.estimates
    system, journeys = of_system(rows, findings.portfolio), of_journeys(rows, findings.portfolio)
    unit = unit_of(primary_metric(findings.portfolio), findings.portfolio)
    sections = [
        *_system(system, unit, findings),
        *_journeys(journeys, unit, findings),
        *_guardrails(guarded(rows, findings.portfolio), findings),
        *_observed(journeys, unit, findings),
        *_checks([*system[:1], *journeys], findings),
        Section("How to read this", lines=HOW_TO_READ),
    ]
    since = f", entries from {wording.on(findings.since)} on" if findings.since else ""
    return Page("Proof", f"Proof: what journeys changed, as of {wording.on(findings.day)}{since}", headline(findings), tuple(sections))


def headline(findings: Findings) -> str:
    """Say in a sentence what is known of the whole system."""
    if nothing_was_sent(findings):
        return "Nothing was sent, as far as we were told, so that nothing was earned by sending: both groups were left alone alike."
    system, unit = of_system(findings.estimates, findings.portfolio), unit_of(primary_metric(findings.portfolio), findings.portfolio)
    if not system:
        return "Nothing can be said of all journeys together yet: nobody's first entry has matured."
    return f"{wording.sentence_of(system[0], unit, findings.portfolio)}."


def nothing_was_sent(findings: Findings) -> bool:
    """Return whether it is known that no message was ever delivered."""
    return findings.delivered == 0


def _system(rows: Sequence[Estimate], unit: Unit, findings: Findings) -> Iterator[Section]:
    if not rows:
        yield Section("The whole system", lines=(headline(findings),))
        return
    shown = rows[0]
    made = tuple(
        Figure(f"{figures.signed(row.total)} {unit.noun}", f"{_of_slice(row, findings)}: {_made(row, shown.verdict)}")
        for row in rows
        if row.total is not None
    )
    lines = [] if findings.delivered is None or made else [headline(findings)]
    if shown.from_on is not None:
        held = (findings.day - shown.from_on).days + 1
        for_days = f"for up to {count(held, 'day')}, since {wording.on(shown.from_on)}"
        out = f"{count(shown.control, 'customer')} were held out of everything {for_days}"
        lines.append(f"{out}, which gave up {figures.amount(shown.given_up)} {unit.noun}." if shown.verdict == HELPS else f"{out}.")
    table = Table(
        ("what", "treated", "held out", f"{unit.noun} of these", "of those", "change", "interval", "smallest visible"),
        tuple(
            (
                _of_slice(row, findings),
                f"{row.treated:,}",
                f"{row.control:,}",
                unit.value(row.mean_treated),
                unit.value(row.mean_control),
                _change(row, unit),
                _interval(row, unit),
                _visible(row, unit),
            )
            for row in rows
        ),
    )
    standing: Standing = "described" if shown.verdict == NO_HOLDOUT else "proved"
    yield Section("The whole system", standing, f"{wording.standing_of(shown)}.", made, tuple(lines), table=table)


def _of_slice(row: Estimate, findings: Findings) -> str:
    days = findings.portfolio.measurement.long_days
    names = {RUN_RATE: f"in the {RUN_RATE_DAYS} days up to {wording.on(findings.day)}", LONG: f"in the {days} days after the first entry"}
    return names.get(row.slice, "in the days after the first entry")


def _made(row: Estimate, verdict: str) -> str:
    net = "" if row.net is None else f"; net of margin and cost {figures.signed(row.net)}"
    between = figures.between(row.total_low, row.total_high)
    if verdict in {HELPS, HARMS}:
        return f"made by it in all ({between}){net}"
    return f"the best guess, where anything from {between} is possible{net}"


def _journeys(rows: Sequence[Estimate], unit: Unit, findings: Findings) -> Iterator[Section]:
    compared = [row for row in rows if row.verdict != NO_HOLDOUT]
    if not compared:
        yield Section(
            "Journeys", lines=("No journey was compared with being left alone: none has a control group whose entries have matured.",)
        )
        return
    treated, control = sum(row.treated for row in compared), sum(row.control for row in compared)
    immature = sum(row.immature for row in compared)
    of = (
        f"First entries, {treated:,} treated against {control:,} held out, each journey against its own control; {immature:,} more have "
        "not matured yet. Customers may be in several."
    )
    numbers = {verdict: sum(row.verdict == verdict for row in compared) for verdict in _ORDER}
    counted = [wording.COUNTED[verdict][number != 1].format(number) for verdict, number in numbers.items() if number]
    lines = [f"Of {count(len(compared), 'journey')} with a control group {all_of(counted)}."]
    picture = Picture(
        forest_of(compared, unit, findings), "What each journey changes, with intervals, verdicts and smallest visible effects"
    )
    heads = (
        "journey",
        "verdict",
        "treated",
        "held out",
        f"{unit.noun}, treated",
        f"{unit.noun}, held out",
        "change",
        "interval",
        "smallest visible",
    )
    table = Table(
        heads,
        tuple(
            (
                called(row.journey_id, findings.portfolio),
                wording.WORDS.get(row.verdict, row.verdict),
                f"{row.treated:,}",
                f"{row.control:,}",
                unit.value(row.mean_treated),
                unit.value(row.mean_control),
                _change(row, unit),
                _interval(row, unit),
                _visible(row, unit),
            )
            for row in compared
        ),
        frozenset({"verdict"}),
    )
    notes = tuple(f"{wording.sentence_of(row, unit, findings.portfolio)}{_pace(row)}." for row in compared)
    yield Section("Journeys", "proved", of, (), tuple(lines), picture, table, notes)


_ORDER = (HELPS, HARMS, HARMLESS, NEGLIGIBLE, UNDECIDED, TOO_EARLY, BROKEN)


def _pace(row: Estimate) -> str:
    """Say what an undecided verdict would take."""
    if row.verdict != UNDECIDED or row.more_customers is None:
        return ""
    pace = f", some {duration(row.more_days)} at the present pace," if row.more_days is not None else ""
    return f"; {count(row.more_customers, 'more customer')}{pace} make the interval half as wide"


def forest_of(rows: Sequence[Estimate], unit: Unit, findings: Findings, *, by_slice: bool = False) -> str:
    """Draw journeys under each other, as shares of what control did; where that is near nothing, words alone."""
    what = f"What {called(rows[0].journey_id, findings.portfolio)} changes in slices" if by_slice else "What each journey changes"
    title = f"{what}: {unit.noun}{'' if unit.is_share else ' per customer'}, against being left alone"
    caption = f"in percent of what held-out customers did; as of {wording.on(findings.day)}; intervals are right at every look"
    drawn = forest_rows(rows, unit, findings, by_slice=by_slice)
    return forest.draw(title, caption, drawn, figures.signed_share, [] if by_slice else wording.LEGEND)


def forest_rows(rows: Sequence[Estimate], unit: Unit, findings: Findings, *, by_slice: bool = False) -> list[forest.Row]:
    """Word the rows of a forest."""
    return [
        forest.Row(
            name=row.slice.replace(":", " ", 1) if by_slice else called(row.journey_id, findings.portfolio),
            beneath=wording.arms_of(row),
            words=wording.WORDS.get(row.verdict, row.verdict),
            figures=_figures(row, unit),
            mark=wording.MARKS.get(row.verdict) if row.scale is not None else None,
            effect=row.shared(row.effect),
            low=row.shared(row.low),
            high=row.shared(row.high),
            visible=row.visible_share,
        )
        for row in rows
    ]


def _figures(row: Estimate, unit: Unit) -> str:
    if row.effect is None:
        return "nothing to compare yet"
    if row.scale is None:
        return f"{unit.change(row.effect)} ({unit.between(row.low, row.high)})"
    interval = figures.between(row.shared(row.low), row.shared(row.high), as_share=True)
    return f"{figures.signed_share(row.relative)} ({interval})"


def _change(row: Estimate, unit: Unit) -> str:
    relative = "" if row.relative is None else f" ({figures.signed_share(row.relative)})"
    return f"{unit.change(row.effect)}{relative}"


def _interval(row: Estimate, unit: Unit) -> str:
    return unit.between(row.low, row.high)


def _visible(row: Estimate, unit: Unit) -> str:
    if row.smallest_visible is None:
        return figures.NOTHING
    return unit.change(row.smallest_visible).lstrip("+") if row.visible_share is None else figures.share(row.visible_share)


def _guardrails(rows: Sequence[Estimate], findings: Findings) -> Iterator[Section]:
    watched = [row for row in rows if row.verdict != NO_HOLDOUT]
    unwatched = len({row.journey_id for row in rows if row.verdict == NO_HOLDOUT})
    if not rows:
        return
    table = Table(
        ("journey", "what must not suffer", "verdict", "treated", "held out", "change", "interval"),
        tuple(
            (
                called(row.journey_id, findings.portfolio),
                row.metric,
                wording.WORDS.get(row.verdict, row.verdict),
                f"{row.treated:,}",
                f"{row.control:,}",
                _change(row, unit_of(row.metric, findings.portfolio)),
                _interval(row, unit_of(row.metric, findings.portfolio)),
            )
            for row in watched
        ),
        frozenset({"what must not suffer", "verdict"}),
    )
    of = "First entries that have matured, treated against held out; tested for harm together with the journeys above."
    notes = (f"Of {count(unwatched, 'journey')} without a control group nobody can tell.",) if unwatched else ()
    yield Section("What must not suffer", "proved", of, table=table if watched else None, notes=notes)


def _observed(rows: Sequence[Estimate], unit: Unit, findings: Findings) -> Iterator[Section]:
    """Show what was seen of journeys without a control group, and say that it proves nothing."""
    without = [row for row in rows if row.verdict == NO_HOLDOUT]
    if not without:
        return
    table = Table(
        ("journey", "customers", f"of these with {unit.noun}" if not unit.is_share else "of these reaching the goal", unit.noun),
        tuple(
            (called(row.journey_id, findings.portfolio), f"{row.treated:,}", f"{row.treated_nonzero:,}", unit.value(row.mean_treated))
            for row in without
        ),
    )
    of = "First entries that have matured, all of them treated."
    note = "They may have done so anyway: without a holdout nobody can tell."
    yield Section("Not proved: journeys without a control group", "described", of, table=table, notes=(note,))


def _checks(rows: Sequence[Estimate], findings: Findings) -> Iterator[Section]:
    """Say whether the comparisons are sound, and what is wrong with those that are not."""
    if not rows:
        return
    broken = [row for row in rows if row.verdict == BROKEN]
    lines = [f"{called(row.journey_id, findings.portfolio)} is not to be read{_reason(row)}." for row in broken]
    if not broken:
        lines.append(f"All {count(len(rows), 'comparison')} hold: arms as they were drawn, alike before, and control left alone.")
    table = Table(
        (
            "comparison",
            "the split by chance",
            "as different before by chance",
            "merged across arms",
            "in both arms",
            "control sent to",
            "checks",
        ),
        tuple(
            (
                called(row.journey_id, findings.portfolio),
                _chance(row.sample_ratio_p),
                _chance(row.before_p),
                f"{row.contaminated:,}",
                f"{row.unstable:,}",
                f"{row.sent_to_control:,}",
                "broken" if row.verdict == BROKEN else "hold",
            )
            for row in rows
        ),
        frozenset({"checks"}),
    )
    note = "How often lots as fair as ours would be as uneven as this. Rarer than once in 1,000 is believed of no lot."
    yield Section("Checks", "", "All first entries, matured or not.", (), tuple(lines), table=table, notes=(note,))


def _reason(row: Estimate) -> str:
    return f": {row.verdict_reason}" if row.verdict_reason else ""


def _chance(share: float | None) -> str:
    """Write how often something happens by chance."""
    if share is None:
        return figures.NOTHING
    if share >= 0.1:
        return f"{round(10 * share)} in 10"
    times = min(1_000_000, round(1 / share)) if share > 0 else 1_000_000
    return f"once in {times:,}" + (" or less" if times == 1_000_000 else "")
