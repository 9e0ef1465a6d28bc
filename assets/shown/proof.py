"""How proof is shown: the forest of journeys and its words, paths in numbers and curves, and the file that has all of it.

What belongs here: which of it Dagster keeps, and where the file is. What does not: what is said (``reports``), and estimating.
"""

from datetime import date

import dagster as dg

from assets.shown.facts import Facts
from atc_pipeline.journeys.portfolio import Portfolio
from atc_pipeline.reports.booklet import booklet
from atc_pipeline.reports.learning import headline as learned
from atc_pipeline.reports.learning import learning
from atc_pipeline.reports.markdown import embedded, markdown
from atc_pipeline.reports.page import Page
from atc_pipeline.reports.paths import paths
from atc_pipeline.reports.proof import headline, proof
from atc_pipeline.reports.reading import gather
from resources.storage.lake import Lake

KEPT_LETTERS = 60_000
"""Of the pictures of a page that Dagster keeps with a day, for ever: those that would be more are in the file only."""
KEPT_WORDS = 25_000
"""Of the words of a page."""
FOLDER = "reports"


def proof_of(lake: Lake, portfolio: Portfolio, day: date) -> Facts:
    """Show what is proved by the end of a day."""
    findings = gather(lake, portfolio, day, with_journeys=False)
    return {"says": headline(findings), **_shown(proof(findings))}


def learning_of(lake: Lake, portfolio: Portfolio, day: date) -> Facts:
    """Show what is learned by the end of a day, and how well it did."""
    findings = gather(lake, portfolio, day, with_journeys=False)
    return {"says": learned(findings), **_shown(learning(findings)), "standing": "described, not proved"}


def paths_of(lake: Lake, portfolio: Portfolio, day: date) -> Facts:
    """Show what is described, and write the whole report of the day into its file."""
    findings = gather(lake, portfolio, day)
    file = lake.put(FOLDER, f"{day}.html", booklet(findings))
    return {**_shown(paths(findings)), "standing": "described, not proved", "file": dg.MetadataValue.path(file)}


def _shown(page: Page) -> Facts:
    pictures = [embedded(section.picture.svg, section.picture.says) for section in page.sections if section.picture]
    kept: list[str] = []
    for picture in pictures:
        if sum(map(len, kept)) + len(picture) <= KEPT_LETTERS:
            kept.append(picture)
    words = markdown([page])
    cut = words if len(words) <= KEPT_WORDS else f"{words[:KEPT_WORDS].rpartition(chr(10))[0]}\n\n… the file has the rest\n"
    return ({"picture": dg.MetadataValue.md("\n\n".join(kept))} if kept else {}) | {"report": dg.MetadataValue.md(cut)}
