"""Looking at messages before anybody gets them: ``preview``. The lake is only read; ``--html`` writes where it is told to.

What belongs here: this command. What does not: which messages are looked at (``days.previews``), or how they are told
(``activation.previews``).
"""

import difflib
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from atc_pipeline.activation.previews import Preview
from atc_pipeline.commands.command import Answer, Place, Refused
from atc_pipeline.days.previews import examples, for_customer
from atc_pipeline.escaping import plain
from atc_pipeline.explanation.reading import known_as
from atc_pipeline.journeys.portfolio import Content, Portfolio
from atc_pipeline.tables.store import OlderDayError

REFUSED, WOULD_NOT_BE_SENT = 2, 3
"""Exit codes: where the file is refused, and where a message breaks a rule or cannot be rendered."""


class Show:
    """Shows what a content says."""

    name = "preview"
    help = "show what a content says: each variant to somebody who does not exist, or as one customer would get it"

    def expect(self, parser: ArgumentParser) -> None:
        """Expect a content, and perhaps a customer."""
        parser.add_argument("content", help="a content of journeys.yaml")
        parser.add_argument("--customer", help="a customer_id: as they would get it, by the latest day of profiles")
        parser.add_argument("--html", type=Path, help="write the HTML into this file, too; of several variants, into files beside it")

    def run(self, asked: Namespace, place: Place) -> Answer:
        """Tell it; exit code 3 where one would not be sent."""
        in_use = place.journeys.in_use()
        if in_use.problem is not None:
            raise Refused(in_use.problem, REFUSED)
        portfolio = in_use.portfolio
        content = _content(portfolio, asked.content)
        shown = _shown(place, portfolio, content, asked.customer)
        if not shown:
            raise Refused(
                f"content {plain(content.id)} has no medium that a channel of journeys.yaml takes: give a channel `medium: email`"
            )
        files = [] if asked.html is None else _write(shown, asked.html)
        code = WOULD_NOT_BE_SENT if any(preview.problem for preview in shown) else 0
        return Answer("\n\n".join([*(preview.told() for preview in shown), *files]), code)


def _content(portfolio: Portfolio, name: str) -> Content:
    contents = {content.id: content for content in portfolio.content}
    if not contents:
        raise Refused("journeys.yaml has no `content` yet: what a step names as content is rendered by whoever receives it")
    if name not in contents:
        near = difflib.get_close_matches(name, contents, n=1, cutoff=0)
        raise Refused(f"no content {plain(name)!r} in journeys.yaml; did you mean {plain(near[0]) if near else next(iter(contents))}?")
    return contents[name]


def _shown(place: Place, portfolio: Portfolio, content: Content, customer: str | None) -> Sequence[Preview]:
    if customer is None:
        return examples(portfolio, content, _today(portfolio))
    days = place.lake.days("journey_assignments")
    if not days:
        raise Refused(
            f"no customers in {place.lake.place} yet: run make demo, or materialize the assets; without --customer, an example is shown"
        )
    try:
        return for_customer(place.lake, portfolio, content, known_as(place.lake, customer, days[-1]), days[-1])
    except OlderDayError as problem:
        raise Refused(str(problem)) from None


def _write(shown: Sequence[Preview], file: Path) -> list[str]:
    """Write each that has HTML, the first into the file itself; return in words which is where."""
    written = []
    for number, preview in enumerate(each for each in shown if each.html is not None):
        path = file if number == 0 else file.with_name(f"{file.stem}-{number + 1}{file.suffix}")
        try:
            path.write_text(preview.shown().html or "", encoding="utf-8")
        except OSError as problem:
            raise Refused(f"--html {path}: {problem.strerror}") from problem
        written.append(f"{preview.name}: written to {path}")
    return written or ["no HTML was written: none could be rendered"]


def _today(portfolio: Portfolio) -> date:
    return datetime.now(UTC).astimezone(ZoneInfo(portfolio.timezone)).date()  # noqa: TID251  # a command is where the clock is read
