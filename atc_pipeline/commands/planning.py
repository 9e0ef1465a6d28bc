"""What another portfolio would do, and whether this one would do the same again: ``plan``, ``replay``. The lake is only read.

What belongs here: these commands. What does not: deciding again (``atc_pipeline.plan``).
"""

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from atc_pipeline.commands.command import Answer, Place, Progress, Refused
from atc_pipeline.days.features import OutdatedDayError
from atc_pipeline.escaping import plain
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.journeys.resolution import load_portfolio
from atc_pipeline.plan import markdown, report, terminal
from atc_pipeline.plan.planning import Past, Room, plan, reported
from atc_pipeline.plan.replay import ReplayedDay, replay
from atc_pipeline.plan.valuing import Valued, matured_days, worth
from atc_pipeline.plan.verdict import RULES, RuleError, judged, rule
from atc_pipeline.tables.store import DamagedDayError, MissingDayError, OlderDayError, Store
from resources.storage.code import code_version
from resources.storage.memory import Memory
from resources.storage.overlay import Overlay
from resources.storage.scratch import scratch

REFUSED = 2
"""Exit code where a file is refused."""
MOST_IN_MEMORY = 2_000_000
"""Answers of a course up to which it is kept in memory; each comes with some twenty option rows."""
SHOWN_DIFFERENCES = 20

FORMATS: Mapping[str, Callable[[report.Report], str]] = {"text": terminal.text, "md": markdown.markdown, "json": report.written}

_UNDECIDABLE = (MissingDayError, OlderDayError, OutdatedDayError, DamagedDayError)


class Plan:
    """Says what a changed file would have done."""

    name = "plan"
    help = "say what a changed journeys.yaml would have done over the last days; nothing is written or sent"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect a file, days, a form and rules."""
        parser.add_argument("--journeys", type=Path, metavar="FILE", help="the changed file; journeys.yaml, if left out")
        parser.add_argument("--against", type=Path, metavar="FILE", help="compare with this file, not with what each day really ran with")
        parser.add_argument("--days", type=_days, default=30, help="how many of the last days, 30 if left out")
        parser.add_argument("--to", metavar="DAY", help="the last of them, YYYY-MM-DD; the latest day decided, if left out")
        parser.add_argument("--format", choices=list(FORMATS), default="text", help="text, md (for a pull request) or json")
        parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there")
        parser.add_argument(
            "--fail-on", nargs="+", action="extend", default=[], metavar="RULE", help=f"exit code 1 if one fails: {_rules()}"
        )
        parser.add_argument(
            "--accept", action="store_true", help="note that this version was looked at: learning.use may become live by it"
        )

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Report it; exit code 1 where a rule failed, 2 where a file or rule is refused, 3 where the past cannot be reproduced."""
        try:
            rules = [rule(text) for text in asked.fail_on]
            file = asked.journeys or Path(place.journeys.path)
            after, against = load_portfolio(file), load_portfolio(asked.against) if asked.against else None
            if against is not None and asked.accept:
                raise Refused("--accept notes that the file was compared with what each day really ran with: leave --against out", REFUSED)
        except (RuleError, JourneysError) as problem:
            raise Refused(str(problem), REFUSED) from None
        days = window(place.lake.days("journey_assignments"), asked.days, asked.to)
        past, progress = Past(place.lake, place.portfolio_of, code_version()), Progress()
        try:
            made = plan(past, after, days, _room(place, days), file=file.name, against=against, say=lambda step: progress(*step))
        except _UNDECIDABLE as problem:
            raise Refused(f"cannot be decided again: {problem}") from None
        finally:
            progress.end()
        judgement = judged(made, rules)
        noted = _accepted(place, after, is_right=judgement.verdict.exit_code == 0) if asked.accept else ""
        written = FORMATS[asked.format](judgement)
        if asked.out is None:
            text = written.rstrip("\n")
            return Answer(f"{text}\n\n{noted}" if noted and asked.format == "text" else text, judgement.verdict.exit_code)
        try:
            asked.out.write_text(written, encoding="utf-8")
        except OSError as problem:
            raise Refused(f"--out {asked.out}: {problem.strerror}") from None
        lines = [plain(judgement.verdict.headline), f"written into {asked.out}", *([noted] if noted else [])]
        return Answer("\n".join(lines), judgement.verdict.exit_code)


class Worth:
    """Says what a changed file would have earned, by what was drawn by chance."""

    name = "value"
    help = "say what a changed journeys.yaml would have earned, by what was drawn by chance; nothing is written or sent"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect a file, days and a form."""
        parser.add_argument("--journeys", type=Path, metavar="FILE", help="the changed file; journeys.yaml, if left out")
        parser.add_argument("--days", type=_days, default=90, help="how many of the latest days that have matured, 90 if left out")
        parser.add_argument("--to", metavar="DAY", help="the day by which they have, YYYY-MM-DD; the latest day decided, if left out")
        parser.add_argument("--format", choices=["text", "json"], default="text", help="text or json")

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Say it, or what is lacking. Raises Refused."""
        try:
            changed = load_portfolio(asked.journeys or Path(place.journeys.path))
        except JourneysError as problem:
            raise Refused(str(problem), REFUSED) from None
        last = window(place.lake.days("journey_assignments"), 1, asked.to)[-1]
        progress, valued = Progress(), None
        try:
            days = matured_days(place.lake, place.portfolio_of(last), last, asked.days)
            with _room(place, days or [last])(place.lake) as fresh:
                for made in worth(place.lake, fresh, place.portfolio_of, changed, days, last):
                    if isinstance(made, Valued):
                        valued = made
                    else:
                        progress(*made)
        except _UNDECIDABLE as problem:
            raise Refused(f"cannot be decided again: {problem}") from None
        finally:
            progress.end()
        assert valued is not None
        report_of = reported(valued, report.Value(is_known=False, says="", score=report.Figures(before=None, after=None)))
        if asked.format == "json":
            return Answer(report_of.model_dump_json(indent=2, exclude={"score"}))
        stretch = [f"Decisions from {report_of.first} to {report_of.last}, by what came of them."] if report_of.first else []
        return Answer(plain("\n".join([*stretch, report_of.says, *report_of.notes])))


class Replay:
    """Decides recorded days again."""

    name = "replay"
    help = "decide recorded days again, each by its own version, and compare all columns; nothing is written or sent"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect a stretch of days."""
        parser.add_argument("--from", dest="first", metavar="DAY", help="YYYY-MM-DD; the first day there is, if left out")
        parser.add_argument("--to", dest="last", metavar="DAY", help="YYYY-MM-DD; the latest day there is, if left out")

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Say what is not the same; exit code 1 where nothing says why."""
        recorded = place.lake.days("journey_assignments")
        first, last = (_day(recorded, text) if text else None for text in (asked.first, asked.last))
        days = [day for day in recorded if (first or day) <= day <= (last or day)]
        if not days:
            raise Refused(f"no decisions in {place.lake.root} to replay: run make demo, or materialize the assets")
        progress, otherwise = Progress(), []
        try:
            for replayed in replay(place.lake, place.portfolio_of, days, code_version(), place.journeys.versions.find):
                progress("replaying", replayed.day)
                otherwise += [replayed] if replayed.number else []
        except _UNDECIDABLE as problem:
            raise Refused(f"cannot be decided again: {problem}") from None
        finally:
            progress.end()
        return _told(days, otherwise)


def window(recorded: Sequence[date], number: int, to: str | None) -> list[date]:
    """Return the last days that were decided without a gap. Raises Refused."""
    if not recorded:
        raise Refused("no decisions yet, so that nothing can be compared: run make demo, or materialize the assets")
    last = recorded[-1] if to is None else _day(recorded, to)
    days, there = [last], set(recorded)
    while len(days) < number and (before := days[-1] - timedelta(days=1)) in there:
        days.append(before)
    return days[::-1]


def _accepted(place: Place, portfolio: Portfolio, *, is_right: bool) -> str:
    """Note that a version was looked at, unless something was wrong with it, and say so. Raises Refused."""
    if not is_right:
        return f"Version {portfolio.fingerprint} is not accepted: see above."
    try:
        place.journeys.accept(portfolio)
    except OSError as problem:
        raise Refused(f"--accept {place.home}: {problem.strerror}") from None
    return f"Version {portfolio.fingerprint} is accepted: learning.use may become live by it. Any other edit asks again."


def _room(place: Place, days: Sequence[date]) -> Room:
    is_small = place.lake.rows("journey_assignments", days[-1]) * len(days) <= MOST_IN_MEMORY

    @contextmanager
    def room(below: Store) -> Iterator[Store]:
        if is_small:
            yield Overlay(below, Memory())
            return
        with scratch() as above:
            yield Overlay(below, above)

    return room


def _told(days: Sequence[date], otherwise: Sequence[ReplayedDay]) -> Answer:
    stretch = f"{days[0]} to {days[-1]} ({len(days):,} days)"
    if not otherwise:
        return Answer(f"{stretch}: replayed to the last bit, in every column of every table of the decision.")
    defects = [replayed for replayed in otherwise if replayed.is_defect]
    lines = [f"{stretch}: {len(otherwise):,} days come out otherwise, {len(defects):,} of them without a reason."]
    reasons = Counter(reason for replayed in otherwise for reason in replayed.reasons)
    lines += [f"  {number:,} days: {reason}" for reason, number in reasons.items()]
    shown = pl.concat([replayed.differences for replayed in defects or otherwise]).head(SHOWN_DIFFERENCES)
    lines.append(f"The first differences, of {sum(replayed.number for replayed in otherwise):,}:")
    lines += [
        plain(f"  {table} of {day}, {key}: {column} was recorded as {recorded} and comes out as {again}")
        for table, day, key, column, recorded, again in shown.iter_rows()
    ]
    return Answer("\n".join(lines), 1 if defects else 0)


def _rules() -> str:
    return ", ".join(kind.example.replace("%", "%%") for kind in RULES.values())


def _days(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _day(recorded: Sequence[date], text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise Refused(f"{text}: expected a day such as {recorded[-1] if recorded else '2026-11-01'}", REFUSED) from None
    if day not in recorded:
        there = f"the lake has {recorded[0]} to {recorded[-1]}" if recorded else "the lake has none yet"
        raise Refused(f"nothing was decided for {day}: {there}", REFUSED)
    return day
