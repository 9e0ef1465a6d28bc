"""What came of it: ``uplift``, what is proved of journeys and of all together; ``paths``, what is described. The lake is only read.

What belongs here: these commands. What does not: estimating (``outcomes``), and what is said (``reports``).
"""

import difflib
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from datetime import date

from atc_pipeline.commands.command import Answer, Place, Refused
from atc_pipeline.escaping import plain
from atc_pipeline.journeys.portfolio import SYSTEM
from atc_pipeline.reports import markdown, numbers, terminal
from atc_pipeline.reports.findings import Findings
from atc_pipeline.reports.journey import journey
from atc_pipeline.reports.page import Page
from atc_pipeline.reports.paths import of_journey, paths
from atc_pipeline.reports.proof import proof
from atc_pipeline.reports.reading import gather
from atc_pipeline.tables.store import DamagedDayError, MissingDayError, OlderDayError

REFUSED = 2
FORMATS = ("text", "md", "json")


class Uplift:
    """Tells what is proved."""

    name = "uplift"
    help = "tell what journeys changed against being left alone, each and all together, and what cannot be told yet"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect a journey, days and a form."""
        _expect(parser, "entries from this day on; all, if left out")

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Tell it."""
        findings = _findings(place, "uplift", asked, with_journeys=asked.journey not in {None, SYSTEM})
        if asked.format == "json":
            return Answer(numbers.proved(findings, asked.journey).rstrip("\n"))
        page = proof(findings) if asked.journey in {None, SYSTEM} else journey(asked.journey, findings)
        return Answer(_laid_out([page], asked.format))


class Paths:
    """Tells what is described."""

    name = "paths"
    help = "tell which journeys customers came through, how many converted and how fast, and who gets the credit; described, not proved"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect a journey, days and a form."""
        _expect(parser, "paths that began on this day or later; all, if left out")

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Tell it."""
        findings = _findings(place, "path_summary", asked, with_journeys=False)
        if asked.format == "json":
            return Answer(numbers.described(findings, of_journey(findings.paths, asked.journey), asked.journey).rstrip("\n"))
        return Answer(_laid_out([paths(findings, asked.journey)], asked.format))


def _expect(parser: ArgumentParser, since: str) -> None:
    parser.add_argument("journey", nargs="?", metavar="JOURNEY", help="a journey of journeys.yaml; all, if left out")
    parser.add_argument("--from", dest="first", metavar="DAY", help=f"YYYY-MM-DD: {since}")
    parser.add_argument("--to", "--day", dest="last", metavar="DAY", help="YYYY-MM-DD: as known then; the latest day there is, if left out")
    parser.add_argument("--format", choices=FORMATS, default="text", help="text, md (for a page or a message) or json")


def _findings(place: Place, table: str, asked: Namespace, *, with_journeys: bool) -> Findings:
    day = _day(place.lake.days(table), table, asked.last)
    portfolio = place.portfolio_of(day)
    first = None if asked.first is None else _first(asked.first, day)
    try:
        findings = gather(place.lake, portfolio, day, first, with_journeys=with_journeys)
    except (MissingDayError, OlderDayError, DamagedDayError) as problem:
        raise Refused(str(problem)) from None
    _check_journey(asked.journey, findings)
    return findings


def _check_journey(asked: str | None, findings: Findings) -> None:
    known = {SYSTEM, *findings.journeys, *findings.uplift["journey_id"], *findings.attribution["journey_id"]}
    if asked is None or asked in known:
        return
    near = difflib.get_close_matches(asked, sorted(known), n=1, cutoff=0)
    raise Refused(f"no journey {plain(asked)!r} on {findings.day}; did you mean {plain(near[0])}?", REFUSED)


def _day(days: Sequence[date], table: str, asked: str | None) -> date:
    if not days:
        raise Refused(f"{table} is not in the lake yet: run make demo, or materialize the assets")
    if asked is None:
        return days[-1]
    day = _parsed(asked, "--to", days[-1])
    if day not in days:
        raise Refused(f"{table} has no data for {day}: the lake has {days[0]} to {days[-1]}", REFUSED)
    return day


def _first(asked: str, day: date) -> date:
    first = _parsed(asked, "--from", day)
    if first > day:
        raise Refused(f"--from {first} is after {day}", REFUSED)
    return first


def _parsed(text: str, option: str, example: date) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refused(f"{option} {plain(text)}: expected a day such as {example}", REFUSED) from None


def _laid_out(pages: Sequence[Page], form: str) -> str:
    return (terminal.text(pages) if form == "text" else markdown.markdown(pages)).rstrip("\n")
